//! The matrix as text.

use std::fmt::Write as _;

use super::trial::{ONE_WAY_MS, Path, Trial};
use super::{Cell, Verdict};
use crate::data::median;
use crate::nat::Nat;

/// What is said of one trial while the others run.
pub(crate) fn line(number: usize, of: usize, trial: &Trial) -> String {
    let pair = format!("{} → {}", trial.a.label(), trial.b.label());
    let what = match (trial.path, trial.elapsed_ms, &trial.error) {
        (Path::None, _, Some(error)) => format!("none: {error}"),
        (path, Some(elapsed), _) => format!("{} after {elapsed:.0} ms", path.name()),
        (path, None, _) => path.name().to_owned(),
    };
    format!("{number:>5}/{of}  {pair:<48} {what}")
}

/// Everything: the table, what departs from the expectation, and the sums.
pub(crate) fn text(presets: &[Nat], cells: &[Cell]) -> String {
    let mut text = String::new();
    grid(&mut text, presets, cells).expect("a String takes everything");
    departures(&mut text, cells).expect("a String takes everything");
    sums(&mut text, cells).expect("a String takes everything");
    text
}

fn grid(text: &mut String, presets: &[Nat], cells: &[Cell]) -> std::fmt::Result {
    let width = presets.iter().map(|nat| nat.label().len()).max().unwrap_or(0);
    writeln!(text, "A dials (rows) → B (columns); one way {ONE_WAY_MS} ms\n")?;
    write!(text, "{:>3} {:width$}", "", "")?;
    (1..=presets.len()).try_for_each(|number| write!(text, "{number:>7}"))?;
    for (number, row) in cells.chunks(presets.len()).enumerate() {
        write!(text, "\n{:>3} {:width$}", number + 1, presets[number].label())?;
        row.iter().try_for_each(|cell| write!(text, "{:>7}", mark(cell)))?;
    }
    writeln!(text, "\n\n{LEGEND}\n")
}

const LEGEND: &str = "\
D direct, R relayed, - none; small letter: not in every run. The number is the median time in ms
from the request to the connection.
! possible directly, but not (always) direct   ? impossible directly, but direct";

fn mark(cell: &Cell) -> String {
    let verdict = match cell.verdict() {
        Verdict::AsExpected => "",
        Verdict::Missed => "!",
        Verdict::Unexpected => "?",
    };
    let path = cell.path();
    let always = cell.count(path) == cell.trials.len();
    let letter = match (path, always) {
        (Path::Direct, true) => "D",
        (Path::Direct, false) => "d",
        (Path::Relayed, true) => "R",
        (Path::Relayed, false) => "r",
        (Path::None, _) => "-",
    };
    let time = cell.median_ms().map_or(String::new(), |ms| format!("{ms:.0}"));
    format!("{verdict}{letter}{time}")
}

fn departures(text: &mut String, cells: &[Cell]) -> std::fmt::Result {
    for (verdict, title) in [
        (Verdict::Missed, "Possible directly, but not (always) direct:"),
        (Verdict::Unexpected, "Impossible directly, but direct:"),
    ] {
        let departing: Vec<_> = cells.iter().filter(|cell| cell.verdict() == verdict).collect();
        if departing.is_empty() {
            continue;
        }
        writeln!(text, "{title}")?;
        for cell in departing {
            let pair = format!("{} → {}", cell.a.label(), cell.b.label());
            let [direct, relayed] = [Path::Direct, Path::Relayed].map(|path| cell.count(path));
            let errors = cell.trials.iter().find_map(|trial| trial.error.as_deref());
            let of = cell.trials.len();
            writeln!(
                text,
                "  {pair:<48} {direct}/{of} direct, {relayed}/{of} relayed  {}",
                errors.unwrap_or_default()
            )?;
        }
        writeln!(text)?;
    }
    Ok(())
}

fn sums(text: &mut String, cells: &[Cell]) -> std::fmt::Result {
    let trials = || cells.iter().flat_map(|cell| &cell.trials);
    let all = trials().count();
    for path in [Path::Direct, Path::Relayed, Path::None] {
        let those = || trials().filter(|trial| trial.path == path);
        let count = those().count();
        write!(text, "{:<8} {count:>5} of {all} runs", path.name())?;
        let mut times: Vec<f64> = those().filter_map(|trial| trial.elapsed_ms).collect();
        if !times.is_empty() {
            write!(text, ", median {:.0} ms", median(&mut times))?;
        }
        writeln!(text)?;
    }
    let possible: Vec<_> = cells.iter().filter(|cell| cell.is_possible()).collect();
    let always = possible.iter().filter(|cell| cell.verdict() == Verdict::AsExpected).count();
    writeln!(
        text,
        "{always} of the {} pairs that are possible directly always were",
        possible.len()
    )
}

//! The matrix as a picture: one SVG file that needs nothing else, and reads on light and dark pages.

use std::fmt::Write as _;

use super::trial::{ONE_WAY_MS, Path};
use super::{Cell, Verdict};
use crate::nat::Nat;

const CELL: usize = 34;
const LABELS: usize = 190;
/// Room for slanted column names.
const HEAD: usize = 150;
/// Room for the legend.
const FOOT: usize = 12 * LINE + 10;
const LINE: usize = 18;
/// What the legend needs.
const LEAST_WIDTH: usize = LABELS + 430;

/// Middle tones with dark letters, legible whatever is around them; everything else follows the page.
const STYLE: &str = "\
text { font: 12px system-ui, sans-serif; fill: #24292f }
.time { font-size: 10px; text-anchor: middle; fill: #10151a }
.row { text-anchor: end }
.missed { fill: none; stroke: #cf222e; stroke-width: 2.5 }
.unexpected { fill: none; stroke: #8250df; stroke-width: 2.5; stroke-dasharray: 4 2 }
.impossible { fill: #8c959f; fill-opacity: .3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .time { fill: #10151a }
  .faint { fill: #e6edf3 }
  .missed { stroke: #ff7b72 }
  .unexpected { stroke: #d2a8ff }
}";

/// Rows are what stands before A, columns what stands before B.
pub(crate) fn svg(presets: &[Nat], cells: &[Cell]) -> String {
    let mut svg = String::new();
    draw(&mut svg, presets, cells).expect("a String takes everything");
    svg
}

fn draw(svg: &mut String, presets: &[Nat], cells: &[Cell]) -> std::fmt::Result {
    let count = presets.len();
    let width = (LABELS + count * CELL + HEAD).max(LEAST_WIDTH);
    let height = HEAD + count * CELL + FOOT;
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">
<title>Which NATs connect with which</title>
<style>{STYLE}</style>"#
    )?;
    for (index, nat) in presets.iter().enumerate() {
        let name = nat.label();
        let (x, y) = (LABELS + index * CELL + CELL / 2, HEAD - 8);
        writeln!(svg, r#"<text transform="translate({x} {y}) rotate(-45)">{name}</text>"#)?;
        let (x, y) = (LABELS - 8, HEAD + index * CELL + CELL / 2 + 4);
        writeln!(svg, r#"<text class="row" x="{x}" y="{y}">{name}</text>"#)?;
    }
    for (index, cell) in cells.iter().enumerate() {
        let (x, y) = (LABELS + index % count * CELL, HEAD + index / count * CELL);
        square(svg, cell, x, y)?;
    }
    legend(svg, HEAD + count * CELL + 22)?;
    writeln!(svg, "</svg>")
}

fn square(svg: &mut String, cell: &Cell, x: usize, y: usize) -> std::fmt::Result {
    let (path, runs) = (cell.path(), cell.trials.len());
    let time = cell.median_ms();
    let side = CELL - 2;
    let (text_x, text_y) = (x + side / 2, y + side / 2 + 4);
    let title = format!(
        "{} → {}: {} of {runs} direct, {} relayed{}",
        cell.a.label(),
        cell.b.label(),
        cell.count(Path::Direct),
        cell.count(Path::Relayed),
        time.map_or(String::new(), |ms| format!(", median {ms:.0} ms"))
    );
    let letter = match path {
        Path::Direct => "",
        Path::Relayed => "R",
        Path::None => "–",
    };
    let text = match (time, cell.count(path) == runs || path == Path::None) {
        (Some(ms), true) => format!("{letter}{ms:.0}"),
        (_, true) => letter.to_owned(),
        (_, false) => format!("{letter}{}/{runs}", cell.count(path)),
    };
    let (class, fill) = match (path, cell.is_possible()) {
        (Path::None, false) => ("impossible", String::new()),
        (path, _) => ("", format!(r#" fill="{}""#, colour(path, time))),
    };
    let faint = if class.is_empty() { "time" } else { "time faint" };
    writeln!(svg, "<g><title>{title}</title>")?;
    let rect = format!(r#"x="{x}" y="{y}" width="{side}" height="{side}" rx="3""#);
    writeln!(svg, r#"<rect class="{class}" {rect}{fill}/>"#)?;
    match cell.verdict() {
        Verdict::AsExpected => {}
        Verdict::Missed => writeln!(svg, r#"<rect class="missed" {rect}/>"#)?,
        Verdict::Unexpected => writeln!(svg, r#"<rect class="unexpected" {rect}/>"#)?,
    }
    writeln!(svg, r#"<text class="{faint}" x="{text_x}" y="{text_y}">{text}</text></g>"#)
}

/// The sooner, the greener; a relay is amber, and nothing at all is red.
fn colour(path: Path, time: Option<f64>) -> &'static str {
    let round_trips = time.unwrap_or(0.0) / (2.0 * ONE_WAY_MS as f64);
    match path {
        Path::Direct if round_trips < 3.0 => "#4ac26b",
        Path::Direct if round_trips < 6.0 => "#7ecf8f",
        Path::Direct if round_trips < 20.0 => "#a6dcaf",
        Path::Direct => "#c9e8b6",
        Path::Relayed => "#eac54f",
        Path::None => "#ff8182",
    }
}

/// One entry below the other, so that a small table is wide enough.
fn legend(svg: &mut String, top: usize) -> std::fmt::Result {
    let fill = |colour: &str| format!(r#"fill="{colour}""#);
    let class = |class: &str| format!(r#"class="{class}""#);
    let round_trip = 2 * ONE_WAY_MS;
    let entries = [
        (fill("#4ac26b"), format!("direct within 3 round trips of {round_trip} ms")),
        (fill("#7ecf8f"), "within 6".to_owned()),
        (fill("#a6dcaf"), "within 20".to_owned()),
        (fill("#c9e8b6"), "later".to_owned()),
        (fill("#eac54f"), "R: relayed".to_owned()),
        (fill("#ff8182"), "no connection".to_owned()),
        (class("impossible"), "no connection, and impossible directly".to_owned()),
        (class("missed"), "possible directly, but not (always) direct".to_owned()),
        (class("unexpected"), "impossible directly, but direct".to_owned()),
    ];
    for (index, (look, text)) in entries.into_iter().enumerate() {
        let y = top + LINE * index;
        let (left, above) = (LABELS + 2, y - 10);
        writeln!(svg, r#"<rect {look} x="{left}" y="{above}" width="12" height="12"/>"#)?;
        writeln!(svg, r#"<text x="{}" y="{y}">{text}</text>"#, LABELS + 22)?;
    }
    let notes = [
        "Rows: what stands before A, who asks. Columns: what stands before B.",
        "Numbers: median time in ms from the request to the connection.",
    ];
    for (index, note) in notes.into_iter().enumerate() {
        let y = top + LINE * (9 + index) + 6;
        writeln!(svg, r#"<text x="{LABELS}" y="{y}">{note}</text>"#)?;
    }
    Ok(())
}

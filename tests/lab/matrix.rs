//! Every preset with every preset, as `tests/matrix` asks for it; and a sample of them as a test.
//!
//! The sample has each preset of IPv4 once before A and once before B, which is two runs of hundreds: what it
//! finds is there, what it doesn't find may be, too.

use std::env;
use std::fs;
use std::time::Instant;

use serde_json::{Value, json};

use crate::grid::theory::{Prospect, prospect};
use crate::grid::trial::{ONE_WAY_MS, Path, Trial};
use crate::grid::{self, Cell, heat_map, table};
use crate::nat::{ALL, Family, Nat};

/// Decides which pairs are in the sample.
const SEED: u64 = 1;

/// Where luck is part of it, a miss may be tried again so often. A birthday misses 3 times in 10,000; the
/// worst is a block against a sequence, where a run misses 13 to 37 times in 100, and three in a row 5 times at
/// most.
const RETRIES: u64 = 2;

/// Runs at once, for two cores.
const AT_ONCE: usize = 2;

#[test]
fn sample_is_direct_where_possible_and_relayed_elsewhere() {
    let pairs = sampled_pairs(&presets(None), SEED);
    let start = Instant::now();
    let tell =
        |number: usize, trial: &Trial| println!("{}", table::line(number, pairs.len(), trial));
    let mut cells = grid::run(&pairs, 1..=1, AT_ONCE, tell);
    let unlucky = |cell: &&mut Cell| {
        prospect(&cell.a, &cell.b) == Prospect::Likely && cell.count(Path::Relayed) == 1
    };
    let unlucky: Vec<&mut Cell> = cells.iter_mut().filter(unlucky).collect();
    let again: Vec<_> = unlucky.iter().map(|cell| (cell.a, cell.b)).collect();
    let retried = grid::run(&again, 2..=1 + RETRIES, AT_ONCE, |number, trial| {
        println!("again {}", table::line(number, again.len() * RETRIES as usize, trial));
    });
    for (cell, retried) in unlucky.into_iter().zip(retried) {
        cell.trials.extend(retried.trials);
    }
    let [direct, relayed] = [Path::Direct, Path::Relayed]
        .map(|path| cells.iter().filter(|cell| cell.path() == path).count());
    println!(
        "{direct} pairs direct, {relayed} relayed, {} of all tried again, in {:.0} s",
        again.len(),
        start.elapsed().as_secs_f64()
    );
    let wrong: Vec<_> = cells.iter().filter_map(complaint).collect();
    assert!(wrong.is_empty(), "not as expected:\n{}", wrong.join("\n"));
}

/// Each preset once before A, and once before B.
fn sampled_pairs(presets: &[Nat], seed: u64) -> Vec<(Nat, Nat)> {
    let mut others = presets.to_vec();
    fastrand::Rng::with_seed(seed).shuffle(&mut others);
    presets.iter().copied().zip(others).collect()
}

/// What is wrong with a pair: no connection is never right.
fn complaint(cell: &Cell) -> Option<String> {
    let prospect = prospect(&cell.a, &cell.b);
    let fits = match prospect {
        Prospect::Sure | Prospect::Likely => cell.path() == Path::Direct,
        Prospect::Unlikely => true,
        Prospect::Never => cell.path() == Path::Relayed,
    };
    let lost = cell.trials.iter().find(|trial| trial.path == Path::None);
    let pair = || format!("{} → {}", cell.a.label(), cell.b.label());
    match lost {
        Some(trial) => Some(format!("{}: none: {:?}", pair(), trial.error)),
        None if !fits => Some(format!("{}: {prospect:?}, but {}", pair(), cell.path().name())),
        None => None,
    }
}

/// What the script passes on.
struct Wish {
    presets: Vec<Nat>,
    runs: u64,
    at_once: usize,
}

#[test]
#[ignore = "takes long; the script tests/matrix runs it, and says what it wants in the environment"]
fn whole() {
    let wish = Wish {
        presets: presets(variable("PRESETS").as_deref()),
        runs: number("RUNS", 1),
        at_once: number("JOBS", 2) as usize,
    };
    let pairs = every_pair(&wish.presets);
    let of = pairs.len() * wish.runs as usize;
    let start = Instant::now();
    let cells = grid::run(&pairs, 1..=wish.runs, wish.at_once, |number, trial| {
        eprintln!("{}", table::line(number, of, trial));
    });
    eprintln!("{of} runs in {:.0} s", start.elapsed().as_secs_f64());
    save("TABLE", || table::text(&wish.presets, &cells));
    save("SVG", || heat_map::svg(&wish.presets, &cells));
    save("JSON", || {
        let trials: Vec<Value> =
            cells.iter().flat_map(|cell| &cell.trials).map(Trial::as_json).collect();
        format!("{:#}\n", json!({ "one_way_ms": ONE_WAY_MS, "runs": trials }))
    });
}

fn every_pair(presets: &[Nat]) -> Vec<(Nat, Nat)> {
    presets.iter().flat_map(|a| presets.iter().map(|b| (*a, *b))).collect()
}

/// Those of the names, or else all of IPv4.
fn presets(names: Option<&str>) -> Vec<Nat> {
    let Some(names) = names else {
        return ALL.into_iter().filter(|nat| nat.family == Family::V4).collect();
    };
    let known = || ALL.map(|nat| nat.name).join(", ");
    let named = |name: &str| {
        Nat::named(name).unwrap_or_else(|| panic!("no preset '{name}'; there are: {}", known()))
    };
    names.split(',').map(named).collect()
}

fn number(name: &str, otherwise: u64) -> u64 {
    let parse = |text: String| match text.parse() {
        Ok(number) if number > 0 => number,
        _ => panic!("{name}: '{text}' is no number above 0"),
    };
    variable(name).map_or(otherwise, parse)
}

fn save(name: &str, content: impl FnOnce() -> String) {
    if let Some(path) = variable(name) {
        fs::write(&path, content()).unwrap_or_else(|e| panic!("{path}: {e}"));
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(format!("GIMLET_MATRIX_{name}")).ok().filter(|text| !text.is_empty())
}

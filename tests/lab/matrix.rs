//! Every preset with every preset, as `tests/matrix` asks for it; and a sample of them as a test.

use std::env;
use std::fs;
use std::time::Instant;

use serde_json::{Value, json};

use crate::grid::trial::{ONE_WAY_MS, Trial};
use crate::grid::{self, heat_map, table};
use crate::nat::{ALL, Family, Nat};

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
    let cells = grid::run(&pairs, wish.runs, wish.at_once, |number, trial| {
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

//! The real programs come to the same ends behind the lab's NATs as the machines do behind the simulator's, pair
//! by pair.

use crate::grid;
use crate::grid::table;
use crate::grid::theory::{Prospect, prospect};
use crate::grid::trial::{ONE_WAY_MS, Path};
use crate::scenarios::{End, ONE_WAY_MS as SIMULATED_MS, SCENARIOS};

/// Runs at once, for two cores.
const AT_ONCE: usize = 2;

/// Where luck is part of it, a miss is tried again so often.
const RETRIES: u64 = 2;

const _: () = assert!(ONE_WAY_MS == SIMULATED_MS);

#[test]
fn pairs_end_as_they_do_in_the_simulator() {
    let mut wrong: Vec<_> = SCENARIOS.to_vec();
    for run in 1..=1 + RETRIES {
        let pairs: Vec<_> = wrong.iter().map(|(a, b, _)| (*a, *b)).collect();
        let of = pairs.len();
        let cells = grid::run(&pairs, run..=run, AT_ONCE, |number, trial| {
            println!("{}", table::line(number, of, trial));
        });
        let mut cells = cells.iter();
        wrong.retain(|(_, _, end)| {
            let cell = cells.next().expect("each pair has its cell");
            cell.path() != if *end == End::Direct { Path::Direct } else { Path::Relayed }
        });
        let certain = wrong.iter().find(|(a, b, _)| prospect(a, b) != Prospect::Likely);
        let names = certain.map(|(a, b, end)| (a.name, b.name, end));
        assert_eq!(names, None, "not so in the lab");
    }
    let names: Vec<_> = wrong.iter().map(|(a, b, end)| (a.name, b.name, end)).collect();
    assert!(names.is_empty(), "not so in the lab, {} times: {names:?}", 1 + RETRIES);
}

//! The matrix: every preset before A with every preset before B.

pub(crate) mod heat_map;
pub(crate) mod table;
pub(crate) mod theory;
pub(crate) mod trial;

use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use crate::data::median;
use crate::nat::Nat;
use trial::{Path, Trial};

/// Runs each of the pairs under each of the numbers, some of them at once, and tells of each trial as it ends. What
/// comes back is in the order of the pairs.
pub(crate) fn run(
    pairs: &[(Nat, Nat)],
    runs: RangeInclusive<u64>,
    at_once: usize,
    tell: impl Fn(usize, &Trial) + Sync,
) -> Vec<Cell> {
    // All pairs once, then all again: what disturbs the machine for a while does not hit one pair alone.
    let plan: Vec<_> = runs.flat_map(|run| (0..pairs.len()).map(move |p| (p, run))).collect();
    let cells = pairs.iter().map(|&(a, b)| Cell { a, b, trials: Vec::new() });
    let cells = Mutex::new(cells.collect::<Vec<_>>());
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        while let Some(&(pair, run)) = plan.get(next.fetch_add(1, Relaxed)) {
            let (a, b) = pairs[pair];
            let trial = Trial::run(a, b, run);
            let mut cells = cells.lock().unwrap();
            tell(done.fetch_add(1, Relaxed) + 1, &trial);
            cells[pair].trials.push(trial);
        }
    };
    thread::scope(|scope| (0..at_once).for_each(|_| drop(scope.spawn(work))));
    cells.into_inner().unwrap()
}

/// All trials of one pair.
pub(crate) struct Cell {
    pub(crate) a: Nat,
    pub(crate) b: Nat,
    pub(crate) trials: Vec<Trial>,
}

/// How a pair did, compared with what is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    AsExpected,
    /// It is possible directly, and did not succeed every time.
    Missed,
    /// It is impossible directly, and succeeded.
    Unexpected,
}

impl Cell {
    pub(crate) fn is_possible(&self) -> bool {
        theory::is_possible(&self.a, &self.b)
    }

    pub(crate) fn verdict(&self) -> Verdict {
        match (self.is_possible(), self.count(Path::Direct)) {
            (true, direct) if direct < self.trials.len() => Verdict::Missed,
            (false, direct) if direct > 0 => Verdict::Unexpected,
            _ => Verdict::AsExpected,
        }
    }

    pub(crate) fn count(&self, path: Path) -> usize {
        self.trials.iter().filter(|trial| trial.path == path).count()
    }

    /// The best path that it had.
    pub(crate) fn path(&self) -> Path {
        let had = |path: &Path| self.count(*path) > 0;
        [Path::Direct, Path::Relayed].into_iter().find(had).unwrap_or(Path::None)
    }

    /// Until the connection stood, over that path.
    pub(crate) fn median_ms(&self) -> Option<f64> {
        let path = self.path();
        let trials = self.trials.iter().filter(|trial| trial.path == path);
        let mut times: Vec<f64> = trials.filter_map(|trial| trial.elapsed_ms).collect();
        (!times.is_empty()).then(|| median(&mut times))
    }
}

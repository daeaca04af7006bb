//! The simulator.

#[allow(dead_code, reason = "the lab's vocabulary says more than the simulator asks")]
#[path = "../lab/nat/mod.rs"]
mod nat;
#[path = "../lab/grid/theory.rs"]
mod theory;

mod expect;
mod invariants;
mod packet;
mod path;
mod peer;
mod play;
mod rendezvous;
mod router;
mod site;
mod story;
mod stranger;
mod tally;
mod tcp;
mod topology;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use play::Played;
use story::Story;
use tally::Tally;

/// Replays this seed alone, with a trace.
const SEED: &str = "GIMLET_SIM_SEED";
/// How many punches to play.
const PUNCHES: &str = "GIMLET_SIM_PUNCHES";

/// Faults that are printed.
const SHOWN: usize = 100;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

fn play(seed: u64, trace: bool) -> (Story, Played) {
    let story = Story::of(seed);
    if trace {
        println!("{story:#?}");
    }
    let played = catch_unwind(AssertUnwindSafe(|| story.play(trace)));
    let played = played.unwrap_or_else(|_| {
        panic!("seed {seed} panics: {SEED}={seed} cargo test --test simulator replays it")
    });
    (story, played)
}

#[test]
fn punches_keep_their_promises() {
    if let Some(seed) = number(SEED) {
        let (_, played) = play(seed, true);
        println!("{:?} {:#?}", played.endings, played.faults);
        return assert!(played.faults.is_empty());
    }
    let wanted = number(PUNCHES).unwrap_or(20_000);
    let workers = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let tallies = std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..workers).map(|worker| scope.spawn(move || work(worker, workers, wanted))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });
    let tally = tallies.into_iter().fold(Tally::default(), Tally::merge);
    println!("{tally}");
    let mut faults = tally.faults.clone();
    faults.extend(tally.too_rare());
    let shown = faults.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n");
    assert!(faults.is_empty(), "{} faults, the first of which are:\n{shown}", faults.len());
}

fn work(worker: u64, workers: u64, wanted: u64) -> Tally {
    let mut tally = Tally::default();
    let mut seed = worker;
    while tally.punches < wanted.div_ceil(workers) {
        let (story, played) = play(seed, false);
        tally.add(&story, &played);
        seed += workers;
    }
    tally
}

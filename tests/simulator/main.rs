//! The simulator: the machines that the reactor drives, in a world of our own making. No sockets, no clock, no
//! chance but that of a seed: tens of thousands of punches in a minute.
//!
//! ```text
//!   story      what a seed says: NATs, places, delays, requests, and what goes wrong
//!     │
//!   play ───▶ world      one queue of events, one virtual clock
//!     │         ├─ peer, rendezvous   drive the machines, as net::peer and net::rendezvous do
//!     │         ├─ tcp                each host's: SYN, RST, ICMP, who gets the connection
//!     │         ├─ router             NATs: mapping, filtering, allocation, conntrack
//!     │         └─ path               delay, jitter, loss, duplicates
//!     ▼
//!   invariants, expect, tally         what must hold, what the theory says, what is too rare
//! ```
//!
//! Of eight stories five are *calm*: nothing is lost, and each punch must end as the theory says; the rest
//! are *rough*: packets are lost, S restarts, processes end, machines are unplugged, routers forget,
//! strangers knock. In all of them: at most one winner, the same for both sides; the winner is the peer;
//! every punch ends within thirty seconds; and when all is over, no socket, hole, session, introduction or
//! relay is left anywhere.
//!
//! ```text
//! cargo test --test simulator                                     20,000 punches
//! GIMLET_SIM_PUNCHES=500000 cargo test --release --test simulator
//! GIMLET_SIM_SEED=94 cargo test --test simulator punches -- --nocapture
//! ```
//!
//! The last one replays one story, with each packet and each action; a fault names its seed. A seed means the
//! same story only as long as `story` draws the same numbers, and machines the same chances.
//!
//! What is simplified: IPv4 alone. Between peers, the Noise handshake is a frame that says who vouches
//! for what ([`packet::Proof`]). TCP has no windows and no TIME_WAIT, and a frame is one segment. No
//! peer tests hairpinning. Whether `net` drives the machines as the simulator does is for other tests to say.

#[allow(dead_code, reason = "the lab asks more of it")]
#[path = "../lab/nat/mod.rs"]
mod nat;
#[path = "../lab/grid/theory.rs"]
mod theory;

mod agreed;
mod compared;
mod expect;
mod invariants;
mod packet;
mod path;
mod peer;
mod plain;
mod play;
mod rendezvous;
mod router;
mod scenarios;
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
    faults.extend(tally.surprises());
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

#[test]
fn the_same_seed_tells_the_same_story() {
    let tell = |seed| {
        let (_, played) = play(seed, false);
        (played.packets, played.digest, played.endings)
    };
    for seed in 0..100 {
        assert_eq!(tell(seed), tell(seed), "seed {seed}");
    }
}

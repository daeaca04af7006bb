//! What the rendezvous machine costs alone, with links that are numbers: at a thousand sessions, at a
//! hundred thousand, at a million.

mod world;

use std::hint::black_box;

use divan::Bencher;
use slab::Slab;

use self::world::{World, choose_strategies, set_and_clear_timers};

fn main() {
    divan::main();
}

const SIZES: [u32; 3] = [1_000, 100_000, 1_000_000];

#[divan::bench(args = SIZES)]
fn login_and_logout(bencher: Bencher, sessions: u32) {
    let mut world = World::with_sessions(sessions);
    bencher.bench_local(|| world.log_in_and_out());
}

/// From the request to both outcomes, with the hashing of a peer id.
#[divan::bench(args = SIZES)]
fn introduction(bencher: Bencher, sessions: u32) {
    let mut world = World::with_sessions(sessions);
    bencher.bench_local(|| world.introduce());
}

#[divan::bench(args = SIZES)]
fn timer(bencher: Bencher, deadlines: u32) {
    bencher.bench_local(set_and_clear_timers(deadlines));
}

/// A connection found by its token, in no order.
#[divan::bench(args = SIZES)]
fn slab_lookup(bencher: Bencher, entries: u32) {
    let slab: Slab<[u64; 8]> = (0..entries as usize).map(|key| (key, [key as u64; 8])).collect();
    let mut random = fastrand::Rng::with_seed(1);
    bencher.bench_local(|| black_box(slab[random.usize(0..entries as usize)][0]));
}

#[divan::bench]
fn strategy_choice(bencher: Bencher) {
    bencher.bench_local(choose_strategies());
}

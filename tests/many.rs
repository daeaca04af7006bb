//! A thousand introductions in flight at once, in one process and one thread: none is lost.
#![allow(clippy::disallowed_methods, reason = "tests have deadlines of their own")]

mod support;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use gimlet::limits;
use gimlet::net::peer::{Event, StreamId};
use gimlet::net::reactor::HostId;
use gimlet::net::sys;
use gimlet::proto::peer;

use support::{World, alone, echo};

/// How many, where the system grants the descriptors.
const INTRODUCTIONS: usize = 1000;

/// Descriptors of one introduction at its height, all sides together: two listeners, a probe and its
/// other end at the rendezvous, and dials by two families from both sides.
const DESCRIPTORS_EACH: usize = 16;

/// As many as the system grants descriptors for, and as this machine, as it is now, can work off
/// before the first of them must be proved: a peer that takes longer is no peer to another.
fn affordable(world: &mut World) -> usize {
    const SAMPLE: u32 = 32;
    let granted = sys::raise_descriptor_limit().unwrap() as usize;
    let (a, b, b_id) = world.pair();
    let started = Instant::now();
    for _ in 0..SAMPLE {
        world.connect(a, b_id);
    }
    let each = started.elapsed() / SAMPLE;
    world.reactor.remove(a);
    world.reactor.remove(b);
    let in_time = (2 * limits::PROOF_TIME).as_micros() / each.as_micros();
    let count = INTRODUCTIONS.min(granted / DESCRIPTORS_EACH).min(in_time as usize);
    eprintln!("{count} introductions, with {granted} descriptors and {each:?} for one alone");
    count
}

/// No wait is longer. Debug builds on a busy machine need more than one round for some.
const PATIENCE: Duration = Duration::from_secs(60);

/// Peers that log in at once: all at once, a slow machine would take longer than a login may.
const LOGINS: usize = 250;

/// What has become of the introductions of some peers.
#[derive(Default)]
struct Tally {
    connected: usize,
    confirmed: usize,
    opened: usize,
    /// Those that needed more than one round.
    late: usize,
    slowest: Duration,
    /// Streams that stand on both sides, by the host that has them.
    standing: HashSet<(HostId, StreamId)>,
}

impl Tally {
    fn count(&mut self, host: HostId, event: Event) {
        match event {
            Event::Connected { stream, report, .. } => {
                self.connected += 1;
                self.late += usize::from(report.rounds.len() > 1);
                self.slowest = self.slowest.max(report.elapsed);
                assert!(self.standing.insert((host, stream)), "{report}");
            }
            Event::Confirmed { stream: Some(stream), report } => {
                self.confirmed += 1;
                assert!(self.standing.insert((host, stream)), "{report}");
            }
            Event::Confirmed { stream: None, report } => panic!("gone at once: {report}"),
            Event::Peer(peer::Event::Ended { report, .. }) => panic!("not confirmed: {report}"),
            Event::Opened(_) => self.opened += 1,
            Event::Failed { report, .. } => panic!("{report}"),
            // What was answered late, and is made again in the next round, was not lost.
            Event::Closed { stream, end } => {
                assert!(!self.standing.contains(&(host, stream)), "{end:?}");
            }
            _ => {}
        }
    }

    fn all(&self) -> [usize; 3] {
        [self.connected, self.confirmed, self.opened]
    }
}

/// Turns until each introduction is proved on both sides, and its stream is open.
fn all_are_proved(world: &mut World, hosts: &[HostId], count: usize) {
    let mut tally = Tally::default();
    let started = Instant::now();
    let mut most = 0;
    while tally.all() != [count; 3] {
        let all = tally.all();
        let waited = started.elapsed();
        assert!(waited < PATIENCE, "{all:?} of {count} after {waited:?}: {:?}", world.census());
        world.turn();
        most = most.max(world.rendezvous().machine().introductions());
        for host in hosts {
            while let Some(event) = world.reactor.peer(*host).poll_event() {
                tally.count(*host, event);
            }
        }
    }
    let waited = started.elapsed();
    let (late, slowest) = (tally.late, tally.slowest);
    eprintln!("{count} proved in {waited:?}, up to {most} at once, the slowest in {slowest:?}");
    eprintln!("{late} in a later round; {:?}", world.census());
}

#[test]
fn a_thousand_introductions_of_the_same_two_peers_are_all_proved() {
    let _alone = alone();
    let mut world = World::new();
    let before = world.census();
    let count = affordable(&mut world);
    world.comes_back_to(before);
    let begun = world.rendezvous().machine().stats().clone();
    let (a, b, b_id) = world.pair();
    for _ in 0..count {
        world.ask(a, b_id);
    }
    all_are_proved(&mut world, &[a, b], count);
    let stats = world.rendezvous().machine().stats();
    assert_eq!(stats.introductions_started - begun.introductions_started, count as u64);
    assert_eq!(stats.introductions_connected - begun.introductions_connected, count as u64);
    for host in [a, b] {
        assert_eq!(world.reactor.peer(host).machine().punches(), 0);
        // Those of a round that was not needed in the end stay for a while.
        world
            .until("the holes are closed", |world| world.reactor.peer(host).machine().holes() == 0);
    }
    assert_eq!(world.reactor.peer(a).open_streams(), count);
    world.reactor.remove(a);
    world.reactor.remove(b);
    world.comes_back_to(before);
}

#[test]
fn a_thousand_pairs_of_peers_are_all_proved_at_once() {
    let _alone = alone();
    let mut world = World::new();
    let before = world.census();
    let count = affordable(&mut world);
    world.comes_back_to(before);
    let begun = world.rendezvous().machine().stats().clone();
    let started = Instant::now();
    let mut pairs = Vec::new();
    while pairs.len() < count {
        let some = (count - pairs.len()).min(LOGINS / 2);
        pairs.extend((0..some).map(|_| (world.peer(|_| {}).0, world.peer(echo))));
        world.until("all are logged in", |world| {
            pairs.iter().flat_map(|(a, (b, _))| [*a, *b]).all(|host| world.is_logged_in(host))
        });
    }
    let hosts: Vec<_> = pairs.iter().flat_map(|(a, (b, _))| [*a, *b]).collect();
    assert_eq!(world.rendezvous().machine().sessions(), hosts.len());
    eprintln!("{} logged in after {:?}", hosts.len(), started.elapsed());
    for (a, (_, b_id)) in &pairs {
        world.ask(*a, *b_id);
    }
    all_are_proved(&mut world, &hosts, count);
    let stats = world.rendezvous().machine().stats();
    assert_eq!(stats.introductions_connected - begun.introductions_connected, count as u64);
    for host in hosts {
        assert_eq!(world.reactor.peer(host).machine().punches(), 0);
        world.reactor.remove(host);
    }
    world.comes_back_to(before);
}

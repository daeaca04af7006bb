//! A story: what a seed says of the world. [`crate::play`] plays it.

use std::time::Duration;

use gimlet::proto::punch::Preference;

use crate::expect::{self, Expect};
use crate::nat::{ALL, Allocation, Crossing, Family, Filtering, Mapping, Nat, Refusal};
use crate::packet::{MILLISECOND, Nanos, SECOND};
use crate::path::{Conditions, Place};
use crate::router::Habits;
use crate::site::{Layout, Person};

#[derive(Clone, Debug)]
pub(crate) struct Story {
    pub(crate) seed: u64,
    pub(crate) kind: Kind,
    pub(crate) layout: Layout,
    pub(crate) s: Place,
    pub(crate) people: [Person; 2],
    pub(crate) habits: Habits,
    pub(crate) conditions: Conditions,
    /// S relays.
    pub(crate) relay: bool,
    /// When A and B start.
    pub(crate) starts: [Nanos; 2],
    pub(crate) asks: Vec<Ask>,
    pub(crate) troubles: Vec<(Nanos, Trouble)>,
    /// How each connection must come about.
    pub(crate) expect: Expect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing goes wrong: what the theory says must be.
    Calm,
    /// Everything goes wrong: promises are kept all the same.
    Rough,
}

/// A request for a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) at: Nanos,
    /// 0 for A, who asks for B, or 1.
    pub(crate) who: usize,
    pub(crate) preference: Preference,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// S ends, politely or not, and comes back after a while.
    RestartS { politely: bool, down: Nanos },
    /// S loses its power, which comes back.
    PowerCutS { down: Nanos },
    /// The process of a peer ends, and perhaps another one starts.
    Exit { who: usize, again: Option<Nanos> },
    /// A peer is unplugged, and perhaps plugged in again.
    Unplug { who: usize, again: Option<Nanos> },
    /// The routers forget all that they know.
    ForgetfulRouters,
    /// Somebody takes its last request back.
    Cancel { who: usize },
    /// A stranger knocks where this peer appears to be.
    Knock { who: usize },
    /// From now on so much of all packets is lost, in percent.
    Loss(u8),
}

impl Story {
    pub(crate) fn of(seed: u64) -> Self {
        // Neighbouring seeds tell different stories.
        let mut random = fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        match random.u8(..8) {
            0..5 => calm(seed, &mut random),
            _ => rough(seed, &mut random),
        }
    }

    pub(crate) fn layout_name(&self) -> String {
        let label = |nat: &Nat| nat.label();
        match &self.layout {
            Layout::Apart([a, b]) => format!("{} and {}", label(a), label(b)),
            Layout::OneLan(nat) => format!("one LAN behind {}", label(nat)),
            Layout::OneCarrier { homes: [a, b], carrier } => {
                format!("{} and {} behind {}", label(a), label(b), label(carrier))
            }
        }
    }

    /// The two NATs, where they are apart: the pair that is counted.
    pub(crate) fn pair(&self) -> Option<[&'static str; 2]> {
        match self.layout {
            Layout::Apart(nats) => {
                let mut names = nats.map(|nat| nat.name);
                names.sort_unstable();
                Some(names)
            }
            _ => None,
        }
    }
}

/// Two peers that know their NATs, or one that has just been started, ask for each other twice.
fn calm(seed: u64, random: &mut fastrand::Rng) -> Story {
    let layout = match random.u8(..10) {
        0 => Layout::OneLan(preset(random)),
        1 => one_carrier(random),
        2 => Layout::Apart([made_up(random), made_up(random)]),
        _ => Layout::Apart([preset(random), preset(random)]),
    };
    let jitter = if random.bool() { 0 } else { random.u64(1..5 * MILLISECOND) };
    let cold = random.u8(..4) == 0;
    let (first, starts) = match cold {
        true => (4 * SECOND, [4 * SECOND, 0]),
        false => (4 * SECOND, [0, random.u64(..SECOND)]),
    };
    // The first punch is over by then, relayed or not.
    let second = first + 24 * SECOND;
    let asks = [(first, 0), (second, random.usize(..2))].map(|(at, who)| Ask {
        at,
        who,
        preference: Preference::Any,
    });
    let mut story = Story {
        seed,
        kind: Kind::Calm,
        layout,
        s: place(random),
        people: [person(random), person(random)],
        habits: habits(random),
        conditions: Conditions { jitter, ..Conditions::default() },
        relay: random.u8(..8) != 0,
        starts,
        asks: asks.to_vec(),
        troubles: Vec::new(),
        expect: Expect::Anything,
    };
    story.people.iter_mut().for_each(|person| person.sockets = 5000);
    story.expect = expect::of(&story);
    story
}

fn rough(seed: u64, random: &mut fastrand::Rng) -> Story {
    let layout = match random.u8(..6) {
        0 => Layout::OneLan(preset(random)),
        1 => one_carrier(random),
        2 | 3 => Layout::Apart([made_up(random), made_up(random)]),
        _ => Layout::Apart([preset(random), preset(random)]),
    };
    let loss = if random.bool() { 0.0 } else { random.f64() * 0.2 };
    let duplicates = if random.bool() { 0.0 } else { random.f64() * 0.1 };
    let jitter = if random.bool() { 0 } else { random.u64(1..60 * MILLISECOND) };
    let asks = (0..random.usize(1..5))
        .map(|_| Ask {
            at: random.u64(..12 * SECOND),
            who: random.usize(..2),
            preference: match random.u8(..6) {
                0 => Preference::DirectOnly,
                1 => Preference::RelayOnly,
                _ => Preference::Any,
            },
        })
        .collect();
    let troubles = (0..random.usize(..4)).map(|_| trouble(random)).collect();
    Story {
        seed,
        kind: Kind::Rough,
        layout,
        s: place(random),
        people: [person(random), person(random)],
        habits: habits(random),
        conditions: Conditions { jitter, loss, duplicates },
        relay: random.u8(..4) != 0,
        starts: [random.u64(..2 * SECOND), random.u64(..2 * SECOND)],
        asks,
        troubles,
        expect: Expect::Anything,
    }
}

fn trouble(random: &mut fastrand::Rng) -> (Nanos, Trouble) {
    let at = random.u64(..20 * SECOND);
    let who = random.usize(..2);
    let again = random.bool().then(|| random.u64(..5 * SECOND));
    let down = random.u64(..8 * SECOND);
    let trouble = match random.u8(..10) {
        0 | 1 => Trouble::RestartS { politely: random.bool(), down },
        2 => Trouble::PowerCutS { down },
        3 | 4 => Trouble::Exit { who, again },
        5 => Trouble::Unplug { who, again },
        6 => Trouble::ForgetfulRouters,
        7 => Trouble::Cancel { who },
        8 => Trouble::Knock { who },
        _ => Trouble::Loss(random.u8(..60)),
    };
    (at, trouble)
}

// ---- parts ----

fn is_v4(nat: &&Nat) -> bool {
    nat.family == Family::V4
}

fn preset(random: &mut fastrand::Rng) -> Nat {
    let count = ALL.iter().filter(is_v4).count();
    *ALL.iter().filter(is_v4).nth(random.usize(..count)).expect("it was counted")
}

/// Any combination of what NATs do.
fn made_up(random: &mut fastrand::Rng) -> Nat {
    let mapping = match random.u8(..5) {
        0 | 1 => Mapping::EndpointIndependent,
        2 => Mapping::AddressDependent,
        _ => Mapping::AddressAndPortDependent,
    };
    let first = random.u16(1024..60_000) / 1024 * 1024;
    let allocation = match random.u8(..6) {
        0 | 1 => Allocation::Preserving,
        2 => Allocation::Random { first: 1024, last: u16::MAX },
        3 => Allocation::Random { first, last: first + 1023 },
        4 => Allocation::SequentialPerAddress,
        _ => Allocation::Sequential { step: random.u16(1..5) },
    };
    let filtering = match random.u8(..4) {
        0 => Filtering::EndpointIndependent,
        1 => Filtering::AddressDependent,
        _ => Filtering::AddressAndPortDependent,
    };
    let refusal = match random.u8(..5) {
        0 | 1 => Refusal::Silence,
        2 => Refusal::Rst,
        3 => Refusal::Icmp(crate::nat::Unreachable::Prohibited),
        _ => Refusal::LateIcmp,
    };
    let crossing = match random.u8(..8) {
        0 => Crossing::Dropped,
        1 => Crossing::Reset,
        _ => Crossing::LetIn,
    };
    let carriers = [None, None, None, Some(&Nat::EIM), Some(&Nat::SEQUENTIAL), Some(&Nat::RANDOM)];
    let carrier = carriers[random.usize(..carriers.len())];
    let foreign = if random.bool() { 0 } else { random.u32(..20) };
    let name = "made up";
    let parts = Nat { name, mapping, allocation, filtering, ..Nat::PRESERVING };
    Nat { refusal, crossing, carrier, foreign, ..parts }
}

fn one_carrier(random: &mut fastrand::Rng) -> Layout {
    let homes = [Nat::PRESERVING, Nat::EIM, Nat::PRESERVING_RST];
    let carriers = [Nat::EIM, Nat::PRESERVING, Nat::EIM_EIF, Nat::PRESERVING_RST];
    Layout::OneCarrier {
        homes: [homes[random.usize(..3)], homes[random.usize(..3)]],
        carrier: carriers[random.usize(..4)],
    }
}

fn place(random: &mut fastrand::Rng) -> Place {
    // Half of the stories are in one country.
    let width = MILLISECOND as f64 * if random.bool() { 20.0 } else { 80.0 };
    let access = random.u64(..10 * MILLISECOND);
    Place { x: random.f64() * width, y: random.f64() * width, access }
}

fn person(random: &mut fastrand::Rng) -> Person {
    Person {
        place: place(random),
        offset: Duration::from_millis(random.u64(..100_000_000)),
        sockets: if random.u8(..4) == 0 { random.usize(..400) } else { 5000 },
        spare_holes: if random.bool() { 0 } else { random.usize(..9) },
    }
}

fn habits(random: &mut fastrand::Rng) -> Habits {
    Habits {
        strict: random.u8(..4) != 0,
        hairpin: random.bool(),
        // Some forget a SYN so fast that only its repetitions keep the hole open.
        syn_lifetime: if random.u8(..4) == 0 { 3 * SECOND / 2 } else { 120 * SECOND },
    }
}

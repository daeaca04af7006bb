//! What is tried between two NATs: one pure function of what both have shown.
//!
//! ```text
//!              | predictable        sequential              random in a block    random
//! -------------+-----------------------------------------------------------------------------
//! predictable  | main ports, then   dial 16 ports ahead     birthday inside      birthday
//!              | fresh holes        of the other's probes   the block
//! sequential   |                    48 sockets each at one  —                    —
//!              |                    port ahead
//! block        |                                            birthday inside      —
//!              |                                            both blocks
//! random       |                                                                 —
//! ```
//!
//! *Predictable* is a NAT whose observed endpoint holds for all destinations: endpoint-independent
//! mapping, a port that is preserved, or no NAT; and one that has not been looked at, which is tried as
//! if it were. "—": nothing can be aimed at. The candidates are dialled all the same, since one side's
//! filtering may be weak, and the relay doesn't wait.

use crate::wire::message::{Allocation, Nat};

/// Sequential NATs: ports dialled ahead of the last that was seen. With 20 foreign connections a second
/// and a round trip of 100 ms, 8 of 8 attempts found the right one (4 ports: 1 to 3 of 8).
pub const AHEAD: u16 = 16;

/// Two sequential NATs: sockets that each side fires at one port of the other. 9 to 10 of 10 at 50
/// foreign connections a second.
pub const VOLLEY: u16 = 48;

/// Birthday: local ports on the random side, each of which makes its NAT choose a port.
pub const BIRTHDAY_SOCKETS: u16 = 256;

/// Birthday: ports that the other side dials. With 256 of 64,512 mapped, 2,048 dials miss them all
/// once in 3,500 attempts: (1 − 256/64512)^2048.
pub const BIRTHDAY_DIALS: u16 = 2048;

/// Inside a block of 1,024 ports 64 sockets and 512 dials miss once in 10^14; more would eat the block.
pub const BLOCK_SOCKETS: u16 = 64;

/// See [`BLOCK_SOCKETS`].
pub const BLOCK_DIALS: u16 = 512;

/// Both sides in blocks of 1,024: each dial makes a mapping of its own and is aimed at a port of its own,
/// so that 1,536 on each side meet with 1 − exp(−1536² / 1024²) = 89 % in one round.
pub const BLOCK_VOLLEY: u16 = 1536;

/// The ports that a NAT hands out when nothing else is known: all but the well-known ones.
pub const ALL_PORTS: PortRange = PortRange { first: 1024, last: u16::MAX };

/// A range of ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

/// What one side does in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SidePlan {
    /// The port that S must know of before the release.
    pub port: PortPlan,
    /// Local ports that dial; the first is the one that S knows.
    pub sockets: u16,
    /// Where to aim beside the other's candidates.
    pub aim: Aim,
}

/// The local port that a side begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortPlan {
    /// That of the main connection, or a hole that the request brings along.
    Main,
    /// A fresh hole.
    Fresh,
    /// A fresh hole and two more probes beside it: what the NAT hands out next shows in them.
    Predicted,
}

impl PortPlan {
    /// The same, but not the main port.
    #[must_use]
    pub fn or_fresh(self) -> Self {
        match self {
            Self::Main => Self::Fresh,
            other => other,
        }
    }
}

/// Which ports of the other side's NAT are aimed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// The candidates as they are.
    Observed,
    /// So many ports that follow the last one seen.
    Ahead(u16),
    /// The one port that is so many steps after the last one seen.
    Step(u16),
    /// So many random ports of a range.
    Random(u16, PortRange),
}

/// What both sides do in a round: the controller's plan, then the controlled's.
pub type RoundPlan = [SidePlan; 2];

/// The plan of a round, which counts from 1.
pub fn plan(controller: Nat, controlled: Nat, round: u8) -> RoundPlan {
    let port = |nat: Nat| match (kind(nat), round) {
        (Kind::Predictable, 1) => PortPlan::Main,
        (Kind::Sequential, _) => PortPlan::Predicted,
        // A birthday needs no hole on the random side, and one that holds on the other.
        (Kind::Random | Kind::Block(_), _) => PortPlan::Main,
        (Kind::Predictable, _) => PortPlan::Fresh,
    };
    let one = |mine: Nat, theirs: Nat| {
        let (sockets, aim) = shot(kind(mine), kind(theirs));
        SidePlan { port: port(mine), sockets, aim }
    };
    [one(controller, controlled), one(controlled, controller)]
}

/// Whether the reports leave any hope of a direct connection, whatever the filtering.
pub fn is_hopeful(one: Nat, other: Nat) -> bool {
    use Kind::{Block, Predictable, Sequential};
    matches!(
        (kind(one), kind(other)),
        (Predictable, _) | (_, Predictable) | (Sequential, Sequential) | (Block(_), Block(_))
    )
}

fn shot(mine: Kind, theirs: Kind) -> (u16, Aim) {
    match (mine, theirs) {
        (Kind::Predictable, Kind::Sequential) => (1, Aim::Ahead(AHEAD)),
        (Kind::Sequential, Kind::Sequential) => (VOLLEY, Aim::Step(VOLLEY / 2)),
        (Kind::Predictable, Kind::Random) => (1, Aim::Random(BIRTHDAY_DIALS, ALL_PORTS)),
        (Kind::Random, Kind::Predictable) => (BIRTHDAY_SOCKETS, Aim::Observed),
        (Kind::Predictable, Kind::Block(range)) => (1, Aim::Random(BLOCK_DIALS, range)),
        (Kind::Block(_), Kind::Predictable) => (BLOCK_SOCKETS, Aim::Observed),
        (Kind::Block(_), Kind::Block(range)) => (1, Aim::Random(BLOCK_VOLLEY, range)),
        _ => (1, Aim::Observed),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Predictable,
    Sequential,
    Block(PortRange),
    Random,
}

fn kind(nat: Nat) -> Kind {
    match (nat.mapping.is_shared(), nat.allocation) {
        (true, _) | (_, Allocation::Preserving) => Kind::Predictable,
        (false, Allocation::Sequential { .. }) => Kind::Sequential,
        (false, Allocation::Block { first, last }) => Kind::Block(PortRange { first, last }),
        (false, Allocation::Random | Allocation::Unknown) => Kind::Random,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::{Filtering, Hairpinning, Mapping, Pooling, Refusal};

    const EASY: Nat = Nat { mapping: Mapping::EndpointIndependent, ..UNKNOWN };
    const UNKNOWN: Nat = Nat {
        mapping: Mapping::Unknown,
        allocation: Allocation::Unknown,
        pooling: Pooling::Unknown,
        filtering: Filtering::Unknown,
        refusal: Refusal::Unknown,
        hairpinning: Hairpinning::Unknown,
    };
    const SEQUENTIAL: Nat = symmetric(Allocation::Sequential { delta: 2, busy: 0 });
    const RANDOM: Nat = symmetric(Allocation::Random);
    const BLOCK: Nat = symmetric(Allocation::Block { first: 2048, last: 3071 });

    const fn symmetric(allocation: Allocation) -> Nat {
        Nat { mapping: Mapping::AddressAndPortDependent, allocation, ..UNKNOWN }
    }

    #[test]
    fn the_fast_path_needs_no_probe_and_the_next_round_uses_fresh_holes() {
        for (one, other) in [(EASY, EASY), (EASY, UNKNOWN), (UNKNOWN, UNKNOWN)] {
            let first = plan(one, other, 1);
            assert!(first.iter().all(|side| side.port == PortPlan::Main && side.sockets == 1));
            assert!(plan(one, other, 2).iter().all(|side| side.port == PortPlan::Fresh));
        }
    }

    #[test]
    fn a_sequential_nat_is_probed_and_dialled_ahead_of() {
        let [easy, sequential] = plan(EASY, SEQUENTIAL, 1);
        assert_eq!((easy.port, easy.aim), (PortPlan::Main, Aim::Ahead(AHEAD)));
        assert_eq!((sequential.port, sequential.aim), (PortPlan::Predicted, Aim::Observed));
        let both = plan(SEQUENTIAL, SEQUENTIAL, 1);
        assert!(both.iter().all(|side| side.sockets == VOLLEY && side.port == PortPlan::Predicted));
    }

    #[test]
    fn a_birthday_is_the_first_round_and_not_the_last_resort() {
        let [random, easy] = plan(RANDOM, EASY, 1);
        assert_eq!((random.sockets, random.aim), (BIRTHDAY_SOCKETS, Aim::Observed));
        assert_eq!(easy.aim, Aim::Random(BIRTHDAY_DIALS, ALL_PORTS));
        let [_, block] = plan(EASY, BLOCK, 1);
        assert_eq!(block.sockets, BLOCK_SOCKETS);
    }

    #[test]
    fn both_sides_of_a_plan_are_mirror_images() {
        let nats = [EASY, UNKNOWN, SEQUENTIAL, RANDOM, BLOCK];
        for one in nats {
            for other in nats {
                let [a, b] = plan(one, other, 1);
                assert_eq!(plan(other, one, 1), [b, a]);
                assert_eq!(is_hopeful(one, other), is_hopeful(other, one));
            }
        }
        assert!(!is_hopeful(RANDOM, RANDOM) && !is_hopeful(SEQUENTIAL, RANDOM));
        assert!(is_hopeful(RANDOM, EASY) && is_hopeful(BLOCK, BLOCK));
    }

    #[test]
    fn a_port_that_is_preserved_is_predictable_whatever_the_mapping() {
        let preserving = symmetric(Allocation::Preserving);
        assert_eq!(plan(preserving, EASY, 1)[0].port, PortPlan::Main);
    }
}

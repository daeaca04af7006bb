//! What is tried between two NATs: one pure function of what both have shown.
//!
//! ```text
//!              | lets in      predictable    sequential            random in a block   random
//! -------------+--------------------------------------------------------------------------------
//! lets in      | main ports   main ports     main ports            main ports          main ports
//! predictable  |              main ports,    dial 16 ports ahead   birthday inside     birthday
//!              |              fresh holes    of the other's        the block
//!              |                             probes, birthday
//! sequential   |                             48 sockets each at    896 sockets each at  —
//!              |                             one port ahead        two ports, 512 dials
//! block        |                                                   birthday inside     —
//!              |                                                   both blocks
//! random       |                                                                       —
//! ```
//!
//! *Predictable* is a NAT whose observed endpoint holds for all destinations: endpoint-independent
//! mapping, a port that is preserved, or no NAT; and one that has not been looked at, which is tried as
//! if it were. *Lets in* is one of these whose filter is known to be endpoint-independent or
//! address-dependent: it writes once to the other side's address, and accepts from any port of it. "—":
//! nothing can be aimed at. The candidates are dialled all the same, since what a NAT showed may be
//! wrong, and the relay doesn't wait.
//!
//! Where a NAT takes any of several addresses for each mapping, and keeps the port, 16 ports in a row take the
//! place of the one: each dials, and is dialled at, all addresses.
//!
//! A **rung** is one line of attack. The first round tries the first rung, unless a later one is known to
//! have worked between these two networks; each further round tries the next. What comes behind a comma in
//! the table is the second rung. Where a pair has no further rung, the last is tried again from fresh ports.

use crate::limits;
use crate::wire::message::{Allocation, Filtering, Mapping, Nat, Pooling, Refusal};

/// Sequential NATs: ports dialled ahead of the last that was seen. With 20 foreign connections a second
/// and a round trip of 100 ms, 8 of 8 attempts found the right one (4 ports: 1 to 3 of 8).
pub const AHEAD: u16 = 16;

/// The same for a NAT on which others are busy: as many more as they map in half a second, which is a
/// long round trip and the time that the dials take; this many at most.
pub const AHEAD_MOST: u16 = 512;

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
/// so that 2,048 on each side meet with 1 − exp(−2048² / 1024²) = 98 %. More would not fit beside each
/// other into the descriptors of one punch.
pub const BLOCK_VOLLEY: u16 = 2048;

/// A sequential NAT and a block of 1,024: the block's side maps this many of its ports towards one coming
/// port of the other, which is aimed at one port of the block: 896 / 1024 = 87 %. A full block would leave
/// the NAT no port to choose.
pub const BLOCK_CROWD: u16 = 896;

/// Coming ports that are crowded at, one after the other: 98 %. Most NATs can use a port towards several
/// destinations; the block of one that can't is full after the first.
pub const CROWDS: u16 = 2;

/// A NAT that chooses among its addresses for each dial: as many sockets again on the other side as it may
/// have addresses, so that one of them is met.
const POOL_FACTOR: u16 = 4;

/// A sequential NAT and one that chooses among four addresses: ports that are dialled ahead, and sockets, of which
/// one in four is met. All miss once in 10,000 attempts.
const POOL_AHEAD: u16 = 32;

/// Where one side dials many ports and its NAT answers a SYN that comes too early with an RST or an ICMP
/// error, which would undo the other's dial: half the time that its dials take, 16 ms for 2,048. With that
/// start, each SYN is expected where it arrives, if the peers are no nearer than this.
fn spray_lead_ms(dials: u16) -> u16 {
    let volleys = usize::from(dials).div_ceil(limits::VOLLEY_DIALS);
    (volleys as u128 * limits::VOLLEY_PAUSE.as_millis() / 2) as u16
}

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
    /// Local ports in a row that dial the candidates, each its counterpart.
    pub row: u8,
    /// Where to aim beside the other's candidates.
    pub aim: Aim,
    /// Begin so many milliseconds after the other side.
    pub lag_ms: u16,
    /// Let the other side's SYN come first.
    pub yields: bool,
    /// It is luck which of a NAT's addresses meet: the next round may do better soon.
    pub lucky: bool,
}

impl SidePlan {
    /// Whether what it does is decided when the first SYNs have crossed.
    pub fn is_brief(&self) -> bool {
        self.lucky || self.sockets > 1 || self.aim != Aim::Observed
    }
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
    /// From the port that is so many steps after the last one seen, so many ports.
    Step(u16, u16),
    /// So many random ports of a range; each of them once before any a second time.
    Random(u16, PortRange),
}

impl Aim {
    /// Whether it needs to see what the other side's NAT hands out.
    fn predicts(self) -> bool {
        matches!(self, Self::Ahead(_) | Self::Step(..))
    }
}

/// What both sides do in a round: the controller's plan, then the controlled's.
pub type RoundPlan = [SidePlan; 2];

/// The plan of a round, which counts from 1, on a rung, which counts from 1 too.
pub fn plan(controller: Nat, controlled: Nat, round: u8, rung: u8) -> RoundPlan {
    let sides = [Side::of(controller), Side::of(controlled)];
    let [one, other] = shots(&sides, rung);
    // Whoever is aimed at by prediction has to show its ports; a birthday needs a hole that holds on the
    // side that is known, and none on the other.
    let port = |side: &Side, aimed_at: Aim| match side.kind {
        _ if aimed_at.predicts() => PortPlan::Predicted,
        Kind::Predictable if round > 1 => PortPlan::Fresh,
        _ => PortPlan::Main,
    };
    let is_plain = [one, other].iter().all(|shot| shot.sockets == 1 && shot.aim == Aim::Observed);
    let complete = |side: &Side, shot: Shot, aimed_at: Aim| SidePlan {
        port: port(side, aimed_at),
        sockets: shot.sockets,
        row: if is_plain && side.pooled && side.keeps_port { limits::PORT_ROW } else { 1 },
        aim: shot.aim,
        lag_ms: shot.lag_ms,
        yields: shot.yields,
        lucky: sides.iter().any(|side| side.pooled),
    };
    [complete(&sides[0], one, other.aim), complete(&sides[1], other, one.aim)]
}

/// Whether the reports leave any hope of a direct connection. Who has just logged in may not have seen yet
/// which ports its NAT hands out: the next round will know.
pub fn is_hopeful(one: Nat, other: Nat) -> bool {
    use Kind::{Block, Predictable, Sequential};
    let is_seen = |nat: Nat| nat.mapping.is_shared() || nat.allocation != Allocation::Unknown;
    let is_aimed_at = matches!(
        (Side::of(one).kind, Side::of(other).kind),
        (Predictable, _)
            | (_, Predictable)
            | (Sequential { .. }, Sequential { .. } | Block(_))
            | (Block(_), Sequential { .. } | Block(_))
    );
    is_aimed_at || !is_seen(one) || !is_seen(other)
}

/// What to plan with behind a router that lets others in at a port because it was asked to.
#[must_use]
pub fn where_port_mapped(nat: Nat) -> Nat {
    Nat { mapping: Mapping::EndpointIndependent, filtering: Filtering::EndpointIndependent, ..nat }
}

/// Whether a round that was planned for one NAT is of no use with another: it maps otherwise.
pub fn maps_otherwise(planned: Nat, found: Nat) -> bool {
    let (planned, found) = (Side::of(planned), Side::of(found));
    let same = match (planned.kind, found.kind) {
        (Kind::Sequential { .. }, Kind::Sequential { .. }) => true,
        (planned, found) => planned == found,
    };
    !same || planned.pooled != found.pooled
}

/// What one side does, but for its port.
#[derive(Clone, Copy)]
struct Shot {
    sockets: u16,
    aim: Aim,
    lag_ms: u16,
    yields: bool,
}

/// One dial to each candidate.
const PLAIN: Shot = Shot { sockets: 1, aim: Aim::Observed, lag_ms: 0, yields: false };

impl Shot {
    fn many(sockets: u16) -> Self {
        Self { sockets, ..PLAIN }
    }

    fn at(aim: Aim) -> Self {
        Self { aim, ..PLAIN }
    }
}

fn shots(sides: &[Side; 2], rung: u8) -> [Shot; 2] {
    let [one, other] = sides;
    if one.lets_in || other.lets_in {
        if rung == 1 {
            return [PLAIN, PLAIN];
        }
        if one.kind == Kind::Predictable && other.kind == Kind::Predictable {
            return reversed(one);
        }
    }
    let forward = pair(one, other, rung);
    let backward = || pair(other, one, rung).map(|[theirs, ours]| [ours, theirs]);
    forward.or_else(backward).unwrap_or([PLAIN, PLAIN])
}

/// Simultaneous open is what may have failed: the side that lets the other in doesn't dial until the
/// other's SYN has come. It writes to the other's address, but to another port.
fn reversed(one: &Side) -> [Shot; 2] {
    let yields = Shot { yields: true, ..PLAIN };
    if one.lets_in { [yields, PLAIN] } else { [PLAIN, yields] }
}

/// The shots of a pair, if it stands in the upper half of the table.
fn pair(one: &Side, other: &Side, rung: u8) -> Option<[Shot; 2]> {
    use Kind::{Block, Predictable, Random, Sequential};
    Some(match (one.kind, other.kind) {
        (Predictable, Sequential { busy }) if rung == 1 => {
            let (first, sockets) = if one.pooled { (POOL_AHEAD, POOL_AHEAD) } else { (AHEAD, 1) };
            let ahead = first.saturating_add(busy / 2).min(AHEAD_MOST);
            [Shot::at(Aim::Ahead(ahead)), Shot::many(sockets)]
        }
        // It may count for each destination by itself, so that what was seen says nothing.
        (Predictable, Random | Sequential { .. }) => {
            let sockets = BIRTHDAY_SOCKETS * if one.pooled { POOL_FACTOR } else { 1 };
            let spray = Shot::at(Aim::Random(BIRTHDAY_DIALS, ALL_PORTS));
            led([spray, Shot::many(sockets)], (one, other), rung)
        }
        (Predictable, Block(range)) => {
            let shots = [Shot::at(Aim::Random(BLOCK_DIALS, range)), Shot::many(BLOCK_SOCKETS)];
            led(shots, (one, other), rung)
        }
        (Sequential { .. }, Sequential { .. }) => {
            [Shot { aim: Aim::Step(VOLLEY / 2, 1), ..Shot::many(VOLLEY) }; 2]
        }
        (Sequential { .. }, Block(range)) => {
            let middle = BLOCK_DIALS / 2;
            [
                Shot::at(Aim::Random(BLOCK_DIALS, range)),
                Shot { aim: Aim::Step(middle, CROWDS), ..Shot::many(CROWDS * BLOCK_CROWD) },
            ]
        }
        (Block(one), Block(other)) => {
            [Shot::at(Aim::Random(BLOCK_VOLLEY, other)), Shot::at(Aim::Random(BLOCK_VOLLEY, one))]
        }
        (Predictable, Predictable) => [PLAIN, PLAIN],
        _ => return None,
    })
}

/// The side with many sockets is through at once; the other, which sprays, takes its time. On every other rung
/// the lead is shorter: it may have been too long for the way between them, or the spray smaller than was asked for.
fn led([spray, mut crowd]: [Shot; 2], (sprays, other): (&Side, &Side), rung: u8) -> [Shot; 2] {
    if let (Aim::Random(dials, _), true) = (spray.aim, sprays.refuses || other.refuses) {
        crowd.lag_ms = spray_lead_ms(dials) / if rung % 2 == 1 { 1 } else { 4 };
    }
    [spray, crowd]
}

/// What of a NAT matters for a plan.
struct Side {
    kind: Kind,
    lets_in: bool,
    /// It has several addresses, and any of them may be the next, even from the same port.
    pooled: bool,
    /// Its ports are the local ones.
    keeps_port: bool,
    /// A SYN that is not let in may draw an answer, which undoes the dial.
    refuses: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Predictable,
    Sequential { busy: u16 },
    Block(PortRange),
    Random,
}

impl Side {
    fn of(nat: Nat) -> Self {
        use Filtering::{AddressDependent, EndpointIndependent};
        let kind = match (nat.mapping.is_shared(), nat.allocation) {
            (true, _) | (_, Allocation::Preserving) => Kind::Predictable,
            (false, Allocation::Sequential { busy, .. }) => Kind::Sequential { busy },
            (false, Allocation::Block { first, last }) => Kind::Block(PortRange { first, last }),
            (false, Allocation::Random | Allocation::Unknown) => Kind::Random,
        };
        // Even where the mapping seems to be shared: four looks show the same one of four addresses once in
        // 64 times.
        let pooled = nat.pooling == Pooling::Arbitrary;
        let weak = matches!(nat.filtering, EndpointIndependent | AddressDependent);
        Self {
            kind,
            lets_in: weak && !pooled && kind == Kind::Predictable,
            pooled,
            keeps_port: nat.allocation == Allocation::Preserving,
            refuses: nat.refusal != Refusal::Silence,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::Hairpinning;

    const UNKNOWN: Nat = Nat {
        mapping: Mapping::Unknown,
        allocation: Allocation::Unknown,
        pooling: Pooling::Unknown,
        filtering: Filtering::Unknown,
        refusal: Refusal::Unknown,
        hairpinning: Hairpinning::Unknown,
    };
    const EASY: Nat = Nat { mapping: Mapping::EndpointIndependent, ..UNKNOWN };
    const OPEN: Nat = Nat { filtering: Filtering::EndpointIndependent, ..EASY };
    const SILENT: Nat = Nat { refusal: Refusal::Silence, ..EASY };
    const POOL: Nat = Nat { pooling: Pooling::Arbitrary, ..symmetric(Allocation::Preserving) };
    const SEQUENTIAL: Nat = symmetric(Allocation::Sequential { delta: 2, busy: 0 });
    const RANDOM: Nat = symmetric(Allocation::Random);
    const BLOCK: Nat = symmetric(Allocation::Block { first: 2048, last: 3071 });

    const fn symmetric(allocation: Allocation) -> Nat {
        Nat { mapping: Mapping::AddressAndPortDependent, allocation, ..UNKNOWN }
    }

    fn first(one: Nat, other: Nat) -> RoundPlan {
        plan(one, other, 1, 1)
    }

    #[test]
    fn the_fast_path_needs_no_probe_and_the_next_round_uses_fresh_holes() {
        for (one, other) in [(EASY, EASY), (EASY, UNKNOWN), (UNKNOWN, UNKNOWN)] {
            let sides = first(one, other);
            assert!(sides.iter().all(|side| side.port == PortPlan::Main && side.sockets == 1));
            assert!(plan(one, other, 2, 2).iter().all(|side| side.port == PortPlan::Fresh));
        }
    }

    #[test]
    fn who_lets_others_in_needs_no_prediction_and_no_birthday() {
        for other in [EASY, UNKNOWN, POOL, SEQUENTIAL, RANDOM, BLOCK] {
            for sides in [first(OPEN, other), first(other, OPEN)] {
                let plain = |side: &SidePlan| {
                    (side.port, side.sockets, side.aim) == (PortPlan::Main, 1, Aim::Observed)
                };
                assert!(sides.iter().all(plain), "{other:?}: {sides:?}");
            }
        }
        let [_, random] = plan(OPEN, RANDOM, 2, 2);
        assert_eq!(random.sockets, BIRTHDAY_SOCKETS, "it may not let us in after all");
    }

    #[test]
    fn the_side_that_lets_others_in_yields_when_crossing_has_failed() {
        let yields = |sides: RoundPlan| sides.map(|side| side.yields);
        assert_eq!(yields(plan(OPEN, EASY, 2, 2)), [true, false]);
        assert_eq!(yields(plan(EASY, OPEN, 2, 2)), [false, true]);
        assert_eq!(yields(plan(EASY, EASY, 2, 2)), [false, false]);
    }

    #[test]
    fn a_sequential_nat_is_probed_and_dialled_ahead_of() {
        let [easy, sequential] = first(EASY, SEQUENTIAL);
        assert_eq!((easy.port, easy.aim), (PortPlan::Main, Aim::Ahead(AHEAD)));
        assert_eq!((sequential.port, sequential.aim), (PortPlan::Predicted, Aim::Observed));
        let both = first(SEQUENTIAL, SEQUENTIAL);
        assert!(both.iter().all(|side| side.sockets == VOLLEY && side.port == PortPlan::Predicted));
    }

    #[test]
    fn the_busier_a_sequence_the_further_ahead() {
        let busy = |busy| symmetric(Allocation::Sequential { delta: 1, busy });
        assert_eq!(first(EASY, busy(50))[0].aim, Aim::Ahead(AHEAD + 25));
        assert_eq!(first(EASY, busy(u16::MAX))[0].aim, Aim::Ahead(AHEAD_MOST));
    }

    #[test]
    fn a_sequence_that_was_not_hit_is_guessed_like_a_random_one() {
        let [easy, sequential] = plan(EASY, SEQUENTIAL, 2, 2);
        assert_eq!(easy.aim, Aim::Random(BIRTHDAY_DIALS, ALL_PORTS));
        assert_eq!((sequential.port, sequential.sockets), (PortPlan::Main, BIRTHDAY_SOCKETS));
        // … and at once where that is known to have worked.
        let [easy, _] = plan(EASY, SEQUENTIAL, 1, 2);
        assert_eq!((easy.port, easy.aim), (PortPlan::Main, Aim::Random(BIRTHDAY_DIALS, ALL_PORTS)));
    }

    #[test]
    fn a_birthday_is_the_first_round_and_not_the_last_resort() {
        let [random, easy] = first(RANDOM, EASY);
        assert_eq!((random.sockets, random.aim), (BIRTHDAY_SOCKETS, Aim::Observed));
        assert_eq!(easy.aim, Aim::Random(BIRTHDAY_DIALS, ALL_PORTS));
        let [_, block] = first(EASY, BLOCK);
        assert_eq!(block.sockets, BLOCK_SOCKETS);
        assert_eq!(first(POOL, RANDOM)[1].sockets, 1024, "three of four meet another address");
    }

    #[test]
    fn whose_nat_answers_too_early_a_syn_gets_a_lead_for_its_spray() {
        let silent = Nat { refusal: Refusal::Silence, ..RANDOM };
        assert_eq!(first(EASY, RANDOM).map(|side| side.lag_ms), [0, 16], "unknown");
        assert_eq!(first(RANDOM, SILENT).map(|side| side.lag_ms), [16, 0]);
        assert_eq!(first(SILENT, silent).map(|side| side.lag_ms), [0, 0]);
        assert_eq!(first(EASY, BLOCK).map(|side| side.lag_ms), [0, 4], "a spray of 512");
        assert_eq!(plan(EASY, RANDOM, 2, 2).map(|side| side.lag_ms), [0, 4], "it may be too long");
    }

    #[test]
    fn a_nat_with_any_of_several_addresses_has_a_row_of_ports() {
        let rows = |one, other| first(one, other).map(|side| side.row);
        assert_eq!(rows(POOL, POOL), [limits::PORT_ROW; 2]);
        assert_eq!(rows(OPEN, POOL), [1, limits::PORT_ROW], "who lets in must know whom");
        assert_eq!(rows(POOL, EASY), [limits::PORT_ROW, 1]);
        assert_eq!(rows(POOL, RANDOM), [1, 1]);
        let elsewhere = Nat { pooling: Pooling::Arbitrary, ..EASY };
        assert_eq!(rows(elsewhere, EASY), [1, 1], "the port is another one");
        let [ahead, sequential] = first(POOL, SEQUENTIAL);
        assert_eq!((ahead.aim, sequential.sockets), (Aim::Ahead(POOL_AHEAD), POOL_AHEAD));
    }

    #[test]
    fn a_block_that_meets_a_sequence_crowds_at_one_port() {
        let [sequential, block] = first(SEQUENTIAL, BLOCK);
        assert_eq!(sequential.port, PortPlan::Predicted);
        assert!(matches!(sequential.aim, Aim::Random(BLOCK_DIALS, _)));
        assert_eq!((block.sockets, block.aim), (1792, Aim::Step(BLOCK_DIALS / 2, CROWDS)));
        assert_eq!(block.port, PortPlan::Main);
    }

    #[test]
    fn both_sides_of_a_plan_are_mirror_images() {
        let nats = [EASY, OPEN, SILENT, POOL, UNKNOWN, SEQUENTIAL, RANDOM, BLOCK];
        for one in nats {
            for other in nats {
                for (round, rung) in [(1, 1), (1, 2), (2, 2), (3, 3)] {
                    let [a, b] = plan(one, other, round, rung);
                    // Where either would do, the controller yields.
                    if !a.yields && !b.yields {
                        assert_eq!(plan(other, one, round, rung), [b, a]);
                    }
                }
                assert_eq!(is_hopeful(one, other), is_hopeful(other, one));
                assert_eq!(maps_otherwise(one, other), maps_otherwise(other, one));
            }
        }
        assert!(!is_hopeful(RANDOM, RANDOM) && !is_hopeful(SEQUENTIAL, RANDOM));
        assert!(!is_hopeful(BLOCK, RANDOM));
        let unseen = symmetric(Allocation::Unknown);
        assert!(is_hopeful(unseen, SEQUENTIAL) && is_hopeful(RANDOM, unseen));
        assert!(is_hopeful(RANDOM, EASY) && is_hopeful(BLOCK, BLOCK));
        assert!(is_hopeful(SEQUENTIAL, BLOCK) && is_hopeful(POOL, RANDOM));
    }

    #[test]
    fn a_plan_is_made_anew_for_another_mapping_and_not_for_another_filter() {
        assert!(maps_otherwise(UNKNOWN, RANDOM) && maps_otherwise(SEQUENTIAL, RANDOM));
        assert!(!maps_otherwise(UNKNOWN, EASY) && !maps_otherwise(EASY, OPEN));
        let busier = symmetric(Allocation::Sequential { delta: 2, busy: 9 });
        assert!(!maps_otherwise(SEQUENTIAL, busier));
        assert!(maps_otherwise(UNKNOWN, POOL), "its other addresses are to be dialled, too");
    }

    #[test]
    fn a_port_that_is_preserved_is_predictable_whatever_the_mapping() {
        let preserving = symmetric(Allocation::Preserving);
        assert_eq!(first(preserving, EASY)[0].port, PortPlan::Main);
    }
}

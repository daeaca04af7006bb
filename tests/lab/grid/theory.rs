//! Which pairs of NATs can connect directly: a pure function of what the two do.
//!
//! A TCP connection through two NATs needs a SYN that is let in. Each side must aim at the endpoint from
//! which the other side's NAT lets its SYN out, unless a weak filter makes one of the two aims needless.

use crate::nat::{Allocation, Crossing, Filtering, Mapping, Nat, Pool, Reach};

/// Dials that one side can make in one attempt; 2,048 were measured, in a quarter of a second. A pair
/// counts as possible if these give it an even chance.
const DIALS: f64 = 2048.0;

/// What can be expected of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prospect {
    /// Direct, every time.
    Sure,
    /// Direct, if nothing goes wrong: it takes luck in guessing, or in what the connections of others take.
    Likely,
    /// Not direct, but for rare luck.
    Unlikely,
    /// Never direct.
    Never,
}

pub(crate) fn prospect(a: &Nat, b: &Nat) -> Prospect {
    let (a, b) = (Side::of(a), Side::of(b));
    if a.guarded || b.guarded || a.is_v6 != b.is_v6 {
        return Prospect::Never;
    }
    if lets_in(&a, &b) || lets_in(&b, &a) {
        return Prospect::Sure;
    }
    if a.breaks_crossing && b.breaks_crossing {
        return Prospect::Never;
    }
    let nothing_to_guess = a.spread * b.spread == 1.0 && !a.busy && !b.busy;
    match chance(&a, &b) {
        _ if nothing_to_guess => Prospect::Sure,
        chance if chance > 0.5 => Prospect::Likely,
        _ => Prospect::Unlikely,
    }
}

/// Whether a direct connection can be expected.
pub(crate) fn is_possible(a: &Nat, b: &Nat) -> bool {
    matches!(prospect(a, b), Prospect::Sure | Prospect::Likely)
}

/// A NAT that lets in whoever was written to, from any port: its side writes once to each address of the
/// other's NAT, and the other one dials, from whatever port its NAT likes. The other's address is known
/// even where its port isn't, unless it is any of several, which only who lets in everybody need not know. The
/// own endpoint must be known, for the other to dial it.
fn lets_in(side: &Side, other: &Side) -> bool {
    !side.filters_by_port && side.spread == 1.0 && !(side.filters_by_address && other.is_spread_out)
}

/// The chance that some dial of A and some dial of B meet, both NATs filtering by port.
///
/// *Both endpoints are known* (`spread` 1 on both sides: no NAT, endpoint-independent mapping): one dial
/// each, and they cross.
///
/// *A counts*: its next ports can be told from those that it has just used, those of others in between
/// included, if it dials a few times or is dialled a few times. Against a known endpoint B aims at the
/// coming ports. Where both count, each fires a volley at one coming port of the other.
///
/// *A knows, B picks at random out of R endpoints*: B makes n mappings towards A's endpoint, A dials k
/// endpoints. The birthday: 1 − (1 − n/R)^k ≈ 1 − exp(−nk/R). All 64,512 ports: n = 256 and k = 2,048 miss
/// once in 3,500 times.
///
/// *A counts, B picks at random*: each dial of A comes from another port, so that B has to share its dials
/// out among them. Then k does not help: 1 − exp(−n/R). Hopeless for 64,512 ports (3 %) and good for the
/// 1,024 of a block (86 %).
///
/// *Both pick at random*: a dial of A and one of B meet if each aims at the other's endpoint by chance,
/// which is one of R_A × R_B cases: 1 − exp(−nk / (R_A R_B)). Two blocks of 1,024: 98 %. A block and all
/// ports: 6 %. All ports twice: one in a thousand.
fn chance(a: &Side, b: &Side) -> f64 {
    let cases = a.spread * b.spread;
    let pairs = if a.counts || b.counts { DIALS } else { DIALS * DIALS };
    if cases == 1.0 { 1.0 } else { 1.0 - (-pairs / cases).exp() }
}

/// What the NATs of one side, one before the other, amount to.
struct Side {
    is_v6: bool,
    guarded: bool,
    /// Only an endpoint that was dialled may come in.
    filters_by_port: bool,
    /// Only an address that was dialled may come in.
    filters_by_address: bool,
    /// Each dial may come from another address.
    is_spread_out: bool,
    breaks_crossing: bool,
    /// Endpoints, as far as they can't be predicted, that a new mapping may get.
    spread: f64,
    counts: bool,
    /// The connections of others take some of its ports.
    busy: bool,
}

impl Side {
    fn of(nat: &Nat) -> Self {
        let any = |does: fn(&Nat) -> bool| nat.chain().any(does);
        Self {
            is_v6: any(|nat| nat.family == crate::nat::Family::V6),
            guarded: any(|nat| nat.reach == Reach::Rendezvous),
            filters_by_port: any(|nat| nat.filtering == Filtering::AddressAndPortDependent),
            filters_by_address: any(|nat| nat.filtering == Filtering::AddressDependent),
            is_spread_out: any(|nat| matches!(nat.pool, Pool::Arbitrary(_))),
            breaks_crossing: any(|nat| nat.crossing != Crossing::LetIn),
            // Each NAT maps what the one behind it has made: where one is endpoint-independent, what it
            // gives is known, and the other's choice is all that is left.
            spread: nat.chain().map(spread).product(),
            counts: any(|nat| {
                depends(nat) && matches!(nat.allocation, Allocation::Sequential { .. })
            }),
            busy: any(|nat| nat.foreign > 0),
        }
    }
}

fn depends(nat: &Nat) -> bool {
    matches!(nat.mapping, Mapping::AddressDependent | Mapping::AddressAndPortDependent)
}

fn spread(nat: &Nat) -> f64 {
    // S sees the endpoint that the other peer will see.
    if !depends(nat) {
        return 1.0;
    }
    let ports = match nat.allocation {
        Allocation::Preserving | Allocation::Sequential { .. } => 1.0,
        Allocation::Random { first, last } => f64::from(last - first) + 1.0,
        // What S has seen of one destination says nothing about the next.
        Allocation::SequentialPerAddress => 64_512.0,
    };
    let addresses = match nat.pool {
        Pool::One | Pool::Paired(_) => 1.0,
        Pool::Arbitrary(count) => f64::from(count),
    };
    ports * addresses
}

/// The list of what is possible, as it was measured with plain sockets.
#[test]
fn theory_agrees_with_what_was_measured() {
    let known =
        [Nat::FIREWALL, Nat::PRESERVING, Nat::PRESERVING_RST, Nat::PRESERVING_ICMP, Nat::EIM];
    let counting = [Nat::SEQUENTIAL, Nat::SEQUENTIAL_2, Nat::SEQUENTIAL_BUSY_20];
    let random = [Nat::RANDOM, Nat::RANDOM_RST, Nat::SEQUENTIAL_PER_ADDRESS];
    let weak = [Nat::OPEN, Nat::EIM_ADF, Nat::EIM_EIF];
    let broken = [Nat::CROSSING_DROPPED, Nat::CROSSING_RESET];

    expect(
        true,
        &[&known[..], &counting, &weak].concat(),
        &[&known[..], &counting, &weak].concat(),
    );
    expect(true, &[&known[..], &weak].concat(), &random);
    expect(true, &known, &[Nat::DOUBLE, Nat::DOUBLE_SEQUENTIAL, Nat::ADM]);
    expect(false, &random, &random);
    expect(
        false,
        &random,
        &[&counting[..], &[Nat::DOUBLE_SEQUENTIAL, Nat::ADM, Nat::BLOCK]].concat(),
    );
    expect(true, &[Nat::BLOCK], &[&counting[..], &[Nat::BLOCK]].concat());
    expect(false, &broken, &broken);
    expect(true, &broken, &[&known[..], &weak, &counting].concat());
    expect(false, &[Nat::BLOCKED], &[&known[..], &counting, &random, &weak].concat());
    expect(false, &[Nat::OPEN], &[Nat::OPEN_V6]);
}

#[test]
fn luck_is_told_from_certainty() {
    assert_eq!(prospect(&Nat::EIM, &Nat::SEQUENTIAL), Prospect::Sure);
    assert_eq!(prospect(&Nat::EIM_ADF, &Nat::RANDOM), Prospect::Sure);
    assert_eq!(prospect(&Nat::EIM_EIF, &Nat::POOL_ARBITRARY), Prospect::Sure);
    assert_eq!(prospect(&Nat::EIM_ADF, &Nat::POOL_ARBITRARY), Prospect::Likely);
    assert_eq!(prospect(&Nat::EIM, &Nat::SEQUENTIAL_BUSY_5), Prospect::Likely);
    assert_eq!(prospect(&Nat::RANDOM, &Nat::EIM), Prospect::Likely);
    assert_eq!(prospect(&Nat::BLOCK, &Nat::SEQUENTIAL), Prospect::Likely);
    assert_eq!(prospect(&Nat::BLOCK, &Nat::RANDOM), Prospect::Unlikely);
    assert_eq!(prospect(&Nat::BLOCKED, &Nat::OPEN), Prospect::Never);
    assert_eq!(prospect(&Nat::CROSSING_RESET, &Nat::CROSSING_DROPPED), Prospect::Never);
}

#[cfg(test)]
fn expect(expected: bool, these: &[Nat], those: &[Nat]) {
    for a in these {
        for b in those {
            assert_eq!(is_possible(a, b), expected, "{} and {}", a.name, b.name);
            assert_eq!(is_possible(b, a), expected, "{} and {}", b.name, a.name);
        }
    }
}

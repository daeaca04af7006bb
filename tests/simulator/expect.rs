//! What the theory says of a story in which nothing goes wrong. The lab's theory says what is possible; here
//! is added what is certain.

use crate::nat::{Allocation, Crossing, Filtering, Mapping, Nat, Pool, Refusal};
use crate::site::Layout;
use crate::story::Story;
use crate::theory::{self, Prospect};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Expect {
    /// Direct, each time.
    Direct,
    /// Direct in at least 95 of 100 cases: ports are predicted or guessed.
    Mostly,
    /// Direct by rare luck.
    Rarely,
    /// Never direct.
    Never,
    /// Possible, and not tried yet: what is missing.
    Gap(&'static str),
    /// No claim is made.
    Anything,
}

pub(crate) fn of(story: &Story) -> Expect {
    match story.layout {
        Layout::Apart([a, b]) => apart(&a, &b),
        // They see each other without any router.
        Layout::OneLan(nat) => match nat.pool {
            Pool::One => Expect::Direct,
            Pool::Paired(_) | Pool::Arbitrary(_) => {
                Expect::Gap("one LAN whose hosts appear at several public addresses")
            }
        },
        Layout::OneCarrier { carrier, .. } => match hairpin_opens(&carrier) {
            true if story.habits.hairpin || carrier.hairpin => Expect::Direct,
            _ => Expect::Never,
        },
    }
}

/// A SYN to a neighbour behind the same NAT is refused where it stands if the neighbour's own SYN has not
/// passed yet. An RST takes the hole with it at that very moment, so that it is never open for the other.
fn hairpin_opens(carrier: &Nat) -> bool {
    let resets = matches!(carrier.refusal, Refusal::Rst | Refusal::OwnRst);
    !resets || carrier.filtering != Filtering::AddressAndPortDependent
}

/// What the theory calls possible, and no round is planned for. To be shortened: what comes to be direct is a
/// fault here, too.
fn gap(a: &Nat, b: &Nat) -> Option<&'static str> {
    let spreads = |nat: &Nat| matches!(nat.pool, Pool::Arbitrary(_));
    let breaks = |nat: &Nat| nat.chain().any(|nat| nat.crossing != Crossing::LetIn);
    if spreads(a) && spreads(b) {
        Some("any of several addresses on both sides: which two will meet is luck")
    } else if breaks(a) && breaks(b) {
        Some("both break simultaneous open, and one would let the other in")
    } else {
        None
    }
}

fn apart(a: &Nat, b: &Nat) -> Expect {
    // The lab's theory is for NATs that there are.
    let made_up = Nat::named(a.name).is_none() || Nat::named(b.name).is_none();
    match (theory::prospect(a, b), gap(a, b)) {
        _ if made_up => match is_known(a) && is_known(b) && theory::is_possible(a, b) {
            true if gap(a, b).is_none() => Expect::Direct,
            _ => Expect::Anything,
        },
        (Prospect::Sure | Prospect::Likely, Some(gap)) => Expect::Gap(gap),
        (Prospect::Sure, None) => Expect::Direct,
        (Prospect::Likely, None) => Expect::Mostly,
        (Prospect::Unlikely, _) => Expect::Rarely,
        (Prospect::Never, _) => Expect::Never,
    }
}

/// Whether S sees the endpoint that everybody will see.
fn is_known(nat: &Nat) -> bool {
    nat.chain().all(|nat| {
        let shared = matches!(nat.mapping, Mapping::None | Mapping::EndpointIndependent);
        // Two mappings of one endpoint have one external endpoint only where a strict filter tells their
        // packets apart.
        let preserved = nat.allocation == Allocation::Preserving
            && nat.mapping == Mapping::AddressAndPortDependent
            && nat.filtering == Filtering::AddressAndPortDependent
            && !matches!(nat.pool, Pool::Arbitrary(_));
        shared || preserved
    })
}

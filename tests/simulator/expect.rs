//! What the theory says of a story in which nothing goes wrong. The lab's theory says what is possible; here
//! is added what is certain.

use crate::nat::{Allocation, Filtering, Mapping, Nat, Pool, Refusal};
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
    /// No claim is made.
    Anything,
}

pub(crate) fn of(story: &Story) -> Expect {
    match story.layout {
        Layout::Apart([a, b]) => apart(&a, &b),
        // They see each other without any router.
        Layout::OneLan(_) => Expect::Direct,
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

fn apart(a: &Nat, b: &Nat) -> Expect {
    // The lab's theory is for NATs that there are.
    let made_up = Nat::named(a.name).is_none() || Nat::named(b.name).is_none();
    match theory::prospect(a, b) {
        _ if made_up => match is_known(a) && is_known(b) && theory::is_possible(a, b) {
            true => Expect::Direct,
            false => Expect::Anything,
        },
        Prospect::Sure => Expect::Direct,
        Prospect::Likely => Expect::Mostly,
        Prospect::Unlikely => Expect::Rarely,
        Prospect::Never => Expect::Never,
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

//! What the theory says of a story in which nothing goes wrong. The lab's theory says what is possible; here
//! is added what is certain.

use crate::nat::{Allocation, Filtering, Mapping, Nat, Pool, Refusal};
use crate::site::Layout;
use crate::story::Story;
use crate::theory;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Expect {
    /// Direct, each time.
    Direct,
    /// Direct in at least 95 of 100 cases: ports are predicted or guessed.
    Mostly,
    /// Never direct.
    Never,
    /// No claim is made.
    Anything,
}

pub(crate) fn of(story: &Story) -> Expect {
    match story.layout {
        Layout::Apart([a, b]) => apart(&a, &b),
        // They see each other without any router.
        Layout::OneLan(nat) => match nat.pool {
            Pool::Arbitrary(_) => Expect::Anything,
            _ => Expect::Direct,
        },
        Layout::OneCarrier { carrier, .. } => match hairpin_opens(&carrier) {
            true if story.habits.hairpin => Expect::Direct,
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

/// What the theory calls possible, and no round is planned for; and what is lost by it. To be shortened: a pair
/// that has come to be direct is a fault here, too.
pub(crate) fn is_gap(a: &Nat, b: &Nat) -> bool {
    let counts =
        |nat: &Nat| nat.chain().any(|nat| matches!(nat.allocation, Allocation::Sequential { .. }));
    let spreads = |nat: &Nat| matches!(nat.pool, Pool::Arbitrary(_));
    let blocks = |nat: &Nat| nat.name == Nat::BLOCK.name;
    // Any of four addresses is seen, and one is dialled.
    let pool = |one: &Nat, other: &Nat| spreads(one) && (is_known(other) || counts(other));
    // The block would be guessed, and the sequence be predicted.
    let block = |one: &Nat, other: &Nat| blocks(one) && counts(other);
    let either = |gap: &dyn Fn(&Nat, &Nat) -> bool| gap(a, b) || gap(b, a);
    either(&pool) || either(&block) || (spreads(a) && spreads(b))
}

fn apart(a: &Nat, b: &Nat) -> Expect {
    // The lab's theory is for NATs that there are.
    let made_up = Nat::named(a.name).is_none() || Nat::named(b.name).is_none();
    match theory::is_possible(a, b) {
        true if made_up && !(is_known(a) && is_known(b)) => Expect::Anything,
        false if made_up => Expect::Anything,
        false => Expect::Never,
        true if is_known(a) && is_known(b) => Expect::Direct,
        true => Expect::Mostly,
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

//! NATs in a few classes, for those who count: what matters most for a punch.

use crate::wire::message::{Allocation, Mapping, Nat, Pooling};

/// What kind of NAT a peer is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum NatClass {
    /// None.
    Open,
    /// One endpoint for all destinations.
    EndpointIndependent,
    /// It keeps the local port, though it maps each destination anew.
    Preserving,
    /// Ports in sequence.
    Sequential,
    /// Any port of a block.
    Block,
    /// Any port.
    Random,
    /// It maps each destination anew; to which ports has not been seen.
    Dependent,
    /// Any of several addresses.
    Pool,
    /// Not probed yet.
    Unknown,
}

impl NatClass {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 9] = [
        Self::Open,
        Self::EndpointIndependent,
        Self::Preserving,
        Self::Sequential,
        Self::Block,
        Self::Random,
        Self::Dependent,
        Self::Pool,
        Self::Unknown,
    ];

    /// The class of a NAT.
    pub fn of(nat: Nat) -> Self {
        if nat.pooling == Pooling::Arbitrary {
            return Self::Pool;
        }
        match (nat.mapping, nat.allocation) {
            (Mapping::Unknown, Allocation::Unknown) => Self::Unknown,
            (Mapping::None, _) => Self::Open,
            (Mapping::EndpointIndependent, _) => Self::EndpointIndependent,
            (_, Allocation::Preserving) => Self::Preserving,
            (_, Allocation::Sequential { .. }) => Self::Sequential,
            (_, Allocation::Block { .. }) => Self::Block,
            (_, Allocation::Random) => Self::Random,
            (_, Allocation::Unknown) => Self::Dependent,
        }
    }

    /// A word for a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::EndpointIndependent => "endpoint_independent",
            Self::Preserving => "preserving",
            Self::Sequential => "sequential",
            Self::Block => "block",
            Self::Random => "random",
            Self::Dependent => "dependent",
            Self::Pool => "pool",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_nat_has_its_class() {
        let nat = |mapping, allocation| Nat { mapping, allocation, ..Nat::default() };
        let depends = Mapping::AddressAndPortDependent;
        let sequential = Allocation::Sequential { delta: 1, busy: 3 };
        for (nat, class) in [
            (Nat::default(), NatClass::Unknown),
            (nat(Mapping::None, Allocation::Preserving), NatClass::Open),
            (nat(Mapping::EndpointIndependent, sequential), NatClass::EndpointIndependent),
            (nat(depends, Allocation::Preserving), NatClass::Preserving),
            (nat(depends, sequential), NatClass::Sequential),
            (nat(depends, Allocation::Block { first: 1, last: 2 }), NatClass::Block),
            (nat(depends, Allocation::Random), NatClass::Random),
            (nat(Mapping::AddressDependent, Allocation::Unknown), NatClass::Dependent),
            (Nat { pooling: Pooling::Arbitrary, ..nat(depends, sequential) }, NatClass::Pool),
        ] {
            assert_eq!(NatClass::of(nat), class, "{nat:?}");
        }
        let places = NatClass::ALL.map(|class| class as usize);
        assert_eq!(places, [0, 1, 2, 3, 4, 5, 6, 7, 8], "a class is its place in the list");
    }
}

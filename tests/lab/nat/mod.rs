//! What stands between a host and the WAN, in the words of RFC 4787 and RFC 5382.

mod nftables;
mod presets;

use std::time::Duration;

pub(crate) use presets::ALL;

/// A router's behaviour, in parts. A new preset is one constant in `presets`; a new behaviour is one
/// variant below, its rules in `nftables` and its branch in [`crate::userspace_nat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nat {
    pub(crate) name: &'static str,
    pub(crate) family: Family,
    pub(crate) mapping: Mapping,
    pub(crate) allocation: Allocation,
    pub(crate) pool: Pool,
    pub(crate) filtering: Filtering,
    pub(crate) refusal: Refusal,
    pub(crate) crossing: Crossing,
    pub(crate) reach: Reach,
    /// Whether hosts behind it reach each other at their external endpoints (RFC 5382 REQ-8).
    pub(crate) hairpin: bool,
    /// How long a SYN that went out is remembered while nothing comes back.
    pub(crate) syn_lifetime: Duration,
    /// Connections per second that others behind it open, at random moments.
    pub(crate) foreign: u32,
    /// Another NAT between this one and the WAN.
    pub(crate) carrier: Option<&'static Nat>,
    pub(crate) engine: Engine,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// On what it depends whether an internal endpoint keeps its external one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mapping {
    /// The host has a public address of its own.
    None,
    EndpointIndependent,
    AddressDependent,
    AddressAndPortDependent,
}

/// Which external port a new mapping gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allocation {
    /// The internal one, where it is free.
    Preserving,
    /// Any of the range.
    Random { first: u16, last: u16 },
    /// The one that is `step` after the last, whatever the destination; it wraps around.
    Sequential { step: u16 },
    /// The one after the last for the same destination address; each begins somewhere else.
    SequentialPerAddress,
}

/// Which external address a new mapping gets (RFC 4787 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pool {
    One,
    /// One of so many, the same for all connections of a host.
    Paired(u8),
    /// Any of so many, every time.
    Arbitrary(u8),
}

/// From whom packets to a mapped endpoint are let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filtering {
    /// Everybody, even unmapped: there is no filter.
    None,
    EndpointIndependent,
    AddressDependent,
    AddressAndPortDependent,
}

/// What a SYN that is not let in draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Silence,
    Rst,
    /// An RST from the router's own TCP, which takes the SYN for its own.
    OwnRst,
    Icmp(Unreachable),
    /// Port unreachable, after the six seconds of RFC 5382 REQ-4, unless a SYN went out meanwhile.
    LateIcmp,
}

/// Codes of ICMP's "destination unreachable" (RFC 792, RFC 1812 §5.2.7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreachable {
    Port = 3,
    Prohibited = 13,
}

/// What becomes of a SYN that meets one of our own on its way: RFC 5382 REQ-2 wants it let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crossing {
    LetIn,
    Dropped,
    Reset,
}

/// Whom hosts behind it can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Everybody,
    /// S alone.
    Rendezvous,
}

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// nftables in the router's namespace.
    Kernel,
    /// [`crate::userspace_nat`], between the router and the WAN.
    Userspace,
}

impl Nat {
    /// The preset of this name. `user:NAME` is the same one in the userspace engine.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name.strip_prefix("user:") {
            Some(name) => Self::named(name).map(Self::in_userspace),
            None => ALL.iter().find(|nat| nat.name == name).copied(),
        }
    }

    /// The name by which [`Nat::named`] finds it.
    pub(crate) fn label(&self) -> String {
        let usual = Self::named(self.name).is_some_and(|nat| nat.engine == self.engine);
        if usual { self.name.to_owned() } else { format!("user:{}", self.name) }
    }

    pub(crate) const fn in_userspace(self) -> Self {
        Self { engine: Engine::Userspace, ..self }
    }

    pub(crate) const fn has_router(&self) -> bool {
        !matches!(self.filtering, Filtering::None)
    }

    /// How many public addresses it has.
    pub(crate) const fn addresses(&self) -> u8 {
        match self.pool {
            Pool::One => 1,
            Pool::Paired(count) | Pool::Arbitrary(count) => count,
        }
    }

    /// This NAT in each engine that can do it.
    pub(crate) fn engines(self) -> impl Iterator<Item = Self> {
        let kernel = (self.engine == Engine::Kernel).then_some(self);
        let can_userspace = self.has_router() && self.family == Family::V4;
        kernel.into_iter().chain(can_userspace.then(|| self.in_userspace()))
    }

    /// This NAT and those in front of it, from the host outwards.
    pub(crate) fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |nat| nat.carrier)
    }
}

/// Linux gives an internal endpoint the external one that its living connections have, and else keeps
/// the port when it is in the range: so the range must lie outside of the ports that hosts take for
/// themselves (32768 to 60999).
const OTHER_PORTS: Allocation = Allocation::Random { first: 20_000, last: 29_999 };

/// Everything but the well-known ports.
const ALL_PORTS: Allocation = Allocation::Random { first: 1024, last: u16::MAX };

/// What a carrier assigns to one customer (RFC 6888 REQ-14, RFC 7422).
const BLOCK_OF_PORTS: Allocation = Allocation::Random { first: 20_480, last: 21_503 };

/// Where sequences begin, and how many steps they take before they wrap around.
pub(crate) const SEQUENCE_FIRST: u16 = 16_384;
pub(crate) const SEQUENCE_STEPS: u16 = 8_192;

/// Linux's own; RFC 5382 REQ-5 wants no less than 4 minutes once the other side has answered.
pub(crate) const USUAL_SYN_LIFETIME: Duration = Duration::from_secs(120);

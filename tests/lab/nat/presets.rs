//! The routers of the lab.

use std::time::Duration;

use super::{
    ALL_PORTS, Allocation, BLOCK_OF_PORTS, Crossing, Engine, Family, Filtering, Mapping, Nat,
    OTHER_PORTS, Pool, Reach, Refusal, USUAL_SYN_LIFETIME, Unreachable,
};

/// Every preset, in the order in which tables show them.
pub(crate) const ALL: [Nat; 33] = [
    Nat::OPEN,
    Nat::FIREWALL,
    Nat::PRESERVING,
    Nat::PRESERVING_RST,
    Nat::PRESERVING_ICMP,
    Nat::PRESERVING_PROHIBITED,
    Nat::MASQUERADE,
    Nat::PATIENT,
    Nat::FORGETFUL,
    Nat::EIM,
    Nat::EIM_ADF,
    Nat::EIM_EIF,
    Nat::HAIRPIN,
    Nat::POOL_PAIRED,
    Nat::DOUBLE,
    Nat::DOUBLE_SEQUENTIAL,
    Nat::CROSSING_DROPPED,
    Nat::CROSSING_RESET,
    Nat::POOL_ARBITRARY,
    Nat::ADM,
    Nat::SEQUENTIAL,
    Nat::SEQUENTIAL_2,
    Nat::SEQUENTIAL_BUSY_5,
    Nat::SEQUENTIAL_BUSY_20,
    Nat::SEQUENTIAL_2_BUSY_5,
    Nat::SEQUENTIAL_2_BUSY_20,
    Nat::SEQUENTIAL_PER_ADDRESS,
    Nat::BLOCK,
    Nat::RANDOM,
    Nat::RANDOM_RST,
    Nat::BLOCKED,
    Nat::OPEN_V6,
    Nat::FIREWALL_V6,
];

impl Nat {
    /// No router: the host is on the WAN.
    pub(crate) const OPEN: Self = Self {
        name: "open",
        family: Family::V4,
        mapping: Mapping::None,
        allocation: Allocation::Preserving,
        pool: Pool::One,
        filtering: Filtering::None,
        refusal: Refusal::Rst,
        crossing: Crossing::LetIn,
        reach: Reach::Everybody,
        hairpin: false,
        syn_lifetime: USUAL_SYN_LIFETIME,
        foreign: 0,
        carrier: None,
        engine: Engine::Kernel,
    };
    /// A stateful firewall before a public address.
    pub(crate) const FIREWALL: Self = Self {
        name: "firewall",
        filtering: Filtering::AddressAndPortDependent,
        refusal: Refusal::Silence,
        ..Self::OPEN
    };

    // ---- endpoint-independent mapping, port preserved ------------------------------------------

    pub(crate) const PRESERVING: Self =
        Self { name: "preserving", mapping: Mapping::EndpointIndependent, ..Self::FIREWALL };
    pub(crate) const PRESERVING_RST: Self =
        Self { name: "preserving_rst", refusal: Refusal::Rst, ..Self::PRESERVING };
    pub(crate) const PRESERVING_ICMP: Self = Self {
        name: "preserving_icmp",
        refusal: Refusal::Icmp(Unreachable::Port),
        ..Self::PRESERVING
    };
    pub(crate) const PRESERVING_PROHIBITED: Self = Self {
        name: "preserving_prohibited",
        refusal: Refusal::Icmp(Unreachable::Prohibited),
        ..Self::PRESERVING
    };
    /// A Linux router without a firewall.
    pub(crate) const MASQUERADE: Self =
        Self { name: "masquerade", refusal: Refusal::OwnRst, ..Self::PRESERVING };
    /// As RFC 5382 wants it, to the letter.
    pub(crate) const PATIENT: Self =
        Self { name: "patient", refusal: Refusal::LateIcmp, ..Self::PRESERVING }.in_userspace();
    /// Forgets a SYN after two seconds, unless it is sent again.
    pub(crate) const FORGETFUL: Self =
        Self { name: "forgetful", syn_lifetime: Duration::from_secs(2), ..Self::PRESERVING }
            .in_userspace();
    /// A carrier's addresses, of which each customer has one.
    pub(crate) const POOL_PAIRED: Self =
        Self { name: "pool_paired", pool: Pool::Paired(4), ..Self::PRESERVING };
    /// Knows no simultaneous open, and says nothing.
    pub(crate) const CROSSING_DROPPED: Self =
        Self { name: "crossing_dropped", crossing: Crossing::Dropped, ..Self::PRESERVING };
    /// Knows no simultaneous open, and says so.
    pub(crate) const CROSSING_RESET: Self =
        Self { name: "crossing_reset", crossing: Crossing::Reset, ..Self::PRESERVING };

    // ---- endpoint-independent mapping, another port --------------------------------------------

    /// Endpoint-independent mapping to another port, as long as any connection of the internal
    /// endpoint is alive.
    pub(crate) const EIM: Self = Self { name: "eim", allocation: OTHER_PORTS, ..Self::PRESERVING };
    /// Once mapped, whoever has been written to may come in, from any port.
    pub(crate) const EIM_ADF: Self =
        Self { name: "eim_adf", filtering: Filtering::AddressDependent, ..Self::EIM };
    /// Endpoint-independent mapping and filtering: once mapped, anybody may come in.
    pub(crate) const EIM_EIF: Self =
        Self { name: "eim_eif", filtering: Filtering::EndpointIndependent, ..Self::EIM };
    /// As RFC 5382 wants it: two hosts behind it reach each other at their external endpoints.
    pub(crate) const HAIRPIN: Self =
        Self { name: "hairpin", hairpin: true, ..Self::EIM }.in_userspace();
    /// A home router behind a carrier's NAT.
    pub(crate) const DOUBLE: Self =
        Self { name: "double", carrier: Some(&Self::EIM), ..Self::PRESERVING };

    // ---- mapping that depends on the destination ------------------------------------------------

    pub(crate) const ADM: Self = Self {
        name: "adm",
        mapping: Mapping::AddressDependent,
        allocation: OTHER_PORTS,
        ..Self::FIREWALL
    };
    pub(crate) const SEQUENTIAL: Self = Self {
        name: "sequential",
        mapping: Mapping::AddressAndPortDependent,
        allocation: Allocation::Sequential { step: 1 },
        ..Self::FIREWALL
    };
    pub(crate) const SEQUENTIAL_2: Self = Self {
        name: "sequential_2",
        allocation: Allocation::Sequential { step: 2 },
        ..Self::SEQUENTIAL
    };
    pub(crate) const SEQUENTIAL_BUSY_5: Self =
        Self { name: "sequential_busy_5", foreign: 5, ..Self::SEQUENTIAL };
    pub(crate) const SEQUENTIAL_BUSY_20: Self =
        Self { name: "sequential_busy_20", foreign: 20, ..Self::SEQUENTIAL };
    pub(crate) const SEQUENTIAL_2_BUSY_5: Self =
        Self { name: "sequential_2_busy_5", foreign: 5, ..Self::SEQUENTIAL_2 };
    pub(crate) const SEQUENTIAL_2_BUSY_20: Self =
        Self { name: "sequential_2_busy_20", foreign: 20, ..Self::SEQUENTIAL_2 };
    /// What is seen of one destination says nothing about another (RFC 6056 §3.3.3).
    pub(crate) const SEQUENTIAL_PER_ADDRESS: Self = Self {
        name: "sequential_per_address",
        allocation: Allocation::SequentialPerAddress,
        ..Self::SEQUENTIAL
    }
    .in_userspace();
    /// A carrier's addresses, of which each connection has one, and the port preserved.
    pub(crate) const POOL_ARBITRARY: Self = Self {
        name: "pool_arbitrary",
        mapping: Mapping::AddressAndPortDependent,
        pool: Pool::Arbitrary(4),
        ..Self::FIREWALL
    };
    /// A home router behind a carrier's NAT that counts.
    pub(crate) const DOUBLE_SEQUENTIAL: Self =
        Self { name: "double_sequential", carrier: Some(&Self::SEQUENTIAL), ..Self::PRESERVING };
    /// Any port of the thousand that the carrier gave to this customer.
    pub(crate) const BLOCK: Self =
        Self { name: "block", allocation: BLOCK_OF_PORTS, ..Self::SEQUENTIAL };
    /// Any port at all.
    pub(crate) const RANDOM: Self =
        Self { name: "random", allocation: ALL_PORTS, ..Self::SEQUENTIAL };
    pub(crate) const RANDOM_RST: Self =
        Self { name: "random_rst", refusal: Refusal::Rst, ..Self::RANDOM };

    /// A guarded network, out of which nothing but the rendezvous is reached.
    pub(crate) const BLOCKED: Self =
        Self { name: "blocked", reach: Reach::Rendezvous, ..Self::PRESERVING };

    // ---- IPv6 -----------------------------------------------------------------------------------

    /// IPv6 alone, with the firewall of a home router.
    pub(crate) const FIREWALL_V6: Self =
        Self { name: "firewall_v6", family: Family::V6, ..Self::FIREWALL };
    /// IPv6 alone, and nothing in between.
    pub(crate) const OPEN_V6: Self = Self { name: "open_v6", family: Family::V6, ..Self::OPEN };
}

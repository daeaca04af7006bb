//! Pairs of NATs for which the lab, with the real programs, and the simulator must come to the same end. The sites
//! are 25 ms apart, A has just started, and B knows its NAT.

use crate::nat::Nat;

/// How the connection comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Direct,
    Relayed,
}

use End::{Direct, Relayed};

pub(crate) const SCENARIOS: [(Nat, Nat, End); 24] = [
    (Nat::OPEN, Nat::BLOCKED, Relayed),
    (Nat::FIREWALL, Nat::PRESERVING_ICMP, Direct),
    (Nat::PRESERVING_RST, Nat::PRESERVING_RST, Direct),
    (Nat::MASQUERADE, Nat::DOUBLE, Direct),
    (Nat::FORGETFUL, Nat::PATIENT, Direct),
    (Nat::CROSSING_DROPPED, Nat::PRESERVING, Direct),
    (Nat::MASQUERADE, Nat::CROSSING_RESET, Direct),
    (Nat::CROSSING_RESET, Nat::CROSSING_DROPPED, Relayed),
    (Nat::EIM_ADF, Nat::RANDOM, Direct),
    (Nat::RANDOM, Nat::EIM_EIF, Direct),
    (Nat::EIM, Nat::RANDOM_RST, Direct),
    (Nat::RANDOM, Nat::RANDOM, Relayed),
    (Nat::ADM, Nat::PRESERVING_RST, Direct),
    (Nat::ADM, Nat::SEQUENTIAL, Relayed),
    (Nat::EIM, Nat::SEQUENTIAL, Direct),
    (Nat::SEQUENTIAL_PER_ADDRESS, Nat::EIM, Direct),
    (Nat::SEQUENTIAL_2, Nat::DOUBLE_SEQUENTIAL, Direct),
    (Nat::SEQUENTIAL_BUSY_20, Nat::PRESERVING, Direct),
    (Nat::BLOCK, Nat::CROSSING_DROPPED, Direct),
    (Nat::BLOCK, Nat::BLOCK, Direct),
    (Nat::BLOCK, Nat::SEQUENTIAL_BUSY_5, Direct),
    (Nat::POOL_ARBITRARY, Nat::POOL_ARBITRARY, Direct),
    (Nat::PRESERVING_ICMP, Nat::POOL_ARBITRARY, Direct),
    (Nat::POOL_ARBITRARY, Nat::SEQUENTIAL, Direct),
];

/// One way between all sites, in milliseconds.
pub(crate) const ONE_WAY_MS: u64 = 25;

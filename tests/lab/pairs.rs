//! Every two presets connect directly, and all bytes arrive, past S.

use std::time::Duration;

use serde_json::Value;

use crate::data::{Exchange, noise};
use crate::nat::Nat;
use crate::peers::{Peer, Rendezvous};
use crate::sockets::at;
use crate::topology::{A, B, Lab, Lans, Plan, S};

const PAYLOAD: usize = 1 << 20;

/// Login, signalling and probes of both peers; a relayed payload would be 2 MiB on top.
const MOST_BYTES_AT_S: u64 = 64 << 10;

/// Tests named by what stands before A and before B.
macro_rules! pairs {
    ($($a:ident: $nat_a:expr => { $($b:ident: $nat_b:expr),* })*) => { $(
        mod $a {
            use super::*;
            $(
                #[test]
                fn $b() {
                    connects_directly(Lab::plan().between($nat_a, $nat_b), 1);
                }
            )*
        }
    )* };
}

macro_rules! all_ipv4_pairs {
    ($($a:ident: $nat_a:expr),*) => { pairs! { $(
        $a: $nat_a => {
            to_open: Nat::OPEN,
            to_firewall: Nat::FIREWALL,
            to_preserving: Nat::PRESERVING,
            to_preserving_rst: Nat::PRESERVING_RST,
            to_eim: Nat::EIM,
            to_eim_eif: Nat::EIM_EIF
        }
    )* } };
}

all_ipv4_pairs! {
    from_open: Nat::OPEN,
    from_firewall: Nat::FIREWALL,
    from_preserving: Nat::PRESERVING,
    from_preserving_rst: Nat::PRESERVING_RST,
    from_eim: Nat::EIM,
    from_eim_eif: Nat::EIM_EIF
}

pairs! {
    from_open_v6: Nat::OPEN_V6 => {
        to_open_v6: Nat::OPEN_V6,
        to_firewall_v6: Nat::FIREWALL_V6
    }
    from_firewall_v6: Nat::FIREWALL_V6 => {
        to_open_v6: Nat::OPEN_V6,
        to_firewall_v6: Nat::FIREWALL_V6
    }
}

#[test]
fn behind_one_nat_in_one_lan() {
    for nat in [Nat::PRESERVING, Nat::EIM, Nat::EIM_EIF] {
        connects_directly(Lab::plan().behind_one(nat, Lans::One), 1);
    }
}

#[test]
fn behind_one_nat_in_two_lans() {
    connects_directly(Lab::plan().behind_one(Nat::PRESERVING, Lans::Two), 1);
}

/// By the public endpoints: the router forwards nothing between the LANs, but it takes what it has sent.
#[test]
fn behind_one_nat_that_hairpins_in_two_lans_that_are_apart() {
    connects_directly(Lab::plan().behind_one(Nat::HAIRPIN, Lans::TwoApart), 1);
}

#[test]
fn with_ipv6_beside_ipv4() {
    connects_directly(Lab::plan().between(Nat::PRESERVING, Nat::EIM).with_v6(), 1);
}

#[test]
fn two_that_answer_rst_20_of_20() {
    let plan = Lab::plan().between(Nat::PRESERVING_RST, Nat::PRESERVING_RST);
    connects_directly(plan.delay_ms(10), 20);
}

#[test]
fn two_without_port_preservation_20_of_20() {
    connects_directly(Lab::plan().between(Nat::EIM, Nat::EIM).delay_ms(10), 20);
}

#[test]
fn preserving_to_eim_eif_20_of_20() {
    connects_directly(Lab::plan().between(Nat::PRESERVING, Nat::EIM_EIF).delay_ms(10), 20);
}

#[test]
fn ipv6_firewalls_20_of_20() {
    let plan = Lab::plan().between(Nat::FIREWALL_V6, Nat::FIREWALL_V6);
    connects_directly(plan.delay_ms(10), 20);
}

/// B's SYN leaves long after A's, yet before A's arrives.
#[test]
fn two_that_answer_rst_at_unequal_distances_20_of_20() {
    let lab = Lab::plan().between(Nat::PRESERVING_RST, Nat::PRESERVING_RST).build();
    for (from, to, one_way_ms) in [(S, A, 5), (S, B, 40), (A, B, 38)] {
        lab.wan.set_delay(from, to, Duration::from_millis(one_way_ms));
    }
    connects_directly_in(&lab, 20);
}

fn connects_directly(plan: Plan, times: u64) {
    connects_directly_in(&plan.build(), times);
}

/// One after the other: each pipe is a login, an introduction and a punch of its own.
fn connects_directly_in(lab: &Lab, times: u64) {
    let rendezvous = Rendezvous::start(lab);
    let a = Peer::new(&lab.a, &rendezvous);
    let b = Peer::new(&lab.b, &rendezvous);
    let service = at([127, 0, 0, 1], 8080);
    let (from_a, from_b) = (noise(1, PAYLOAD), noise(2, PAYLOAD));
    let exchange = Exchange::start(&lab.b.namespace, service, PAYLOAD, from_b.clone());
    let _share = b.share("web", service, &a);
    for time in 1..=times {
        let before = lab.wan.bytes(S);
        let (received, connected, closed) = a.pipe(&b, "web").exchange(&from_a);
        let at_s = lab.wan.bytes(S) - before;
        assert!(exchange.visit().received == from_a, "{time}: B received other bytes");
        assert!(received == from_b, "{time}: A received other bytes");
        assert_eq!(connected["path"], "direct", "{time}: {connected}");
        assert_eq!(closed["sent"], Value::from(PAYLOAD), "{time}: {closed}");
        assert_eq!(closed["received"], Value::from(PAYLOAD), "{time}: {closed}");
        assert!(at_s < MOST_BYTES_AT_S, "{time}: {at_s} bytes went through S");
    }
}

//! Each preset does what its name says, as plain sockets see it; and what punches rest on.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Barrier;
use std::thread;

use crate::behaviour::{LOCAL_PORT, SILENCE, behaves_as_named, probe};
use crate::nat::{ALL, Mapping, Nat, Reach};
use crate::sockets::{SOON, accept, at, dial, listen};
use crate::topology::{Host, Lab, Lans, S_V4, S_V6};

/// A test for each preset, by what it does.
macro_rules! behave_as_named {
    ($($test:ident: $nat:expr),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                behaves_as_named($nat);
            }
        )*

        #[test]
        fn every_preset_is_tested_and_has_a_name_of_its_own() {
            let tested = [$($nat),*];
            assert!(ALL.iter().all(|nat| tested.contains(nat)));
            assert!(tested.iter().all(|nat| Nat::named(nat.name) == Some(*nat)));
        }
    };
}

behave_as_named! {
    open_maps_nothing_and_lets_everybody_in: Nat::OPEN,
    firewall_maps_nothing_and_drops_the_unsolicited: Nat::FIREWALL,
    preserving_keeps_the_port_and_drops_the_unsolicited: Nat::PRESERVING,
    preserving_rst_resets_the_unsolicited: Nat::PRESERVING_RST,
    preserving_icmp_calls_the_port_unreachable: Nat::PRESERVING_ICMP,
    preserving_prohibited_calls_it_prohibited: Nat::PRESERVING_PROHIBITED,
    masquerade_resets_by_its_own_stack: Nat::MASQUERADE,
    patient_answers_after_six_seconds: Nat::PATIENT,
    forgetful_forgets_a_syn_after_two_seconds: Nat::FORGETFUL,
    crossing_dropped_lets_no_syn_meet_its_own: Nat::CROSSING_DROPPED,
    crossing_reset_resets_a_syn_that_meets_its_own: Nat::CROSSING_RESET,
    pool_paired_gives_a_host_one_address: Nat::POOL_PAIRED,
    pool_arbitrary_gives_each_connection_any_address: Nat::POOL_ARBITRARY,
    eim_changes_the_port_once_for_all_destinations: Nat::EIM,
    eim_adf_lets_in_whoever_was_written_to: Nat::EIM_ADF,
    eim_eif_lets_everybody_in_where_mapped: Nat::EIM_EIF,
    hairpin_is_otherwise_like_eim: Nat::HAIRPIN,
    double_looks_like_its_outer_nat: Nat::DOUBLE,
    double_sequential_looks_like_its_outer_nat: Nat::DOUBLE_SEQUENTIAL,
    adm_has_a_port_for_each_address: Nat::ADM,
    sequential_takes_the_next_port: Nat::SEQUENTIAL,
    sequential_2_takes_the_next_port_but_one: Nat::SEQUENTIAL_2,
    sequential_busy_5_serves_others_too: Nat::SEQUENTIAL_BUSY_5,
    sequential_busy_20_serves_many_others_too: Nat::SEQUENTIAL_BUSY_20,
    sequential_2_busy_5_serves_others_too: Nat::SEQUENTIAL_2_BUSY_5,
    sequential_2_busy_20_serves_many_others_too: Nat::SEQUENTIAL_2_BUSY_20,
    sequential_per_address_counts_for_each_address: Nat::SEQUENTIAL_PER_ADDRESS,
    block_takes_any_port_of_its_thousand: Nat::BLOCK,
    random_takes_any_port: Nat::RANDOM,
    random_rst_takes_any_port_and_resets_the_unsolicited: Nat::RANDOM_RST,
    blocked_reaches_s_alone: Nat::BLOCKED,
    open_v6_maps_nothing_and_lets_everybody_in: Nat::OPEN_V6,
    firewall_v6_maps_nothing_and_drops_the_unsolicited: Nat::FIREWALL_V6,
}

#[test]
fn simultaneous_open_passes_between_all_ipv4_presets() {
    const PRESETS: [Nat; 6] =
        [Nat::OPEN, Nat::FIREWALL, Nat::PRESERVING, Nat::PRESERVING_RST, Nat::EIM, Nat::EIM_EIF];
    for a in PRESETS {
        for b in PRESETS {
            opens_simultaneously(&Lab::plan().between(a, b).delay_ms(20).build(), S_V4[0].into());
        }
    }
}

#[test]
fn simultaneous_open_passes_between_each_predictable_preset_and_a_usual_one() {
    let is_predictable = |nat: &&Nat| {
        nat.chain().all(|nat| nat.mapping == Mapping::EndpointIndependent)
            && nat.reach == Reach::Everybody
    };
    for nat in ALL.iter().filter(is_predictable).flat_map(|nat| nat.engines()) {
        for usual in [Nat::PRESERVING, Nat::PRESERVING_RST.in_userspace()] {
            let lab = Lab::plan().between(nat, usual).delay_ms(20).build();
            println!("{} in {:?} to {}", nat.name, nat.engine, usual.name);
            opens_simultaneously(&lab, S_V4[0].into());
        }
    }
}

#[test]
fn simultaneous_open_passes_between_ipv6_presets() {
    const PRESETS: [Nat; 2] = [Nat::OPEN_V6, Nat::FIREWALL_V6];
    for a in PRESETS {
        for b in PRESETS {
            opens_simultaneously(&Lab::plan().between(a, b).delay_ms(20).build(), S_V6.into());
        }
    }
}

/// What every punch rests on: two dials that cross become one connection.
fn opens_simultaneously(lab: &Lab, s: IpAddr) {
    let (a, _alive_a) = probe(lab, &lab.a, LOCAL_PORT, at(s, 9000));
    let (b, _alive_b) = probe(lab, &lab.b, LOCAL_PORT, at(s, 9001));
    let together = Barrier::new(2);
    let dial_peer = |from: &Host, to: SocketAddr| {
        together.wait();
        dial(&from.namespace, at(from.own(), LOCAL_PORT), to, SOON)
    };
    thread::scope(|scope| {
        let dial_a = scope.spawn(|| dial_peer(&lab.a, b));
        let dial_b = scope.spawn(|| dial_peer(&lab.b, a));
        let a_side = dial_a.join().unwrap().unwrap_or_else(|e| panic!("{a} to {b}: {e}"));
        let b_side = dial_b.join().unwrap().unwrap_or_else(|e| panic!("{b} to {a}: {e}"));
        assert_eq!((a_side.peer_addr().unwrap(), b_side.peer_addr().unwrap()), (b, a));
    });
}

#[test]
fn peers_behind_one_nat_reach_each_other_by_private_addresses() {
    for lans in [Lans::One, Lans::Two] {
        let lab = Lab::plan().behind_one(Nat::PRESERVING, lans).build();
        let to = at(lab.b.own(), LOCAL_PORT);
        let listener = listen(&lab.b.namespace, to);
        dial(&lab.a.namespace, at(lab.a.own(), 0), to, SOON).expect("dial the neighbour");
        let (_, seen) = accept(&listener, SOON).unwrap();
        assert_eq!(seen.ip(), lab.a.own());
    }
}

#[test]
fn hairpin_lets_two_behind_it_meet_at_their_public_endpoints() {
    let lab = Lab::plan().behind_one(Nat::HAIRPIN, Lans::TwoApart).build();
    opens_simultaneously(&lab, S_V4[0].into());
}

#[test]
fn between_parted_lans_nothing_passes_without_hairpinning() {
    for nat in [Nat::EIM, Nat::EIM.in_userspace(), Nat::PRESERVING, Nat::EIM_EIF] {
        let lab = Lab::plan().behind_one(nat, Lans::TwoApart).build();
        let (b, _alive) = probe(&lab, &lab.b, LOCAL_PORT, at(S_V4[0], 9000));
        let _listener = listen(&lab.b.namespace, at(lab.b.own(), LOCAL_PORT));
        for to in [b, at(lab.b.own(), LOCAL_PORT)] {
            let dialled = dial(&lab.a.namespace, at(lab.a.own(), 0), to, SILENCE);
            assert!(dialled.is_err(), "{} in {:?}: {to} is reached", nat.name, nat.engine);
        }
    }
}

#[test]
fn with_v6_adds_ipv6_beside_ipv4_nat() {
    let lab = Lab::plan().between(Nat::EIM, Nat::OPEN).with_v6().build();
    let (v4, _alive_v4) = probe(&lab, &lab.a, LOCAL_PORT, at(S_V4[0], 9000));
    let (v6, _alive_v6) = probe(&lab, &lab.a, LOCAL_PORT, at(S_V6, 9000));
    assert_eq!(v4.ip(), lab.a.public);
    assert_eq!(v6, at(lab.a.v6.unwrap(), LOCAL_PORT));
}

#[test]
fn flushed_nat_forgets_its_mappings() {
    let lab = Lab::plan().between(Nat::EIM, Nat::OPEN).build();
    let (_, [near, mut far]) = probe(&lab, &lab.a, LOCAL_PORT, at(S_V4[0], 9000));
    lab.routers[0].flush_conntrack();
    io::Write::write_all(&mut far, b"anyone there?").unwrap();
    near.set_read_timeout(Some(SILENCE)).unwrap();
    let read = io::Read::read(&mut &near, &mut [0; 16]);
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

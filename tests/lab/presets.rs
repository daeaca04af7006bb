//! Each preset does what its name says, as plain sockets see it.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use crate::nat::{Family, Filtering, Mapping, Nat, Refusal};
use crate::sockets::{SOON, accept, at, dial, listen};
use crate::topology::{Host, Lab, Lans, S_V4, S_V6};

/// Long enough for any answer without delay on the WAN, short enough to wait for none.
const SILENCE: Duration = Duration::from_millis(400);

const LOCAL_PORT: u16 = 40_000;

#[test]
fn open_maps_nothing_and_lets_everybody_in() {
    behaves_as_named(Nat::OPEN);
}

#[test]
fn firewall_maps_nothing_and_drops_the_unsolicited() {
    behaves_as_named(Nat::FIREWALL);
}

#[test]
fn preserving_keeps_the_port_and_drops_the_unsolicited() {
    behaves_as_named(Nat::PRESERVING);
}

#[test]
fn preserving_rst_keeps_the_port_and_resets_the_unsolicited() {
    behaves_as_named(Nat::PRESERVING_RST);
}

#[test]
fn eim_changes_the_port_once_for_all_destinations() {
    behaves_as_named(Nat::EIM);
}

#[test]
fn eim_eif_lets_everybody_in_where_mapped() {
    behaves_as_named(Nat::EIM_EIF);
}

#[test]
fn open_v6_maps_nothing_and_lets_everybody_in() {
    behaves_as_named(Nat::OPEN_V6);
}

#[test]
fn firewall_v6_maps_nothing_and_drops_the_unsolicited() {
    behaves_as_named(Nat::FIREWALL_V6);
}

fn behaves_as_named(nat: Nat) {
    let lab = Lab::plan().between(nat, Nat::OPEN).build();
    let (mapped, _alive) = check_mapping(&lab, nat);
    check_filtering(&lab, nat, mapped);
}

/// Returns the mapped endpoint and the connections that keep it.
fn check_mapping(lab: &Lab, nat: Nat) -> (SocketAddr, Vec<TcpStream>) {
    let remotes = match nat.family {
        Family::V4 => [at(S_V4[0], 9000), at(S_V4[0], 9001), at(S_V4[1], 9000)],
        Family::V6 => [at(S_V6, 9000), at(S_V6, 9001), at(S_V6, 9002)],
    };
    let mut alive = Vec::new();
    let endpoints = remotes.map(|remote| {
        let (endpoint, streams) = probe(lab, &lab.a, LOCAL_PORT, remote);
        alive.extend(streams);
        endpoint
    });
    let mapped = endpoints[0];
    assert_eq!(endpoints, [mapped; 3], "{nat:?} is not endpoint-independent");
    assert_eq!(mapped.ip(), lab.a.public, "{nat:?}");
    let translated = mapped.ip() != lab.a.own();
    let keeps_port = mapped.port() == LOCAL_PORT;
    let expected = match nat.mapping {
        Mapping::None => (false, true),
        Mapping::Preserving => (true, true),
        Mapping::EndpointIndependent => (true, false),
    };
    assert_eq!((translated, keeps_port), expected, "{nat:?}: {mapped}");
    (mapped, alive)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    LetIn,
    Silence,
    Rst,
}

fn check_filtering(lab: &Lab, nat: Nat, mapped: SocketAddr) {
    let _listener = listen(&lab.a.namespace, at(lab.a.own(), LOCAL_PORT));
    let refused = match nat.refusal {
        Refusal::Silence => Answer::Silence,
        Refusal::Rst => Answer::Rst,
    };
    let on_mapped = match nat.filtering {
        Filtering::None | Filtering::EndpointIndependent => Answer::LetIn,
        Filtering::AddressAndPortDependent => refused,
    };
    let (known, other): (IpAddr, IpAddr) = match nat.family {
        Family::V4 => (S_V4[0].into(), S_V4[1].into()),
        Family::V6 => (S_V6.into(), S_V6.into()),
    };
    let knock = |from, to| answer(dial(&lab.s.namespace, from, to, SILENCE));
    let answers = [knock(at(known, 9555), mapped), knock(at(other, 9556), mapped)];
    assert_eq!(answers, [on_mapped; 2], "{nat:?}: SYN to {mapped} from other ports of S");
    // Without a filter it is the host that refuses: nobody listens there.
    let unmapped = at(mapped.ip(), 1234);
    assert_eq!(knock(at(known, 9557), unmapped), refused, "{nat:?}: SYN to {unmapped}");
}

fn answer(dialled: io::Result<TcpStream>) -> Answer {
    match dialled {
        Ok(_) => Answer::LetIn,
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Answer::Rst,
        Err(e) if e.kind() == io::ErrorKind::TimedOut => Answer::Silence,
        Err(e) => panic!("{e:?}"),
    }
}

/// How S, at `remote`, sees a connection from the host's port, and both ends of it.
fn probe(lab: &Lab, from: &Host, port: u16, remote: SocketAddr) -> (SocketAddr, [TcpStream; 2]) {
    let listener = listen(&lab.s.namespace, remote);
    let local = match remote {
        SocketAddr::V4(_) => at(from.v4.unwrap(), port),
        SocketAddr::V6(_) => at(from.v6.unwrap(), port),
    };
    let near = dial(&from.namespace, local, remote, SOON).expect("dial S");
    let (far, seen) = accept(&listener, SOON).unwrap();
    (seen, [near, far])
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

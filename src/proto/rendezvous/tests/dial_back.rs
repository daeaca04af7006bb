//! Who is dialled back, where, and how often.

use super::*;
use crate::limits;
use crate::wire::message::DialBackEnd;

/// What is said of a dial that was not made.
const REFUSED: (DialBackEnd, DialBackEnd) = (DialBackEnd::NotMade, DialBackEnd::NotMade);

/// A tag that a peer has chosen itself.
const TAG: u64 = 7;

impl World {
    /// The peer shows a hole at `mapped`, and asks to be dialled back.
    fn ask(&mut self, peer: Known, tag: u64, mapped: SocketAddr) {
        assert_eq!(self.probe(peer, tag, 0, &mapped.to_string()), ProbeVerdict::Tied);
        self.say(peer, Message::DialBack { tag });
    }

    /// The only thing that has been done: a dial to that endpoint, from the address that the hole goes to.
    fn assert_dials(&mut self, peer: Known, to: SocketAddr) {
        let dial = Action::DialBack { session: peer.session, to, from: S_ADDRESS };
        assert_eq!(self.actions(), [dial]);
    }

    fn assert_answered(&mut self, peer: Known, tag: u64, ends: (DialBackEnd, DialBackEnd)) {
        let (same_address, other_address) = ends;
        let answer = Message::DialedBack { tag, same_address, other_address };
        assert_eq!(self.sent(), [(peer.link, answer)]);
    }

    /// The driver's dials are over.
    fn end(&mut self, session: SessionId) {
        self.s.handle_dialed_back(session, DialBackEnd::Connected, DialBackEnd::Silence);
    }

    /// A whole one, which is made.
    fn dial(&mut self, peer: Known, mapped: SocketAddr) {
        self.ask(peer, TAG, mapped);
        self.assert_dials(peer, mapped);
        self.end(peer.session);
        self.assert_answered(peer, TAG, (DialBackEnd::Connected, DialBackEnd::Silence));
    }

    /// One that is refused: the peer hears it at once, and nobody is dialled.
    fn dial_in_vain(&mut self, peer: Known, mapped: SocketAddr) {
        self.ask(peer, TAG, mapped);
        self.assert_answered(peer, TAG, REFUSED);
    }
}

/// The endpoint of the `number`th address.
fn mapped(number: u32) -> SocketAddr {
    SocketAddr::new(std::net::Ipv4Addr::from_bits(0xc000_0200 + number).into(), 4000)
}

#[test]
fn a_hole_is_dialled_where_it_was_seen_last_and_its_session_hears_how_that_ended() {
    let mut world = World::new();
    let peer = world.open(1);
    world.probe(peer, TAG, 0, "192.0.2.1:1");
    world.dial(peer, addr("192.0.2.1:2"));
    // The same hole once more: the first is over.
    world.say(peer, Message::DialBack { tag: TAG });
    world.assert_dials(peer, addr("192.0.2.1:2"));
    assert_eq!((world.s.stats().dial_backs, world.s.stats().dial_backs_refused), (2, 0));
}

#[test]
fn only_the_session_that_shows_a_hole_has_it_dialled() {
    let mut world = World::new();
    let (peer, other) = (world.open(1), world.open(2));
    world.probe(peer, TAG, 0, "192.0.2.1:1");
    for tag in [TAG, TAG + 1, 0, 1 << 63 | TAG] {
        world.say(other, Message::DialBack { tag });
        world.assert_answered(other, tag, REFUSED);
    }
    // A probe with somebody else's token is that peer's hole, and nobody else's.
    let probe = Probe { token: other.token, tag: TAG, round: 0, local_port: 3000 };
    world.s.handle_probe(&probe, addr("192.0.2.2:2"), S_ADDRESS, world.now);
    world.say(peer, Message::DialBack { tag: TAG });
    world.assert_dials(peer, addr("192.0.2.1:1"));
    assert_eq!((world.s.stats().dial_backs, world.s.stats().dial_backs_refused), (1, 4));
}

#[test]
fn a_hole_that_a_request_has_taken_is_not_dialled_nor_one_that_was_forgotten() {
    let mut world = World::new();
    let (peer, _) = (world.open(1), world.open(2));
    world.probe(peer, TAG, 0, "192.0.2.1:1");
    world.say(peer, Message::Introduce { request: 1, peer: id(2), from: Port::Hole(TAG) });
    world.actions();
    world.say(peer, Message::DialBack { tag: TAG });
    world.assert_answered(peer, TAG, REFUSED);
    for tag in 0..=limits::SPARE_HOLES as u64 {
        world.probe(peer, 100 + tag, 0, "192.0.2.1:1");
    }
    world.say(peer, Message::DialBack { tag: 100 });
    world.assert_answered(peer, 100, REFUSED);
}

#[test]
fn a_hole_that_s_asked_for_is_not_dialled() {
    let mut world = World::new();
    let (a, b) = (world.open(1), world.open_behind(2, Mapping::AddressAndPortDependent));
    world.introduce(a, 1, 2);
    let tag = world.prepared(b, 1);
    world.say(b, Message::DialBack { tag });
    world.assert_answered(b, tag, REFUSED);
}

#[test]
fn a_session_has_one_at_a_time() {
    let mut world = World::new();
    let peer = world.open(1);
    world.ask(peer, TAG, mapped(1));
    world.assert_dials(peer, mapped(1));
    world.ask(peer, TAG + 1, mapped(2));
    world.assert_answered(peer, TAG + 1, REFUSED);
    world.end(peer.session);
    world.assert_answered(peer, TAG, (DialBackEnd::Connected, DialBackEnd::Silence));
    world.dial(peer, mapped(2));
}

#[test]
fn an_address_is_dialled_so_often_in_a_period_whoever_asks() {
    let mut world = World::new();
    let (peer, other) = (world.open(1), world.open(2));
    let port = |number: u32| SocketAddr::new(mapped(1).ip(), 1000 + number as u16);
    for number in 0..limits::DIAL_BACKS_PER_ADDRESS {
        world.dial([peer, other][number as usize % 2], port(number));
    }
    world.dial_in_vain(peer, port(100));
    world.dial_in_vain(other, port(101));
    world.dial(peer, mapped(2));
    world.pass(limits::DIAL_BACK_PERIOD - Duration::from_millis(1));
    world.dial_in_vain(peer, port(102));
    world.pass(Duration::from_millis(1));
    world.dial(peer, port(103));
}

#[test]
fn a_refused_one_costs_the_address_nothing() {
    let mut world = World::new();
    let peer = world.open(1);
    world.ask(peer, TAG, mapped(1));
    for _ in 0..2 * limits::DIAL_BACKS_PER_ADDRESS {
        world.say(peer, Message::DialBack { tag: TAG });
    }
    world.end(peer.session);
    world.actions();
    for _ in 1..limits::DIAL_BACKS_PER_ADDRESS {
        world.dial(peer, mapped(1));
    }
    world.dial_in_vain(peer, mapped(1));
}

#[test]
fn the_addresses_of_one_ipv6_network_are_one() {
    let mut world = World::new();
    let peer = world.open(1);
    for number in 0..limits::DIAL_BACKS_PER_ADDRESS {
        world.dial(peer, addr(&format!("[2001:db8::{number:x}]:1")));
    }
    world.dial_in_vain(peer, addr("[2001:db8:0:0:ffff::1]:1"));
    world.dial(peer, addr("[2001:db8:0:1::1]:1"));
}

#[test]
fn so_many_are_in_progress_in_all() {
    let mut world = World::new();
    let peers: Vec<_> = (0..=limits::DIAL_BACKS).map(|_| world.caller(1)).collect();
    let (last, first) = peers.split_last().unwrap();
    for (number, peer) in (1..).zip(first) {
        world.ask(*peer, TAG, mapped(number));
        world.assert_dials(*peer, mapped(number));
    }
    world.dial_in_vain(*last, mapped(1000));
    world.pass(limits::DIAL_BACK_PERIOD);
    world.dial_in_vain(*last, mapped(1000));
    world.end(first[5].session);
    world.sent();
    world.dial(*last, mapped(1000));
}

#[test]
fn so_many_addresses_are_dialled_in_a_period() {
    let mut world = World::new();
    let peer = world.open(1);
    for number in 0..limits::DIAL_BACK_ADDRESSES as u32 {
        world.dial(peer, mapped(number));
    }
    let next = mapped(limits::DIAL_BACK_ADDRESSES as u32);
    world.dial_in_vain(peer, next);
    world.dial(peer, mapped(7));
    world.pass(limits::DIAL_BACK_PERIOD);
    world.dial(peer, next);
}

#[test]
fn the_operator_may_switch_it_off() {
    let mut world = World::new();
    let peer = world.open(1);
    world.ask(peer, TAG, mapped(1));
    world.assert_dials(peer, mapped(1));
    let config = Config { dial_back: false, ..world.s.config.clone() };
    world.s.set_config(config);
    world.end(peer.session);
    world.assert_answered(peer, TAG, (DialBackEnd::Connected, DialBackEnd::Silence));
    world.dial_in_vain(peer, mapped(1));
    assert_eq!((world.s.stats().dial_backs, world.s.stats().dial_backs_refused), (1, 1));
}

#[test]
fn a_session_that_is_gone_meanwhile_hears_nothing_nor_does_the_next_in_its_place() {
    let mut world = World::with_limits(Limits { departed_peers: 0, ..Limits::default() });
    let gone = world.open(1);
    world.ask(gone, TAG, mapped(1));
    world.assert_dials(gone, mapped(1));
    world.close(gone);
    let next = world.open(1);
    assert_ne!(next.session, gone.session);
    world.ask(next, TAG, mapped(1));
    world.assert_dials(next, mapped(1));
    world.end(gone.session);
    assert_eq!(world.actions(), [], "it is another login's");
    world.end(next.session);
    world.assert_answered(next, TAG, (DialBackEnd::Connected, DialBackEnd::Silence));
    world.close(next);
    world.s.assert_empty();
}

#[test]
fn what_nobody_waits_for_is_nothing() {
    let mut world = World::new();
    let peer = world.open(1);
    world.end(peer.session);
    assert_eq!(world.actions(), [], "nothing was asked for");
    world.dial(peer, mapped(1));
    world.end(peer.session);
    assert_eq!(world.actions(), [], "it has been told");
    world.ask(peer, TAG, mapped(1));
    world.actions();
    world.s.drain("the end", world.now);
    world.actions();
    world.end(peer.session);
    world.s.assert_empty();
}

//! Plain sockets on simulated machines, without any of our programs: what the NATs and the TCP do by
//! themselves.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use gimlet::proto::punch::DialError;

use crate::agreed::{self, Answer, Bench, Knocker, LOCAL, TABLE};
use crate::nat::Nat;
use crate::packet::{Endpoint, MILLISECOND, Nanos, SECOND};
use crate::path::Place;
use crate::router::Habits;
use crate::site::add_access;
use crate::tcp::{Event, SockId};
use crate::topology::S_V4;
use crate::world::{App, WAN, World};

/// Three machines: S, A, B.
struct Plain {
    world: World,
    nat: Nat,
}

const S: usize = 0;
const A: usize = 1;
const B: usize = 2;

impl Plain {
    /// Between all sites, one way, in milliseconds.
    fn between(a: Nat, b: Nat, delay: u64) -> Self {
        let mut world = World::new(1, false);
        let place = Place { access: delay * MILLISECOND / 2, ..Place::default() };
        world.add_host("S", WAN, place, &S_V4, Duration::ZERO, 1);
        for (site, nat) in [(1, a), (2, b)] {
            let (net, ip) = add_access(&mut world, site, nat, place, Habits::LINUX, 7);
            world.add_host("plain", net, place, &[ip], Duration::ZERO, u64::from(site));
        }
        for host in [S, A, B] {
            world.power_on(host, App::Plain(Vec::new()));
        }
        Self { world, nat: a }
    }

    fn pass(&mut self, time: Nanos) {
        self.world.cue(self.world.now + time, 0);
        while self.world.run() != Some(0) {}
    }

    fn listen(&mut self, host: usize, port: u16) {
        self.world.with(host, |_, tcp, _| tcp.listen(port));
    }

    fn dial(&mut self, host: usize, local: u16, to: Endpoint) -> Result<SockId, DialError> {
        self.world.with(host, |_, tcp, now| tcp.dial(local, to, now.at))
    }

    fn events(&mut self, host: usize) -> Vec<(SockId, Event)> {
        self.world.with(host, |app, _, _| match app {
            App::Plain(events) => std::mem::take(events),
            _ => unreachable!("nothing else runs here"),
        })
    }

    /// What became of a dial.
    fn outcome(&mut self, host: usize, sock: SockId) -> Option<Event> {
        let events = self.events(host).into_iter();
        events.filter(|(its, _)| *its == sock).map(|(_, event)| event).next_back()
    }

    fn own(&self, host: usize) -> u32 {
        self.world.hosts[host].tcp.ip()
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::of(address).expect("all is IPv4")
}

impl Bench for Plain {
    fn observe(&mut self, local: u16, address: usize, port: u16) -> SocketAddr {
        self.listen(S, port);
        self.dial(A, local, Endpoint::new(S_V4[address], port)).expect("nothing is in the way");
        self.pass(SECOND);
        let accepted = self.events(S).into_iter().find_map(|(sock, event)| match event {
            Event::Accepted(_) => self.world.hosts[S].tcp.ends(sock),
            _ => None,
        });
        accepted.expect("S accepts").1.into()
    }

    fn refused(&mut self, local: u16, port: u16) {
        let dial = self.dial(A, local, Endpoint::new(S_V4[0], port)).expect("nothing is there");
        self.pass(SECOND);
        let outcome = self.outcome(A, dial);
        assert!(matches!(outcome, Some(Event::Failed(DialError::Refused))), "{outcome:?}");
    }

    fn knock(&mut self, from: Knocker, to: SocketAddr) -> Answer {
        self.listen(A, LOCAL);
        let host = if from == Knocker::Stranger { B } else { S };
        let dial = self.dial(host, 9555, endpoint(to)).expect("nothing is in the way");
        self.pass(400 * MILLISECOND);
        match self.outcome(host, dial) {
            Some(Event::Connected) => Answer::LetIn,
            None => Answer::Silence,
            Some(Event::Failed(_)) => match self.world.last_icmp.take() {
                Some(code) => Answer::Icmp(code),
                None => Answer::Rst,
            },
            other => panic!("{other:?}"),
        }
    }

    fn crosses(&mut self) -> bool {
        let mut both = Self::between(self.nat, self.nat, 20);
        let mut seen = [A, B].map(|host| {
            both.listen(S, 9000 + host as u16);
            both.dial(host, LOCAL, Endpoint::new(S_V4[0], 9000 + host as u16)).expect("it is free");
            both.pass(SECOND);
            let accepted = both.events(S).into_iter().find_map(|(sock, event)| match event {
                Event::Accepted(_) => both.world.hosts[S].tcp.ends(sock),
                _ => None,
            });
            accepted.expect("S accepts").1
        });
        seen.reverse();
        let dials =
            [(A, seen[0]), (B, seen[1])].map(|(host, to)| (host, both.dial(host, LOCAL, to)));
        both.pass(1500 * MILLISECOND);
        dials.into_iter().all(|(host, dial)| {
            let dial = dial.expect("nothing is in the way");
            matches!(both.outcome(host, dial), Some(Event::Connected))
        })
    }
}

#[test]
fn nats_do_what_is_agreed_with_the_lab() {
    for line in &TABLE {
        let nat = Nat::named(line.nat).expect("the table names presets");
        agreed::check(line, &mut Plain::between(nat, Nat::OPEN, 2));
    }
}

// ---- who gets the connection ----------------------------------------------------------------------

fn open(delay: u64) -> Plain {
    Plain::between(Nat::OPEN, Nat::OPEN, delay)
}

fn at(plain: &Plain, host: usize, port: u16) -> Endpoint {
    Endpoint { ip: plain.own(host), port }
}

#[test]
fn dials_that_cross_are_one_connection_and_no_listener_sees_it() {
    let mut plain = open(20);
    plain.listen(A, 1000);
    plain.listen(B, 2000);
    let (a, b) = (at(&plain, A, 1000), at(&plain, B, 2000));
    let dial_a = plain.dial(A, 1000, b).unwrap();
    let dial_b = plain.dial(B, 2000, a).unwrap();
    plain.pass(SECOND);
    let is_one = |events: &[(SockId, Event)], dial| matches!(events, [(sock, Event::Connected)] if *sock == dial);
    assert!(is_one(&plain.events(A), dial_a) && is_one(&plain.events(B), dial_b));
    let [one, other] = [(A, dial_a), (B, dial_b)]
        .map(|(host, dial)| plain.world.hosts[host].tcp.sequences(dial).unwrap());
    assert_eq!(one, (other.1, other.0));
}

#[test]
fn who_comes_first_is_accepted_and_the_other_finds_its_four_tuple_taken() {
    let mut plain = open(20);
    plain.listen(B, 2000);
    let (a, b) = (at(&plain, A, 1000), at(&plain, B, 2000));
    let dial = plain.dial(A, 1000, b).unwrap();
    plain.pass(25 * MILLISECOND);
    assert_eq!(plain.dial(B, 2000, a), Err(DialError::Taken));
    plain.pass(SECOND);
    assert!(matches!(plain.outcome(A, dial), Some(Event::Connected)));
    assert!(matches!(plain.events(B)[..], [(_, Event::Accepted(2000))]));
}

#[test]
fn nobody_listens_and_nobody_crosses() {
    let mut plain = open(20);
    let b = at(&plain, B, 2000);
    let dial = plain.dial(A, 1000, b).unwrap();
    plain.pass(SECOND);
    assert!(matches!(plain.outcome(A, dial), Some(Event::Failed(DialError::Refused))));
    assert_eq!(plain.world.hosts[A].tcp.sockets(), 0);
}

/// "Dial, close, then only listen" fails behind a NAT that looks at sequence numbers; a dial that is not
/// closed is the hole.
#[test]
fn a_listener_behind_a_linux_nat_cannot_answer_for_a_dial_that_was_closed() {
    for closes in [true, false] {
        let mut plain = Plain::between(Nat::PRESERVING, Nat::PRESERVING, 20);
        plain.listen(A, 1000);
        let public = |site: u8| Ipv4Addr::new(192, 0, 2, 16 * site + 1);
        let (a, b) = (Endpoint::new(public(1), 1000), Endpoint::new(public(2), 2000));
        let dial_a = plain.dial(A, 1000, b).unwrap();
        if closes {
            plain.world.with(A, |_, tcp, now| tcp.close(dial_a, now.at));
        }
        plain.pass(100 * MILLISECOND);
        let dial_b = plain.dial(B, 2000, a).unwrap();
        plain.pass(3 * SECOND);
        let connected = matches!(plain.outcome(B, dial_b), Some(Event::Connected));
        assert_eq!(connected, !closes);
    }
}

#[test]
fn a_syn_goes_out_once_a_second_at_first() {
    let mut plain = Plain::between(Nat::OPEN, Nat::PRESERVING, 1);
    let before = plain.world.packets;
    plain.dial(A, 1000, Endpoint::new(Ipv4Addr::new(192, 0, 2, 33), 1)).unwrap();
    let sent: Vec<u64> = (0..7)
        .map(|_| {
            plain.pass(999 * MILLISECOND);
            // Each is noted twice: on its way, and where it is filtered.
            (plain.world.packets - before) / 2
        })
        .collect();
    assert_eq!(sent, [1, 2, 3, 4, 5, 6, 6]);
}

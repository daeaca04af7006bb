//! How long a NAT keeps an idle mapping, asked of a rendezvous on loopback: nothing is lost here. And how
//! much of S's memory such questions can take.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use gimlet::limits;
use gimlet::net::clock;
use gimlet::net::peer::Event;
use gimlet::proto::peer::{self, IdleEnd, Lifetime, LifetimeError};
use gimlet::wire::stun;

use support::World;

#[test]
fn an_idle_connection_is_answered_after_the_time_that_was_asked_for() {
    let mut world = World::new();
    let (a, _) = world.peer(|_| {});
    world.logged_in(a);
    let times = [Duration::from_secs(1), Duration::from_secs(2)];
    let asked = clock::now();
    let measure = |world: &mut World, times: &[Duration]| {
        world.reactor.with_peer(a, |peer, core| {
            let mut result = Ok(());
            peer.command(core, |machine| result = machine.measure_lifetime(times, clock::now()));
            result
        })
    };
    assert_eq!(measure(&mut world, &[]), Err(LifetimeError::Times));
    assert_eq!(measure(&mut world, &times), Ok(()));
    assert_eq!(measure(&mut world, &times), Err(LifetimeError::InProgress));
    let mut ends = Vec::new();
    let known = world.wait(a, |event| match event {
        Event::Peer(peer::Event::IdleMapping { idle, end }) => {
            assert!(clock::now() - asked >= idle);
            ends.push((idle, end));
            None
        }
        Event::Peer(peer::Event::LifetimeKnown(lifetime)) => Some(lifetime),
        _ => None,
    });
    assert_eq!(known, Lifetime { lives: Some(times[1]), gone: None });
    assert_eq!(ends, times.map(|time| (time, IdleEnd::Lives)));
    assert_eq!(measure(&mut world, &times[..1]), Ok(()), "the first one is over");
}

const LONGEST: u32 = limits::DELAYED_ANSWER_TIME.as_secs() as u32;

/// The codes of refusals (RFC 8489 §14.8, RFC 8656 §19).
const BAD_REQUEST: Option<u16> = Some(400);
const QUOTA: Option<u16> = Some(486);
const CAPACITY: Option<u16> = Some(508);

/// A connection to a hole port that asks for late answers.
struct Asker {
    stream: TcpStream,
    received: Vec<u8>,
    /// The number of its last request.
    last: u8,
}

impl Asker {
    /// From an address of the loopback network.
    fn from(world: &mut World, host: u8) -> Self {
        let to = world.rendezvous().hole_addresses()[0];
        let (family, stream) = (socket2::Domain::IPV4, socket2::Type::STREAM);
        let socket = socket2::Socket::new(family, stream, None).unwrap();
        let own: IpAddr = Ipv4Addr::new(127, 0, 0, host).into();
        socket.bind(&SocketAddr::new(own, 0).into()).unwrap();
        socket.connect(&to.into()).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { stream: socket.into(), received: Vec::new(), last: 0 }
    }

    /// Asks for an answer after so many seconds, and says whether that is refused. What follows on the same
    /// connection is answered at once, so that this doesn't take the time.
    fn ask(&mut self, world: &mut World, seconds: u32) -> Option<u16> {
        let (delayed, at_once) = (self.next(), self.next());
        let mut requests = Vec::new();
        stun::delayed_request(&mut requests, &delayed, seconds);
        stun::binding_request(&mut requests, &at_once, None);
        self.stream.write_all(&requests).unwrap();
        let mut refusal = None;
        loop {
            match self.answer(world) {
                (transaction, Ok(_)) if transaction == at_once => return refusal,
                (transaction, Err(code)) if transaction == delayed => refusal = Some(code),
                other => panic!("{other:?}"),
            }
        }
    }

    fn next(&mut self) -> stun::Transaction {
        self.last += 1;
        [self.last; 12]
    }

    /// The next answer: the endpoint that S sees, or the code of an error.
    fn answer(&mut self, world: &mut World) -> (stun::Transaction, Result<SocketAddr, u16>) {
        let mut answer = None;
        world.until("S answers", |_| {
            let mut chunk = [0; 512];
            match self.stream.read(&mut chunk) {
                Ok(0) => panic!("the hole port closed the connection"),
                Ok(length) => self.received.extend_from_slice(&chunk[..length]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            let decoded = stun::decode(&self.received).unwrap();
            let Some((message, used)) = decoded else { return false };
            answer = Some(match message {
                stun::Message::Success(success) => (success.transaction, Ok(success.mapped)),
                stun::Message::Error(error) => (error.transaction, Err(error.code)),
                other => panic!("{other:?}"),
            });
            self.received.drain(..used);
            true
        });
        answer.unwrap()
    }

    /// Hangs up, and S has noticed.
    fn leave(self, world: &mut World) {
        let before = world.rendezvous().sockets();
        drop(self);
        world.until("S has noticed", |world| world.rendezvous().sockets() < before);
    }
}

#[test]
fn an_address_has_so_many_answers_waiting_and_those_that_hang_up_count_no_more() {
    let mut world = World::new();
    let mut askers = Vec::new();
    for number in 0..limits::DELAYED_ANSWERS_PER_ADDRESS {
        let mut asker = Asker::from(&mut world, 1);
        assert_eq!(asker.ask(&mut world, LONGEST), None, "{number}");
        askers.push(asker);
    }
    let mut late = Asker::from(&mut world, 1);
    assert_eq!(late.ask(&mut world, 1), QUOTA);
    let mut other = Asker::from(&mut world, 2);
    assert_eq!(other.ask(&mut world, LONGEST), None, "another address has its own");
    askers.pop().unwrap().leave(&mut world);
    assert_eq!(late.ask(&mut world, 1), None);
    assert!(late.answer(&mut world).1.is_ok());
    // It has been answered, so that there is room for another.
    assert_eq!(late.ask(&mut world, LONGEST), None);
    assert_eq!(Asker::from(&mut world, 1).ask(&mut world, 1), QUOTA);
}

#[test]
fn so_many_answers_wait_in_all_and_those_that_hang_up_count_no_more() {
    let mut world = World::with(|options| options.limits.delayed_answers = 3);
    let mut askers: Vec<_> = (1..=3).map(|host| Asker::from(&mut world, host)).collect();
    for asker in &mut askers {
        assert_eq!(asker.ask(&mut world, LONGEST), None);
    }
    let mut late = Asker::from(&mut world, 4);
    assert_eq!(late.ask(&mut world, 1), CAPACITY);
    askers.pop().unwrap().leave(&mut world);
    assert_eq!(late.ask(&mut world, LONGEST), None);
    assert_eq!(Asker::from(&mut world, 5).ask(&mut world, 1), CAPACITY);
}

#[test]
fn a_connection_has_one_answer_waiting_and_none_for_longer_than_the_bound() {
    let mut world = World::new();
    let mut asker = Asker::from(&mut world, 1);
    assert_eq!(asker.ask(&mut world, LONGEST + 1), BAD_REQUEST);
    assert_eq!(asker.ask(&mut world, u32::MAX), BAD_REQUEST);
    assert_eq!(asker.ask(&mut world, LONGEST), None);
    assert_eq!(asker.ask(&mut world, 1), BAD_REQUEST, "the first one waits");
    let deserted = world.rendezvous().sockets() - 1;
    asker.leave(&mut world);
    assert_eq!(world.rendezvous().sockets(), deserted);
    assert_eq!(Asker::from(&mut world, 1).ask(&mut world, LONGEST), None);
}

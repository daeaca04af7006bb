//! The relay on loopback: real sockets, S and both peers in one thread.
#![allow(clippy::disallowed_methods, reason = "tests have deadlines of their own")]

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use gimlet::identity::{PeerId, SecretKey, ServerAddr};
use gimlet::limits;
use gimlet::net::peer::{Event, LocalEnd, Options, PeerHost, Service, StreamId};
use gimlet::net::reactor::{HostId, Reactor};
use gimlet::net::rendezvous::{self, RendezvousHost};
use gimlet::proto::peer;
use gimlet::proto::punch::report::Report;
use gimlet::proto::punch::{DialEnd, Outcome, Preference, PunchError};
use gimlet::proto::rendezvous::RelayEnd;
use gimlet::wire::message::{Allow, Role};
use gimlet::wire::record::Purpose;
use gimlet::wire::refusal::RelayRefusal;
use gimlet::wire::stun;

const DEADLINE: Duration = Duration::from_secs(20);
const MIB: usize = 1 << 20;

/// A rendezvous, A who asks, and B.
struct World {
    reactor: Reactor,
    s: HostId,
    a: HostId,
    b: HostId,
    b_id: PeerId,
}

/// Both ends of a relayed stream.
#[derive(Clone, Copy)]
struct Streams {
    a: StreamId,
    b: StreamId,
}

impl World {
    fn new(change: impl FnOnce(&mut rendezvous::Options)) -> Self {
        Self::behind(change, |main, _| main)
    }

    /// `front` says where the peers find S, whose main and hole addresses it is told.
    fn behind(
        change: impl FnOnce(&mut rendezvous::Options),
        front: impl FnOnce(SocketAddr, SocketAddr) -> SocketAddr,
    ) -> Self {
        let mut reactor = Reactor::new().unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let mut options = rendezvous::Options {
            key: Arc::new(SecretKey::generate()),
            main: vec![any],
            holes: vec![any],
            text: String::new(),
            relay: true,
            dial_back: true,
            limits: rendezvous::Limits::default(),
        };
        change(&mut options);
        let open = |core: &mut _, id| RendezvousHost::open(core, id, options, [7; 32]);
        let s = reactor.add_rendezvous(open).unwrap();
        let host = reactor.rendezvous(s);
        let at = front(host.main_addresses()[0], host.hole_addresses()[0]);
        let server = ServerAddr { key: None, host: at.ip().to_string(), port: at.port() };
        let (b, b_id) = add_peer(&mut reactor, &server, Allow { anyone: true, peers: vec![] });
        let (a, _) = add_peer(&mut reactor, &server, Allow::default());
        let mut world = Self { reactor, s, a, b, b_id };
        for host in [a, b] {
            world.wait(host, |event| {
                matches!(event, Event::Peer(peer::Event::LoggedIn { .. })).then_some(())
            });
        }
        world
    }

    fn turn(&mut self, deadline: Instant) {
        assert!(Instant::now() < deadline, "nothing came in time");
        self.reactor.turn(Some(deadline)).unwrap();
    }

    fn wait<T>(&mut self, host: HostId, mut want: impl FnMut(Event) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            while let Some(event) = self.reactor.peer(host).poll_event() {
                if let Some(found) = want(event) {
                    return found;
                }
            }
            self.turn(deadline);
        }
    }

    fn until(&mut self, mut done: impl FnMut(&mut RendezvousHost) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !done(self.reactor.rendezvous(self.s)) {
            self.turn(deadline);
        }
    }

    fn ask(&mut self, preference: Preference) {
        let (b_id, purpose) = (self.b_id, Purpose::Stream("echo".into()));
        let asked = self.reactor.with_peer(self.a, |peer, core| {
            peer.connect(core, b_id, preference, purpose, LocalEnd::Application)
        });
        asked.unwrap();
    }

    fn connect(&mut self, preference: Preference) -> (Streams, Box<Report>) {
        self.ask(preference);
        let (a, report) = self.wait(self.a, |event| match event {
            Event::Connected { stream, report, .. } => Some((stream, report)),
            Event::Failed { report, .. } => panic!("{report}"),
            _ => None,
        });
        let b = self.wait(self.b, |event| match event {
            Event::Incoming { stream, .. } => Some(stream),
            _ => None,
        });
        (Streams { a, b }, report)
    }

    fn relayed(&mut self) -> Streams {
        let (streams, report) = self.connect(Preference::RelayOnly);
        assert!(report.is_relayed(), "{report}");
        streams
    }

    fn failure(&mut self, preference: Preference) -> Box<Report> {
        self.ask(preference);
        self.wait(self.a, |event| match event {
            Event::Connected { report, .. } => panic!("{report}"),
            Event::Failed { report, .. } => Some(report),
            _ => None,
        })
    }

    /// Writes as much as there is room for.
    fn write(&mut self, host: HostId, stream: StreamId, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            let write =
                |peer: &mut PeerHost, core: &mut _| peer.write(core, stream, &bytes[sent..]);
            match self.reactor.with_peer(host, write) {
                Ok(length) => sent += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        sent
    }

    /// Reads what is there. Says whether that was the end.
    fn read(&mut self, host: HostId, stream: StreamId, into: &mut Vec<u8>) -> bool {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = |peer: &mut PeerHost, core: &mut _| peer.read(core, stream, &mut buffer);
            match self.reactor.with_peer(host, read) {
                Ok(0) => return true,
                Ok(length) => into.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn finish(&mut self, host: HostId, stream: StreamId) {
        self.reactor.with_peer(host, |peer, core| peer.finish(core, stream)).unwrap();
    }

    /// Sends all of `bytes` one way, to the end of that direction; returns what arrived.
    fn send(&mut self, from: (HostId, StreamId), to: (HostId, StreamId), bytes: &[u8]) -> Vec<u8> {
        let deadline = Instant::now() + DEADLINE;
        let (mut sent, mut received) = (0, Vec::new());
        loop {
            if sent < bytes.len() {
                sent += self.write(from.0, from.1, &bytes[sent..]);
                if sent == bytes.len() {
                    self.finish(from.0, from.1);
                }
            }
            if self.read(to.0, to.1, &mut received) {
                return received;
            }
            let held = self.reactor.rendezvous(self.s).relay_backlog();
            assert!(held <= 2 * limits::RELAY_TURN_BYTES, "S holds {held} bytes");
            self.turn(deadline);
        }
    }
}

fn add_peer(reactor: &mut Reactor, server: &ServerAddr, allow: Allow) -> (HostId, PeerId) {
    let key = Arc::new(SecretKey::generate());
    let id = PeerId::of(key.public());
    let options = Options {
        key,
        server: server.clone(),
        reachable: true,
        allow,
        services: HashMap::from([("echo".to_string(), Service::Application)]),
        reconnect: false,
        agent: "test".into(),
        spare_holes: 0,
        follow_network: false,
        port_mapping: false,
    };
    (reactor.add_peer(|core, host| PeerHost::open(core, host, options, 1)), id)
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

/// Nobody is slowed down.
fn unhurried(options: &mut rendezvous::Options) {
    options.limits.relay_bytes_per_second = 1 << 40;
    options.limits.relay_total_bytes_per_second = 1 << 40;
}

// ---- what flows ---------------------------------------------------------------------------------

#[test]
fn megabytes_both_ways_and_one_half_after_the_other() {
    carries_megabytes(true);
}

#[test]
fn megabytes_both_ways_where_bytes_are_copied() {
    carries_megabytes(false);
}

fn carries_megabytes(splice: bool) {
    let mut world = World::new(unhurried);
    world.reactor.rendezvous(world.s).set_splice(splice);
    let before = world.reactor.rendezvous(world.s).sockets();
    let Streams { a, b } = world.relayed();
    let (a, b) = ((world.a, a), (world.b, b));
    let (there, back) = (noise(1, 3 * MIB), noise(2, 2 * MIB));
    let start = Instant::now();
    assert!(world.send(a, b, &there) == there, "B received other bytes");
    println!(
        "splice {splice}: {:.0} MB/s",
        there.len() as f64 / 1e6 / start.elapsed().as_secs_f64()
    );
    // A has finished: B speaks on.
    assert!(world.send(b, a, &back) == back, "A received other bytes");
    let closed = |event| match event {
        Event::Closed { end, .. } => Some(end),
        _ => None,
    };
    assert_eq!(world.wait(world.a, closed).error, None);
    assert_eq!(world.wait(world.b, closed).error, None);
    world.until(|s| s.machine().relays() == 0);
    let s = world.reactor.rendezvous(world.s);
    let stats = s.machine().stats();
    assert!(stats.relayed_bytes > 5 * MIB as u64, "{stats:?}");
    assert_eq!(stats.relayed_bytes, s.counters().relayed_bytes);
    assert_eq!((stats.relays_started, stats.relays_ended[&RelayEnd::Finished]), (1, 1));
    assert_eq!(stats.introductions_relayed, 1);
    assert_eq!(s.sockets(), before, "no socket is left");
}

#[test]
fn a_slow_reader_slows_the_writer() {
    for splice in [true, false] {
        let mut world = World::new(unhurried);
        world.reactor.rendezvous(world.s).set_splice(splice);
        let Streams { a, b } = world.relayed();
        let bytes = noise(3, 32 * MIB);
        let mut sent = 0;
        let mut stalled = Instant::now();
        while stalled.elapsed() < Duration::from_millis(300) {
            let written = world.write(world.a, a, &bytes[sent..]);
            sent += written;
            if written > 0 {
                stalled = Instant::now();
            }
            world.reactor.turn(Some(Instant::now() + Duration::from_millis(20))).unwrap();
            let held = world.reactor.rendezvous(world.s).relay_backlog();
            assert!(held <= limits::RELAY_TURN_BYTES, "S holds {held} bytes");
        }
        let held = world.reactor.rendezvous(world.s).relay_backlog();
        println!("splice {splice}: stalled after {sent} bytes, {held} of them at S");
        assert!(held > 0 && sent < bytes.len());
        let (a, b) = ((world.a, a), (world.b, b));
        // Whoever reads again gets it all.
        let rest = world.send(a, b, &bytes[sent..]);
        assert!(rest == bytes, "B received other bytes");
        assert_eq!(world.reactor.rendezvous(world.s).relay_backlog(), 0);
    }
}

#[test]
fn a_pair_flows_no_faster_than_it_may() {
    let mut world = World::new(|options| options.limits.relay_bytes_per_second = 1 << 20);
    let Streams { a, b } = world.relayed();
    let (a, b) = ((world.a, a), (world.b, b));
    let bytes = noise(4, MIB);
    let start = Instant::now();
    assert!(world.send(a, b, &bytes) == bytes);
    let took = start.elapsed();
    println!("1 MiB at 1 MiB/s: {took:?}");
    // A quarter of a second's worth comes at once.
    assert!(took > Duration::from_millis(600) && took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn the_rendezvous_sees_ciphertext_alone() {
    let tapped = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&tapped);
    let mut world = World::behind(unhurried, |main, hole| {
        tap(hole, Arc::clone(&seen));
        tap(main, Arc::default())
    });
    let Streams { a, b } = world.relayed();
    let secret = b"attack at dawn; ".repeat(8 << 10);
    let (a, b) = ((world.a, a), (world.b, b));
    assert!(world.send(a, b, &secret) == secret);
    assert!(world.send(b, a, &secret) == secret);
    let seen = tapped.lock().unwrap();
    let holds = |word: &[u8]| seen.windows(word.len()).any(|window| window == word);
    assert!(seen.len() > 4 * secret.len(), "both peers' connections go through the tap");
    assert!(holds(&0xC7CE_u16.to_be_bytes()), "the requests are in the clear");
    assert!(!holds(b"attack") && !holds(b"dawn"));
}

/// Forwards 127.0.0.2 to `to`, same port, and keeps all bytes. Returns where it listens.
fn tap(to: SocketAddr, seen: Arc<Mutex<Vec<u8>>>) -> SocketAddr {
    let at: SocketAddr = ([127, 0, 0, 2], to.port()).into();
    let listener = TcpListener::bind(at).unwrap();
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Ok(far) = TcpStream::connect(to) else { continue };
            for (from, to) in [(&near, &far), (&far, &near)] {
                let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                let seen = Arc::clone(&seen);
                thread::spawn(move || forward(from, to, &seen));
            }
        }
    });
    at
}

fn forward(mut from: TcpStream, mut to: TcpStream, seen: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        seen.lock().unwrap().extend_from_slice(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // It may have gone already.
    let _ = to.shutdown(std::net::Shutdown::Write);
}

// ---- what does not ------------------------------------------------------------------------------

#[test]
fn a_direct_connection_leaves_the_relay_alone() {
    let mut world = World::new(|_| {});
    let (_, report) = world.connect(Preference::Any);
    assert!(!report.is_relayed() && report.relay_offered, "{report}");
    let s = world.reactor.rendezvous(world.s);
    assert_eq!((s.machine().relays(), s.counters().relayed_bytes), (0, 0));
}

#[test]
fn a_quota_is_refused_with_its_name() {
    let mut world = World::new(|options| options.limits.relays_per_peer = 1);
    world.relayed();
    let report = world.failure(Preference::RelayOnly);
    assert_eq!(report.outcome, Outcome::Failed(PunchError::NoConnection));
    let end = report.relay.as_ref().map(|dial| dial.end);
    assert_eq!(end, Some(DialEnd::RelayRefused(RelayRefusal::Quota)), "{report}");
    let s = world.reactor.rendezvous(world.s);
    assert_eq!(s.machine().stats().relays_refused[&RelayRefusal::Quota], 1);
}

#[test]
fn switched_off_there_is_no_connection() {
    let mut world = World::new(|options| options.relay = false);
    let report = world.failure(Preference::RelayOnly);
    assert_eq!(report.outcome, Outcome::Failed(PunchError::NoConnection));
    assert!(!report.relay_offered && report.relay.is_none(), "{report}");
}

#[test]
fn an_idle_pair_is_closed() {
    let mut world = World::new(|options| {
        options.limits.relay_idle_time = Duration::from_millis(200);
    });
    world.relayed();
    for host in [world.a, world.b] {
        world.wait(host, |event| match event {
            Event::Closed { end, .. } => end.error,
            _ => None,
        });
    }
    let stats = world.reactor.rendezvous(world.s).machine().stats();
    assert_eq!(stats.relays_ended[&RelayEnd::Idle], 1);
}

#[test]
fn a_peer_that_dies_takes_the_pair_with_it_and_the_other_hears_of_it() {
    let mut world = World::new(|_| {});
    let Streams { a, .. } = world.relayed();
    world.write(world.a, a, b"half a word");
    world.reactor.remove(world.a);
    let end = world.wait(world.b, |event| match event {
        Event::Closed { end, .. } => Some(end),
        _ => None,
    });
    assert!(end.error.is_some());
    world.until(|s| s.machine().relays() == 0);
}

#[test]
fn strangers_are_refused_and_who_speaks_too_early_is_closed() {
    let mut world = World::new(|_| {});
    let hole = world.reactor.rendezvous(world.s).hole_addresses()[0];
    let join =
        stun::Join { session: [1; 16], introduction: 1, token: [2; 16], role: Role::Controller };
    let mut request = Vec::new();
    stun::relay_request(&mut request, &[3; 12], &join);
    let answer = world.say(hole, &request);
    let Ok(Some((stun::Message::Error(error), _))) = stun::decode(&answer) else {
        panic!("{answer:02x?}")
    };
    assert_eq!(RelayRefusal::from_code(error.code), RelayRefusal::Unknown);
    request.push(0);
    assert!(world.say(hole, &request).is_empty(), "closed without a word");
    assert_eq!(world.reactor.rendezvous(world.s).counters().bad_stun, 1);
}

impl World {
    /// What S says to these bytes, until it pauses or closes.
    fn say(&mut self, to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.write_all(bytes).unwrap();
        stream.set_nonblocking(true).unwrap();
        let deadline = Instant::now() + DEADLINE;
        let mut said = vec![0; 1024];
        loop {
            match stream.read(&mut said) {
                Ok(length) => {
                    said.truncate(length);
                    return said;
                }
                // Closed with a byte unread.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Vec::new(),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            assert!(Instant::now() < deadline, "S says nothing");
            self.reactor.turn(Some(Instant::now() + Duration::from_millis(10))).unwrap();
        }
    }
}

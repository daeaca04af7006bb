//! The whole system on loopback, in one process and one thread: real sockets, no NAT.
#![allow(clippy::disallowed_methods, reason = "tests have deadlines of their own")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gimlet::identity::{PeerId, SecretKey, ServerAddr};
use gimlet::net::peer::{Event, LocalEnd, Options, PeerHost, Service, StreamId};
use gimlet::net::reactor::{HostId, Reactor};
use gimlet::net::rendezvous::{self, RendezvousHost};
use gimlet::proto::peer;
use gimlet::proto::punch::Preference;
use gimlet::wire::message::Allow;
use gimlet::wire::record::Purpose;

const DEADLINE: Duration = Duration::from_secs(20);

struct World {
    reactor: Reactor,
    server: HostId,
    address: ServerAddr,
}

impl World {
    fn new() -> Self {
        let mut reactor = Reactor::new().unwrap();
        let key = Arc::new(SecretKey::generate());
        let id = PeerId::of(key.public());
        let any = "127.0.0.1:0".parse().unwrap();
        let options = rendezvous::Options {
            key,
            main: vec![any],
            holes: vec![any, any],
            text: "hello".into(),
            relay: true,
            limits: rendezvous::Limits::default(),
        };
        let server = reactor
            .add_rendezvous(|core, id| RendezvousHost::open(core, id, options, [7; 32]))
            .unwrap();
        let main = reactor.rendezvous(server).main_addresses()[0];
        let address = ServerAddr { key: Some(id), host: main.ip().to_string(), port: main.port() };
        Self { reactor, server, address }
    }

    fn peer(&mut self, change: impl FnOnce(&mut Options)) -> (HostId, PeerId) {
        let key = Arc::new(SecretKey::generate());
        let id = PeerId::of(key.public());
        let mut options = Options {
            key,
            server: self.address.clone(),
            reachable: true,
            allow: Allow::default(),
            services: HashMap::new(),
            reconnect: true,
            agent: "test".into(),
            spare_holes: 0,
        };
        change(&mut options);
        let host = self.reactor.add_peer(|core, host| PeerHost::open(core, host, options, 1));
        (host, id)
    }

    fn wait<T>(&mut self, host: HostId, mut want: impl FnMut(Event) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            while let Some(event) = self.reactor.peer(host).poll_event() {
                eprintln!("{host:?}: {event:?}");
                if let Some(found) = want(event) {
                    return found;
                }
            }
            assert!(Instant::now() < deadline, "nothing came");
            self.reactor.turn(Some(deadline)).unwrap();
        }
    }

    fn logged_in(&mut self, host: HostId) {
        self.wait(host, |event| {
            matches!(event, Event::Peer(peer::Event::LoggedIn { .. })).then_some(())
        });
    }
}

fn echo(options: &mut Options) {
    options.allow.anyone = true;
    options.services.insert("echo".into(), Service::Application);
}

#[test]
fn two_peers_connect_and_talk() {
    let mut world = World::new();
    let (b, b_id) = world.peer(echo);
    let (a, _) = world.peer(|_| {});
    world.logged_in(b);
    world.logged_in(a);
    world
        .reactor
        .with_peer(a, |peer, core| {
            let purpose = Purpose::Stream("echo".into());
            peer.connect(core, b_id, Preference::Any, purpose, LocalEnd::Application)
        })
        .unwrap();
    let stream = world.wait(a, |event| match event {
        Event::Connected { stream, report, .. } => {
            eprintln!("{report}");
            Some(stream)
        }
        Event::Failed { report, .. } => panic!("{report}"),
        _ => None,
    });
    world.wait(a, |event| matches!(event, Event::Opened(_)).then_some(()));
    let incoming: StreamId = world.wait(b, |event| match event {
        Event::Incoming { stream, .. } => Some(stream),
        _ => None,
    });
    let sent = world.reactor.with_peer(a, |p, core| p.write(core, stream, b"ping")).unwrap();
    assert_eq!(sent, 4);
    world.wait(b, |event| matches!(event, Event::Readable(_)).then_some(()));
    let mut buffer = [0; 10];
    let read = world.reactor.with_peer(b, |p, core| p.read(core, incoming, &mut buffer)).unwrap();
    assert_eq!(&buffer[..read], b"ping");
    world.reactor.with_peer(a, |p, core| p.finish(core, stream)).unwrap();
    world.reactor.with_peer(b, |p, core| p.finish(core, incoming)).unwrap();
    world.wait(b, |event| matches!(event, Event::Readable(_)).then_some(()));
    let read = world.reactor.with_peer(b, |p, core| p.read(core, incoming, &mut buffer)).unwrap();
    assert_eq!(read, 0);
    world.wait(a, |event| matches!(event, Event::Readable(_)).then_some(()));
    let read = world.reactor.with_peer(a, |p, core| p.read(core, stream, &mut buffer)).unwrap();
    assert_eq!(read, 0);
    world.wait(a, |event| match event {
        Event::Closed { end, .. } => Some(assert_eq!(end.error, None)),
        _ => None,
    });
}

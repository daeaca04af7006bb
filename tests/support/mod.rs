//! The world that the tests on loopback live in: one reactor, in one thread, with a rendezvous and its
//! peers. Every wait has a deadline, and nothing sleeps.
#![allow(dead_code, reason = "each test needs its part of it")]
#![allow(clippy::disallowed_methods, reason = "tests have deadlines of their own")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gimlet::identity::{PeerId, SecretKey, ServerAddr};
use gimlet::net::peer::{Event, LocalEnd, Options, PeerHost, Service, StreamId};
use gimlet::net::reactor::{HostId, Reactor};
use gimlet::net::rendezvous::{self, RendezvousHost};
use gimlet::proto::peer::{self, PunchId};
use gimlet::proto::punch::{Preference, Report};
use gimlet::wire::message::{Allow, Nat};
use gimlet::wire::record::Purpose;

/// No wait of a test is longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(40);

/// How long a turn may wait for events while the test has sockets of its own to look at.
const GLANCE: Duration = Duration::from_millis(1);

/// Tests that count the descriptors of the process run one after the other.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // A test that failed has its own report; the others may still pass.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A reactor with a rendezvous on loopback.
pub(crate) struct World {
    pub(crate) reactor: Reactor,
    pub(crate) server: HostId,
    pub(crate) address: ServerAddr,
}

/// What is open. Whatever an attacker does, it comes back to what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Census {
    /// Registered in the reactor.
    pub(crate) sockets: usize,
    /// Of the rendezvous.
    pub(crate) server_sockets: usize,
    pub(crate) sessions: usize,
    pub(crate) introductions: usize,
    /// Of the whole process, without what the relay keeps for the next who needs it.
    pub(crate) descriptors: usize,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut rendezvous::Options)) -> Self {
        let mut reactor = Reactor::new().unwrap();
        let key = Arc::new(SecretKey::generate());
        let id = PeerId::of(key.public());
        let any = "127.0.0.1:0".parse().unwrap();
        let mut options = rendezvous::Options {
            key,
            main: vec![any],
            holes: vec![any, any],
            text: "hello".into(),
            relay: true,
            dial_back: true,
            limits: rendezvous::Limits::default(),
        };
        change(&mut options);
        let server = reactor
            .add_rendezvous(|core, id| RendezvousHost::open(core, id, options, [7; 32]))
            .unwrap();
        let main = reactor.rendezvous(server).main_addresses()[0];
        let address = ServerAddr { key: Some(id), host: main.ip().to_string(), port: main.port() };
        Self { reactor, server, address }
    }

    // ---- peers ----

    /// A peer that begins to log in.
    pub(crate) fn peer(&mut self, change: impl FnOnce(&mut Options)) -> (HostId, PeerId) {
        let key = Arc::new(SecretKey::generate());
        let mut options = Options {
            key,
            server: self.address.clone(),
            reachable: true,
            allow: Allow::default(),
            services: HashMap::new(),
            reconnect: true,
            agent: "test".into(),
            spare_holes: 0,
            follow_network: false,
            port_mapping: false,
        };
        change(&mut options);
        let id = PeerId::of(options.key.public());
        let seed = u64::from(options.key.public().as_bytes()[0]);
        let host = self.reactor.add_peer(|core, host| PeerHost::open(core, host, options, seed));
        (host, id)
    }

    pub(crate) fn logged_in(&mut self, host: HostId) {
        self.wait(host, |event| {
            matches!(event, Event::Peer(peer::Event::LoggedIn { .. })).then_some(())
        });
    }

    /// Logged in, and done with looking at its NAT: it has no more sockets than it needs.
    pub(crate) fn settled(&mut self, host: HostId) -> Nat {
        self.wait(host, |event| match event {
            Event::Peer(peer::Event::NatSettled(nat)) => Some(nat),
            _ => None,
        })
    }

    pub(crate) fn is_logged_in(&mut self, host: HostId) -> bool {
        self.reactor.peer(host).machine().is_logged_in()
    }

    /// Two peers that are logged in: one that asks, and one that answers everybody.
    pub(crate) fn pair(&mut self) -> (HostId, HostId, PeerId) {
        let (b, b_id) = self.peer(echo);
        let (a, _) = self.peer(|_| {});
        self.logged_in(b);
        self.logged_in(a);
        (a, b, b_id)
    }

    /// Asks for a stream to the service `echo`.
    pub(crate) fn ask(&mut self, from: HostId, to: PeerId) -> PunchId {
        self.reactor
            .with_peer(from, |peer, core| {
                let purpose = Purpose::Stream("echo".into());
                peer.connect(core, to, Preference::Any, purpose, LocalEnd::Application)
            })
            .unwrap()
    }

    /// Asks for a stream, and waits until it stands.
    pub(crate) fn connect(&mut self, from: HostId, to: PeerId) -> (StreamId, Box<Report>) {
        let asked = self.ask(from, to);
        self.wait(from, |event| match event {
            Event::Connected { punch, stream, report } if punch == asked => Some((stream, report)),
            Event::Failed { punch, report } if punch == asked => panic!("{report}"),
            _ => None,
        })
    }

    /// Two new peers log in, connect, and hear each other; then they go.
    pub(crate) fn healthy_pair_connects(&mut self) {
        let (a, b, b_id) = self.pair();
        self.connects_and_talks(a, b, b_id);
        self.reactor.remove(a);
        self.reactor.remove(b);
    }

    /// `a` connects to `b`, and a word goes each way.
    pub(crate) fn connects_and_talks(&mut self, a: HostId, b: HostId, b_id: PeerId) -> Box<Report> {
        let (stream, report) = self.connect(a, b_id);
        let incoming = self.wait(b, |event| match event {
            Event::Incoming { stream, .. } => Some(stream),
            _ => None,
        });
        self.says(a, stream, b, incoming, b"ping");
        self.says(b, incoming, a, stream, b"pong");
        report
    }

    fn says(&mut self, from: HostId, out: StreamId, to: HostId, into: StreamId, word: &[u8]) {
        let sent = self.reactor.with_peer(from, |p, core| p.write(core, out, word)).unwrap();
        assert_eq!(sent, word.len());
        let mut heard = Vec::new();
        let mut buffer = [0; 100];
        self.until("a word arrives", |world| {
            match world.reactor.with_peer(to, |p, core| p.read(core, into, &mut buffer)) {
                Ok(length) => heard.extend_from_slice(&buffer[..length]),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
            heard.len() >= word.len()
        });
        assert_eq!(heard, word);
    }

    // ---- waiting ----

    /// Turns until a peer says what is wanted. What it says before that is thrown away.
    pub(crate) fn wait<T>(&mut self, host: HostId, mut want: impl FnMut(Event) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        let mut said = Vec::new();
        loop {
            while let Some(event) = self.reactor.peer(host).poll_event() {
                said.push(format!("{event:?}"));
                if let Some(found) = want(event) {
                    return found;
                }
            }
            assert!(Instant::now() < deadline, "in vain; {host:?} has said {said:#?}");
            self.reactor.turn(Some(deadline)).unwrap();
        }
    }

    /// Turns until something is so. For what the reactor doesn't know of: raw sockets, counts.
    pub(crate) fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "in vain: {what}");
            self.turn();
        }
    }

    /// One turn, and not a long one.
    pub(crate) fn turn(&mut self) {
        self.reactor.turn(Some(Instant::now() + GLANCE)).unwrap();
    }

    // ---- counting ----

    pub(crate) fn rendezvous(&mut self) -> &mut RendezvousHost {
        self.reactor.rendezvous(self.server)
    }

    /// Whether the rendezvous has nothing but its listeners: no session, no probe, no dial back.
    pub(crate) fn is_deserted(&mut self) -> bool {
        let rendezvous = self.rendezvous();
        let listeners = rendezvous.main_addresses().len() + rendezvous.hole_addresses().len();
        rendezvous.machine().sessions() == 0 && rendezvous.sockets() == listeners
    }

    pub(crate) fn census(&mut self) -> Census {
        let sockets = self.reactor.sockets();
        let rendezvous = self.rendezvous();
        Census {
            sockets,
            server_sockets: rendezvous.sockets(),
            sessions: rendezvous.machine().sessions(),
            introductions: rendezvous.machine().introductions(),
            descriptors: descriptors().saturating_sub(2 * rendezvous.spare_pipes()),
        }
    }

    /// Turns until everything is as it was: nothing has leaked.
    pub(crate) fn comes_back_to(&mut self, before: Census) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let now = self.census();
            if now == before {
                return;
            }
            assert!(Instant::now() < deadline, "it was {before:?} and stays {now:?}");
            self.turn();
        }
    }
}

/// For [`World::peer`]: answers everybody, with the service `echo` in the hands of the test.
pub(crate) fn echo(options: &mut Options) {
    options.allow.anyone = true;
    options.services.insert("echo".into(), Service::Application);
}

/// Open descriptors of this process.
pub(crate) fn descriptors() -> usize {
    match std::fs::read_dir("/proc/self/fd") {
        Ok(entries) => entries.count(),
        // Another system: the other counts must do.
        Err(_) => 0,
    }
}

/// Chance that can be replayed.
pub(crate) fn random(seed: u64) -> fastrand::Rng {
    fastrand::Rng::with_seed(seed)
}

//! A rendezvous machine whose links are numbers, and other things that are benchmarked in more than one way.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use gimlet::identity::{PeerId, PublicKey};
use gimlet::proto::punch::strategy;
use gimlet::proto::rendezvous::{Action, Config, Limits, LinkId, Rendezvous, SessionId};
use gimlet::proto::timers::Timers;
use gimlet::wire::message::{Allocation, Allow, Login, Mapping, Message, Nat, Port, RoundResult};

/// A rendezvous with many sessions, none of which says anything.
pub(crate) struct World {
    s: Rendezvous,
    now: Instant,
    sessions: Vec<SessionId>,
    random: fastrand::Rng,
}

fn key(number: u32) -> PublicKey {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    PublicKey::from_bytes(bytes)
}

fn id(number: u32) -> PeerId {
    key(number).peer_id()
}

fn login() -> Login {
    Login {
        reachable: true,
        nonce: [1; 16],
        local_port: 1000,
        hosts: vec![Ipv4Addr::new(192, 168, 0, 2).into()],
        allow: Allow { anyone: true, peers: Vec::new() },
        agent: String::new(),
        nat: Nat { mapping: Mapping::EndpointIndependent, ..Nat::default() },
    }
}

impl World {
    #[allow(clippy::disallowed_methods, reason = "a benchmark may take any instant as its origin")]
    pub(crate) fn with_sessions(count: u32) -> Self {
        let limits = Limits { sessions: usize::MAX, ..Limits::default() };
        let config = Config { limits, ..Config::default() };
        let s = Rendezvous::new(config, [7; 32]);
        let random = fastrand::Rng::with_seed(u64::from(count));
        let mut world = Self { s, now: Instant::now(), sessions: Vec::new(), random };
        for number in 0..count {
            let session = world.log_in(number);
            world.sessions.push(session);
        }
        world
    }

    fn log_in(&mut self, number: u32) -> SessionId {
        let remote = SocketAddr::new(Ipv4Addr::from(0x0a00_0000 + number).into(), 1000);
        let (link, round_trip) = (LinkId(u64::from(number)), Duration::from_millis(20));
        let session = self.s.handle_login(link, remote, key(number), login(), round_trip, self.now);
        self.listen();
        session.expect("there is room")
    }

    /// Takes all that the machine says; returns the number of an introduction that it speaks of.
    fn listen(&mut self) -> Option<u64> {
        let mut introduction = None;
        while let Some(action) = self.s.poll_action() {
            if let Action::Send { message: Message::Release(release), .. } = &action {
                introduction = Some(release.introduction);
            }
            black_box(action);
        }
        introduction
    }

    /// One of the peers asks for another; both are released, and say that they connected.
    pub(crate) fn introduce(&mut self) {
        let count = self.sessions.len() as u32;
        let (one, step) = (self.random.u32(0..count), self.random.u32(1..count));
        let other = (one + step) % count;
        let [a, b] = [one, other].map(|number| self.sessions[number as usize]);
        let request = Message::Introduce { request: 1, peer: id(other), from: Port::Main };
        self.s.handle_message(a, request, self.now);
        let introduction = self.listen().expect("both are ready");
        for session in [a, b] {
            let result = RoundResult::Connected;
            let outcome = Message::Outcome { introduction, round: 1, result };
            self.s.handle_message(session, outcome, self.now);
        }
        self.listen();
    }

    /// A login, and the end of it: the number of sessions stays.
    pub(crate) fn log_in_and_out(&mut self) {
        let session = self.log_in(self.sessions.len() as u32);
        self.s.handle_closed(session, self.now);
        self.listen();
    }
}

/// Pairs of NATs, one after the other, of the kinds whose plans take the most thought.
pub(crate) fn choose_strategies() -> impl FnMut() {
    let allocations = [
        Allocation::Preserving,
        Allocation::Sequential { delta: 1, busy: 5 },
        Allocation::Random,
        Allocation::Block { first: 1024, last: 2047 },
    ];
    let nats = allocations.map(|allocation| Nat {
        mapping: Mapping::AddressAndPortDependent,
        allocation,
        ..Nat::default()
    });
    let mut turn = 0;
    move || {
        turn = (turn + 1) % 16;
        black_box(strategy::plan(nats[turn / 4], nats[turn % 4], 1, 1));
    }
}

/// A deadline set and cleared among `others`.
#[allow(clippy::disallowed_methods, reason = "a benchmark may take any instant as its origin")]
pub(crate) fn set_and_clear_timers(others: u32) -> impl FnMut() {
    let (mut random, origin) = (fastrand::Rng::with_seed(1), Instant::now());
    let mut at = move || origin + Duration::from_micros(random.u64(0..30_000_000));
    let mut timers = Timers::new();
    (0..others).for_each(|key| timers.set(at(), key));
    move || {
        let at = at();
        timers.set(at, others);
        black_box(timers.next());
        timers.clear(at, others);
    }
}

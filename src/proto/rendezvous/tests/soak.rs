//! Peers that do anything, in any order: nothing panics, and nothing is left when all are gone.

use super::*;
use crate::wire::stun::Join;

const PEERS: u8 = 12;

struct Soak {
    world: World,
    random: fastrand::Rng,
    /// Sessions, also such as have ended.
    known: Vec<Known>,
    /// What was said lately, to be answered sooner or later: who, tag, round.
    prepared: Vec<(LinkId, u64, u8)>,
    released: Vec<(LinkId, u64, u8)>,
    /// What may be joined: who, and the release.
    relays: Vec<(LinkId, Release)>,
    paired: Vec<RelayId>,
}

#[test]
fn nothing_leaks_whatever_peers_do() {
    let mut failed = 0;
    for seed in 0..20 {
        let mut soak = Soak::new(seed);
        for _ in 0..1500 {
            soak.step();
            soak.listen();
        }
        failed += soak.end().introductions_failed;
    }
    assert!(failed > 0, "some went through all rounds");
}

#[test]
fn a_seed_replays() {
    let run = || {
        let mut soak = Soak::new(99);
        let mut said = Vec::new();
        for _ in 0..500 {
            soak.step();
            said.extend(soak.listen());
        }
        said
    };
    assert_eq!(run(), run());
}

impl Soak {
    fn new(seed: u64) -> Self {
        let limits = Limits {
            sessions: 30,
            callers_per_peer: 3,
            introductions: 40,
            introductions_per_session: 12,
            departed_peers: 4,
            unknown_messages: 20,
            watches: 40,
            watched_peers: 6,
            watchers_per_peer: 4,
            rooms: 3,
            rooms_per_session: 2,
            room_members: 5,
            relays: 6,
            relays_per_peer: 3,
            ..Limits::default()
        };
        Self {
            world: World::with_limits(limits),
            random: fastrand::Rng::with_seed(seed),
            known: Vec::new(),
            prepared: Vec::new(),
            released: Vec::new(),
            relays: Vec::new(),
            paired: Vec::new(),
        }
    }

    fn step(&mut self) {
        match self.random.u8(0..40) {
            0..3 => self.log_in(),
            3 if self.random.bool() => self.close(),
            4 => self.pass(),
            5..12 => self.show_hole(),
            12..15 => self.probe_nonsense(),
            15..22 => self.report(),
            22..26 => self.join_relay(),
            26 => self.end_relay(),
            _ => self.say_anything(),
        }
        self.world.s.check();
    }

    /// Reads what was said, as peers do. Each message must fit onto the wire as it is.
    fn listen(&mut self) -> Vec<Message> {
        let mut said = Vec::new();
        for action in self.world.actions() {
            let Action::Send { link, message } = action else { continue };
            match &message {
                Message::Prepare { tag, round, .. } => self.prepared.push((link, *tag, *round)),
                Message::Release(release) => {
                    self.released.push((link, release.introduction, release.round));
                    self.relays.push((link, (**release).clone()));
                }
                _ => {}
            }
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            assert_eq!(Message::decode(&bytes).as_ref(), Ok(&message));
            said.push(message);
        }
        said
    }

    fn end(mut self) -> Stats {
        for peer in std::mem::take(&mut self.known) {
            self.world.close(peer);
        }
        assert_eq!((self.world.s.sessions(), self.world.s.introductions()), (0, 0));
        assert!(self.world.s.relays() <= self.paired.len(), "nobody waits any more");
        for relay in std::mem::take(&mut self.paired) {
            self.world.s.handle_relay_ended(relay, 1, RelayEnd::Finished);
        }
        self.world.pass(Limits::default().departed_time);
        let _ = self.world.actions();
        self.world.s.assert_empty();
        let stats = self.world.s.stats();
        let ended = stats.introductions_connected
            + stats.introductions_failed
            + stats.introductions_given_up
            + stats.introductions_timed_out
            + stats.introductions_abandoned;
        assert_eq!(stats.introductions_started, ended);
        stats.clone()
    }

    fn log_in(&mut self) {
        let number = self.number();
        let login = Login {
            reachable: self.random.u8(0..3) > 0,
            local_port: *self.random.choice(&[0, 1000, 1000]).unwrap(),
            allow: self.allow(),
            ..open_login(number)
        };
        if let Ok((link, session)) = self.world.try_login(number, login) {
            let token = self.world.s.tokens.of_session(session);
            self.known.push(Known { link, session, id: id(number), key: key(number), token });
        }
    }

    fn close(&mut self) {
        if let Some(peer) = self.anybody() {
            self.world.close(peer);
        }
    }

    fn pass(&mut self) {
        let ms = *self.random.choice(&[1, 100, 2_000, 5_000, 31_000]).unwrap();
        self.world.pass(Duration::from_millis(ms));
    }

    fn show_hole(&mut self) {
        if self.prepared.is_empty() {
            return;
        }
        let place = self.random.usize(0..self.prepared.len());
        let (link, tag, round) = self.prepared.swap_remove(place);
        if let Some(peer) = self.known.iter().copied().find(|peer| peer.link == link) {
            self.world.probe(peer, tag, round, "203.0.113.7:4242");
        }
    }

    fn probe_nonsense(&mut self) {
        let Some(mut peer) = self.anybody() else { return };
        if self.random.bool() {
            peer.token[self.random.usize(0..16)] ^= self.random.u8(..);
        }
        let introduction = self.random.u64(0..50);
        let tags =
            [0, self.random.u64(1..99), self.random.u64(..), 1 << 63 | introduction << 2 | 1];
        let tag = *self.random.choice(&tags).unwrap();
        let round = self.random.u8(0..4);
        let mapped = *self.random.choice(&["198.51.100.1:1", "[2001:db8::7]:1000"]).unwrap();
        self.world.probe(peer, tag, round, mapped);
    }

    /// The outcome of something that was released.
    fn report(&mut self) {
        if self.released.is_empty() {
            return;
        }
        let place = self.random.usize(0..self.released.len());
        let (link, introduction, round) = self.released.swap_remove(place);
        if let Some(peer) = self.known.iter().copied().find(|peer| peer.link == link) {
            let result = self.result();
            self.world.outcome(peer, introduction, round, result);
        }
    }

    fn join_relay(&mut self) {
        if self.relays.is_empty() {
            return;
        }
        let place = self.random.usize(0..self.relays.len());
        let (link, release) = self.relays.swap_remove(place);
        let Some(peer) = self.known.iter().find(|peer| peer.link == link) else { return };
        let (introduction, token, role) = (release.introduction, release.token, release.role);
        let join = Join { session: peer.token, introduction, token, role };
        let link = LinkId(self.random.u64(1 << 32..));
        match self.world.s.handle_relay_join(link, &join, self.world.now) {
            JoinVerdict::Paired { relay, .. } => self.paired.push(relay),
            JoinVerdict::Waiting if self.random.u8(0..4) == 0 => {
                self.world.s.handle_relay_left(link);
            }
            JoinVerdict::Waiting | JoinVerdict::Refused(_) => {}
        }
    }

    fn end_relay(&mut self) {
        if let Some(relay) = self.paired.pop() {
            self.world.s.handle_relay_ended(relay, 1, RelayEnd::Broken);
        }
    }

    fn say_anything(&mut self) {
        let Some(peer) = self.anybody() else { return };
        let message = self.message();
        self.world.say(peer, message);
    }

    fn message(&mut self) -> Message {
        match self.random.u8(0..24) {
            0 if self.random.u8(0..8) == 0 => Message::Prepare { tag: 1, round: 1, probes: 1 },
            1 => Message::Unknown(self.random.u8(..)),
            0 | 2 => Message::Ping(self.random.u64(..)),
            3 => Message::Pong(1),
            4 => Message::Allow(self.allow()),
            5 => update(self.nat()),
            6..9 => Message::Watch { peers: self.ids() },
            9..12 => {
                let rooms = ["", "one", "two", "three", "four"];
                Message::Join { room: (*self.random.choice(&rooms).unwrap()).into() }
            }
            12..15 => Message::Outcome {
                introduction: self.random.u64(0..60),
                round: self.random.u8(0..5),
                result: self.result(),
            },
            _ => Message::Introduce {
                request: self.random.u32(0..99),
                peer: id(self.number()),
                from: if self.random.bool() {
                    Port::Main
                } else {
                    Port::Hole(self.random.u64(0..5))
                },
            },
        }
    }

    /// Mostly somebody who is there.
    fn anybody(&mut self) -> Option<Known> {
        if self.random.u8(0..10) > 0 {
            let sessions = &self.world.s.sessions;
            let there = self.known.iter().filter(|peer| sessions.get(peer.session).is_some());
            return self.random.choice(there.collect::<Vec<_>>()).copied();
        }
        self.random.choice(&self.known).copied()
    }

    fn number(&mut self) -> u8 {
        self.random.u8(1..=PEERS)
    }

    fn ids(&mut self) -> Vec<PeerId> {
        (0..self.random.u8(0..9)).map(|_| id(self.number())).collect()
    }

    fn allow(&mut self) -> Allow {
        Allow { anyone: self.random.u8(0..4) > 0, peers: self.ids() }
    }

    fn nat(&mut self) -> Nat {
        let mappings = [Mapping::None, Mapping::AddressDependent, Mapping::AddressAndPortDependent];
        let mapping = *self.random.choice(&mappings).unwrap();
        let allocations = [
            Allocation::Unknown,
            Allocation::Preserving,
            Allocation::Sequential { delta: 1, busy: 0 },
            Allocation::Random,
            Allocation::Block { first: 2048, last: 3071 },
        ];
        let allocation = *self.random.choice(&allocations).unwrap();
        Nat { mapping, allocation, ..Nat::default() }
    }

    fn result(&mut self) -> RoundResult {
        let results = [RoundResult::Failed, RoundResult::Failed, RoundResult::Failed];
        let others = [RoundResult::Connected, RoundResult::GivenUp];
        *self.random.choice(results.iter().chain(&others).collect::<Vec<_>>()).unwrap()
    }
}

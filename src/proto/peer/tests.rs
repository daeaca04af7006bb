//! The peer machine, driven by hand.
#![allow(clippy::disallowed_methods, reason = "a test may take any instant as its origin")]

use super::*;
use crate::identity::PublicKey;
use crate::proto::punch::{self, Action as PunchAction, Preference, PunchError};
use crate::wire::message::{
    Allocation, Candidate, CandidateKind, Mapping, Nat, Pooling, Port, Refused, Release, Role,
    RoundResult, Token,
};
use crate::wire::noise::NoiseError;
use crate::wire::refusal::{ClosingCode, RefusalCode};

mod farewell;
mod lifetime;
mod look;
mod network;

const NONCE: Nonce = [9; 16];

struct Bench {
    peer: Peer,
    now: Instant,
}

fn other() -> (PublicKey, PeerId) {
    let key = PublicKey::from_bytes([2; 32]);
    (key, PeerId::of(&key))
}

fn bench(change: impl FnOnce(&mut Config)) -> Bench {
    let mut config = Config {
        id: PeerId::from_bytes([1; 15]),
        reachable: true,
        allow: Allow::default(),
        agent: "test".into(),
        reconnect: true,
        spare_holes: 0,
        sockets: 1000,
    };
    change(&mut config);
    let mut bench = Bench { peer: Peer::new(config, 3), now: Instant::now() };
    bench.peer.start(bench.now);
    bench
}

fn release(role: Role, introduction: u64, token: u8) -> Message {
    Message::Release(Box::new(Release {
        introduction,
        request: if role == Role::Controller { 1 } else { 0 },
        round: 1,
        role,
        delay: 0,
        key: other().0,
        nonce: NONCE,
        token: [token; 16],
        from: Port::Main,
        nat: Nat::default(),
        candidates: vec![Candidate {
            kind: CandidateKind::ServerReflexive,
            address: "203.0.113.1:7".parse().unwrap(),
        }],
        sockets: 1,
        rows: [1; 2],
        spray: None,
        relay: None,
        hopeful: true,
        brief: false,
        yields: false,
    }))
}

impl Bench {
    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.peer.poll_action()).collect()
    }

    fn sent(&mut self) -> Vec<Message> {
        let actions = self.actions().into_iter();
        actions
            .filter_map(|action| match action {
                Action::Send(message) => Some(message),
                _ => None,
            })
            .collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.peer.poll_event()).collect()
    }

    fn authenticate(&mut self) {
        self.peer.login(1000, vec!["10.0.0.2".parse().unwrap()], NONCE);
        self.peer.handle_channel("192.0.2.1:4000".parse().unwrap(), self.now);
    }

    fn welcome(&mut self) {
        self.welcome_as("198.51.100.7:1000", &["0.0.0.0:8000", "0.0.0.0:8001"]);
    }

    fn welcome_from(&mut self, observed: &str) {
        self.welcome_as(observed, &["0.0.0.0:8000", "0.0.0.0:8001"]);
    }

    fn welcome_with(&mut self, holes: &[&str]) {
        self.welcome_as("198.51.100.7:1000", holes);
    }

    fn welcome_as(&mut self, observed: &str, holes: &[&str]) {
        let welcome = Welcome {
            id: PeerId::from_bytes([1; 15]),
            observed: observed.parse().unwrap(),
            token: [5; 16],
            holes: holes.iter().map(|hole| hole.parse().unwrap()).collect(),
            text: String::new(),
        };
        self.hear(Message::Welcome(welcome));
    }

    fn log_in(&mut self) {
        self.authenticate();
        self.welcome();
        self.actions();
        self.events();
    }

    fn hear(&mut self, message: Message) {
        self.peer.handle_message(message, self.now);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.peer.handle_timeout(self.now);
    }

    fn connect(&mut self) -> PunchId {
        self.peer.connect(other().1, Preference::Any, self.now).unwrap()
    }

    fn failure(&mut self) -> Option<PunchError> {
        self.events().into_iter().find_map(|event| match event {
            Event::Ended { report, .. } => match report.outcome {
                punch::Outcome::Failed(error) => Some(error),
                _ => None,
            },
            _ => None,
        })
    }
}

fn dials(actions: &[Action]) -> Vec<Port> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Punch { action: PunchAction::Dial { from, .. }, .. } => *from,
            _ => None,
        })
        .collect()
}

#[test]
fn a_request_does_not_wait_for_the_welcome() {
    let mut bench = bench(|_| {});
    assert_eq!(bench.actions(), [Action::DialMain]);
    bench.connect();
    assert!(bench.sent().is_empty());
    bench.authenticate();
    let peer = other().1;
    assert_eq!(bench.sent(), [Message::Introduce { request: 1, peer, from: Port::Main }]);
}

#[test]
fn the_login_looks_at_its_own_nat_and_says_what_it_saw() {
    let mut bench = bench(|_| {});
    bench.authenticate();
    bench.welcome();
    let to: Vec<SocketAddr> =
        vec!["192.0.2.1:8000".parse().unwrap(), "192.0.2.1:8001".parse().unwrap()];
    let probes: Vec<_> = bench
        .actions()
        .into_iter()
        .filter_map(|action| match action {
            Action::ProbeMain { to } => Some(to),
            _ => None,
        })
        .collect();
    assert_eq!(probes, to);
    let mapped = "198.51.100.7:1000".parse().unwrap();
    bench.peer.handle_main_probe(to[0], Some(mapped), bench.now);
    assert!(bench.sent().is_empty());
    bench.peer.handle_main_probe(to[1], Some(mapped), bench.now);
    assert!(matches!(
        bench.sent()[..],
        [Message::Update { nat: Nat { mapping: Mapping::EndpointIndependent, .. }, .. }]
    ));
}

#[test]
fn fresh_probes_go_to_all_addresses_of_the_rendezvous() {
    let mut bench = bench(|_| {});
    bench.authenticate();
    let holes = ["0.0.0.0:8000", "0.0.0.0:8001", "192.0.2.2:8000"];
    bench.welcome_with(&holes);
    let mains = bench.actions().into_iter().filter_map(|action| match action {
        Action::ProbeMain { to } => Some(to),
        _ => None,
    });
    for (port, to) in (7..).zip(mains.collect::<Vec<_>>()) {
        let mapped = SocketAddr::new("198.51.100.7".parse().unwrap(), port);
        bench.peer.handle_main_probe(to, Some(mapped), bench.now);
    }
    let to: Vec<_> = bench
        .actions()
        .into_iter()
        .filter_map(|action| match action {
            Action::ProbeFresh { to, .. } => Some(to.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(to.len(), 12);
    assert_eq!(to[..3], ["192.0.2.1:8000", "192.0.2.2:8000", "192.0.2.1:8000"]);
}

#[test]
fn probes_of_a_lost_login_are_closed() {
    let mut bench = bench(|_| {});
    bench.authenticate();
    bench.welcome();
    bench.actions();
    bench.peer.handle_main_lost(LoginError::Lost("power cut".into()), bench.now);
    assert_eq!(bench.actions(), [Action::CloseProbes]);
    bench.peer.stop(bench.now);
    assert_eq!(bench.actions(), [Action::CloseMain], "they are closed once");
}

#[test]
fn a_mapped_endpoint_is_told_once_and_belongs_to_its_login() {
    let mut bench = bench(|_| {});
    bench.authenticate();
    let endpoint: SocketAddr = "198.51.100.7:4001".parse().unwrap();
    bench.peer.set_mapped(vec![]);
    bench.welcome();
    assert!(bench.sent().is_empty());
    for _ in 0..2 {
        bench.peer.set_mapped(vec![endpoint]);
    }
    assert!(matches!(&bench.sent()[..], [Message::Update { mapped, .. }] if *mapped == [endpoint]));
    bench.peer.set_mapped(vec![]);
    assert!(matches!(&bench.sent()[..], [Message::Update { mapped, .. }] if mapped.is_empty()));
    bench.peer.set_mapped(vec![endpoint; limits::MAPPED_ENDPOINTS + 1]);
    assert!(matches!(&bench.sent()[..], [Message::Update { mapped, .. }]
        if mapped.len() == limits::MAPPED_ENDPOINTS));
    // The next login has another main port.
    bench.peer.login(1001, vec![], NONCE);
    bench.peer.set_mapped(vec![]);
    assert!(bench.sent().is_empty());
}

#[test]
fn a_release_dials_at_once_and_a_second_request_uses_a_fresh_port() {
    let mut bench = bench(|_| {});
    bench.log_in();
    bench.connect();
    bench.sent();
    bench.hear(release(Role::Controller, 1, 1));
    assert_eq!(dials(&bench.actions()), [Port::Main]);
    bench.connect();
    let actions = bench.actions();
    let opens = |action: &Action| matches!(action, Action::OpenHole { tag: 1, .. });
    assert!(actions.iter().any(opens), "{actions:?}");
    let peer = other().1;
    let from = Port::Hole(1);
    assert!(actions.contains(&Action::Send(Message::Introduce { request: 2, peer, from })));
}

#[test]
fn the_main_port_may_be_used_with_a_peer_again_after_its_rest() {
    let mut bench = bench(|_| {});
    bench.log_in();
    let punch = bench.connect();
    bench.peer.cancel(punch, bench.now);
    bench.sent();
    bench.pass(limits::MAIN_PORT_REST + Duration::from_secs(1));
    bench.connect();
    assert!(matches!(bench.sent()[..], [Message::Introduce { from: Port::Main, .. }]));
}

#[test]
fn who_is_not_allowed_is_declined_even_if_the_rendezvous_says_otherwise() {
    let mut bench = bench(|_| {});
    bench.log_in();
    bench.hear(release(Role::Controlled, 1, 1));
    assert_eq!(
        bench.sent(),
        [Message::Outcome { introduction: 1, round: 1, result: RoundResult::GivenUp }]
    );
    assert_eq!(bench.peer.punches(), 0);
}

#[test]
fn an_introduction_that_is_played_again_is_declined() {
    let mut bench = bench(|config| config.allow.anyone = true);
    bench.log_in();
    bench.hear(release(Role::Controlled, 5, 1));
    assert_eq!(dials(&bench.actions()).len(), 1);
    bench.hear(release(Role::Controlled, 4, 2));
    assert_eq!(dials(&bench.actions()).len(), 1, "out of order is no replay");
    bench.hear(release(Role::Controlled, 5, 3));
    assert!(dials(&bench.actions()).is_empty());
    assert_eq!(bench.peer.punches(), 2);
}

#[test]
fn an_introduction_of_another_login_is_declined() {
    let mut bench = bench(|config| config.allow.anyone = true);
    bench.log_in();
    let Message::Release(mut stale) = release(Role::Controlled, 1, 1) else { panic!() };
    stale.nonce = [0; 16];
    bench.hear(Message::Release(stale));
    assert!(dials(&bench.actions()).is_empty());
}

#[test]
fn another_peer_than_the_one_asked_for_is_an_error() {
    let mut bench = bench(|_| {});
    bench.log_in();
    bench.connect();
    let Message::Release(mut wrong) = release(Role::Controller, 1, 1) else { panic!() };
    wrong.key = PublicKey::from_bytes([8; 32]);
    bench.hear(Message::Release(wrong));
    assert_eq!(bench.failure(), Some(PunchError::WrongPeer));
}

#[test]
fn a_refusal_ends_the_request_it_is_for() {
    let mut bench = bench(|_| {});
    bench.log_in();
    bench.connect();
    let code = RefusalCode::NotAllowed;
    bench.hear(Message::Refused(Refused { request: 1, code, text: String::new() }));
    assert_eq!(bench.failure(), Some(PunchError::Refused(code)));
    assert_eq!(bench.peer.poll_timeout().map(|_| ()), Some(()), "only stale deadlines are left");
    assert_eq!(bench.peer.punches(), 0);
}

#[test]
fn a_request_without_an_answer_ends() {
    let mut bench = bench(|_| {});
    bench.log_in();
    bench.connect();
    bench.pass(limits::REQUEST_TIME);
    assert_eq!(bench.failure(), Some(PunchError::NoAnswer));
}

#[test]
fn a_lost_rendezvous_is_dialled_again_with_growing_delays_and_asked_again() {
    let mut bench = bench(|_| {});
    bench.log_in();
    bench.connect();
    bench.actions();
    let mut longest = Duration::ZERO;
    for _ in 0..12 {
        bench.peer.handle_main_lost(LoginError::Lost("gone".into()), bench.now);
        let delay = bench
            .events()
            .into_iter()
            .find_map(|event| match event {
                Event::LoggedOut { retry_in, .. } => retry_in,
                _ => None,
            })
            .expect("it is tried again");
        assert!(delay <= limits::RECONNECT_LONGEST);
        longest = longest.max(delay);
        assert!(bench.actions().iter().all(|action| *action == Action::CloseProbes));
        bench.now += delay;
        bench.peer.handle_timeout(bench.now);
        assert_eq!(bench.actions(), [Action::DialMain]);
    }
    assert!(longest > limits::RECONNECT_FIRST);
    bench.connect();
    bench.authenticate();
    assert!(matches!(bench.sent()[..], [Message::Introduce { .. }]));
}

#[test]
fn whoever_is_replaced_does_not_come_back() {
    let mut bench = bench(|_| {});
    bench.log_in();
    bench.hear(Message::Closing { code: ClosingCode::Replaced, text: String::new() });
    assert_eq!(bench.actions(), [Action::CloseMain, Action::CloseProbes]);
    assert!(bench.peer.is_stopped());
    bench.pass(Duration::from_secs(600));
    assert!(bench.actions().is_empty());
    assert!(bench.peer.connect(other().1, Preference::Any, bench.now).is_err());
}

#[test]
fn a_changed_key_is_final_and_a_silent_server_is_not() {
    let wrong = NoiseError::WrongKey { expected: other().1, found: PeerId::from_bytes([7; 15]) };
    assert!(LoginError::Handshake(wrong).is_final());
    let mut bench = bench(|_| {});
    bench.actions();
    bench.pass(limits::LOGIN_TIME);
    assert_eq!(bench.actions(), [Action::CloseMain]);
    let events = bench.events();
    assert!(
        matches!(events[..], [Event::LoggedOut { error: LoginError::TimedOut, retry_in: Some(_) }]),
        "{events:?}"
    );
}

#[test]
fn a_prepared_hole_is_opened_probed_again_and_closed_in_the_end() {
    let mut bench = bench(|config| config.allow.anyone = true);
    bench.log_in();
    let tag = 1 << 63 | 4;
    bench.hear(Message::Prepare { tag, round: 1, probes: 1 });
    let to = "192.0.2.1:8000".parse().unwrap();
    assert_eq!(bench.actions(), [Action::OpenHole { tag, to, beside: 0 }]);
    assert_eq!(bench.peer.probe(tag, 1234).map(|probe| (probe.tag, probe.round)), Some((tag, 1)));
    bench.peer.handle_hole_refused(tag, bench.now);
    bench.pass(Duration::from_millis(100));
    assert_eq!(bench.actions(), [Action::ProbeHole { tag }]);
    bench.pass(limits::PROBE_TIME);
    assert_eq!(bench.actions(), [Action::CloseProbes], "those of the login");
    bench.pass(limits::INTRODUCTION_TIME);
    assert_eq!(bench.actions(), [Action::CloseHole { tag }]);
    assert_eq!(bench.peer.holes(), 0);
}

#[test]
fn a_hole_goes_with_its_punch() {
    let mut bench = bench(|config| config.allow.anyone = true);
    bench.log_in();
    let tag = 1 << 63 | 4;
    bench.hear(Message::Prepare { tag, round: 1, probes: 1 });
    let Message::Release(mut from_hole) = release(Role::Controlled, 1, 1) else { panic!() };
    from_hole.from = Port::Hole(tag);
    bench.hear(Message::Release(from_hole));
    assert_eq!(dials(&bench.actions()), [Port::Hole(tag)]);
    let code = RefusalCode::NoConnection;
    bench.hear(Message::Cancelled { introduction: 1, code });
    assert!(bench.actions().contains(&Action::CloseHole { tag }));
    assert_eq!(bench.failure(), Some(PunchError::NoConnection));
}

#[test]
fn an_accepted_connection_is_recognised_by_where_it_comes_from_or_what_it_says() {
    let mut bench = bench(|_| {});
    bench.log_in();
    let punch = bench.connect();
    bench.hear(release(Role::Controller, 1, 1));
    bench.actions();
    let local = "10.0.0.2:1000".parse().unwrap();
    let expected = "203.0.113.1:7".parse().unwrap();
    let strange = "203.0.113.1:8".parse().unwrap();
    let token: Token = [1; 16];
    let found = bench.peer.handle_accepted(Port::Main, local, expected, bench.now);
    assert_eq!(found.map(|(punch, _)| punch), Some(punch));
    assert_eq!(bench.peer.handle_accepted(Port::Main, local, strange, bench.now), None);
    let mut claim = |role, introduction, token: &Token| {
        bench
            .peer
            .handle_claimed(role, introduction, token, local, strange, bench.now)
            .map(|(punch, _)| punch)
    };
    assert_eq!(claim(Role::Controller, 1, &token), Some(punch));
    assert_eq!(claim(Role::Controlled, 1, &token), None);
    assert_eq!(claim(Role::Controller, 2, &token), None);
    assert_eq!(claim(Role::Controller, 1, &[2; 16]), None);
}

#[test]
fn no_more_punches_than_the_bound() {
    let mut bench = bench(|_| {});
    for _ in 0..limits::PUNCHES {
        bench.connect();
    }
    assert_eq!(bench.peer.connect(other().1, Preference::Any, bench.now), Err(PunchError::TooMany));
    bench.pass(limits::REQUEST_TIME);
    assert_eq!(bench.peer.punches(), 0);
}

#[test]
fn messages_that_are_not_for_a_peer_change_nothing() {
    let mut bench = bench(|_| {});
    bench.log_in();
    bench.hear(Message::Introduce { request: 1, peer: other().1, from: Port::Main });
    bench.hear(Message::Unknown(0x77));
    bench.hear(Message::Cancelled { introduction: 77, code: RefusalCode::PeerGone });
    assert!(bench.actions().is_empty());
    bench.hear(Message::Ping(4));
    assert_eq!(bench.sent(), [Message::Pong(4)]);
}

#[test]
fn spare_holes_are_kept_ready_once_one_was_needed() {
    let mut bench = bench(|config| config.spare_holes = 2);
    bench.log_in();
    assert_eq!(bench.peer.holes(), 0, "nobody knows yet that any is needed");
    bench.connect();
    assert_eq!(bench.peer.holes(), 2);
    bench.actions();
    let mapped = "198.51.100.7:1001".parse().unwrap();
    bench.peer.handle_hole_shown(2, mapped, bench.now);
    bench.connect();
    let peer = other().1;
    let asked = Message::Introduce { request: 2, peer, from: Port::Hole(2) };
    assert!(bench.sent().contains(&asked), "the one that S has seen");
    assert_eq!(bench.peer.holes(), 3, "it is replaced");
    bench.peer.handle_hole_lost(1, bench.now);
    bench.pass(limits::SPARE_HOLE_TIME);
    assert_eq!(bench.peer.holes(), 0, "nobody needed them");
}

#[test]
fn a_nat_that_maps_by_destination_is_looked_at_again() {
    let mut bench = bench(|_| {});
    bench.authenticate();
    bench.welcome();
    bench.actions();
    for (port, mapped) in [(8000, 5001), (8001, 5002)] {
        let to = SocketAddr::new("192.0.2.1".parse().unwrap(), port);
        let mapped = SocketAddr::new("198.51.100.7".parse().unwrap(), mapped);
        bench.peer.handle_main_probe(to, Some(mapped), bench.now);
    }
    let probes =
        bench.actions().into_iter().filter(|action| matches!(action, Action::ProbeFresh { .. }));
    for index in 0..probes.count() {
        let mapped = ([198, 51, 100, 7], 5003 + 2 * index as u16).into();
        let destination = "192.0.2.1:8000".parse().unwrap();
        let given = Given { local: 40_000, destination, mapped };
        bench.peer.handle_fresh_probe(index, Some(given), bench.now);
    }
    let nat = Nat {
        mapping: Mapping::AddressAndPortDependent,
        allocation: Allocation::Sequential { delta: 2, busy: 0 },
        pooling: Pooling::Paired,
        ..Nat::default()
    };
    assert_eq!(bench.peer.nat(), nat);
    assert!(matches!(bench.sent()[..], [Message::Update { nat: told, .. }] if told == nat));
}

#[test]
fn the_relay_is_joined_where_the_release_says_and_with_what_s_knows_us_by() {
    let mut bench = bench(|_| {});
    bench.log_in();
    let id = bench.peer.connect(other().1, Preference::RelayOnly, bench.now).unwrap();
    bench.hear(relayed_release());
    let to = "192.0.2.1:8000".parse().unwrap();
    let joins = |action: &Action| matches!(action, Action::Punch { action: PunchAction::Relay { to: at, .. }, .. } if *at == to);
    assert!(bench.actions().iter().any(joins), "unspecified means where S was reached");
    let join = bench.peer.relay_join(id).unwrap();
    assert_eq!((join.session, join.introduction, join.token), ([5; 16], 7, [8; 16]));
    assert_eq!(join.role, Role::Controller);
}

#[test]
fn s_is_told_when_the_relay_was_all_that_was_wanted_and_it_failed() {
    let mut bench = bench(|_| {});
    bench.log_in();
    let id = bench.peer.connect(other().1, Preference::RelayOnly, bench.now).unwrap();
    bench.hear(relayed_release());
    let relay = bench.actions().into_iter().find_map(|action| match action {
        Action::Punch { action: PunchAction::Relay { conn, .. }, .. } => Some(conn),
        _ => None,
    });
    let error = punch::DialError::RelayRefused(crate::wire::refusal::RelayRefusal::Full);
    bench.peer.handle_dial_failed(id, relay.unwrap(), error, bench.now);
    let given_up = Message::Outcome { introduction: 7, round: 1, result: RoundResult::GivenUp };
    assert_eq!(bench.sent(), [given_up]);
    assert_eq!(bench.failure(), Some(PunchError::NoConnection));
}

fn relayed_release() -> Message {
    let Message::Release(mut release) = release(Role::Controller, 7, 8) else { unreachable!() };
    release.relay = Some("0.0.0.0:8000".parse().unwrap());
    Message::Release(release)
}

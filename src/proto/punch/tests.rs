//! One punch, driven by hand.
#![allow(clippy::disallowed_methods, reason = "a test may take any instant as its origin")]

mod relay;

use super::*;
use crate::identity::PublicKey;
use crate::wire::message::{Candidate, CandidateKind, Nat, Spray};
use crate::wire::refusal::RelayRefusal;

const LOCAL: &str = "10.0.0.2:1000";

struct Bench {
    punch: Punch,
    now: Instant,
    actions: Vec<Action>,
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn bench(role: Role) -> Bench {
    bench_with(role, Preference::Any)
}

fn bench_with(role: Role, preference: Preference) -> Bench {
    let now = Instant::now();
    let peer = PeerId::from_bytes([1; 15]);
    let punch = Punch::new(peer, role, preference, Mapping::Unknown, 7, now);
    Bench { punch, now, actions: Vec::new() }
}

fn release(round: u8, candidates: &[&str]) -> Release {
    Release {
        introduction: 1,
        request: 1,
        round,
        role: Role::Controller,
        delay: 0,
        key: PublicKey::from_bytes([2; 32]),
        nonce: [3; 16],
        token: [4; 16],
        from: if round == 1 { Port::Main } else { Port::Hole(u64::from(round)) },
        nat: Nat::default(),
        candidates: candidates
            .iter()
            .map(|text| Candidate { kind: CandidateKind::ServerReflexive, address: address(text) })
            .collect(),
        sockets: 1,
        rows: [1; 2],
        spray: None,
        relay: None,
        hopeful: true,
        brief: false,
        yields: false,
    }
}

impl Bench {
    fn drain(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(action) = self.punch.poll_action() {
            actions.push(action);
        }
        self.actions.extend(actions.clone());
        actions
    }

    fn release(&mut self, release: &Release) -> Vec<Action> {
        self.punch.handle_relay_offered(release.relay, true);
        self.punch.handle_release(release, OwnAddresses::default(), 5000, self.now);
        self.drain()
    }

    fn pass(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.punch.handle_timeout(self.now);
        self.drain()
    }

    fn fail(&mut self, conn: ConnId, error: DialError) -> Vec<Action> {
        self.punch.handle_dial_failed(conn, error, self.now);
        self.drain()
    }

    fn establish(&mut self, conn: ConnId, remote: &str) -> Vec<Action> {
        self.punch.handle_established(conn, address(LOCAL), address(remote), self.now);
        self.drain()
    }

    fn accept(&mut self, remote: &str) -> (ConnId, Vec<Action>) {
        let conn = self.punch.handle_accepted(address(LOCAL), address(remote), self.now).unwrap();
        (conn, self.drain())
    }

    fn outcome(&self) -> &Outcome {
        &self.punch.report().outcome
    }
}

fn dials(actions: &[Action]) -> Vec<(ConnId, SocketAddr)> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Dial { conn, to, .. } => Some((*conn, *to)),
            _ => None,
        })
        .collect()
}

const ONE: &[&str] = &["203.0.113.1:7"];
const TWO: &[&str] = &["203.0.113.1:7", "203.0.113.2:8"];

#[test]
fn dials_all_candidates_at_once_and_takes_the_first_that_is_proved() {
    let mut bench = bench(Role::Controller);
    let dialled = dials(&bench.release(&release(1, TWO)));
    assert_eq!(dialled.len(), 2);
    let (first, second) = (dialled[0].0, dialled[1].0);
    assert_eq!(bench.establish(second, TWO[1]), [Action::Offer(second)]);
    assert_eq!(bench.establish(first, TWO[0]), [Action::Offer(first)]);
    assert!(bench.punch.handle_proved(first, bench.now));
    assert_eq!(
        bench.drain(),
        [Action::Close(second)],
        "the rest is closed after the winner stands"
    );
    assert!(!bench.punch.handle_proved(second, bench.now), "never two winners");
    let Outcome::Connected(winner) = bench.outcome() else { panic!("{:?}", bench.outcome()) };
    assert_eq!((winner.remote, winner.opened), (address(TWO[0]), Opened::Dialled));
    let ends: Vec<_> = bench.punch.report().rounds[0].dials.iter().map(|dial| dial.end).collect();
    assert_eq!(ends, [DialEnd::Won, DialEnd::Spare]);
}

#[test]
fn a_dial_that_has_not_failed_is_not_closed_between_rounds() {
    let mut bench = bench(Role::Controller);
    bench.release(&release(1, ONE));
    assert_eq!(bench.pass(limits::ROUND_TIME), [Action::RoundOver(1)]);
    let actions = bench.release(&release(2, ONE));
    assert!(actions.iter().all(|action| matches!(action, Action::Dial { .. })), "{actions:?}");
    assert!(!bench.actions.iter().any(|action| matches!(action, Action::Close(_))));
}

#[test]
fn an_old_dial_may_still_win_in_a_later_round() {
    let mut bench = bench(Role::Controller);
    let old = dials(&bench.release(&release(1, ONE)))[0].0;
    bench.pass(limits::ROUND_TIME);
    let new = dials(&bench.release(&release(2, ONE)))[0].0;
    bench.establish(old, ONE[0]);
    assert!(bench.punch.handle_proved(old, bench.now));
    assert_eq!(bench.drain(), [Action::Close(new)]);
    let Outcome::Connected(winner) = bench.outcome() else { panic!() };
    assert_eq!(winner.round, 1);
}

#[test]
fn retries_at_once_and_out_of_step_when_the_nat_answers_rst() {
    let mut bench = bench(Role::Controller);
    let mut conn = dials(&bench.release(&release(1, ONE)))[0].0;
    let mut delays = Vec::new();
    for _ in 0..limits::EAGER_RETRIES {
        assert!(bench.fail(conn, DialError::Refused).is_empty(), "not at once: that would spin");
        let at = bench.punch.poll_timeout().unwrap();
        delays.push(at - bench.now);
        conn = dials(&bench.pass(at - bench.now))[0].0;
    }
    assert!(delays.iter().all(|delay| *delay < limits::RETRY_JITTER));
    assert!(delays.iter().any(|delay| *delay != delays[0]), "fixed delays lock step");
}

#[test]
fn gives_a_candidate_up_after_its_budget_of_refusals_and_then_the_round() {
    let mut bench = bench(Role::Controller);
    bench.release(&release(1, ONE));
    let mut over = false;
    for _ in 0..=limits::RETRIES {
        let Some((conn, _)) = dials(&bench.actions).last().copied() else { panic!() };
        over = bench.fail(conn, DialError::Refused).contains(&Action::RoundOver(1));
        if over {
            break;
        }
        let at = bench.punch.poll_timeout().unwrap();
        over = bench.pass(at - bench.now).contains(&Action::RoundOver(1));
        if over {
            break;
        }
    }
    assert!(over, "either its budget or its time ends a round");
}

#[test]
fn waits_for_accept_when_the_four_tuple_is_taken() {
    let mut bench = bench(Role::Controller);
    let conn = dials(&bench.release(&release(1, ONE)))[0].0;
    assert!(bench.fail(conn, DialError::Taken).is_empty());
    let (accepted, actions) = bench.accept(ONE[0]);
    assert_eq!(actions, [Action::Offer(accepted)]);
    assert!(bench.punch.handle_proved(accepted, bench.now));
    let Outcome::Connected(winner) = bench.outcome() else { panic!() };
    assert_eq!(winner.opened, Opened::Accepted);
    assert_eq!(winner.kind, Some(CandidateKind::ServerReflexive));
    assert_eq!(bench.punch.report().rounds[0].dials[0].end, DialEnd::Taken);
}

#[test]
fn a_stranger_who_says_nothing_is_closed_and_recognised() {
    let mut bench = bench(Role::Controller);
    let conn = dials(&bench.release(&release(3, ONE)))[0].0;
    bench.establish(conn, ONE[0]);
    let actions = bench.pass(limits::PROOF_TIME);
    assert!(actions.contains(&Action::Close(conn)), "{actions:?}");
    bench.pass(limits::PROOF_TIME);
    assert_eq!(*bench.outcome(), Outcome::Failed(PunchError::NoConnection));
    assert_eq!(bench.punch.report().rounds[0].dials[0].end, DialEnd::Stranger);
}

#[test]
fn a_round_does_not_end_while_a_connection_is_being_proved() {
    let mut bench = bench(Role::Controller);
    let conn = dials(&bench.release(&release(1, ONE)))[0].0;
    bench.pass(limits::ROUND_TIME - Duration::from_millis(1));
    bench.establish(conn, ONE[0]);
    assert!(bench.pass(Duration::from_millis(1)).is_empty());
    assert!(bench.punch.handle_proved(conn, bench.now));
}

#[test]
fn the_controlled_answers_one_offer_and_holds_the_others() {
    let mut bench = bench(Role::Controlled);
    let dialled = dials(&bench.release(&release(1, TWO)));
    let (first, second) = (dialled[0].0, dialled[1].0);
    assert_eq!(bench.establish(first, TWO[0]), [Action::Claim(first)]);
    assert_eq!(bench.establish(second, TWO[1]), [Action::Claim(second)]);
    assert!(bench.punch.may_answer());
    assert!(bench.punch.handle_proved(first, bench.now));
    assert!(!bench.punch.may_answer());
    bench.punch.handle_offer_held(second);
    bench.punch.handle_confirmed(first, bench.now);
    assert_eq!(bench.drain(), [Action::Close(second)]);
    assert!(matches!(bench.outcome(), Outcome::Connected(_)));
}

#[test]
fn the_controlled_answers_another_offer_when_the_answered_connection_is_lost() {
    let mut bench = bench(Role::Controlled);
    let dialled = dials(&bench.release(&release(1, TWO)));
    let (first, second) = (dialled[0].0, dialled[1].0);
    bench.establish(first, TWO[0]);
    bench.establish(second, TWO[1]);
    bench.punch.handle_proved(first, bench.now);
    bench.punch.handle_offer_held(second);
    bench.punch.handle_path_lost(first, PathError::Lost, bench.now);
    assert_eq!(bench.drain(), [Action::Answer(second)]);
    assert!(bench.punch.handle_proved(second, bench.now));
}

#[test]
fn the_controlled_goes_on_when_the_answered_connection_is_lost_and_there_is_no_other() {
    let mut bench = bench(Role::Controlled);
    let conn = dials(&bench.release(&release(1, ONE)))[0].0;
    bench.establish(conn, ONE[0]);
    bench.punch.handle_proved(conn, bench.now);
    bench.punch.handle_path_lost(conn, PathError::Lost, bench.now);
    assert_eq!(*bench.outcome(), Outcome::Pending);
    assert_eq!(dials(&bench.pass(limits::RETRY_JITTER)).len(), 1);
    let (next, actions) = bench.accept(ONE[0]);
    assert_eq!(actions, [Action::Claim(next)]);
    assert!(bench.punch.may_answer());
    assert!(bench.punch.handle_proved(next, bench.now));
    bench.punch.handle_confirmed(next, bench.now);
    assert!(matches!(bench.outcome(), Outcome::Connected(_)));
}

#[test]
fn a_lost_answer_is_what_failed_if_nothing_follows() {
    let mut bench = bench(Role::Controlled);
    let conn = dials(&bench.release(&release(1, ONE)))[0].0;
    bench.establish(conn, ONE[0]);
    bench.punch.handle_proved(conn, bench.now);
    bench.punch.handle_path_lost(conn, PathError::Stranger, bench.now);
    bench.pass(limits::INTRODUCTION_TIME);
    assert_eq!(*bench.outcome(), Outcome::Failed(PunchError::Lost));
}

#[test]
fn the_controlled_waits_for_its_confirmation_longer_than_the_controller_for_the_answer() {
    let mut bench = bench(Role::Controlled);
    let conn = dials(&bench.release(&release(1, ONE)))[0].0;
    bench.establish(conn, ONE[0]);
    bench.pass(limits::PROOF_TIME - Duration::from_millis(1));
    bench.punch.handle_proved(conn, bench.now);
    assert!(!bench.pass(limits::PROOF_TIME).contains(&Action::Close(conn)));
    assert!(bench.pass(limits::PROOF_TIME).contains(&Action::Close(conn)));
}

#[test]
fn a_round_is_dialled_though_an_answer_is_out_and_the_answer_may_still_win() {
    let mut bench = bench(Role::Controlled);
    let old = dials(&bench.release(&release(1, ONE)))[0].0;
    bench.establish(old, ONE[0]);
    bench.punch.handle_proved(old, bench.now);
    let new = dials(&bench.release(&release(2, ONE)))[0].0;
    assert!(!bench.punch.may_answer());
    bench.punch.handle_confirmed(old, bench.now);
    assert_eq!(bench.drain(), [Action::Close(new)]);
    let Outcome::Connected(winner) = bench.outcome() else { panic!() };
    assert_eq!(winner.round, 1);
}

#[test]
fn a_cancellation_waits_until_it_is_known_whether_the_answer_was_taken() {
    for taken in [true, false] {
        let mut bench = bench(Role::Controlled);
        let conn = dials(&bench.release(&release(1, ONE)))[0].0;
        bench.establish(conn, ONE[0]);
        bench.punch.handle_proved(conn, bench.now);
        let error = PunchError::Refused(crate::wire::refusal::RefusalCode::PeerGone);
        bench.punch.fail(error, bench.now);
        assert_eq!(*bench.outcome(), Outcome::Pending);
        if taken {
            bench.punch.handle_confirmed(conn, bench.now);
            assert!(matches!(bench.outcome(), Outcome::Connected(_)));
        } else {
            bench.punch.handle_path_lost(conn, PathError::Lost, bench.now);
            assert_eq!(*bench.outcome(), Outcome::Failed(error));
        }
    }
}

#[test]
fn three_rounds_and_no_more() {
    let mut bench = bench(Role::Controller);
    for round in 1..=limits::ROUNDS {
        assert_eq!(dials(&bench.release(&release(round, ONE))).len(), 1);
        assert!(bench.pass(limits::ROUND_TIME).contains(&Action::RoundOver(round)));
    }
    assert_eq!(*bench.outcome(), Outcome::Failed(PunchError::NoConnection));
    assert_eq!(bench.punch.poll_timeout(), None);
    assert!(bench.release(&release(1, ONE)).is_empty(), "the end is the end");
    let closed = bench.actions.iter().filter(|action| matches!(action, Action::Close(_))).count();
    assert_eq!(closed, limits::ROUNDS as usize, "no socket is left");
}

#[test]
fn a_delayed_release_dials_later() {
    let mut bench = bench(Role::Controller);
    let late = Release { delay: 20_000, ..release(2, ONE) };
    assert!(bench.release(&late).is_empty());
    assert!(bench.pass(Duration::from_millis(19)).is_empty());
    assert_eq!(dials(&bench.pass(Duration::from_millis(1))).len(), 1);
}

#[test]
fn a_round_without_candidates_waits_to_be_reached() {
    let mut bench = bench(Role::Controller);
    assert!(bench.release(&release(1, &[])).is_empty());
    let (conn, _) = bench.accept("203.0.113.9:9");
    assert!(bench.punch.handle_proved(conn, bench.now));
    let Outcome::Connected(winner) = bench.outcome() else { panic!() };
    assert_eq!(winner.kind, None, "peer-reflexive");
}

#[test]
fn every_punch_ends_whatever_fails() {
    const ERRORS: [DialError; 8] = [
        DialError::Refused,
        DialError::Unreachable,
        DialError::NoRoute,
        DialError::Taken,
        DialError::TimedOut,
        DialError::Exhausted,
        DialError::RelayRefused(RelayRefusal::Alone),
        DialError::Other,
    ];
    for seed in 0..500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let role = if random.bool() { Role::Controller } else { Role::Controlled };
        let relay = random.bool().then(|| address("192.0.2.1:8000"));
        let preference = match (role, random.u8(0..4)) {
            (Role::Controller, 0) => Preference::DirectOnly,
            (Role::Controller, 1) => Preference::RelayOnly,
            _ => Preference::Any,
        };
        let released = |round| Release { relay, ..release(round, TWO) };
        let mut bench = bench_with(role, preference);
        let mut open = std::collections::HashSet::new();
        let mut pending = bench.release(&released(1));
        let mut round = 1;
        while !bench.punch.is_ended() {
            for action in std::mem::take(&mut pending) {
                match action {
                    Action::Dial { conn, .. } | Action::Relay { conn, .. } => {
                        assert!(open.insert(conn), "seed {seed}");
                    }
                    Action::Close(conn) => assert!(open.remove(&conn), "seed {seed}"),
                    Action::RoundOver(over) => {
                        round = over + 1;
                        pending = bench.release(&released(round));
                    }
                    _ => {}
                }
            }
            let any = open.iter().min().copied();
            match (random.u8(0..10), any) {
                (0..=4, Some(conn)) => {
                    open.remove(&conn);
                    pending.extend(bench.fail(conn, ERRORS[random.usize(0..ERRORS.len())]));
                }
                (5, Some(conn)) => pending.extend(bench.establish(conn, ONE[0])),
                (6, Some(conn)) => {
                    open.remove(&conn);
                    bench.punch.handle_path_lost(conn, PathError::Lost, bench.now);
                    pending.extend(bench.drain());
                }
                (7, _) if random.u8(0..8) == 0 => {
                    if let Some(conn) =
                        bench.punch.handle_accepted(address(LOCAL), address(ONE[0]), bench.now)
                    {
                        open.insert(conn);
                    }
                    pending.extend(bench.drain());
                }
                _ => pending.extend(bench.pass(Duration::from_millis(random.u64(0..400)))),
            }
        }
        for action in pending.into_iter().chain(bench.drain()) {
            match action {
                Action::Close(conn) => assert!(open.remove(&conn), "seed {seed}"),
                Action::Dial { conn, .. } | Action::Relay { conn, .. } => {
                    assert!(open.insert(conn), "seed {seed}");
                }
                _ => {}
            }
        }
        assert!(open.is_empty(), "seed {seed}, round {round}: sockets left: {open:?}");
        assert_ne!(*bench.outcome(), Outcome::Pending);
    }
}

#[test]
fn a_birthday_is_paced_and_stopped_by_the_first_proof() {
    let mut bench = bench(Role::Controller);
    let ip = "203.0.113.1".parse().unwrap();
    let spray = Some(Spray { ip, first: 1024, last: 65_535, dials: 2048 });
    let first = dials(&bench.release(&Release { spray, ..release(1, ONE) }));
    assert_eq!(first.len(), limits::VOLLEY_DIALS);
    let second = dials(&bench.pass(limits::VOLLEY_PAUSE));
    assert_eq!(second.len(), limits::VOLLEY_DIALS);
    let (lucky, remote) = second[5];
    bench.establish(lucky, &remote.to_string());
    assert!(bench.punch.handle_proved(lucky, bench.now));
    let closed = bench.drain().len();
    assert_eq!(closed, 2 * limits::VOLLEY_DIALS - 1);
    assert!(dials(&bench.pass(limits::VOLLEY_PAUSE)).is_empty());
    let round = &bench.punch.report().rounds[0];
    assert_eq!(round.strays as usize, 2 * limits::VOLLEY_DIALS - 1);
    assert_eq!(round.dials.len(), 2, "the candidate and the winner");
}

#[test]
fn one_of_many_from_fresh_ports_draws_again_when_it_is_refused_and_a_guessed_port_does_not() {
    let spray = Spray { ip: "203.0.113.1".parse().unwrap(), first: 2000, last: 2999, dials: 1 };
    for (release, redials) in [
        (Release { sockets: 2, ..release(1, ONE) }, limits::STRAY_RETRIES),
        (Release { spray: Some(spray), ..release(1, ONE) }, 0),
    ] {
        let mut bench = bench(Role::Controller);
        let mut last = dials(&bench.release(&release))[1].0;
        let mut made = 0;
        loop {
            bench.fail(last, DialError::Refused);
            let Some((next, _)) = dials(&bench.pass(limits::RETRY_JITTER)).first().copied() else {
                break;
            };
            (last, made) = (next, made + 1);
        }
        assert_eq!(made, redials);
    }
}

#[test]
fn a_second_crowd_goes_out_only_if_the_first_was_not_enough() {
    let crowd = || {
        let mut crowd = Release { sockets: 11, ..release(1, TWO) };
        crowd.candidates.iter_mut().for_each(|it| it.kind = CandidateKind::Predicted);
        crowd
    };
    let mut bench = bench(Role::Controller);
    let first = dials(&bench.release(&crowd()));
    let at = |dials: &[(ConnId, SocketAddr)], text| {
        dials.iter().filter(|(_, to)| *to == address(text)).count()
    };
    assert_eq!((at(&first, TWO[0]), at(&first, TWO[1])), (1 + 5, 1));
    let second = dials(&bench.pass(limits::WAVE_PAUSE));
    assert_eq!((second.len(), at(&second, TWO[1])), (5, 5));

    let mut bench = self::bench(Role::Controller);
    let lucky = dials(&bench.release(&crowd()))[3].0;
    bench.establish(lucky, TWO[0]);
    assert!(bench.punch.handle_proved(lucky, bench.now));
    assert!(dials(&bench.pass(limits::WAVE_PAUSE)).is_empty());
}

#[test]
fn guesses_of_an_earlier_round_are_closed_and_other_dials_are_not() {
    let mut bench = bench(Role::Controller);
    let candidate = dials(&bench.release(&Release { sockets: 10, ..release(1, ONE) }))[0].0;
    bench.pass(limits::ROUND_TIME);
    let actions = bench.release(&release(2, ONE));
    let closed = actions.iter().filter(|action| matches!(action, Action::Close(_))).count();
    assert_eq!(closed, 9);
    assert!(!actions.contains(&Action::Close(candidate)));
}

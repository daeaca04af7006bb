//! When the relay is joined, and who wins then.

use super::*;

const S: &str = "192.0.2.1:8000";

fn offered(round: u8, candidates: &[&str]) -> Release {
    Release { relay: Some(address(S)), ..release(round, candidates) }
}

fn joins(actions: &[Action]) -> Vec<ConnId> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Relay { conn, to } => {
                assert_eq!(*to, address(S));
                Some(*conn)
            }
            _ => None,
        })
        .collect()
}

impl Bench {
    /// Released, and the head start is over: the direct dial, and the relay's.
    fn joined(&mut self) -> (ConnId, ConnId) {
        let direct = dials(&self.release(&offered(1, ONE)))[0].0;
        let relay = joins(&self.pass(limits::RELAY_HEAD_START))[0];
        (direct, relay)
    }

    fn relay_end(&self) -> Option<DialEnd> {
        self.punch.report().relay.as_ref().map(|dial| dial.end)
    }
}

#[test]
fn the_punch_has_a_head_start() {
    for role in [Role::Controller, Role::Controlled] {
        let mut bench = bench(role);
        assert!(joins(&bench.release(&offered(1, ONE))).is_empty());
        let head_start = bench.pass(limits::RELAY_HEAD_START - Duration::from_millis(1));
        assert!(joins(&head_start).is_empty());
        assert_eq!(joins(&bench.pass(Duration::from_millis(1))).len(), 1);
        assert!(joins(&bench.pass(limits::RELAY_HEAD_START)).is_empty(), "once");
    }
}

#[test]
fn without_an_address_to_dial_there_is_nothing_to_wait_for() {
    let mut bench = bench(Role::Controller);
    assert_eq!(joins(&bench.release(&offered(1, &[]))).len(), 1);
}

#[test]
fn a_second_round_that_is_over_early_ends_the_head_start() {
    let mut bench = bench(Role::Controller);
    let conn = dials(&bench.release(&offered(1, ONE)))[0].0;
    assert_eq!(bench.fail(conn, DialError::NoRoute), [Action::RoundOver(1)]);
    let conn = dials(&bench.release(&offered(2, ONE)))[0].0;
    let actions = bench.fail(conn, DialError::NoRoute);
    assert_eq!((joins(&actions).len(), actions.len()), (1, 2));
    assert!(actions.contains(&Action::RoundOver(2)), "the rounds go on beside it");
}

#[test]
fn where_both_nats_leave_no_hope_the_relay_waits_for_nothing() {
    for role in [Role::Controller, Role::Controlled] {
        let mut bench = bench(role);
        let release = offered(1, ONE);
        bench.punch.handle_relay_offered(release.relay, false);
        bench.punch.handle_release(&release, OwnAddresses::default(), 5000, bench.now);
        assert_eq!(joins(&bench.drain()).len(), 1);
    }
}

#[test]
fn a_later_release_may_show_that_there_is_no_hope() {
    let mut bench = bench(Role::Controller);
    assert!(joins(&bench.release(&offered(1, ONE))).is_empty());
    let release = offered(2, ONE);
    bench.punch.handle_relay_offered(release.relay, false);
    bench.punch.handle_release(&release, OwnAddresses::default(), 5000, bench.now);
    assert_eq!(joins(&bench.drain()).len(), 1);
}

#[test]
fn a_relay_that_is_not_offered_is_not_joined() {
    let mut bench = bench(Role::Controller);
    bench.release(&release(1, ONE));
    assert!(joins(&bench.pass(limits::RELAY_HEAD_START)).is_empty());
    assert!(!bench.punch.report().relay_offered);
}

#[test]
fn direct_only_never_joins() {
    let mut bench = bench_with(Role::Controller, Preference::DirectOnly);
    for round in 1..=limits::ROUNDS {
        bench.release(&offered(round, &[]));
        bench.pass(limits::ROUND_TIME);
    }
    assert!(joins(&bench.actions).is_empty());
    assert_eq!(*bench.outcome(), Outcome::Failed(PunchError::NoConnection));
}

#[test]
fn relay_only_joins_at_once_and_goes_no_other_way() {
    let mut bench = bench_with(Role::Controller, Preference::RelayOnly);
    let actions = bench.release(&offered(1, TWO));
    let relay = joins(&actions)[0];
    assert_eq!(actions.len(), 1, "nothing else is dialled");
    let accepted = bench.punch.handle_accepted(address(LOCAL), address(ONE[0]), bench.now);
    assert_eq!(accepted, None);
    assert!(bench.pass(limits::ROUND_TIME).is_empty(), "it has no rounds");
    assert_eq!(bench.establish(relay, S), [Action::Offer(relay)]);
    assert!(bench.punch.handle_proved(relay, bench.now));
    let Outcome::Connected(winner) = bench.outcome() else { panic!() };
    assert!(winner.is_relayed());
    assert!(bench.punch.report().to_string().ends_with("because that was asked for"));
}

#[test]
fn relay_only_fails_at_once_where_there_is_none() {
    let mut bench = bench_with(Role::Controller, Preference::RelayOnly);
    assert!(bench.release(&release(1, ONE)).is_empty());
    assert_eq!(*bench.outcome(), Outcome::Failed(PunchError::NoConnection));
}

#[test]
fn a_refusal_ends_relay_only_and_the_report_says_why() {
    let mut bench = bench_with(Role::Controller, Preference::RelayOnly);
    let relay = joins(&bench.release(&offered(1, ONE)))[0];
    bench.fail(relay, DialError::RelayRefused(RelayRefusal::Quota));
    assert_eq!(*bench.outcome(), Outcome::Failed(PunchError::NoConnection));
    assert_eq!(bench.relay_end(), Some(DialEnd::RelayRefused(RelayRefusal::Quota)));
}

#[test]
fn the_relay_wins_when_it_is_proved_first_and_the_report_says_why() {
    let mut bench = bench(Role::Controller);
    let (direct, relay) = bench.joined();
    assert_eq!(bench.establish(relay, S), [Action::Offer(relay)]);
    assert!(bench.punch.handle_proved(relay, bench.now));
    assert_eq!(bench.drain(), [Action::Close(direct)]);
    let report = bench.punch.report();
    assert!(report.is_relayed());
    assert_eq!(report.relay.as_ref().map(|dial| dial.end), Some(DialEnd::Won));
    let Outcome::Connected(winner) = &report.outcome else { panic!() };
    assert_eq!((winner.kind, winner.path()), (Some(CandidateKind::Relayed), "relayed"));
    let text = report.to_string();
    assert!(text.contains("relayed through the rendezvous"), "{text}");
    assert!(text.ends_with("because 203.0.113.1:7: no answer"), "{text}");
}

#[test]
fn a_direct_path_that_is_proved_first_wins() {
    let mut bench = bench(Role::Controller);
    let (direct, relay) = bench.joined();
    bench.establish(direct, ONE[0]);
    bench.establish(relay, S);
    assert!(bench.punch.handle_proved(direct, bench.now));
    assert_eq!(bench.drain(), [Action::Close(relay)]);
    assert!(!bench.punch.handle_proved(relay, bench.now), "never two winners");
    assert!(!bench.punch.report().is_relayed());
    assert_eq!(bench.relay_end(), Some(DialEnd::Spare));
}

#[test]
fn the_controlled_answers_one_of_the_direct_and_the_relayed_offer() {
    let mut bench = bench(Role::Controlled);
    let (direct, relay) = bench.joined();
    assert_eq!(bench.establish(relay, S), [Action::Claim(relay)]);
    bench.establish(direct, ONE[0]);
    assert!(bench.punch.handle_proved(relay, bench.now));
    assert!(!bench.punch.may_answer());
    bench.punch.handle_offer_held(direct);
    bench.punch.handle_path_lost(relay, PathError::Lost, bench.now);
    assert_eq!(bench.drain(), [Action::Answer(direct)], "the controller chose the other");
    assert!(bench.punch.handle_proved(direct, bench.now));
    bench.punch.handle_confirmed(direct, bench.now);
    assert!(!bench.punch.report().is_relayed());
    assert_eq!(bench.relay_end(), Some(DialEnd::Lost));
}

#[test]
fn while_an_offer_is_answered_the_relay_is_not_joined() {
    let mut bench = bench(Role::Controlled);
    let direct = dials(&bench.release(&offered(1, ONE)))[0].0;
    bench.establish(direct, ONE[0]);
    assert!(bench.punch.handle_proved(direct, bench.now));
    assert!(bench.pass(limits::RELAY_HEAD_START).is_empty());
}

#[test]
fn the_last_round_waits_for_the_relay_and_not_for_ever() {
    let mut bench = bench(Role::Controller);
    let (_, relay) = bench.joined();
    for round in 2..limits::ROUNDS {
        assert!(joins(&bench.release(&offered(round, ONE))).is_empty());
        assert!(bench.pass(limits::ROUND_TIME).contains(&Action::RoundOver(round)));
    }
    bench.release(&offered(limits::ROUNDS, ONE));
    assert!(bench.pass(limits::ROUND_TIME).is_empty());
    assert_eq!(*bench.outcome(), Outcome::Pending);
    let actions = bench.fail(relay, DialError::RelayRefused(RelayRefusal::Alone));
    assert!(actions.contains(&Action::RoundOver(limits::ROUNDS)), "now S may forget it");
    assert_eq!(*bench.outcome(), Outcome::Failed(PunchError::NoConnection));
}

#[test]
fn a_relay_that_fails_early_leaves_the_rounds_as_they_are() {
    let mut bench = bench(Role::Controller);
    let (_, relay) = bench.joined();
    assert!(bench.fail(relay, DialError::Refused).is_empty());
    for round in 2..=limits::ROUNDS {
        bench.release(&offered(round, ONE));
        assert!(bench.pass(limits::ROUND_TIME).contains(&Action::RoundOver(round)));
    }
    assert_eq!(*bench.outcome(), Outcome::Failed(PunchError::NoConnection));
    assert_eq!(joins(&bench.actions).len(), 1);
}

#[test]
fn a_rendezvous_that_says_nothing_is_given_up() {
    let mut bench = bench_with(Role::Controller, Preference::RelayOnly);
    let relay = joins(&bench.release(&offered(1, ONE)))[0];
    let actions = bench.pass(limits::RELAY_JOIN_TIME + limits::PROOF_TIME);
    assert_eq!(actions, [Action::Close(relay)]);
    assert_eq!(bench.relay_end(), Some(DialEnd::TimedOut));
    assert_eq!(*bench.outcome(), Outcome::Failed(PunchError::NoConnection));
}

#[test]
fn who_is_awaited_at_the_relay_comes_at_once() {
    let mut bench = bench(Role::Controlled);
    assert!(joins(&bench.release(&offered(1, ONE))).is_empty());
    bench.punch.handle_relay_awaited(bench.now);
    assert_eq!(joins(&bench.drain()).len(), 1);
    bench.punch.handle_relay_awaited(bench.now);
    assert!(bench.drain().is_empty(), "once");
}

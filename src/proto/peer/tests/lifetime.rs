//! How long the NAT keeps what is idle: its bounds, its deadlines, and what comes late.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// A measurement of these times, with the numbers of its connections.
fn measuring(times: &[Duration]) -> (Bench, Vec<u64>) {
    let mut bench = bench(|config| config.reachable = false);
    bench.log_in();
    for port in [8000, 8001] {
        let to = SocketAddr::new([192, 0, 2, 1].into(), port);
        bench.peer.handle_main_probe(to, None, bench.now);
    }
    bench.events();
    assert_eq!(bench.actions(), []);
    bench.peer.measure_lifetime(times, bench.now).unwrap();
    let opened = |action| match action {
        Action::OpenIdle { number, .. } => Some(number),
        _ => None,
    };
    let numbers: Vec<_> = bench.actions().into_iter().filter_map(opened).collect();
    assert_eq!(numbers.len(), times.len());
    (bench, numbers)
}

impl Bench {
    /// How the silences ended, and what they say together.
    fn ends(&mut self) -> (Vec<IdleEnd>, Option<Lifetime>) {
        let (mut ends, mut known) = (Vec::new(), None);
        for event in self.events() {
            match event {
                Event::IdleMapping { end, .. } => ends.push(end),
                Event::LifetimeKnown(lifetime) => known = Some(lifetime),
                _ => {}
            }
        }
        (ends, known)
    }
}

#[test]
fn what_is_asked_for_has_bounds() {
    let mut bench = bench(|config| config.reachable = false);
    let hour = Duration::from_secs(3600);
    assert_eq!(
        bench.peer.measure_lifetime(&[MINUTE], bench.now),
        Err(LifetimeError::LoggedOut),
        "there is no login yet"
    );
    bench.log_in();
    let many = [MINUTE; limits::IDLE_PROBES + 1];
    let long = [limits::DELAYED_ANSWER_TIME + Duration::from_secs(1)];
    for times in [&[][..], &many, &long, &[Duration::from_millis(999)]] {
        let refused = bench.peer.measure_lifetime(times, bench.now);
        assert_eq!(refused, Err(LifetimeError::Times), "{times:?}");
    }
    assert_eq!(bench.actions(), []);
    bench.peer.measure_lifetime(&many[1..], bench.now).unwrap();
    let again = bench.peer.measure_lifetime(&[hour], bench.now);
    assert_eq!(again, Err(LifetimeError::InProgress));
}

#[test]
fn an_answer_in_its_time_shows_that_the_mapping_lives_and_none_that_it_is_gone() {
    let (mut bench, numbers) = measuring(&[MINUTE, 2 * MINUTE]);
    for number in &numbers {
        bench.peer.handle_idle_asked(*number, bench.now);
    }
    bench.pass(MINUTE);
    bench.peer.handle_idle_ended(numbers[0], IdleEnd::Lives, bench.now);
    assert_eq!(bench.ends(), (vec![IdleEnd::Lives], None));
    bench.pass(MINUTE + limits::IDLE_PROBE_GRACE - Duration::from_millis(1));
    assert_eq!(bench.actions(), []);
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.actions(), [Action::CloseIdle { number: numbers[1] }]);
    let lifetime = Lifetime { lives: Some(MINUTE), gone: Some(2 * MINUTE) };
    assert_eq!(bench.ends(), (vec![IdleEnd::Gone], Some(lifetime)));
    // The answer comes after all, and is nobody's.
    bench.peer.handle_idle_ended(numbers[1], IdleEnd::Lives, bench.now);
    assert_eq!(bench.ends(), (vec![], None));
    assert_eq!(bench.peer.poll_timeout(), None);
    bench.peer.measure_lifetime(&[MINUTE], bench.now).unwrap();
}

#[test]
fn an_answer_that_comes_at_once_is_that_of_a_server_without_delays() {
    let (mut bench, numbers) = measuring(&[MINUTE]);
    bench.peer.handle_idle_asked(numbers[0], bench.now);
    bench.pass(MINUTE - Duration::from_millis(1001));
    bench.peer.handle_idle_ended(numbers[0], IdleEnd::Lives, bench.now);
    assert_eq!(bench.ends(), (vec![IdleEnd::Unknown], Some(Lifetime::default())));
}

#[test]
fn a_connection_that_does_not_stand_in_time_shows_nothing() {
    let (mut bench, numbers) = measuring(&[MINUTE]);
    bench.pass(limits::IDLE_PROBE_OPENING_TIME - Duration::from_millis(1));
    assert_eq!(bench.actions(), []);
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.actions(), [Action::CloseIdle { number: numbers[0] }]);
    assert_eq!(bench.ends(), (vec![IdleEnd::Unknown], Some(Lifetime::default())));
    bench.peer.handle_idle_asked(numbers[0], bench.now);
    assert_eq!(bench.peer.poll_timeout(), None, "its time is over");
}

#[test]
fn a_login_that_is_lost_proves_nothing_of_the_silence() {
    let (mut bench, numbers) = measuring(&[MINUTE, 2 * MINUTE]);
    for number in &numbers {
        bench.peer.handle_idle_asked(*number, bench.now);
    }
    bench.pass(MINUTE);
    bench.peer.handle_idle_ended(numbers[0], IdleEnd::Lives, bench.now);
    bench.actions();
    bench.peer.handle_main_lost(LoginError::Lost("power cut".into()), bench.now);
    let closes = Action::CloseIdle { number: numbers[1] };
    let actions = bench.actions();
    assert!(actions.contains(&closes), "{actions:?}");
    let lifetime = Lifetime { lives: Some(MINUTE), gone: None };
    assert_eq!(bench.ends(), (vec![IdleEnd::Lives, IdleEnd::Unknown], Some(lifetime)));
    let late = bench.peer.measure_lifetime(&[MINUTE], bench.now);
    assert_eq!(late, Err(LifetimeError::LoggedOut));
}

#[test]
fn numbers_are_not_used_again() {
    let (mut bench, numbers) = measuring(&[MINUTE]);
    bench.peer.handle_idle_ended(numbers[0], IdleEnd::Unknown, bench.now);
    bench.events();
    bench.peer.measure_lifetime(&[2 * MINUTE], bench.now).unwrap();
    bench.actions();
    bench.peer.handle_idle_ended(numbers[0], IdleEnd::Gone, bench.now);
    assert_eq!(bench.ends(), (vec![], None), "a late word of the first measurement");
}

//! A rendezvous that stops, and those that it names.

use super::*;

fn there() -> String {
    format!("{}@there.example:4000", other().1)
}

fn back() -> String {
    format!("{}@back.example:4000", other().1)
}

impl Bench {
    /// S says that it stops, and closes. When the next login is.
    fn send_away(&mut self, spread: u32, to: &str) -> Duration {
        self.hear(Message::Draining { spread, to: to.into() });
        self.hear(Message::Closing { code: ClosingCode::ShuttingDown, text: String::new() });
        self.retry()
    }

    fn retry(&mut self) -> Duration {
        let logged_out = self.events().into_iter().find_map(|event| match event {
            Event::LoggedOut { retry_in, .. } => retry_in,
            _ => None,
        });
        self.actions();
        logged_out.expect("it is tried again")
    }

    fn fail(&mut self, error: LoginError) {
        self.peer.handle_main_lost(error, self.now);
        let delay = self.retry();
        self.redial(delay);
    }

    /// The wait is over, and the next rendezvous is dialled.
    fn redial(&mut self, delay: Duration) {
        self.pass(delay);
        assert_eq!(self.actions(), [Action::DialMain]);
    }

    fn place(&self) -> Option<String> {
        self.peer.elsewhere().map(ToString::to_string)
    }
}

fn lost() -> LoginError {
    LoginError::Lost("gone".into())
}

#[test]
fn peers_come_back_within_the_time_that_they_are_told() {
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        let mut bench = bench(|_| {});
        bench.log_in();
        let delay = bench.send_away(20_000, "");
        assert!(delay <= Duration::from_secs(20), "{delay:?}");
        longest = longest.max(delay);
        bench.redial(delay);
        assert_eq!(bench.place(), None);
    }
    assert!(longest > limits::RECONNECT_FIRST, "{longest:?}");
    let mut bench = bench(|_| {});
    bench.log_in();
    assert!(bench.send_away(u32::MAX, "") <= limits::RETURN_LONGEST);
}

#[test]
fn what_is_asked_of_a_rendezvous_that_stops_waits_for_the_next_one() {
    let mut bench = bench(|_| {});
    bench.log_in();
    bench.connect();
    let Some(Message::Introduce { request, .. }) = bench.sent().pop() else { panic!() };
    bench.hear(Message::Draining { spread: 60_000, to: there() });
    let code = RefusalCode::Draining;
    bench.hear(Message::Refused(Refused { request, code, text: String::new() }));
    bench.connect();
    assert!(bench.sent().is_empty());
    bench.hear(Message::Closing { code: ClosingCode::ShuttingDown, text: String::new() });
    let delay = bench.retry();
    assert!(delay <= limits::RECONNECT_FIRST, "who wants something comes early: {delay:?}");
    bench.redial(delay);
    assert_eq!(bench.place(), Some(there()));
    bench.authenticate();
    let mut again = bench.sent();
    // The second one to the same peer needs a hole.
    bench.welcome();
    again.extend(bench.sent());
    let asked = again.iter().filter(|it| matches!(it, Message::Introduce { .. })).count();
    assert_eq!(asked, 2, "{again:?}");
}

#[test]
fn a_place_without_a_key_is_not_gone_to() {
    for place in ["there.example:4000", "x@there.example", "two words", ""] {
        let mut bench = bench(|_| {});
        bench.log_in();
        let delay = bench.send_away(1000, place);
        bench.redial(delay);
        assert_eq!(bench.place(), None, "{place}");
    }
}

#[test]
fn a_place_that_does_not_answer_and_home_are_tried_in_turn() {
    let mut bench = bench(|_| {});
    bench.log_in();
    let delay = bench.send_away(1000, &there());
    bench.redial(delay);
    assert_eq!(bench.place(), Some(there()));
    bench.fail(LoginError::Unreachable("no".into()));
    assert_eq!(bench.place(), None);
    bench.fail(LoginError::TimedOut);
    assert_eq!(bench.place(), Some(there()));
    bench.authenticate();
    bench.welcome();
    // Where it was logged in it is looked for first.
    bench.fail(lost());
    assert_eq!(bench.place(), Some(there()));
    bench.fail(lost());
    assert_eq!(bench.place(), None);
    bench.authenticate();
    bench.welcome();
    bench.fail(lost());
    bench.fail(lost());
    assert_eq!(bench.place(), None, "home again, it stays there");
}

#[test]
fn an_impostor_elsewhere_ends_nothing() {
    let mut bench = bench(|_| {});
    bench.log_in();
    let delay = bench.send_away(1000, &there());
    bench.redial(delay);
    let wrong = NoiseError::WrongKey { expected: other().1, found: PeerId::from_bytes([7; 15]) };
    bench.fail(LoginError::Handshake(wrong));
    assert_eq!(bench.place(), None);
    bench.fail(lost());
    assert_eq!(bench.place(), None, "and is not tried again");
}

#[test]
fn who_is_sent_to_and_fro_stays_at_home_after_a_few_times() {
    let mut bench = bench(|_| {});
    bench.log_in();
    let mut places = Vec::new();
    for place in [there(), back(), there(), back(), there()] {
        let delay = bench.send_away(1000, &place);
        assert!(delay >= limits::RECONNECT_FIRST / 10);
        bench.redial(delay);
        places.push(bench.place());
        bench.authenticate();
        bench.welcome();
    }
    assert_eq!(limits::REDIRECTS, 3);
    assert_eq!(places, [Some(there()), Some(back()), Some(there()), None, None]);
    bench.pass(limits::REDIRECT_REST);
    let delay = bench.send_away(1000, &there());
    bench.redial(delay);
    assert_eq!(bench.place(), Some(there()), "that was long ago");
}

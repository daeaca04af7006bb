//! The closer look at our own NAT: its steps, their deadlines, and what comes late.

use super::*;
use crate::proto::nat::SERIES;
use crate::wire::message::{DialBackEnd, Filtering, Hairpinning, Refusal};

const OBSERVED: &str = "198.51.100.7:1000";

/// The hole endpoints of S.
const HOLES: [&str; 2] = ["192.0.2.1:8000", "192.0.2.1:8001"];

/// Where the look's hole shows.
const SHOWN: &str = "198.51.100.7:7000";

const CONNECTED: DialBackEnd = DialBackEnd::Connected;
const SILENCE: DialBackEnd = DialBackEnd::Silence;

/// How far a look is brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    Opening,
    DialledBack,
    Watching,
    Counting,
    Hairpin,
}

const ALL: [Until; 5] =
    [Until::Opening, Until::DialledBack, Until::Watching, Until::Counting, Until::Hairpin];

/// A look that has come so far, and the tag of its hole.
struct Looking {
    bench: Bench,
    tag: u64,
}

impl Looking {
    /// Behind a NAT that hands ports out in sequence: such a look has all steps.
    fn at(until: Until) -> Self {
        let mut bench = bench(|config| config.reachable = true);
        bench.log_in();
        let tag = bench.look_until(until);
        bench.events();
        Self { bench, tag }
    }

    /// Behind a NAT with endpoint-independent mapping, which is the only one that may be dialled from
    /// both ends.
    fn at_shared_hairpin() -> Self {
        let mut bench = bench(|config| config.reachable = true);
        bench.log_in();
        bench.show_main([1000, 1000]);
        bench.show_fresh(SERIES, |index| 40_000 + index);
        let tag = bench.opened().expect("it looks closely");
        bench.show_hole(tag);
        bench.dialled_back(tag, SILENCE, SILENCE);
        bench.events();
        Self { bench, tag }
    }

    /// The look is over, and its hole closed; nothing ticks.
    fn assert_settled(&mut self) {
        let (bench, tag) = (&mut self.bench, self.tag);
        let closed = bench.actions().iter().filter(|it| **it == Action::CloseHole { tag }).count();
        assert_eq!(closed, 1, "the hole is closed, once");
        let nat = bench.peer.nat();
        let settled = |event: &Event| matches!(event, Event::NatSettled(said) if *said == nat);
        assert_eq!(bench.events().iter().filter(|event| settled(event)).count(), 1);
        assert_eq!((bench.peer.holes(), bench.peer.poll_timeout()), (0, None));
        assert!(!bench.peer.is_looking_from(tag));
    }

    /// Whatever may still be said of the look is said, and means nothing.
    fn assert_deaf(&mut self) {
        let (bench, tag) = (&mut self.bench, self.tag);
        let nat = bench.peer.nat();
        let holes = bench.peer.holes();
        bench.actions();
        bench.events();
        bench.peer.handle_hole_shown(tag, "198.51.100.7:7001".parse().unwrap(), bench.now);
        bench.peer.handle_hole_lost(tag, bench.now);
        bench.dialled_back(tag, CONNECTED, CONNECTED);
        bench.peer.handle_hairpin(tag, Hairpinning::Supported, bench.now);
        assert_eq!(bench.actions(), []);
        assert!(bench.events().is_empty());
        assert_eq!((bench.peer.nat(), bench.peer.holes()), (nat, holes));
    }

    fn lose_login(&mut self) {
        self.bench.peer.handle_main_lost(LoginError::Lost("power cut".into()), self.bench.now);
    }

    fn change_network(&mut self) {
        let hosts = vec!["10.0.0.2".parse().unwrap(), "10.8.0.1".parse().unwrap()];
        self.bench.peer.handle_network(Network { hosts, main_stands: true }, self.bench.now);
    }
}

impl Bench {
    /// Brings a look to that step, behind a sequential NAT.
    fn look_until(&mut self, until: Until) -> u64 {
        self.show_main([5001, 5002]);
        self.show_fresh(SERIES, |index| 5003 + index);
        let tag = self.opened().expect("it looks closely");
        if until == Until::Opening {
            return tag;
        }
        self.show_hole(tag);
        if until == Until::DialledBack {
            return tag;
        }
        self.dialled_back(tag, CONNECTED, SILENCE);
        if until == Until::Watching {
            return tag;
        }
        self.pass(limits::SEQUENCE_WATCH_TIME);
        if until == Until::Counting {
            return tag;
        }
        self.show_fresh(3, |index| 5030 + index);
        tag
    }

    /// The main port shows at these ports.
    fn show_main(&mut self, ports: [u16; 2]) {
        for (to, port) in HOLES.into_iter().zip(ports) {
            let mapped = SocketAddr::new([198, 51, 100, 7].into(), port);
            self.peer.handle_main_probe(to.parse().unwrap(), Some(mapped), self.now);
        }
    }

    /// Fresh ports, as many as were asked for, show at these.
    fn show_fresh(&mut self, number: usize, port: impl Fn(u16) -> u16) {
        let asked =
            self.actions().into_iter().filter(|it| matches!(it, Action::ProbeFresh { .. })).count();
        assert_eq!(asked, number, "probes from fresh ports");
        self.answer_fresh(number, port);
    }

    fn answer_fresh(&mut self, number: usize, port: impl Fn(u16) -> u16) {
        for index in 0..number {
            let mapped = ([198, 51, 100, 7], port(index as u16)).into();
            let destination = HOLES[0].parse().unwrap();
            let given = Given { local: 40_000 + index as u16, destination, mapped };
            self.peer.handle_fresh_probe(index, Some(given), self.now);
        }
    }

    /// The hole that has been opened.
    fn opened(&mut self) -> Option<u64> {
        self.actions().into_iter().find_map(|action| match action {
            Action::OpenHole { tag, .. } => Some(tag),
            _ => None,
        })
    }

    fn show_hole(&mut self, tag: u64) {
        self.peer.handle_hole_shown(tag, SHOWN.parse().unwrap(), self.now);
        assert_eq!(self.sent(), [Message::DialBack { tag }]);
    }

    fn dialled_back(&mut self, tag: u64, same_address: DialBackEnd, other_address: DialBackEnd) {
        self.hear(Message::DialedBack { tag, same_address, other_address });
    }

    /// Time passes up to that moment, and nothing has happened just before.
    fn pass_exactly(&mut self, time: Duration) {
        self.actions();
        self.events();
        self.pass(time - Duration::from_millis(1));
        assert_eq!(self.actions(), [], "too early");
        assert!(self.events().is_empty());
        self.pass(Duration::from_millis(1));
    }
}

#[test]
fn a_whole_look_tells_whom_the_nat_lets_in_how_busy_it_is_and_closes_its_hole() {
    let mut looking = Looking::at(Until::Hairpin);
    let hairpin = |action: &Action| matches!(action, Action::Hairpin { to, via: None, .. } if *to == SHOWN.parse().unwrap());
    assert!(looking.bench.actions().iter().any(hairpin), "from the fresh port alone");
    assert!(looking.bench.peer.is_looking_from(looking.tag));
    looking.bench.peer.handle_hairpin(looking.tag, Hairpinning::Supported, looking.bench.now);
    let nat = looking.bench.peer.nat();
    assert_eq!(nat.filtering, Filtering::AddressDependent);
    assert_eq!(nat.refusal, Refusal::Unknown, "no other address of S has ever answered us");
    assert_eq!(nat.hairpinning, Hairpinning::Supported);
    let Allocation::Sequential { delta: 1, busy } = nat.allocation else { panic!("{nat:?}") };
    // 15 ports further in two seconds, and one of them the hole's.
    assert!((6..=8).contains(&busy), "{busy}");
    let told = looking.bench.sent();
    assert!(matches!(&told[..], [Message::Update { nat: told, .. }] if *told == nat), "{told:?}");
    looking.bench.peer.handle_hole_lost(looking.tag, looking.bench.now);
    assert_eq!(looking.bench.actions(), []);
}

#[test]
fn a_hole_that_does_not_show_ends_the_look_in_time() {
    let mut looking = Looking::at(Until::Opening);
    looking.bench.pass_exactly(limits::LOOK_STEP_TIME);
    looking.assert_settled();
    assert_eq!(looking.bench.peer.nat().filtering, Filtering::Unknown);
    looking.assert_deaf();
}

#[test]
fn a_hole_that_can_not_be_opened_ends_the_look_at_once() {
    let mut looking = Looking::at(Until::Opening);
    looking.bench.peer.handle_hole_lost(looking.tag, looking.bench.now);
    looking.assert_settled();
    looking.assert_deaf();
}

#[test]
fn a_hole_whose_connection_is_lost_once_it_has_shown_still_listens() {
    let mut looking = Looking::at(Until::DialledBack);
    looking.bench.peer.handle_hole_lost(looking.tag, looking.bench.now);
    assert_eq!(looking.bench.actions(), []);
    looking.bench.dialled_back(looking.tag, CONNECTED, SILENCE);
    assert_eq!(looking.bench.peer.nat().filtering, Filtering::AddressDependent);
}

#[test]
fn s_is_waited_for_as_long_as_it_may_dial() {
    let mut looking = Looking::at(Until::DialledBack);
    looking.bench.pass_exactly(limits::DIAL_BACK_TIME + limits::LOOK_STEP_TIME);
    // The sequence has been watched for long enough meanwhile.
    looking.bench.pass(Duration::ZERO);
    looking.bench.show_fresh(3, |index| 5030 + index);
    assert_eq!(looking.bench.peer.nat().filtering, Filtering::Unknown);
    // What S says now belongs to a step that is over.
    looking.bench.dialled_back(looking.tag, CONNECTED, CONNECTED);
    assert_eq!(looking.bench.peer.nat().filtering, Filtering::Unknown);
    looking.bench.peer.handle_hairpin(looking.tag, Hairpinning::Supported, looking.bench.now);
    looking.assert_settled();
    looking.assert_deaf();
}

#[test]
fn an_answer_of_another_dial_back_is_none() {
    let mut looking = Looking::at(Until::Opening);
    looking.bench.dialled_back(looking.tag, CONNECTED, CONNECTED);
    assert_eq!(looking.bench.actions(), [], "nobody has asked yet");
    looking.bench.show_hole(looking.tag);
    looking.bench.dialled_back(looking.tag + 1, CONNECTED, CONNECTED);
    assert_eq!(looking.bench.actions(), []);
    assert_eq!(looking.bench.peer.nat().filtering, Filtering::Unknown);
    // The hole shows once more, as after a probe that was sent again: S is asked once.
    let shown = SHOWN.parse().unwrap();
    looking.bench.peer.handle_hole_shown(looking.tag, shown, looking.bench.now);
    assert_eq!(looking.bench.actions(), []);
}

#[test]
fn a_sequence_is_watched_from_the_last_probes_on() {
    let mut looking = Looking::at(Until::DialledBack);
    looking.bench.pass(Duration::from_millis(500));
    looking.bench.dialled_back(looking.tag, CONNECTED, SILENCE);
    looking.bench.pass_exactly(limits::SEQUENCE_WATCH_TIME - Duration::from_millis(500));
    looking.bench.show_fresh(3, |index| 5020 + index);
    assert!(looking.bench.peer.is_looking_from(looking.tag));
}

#[test]
fn counting_probes_that_stay_out_are_taken_back_and_the_look_goes_on() {
    let mut looking = Looking::at(Until::Counting);
    looking.bench.pass_exactly(limits::PROBE_TIME);
    let actions = looking.bench.actions();
    let hairpin = |action: &Action| matches!(action, Action::Hairpin { .. });
    assert!(actions.contains(&Action::CloseProbes), "{actions:?}");
    assert!(actions.iter().any(hairpin), "{actions:?}");
    let nat = looking.bench.peer.nat();
    assert_eq!(nat.allocation, Allocation::Sequential { delta: 1, busy: 0 });
    // Three late answers are no series: what twelve have shown stands, and nothing begins anew.
    looking.bench.answer_fresh(3, |index| 30_000 + 777 * index);
    assert_eq!(looking.bench.actions(), []);
    assert_eq!(looking.bench.peer.nat(), nat);
    looking.bench.peer.handle_hairpin(looking.tag, Hairpinning::Supported, looking.bench.now);
    looking.assert_settled();
}

#[test]
fn a_dial_to_ourselves_that_does_not_come_back_in_time_is_no_hairpin() {
    let mut looking = Looking::at_shared_hairpin();
    looking.bench.pass_exactly(limits::HAIRPIN_TIME);
    assert_eq!(looking.bench.peer.nat().hairpinning, Hairpinning::Unsupported);
    looking.assert_settled();
    looking.assert_deaf();
    assert_eq!(looking.bench.peer.nat().hairpinning, Hairpinning::Unsupported, "it came late");
}

#[test]
fn a_filter_that_may_have_kept_the_dial_out_leaves_hairpinning_unknown() {
    let mut looking = Looking::at(Until::Hairpin);
    looking.bench.pass_exactly(limits::HAIRPIN_TIME);
    assert_eq!(looking.bench.peer.nat().hairpinning, Hairpinning::Unknown);
    looking.assert_settled();
}

#[test]
fn both_ends_dial_where_the_mapping_is_shared() {
    let mut looking = Looking::at_shared_hairpin();
    let via = Some(HOLES[0].parse().unwrap());
    let hairpin = Action::Hairpin { tag: looking.tag, to: SHOWN.parse().unwrap(), via };
    assert!(looking.bench.actions().contains(&hairpin));
    // Another hole's result is none of this look's.
    looking.bench.peer.handle_hairpin(looking.tag + 1, Hairpinning::Supported, looking.bench.now);
    assert!(looking.bench.peer.is_looking_from(looking.tag));
    assert_eq!(looking.bench.peer.nat().hairpinning, Hairpinning::Unknown);
}

#[test]
fn a_login_that_is_lost_takes_its_look_with_it_at_any_step() {
    for until in ALL {
        let mut looking = Looking::at(until);
        let tag = looking.tag;
        looking.bench.actions();
        looking.lose_login();
        let actions = looking.bench.actions();
        assert!(actions.contains(&Action::CloseHole { tag }), "{until:?}: {actions:?}");
        let probing = until == Until::Counting;
        assert_eq!(actions.contains(&Action::CloseProbes), probing, "{until:?}");
        let settled = |event: &Event| matches!(event, Event::NatSettled(_));
        assert!(!looking.bench.events().iter().any(settled), "{until:?}");
        looking.assert_deaf();
        // Nothing but the next dial is due.
        let wait = looking.bench.peer.poll_timeout().unwrap() - looking.bench.now;
        assert!(wait <= limits::RECONNECT_FIRST, "{until:?}");
        looking.bench.pass(wait);
        assert_eq!(looking.bench.actions(), [Action::DialMain], "{until:?}");
        looking.bench.log_in();
        let next = looking.bench.look_until(Until::DialledBack);
        assert_ne!(next, tag);
        looking.assert_deaf();
        looking.bench.dialled_back(next, CONNECTED, CONNECTED);
        assert_eq!(looking.bench.peer.nat().filtering, Filtering::EndpointIndependent);
    }
}

#[test]
fn another_network_has_the_look_begin_anew_at_any_step() {
    for until in ALL {
        let mut looking = Looking::at(until);
        let tag = looking.tag;
        looking.bench.actions();
        looking.change_network();
        if until == Until::Counting {
            // Those that are out are waited for, and say nothing.
            assert_eq!(looking.bench.actions(), []);
            looking.bench.answer_fresh(3, |index| 5030 + index);
        }
        let actions = looking.bench.actions();
        assert!(actions.contains(&Action::CloseHole { tag }), "{until:?}: {actions:?}");
        let probes = actions.iter().filter(|it| matches!(it, Action::ProbeMain { .. })).count();
        assert_eq!(probes, HOLES.len(), "{until:?}");
        looking.assert_deaf();
        let next = looking.bench.look_until(Until::DialledBack);
        assert_ne!(next, tag);
        looking.assert_deaf();
        assert!(looking.bench.peer.is_looking_from(next));
    }
}

#[test]
fn an_end_in_the_middle_leaves_nothing() {
    for until in ALL {
        let mut looking = Looking::at(until);
        looking.bench.peer.stop(looking.bench.now);
        assert_eq!(looking.bench.peer.holes(), 0, "{until:?}");
        assert_eq!(looking.bench.peer.poll_timeout(), None, "{until:?}");
        looking.assert_deaf();
    }
}

#[test]
fn who_only_calls_looks_closely_if_it_is_told_to_and_then_once() {
    let mut bench = bench(|config| config.reachable = false);
    bench.log_in();
    bench.show_main([1000, 1000]);
    assert_eq!(bench.opened(), None);
    bench.peer.look_closely(bench.now);
    bench.show_fresh(SERIES, |index| 40_000 + index);
    assert!(bench.opened().is_some());
    bench.peer.look_closely(bench.now);
    assert_eq!(bench.actions(), []);
}

#[test]
fn a_hole_port_that_never_answers_leaves_the_nat_unknown_and_the_peer_logged_in() {
    let mut bench = bench(|config| config.reachable = true);
    bench.authenticate();
    bench.welcome();
    bench.pass_exactly(limits::PROBE_TIME);
    assert_eq!(bench.actions(), [Action::CloseProbes]);
    let settled =
        |event: &Event| matches!(event, Event::NatSettled(nat) if nat.mapping == Mapping::Unknown);
    assert!(bench.events().iter().any(settled), "there is no closer look");
    assert!(bench.peer.is_logged_in());
    assert_eq!(bench.peer.poll_timeout(), None);
    // They come after all.
    bench.show_main([1000, 1000]);
    assert_eq!(bench.actions(), []);
    assert_eq!(bench.peer.nat().mapping, Mapping::Unknown);
}

#[test]
fn where_no_hole_port_answers_there_is_no_closer_look_though_the_mapping_is_known() {
    let mut bench = bench(|config| config.reachable = true);
    bench.authenticate();
    bench.welcome_from("10.0.0.2:1000");
    bench.pass_exactly(limits::PROBE_TIME);
    assert_eq!(bench.peer.nat().mapping, Mapping::None, "the login has shown as much");
    assert_eq!(bench.opened(), None);
    assert!(bench.events().iter().any(|event| matches!(event, Event::NatSettled(_))));
}

#[test]
fn one_hole_port_that_never_answers_leaves_what_the_other_shows() {
    let mut bench = bench(|config| config.reachable = false);
    bench.authenticate();
    bench.welcome();
    let seen = OBSERVED.parse().unwrap();
    bench.peer.handle_main_probe(HOLES[1].parse().unwrap(), Some(seen), bench.now);
    bench.pass_exactly(limits::PROBE_TIME);
    assert_eq!(bench.peer.nat().mapping, Mapping::EndpointIndependent);
    assert_eq!(bench.peer.hole_endpoints()[0], HOLES[1].parse().unwrap(), "it is asked first");
    let actions = bench.actions();
    let told = |it: &Action| matches!(it, Action::Send(Message::Update { nat, .. }) if nat.mapping == Mapping::EndpointIndependent);
    assert!(actions.contains(&Action::CloseProbes) && actions.iter().any(told), "{actions:?}");
}

#[test]
fn fresh_probes_that_never_answer_are_taken_back() {
    let mut bench = bench(|config| config.reachable = true);
    bench.log_in();
    bench.show_main([5001, 5002]);
    bench.pass_exactly(limits::PROBE_TIME);
    assert_eq!(bench.peer.nat().mapping, Mapping::AddressAndPortDependent);
    assert_eq!(bench.peer.nat().allocation, Allocation::Unknown);
    let actions = bench.actions();
    assert!(actions.contains(&Action::CloseProbes), "{actions:?}");
    assert!(actions.iter().any(|it| matches!(it, Action::OpenHole { .. })), "{actions:?}");
}

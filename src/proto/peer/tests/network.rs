//! The network changes under a login.

use super::*;

/// Probes of the main port that one look sends, one for each hole endpoint.
const LOOK: [&str; 2] = ["192.0.2.1:8000", "192.0.2.1:8001"];

/// At which S sees the main connection.
const OBSERVED: &str = "198.51.100.7:1000";

impl Bench {
    fn notice(&mut self) {
        self.peer.handle_network_changed(self.now);
    }

    /// The network is looked at, and has these addresses.
    fn look(&mut self, hosts: &[&str], main_stands: bool) {
        self.notice();
        self.pass(limits::NETWORK_LOOK_INTERVAL);
        assert_eq!(self.actions(), [Action::LookAtNetwork]);
        self.see(hosts, main_stands);
    }

    fn see(&mut self, hosts: &[&str], main_stands: bool) {
        let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        self.peer.handle_network(Network { hosts, main_stands }, self.now);
    }

    fn probes(&mut self) -> Vec<SocketAddr> {
        let actions = self.actions().into_iter();
        actions
            .filter_map(|action| match action {
                Action::ProbeMain { to } => Some(to),
                _ => None,
            })
            .collect()
    }

    /// All probes of a look show the same endpoint.
    fn shown(&mut self, mapped: &str) {
        for to in LOOK {
            let mapped = Some(mapped.parse().unwrap());
            self.peer.handle_main_probe(to.parse().unwrap(), mapped, self.now);
        }
    }

    /// Logged in, and all known.
    fn settled(&mut self) {
        self.log_in();
        self.shown(OBSERVED);
        self.events();
        assert_eq!(self.sent().len(), 1);
    }

    fn login_from(&mut self, hosts: &[&str]) -> Login {
        let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        self.peer.login(1000, hosts, NONCE)
    }

    fn lost(&mut self) -> Option<(LoginError, Option<Duration>)> {
        self.events().into_iter().find_map(|event| match event {
            Event::LoggedOut { error, retry_in } => Some((error, retry_in)),
            _ => None,
        })
    }
}

fn behind_eim() -> Nat {
    let allocation = Allocation::Preserving;
    Nat { mapping: Mapping::EndpointIndependent, allocation, ..Nat::default() }
}

#[test]
fn a_burst_is_one_look_and_the_next_has_to_wait() {
    let mut bench = bench(|config| config.reachable = false);
    bench.settled();
    for _ in 0..10 {
        bench.notice();
        bench.pass(limits::NETWORK_SETTLE_TIME / 20);
        assert!(bench.actions().is_empty(), "it has not settled");
    }
    bench.pass(limits::NETWORK_SETTLE_TIME / 2);
    assert_eq!(bench.actions(), [Action::LookAtNetwork]);
    bench.see(&["10.0.0.2"], true);
    for _ in 0..10 {
        bench.notice();
        bench.pass(limits::NETWORK_LOOK_INTERVAL / 11);
        assert!(bench.actions().is_empty(), "it was looked at just now");
    }
    bench.pass(limits::NETWORK_LOOK_INTERVAL / 2);
    assert_eq!(bench.actions(), [Action::LookAtNetwork], "what came meanwhile is seen");
    bench.see(&["10.0.0.2"], true);
    assert_eq!(bench.peer.poll_timeout(), None);
}

#[test]
fn nothing_new_is_nothing() {
    let mut bench = bench(|config| config.reachable = false);
    bench.settled();
    bench.look(&["10.0.0.2"], true);
    assert!(bench.actions().is_empty() && bench.events().is_empty());
    assert_eq!(bench.peer.poll_timeout(), None, "and nothing ticks");
}

#[test]
fn another_address_has_the_nat_looked_at_and_s_told() {
    let mut bench = bench(|config| config.reachable = false);
    bench.settled();
    bench.look(&["10.0.0.2", "10.8.0.1"], true);
    assert_eq!(bench.probes(), LOOK.map(|to| to.parse().unwrap()));
    bench.shown(OBSERVED);
    let sent = bench.sent();
    let [Message::Update { nat, hosts, .. }] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((*nat, hosts.len()), (behind_eim(), 2));
    assert!(bench.peer.is_logged_in());
}

#[test]
fn a_change_while_the_probes_are_out_has_them_sent_again() {
    let mut bench = bench(|config| config.reachable = false);
    bench.log_in();
    bench.notice();
    bench.pass(limits::NETWORK_SETTLE_TIME);
    assert_eq!(bench.actions(), [Action::LookAtNetwork]);
    bench.see(&["10.0.0.2", "10.8.0.1"], true);
    assert!(bench.probes().is_empty(), "those of the login are out");
    bench.shown(OBSERVED);
    assert_eq!(bench.probes().len(), LOOK.len());
    bench.shown(OBSERVED);
    assert!(matches!(&bench.sent()[..], [Message::Update { hosts, .. }] if hosts.len() == 2));
}

#[test]
fn addresses_that_come_before_the_welcome_are_told_after_it() {
    let mut bench = bench(|config| config.reachable = false);
    bench.authenticate();
    bench.actions();
    bench.notice();
    bench.pass(limits::NETWORK_SETTLE_TIME);
    bench.see(&["10.0.0.2", "10.8.0.1"], true);
    bench.welcome();
    bench.actions();
    bench.shown(OBSERVED);
    assert!(matches!(&bench.sent()[..], [Message::Update { hosts, .. }] if hosts.len() == 2));
}

#[test]
fn a_login_of_the_old_network_is_left_and_made_anew_at_once_and_only_once_so() {
    let mut bench = bench(|config| config.reachable = false);
    bench.settled();
    bench.look(&["10.0.0.3"], false);
    assert_eq!(bench.actions(), [Action::CloseMain]);
    assert_eq!(bench.lost(), Some((LoginError::NetworkChanged, Some(Duration::ZERO))));
    bench.pass(Duration::ZERO);
    assert_eq!(bench.actions(), [Action::DialMain]);
    bench.peer.handle_main_lost(LoginError::Unreachable(String::new()), bench.now);
    let (_, delay) = bench.lost().unwrap();
    assert!(delay.unwrap() >= limits::RECONNECT_FIRST / 10, "{delay:?}");
    bench.pass(Duration::ZERO);
    assert!(bench.actions().is_empty());
}

#[test]
fn a_dial_from_the_old_network_is_made_anew() {
    let mut bench = bench(|config| config.reachable = false);
    bench.actions();
    bench.look(&["10.0.0.3"], false);
    bench.pass(Duration::ZERO);
    assert_eq!(bench.actions(), [Action::CloseMain, Action::DialMain]);
}

#[test]
fn who_waits_to_dial_again_does_so_when_there_is_another_network() {
    let mut bench = bench(|config| config.reachable = false);
    bench.settled();
    for _ in 0..10 {
        bench.peer.handle_main_lost(LoginError::Unreachable(String::new()), bench.now);
        bench.pass(bench.peer.poll_timeout().unwrap() - bench.now);
        bench.actions();
    }
    bench.peer.handle_main_lost(LoginError::Unreachable(String::new()), bench.now);
    // A wait of up to 30 s.
    bench.notice();
    bench.pass(limits::NETWORK_SETTLE_TIME);
    let actions = bench.actions();
    assert_eq!(actions, [Action::LookAtNetwork]);
    bench.see(&["10.0.0.2"], true);
    assert!(bench.actions().is_empty(), "the same network as before");
    bench.notice();
    bench.now += limits::NETWORK_LOOK_INTERVAL;
    bench.see(&["10.0.0.3"], true);
    assert_eq!(bench.actions(), [Action::DialMain]);
    bench.events();
    bench.peer.handle_main_lost(LoginError::Unreachable(String::new()), bench.now);
    let (_, delay) = bench.lost().unwrap();
    assert!(delay.unwrap() <= limits::RECONNECT_FIRST, "it begins anew: {delay:?}");
}

#[test]
fn who_is_stopped_looks_at_nothing() {
    let mut bench = bench(|config| config.reachable = false);
    bench.settled();
    bench.notice();
    bench.peer.stop(bench.now);
    bench.actions();
    bench.pass(limits::NETWORK_SETTLE_TIME);
    bench.notice();
    bench.pass(limits::NETWORK_LOOK_INTERVAL);
    assert!(bench.actions().is_empty());
    assert_eq!(bench.peer.poll_timeout(), None);
}

#[test]
fn a_login_says_what_the_last_one_learnt_only_on_the_same_network() {
    let mut bench = bench(|config| config.reachable = false);
    assert_eq!(bench.login_from(&["10.0.0.2"]).nat, Nat::default());
    bench.settled();
    assert_eq!(bench.login_from(&["10.0.0.2"]).nat, behind_eim());
    assert_eq!(bench.login_from(&["10.0.0.3"]).nat, Nat::default());
    assert_eq!(bench.peer.nat(), Nat::default());
}

#[test]
fn what_the_login_said_is_not_said_again() {
    let mut bench = bench(|config| config.reachable = false);
    bench.settled();
    bench.peer.handle_main_lost(LoginError::Lost(String::new()), bench.now);
    bench.pass(limits::RECONNECT_FIRST);
    bench.log_in();
    bench.shown(OBSERVED);
    assert!(bench.sent().is_empty());
    assert_eq!(bench.peer.nat(), behind_eim());
}

#[test]
fn another_public_address_at_login_is_another_nat() {
    let mut bench = bench(|config| config.reachable = false);
    bench.settled();
    bench.peer.handle_main_lost(LoginError::Lost(String::new()), bench.now);
    bench.pass(limits::RECONNECT_FIRST);
    bench.authenticate();
    bench.actions();
    bench.welcome_from("198.51.100.99:1000");
    assert_eq!(bench.peer.nat(), Nat::default());
    let told = bench.sent();
    assert!(
        matches!(&told[..], [Message::Update { nat, .. }] if *nat == Nat::default()),
        "{told:?}"
    );
    bench.shown("198.51.100.99:1000");
    assert!(matches!(&bench.sent()[..], [Message::Update { nat, .. }] if *nat == behind_eim()));
}

#[test]
fn a_hole_at_another_public_address_shows_that_the_login_is_dead() {
    let mut bench = bench(|config| config.reachable = false);
    bench.settled();
    let new = "198.51.100.99";
    bench.peer.handle_public_address(new.parse().unwrap(), bench.now);
    bench.pass(limits::NETWORK_SETTLE_TIME);
    assert_eq!(bench.actions(), [Action::LookAtNetwork]);
    bench.see(&["10.0.0.2"], true);
    assert_eq!(
        bench.probes().len(),
        LOOK.len(),
        "the addresses are the same, the way out may not be"
    );
    bench.shown(&format!("{new}:1000"));
    bench.pass(Duration::ZERO);
    assert_eq!(bench.actions(), [Action::CloseMain, Action::DialMain]);
    assert!(bench.login_from(&["10.0.0.2"]).nat == behind_eim(), "until S says where it is");
}

#[test]
fn a_nat_with_several_addresses_is_doubted_once_for_each() {
    let mut bench = bench(|config| config.reachable = false);
    bench.settled();
    for last in 1..=2 * limits::POOL_ADDRESSES as u8 {
        bench.peer.handle_public_address([203, 0, 113, last].into(), bench.now);
        bench.pass(limits::NETWORK_LOOK_INTERVAL);
        if usize::from(last) > limits::POOL_ADDRESSES {
            assert!(bench.actions().is_empty(), "it has enough of them");
            continue;
        }
        assert_eq!(bench.actions(), [Action::LookAtNetwork]);
        bench.see(&["10.0.0.2"], true);
        assert_eq!(bench.probes().len(), LOOK.len());
        bench.shown(OBSERVED);
        bench.peer.handle_public_address([203, 0, 113, last].into(), bench.now);
        bench.pass(limits::NETWORK_LOOK_INTERVAL);
        assert!(bench.actions().is_empty(), "the same one again");
        assert!(bench.peer.is_logged_in());
    }
    bench.peer.handle_public_address("2001:db8::1".parse().unwrap(), bench.now);
    assert_eq!(bench.peer.poll_timeout(), None, "the other family says nothing of this one");
}

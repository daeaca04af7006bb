//! Who may join a relay, who is joined with whom, and what it counts against.

use super::*;
use crate::wire::message::Role;
use crate::wire::refusal::RelayRefusal;
use crate::wire::stun::Join;

struct Meeting {
    world: World,
    a: Known,
    b: Known,
    release: Release,
}

/// Two peers whose first round is released.
fn meeting(limits: Limits) -> Meeting {
    let mut world = World::with_limits(limits);
    let (a, b) = (world.open(1), world.open(5));
    world.introduce(a, 1, 5);
    let (release, _) = world.releases(a, b);
    Meeting { world, a, b, release }
}

fn join_of(peer: Known, release: &Release, role: Role) -> Join {
    let (introduction, token) = (release.introduction, release.token);
    Join { session: peer.token, introduction, token, role }
}

impl World {
    fn join(&mut self, link: u64, join: &Join) -> JoinVerdict {
        let verdict = self.s.handle_relay_join(LinkId(link), join, self.now);
        self.s.check();
        verdict
    }

    fn refused_links(&mut self) -> Vec<(LinkId, RelayRefusal)> {
        let refused = |action| match action {
            Action::RefuseRelay { link, refusal } => Some((link, refusal)),
            _ => None,
        };
        self.actions().into_iter().filter_map(refused).collect()
    }
}

impl Meeting {
    fn new() -> Self {
        meeting(Limits::default())
    }

    fn join(&mut self, link: u64, role: Role) -> JoinVerdict {
        let peer = if role == Role::Controller { self.a } else { self.b };
        self.world.join(link, &join_of(peer, &self.release, role))
    }

    /// Both join.
    fn relay(&mut self) -> RelayId {
        assert_eq!(self.join(101, Role::Controlled), JoinVerdict::Waiting);
        match self.join(102, Role::Controller) {
            JoinVerdict::Paired { relay, with: LinkId(101) } => relay,
            verdict => panic!("{verdict:?}"),
        }
    }

    /// The introduction ends well, and a second one of the same two begins.
    fn again(&mut self, request: u32) {
        self.world.outcome(self.a, self.release.introduction, 1, RoundResult::Connected);
        self.world.introduce(self.a, request, 5);
        for (_, message) in self.world.sent() {
            let Message::Release(release) = message else { continue };
            self.release = *release;
        }
    }
}

const OFF: JoinVerdict = JoinVerdict::Refused(RelayRefusal::Off);
const UNKNOWN: JoinVerdict = JoinVerdict::Refused(RelayRefusal::Unknown);
const QUOTA: JoinVerdict = JoinVerdict::Refused(RelayRefusal::Quota);
const FULL: JoinVerdict = JoinVerdict::Refused(RelayRefusal::Full);

#[test]
fn the_release_says_where_and_the_second_side_completes_the_pair() {
    let mut meeting = Meeting::new();
    assert_eq!(meeting.release.relay, Some(addr("0.0.0.0:8000")));
    let relay = meeting.relay();
    assert_eq!(
        meeting.world.s.poll_timeout(),
        Some(meeting.world.now + limits().introduction_time)
    );
    assert_eq!(meeting.world.s.stats().relays_started, 1);
    meeting.world.s.handle_relay_ended(relay, 1000, RelayEnd::Finished);
    meeting.world.s.handle_relay_ended(relay, 1000, RelayEnd::Finished);
    let stats = meeting.world.s.stats();
    assert_eq!((stats.relayed_bytes, stats.relays_ended[&RelayEnd::Finished]), (1000, 1));
    assert_eq!(meeting.world.s.relays(), 0);
}

fn limits() -> Limits {
    Limits::default()
}

#[test]
fn all_that_is_wrong_with_a_join_is_refused_alike() {
    let mut meeting = Meeting::new();
    let right = join_of(meeting.a, &meeting.release, Role::Controller);
    let stranger = meeting.world.open(9);
    let wrong = [
        Join { session: stranger.token, ..right },
        Join { session: meeting.b.token, ..right },
        Join { session: [0; 16], ..right },
        Join { introduction: 2, ..right },
        Join { token: [0; 16], ..right },
        Join { role: Role::Controlled, ..right },
    ];
    for join in wrong {
        assert_eq!(meeting.world.join(1, &join), UNKNOWN, "{join:?}");
    }
    assert_eq!(meeting.world.s.stats().relays_refused[&RelayRefusal::Unknown], 6);
    assert_eq!(meeting.world.s.relays(), 0);
}

#[test]
fn one_side_twice_makes_no_pair_and_a_pair_takes_no_third() {
    let mut meeting = Meeting::new();
    assert_eq!(meeting.join(1, Role::Controller), JoinVerdict::Waiting);
    assert_eq!(meeting.join(2, Role::Controller), UNKNOWN);
    assert!(matches!(meeting.join(3, Role::Controlled), JoinVerdict::Paired { .. }));
    for role in [Role::Controller, Role::Controlled] {
        assert_eq!(meeting.join(4, role), UNKNOWN);
    }
    assert_eq!(meeting.world.s.relays(), 1);
}

#[test]
fn before_the_release_nobody_joins() {
    let mut world = World::new();
    let (a, b) = (world.open(1), world.open_behind(2, Mapping::AddressAndPortDependent));
    world.introduce(a, 1, 2);
    world.prepared(b, 1);
    let token = world.s.tokens.of_introduction(super::super::table::IntroductionId(1));
    let join = Join { session: a.token, introduction: 1, token, role: Role::Controller };
    assert_eq!(world.join(1, &join), UNKNOWN);
}

#[test]
fn who_waits_alone_is_told_in_time_and_may_come_again() {
    let mut meeting = Meeting::new();
    assert_eq!(meeting.join(1, Role::Controller), JoinVerdict::Waiting);
    meeting.world.pass(limits().relay_join_time);
    assert_eq!(meeting.world.refused_links(), [(LinkId(1), RelayRefusal::Alone)]);
    assert_eq!(meeting.world.s.relays(), 0);
    meeting.relay();
}

#[test]
fn who_leaves_before_the_other_comes_is_not_waited_for() {
    let mut meeting = Meeting::new();
    assert_eq!(meeting.join(1, Role::Controller), JoinVerdict::Waiting);
    meeting.world.s.handle_relay_left(LinkId(1));
    meeting.world.s.check();
    assert_eq!(meeting.join(2, Role::Controlled), JoinVerdict::Waiting);
    assert_eq!(meeting.world.s.relays(), 1);
}

#[test]
fn a_direct_connection_ends_the_wait() {
    let mut meeting = Meeting::new();
    meeting.join(1, Role::Controlled);
    let a = meeting.a;
    meeting.world.outcome(a, 1, 1, RoundResult::Connected);
    assert_eq!(meeting.world.refused_links(), [(LinkId(1), RelayRefusal::Unknown)]);
    assert_eq!(meeting.join(2, Role::Controller), UNKNOWN);
}

#[test]
fn a_pair_outlives_its_introduction_and_both_sessions() {
    let mut meeting = Meeting::new();
    let relay = meeting.relay();
    let (a, b) = (meeting.a, meeting.b);
    meeting.world.outcome(a, 1, 1, RoundResult::Connected);
    meeting.world.close(a);
    meeting.world.close(b);
    assert!(meeting.world.refused_links().is_empty());
    assert_eq!((meeting.world.s.introductions(), meeting.world.s.relays()), (0, 1));
    meeting.world.s.handle_relay_ended(relay, 5, RelayEnd::Broken);
    assert_eq!(meeting.world.s.relays(), 0);
}

#[test]
fn failed_rounds_leave_the_relay_to_be_joined() {
    let mut meeting = Meeting::new();
    let a = meeting.a;
    meeting.world.outcome(a, 1, 1, RoundResult::Failed);
    meeting.relay();
}

#[test]
fn a_pair_counts_against_both_until_it_ends() {
    let limits = Limits { relays_per_peer: 1, ..Limits::default() };
    let mut meeting = meeting(limits);
    let relay = meeting.relay();
    meeting.again(2);
    assert_eq!(meeting.join(1, Role::Controller), QUOTA);
    assert_eq!(meeting.join(1, Role::Controlled), QUOTA);
    meeting.world.s.handle_relay_ended(relay, 5, RelayEnd::Idle);
    assert_eq!(meeting.join(1, Role::Controller), JoinVerdict::Waiting);
}

#[test]
fn relays_are_bounded_in_all() {
    let mut meeting = meeting(Limits { relays: 1, ..Limits::default() });
    meeting.relay();
    meeting.again(2);
    assert_eq!(meeting.join(1, Role::Controller), FULL);
    assert_eq!(meeting.world.s.stats().relays_refused[&RelayRefusal::Full], 1);
}

#[test]
fn switched_off_it_is_neither_offered_nor_granted() {
    let mut meeting = Meeting::new();
    let config = Config { relay: false, ..meeting.world.s.config.clone() };
    meeting.world.s.set_config(config);
    assert_eq!(meeting.join(1, Role::Controller), OFF);
    meeting.again(2);
    assert_eq!(meeting.release.relay, None);
}

#[test]
fn draining_refuses_who_waits_and_leaves_the_pairs() {
    let mut meeting = Meeting::new();
    meeting.relay();
    meeting.again(2);
    assert_eq!(meeting.join(1, Role::Controller), JoinVerdict::Waiting);
    meeting.world.s.drain("", meeting.world.now);
    meeting.world.s.check();
    assert_eq!(meeting.world.refused_links(), [(LinkId(1), RelayRefusal::Unknown)]);
    assert_eq!(meeting.world.s.relays(), 1);
}

#[test]
fn while_it_drains_a_relay_may_be_joined_and_is_waited_for() {
    let mut meeting = Meeting::new();
    assert_eq!(meeting.join(101, Role::Controlled), JoinVerdict::Waiting);
    meeting.world.s.begin_drain(Farewell::default());
    let JoinVerdict::Paired { relay, .. } = meeting.join(102, Role::Controller) else { panic!() };
    let (a, introduction) = (meeting.a, meeting.release.introduction);
    meeting.world.outcome(a, introduction, 1, RoundResult::Relayed);
    let s = &mut meeting.world.s;
    assert_eq!((s.sessions(), s.relays(), s.is_drained()), (0, 1, false));
    s.handle_relay_ended(relay, 1000, RelayEnd::Finished);
    assert!(s.is_drained());
}

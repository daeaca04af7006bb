//! The rounds of an introduction, and how it ends.

use super::*;
use crate::wire::message::Role;

/// Two peers whose first round is released.
fn introduced() -> (World, Known, Known) {
    let mut world = World::new();
    let (a, b) = (world.open(1), world.open(5));
    world.introduce(a, 1, 5);
    world.releases(a, b);
    (world, a, b)
}

/// The holes of the next round are asked for, and shown.
fn gather(world: &mut World, a: Known, b: Known, round: u8) -> u64 {
    let sent = world.sent();
    let tag = match sent[..] {
        [(to_a, Message::Prepare { tag, .. }), (to_b, ref prepare)] => {
            assert_eq!((to_a, to_b), (a.link, b.link));
            assert_eq!(*prepare, Message::Prepare { tag, round, probes: 1 });
            tag
        }
        _ => panic!("{sent:?}"),
    };
    assert_eq!(world.probe(a, tag, round, "203.0.113.1:71"), ProbeVerdict::Tied);
    assert_eq!(world.probe(b, tag, round, "203.0.113.5:75"), ProbeVerdict::Tied);
    tag
}

#[test]
fn a_connection_ends_it_without_a_word() {
    let (mut world, a, _) = introduced();
    world.outcome(a, 1, 1, RoundResult::Connected);
    assert!(world.sent().is_empty());
    assert_eq!((world.s.introductions(), world.s.poll_timeout()), (0, None));
    assert_eq!(world.s.stats().introductions_connected, 1);
}

#[test]
fn a_failed_round_is_followed_by_one_with_fresh_holes_in_step() {
    let (mut world, a, b) = introduced();
    world.outcome(a, 1, 1, RoundResult::Failed);
    let second = gather(&mut world, a, b, 2);
    let (to_a, to_b) = world.releases(a, b);
    assert_eq!((to_a.round, to_b.round), (2, 2));
    assert_eq!((to_a.from, to_b.from), (Port::Hole(second), Port::Hole(second)));
    assert_eq!((to_a.request, to_a.role), (1, Role::Controller));
    assert_eq!((to_a.delay, to_b.delay), (20_000, 0), "the nearer one waits");

    world.outcome(a, 1, 2, RoundResult::Failed);
    let third = gather(&mut world, a, b, 3);
    assert_ne!(second, third);
    world.releases(a, b);
    world.outcome(a, 1, 3, RoundResult::Failed);
    let over = cancelled(1, RefusalCode::NoConnection);
    assert_eq!(world.sent(), [(a.link, over.clone()), (b.link, over)]);
    let stats = world.s.stats();
    assert_eq!((stats.introductions_failed, stats.rounds_released), (1, [1, 1, 1]));
}

#[test]
fn only_the_controller_s_word_counts_and_only_on_the_round_that_is_on() {
    let (mut world, a, b) = introduced();
    let stranger = world.open(9);
    world.outcome(b, 1, 1, RoundResult::Connected);
    world.outcome(b, 1, 1, RoundResult::Failed);
    world.outcome(stranger, 1, 1, RoundResult::Connected);
    world.outcome(stranger, 1, 1, RoundResult::GivenUp);
    world.outcome(a, 1, 2, RoundResult::Failed);
    world.outcome(a, 1, 0, RoundResult::Connected);
    assert!(world.sent().is_empty());
    world.outcome(a, 1, 1, RoundResult::Failed);
    assert_eq!(world.sent().len(), 2);
    world.outcome(a, 1, 1, RoundResult::Failed);
    world.outcome(a, 1, 2, RoundResult::Failed);
    assert!(world.sent().is_empty(), "the second round is not on yet");
    assert_eq!((world.s.introductions(), world.s.stats().stray_outcomes), (1, 8));
}

#[test]
fn a_stranger_s_failure_is_answered_as_if_there_were_nothing() {
    let (mut world, _, _) = introduced();
    let stranger = world.open(9);
    for introduction in [1, 2, u64::MAX] {
        world.outcome(stranger, introduction, 1, RoundResult::Failed);
        let gone = cancelled(introduction, RefusalCode::PeerGone);
        assert_eq!(world.sent(), [(stranger.link, gone)]);
    }
    assert_eq!(world.s.introductions(), 1);
}

#[test]
fn a_late_connection_of_an_earlier_round_counts() {
    let (mut world, a, _) = introduced();
    world.outcome(a, 1, 1, RoundResult::Failed);
    world.sent();
    world.outcome(a, 1, 1, RoundResult::Connected);
    assert_eq!(world.s.stats().introductions_connected, 1);
    assert_eq!(world.s.poll_timeout(), None);
}

#[test]
fn either_side_may_give_up_and_the_other_is_told() {
    let (mut world, a, b) = introduced();
    world.outcome(a, 1, 1, RoundResult::GivenUp);
    assert_eq!(world.sent(), [(b.link, cancelled(1, RefusalCode::PeerGone))]);
    world.introduce(a, 2, 5);
    world.releases(a, b);
    world.outcome(b, 2, 1, RoundResult::GivenUp);
    assert_eq!(world.sent(), [(a.link, cancelled(2, RefusalCode::PeerGone))]);
    assert_eq!(world.s.stats().introductions_given_up, 2);
}

#[test]
fn it_does_not_last_for_ever() {
    let (mut world, a, b) = introduced();
    let deadline = world.now + Limits::default().introduction_time;
    assert_eq!(world.s.poll_timeout(), Some(deadline));
    world.pass(Limits::default().introduction_time);
    let over = cancelled(1, RefusalCode::NoConnection);
    assert_eq!(world.sent(), [(a.link, over.clone()), (b.link, over)]);
    assert_eq!(world.s.stats().introductions_timed_out, 1);
    assert_eq!(world.s.poll_timeout(), None);
}

#[test]
fn a_peer_that_goes_between_two_rounds_is_missed() {
    let (mut world, a, b) = introduced();
    world.outcome(a, 1, 1, RoundResult::Failed);
    world.sent();
    world.close(b);
    assert_eq!(world.sent(), [(a.link, cancelled(1, RefusalCode::PeerGone))]);
}

#[test]
fn a_later_round_whose_holes_do_not_show_is_released_from_the_main_ports() {
    let (mut world, a, b) = introduced();
    world.outcome(a, 1, 1, RoundResult::Failed);
    world.sent();
    world.pass(Limits::default().hole_time);
    let (to_a, to_b) = world.releases(a, b);
    assert_eq!((to_a.round, to_a.from, to_b.from), (2, Port::Main, Port::Main));
    assert_eq!(world.s.stats().holes_missed, 2);
}

#[test]
fn introductions_are_numbered_upwards_and_have_their_own_tokens() {
    let (mut world, a, b) = introduced();
    let mut last = (1, [0; 16]);
    for request in 2..5 {
        world.outcome(a, last.0, 1, RoundResult::Connected);
        world.introduce(a, request, 5);
        let (release, _) = world.releases(a, b);
        assert_eq!(release.introduction, last.0 + 1);
        assert_ne!(release.token, last.1);
        last = (release.introduction, release.token);
    }
}

//! An introduction's first round: who needs a hole, what the releases say, who ends it.

use super::*;
use crate::limits;
use crate::wire::message::CandidateKind::{Host, Predicted, ServerReflexive};
use crate::wire::message::{CHOSEN_BY_SERVER, Role};

fn candidates(release: &Release) -> Vec<(crate::wire::message::CandidateKind, String)> {
    release.candidates.iter().map(|each| (each.kind, each.address.to_string())).collect()
}

#[test]
fn main_ports_are_released_at_once_the_farther_one_first() {
    let mut world = World::new();
    let (a, b) = (world.open(1), world.open(2));
    world.introduce(a, 42, 2);
    let links = world.s.outbox.actions.iter().map(|action| match action {
        Action::Send { link, .. }
        | Action::Close { link, .. }
        | Action::RefuseRelay { link, .. } => *link,
        Action::DialBack { .. } => panic!("{action:?}"),
    });
    assert_eq!(links.collect::<Vec<_>>(), [b.link, a.link]);
    let (to_a, to_b) = world.releases(a, b);
    assert_eq!((to_a.introduction, to_a.request, to_a.round, to_a.delay), (1, 42, 1, 0));
    assert_eq!((to_b.introduction, to_b.request, to_b.round, to_b.delay), (1, 0, 1, 0));
    assert_eq!((to_a.role, to_b.role), (Role::Controller, Role::Controlled));
    assert_eq!((to_a.key, to_b.key), (b.key, a.key));
    assert_eq!((to_a.nonce, to_b.nonce), ([2; 16], [2; 16]), "the controlled's, in both");
    assert_eq!(to_a.token, to_b.token);
    assert_eq!((to_a.from, to_b.from), (Port::Main, Port::Main));
    let of_b = [(Host, "192.168.0.2:1000".into()), (ServerReflexive, "203.0.113.2:5000".into())];
    assert_eq!(candidates(&to_a), of_b);
    assert_eq!(world.s.stats().rounds_released, [1, 0, 0]);
}

#[test]
fn a_sequential_nat_is_probed_and_its_next_ports_are_predicted() {
    let mut world = World::new();
    let a = world.open(1);
    let b = world.open_behind(2, Mapping::AddressAndPortDependent);
    world.introduce(a, 1, 2);
    let tag = world.prepared(b, 1);
    assert_eq!(world.probe(b, tag, 2, "203.0.113.2:6001"), ProbeVerdict::Unknown, "wrong round");
    assert_eq!(world.probe(a, tag, 1, "203.0.113.2:6001"), ProbeVerdict::Unknown, "wrong session");
    world.probe_beside(b, tag, &["203.0.113.2:6003", "203.0.113.2:6002"]);
    assert!(world.sent().is_empty());
    assert_eq!(world.probe(b, tag, 1, "203.0.113.2:6001"), ProbeVerdict::Tied);
    let (to_a, to_b) = world.releases(a, b);
    assert_eq!(to_b.from, Port::Hole(tag));
    assert_eq!(to_a.from, Port::Main);
    assert_eq!(to_a.nat.mapping, Mapping::AddressAndPortDependent);
    let of_b = [(Host, "192.168.0.2:3000".into()), (ServerReflexive, "203.0.113.2:6001".into())];
    assert_eq!(candidates(&to_a)[..2], of_b);
    let predicted = (6004..6020).map(|port| (Predicted, format!("203.0.113.2:{port}")));
    assert_eq!(candidates(&to_a)[2..], predicted.collect::<Vec<_>>());
    assert_eq!(to_b.sockets, 1);
    assert_eq!(world.probe(b, tag, 1, "203.0.113.2:6002"), ProbeVerdict::Tied, "again: no harm");
    assert!(world.sent().is_empty());
}

#[test]
fn a_hole_of_its_own_is_awaited_and_not_asked_for() {
    let mut world = World::new();
    let (a, b) = (world.open(1), world.open(2));
    world.say(a, Message::Introduce { request: 9, peer: b.id, from: Port::Hole(5) });
    assert!(world.sent().is_empty());
    assert_eq!(world.probe(a, 5, 0, "203.0.113.1:7001"), ProbeVerdict::Tied);
    let (to_a, to_b) = world.releases(a, b);
    assert_eq!((to_a.from, to_b.from), (Port::Hole(5), Port::Main));
    let of_a = [(Host, "192.168.0.1:3000".into()), (ServerReflexive, "203.0.113.1:7001".into())];
    assert_eq!(candidates(&to_b), of_a);
}

#[test]
fn a_hole_that_has_shown_before_releases_at_once_and_serves_once() {
    let mut world = World::new();
    let (a, b) = (world.open(1), world.open(2));
    assert_eq!(world.probe(a, 5, 0, "203.0.113.1:7001"), ProbeVerdict::Tied);
    world.say(a, Message::Introduce { request: 9, peer: b.id, from: Port::Hole(5) });
    let (to_a, _) = world.releases(a, b);
    assert_eq!(to_a.from, Port::Hole(5));
    for tag in [5, 0, CHOSEN_BY_SERVER | 5] {
        world.say(a, Message::Introduce { request: 10, peer: b.id, from: Port::Hole(tag) });
        let code = RefusalCode::Protocol;
        let refused = Message::Refused(Refused { request: 10, code, text: String::new() });
        assert_eq!(world.sent(), [(a.link, refused)], "tag {tag:#x}");
    }
}

#[test]
fn holes_that_nobody_asked_for_are_bounded() {
    let mut world = World::new();
    let (a, b) = (world.open(1), world.open(2));
    for tag in 1..=limits::SPARE_HOLES as u64 + 1 {
        assert_eq!(world.probe(a, tag, 0, "203.0.113.1:7001"), ProbeVerdict::Tied);
    }
    world.say(a, Message::Introduce { request: 1, peer: b.id, from: Port::Hole(1) });
    assert!(world.sent().is_empty(), "the oldest was forgotten, and is awaited");
}

#[test]
fn both_sides_may_need_a_hole_and_the_last_one_releases() {
    let mut world = World::new();
    let a = world.open_behind(1, Mapping::AddressDependent);
    let b = world.open_behind(2, Mapping::AddressAndPortDependent);
    world.introduce(a, 1, 2);
    let tags = world.sent().into_iter().map(|(link, message)| match message {
        Message::Prepare { tag, round: 1, .. } => (link, tag),
        message => panic!("{message:?}"),
    });
    let tags = tags.collect::<Vec<_>>();
    assert_eq!(tags.iter().map(|(link, _)| *link).collect::<Vec<_>>(), [a.link, b.link]);
    world.probe_beside(b, tags[1].1, &["203.0.113.2:2002", "203.0.113.2:2003"]);
    assert_eq!(world.probe(b, tags[1].1, 1, "203.0.113.2:2001"), ProbeVerdict::Tied);
    assert!(world.sent().is_empty());
    world.probe_beside(a, tags[0].1, &["203.0.113.1:2002", "203.0.113.1:2003"]);
    assert_eq!(world.probe(a, tags[0].1, 1, "203.0.113.1:2001"), ProbeVerdict::Tied);
    let (to_a, to_b) = world.releases(a, b);
    assert_eq!((to_a.sockets, to_b.sockets), (48, 48));
    let aimed = (Predicted, "203.0.113.2:2027".to_string());
    assert_eq!(candidates(&to_a).last(), Some(&aimed), "one port, in the middle of the volley");
}

#[test]
fn a_round_that_was_planned_without_knowing_the_nat_is_followed_by_another_at_once() {
    let mut world = World::new();
    let (a, b) = (world.open(1), world.open(2));
    world.introduce(a, 1, 2);
    world.releases(a, b);
    let nat = Nat {
        mapping: Mapping::AddressAndPortDependent,
        allocation: Allocation::Sequential { delta: 1, busy: 0 },
        ..Nat::default()
    };
    world.say(b, update(nat));
    assert!(world.sent().iter().any(|(link, message)| *link == b.link
        && matches!(message, Message::Prepare { round: 2, probes: 3, .. })));
    world.say(b, update(nat));
    assert!(world.sent().is_empty(), "nothing new");
}

#[test]
fn a_random_nat_needs_no_probe_and_makes_a_birthday() {
    let mut world = World::new();
    let (a, b) = (world.open(1), world.open(2));
    let nat = Nat {
        mapping: Mapping::AddressAndPortDependent,
        allocation: Allocation::Block { first: 2048, last: 3071 },
        ..Nat::default()
    };
    world.say(b, update(nat));
    world.introduce(a, 1, 2);
    let (to_a, to_b) = world.releases(a, b);
    let spray = to_a.spray.expect("the predictable side sprays");
    assert_eq!((spray.first, spray.last, spray.ip), (2048, 3071, addr("203.0.113.2:1").ip()));
    assert_eq!((to_a.sockets, to_b.spray), (1, None));
    assert!(to_b.sockets > 1);
}

#[test]
fn who_does_not_listen_on_the_main_port_needs_a_hole() {
    let mut world = World::new();
    let a = world.open(1);
    let b = world.login(2, Login { local_port: 0, ..open_login(2) });
    world.sent();
    world.introduce(a, 1, 2);
    world.prepared(b, 1);
    world.introduce(b, 1, 1);
    world.prepared(b, 1);
}

#[test]
fn a_hole_that_does_not_show_is_done_without() {
    let mut world = World::new();
    let a = world.open(1);
    let b = world.open_behind(2, Mapping::AddressAndPortDependent);
    world.introduce(a, 1, 2);
    let tag = world.prepared(b, 1);
    let hole_time = Limits::default().hole_time;
    assert_eq!(world.s.poll_timeout(), Some(world.now + hole_time));
    world.pass(hole_time);
    let (to_a, to_b) = world.releases(a, b);
    assert_eq!(to_b.from, Port::Main);
    let of_b = [(Host, "192.168.0.2:1000".into()), (ServerReflexive, "203.0.113.2:5000".into())];
    assert_eq!(candidates(&to_a), of_b);
    assert_eq!(world.probe(b, tag, 1, "203.0.113.2:1"), ProbeVerdict::Unknown, "too late");
    assert_eq!(world.s.stats().holes_missed, 1);
}

#[test]
fn two_introductions_do_not_share_one_four_tuple() {
    let mut world = World::new();
    let (a, b) = (world.open(1), world.open(2));
    world.introduce(a, 1, 2);
    world.releases(a, b);
    world.introduce(a, 2, 2);
    let tag = world.prepared(a, 1);
    world.probe(a, tag, 1, "203.0.113.1:9");
    let (to_a, to_b) = world.releases(a, b);
    assert_eq!((to_a.from, to_b.from), (Port::Hole(tag), Port::Main));
    world.introduce(b, 1, 1);
    world.prepared(b, 1);

    world.outcome(a, 1, 1, RoundResult::Connected);
    world.introduce(a, 3, 2);
    world.releases(a, b);
}

#[test]
fn the_main_port_s_other_family_becomes_a_candidate() {
    let mut world = World::new();
    let (a, b) = (world.open(1), world.open(2));
    assert_eq!(world.probe(b, 0, 0, "203.0.113.2:7777"), ProbeVerdict::Tied);
    assert_eq!(world.probe(b, 0, 0, "[2001:db8::2]:1000"), ProbeVerdict::Tied);
    world.introduce(a, 1, 2);
    let (to_a, _) = world.releases(a, b);
    let of_b = [
        (Host, "192.168.0.2:1000".into()),
        (ServerReflexive, "203.0.113.2:5000".into()),
        (ServerReflexive, "[2001:db8::2]:1000".into()),
    ];
    assert_eq!(candidates(&to_a), of_b);
}

#[test]
fn candidates_are_distinct_and_lead_somewhere() {
    let mut world = World::new();
    let a = world.open(1);
    let hosts =
        ["203.0.113.2", "0.0.0.0", "224.0.0.1", "127.0.0.1", "::1", "fe80::1", "203.0.113.2"];
    let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
    let b = world.login(2, Login { hosts, local_port: 5000, ..open_login(2) });
    world.sent();
    world.introduce(a, 1, 2);
    let (to_a, _) = world.releases(a, b);
    assert_eq!(candidates(&to_a), [(Host, "203.0.113.2:5000".into())]);
}

#[test]
fn loopback_is_a_candidate_where_s_sees_loopback() {
    let mut world = World::new();
    let a = world.open(1);
    let hosts = vec!["127.0.0.1".parse().unwrap()];
    let login = Login { hosts, ..open_login(2) };
    let remote = addr("[::ffff:127.0.0.1]:5000");
    let now = world.now;
    let session =
        world.s.handle_login(LinkId(99), remote, key(2), login, Duration::ZERO, now).unwrap();
    let b = Known { link: LinkId(99), session, key: key(2), ..a };
    world.sent();
    world.introduce(a, 1, 2);
    let (to_a, _) = world.releases(a, b);
    let of_b = [(Host, "127.0.0.1:1000".into()), (ServerReflexive, "127.0.0.1:5000".into())];
    assert_eq!(candidates(&to_a), of_b);
}

#[test]
fn a_request_that_makes_no_sense_is_refused() {
    let mut world = World::new();
    let (a, b) = (world.open(1), world.open(2));
    world.introduce(a, 0, 2);
    world.assert_refused(a, 0, RefusalCode::Protocol);
    world.introduce(a, 1, 1);
    world.assert_refused(a, 1, RefusalCode::Yourself);
    world.introduce(a, 1, 2);
    world.releases(a, b);
    world.introduce(a, 1, 2);
    world.assert_refused(a, 1, RefusalCode::Protocol);
    world.introduce(b, 1, 1);
    assert_eq!(world.prepared(b, 1) >> 63, 1, "another session's numbers are its own");
}

#[test]
fn introductions_are_bounded_per_session_and_in_all() {
    let limits = Limits { introductions_per_session: 2, introductions: 3, ..Limits::default() };
    let mut world = World::with_limits(limits);
    let peers: Vec<_> = (1..=5).map(|number| world.open(number)).collect();
    world.introduce(peers[0], 1, 2);
    world.introduce(peers[2], 1, 2);
    world.sent();
    world.introduce(peers[3], 1, 2);
    world.assert_refused(peers[3], 1, RefusalCode::Busy);
    world.introduce(peers[1], 1, 1);
    world.assert_refused(peers[1], 1, RefusalCode::Busy);
    world.introduce(peers[3], 1, 5);
    world.sent();
    world.introduce(peers[3], 2, 5);
    world.assert_refused(peers[3], 2, RefusalCode::Busy);
    world.outcome(peers[0], 1, 1, RoundResult::Connected);
    world.introduce(peers[1], 1, 1);
    world.sent();
    assert_eq!(world.s.introductions(), 3);
}

#[test]
fn a_caller_asks_and_cannot_be_asked_for() {
    let mut world = World::new();
    let (a, b) = (world.caller(1), world.open(2));
    world.introduce(a, 1, 2);
    world.releases(a, b);
    world.introduce(b, 1, 1);
    world.assert_refused(b, 1, RefusalCode::NotAllowed);
}

#[test]
fn a_peer_that_goes_before_the_release_is_missed() {
    let mut world = World::new();
    let a = world.open_behind(1, Mapping::AddressAndPortDependent);
    let b = world.open(2);
    world.introduce(a, 1, 2);
    world.prepared(a, 1);
    world.close(b);
    world.assert_refused(a, 1, RefusalCode::PeerGone);

    let b = world.open(2);
    world.introduce(a, 1, 2);
    world.prepared(a, 1);
    world.close(a);
    assert_eq!(world.sent(), [(b.link, cancelled(2, RefusalCode::PeerGone))]);
    assert_eq!(world.s.stats().introductions_abandoned, 2);
}

#[test]
fn a_peer_that_goes_after_the_release_is_not() {
    let mut world = World::new();
    let (a, b) = (world.open(1), world.open(2));
    world.introduce(a, 1, 2);
    world.releases(a, b);
    world.close(b);
    assert!(world.sent().is_empty());
    assert_eq!(world.s.introductions(), 0);
    world.outcome(a, 1, 1, RoundResult::Failed);
    assert_eq!(world.sent(), [(a.link, cancelled(1, RefusalCode::PeerGone))]);
}

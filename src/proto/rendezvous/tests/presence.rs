//! Watchers and rooms.

use super::*;

fn watched(peer: u8, online: bool) -> Message {
    Message::Presence { peer: id(peer), online, room: String::new() }
}

fn seen(peer: u8, online: bool, room: &str) -> Message {
    Message::Presence { peer: id(peer), online, room: room.into() }
}

fn watch(peers: &[u8]) -> Message {
    Message::Watch { peers: peers.iter().map(|number| id(*number)).collect() }
}

fn join(room: &str) -> Message {
    Message::Join { room: room.into() }
}

/// What was said of presence, without the welcomes.
fn told(world: &mut World) -> Vec<(LinkId, Message)> {
    let mut sent = world.sent();
    sent.retain(|(_, message)| matches!(message, Message::Presence { .. }));
    sent
}

#[test]
fn a_watcher_hears_who_is_there_who_comes_and_who_goes() {
    let mut world = World::new();
    let (a, b) = (world.open(1), world.open(2));
    world.say(a, watch(&[2, 3]));
    assert_eq!(told(&mut world), [(a.link, watched(2, true))]);
    let c = world.login(3, open_login(3));
    assert_eq!(told(&mut world), [(a.link, watched(3, true))]);
    world.close(b);
    world.close(c);
    assert_eq!(told(&mut world), [(a.link, watched(2, false)), (a.link, watched(3, false))]);
    assert_eq!(world.s.stats().presence_messages, 4);
    world.close(a);
    assert_eq!(world.s.watches(), 0);
}

#[test]
fn only_whom_the_peer_permits_hears_of_it() {
    let mut world = World::new();
    let (a, b) = (world.open(1), world.open(2));
    world.say(a, watch(&[3]));
    world.say(b, watch(&[3]));
    let c = world.login(3, Login { allow: allow_only(&[1]), ..open_login(3) });
    assert_eq!(told(&mut world), [(a.link, watched(3, true))]);
    world.say(c, Message::Allow(allow_only(&[2])));
    assert_eq!(told(&mut world), [(a.link, watched(3, false)), (b.link, watched(3, true))]);
    world.say(a, watch(&[3]));
    world.close(c);
    assert_eq!(told(&mut world), [(b.link, watched(3, false))]);
}

#[test]
fn a_new_list_replaces_the_earlier_one() {
    let mut world = World::new();
    let a = world.open(1);
    world.say(a, watch(&[2, 3, 3]));
    assert_eq!(world.s.watches(), 2);
    world.say(a, watch(&[3]));
    assert_eq!(world.s.watches(), 1);
    world.login(2, open_login(2));
    assert!(told(&mut world).is_empty());
    world.say(a, watch(&[]));
    assert_eq!(world.s.watches(), 0);
}

#[test]
fn being_replaced_is_neither_going_nor_coming() {
    let mut world = World::new();
    let (a, d) = (world.open(1), world.open(4));
    world.open(2);
    world.say(a, watch(&[2]));
    world.say(d, watch(&[2]));
    let _ = told(&mut world);
    world.login(2, open_login(2));
    let told_of = |world: &mut World| {
        let mut actions = world.actions();
        actions.retain(|it| matches!(it, Action::Send { message: Message::Presence { .. }, .. }));
        actions
    };
    assert!(told_of(&mut world).is_empty());
    world.login(2, Login { allow: allow_only(&[4]), ..open_login(2) });
    let gone = Action::Send { link: a.link, message: watched(2, false) };
    assert_eq!(told_of(&mut world), [gone], "the newer session's consent is another");
}

#[test]
fn a_caller_s_coming_is_told_to_nobody() {
    let mut world = World::new();
    let a = world.open(1);
    world.say(a, watch(&[2]));
    let caller = world.login(2, Login { reachable: false, ..open_login(2) });
    world.say(caller, Message::Allow(allow_only(&[1])));
    world.close(caller);
    assert!(told(&mut world).is_empty());
}

#[test]
fn watches_are_bounded() {
    let limits = Limits { watched_peers: 2, watches: 3, ..Limits::default() };
    let mut world = World::with_limits(limits);
    let (a, b) = (world.open(1), world.open(2));
    world.say(a, watch(&[5, 6, 7]));
    world.assert_refused(a, 0, RefusalCode::Busy);
    assert_eq!(world.s.watches(), 2);
    world.say(b, watch(&[5, 6]));
    world.assert_refused(b, 0, RefusalCode::Busy);
    assert_eq!(world.s.watches(), 3);
}

#[test]
fn strangers_cannot_keep_a_friend_from_watching() {
    let mut world = World::with_limits(Limits { watchers_per_peer: 2, ..Limits::default() });
    let [one, two, friend, late] = [1, 2, 3, 4].map(|number| world.open(number));
    let shy = world.login(9, Login { allow: allow_only(&[3]), ..open_login(9) });
    let _ = told(&mut world);
    world.say(one, watch(&[9]));
    world.say(two, watch(&[9]));
    world.say(late, watch(&[9]));
    world.assert_refused(late, 0, RefusalCode::Busy);
    world.say(friend, watch(&[9]));
    assert_eq!(told(&mut world), [(friend.link, watched(9, true))]);
    world.close(shy);
    assert_eq!(told(&mut world), [(friend.link, watched(9, false))]);
    for peer in [one, two, friend] {
        world.close(peer);
    }
    assert_eq!(world.s.watches(), 0);
}

#[test]
fn members_of_a_room_hear_of_each_other() {
    let mut world = World::new();
    let (a, b, c) = (world.open(1), world.open(2), world.open(3));
    world.say(a, join("hall"));
    assert!(told(&mut world).is_empty());
    world.say(b, join("hall"));
    let expected = [(a.link, seen(2, true, "hall")), (b.link, seen(1, true, "hall"))];
    assert_eq!(told(&mut world), expected);
    world.say(b, join("hall"));
    world.say(c, join("cellar"));
    assert!(told(&mut world).is_empty());
    assert_eq!(world.s.rooms(), 2);
    world.close(a);
    assert_eq!(told(&mut world), [(b.link, seen(1, false, "hall"))]);
    world.close(b);
    world.close(c);
    assert_eq!(world.s.rooms(), 0);
}

#[test]
fn several_sessions_of_one_peer_are_one_member() {
    let mut world = World::new();
    let (a, b) = (world.open(1), world.open(2));
    let again = world.caller(2);
    world.say(a, join("hall"));
    world.say(b, join("hall"));
    let _ = told(&mut world);
    world.say(again, join("hall"));
    assert_eq!(told(&mut world), [(again.link, seen(1, true, "hall"))]);
    let c = world.open(3);
    world.say(c, join("hall"));
    let to_c: Vec<_> = told(&mut world).into_iter().filter(|(link, _)| *link == c.link).collect();
    assert_eq!(to_c, [(c.link, seen(1, true, "hall")), (c.link, seen(2, true, "hall"))]);
    world.close(b);
    assert!(told(&mut world).is_empty());
    world.close(again);
    let expected = [(a.link, seen(2, false, "hall")), (c.link, seen(2, false, "hall"))];
    assert_eq!(told(&mut world), expected);
}

#[test]
fn rooms_are_bounded() {
    let limits = Limits { rooms: 2, rooms_per_session: 2, room_members: 2, ..Limits::default() };
    let mut world = World::with_limits(limits);
    let [a, b, c] = [1, 2, 3].map(|number| world.open(number));
    for room in ["", &"x".repeat(65)] {
        world.say(a, join(room));
        world.assert_refused(a, 0, RefusalCode::Protocol);
    }
    world.say(a, join("one"));
    world.say(a, join("two"));
    world.say(a, join("three"));
    world.assert_refused(a, 0, RefusalCode::Busy);
    world.say(b, join("three"));
    world.assert_refused(b, 0, RefusalCode::Busy);
    world.say(b, join("one"));
    let _ = told(&mut world);
    world.say(c, join("one"));
    world.assert_refused(c, 0, RefusalCode::Busy);
    world.close(a);
    world.say(c, join("one"));
    assert_eq!(world.s.rooms(), 1);
}

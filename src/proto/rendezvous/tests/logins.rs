//! Logins, replacement, the protocol's edges, consent.

use super::*;
use crate::wire::message::Nonce;

#[test]
fn a_login_is_welcomed_with_what_s_sees() {
    let mut world = World::new();
    let a = world.login(1, open_login(1));
    let welcome = Welcome {
        id: id(1),
        observed: addr("203.0.113.1:5000"),
        token: a.token,
        holes: vec![addr("0.0.0.0:8000")],
        text: "hello".into(),
    };
    assert_eq!(world.sent(), [(a.link, Message::Welcome(welcome))]);
    assert_eq!((world.s.sessions(), world.s.poll_timeout()), (1, None));
}

#[test]
fn a_newer_session_takes_the_place_of_an_earlier_one() {
    let mut world = World::new();
    let old = world.open(1);
    let new = world.login(1, open_login(1));
    let actions = world.actions();
    let closed = Action::Close { link: old.link, code: ClosingCode::Replaced, text: "".into() };
    assert_eq!(actions[0], closed);
    assert_eq!(actions.len(), 2);
    assert_eq!((world.s.sessions(), world.s.stats().replaced), (1, 1));

    world.close(old);
    world.say(old, Message::Ping(1));
    assert_eq!(world.s.sessions(), 1, "the old session's end is not the new one's");
    assert!(world.sent().is_empty());
    world.say(new, Message::Ping(2));
    assert_eq!(world.sent(), [(new.link, Message::Pong(2))]);
}

#[test]
fn who_takes_back_what_it_said_of_its_nat_has_what_others_behind_it_say() {
    let mut world = World::new();
    let (there, elsewhere) =
        (world.open_behind(1, Mapping::AddressAndPortDependent), world.open(2));
    let nat = Nat { mapping: Mapping::EndpointIndependent, ..Nat::default() };
    let moved = world.login(1, Login { reachable: false, nat, ..open_login(1) });
    let of = |world: &World, peer: Known| world.s.sessions.live(peer.session).nat;
    assert_eq!(of(&world, moved), nat, "from where it came");
    world.say(moved, update(Nat::default()));
    assert_eq!(of(&world, moved), of(&world, there));
    world.say(elsewhere, update(Nat::default()));
    assert_eq!(of(&world, elsewhere), Nat::default());
}

#[test]
fn a_replaced_session_s_introductions_end_if_they_are_not_released() {
    let mut world = World::new();
    let a = world.open(1);
    let b = world.open_behind(2, Mapping::AddressAndPortDependent);
    world.introduce(a, 5, 2);
    world.prepared(b, 1);
    world.login(2, open_login(2));
    let refused = Refused { request: 5, code: RefusalCode::PeerGone, text: "".into() };
    let told = Action::Send { link: a.link, message: Message::Refused(refused) };
    assert!(world.actions().contains(&told));
    assert_eq!(world.s.introductions(), 0);
}

#[test]
fn a_slot_s_next_session_is_not_the_last_one() {
    let mut world = World::new();
    let first = world.open(1);
    world.close(first);
    let second = world.open(2);
    assert_ne!(first.session, second.session);
    world.close(first);
    assert_eq!(world.s.sessions(), 1);
    assert_eq!(world.probe(first, 0, 0, "203.0.113.1:1"), ProbeVerdict::Unknown);
    assert_eq!(world.probe(second, 0, 0, "203.0.113.2:1"), ProbeVerdict::Tied);
}

#[test]
fn callers_are_many_and_bounded() {
    let mut world = World::with_limits(Limits { callers_per_peer: 2, ..Limits::default() });
    let caller = || Login { reachable: false, ..open_login(1) };
    world.open(1);
    world.caller(1);
    let second = world.caller(1);
    assert_eq!(world.try_login(1, caller()), Err(RefusalCode::Busy));
    world.close(second);
    assert!(world.try_login(1, caller()).is_ok());
    assert_eq!(world.s.stats().refusals[&RefusalCode::Busy], 1);
}

#[test]
fn a_full_house_still_lets_a_peer_come_back() {
    let mut world = World::with_limits(Limits { sessions: 1, ..Limits::default() });
    world.open(1);
    assert_eq!(world.try_login(2, open_login(2)), Err(RefusalCode::Busy));
    assert!(world.try_login(1, open_login(1)).is_ok());
    assert_eq!(world.s.sessions(), 1);
}

#[test]
fn what_only_s_says_closes_the_session() {
    let mut world = World::new();
    let a = world.open(1);
    world.say(a, Message::Prepare { tag: 1, round: 1, probes: 1 });
    let actions = world.actions();
    assert!(matches!(actions[..], [Action::Close { code: ClosingCode::Protocol, .. }]));
    assert_eq!((world.s.sessions(), world.s.stats().protocol_closes), (0, 1));
    world.say(a, Message::Ping(1));
    world.close(a);
    assert!(world.sent().is_empty());
}

#[test]
fn unknown_messages_are_skipped_up_to_a_bound() {
    let mut world = World::with_limits(Limits { unknown_messages: 2, ..Limits::default() });
    let a = world.open(1);
    world.say(a, Message::Unknown(0x77));
    world.say(a, Message::Unknown(0x77));
    assert!(world.sent().is_empty());
    world.say(a, Message::Unknown(0x77));
    let actions = world.actions();
    assert!(matches!(actions[..], [Action::Close { code: ClosingCode::Protocol, .. }]));
    assert_eq!(world.s.stats().unknown_messages, 3);
}

#[test]
fn strangers_learn_nothing_not_even_presence() {
    let mut world = World::new();
    let a = world.open(1);
    let shy = world.login(2, Login { allow: allow_only(&[9]), ..open_login(2) });
    world.caller(3);
    world.sent();
    for to in [2, 3, 4] {
        world.introduce(a, u32::from(to), to);
        world.assert_refused(a, u32::from(to), RefusalCode::NotAllowed);
    }
    world.close(shy);
    world.introduce(a, 2, 2);
    world.assert_refused(a, 2, RefusalCode::NotAllowed);
}

#[test]
fn whom_a_departed_peer_allows_hears_that_it_is_offline_for_a_while() {
    let mut world = World::new();
    let a = world.open(1);
    let b = world.login(2, Login { allow: allow_only(&[1]), ..open_login(2) });
    world.sent();
    world.close(b);
    world.introduce(a, 7, 2);
    world.assert_refused(a, 7, RefusalCode::Offline);
    assert_eq!(world.s.departed(), 1);
    world.pass(Limits::default().departed_time);
    world.introduce(a, 8, 2);
    world.assert_refused(a, 8, RefusalCode::NotAllowed);
    assert_eq!(world.s.departed(), 0);
}

#[test]
fn only_reachable_peers_that_permit_somebody_are_remembered() {
    let mut world = World::new();
    let hermit = world.login(1, Login { allow: Allow::default(), ..open_login(1) });
    let caller = world.caller(2);
    world.close(hermit);
    world.close(caller);
    assert_eq!(world.s.departed(), 0);
}

#[test]
fn consent_can_be_replaced() {
    let mut world = World::new();
    let a = world.open(1);
    let b = world.open(2);
    world.say(b, Message::Allow(allow_only(&[3])));
    world.introduce(a, 1, 2);
    world.assert_refused(a, 1, RefusalCode::NotAllowed);
    world.say(b, Message::Allow(allow_only(&[1])));
    world.introduce(a, 1, 2);
    world.releases(a, b);
}

#[test]
fn drained_it_closes_all_and_admits_nobody() {
    let mut world = World::new();
    let a = world.open(1);
    world.open_behind(2, Mapping::AddressDependent);
    world.say(a, Message::Watch { peers: vec![id(2)] });
    world.say(a, Message::Join { room: "hall".into() });
    world.introduce(a, 1, 2);
    let _ = world.actions();
    world.s.drain("back soon", world.now);
    let actions = world.actions();
    assert_eq!(actions.len(), 2);
    assert!(actions.iter().all(|action| matches!(
        action,
        Action::Close { code: ClosingCode::ShuttingDown, text, .. } if text == "back soon"
    )));
    world.s.assert_empty();
    world.close(a);
    assert_eq!(world.try_login(1, open_login(1)), Err(RefusalCode::Draining));
}

#[test]
fn the_same_seed_makes_the_same_tokens_and_another_doesn_t() {
    let token = |seed: Nonce| {
        let mut world = World::new();
        world.s = Rendezvous::new(Config::default(), [seed[0]; 32]);
        world.login(1, open_login(1)).token
    };
    assert_eq!(token([1; 16]), token([1; 16]));
    assert_ne!(token([1; 16]), token([2; 16]));
}

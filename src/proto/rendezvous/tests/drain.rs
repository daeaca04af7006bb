//! How a rendezvous stops.

use super::*;
use crate::identity::ServerAddr;
use crate::limits;
use crate::proto::rendezvous::Farewell;
use crate::wire::refusal::{ClosingCode, RefusalCode};

fn farewell(to: Option<ServerAddr>) -> Farewell {
    Farewell { text: "back soon".into(), to }
}

fn closed(actions: &[Action]) -> Vec<LinkId> {
    let links = actions.iter().filter_map(|action| match action {
        Action::Close { link, code: ClosingCode::ShuttingDown, text } if text == "back soon" => {
            Some(*link)
        }
        _ => None,
    });
    links.collect()
}

fn told(actions: &[Action], link: LinkId) -> Option<(u32, String)> {
    actions.iter().find_map(|action| match action {
        Action::Send { link: to, message: Message::Draining { spread, to: other } }
            if *to == link =>
        {
            Some((*spread, other.clone()))
        }
        _ => None,
    })
}

#[test]
fn who_has_nothing_in_progress_goes_at_once_and_the_others_when_it_has_ended() {
    let mut world = World::new();
    let (a, b, idle) = (world.open(1), world.open(2), world.open(3));
    world.say(idle, Message::Watch { peers: vec![id(2)] });
    world.say(idle, Message::Join { room: "hall".into() });
    world.say(a, Message::Join { room: "hall".into() });
    let _ = world.actions();
    world.introduce(a, 1, 2);
    let (release, _) = world.releases(a, b);

    world.s.begin_drain(farewell(None));
    world.s.check();
    assert!(world.s.is_draining() && !world.s.is_drained());
    let actions = world.actions();
    for session in [a, b, idle] {
        assert!(told(&actions, session.link).is_some());
    }
    assert_eq!(closed(&actions), [idle.link]);
    assert!(
        !actions
            .iter()
            .any(|action| matches!(action, Action::Send { message: Message::Presence { .. }, .. }))
    );

    // Nothing new begins.
    world.say(a, Message::Watch { peers: vec![id(2)] });
    world.say(a, Message::Join { room: "hall".into() });
    assert_eq!((world.s.watches(), world.s.rooms()), (0, 0));
    world.introduce(a, 2, 2);
    assert!(world.actions().iter().any(|action| matches!(
        action,
        Action::Send { message: Message::Refused(refused), .. }
            if refused.code == RefusalCode::Draining && refused.request == 2
    )));
    assert_eq!(world.try_login(4, open_login(4)), Err(RefusalCode::Draining));

    // What is in progress ends as ever.
    let introduction = release.introduction;
    world.say(a, Message::Outcome { introduction, round: 1, result: RoundResult::Connected });
    let mut links = closed(&world.actions());
    links.sort_unstable();
    assert_eq!(links, [a.link, b.link]);
    assert!(world.s.is_drained());
    assert_eq!(world.s.stats().introductions_connected, 1);
    world.s.check();
}

#[test]
fn whoever_is_left_by_its_peer_is_told_so_before_it_is_closed() {
    let mut world = World::new();
    let a = world.open(1);
    let b = world.open_behind(2, Mapping::AddressDependent);
    world.introduce(a, 1, 2);
    let _ = world.actions();
    world.s.begin_drain(farewell(None));
    let _ = world.actions();
    world.close(a);
    let actions = world.actions();
    let last = actions.last().unwrap();
    assert_eq!(
        (closed(&actions).as_slice(), closed(std::slice::from_ref(last)).len()),
        (&[b.link][..], 1)
    );
    assert!(actions.len() > 1, "{actions:?}");
    assert!(world.s.is_drained());
    world.s.check();
}

#[test]
fn at_the_end_all_are_closed() {
    let mut world = World::new();
    let a = world.open(1);
    world.open_behind(2, Mapping::AddressDependent);
    world.introduce(a, 1, 2);
    world.s.begin_drain(farewell(None));
    let _ = world.actions();
    world.s.drain("back soon", world.now);
    assert_eq!(closed(&world.actions()).len(), 2);
    assert!(world.s.is_drained());
    world.s.assert_empty();
}

#[test]
fn the_more_come_back_the_longer_it_takes_them_and_late_comers_are_told_the_same() {
    let other: ServerAddr = format!("{}@example.net:4000", id(9)).parse().unwrap();
    let spread = |peers: u8| {
        let mut world = World::new();
        let first = world.open(1);
        (2..=peers).for_each(|peer| {
            world.open(peer);
        });
        let _ = world.actions();
        world.s.begin_drain(farewell(Some(other.clone())));
        let (spread, to) = told(&world.actions(), first.link).unwrap();
        assert_eq!(to, other.to_string());
        let late = world.s.refused_login(RefusalCode::Draining);
        assert_eq!(late[0], Message::Draining { spread, to });
        assert!(matches!(late[1], Message::Closing { code: ClosingCode::ShuttingDown, .. }));
        spread
    };
    assert_eq!(spread(1), limits::RECONNECT_FIRST.as_millis() as u32);
    assert_eq!(limits::RETURNS_PER_SECOND, 1000);
    assert_eq!(spread(250), 250);
    let busy = World::new().s.refused_login(RefusalCode::Busy);
    assert!(matches!(busy[..], [Message::Closing { code: ClosingCode::Busy, .. }]));
}

//! Strangers, and false friends, at the punched port of a peer.

use std::net::SocketAddr;

use gimlet::identity::PeerId;
use gimlet::limits;
use gimlet::net::peer::Event;
use gimlet::net::reactor::HostId;
use gimlet::wire::message::{Message, Port, Release};
use gimlet::wire::noise::{self, FirstFrame, PathContext, PathHandshake};
use gimlet::wire::record::{Opening, Purpose};

use crate::raw::{Leave, Raw, RawPeer, login};
use crate::support::{World, alone, echo};

/// What both sides know of a path.
fn context(release: &Release) -> PathContext {
    PathContext {
        introduction: release.introduction,
        token: release.token,
        nonce: release.nonce,
        remote: release.key,
    }
}

/// Has a peer by hand asked for, and waits until both are released.
fn asked(world: &mut World, a: HostId, b: &mut RawPeer) -> Box<Release> {
    world.ask(a, b.id());
    loop {
        if let Message::Release(release) = b.message(world) {
            return release;
        }
    }
}

/// Asks for a peer by hand, and waits until both are released.
fn asks(world: &mut World, a: &mut RawPeer, b: PeerId) -> Box<Release> {
    a.send(&Message::Introduce { request: 1, peer: b, from: Port::Main });
    loop {
        if let Message::Release(release) = a.message(world) {
            return release;
        }
    }
}

fn main_port_of(world: &mut World, host: HostId) -> SocketAddr {
    world.reactor.peer(host).machine().observed().unwrap()
}

#[test]
fn a_stream_is_not_closed_before_it_is_connected() {
    let _alone = alone();
    let mut world = World::new();
    let (a, _) = world.peer(|_| {});
    world.logged_in(a);
    let mut b = RawPeer::log_in(&mut world, &login());
    let release = asked(&mut world, a, &mut b);
    let context = context(&release);
    let mut path = Raw::connect(main_port_of(&mut world, a));
    let mut out = Vec::new();
    noise::claim(&context, &mut out);
    path.send(&out);
    let body = path.frame(&mut world);
    let Ok(FirstFrame::Offer { handshake, .. }) = FirstFrame::decode(&body) else { panic!() };
    out.clear();
    noise::answer(&b.key, &context, handshake, &mut out).unwrap();
    path.send(&out);
    path.leave(Leave::Reset);
    let mut said = Vec::new();
    world.wait(a, |event| {
        let last = matches!(event, Event::Closed { .. });
        said.push(format!("{event:?}"));
        last.then_some(())
    });
    assert!(said.iter().any(|event| event.starts_with("Connected")), "{said:#?}");
}

#[test]
fn a_thousand_silent_strangers_are_bounded_and_do_not_keep_a_peer_out() {
    const STRANGERS: usize = 1000;
    let _alone = alone();
    let mut world = World::new();
    let before = world.census();
    let (b, b_id) = world.peer(echo);
    world.settled(b);
    let to = main_port_of(&mut world, b);
    let quiet = world.reactor.peer(b).sockets();
    let mut strangers: Vec<_> = (0..STRANGERS).map(|_| Raw::connect(to)).collect();
    world.until("most of them are closed", |world| {
        strangers.iter_mut().for_each(Raw::look);
        assert!(world.reactor.peer(b).sockets() <= quiet + limits::UNCLAIMED_PATHS);
        let closed = strangers.iter().filter(|stranger| stranger.end.is_some()).count();
        closed >= STRANGERS - limits::UNCLAIMED_PATHS
    });
    // The hardest case: a controller that the peer can't dial, by hand.
    let mut a = RawPeer::log_in(&mut world, &login());
    let release = asks(&mut world, &mut a, b_id);
    let mut path = Raw::connect(to);
    let mut out = Vec::new();
    let opening = Opening { purpose: Purpose::Ping, early: Vec::new() };
    let mut payload = Vec::new();
    opening.encode(&mut payload);
    let context = context(&release);
    let handshake = PathHandshake::offer(&a.key, &context, &payload, &mut out);
    path.send(&out);
    let answer = loop {
        let body = path.frame(&mut world);
        match FirstFrame::decode(&body).unwrap() {
            FirstFrame::Answer(answer) => break answer.to_vec(),
            FirstFrame::Claim { introduction, .. } => {
                assert_eq!(introduction, context.introduction)
            }
            FirstFrame::Offer { .. } => panic!("two controllers"),
        }
    };
    handshake.finish(&answer).unwrap();
    // And two peers as they are.
    let (c, _) = world.peer(|_| {});
    world.logged_in(c);
    world.connect(c, b_id);
    drop((strangers, a, path));
    world.reactor.remove(b);
    world.reactor.remove(c);
    world.comes_back_to(before);
}

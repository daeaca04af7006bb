//! The whole system on loopback, in one process and one thread: real sockets, no NAT.

mod support;

use gimlet::net::peer::{Event, LocalEnd, StreamId};
use gimlet::proto::punch::Preference;
use gimlet::wire::message::{Filtering, Hairpinning, Mapping, Refusal};
use gimlet::wire::record::Purpose;

use support::{World, echo};

#[test]
fn two_peers_connect_and_talk() {
    let mut world = World::new();
    let (b, b_id) = world.peer(echo);
    let (a, _) = world.peer(|_| {});
    world.logged_in(b);
    world.logged_in(a);
    world
        .reactor
        .with_peer(a, |peer, core| {
            let purpose = Purpose::Stream("echo".into());
            peer.connect(core, b_id, Preference::Any, purpose, LocalEnd::Application)
        })
        .unwrap();
    let stream = world.wait(a, |event| match event {
        Event::Connected { stream, report, .. } => {
            eprintln!("{report}");
            Some(stream)
        }
        Event::Failed { report, .. } => panic!("{report}"),
        _ => None,
    });
    world.wait(a, |event| matches!(event, Event::Opened(_)).then_some(()));
    let incoming: StreamId = world.wait(b, |event| match event {
        Event::Incoming { stream, .. } => Some(stream),
        _ => None,
    });
    let sent = world.reactor.with_peer(a, |p, core| p.write(core, stream, b"ping")).unwrap();
    assert_eq!(sent, 4);
    world.wait(b, |event| matches!(event, Event::Readable(_)).then_some(()));
    let mut buffer = [0; 10];
    let read = world.reactor.with_peer(b, |p, core| p.read(core, incoming, &mut buffer)).unwrap();
    assert_eq!(&buffer[..read], b"ping");
    world.reactor.with_peer(a, |p, core| p.finish(core, stream)).unwrap();
    world.reactor.with_peer(b, |p, core| p.finish(core, incoming)).unwrap();
    world.wait(b, |event| matches!(event, Event::Readable(_)).then_some(()));
    let read = world.reactor.with_peer(b, |p, core| p.read(core, incoming, &mut buffer)).unwrap();
    assert_eq!(read, 0);
    world.wait(a, |event| matches!(event, Event::Readable(_)).then_some(()));
    let read = world.reactor.with_peer(a, |p, core| p.read(core, stream, &mut buffer)).unwrap();
    assert_eq!(read, 0);
    let end = world.wait(a, |event| match event {
        Event::Closed { end, .. } => Some(end),
        _ => None,
    });
    assert_eq!(end.error, None);
}

#[test]
fn s_dials_back_from_both_its_addresses_and_nothing_stays_open() {
    let mut world = World::with(|options| {
        options.holes = vec!["127.0.0.1:0".parse().unwrap(), "127.0.0.2:0".parse().unwrap()];
    });
    let (b, _) = world.peer(echo);
    let nat = world.settled(b);
    assert_eq!((nat.mapping, nat.filtering), (Mapping::None, Filtering::EndpointIndependent));
    assert_eq!((nat.refusal, nat.hairpinning), (Refusal::Unknown, Hairpinning::Unknown));
    let stats = world.rendezvous().machine().stats();
    assert_eq!((stats.dial_backs, stats.dial_backs_refused), (1, 0));
    assert_eq!(world.reactor.peer(b).machine().holes(), 0);
    let listeners = world.rendezvous().main_addresses().len() + 2;
    world.until("the dials are closed", |world| world.rendezvous().sockets() == listeners + 1);
}

#[test]
fn a_second_dial_from_one_address_shows_less() {
    let mut world = World::new();
    let (b, _) = world.peer(echo);
    assert_eq!(world.settled(b).filtering, Filtering::AddressDependent);
}

#[test]
fn s_dials_nobody_back_if_it_is_told_not_to() {
    let mut world = World::with(|options| options.dial_back = false);
    let (b, _) = world.peer(echo);
    let nat = world.settled(b);
    assert_eq!((nat.filtering, nat.refusal), (Filtering::Unknown, Refusal::Unknown));
    let stats = world.rendezvous().machine().stats();
    assert_eq!((stats.dial_backs, stats.dial_backs_refused), (0, 1));
}

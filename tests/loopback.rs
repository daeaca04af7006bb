//! The whole system on loopback, in one process and one thread: real sockets, no NAT.

mod support;

use gimlet::net::peer::{Event, LocalEnd, StreamId};
use gimlet::proto::punch::Preference;
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

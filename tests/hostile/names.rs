//! A name of the rendezvous is looked up by a helper thread, which may answer when nobody waits.

use std::time::Instant;

use crate::support::{World, alone};

/// Logs a peer in by name: a lookup that began before its own is over by then.
fn another_logs_in_by_name(world: &mut World) {
    let (host, _) = world.peer(|options| options.server.host = "localhost".into());
    world.logged_in(host);
    for _ in 0..20 {
        world.turn();
    }
}

#[test]
fn a_peer_that_is_stopped_while_its_rendezvous_is_looked_up_does_not_log_in() {
    let _alone = alone();
    let mut world = World::new();
    let (host, _) = world.peer(|options| options.server.host = "localhost".into());
    world.reactor.with_peer(host, |peer, core| {
        peer.command(core, |machine| machine.stop(Instant::now()));
    });
    another_logs_in_by_name(&mut world);
    assert_eq!(world.rendezvous().machine().sessions(), 1);
    assert_eq!(world.reactor.peer(host).sockets(), 0);
}

#[test]
fn a_lookup_for_a_peer_that_is_gone_does_not_reach_the_one_in_its_place() {
    let _alone = alone();
    let mut world = World::new();
    let (gone, _) = world.peer(|options| options.server.host = "localhost".into());
    world.reactor.remove(gone);
    let (next, _) = world.peer(|_| {});
    assert_eq!(next, gone, "the slot is taken again");
    world.logged_in(next);
    another_logs_in_by_name(&mut world);
    assert_eq!(world.rendezvous().counters().accepted, 2);
    assert!(world.is_logged_in(next));
}

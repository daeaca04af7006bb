//! Peers that vanish at every step, as if killed: whoever remains hears of it, and keeps nothing.

use gimlet::net::peer::Event;
use gimlet::wire::message::Mapping;

use crate::support::{World, alone, echo};

/// Turns of the loop after which a peer vanishes: from before its login to after the connection.
const STEPS: usize = 60;

#[test]
fn a_peer_that_vanishes_at_every_step_takes_nobody_with_it() {
    let _alone = alone();
    let mut world = World::new();
    let (a, b, b_id) = world.pair();
    world.until("both know their NATs", |world| {
        let knows = |world: &mut World, host| {
            world.reactor.peer(host).machine().nat().mapping != Mapping::Unknown
        };
        // Three listeners and two sessions: no probe is left.
        knows(world, a) && knows(world, b) && world.rendezvous().sockets() == 5
    });
    let before = world.census();
    let mut asked = Vec::new();
    for step in 0..STEPS {
        // One that asks vanishes, and then one that is asked for.
        let (caller, _) = world.peer(|_| {});
        world.ask(caller, b_id);
        turns(&mut world, step);
        world.reactor.remove(caller);

        let (called, called_id) = world.peer(echo);
        world.logged_in(called);
        asked.push(world.ask(a, called_id));
        turns(&mut world, step);
        world.reactor.remove(called);
    }
    let (mut connected, mut failed, mut closed) = (0, 0, 0);
    world.until("every request has ended", |world| {
        while let Some(event) = world.reactor.peer(a).poll_event() {
            match event {
                Event::Connected { .. } => connected += 1,
                Event::Failed { .. } => failed += 1,
                Event::Closed { .. } => closed += 1,
                _ => {}
            }
        }
        connected + failed == STEPS && closed == connected
    });
    assert!(connected > 0 && failed > 0, "{connected} connected, {failed} failed: too few steps");
    world.until("nobody has a punch left", |world| {
        [a, b].iter().all(|host| world.reactor.peer(*host).machine().punches() == 0)
    });
    world.comes_back_to(before);
    while world.reactor.peer(b).poll_event().is_some() {}
    world.connects_and_talks(a, b, b_id);
}

fn turns(world: &mut World, count: usize) {
    for _ in 0..count {
        world.turn();
    }
}

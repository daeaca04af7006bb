//! How long a NAT keeps an idle mapping, asked of a rendezvous on loopback: nothing is lost here.

mod support;

use std::time::Duration;

use gimlet::net::clock;
use gimlet::net::peer::Event;
use gimlet::proto::peer::{self, IdleEnd, Lifetime, LifetimeError};

use support::World;

#[test]
fn an_idle_connection_is_answered_after_the_time_that_was_asked_for() {
    let mut world = World::new();
    let (a, _) = world.peer(|_| {});
    world.logged_in(a);
    let times = [Duration::from_secs(1), Duration::from_secs(2)];
    let asked = clock::now();
    let measure = |world: &mut World, times: &[Duration]| {
        world.reactor.with_peer(a, |peer, core| {
            let mut result = Ok(());
            peer.command(core, |machine| result = machine.measure_lifetime(times, clock::now()));
            result
        })
    };
    assert_eq!(measure(&mut world, &[]), Err(LifetimeError::Times));
    assert_eq!(measure(&mut world, &times), Ok(()));
    assert_eq!(measure(&mut world, &times), Err(LifetimeError::InProgress));
    let mut ends = Vec::new();
    let known = world.wait(a, |event| match event {
        Event::Peer(peer::Event::IdleMapping { idle, end }) => {
            assert!(clock::now() - asked >= idle);
            ends.push((idle, end));
            None
        }
        Event::Peer(peer::Event::LifetimeKnown(lifetime)) => Some(lifetime),
        _ => None,
    });
    assert_eq!(known, Lifetime { lives: Some(times[1]), gone: None });
    assert_eq!(ends, times.map(|time| (time, IdleEnd::Lives)));
    assert_eq!(measure(&mut world, &times[..1]), Ok(()), "the first one is over");
}

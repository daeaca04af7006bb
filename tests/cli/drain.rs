//! How a rendezvous ends: what is in progress, and where its peers go.

use crate::world::{Program, World, echo, gimlet, gimletd, serve, wait_for};

/// A rendezvous with these options, which logs.
fn world(options: &[&str]) -> World {
    let arguments = [&["-v"], options].concat();
    World::with("127.0.0.1:0", &arguments)
}

/// bob shares, and does not answer any more: alice's introduction to him stays in progress.
fn stuck(world: &World) -> (Program, Program) {
    let share = world.share(serve(echo));
    share.signal("STOP");
    let ping = world.start("alice", &["ping", "bob", "--count", "1", "--timeout", "60"]);
    wait_for(&world.rendezvous.stderr, "introduced introduction=");
    (share, ping)
}

#[test]
fn what_is_in_progress_ends_well_and_everybody_goes_to_the_other_rendezvous() {
    let other = World::new();
    let world = world(&["--drain-to", &other.server, "--drain-time", "1h"]);
    let (share, ping) = stuck(&world);
    let watch = world.start("dave", &["watch", "--room", "r", "--json"]);
    watch.event("ready");

    world.rendezvous.signal("TERM");
    // Who has nothing in progress goes at once.
    assert_eq!(watch.event("ready")["server"], other.place());
    // Who comes late is sent on.
    let late = world.start("erin", &["watch", "--room", "r", "--json"]);
    assert_eq!(late.event("ready")["server"], other.place());

    share.signal("CONT");
    let end = ping.end().expect(0);
    assert!(end.stdout().contains("direct: "), "{}", end.stdout());
    assert_eq!(share.event("ready")["server"], other.place());
    let home = world.home("alice");
    let end = world.rendezvous.end().expect(0);
    end.says("drain begins").says("how=Connected").says("ends drained=true");

    // He is reachable there.
    let mut command = gimlet(&["ping", "bob", "--count", "1", "--server", &other.server]);
    Program::start(command.arg("--home").arg(home)).end().expect(0);
    share.signal("TERM");
    share.end().expect(0);
}

#[test]
fn when_the_time_is_up_it_ends_all_the_same() {
    let world = world(&["--drain-time", "100ms"]);
    let (_share, _ping) = stuck(&world);
    world.rendezvous.signal("TERM");
    let end = world.rendezvous.end().expect(0);
    end.says("drain begins sessions=2 introductions=1").says("drained sessions=2");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let world = world(&["--drain-time", "1h"]);
    let (_share, _ping) = stuck(&world);
    world.rendezvous.signal("INT");
    wait_for(&world.rendezvous.stderr, "drain begins");
    world.rendezvous.signal("INT");
    world.rendezvous.end().expect(0).says("ends at once").says("ends drained=false");
}

#[test]
fn a_rendezvous_does_not_send_its_peers_to_itself() {
    let first = World::new();
    let (key, _) = first.server.split_once('@').unwrap();
    first.rendezvous.signal("TERM");
    let itself = format!("{key}@other.example:4000");
    let mut command = gimletd(&first.directory);
    command.args(["--main", "127.0.0.1:0", "--drain-to", &itself]);
    Program::start(&mut command).end().expect(2).says("names this very rendezvous");
}

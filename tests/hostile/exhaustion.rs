//! No descriptors left: in a process of its own, so that no other test is hurt.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::process::Command;
use std::time::Instant;

use gimlet::limits;

use crate::raw::{Raw, main_port};
use crate::support::{DEADLINE, World, alone};

/// Says to the test that it is the one in the process of its own.
const STARVING: &str = "GIMLET_TEST_STARVING";

/// Enough for a world, a pair of peers and some strangers.
const DESCRIPTORS: usize = 96;

#[test]
fn accepting_pauses_without_descriptors_and_goes_on_when_there_are_some() {
    if std::env::var_os(STARVING).is_some() {
        return starve();
    }
    let _alone = alone();
    let itself = std::env::current_exe().unwrap();
    let name = "exhaustion::accepting_pauses_without_descriptors_and_goes_on_when_there_are_some";
    let output = Command::new("sh")
        .args(["-c", &format!("ulimit -n {DESCRIPTORS} && exec \"$0\" \"$@\"")])
        .arg(itself)
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(STARVING, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("starved and recovered"), "the test ran there: {said}");
}

/// Connects until no descriptor is left.
fn take_all(world: &mut World) -> Vec<Raw> {
    let to = main_port(world);
    let mut taken = Vec::new();
    loop {
        match TcpStream::connect_timeout(&to, DEADLINE) {
            Ok(stream) => taken.push(Raw::of(stream)),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
                return taken;
            }
        }
    }
}

fn starve() {
    let mut world = World::new();
    world.healthy_pair_connects();
    world.until("they are gone", World::is_deserted);
    let before = world.census();
    let mut taken = take_all(&mut world);
    world.until("accepting pauses", |world| world.rendezvous().counters().accept_pauses > 0);

    // Strangers who knock again and again don't make it try more often.
    let (begun, pauses) = (Instant::now(), world.rendezvous().counters().accept_pauses);
    let to = main_port(&mut world);
    taken.pop();
    for _ in 0..100 {
        match TcpStream::connect_timeout(&to, DEADLINE) {
            Ok(knock) => {
                world.turn();
                drop(knock);
            }
            // The rendezvous has taken the descriptor in between: make room for the next.
            Err(error) if error.raw_os_error() == Some(libc::EMFILE) => drop(taken.pop()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}"),
        }
        world.turn();
    }
    let tried = u128::from(world.rendezvous().counters().accept_pauses - pauses);
    let allowed = 1 + begun.elapsed().as_millis() / limits::ACCEPT_PAUSE.as_millis();
    assert!(tried <= allowed, "accept was tried {tried} times, where {allowed} were enough");

    drop(taken);
    world.healthy_pair_connects();
    world.comes_back_to(before);
    eprintln!("starved and recovered");
}

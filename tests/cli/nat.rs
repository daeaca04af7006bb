//! `gimlet nat`, where there is no NAT.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::world::{End, Program, World, closed_port, echo, gimlet, gimletd, serve};

/// Without a home, a key or settings.
fn stun(server: &str, arguments: &[&str]) -> End {
    Program::start(gimlet(&["nat", "--stun", server]).args(arguments)).end()
}

#[test]
fn the_rendezvous_shows_that_there_is_no_nat() {
    let world = World::new();
    let events = world.run("alice", &["nat", "--json"]).expect(0).events();
    assert_eq!(events.len(), 1, "one object: {events:?}");
    let nat = &events[0];
    assert_eq!((&nat["event"], &nat["source"]), (&"nat".into(), &"rendezvous".into()));
    assert_eq!((&nat["mapping"], &nat["direct"]), (&"none".into(), &"expected".into()));
    assert_eq!(nat["server"], world.place());
    assert_eq!(nat["public"], serde_json::json!([nat["local"]]));
    assert_eq!(nat["seen"].as_array().unwrap().len(), 3, "the login and two hole ports");
    assert_eq!(nat["with"]["endpoint-independent"], "at-once");
    assert_eq!(nat["exit_code"], 0);
}

#[test]
fn a_person_gets_a_table_and_what_it_means() {
    let world = World::new();
    let end = world.run("alice", &["nat"]).expect(0);
    for words in [
        "Your NAT, as 127.0.0.1:",
        "\n  mapping         none ",
        "no NAT: the public address is this machine's own",
        "What this means: direct connections can be expected.",
    ] {
        assert!(end.stdout().contains(words), "no {words:?} in:\n{}", end.stdout());
    }
    assert_eq!(end.stderr, "", "progress is for terminals");
    world.run("alice", &["nat", "-v"]).expect(0).says("looking at the NAT");
}

#[test]
fn the_hole_ports_are_a_stun_server_like_another() {
    let directory = tempfile::tempdir().unwrap();
    let rendezvous = Program::start(gimletd(&directory).args(["--main", "127.0.0.1:0", "--json"]));
    let holes = rendezvous.event("listening")["holes"].clone();
    let hole = holes[0].as_str().unwrap();
    let events = stun(hole, &["--json"]).expect(0).events();
    let nat = &events[0];
    assert_eq!((&nat["event"], &nat["source"]), (&"nat".into(), &"stun".into()));
    assert_eq!(
        (&nat["mapping"], &nat["allocation"]["kind"]),
        (&"none".into(), &"preserving".into())
    );
    assert_eq!(nat["server"], hole);
    let seen = nat["seen"].as_array().unwrap();
    let by: Vec<_> = seen.iter().map(|seen| &seen["by"]).collect();
    assert_eq!(by, [&holes[0], &holes[1]], "OTHER-ADDRESS leads to the second one");
    let end = stun(hole, &[]).expect(0);
    assert!(end.stdout().contains("each connection keeps its local port"), "{}", end.stdout());
}

#[test]
fn who_does_not_answer_as_a_stun_server_is_told_from_who_does_not_listen() {
    let closed = format!("127.0.0.1:{}", closed_port());
    stun(&closed, &[]).expect(3).says("nobody listens there").says("over UDP alone");
    let ssh = serve(|mut stream: TcpStream| stream.write_all(b"SSH-2.0-x\r\n").unwrap());
    stun(&format!("127.0.0.1:{ssh}"), &[]).expect(3).says("no STUN server");
    // Our own request comes back.
    stun(&format!("127.0.0.1:{}", serve(echo)), &[]).expect(3).says("does not answer");
    let mute = serve(|mut stream: TcpStream| {
        // It reads one byte and closes: an answer is not to be expected.
        let _ = stream.read(&mut [0]);
    });
    stun(&format!("127.0.0.1:{mute}"), &[]).expect(3).says("without an answer");
    let events = stun(&closed, &["--json"]).expect(3).events();
    assert_eq!((&events[0]["event"], &events[0]["exit_code"]), (&"error".into(), &3.into()));
}

#[test]
fn without_a_rendezvous_it_ends_at_once() {
    let home = tempfile::tempdir().unwrap();
    let mut command = gimlet(&["nat", "--server", &format!("127.0.0.1:{}", closed_port())]);
    Program::start(command.arg("--home").arg(home.path()))
        .end()
        .expect(3)
        .says("is gimletd running");
}

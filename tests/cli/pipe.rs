//! `gimlet pipe`: bytes, ends, signals.

use std::io::Write;
use std::process::Stdio;
use std::thread;

use crate::world::{World, count, echo, lines, noise, rest, serve};

#[test]
fn a_pipe_carries_every_byte_both_ways() {
    let world = World::new();
    let share = world.share(serve(echo));
    let bytes = noise(300_000);
    let mut pipe = world.start("alice", &["pipe", "bob/it"]);
    let mut stdin = pipe.stdin.take().unwrap();
    let sent = bytes.clone();
    let writer = thread::spawn(move || stdin.write_all(&sent).unwrap());
    let end = pipe.end().expect(0);
    writer.join().unwrap();
    assert!(end.bytes == bytes, "{} bytes came back", end.bytes.len());
    assert_eq!(end.stderr, "");

    let connected = share.event("connected");
    assert_eq!((&connected["role"], &connected["path"]), (&"controlled".into(), &"direct".into()));
    assert_eq!((&connected["service"], &connected["connection"]), (&"it".into(), &1.into()));
    assert_eq!(connected["report"]["rounds"][0]["from"], "main");
    let closed = share.event("closed");
    assert_eq!((&closed["sent"], &closed["received"]), (&300_000.into(), &300_000.into()));
    assert!(closed["error"].is_null());
}

#[test]
fn the_end_of_stdin_is_passed_on_and_the_service_may_still_answer() {
    let world = World::new();
    let _share = world.share(serve(count));
    let mut pipe = world.start("alice", &["pipe", "BOB/it"]);
    pipe.write(b"0123456789");
    assert_eq!(pipe.end().expect(0).stdout(), "10 bytes");
}

#[test]
fn a_service_that_hangs_up_at_once_loses_nothing() {
    let world = World::new();
    let _share = world.share(serve(|mut stream| stream.write_all(&noise(200_000)).unwrap()));
    let end = world.run("alice", &["pipe", "bob/it"]).expect(0);
    assert!(end.bytes == noise(200_000), "{} bytes", end.bytes.len());
}

#[test]
fn the_end_of_the_service_shows_while_stdin_is_open() {
    let world = World::new();
    let _share = world.share(serve(|mut stream| stream.write_all(b"bye").unwrap()));
    let mut pipe = world.start("alice", &["pipe", "bob/it"]);
    let stdin = pipe.stdin.take();
    assert_eq!(rest(&pipe.stdout), b"bye");
    drop(stdin);
    pipe.end().expect(0);
}

#[test]
fn a_pipe_whose_reader_has_gone_ends_quietly() {
    let world = World::new();
    let _share = world.share(serve(echo));
    let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(reader);
    let mut command = world.command("alice", &["pipe", "bob/it"]);
    command.stdin(Stdio::piped()).stdout(std::os::fd::OwnedFd::from(writer)).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"hello").unwrap();
    let stderr = String::from_utf8(rest(&lines(child.stderr.take().unwrap()))).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(141), ""));
}

#[test]
fn a_signal_ends_a_pipe_with_the_code_of_a_shell() {
    let world = World::new();
    let share = world.share(serve(echo));
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let pipe = world.start("alice", &["pipe", "bob/it"]);
        share.event("connected");
        pipe.signal(name);
        assert_eq!(pipe.end().expect(code).stderr, "");
    }
}

#[test]
fn ssh_hangs_up_and_the_other_side_sees_a_proper_end() {
    let world = World::new();
    let share = world.share(serve(echo));
    let mut pipe = world.start("alice", &["pipe", "bob/it"]);
    let _open = pipe.stdin.take();
    share.event("connected");
    pipe.signal("HUP");
    assert_eq!(pipe.end().expect(0).stderr, "");
    assert!(share.event("closed")["error"].is_null());
}

//! The two programs as a user runs them, on the loopback interface.
//!
//! Every wait has a deadline, nothing sleeps, and whatever was started is killed in the end.

#[path = "cli/drain.rs"]
mod drain;
#[path = "cli/nat.rs"]
mod nat;
#[path = "cli/operator.rs"]
mod operator;
#[path = "cli/pipe.rs"]
mod pipe;
#[path = "cli/world.rs"]
mod world;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::Value;

use self::world::{
    PATIENCE, Program, World, closed_port, echo, gimlet, gimletd, lines, noise, rest, serve,
    wait_for,
};

// ---- what needs no login -----------------------------------------------------------------------------

#[test]
fn the_id_is_made_once() {
    let home = tempfile::tempdir().unwrap();
    let id = |arguments: &[&str]| {
        let mut command = gimlet(arguments);
        Program::start(command.env("XDG_CONFIG_HOME", home.path())).end().expect(0)
    };
    let first = id(&["id"]);
    assert_eq!(first.stdout().trim().len(), 34);
    assert_eq!(first.stdout(), id(&["id"]).stdout());
    assert_eq!(id(&["id", "--json"]).events()[0]["id"], first.stdout().trim());
    assert!(home.path().join("gimlet/key").exists());
}

#[test]
fn the_address_book_is_kept() {
    let home = tempfile::tempdir().unwrap();
    let run =
        |arguments: &[&str]| Program::start(gimlet(arguments).arg("--home").arg(home.path())).end();
    let one = "aaaa-aaaa-aaaa-aaaa-aaaa-aaaa-gimh";
    let other = run(&["id"]).expect(0).stdout().trim().to_owned();
    // The check of an id of zeros, from the program's own mouth, should it be another.
    let one = if run(&["peer", "add", "x", one]).code == Some(0) { one } else { &other };
    run(&["peer", "add", "Home", one]).expect(0);
    run(&["peer", "add", "../etc", one]).expect(2).says("can't be a name");
    run(&["peer", "add", "home", "abcd"]).expect(2).says("is a part missing?");
    let list = run(&["peer", "list", "--json"]).expect(0).events();
    assert!(list.iter().any(|entry| entry["name"] == "home" && entry["id"] == one));
    assert!(run(&["peer", "list"]).stdout().contains(&format!("home  {one}")));
    run(&["peer", "remove", "HOME"]).expect(0);
    run(&["peer", "remove", "home"]).expect(5).says("gimlet peer list");
}

#[test]
fn without_a_server_the_ways_to_name_one_are_told() {
    let home = tempfile::tempdir().unwrap();
    let run =
        |arguments: &[&str]| Program::start(gimlet(arguments).arg("--home").arg(home.path())).end();
    for arguments in [&["watch", "--room", "r"][..], &["share", "ssh=22"]] {
        let end = run(arguments).expect(2);
        for word in ["--server KEY@HOST:4000", "GIMLET_SERVER", "config.toml", "gimletd"] {
            assert!(end.stderr.contains(word), "{}", end.stderr);
        }
    }
}

#[test]
fn a_mistake_in_the_settings_is_named_by_its_line() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("config.toml"), "rooms = []\nsever = 1\n").unwrap();
    let end = Program::start(gimlet(&["id"]).arg("--home").arg(home.path())).end();
    end.expect(2).says("config.toml:2: unknown field `sever`");
}

// ---- the demonstration ---------------------------------------------------------------------------------

#[test]
fn the_demonstration_shows_a_direct_connection() {
    let end = Program::start(&mut gimlet(&["demo"])).end().expect(0);
    for word in
        ["S listens on", "A logs in", "B logs in", "direct and proved", "none of it through S"]
    {
        assert!(end.stdout().contains(word), "{}", end.stdout());
    }
    assert!(!end.stdout().contains('\x1b'), "no colours in a file");
}

#[test]
fn the_demonstration_as_events() {
    let events = Program::start(&mut gimlet(&["demo", "--json"])).end().expect(0).events();
    assert_eq!(events[0]["event"], "listening");
    let summary = events.last().unwrap();
    assert_eq!((&summary["event"], &summary["direct"]), (&"summary".into(), &true.into()));
    assert_eq!(summary["report"]["outcome"]["result"], "connected");
}

#[test]
fn nobody_reads_and_it_ends_quietly() {
    let mut command = gimlet(&["demo"]);
    let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(reader);
    command.stdout(std::os::fd::OwnedFd::from(writer)).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stderr = String::from_utf8(rest(&lines(child.stderr.take().unwrap()))).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
}

// ---- refusals ----------------------------------------------------------------------------------------------

#[test]
fn who_is_not_allowed_learns_what_to_do_and_not_whether_the_peer_exists() {
    let world = World::new();
    let _share = world.share(serve(echo));
    let target = format!("{}/it", world.id("bob"));
    let carol = world.id("carol");
    let not_allowed = world.run("carol", &["pipe", &target]).expect(5);
    assert!(not_allowed.stderr.contains(&format!("--allow {carol}")), "{}", not_allowed.stderr);
    // Nobody has ever heard of dave.
    let dave = world.id("dave");
    let unknown = world.run("carol", &["pipe", &format!("{dave}/it")]).expect(5);
    let bob = world.id("bob");
    assert_eq!(not_allowed.stderr.replace(&bob, ""), unknown.stderr.replace(&dave, ""));
    world.run("carol", &["pipe", "erin/it"]).expect(5).says("gimlet peer add erin ID");
}

#[test]
fn a_peer_that_has_gone_is_offline_to_those_whom_it_allowed() {
    let world = World::new();
    let share = world.share(serve(echo));
    share.signal("TERM");
    assert_eq!(share.end().expect(0).stderr, "");
    let end = world.run("alice", &["pipe", "bob/it", "--json"]).expect(4);
    let last = end.stderr.lines().last().unwrap();
    let error: Value = serde_json::from_str(last).unwrap();
    assert_eq!((&error["event"], &error["exit_code"]), (&"error".into(), &4.into()));
    world.run("alice", &["ping", "bob"]).expect(4).says("bob is offline");
}

#[test]
fn a_service_that_is_not_there() {
    let world = World::new();
    let _share = world.share(closed_port());
    world.run("alice", &["pipe", "bob/other"]).expect(7).says("shares no service named other");
    world.run("alice", &["pipe", "bob/it"]).expect(7).says("can't reach its own service it");
}

#[test]
fn one_cannot_connect_to_oneself() {
    let world = World::new();
    let id = world.id("alice");
    world.run("alice", &["pipe", &format!("{id}/it")]).expect(1).says("this very identity");
}

#[test]
fn a_second_share_of_one_identity_takes_over() {
    let world = World::new();
    let first = world.share(serve(echo));
    let _second = world.share(serve(echo));
    first.end().expect(10);
    world.run("alice", &["ping", "bob", "--count", "1"]).expect(0);
}

// ---- the rendezvous ------------------------------------------------------------------------------------------

#[test]
fn a_rendezvous_that_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let server = format!("127.0.0.1:{}", closed_port());
    let mut command = gimlet(&["ping", &"a".repeat(28), "--timeout", "0.5"]);
    command.arg("--home").arg(directory.path()).args(["--server", &server]);
    // Not an id: that shows before anything is dialled.
    Program::start(&mut command).end().expect(5);
    let id = Program::start(gimlet(&["id"]).arg("--home").arg(directory.path())).end();
    let mut command = gimlet(&["ping", id.stdout().trim(), "--timeout", "0.5"]);
    command.arg("--home").arg(directory.path()).args(["--server", &server]);
    Program::start(&mut command).end().expect(3).says("is gimletd running there");
}

#[test]
fn a_servers_key_is_trusted_once_and_its_change_is_refused() {
    let world = World::new();
    let place = world.place().to_owned();
    let home = tempfile::tempdir().unwrap();
    let start = |arguments: &[&str]| {
        let mut command = gimlet(arguments);
        Program::start(command.arg("--home").arg(home.path()).args(["--server", &place]))
    };
    let watch = start(&["watch", "--room", "r", "--json"]);
    let seen = watch.event("server_key");
    assert_eq!(seen["key"], world.server.split_once('@').unwrap().0);
    watch.event("ready");
    watch.signal("INT");
    watch.end().expect(0);
    assert!(start(&["server", "list"]).end().expect(0).stdout().contains(&place));

    // The port is that of another server now.
    world.rendezvous.signal("TERM");
    let old = world.server.clone();
    drop(world.rendezvous.end().expect(0));
    let other = World::at(&place);
    assert_ne!(other.server, old);
    let refused = start(&["watch", "--room", "r"]).end().expect(9);
    let forget = format!("gimlet server forget {place}");
    refused.says("HAS CHANGED").says("known_servers.toml, line 3").says(&forget);

    start(&["server", "forget", &place]).end().expect(0);
    let watch = start(&["watch", "--room", "r"]);
    watch.line("logged in");
    watch.signal("TERM");
    watch.end().expect(0).says("seen for the first time");

    // Whoever pinned the old key is not asked.
    let mut command = gimlet(&["watch", "--room", "r", "--server", &old]);
    let pinned = Program::start(command.arg("--home").arg(home.path())).end();
    pinned.expect(9).says("its address asks for");
}

#[test]
fn a_rendezvous_prints_what_peers_need() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = gimletd(&directory);
    command.args(["--main", "127.0.0.1:0", "--public", "example.net", "--json"]);
    let rendezvous = Program::start(&mut command);
    let listening = rendezvous.event("listening");
    let (key, port) = (&listening["key"], listening["main"][0].as_str().unwrap());
    let port = port.rsplit_once(':').unwrap().1;
    let address = format!("{}@example.net:{port}", key.as_str().unwrap());
    assert_eq!(listening["addresses"], serde_json::json!([address]));
    assert_eq!(listening["holes"].as_array().unwrap().len(), 2);
    rendezvous.signal("INT");
    assert_eq!(rendezvous.end().expect(0).stderr, "");
}

#[test]
fn a_share_comes_back_after_the_rendezvous_has() {
    let world = World::new();
    let share = world.share(serve(echo));
    let (place, state) = (world.place().to_owned(), world.home("state"));
    world.rendezvous.signal("TERM");
    share.event("logged_out");
    let mut command = Command::new(env!("CARGO_BIN_EXE_gimletd"));
    command.args(["--main", &place, "--hole", "127.0.0.1:0", "--hole", "127.0.0.1:0"]);
    // It may take the old one a moment to let go of the port.
    let _again = loop {
        let again = Program::start(command.arg("--state").arg(&state));
        match again.stdout.recv_timeout(PATIENCE) {
            Ok(line) if line.contains(&b'@') => break again,
            _ => drop(again),
        }
    };
    share.event("ready");
    world.run("alice", &["ping", "bob", "--count", "1"]).expect(0);
}

// ---- ping, watch, forward ----------------------------------------------------------------------------------------

#[test]
fn ping_says_how_the_connection_came_about_and_how_long_it_takes() {
    let world = World::new();
    let share = world.share(serve(echo));
    let arguments = ["ping", "bob", "--count", "3", "--interval", "0.01"];
    let end = world.run("alice", &arguments).expect(0);
    for word in ["round 1 from the main port", "direct: ", "round trip 3: ", "3 of 3 came back"] {
        assert!(end.stdout().contains(word), "{}", end.stdout());
    }
    let events = world.run("alice", &[&arguments[..], &["--json"]].concat()).expect(0).events();
    let pongs: Vec<_> = events.iter().filter(|event| event["event"] == "pong").collect();
    assert_eq!(pongs.iter().map(|pong| &pong["seq"]).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(share.event("connected")["service"].is_null());
}

#[test]
fn members_of_a_room_see_each_other_come_and_go() {
    let world = World::new();
    let bob = world.id("bob");
    world.run("alice", &["peer", "add", "bob", &bob]).expect(0);
    let alice = world.start("alice", &["watch", "--room", "friends", "--json"]);
    alice.event("ready");
    let watch = world.start("bob", &["watch", "--room", "friends"]);
    watch.line("is online, in room friends");
    let came = alice.event("presence");
    assert_eq!((&came["name"], &came["online"]), (&"bob".into(), &true.into()));
    assert_eq!((&came["peer"], &came["room"]), (&bob.into(), &"friends".into()));
    watch.signal("INT");
    watch.end().expect(0);
    assert_eq!(alice.event("presence")["online"], false);
}

#[test]
fn whoever_is_allowed_sees_a_peer_come_and_go() {
    let world = World::new();
    let share = world.share(serve(echo));
    // The whole address book, which is bob.
    let watch = world.start("alice", &["watch"]);
    watch.line("bob is online");
    share.signal("TERM");
    watch.line("bob went offline");
}

#[test]
fn twenty_connections_at_once_are_forwarded() {
    let world = World::new();
    let _share = world.share(serve(echo));
    let forward = world.start("alice", &["forward", "0", "bob/it", "--json"]);
    let listen = forward.event("ready")["listen"].as_str().unwrap().to_owned();
    let clients = (0..20_usize).map(|number| {
        let listen = listen.clone();
        thread::spawn(move || {
            let mut stream = TcpStream::connect(listen).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let bytes = noise(1000 + number);
            stream.write_all(&bytes).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut back = Vec::new();
            stream.read_to_end(&mut back).unwrap();
            assert!(back == bytes, "{number}: {} bytes came back", back.len());
        })
    });
    // All are started before the first is waited for.
    for client in clients.collect::<Vec<_>>() {
        client.join().unwrap();
    }
    for _ in 0..20 {
        assert!(forward.event("closed")["error"].is_null());
    }
    forward.signal("TERM");
    forward.end().expect(0);
}

#[test]
fn a_connection_that_cannot_be_forwarded_is_closed_and_explained() {
    let world = World::new();
    let bob = world.id("bob");
    let forward = world.start("alice", &["forward", "0", &format!("{bob}/it")]);
    let line = forward.line("listening on");
    let listen = line.split_whitespace().nth(2).unwrap();
    let mut stream = TcpStream::connect(listen).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // An RST, or an end.
    assert!(!matches!(stream.read(&mut [0]), Ok(1..)));
    assert!(wait_for(&forward.stderr, "#1").contains("does not allow you"));
    assert!(wait_for(&forward.stderr, "gimlet share it=").contains(&world.id("alice")));
}

//! `gimletd` as its operator sees it: settings and their mistakes, signals, the log.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use gimlet::identity::{PeerId, SecretKey};
use gimlet::net::clock;
use gimlet::net::peer::{Event, LocalEnd, Options, PeerHost};
use gimlet::net::reactor::Reactor;
use gimlet::proto::punch::Preference;
use gimlet::wire::message::Allow;
use gimlet::wire::record::Purpose;

use crate::world::{End, Program, World, echo, gimletd, lines, serve, wait_for};

/// `gimletd check`, with these settings in a file.
fn check(settings: &str, arguments: &[&str]) -> End {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gimletd.toml");
    std::fs::write(&path, settings).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_gimletd"));
    command.current_dir(&directory).args(["check", "--config", "gimletd.toml"]).args(arguments);
    Program::start(&mut command).end()
}

#[test]
fn a_sound_file_is_called_so_and_nothing_is_made() {
    let state = tempfile::tempdir().unwrap();
    let settings = format!("state = {:?}\n[limits]\nrooms = 5\n", state.path());
    let end = check(&settings, &[]).expect(0);
    assert_eq!((end.stdout(), end.stderr.as_str()), ("gimletd.toml: no mistakes\n", ""));
    assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0, "no key");
}

#[test]
fn each_mistake_has_a_line_of_its_own() {
    let end = check("rely = true\n[limits]\nhole-time = \"1h\"\nroms = 5\n", &[]).expect(2);
    end.says("gimletd.toml:1:1: there is no setting \"rely\"; did you mean relay?\n")
        .says("gimletd.toml:3:13: 1h is out of its range, 100ms to 1m\n")
        .says("gimletd.toml:4:1: there is no limit \"roms\"; did you mean rooms?\n");
    check("relay = true", &["--config", "other.toml"]).expect(2);
    check("", &["--limit", "rooms=x"]).expect(2).says("\"x\" is no number");
    check("hole = [\"127.0.0.1:8000\"]", &[]).expect(0).says("WARNING: with one hole port alone");
}

#[test]
fn what_holds_is_printed_as_a_file_and_the_default_file_is_sound() {
    let end = check("[limits]\nrooms = 5\n", &["--print", "--limit", "relays=6"]).expect(0);
    for line in
        ["relay-rate = \"8M\"\n", "\nrooms = 5\n", "\nrelays = 6\n", "\nhole-time = \"4s\"\n"]
    {
        assert!(end.stdout().contains(line), "no {line:?} in {}", end.stdout());
    }
    assert_eq!(check(end.stdout(), &["--print"]).expect(0).bytes, end.bytes);
    let default = check("", &["--default"]).expect(0);
    check(default.stdout(), &[]).expect(0);
}

#[test]
fn a_start_with_a_mistake_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gimletd.toml");
    std::fs::write(&path, "\n[limits]\nsessions = 0\n").unwrap();
    let mut command = gimletd(&directory);
    let end = Program::start(command.args(["--main", "127.0.0.1:0", "--config"]).arg(&path)).end();
    end.expect(2).says("gimletd.toml:3:12: 0 is out of its range, 1 to 16000000");
    assert!(!directory.path().join("state").exists(), "no key is made for it");
}

// ---- while it runs -----------------------------------------------------------------------------------

/// A rendezvous with these settings in a file, and the file.
fn configured(settings: &str) -> (World, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gimletd.toml");
    std::fs::write(&path, settings).unwrap();
    let world =
        World::in_directory(directory, "127.0.0.1:0", &["--config", path.to_str().unwrap()]);
    (world, path)
}

/// The words of the welcome of a new login.
fn welcome(world: &World) -> String {
    let watch = world.start("dave", &["watch", "--room", "r", "--json"]);
    watch.event("ready")["text"].as_str().unwrap().to_owned()
}

#[test]
fn after_a_hangup_the_new_settings_hold_and_sessions_stay() {
    let (world, path) = configured("text = \"one\"\nlog = \"info\"\n");
    let log = &world.rendezvous.stderr;
    let staying = world.start("erin", &["watch", "--room", "r", "--json"]);
    assert_eq!(staying.event("ready")["text"], "one");

    std::fs::write(
        &path,
        "text = \"two\"\npublic = \"a.example\"\nlog = \"info\"\n[limits]\nrooms = 7\n",
    )
    .unwrap();
    world.rendezvous.signal("HUP");
    wait_for(log, "needs a restart setting=public is=- file=\"a.example\"");
    wait_for(log, "changed setting=text was=\"one\" is=\"two\"");
    wait_for(log, "changed setting=rooms was=16384 is=7");
    wait_for(log, "settings read again changes=3");
    assert_eq!(welcome(&world), "two");

    // A mistake changes nothing at all.
    std::fs::write(&path, "text = \"three\"\n\nrely = 1\n").unwrap();
    world.rendezvous.signal("HUP");
    let line = wait_for(log, "all settings stay: ");
    assert!(line.contains("gimletd.toml:3:1: there is no setting \"rely\""), "{line}");
    assert_eq!(welcome(&world), "two");
    // The session from the beginning has heard of the others that came.
    assert_eq!(staying.event("presence")["online"], true);
}

#[test]
fn signals_make_the_log_say_more_and_less() {
    let world = World::with("127.0.0.1:0", &[]);
    let log = &world.rendezvous.stderr;
    for (signal, level) in [("USR1", "info"), ("USR1", "debug"), ("USR2", "info"), ("USR2", "warn")]
    {
        world.rendezvous.signal(signal);
        wait_for(log, &format!("log level={level}"));
    }
    world.rendezvous.signal("HUP");
    wait_for(log, "there is no file");
}

#[test]
fn each_event_of_a_peers_life_is_a_line_with_ids() {
    let world = World::with("127.0.0.1:0", &["-v"]);
    let share = world.share(serve(echo));
    let (alice, bob) = (world.id("alice"), world.id("bob"));
    world.run("alice", &["ping", "bob", "--count", "1"]).expect(0);
    world.run("carol", &["ping", &bob, "--count", "1"]).expect(5);
    share.signal("TERM");
    share.end().expect(0);
    world.rendezvous.signal("TERM");
    let log = world.rendezvous.end().expect(0).stderr;
    let line = |words: &[&str]| {
        let has_all = |line: &&str| words.iter().all(|word| line.contains(word));
        log.lines().find(has_all).unwrap_or_else(|| panic!("no line with {words:?} in\n{log}"))
    };
    line(&["login session=", &format!("peer={bob}"), "from=127.0.0.1:"]);
    line(&["introduced introduction=", "controller=", "controlled=", &format!("peer={bob}")]);
    line(&["ended introduction=", "how=Connected"]);
    line(&["logout session=", &format!("peer={alice}")]);
    line(&["refused session=", "code=not-allowed"]);
    line(&["drain begins sessions="]);
}

/// A peer that says far more than its operator wants to read: each message is two lines of four kilobytes.
fn chatter(server: &str) {
    let options = Options {
        key: Arc::new(SecretKey::generate()),
        server: server.parse().unwrap(),
        reachable: false,
        allow: Allow::default(),
        services: HashMap::new(),
        reconnect: false,
        agent: "chatter".into(),
        spare_holes: 0,
        follow_network: false,
        port_mapping: false,
    };
    let mut reactor = Reactor::new().unwrap();
    let peer = reactor.add_peer(|core, id| PeerHost::open(core, id, options, 1));
    while !reactor.peer(peer).machine().is_logged_in() {
        reactor.turn(None).unwrap();
    }
    let watched: Vec<_> = (0..=255).map(|number| PeerId::from_bytes([number; 15])).collect();
    for _ in 0..400 {
        let watched = watched.clone();
        reactor.with_peer(peer, |peer, core| peer.command(core, |peer| peer.watch(watched)));
        reactor.turn(Some(clock::now())).unwrap();
    }
    // The rendezvous has read all of it when it answers what came after it.
    let [one, other] = [1, 2].map(|number| PeerId::from_bytes([number; 15]));
    let purpose = Purpose::Stream("x".into());
    for to in [one, other] {
        let (any, local) = (Preference::Any, LocalEnd::Application);
        let purpose = purpose.clone();
        let asked =
            reactor.with_peer(peer, |peer, core| peer.connect(core, to, any, purpose, local));
        asked.unwrap();
    }
    let mut refused = 0;
    while refused < 2 {
        reactor.turn(None).unwrap();
        while let Some(event) = reactor.peer(peer).poll_event() {
            refused += usize::from(matches!(event, Event::Failed { .. }));
        }
    }
}

#[test]
fn a_log_that_nobody_reads_stops_nothing_and_is_told_of_later() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = gimletd(&directory);
    command.args(["--main", "127.0.0.1:0", "-vvv", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdout = lines(child.stdout.take().unwrap());
    let listening: serde_json::Value =
        serde_json::from_str(&wait_for(&stdout, "listening")).unwrap();
    let server = listening["addresses"][0].as_str().unwrap();
    chatter(server);
    // Now somebody reads.
    let log = lines(child.stderr.take().unwrap());
    let lost = wait_for(&log, "log lines lost count=");
    let count = lost.split_once("count=").unwrap().1.split_once(':').unwrap().0;
    assert!(count.parse::<u64>().unwrap() > 0);
    chatter(server);
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
    wait_for(&log, "ends drained=true");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

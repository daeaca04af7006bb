//! `gimletd` as its operator sees it: settings and their mistakes.

use std::process::Command;

use crate::world::{End, Program, gimletd};

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

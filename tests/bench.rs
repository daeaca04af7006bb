//! `gimlet-bench` in small: each mode runs, and its numbers fit together. How large they are is nobody's
//! business here.
#![allow(clippy::disallowed_methods, reason = "tests have deadlines of their own")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const BENCH: &str = env!("CARGO_BIN_EXE_gimlet-bench");
const GIMLETD: &str = env!("CARGO_BIN_EXE_gimletd");

/// No wait is longer.
const PATIENCE: Duration = Duration::from_secs(40);

fn bench(arguments: &str) -> Value {
    let output = Command::new(BENCH).args(arguments.split(' ')).arg("--json").output().unwrap();
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
    assert!(output.status.success(), "{arguments}: {stdout}{stderr}");
    let report: Value = serde_json::from_str(&stdout).expect("one object");
    assert!(report["command"].as_str().unwrap().contains(arguments), "{report}");
    report
}

/// A row of the table: so many operations, none of which failed.
fn row<'a>(report: &'a Value, name: &str, count: u64) -> &'a Value {
    let figures = report["figures"].as_array().unwrap();
    let found = figures.iter().find(|figure| figure["name"] == name);
    let row = found.unwrap_or_else(|| panic!("no {name}: {report}"));
    assert_eq!(row["count"], count, "{row}");
    assert_eq!(row["errors"], serde_json::json!({}), "{row}");
    let number = |name: &str| row[name].as_f64().unwrap_or_else(|| panic!("{name}: {row}"));
    let rate = number("count") / number("seconds");
    assert!((number("per_second") / rate - 1.0).abs() < 1e-6, "{row}");
    let latency = &row["latency_us"];
    let ladder = ["p50", "p90", "p99", "p99_9", "max"].map(|at| latency[at].as_f64().unwrap());
    assert!(ladder.is_sorted() && ladder[0] > 0.0, "{row}");
    if !row["server_cpu_us_per_operation"].is_null() {
        let each = number("server_cpu_seconds") * 1e6 / number("count");
        assert!(each > 0.0, "{row}");
        assert!((number("server_cpu_us_per_operation") / each - 1.0).abs() < 1e-6, "{row}");
    }
    row
}

#[test]
fn logins_beside_their_floor() {
    let report = bench("login --peers 60 --in-flight 8 --floor --idle 10");
    let login = row(&report, "login", 60);
    let floor = row(&report, "floor: accept, 16 bytes in and out", 60);
    let cost = |row: &Value| row["server_cpu_us_per_operation"].as_f64().unwrap();
    let ratio = login["floor_ratio"].as_f64().unwrap();
    assert!((ratio / (cost(login) / cost(floor)) - 1.0).abs() < 1e-6, "{report}");
}

#[test]
fn all_come_back_from_a_storm() {
    row(&bench("login --peers 300 --storm"), "login, all at once", 300);
}

#[test]
fn silent_peers_are_counted() {
    let report = bench("idle --peers 50 --seconds 1");
    let values = &report["values"];
    assert_eq!(values["peers"], 50.0);
    for name in ["server_resident_bytes_per_peer", "server_idle_cpu_ms"] {
        assert!(values[name].as_f64().unwrap() >= 0.0, "{report}");
    }
}

#[test]
fn introductions_of_pairs_that_take_turns() {
    row(&bench("introduce --pairs 20 --count 500 --in-flight 5"), "introduction", 500);
}

#[test]
fn punches_are_direct_and_proved() {
    row(&bench("punch --count 60 --in-flight 6"), "punch", 60);
}

#[test]
fn punches_beside_a_storm() {
    let report = bench("punch --count 40 --in-flight 4 --idle 60 --storm 40");
    let punch = row(&report, "punch", 40);
    // Most of it was the storm's.
    assert!(
        punch["server_cpu_us_per_operation"].is_null() && !punch["server_cpu_seconds"].is_null()
    );
    let figures = report["figures"].as_array().unwrap();
    assert!(
        figures.iter().any(|figure| figure["name"] == "beside it: reconnect storms"),
        "{report}"
    );
}

#[test]
fn bytes_are_relayed_by_one_pair_and_by_many() {
    let report = bench("relay --gb 0.02 --pairs 3 --floor");
    for pairs in [1, 3] {
        for name in ["gb_per_second", "server_cpu_seconds_per_gb", "floor_ratio"] {
            let value = report["values"][format!("{name}_at_{pairs}")].as_f64();
            assert!(value.is_some_and(|value| value > 0.0), "{name}: {report}");
        }
    }
}

#[test]
fn several_processes_make_one_count() {
    let storm = bench("login --peers 101 --storm --processes 3 --idle 10");
    row(&storm, "login, all at once", 101);
    let introduced = bench("introduce --pairs 10 --count 301 --in-flight 4 --processes 2");
    row(&introduced, "introduction", 301);
}

#[test]
fn sessions_in_memory() {
    let report = bench("memory --sessions 500,2000");
    for sessions in [500, 2000] {
        for name in ["login", "logout", "introduction"] {
            let value = report["values"][format!("{name}_us_at_{sessions}")].as_f64();
            assert!(value.is_some_and(|value| value > 0.0), "{name}: {report}");
        }
    }
}

#[test]
fn stun_on_connections_that_stay_and_that_do_not() {
    let report = bench("stun --count 401 --connections 4");
    row(&report, "STUN, persistent", 401);
    row(&report, "STUN, one per connection", 101);
}

#[test]
fn the_floor_alone() {
    let report = bench("floor --count 200 --connections 4");
    for figure in report["figures"].as_array().unwrap() {
        row(&report, figure["name"].as_str().unwrap(), 200);
    }
    assert_eq!(report["server"], "none");
}

#[test]
fn a_rendezvous_elsewhere_is_not_looked_into() {
    let state = tempfile::tempdir().unwrap();
    let mut command = Command::new(GIMLETD);
    command.args(["--main", "127.0.0.1:0", "--hole", "127.0.0.1:0", "--hole", "127.0.0.1:0"]);
    command.arg("--state").arg(state.path()).stdout(Stdio::piped());
    let mut gimletd = command.spawn().unwrap();
    let mut address = String::new();
    BufReader::new(gimletd.stdout.take().unwrap()).read_line(&mut address).unwrap();
    let report = bench(&format!("login --peers 20 --against {}", address.trim()));
    let login = row(&report, "login", 20);
    assert!(login["server_cpu_seconds"].is_null(), "{report}");
    assert!(report["notes"].to_string().contains("not seen"), "{report}");
    gimletd.kill().unwrap();
    gimletd.wait().unwrap();
}

#[test]
fn people_get_a_table() {
    let output = Command::new(BENCH).args(["login", "--peers", "5"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    for part in ["command ", "Linux ", "login", "CPU of S each", "descriptors"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn what_it_started_ends_with_it() {
    let mut command = Command::new(BENCH);
    command.args(["idle", "--peers", "5", "--seconds", "600"]).stdout(Stdio::null());
    let mut bench = command.spawn().unwrap();
    let pid = bench.id();
    let children = format!("/proc/{pid}/task/{pid}/children");
    let child = wait_for(|| {
        let text = std::fs::read_to_string(&children).unwrap();
        Some(text.split_whitespace().next()?.to_owned())
    });
    // Once its signals are caught.
    wait_for(|| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
        (caught & 1 << (15 - 1) != 0).then_some(())
    });
    assert!(Command::new("kill").arg(pid.to_string()).status().unwrap().success());
    let status = wait_for(|| bench.try_wait().unwrap());
    assert_eq!(status.code(), Some(130));
    assert!(!Path::new(&format!("/proc/{child}")).exists());
}

fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain");
        std::thread::yield_now();
    }
}

//! The operator's port of a real `gimletd`, over plain sockets; what Prometheus' own tool says of its
//! metrics; and the status page in a browser.

#[path = "admin/browser.rs"]
mod browser;
#[path = "admin/http.rs"]
mod http;
#[allow(dead_code, reason = "each test needs its part of it")]
#[path = "cli/world.rs"]
mod world;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use gimlet::limits;
use gimlet::net::clock;
use serde_json::Value;

use self::browser::Browser;
use self::http::{Answer, Client, get};
use self::world::{PATIENCE, Program, World, echo, gimletd, serve};

/// A rendezvous with a port for operators.
struct Server {
    world: World,
    admin: SocketAddr,
    listening: Value,
}

impl Server {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = gimletd(&directory);
        command.args(["--main", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--json"]);
        let rendezvous = Program::start(&mut command);
        let listening = rendezvous.event("listening");
        let server = listening["addresses"][0].as_str().unwrap().to_owned();
        let admin = listening["admin"].as_str().unwrap().parse().unwrap();
        Self { world: World { rendezvous, server, directory }, admin, listening }
    }

    fn get(&self, path: &str) -> Answer {
        get(self.admin, path)
    }

    fn stats(&self) -> Value {
        serde_json::from_slice(&self.get("/api/stats").body).unwrap()
    }

    /// bob shares a service, alice calls him once: two logins, and a punch.
    fn a_pair_meets(&self) -> Program {
        let share = self.world.share(serve(echo));
        self.world.run("alice", &["ping", "bob", "--count", "1"]).expect(0);
        // She has gone; that S knows is a matter of time.
        self.until(|stats| stats["sessions"]["logouts"] == 1);
        share
    }

    fn until(&self, is_so: impl Fn(&Value) -> bool) {
        let deadline = clock::now() + PATIENCE;
        while !is_so(&self.stats()) {
            assert!(clock::now() < deadline, "in vain: {}", self.stats());
        }
    }

    fn metrics(&self) -> String {
        self.get("/metrics").expect(200).text().to_owned()
    }
}

/// The value of a series, as it is written.
fn value<'a>(metrics: &'a str, series: &str) -> &'a str {
    let lines = metrics.lines().filter_map(|line| line.rsplit_once(' '));
    let mut found = lines.filter(|(name, _)| *name == series);
    found.next().unwrap_or_else(|| panic!("no {series} in:\n{metrics}")).1
}

// ---- routes --------------------------------------------------------------------------------------

#[test]
fn there_is_no_port_unless_it_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = gimletd(&directory);
    let rendezvous = Program::start(command.args(["--main", "127.0.0.1:0", "--json"]));
    assert!(rendezvous.event("listening")["admin"].is_null());
}

#[test]
fn every_route_answers_and_head_is_the_same_without_the_body() {
    let server = Server::new();
    for (path, kind, word) in [
        ("/", "text/html; charset=utf-8", "<!doctype html>"),
        ("/page.css", "text/css; charset=utf-8", "prefers-color-scheme: dark"),
        ("/page.js", "text/javascript; charset=utf-8", "/api/stats"),
        ("/icon.svg", "image/svg+xml", "<svg"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8", "gimlet_sessions 0\n"),
        ("/api/stats", "application/json", "\"draining\":false"),
        ("/healthz", "text/plain; charset=utf-8", "ok\n"),
        ("/readyz", "text/plain; charset=utf-8", "ready\n"),
    ] {
        let answer = server.get(path).expect(200);
        assert_eq!(answer.header("content-type"), Some(kind), "{path}");
        assert!(answer.text().contains(word), "{path}: {}", answer.text());
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let mut client = Client::new(server.admin);
        client.send(&format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        let head = client.head_of_an_answer().expect(200);
        assert_eq!(head.header("content-type"), Some(kind), "{path}");
        assert!(head.header("content-length").unwrap().parse::<usize>().unwrap() > 0);
        client.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(client.answer().expect(200).text(), "ok\n", "no body came between");
    }
}

#[test]
fn what_is_wrong_is_said_and_ends_the_connection_where_it_must() {
    let server = Server::new();
    let host = "Host: localhost";
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(limits::ADMIN_REQUEST_BYTES));
    for (request, status, goes_on) in [
        (format!("GET /nothing HTTP/1.1\r\n{host}\r\n\r\n"), 404, true),
        (format!("POST / HTTP/1.1\r\n{host}\r\n\r\n"), 405, true),
        ("GET / HTTP/1.1\r\nHost: evil.example:9400\r\n\r\n".into(), 421, true),
        (format!("POST / HTTP/1.1\r\n{host}\r\nContent-Length: 2\r\n\r\nab"), 405, false),
        (format!("GET / HTTP/1.1\r\n{host}\r\nTransfer-Encoding: chunked\r\n\r\n"), 400, false),
        ("GET / HTTP/1.1\r\n\r\n".into(), 400, false),
        ("nonsense\r\n\r\n".into(), 400, false),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 505, false),
        (long, 431, false),
        (format!("GET / HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n"), 200, false),
    ] {
        let mut client = Client::new(server.admin);
        client.send(&request);
        let answer = client.answer().expect(status);
        let close = answer.header("connection") == Some("close");
        assert_eq!(close, !goes_on, "{request}");
        if status == 405 {
            assert_eq!(answer.header("allow"), Some("GET, HEAD"));
        }
        if goes_on {
            client.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
            client.answer().expect(200);
        } else {
            assert!(client.ended(), "{request}");
        }
    }
}

// ---- connections ---------------------------------------------------------------------------------

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let server = Server::new();
    let mut client = Client::new(server.admin);
    let paths = ["/healthz", "/metrics", "/readyz", "/api/stats", "/nothing"];
    let request = |path| format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    client.send(&paths.map(request).concat().repeat(20));
    for _ in 0..20 {
        assert_eq!(client.answer().expect(200).text(), "ok\n");
        assert!(client.answer().expect(200).text().starts_with("# HELP"));
        assert_eq!(client.answer().expect(200).text(), "ready\n");
        assert!(client.answer().expect(200).text().starts_with('{'));
        client.answer().expect(404);
    }
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(client.ended());
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let server = Server::new();
    let mut client = Client::new(server.admin);
    for byte in "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".chars() {
        client.send(&byte.to_string());
    }
    assert_eq!(client.answer().expect(200).text(), "ok\n");
}

#[test]
fn who_never_finishes_a_request_is_told_and_closed_while_others_are_served() {
    let server = Server::new();
    let mut slow = Client::new(server.admin);
    let silent = Client::new(server.admin);
    slow.send("GET / HTTP/1.1\r\n");
    slow.stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut told = Vec::new();
    let deadline = clock::now() + PATIENCE;
    // Each byte comes in time for itself, and the whole doesn't.
    while told.is_empty() {
        assert!(clock::now() < deadline, "never told");
        let mut buffer = [0; 4096];
        match slow.stream.read(&mut buffer) {
            Ok(length) => told.extend_from_slice(&buffer[..length]),
            Err(_) => slow.send("x"),
        }
        server.get("/healthz").expect(200);
    }
    assert!(told.starts_with(b"HTTP/1.1 408 "), "{}", told.escape_ascii());
    let mut silent = silent;
    assert!(silent.ended(), "closed without a word");
}

#[test]
fn who_does_not_read_is_not_written_to_without_end() {
    let server = Server::new();
    let mut greedy = Client::new(server.admin);
    greedy.stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    let before = resident(&server);
    let deadline = clock::now() + PATIENCE;
    let mut stalled = false;
    // It is read no further when its answers wait, and is given up after a time.
    loop {
        assert!(clock::now() < deadline, "never given up");
        match greedy.stream.write(request.as_bytes()) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => stalled = true,
            Err(_) => break,
        }
        server.get("/healthz").expect(200);
    }
    assert!(stalled);
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < 4 << 20, "grown by {grown} bytes");
}

fn resident(server: &Server) -> u64 {
    server.stats()["process"]["resident_memory_bytes"].as_u64().unwrap()
}

#[test]
fn a_hundred_connections_take_the_places_that_there_are_and_keep_nobody_out() {
    let server = Server::new();
    let sockets = |server: &Server| server.stats()["process"]["open_descriptors"].as_u64().unwrap();
    let before = sockets(&server);
    let idle: Vec<_> = (0..100).map(|_| Client::new(server.admin)).collect();
    server.get("/healthz").expect(200);
    let places = limits::ADMIN_CONNECTIONS as u64;
    let after = sockets(&server);
    assert!(after <= before + places, "{before} and then {after}");
    drop(idle);
}

// ---- numbers -------------------------------------------------------------------------------------

#[test]
fn a_punch_is_counted_everywhere() {
    let server = Server::new();
    let _share = server.a_pair_meets();
    let (metrics, stats) = (server.metrics(), server.stats());
    for (series, pointer, expected) in [
        ("gimlet_logins_total", "/sessions/logins", 2),
        ("gimlet_introductions_started_total", "/introductions/started", 1),
        (
            "gimlet_introductions_ended_total{outcome=\"connected\"}",
            "/introductions/outcomes/connected",
            1,
        ),
        ("gimlet_punch_rounds_total{round=\"1\"}", "/introductions/rounds/0", 1),
        ("gimlet_refusals_total{reason=\"busy\"}", "/refusals/busy", 0),
        ("gimlet_draining", "/draining", 0),
    ] {
        assert_eq!(value(&metrics, series), expected.to_string(), "{series}");
        let found = stats.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {stats}"));
        assert!(*found == expected || *found == (expected != 0), "{pointer}: {found}");
    }
    let sessions = value(&metrics, "gimlet_sessions");
    assert_eq!(sessions, stats["sessions"]["current"].to_string());
    let pair = &stats["introductions"]["nat_pairs"][0];
    let [one, other] = [0, 1].map(|side| pair["nats"][side].as_str().unwrap());
    let series = format!(
        "gimlet_nat_pairs_total{{nat=\"{one}\",other_nat=\"{other}\",outcome=\"connected\"}}"
    );
    assert_eq!(value(&metrics, &series), "1");
    assert_eq!(value(&metrics, "gimlet_time_to_direct_seconds_count"), "1");
    let direct = &stats["introductions"]["time_to_direct"];
    let counts: u64 =
        direct["counts"].as_array().unwrap().iter().map(|it| it.as_u64().unwrap()).sum();
    assert_eq!(counts, 1);
    assert!(direct["sum_seconds"].as_f64().unwrap() > 0.0);
    let turns: u64 = value(&metrics, "gimlet_loop_turn_seconds_count").parse().unwrap();
    assert!(turns > 10, "{turns}");
    let open: u64 = value(&metrics, "process_open_fds").parse().unwrap();
    let limit: u64 = value(&metrics, "process_max_fds").parse().unwrap();
    assert!(open > 5 && open < limit, "{open} of {limit}");
}

#[test]
fn prometheus_finds_nothing_wrong_with_the_metrics() {
    let server = Server::new();
    let _share = server.a_pair_meets();
    let mut tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test needs promtool, which Debian has in the package prometheus");
    tool.stdin.take().unwrap().write_all(server.metrics().as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", said.escape_ascii());
}

// ---- its end -------------------------------------------------------------------------------------

#[test]
fn it_is_not_ready_any_more_while_it_drains_and_says_so() {
    let server = Server::new();
    // Somebody who doesn't go: until the time for it is up, the process stays.
    let main = server.listening["main"][0].as_str().unwrap();
    let _guest = TcpStream::connect(main).unwrap();
    let mut client = Client::new(server.admin);
    let mut ask = |path: &str| {
        client.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        client.answer()
    };
    ask("/readyz").expect(200);
    server.world.rendezvous.signal("TERM");
    // The signal may not have arrived with the first of these.
    let ready = std::iter::repeat_with(|| ask("/readyz")).find(|answer| answer.status != 200);
    assert_eq!(ready.unwrap().expect(503).text(), "draining\n");
    assert_eq!(ask("/healthz").expect(200).text(), "ok\n", "it lives");
    assert!(ask("/metrics").text().contains("gimlet_draining 1\n"));
    assert!(ask("/api/stats").text().contains("\"draining\":true"));
}

// ---- the page ------------------------------------------------------------------------------------

/// Widths of a phone and of a desk.
const SCREENS: [(u32, u32); 2] = [(390, 844), (1280, 900)];

#[test]
fn the_page_shows_the_numbers_in_light_and_dark_on_phone_and_desk() {
    let server = Server::new();
    let _share = server.a_pair_meets();
    let mut browser = Browser::start();
    for (width, height) in SCREENS {
        for scheme in ["light", "dark"] {
            browser.appear(width, height, scheme);
            browser.open(&format!("http://{}/", server.admin));
            browser.until("document.getElementById('peers').textContent !== '–'");
            let text = |browser: &mut Browser, id: &str| {
                let script = format!("return document.getElementById('{id}').innerText");
                browser.run(&script).as_str().unwrap().to_owned()
            };
            assert_eq!(text(&mut browser, "state"), "ready");
            assert_eq!(text(&mut browser, "direct"), "100%");
            assert_eq!(text(&mut browser, "decided"), "1 of 1");
            assert!(text(&mut browser, "median").ends_with('s'));
            assert!(text(&mut browser, "legend").contains("direct 1"));
            let cells = browser.run("return [...document.querySelectorAll('#matrix td button')].map(it => it.innerText)");
            assert_eq!(cells, serde_json::json!(["100"]));
            browser.run("document.querySelector('#matrix td button').click()");
            assert!(text(&mut browser, "cell").ends_with("1 direct"));
            let bars = "return [...document.querySelectorAll('#times .bar')].filter(it => !it.classList.contains('none')).map(it => it.offsetWidth)";
            let bars = browser.run(bars);
            assert!(
                bars.as_array().is_some_and(|it| it.len() == 1 && it[0].as_u64() > Some(20)),
                "{bars}"
            );
            let overflow = "return document.documentElement.scrollWidth - window.innerWidth";
            assert!(browser.run(overflow).as_i64().unwrap() <= 0, "wider than {width}");
            let ground = browser.run("return getComputedStyle(document.body).backgroundColor");
            assert_eq!(ground == "rgb(20, 24, 26)", scheme == "dark", "{ground}");
            browser.picture(&format!("{scheme}-{width}"));
        }
    }
    // It lives: what happens now is shown without a reload.
    server.world.run("alice", &["ping", "bob", "--count", "1"]).expect(0);
    browser.until("document.getElementById('decided').textContent === '2 of 2'");
    let complaints = browser.console();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

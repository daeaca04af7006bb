//! What relaying costs: CPU seconds per GB of `gimletd` and of haproxy's splice mode, in one run.
//!
//! ```text
//!  sender ──▶ gimletd, two connections joined ──▶ receiver      A, B, A, B, …: the same bytes, the same
//!  sender ──▶ haproxy, TCP mode, splice       ──▶ receiver      sender, the same receiver, on loopback
//! ```
//!
//! `cargo bench --bench relay [-- --runs N] [--gb N] [--pipe BYTES]`. The real programs run, with one
//! thread each, and without rates that hold bytes back. What flows through `gimletd` are plain bytes: it
//! doesn't look at them. haproxy has the kernel's pipes of 64 KiB, as it does unless told otherwise
//! (`tune.pipesize`, which is what `--pipe` sets). Without haproxy, `gimletd` is measured alone.

// Real programs in real time: here is no machine that could be told the time.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use gimlet::identity::{PeerId, SecretKey};
use gimlet::wire::message::{
    Allow, Login, Message, Nat, Port, Release, Role, RoundResult, Welcome,
};
use gimlet::wire::noise::{Channel, ClientHandshake};
use gimlet::wire::stun::{self, Join};

/// One read or write of the ends.
const CHUNK: usize = 256 << 10;

/// No read of the ends takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() {
    let wish = Wish::from_arguments();
    let scratch = tempfile::tempdir().expect("a directory for keys and settings");
    let mut ours = Gimletd::start(scratch.path());
    let mut theirs = Haproxy::start(wish.pipe, scratch.path());
    describe(&wish, theirs.is_some());
    let bytes = wish.gb * 1_000_000_000;
    let mut costs = [Vec::new(), Vec::new()];
    // The first run of each warms caches and windows up, and doesn't count.
    for run in 0..=wish.runs {
        let mut line = format!("{run:>4}");
        let relays = [Some(&mut ours as &mut dyn Relay), theirs.as_mut().map(|t| t as _)];
        for (relay, costs) in relays.into_iter().zip(&mut costs) {
            let Some(relay) = relay else { continue };
            let (ends, pid) = (relay.ends(), relay.pid());
            let Cost { cpu, wall } = measure(ends, pid, bytes);
            let per_gb = cpu.as_secs_f64() / wish.gb as f64;
            let speed = bytes as f64 / wall.as_secs_f64() / 1e6;
            line += &format!("{per_gb:>12.4}{speed:>8.0} MB/s");
            costs.extend((run > 0).then_some(per_gb));
        }
        let pair = costs[1].last().zip(costs[0].last()).filter(|_| run > 0);
        line += &pair.map_or(String::new(), |(theirs, ours)| format!("{:>9.3}", ours / theirs));
        println!("{line}{}", if run == 0 { "  (warm-up)" } else { "" });
    }
    summarise(&costs);
}

// ---- what is wanted, and what came of it ---------------------------------------------------------

struct Wish {
    runs: usize,
    gb: u64,
    pipe: Option<u32>,
}

impl Wish {
    fn from_arguments() -> Self {
        let mut wish = Self { runs: 7, gb: 4, pipe: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} WHAT?"));
            match argument.as_str() {
                // cargo's own.
                "--bench" => {}
                "--runs" => wish.runs = value().parse().expect("--runs is a number"),
                "--gb" => wish.gb = value().parse().expect("--gb is a number"),
                "--pipe" => wish.pipe = Some(value().parse().expect("--pipe is a number")),
                _ => panic!("{argument}: there are --runs, --gb and --pipe"),
            }
        }
        assert!(wish.runs > 0 && wish.gb > 0, "nothing to measure");
        wish
    }
}

fn describe(wish: &Wish, has_haproxy: bool) {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = thread::available_parallelism().map_or(0, usize::from);
    println!("machine: {}, {cores} cores", model.map_or("unknown", |(_, model)| model));
    println!("kernel:  Linux {}", read("/proc/sys/kernel/osrelease").trim());
    println!("gimletd: {}", version(GIMLETD, "--version"));
    let theirs = if has_haproxy { version("haproxy", "-v") } else { MISSING.to_owned() };
    println!("haproxy: {theirs}");
    let Wish { runs, gb, pipe } = wish;
    let pipe = pipe.map_or(String::new(), |bytes| format!(" --pipe {bytes}"));
    println!("command: cargo bench --bench relay -- --runs {runs} --gb {gb}{pipe}\n");
    println!(
        "CPU seconds per GB (10^9 bytes), {gb} GB a run, one way, and gimletd's over haproxy's"
    );
    println!(" run     gimletd               haproxy               ratio");
}

const GIMLETD: &str = env!("CARGO_BIN_EXE_gimletd");

const MISSING: &str = "not found; gimletd is measured alone. To compare: apt-get install haproxy";

/// The first line of what a program says of itself.
fn version(program: &str, option: &str) -> String {
    let output = Command::new(program).arg(option).output();
    let output = output.unwrap_or_else(|error| panic!("{program} {option}: {error}"));
    String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned()
}

fn summarise([ours, theirs]: &[Vec<f64>; 2]) {
    let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    println!("\n          min    median     max");
    for (name, values) in [("gimletd", ours), ("haproxy", theirs), ("ratio", &ratios)] {
        let mut values = values.clone();
        values.sort_by(f64::total_cmp);
        if let (Some(low), Some(high)) = (values.first(), values.last()) {
            let median = values[values.len() / 2];
            println!("{name}  {low:>7.4}  {median:>7.4}  {high:>7.4}");
        }
    }
}

// ---- one run -------------------------------------------------------------------------------------

/// A program that carries bytes.
trait Relay {
    fn pid(&self) -> u32;

    /// A new connection through it: where bytes go in, and where they come out.
    fn ends(&mut self) -> [TcpStream; 2];
}

struct Cost {
    cpu: Duration,
    wall: Duration,
}

fn measure([mut near, mut far]: [TcpStream; 2], pid: u32, bytes: u64) -> Cost {
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    let (cpu, start) = (cpu_time(pid), Instant::now());
    let sender = thread::spawn(move || {
        let chunk = vec![0x5a; CHUNK];
        let mut left = bytes;
        while left > 0 {
            let length = left.min(CHUNK as u64);
            near.write_all(&chunk[..length as usize]).expect("send");
            left -= length;
        }
        near.shutdown(Shutdown::Write).expect("finish");
        near
    });
    let (mut received, mut chunk) = (0, vec![0; CHUNK]);
    loop {
        match far.read(&mut chunk).expect("receive") {
            0 => break,
            length => received += length as u64,
        }
    }
    let cost = Cost { cpu: cpu_time(pid) - cpu, wall: start.elapsed() };
    drop(sender.join().expect("the sender"));
    assert_eq!(received, bytes, "bytes were lost, or came from nowhere");
    cost
}

/// What all threads of a process have had so far, in user and in kernel mode: the first number of
/// /proc/PID/schedstat, in nanoseconds (/proc/PID/stat counts in hundredths of a second).
fn cpu_time(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the program is running");
    let nanos = tasks.map(|task| {
        let path = task.unwrap().path().join("schedstat");
        let text = fs::read_to_string(&path).expect("a kernel with schedstat");
        let first = text.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
        first.unwrap_or_else(|| panic!("{}: {text}", path.display()))
    });
    Duration::from_nanos(nanos.sum())
}

/// Killed when dropped.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// ---- haproxy -------------------------------------------------------------------------------------

struct Haproxy {
    program: Program,
    entrance: SocketAddr,
    exit: TcpListener,
}

impl Haproxy {
    /// None where it isn't installed.
    fn start(pipe: Option<u32>, scratch: &Path) -> Option<Self> {
        if let Err(error) = Command::new("haproxy").arg("-v").stdout(Stdio::null()).status() {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "haproxy: {error}");
            return None;
        }
        let exit = TcpListener::bind("127.0.0.1:0").unwrap();
        // A port that was free a moment ago.
        let entrance = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let pipe = pipe.map_or(String::new(), |bytes| format!("  tune.pipesize {bytes}\n"));
        let settings = format!(
            "global\n  nbthread 1\n{pipe}\
             defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  \
             option splice-auto\n  option splice-request\n  option splice-response\n\
             listen relay\n  bind {entrance}\n  server receiver {}\n",
            exit.local_addr().unwrap()
        );
        let path = scratch.join("haproxy.cfg");
        fs::write(&path, settings).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-f").arg(&path).arg("-db").stdin(Stdio::null());
        let program = Program(command.spawn().expect("start haproxy"));
        let haproxy = Self { program, entrance, exit };
        haproxy.await_entrance();
        Some(haproxy)
    }

    /// It says nothing when it is ready.
    fn await_entrance(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match TcpStream::connect(self.entrance) {
                Ok(_) => break,
                Err(error) => assert!(Instant::now() < deadline, "haproxy: {error}"),
            }
            thread::yield_now();
        }
        // It has made a connection of its own for the one that looked.
        self.exit.accept().expect("a connection from haproxy");
    }
}

impl Relay for Haproxy {
    fn pid(&self) -> u32 {
        self.program.0.id()
    }

    fn ends(&mut self) -> [TcpStream; 2] {
        let near = TcpStream::connect(self.entrance).expect("connect to haproxy");
        let (far, _) = self.exit.accept().expect("a connection from haproxy");
        [near, far]
    }
}

// ---- gimletd -------------------------------------------------------------------------------------

struct Gimletd {
    program: Program,
    a: Peer,
    b: Peer,
    requests: u32,
}

impl Gimletd {
    fn start(scratch: &Path) -> Self {
        let mut command = Command::new(GIMLETD);
        command.args(["--main", "127.0.0.1:0", "--hole", "127.0.0.1:0", "--hole", "127.0.0.1:0"]);
        command.args(["--relay-rate", "1024G", "--relay-total-rate", "1024G", "--json"]);
        command.arg("--state").arg(scratch).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut program = Program(command.spawn().expect("start gimletd"));
        let mut line = String::new();
        BufReader::new(program.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let listening: serde_json::Value = serde_json::from_str(&line).expect("what it listens on");
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let server: PeerId = text(&listening["key"]).parse().expect("its key");
        let main: SocketAddr = text(&listening["main"][0]).parse().expect("its address");
        let [a, b] = [0, 1].map(|_| Peer::log_in(main, server));
        Self { program, a, b, requests: 0 }
    }
}

impl Relay for Gimletd {
    fn pid(&self) -> u32 {
        self.program.0.id()
    }

    fn ends(&mut self) -> [TcpStream; 2] {
        self.requests += 1;
        let (peer, from) = (self.b.welcome.id, Port::Main);
        self.a.send(&Message::Introduce { request: self.requests, peer, from });
        let (to_a, to_b) = (self.a.release(), self.b.release());
        let mut ends = [(&self.a, &to_a), (&self.b, &to_b)].map(|(peer, r)| peer.join(r));
        for (end, side) in ends.iter_mut().zip(["A", "B"]) {
            read_success(end).unwrap_or_else(|error| panic!("{side} joins: {error}"));
        }
        // Or else the two had an introduction in progress, and the next would want fresh holes.
        let Release { introduction, round, .. } = to_a;
        self.a.send(&Message::Outcome { introduction, round, result: RoundResult::Relayed });
        ends
    }
}

/// A peer by hand: it logs in properly, and joins the relay with a plain socket.
struct Peer {
    stream: TcpStream,
    channel: Channel,
    welcome: Welcome,
}

impl Peer {
    fn log_in(main: SocketAddr, server: PeerId) -> Self {
        let mut stream = TcpStream::connect(main).expect("connect to gimletd");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let key = SecretKey::generate();
        let (mut hello, mut payload, mut finish) = (Vec::new(), Vec::new(), Vec::new());
        let handshake = ClientHandshake::start(&key, &mut hello);
        stream.write_all(&hello).unwrap();
        let reply = read_frame(&mut stream);
        Login {
            reachable: true,
            nonce: [9; 16],
            // That it listens there is never put to the test.
            local_port: stream.local_addr().unwrap().port(),
            nat: Nat::default(),
            hosts: Vec::new(),
            allow: Allow { anyone: true, peers: Vec::new() },
            agent: "benches/relay".into(),
        }
        .encode(&mut payload);
        let (mut channel, _) =
            handshake.finish(&reply, Some(server), &payload, &mut finish).expect("a reply");
        stream.write_all(&finish).unwrap();
        match read_message(&mut stream, &mut channel) {
            Message::Welcome(welcome) => Self { stream, channel, welcome },
            other => panic!("{other:?}"),
        }
    }

    fn send(&mut self, message: &Message) {
        let mut frame = Vec::new();
        self.channel.seal(&mut frame, |out| message.encode(out));
        self.stream.write_all(&frame).expect("write to gimletd");
    }

    fn release(&mut self) -> Release {
        loop {
            match read_message(&mut self.stream, &mut self.channel) {
                Message::Release(release) => return *release,
                Message::Refused(refused) => panic!("{refused:?}"),
                // Meanwhile the earlier ones end.
                _ => {}
            }
        }
    }

    /// The request is sent; S answers both sides at once.
    fn join(&self, release: &Release) -> TcpStream {
        let mut at = release.relay.expect("gimletd relays");
        if at.ip().is_unspecified() {
            at.set_ip(self.stream.peer_addr().unwrap().ip());
        }
        let &Release { introduction, token, role, .. } = release;
        let join = Join { session: self.welcome.token, introduction, token, role };
        let mut request = Vec::new();
        stun::relay_request(&mut request, &[role_number(role); 12], &join);
        let mut stream = TcpStream::connect(at).expect("connect to a hole port");
        stream.write_all(&request).unwrap();
        stream
    }
}

fn role_number(role: Role) -> u8 {
    u8::from(role == Role::Controlled)
}

fn read_frame(stream: &mut TcpStream) -> Vec<u8> {
    let mut header = [0; 2];
    stream.read_exact(&mut header).expect("a frame");
    let mut body = vec![0; usize::from(u16::from_be_bytes(header))];
    stream.read_exact(&mut body).expect("a frame's body");
    body
}

fn read_message(stream: &mut TcpStream, channel: &mut Channel) -> Message {
    let mut body = read_frame(stream);
    Message::decode(channel.open(&mut body).expect("a sealed frame")).expect("a message")
}

/// Reads the answer of S, and not a byte more.
fn read_success(stream: &mut TcpStream) -> Result<(), String> {
    const HEADER: usize = 20;
    let mut answer = vec![0; HEADER];
    stream.read_exact(&mut answer).map_err(|error| error.to_string())?;
    let length = usize::from(u16::from_be_bytes([answer[2], answer[3]]));
    answer.resize(HEADER + length, 0);
    stream.read_exact(&mut answer[HEADER..]).map_err(|error| error.to_string())?;
    match stun::decode(&answer) {
        Ok(Some((stun::Message::Success(_), _))) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

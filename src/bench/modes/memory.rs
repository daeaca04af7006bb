//! The rendezvous machine alone, with links that exist in memory only: as many sessions as no process has
//! descriptors for.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::bench::args::{MemoryArgs, MemoryOfArgs};
use crate::bench::machine::Machine;
use crate::bench::proc;
use crate::bench::report::Report;
use crate::bench::target::Program;
use crate::bench::vigil::Vigil;
use crate::cli::exit::Failure;
use crate::cli::output::Output;
use crate::identity::{PeerId, PublicKey};
use crate::net::clock;
use crate::proto::rendezvous::{Action, Config, Limits, LinkId, Rendezvous, SessionId};
use crate::wire::message::{Allow, Login, Message, Nat, Port, Role, RoundResult};

/// Operations of each kind that are timed.
const OPERATIONS: usize = 20_000;

/// Peers behind one address.
const PEERS_PER_ADDRESS: u32 = 8;

/// What one size has shown.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Measured {
    bytes_each: f64,
    login_us: f64,
    logout_us: f64,
    introduction_us: f64,
}

/// Each size in a process of its own: what one has freed, the next one would not be seen to take.
pub(super) fn run(args: &MemoryArgs, mut vigil: Vigil) -> Result<Report, Failure> {
    let mut report = Report::new("memory", Machine::look(None));
    report.say(" sessions    bytes each      login     logout   introduction");
    for sessions in &args.sessions {
        vigil.phase(format!("{sessions} sessions in memory"));
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["memory-of", &sessions.to_string()]);
        let (_program, line) = Program::start(&mut command)?;
        vigil.check()?;
        let measured: Measured = serde_json::from_str(&line)
            .map_err(|error| super::failure(format!("memory: {error}: {line}")))?;
        let Measured { bytes_each, login_us, logout_us, introduction_us } = measured;
        let said = format!(
            "{sessions:>9}  {bytes_each:>10.0} B  {login_us:>6.2} µs  {logout_us:>6.2} µs  \
             {introduction_us:>10.2} µs"
        );
        report.value(format!("bytes_per_session_at_{sessions}"), bytes_each, &said);
        for (name, value) in
            [("login", login_us), ("logout", logout_us), ("introduction", introduction_us)]
        {
            report.value(format!("{name}_us_at_{sessions}"), value, "");
        }
    }
    report.note("bytes: growth of the process's resident memory from no session to all");
    report.note("times: CPU time of operations on that many sessions; no socket, no cryptography");
    Ok(report)
}

/// The process for one size.
pub(in crate::bench) fn run_one(args: &MemoryOfArgs) -> Result<(), Failure> {
    let mut world = World::new(args.sessions);
    let before = proc::resident(std::process::id())?;
    for number in 0..args.sessions {
        world.log_in(number)?;
    }
    let grown = proc::resident(std::process::id())?.saturating_sub(before);
    let operations = OPERATIONS.min(args.sessions);
    let first = world.sessions.len();
    let login = timed(operations, || world.log_in(world.sessions.len()).map(drop))?;
    // At random: what was used last isn't what is used next.
    let mut chance = fastrand::Rng::with_seed(args.sessions as u64);
    let introduction = timed(operations, || world.introduce(&mut chance, first))?;
    let logout = timed(operations, || {
        world.log_out();
        Ok(())
    })?;
    let measured = Measured {
        bytes_each: grown as f64 / args.sessions as f64,
        login_us: login,
        logout_us: logout,
        introduction_us: introduction,
    };
    Output::new("gimlet-bench", true, false, crate::cli::output::Stream::Stdout).object(&measured)
}

/// CPU time of each of so many, in microseconds.
fn timed(count: usize, mut one: impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    let before = proc::cpu(std::process::id())?;
    for _ in 0..count {
        one()?;
    }
    let took: Duration = proc::cpu(std::process::id())? - before;
    Ok(took.as_secs_f64() * 1e6 / count as f64)
}

struct World {
    machine: Rendezvous,
    sessions: Vec<SessionId>,
    now: Instant,
    request: u32,
}

impl World {
    fn new(sessions: usize) -> Self {
        let limits = Limits { sessions: sessions + OPERATIONS, ..Limits::default() };
        let holes = vec![SocketAddr::from(([0, 0, 0, 0], 8000))];
        let config = Config { holes, text: String::new(), relay: true, dial_back: true, limits };
        Self {
            machine: Rendezvous::new(config, [7; 32]),
            sessions: Vec::with_capacity(sessions + OPERATIONS),
            now: clock::now(),
            request: 0,
        }
    }

    fn log_in(&mut self, number: usize) -> Result<(), Failure> {
        let ip = Ipv4Addr::from_bits(0x0b00_0000 + number as u32 / PEERS_PER_ADDRESS);
        let remote = SocketAddr::from((ip, 1024 + (number as u32 % PEERS_PER_ADDRESS) as u16));
        let login = Login {
            reachable: true,
            nonce: [7; 16],
            local_port: 4000,
            hosts: vec![Ipv4Addr::new(192, 168, 0, 2).into()],
            allow: Allow { anyone: true, peers: Vec::new() },
            agent: "gimlet-bench".into(),
            nat: Nat::default(),
        };
        let round_trip = Duration::from_millis(20);
        let link = LinkId(number as u64);
        let session =
            self.machine.handle_login(link, remote, key(number), login, round_trip, self.now);
        let session = session.map_err(|code| super::failure(format!("a login: {code}")))?;
        self.sessions.push(session);
        while self.machine.poll_action().is_some() {}
        Ok(())
    }

    fn log_out(&mut self) {
        if let Some(session) = self.sessions.pop() {
            self.machine.handle_closed(session, self.now);
        }
        while self.machine.poll_action().is_some() {}
    }

    /// Two of the first so many, at random, by the fast path.
    fn introduce(&mut self, chance: &mut fastrand::Rng, among: usize) -> Result<(), Failure> {
        let (asker, asked) = (chance.usize(..among), chance.usize(..among));
        let asked = if asked == asker { (asked + 1) % among } else { asked };
        self.request += 1;
        let peer = PeerId::of(&key(asked));
        let message = Message::Introduce { request: self.request, peer, from: Port::Main };
        self.machine.handle_message(self.sessions[asker], message, self.now);
        let mut released = None;
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Send { message: Message::Release(release), .. } => {
                    if release.role == Role::Controller {
                        released = Some((release.introduction, release.round));
                    }
                }
                other => return Err(super::failure(format!("no release: {other:?}"))),
            }
        }
        let (introduction, round) = released.ok_or_else(|| super::failure("no release"))?;
        let result = RoundResult::Connected;
        let outcome = Message::Outcome { introduction, round, result };
        self.machine.handle_message(self.sessions[asker], outcome, self.now);
        Ok(())
    }
}

/// A key that nobody has the other half of: it isn't needed here.
fn key(number: usize) -> PublicKey {
    let mut bytes = [0x5a; 32];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    PublicKey::from_bytes(bytes)
}

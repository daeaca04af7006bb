//! The server under load: a `gimletd` of our own, or one elsewhere.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::Deserialize;

use super::args::Global;
use super::proc;
use super::vigil::Vigil;
use crate::cli::exit::{self, Failure};
use crate::identity::{PeerId, ServerAddr};
use crate::net::clock;

/// No bound on what is relayed: it is the cost that is measured.
const RELAY_RATE: &str = "1024G";

/// How long a server must have done nothing to be quiet.
const QUIET: std::time::Duration = std::time::Duration::from_millis(200);

/// A child process, killed in the end.
#[derive(Debug)]
pub(super) struct Program(Child);

impl Program {
    /// Starts it and reads the first line that it prints.
    pub(super) fn start(command: &mut Command) -> Result<(Self, String), Failure> {
        let name = command.get_program().to_string_lossy().into_owned();
        let failure = |error: std::io::Error| Failure::new(exit::OTHER, format!("{name}: {error}"));
        let mut child = command.stdout(Stdio::piped()).spawn().map_err(failure)?;
        let stdout = child.stdout.take().expect("it was asked for");
        let program = Self(child);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).map_err(failure)?;
        match line.is_empty() {
            true => Err(Failure::new(exit::OTHER, format!("{name} ended at once"))),
            false => Ok((program, line)),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The server under load.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) main: SocketAddr,
    pub(super) key: Option<PeerId>,
    program: Option<Program>,
    /// What it says of itself.
    pub(super) version: String,
    state: Option<PathBuf>,
}

/// What `gimletd --json` prints.
#[derive(Deserialize)]
struct Listening {
    key: String,
    main: Vec<SocketAddr>,
}

impl Target {
    /// As the command line says.
    pub(super) fn open(global: &Global) -> Result<Self, Failure> {
        match (&global.against, &global.gimletd) {
            (Some(server), _) => Self::elsewhere(server),
            (None, Some(gimletd)) => Self::start(gimletd),
            (None, None) => Self::start(&sibling("gimletd")?),
        }
    }

    /// One that runs already.
    pub(super) fn elsewhere(server: &ServerAddr) -> Result<Self, Failure> {
        let failure = |why: String| Failure::new(exit::RENDEZVOUS, format!("{server}: {why}"));
        let found = (server.host.as_str(), server.port).to_socket_addrs();
        let main = found
            .map_err(|error| failure(error.to_string()))?
            .next()
            .ok_or_else(|| failure("the name has no address".into()))?;
        let version = format!("{server}, elsewhere: its CPU time and memory are not seen");
        Ok(Self { main, key: server.key, program: None, version, state: None })
    }

    fn start(gimletd: &Path) -> Result<Self, Failure> {
        let state = std::env::temp_dir().join(format!("gimlet-bench-{}", std::process::id()));
        let mut command = Command::new(gimletd);
        command.args(["--main", "127.0.0.1:0", "--hole", "127.0.0.1:0", "--hole", "127.0.0.1:0"]);
        command.args(["--relay-rate", RELAY_RATE, "--relay-total-rate", RELAY_RATE, "--json"]);
        command.arg("--state").arg(&state).stdin(Stdio::null());
        let (program, line) = Program::start(&mut command)?;
        let unreadable = || Failure::new(exit::OTHER, format!("gimletd says: {line}"));
        let listening: Listening = serde_json::from_str(&line).map_err(|_| unreadable())?;
        Ok(Self {
            main: *listening.main.first().ok_or_else(unreadable)?,
            key: Some(listening.key.parse().map_err(|_| unreadable())?),
            program: Some(program),
            version: version(gimletd),
            state: Some(state),
        })
    }

    /// As peers are told.
    pub(super) fn address(&self) -> String {
        let (host, port) = (self.main.ip().to_string(), self.main.port());
        ServerAddr { key: self.key, host, port }.to_string()
    }

    /// Its process, if it is ours.
    pub(super) fn pid(&self) -> Option<u32> {
        self.program.as_ref().map(Program::pid)
    }

    /// Waits until it has nothing left to do. Elsewhere there is nothing to wait for.
    pub(super) fn settle(&self, vigil: &Vigil) -> Result<(), Failure> {
        let Some(pid) = self.pid() else { return Ok(()) };
        loop {
            let before = proc::cpu(pid)?;
            pause(QUIET);
            vigil.check()?;
            // To be seen at all, it must have run for a while.
            if proc::cpu(pid)? - before < QUIET / 200 {
                return Ok(());
            }
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.program = None;
        if let Some(Err(error)) = self.state.as_ref().map(std::fs::remove_dir_all) {
            log::warn!("the state of gimletd: {error}");
        }
    }
}

/// A program in the directory of this one.
fn sibling(name: &str) -> Result<PathBuf, Failure> {
    let found = std::env::current_exe()?.with_file_name(name);
    match found.exists() {
        true => Ok(found),
        false => Err(Failure::new(exit::OTHER, format!("there is no {}", found.display()))
            .hint("build all programs, cargo build --release --bins; or name it: --gimletd FILE")),
    }
}

fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    output.map_or_else(
        |error| error.to_string(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// Waits, and does nothing else.
pub(super) fn pause(time: std::time::Duration) {
    let until = clock::now() + time;
    while let Some(left) = until.checked_duration_since(clock::now()).filter(|left| !left.is_zero())
    {
        std::thread::park_timeout(left);
    }
}

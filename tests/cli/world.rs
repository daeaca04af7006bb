//! A rendezvous and its peers as programs, and what they print.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// Longest wait for a line, or for an end: far more than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

// ---- programs ------------------------------------------------------------------------------------

/// A running program, and what it prints.
pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Receiver<Vec<u8>>,
    pub(crate) stderr: Receiver<Vec<u8>>,
}

/// What a program has left.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) code: Option<i32>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) stderr: String,
}

impl Program {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .env_remove("GIMLET_SERVER")
            .env_remove("GIMLET_HOME")
            .env_remove("GIMLET_STATE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        let stdin = child.stdin.take();
        Self { child, stdin, stdout, stderr }
    }

    /// The next line of stdout that contains `word`.
    pub(crate) fn line(&self, word: &str) -> String {
        wait_for(&self.stdout, word)
    }

    /// The next event of stdout with this name.
    pub(crate) fn event(&self, name: &str) -> Value {
        let line = self.line(&format!("{{\"event\":\"{name}\""));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Closes its stdin and waits for its end.
    pub(crate) fn end(mut self) -> End {
        drop(self.stdin.take());
        let bytes = rest(&self.stdout);
        let stderr = String::from_utf8(rest(&self.stderr)).unwrap();
        // Both have ended, and so has the program, or will in a moment.
        let code = self.child.wait().unwrap().code();
        End { code, bytes, stderr }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl End {
    pub(crate) fn stdout(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap()
    }

    /// Checks the exit code.
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Checks that stderr says something.
    pub(crate) fn says(self, word: &str) -> Self {
        assert!(self.stderr.contains(word), "no {word:?} in: {}", self.stderr);
        self
    }

    /// The events of stdout.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Sends each line on, from a thread of its own.
pub(crate) fn lines(mut stream: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut line = Vec::new();
        let mut buffer = [0; 64 * 1024];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            for piece in buffer[..length].split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(piece);
                if line.ends_with(b"\n") && sender.send(std::mem::take(&mut line)).is_err() {
                    return;
                }
            }
        }
        // If nobody wants the last piece, there is nobody to tell.
        let _ = sender.send(line);
    });
    receiver
}

pub(crate) fn wait_for(lines: &Receiver<Vec<u8>>, word: &str) -> String {
    let mut before = String::new();
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                let line = String::from_utf8(line).unwrap();
                if line.contains(word) {
                    return line.trim_end().to_owned();
                }
                before += &line;
            }
            Err(error) => panic!("no {word:?} ({error}) after:\n{before}"),
        }
    }
}

pub(crate) fn rest(lines: &Receiver<Vec<u8>>) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => all.extend(line),
            Err(RecvTimeoutError::Disconnected) => return all,
            Err(RecvTimeoutError::Timeout) => panic!("no end after: {}", all.escape_ascii()),
        }
    }
}

// ---- a rendezvous and its peers --------------------------------------------------------------------

/// A rendezvous, and a directory for the homes of its peers.
pub(crate) struct World {
    pub(crate) rendezvous: Program,
    /// KEY@127.0.0.1:PORT
    pub(crate) server: String,
    pub(crate) directory: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::at("127.0.0.1:0")
    }

    pub(crate) fn at(main: &str) -> Self {
        Self::with(main, &[])
    }

    /// With further options of the rendezvous.
    pub(crate) fn with(main: &str, options: &[&str]) -> Self {
        Self::in_directory(tempfile::tempdir().unwrap(), main, options)
    }

    pub(crate) fn in_directory(directory: tempfile::TempDir, main: &str, options: &[&str]) -> Self {
        let rendezvous = Program::start(gimletd(&directory).args(["--main", main]).args(options));
        let server = rendezvous.line("@127.0.0.1:");
        Self { rendezvous, server, directory }
    }

    /// The address without its key.
    pub(crate) fn place(&self) -> &str {
        self.server.split_once('@').unwrap().1
    }

    pub(crate) fn home(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = gimlet(arguments);
        command.arg("--home").arg(self.home(name)).args(["--server", &self.server]);
        command
    }

    pub(crate) fn start(&self, name: &str, arguments: &[&str]) -> Program {
        Program::start(&mut self.command(name, arguments))
    }

    pub(crate) fn run(&self, name: &str, arguments: &[&str]) -> End {
        self.start(name, arguments).end()
    }

    pub(crate) fn id(&self, name: &str) -> String {
        self.run(name, &["id"]).expect(0).stdout().trim().to_owned()
    }

    /// bob shares the target as "it", alice knows him and is allowed.
    pub(crate) fn share(&self, target: u16) -> Program {
        self.run("alice", &["peer", "add", "bob", &self.id("bob")]).expect(0);
        let (service, alice) = (format!("it={target}"), self.id("alice"));
        let share = self.start("bob", &["share", &service, "--allow", &alice, "--json"]);
        share.event("ready");
        share
    }
}

pub(crate) fn gimlet(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gimlet"));
    command.args(arguments);
    command
}

pub(crate) fn gimletd(directory: &tempfile::TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gimletd"));
    command.args(["--hole", "127.0.0.1:0", "--hole", "127.0.0.1:0"]);
    command.arg("--state").arg(directory.path().join("state"));
    command
}

/// A service on a port of the kernel's choice, each connection on a thread of its own.
pub(crate) fn serve(serve: fn(TcpStream)) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || serve(stream.unwrap()));
        }
    });
    port
}

/// Sends back what comes, piece by piece.
pub(crate) fn echo(stream: TcpStream) {
    // Who has gone needs no answer.
    let _ = std::io::copy(&mut &stream, &mut &stream);
}

/// Says how much has come, when all of it has.
pub(crate) fn count(mut stream: TcpStream) {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    write!(stream, "{} bytes", all.len()).unwrap();
}

/// A port on which nobody listens.
pub(crate) fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

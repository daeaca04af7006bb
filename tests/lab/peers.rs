//! The rendezvous and the peers, as programs with a namespace and a home each.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use crate::namespace::Namespace;
use crate::programs::{Program, Stdout};
use crate::sockets::SOON;
use crate::sys::Poller;
use crate::topology::{Host, Lab, S_V4, S_V6};

/// A rendezvous on all addresses of S.
pub(crate) struct Rendezvous {
    program: Program,
    state: TempDir,
    /// `KEY@host:4000`, of each family.
    v4: String,
    v6: String,
}

impl Rendezvous {
    pub(crate) fn start(lab: &Lab) -> Self {
        let state = scratch_directory();
        let program = start_gimletd(&lab.s.namespace, state.path());
        let [v4, v6] = server_addresses(&program);
        Self { program, state, v4, v6 }
    }

    /// A file beside its state.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.state.path().join(name)
    }

    /// Dies without a word, and comes back with what is in its state directory.
    pub(crate) fn crash_and_restart(&mut self, lab: &Lab) {
        self.program.kill();
        self.program = start_gimletd(&lab.s.namespace, self.state.path());
        let addresses = server_addresses(&self.program);
        assert_eq!(addresses, [self.v4.clone(), self.v6.clone()], "gimletd has another key");
    }
}

fn start_gimletd(namespace: &Namespace, state: &Path) -> Program {
    let mut command = namespace.command(env!("CARGO_BIN_EXE_gimletd"));
    let addresses: [IpAddr; 3] = [S_V4[0].into(), S_V4[1].into(), S_V6.into()];
    for address in addresses {
        command.arg("--main").arg(SocketAddr::new(address, 4000).to_string());
        for port in [8000, 8001] {
            command.arg("--hole").arg(SocketAddr::new(address, port).to_string());
        }
    }
    command.arg("--state").arg(state);
    Program::start("gimletd", command, Stdout::Lines)
}

fn server_addresses(program: &Program) -> [String; 2] {
    let of = |main: fn(&str) -> bool| program.line("KEY@host:4000", SOON, main);
    [
        of(|line| line.ends_with("@198.51.100.1:4000")),
        of(|line| line.ends_with("@[2001:db8:5::1]:4000")),
    ]
}

/// Gone when dropped; after a crash, it lies among what the build has made.
fn scratch_directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A peer's identity, and the commands that it runs.
pub(crate) struct Peer<'lab> {
    pub(crate) id: String,
    name: &'lab str,
    namespace: &'lab Namespace,
    home: TempDir,
    server: String,
    /// How many descriptors its programs may have, if not as many as this one.
    descriptors: Option<usize>,
}

impl<'lab> Peer<'lab> {
    pub(crate) fn new(host: &'lab Host, rendezvous: &Rendezvous) -> Self {
        let home = scratch_directory();
        let server = if host.v4.is_some() { &rendezvous.v4 } else { &rendezvous.v6 };
        let namespace = &host.namespace;
        let mut command = namespace.command(env!("CARGO_BIN_EXE_gimlet"));
        command.arg("--home").arg(home.path()).arg("id");
        let mut program = Program::start("gimlet id", command, Stdout::Lines);
        let id = program.line("peer id", SOON, |line| line.split('-').count() == 7);
        program.succeed(SOON);
        let server = server.clone();
        Self { id, name: namespace.name(), namespace, home, server, descriptors: None }
    }

    /// The same on a machine that grants a program no more descriptors than these.
    pub(crate) fn with_descriptors(mut self, descriptors: usize) -> Self {
        self.descriptors = Some(descriptors);
        self
    }

    /// `gimlet share service=address --allow friend`, logged in.
    pub(crate) fn share(&self, service: &str, address: SocketAddr, friend: &Peer<'_>) -> Program {
        self.share_with(service, address, friend, &[])
    }

    /// The same, with more options.
    pub(crate) fn share_with(
        &self,
        service: &str,
        address: SocketAddr,
        friend: &Peer<'_>,
        options: &[&str],
    ) -> Program {
        let mut command = self.gimlet();
        command.arg("share").arg(format!("{service}={address}")).args(["--allow", &friend.id]);
        command.args(options);
        let program = self.start("share", command, Stdout::Lines);
        program.event("ready", SOON);
        program
    }

    /// `gimlet pipe friend/service`, just started.
    pub(crate) fn pipe(&self, friend: &Peer<'_>, service: &str) -> Pipe {
        self.pipe_with(&[], friend, service)
    }

    /// The same with options, such as `--relay`.
    pub(crate) fn pipe_with(&self, options: &[&str], friend: &Peer<'_>, service: &str) -> Pipe {
        let mut command = self.gimlet();
        command.arg("pipe").args(options).arg(format!("{}/{service}", friend.id));
        let mut program = self.start("pipe", command, Stdout::Data);
        let (input, output) = program.take_stdio();
        Pipe { program, input: Some(input), output }
    }

    /// `gimlet forward listen friend/service`, logged in and listening.
    pub(crate) fn forward(&self, listen: SocketAddr, friend: &Peer<'_>, service: &str) -> Program {
        let mut command = self.gimlet();
        command.arg("forward").arg(listen.to_string()).arg(format!("{}/{service}", friend.id));
        let program = self.start("forward", command, Stdout::Lines);
        program.event("ready", SOON);
        program
    }

    /// `gimlet ping friend --count N`.
    pub(crate) fn ping(&self, friend: &Peer<'_>, count: u32) -> Program {
        let mut command = self.gimlet();
        command.args(["ping", &friend.id, "--count", &count.to_string()]);
        self.start("ping", command, Stdout::Lines)
    }

    /// `gimlet nat`, just started.
    pub(crate) fn nat(&self, arguments: &[&str]) -> Program {
        let mut command = self.gimlet();
        command.arg("nat").args(arguments);
        self.start("nat", command, Stdout::Lines)
    }

    /// As a shell line, for programs that start it themselves.
    pub(crate) fn shell_line(&self, arguments: &str) -> String {
        let (program, home) = (env!("CARGO_BIN_EXE_gimlet"), self.home.path().display());
        format!("{program} --home {home} --server {} --json {arguments}", self.server)
    }

    /// A file or directory beside the peer's own.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        let directory = self.home.path().join("scratch");
        fs::create_dir_all(&directory).unwrap();
        directory.join(name)
    }

    fn gimlet(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_gimlet");
        let mut command = match self.descriptors {
            None => self.namespace.command(program),
            Some(most) => {
                // It becomes the program, so that the process is the same.
                let mut command = self.namespace.command("prlimit");
                command.arg(format!("--nofile={most}:{most}")).arg(program);
                command
            }
        };
        command.arg("--home").arg(self.home.path()).args(["--server", &self.server, "--json"]);
        command
    }

    fn start(&self, what: &str, command: Command, stdout: Stdout) -> Program {
        Program::start(&format!("gimlet {what} of {}", self.name), command, stdout)
    }
}

/// A running `gimlet pipe`.
pub(crate) struct Pipe {
    pub(crate) program: Program,
    input: Option<ChildStdin>,
    output: ChildStdout,
}

impl Pipe {
    /// Writes all, closes the input, and reads the output to its end. The program must then end
    /// in peace; returned are the bytes, and the events `connected` and `closed`.
    pub(crate) fn exchange(self, send: &[u8]) -> (Vec<u8>, Value, Value) {
        let connected = self.program.event("connected", SOON);
        let (received, closed) = self.exchange_once_connected(send);
        (received, connected, closed)
    }

    /// Like [`Pipe::exchange`], when the event `connected` has been taken.
    pub(crate) fn exchange_once_connected(mut self, send: &[u8]) -> (Vec<u8>, Value) {
        let mut input = self.input.take().unwrap();
        let received = thread::scope(|scope| {
            scope.spawn(move || input.write_all(send).expect("write to the pipe"));
            self.read_to_end()
        });
        let closed = self.program.event("closed", SOON);
        self.program.succeed(SOON);
        (received, closed)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).expect("write to the pipe");
    }

    /// Writes, unless the pipe has ended already.
    pub(crate) fn write_if_open(&mut self, bytes: &[u8]) {
        match self.input.as_mut().unwrap().write_all(bytes) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            result => result.expect("write to the pipe"),
        }
    }

    /// The next byte that comes out.
    pub(crate) fn read_byte(&mut self) -> u8 {
        let mut byte = [0];
        assert_eq!(self.read(&mut byte), 1, "the pipe ended");
        byte[0]
    }

    fn read_to_end(&mut self) -> Vec<u8> {
        let (mut all, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
        loop {
            match self.read(&mut buffer) {
                0 => return all,
                length => all.extend(&buffer[..length]),
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> usize {
        let mut poller = Poller::new([self.output.as_raw_fd()].into_iter());
        poller.wait(Some(SOON)).unwrap();
        if !poller.is_ready(0) {
            // Whoever writes to it must not wait either.
            self.program.kill();
            panic!("nothing came out of the pipe for {SOON:?}");
        }
        self.output.read(buffer).expect("read from the pipe")
    }
}

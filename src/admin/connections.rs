//! Connections to the operator's port: few, slow ones for a short time, and none before the peers.
//!
//! ```text
//!            ┌─────────── answered, and kept ────────────┐
//!            ▼                                           │
//! accepted ▶ Waiting ─▶ Reading ── request ──▶ Answering ┴─ the last ─▶ Lingering ─▶ closed
//! ```

use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr};
use std::time::Instant;

use mio::Token;
use mio::net::{TcpListener, TcpStream};
use slab::Slab;

use super::http::{self, Request, Status};
use super::pages;
use super::snapshot::Snapshot;
use crate::limits;
use crate::net::outbox::Outbox;
use crate::net::reactor::{HostId, Reactor};
use crate::net::{clock, socket};
use crate::proto::timers::Timers;

/// The key of the listener in the reactor; those of connections follow.
const LISTENER: usize = 0;

/// The operator's port of a rendezvous.
///
/// After each turn of the reactor, give it the keys that became ready ([`Self::handle_ready`]) and call
/// [`Self::drive`]. It takes the application's keys from 0 to [`limits::ADMIN_CONNECTIONS`].
pub struct Admin {
    rendezvous: HostId,
    started: Instant,
    listener: TcpListener,
    token: Token,
    /// Accepting rests until then.
    paused: Option<Instant>,
    connections: Slab<Connection>,
    /// Keys to look at, each once.
    queue: VecDeque<usize>,
    timers: Timers<usize>,
    /// Where answers are made.
    body: String,
    assembly: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    token: Token,
    stage: Stage,
    deadline: Instant,
    input: Vec<u8>,
    output: Outbox,
    queued: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// For the first byte of a request.
    Waiting,
    /// A part of a request has come.
    Reading,
    /// The answer is not out yet.
    Answering { last: bool },
    /// The last answer is out: what still comes is thrown away.
    Lingering,
}

/// What comes of a look at a connection.
enum Look {
    /// Nothing to do until the next event.
    Done,
    /// A request was answered; there may be another.
    Again,
    /// It is over.
    Close,
}

impl Admin {
    /// Listens.
    ///
    /// # Errors
    /// What binding says, with the address at fault.
    pub fn open(
        reactor: &mut Reactor,
        rendezvous: HostId,
        address: SocketAddr,
    ) -> io::Result<Self> {
        let mut listener = socket::listen(address).map_err(|error| {
            io::Error::new(error.kind(), format!("listen on {address}: {error}"))
        })?;
        if !address.ip().is_loopback() {
            log::warn!("the operator's port {address} has no password, and others can reach it");
        }
        let token = reactor.watch(&mut listener, LISTENER)?;
        Ok(Self {
            rendezvous,
            started: clock::now(),
            listener,
            token,
            paused: None,
            connections: Slab::new(),
            queue: VecDeque::new(),
            timers: Timers::new(),
            body: String::new(),
            assembly: Vec::new(),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What getsockname(2) says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// When [`Self::drive`] is to be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.queue.is_empty() {
            true => [self.timers.next(), self.paused].into_iter().flatten().min(),
            // Long ago: at once.
            false => Some(self.started),
        }
    }

    /// A key of the application has become ready.
    pub fn handle_ready(&mut self, key: usize) {
        match self.connections.get_mut(key.wrapping_sub(1)) {
            // An event that was under way for one that is closed.
            None if key != LISTENER => {}
            None => self.queue.push_back(key),
            Some(connection) if connection.queued => {}
            Some(connection) => {
                connection.queued = true;
                self.queue.push_back(key);
            }
        }
    }

    /// Answers some requests, and ends what took too long. The rest waits for the turn after the next.
    pub fn drive(&mut self, reactor: &mut Reactor) {
        if self.queue.is_empty() && self.poll_timeout().is_none() {
            return;
        }
        let now = clock::now();
        if self.paused.take_if(|until| *until <= now).is_some() {
            self.queue.push_back(LISTENER);
        }
        while let Some((_, key)) = self.timers.expire(now) {
            self.expire(reactor, key, now);
        }
        let mut answers = 0;
        for _ in 0..self.queue.len() {
            let Some(key) = self.queue.pop_front() else { return };
            match key.checked_sub(1) {
                None => self.accept(reactor, now),
                Some(key) => answers += usize::from(self.look(reactor, key, now)),
            }
            if answers == limits::ADMIN_TURN_REQUESTS {
                return;
            }
        }
    }

    /// Closes everything.
    pub fn close(&mut self, reactor: &mut Reactor) {
        reactor.unwatch(&mut self.listener, self.token);
        for mut connection in self.connections.drain() {
            reactor.unwatch(&mut connection.stream, connection.token);
        }
    }

    // ---- accepting ----

    fn accept(&mut self, reactor: &mut Reactor, now: Instant) {
        for _ in 0..limits::ADMIN_CONNECTIONS {
            match self.listener.accept() {
                Ok((stream, remote)) => self.admit(reactor, stream, remote, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if socket::is_exhaustion(&error) => {
                    log::warn!("the operator's port: accept pauses: {error}");
                    self.paused = Some(now + limits::ACCEPT_PAUSE);
                    return;
                }
                // One connection's fault: the next may be sound.
                Err(error) => log::debug!("the operator's port: accept: {error}"),
            }
        }
        self.queue.push_back(LISTENER);
    }

    /// When all places are taken, the one that has waited for its next request for the longest time goes: who
    /// holds connections open keeps nobody out.
    fn admit(
        &mut self,
        reactor: &mut Reactor,
        mut stream: TcpStream,
        remote: SocketAddr,
        now: Instant,
    ) {
        if self.connections.len() >= limits::ADMIN_CONNECTIONS {
            let waiting = self.connections.iter().filter(|(_, it)| it.stage == Stage::Waiting);
            let Some((longest, _)) = waiting.min_by_key(|(_, it)| it.deadline) else {
                return log::debug!("the operator's port is full: {remote} is turned away");
            };
            self.drop_connection(reactor, longest);
        }
        let key = self.connections.vacant_key();
        let token = match reactor.watch(&mut stream, key + 1) {
            Ok(token) => token,
            Err(error) => return log::warn!("the operator's port: {remote}: {error}"),
        };
        let deadline = now + limits::ADMIN_REQUEST_TIME;
        self.timers.set(deadline, key);
        self.connections.insert(Connection {
            stream,
            token,
            stage: Stage::Waiting,
            deadline,
            input: Vec::new(),
            output: Outbox::default(),
            queued: false,
        });
        // Its request may be there already, which need not be an event.
        self.handle_ready(key + 1);
    }

    // ---- one connection ----

    /// Whether a request was answered.
    fn look(&mut self, reactor: &mut Reactor, key: usize, now: Instant) -> bool {
        let Some(connection) = self.connections.get_mut(key) else { return false };
        connection.queued = false;
        let before = connection.deadline;
        let look = self.advance(reactor, key, now);
        let Some(connection) = self.connections.get_mut(key) else { return false };
        if connection.deadline != before {
            self.timers.clear(before, key);
            self.timers.set(connection.deadline, key);
        }
        match look {
            Ok(Look::Done) => return false,
            Ok(Look::Again) => self.handle_ready(key + 1),
            Ok(Look::Close) => self.drop_connection(reactor, key),
            Err(error) => {
                log::debug!("the operator's port: {error}");
                self.drop_connection(reactor, key);
                return false;
            }
        }
        true
    }

    /// As far as it goes without waiting, one request at most.
    fn advance(&mut self, reactor: &mut Reactor, key: usize, now: Instant) -> io::Result<Look> {
        let Some(connection) = self.connections.get_mut(key) else { return Ok(Look::Done) };
        if !connection.flush(now)? {
            return Ok(Look::Done);
        }
        if connection.stage == Stage::Lingering {
            return connection.discard();
        }
        let ended = connection.read()?;
        let Some((request, length)) = http::parse(&connection.input) else {
            if ended {
                return Ok(Look::Close);
            }
            connection.await_the_rest(now);
            return Ok(Look::Done);
        };
        connection.input.drain(..length);
        self.answer(reactor, key, request, now)?;
        Ok(Look::Again)
    }

    fn answer(
        &mut self,
        reactor: &mut Reactor,
        key: usize,
        request: Request,
        now: Instant,
    ) -> io::Result<()> {
        let draining = reactor.rendezvous(self.rendezvous).is_draining();
        let snapshot = || Snapshot::take(reactor, self.rendezvous, self.started, now);
        let (status, kind) = pages::answer(request.wanted, draining, snapshot, &mut self.body);
        self.assembly.clear();
        http::compose(status, &request, kind, &self.body, &mut self.assembly);
        let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
        connection.enter(Stage::Answering { last: !request.keep_alive }, now);
        connection.output.send(&mut connection.stream, &self.assembly)
    }

    /// Its time is up.
    fn expire(&mut self, reactor: &mut Reactor, key: usize, now: Instant) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.stage == Stage::Reading {
            let request = Request::refused(Status::RequestTimeout);
            if self.answer(reactor, key, request, now).is_ok() {
                self.timers.set(now + limits::ADMIN_ANSWER_TIME, key);
                return self.handle_ready(key + 1);
            }
        } else if matches!(connection.stage, Stage::Answering { .. }) {
            log::debug!("the operator's port: an answer was not read in time");
            socket::abort(&connection.stream);
        }
        self.drop_connection(reactor, key);
    }

    fn drop_connection(&mut self, reactor: &mut Reactor, key: usize) {
        if let Some(mut connection) = self.connections.try_remove(key) {
            self.timers.clear(connection.deadline, key);
            reactor.unwatch(&mut connection.stream, connection.token);
        }
    }
}

impl Connection {
    fn enter(&mut self, stage: Stage, now: Instant) {
        self.stage = stage;
        self.deadline = now
            + match stage {
                Stage::Waiting => limits::ADMIN_IDLE_TIME,
                Stage::Reading => limits::ADMIN_REQUEST_TIME,
                Stage::Answering { .. } => limits::ADMIN_ANSWER_TIME,
                Stage::Lingering => limits::ADMIN_LINGER_TIME,
            };
    }

    /// Whether the answer is out.
    fn flush(&mut self, now: Instant) -> io::Result<bool> {
        let Stage::Answering { last } = self.stage else { return Ok(true) };
        self.output.flush(&mut self.stream)?;
        if !self.output.is_empty() {
            return Ok(false);
        }
        if last {
            self.stream.shutdown(Shutdown::Write)?;
        }
        self.enter(if last { Stage::Lingering } else { Stage::Waiting }, now);
        Ok(true)
    }

    /// Reads what there is, up to the longest request. Whether the other side has ended.
    fn read(&mut self) -> io::Result<bool> {
        let mut piece = [0; 2048];
        while self.input.len() < limits::ADMIN_REQUEST_BYTES {
            let room = piece.len().min(limits::ADMIN_REQUEST_BYTES - self.input.len());
            match self.stream.read(&mut piece[..room]) {
                Ok(0) => return Ok(true),
                Ok(length) => self.input.extend_from_slice(&piece[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// The time for a request begins with its first byte, and each further byte doesn't prolong it.
    fn await_the_rest(&mut self, now: Instant) {
        if self.stage == Stage::Waiting && !self.input.is_empty() {
            self.enter(Stage::Reading, now);
        }
    }

    /// Throws away what comes after the last request, for a moment.
    fn discard(&mut self) -> io::Result<Look> {
        self.input.clear();
        let ended = self.read()?;
        let more = self.input.len() >= limits::ADMIN_REQUEST_BYTES;
        self.input = Vec::new();
        Ok(match (ended, more) {
            (true, _) => Look::Close,
            (false, true) => Look::Again,
            (false, false) => Look::Done,
        })
    }
}

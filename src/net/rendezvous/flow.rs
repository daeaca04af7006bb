//! One direction of a relayed pair: from one socket to the other, through a pipe.
//!
//! ```text
//! socket ──splice──▶ pipe ──splice──▶ socket       or, where splice can't: read ──▶ queue ──▶ write
//! ```
//!
//! It reads only when it holds nothing: so a slow reader slows the writer through both kernels, what
//! S holds is one pipe's content at most, and a direction in which nothing is stuck has no pipe.

use std::io::{self, Read};
use std::net::Shutdown;
use std::time::Instant;

use mio::net::TcpStream;

use super::pace::Pace;
use crate::limits;
use crate::net::outbox::Outbox;
use crate::net::sys::{self, PipeEnds};

/// One direction.
pub(super) struct Flow {
    held: Held,
    /// Since the last event, reading has not said that there is no more.
    pub(super) readable: bool,
    /// Since the last event, writing has not said that there is no room.
    pub(super) writable: bool,
    at_end: bool,
    over: bool,
    /// A portion is reserved, for this time.
    reserved: Option<Reserved>,
    /// What was read so far.
    pub(super) bytes: u64,
}

/// What has been read and not been written.
enum Held {
    Nothing,
    Pipe(Pipe, usize),
    Queue(Outbox),
}

#[derive(Clone, Copy)]
struct Reserved {
    bytes: usize,
    from: Instant,
}

/// What a flow uses that belongs to others, too.
pub(super) struct Means<'a> {
    pub(super) pair: &'a mut Pace,
    pub(super) total: &'a mut Pace,
    pub(super) pipes: &'a mut Pipes,
    pub(super) scratch: &'a mut [u8],
}

/// Why a flow stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Until an event.
    Event,
    /// Its rate is used up until then.
    Pace(Instant),
    /// The others come first.
    Turn,
    /// The end was read, and handed on.
    Over,
}

enum Loaded {
    Bytes(usize),
    Nothing,
    End,
}

impl Flow {
    pub(super) fn new() -> Self {
        Self {
            held: Held::Nothing,
            readable: true,
            writable: true,
            at_end: false,
            over: false,
            reserved: None,
            bytes: 0,
        }
    }

    /// Whether the end was read and handed on.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether it holds what the other socket doesn't take: until it does, nothing is read.
    pub(super) fn is_stuck(&self) -> bool {
        !self.writable && !matches!(self.held, Held::Nothing)
    }

    /// Bytes that were read and not written yet.
    pub(super) fn backlog(&self) -> usize {
        match &self.held {
            Held::Nothing => 0,
            Held::Pipe(_, bytes) => *bytes,
            Held::Queue(queue) => queue.len(),
        }
    }

    /// Moves what it can, up to a turn's worth.
    ///
    /// # Errors
    /// What either socket says: the pair is broken.
    pub(super) fn pump(
        &mut self,
        from: &TcpStream,
        to: &TcpStream,
        means: &mut Means<'_>,
        now: Instant,
    ) -> io::Result<Stop> {
        let mut turn = 0;
        loop {
            if !self.unload(to, means.pipes)? {
                return Ok(Stop::Event);
            }
            if self.at_end {
                self.hand_on_end(to)?;
                return Ok(Stop::Over);
            }
            if !self.readable {
                return Ok(Stop::Event);
            }
            if turn >= limits::RELAY_TURN_BYTES {
                return Ok(Stop::Turn);
            }
            let portion = match self.reserve(means, now) {
                Reserved { from, .. } if from > now => return Ok(Stop::Pace(from)),
                Reserved { bytes, .. } => bytes,
            };
            let loaded = self.load(from, to, portion, means);
            let used = if let Ok(Loaded::Bytes(bytes)) = loaded { bytes } else { 0 };
            self.refund(means.pair, means.total, used);
            match loaded? {
                Loaded::Bytes(bytes) => {
                    turn += bytes;
                    self.bytes += bytes as u64;
                }
                Loaded::Nothing => self.readable = false,
                Loaded::End => self.at_end = true,
            }
        }
    }

    /// Gives back what it has of others.
    pub(super) fn dissolve(mut self, pair: &mut Pace, total: &mut Pace, pipes: &mut Pipes) {
        self.refund(pair, total, 0);
        if let Held::Pipe(pipe, _) = self.held {
            pipes.discard(pipe);
        }
    }

    // ---- the rate ----

    fn reserve(&mut self, means: &mut Means<'_>, now: Instant) -> Reserved {
        *self.reserved.get_or_insert_with(|| {
            let bytes = means.pair.portion().min(means.total.portion());
            let from = means.pair.reserve(bytes, now).max(means.total.reserve(bytes, now));
            Reserved { bytes, from }
        })
    }

    fn refund(&mut self, pair: &mut Pace, total: &mut Pace, used: usize) {
        if let Some(Reserved { bytes, .. }) = self.reserved.take() {
            pair.refund(bytes - used);
            total.refund(bytes - used);
        }
    }

    // ---- bytes ----

    /// Reads up to `limit` bytes; nothing is held when this is called.
    fn load(
        &mut self,
        from: &TcpStream,
        to: &TcpStream,
        limit: usize,
        means: &mut Means<'_>,
    ) -> io::Result<Loaded> {
        if let Some(pipe) = means.pipes.take() {
            match uninterrupted(|| sys::splice(from, &pipe.ends.write, limit)) {
                Ok(bytes) if bytes > 0 => {
                    self.held = Held::Pipe(pipe, bytes);
                    return Ok(Loaded::Bytes(bytes));
                }
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                    log::warn!("splice(2) can't be used, bytes are copied: {error}");
                    means.pipes.discard(pipe);
                    means.pipes.enabled = false;
                }
                result => {
                    means.pipes.put(pipe);
                    return loaded(result);
                }
            }
        }
        self.copy(from, to, limit, means.scratch)
    }

    fn copy(
        &mut self,
        mut from: &TcpStream,
        mut to: &TcpStream,
        limit: usize,
        scratch: &mut [u8],
    ) -> io::Result<Loaded> {
        let limit = limit.min(scratch.len());
        let result = uninterrupted(|| from.read(&mut scratch[..limit]));
        if let Ok(bytes) = result {
            let mut queue = Outbox::default();
            queue.send(&mut to, &scratch[..bytes])?;
            if !queue.is_empty() {
                self.writable = false;
                self.held = Held::Queue(queue);
            }
        }
        loaded(result)
    }

    /// Writes what is held. Says whether nothing is left.
    fn unload(&mut self, mut to: &TcpStream, pipes: &mut Pipes) -> io::Result<bool> {
        if !self.writable {
            return Ok(matches!(self.held, Held::Nothing));
        }
        match &mut self.held {
            Held::Nothing => return Ok(true),
            Held::Queue(queue) => {
                queue.flush(&mut to)?;
                self.writable = queue.is_empty();
            }
            Held::Pipe(pipe, held) => {
                self.writable = pipe.empty_into(to, held)?;
            }
        }
        if self.writable
            && let Held::Pipe(pipe, _) = std::mem::replace(&mut self.held, Held::Nothing)
        {
            pipes.put(pipe);
        }
        Ok(self.writable)
    }

    fn hand_on_end(&mut self, to: &TcpStream) -> io::Result<()> {
        if std::mem::replace(&mut self.over, true) {
            return Ok(());
        }
        match to.shutdown(Shutdown::Write) {
            // It has gone before us.
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error),
            _ => Ok(()),
        }
    }
}

fn loaded(result: io::Result<usize>) -> io::Result<Loaded> {
    match result {
        Ok(0) => Ok(Loaded::End),
        Ok(bytes) => Ok(Loaded::Bytes(bytes)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Loaded::Nothing),
        Err(error) => Err(error),
    }
}

fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A pipe for splice(2).
pub(super) struct Pipe {
    ends: PipeEnds,
    large: bool,
}

impl Pipe {
    /// Moves all of `held` bytes to the socket, or as many as it takes. Says whether it took all.
    fn empty_into(&mut self, to: &TcpStream, held: &mut usize) -> io::Result<bool> {
        while *held > 0 {
            match uninterrupted(|| sys::splice(&self.ends.read, to, *held)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => *held -= bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// The pipes of a rendezvous: a few empty ones, and the number of large ones.
pub(super) struct Pipes {
    spare: Vec<Pipe>,
    large: usize,
    /// Off where the kernel has no splice(2) for sockets, and for tests.
    pub(super) enabled: bool,
}

impl Pipes {
    pub(super) fn new() -> Self {
        Self { spare: Vec::new(), large: 0, enabled: true }
    }

    /// How many empty ones are kept.
    pub(super) fn spare(&self) -> usize {
        self.spare.len()
    }

    /// An empty pipe; none when bytes are to be copied.
    fn take(&mut self) -> Option<Pipe> {
        if !self.enabled {
            return None;
        }
        self.spare.pop().or_else(|| self.open().inspect_err(|e| log::debug!("pipe: {e}")).ok())
    }

    fn open(&mut self) -> io::Result<Pipe> {
        let ends = sys::pipe()?;
        let large = self.large < limits::RELAY_LARGE_PIPES
            && sys::set_pipe_size(&ends.write, limits::RELAY_PIPE_BYTES).is_ok();
        self.large += usize::from(large);
        Ok(Pipe { ends, large })
    }

    fn put(&mut self, pipe: Pipe) {
        if self.spare.len() < limits::RELAY_SPARE_PIPES {
            self.spare.push(pipe);
        } else {
            self.discard(pipe);
        }
    }

    fn discard(&mut self, pipe: Pipe) {
        self.large -= usize::from(pipe.large);
    }
}

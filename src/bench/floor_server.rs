//! A bare mio server without any protocol: what the kernel and mio cost alone.
//!
//! ```text
//! answer   what comes goes back
//! forward  of two connections that follow each other, what one says goes to the other
//! splice   the same through a pipe, without copying
//! ```

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use serde::{Deserialize, Serialize};
use slab::Slab;

use crate::cli::exit::Failure;
use crate::cli::output::{Output, Stream};
use crate::limits;
use crate::net::sys::PipeEnds;
use crate::net::{socket, sys};

/// What it prints first: where it listens.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Listening {
    pub(super) answer: SocketAddr,
    pub(super) forward: SocketAddr,
    pub(super) splice: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Answer,
    Forward,
    Splice,
}

const SHAPES: [Shape; 3] = [Shape::Answer, Shape::Forward, Shape::Splice];

/// Tokens from here on are listeners.
const LISTENERS: usize = usize::MAX / 2;

/// Nothing is ever said there.
const STDIN: Token = Token(usize::MAX - 1);

struct Conn {
    stream: TcpStream,
    /// Where what it says goes to.
    to: u32,
    shape: Shape,
}

/// The pipe of a spliced connection, by the key of the reading end.
struct Pipe {
    key: usize,
    ends: PipeEnds,
    filled: usize,
}

struct Server {
    poll: Poll,
    listeners: Vec<TcpListener>,
    conns: Slab<Conn>,
    pipes: Vec<Pipe>,
    /// The last connection of a shape, that waits for its neighbour.
    waiting: [Option<usize>; 3],
    scratch: Vec<u8>,
}

/// Serves until it is killed, or its standard input ends: whoever has started it is gone then.
pub(super) fn run() -> Result<(), Failure> {
    sys::raise_descriptor_limit()?;
    let poll = Poll::new()?;
    let stdin = io::stdin();
    // A file can't be waited for, and has no end to tell of.
    if let Err(error) =
        poll.registry().register(&mut SourceFd(&stdin.as_raw_fd()), STDIN, Interest::READABLE)
    {
        log::debug!("standard input: {error}");
    }
    let mut listeners = Vec::new();
    for at in 0..SHAPES.len() {
        let mut listener = socket::listen(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        poll.registry().register(&mut listener, Token(LISTENERS + at), Interest::READABLE)?;
        listeners.push(listener);
    }
    let address = |at: usize| listeners[at].local_addr();
    let listening = Listening { answer: address(0)?, forward: address(1)?, splice: address(2)? };
    Output::new("gimlet-bench", true, false, Stream::Stdout).object(&listening)?;
    let (conns, pipes, waiting) = (Slab::new(), Vec::new(), [None; 3]);
    let scratch = vec![0; limits::SCRATCH_BYTES];
    let mut server = Server { poll, listeners, conns, pipes, waiting, scratch };
    let mut events = Events::with_capacity(1024);
    loop {
        match server.poll.poll(&mut events, None) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            if event.token() == STDIN {
                return Ok(());
            }
            match event.token().0.checked_sub(LISTENERS) {
                Some(at) => server.accept(at)?,
                None => server.handle_ready(event.token().0),
            }
        }
    }
}

impl Server {
    fn accept(&mut self, at: usize) -> io::Result<()> {
        loop {
            let mut stream = match self.listeners[at].accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let key = self.conns.vacant_key();
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(key), interest)?;
            let to = self.join(key, at)?;
            self.conns.insert(Conn { stream, to: to as u32, shape: SHAPES[at] });
        }
    }

    /// Where a new connection's bytes go to.
    fn join(&mut self, key: usize, at: usize) -> io::Result<usize> {
        if SHAPES[at] == Shape::Answer {
            return Ok(key);
        }
        let Some(neighbour) = self.waiting[at].take() else {
            self.waiting[at] = Some(key);
            return Ok(key);
        };
        self.conns[neighbour].to = key as u32;
        if SHAPES[at] == Shape::Splice {
            let ends = sys::pipe()?;
            sys::set_pipe_size(&ends.write, limits::RELAY_PIPE_BYTES)?;
            self.pipes.push(Pipe { key: neighbour, ends, filled: 0 });
        }
        Ok(neighbour)
    }

    fn handle_ready(&mut self, key: usize) {
        let Some(conn) = self.conns.get(key) else { return };
        let shape = conn.shape;
        let lives = match shape {
            Shape::Answer | Shape::Forward => self.copy(key),
            Shape::Splice => self.splice_both(key),
        };
        if !lives {
            self.conns.remove(key);
            self.pipes.retain(|pipe| pipe.key != key);
        }
    }

    /// Whether the connection lives on.
    fn copy(&mut self, key: usize) -> bool {
        loop {
            let conn = &mut self.conns[key];
            let to = conn.to as usize;
            match conn.stream.read(&mut self.scratch) {
                Ok(0) => return false,
                Ok(length) => {
                    let Some(partner) = self.conns.get_mut(to) else { return false };
                    // So few bytes always fit.
                    if partner.stream.write(&self.scratch[..length]).is_err() {
                        return false;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
    }

    /// An event of either end may move the pipe.
    fn splice_both(&mut self, key: usize) -> bool {
        let moves = |pipe: &Pipe| pipe.key == key || self.conns[pipe.key].to as usize == key;
        match self.pipes.iter().position(moves) {
            Some(at) => self.splice(at),
            None => true,
        }
    }

    fn splice(&mut self, at: usize) -> bool {
        let Pipe { key, ends, filled } = &mut self.pipes[at];
        let from = &self.conns[*key];
        let Some(to) = self.conns.get(from.to as usize) else { return false };
        let would_block = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        loop {
            let mut moved = false;
            match sys::splice(&from.stream, &ends.write, limits::RELAY_PIPE_BYTES) {
                Ok(0) if *filled == 0 => {
                    return to.stream.shutdown(std::net::Shutdown::Write).is_err();
                }
                Ok(length) => {
                    *filled += length;
                    moved |= length > 0;
                }
                Err(error) if would_block(&error) => {}
                Err(_) => return false,
            }
            if *filled > 0 {
                match sys::splice(&ends.read, &to.stream, *filled) {
                    Ok(length) => {
                        *filled -= length;
                        moved |= length > 0;
                    }
                    Err(error) if would_block(&error) => {}
                    Err(_) => return false,
                }
            }
            if !moved {
                return true;
            }
        }
    }
}

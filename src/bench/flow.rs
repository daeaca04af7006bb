//! Bytes that flow through a server: from one connection into it, and out of it into another.

use std::io::{self, Read, Write};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::vigil::{TURN, Vigil};
use crate::cli::exit::{self, Failure};

/// One read or write.
const CHUNK: usize = 256 << 10;

/// Reads and writes of one connection before the next one gets its turn.
const SHARE: usize = 8;

/// Two connections: what goes into the one comes out of the other.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) near: TcpStream,
    pub(super) far: TcpStream,
}

/// How far a pair is.
struct Flow {
    pair: Pair,
    to_send: u64,
    to_receive: u64,
}

/// Pairs and their event loop.
pub(super) struct Flows {
    poll: Poll,
    events: Events,
    flows: Vec<Flow>,
    chunk: Vec<u8>,
}

impl Flows {
    pub(super) fn new(pairs: Vec<Pair>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut flows = Vec::new();
        for mut pair in pairs {
            for end in [&mut pair.near, &mut pair.far] {
                let interest = Interest::READABLE | Interest::WRITABLE;
                poll.registry().register(end, Token(flows.len()), interest)?;
            }
            flows.push(Flow { pair, to_send: 0, to_receive: 0 });
        }
        Ok(Self { poll, events: Events::with_capacity(1024), flows, chunk: vec![0x5a; CHUNK] })
    }

    /// So many bytes flow through each pair, all of them at once.
    pub(super) fn run(&mut self, bytes_each: u64, vigil: &Vigil) -> Result<(), Failure> {
        let total = bytes_each * self.flows.len() as u64;
        for flow in &mut self.flows {
            (flow.to_send, flow.to_receive) = (bytes_each, bytes_each);
        }
        loop {
            let mut moved = false;
            for flow in &mut self.flows {
                moved |= flow
                    .send(&self.chunk)
                    .and_then(|sent| Ok(flow.receive(&mut self.chunk)? || sent))?;
            }
            let left: u64 = self.flows.iter().map(|flow| flow.to_receive).sum();
            if left == 0 {
                return Ok(());
            }
            vigil.tick(total - left, total)?;
            // Nobody takes or gives anything: until somebody does.
            if !moved {
                match self.poll.poll(&mut self.events, Some(TURN)) {
                    Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                        return Err(error.into());
                    }
                    _ => {}
                }
            }
        }
    }
}

impl Flow {
    /// Whether it took anything.
    fn send(&mut self, chunk: &[u8]) -> Result<bool, Failure> {
        let mut moved = false;
        for _ in 0..SHARE {
            let length = self.to_send.min(chunk.len() as u64) as usize;
            if length == 0 {
                break;
            }
            match self.pair.near.write(&chunk[..length]) {
                Ok(count) => {
                    self.to_send -= count as u64;
                    moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(moved)
    }

    /// Whether anything came.
    fn receive(&mut self, chunk: &mut [u8]) -> Result<bool, Failure> {
        let mut moved = false;
        for _ in 0..SHARE {
            match self.pair.far.read(chunk) {
                Ok(0) => {
                    return Err(Failure::new(exit::OTHER, "the server has closed a connection"));
                }
                Ok(count) => {
                    let left = self.to_receive.checked_sub(count as u64);
                    let surplus = || Failure::new(exit::OTHER, "more bytes came than were sent");
                    self.to_receive = left.ok_or_else(surplus)?;
                    moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(moved)
    }
}

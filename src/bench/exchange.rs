//! Many connections, a few bytes in and a few bytes out: STUN, and the floor.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use super::sources::Sources;
use super::swarm::kind;
use super::tally::Tally;
use super::vigil::{TURN, Vigil};
use crate::cli::exit::{self, Failure};
use crate::net::socket::{self, Dialled};
use crate::net::{clock, sys};

/// What is exchanged.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) to: SocketAddr,
    /// What is said on each connection, each time.
    pub(super) request: Vec<u8>,
    /// How many bytes have come that are a whole answer; none while more must come.
    pub(super) answer: fn(&[u8]) -> Result<Option<usize>, String>,
    /// How many are to be made.
    pub(super) count: u64,
    /// … at once.
    pub(super) in_flight: usize,
}

/// Whose answer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Partner {
    Oneself,
    /// Of two connections that follow each other, the other one.
    Neighbour,
}

/// What becomes of a connection after its exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Close,
    Hold,
}

struct Conn {
    stream: TcpStream,
    /// When the exchange began that it is in.
    began: Instant,
    connected: bool,
    /// What has come of the answer.
    got: Vec<u8>,
}

/// Connections and their event loop.
pub(super) struct Conns {
    poll: Poll,
    events: Events,
    conns: Slab<Conn>,
    sources: Sources,
    dialled: usize,
    scratch: Vec<u8>,
}

impl Conns {
    /// None yet.
    pub(super) fn towards(to: SocketAddr) -> io::Result<Self> {
        sys::raise_descriptor_limit()?;
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            conns: Slab::new(),
            sources: Sources::towards(to),
            dialled: 0,
            scratch: vec![0; 4096],
        })
    }

    fn dial(&mut self, to: SocketAddr) -> io::Result<usize> {
        // Whoever dials again and again leaves ports in TIME_WAIT: the addresses take turns.
        let source = self.sources.of(self.dialled);
        self.dialled += 1;
        let mut stream = socket::dial_from(source, to)?;
        stream.set_nodelay(true)?;
        let key = self.conns.vacant_key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(key), interest)?;
        let (began, got) = (clock::now(), Vec::new());
        Ok(self.conns.insert(Conn { stream, began, connected: false, got }))
    }

    fn turn(&mut self) -> io::Result<Vec<usize>> {
        match self.poll.poll(&mut self.events, Some(TURN)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        Ok(self.events.iter().map(|event| event.token().0).collect())
    }

    /// Opens connections that stay, in this order.
    pub(super) fn open(
        &mut self,
        to: SocketAddr,
        count: usize,
        vigil: &Vigil,
    ) -> Result<(), Failure> {
        for number in 0..count {
            let key = self.dial(to)?;
            while !self.look(key).map_err(failure)? {
                self.turn()?;
                vigil.tick(number as u64, count as u64)?;
            }
        }
        Ok(())
    }

    /// Whether it is connected.
    fn look(&mut self, key: usize) -> Result<bool, String> {
        let Some(conn) = self.conns.get_mut(key) else { return Ok(false) };
        if !conn.connected {
            match socket::look_at_dial(&conn.stream) {
                Dialled::Pending => {}
                Dialled::Established { .. } => conn.connected = true,
                Dialled::Failed(error) => return Err(kind(&error)),
            }
        }
        Ok(conn.connected)
    }

    /// On connections that stand, each with one exchange in progress; what one says, it hears.
    pub(super) fn persistent(
        &mut self,
        exchange: &Exchange,
        vigil: &Vigil,
    ) -> Result<Tally, Failure> {
        self.again_and_again(exchange, Partner::Oneself, vigil)
    }

    /// The same, but what one says, its neighbour hears.
    pub(super) fn forwarded(
        &mut self,
        exchange: &Exchange,
        vigil: &Vigil,
    ) -> Result<Tally, Failure> {
        self.again_and_again(exchange, Partner::Neighbour, vigil)
    }

    fn again_and_again(
        &mut self,
        exchange: &Exchange,
        partner: Partner,
        vigil: &Vigil,
    ) -> Result<Tally, Failure> {
        let mut tally = Tally::new();
        let mut begun = 0;
        let (step, distance) = match partner {
            Partner::Oneself => (1, 0),
            Partner::Neighbour => (2, 1),
        };
        for key in (0..self.conns.len()).step_by(step) {
            if begun < exchange.count {
                self.ask(key, exchange).map_err(failure)?;
                begun += 1;
            }
        }
        while tally.ended() < exchange.count {
            for key in self.turn()? {
                let Some(asker) = key.checked_sub(distance).filter(|asker| asker % step == 0)
                else {
                    continue;
                };
                while self.hear(key, exchange).map_err(failure)? {
                    tally.done(clock::now() - self.conns[asker].began);
                    if begun < exchange.count {
                        self.ask(asker, exchange).map_err(failure)?;
                        begun += 1;
                    }
                }
            }
            vigil.tick(tally.ended(), exchange.count)?;
        }
        Ok(tally)
    }

    /// A connection for each exchange.
    pub(super) fn one_each(
        &mut self,
        exchange: &Exchange,
        after: After,
        vigil: &Vigil,
    ) -> Result<Tally, Failure> {
        let mut tally = Tally::new();
        let (mut begun, mut ended) = (0, 0);
        while ended < exchange.count {
            while begun < exchange.count && begun - ended < exchange.in_flight as u64 {
                self.dial(exchange.to)?;
                begun += 1;
            }
            for key in self.turn()? {
                match self.progress(key, exchange) {
                    Ok(false) => continue,
                    Ok(true) => tally.done(clock::now() - self.conns[key].began),
                    Err(why) => tally.failed(&why),
                }
                ended += 1;
                if after == After::Close {
                    self.conns.remove(key);
                }
            }
            vigil.tick(ended, exchange.count)?;
        }
        Ok(tally)
    }

    /// Whether the exchange of a connection of its own is done.
    fn progress(&mut self, key: usize, exchange: &Exchange) -> Result<bool, String> {
        let Some(conn) = self.conns.get(key) else { return Ok(false) };
        if !conn.connected {
            if self.look(key)? {
                let began = self.conns[key].began;
                self.ask(key, exchange)?;
                self.conns[key].began = began;
            }
            return Ok(false);
        }
        self.hear(key, exchange)
    }

    fn ask(&mut self, key: usize, exchange: &Exchange) -> Result<(), String> {
        let conn = &mut self.conns[key];
        conn.began = clock::now();
        match conn.stream.write(&exchange.request) {
            Ok(length) if length == exchange.request.len() => Ok(()),
            Ok(_) => Err("a short write".to_owned()),
            Err(error) => Err(kind(&error)),
        }
    }

    /// Whether a whole answer has come.
    fn hear(&mut self, key: usize, exchange: &Exchange) -> Result<bool, String> {
        let Some(conn) = self.conns.get_mut(key) else { return Ok(false) };
        loop {
            match conn.stream.read(&mut self.scratch) {
                Ok(0) => return Err("closed by the server".to_owned()),
                Ok(length) => {
                    conn.got.extend_from_slice(&self.scratch[..length]);
                    if let Some(used) = (exchange.answer)(&conn.got)? {
                        conn.got.drain(..used);
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(kind(&error)),
            }
        }
    }
}

fn failure(why: String) -> Failure {
    Failure::new(exit::OTHER, why)
}

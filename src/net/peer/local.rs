//! The local end of a stream: a socket, or the application.

use std::io::{self, Read, Write};
use std::net::Shutdown;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};

use crate::net::outbox::Outbox;
use crate::net::socket;

/// What a stream is pumped to.
#[derive(Debug)]
pub enum LocalEnd {
    /// A connected socket.
    Socket(LocalSocket),
    /// The application reads and writes.
    Application,
    /// Nothing: round trips alone.
    Nothing,
}

/// A local socket.
#[derive(Debug)]
pub enum LocalSocket {
    /// To or from a program.
    Tcp(TcpStream),
    /// One end of a pair.
    Unix(UnixStream),
}

/// A local socket that a stream is pumped to.
pub(super) struct Local {
    pub(super) socket: LocalSocket,
    pub(super) token: Token,
    pub(super) out: Outbox,
    /// The proved connection; none once that is gone and the rest is delivered.
    pub(super) partner: Option<usize>,
    /// connect() is under way.
    pub(super) connecting: bool,
    /// It has said all that it will say.
    pub(super) read_done: bool,
    /// No more will come for it: shut down once `out` is empty.
    pub(super) finishing: bool,
    /// It is shut down for writing.
    pub(super) write_done: bool,
    /// Not read, because the connection has too much to write.
    pub(super) paused: bool,
}

impl Local {
    pub(super) fn new(socket: LocalSocket, token: Token, partner: usize, connecting: bool) -> Self {
        Self {
            socket,
            token,
            out: Outbox::default(),
            partner: Some(partner),
            connecting,
            read_done: false,
            finishing: false,
            write_done: false,
            paused: false,
        }
    }

    /// Writes `bytes`, or queues them.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.connecting {
            self.out.push(bytes);
            return Ok(());
        }
        self.out.send(&mut self.socket, bytes)
    }

    /// Writes what is queued, and shuts down after it if no more will come.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.connecting {
            return Ok(());
        }
        self.out.flush(&mut self.socket)?;
        if self.finishing && self.out.is_empty() && !self.write_done {
            self.write_done = true;
            match self.socket.shutdown(Shutdown::Write) {
                // It has gone before us.
                Err(error) if error.kind() != io::ErrorKind::NotConnected => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl LocalSocket {
    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        }
    }

    /// Has the program at the other end learn that something was lost.
    pub(super) fn abort(&self) {
        match self {
            Self::Tcp(stream) => socket::abort(stream),
            // Closing is all that there is.
            Self::Unix(_) => {}
        }
    }
}

impl Read for LocalSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for LocalSocket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buffer),
            Self::Unix(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for LocalSocket {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.register(registry, token, interest),
            Self::Unix(stream) => stream.register(registry, token, interest),
        }
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.reregister(registry, token, interest),
            Self::Unix(stream) => stream.reregister(registry, token, interest),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.deregister(registry),
            Self::Unix(stream) => stream.deregister(registry),
        }
    }
}

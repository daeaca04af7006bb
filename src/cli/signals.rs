//! SIGINT and SIGTERM as events of the loop. The library registers no handlers; the programs do.

use std::io::{self, Read};

use mio::net::UnixStream;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use super::exit;
use crate::net::reactor::Reactor;

/// The keys of watched sources that this file uses.
const KEYS: [usize; 2] = [usize::MAX, usize::MAX - 1];

/// A wish that the program end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGINT: the user's.
    Interrupt,
    /// SIGTERM: the system's.
    Terminate,
}

impl Signal {
    /// The exit code of a program that did not finish because of it.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => exit::INTERRUPTED,
            Self::Terminate => exit::TERMINATED,
        }
    }
}

/// Signals that are watched.
#[derive(Debug)]
pub(crate) struct Signals {
    sources: [UnixStream; 2],
}

impl Signals {
    /// From now on the signals end a turn of the reactor, and not the program.
    pub(crate) fn watch(reactor: &mut Reactor) -> io::Result<Self> {
        let mut sources = [source(SIGINT)?, source(SIGTERM)?];
        for (source, key) in sources.iter_mut().zip(KEYS) {
            reactor.watch(source, key)?;
        }
        Ok(Self { sources })
    }

    /// The signal behind a key that became ready.
    pub(crate) fn take(&mut self, key: usize) -> Option<Signal> {
        let at = KEYS.iter().position(|known| *known == key)?;
        let mut bytes = [0; 64];
        match self.sources[at].read(&mut bytes) {
            Ok(count) if count > 0 => Some([Signal::Interrupt, Signal::Terminate][at]),
            // An edge without a byte.
            _ => None,
        }
    }
}

/// A stream that gets a byte for each signal.
fn source(signal: i32) -> io::Result<UnixStream> {
    let (reader, writer) = std::os::unix::net::UnixStream::pair()?;
    reader.set_nonblocking(true)?;
    pipe::register(signal, writer)?;
    Ok(UnixStream::from_std(reader))
}

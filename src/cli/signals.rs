//! Signals as events of the loop: SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2. The library registers no handlers; the programs
//! do.

use std::io::{self, Read};

use mio::net::UnixStream;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::low_level::pipe;

use super::exit;
use crate::net::reactor::Reactor;

/// A wish: that the program end, in most cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGINT: the user's.
    Interrupt,
    /// SIGTERM: the system's.
    Terminate,
    /// SIGHUP: the terminal is gone; or ssh, which tells a ProxyCommand so that it has ended. To `gimletd`:
    /// read the settings again.
    HangUp,
    /// SIGUSR1: say more in the log.
    LogMore,
    /// SIGUSR2: say less.
    LogLess,
}

impl Signal {
    /// Those that a peer ends by.
    pub(crate) const ENDS: [Self; 3] = [Self::Interrupt, Self::Terminate, Self::HangUp];

    /// Those that a rendezvous knows.
    pub(crate) const DAEMON: [Self; 5] =
        [Self::Interrupt, Self::Terminate, Self::HangUp, Self::LogMore, Self::LogLess];

    /// The exit code of a program that did not finish because of it.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => exit::INTERRUPTED,
            Self::Terminate => exit::TERMINATED,
            Self::HangUp => exit::HUNG_UP,
            Self::LogMore | Self::LogLess => exit::OTHER,
        }
    }

    fn number(self) -> i32 {
        match self {
            Self::Interrupt => SIGINT,
            Self::Terminate => SIGTERM,
            Self::HangUp => SIGHUP,
            Self::LogMore => SIGUSR1,
            Self::LogLess => SIGUSR2,
        }
    }

    /// Under which key of the application its source is watched.
    fn key(self) -> usize {
        usize::MAX - self as usize
    }
}

/// Signals that are watched.
#[derive(Debug)]
pub(crate) struct Signals {
    sources: Vec<(Signal, UnixStream)>,
}

impl Signals {
    /// From now on these signals end a turn of the reactor, and not the program.
    pub(crate) fn watch(reactor: &mut Reactor, signals: &[Signal]) -> io::Result<Self> {
        let mut sources = Vec::new();
        for signal in signals {
            let mut source = source(signal.number())?;
            reactor.watch(&mut source, signal.key())?;
            sources.push((*signal, source));
        }
        Ok(Self { sources })
    }

    /// The signal behind a key that became ready.
    pub(crate) fn take(&mut self, key: usize) -> Option<Signal> {
        let (signal, source) = self.sources.iter_mut().find(|(signal, _)| signal.key() == key)?;
        match source.read(&mut [0; 64]) {
            Ok(count) if count > 0 => Some(*signal),
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

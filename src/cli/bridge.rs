//! stdin and stdout as one socket that a reactor can wait for.
//!
//! ```text
//! stdin  ──thread──▶ ┐ UnixStream::pair ┌ ◀──▶ reactor
//! stdout ◀──thread── ┘                  └
//! ```
//!
//! stdin and stdout are shared with the shell and must never be set non-blocking, so that two threads
//! wait for them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use super::stdio;
use crate::net::reactor::Reactor;
use crate::net::sys;

/// Bytes that a thread moves at once.
const CHUNK: usize = 64 * 1024;

/// The two threads.
#[derive(Debug)]
pub(crate) struct Bridge {
    /// Ends when the thread that writes to stdout does.
    end: mio::net::UnixStream,
    /// The end of the pair that the threads use.
    ours: UnixStream,
    writer: Option<JoinHandle<io::Result<()>>>,
}

impl Bridge {
    /// Starts the threads. Returns the socket for the reactor, too; the end of stdout makes `key` of
    /// the reactor ready.
    pub(crate) fn start(
        reactor: &mut Reactor,
        key: usize,
    ) -> io::Result<(Self, mio::net::UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        let (end, writer_alive) = UnixStream::pair()?;
        theirs.set_nonblocking(true)?;
        end.set_nonblocking(true)?;
        let mut end = mio::net::UnixStream::from_std(end);
        reactor.watch(&mut end, key)?;

        let (input, output) = (stdio::stdin()?, stdio::stdout()?);
        let (to, from) = (ours.try_clone()?, ours.try_clone()?);
        spawn("gimlet-stdin", move || {
            // Whatever ends it, the other side learns that no more will come.
            if let Err(error) = copy_in(input, &to) {
                log::debug!("stdin: {error}");
            }
        })?;
        let writer = spawn("gimlet-stdout", move || {
            let result = copy_out(&from, output);
            drop(writer_alive);
            result
        })?;
        Ok((Self { end, ours, writer: Some(writer) }, mio::net::UnixStream::from_std(theirs)))
    }

    /// Lets the other side see the end of stdin, whatever stdin says.
    pub(crate) fn finish(&self) {
        if let Err(error) = finish(&self.ours) {
            log::debug!("stdin: {error}");
        }
    }

    /// How the writing to stdout ended, if it has ended just now.
    pub(crate) fn take_end(&mut self) -> Option<io::Result<()>> {
        match self.end.read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            _ => Some(self.writer.take()?.join().expect("the thread does not panic")),
        }
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.into()).spawn(work)
}

fn copy_in(mut input: File, mut to: &UnixStream) -> io::Result<()> {
    let copied = copy(&mut input, &mut to);
    finish(to).and(copied)
}

fn finish(to: &UnixStream) -> io::Result<()> {
    match to.shutdown(Shutdown::Write) {
        // The connection has ended before stdin did.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        finished => finished,
    }
}

/// Whoever reads our stdout sees its end when the other peer has finished, even if stdin goes on: ssh
/// waits for that when its server is gone.
fn copy_out(mut from: &UnixStream, mut output: File) -> io::Result<()> {
    copy(&mut from, &mut output)?;
    sys::close_stdout()
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => to.write_all(&buffer[..length])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

//! `gimlet pipe`: stdin and stdout, connected to a peer's service.

use std::io;
use std::time::Duration;

use super::args::PipeArgs;
use super::bridge::Bridge;
use super::call;
use super::events::Event as JsonEvent;
use super::exit::{self, Failure};
use super::explain::{self, Wish};
use super::session::{Context, Happening, Part, Session};
use super::signals::Signal;
use crate::net::clock;
use crate::net::peer::{Event, LocalEnd, LocalSocket, StreamEnd, StreamId};

const STDOUT: usize = 1;

/// How long the other peer may take to answer our end after a hang-up. ssh hangs up when it has ended,
/// and doesn't wait.
const HANG_UP_TIME: Duration = Duration::from_secs(2);

/// Runs until both directions have ended, and all has been written.
pub(crate) fn run(context: &Context, args: &PipeArgs) -> Result<(), Failure> {
    let wish = Wish {
        own: context.id,
        peer: context.book.resolve(&args.target.peer)?,
        service: Some(args.target.service.clone()),
        preference: args.way.preference(),
    };
    let mut session = Session::open(context, Part::CallOnce)?;
    let (mut bridge, socket) = Bridge::start(&mut session.reactor, STDOUT)?;
    let local = LocalEnd::Socket(LocalSocket::Unix(socket));
    let stream = call::connect(&mut session, &wish, local, args.timeout.timeout)?;
    let end = pump(&mut session, &mut bridge, stream)?;
    let event = JsonEvent::closed(wish.subject(Some(1)), wish.peer.id.to_string(), &end);
    context.output.event(&event)?;
    match end.error {
        None => Ok(()),
        Some(error) => Err(explain::stream(&error, &wish)),
    }
}

/// Waits for the end of the stream and for that of stdout: the last bytes may still be on their way
/// when the connection has gone.
fn pump(
    session: &mut Session<'_>,
    bridge: &mut Bridge,
    stream: StreamId,
) -> Result<StreamEnd, Failure> {
    let mut end = None;
    let mut written = false;
    let mut hung_up = None;
    loop {
        match session.next(hung_up)? {
            Happening::Event(Event::Closed { stream: closed, end: how }) if closed == stream => {
                end = Some(how);
            }
            Happening::Ready(STDOUT) => {
                if let Some(result) = bridge.take_end() {
                    result.or_else(|error| unwritten(&error, hung_up.is_some()))?;
                    written = true;
                }
            }
            Happening::Signal(Signal::HangUp) if hung_up.is_none() => {
                bridge.finish();
                hung_up = Some(clock::now() + HANG_UP_TIME);
            }
            Happening::Signal(signal) => return Err(Failure::quiet(signal.exit_code())),
            Happening::Deadline => return Err(Failure::quiet(exit::HUNG_UP)),
            // The connection stands without the rendezvous.
            Happening::Event(event) => {
                if let Err(failure) = session.announce(event) {
                    log::info!("no more rendezvous: {}", failure.error);
                }
            }
            Happening::Ready(_) => {}
        }
        if let (true, Some(end)) = (written, end.as_ref()) {
            return Ok(end.clone());
        }
    }
}

/// Whoever should read stdout has gone: like any program in a pipeline, we end without a word. After a
/// hang-up that is no surprise, and the other peer should still see a proper end.
fn unwritten(error: &io::Error, hung_up: bool) -> Result<(), Failure> {
    match error.kind() {
        io::ErrorKind::BrokenPipe if hung_up => Ok(()),
        io::ErrorKind::BrokenPipe => Err(Failure::quiet(exit::BROKEN_PIPE)),
        _ => Err(Failure::new(exit::OTHER, format!("cannot write to standard output: {error}"))),
    }
}

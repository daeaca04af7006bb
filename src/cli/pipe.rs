//! `gimlet pipe`: stdin and stdout, connected to a peer's service.

use std::io;

use super::args::PipeArgs;
use super::bridge::Bridge;
use super::call;
use super::events::Event as JsonEvent;
use super::exit::{self, Failure};
use super::explain::{self, Wish};
use super::session::{Context, Happening, Part, Session};
use crate::net::peer::{Event, LocalEnd, LocalSocket, StreamEnd, StreamId};

const STDOUT: usize = 1;

/// Runs until both directions have ended, and all has been written.
pub(crate) fn run(context: &Context, args: &PipeArgs) -> Result<(), Failure> {
    let wish = Wish {
        own: context.id,
        peer: context.book.resolve(&args.target.peer)?,
        service: Some(args.target.service.clone()),
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
    loop {
        match session.next(None)? {
            Happening::Event(Event::Closed { stream: closed, end: how }) if closed == stream => {
                end = Some(how);
            }
            Happening::Ready(STDOUT) => {
                if let Some(result) = bridge.take_end() {
                    result.map_err(|error| unwritten(&error))?;
                    written = true;
                }
            }
            Happening::Signal(signal) => return Err(Failure::quiet(signal.exit_code())),
            // The connection stands without the rendezvous.
            Happening::Event(event) => {
                if let Err(failure) = session.announce(event) {
                    log::info!("no more rendezvous: {}", failure.error);
                }
            }
            Happening::Ready(_) | Happening::Deadline => {}
        }
        if let (true, Some(end)) = (written, end.as_ref()) {
            return Ok(end.clone());
        }
    }
}

/// Whoever should read stdout has gone: like any program in a pipeline, we end without a word.
fn unwritten(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::quiet(exit::BROKEN_PIPE),
        _ => Failure::new(exit::OTHER, format!("cannot write to standard output: {error}")),
    }
}

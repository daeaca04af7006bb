//! One connection to one peer: logs in, asks, and waits for it.

use std::time::Duration;

use super::events::Event as JsonEvent;
use super::exit::{self, Failure};
use super::explain::{self, Wish};
use super::session::{Happening, Session};
use crate::net::clock;
use crate::net::peer::{Event, LocalEnd, StreamId};
use crate::proto::peer::PunchId;
use crate::proto::punch::{Outcome, PunchError, Report};
use crate::wire::record::Purpose;

/// Waits until the connection stands. The request goes out as soon as the rendezvous has shown its
/// key, and not before: it would wait for the login no longer than a login may take.
pub(crate) fn connect(
    session: &mut Session<'_>,
    wish: &Wish,
    local: LocalEnd,
    timeout: Duration,
) -> Result<StreamId, Failure> {
    let deadline = clock::now() + timeout;
    let mut local = Some(local);
    let mut punch = None;
    loop {
        match session.next(Some(deadline))? {
            Happening::Event(Event::ServerKey(_)) => {
                if let Some(local) = local.take() {
                    punch = Some(ask(session, wish, local)?);
                }
            }
            Happening::Event(Event::Connected { stream, report, .. }) => {
                tell(session, wish, &report)?;
                return Ok(stream);
            }
            Happening::Event(Event::Failed { report, .. }) => {
                return Err(failed(session, wish, &report));
            }
            Happening::Event(event) => session.announce(event)?,
            Happening::Signal(signal) => return Err(Failure::quiet(signal.exit_code())),
            Happening::Deadline => return Err(timed_out(session, wish, punch, timeout)),
            Happening::Ready(_) => {}
        }
    }
}

fn ask(session: &mut Session<'_>, wish: &Wish, local: LocalEnd) -> Result<PunchId, Failure> {
    let (peer, purpose, preference) = (wish.peer.id, purpose(wish), wish.preference);
    session
        .with_peer(|host, core| host.connect(core, peer, preference, purpose, local))
        .map_err(|error| Failure::new(exit::OTHER, error.to_string()))
}

/// What a wish is on the wire.
pub(crate) fn purpose(wish: &Wish) -> Purpose {
    wish.service.clone().map_or(Purpose::Ping, Purpose::Stream)
}

fn tell(session: &Session<'_>, wish: &Wish, report: &Report) -> Result<(), Failure> {
    session.output().say(&report.to_string())?;
    match JsonEvent::connected(wish.subject(Some(1)), report) {
        Some(event) => session.output().event(&event),
        None => Ok(()),
    }
}

fn failed(session: &Session<'_>, wish: &Wish, report: &Report) -> Failure {
    let mut failure = explain::punch(report, wish);
    // The reason why the rendezvous was lost says more than that it was.
    if matches!(report.outcome, Outcome::Failed(PunchError::RendezvousLost))
        && let Some(login) = session.login_failure()
    {
        failure = login;
    }
    match session.output().event(&explain::failed(report, wish, &failure)) {
        Ok(()) => failure,
        Err(unprinted) => unprinted,
    }
}

/// Without a login the fault is the login's.
fn timed_out(
    session: &mut Session<'_>,
    wish: &Wish,
    punch: Option<PunchId>,
    timeout: Duration,
) -> Failure {
    let seconds = timeout.as_secs_f64();
    if let Some(failure) = session.login_failure() {
        return failure;
    }
    let Some(punch) = punch else {
        let error = format!("the rendezvous did not answer within {seconds} s");
        return Failure::new(exit::RENDEZVOUS, error);
    };
    session.with_peer(|host, core| host.cancel(core, punch));
    let name = &wish.peer.name;
    Failure::new(exit::NO_CONNECTION, format!("{name}: no connection within {seconds} s"))
        .hint("to wait longer: --timeout SECONDS")
}

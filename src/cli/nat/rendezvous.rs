//! All of a NAT, as our rendezvous helps to see it: a login like that of a caller, and its close look.

use std::time::Duration;

use super::super::exit::{self, Failure};
use super::super::session::{Context, Happening, Part, Session};
use super::findings::{Findings, Source, Unreached};
use crate::net::clock;
use crate::net::peer::Event;
use crate::proto::peer;

/// How long all of it may take. Each step has its own bound in the machine; this one is for a rendezvous
/// that stops in the middle.
const PATIENCE: Duration = Duration::from_secs(60);

/// Logs in and looks.
pub(super) fn look(context: &Context) -> Result<Findings, Failure> {
    let mut session = Session::open(context, Part::CallOnce)?;
    session.output().progress(&format!("logging in at {}", session.place()));
    watch(&mut session)?;
    findings(&mut session)
}

/// Waits until all is known that can be.
fn watch(session: &mut Session<'_>) -> Result<(), Failure> {
    let deadline = clock::now() + PATIENCE;
    loop {
        match session.next(Some(deadline))? {
            Happening::Event(Event::Peer(peer::Event::LoggedIn { observed, .. })) => {
                let output = session.output();
                output.progress(&format!("logged in, seen at {observed}: looking at the NAT"));
            }
            // A second try would not tell more, and whoever looks wants to know.
            Happening::Event(Event::Peer(peer::Event::LoggedOut { error, .. })) => {
                return Err(session.explain_login(&error));
            }
            Happening::Event(Event::Peer(peer::Event::NatKnown(_))) => {
                if session.with_peer(|host, _| host.machine().is_nat_settled()) {
                    return Ok(());
                }
            }
            Happening::Signal(signal) => return Err(Failure::quiet(signal.exit_code())),
            Happening::Deadline => {
                let seconds = PATIENCE.as_secs();
                let error = format!("the rendezvous did not answer within {seconds} s");
                return Err(Failure::new(exit::RENDEZVOUS, error));
            }
            Happening::Event(_) | Happening::Ready(_) => {}
        }
    }
}

fn findings(session: &mut Session<'_>) -> Result<Findings, Failure> {
    let place = session.place().to_owned();
    session.with_peer(|host, _| {
        let machine = host.machine();
        let local = host.local_address();
        let local = local.ok_or_else(|| Failure::new(exit::RENDEZVOUS, "the login was lost"))?;
        let seen = machine.observations().to_vec();
        let reached = |to| seen.iter().any(|seen| seen.destination == to);
        let endpoints = machine.hole_endpoints().into_iter();
        let unreached = endpoints
            .filter(|to| !reached(*to))
            .map(|to| Unreached { to, error: "no answer".into() })
            .collect();
        Ok(Findings {
            source: Source::Rendezvous(place),
            nat: machine.nat(),
            local,
            hosts: machine.hosts().to_vec(),
            seen,
            pool: Vec::new(),
            unreached,
            port_mapped: Vec::new(),
        })
    })
}

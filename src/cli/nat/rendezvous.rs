//! All of a NAT, as our rendezvous helps to see it: a login like that of a caller, and its close look.

use std::time::{Duration, Instant};

use super::super::args::NatArgs;
use super::super::exit::{self, Failure};
use super::super::session::{Context, Happening, Part, Session};
use super::findings::{Findings, PortMapped, Source, Unreached};
use super::lifetime;
use crate::net::clock;
use crate::net::peer::Event;
use crate::proto::peer;

/// How long all of it may take. Each step has its own bound in the machine; this one is for a rendezvous
/// that stops in the middle.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long after the login a router may take to map a port: UPnP is asked after one second, and takes a
/// search and two or three calls.
const ROUTER_TIME: Duration = Duration::from_secs(3);

/// Logs in and looks.
pub(super) fn look(context: &Context, args: &NatArgs) -> Result<Findings, Failure> {
    let port_mapping = context.settings.port_mapping(args.mapping);
    let mut session = Session::open(context, Part::Look { port_mapping })?;
    let findings = look_through(&mut session, port_mapping, args.lifetime);
    session.close()?;
    findings
}

fn look_through(
    session: &mut Session<'_>,
    port_mapping: bool,
    longest_silence: Option<Duration>,
) -> Result<Findings, Failure> {
    session.output().progress(&format!("logging in at {}", session.place()));
    session.with_peer(|host, core| {
        host.command(core, |machine| machine.look_closely(clock::now()));
    });
    let mut watch = Watch::default();
    let deadline = clock::now() + PATIENCE;
    while !watch.is_settled {
        if watch.take(session, deadline)? {
            let seconds = PATIENCE.as_secs();
            let error = format!("the rendezvous did not answer within {seconds} s");
            return Err(Failure::new(exit::RENDEZVOUS, error));
        }
    }
    let mut findings = findings(session)?;
    if port_mapping && findings.is_translated() {
        let deadline = watch.since.unwrap_or(deadline) + ROUTER_TIME;
        while watch.port_mapped.is_empty() && !watch.take(session, deadline)? {}
    }
    findings.port_mapped = watch.port_mapped;
    if let Some(longest) = longest_silence.filter(|_| !findings.is_way_out_blocked()) {
        findings.lifetime = Some(lifetime::measure(session, longest)?);
    }
    Ok(findings)
}

/// What has happened so far.
#[derive(Default)]
struct Watch {
    /// When the login stood.
    since: Option<Instant>,
    is_settled: bool,
    port_mapped: Vec<PortMapped>,
}

impl Watch {
    /// Waits for the next thing to happen, and says whether it was the deadline.
    fn take(&mut self, session: &mut Session<'_>, deadline: Instant) -> Result<bool, Failure> {
        match session.next(Some(deadline))? {
            Happening::Event(Event::Peer(event)) => self.take_event(session, event)?,
            Happening::Event(Event::PortMapped { mapping, worth }) => {
                self.port_mapped.retain(|known| known.mapping != mapping);
                self.port_mapped.push(PortMapped { mapping, worth });
            }
            Happening::Event(Event::PortMappingLost(lost)) => {
                self.port_mapped.retain(|known| known.mapping != lost);
            }
            Happening::Signal(signal) => return Err(Failure::quiet(signal.exit_code())),
            Happening::Deadline => return Ok(true),
            Happening::Event(_) | Happening::Ready(_) => {}
        }
        Ok(false)
    }

    fn take_event(&mut self, session: &mut Session<'_>, event: peer::Event) -> Result<(), Failure> {
        match event {
            peer::Event::LoggedIn { observed, .. } => {
                self.since = Some(clock::now());
                let output = session.output();
                output.progress(&format!("logged in, seen at {observed}: looking at the NAT"));
            }
            // A second try would not tell more, and whoever looks wants to know.
            peer::Event::LoggedOut { error, .. } => return Err(session.explain_login(&error)),
            peer::Event::NatKnown(_) => session.output().progress("looking closer"),
            peer::Event::NatSettled(_) => self.is_settled = true,
            _ => {}
        }
        Ok(())
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
            pool: machine.pool().to_vec(),
            unreached,
            port_mapped: Vec::new(),
            lifetime: None,
        })
    })
}

//! `gimlet share`: services of this machine, for those who are allowed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use super::address_book::Named;
use super::args::ShareArgs;
use super::events::{Event as JsonEvent, Subject};
use super::exit::Failure;
use super::explain::{self, Wish};
use super::report_json::opened;
use super::session::{Context, Happening, Offer, Part, Session, stopped_by};
use super::text;
use crate::identity::PeerId;
use crate::net::clock;
use crate::net::peer::{Event, Service, StreamEnd, StreamError, StreamId};
use crate::proto::peer;
use crate::proto::punch::{Outcome, Preference, Report};
use crate::wire::message::{Allow, Role};
use crate::wire::record::Purpose;

/// Shares until a signal ends it.
pub(crate) fn run(context: &Context, args: &ShareArgs) -> Result<(), Failure> {
    let shared = context.settings.services(&args.services)?;
    let rooms = context.settings.rooms(&args.room)?;
    let allow = context.settings.allow(&context.book, &args.allow, args.allow_any)?;
    let mut targets = Vec::new();
    for service in shared {
        targets.push((service.name, service.target.resolve()?));
    }
    header(context, &targets, &allow)?;
    let services =
        targets.into_iter().map(|(name, target)| (name, Service::Address(target))).collect();
    let port_mapping = context.settings.port_mapping(args.mapping);
    let offer = Offer { allow, services, port_mapping };
    let mut session = Session::open(context, Part::Share(offer))?;
    session.join(rooms);
    let end = share(&mut session);
    session.close()?;
    end
}

fn share(session: &mut Session<'_>) -> Result<(), Failure> {
    let mut share = Share { visitors: HashMap::new(), count: 0 };
    loop {
        match session.next(None)? {
            Happening::Event(event) => share.handle(session, event)?,
            Happening::Signal(signal) => return Err(stopped_by(signal)),
            Happening::Ready(_) | Happening::Deadline => {}
        }
    }
}

fn header(
    context: &Context,
    targets: &[(String, SocketAddr)],
    allow: &Allow,
) -> Result<(), Failure> {
    context.output.say(&format!("this is {}", context.id))?;
    for (name, target) in targets {
        context.output.say(&format!("sharing {name} → {target}"))?;
    }
    if allow.anyone {
        return context.output.say("with everybody who knows this id");
    }
    let names: Vec<_> = allow.peers.iter().map(|peer| context.book.named(*peer).name).collect();
    if names.is_empty() {
        context.output.note(
            "nobody is allowed to connect yet: add --allow PEER for each who may, by the id that \
             `gimlet id` prints on their machine, or --allow-any",
        );
        return Ok(());
    }
    context.output.say(&format!("with {}", names.join(", ")))
}

/// Somebody who is connected.
#[derive(Debug)]
struct Visitor {
    peer: Named,
    /// None for round trips.
    service: Option<String>,
    number: u64,
    since: Instant,
}

impl Visitor {
    fn subject(&self) -> Subject<'_> {
        Subject {
            name: &self.peer.name,
            service: self.service.as_deref(),
            connection: Some(self.number),
        }
    }

    fn title(&self) -> String {
        let service = self.service.as_deref().unwrap_or("(ping)");
        format!("#{} {} {service}", self.number, self.peer.name)
    }
}

struct Share {
    visitors: HashMap<StreamId, Visitor>,
    count: u64,
}

impl Share {
    fn handle(&mut self, session: &mut Session<'_>, event: Event) -> Result<(), Failure> {
        match event {
            Event::Incoming { stream, peer, purpose } => {
                self.greet(session, stream, peer, purpose);
                Ok(())
            }
            Event::Confirmed { stream, report } => self.connected(session, stream, &report),
            Event::Closed { stream, end } => self.closed(session, stream, &end),
            Event::Peer(peer::Event::Ended { report, .. }) => failed(session, &report),
            event => session.announce(event),
        }
    }

    fn greet(&mut self, session: &Session<'_>, stream: StreamId, peer: PeerId, purpose: Purpose) {
        self.count += 1;
        let visitor = Visitor {
            peer: session.context.book.named(peer),
            service: match purpose {
                Purpose::Ping => None,
                Purpose::Stream(service) => Some(service),
            },
            number: self.count,
            since: clock::now(),
        };
        self.visitors.insert(stream, visitor);
    }

    fn connected(
        &self,
        session: &Session<'_>,
        stream: Option<StreamId>,
        report: &Report,
    ) -> Result<(), Failure> {
        let Some(visitor) = stream.and_then(|stream| self.visitors.get(&stream)) else {
            // It ended at once, which a person has been told.
            let name = session.context.book.named(report.peer).name;
            let subject = Subject { name: &name, service: None, connection: None };
            return tell(session, subject, report);
        };
        if let Outcome::Connected(winner) = &report.outcome {
            let how = if winner.is_relayed() { winner.path() } else { opened(winner.opened) };
            let title = visitor.title();
            let (remote, local) = (winner.remote, winner.local);
            session.output().say(&format!("{title}: connected, {remote} → {local}, {how}"))?;
        }
        tell(session, visitor.subject(), report)
    }

    fn closed(
        &mut self,
        session: &Session<'_>,
        stream: StreamId,
        end: &StreamEnd,
    ) -> Result<(), Failure> {
        let Some(visitor) = self.visitors.remove(&stream) else { return Ok(()) };
        let how = match &end.error {
            None => "done".to_owned(),
            // The other side of a ping just goes.
            Some(StreamError::Lost(_)) if visitor.service.is_none() => "done".to_owned(),
            Some(error) => error.to_string(),
        };
        session.output().say(&format!(
            "{}: {how}; {} sent, {} received in {}",
            visitor.title(),
            text::bytes(end.sent),
            text::bytes(end.received),
            text::time(clock::now().duration_since(visitor.since)),
        ))?;
        let peer = visitor.peer.id.to_string();
        session.output().event(&JsonEvent::closed(visitor.subject(), peer, end))
    }
}

fn tell(session: &Session<'_>, subject: Subject<'_>, report: &Report) -> Result<(), Failure> {
    log::info!("{report}");
    match JsonEvent::connected(subject, report) {
        Some(event) => session.output().event(&event),
        None => Ok(()),
    }
}

/// Somebody whom we allow tried to connect, and could not.
fn failed(session: &Session<'_>, report: &Report) -> Result<(), Failure> {
    let peer = session.context.book.named(report.peer);
    let wish = Wish { own: session.context.id, peer, service: None, preference: Preference::Any };
    debug_assert_eq!(report.role, Role::Controlled, "we ask for nothing");
    let failure = explain::punch(report, &wish);
    session.output().say(&format!("{} tried to connect, in vain:\n{report}", wish.peer.name))?;
    session.output().event(&explain::failed(report, &wish, &failure))
}

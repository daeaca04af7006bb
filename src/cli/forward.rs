//! `gimlet forward`: a local port, each of whose connections goes to a peer's service.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use mio::net::{TcpListener, TcpStream};

use super::args::ForwardArgs;
use super::call;
use super::events::Event as JsonEvent;
use super::exit::{self, Failure};
use super::explain::{self, Wish};
use super::session::{Context, Happening, Part, Session, stopped_by};
use super::text;
use crate::limits;
use crate::net::clock;
use crate::net::peer::{Event, LocalEnd, LocalSocket, StreamEnd, StreamId};
use crate::net::socket;
use crate::proto::peer::{self, PunchId};
use crate::proto::punch::Report;

const LISTENER: usize = 1;

/// Forwards until a signal ends it.
pub(crate) fn run(context: &Context, args: &ForwardArgs) -> Result<(), Failure> {
    let wish = Wish {
        own: context.id,
        peer: context.book.resolve(&args.target.peer)?,
        service: Some(args.target.service.clone()),
        preference: args.way.preference(),
    };
    let port_mapping = context.settings.port_mapping(args.mapping);
    let mut session = Session::open(context, Part::CallOften { port_mapping })?;
    let end = forward(&mut session, wish, args.listen);
    session.close()?;
    end
}

fn forward(session: &mut Session<'_>, wish: Wish, at: SocketAddr) -> Result<(), Failure> {
    let mut forward = Forward::listen(session, wish, at)?;
    loop {
        match session.next(forward.deadline())? {
            Happening::Event(event) => forward.handle(session, event)?,
            Happening::Ready(LISTENER) => forward.queued = true,
            Happening::Signal(signal) => return Err(stopped_by(signal)),
            Happening::Ready(_) | Happening::Deadline => {}
        }
        forward.accept(session)?;
    }
}

struct Forward {
    wish: Wish,
    listener: TcpListener,
    address: SocketAddr,
    /// A login stands or has stood: before that nothing is accepted.
    opened: bool,
    /// There may be connections to accept: edges don't repeat.
    queued: bool,
    /// Out of descriptors until then.
    paused: Option<Instant>,
    count: u64,
    /// Who waits for a connection.
    waiting: HashMap<PunchId, Client>,
    /// Who has one.
    connected: HashMap<StreamId, Client>,
}

/// A connection to our port.
#[derive(Clone, Copy, Debug)]
struct Client {
    number: u64,
    address: SocketAddr,
    since: Instant,
}

impl Forward {
    fn listen(session: &mut Session<'_>, wish: Wish, at: SocketAddr) -> Result<Self, Failure> {
        let mut listener = socket::listen(at).map_err(|error| {
            Failure::new(exit::OTHER, format!("cannot listen on {at}: {error}"))
        })?;
        let address = listener.local_addr()?;
        session.reactor.watch(&mut listener, LISTENER)?;
        session.listen = Some(address);
        if !address.ip().is_loopback() {
            let service = wish.service.as_deref().unwrap_or_default();
            session
                .output()
                .note(&format!("whoever can reach {address} can use {}/{service}", wish.peer.name));
        }
        Ok(Self {
            wish,
            listener,
            address,
            opened: false,
            queued: true,
            paused: None,
            count: 0,
            waiting: HashMap::new(),
            connected: HashMap::new(),
        })
    }

    /// When to accept next without being told to: at once, after a pause, or never.
    fn deadline(&self) -> Option<Instant> {
        match self.may_accept() {
            true => Some(self.paused.unwrap_or_else(clock::now)),
            false => None,
        }
    }

    fn may_accept(&self) -> bool {
        self.opened && self.queued && self.waiting.len() < limits::PUNCHES
    }

    // ---- accepting ----

    /// Accepts a turn's worth.
    fn accept(&mut self, session: &mut Session<'_>) -> Result<(), Failure> {
        if self.paused.is_some_and(|until| until > clock::now()) {
            return Ok(());
        }
        self.paused = None;
        for _ in 0..limits::TURN_ACCEPTS {
            if !self.may_accept() {
                break;
            }
            match self.listener.accept() {
                Ok((stream, address)) => self.connect(session, stream, address)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.queued = false,
                Err(error) if socket::is_exhaustion(&error) => {
                    session.output().note(&format!("accepting pauses: {error}"));
                    self.paused = Some(clock::now() + limits::ACCEPT_PAUSE);
                    break;
                }
                // One connection's fault: the next may be sound.
                Err(error) => log::debug!("accept: {error}"),
            }
        }
        Ok(())
    }

    fn connect(
        &mut self,
        session: &mut Session<'_>,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Result<(), Failure> {
        if let Err(error) = stream.set_nodelay(true) {
            log::debug!("{address}: {error}");
        }
        self.count += 1;
        let client = Client { number: self.count, address, since: clock::now() };
        let (peer, purpose) = (self.wish.peer.id, call::purpose(&self.wish));
        let preference = self.wish.preference;
        let local = LocalEnd::Socket(LocalSocket::Tcp(stream));
        let asked =
            session.with_peer(|host, core| host.connect(core, peer, preference, purpose, local));
        match asked {
            Ok(punch) => {
                self.waiting.insert(punch, client);
                Ok(())
            }
            Err(error) => Err(Failure::new(exit::OTHER, error.to_string())),
        }
    }

    // ---- events ----

    fn handle(&mut self, session: &mut Session<'_>, event: Event) -> Result<(), Failure> {
        match event {
            Event::Connected { punch, stream, report } => {
                self.connected(session, punch, stream, &report)
            }
            Event::Failed { punch, report } => self.failed(session, punch, &report),
            Event::Closed { stream, end } => self.closed(session, stream, &end),
            event => {
                let logged_in = matches!(event, Event::Peer(peer::Event::LoggedIn { .. }));
                session.announce(event)?;
                self.open(session, logged_in)
            }
        }
    }

    fn open(&mut self, session: &Session<'_>, logged_in: bool) -> Result<(), Failure> {
        if self.opened || !logged_in {
            return Ok(());
        }
        self.opened = true;
        let (name, service) = (&self.wish.peer.name, self.wish.service.as_deref());
        let service = service.unwrap_or_default();
        session.output().say(&format!("listening on {} for {name}/{service}", self.address))
    }

    fn connected(
        &mut self,
        session: &Session<'_>,
        punch: PunchId,
        stream: StreamId,
        report: &Report,
    ) -> Result<(), Failure> {
        let Some(client) = self.waiting.remove(&punch) else { return Ok(()) };
        self.connected.insert(stream, client);
        let (number, address) = (client.number, client.address);
        let took = text::time(report.elapsed);
        let how = match report.is_relayed() {
            true => format!(", relayed because {}", report.why_not_direct()),
            false => String::new(),
        };
        session.output().say(&format!("#{number} {address}: connected in {took}{how}"))?;
        log::info!("{report}");
        match JsonEvent::connected(self.wish.subject(Some(number)), report) {
            Some(event) => session.output().event(&event),
            None => Ok(()),
        }
    }

    fn failed(
        &mut self,
        session: &Session<'_>,
        punch: PunchId,
        report: &Report,
    ) -> Result<(), Failure> {
        let Some(client) = self.waiting.remove(&punch) else { return Ok(()) };
        let failure = explain::punch(report, &self.wish);
        let (number, address) = (client.number, client.address);
        session.output().note(&format!("#{number} {address}: {}", failure.error));
        session.output().advise(&failure);
        session.output().event(&explain::failed(report, &self.wish, &failure))
    }

    fn closed(
        &mut self,
        session: &Session<'_>,
        stream: StreamId,
        end: &StreamEnd,
    ) -> Result<(), Failure> {
        let Some(client) = self.connected.remove(&stream) else { return Ok(()) };
        let (number, address) = (client.number, client.address);
        match &end.error {
            Some(error) => {
                let failure = explain::stream(error, &self.wish);
                session.output().note(&format!("#{number} {address}: {}", failure.error));
                session.output().advise(&failure);
            }
            None => session.output().say(&format!(
                "#{number} {address}: done; {} sent, {} received in {}",
                text::bytes(end.sent),
                text::bytes(end.received),
                text::time(clock::now().duration_since(client.since)),
            ))?,
        }
        let (subject, peer) = (self.wish.subject(Some(number)), self.wish.peer.id.to_string());
        session.output().event(&JsonEvent::closed(subject, peer, end))
    }
}

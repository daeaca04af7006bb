//! One of the two peers of the demonstration: what it hears, and the bytes that it moves.

use std::io;
use std::time::{Duration, Instant};

use super::super::exit::{self, Failure};
use super::super::report_json::opened;
use super::timeline::{Arrow, Timeline};
use crate::identity::PeerId;
use crate::net::clock;
use crate::net::peer::{Event, PeerHost, StreamId};
use crate::net::reactor::{Core, HostId};
use crate::proto::peer;
use crate::proto::punch::report::{candidate_kind, mapping};
use crate::proto::punch::{DialReport, Outcome, Report, RoundReport};
use crate::wire::message::{Mapping, Port};

/// What each sends to the other.
pub(super) const TRANSFER_BYTES: u64 = 2 * 1024 * 1024;

/// Round trips that are measured.
pub(super) const PINGS: usize = 5;

/// The length of the pattern that is sent over and over. It is prime, so that no buffer's length
/// hides a piece that is lost or doubled.
const PATTERN_BYTES: usize = 65_521;

/// A peer.
pub(super) struct Actor {
    name: &'static str,
    pub(super) id: PeerId,
    pub(super) host: HostId,
    logged_in: bool,
    mapped: bool,
    stream: Option<StreamId>,
    pub(super) asked: Instant,
    /// When, and how, the connection was proved.
    pub(super) proved: Option<(Instant, Box<Report>)>,
    pattern: Vec<u8>,
    /// How much is to be sent by now.
    to_send: u64,
    sent: u64,
    received: u64,
    ping_sent: Option<Instant>,
    wants_ping: bool,
    pub(super) round_trips: Vec<Duration>,
    wants_finish: bool,
    closed: bool,
}

impl Actor {
    pub(super) fn new(name: &'static str, id: PeerId, host: HostId) -> Self {
        let mut pattern = vec![0; PATTERN_BYTES];
        // Both know the pattern: any seed would do.
        fastrand::Rng::with_seed(4711).fill(&mut pattern);
        Self {
            name,
            id,
            host,
            logged_in: false,
            mapped: false,
            stream: None,
            asked: clock::now(),
            proved: None,
            pattern,
            to_send: 0,
            sent: 0,
            received: 0,
            ping_sent: None,
            wants_ping: false,
            round_trips: Vec::new(),
            wants_finish: false,
            closed: false,
        }
    }

    // ---- getters ----

    pub(super) fn is_ready(&self) -> bool {
        self.logged_in && self.mapped
    }

    pub(super) fn is_connected(&self) -> bool {
        self.proved.is_some() && self.stream.is_some()
    }

    pub(super) fn has_received(&self) -> bool {
        self.received == TRANSFER_BYTES
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    // ---- commands ----

    pub(super) fn start_transfer(&mut self) {
        self.to_send = TRANSFER_BYTES;
    }

    pub(super) fn start_pings(&mut self) {
        self.wants_ping = true;
    }

    pub(super) fn finish(&mut self) {
        self.wants_finish = true;
    }

    // ---- what it hears ----

    pub(super) fn handle(&mut self, event: Event, timeline: &mut Timeline) -> Result<(), Failure> {
        match event {
            Event::Peer(event) => self.handle_peer(event, timeline),
            Event::Incoming { stream, .. } => {
                self.stream = Some(stream);
                Ok(())
            }
            Event::Connected { stream, report, .. } => {
                self.stream = Some(stream);
                self.tell_proof(report, timeline)
            }
            Event::Confirmed { report, .. } => self.tell_proof(report, timeline),
            Event::Failed { report, .. } => {
                let error = format!("{} could not connect", self.name);
                Err(Failure::new(exit::NO_CONNECTION, error).report(report))
            }
            Event::Pong { .. } => {
                let now = clock::now();
                let sent = self.ping_sent.take();
                self.round_trips.extend(sent.map(|sent| now.duration_since(sent)));
                self.wants_ping = self.round_trips.len() < PINGS;
                Ok(())
            }
            Event::Closed { end, .. } => {
                self.closed = true;
                match end.error {
                    None => Ok(()),
                    Some(error) => Err(Failure::new(exit::LOST, format!("{}: {error}", self.name))),
                }
            }
            _ => Ok(()),
        }
    }

    fn handle_peer(&mut self, event: peer::Event, timeline: &mut Timeline) -> Result<(), Failure> {
        let name = self.name;
        match event {
            peer::Event::LoggedIn { observed, .. } => {
                self.logged_in = true;
                let id = self.id.to_string();
                let what = format!("{name} logs in as {}…, and S sees it at {observed}", &id[..9]);
                timeline.tell("logged_in", Arrow::to_s(name), &what)
            }
            peer::Event::NatKnown(nat) => {
                self.mapped = true;
                let what =
                    format!("{name} asks over STUN how it is seen: {}", describe(nat.mapping));
                timeline.tell("mapping", Arrow::to_s(name), &what)
            }
            peer::Event::Released { round, .. } => timeline.introduced(round),
            peer::Event::LoggedOut { error, .. } => {
                Err(Failure::new(exit::RENDEZVOUS, format!("{name}: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// Tells of the dials, too: the report has them.
    fn tell_proof(&mut self, report: Box<Report>, timeline: &mut Timeline) -> Result<(), Failure> {
        for round in &report.rounds {
            for dial in &round.dials {
                let what = format!("{} dials {}", self.name, describe_dial(round, dial));
                timeline.tell("dialled", Arrow::to_other(self.name), &what)?;
            }
        }
        if let Outcome::Connected(winner) = &report.outcome {
            let what = format!(
                "{} and proved, seen from {}: {} → {}, {}",
                winner.path(),
                self.name,
                winner.local,
                winner.remote,
                opened(winner.opened)
            );
            timeline.tell("connected", Arrow::Direct, &what)?;
        }
        self.proved = Some((clock::now(), report));
        Ok(())
    }

    // ---- what it moves ----

    /// Reads and writes as much as goes without waiting.
    pub(super) fn pump(&mut self, host: &mut PeerHost, core: &mut Core) -> Result<(), Failure> {
        let Some(stream) = self.stream.filter(|_| !self.closed) else { return Ok(()) };
        self.read(host, core, stream)?;
        self.write(host, core, stream)?;
        if self.wants_ping && self.ping_sent.is_none() {
            self.ping_sent = Some(clock::now());
            let value = self.round_trips.len() as u64;
            moved(host.ping(core, stream, value))?;
        }
        if std::mem::take(&mut self.wants_finish) {
            moved(host.finish(core, stream))?;
        }
        Ok(())
    }

    fn read(
        &mut self,
        host: &mut PeerHost,
        core: &mut Core,
        stream: StreamId,
    ) -> Result<(), Failure> {
        let mut buffer = [0; 16 * 1024];
        while let Some(length) = moved(host.read(core, stream, &mut buffer))? {
            if length == 0 {
                break;
            }
            self.check(&buffer[..length])?;
            self.received += length as u64;
        }
        Ok(())
    }

    fn check(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut at = self.received;
        let mut rest = bytes;
        while !rest.is_empty() {
            let expected = self.piece(at);
            let length = expected.len().min(rest.len());
            if rest[..length] != expected[..length] {
                let error = format!("{} received other bytes than were sent", self.name);
                return Err(Failure::new(exit::OTHER, error));
            }
            at += length as u64;
            rest = &rest[length..];
        }
        Ok(())
    }

    fn write(
        &mut self,
        host: &mut PeerHost,
        core: &mut Core,
        stream: StreamId,
    ) -> Result<(), Failure> {
        while self.sent < self.to_send {
            let piece = self.piece(self.sent);
            let left = usize::try_from(self.to_send - self.sent).unwrap_or(usize::MAX);
            let piece = &piece[..piece.len().min(left)];
            match moved(host.write(core, stream, piece))? {
                Some(length) => self.sent += length as u64,
                None => break,
            }
        }
        Ok(())
    }

    /// The pattern from a position of the stream on.
    fn piece(&self, at: u64) -> &[u8] {
        &self.pattern[(at % PATTERN_BYTES as u64) as usize..]
    }
}

/// `None` when it has to wait; a stream that is gone tells why by an event.
fn moved<T>(result: io::Result<T>) -> Result<Option<T>, Failure> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn describe_dial(round: &RoundReport, dial: &DialReport) -> String {
    let port = match round.from {
        Port::Main => "the port of its login",
        Port::Hole(_) => "a fresh port",
    };
    let (to, kind, end) = (dial.to, candidate_kind(dial.kind), dial.end.label());
    format!("{to} ({kind}) from {port}: {end}")
}

fn describe(found: Mapping) -> String {
    match found {
        Mapping::None => "there is no NAT".to_owned(),
        other => format!("its NAT's mapping is {}", mapping(other)),
    }
}

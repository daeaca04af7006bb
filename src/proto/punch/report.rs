//! What a punch did, for people, metrics and tests.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::{DialError, PathError, Preference};
use crate::identity::PeerId;
use crate::wire::message::{CandidateKind, Mapping, Port, Role};
use crate::wire::refusal::{RefusalCode, RelayRefusal};

/// The story of one punch, from the request to its end.
#[derive(Clone, Debug)]
pub struct Report {
    /// The other peer.
    pub peer: PeerId,
    /// Which side we were.
    pub role: Role,
    /// Which ways it might take.
    pub preference: Preference,
    /// Number of the introduction, once there was one.
    pub introduction: Option<u64>,
    /// How our NAT maps, as far as it was known.
    pub mapping: Mapping,
    /// How the other peer's NAT maps, as far as it was known.
    pub remote_mapping: Mapping,
    /// The rounds, in order.
    pub rounds: Vec<RoundReport>,
    /// Whether what both NATs had shown left hope of a direct connection.
    pub hopeful: bool,
    /// Whether the rendezvous relays.
    pub relay_offered: bool,
    /// The dial of the relay, if there was one.
    pub relay: Option<DialReport>,
    /// How it ended.
    pub outcome: Outcome,
    /// From the request (for the controlled: from the first release) to S's first release.
    pub released_after: Option<Duration>,
    /// From the request to the end.
    pub elapsed: Duration,
}

/// How a punch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on.
    Pending,
    /// A connection stands and is proved.
    Connected(Winner),
    /// It failed.
    Failed(PunchError),
}

/// The connection that won.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Winner {
    /// Our end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// Dialled or accepted.
    pub opened: Opened,
    /// What kind of candidate it was; `None` when we learnt the address from the connection
    /// (peer-reflexive, RFC 8445 §5.1.1).
    pub kind: Option<CandidateKind>,
    /// The round in which it was dialled or accepted.
    pub round: u8,
    /// From the request to the established TCP connection, before its proof.
    pub established_after: Duration,
}

impl Winner {
    /// Whether what is sent over it goes through the rendezvous.
    pub fn is_relayed(&self) -> bool {
        self.kind == Some(CandidateKind::Relayed)
    }

    /// `direct` or `relayed`.
    pub fn path(&self) -> &'static str {
        if self.is_relayed() { "relayed" } else { "direct" }
    }
}

/// How a connection came about on our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Our connect() succeeded: the other side accepted, or both opened simultaneously.
    Dialled,
    /// Our listener accepted it.
    Accepted,
}

/// One synchronised attempt.
#[derive(Clone, Debug)]
pub struct RoundReport {
    /// Counts from 1.
    pub round: u8,
    /// The local port that was dialled from.
    pub from: Port,
    /// What was dialled.
    pub dials: Vec<DialReport>,
    /// Further dials, one of each, where ports had to be guessed.
    pub strays: u32,
    /// Connections that were accepted.
    pub accepted: u32,
}

/// What became of one candidate in one round.
#[derive(Clone, Debug)]
pub struct DialReport {
    /// Where.
    pub to: SocketAddr,
    /// Which kind of candidate.
    pub kind: CandidateKind,
    /// connect() calls.
    pub attempts: u32,
    /// How the last one ended.
    pub end: DialEnd,
}

/// How a dial ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DialEnd {
    /// It had not ended when the punch did.
    Pending,
    /// RST, or an ICMP port-unreachable.
    Refused,
    /// ICMP unreachable.
    Unreachable,
    /// No route from here.
    NoRoute,
    /// The four-tuple was taken: the other side's SYN came first.
    Taken,
    /// The kernel's last SYN went unanswered.
    TimedOut,
    /// No descriptor or port was free here.
    Exhausted,
    /// The rendezvous refused to relay.
    RelayRefused(RelayRefusal),
    /// Another error of the socket.
    Failed,
    /// It connected, and whoever answered wasn't the peer.
    Stranger,
    /// It connected, and was lost before it was proved.
    Lost,
    /// It connected to the peer; another connection was chosen.
    Spare,
    /// It won.
    Won,
}

/// Why a punch failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PunchError {
    /// S, or the peer, refused.
    Refused(RefusalCode),
    /// The rendezvous was lost before it brought the two together.
    RendezvousLost,
    /// The rendezvous did not answer in time.
    NoAnswer,
    /// No round made a connection.
    NoConnection,
    /// S introduced another peer than the one that was asked for.
    WrongPeer,
    /// The proved connection was lost before the other side confirmed it.
    Lost,
    /// Too many punches at once in this process.
    TooMany,
    /// The application took its request back.
    Cancelled,
}

impl fmt::Display for PunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused(code) => return code.fmt(f),
            Self::RendezvousLost => "the rendezvous was lost",
            Self::NoAnswer => "the rendezvous did not answer in time",
            Self::NoConnection => "no direct connection came about",
            Self::WrongPeer => "the rendezvous introduced another peer than the one asked for",
            Self::Lost => "the connection was lost while it was being proved",
            Self::TooMany => "too many connections are being made at once",
            Self::Cancelled => "cancelled",
        })
    }
}

impl std::error::Error for PunchError {}

impl DialEnd {
    /// A word for a report.
    pub fn label(self) -> &'static str {
        match self {
            Self::Pending => "no answer",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::NoRoute => "no route",
            Self::Taken => "the other side came first",
            Self::TimedOut => "timed out",
            Self::Exhausted => "out of descriptors or ports",
            Self::RelayRefused(refusal) => refusal.label(),
            Self::Failed => "failed",
            Self::Stranger => "a stranger answered",
            Self::Lost => "lost before proof",
            Self::Spare => "connected, not chosen",
            Self::Won => "won",
        }
    }
}

impl From<DialError> for DialEnd {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Refused => Self::Refused,
            DialError::Unreachable => Self::Unreachable,
            DialError::NoRoute => Self::NoRoute,
            DialError::Taken => Self::Taken,
            DialError::TimedOut => Self::TimedOut,
            DialError::Exhausted => Self::Exhausted,
            DialError::RelayRefused(refusal) => Self::RelayRefused(refusal),
            DialError::Other => Self::Failed,
        }
    }
}

impl From<PathError> for DialEnd {
    fn from(error: PathError) -> Self {
        match error {
            PathError::Lost => Self::Lost,
            PathError::Stranger => Self::Stranger,
        }
    }
}

impl Report {
    /// Whether there is a connection, and it goes through the rendezvous.
    pub fn is_relayed(&self) -> bool {
        matches!(&self.outcome, Outcome::Connected(winner) if winner.is_relayed())
    }

    /// What became of the direct ways so far: `203.0.113.1:7 refused, …`.
    pub fn why_not_direct(&self) -> String {
        if self.preference == Preference::RelayOnly {
            return "that was asked for".to_owned();
        }
        if !self.hopeful {
            return "by what both NATs have shown, no port can be aimed at".to_owned();
        }
        // The last word on each address.
        let dials: BTreeMap<_, _> = self
            .rounds
            .iter()
            .flat_map(|round| &round.dials)
            .map(|dial| (dial.to, dial.end))
            .collect();
        if dials.is_empty() {
            return "there was no address to dial".to_owned();
        }
        let words = dials.iter().map(|(to, end)| format!("{to}: {}", end.label()));
        words.collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Report {
    /// Several lines, for a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "punch with {} as {}", self.peer, role(self.role))?;
        writeln!(
            f,
            "  NATs: ours {}, theirs {}",
            mapping(self.mapping),
            mapping(self.remote_mapping)
        )?;
        if let Some(after) = self.released_after {
            writeln!(f, "  introduced after {}", millis(after))?;
        }
        for round in &self.rounds {
            round.fmt(f)?;
        }
        if let Some(relay) = &self.relay {
            writeln!(f, "  relay at {}: {}", relay.to, relay.end.label())?;
        }
        match &self.outcome {
            Outcome::Pending => write!(f, "  still going on after {}", millis(self.elapsed)),
            Outcome::Connected(winner) if winner.is_relayed() => write!(
                f,
                "  relayed through the rendezvous ({} → {}), {} after the request, because {}",
                winner.local,
                winner.remote,
                millis(winner.established_after),
                self.why_not_direct(),
            ),
            Outcome::Connected(winner) => write!(
                f,
                "  direct: {} → {}, {} in round {}, {} after the request",
                winner.local,
                winner.remote,
                match winner.opened {
                    Opened::Dialled => "dialled",
                    Opened::Accepted => "accepted",
                },
                winner.round,
                millis(winner.established_after),
            ),
            Outcome::Failed(error) => {
                write!(f, "  failed: {error}, after {}", millis(self.elapsed))
            }
        }
    }
}

impl fmt::Display for RoundReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = match self.from {
            Port::Main => "the main port",
            Port::Hole(_) => "a fresh port",
        };
        writeln!(f, "  round {} from {port}, {} accepted", self.round, self.accepted)?;
        for dial in &self.dials {
            let times = if dial.attempts == 1 { "time" } else { "times" };
            let (to, attempts, end) = (dial.to, dial.attempts, dial.end.label());
            let kind = candidate_kind(dial.kind);
            writeln!(f, "    {to} ({kind}), dialled {attempts} {times}: {end}")?;
        }
        if self.strays > 0 {
            writeln!(f, "    and {} guessed ports or sockets", self.strays)?;
        }
        Ok(())
    }
}

/// The word for a role.
pub fn role(role: Role) -> &'static str {
    match role {
        Role::Controller => "controller",
        Role::Controlled => "controlled",
    }
}

/// The term for a mapping behaviour.
pub fn mapping(mapping: Mapping) -> &'static str {
    match mapping {
        Mapping::Unknown => "unknown",
        Mapping::None => "none",
        Mapping::EndpointIndependent => "endpoint-independent",
        Mapping::AddressDependent => "address-dependent",
        Mapping::AddressAndPortDependent => "address-and-port-dependent",
    }
}

/// The term for a kind of candidate.
pub fn candidate_kind(kind: CandidateKind) -> &'static str {
    match kind {
        CandidateKind::Host => "host",
        CandidateKind::ServerReflexive => "server-reflexive",
        CandidateKind::PortMapped => "port-mapped",
        CandidateKind::Predicted => "predicted",
        CandidateKind::Relayed => "relayed",
    }
}

/// A duration for people: `101.2 ms`.
pub fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

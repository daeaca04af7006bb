//! The targets of a punch and the connections that are made to them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::report::{DialEnd, DialReport, Opened, Winner};
use super::{DialError, PathError};
use crate::limits;
use crate::wire::message::{Candidate, CandidateKind, Port};

/// A candidate in a round, dialled until something comes of it.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) round: u8,
    /// None for a fresh port that nobody else knows of.
    pub(super) from: Option<Port>,
    pub(super) candidate: Candidate,
    pub(super) attempts: u32,
    pub(super) end: DialEnd,
    /// One of many: it is dialled once.
    pub(super) stray: bool,
    refusals: u32,
    given_up: bool,
}

impl Target {
    pub(super) fn new(round: u8, from: Port, candidate: Candidate) -> Self {
        Self {
            round,
            from: Some(from),
            stray: false,
            candidate,
            attempts: 0,
            end: DialEnd::Pending,
            refusals: 0,
            given_up: false,
        }
    }

    /// One shot of many, from a port or from a fresh one.
    pub(super) fn stray(round: u8, from: Option<Port>, candidate: Candidate) -> Self {
        let port = from.unwrap_or(Port::Main);
        Self { from, stray: true, ..Self::new(round, port, candidate) }
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.given_up
    }

    /// Notes how a dial failed; says when to dial again, if at all.
    pub(super) fn fail(
        &mut self,
        error: DialError,
        jitter: &mut fastrand::Rng,
    ) -> Option<Duration> {
        let (end, delay) = match error {
            DialError::Refused => (DialEnd::Refused, self.after_refusal(jitter)),
            DialError::Unreachable => (DialEnd::Unreachable, self.after_refusal(jitter)),
            DialError::Taken => (DialEnd::Taken, Some(limits::TAKEN_RETRY)),
            DialError::Exhausted => (DialEnd::Exhausted, Some(limits::SLOW_RETRY)),
            DialError::NoRoute => (DialEnd::NoRoute, None),
            DialError::TimedOut => (DialEnd::TimedOut, None),
            DialError::Other => (DialEnd::Failed, None),
        };
        self.end = end;
        let delay = delay.filter(|_| !self.stray);
        self.given_up = delay.is_none();
        delay
    }

    /// Notes that a connection was lost before it was proved; says when to dial again, if at all.
    /// Whoever reset the connection may let the next one through; a stranger stays one.
    pub(super) fn lose(
        &mut self,
        error: PathError,
        jitter: &mut fastrand::Rng,
    ) -> Option<Duration> {
        let delay = match error {
            PathError::Lost => self.fail(DialError::Refused, jitter),
            PathError::Stranger => None,
        };
        self.given_up = delay.is_none();
        self.end = match error {
            PathError::Lost => DialEnd::Lost,
            PathError::Stranger => DialEnd::Stranger,
        };
        delay
    }

    /// An RST that answers our SYN deletes our own NAT's entry, so the hole is open only while a SYN
    /// is under way: dial again at once, but not in step with the other side.
    fn after_refusal(&mut self, jitter: &mut fastrand::Rng) -> Option<Duration> {
        self.refusals += 1;
        let longest = match self.refusals {
            n if n <= limits::EAGER_RETRIES => limits::RETRY_JITTER,
            n if n <= limits::RETRIES => limits::SLOW_RETRY,
            _ => return None,
        };
        Some(Duration::from_micros(jitter.u64(0..longest.as_micros() as u64)))
    }

    pub(super) fn into_report(self) -> DialReport {
        DialReport {
            to: self.candidate.address,
            kind: self.candidate.kind,
            attempts: self.attempts,
            end: self.end,
        }
    }
}

/// A connection, from its first SYN to its proof.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) state: ConnState,
    /// The target that was dialled; none when it was accepted.
    target: Option<u32>,
    round: u8,
    path: Option<Path>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnState {
    Dialling,
    /// It stands, and must be proved by then.
    Proving {
        until: Instant,
    },
    /// Controlled: its offer waits, because another was answered.
    Held,
}

#[derive(Debug)]
struct Path {
    local: SocketAddr,
    remote: SocketAddr,
    since: Instant,
}

impl Conn {
    pub(super) fn dialling(target: u32, round: u8) -> Self {
        Self { state: ConnState::Dialling, target: Some(target), round, path: None }
    }

    pub(super) fn accepted(
        round: u8,
        local: SocketAddr,
        remote: SocketAddr,
        since: Instant,
    ) -> Self {
        let path = Some(Path { local, remote, since });
        let state = ConnState::Proving { until: since + limits::PROOF_TIME };
        Self { state, target: None, round, path }
    }

    pub(super) fn establish(&mut self, local: SocketAddr, remote: SocketAddr, since: Instant) {
        self.state = ConnState::Proving { until: since + limits::PROOF_TIME };
        self.path = Some(Path { local, remote, since });
    }

    pub(super) fn target(&self) -> Option<u32> {
        self.target
    }

    pub(super) fn remote(&self) -> Option<SocketAddr> {
        self.path.as_ref().map(|path| path.remote)
    }

    pub(super) fn is_established(&self) -> bool {
        self.path.is_some()
    }

    pub(super) fn is_late(&self, now: Instant) -> bool {
        matches!(self.state, ConnState::Proving { until } if until <= now)
    }

    pub(super) fn winner(&self, kind: Option<CandidateKind>, started: Instant) -> Winner {
        let path = self.path.as_ref().expect("what is proved was established first");
        Winner {
            local: path.local,
            remote: path.remote,
            opened: if self.target.is_some() { Opened::Dialled } else { Opened::Accepted },
            kind,
            round: self.round,
            established_after: path.since.saturating_duration_since(started),
        }
    }
}

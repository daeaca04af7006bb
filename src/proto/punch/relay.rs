//! The way through S's relay, beside the direct ones.
//!
//! Both sides join by their own clocks, [`limits::RELAY_HEAD_START`] after their first release: a punch
//! that works at all is through by then. S answers once both have come; from there on the connection is
//! a path like any other: offered on, proved, and won or closed. So a direct path that is proved first
//! wins, and there are never two.

use std::net::SocketAddr;
use std::time::Instant;

use super::conns::Conn;
use super::report::{DialEnd, DialReport, Outcome, PunchError};
use super::{Action, ConnId, Due, Punch};
use crate::limits;
use crate::wire::message::CandidateKind;

/// Which ways a connection may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Preference {
    /// A direct one, or the relay when that does not come at once.
    #[default]
    Any,
    /// Never the relay.
    DirectOnly,
    /// The relay, at once.
    RelayOnly,
}

/// The relay, as one punch sees it.
#[derive(Debug)]
pub(super) struct Relay {
    preference: Preference,
    state: State,
    /// Where, once a release has said so.
    to: Option<SocketAddr>,
    /// A direct connection may come about.
    hopeful: bool,
    /// The last round has failed: the relay is all that is left.
    rounds_over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not wanted, or not offered.
    Unavailable,
    /// It will be joined.
    HeadStart,
    /// It is being joined, or stands.
    Joining(ConnId),
    /// It came to nothing.
    Failed,
}

impl Relay {
    pub(super) fn new(preference: Preference) -> Self {
        Self { preference, state: State::Unavailable, to: None, hopeful: true, rounds_over: false }
    }
}

impl Punch {
    // ---- getters ----

    /// Which ways the connection may take.
    pub fn preference(&self) -> Preference {
        self.relay.preference
    }

    pub(super) fn relay_only(&self) -> bool {
        self.relay.preference == Preference::RelayOnly
    }

    // ---- events ----

    /// A release says where a relay may be joined. To be told before [`Self::handle_release`].
    /// Where what both NATs have shown leaves no hope of a direct connection, the relay waits for
    /// nothing.
    pub fn handle_relay_offered(&mut self, relay: Option<SocketAddr>, hopeful: bool) {
        self.relay.to = relay;
        self.relay.hopeful = hopeful;
        self.report.relay_offered |= relay.is_some();
    }

    /// The other side waits at the relay.
    pub fn handle_relay_awaited(&mut self, now: Instant) {
        self.join_relay(now);
    }

    // ---- joining ----

    /// A round is released: it begins the head start, if none did before.
    pub(super) fn await_relay(&mut self, now: Instant) {
        if self.relay.state == State::HeadStart && !self.relay.hopeful {
            return self.join_relay(now);
        }
        if self.relay.state != State::Unavailable || self.is_ended() {
            return;
        }
        match (self.relay.preference, self.relay.to) {
            (Preference::DirectOnly, _) | (Preference::Any, None) => {}
            (Preference::RelayOnly, None) => {
                self.end(Outcome::Failed(PunchError::NoConnection), now);
            }
            (preference, Some(_)) => {
                self.relay.state = State::HeadStart;
                let nothing_else = self.targets.is_empty() && self.held.is_empty();
                let at_once = preference == Preference::RelayOnly || !self.relay.hopeful;
                if at_once || nothing_else || self.round > 1 {
                    self.join_relay(now);
                } else {
                    self.timers.set(now + limits::RELAY_HEAD_START, Due::Relay);
                }
            }
        }
    }

    /// The head start is over, or there is nothing to wait for.
    pub(super) fn join_relay(&mut self, now: Instant) {
        let (State::HeadStart, Some(to)) = (self.relay.state, self.relay.to) else { return };
        if self.answered.is_some() {
            // Only if the answered connection is lost is there need of another.
            return self.timers.set(now + limits::RELAY_HEAD_START, Due::Relay);
        }
        let conn = ConnId(self.conns.insert(Conn::relayed(self.round)) as u32);
        self.relay.state = State::Joining(conn);
        let (kind, end) = (CandidateKind::Relayed, DialEnd::Pending);
        self.report.relay = Some(DialReport { to, kind, attempts: 1, end });
        // S itself says so when the other side does not come; this is for an S that says nothing.
        self.timers.set(now + limits::RELAY_JOIN_TIME + limits::PROOF_TIME, Due::RelayLate);
        self.actions.push_back(Action::Relay { conn, to });
    }

    // ---- ends ----

    pub(super) fn expire_relay(&mut self, now: Instant) {
        let State::Joining(conn) = self.relay.state else { return };
        let index = conn.0 as usize;
        if self.conns.get(index).is_some_and(|entry| !entry.is_established()) {
            self.conns.remove(index);
            self.actions.push_back(Action::Close(conn));
            self.fail_relay(DialEnd::TimedOut, now);
        }
    }

    /// The relay could not be joined, or its connection came to nothing. There is no second try: S has
    /// said why, or can't be reached.
    pub(super) fn fail_relay(&mut self, end: DialEnd, now: Instant) {
        self.relay.state = State::Failed;
        self.note_relay(end);
        if self.is_ended() {
            return;
        }
        if self.relay_only() {
            self.end(Outcome::Failed(PunchError::NoConnection), now);
        } else if self.relay.rounds_over {
            self.end_round(self.round, now);
        }
    }

    pub(super) fn note_relay(&mut self, end: DialEnd) {
        if let Some(dial) = &mut self.report.relay {
            dial.end = end;
        }
    }

    /// The last round is over: whether the punch goes on for the relay's sake.
    pub(super) fn waits_for_relay(&mut self) -> bool {
        let hoped_for = matches!(self.relay.state, State::HeadStart | State::Joining(_));
        self.relay.rounds_over = hoped_for;
        hoped_for
    }
}

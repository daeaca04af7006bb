//! One punch: one introduction worked by one peer, until one connection is proved to lead to the
//! other, or none can be made.
//!
//! ```text
//!                 release              established           answer read
//! Waiting ──────────────────▶ Dialling ─────────────▶ (path) ───────────▶ Ended(Connected)
//!    ▲                           │ round over
//!    └────────── next round ─────┤
//!                                └── last round over, cancelled, refused ▶ Ended(Failed)
//! ```
//!
//! The controller offers the handshake on every connection that comes about and takes the first that
//! is answered; the controlled peer answers the first offer and holds the others back, until the
//! controller's first record confirms its choice. So the choice costs no round trip, and two winners
//! can't be. Whatever isn't needed any more is closed after the winner stands, never before: a dial
//! that has not failed is the hole.

mod aim;
pub mod candidates;
mod conns;
mod dials;
mod end;
mod relay;
pub mod report;
pub mod strategy;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use self::candidates::OwnAddresses;
use self::conns::{Conn, ConnState, Target};
pub use self::relay::Preference;
use self::relay::Relay;
pub use self::report::{
    DialEnd, DialReport, Opened, Outcome, PunchError, Report, RoundReport, Winner,
};
use crate::identity::PeerId;
use crate::limits;
use crate::proto::timers::Timers;
use crate::wire::message::{Mapping, Port, Release, Role};
use crate::wire::refusal::RelayRefusal;
use slab::Slab;

/// A connection of a punch, from its first SYN on. Means something within its punch alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u32);

/// What the driver has to do for a punch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// connect() from a local port; tell [`Punch::handle_established`] or
    /// [`Punch::handle_dial_failed`] what comes of it.
    Dial {
        /// The connection's name from now on.
        conn: ConnId,
        /// From which local port; none for a fresh one.
        from: Option<Port>,
        /// From so many ports after that one.
        beside: u8,
        /// Where to.
        to: SocketAddr,
    },
    /// Dial S from any port and ask to join the relay; tell [`Punch::handle_established`] once S has
    /// answered that both have joined, or [`Punch::handle_dial_failed`]. From the answer on, it is a
    /// connection like any other.
    Relay {
        /// The connection's name from now on.
        conn: ConnId,
        /// The hole endpoint of S.
        to: SocketAddr,
    },
    /// Controller: send the offer; tell [`Punch::handle_proved`] when it is answered.
    Offer(ConnId),
    /// Controlled: say which introduction the connection belongs to, and await the offer.
    Claim(ConnId),
    /// Controlled: answer the offer that was held back; tell [`Punch::handle_proved`].
    Answer(ConnId),
    /// Close the connection or the dial.
    Close(ConnId),
    /// Controller: tell S how the round ended.
    RoundOver(u8),
}

/// Why a dial failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DialError {
    /// ECONNREFUSED: an RST or an ICMP port-unreachable.
    Refused,
    /// EHOSTUNREACH and the like, from the network.
    Unreachable,
    /// connect() itself found no route.
    NoRoute,
    /// EADDRNOTAVAIL: the four-tuple is taken, wait for accept.
    Taken,
    /// ETIMEDOUT.
    TimedOut,
    /// EMFILE, ENFILE, ENOBUFS, EAGAIN: this machine has no more.
    Exhausted,
    /// S does not relay.
    RelayRefused(RelayRefusal),
    /// Anything else.
    Other,
}

/// Why a connection that stood is gone before it was proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathError {
    /// Closed or reset.
    Lost,
    /// Whoever answered isn't the peer, or says nothing.
    Stranger,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// Dial what was released.
    Start,
    /// Dial the next of many.
    Volley,
    /// Dial a target again.
    Retry(u32),
    /// The proof of a connection must be in.
    Proof(ConnId),
    /// The round is over.
    RoundEnd(u8),
    /// The head start is over: join the relay.
    Relay,
    /// The relay must be joined.
    RelayLate,
    /// The punch is over, whatever it does.
    Deadline,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// For S's release, the first or the next.
    Waiting,
    /// A round is on.
    Dialling { round: u8 },
    /// Nothing more will happen.
    Ended,
}

/// The machine of one punch.
///
/// - commands: [`Self::cancel`], [`Self::fail`]
/// - events: `handle_*`
/// - output: [`Self::poll_action`], [`Self::poll_timeout`], and [`Self::report`], whose outcome is no
///   longer pending once the punch has ended
#[derive(Debug)]
pub struct Punch {
    role: Role,
    phase: Phase,
    round: u8,
    /// This round guesses ports: that it is over soon says nothing about the next.
    guesses: bool,
    started: Instant,
    own: OwnAddresses,
    /// What a delayed release will dial.
    held: Vec<Target>,
    /// Targets that wait for their turn, of a large number.
    waiting: VecDeque<u32>,
    targets: Vec<Target>,
    conns: Slab<Conn>,
    /// Controlled: the connection whose offer is answered, until the controller confirms it. Rounds go
    /// on meanwhile: the answer may be late for the controller.
    answered: Option<ConnId>,
    /// Controlled: an answered connection was lost.
    answer_lost: bool,
    /// What ends the punch if the answered connection is lost.
    over: Option<PunchError>,
    timers: Timers<Due>,
    actions: VecDeque<Action>,
    jitter: fastrand::Rng,
    relay: Relay,
    report: Report,
}

impl Punch {
    /// A punch that waits for its first release. For the controller, `now` is when it asked; the
    /// controlled has no preference but [`Preference::Any`].
    pub fn new(
        peer: PeerId,
        role: Role,
        preference: Preference,
        mapping: Mapping,
        seed: u64,
        now: Instant,
    ) -> Self {
        let mut timers = Timers::new();
        timers.set(now + limits::INTRODUCTION_TIME, Due::Deadline);
        Self {
            role,
            phase: Phase::Waiting,
            round: 0,
            guesses: false,
            started: now,
            own: OwnAddresses::default(),
            held: Vec::new(),
            waiting: VecDeque::new(),
            targets: Vec::new(),
            conns: Slab::new(),
            answered: None,
            answer_lost: false,
            over: None,
            timers,
            actions: VecDeque::new(),
            jitter: fastrand::Rng::with_seed(seed),
            relay: Relay::new(preference),
            report: Report {
                peer,
                role,
                preference,
                introduction: None,
                mapping,
                remote_mapping: Mapping::Unknown,
                rounds: Vec::new(),
                hopeful: true,
                relay_offered: false,
                relay: None,
                outcome: Outcome::Pending,
                released_after: None,
                elapsed: Duration::ZERO,
            },
        }
    }

    // ---- getters ----

    /// The story so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Which side we are.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether nothing more will happen.
    pub fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// The round that was released last; 0 before the first.
    pub fn round(&self) -> u8 {
        self.round
    }

    /// What our NAT has shown meanwhile, for the report.
    pub fn set_mapping(&mut self, mapping: Mapping) {
        self.report.mapping = mapping;
    }

    /// Where the current round dials, and from which port: an accepted connection from there is ours.
    pub fn targets(&self) -> impl Iterator<Item = (Option<Port>, SocketAddr)> + '_ {
        self.targets.iter().map(|target| (target.from, target.candidate.address))
    }

    /// Whether the controlled peer may answer an offer on this connection now. If not, hold it.
    pub fn may_answer(&self) -> bool {
        self.role == Role::Controlled && self.answered.is_none() && !self.is_ended()
    }

    // ---- events ----

    /// S released a round: dial, all candidates at once.
    /// `sockets` is how many this machine can spare for it. Says whether the round is on: a release that
    /// is late or comes twice changes nothing.
    pub fn handle_release(
        &mut self,
        release: &Release,
        own: OwnAddresses,
        sockets: usize,
        now: Instant,
    ) -> bool {
        let stale = release.round <= self.round || release.round > limits::ROUNDS;
        if stale || self.is_ended() {
            return false;
        }
        let after = now.saturating_duration_since(self.started);
        self.report.released_after.get_or_insert(after);
        self.report.introduction = Some(release.introduction);
        self.report.remote_mapping = release.nat.mapping;
        self.report.hopeful = release.hopeful;
        self.round = release.round;
        self.guesses = release.brief;
        self.own = own;
        self.close_strays();
        if self.relay_only() {
            self.await_relay(now);
            return true;
        }
        self.held = aim::targets(release, &self.own, sockets, &mut self.jitter);
        self.report.rounds.push(RoundReport {
            round: release.round,
            from: release.from,
            dials: Vec::new(),
            strays: 0,
            accepted: 0,
        });
        self.enter(Phase::Dialling { round: release.round }, "released");
        let delay = Duration::from_micros(u64::from(release.delay)).min(limits::RELEASE_DELAY);
        let time = if release.brief { limits::BRIEF_ROUND_TIME } else { limits::ROUND_TIME };
        self.timers.set(now + delay + time, Due::RoundEnd(release.round));
        let delay = match release.yields {
            true => {
                self.knock(release);
                limits::YIELD_TIME
            }
            false => delay,
        };
        if delay.is_zero() {
            self.start(now);
        } else {
            self.timers.set(now + delay, Due::Start);
        }
        self.await_relay(now);
        true
    }

    /// A dial connected.
    pub fn handle_established(
        &mut self,
        conn: ConnId,
        local: SocketAddr,
        remote: SocketAddr,
        now: Instant,
    ) {
        let Some(entry) = self.conns.get_mut(conn.0 as usize) else { return };
        entry.establish(local, remote, now);
        self.prove(conn, now);
    }

    /// Our listener accepted a connection that belongs to this punch.
    pub fn handle_accepted(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        now: Instant,
    ) -> Option<ConnId> {
        let accepted = self.conns.iter().filter(|(_, conn)| conn.is_accepted()).count();
        if self.is_ended() || self.relay_only() || accepted >= limits::CANDIDATES {
            return None;
        }
        let conn = ConnId(self.conns.insert(Conn::accepted(self.round, local, remote, now)) as u32);
        if let Some(round) = self.report.rounds.last_mut() {
            round.accepted += 1;
        }
        self.prove(conn, now);
        Some(conn)
    }

    /// A dial failed; its socket is closed.
    pub fn handle_dial_failed(&mut self, conn: ConnId, error: DialError, now: Instant) {
        let Some(entry) = self.conns.try_remove(conn.0 as usize) else { return };
        let Some(index) = entry.target() else { return self.fail_relay(error.into(), now) };
        let target = &mut self.targets[index as usize];
        if let Some(delay) = target.fail(error, &mut self.jitter) {
            self.timers.set(now + delay, Due::Retry(index));
        }
        self.end_round_if_hopeless(now);
    }

    /// A connection that stood is gone; its socket is closed.
    pub fn handle_path_lost(&mut self, conn: ConnId, error: PathError, now: Instant) {
        let Some(entry) = self.conns.try_remove(conn.0 as usize) else { return };
        if let Some(index) = entry.target()
            && let Some(delay) = self.targets[index as usize].lose(error, &mut self.jitter)
        {
            self.timers.set(now + delay, Due::Retry(index));
        }
        if self.answered == Some(conn) {
            self.answer_another(now);
        }
        if entry.is_relayed() {
            self.fail_relay(error.into(), now);
        }
        self.end_round_if_hopeless(now);
    }

    /// Controlled: an offer on this connection waits until [`Action::Answer`].
    pub fn handle_offer_held(&mut self, conn: ConnId) {
        if let Some(entry) = self.conns.get_mut(conn.0 as usize) {
            entry.state = ConnState::Held;
        }
    }

    /// The handshake on a connection is complete: for the controller it has won; for the controlled it
    /// is answered. Returns whether the connection is still wanted.
    pub fn handle_proved(&mut self, conn: ConnId, now: Instant) -> bool {
        let known = self.conns.contains(conn.0 as usize);
        if !known || self.is_ended() || self.answered.is_some() {
            return false;
        }
        match self.role {
            Role::Controller => self.win(conn, now),
            Role::Controlled => {
                // Longer than the controller waits for the answer: what it takes stands here, too.
                let until = now + 2 * limits::PROOF_TIME;
                self.conns[conn.0 as usize].state = ConnState::Proving { until };
                self.timers.set(until, Due::Proof(conn));
                self.answered = Some(conn);
            }
        }
        true
    }

    /// Controlled: the controller's first record has come over the answered connection.
    pub fn handle_confirmed(&mut self, conn: ConnId, now: Instant) {
        if self.answered == Some(conn) {
            self.win(conn, now);
        }
    }

    /// S said that it is over, or the request was refused.
    pub fn fail(&mut self, error: PunchError, now: Instant) {
        if self.answered.is_some() {
            self.over = Some(error);
        } else if !self.is_ended() {
            self.end(Outcome::Failed(error), now);
        }
    }

    /// The application doesn't want the connection any more.
    pub fn cancel(&mut self, now: Instant) {
        if !self.is_ended() {
            self.end(Outcome::Failed(PunchError::Cancelled), now);
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, due)) = self.timers.expire(now) {
            match due {
                Due::Start => self.start(now),
                Due::Volley => self.dial_next(now),
                Due::Retry(index) => self.dial(index),
                Due::Proof(conn) => self.expire_proof(conn, now),
                Due::RoundEnd(round) => self.end_round(round, now),
                Due::Deadline if self.answer_lost => {
                    self.end(Outcome::Failed(PunchError::Lost), now);
                }
                Due::Relay => self.join_relay(now),
                Due::RelayLate => self.expire_relay(now),
                Due::Deadline => self.end(Outcome::Failed(PunchError::NoConnection), now),
            }
        }
    }

    // ---- output ----

    /// What to do now.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Self::handle_timeout`] at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    // ---- a round ----

    fn prove(&mut self, conn: ConnId, now: Instant) {
        if self.is_ended() {
            return;
        }
        self.timers.set(now + limits::PROOF_TIME, Due::Proof(conn));
        self.actions.push_back(match self.role {
            Role::Controller => Action::Offer(conn),
            Role::Controlled => Action::Claim(conn),
        });
    }

    fn expire_proof(&mut self, conn: ConnId, now: Instant) {
        let Some(entry) = self.conns.get(conn.0 as usize) else { return };
        // The slot may have been taken again since: a younger connection has its own timer.
        if entry.is_late(now) {
            self.actions.push_back(Action::Close(conn));
            self.handle_path_lost(conn, PathError::Stranger, now);
        }
    }

    /// The controller leads: it asks for the next round when its own is over. A connection that is
    /// being proved gets its time first.
    fn end_round(&mut self, round: u8, now: Instant) {
        if self.phase != (Phase::Dialling { round }) || self.role != Role::Controller {
            return;
        }
        if self.conns.iter().any(|(_, conn)| matches!(conn.state, ConnState::Proving { .. })) {
            self.timers.set(now + limits::PROOF_TIME / 4, Due::RoundEnd(round));
            return;
        }
        if round < limits::ROUNDS {
            self.actions.push_back(Action::RoundOver(round));
            return self.enter(Phase::Waiting, "round over");
        }
        self.join_relay(now);
        if !self.waits_for_relay() {
            self.actions.push_back(Action::RoundOver(round));
            self.end(Outcome::Failed(PunchError::NoConnection), now);
        }
    }

    /// No need to wait for the end of a round in which nothing is left to hope for.
    fn end_round_if_hopeless(&mut self, now: Instant) {
        let Phase::Dialling { round } = self.phase else { return };
        let hopeless = self.held.is_empty()
            && self.waiting.is_empty()
            && self.conns.iter().all(|(_, conn)| conn.is_relayed() && !conn.is_established())
            && self.targets.iter().all(|target| target.round != round || target.is_given_up());
        // Without a single candidate the other side may still reach us.
        if hopeless && self.targets.iter().any(|target| target.round == round) {
            if round > 1 && !self.guesses {
                // Twice there was nothing to hope for: no need of a head start any more.
                self.join_relay(now);
            }
            self.end_round(round, now);
        }
    }

    fn enter(&mut self, phase: Phase, why: &str) {
        debug_assert!(self.phase != Phase::Ended, "a punch that has ended does not begin again");
        log::debug!(
            "punch peer={} introduction={:?}: {:?} -> {phase:?}: {why}",
            self.report.peer,
            self.report.introduction,
            self.phase
        );
        self.phase = phase;
    }
}

#[cfg(test)]
mod tests;

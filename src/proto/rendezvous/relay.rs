//! The relay: which two connections are joined, and how many may be.
//!
//! ```text
//! first join ─▶ Waiting ── second join ──▶ Paired ── a socket ends, or is idle ─▶ ended
//!                  └── alone, or the introduction is over ──▶ refused
//! ```
//!
//! A relay belongs to an introduction until both sides have joined it. Then it lives on without the
//! introduction and without the sessions, and counts against its two peers until the driver says that
//! it is over. A peer that has no relay costs nothing here.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use super::sessions::Session;
use super::table::{Introduction, IntroductionId, ROLES, other};
use super::{Action, LinkId, Rendezvous};
use crate::identity::PeerId;
use crate::proto::timers::Timers;
use crate::wire::message::{Message, Role};
use crate::wire::refusal::RelayRefusal;
use crate::wire::stun::Join;

/// A relay. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelayId(u64);

impl fmt::Display for RelayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What becomes of a connection that asks to join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JoinVerdict {
    /// Answer with this error.
    Refused(RelayRefusal),
    /// Do not answer: the other side has not joined yet. [`Action::RefuseRelay`] may follow.
    Waiting,
    /// Answer both with success, and let the bytes flow until [`Rendezvous::handle_relay_ended`].
    Paired {
        /// The relay's name.
        relay: RelayId,
        /// The connection of the other side.
        with: LinkId,
    },
}

/// How a relayed pair ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RelayEnd {
    /// Both directions came to their end.
    Finished,
    /// A connection broke.
    Broken,
    /// Nothing was said for too long.
    Idle,
}

impl RelayEnd {
    /// A word for a log line or a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Broken => "broken",
            Self::Idle => "idle",
        }
    }
}

#[derive(Debug)]
struct Relay {
    introduction: IntroductionId,
    peers: [PeerId; 2],
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting { role: Role, link: LinkId, until: Instant },
    Paired,
}

/// The relays, and what counts against whom.
#[derive(Debug, Default)]
pub(super) struct Relays {
    all: HashMap<RelayId, Relay>,
    last: u64,
    /// Of introductions in progress: one has one relay, also when that has ended.
    by_introduction: HashMap<IntroductionId, RelayId>,
    by_link: HashMap<LinkId, RelayId>,
    per_peer: HashMap<PeerId, usize>,
    timers: Timers<RelayId>,
}

impl Relays {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    fn of_peer(&self, peer: &PeerId) -> usize {
        self.per_peer.get(peer).copied().unwrap_or(0)
    }

    fn insert(&mut self, relay: Relay) -> RelayId {
        self.last += 1;
        let id = RelayId(self.last);
        for peer in relay.peers {
            *self.per_peer.entry(peer).or_default() += 1;
        }
        self.by_introduction.insert(relay.introduction, id);
        if let Stage::Waiting { link, until, .. } = relay.stage {
            self.by_link.insert(link, id);
            self.timers.set(until, id);
        }
        self.all.insert(id, relay);
        id
    }

    /// Both sides are there: nobody waits any more. Returns the link that waited.
    fn pair(&mut self, id: RelayId) -> Option<LinkId> {
        let relay = self.all.get_mut(&id)?;
        let Stage::Waiting { link, until, .. } = relay.stage else { return None };
        relay.stage = Stage::Paired;
        self.by_link.remove(&link);
        self.timers.clear(until, id);
        Some(link)
    }

    fn remove(&mut self, id: RelayId) -> Option<Relay> {
        let relay = self.all.remove(&id)?;
        if let Stage::Waiting { link, until, .. } = relay.stage {
            self.by_link.remove(&link);
            self.timers.clear(until, id);
        }
        for peer in relay.peers {
            if let Some(count) = self.per_peer.get_mut(&peer) {
                *count -= 1;
                if *count == 0 {
                    self.per_peer.remove(&peer);
                }
            }
        }
        Some(relay)
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        let waiting =
            self.all.values().filter(|relay| matches!(relay.stage, Stage::Waiting { .. }));
        let waiting = waiting.count();
        assert_eq!((self.by_link.len(), self.timers.len()), (waiting, waiting));
        assert_eq!(self.per_peer.values().sum::<usize>(), 2 * self.all.len());
        for (introduction, id) in &self.by_introduction {
            assert!(self.all.get(id).is_none_or(|relay| relay.introduction == *introduction));
        }
    }

    #[cfg(test)]
    pub(super) fn introductions(&self) -> impl Iterator<Item = IntroductionId> + '_ {
        self.by_introduction.keys().copied()
    }
}

impl Rendezvous {
    // ---- getters ----

    /// How many relays there are, those of which one side has yet to join included.
    pub fn relays(&self) -> usize {
        self.relays.all.len()
    }

    // ---- events ----

    /// A connection to a hole port asks to join a relay.
    pub fn handle_relay_join(&mut self, link: LinkId, join: &Join, now: Instant) -> JoinVerdict {
        let verdict = self.admit(link, join, now);
        log::debug!(
            "relay join introduction={} role={:?}: {verdict:?}",
            join.introduction,
            join.role
        );
        if let JoinVerdict::Refused(refusal) = verdict {
            self.stats.count_relay_refusal(refusal);
        }
        verdict
    }

    /// A connection that waited for the other side is gone.
    pub fn handle_relay_left(&mut self, link: LinkId) {
        if let Some(id) = self.relays.by_link.get(&link).copied()
            && let Some(relay) = self.relays.remove(id)
        {
            // It may come again with another connection.
            self.relays.by_introduction.remove(&relay.introduction);
        }
    }

    /// A relayed pair is over, after so many bytes both ways.
    pub fn handle_relay_ended(&mut self, relay: RelayId, bytes: u64, end: RelayEnd) {
        if self.relays.remove(relay).is_some() {
            log::info!("relay ended relay={relay} how={} bytes={bytes}", end.label());
            self.stats.relayed_bytes += bytes;
            *self.stats.relays_ended.entry(end).or_default() += 1;
        }
    }

    // ---- joining ----

    fn admit(&mut self, link: LinkId, join: &Join, now: Instant) -> JoinVerdict {
        if !self.config.relay {
            return JoinVerdict::Refused(RelayRefusal::Off);
        }
        let Some(introduction) = self.joined_introduction(join) else {
            return JoinVerdict::Refused(RelayRefusal::Unknown);
        };
        let Some(id) = self.relays.by_introduction.get(&introduction).copied() else {
            return match self.begin_relay(introduction, join.role, link, now) {
                Ok(()) => {
                    self.call_to_relay(introduction, other(join.role));
                    JoinVerdict::Waiting
                }
                Err(refusal) => JoinVerdict::Refused(refusal),
            };
        };
        match self.relays.all.get(&id).map(|relay| relay.stage) {
            Some(Stage::Waiting { role, .. }) if role == other(join.role) => self.pair(id),
            // One side twice, or a third.
            _ => JoinVerdict::Refused(RelayRefusal::Unknown),
        }
    }

    /// One side has come: the other needn't wait for its own clock.
    fn call_to_relay(&mut self, id: IntroductionId, role: Role) {
        if let Some(introduction) = self.introductions.get(id) {
            let link = self.sessions.live(introduction.side(role).session).link;
            self.outbox.send(link, Message::Awaited { introduction: id.0 });
        }
    }

    /// Whoever knows both tokens is that side of the introduction. All that is wrong with a request is
    /// answered alike.
    fn joined_introduction(&self, join: &Join) -> Option<IntroductionId> {
        let session = self.tokens.session_of(&join.session)?;
        let id = IntroductionId(join.introduction);
        let introduction = self.introductions.get(id)?;
        let fits = introduction.side(join.role).session == session
            && introduction.token == join.token
            && introduction.was_released();
        fits.then_some(id)
    }

    fn begin_relay(
        &mut self,
        id: IntroductionId,
        role: Role,
        link: LinkId,
        now: Instant,
    ) -> Result<(), RelayRefusal> {
        let Some(introduction) = self.introductions.get(id) else {
            return Err(RelayRefusal::Unknown);
        };
        let peers = self.peers_of(introduction);
        let limits = &self.config.limits;
        if peers.iter().any(|peer| self.relays.of_peer(peer) >= limits.relays_per_peer) {
            return Err(RelayRefusal::Quota);
        }
        if self.relays.all.len() >= limits.relays {
            return Err(RelayRefusal::Full);
        }
        let until = now + limits.relay_join_time;
        let stage = Stage::Waiting { role, link, until };
        self.relays.insert(Relay { introduction: id, peers, stage });
        Ok(())
    }

    fn peers_of(&self, introduction: &Introduction) -> [PeerId; 2] {
        ROLES.map(|role| self.sessions.live(introduction.side(role).session).id)
    }

    fn pair(&mut self, id: RelayId) -> JoinVerdict {
        let Some(with) = self.relays.pair(id) else {
            return JoinVerdict::Refused(RelayRefusal::Unknown);
        };
        if let Some(relay) = self.relays.all.get(&id) {
            let [controller, controlled] = relay.peers;
            log::info!(
                "relay begun relay={id} introduction={} controller={controller} controlled={controlled}",
                relay.introduction
            );
        }
        self.stats.relays_started += 1;
        JoinVerdict::Paired { relay: id, with }
    }

    // ---- ends ----

    pub(super) fn expire_relays(&mut self, now: Instant) {
        while let Some((_, id)) = self.relays.timers.expire(now) {
            if let Some(relay) = self.relays.all.get(&id) {
                self.relays.by_introduction.remove(&relay.introduction);
            }
            self.refuse_relay(id, RelayRefusal::Alone);
        }
    }

    /// The introduction is over: who waits in its relay waits for nothing; a pair lives on.
    pub(super) fn release_relay(&mut self, introduction: IntroductionId) {
        if let Some(id) = self.relays.by_introduction.remove(&introduction) {
            self.refuse_relay(id, RelayRefusal::Unknown);
        }
    }

    /// As [`Self::release_relay`], for all of them.
    pub(super) fn release_relays(&mut self) {
        let mut ids: Vec<_> = self.relays.by_introduction.drain().map(|(_, id)| id).collect();
        ids.sort_unstable();
        for id in ids {
            self.refuse_relay(id, RelayRefusal::Unknown);
        }
    }

    fn refuse_relay(&mut self, id: RelayId, refusal: RelayRefusal) {
        let Some(relay) = self.relays.all.get(&id) else { return };
        let Stage::Waiting { link, .. } = relay.stage else { return };
        self.relays.remove(id);
        self.stats.count_relay_refusal(refusal);
        self.outbox.actions.push_back(Action::RefuseRelay { link, refusal });
    }

    // ---- releases ----

    /// Where a session is told to join: the hole endpoint of the family in which S sees it.
    pub(super) fn relay_endpoint(&self, session: &Session) -> Option<SocketAddr> {
        let fits = |hole: &&SocketAddr| hole.is_ipv4() == session.observed.is_ipv4();
        self.config.relay.then(|| self.config.holes.iter().find(fits).copied())?
    }
}

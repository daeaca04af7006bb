//! The rendezvous machine S: who is logged in, who may meet whom, who hears of whom.
//!
//! ```text
//! login ────▶ sessions ◀──── probe from a hole port
//!                │                    │
//! message ──▶ consent ──▶ introductions: gather holes ─▶ release both sides ─▶ ended
//!                ├──────▶ presence: watchers, rooms
//!                ├──────▶ relay: who joins, and how many may
//!                ├──────▶ dial_back: what NATs let in
//!                └──────▶ drain: the end of it all
//! ```
//!
//! A session costs a slab slot and no timer. Each operation takes O(1) or O(log n), apart from the
//! messages that it must send, and the number of those is bounded. Whatever names a session (a place,
//! an introduction, a watch, a room) is taken back before the session goes.
//!
//! What a peer is asked to open a hole for is named by a tag. In a tag that S chooses the top bit is
//! set, then come the number of the introduction and, in the two lowest bits, the round. A tag
//! without that bit is the peer's own choice, for a hole that it opens unasked; 0 is the main port.

mod config;
mod consent;
mod dial_back;
mod drain;
mod introductions;
mod logins;
mod memory;
mod presence;
mod relay;
mod release;
mod sessions;
mod stats;
mod table;
mod tokens;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

pub use self::config::{Config, Limits};
use self::consent::Consent;
use self::dial_back::DialBacks;
pub use self::dial_back::counted_address;
use self::drain::Draining;
pub use self::drain::Farewell;
use self::introductions::Request;
use self::memory::{Memory, Network, Networks};
use self::presence::Presence;
use self::relay::Relays;
pub use self::relay::{JoinVerdict, RelayEnd, RelayId};
pub use self::sessions::SessionId;
use self::sessions::Sessions;
pub use self::stats::{NatPairs, Outcome, Stats};
use self::table::Introductions;
use self::tokens::Tokens;
use crate::identity::{PeerId, PublicKey};
use crate::proto::punch::strategy::maps_otherwise;
use crate::wire::message::{Login, Message, Refused};
use crate::wire::refusal::{ClosingCode, RefusalCode, RelayRefusal};
use crate::wire::stun::Probe;

/// The driver's name of a connection: a main one, or one that joins a relay. It means nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a message over a main connection.
    Send {
        /// Which connection.
        link: LinkId,
        /// What.
        message: Message,
    },
    /// Send [`Message::Closing`] as the last frame, and close once it is out. The session has ended
    /// already.
    Close {
        /// Which connection.
        link: LinkId,
        /// Why.
        code: ClosingCode,
        /// The same for a person; may be empty.
        text: String,
    },
    /// Answer a connection that waits for the other side of its relay with an error, and close it.
    RefuseRelay {
        /// Which connection.
        link: LinkId,
        /// Why.
        refusal: RelayRefusal,
    },
    /// Dial a hole of a session, from this address of ours and an unused port, and from another address
    /// of its family if there is one; then [`Rendezvous::handle_dialed_back`], in any case.
    DialBack {
        /// Whose hole it is.
        session: SessionId,
        /// Where it was seen.
        to: SocketAddr,
        /// The address of ours that it has a connection to.
        from: IpAddr,
    },
}

/// Whether a probe belongs to something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeVerdict {
    /// It does.
    Tied,
    /// It doesn't, or not yet: the peer's request may still be on its way.
    Unknown,
}

/// The machine of a rendezvous.
///
/// - getters: [`Self::stats`], [`Self::sessions`], [`Self::introductions`], …
/// - commands: [`Self::set_config`], [`Self::begin_drain`], [`Self::drain`]
/// - events: `handle_*`
/// - output: [`Self::poll_action`], [`Self::poll_timeout`]
#[derive(Debug)]
pub struct Rendezvous {
    config: Config,
    tokens: Tokens,
    sessions: Sessions,
    introductions: Introductions,
    presence: Presence,
    relays: Relays,
    dial_backs: DialBacks,
    /// The consent of peers that have left, so that whom they permit hears "offline".
    departed: Memory<PeerId, Consent>,
    networks: Networks,
    draining: Option<Draining>,
    outbox: Outbox,
    stats: Stats,
}

impl Rendezvous {
    /// A rendezvous without sessions. Its tokens derive from the seed, which must be new for each
    /// start and known to nobody.
    pub fn new(config: Config, seed: [u8; 32]) -> Self {
        Self {
            config,
            tokens: Tokens::new(seed),
            sessions: Sessions::default(),
            introductions: Introductions::default(),
            presence: Presence::default(),
            relays: Relays::default(),
            dial_backs: DialBacks::default(),
            departed: Memory::default(),
            networks: Networks::default(),
            draining: None,
            outbox: Outbox::default(),
            stats: Stats::default(),
        }
    }

    // ---- getters ----

    /// What has been done so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What the operator has chosen.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The bounds, those that the driver holds included.
    pub fn limits(&self) -> &Limits {
        &self.config.limits
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// How many introductions are in progress.
    pub fn introductions(&self) -> usize {
        self.introductions.len()
    }

    /// How many watches there are, in all sessions.
    pub fn watches(&self) -> usize {
        self.presence.watches()
    }

    /// How many rooms have members.
    pub fn rooms(&self) -> usize {
        self.presence.rooms()
    }

    /// How many departed peers' consent is remembered.
    pub fn departed(&self) -> usize {
        self.departed.len()
    }

    // ---- commands ----

    /// Replaces the configuration. What is in progress keeps its deadlines; lower bounds hold for
    /// what comes.
    pub fn set_config(&mut self, config: Config) {
        self.config = config;
    }

    // ---- events ----

    /// A peer has proved its key on a main connection that comes from `remote`.
    ///
    /// # Errors
    /// The reason why it is not logged in, to be told in the handshake's stead.
    pub fn handle_login(
        &mut self,
        link: LinkId,
        remote: SocketAddr,
        key: PublicKey,
        login: Login,
        round_trip: Duration,
        now: Instant,
    ) -> Result<SessionId, RefusalCode> {
        self.log_in(link, canonical(remote), key, login, round_trip, now)
    }

    /// A message came over a session's main connection.
    pub fn handle_message(&mut self, session: SessionId, message: Message, now: Instant) {
        if self.sessions.get(session).is_none() {
            return log::trace!("session={session} is gone: {message:?}");
        }
        log::trace!("session={session}: {message:?}");
        match message {
            Message::Introduce { request, peer, from } => {
                self.handle_introduce(session, Request { number: request, peer, from }, now);
            }
            Message::Outcome { introduction, round, result } => {
                self.handle_outcome(session, introduction, round, result, now);
            }
            // All go.
            Message::Watch { .. } | Message::Join { .. } if self.is_draining() => {}
            Message::Watch { peers } => self.handle_watch(session, peers),
            Message::Join { room } => self.handle_join(session, &room),
            Message::Allow(allow) => self.handle_allow(session, Consent::of(allow)),
            Message::Update { nat, hosts, mapped, pool } => {
                let observed = self.sessions.live(session).observed;
                self.networks.learn_nat(Network::of(observed.ip()), nat, now);
                let nat = self.known_nat(observed, nat, now);
                let it = self.sessions.live_mut(session);
                let before = std::mem::replace(&mut it.nat, nat);
                it.update(hosts, mapped, pool);
                if maps_otherwise(before, nat) {
                    self.plan_again(session, now);
                }
            }
            Message::DialBack { tag } => self.handle_dial_back(session, tag, now),
            Message::Ping(value) => {
                self.outbox.send(self.sessions.live(session).link, Message::Pong(value));
            }
            Message::Pong(_) => {}
            Message::Unknown(_) => self.handle_unknown(session, now),
            Message::Welcome(_)
            | Message::Refused(_)
            | Message::Closing { .. }
            | Message::Draining { .. }
            | Message::Prepare { .. }
            | Message::Release(_)
            | Message::DialedBack { .. }
            | Message::Cancelled { .. }
            | Message::Awaited { .. }
            | Message::Presence { .. } => {
                self.close_for_protocol(session, "a message that only a rendezvous sends", now);
            }
        }
    }

    /// A session's main connection is gone.
    pub fn handle_closed(&mut self, session: SessionId, now: Instant) {
        self.log_out(session, now);
    }

    /// A probe came to a hole port, from `mapped` to the address `at` of ours.
    pub fn handle_probe(
        &mut self,
        probe: &Probe,
        mapped: SocketAddr,
        at: IpAddr,
        now: Instant,
    ) -> ProbeVerdict {
        let verdict = self.tie(probe, canonical(mapped), at, now);
        log::trace!("probe tag={:#x} mapped={mapped}: {verdict:?}", probe.tag);
        match verdict {
            ProbeVerdict::Tied => self.stats.probes_tied += 1,
            ProbeVerdict::Unknown => self.stats.probes_unknown += 1,
        }
        verdict
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.expire_introductions(now);
        self.expire_relays(now);
        self.departed.handle_timeout(now);
    }

    // ---- output ----

    /// What to do now.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.outbox.actions.pop_front()
    }

    /// When to call [`Self::handle_timeout`] at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let introductions = self.introductions.poll_timeout();
        let deadlines = [introductions, self.relays.poll_timeout(), self.departed.poll_timeout()];
        deadlines.into_iter().flatten().min()
    }

    // ---- probes, refusals ----

    fn tie(&mut self, probe: &Probe, mapped: SocketAddr, at: IpAddr, now: Instant) -> ProbeVerdict {
        let session = self.tokens.session_of(&probe.token);
        let Some(id) = session.filter(|id| self.sessions.get(*id).is_some()) else {
            return ProbeVerdict::Unknown;
        };
        if probe.tag != 0 {
            return self.handle_hole(id, probe, mapped, at, now);
        }
        let session = self.sessions.live_mut(id);
        if probe.local_port != 0 && probe.local_port == session.local_port {
            session.learn_mapped(mapped);
        }
        ProbeVerdict::Tied
    }

    fn refuse(&mut self, session: SessionId, request: u32, code: RefusalCode) {
        let (link, peer) = (self.sessions.live(session).link, self.sessions.live(session).id);
        log::info!("refused session={session} peer={peer} request={request} code={}", code.label());
        self.stats.count_refusal(code);
        let refused = Refused { request, code, text: String::new() };
        self.outbox.send(link, Message::Refused(refused));
    }

    #[cfg(test)]
    fn check(&self) {
        self.sessions.check();
        self.introductions.check();
        self.relays.check();
        let known = |id| self.introductions.get(id).is_some();
        assert!(self.relays.introductions().all(known), "a relay's introduction is in progress");
        self.presence.check(&self.sessions);
        let sides: usize = self.sessions.iter().map(|it| it.introductions.len()).sum();
        assert_eq!(sides, 2 * self.introductions.len());
        let counted = self.stats.logins - self.stats.logouts;
        assert_eq!(counted, self.sessions.len() as u64);
    }

    #[cfg(test)]
    fn assert_empty(&self) {
        self.check();
        assert_eq!((self.sessions(), self.introductions(), self.relays()), (0, 0, 0));
        assert_eq!((self.watches(), self.rooms(), self.departed()), (0, 0, 0));
        assert_eq!(self.dial_backs.in_progress(), 0);
        assert_eq!(self.poll_timeout(), None);
        assert!(self.outbox.actions.is_empty());
    }
}

/// What waits for the driver.
#[derive(Debug, Default)]
struct Outbox {
    actions: VecDeque<Action>,
}

impl Outbox {
    fn send(&mut self, link: LinkId, message: Message) {
        self.actions.push_back(Action::Send { link, message });
    }

    fn close(&mut self, link: LinkId, code: ClosingCode, text: &str) {
        self.actions.push_back(Action::Close { link, code, text: text.to_owned() });
    }
}

/// An IPv4 address that came through an IPv6 socket is an IPv4 address.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;

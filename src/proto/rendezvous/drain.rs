//! The end of a rendezvous: nothing new begins, what is in progress ends, and peers are told when to come
//! back, or where to go.
//!
//! ```text
//! begin_drain ─▶ idle sessions are closed at once
//!            └─▶ the others when their last introduction has ended
//! drain       ─▶ all that are left
//! ```

use std::time::{Duration, Instant};

use super::sessions::SessionId;
use super::{Memory, Presence, Rendezvous};
use crate::identity::ServerAddr;
use crate::limits;
use crate::wire::message::Message;
use crate::wire::refusal::{ClosingCode, RefusalCode};

/// What peers are told by a rendezvous that stops.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Farewell {
    /// Words for people.
    pub text: String,
    /// Another rendezvous, with its key. Peers ignore one without.
    pub to: Option<ServerAddr>,
}

/// A farewell that has begun.
#[derive(Debug)]
pub(super) struct Draining {
    farewell: Farewell,
    /// Within this time the peers come back, each at a moment of its own.
    spread: Duration,
}

impl Draining {
    fn message(&self) -> Message {
        Message::Draining {
            spread: u32::try_from(self.spread.as_millis()).unwrap_or(u32::MAX),
            to: self.farewell.to.as_ref().map_or_else(String::new, ToString::to_string),
        }
    }
}

impl Rendezvous {
    // ---- getters ----

    /// Whether it stops: no login is granted any more, and no introduction is begun.
    pub fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// Whether it drains, and nothing is left to wait for.
    pub fn is_drained(&self) -> bool {
        self.is_draining() && self.sessions.len() == 0 && self.relays() == 0
    }

    /// What a peer is told that has proved its key and is not logged in.
    pub fn refused_login(&self, code: RefusalCode) -> Vec<Message> {
        match &self.draining {
            Some(draining) if code == RefusalCode::Draining => {
                let text = draining.farewell.text.clone();
                let code = ClosingCode::ShuttingDown;
                vec![draining.message(), Message::Closing { code, text }]
            }
            _ => vec![Message::Closing { code: ClosingCode::Busy, text: code.to_string() }],
        }
    }

    // ---- commands ----

    /// Begins to stop. Peers with nothing in progress are closed, the others when they have nothing any
    /// more. Nobody hears of anybody's going: all go.
    pub fn begin_drain(&mut self, farewell: Farewell) {
        if self.is_draining() {
            return;
        }
        let returning = u32::try_from(self.sessions.len()).unwrap_or(u32::MAX);
        let spread = Duration::from_secs(1) * returning / limits::RETURNS_PER_SECOND;
        let spread = spread.clamp(limits::RECONNECT_FIRST, limits::RETURN_LONGEST);
        let to = farewell.to.as_ref().map_or_else(String::new, ToString::to_string);
        log::info!(
            "drain begins sessions={} introductions={} relays={} spread_ms={} to={to:?}",
            self.sessions.len(),
            self.introductions.len(),
            self.relays(),
            spread.as_millis()
        );
        let draining = Draining { farewell, spread };
        let message = draining.message();
        self.draining = Some(draining);
        self.presence = Presence::default();
        for session in self.sessions.ids() {
            let it = self.sessions.live_mut(session);
            it.watch(Vec::new());
            it.leave_rooms();
            self.outbox.send(it.link, message.clone());
            self.let_go(session);
        }
    }

    /// Closes all sessions, and grants no login any more. Connections between peers live on, relayed
    /// ones too.
    pub fn drain(&mut self, text: &str, _now: Instant) {
        log::info!("drained sessions={}", self.sessions.len());
        self.draining.get_or_insert_with(|| Draining {
            farewell: Farewell { text: text.to_owned(), to: None },
            spread: limits::RECONNECT_FIRST,
        });
        self.stats.logouts += self.sessions.len() as u64;
        for session in self.sessions.iter() {
            self.outbox.close(session.link, ClosingCode::ShuttingDown, text);
        }
        self.sessions.clear();
        self.introductions.clear();
        self.release_relays();
        self.presence = Presence::default();
        self.departed = Memory::default();
    }

    /// While it drains: closes a session that has nothing in progress.
    pub(super) fn let_go(&mut self, id: SessionId) {
        let Some(draining) = &self.draining else { return };
        let Some(session) = self.sessions.get(id) else { return };
        if session.introductions.is_empty() {
            let (link, peer) = (session.link, session.id);
            self.outbox.close(link, ClosingCode::ShuttingDown, &draining.farewell.text);
            log::info!("logout session={id} link={} peer={peer} how=drained", link.0);
            let gone = self.detach(id);
            debug_assert!(gone.is_some(), "it was there above");
        }
    }
}

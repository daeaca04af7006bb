//! A session's life: login, replacement, consent, the end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::consent::Consent;
use super::memory::Network;
use super::sessions::{Session, SessionId};
use super::{LinkId, Rendezvous};
use crate::identity::{PeerId, PublicKey};
use crate::wire::message::{Login, Message, Nat, Welcome};
use crate::wire::refusal::{ClosingCode, RefusalCode};

impl Rendezvous {
    pub(super) fn log_in(
        &mut self,
        link: LinkId,
        observed: SocketAddr,
        key: PublicKey,
        mut login: Login,
        round_trip: Duration,
        now: Instant,
    ) -> Result<SessionId, RefusalCode> {
        let peer = PeerId::of(&key);
        if self.is_draining() {
            log::info!("login refused link={} peer={peer} from={observed} code=draining", link.0);
            self.stats.count_refusal(RefusalCode::Draining);
            return Err(RefusalCode::Draining);
        }
        if !self.has_place_for(&peer, login.reachable) {
            log::info!("login refused link={} peer={peer} from={observed} code=busy", link.0);
            self.stats.count_refusal(RefusalCode::Busy);
            return Err(RefusalCode::Busy);
        }
        let reachable = login.reachable;
        let earlier = if reachable { self.replace(&peer) } else { None };
        let agent = std::mem::take(&mut login.agent);
        login.nat = self.known_nat(observed, login.nat, now);
        let session = Session::new(link, observed, key, peer, login, round_trip);
        let id = self.sessions.insert(session);
        log::info!(
            "login session={id} link={} peer={peer} from={observed} reachable={reachable} \
             agent={agent:?}",
            link.0
        );
        self.stats.logins += 1;
        self.welcome(id);
        if reachable {
            self.departed.forget(&peer);
            self.tell_watchers(peer, &earlier.unwrap_or_default());
        }
        Ok(id)
    }

    /// What is known of a peer's NAT: what the peer says, or, as long as it has seen nothing of it, what
    /// others at the same address have said.
    pub(super) fn known_nat(&mut self, observed: SocketAddr, said: Nat, now: Instant) -> Nat {
        match said == Nat::default() {
            true => self.networks.nat(Network::of(observed.ip()), now).unwrap_or_default(),
            false => said,
        }
    }

    fn has_place_for(&self, peer: &PeerId, reachable: bool) -> bool {
        let limits = &self.config.limits;
        let replaces = reachable && self.sessions.reachable(peer).is_some();
        (replaces || self.sessions.len() < limits.sessions)
            && (reachable || self.sessions.callers(peer) < limits.callers_per_peer)
    }

    /// A newer session of a peer takes the place of an earlier one, whose consent is returned. That is
    /// neither a going nor a coming, but to the rooms, which the newer one has not joined.
    fn replace(&mut self, peer: &PeerId) -> Option<Consent> {
        let id = self.sessions.reachable(peer)?;
        let link = self.sessions.live(id).link;
        self.outbox.close(link, ClosingCode::Replaced, "");
        self.stats.replaced += 1;
        let earlier = self.detach(id)?;
        log::info!("replaced session={id} link={} peer={peer}", link.0);
        Some(earlier.consent)
    }

    fn welcome(&mut self, id: SessionId) {
        let session = self.sessions.live(id);
        let welcome = Welcome {
            id: session.id,
            observed: session.observed,
            token: self.tokens.of_session(id),
            holes: self.config.holes.clone(),
            text: self.config.text.clone(),
        };
        self.outbox.send(session.link, Message::Welcome(welcome));
    }

    pub(super) fn handle_allow(&mut self, session: SessionId, consent: Consent) {
        let allower = self.sessions.live_mut(session);
        let before = std::mem::replace(&mut allower.consent, consent);
        let (peer, reachable) = (allower.id, allower.reachable);
        if reachable {
            self.tell_watchers(peer, &before);
        }
    }

    pub(super) fn handle_unknown(&mut self, session: SessionId, now: Instant) {
        self.stats.unknown_messages += 1;
        let sender = self.sessions.live_mut(session);
        sender.unknown_messages += 1;
        if sender.unknown_messages > self.config.limits.unknown_messages {
            self.close_for_protocol(session, "too many messages of unknown types", now);
        }
    }

    pub(super) fn close_for_protocol(&mut self, session: SessionId, text: &str, now: Instant) {
        let link = self.sessions.live(session).link;
        log::info!("protocol broken session={session} link={}: {text}", link.0);
        self.outbox.close(link, ClosingCode::Protocol, text);
        self.stats.protocol_closes += 1;
        self.log_out(session, now);
    }

    pub(super) fn log_out(&mut self, id: SessionId, now: Instant) {
        let Some(gone) = self.detach(id) else { return };
        log::info!("logout session={id} link={} peer={}", gone.link.0, gone.id);
        if gone.reachable {
            self.tell_watchers(gone.id, &gone.consent);
            if !gone.consent.permits_nobody() {
                let limits = &self.config.limits;
                let until = now + limits.departed_time;
                self.departed.remember(gone.id, gone.consent, until, limits.departed_peers);
            }
        }
    }

    /// Takes a session, and all that names it, out.
    pub(super) fn detach(&mut self, id: SessionId) -> Option<Session> {
        self.sessions.get(id)?;
        self.abandon(id);
        self.leave_rooms(id);
        self.unwatch(id);
        self.stats.logouts += 1;
        self.sessions.remove(id)
    }
}

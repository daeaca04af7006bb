//! Who hears of whose coming and going: watchers of a peer, and members of a room.
//!
//! A coming or going costs at most [`limits::WATCHERS_PER_PEER`] and, for each room,
//! [`limits::ROOM_MEMBERS`] messages: never N².

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::config::Limits;
use super::consent::Consent;
use super::sessions::SessionId;
use super::{LinkId, Outbox, Rendezvous, Stats};
use crate::identity::PeerId;
use crate::limits;
use crate::wire::message::Message;
use crate::wire::refusal::RefusalCode;

/// A session in a room.
#[derive(Clone, Copy, Debug)]
struct Member {
    session: SessionId,
    id: PeerId,
}

/// Watchers and rooms.
#[derive(Debug, Default)]
pub(super) struct Presence {
    watchers: HashMap<PeerId, Vec<SessionId>>,
    /// How many there are in all the lists of `watchers`.
    watches: usize,
    rooms: HashMap<Arc<str>, Vec<Member>>,
}

impl Rendezvous {
    // ---- watchers ----

    pub(super) fn handle_watch(&mut self, session: SessionId, mut peers: Vec<PeerId>) {
        self.unwatch(session);
        peers.sort_unstable();
        peers.dedup();
        let wanted = peers.len();
        peers.truncate(self.config.limits.watched_peers);
        peers.retain(|peer| self.watch(session, *peer));
        let refused = peers.len() < wanted;
        for peer in &peers {
            self.tell_if_online(session, *peer);
        }
        self.sessions.live_mut(session).watch(peers);
        if refused {
            self.refuse(session, 0, RefusalCode::Busy);
        }
    }

    /// Puts a session among the watchers of a peer. When they are too many, one whom the peer knows
    /// takes the place of one who would never hear anything: strangers can't keep friends out.
    fn watch(&mut self, session: SessionId, peer: PeerId) -> bool {
        if self.presence.watch(peer, session, &self.config.limits) {
            return true;
        }
        let online = self.sessions.reachable(&peer).map(|id| &self.sessions.live(id).consent);
        let Some(consent) = online.or_else(|| self.departed.get(&peer)) else { return false };
        let is_known = |id: SessionId| consent.permits(&self.sessions.live(id).id);
        let Some(watchers) = self.presence.watchers.get_mut(&peer) else { return false };
        let stranger = watchers.iter_mut().find(|watcher| !is_known(**watcher));
        match stranger {
            Some(stranger) if is_known(session) => *stranger = session,
            _ => return false,
        }
        true
    }

    fn tell_if_online(&mut self, session: SessionId, peer: PeerId) {
        let watcher = self.sessions.live(session);
        if let Some(target) = self.sessions.reachable(&peer)
            && self.sessions.live(target).consent.permits(&watcher.id)
        {
            self.outbox.tell(&mut self.stats, watcher.link, peer, true, "");
        }
    }

    pub(super) fn unwatch(&mut self, session: SessionId) {
        for peer in self.sessions.live_mut(session).watch(Vec::new()) {
            self.presence.unwatch(&peer, session);
        }
    }

    /// Whom a peer consents to has changed from `before` to what it is now. Who isn't reachable
    /// consents to nobody: coming and going are such changes, too.
    pub(super) fn tell_watchers(&mut self, peer: PeerId, before: &Consent) {
        let Some(watchers) = self.presence.watchers.get(&peer) else { return };
        let nobody = Consent::default();
        let reachable = self.sessions.reachable(&peer);
        let after = reachable.map_or(&nobody, |id| &self.sessions.live(id).consent);
        for watcher in watchers {
            let watcher = self.sessions.live(*watcher);
            let online = after.permits(&watcher.id);
            if online != before.permits(&watcher.id) {
                self.outbox.tell(&mut self.stats, watcher.link, peer, online, "");
            }
        }
    }

    // ---- rooms ----

    pub(super) fn handle_join(&mut self, session: SessionId, room: &str) {
        if let Err(code) = self.join(session, room) {
            self.refuse(session, 0, code);
        }
    }

    fn join(&mut self, session: SessionId, room: &str) -> Result<(), RefusalCode> {
        if room.is_empty() || room.len() > limits::ROOM_NAME_BYTES {
            return Err(RefusalCode::Protocol);
        }
        let rooms = self.sessions.live(session).rooms();
        if rooms.iter().any(|joined| **joined == *room) {
            return Ok(());
        }
        if rooms.len() >= self.config.limits.rooms_per_session {
            return Err(RefusalCode::Busy);
        }
        let name = self.presence.room_with_place(room, &self.config.limits)?;
        self.announce(session, &name);
        self.presence.enter(&name, Member { session, id: self.sessions.live(session).id });
        self.sessions.live_mut(session).enter_room(name);
        Ok(())
    }

    /// Tells the members of a room of a newcomer, and the newcomer of them. Several sessions of one
    /// id count as one.
    fn announce(&mut self, session: SessionId, room: &Arc<str>) {
        let joiner = self.sessions.live(session);
        let members = self.presence.members(room);
        let is_new = members.iter().all(|member| member.id != joiner.id);
        let mut told = BTreeSet::from([joiner.id]);
        for member in members {
            if is_new {
                let link = self.sessions.live(member.session).link;
                self.outbox.tell(&mut self.stats, link, joiner.id, true, room);
            }
            if told.insert(member.id) {
                self.outbox.tell(&mut self.stats, joiner.link, member.id, true, room);
            }
        }
    }

    pub(super) fn leave_rooms(&mut self, session: SessionId) {
        let leaver = self.sessions.live_mut(session);
        let id = leaver.id;
        for room in leaver.leave_rooms() {
            self.presence.leave(&room, session);
            let members = self.presence.members(&room);
            if members.iter().any(|member| member.id == id) {
                continue;
            }
            for member in members {
                let link = self.sessions.live(member.session).link;
                self.outbox.tell(&mut self.stats, link, id, false, &room);
            }
        }
    }
}

impl Outbox {
    fn tell(&mut self, stats: &mut Stats, link: LinkId, peer: PeerId, online: bool, room: &str) {
        stats.presence_messages += 1;
        self.send(link, Message::Presence { peer, online, room: room.to_owned() });
    }
}

impl Presence {
    pub(super) fn watches(&self) -> usize {
        self.watches
    }

    pub(super) fn rooms(&self) -> usize {
        self.rooms.len()
    }

    /// Adds a watcher, if there is room. It is none yet.
    fn watch(&mut self, peer: PeerId, watcher: SessionId, limits: &Limits) -> bool {
        let count = self.watchers.get(&peer).map_or(0, Vec::len);
        if count >= limits.watchers_per_peer || self.watches >= limits.watches {
            return false;
        }
        self.watchers.entry(peer).or_default().push(watcher);
        self.watches += 1;
        true
    }

    /// Removes a watcher; one that has lost its place is none any more.
    fn unwatch(&mut self, peer: &PeerId, watcher: SessionId) {
        let Some(watchers) = self.watchers.get_mut(peer) else { return };
        if let Some(place) = watchers.iter().position(|each| *each == watcher) {
            watchers.swap_remove(place);
            self.watches -= 1;
        }
        if watchers.is_empty() {
            self.watchers.remove(peer);
        }
    }

    /// The name of a room in which there is a place for one more; the room may be new.
    fn room_with_place(&self, room: &str, limits: &Limits) -> Result<Arc<str>, RefusalCode> {
        match self.rooms.get_key_value(room) {
            Some((_, members)) if members.len() >= limits.room_members => Err(RefusalCode::Busy),
            Some((name, _)) => Ok(Arc::clone(name)),
            None if self.rooms.len() >= limits.rooms => Err(RefusalCode::Busy),
            None => Ok(Arc::from(room)),
        }
    }

    fn members(&self, room: &str) -> &[Member] {
        self.rooms.get(room).map_or(&[], Vec::as_slice)
    }

    fn enter(&mut self, room: &Arc<str>, member: Member) {
        self.rooms.entry(Arc::clone(room)).or_default().push(member);
    }

    fn leave(&mut self, room: &Arc<str>, session: SessionId) {
        let Some(members) = self.rooms.get_mut(room) else { return };
        members.retain(|member| member.session != session);
        if members.is_empty() {
            self.rooms.remove(room);
        }
    }

    #[cfg(test)]
    pub(super) fn check(&self, sessions: &super::sessions::Sessions) {
        for (peer, watchers) in &self.watchers {
            assert!(!watchers.is_empty());
            let distinct: BTreeSet<_> = watchers.iter().collect();
            assert_eq!(distinct.len(), watchers.len());
            assert!(watchers.iter().all(|id| sessions.live(*id).watching().contains(peer)));
        }
        assert_eq!(self.watches, self.watchers.values().map(Vec::len).sum::<usize>());
        for (room, members) in &self.rooms {
            assert!(!members.is_empty());
            assert!(members.iter().all(|it| sessions.live(it.session).rooms().contains(room)));
        }
        let joined: usize = sessions.iter().map(|session| session.rooms().len()).sum();
        assert_eq!(joined, self.rooms.values().map(Vec::len).sum::<usize>());
    }
}

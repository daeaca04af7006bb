//! Who is logged in: a slab of sessions, and the place of each peer id.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use super::LinkId;
use super::consent::Consent;
use super::table::{IntroductionId, Source};
use crate::identity::{PeerId, PublicKey};
use crate::limits;
use crate::proto::punch::strategy::where_port_mapped;
use crate::wire::message::{Login, Nat, Nonce};

/// A login. The id of one that has ended is recognised and means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId {
    index: u32,
    generation: u32,
}

impl SessionId {
    pub(super) fn to_bytes(self) -> [u8; 8] {
        ((u64::from(self.index) << 32) | u64::from(self.generation)).to_be_bytes()
    }

    pub(super) fn from_bytes(bytes: [u8; 8]) -> Self {
        let both = u64::from_be_bytes(bytes);
        Self { index: (both >> 32) as u32, generation: both as u32 }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.generation)
    }
}

/// A hole that a session opened unasked.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnHole {
    pub(super) tag: u64,
    pub(super) local_port: u16,
    pub(super) mapped: SocketAddr,
    /// The address of S that its connection goes to.
    pub(super) at: IpAddr,
}

/// What S keeps of a login: 216 bytes, and a few short lists that most don't have. `gimlet-bench memory` says
/// what that comes to, with the tables.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) link: LinkId,
    pub(super) key: PublicKey,
    pub(super) id: PeerId,
    pub(super) nonce: Nonce,
    pub(super) reachable: bool,
    pub(super) nat: Nat,
    /// Local port of the main connection; 0 if it doesn't listen.
    pub(super) local_port: u16,
    /// Where the main connection comes from.
    pub(super) observed: SocketAddr,
    /// Where else the main port may be reached; most peers have no such place.
    pub(super) elsewhere: Option<Box<Elsewhere>>,
    /// Round trip to the peer, measured by the handshake.
    pub(super) round_trip: Micros,
    pub(super) hosts: Box<[IpAddr]>,
    pub(super) consent: Consent,
    /// What most sessions have nothing of.
    extras: Option<Box<Extras>>,
    /// Those in progress of which it is a side.
    pub(super) introductions: BTreeSet<IntroductionId>,
    pub(super) unknown_messages: u32,
    generation: u32,
}

impl Session {
    pub(super) fn new(
        link: LinkId,
        observed: SocketAddr,
        key: PublicKey,
        id: PeerId,
        login: Login,
        round_trip: Duration,
    ) -> Self {
        Self {
            link,
            key,
            id,
            nonce: login.nonce,
            reachable: login.reachable,
            nat: login.nat,
            local_port: login.local_port,
            observed,
            elsewhere: None,
            round_trip: Micros::of(round_trip),
            hosts: bounded_hosts(login.hosts),
            consent: Consent::of(login.allow),
            extras: None,
            introductions: BTreeSet::new(),
            unknown_messages: 0,
            generation: 0,
        }
    }

    /// Whether its main port can be reached at all.
    pub(super) fn listens(&self) -> bool {
        self.local_port != 0
    }

    /// A hole that the session opened unasked has shown. Too many, and the oldest is forgotten.
    pub(super) fn keep_hole(&mut self, hole: OwnHole) {
        let holes = &mut self.extras.get_or_insert_default().own_holes;
        holes.retain(|other| other.tag != hole.tag);
        if holes.len() >= limits::SPARE_HOLES {
            holes.remove(0);
        }
        holes.push(hole);
    }

    /// A hole that it opened unasked and that no request has named yet.
    pub(super) fn own_hole(&self, tag: u64) -> Option<OwnHole> {
        self.extras.as_ref()?.own_holes.iter().find(|hole| hole.tag == tag).copied()
    }

    /// The hole that a request names: as it has shown, or still awaited. It serves once.
    pub(super) fn take_hole(&mut self, tag: u64) -> Source {
        let Some(OwnHole { local_port, mapped, .. }) = self.own_hole(tag) else {
            return Source::Awaited { tag, probes: 1 };
        };
        self.change_extras(|extras| extras.own_holes.retain(|hole| hole.tag != tag));
        Source::Hole { tag, local_port, mapped }
    }

    /// Whom it watches. It may have lost its place as a watcher to somebody whom the peer knows.
    #[cfg(test)]
    pub(super) fn watching(&self) -> &[PeerId] {
        self.extras.as_ref().map_or(&[], |extras| &extras.watching)
    }

    /// It watches these now; returns whom it watched before.
    pub(super) fn watch(&mut self, mut peers: Vec<PeerId>) -> Vec<PeerId> {
        peers.shrink_to_fit();
        self.change_extras(|extras| std::mem::replace(&mut extras.watching, peers))
    }

    /// The rooms that it is in.
    pub(super) fn rooms(&self) -> &[Arc<str>] {
        self.extras.as_ref().map_or(&[], |extras| &extras.rooms)
    }

    pub(super) fn enter_room(&mut self, room: Arc<str>) {
        self.extras.get_or_insert_default().rooms.push(room);
    }

    /// It leaves all rooms; returns which.
    pub(super) fn leave_rooms(&mut self) -> Vec<Arc<str>> {
        self.change_extras(|extras| std::mem::take(&mut extras.rooms))
    }

    fn change_extras<T>(&mut self, change: impl FnOnce(&mut Extras) -> T) -> T {
        let mut extras = self.extras.take().unwrap_or_default();
        let result = change(&mut extras);
        self.extras = (!extras.is_empty()).then_some(extras);
        result
    }

    pub(super) fn update(
        &mut self,
        hosts: Vec<IpAddr>,
        mapped: Vec<SocketAddr>,
        pool: Vec<IpAddr>,
    ) {
        self.hosts = bounded_hosts(hosts);
        let observed_too = self.elsewhere.take().and_then(|elsewhere| elsewhere.observed_too);
        self.elsewhere = Elsewhere { observed_too, mapped, pool }.boxed();
    }

    /// What to plan a round with. A router that was asked to let others in makes it easy, in the first
    /// round: it may not have told the truth.
    pub(super) fn nat_for(&self, round: u8) -> Nat {
        let is_mapped =
            self.elsewhere.as_ref().is_some_and(|elsewhere| !elsewhere.mapped.is_empty());
        match is_mapped && round == 1 {
            true => where_port_mapped(self.nat),
            false => self.nat,
        }
    }

    /// Addresses that its NAT may hand out, the observed one apart.
    pub(super) fn pool(&self) -> &[IpAddr] {
        self.elsewhere.as_ref().map_or(&[], |elsewhere| &elsewhere.pool)
    }

    /// The main port was seen from another place: kept if it is of the other address family.
    pub(super) fn learn_mapped(&mut self, mapped: SocketAddr) {
        if mapped.is_ipv4() != self.observed.is_ipv4() {
            self.elsewhere.get_or_insert_default().observed_too = Some(mapped);
        }
    }
}

/// Lists of a session that are empty in most.
#[derive(Debug, Default)]
struct Extras {
    /// Holes that it opened unasked and that no request has named yet, the oldest first.
    own_holes: Vec<OwnHole>,
    watching: Vec<PeerId>,
    rooms: Vec<Arc<str>>,
}

impl Extras {
    fn is_empty(&self) -> bool {
        self.own_holes.is_empty() && self.watching.is_empty() && self.rooms.is_empty()
    }
}

/// Places beside the observed endpoint at which a main port may be reached.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// Where it seems to be in the other address family. Never of the observed endpoint's family.
    pub(super) observed_too: Option<SocketAddr>,
    /// Where routers map it because they were asked to.
    pub(super) mapped: Vec<SocketAddr>,
    /// Further addresses of its NAT.
    pub(super) pool: Vec<IpAddr>,
}

impl Elsewhere {
    fn boxed(mut self) -> Option<Box<Self>> {
        self.mapped.truncate(limits::MAPPED_ENDPOINTS);
        self.pool.truncate(limits::POOL_ADDRESSES);
        let nowhere = self.observed_too.is_none() && self.mapped.is_empty() && self.pool.is_empty();
        (!nowhere).then(|| Box::new(self))
    }
}

fn bounded_hosts(mut hosts: Vec<IpAddr>) -> Box<[IpAddr]> {
    hosts.truncate(limits::HOST_ADDRESSES);
    hosts.into_boxed_slice()
}

/// A time in microseconds, in four bytes: up to 71 minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Micros(pub(super) u32);

impl Micros {
    pub(super) fn of(time: Duration) -> Self {
        Self(u32::try_from(time.as_micros()).unwrap_or(u32::MAX))
    }
}

/// What is logged in under one peer id.
#[derive(Debug, Default)]
struct Place {
    /// Its index: the session itself has the rest of its id.
    reachable: Option<u32>,
    callers: u32,
}

/// All sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    slab: Slab<Session>,
    places: HashMap<PeerId, Place>,
    /// Counts logins: no two sessions of one slot have the same.
    generation: u32,
}

impl Sessions {
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn get(&self, id: SessionId) -> Option<&Session> {
        self.slab.get(id.index as usize).filter(|session| session.generation == id.generation)
    }

    pub(super) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.slab.get_mut(id.index as usize).filter(|session| session.generation == id.generation)
    }

    /// A session that is named by an introduction, a room or a watch: a session takes leave of these
    /// before it goes, so it is there.
    pub(super) fn live(&self, id: SessionId) -> &Session {
        self.get(id).expect("what names a session ends before it")
    }

    /// As [`Self::live`].
    pub(super) fn live_mut(&mut self, id: SessionId) -> &mut Session {
        self.get_mut(id).expect("what names a session ends before it")
    }

    /// The session in which others reach a peer.
    pub(super) fn reachable(&self, peer: &PeerId) -> Option<SessionId> {
        let index = self.places.get(peer)?.reachable?;
        Some(SessionId { index, generation: self.slab[index as usize].generation })
    }

    /// How many sessions of a peer only call.
    pub(super) fn callers(&self, peer: &PeerId) -> usize {
        self.places.get(peer).map_or(0, |place| place.callers as usize)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Session> {
        self.slab.iter().map(|(_, session)| session)
    }

    pub(super) fn ids(&self) -> Vec<SessionId> {
        let id = |(index, session): (usize, &Session)| SessionId {
            index: index as u32,
            generation: session.generation,
        };
        self.slab.iter().map(id).collect()
    }

    pub(super) fn insert(&mut self, mut session: Session) -> SessionId {
        self.generation = self.generation.wrapping_add(1);
        session.generation = self.generation;
        let (peer, reachable) = (session.id, session.reachable);
        let index = self.slab.insert(session) as u32;
        let id = SessionId { index, generation: self.generation };
        let place = self.places.entry(peer).or_default();
        if reachable {
            debug_assert!(place.reachable.is_none(), "an earlier session is removed first");
            place.reachable = Some(index);
        } else {
            place.callers += 1;
        }
        id
    }

    pub(super) fn remove(&mut self, id: SessionId) -> Option<Session> {
        self.get(id)?;
        let session = self.slab.remove(id.index as usize);
        let place = self.places.get_mut(&session.id).expect("each session has a place");
        if session.reachable {
            debug_assert_eq!(place.reachable, Some(id.index));
            place.reachable = None;
        } else {
            place.callers -= 1;
        }
        if place.reachable.is_none() && place.callers == 0 {
            self.places.remove(&session.id);
        }
        Some(session)
    }

    pub(super) fn clear(&mut self) {
        self.slab.clear();
        self.places.clear();
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut callers = 0;
        for (peer, place) in &self.places {
            callers += place.callers as usize;
            assert!(place.reachable.is_some() || place.callers > 0);
            if let Some(index) = place.reachable {
                let session = &self.slab[index as usize];
                assert!(session.reachable && session.id == *peer);
            }
        }
        let reachable = self.places.values().filter(|place| place.reachable.is_some()).count();
        assert_eq!(self.len(), callers + reachable);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_is_small() {
        assert!(size_of::<(PeerId, Place)>() <= 28);
        assert!(size_of::<Session>() <= 216, "{}", size_of::<Session>());
    }
}

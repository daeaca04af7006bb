//! The punches of a peer: asked for, released, ended.

mod requests;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Instant;

use slab::Slab;

use super::{Action, Due, Event, Peer, State};
use crate::identity::PeerId;
use crate::limits;
use crate::proto::punch::candidates::OwnAddresses;
use crate::proto::punch::{
    Action as PunchAction, ConnId, DialError, Outcome, PathError, Preference, Punch, PunchError,
};
use crate::wire::message::{Message, Port, Release, Role, RoundResult, Token};
use crate::wire::noise::PathContext;
use crate::wire::refusal::RefusalCode;
use crate::wire::stun::Join;

/// How many introductions a peer remembers, to recognise a replayed one. Older ones count as seen.
const SEEN_INTRODUCTIONS: usize = 4096;

/// A punch of a peer. An id whose punch has ended is recognised and means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PunchId {
    index: u32,
    generation: u32,
}

#[derive(Debug)]
struct Entry {
    punch: Punch,
    generation: u32,
    peer: PeerId,
    /// The number of our request; 0 when we are the controlled.
    request: u32,
    /// The request is out, or is waiting for a login.
    sent: bool,
    /// What the release said.
    introduction: Option<(u64, Token)>,
    /// The login in which it was released: introductions are counted anew after each.
    login: u64,
    context: Option<PathContext>,
    holes: Vec<u64>,
    /// Whether the main port was used: it rests for a while then.
    used_main: bool,
    /// The timer that is set for the punch's own timeout.
    armed: Option<Instant>,
    /// The targets under which an accepted connection is recognised.
    indexed: Vec<(Port, SocketAddr)>,
    targets_seen: usize,
}

#[derive(Debug, Default)]
pub(super) struct Punches {
    entries: Slab<Entry>,
    generation: u32,
    last_request: u32,
    by_request: HashMap<u32, PunchId>,
    by_token: HashMap<Token, PunchId>,
    by_target: HashMap<(Port, SocketAddr), PunchId>,
    /// Punches that were touched and must be looked at before the driver is.
    touched: Vec<PunchId>,
    seen: BTreeSet<u64>,
    /// Introductions up to this one count as seen.
    seen_floor: u64,
}

impl Punches {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// A new login: introductions are counted anew.
    pub(super) fn forget_introductions(&mut self) {
        self.seen.clear();
        self.seen_floor = 0;
    }

    /// The rendezvous is lost: what it has not released must be asked for again. Returns the tags of
    /// the holes that were meant for it.
    /// Whether a request waits for a login.
    pub(super) fn are_waiting(&self) -> bool {
        self.entries.iter().any(|(_, entry)| !entry.sent && entry.request != 0)
    }

    fn forget_sent(&mut self) -> Vec<u64> {
        let mut holes = Vec::new();
        for (_, entry) in &mut self.entries {
            if entry.introduction.is_none() {
                entry.sent = false;
                holes.append(&mut entry.holes);
            }
        }
        holes
    }

    fn get(&mut self, id: PunchId) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(id.index as usize)?;
        (entry.generation == id.generation).then_some(entry)
    }

    fn peek(&self, id: PunchId) -> Option<&Entry> {
        let entry = self.entries.get(id.index as usize)?;
        (entry.generation == id.generation).then_some(entry)
    }

    fn insert(&mut self, punch: Punch, peer: PeerId, request: u32) -> PunchId {
        self.generation = self.generation.wrapping_add(1);
        let index = self.entries.insert(Entry {
            punch,
            generation: self.generation,
            peer,
            request,
            sent: false,
            introduction: None,
            login: 0,
            context: None,
            holes: Vec::new(),
            used_main: false,
            armed: None,
            indexed: Vec::new(),
            targets_seen: 0,
        });
        let id = PunchId { index: index as u32, generation: self.generation };
        self.touched.push(id);
        id
    }

    /// Whether this introduction is seen for the first time in this login.
    fn is_new(&mut self, introduction: u64) -> bool {
        if introduction <= self.seen_floor || !self.seen.insert(introduction) {
            return false;
        }
        if self.seen.len() > SEEN_INTRODUCTIONS {
            self.seen_floor = self.seen.pop_first().expect("it holds many");
        }
        true
    }
}

impl Peer {
    // ---- commands ----

    /// Asks for a connection to `peer`. The answer is an [`Event::Ended`].
    ///
    /// # Errors
    /// [`PunchError::TooMany`] when [`limits::PUNCHES`] are in progress, and
    /// [`PunchError::RendezvousLost`] when the peer is stopped.
    pub fn connect(
        &mut self,
        peer: PeerId,
        preference: Preference,
        now: Instant,
    ) -> Result<PunchId, PunchError> {
        if self.state == State::Stopped {
            return Err(PunchError::RendezvousLost);
        }
        if self.punches.len() >= limits::PUNCHES {
            return Err(PunchError::TooMany);
        }
        let request = self.next_request();
        let (mapping, seed) = (self.nat.mapping, self.random.u64(..));
        let punch = Punch::new(peer, Role::Controller, preference, mapping, seed, now);
        let id = self.punches.insert(punch, peer, request);
        self.punches.by_request.insert(request, id);
        self.timers.set(now + limits::REQUEST_TIME, Due::Request(id));
        self.ask(id, now);
        self.settle(now);
        Ok(id)
    }

    /// Takes a request back, or ends a punch.
    pub fn cancel(&mut self, id: PunchId, now: Instant) {
        if let Some(entry) = self.punches.get(id) {
            entry.punch.cancel(now);
            self.touch(id, now);
        }
    }

    // ---- getters ----

    /// What a connection of this punch is proved with, once it is released.
    pub fn path_context(&self, id: PunchId) -> Option<&PathContext> {
        self.punches.peek(id)?.context.as_ref()
    }

    /// What to join the relay of a punch with.
    pub fn relay_join(&self, id: PunchId) -> Option<Join> {
        let entry = self.punches.peek(id)?;
        let (introduction, token) = entry.introduction.filter(|_| entry.login == self.logins)?;
        let session = self.main.welcome.as_ref()?.token;
        Some(Join { session, introduction, token, role: entry.punch.role() })
    }

    /// The other peer of a punch.
    pub fn punch_peer(&self, id: PunchId) -> Option<PeerId> {
        Some(self.punches.peek(id)?.peer)
    }

    /// Which side of a punch we are.
    pub fn punch_role(&self, id: PunchId) -> Option<Role> {
        Some(self.punches.peek(id)?.punch.role())
    }

    /// Controlled: whether an offer may be answered now. If not, hold it.
    pub fn may_answer(&self, id: PunchId) -> bool {
        self.punches.peek(id).is_some_and(|entry| entry.punch.may_answer())
    }

    /// Whether a claim or an offer belongs to this punch.
    pub fn belongs(&self, id: PunchId, introduction: u64, token: &Token) -> bool {
        self.punches
            .peek(id)
            .is_some_and(|entry| entry.introduction == Some((introduction, *token)))
    }

    // ---- events of connections ----

    /// A listener accepted a connection: does it come from where a punch dials?
    pub fn handle_accepted(
        &mut self,
        port: Port,
        local: SocketAddr,
        remote: SocketAddr,
        now: Instant,
    ) -> Option<(PunchId, ConnId)> {
        let id = *self.punches.by_target.get(&(port, remote))?;
        self.adopt(id, local, remote, now)
    }

    /// An accepted connection says which punch it belongs to: with a claim when we are the controller,
    /// with an offer when we are the controlled.
    pub fn handle_claimed(
        &mut self,
        role: Role,
        introduction: u64,
        token: &Token,
        local: SocketAddr,
        remote: SocketAddr,
        now: Instant,
    ) -> Option<(PunchId, ConnId)> {
        let id = *self.punches.by_token.get(token)?;
        let entry = self.punches.peek(id)?;
        let fits = entry.introduction.is_some_and(|(number, _)| number == introduction);
        if !fits || entry.punch.role() != role {
            return None;
        }
        self.adopt(id, local, remote, now)
    }

    fn adopt(
        &mut self,
        id: PunchId,
        local: SocketAddr,
        remote: SocketAddr,
        now: Instant,
    ) -> Option<(PunchId, ConnId)> {
        let conn = self.punches.get(id)?.punch.handle_accepted(local, remote, now)?;
        self.touch(id, now);
        Some((id, conn))
    }

    /// A dial connected.
    pub fn handle_established(
        &mut self,
        id: PunchId,
        conn: ConnId,
        local: SocketAddr,
        remote: SocketAddr,
        now: Instant,
    ) {
        self.with_punch(id, now, |punch| punch.handle_established(conn, local, remote, now));
    }

    /// A dial failed.
    pub fn handle_dial_failed(
        &mut self,
        id: PunchId,
        conn: ConnId,
        error: DialError,
        now: Instant,
    ) {
        self.with_punch(id, now, |punch| punch.handle_dial_failed(conn, error, now));
    }

    /// A connection that stood is gone.
    pub fn handle_path_lost(&mut self, id: PunchId, conn: ConnId, error: PathError, now: Instant) {
        self.with_punch(id, now, |punch| punch.handle_path_lost(conn, error, now));
    }

    /// Controlled: an offer waits.
    pub fn handle_offer_held(&mut self, id: PunchId, conn: ConnId, now: Instant) {
        self.with_punch(id, now, |punch| punch.handle_offer_held(conn));
    }

    /// The handshake on a connection is complete. Says whether it is still wanted.
    pub fn handle_proved(&mut self, id: PunchId, conn: ConnId, now: Instant) -> bool {
        let Some(entry) = self.punches.get(id) else { return false };
        let wanted = entry.punch.handle_proved(conn, now);
        self.touch(id, now);
        wanted
    }

    /// Controlled: the controller's first record has come.
    pub fn handle_confirmed(&mut self, id: PunchId, conn: ConnId, now: Instant) {
        self.with_punch(id, now, |punch| punch.handle_confirmed(conn, now));
    }

    fn with_punch(&mut self, id: PunchId, now: Instant, change: impl FnOnce(&mut Punch)) {
        if let Some(entry) = self.punches.get(id) {
            change(&mut entry.punch);
            self.touch(id, now);
        }
    }

    // ---- what S says ----

    pub(super) fn handle_cancelled(&mut self, introduction: u64, code: RefusalCode, now: Instant) {
        let error = match code {
            RefusalCode::NoConnection => PunchError::NoConnection,
            code => PunchError::Refused(code),
        };
        self.with_introduction(introduction, now, |punch| punch.fail(error, now));
    }

    /// Changes the punch of an introduction of this login, if there is one.
    pub(super) fn with_introduction(
        &mut self,
        introduction: u64,
        now: Instant,
        change: impl FnOnce(&mut Punch),
    ) {
        let found = self.punches.entries.iter().find(|(_, entry)| {
            entry.login == self.logins
                && entry.introduction.is_some_and(|(number, _)| number == introduction)
        });
        let Some((index, entry)) = found else { return };
        let id = PunchId { index: index as u32, generation: entry.generation };
        self.with_punch(id, now, change);
    }

    pub(super) fn handle_release(&mut self, release: &Release, now: Instant) {
        let Some(id) = self.punch_of(release, now) else {
            return self.give_up(release);
        };
        if let Port::Hole(tag) = release.from {
            self.adopt_hole(tag, id);
            if !self.has_hole(tag) {
                log::debug!("release names a hole that is gone: tag={tag:#x}");
            }
        }
        let own = OwnAddresses {
            hosts: self.main.hosts.clone(),
            observed: self.main.observed,
            pool: self.pool.clone(),
            local_port: self.main.local_port,
        };
        let sockets = self.config.sockets / self.punches.len().max(1);
        let relay = release.relay.and_then(|relay| self.reachable_endpoint(relay));
        let entry = self.punches.get(id).expect("it was found above");
        if let Port::Hole(tag) = release.from
            && !entry.holes.contains(&tag)
        {
            entry.holes.push(tag);
        }
        let peer = entry.peer;
        entry.punch.set_mapping(self.nat.mapping);
        entry.punch.handle_relay_offered(relay, release.hopeful);
        if entry.punch.handle_release(release, own, sockets, now) {
            if release.from == Port::Main {
                self.rest_main_port(peer, now);
            }
            self.actions.push_back(Action::Introduced { punch: id });
            self.events.push_back(Event::Released { punch: id, peer, round: release.round });
        }
        self.touch(id, now);
    }

    /// The punch that a release is for; for the controlled, a new one if it consents.
    fn punch_of(&mut self, release: &Release, now: Instant) -> Option<PunchId> {
        let peer = PeerId::of(&release.key);
        if let Some(id) = self.punches.by_token.get(&release.token).copied() {
            let entry = self.punches.peek(id)?;
            let same = entry.peer == peer && entry.punch.role() == release.role;
            return same.then_some(id);
        }
        let id = match release.role {
            Role::Controller => self.asked_punch(release, peer, now)?,
            Role::Controlled => self.new_controlled(release, peer, now)?,
        };
        let login = self.logins;
        let entry = self.punches.get(id)?;
        entry.introduction = Some((release.introduction, release.token));
        entry.login = login;
        entry.context = Some(PathContext {
            introduction: release.introduction,
            token: release.token,
            nonce: release.nonce,
            remote: release.key,
        });
        self.punches.by_token.insert(release.token, id);
        Some(id)
    }

    fn asked_punch(&mut self, release: &Release, peer: PeerId, now: Instant) -> Option<PunchId> {
        let id = *self.punches.by_request.get(&release.request)?;
        let entry = self.punches.get(id)?;
        if entry.introduction.is_some() {
            return None;
        }
        if entry.peer != peer {
            entry.punch.fail(PunchError::WrongPeer, now);
            self.touch(id, now);
            return None;
        }
        Some(id)
    }

    /// The rendezvous has checked our consent; we check it again, and that the introduction is not an
    /// old one played again.
    fn new_controlled(&mut self, release: &Release, peer: PeerId, now: Instant) -> Option<PunchId> {
        let consents = self.config.allow.permits(&peer) && release.nonce == self.main.nonce;
        if !consents
            || self.punches.len() >= limits::PUNCHES
            || !self.punches.is_new(release.introduction)
        {
            log::warn!("introduction {} of {peer} is declined", release.introduction);
            return None;
        }
        let (mapping, seed) = (self.nat.mapping, self.random.u64(..));
        let punch = Punch::new(peer, Role::Controlled, Preference::Any, mapping, seed, now);
        Some(self.punches.insert(punch, peer, 0))
    }

    fn give_up(&mut self, release: &Release) {
        if let Port::Hole(tag) = release.from {
            self.close_hole(tag);
        }
        self.send(Message::Outcome {
            introduction: release.introduction,
            round: release.round,
            result: RoundResult::GivenUp,
        });
    }

    // ---- after each change ----

    pub(super) fn expire_punch(&mut self, id: PunchId, at: Instant, now: Instant) {
        let Some(entry) = self.punches.get(id) else { return };
        if entry.armed == Some(at) {
            entry.armed = None;
            entry.punch.handle_timeout(now);
            self.touch(id, now);
        }
    }

    fn touch(&mut self, id: PunchId, now: Instant) {
        self.punches.touched.push(id);
        self.settle(now);
    }

    /// Hands on what the touched punches want, sets their timers, and takes leave of those that ended.
    pub(super) fn settle(&mut self, now: Instant) {
        while let Some(id) = self.punches.touched.pop() {
            self.drain_punch(id);
            self.index_targets(id);
            self.arm(id);
            if self.punches.peek(id).is_some_and(|entry| entry.punch.is_ended()) {
                self.take_leave(id, now);
            }
        }
    }

    fn drain_punch(&mut self, id: PunchId) {
        let login = self.logins;
        let Some(entry) = self.punches.get(id) else { return };
        let current = entry.login == login;
        let introduction = entry.introduction.map(|(number, _)| number).filter(|_| current);
        let mut outcomes = Vec::new();
        while let Some(action) = entry.punch.poll_action() {
            match (action, introduction) {
                (PunchAction::RoundOver(round), Some(introduction)) => {
                    let result = RoundResult::Failed;
                    outcomes.push(Message::Outcome { introduction, round, result });
                }
                (PunchAction::RoundOver(_), None) => {}
                (action, _) => {
                    let dials = matches!(action, PunchAction::Dial { .. });
                    self.look.count_mappings(dials.into());
                    self.actions.push_back(Action::Punch { punch: id, action });
                }
            }
        }
        for outcome in outcomes {
            self.send_if_logged_in(outcome);
        }
    }

    /// The controller recognises a connection that it accepts by where it comes from; the controlled
    /// waits for the offer in any case.
    fn index_targets(&mut self, id: PunchId) {
        let Some(entry) = self.punches.entries.get_mut(id.index as usize) else { return };
        if entry.generation != id.generation || entry.punch.role() != Role::Controller {
            return;
        }
        for (port, address) in entry.punch.targets().skip(entry.targets_seen) {
            entry.targets_seen += 1;
            let Some(port) = port else { continue };
            self.punches.by_target.entry((port, address)).or_insert(id);
            entry.indexed.push((port, address));
        }
    }

    fn arm(&mut self, id: PunchId) {
        let Some(entry) = self.punches.get(id) else { return };
        let next = entry.punch.poll_timeout();
        if entry.armed == next {
            return;
        }
        let armed = std::mem::replace(&mut entry.armed, next);
        if let Some(at) = armed {
            self.timers.clear(at, Due::Punch(id));
        }
        if let Some(at) = next {
            self.timers.set(at, Due::Punch(id));
        }
    }

    fn take_leave(&mut self, id: PunchId, now: Instant) {
        let entry = self.punches.entries.remove(id.index as usize);
        self.punches.by_request.remove(&entry.request);
        if let Some((introduction, token)) = entry.introduction {
            self.punches.by_token.remove(&token);
            if entry.login == self.logins {
                self.tell_outcome(&entry, introduction);
            }
        }
        for target in &entry.indexed {
            if self.punches.by_target.get(target) == Some(&id) {
                self.punches.by_target.remove(target);
            }
        }
        for tag in entry.holes {
            self.close_hole(tag);
        }
        if entry.used_main {
            self.rest_main_port(entry.peer, now);
        }
        let mut report = Box::new(entry.punch.report().clone());
        // Of a cold start, the probes come in while the punch is on.
        report.mapping = self.nat.mapping;
        log::info!(
            "punch peer={} role={:?} outcome={:?} elapsed={:?}",
            report.peer,
            report.role,
            report.outcome,
            report.elapsed
        );
        self.events.push_back(Event::Ended { punch: id, report });
    }

    fn tell_outcome(&mut self, entry: &Entry, introduction: u64) {
        let leads = entry.punch.role() == Role::Controller;
        let result = match entry.punch.report().outcome {
            // The controller speaks for both.
            Outcome::Connected(winner) if leads && winner.is_relayed() => RoundResult::Relayed,
            Outcome::Connected(_) if leads => RoundResult::Connected,
            Outcome::Failed(PunchError::Cancelled) => RoundResult::GivenUp,
            // It had no rounds whose end it could have told.
            Outcome::Failed(PunchError::NoConnection)
                if entry.punch.preference() == Preference::RelayOnly =>
            {
                RoundResult::GivenUp
            }
            _ => return,
        };
        let round = entry.punch.round();
        self.send_if_logged_in(Message::Outcome { introduction, round, result });
    }

    fn send_if_logged_in(&mut self, message: Message) {
        if self.may_ask() {
            self.send(message);
        }
    }
}

//! Two peers are brought together: asked, gathered, released, ended.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::memory::Network;
use super::release::compose;
use super::sessions::{OwnHole, SessionId};
use super::stats::Outcome;
use super::table::{
    Course, Due, Introduction, IntroductionId, PREDICTION_PROBES, ROLES, Side, Source, chosen_tag,
    other,
};
use super::{ProbeVerdict, Rendezvous};
use crate::identity::PeerId;
use crate::limits;
use crate::proto::nat::NatClass;
use crate::proto::punch::strategy::{PortPlan, RoundPlan, plan};
use crate::wire::message::{CHOSEN_BY_SERVER, Message, Port, Role, RoundResult};
use crate::wire::refusal::RefusalCode;
use crate::wire::stun::Probe;

/// How an introduction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Connected,
    Relayed,
    /// All rounds failed.
    Failed,
    TimedOut,
    /// By this side.
    GivenUp(Role),
    /// The session of this side is gone.
    Vanished(Role),
}

impl Ending {
    fn outcome(self) -> Outcome {
        match self {
            Self::Connected => Outcome::Connected,
            Self::Relayed => Outcome::Relayed,
            Self::Failed => Outcome::Failed,
            Self::TimedOut => Outcome::TimedOut,
            Self::GivenUp(_) => Outcome::GivenUp,
            Self::Vanished(_) => Outcome::Abandoned,
        }
    }
}

/// A request for an introduction.
#[derive(Clone, Copy)]
pub(super) struct Request {
    pub(super) number: u32,
    pub(super) peer: PeerId,
    pub(super) from: Port,
}

impl Rendezvous {
    pub(super) fn handle_introduce(&mut self, asker: SessionId, request: Request, now: Instant) {
        match self.check_request(asker, request) {
            Ok(controlled) => self.introduce(asker, controlled, request, now),
            Err(code) => self.refuse(asker, request.number, code),
        }
    }

    /// The session to introduce the asker to. What is asked of others comes after the consent, so
    /// that a stranger's answer depends on nothing that it must not learn.
    fn check_request(&self, asker: SessionId, request: Request) -> Result<SessionId, RefusalCode> {
        let me = self.sessions.live(asker);
        if request.number == 0 || self.introductions.has_request(asker, request.number) {
            return Err(RefusalCode::Protocol);
        }
        if let Port::Hole(tag) = request.from
            && (is_not_its_own(tag) || self.introductions.has_own_hole(asker, tag))
        {
            return Err(RefusalCode::Protocol);
        }
        if me.id == request.peer {
            return Err(RefusalCode::Yourself);
        }
        if self.is_draining() {
            return Err(RefusalCode::Draining);
        }
        if self.is_full(asker) {
            return Err(RefusalCode::Busy);
        }
        let controlled = self.consenting_session(&request.peer, &me.id)?;
        if self.is_full(controlled) || self.introductions.len() >= self.config.limits.introductions
        {
            return Err(RefusalCode::Busy);
        }
        Ok(controlled)
    }

    fn is_full(&self, session: SessionId) -> bool {
        let limit = self.config.limits.introductions_per_session;
        self.sessions.live(session).introductions.len() >= limit
    }

    /// "Online, and doesn't allow you" and "never heard of" are one answer.
    fn consenting_session(&self, peer: &PeerId, asker: &PeerId) -> Result<SessionId, RefusalCode> {
        if let Some(id) = self.sessions.reachable(peer) {
            let permits = self.sessions.live(id).consent.permits(asker);
            return permits.then_some(id).ok_or(RefusalCode::NotAllowed);
        }
        match self.departed.get(peer) {
            Some(consent) if consent.permits(asker) => Err(RefusalCode::Offline),
            _ => Err(RefusalCode::NotAllowed),
        }
    }

    fn introduce(
        &mut self,
        controller: SessionId,
        controlled: SessionId,
        request: Request,
        now: Instant,
    ) {
        let id = self.introductions.next_id();
        let networks = [controller, controlled].map(|session| self.network(session));
        let first_rung = self.networks.rung(networks[0], networks[1], now);
        let plan = self.plan(controller, controlled, 1, first_rung);
        let sides = self.first_round(id, controller, controlled, request, plan);
        let token = self.tokens.of_introduction(id);
        let late = now + self.config.limits.hole_time;
        let deadline = now + self.config.limits.introduction_time;
        let course = Course { began: now, first_rung, misjudged: 0, plan };
        self.introductions.insert(id, request.number, token, sides, course, (late, deadline));
        for session in [controller, controlled] {
            self.sessions.live_mut(session).introductions.insert(id);
        }
        self.stats.introductions_started += 1;
        log::info!(
            "introduced introduction={id} controller={controller} controlled={controlled} \
             request={} peer={} port={:?}",
            request.number,
            request.peer,
            request.from
        );
        self.gather(id, now);
    }

    /// From which port each side dials first: from the main one, where that will do.
    fn first_round(
        &mut self,
        id: IntroductionId,
        controller: SessionId,
        controlled: SessionId,
        request: Request,
        plan: RoundPlan,
    ) -> (Side, Side) {
        let mut ours = self.source(id, controller, 1, plan[0].port);
        if let (Port::Hole(tag), Source::Main) = (request.from, ours) {
            ours = self.sessions.live_mut(controller).take_hole(tag);
        } else if self.introductions.main_ports_are_taken(controller, controlled) {
            ours = self.source(id, controller, 1, plan[0].port.or_fresh());
        }
        let theirs = self.source(id, controlled, 1, plan[1].port);
        (Side::new(controller, ours), Side::new(controlled, theirs))
    }

    /// Where a side stands before a round, by its plan.
    fn source(&self, id: IntroductionId, session: SessionId, round: u8, port: PortPlan) -> Source {
        let tag = chosen_tag(id, round);
        match port {
            PortPlan::Main if self.sessions.live(session).listens() => Source::Main,
            PortPlan::Main | PortPlan::Fresh => Source::Awaited { tag, probes: 1 },
            PortPlan::Predicted => Source::Awaited { tag, probes: PREDICTION_PROBES },
        }
    }

    fn plan(&self, controller: SessionId, controlled: SessionId, round: u8, rung: u8) -> RoundPlan {
        let nat = |session| self.sessions.live(session).nat_for(round);
        plan(nat(controller), nat(controlled), round, rung)
    }

    fn network(&self, session: SessionId) -> Network {
        Network::of(self.sessions.live(session).observed.ip())
    }

    /// This round has connected two networks: others between them may begin so.
    fn remember_rung(&mut self, id: IntroductionId, round: u8, now: Instant) {
        let Some(introduction) = self.introductions.get(id) else { return };
        let rung = introduction.rung(round);
        let networks = ROLES.map(|role| self.network(introduction.side(role).session));
        self.networks.learn_rung(networks[0], networks[1], rung, now);
    }

    /// Asks for the holes of a round, and releases the round at once if it needs none.
    fn gather(&mut self, id: IntroductionId, now: Instant) {
        let Some(introduction) = self.introductions.get(id) else { return };
        for role in ROLES {
            let Side { session, source, .. } = *introduction.side(role);
            if let Some((tag, probes)) = source.to_prepare() {
                let prepare = Message::Prepare { tag, round: introduction.round, probes };
                self.outbox.send(self.sessions.live(session).link, prepare);
            }
        }
        self.release_if_gathered(id, now);
    }

    /// A hole has shown, or so a probe says.
    pub(super) fn handle_hole(
        &mut self,
        session: SessionId,
        probe: &Probe,
        mapped: SocketAddr,
        at: IpAddr,
        now: Instant,
    ) -> ProbeVerdict {
        let found = self.introductions.find_hole(session, probe.tag, probe.round);
        let Some((id, role)) = found else {
            if is_not_its_own(probe.tag) {
                return ProbeVerdict::Unknown;
            }
            // Opened unasked: a request may name it later.
            let hole = OwnHole { tag: probe.tag, local_port: probe.local_port, mapped, at };
            self.sessions.live_mut(session).keep_hole(hole);
            return ProbeVerdict::Tied;
        };
        if self.introductions.get(id).is_some_and(|introduction| !introduction.is_released()) {
            self.introductions.set_hole(id, role, probe.local_port, mapped);
            self.release_if_gathered(id, now);
        }
        ProbeVerdict::Tied
    }

    fn release_if_gathered(&mut self, id: IntroductionId, now: Instant) {
        if !self.introductions.get(id).is_some_and(Introduction::is_gathered) {
            return;
        }
        self.release(id);
        if self.introductions.get(id).is_some_and(Introduction::is_misjudged) {
            self.next_round(id, now);
        }
    }

    /// Tells both sides to dial, in the same instant; the farther one first.
    fn release(&mut self, id: IntroductionId) {
        self.introductions.release(id);
        let Some(introduction) = self.introductions.get(id) else { return };
        let session = |role| self.sessions.live(introduction.side(role).session);
        let far_first = |role| std::cmp::Reverse(session(role).round_trip);
        let mut roles = ROLES;
        roles.sort_by_key(|role| far_first(*role));
        for role in roles {
            let (me, peer) = (session(role), session(other(role)));
            let longest_delay = self.config.limits.release_delay;
            let relay = self.relay_endpoint(me);
            let release = compose(id, introduction, role, me, peer, longest_delay, relay);
            self.outbox.send(me.link, Message::Release(Box::new(release)));
        }
        self.stats.count_release(introduction.round);
    }

    pub(super) fn handle_outcome(
        &mut self,
        session: SessionId,
        number: u64,
        round: u8,
        result: RoundResult,
        now: Instant,
    ) {
        let id = IntroductionId(number);
        let introduction = self.introductions.get(id);
        let side = introduction.and_then(|it| Some((it, it.role_of(session)?)));
        let Some((introduction, role)) = side else {
            return self.handle_stray_outcome(session, number, result);
        };
        let is_current = round == introduction.round && introduction.is_released();
        let is_past = (1..introduction.round).contains(&round);
        match (role, result) {
            (_, RoundResult::GivenUp) => self.end(id, Ending::GivenUp(role)),
            (Role::Controller, RoundResult::Connected) if is_current || is_past => {
                let took = now.saturating_duration_since(introduction.began());
                self.stats.time_to_direct.count(took);
                self.remember_rung(id, round, now);
                self.end(id, Ending::Connected);
            }
            (Role::Controller, RoundResult::Relayed) if is_current || is_past => {
                self.end(id, Ending::Relayed);
            }
            (Role::Controller, RoundResult::Failed) if is_current => self.next_round(id, now),
            _ => self.stats.stray_outcomes += 1,
        }
    }

    /// Who asks for another round of something that is over, or never was, is told so: it would wait
    /// for nothing.
    fn handle_stray_outcome(&mut self, session: SessionId, number: u64, result: RoundResult) {
        self.stats.stray_outcomes += 1;
        if result == RoundResult::Failed {
            let code = RefusalCode::PeerGone;
            let link = self.sessions.live(session).link;
            self.outbox.send(link, Message::Cancelled { introduction: number, code });
        }
    }

    /// A side's NAT turns out to map otherwise than was thought. Rounds that were planned without knowing
    /// it have little hope: the next ones begin at once, or as soon as what was asked for has shown, and
    /// what has been dialled lives on.
    pub(super) fn plan_again(&mut self, session: SessionId, now: Instant) {
        let mut stale: Vec<_> = self.sessions.live(session).introductions.iter().copied().collect();
        stale.retain(|id| self.introductions.misjudge(*id));
        for id in stale {
            self.next_round(id, now);
        }
    }

    fn next_round(&mut self, id: IntroductionId, now: Instant) {
        let Some(introduction) = self.introductions.get(id) else { return };
        if introduction.round >= limits::ROUNDS {
            return self.end(id, Ending::Failed);
        }
        let round = introduction.round + 1;
        let (one, other) = (introduction.controller.session, introduction.controlled.session);
        let plan = self.plan(one, other, round, introduction.rung(round));
        let sources = [
            self.source(id, one, round, plan[0].port),
            self.source(id, other, round, plan[1].port),
        ];
        let late = now + self.config.limits.hole_time;
        self.introductions.begin_round(id, plan, sources, late);
        self.gather(id, now);
    }

    /// A session goes away: what is released goes on without S, the rest ends.
    pub(super) fn abandon(&mut self, session: SessionId) {
        let Some(gone) = self.sessions.get_mut(session) else { return };
        for id in std::mem::take(&mut gone.introductions) {
            let introduction = self.introductions.get(id);
            if let Some(role) = introduction.and_then(|it| it.role_of(session)) {
                self.end(id, Ending::Vanished(role));
            }
        }
    }

    pub(super) fn expire_introductions(&mut self, now: Instant) {
        while let Some((id, due)) = self.introductions.expire(now) {
            match due {
                Due::Holes => {
                    self.stats.holes_missed += self.introductions.fall_back(id);
                    self.release(id);
                }
                Due::Whole => self.end(id, Ending::TimedOut),
            }
        }
    }

    /// The one way in which an introduction ends.
    fn end(&mut self, id: IntroductionId, ending: Ending) {
        let Some(introduction) = self.introductions.remove(id) else { return };
        let nats = ROLES.map(|role| {
            let session = self.sessions.live_mut(introduction.side(role).session);
            session.introductions.remove(&id);
            NatClass::of(session.nat)
        });
        log::info!("ended introduction={id} round={} how={ending:?}", introduction.round);
        self.release_relay(id);
        self.stats.count_end(nats, ending.outcome());
        match ending {
            Ending::Failed | Ending::TimedOut => {
                for role in ROLES {
                    self.cancel(id, &introduction, role, RefusalCode::NoConnection);
                }
            }
            Ending::GivenUp(role) => {
                self.cancel(id, &introduction, other(role), RefusalCode::PeerGone);
            }
            Ending::Vanished(role) if !introduction.is_released() => {
                self.cancel(id, &introduction, other(role), RefusalCode::PeerGone);
            }
            Ending::Vanished(_) | Ending::Connected | Ending::Relayed => {}
        }
        for role in ROLES.into_iter().filter(|role| ending != Ending::Vanished(*role)) {
            self.let_go(introduction.side(role).session);
        }
    }

    /// Tells one side that it is over. Before the first release, the controller knows the number of
    /// its request alone.
    fn cancel(
        &mut self,
        id: IntroductionId,
        introduction: &Introduction,
        role: Role,
        code: RefusalCode,
    ) {
        let session = introduction.side(role).session;
        if role == Role::Controller && !introduction.was_released() {
            return self.refuse(session, introduction.request, code);
        }
        let link = self.sessions.live(session).link;
        self.outbox.send(link, Message::Cancelled { introduction: id.0, code });
    }
}

fn is_not_its_own(tag: u64) -> bool {
    tag == 0 || tag & CHOSEN_BY_SERVER != 0
}

//! What an introduction is, and the table of those in progress.
//!
//! ```text
//!             ┌────────── next round ──────────┐
//!             ▼                                │
//! asked ▶ Gathering ── holes in, or late ──▶ Released ──▶ ended
//!             └──────────────────────────────────────────▶
//! ```

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use super::sessions::SessionId;
use crate::limits;
use crate::proto::punch::strategy::RoundPlan;
use crate::proto::timers::Timers;
use crate::wire::message::{CHOSEN_BY_SERVER, Port, Role, Token};

/// The number of an introduction. It only ever grows: peers recognise a replayed one by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct IntroductionId(pub(super) u64);

impl fmt::Display for IntroductionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A tag that S chooses is `1 | introduction: 61 bits | round: 2 bits`. One without that bit is the
/// choice of a peer that opened its hole unasked; 0 is the main port.
const CHOSEN: u64 = CHOSEN_BY_SERVER;
const ROUND_BITS: u32 = 2;
const _: () = assert!(limits::ROUNDS < 1 << ROUND_BITS);

/// The tag for the holes of a round. Both sides get the same: a tag is unique within a session.
pub(super) fn chosen_tag(id: IntroductionId, round: u8) -> u64 {
    CHOSEN | id.0 << ROUND_BITS | u64::from(round)
}

/// The local port from which a side dials in this round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// That of its main connection.
    Main,
    /// A hole of which this many probes haven't shown yet.
    Awaited { tag: u64, probes: u8 },
    /// A hole.
    Hole { tag: u64, local_port: u16, mapped: SocketAddr },
}

impl Source {
    /// The hole that S has to ask for, if it is one that the peer doesn't open unasked.
    pub(super) fn to_prepare(self) -> Option<(u64, u8)> {
        match self {
            Self::Awaited { tag, probes } if tag & CHOSEN != 0 => Some((tag, probes)),
            _ => None,
        }
    }

    /// The tag of a hole that a peer opened unasked.
    fn own_tag(self) -> Option<u64> {
        match self.port() {
            Port::Hole(tag) if tag & CHOSEN == 0 => Some(tag),
            _ => None,
        }
    }

    pub(super) fn port(self) -> Port {
        match self {
            Self::Main => Port::Main,
            Self::Awaited { tag, .. } | Self::Hole { tag, .. } => Port::Hole(tag),
        }
    }

    fn is_awaited(self) -> bool {
        matches!(self, Self::Awaited { .. })
    }
}

/// One of the two peers of an introduction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side {
    pub(super) session: SessionId,
    pub(super) source: Source,
    /// What the round's probes have shown: the hole's local port, and where it and the others are mapped.
    pub(super) shown: [Option<(u16, SocketAddr)>; PREDICTION_PROBES as usize],
}

/// Probes from which the next port of a sequential NAT is predicted. They go out in parallel: of those
/// that went one after the other, 2 of 8 predicted right.
pub(super) const PREDICTION_PROBES: u8 = 3;

impl Side {
    pub(super) fn new(session: SessionId, source: Source) -> Self {
        Self { session, source, shown: [None; PREDICTION_PROBES as usize] }
    }

    /// The hole's own probe. Those that go out beside it name no local port.
    fn shown_hole(&self) -> Option<(u16, SocketAddr)> {
        self.shown.iter().flatten().find(|(local_port, _)| *local_port != 0).copied()
    }

    /// The mapped endpoint that a sequential NAT handed out last: the probes go out in the order in which
    /// their numbers grow, but may arrive in any.
    pub(super) fn last_mapped(&self) -> Option<SocketAddr> {
        let mapped = || self.shown.iter().flatten().map(|(_, mapped)| *mapped);
        let (lowest, highest) =
            (mapped().min_by_key(SocketAddr::port)?, mapped().max_by_key(SocketAddr::port)?);
        // Further apart than any probes of one moment: the range wrapped around between them.
        let wrapped = highest.port() - lowest.port() > u16::MAX / 2;
        Some(if wrapped { lowest } else { highest })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Holes of the round are awaited, until they are late.
    Gathering { until: Instant },
    /// Both sides were told to dial.
    Released,
}

#[derive(Debug)]
pub(super) struct Introduction {
    /// The controller's number for it.
    pub(super) request: u32,
    pub(super) token: Token,
    pub(super) controller: Side,
    pub(super) controlled: Side,
    /// Counts from 1.
    pub(super) round: u8,
    phase: Phase,
    deadline: Instant,
    /// The hole that the controller brought along for the first round.
    own_hole: Option<u64>,
    course: Course,
}

/// What is tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    /// When it was asked for.
    pub(super) began: Instant,
    /// The rung that is tried first.
    pub(super) first_rung: u8,
    /// Rounds that were released before the NATs were known as they are.
    pub(super) misjudged: u8,
    /// What both sides do in this round.
    pub(super) plan: RoundPlan,
}

impl Introduction {
    pub(super) fn side(&self, role: Role) -> &Side {
        match role {
            Role::Controller => &self.controller,
            Role::Controlled => &self.controlled,
        }
    }

    fn side_mut(&mut self, role: Role) -> &mut Side {
        match role {
            Role::Controller => &mut self.controller,
            Role::Controlled => &mut self.controlled,
        }
    }

    pub(super) fn began(&self) -> Instant {
        self.course.began
    }

    pub(super) fn plan(&self) -> &RoundPlan {
        &self.course.plan
    }

    /// Whether this round was planned for other NATs, and another may follow.
    pub(super) fn is_misjudged(&self) -> bool {
        self.course.misjudged == self.round && self.round < limits::ROUNDS
    }

    /// The rung of a round: what is known to have worked, and then the others in their order. A round that
    /// was misjudged counts as a first one.
    pub(super) fn rung(&self, round: u8) -> u8 {
        let (first, step) = (self.course.first_rung, round.saturating_sub(self.course.misjudged));
        match step {
            0 | 1 => first,
            step if step <= first => step - 1,
            step => step,
        }
    }

    pub(super) fn role_of(&self, session: SessionId) -> Option<Role> {
        ROLES.into_iter().find(|role| self.side(*role).session == session)
    }

    /// Whether this round was released.
    pub(super) fn is_released(&self) -> bool {
        self.phase == Phase::Released
    }

    /// Whether any round was: then the controller knows the introduction's number.
    pub(super) fn was_released(&self) -> bool {
        self.round > 1 || self.is_released()
    }

    /// Whether all holes of the round have shown.
    pub(super) fn is_gathered(&self) -> bool {
        !ROLES.into_iter().any(|role| self.side(role).source.is_awaited())
    }

    /// The two sessions, when they dial each other from their main ports.
    fn main_ports(&self) -> Option<(SessionId, SessionId)> {
        let sources = (self.controller.source, self.controlled.source);
        (sources == (Source::Main, Source::Main))
            .then(|| pair(self.controller.session, self.controlled.session))
    }
}

pub(super) const ROLES: [Role; 2] = [Role::Controller, Role::Controlled];

pub(super) fn other(role: Role) -> Role {
    match role {
        Role::Controller => Role::Controlled,
        Role::Controlled => Role::Controller,
    }
}

fn pair(one: SessionId, other: SessionId) -> (SessionId, SessionId) {
    (one.min(other), one.max(other))
}

/// What passes when a deadline does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// Holes that haven't shown are late.
    Holes,
    /// The introduction has lasted too long.
    Whole,
}

/// The introductions in progress.
#[derive(Debug, Default)]
pub(super) struct Introductions {
    all: HashMap<IntroductionId, Introduction>,
    last: u64,
    by_request: HashMap<(SessionId, u32), IntroductionId>,
    /// Which introduction uses the hole that a controller opened unasked.
    by_own_hole: HashMap<(SessionId, u64), IntroductionId>,
    /// Which introduction has two sessions' main ports: one four-tuple makes one connection.
    by_main_ports: HashMap<(SessionId, SessionId), IntroductionId>,
    timers: Timers<(IntroductionId, Due)>,
}

impl Introductions {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, id: IntroductionId) -> Option<&Introduction> {
        self.all.get(&id)
    }

    pub(super) fn has_request(&self, session: SessionId, request: u32) -> bool {
        self.by_request.contains_key(&(session, request))
    }

    /// Whether an introduction in progress uses a hole that the session opened unasked.
    pub(super) fn has_own_hole(&self, session: SessionId, tag: u64) -> bool {
        self.by_own_hole.contains_key(&(session, tag))
    }

    /// Whether an introduction in progress uses the main ports of both sessions.
    pub(super) fn main_ports_are_taken(&self, one: SessionId, other: SessionId) -> bool {
        self.by_main_ports.contains_key(&pair(one, other))
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    pub(super) fn expire(&mut self, now: Instant) -> Option<(IntroductionId, Due)> {
        self.timers.expire(now).map(|(_, due)| due)
    }

    pub(super) fn next_id(&mut self) -> IntroductionId {
        self.last += 1;
        IntroductionId(self.last)
    }

    /// Begins the first round of a new introduction: when its holes are late, and when it has lasted too
    /// long.
    pub(super) fn insert(
        &mut self,
        id: IntroductionId,
        request: u32,
        token: Token,
        (controller, controlled): (Side, Side),
        course: Course,
        (late, deadline): (Instant, Instant),
    ) {
        let phase = Phase::Gathering { until: late };
        self.timers.set(late, (id, Due::Holes));
        self.timers.set(deadline, (id, Due::Whole));
        self.by_request.insert((controller.session, request), id);
        let own_hole = controller.source.own_tag();
        if let Some(tag) = own_hole {
            self.by_own_hole.insert((controller.session, tag), id);
        }
        let introduction = Introduction {
            request,
            token,
            controller,
            controlled,
            round: 1,
            phase,
            deadline,
            own_hole,
            course,
        };
        self.all.insert(id, introduction);
    }

    /// The introduction that awaits this hole, or has it already.
    pub(super) fn find_hole(
        &self,
        session: SessionId,
        tag: u64,
        round: u8,
    ) -> Option<(IntroductionId, Role)> {
        let id = match tag & CHOSEN {
            0 => *self.by_own_hole.get(&(session, tag))?,
            _ => IntroductionId((tag & !CHOSEN) >> ROUND_BITS),
        };
        let introduction = self.all.get(&id)?;
        let role = introduction.role_of(session)?;
        // A hole that was opened unasked was probed before there was a round.
        let in_time = introduction.round == round || tag & CHOSEN == 0;
        let fits = in_time && introduction.side(role).source.port() == Port::Hole(tag);
        fits.then_some((id, role))
    }

    /// A probe of an awaited hole has shown. One that is known already stays as it was seen first.
    pub(super) fn set_hole(
        &mut self,
        id: IntroductionId,
        role: Role,
        local_port: u16,
        mapped: SocketAddr,
    ) {
        let side = self.all.get_mut(&id).map(|introduction| introduction.side_mut(role));
        let Some(side) = side else { return };
        let Source::Awaited { tag, probes } = side.source else { return };
        let known = side.shown.iter().flatten().any(|(_, shown)| *shown == mapped);
        match side.shown.iter_mut().find(|shown| shown.is_none()) {
            Some(free) if !known => *free = Some((local_port, mapped)),
            _ => return,
        }
        side.source = match (probes, side.shown_hole()) {
            (2.., _) => Source::Awaited { tag, probes: probes - 1 },
            (_, Some((local_port, mapped))) => Source::Hole { tag, local_port, mapped },
            (_, None) => side.source,
        };
    }

    /// Holes that haven't shown are done without. Says how many.
    pub(super) fn fall_back(&mut self, id: IntroductionId) -> u64 {
        let Some(introduction) = self.all.get_mut(&id) else { return 0 };
        let mut missed = 0;
        for role in ROLES {
            let source = &mut introduction.side_mut(role).source;
            if source.is_awaited() {
                *source = Source::Main;
                missed += 1;
            }
        }
        missed
    }

    /// The rounds so far were planned for other NATs: the ladder begins anew. Says whether the next round
    /// may begin at once.
    pub(super) fn misjudge(&mut self, id: IntroductionId) -> bool {
        let Some(introduction) = self.all.get_mut(&id) else { return false };
        introduction.course.misjudged = introduction.round;
        introduction.is_misjudged() && introduction.is_released()
    }

    /// The round is on.
    pub(super) fn release(&mut self, id: IntroductionId) {
        self.turn(id, Phase::Released);
        if let Some(ports) = self.all.get(&id).and_then(Introduction::main_ports) {
            self.by_main_ports.entry(ports).or_insert(id);
        }
    }

    /// Begins another round.
    pub(super) fn begin_round(
        &mut self,
        id: IntroductionId,
        plan: RoundPlan,
        sources: [Source; 2],
        late: Instant,
    ) {
        self.turn(id, Phase::Gathering { until: late });
        let Some(introduction) = self.all.get_mut(&id) else { return };
        introduction.round += 1;
        debug_assert!(introduction.round <= limits::ROUNDS);
        introduction.course.plan = plan;
        for (role, source) in ROLES.into_iter().zip(sources) {
            let side = introduction.side_mut(role);
            *side = Side::new(side.session, source);
        }
    }

    /// The one place where a phase changes.
    fn turn(&mut self, id: IntroductionId, to: Phase) {
        let Some(introduction) = self.all.get_mut(&id) else { return };
        let (from, round) = (introduction.phase, introduction.round);
        log::debug!("introduction={id} round={round}: {from:?} -> {to:?}");
        match (from, to) {
            (Phase::Gathering { until }, Phase::Released) => {
                debug_assert!(introduction.is_gathered(), "nothing awaited is released");
                self.timers.clear(until, (id, Due::Holes));
            }
            (Phase::Released, Phase::Gathering { until }) => {
                self.timers.set(until, (id, Due::Holes));
            }
            _ => unreachable!("{from:?} -> {to:?}: rounds are gathered, then released"),
        }
        introduction.phase = to;
    }

    /// Takes an introduction that ends out of everything.
    pub(super) fn remove(&mut self, id: IntroductionId) -> Option<Introduction> {
        let introduction = self.all.remove(&id)?;
        if let Phase::Gathering { until } = introduction.phase {
            self.timers.clear(until, (id, Due::Holes));
        }
        self.timers.clear(introduction.deadline, (id, Due::Whole));
        let controller = introduction.controller.session;
        self.by_request.remove(&(controller, introduction.request));
        if let Some(tag) = introduction.own_hole {
            self.by_own_hole.remove(&(controller, tag));
        }
        let ports = pair(controller, introduction.controlled.session);
        if self.by_main_ports.get(&ports) == Some(&id) {
            self.by_main_ports.remove(&ports);
        }
        Some(introduction)
    }

    /// Forgets all, but not how far it has counted.
    pub(super) fn clear(&mut self) {
        *self = Self { last: self.last, ..Self::default() };
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.by_request.len(), self.all.len());
        let own_holes = self.all.values().filter(|each| each.own_hole.is_some()).count();
        assert_eq!(self.by_own_hole.len(), own_holes);
        for (key, id) in &self.by_request {
            let introduction = &self.all[id];
            assert_eq!(*key, (introduction.controller.session, introduction.request));
        }
        for (ports, id) in &self.by_main_ports {
            let introduction = &self.all[id];
            let (one, other) = (introduction.controller.session, introduction.controlled.session);
            assert_eq!(*ports, pair(one, other));
        }
        let gathering = self.all.values().filter(|each| !each.is_released()).count();
        assert_eq!(self.timers.len(), self.all.len() + gathering);
    }
}

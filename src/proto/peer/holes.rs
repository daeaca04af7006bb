//! Fresh local ports, opened because the main one won't do: those that S asks for, those that a
//! request of ours brings along, and a few that are ready before they are needed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Action, Due, Peer, PunchId};
use crate::limits;
use crate::wire::message::CHOSEN_BY_SERVER;
use crate::wire::stun::Probe;

/// How often a probe that S couldn't tie to anything is sent again: the two connections of a peer keep
/// no order between them.
const PROBE_TRIES: u32 = 8;

/// Between two tries.
const PROBE_RETRY: Duration = Duration::from_millis(50);

/// A fresh local port with a listener and a hole connection.
#[derive(Debug)]
struct Hole {
    /// The punch that it belongs to, once that is known.
    punch: Option<PunchId>,
    round: u8,
    tries: u32,
    expires: Instant,
    /// S has seen it.
    shown: bool,
}

/// How a hole is opened.
#[derive(Clone, Copy)]
pub(super) struct Opening {
    pub(super) tag: u64,
    pub(super) round: u8,
    /// Probes that go out beside it.
    pub(super) beside: u8,
    /// How long it may wait for a punch.
    pub(super) time: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Holes {
    open: HashMap<u64, Hole>,
    /// Opened unasked, and not used yet.
    spare: Vec<u64>,
    last_tag: u64,
}

impl Holes {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

impl Peer {
    // ---- getters ----

    /// The attribute for a probe: of a hole, or of the main port when `tag` is 0.
    pub fn probe(&self, tag: u64, local_port: u16) -> Option<Probe> {
        let token = self.main.welcome.as_ref()?.token;
        let round = self.holes.open.get(&tag).map_or(0, |hole| hole.round);
        Some(Probe { token, tag, round, local_port })
    }

    // ---- events ----

    /// S has answered the probe of a hole: it knows the hole now, at this endpoint.
    pub fn handle_hole_shown(&mut self, tag: u64, mapped: SocketAddr, now: Instant) {
        if let Some(hole) = self.holes.open.get_mut(&tag) {
            hole.shown = true;
            self.handle_look_hole_shown(tag, mapped, now);
        }
    }

    /// S could not tie the probe to anything.
    pub fn handle_hole_refused(&mut self, tag: u64, now: Instant) {
        let Some(hole) = self.holes.open.get_mut(&tag) else { return };
        hole.tries += 1;
        if hole.tries < PROBE_TRIES {
            self.timers.set(now + PROBE_RETRY, Due::HoleProbe(tag));
        }
    }

    /// The hole could not be opened, or its hole connection is gone. One that a release may name lives
    /// on: its listener is still there. A spare one is worth nothing any more.
    pub fn handle_hole_lost(&mut self, tag: u64, now: Instant) {
        log::debug!("hole tag={tag:#x}: lost");
        self.handle_look_hole_lost(tag, now);
        if self.holes.spare.contains(&tag) {
            self.close_hole(tag);
        }
    }

    // ---- for punches ----

    pub(super) fn handle_prepare(&mut self, tag: u64, round: u8, probes: u8, now: Instant) {
        let beside = probes.clamp(1, limits::HOLE_PROBES) - 1;
        let opening = Opening { tag, round, beside, time: limits::INTRODUCTION_TIME };
        self.open_hole(opening, None, now);
    }

    /// A hole for a request of ours: one that is ready, or a new one. Returns its tag.
    pub(super) fn take_hole(&mut self, punch: PunchId, now: Instant) -> Option<u64> {
        let shown = |tag: &u64| self.holes.open.get(tag).is_some_and(|hole| hole.shown);
        let Some(index) = self.holes.spare.iter().position(shown) else {
            let tag = self.next_tag();
            let opening = Opening { tag, round: 0, beside: 0, time: limits::INTRODUCTION_TIME };
            return self.open_hole(opening, Some(punch), now).then_some(tag);
        };
        let tag = self.holes.spare.remove(index);
        self.adopt_hole(tag, punch);
        Some(tag)
    }

    /// Opens spare holes up to their number: what was needed once may be needed again soon.
    pub(super) fn keep_spare_holes(&mut self, now: Instant) {
        while self.holes.spare.len() < self.config.spare_holes.min(limits::SPARE_HOLES) {
            let tag = self.next_tag();
            let opening = Opening { tag, round: 0, beside: 0, time: limits::SPARE_HOLE_TIME };
            if !self.open_hole(opening, None, now) {
                return;
            }
            self.holes.spare.push(tag);
        }
    }

    /// A release says which punch a hole is for; it is closed with the punch.
    pub(super) fn adopt_hole(&mut self, tag: u64, punch: PunchId) {
        if let Some(hole) = self.holes.open.get_mut(&tag) {
            hole.punch = Some(punch);
        }
    }

    /// A hole's time is up, unless a punch has it: then it goes with the punch.
    pub(super) fn expire_hole(&mut self, tag: u64) {
        if self.holes.open.get(&tag).is_some_and(|hole| hole.punch.is_none()) {
            self.close_hole(tag);
        }
    }

    pub(super) fn close_hole(&mut self, tag: u64) {
        self.holes.spare.retain(|spare| *spare != tag);
        if let Some(hole) = self.holes.open.remove(&tag) {
            self.timers.clear(hole.expires, Due::HoleExpiry(tag));
            self.actions.push_back(Action::CloseHole { tag });
        }
    }

    /// The login is over: S has forgotten the spare holes.
    pub(super) fn close_spare_holes(&mut self) {
        for tag in std::mem::take(&mut self.holes.spare) {
            self.close_hole(tag);
        }
    }

    pub(super) fn has_hole(&self, tag: u64) -> bool {
        self.holes.open.contains_key(&tag)
    }

    /// Opens a hole. Says whether it could.
    pub(super) fn open_hole(
        &mut self,
        opening: Opening,
        punch: Option<PunchId>,
        now: Instant,
    ) -> bool {
        let Opening { tag, round, beside, time } = opening;
        let Some(to) = self.hole_endpoint() else { return false };
        if self.holes.len() >= limits::HOLES || self.holes.open.contains_key(&tag) {
            return false;
        }
        let expires = now + time;
        self.timers.set(expires, Due::HoleExpiry(tag));
        self.holes.open.insert(tag, Hole { punch, round, tries: 0, expires, shown: false });
        self.look.count_mappings(1 + u32::from(beside));
        self.actions.push_back(Action::OpenHole { tag, to, beside });
        true
    }

    pub(super) fn next_tag(&mut self) -> u64 {
        self.holes.last_tag = (self.holes.last_tag + 1) & !CHOSEN_BY_SERVER;
        self.holes.last_tag
    }
}

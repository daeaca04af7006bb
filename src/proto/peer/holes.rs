//! Fresh local ports, opened because the main one won't do.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{Action, Due, Peer, PunchId};
use crate::limits;
use crate::wire::stun::Probe;

/// How often a probe that S couldn't tie to anything is sent again: the request, which travels on
/// another connection, may be late.
const PROBE_TRIES: u32 = 8;

/// Between two tries.
const PROBE_RETRY: Duration = Duration::from_millis(50);

/// A fresh local port with a listener and a hole connection.
#[derive(Debug)]
pub struct Hole {
    /// The punch that it belongs to, once that is known.
    punch: Option<PunchId>,
    round: u8,
    tries: u32,
    expires: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Holes {
    open: HashMap<u64, Hole>,
}

impl Holes {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

impl Peer {
    /// The attribute for a probe: of a hole, or of the main port when `tag` is 0.
    pub fn probe(&self, tag: u64, local_port: u16) -> Option<Probe> {
        let token = self.main.welcome.as_ref()?.token;
        let round = self.holes.open.get(&tag).map_or(0, |hole| hole.round);
        Some(Probe { token, tag, round, local_port })
    }

    /// The hole could not be opened, or its hole connection is gone. The listener may live on: a
    /// release may still name it.
    pub fn handle_hole_lost(&mut self, tag: u64) {
        log::debug!("hole tag={tag:#x}: lost");
    }

    /// S could not tie the probe to anything.
    pub fn handle_hole_refused(&mut self, tag: u64, now: Instant) {
        let Some(hole) = self.holes.open.get_mut(&tag) else { return };
        hole.tries += 1;
        if hole.tries < PROBE_TRIES {
            self.timers.set(now + PROBE_RETRY, Due::HoleProbe(tag));
        }
    }

    pub(super) fn handle_prepare(&mut self, tag: u64, round: u8, now: Instant) {
        self.open_hole(tag, round, None, now);
    }

    /// Opens a hole. Says whether it could.
    pub(super) fn open_hole(
        &mut self,
        tag: u64,
        round: u8,
        punch: Option<PunchId>,
        now: Instant,
    ) -> bool {
        let Some(to) = self.hole_endpoint() else { return false };
        if self.holes.len() >= limits::PUNCHES || self.holes.open.contains_key(&tag) {
            return false;
        }
        let expires = now + limits::INTRODUCTION_TIME;
        self.timers.set(expires, Due::HoleExpiry(tag));
        self.holes.open.insert(tag, Hole { punch, round, tries: 0, expires });
        self.actions.push_back(Action::OpenHole { tag, to });
        true
    }

    /// A release says which punch a hole is for; it is closed with the punch.
    pub(super) fn adopt_hole(&mut self, tag: u64, punch: PunchId) {
        if let Some(hole) = self.holes.open.get_mut(&tag) {
            hole.punch = Some(punch);
        }
    }

    pub(super) fn expire_hole(&mut self, tag: u64) {
        if self.holes.open.remove(&tag).is_some() {
            self.actions.push_back(Action::CloseHole { tag });
        }
    }

    pub(super) fn close_hole(&mut self, tag: u64) {
        if let Some(hole) = self.holes.open.remove(&tag) {
            self.timers.clear(hole.expires, Due::HoleExpiry(tag));
            self.actions.push_back(Action::CloseHole { tag });
        }
    }

    pub(super) fn has_hole(&self, tag: u64) -> bool {
        self.holes.open.contains_key(&tag)
    }
}

//! A closer look at our own NAT, once its mapping is known and told: whom it lets in, how busy it is, and
//! whether it lets us reach ourselves.
//!
//! ```text
//! Idle ─▶ Opening ─shown─▶ DialledBack ─▶ (Watching ─▶ Counting) ─▶ Hairpin ─▶ Settled
//! ```
//!
//! It has a hole of its own, which no request names and no punch uses, and which is closed at its end. A
//! peer looks if others may ask for it, or if it is told to. Nothing waits for the look, each step has a
//! time, and what a step did not show stays unknown.

use std::net::SocketAddr;
use std::time::Instant;

use super::holes::Opening;
use super::{Action, Due, Event, Peer};
use crate::limits;
use crate::proto::nat::{Given, Moment, classify_filtering, foreign_rate};
use crate::wire::message::{Allocation, DialBackEnd, Filtering, Hairpinning, Mapping, Message};

/// With more mappings of our own than these between two looks at a sequence, too much is guessed.
const OWN_MAPPINGS: u32 = 8;

/// Probes that show what a sequence has come to.
const COUNTING_PROBES: usize = 3;

/// How far the look is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Idle,
    /// S has yet to see the hole.
    Opening {
        tag: u64,
    },
    /// S dials it.
    DialledBack {
        tag: u64,
        mapped: SocketAddr,
    },
    /// Time passes in which others behind the NAT may make mappings.
    Watching {
        tag: u64,
        mapped: SocketAddr,
    },
    /// Probes show how many they made. It ends with them.
    Counting {
        tag: u64,
        mapped: SocketAddr,
    },
    /// We dial ourselves.
    Hairpin {
        tag: u64,
    },
    Settled,
}

/// The look of this login.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Somebody wants to know, though nobody may ask for us.
    wanted: bool,
    stage: Stage,
    /// When the stage ends, whatever has been seen.
    until: Option<Instant>,
    /// What the NAT's ports had come to when they were last looked at, and `made` at that moment.
    seen: Option<(Moment, u32)>,
    /// When the probes went out that are still out, and `made` at that moment.
    series: Option<(Instant, u32)>,
    /// Mappings that we made beside the probes that show what the NAT hands out.
    made: u32,
}

impl Look {
    /// We make mappings of our own: a hole, a dial.
    pub(super) fn count_mappings(&mut self, mappings: u32) {
        self.made = self.made.wrapping_add(mappings);
    }

    /// Probes go out.
    pub(super) fn begin_series(&mut self, now: Instant) {
        self.series = Some((now, self.made));
    }

    fn tag(&self) -> Option<u64> {
        match self.stage {
            Stage::Opening { tag }
            | Stage::DialledBack { tag, .. }
            | Stage::Watching { tag, .. }
            | Stage::Counting { tag, .. }
            | Stage::Hairpin { tag } => Some(tag),
            Stage::Idle | Stage::Settled => None,
        }
    }
}

impl Peer {
    // ---- getters ----

    /// Whether a hole is that of the look at our own NAT: what is accepted there belongs to no punch.
    pub fn is_looking_from(&self, tag: u64) -> bool {
        self.look.tag() == Some(tag)
    }

    // ---- commands ----

    /// Looks at our own NAT as closely as peers do that others may ask for: now, and after each login.
    pub fn look_closely(&mut self, now: Instant) {
        let wanted = std::mem::replace(&mut self.look.wanted, true);
        if !wanted && !self.config.reachable && self.look.stage == Stage::Settled {
            self.look_further(now);
        }
    }

    // ---- events ----

    /// We dialled ourselves at the mapped endpoint of the look's hole, and both ends have been seen, or
    /// it failed: nothing came in.
    pub fn handle_hairpin(&mut self, tag: u64, found: Hairpinning, now: Instant) {
        if self.look.stage != (Stage::Hairpin { tag }) {
            return;
        }
        // Where only one end could dial, the filter may have kept it out.
        let fair = self.dials_itself_from_both_ends()
            || self.nat.filtering == Filtering::EndpointIndependent;
        self.nat.hairpinning = match found {
            Hairpinning::Unsupported if !fair => Hairpinning::Unknown,
            found => found,
        };
        self.settle_look(now);
    }

    pub(super) fn handle_look_hole_shown(&mut self, shown: u64, mapped: SocketAddr, now: Instant) {
        if self.look.stage == (Stage::Opening { tag: shown }) {
            let until = now + limits::DIAL_BACK_TIME + limits::LOOK_STEP_TIME;
            self.enter_look(Stage::DialledBack { tag: shown, mapped }, Some(until));
            self.send(Message::DialBack { tag: shown });
        }
    }

    pub(super) fn handle_look_hole_lost(&mut self, lost: u64, now: Instant) {
        // Once it has shown, what matters is its listener.
        if self.look.stage == (Stage::Opening { tag: lost }) {
            self.settle_look(now);
        }
    }

    pub(super) fn handle_dialled_back(
        &mut self,
        dialled: u64,
        same: DialBackEnd,
        other: DialBackEnd,
        now: Instant,
    ) {
        let Stage::DialledBack { tag, mapped } = self.look.stage else { return };
        if tag != dialled {
            return;
        }
        let other = if self.has_seen_another_address() || other == DialBackEnd::Connected {
            other
        } else {
            // An address from which nothing ever came to us may be one from which nothing can.
            DialBackEnd::NotMade
        };
        (self.nat.filtering, self.nat.refusal) = classify_filtering(same, other);
        self.events.push_back(Event::NatKnown(self.nat));
        self.tell_nat();
        self.watch_sequence(tag, mapped, now);
    }

    /// The probes that show what a sequence has come to are in.
    pub(super) fn handle_counted(&mut self, given: &[Given], now: Instant) {
        if let Stage::Counting { tag, mapped } = self.look.stage {
            self.see_ports(given.iter().map(|given| given.mapped.port()));
            self.begin_hairpin(tag, mapped, now);
        }
    }

    pub(super) fn expire_look(&mut self, at: Instant, now: Instant) {
        if self.look.until != Some(at) {
            return;
        }
        match self.look.stage {
            Stage::Idle | Stage::Counting { .. } | Stage::Settled => {}
            Stage::Opening { .. } => self.settle_look(now),
            Stage::DialledBack { tag, mapped } => self.watch_sequence(tag, mapped, now),
            Stage::Watching { tag, mapped } => self.count_sequence(tag, mapped, now),
            Stage::Hairpin { tag } => self.handle_hairpin(tag, Hairpinning::Unsupported, now),
        }
    }

    // ---- steps ----

    /// Whether this peer looks closely at all.
    pub(super) fn looks_closely(&self) -> bool {
        self.config.reachable || self.look.wanted
    }

    /// Whether the probes that are out show what a sequence has come to.
    pub(super) fn is_counting(&self) -> bool {
        matches!(self.look.stage, Stage::Counting { .. })
    }

    /// What the login's own probes could show is known.
    pub(super) fn begin_look(&mut self, now: Instant) {
        // Where none has answered a probe, none will answer a hole.
        let to = self.hole_endpoint().filter(|to| self.has_answered(*to));
        if !self.looks_closely() || self.nat.mapping == Mapping::Unknown || to.is_none() {
            return self.settle_look(now);
        }
        let tag = self.next_tag();
        let opening = Opening { tag, round: 0, beside: 0, time: limits::INTRODUCTION_TIME };
        if self.open_hole(opening, None, now) {
            self.enter_look(Stage::Opening { tag }, Some(now + limits::LOOK_STEP_TIME));
        } else {
            self.settle_look(now);
        }
    }

    /// The NAT is another one, or S has forgotten us.
    pub(super) fn abandon_look(&mut self) {
        self.leave_look_stage();
        self.look.stage = Stage::Idle;
        self.look.seen = None;
    }

    /// Gives others time to show how many mappings they make, where that matters.
    fn watch_sequence(&mut self, tag: u64, mapped: SocketAddr, now: Instant) {
        match (self.nat.allocation, &self.look.seen) {
            (Allocation::Sequential { .. }, Some((moment, _))) => {
                let until = now.max(moment.at + limits::SEQUENCE_WATCH_TIME);
                self.enter_look(Stage::Watching { tag, mapped }, Some(until));
            }
            _ => self.begin_hairpin(tag, mapped, now),
        }
    }

    fn count_sequence(&mut self, tag: u64, mapped: SocketAddr, now: Instant) {
        self.enter_look(Stage::Counting { tag, mapped }, None);
        self.probe_fresh_ports(COUNTING_PROBES, now);
    }

    /// The probes that were out have shown these ports. How many mappings others made since the look
    /// before shows, if the NAT hands them out in sequence.
    pub(super) fn see_ports(&mut self, ports: impl Iterator<Item = u16>) {
        let Some((at, made)) = self.look.series.take() else { return };
        let now = Moment { at, ports: ports.collect() };
        if let Allocation::Sequential { delta, busy } = &mut self.nat.allocation
            && let Some((before, made_before)) = &self.look.seen
        {
            let own = made.wrapping_sub(*made_before);
            let rate = foreign_rate(*delta, before, &now, own).filter(|_| own <= OWN_MAPPINGS);
            *busy = rate.unwrap_or(*busy);
        }
        self.look.seen = Some((now, made));
    }

    fn begin_hairpin(&mut self, tag: u64, mapped: SocketAddr, now: Instant) {
        if self.nat.mapping == Mapping::None {
            return self.settle_look(now);
        }
        self.enter_look(Stage::Hairpin { tag }, Some(now + limits::HAIRPIN_TIME));
        let via = self.hole_endpoint().filter(|_| self.dials_itself_from_both_ends());
        self.actions.push_back(Action::Hairpin { tag, to: mapped, via });
    }

    /// Where a fresh port is mapped must hold for all destinations, its own NAT included.
    fn dials_itself_from_both_ends(&self) -> bool {
        self.nat.mapping == Mapping::EndpointIndependent
    }

    fn settle_look(&mut self, _now: Instant) {
        self.leave_look_stage();
        self.look.stage = Stage::Settled;
        self.events.push_back(Event::NatKnown(self.nat));
        self.events.push_back(Event::NatSettled(self.nat));
        self.tell_nat();
    }

    fn enter_look(&mut self, stage: Stage, until: Option<Instant>) {
        log::debug!("look at the NAT: {:?} -> {stage:?}", self.look.stage);
        self.clear_look_timer();
        self.look.stage = stage;
        self.look.until = until;
        if let Some(until) = until {
            self.timers.set(until, Due::Look);
        }
    }

    fn leave_look_stage(&mut self) {
        self.clear_look_timer();
        if let Some(tag) = self.look.tag() {
            self.close_hole(tag);
        }
    }

    fn clear_look_timer(&mut self) {
        if let Some(at) = self.look.until.take() {
            self.timers.clear(at, Due::Look);
        }
    }

    /// Whether another address of S, of the family of our hole, has ever answered us.
    fn has_seen_another_address(&self) -> bool {
        let Some(hole) = self.hole_endpoint() else { return false };
        self.main.observations.iter().any(|seen| {
            let ip = seen.destination.ip();
            ip != hole.ip() && ip.is_ipv4() == hole.is_ipv4()
        })
    }
}

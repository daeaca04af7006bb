//! How a punch ends: another try on the controlled side, the winner, the last report.

use std::time::Instant;

use super::conns::ConnState;
use super::report::{DialEnd, Outcome};
use super::{Action, ConnId, Phase, Punch};
use crate::proto::timers::Timers;

impl Punch {
    /// The controller goes on, with another connection or in another round; if it doesn't, S or the
    /// deadline ends the punch.
    pub(super) fn answer_another(&mut self, now: Instant) {
        log::debug!("punch peer={}: the answered connection was lost", self.report.peer);
        self.answered = None;
        self.answer_lost = true;
        let held = self.conns.iter().find(|(_, conn)| conn.state == ConnState::Held);
        match (held, self.over) {
            (Some((index, _)), _) => self.actions.push_back(Action::Answer(ConnId(index as u32))),
            (None, Some(error)) => self.end(Outcome::Failed(error), now),
            (None, None) => {}
        }
    }

    pub(super) fn win(&mut self, conn: ConnId, now: Instant) {
        let entry = self.conns.remove(conn.0 as usize);
        if let Some(index) = entry.target() {
            self.targets[index as usize].end = DialEnd::Won;
        } else if entry.is_relayed() {
            self.note_relay(DialEnd::Won);
        }
        let kind = match entry.target() {
            Some(index) => Some(self.targets[index as usize].candidate.kind),
            None => self
                .targets
                .iter()
                .find(|target| Some(target.candidate.address) == entry.remote())
                .map(|target| target.candidate.kind),
        };
        let winner = entry.winner(kind, self.started);
        self.end(Outcome::Connected(winner), now);
    }

    pub(super) fn end(&mut self, outcome: Outcome, now: Instant) {
        if self.conns.iter().any(|(_, conn)| conn.is_relayed() && conn.is_established()) {
            self.note_relay(DialEnd::Spare);
        }
        for (index, conn) in &self.conns {
            if let (Some(target), true) = (conn.target(), conn.is_established()) {
                self.targets[target as usize].end = DialEnd::Spare;
            }
            self.actions.push_back(Action::Close(ConnId(index as u32)));
        }
        self.conns.clear();
        self.answered = None;
        self.timers = Timers::new();
        self.waiting.clear();
        for target in self.targets.drain(..) {
            let rounds = &mut self.report.rounds;
            let Some(round) = rounds.iter_mut().find(|round| round.round == target.round) else {
                continue;
            };
            round.strays += u32::from(target.stray && target.attempts > 0);
            if !target.stray || target.end == DialEnd::Won {
                round.dials.push(target.into_report());
            }
        }
        self.report.outcome = outcome;
        self.report.elapsed = now.saturating_duration_since(self.started);
        self.enter(Phase::Ended, "over");
    }
}

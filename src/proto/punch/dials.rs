//! The dials of a round: all of a few at once, and of many one volley after the other.

use std::time::Instant;

use super::conns::Conn;
use super::report::DialEnd;
use super::{Action, ConnId, Due, Punch, aim};
use crate::limits;
use crate::wire::message::Release;

impl Punch {
    pub(super) fn start(&mut self, now: Instant) {
        for target in std::mem::take(&mut self.held) {
            self.waiting.push_back(self.targets.len() as u32);
            self.targets.push(target);
        }
        self.dial_next(now);
        self.end_round_if_hopeless(now);
    }

    /// We let the other side's SYN come first, and our own NAT lets in whom we have written to: but not
    /// from where the SYN will come, or it would be taken for one that crosses ours.
    pub(super) fn knock(&mut self, release: &Release) {
        for target in aim::knocks(release, &self.held) {
            let index = self.targets.len() as u32;
            self.targets.push(target);
            self.dial(index);
        }
    }

    /// Guesses of an earlier round are not worth their descriptors any more. Every other dial lives on.
    pub(super) fn close_strays(&mut self) {
        self.waiting.clear();
        let targets = &self.targets;
        let actions = &mut self.actions;
        self.conns.retain(|index, conn| {
            let stray = conn.target().is_some_and(|target| targets[target as usize].stray);
            let close = stray && !conn.is_established();
            if close {
                actions.push_back(Action::Close(ConnId(index as u32)));
            }
            !close
        });
    }

    /// Dials a volley of those that wait, all of one wave.
    pub(super) fn dial_next(&mut self, now: Instant) {
        let current = self.next_wave();
        for _ in 0..limits::VOLLEY_DIALS {
            if self.next_wave() != current {
                break;
            }
            let Some(index) = self.waiting.pop_front() else { return };
            self.dial(index);
        }
        let pause = match self.next_wave() {
            None => return,
            next if next == current => limits::VOLLEY_PAUSE,
            Some(_) => limits::WAVE_PAUSE,
        };
        self.timers.set(now + pause, Due::Volley);
    }

    /// The wave of the first dial that waits.
    fn next_wave(&self) -> Option<u8> {
        self.waiting.front().map(|index| self.targets[*index as usize].wave)
    }

    pub(super) fn dial(&mut self, index: u32) {
        if self.is_ended() {
            return;
        }
        let target = &mut self.targets[index as usize];
        // A target of an earlier round keeps the dial that it has, and gets no new ones.
        if target.round != self.round {
            return;
        }
        target.attempts += 1;
        target.end = DialEnd::Pending;
        let (from, beside, to) = (target.from, target.beside, target.candidate.address);
        let conn = ConnId(self.conns.insert(Conn::dialling(index, target.round)) as u32);
        self.actions.push_back(Action::Dial { conn, from, beside, to });
    }
}

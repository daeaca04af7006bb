//! Requests for introductions: when they go out, and from which port.

use std::time::Instant;

use super::{Event, PunchId};
use crate::identity::PeerId;
use crate::limits;
use crate::proto::peer::Peer;
use crate::proto::punch::PunchError;
use crate::wire::message::{Message, Port, Refused};
use crate::wire::refusal::RefusalCode;

impl Peer {
    pub(super) fn next_request(&mut self) -> u32 {
        loop {
            let next = self.punches.last_request.wrapping_add(1).max(1);
            self.punches.last_request = next;
            if !self.punches.by_request.contains_key(&next) {
                return next;
            }
        }
    }

    pub(in crate::proto::peer) fn forget_requests(&mut self) {
        for tag in self.punches.forget_sent() {
            self.close_hole(tag);
        }
    }

    pub(in crate::proto::peer) fn ask_for_waiting(&mut self, now: Instant) {
        let waiting: Vec<_> = self
            .punches
            .entries
            .iter()
            .filter(|(_, entry)| !entry.sent && entry.request != 0)
            .map(|(index, entry)| PunchId { index: index as u32, generation: entry.generation })
            .collect();
        for id in waiting {
            self.ask(id, now);
        }
    }

    /// Sends the request if the login allows it: from the main port as soon as the channel stands, from
    /// a fresh hole once S has said where its hole ports are.
    pub(super) fn ask(&mut self, id: PunchId, now: Instant) {
        let Some(entry) = self.punches.peek(id) else { return };
        let (peer, request) = (entry.peer, entry.request);
        let fresh = self.main_port_rests(peer, now) || self.main.local_port == 0;
        let granted = self.may_ask() && !self.whereabouts.is_told_to_go();
        if entry.sent || !granted || (fresh && self.main.welcome.is_none()) {
            return;
        }
        let hole = if fresh { self.take_hole(id, now) } else { None };
        let from = hole.map_or(Port::Main, Port::Hole);
        if from == Port::Main {
            self.rest_main_port(peer, now);
        }
        self.send(Message::Introduce { request, peer, from });
        let entry = self.punches.get(id).expect("it was there above");
        entry.sent = true;
        entry.holes.extend(hole);
        entry.used_main = hole.is_none();
        self.keep_spare_holes(now);
    }

    /// Whether the main port was used with this peer lately: the same four-tuple must not come twice.
    fn main_port_rests(&self, peer: PeerId, now: Instant) -> bool {
        match self.rests.get(&peer) {
            Some(until) => *until > now,
            None => self.rests.len() >= limits::MAIN_PORT_RESTS,
        }
    }

    pub(super) fn rest_main_port(&mut self, peer: PeerId, now: Instant) {
        if self.rests.len() >= limits::MAIN_PORT_RESTS {
            self.rests.retain(|_, until| *until > now);
        }
        if self.rests.len() < limits::MAIN_PORT_RESTS {
            self.rests.insert(peer, now + limits::MAIN_PORT_REST);
        }
    }

    pub(in crate::proto::peer) fn expire_request(&mut self, id: PunchId, now: Instant) {
        if let Some(entry) = self.punches.get(id)
            && entry.introduction.is_none()
        {
            let error = if entry.sent { PunchError::NoAnswer } else { PunchError::RendezvousLost };
            entry.punch.fail(error, now);
            self.touch(id, now);
        }
    }

    pub(in crate::proto::peer) fn handle_refused(&mut self, refused: Refused, now: Instant) {
        match self.punches.by_request.get(&refused.request) {
            // It crossed the word that S stops, and waits for the next login.
            Some(id) if refused.code == RefusalCode::Draining => {
                let id = *id;
                if let Some(entry) = self.punches.get(id) {
                    entry.sent = false;
                }
            }
            Some(id) => {
                let id = *id;
                self.with_punch(id, now, |punch| {
                    punch.fail(PunchError::Refused(refused.code), now);
                });
            }
            None => {
                self.events.push_back(Event::Refused { code: refused.code, text: refused.text })
            }
        }
    }
}

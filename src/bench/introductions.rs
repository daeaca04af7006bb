//! Introductions: the broker's work alone.

use std::collections::VecDeque;
use std::time::Instant;

use super::swarm::{Happening, Swarm};
use super::tally::Tally;
use super::vigil::{TURN, Vigil};
use crate::cli::exit::{self, Failure};
use crate::net::clock;
use crate::wire::message::{Message, Port, Release, Role, RoundResult};

/// Of these peers, which follow each other, the first of each two asks for the second, again and again.
pub(super) fn introduce(
    swarm: &mut Swarm,
    peers: &[usize],
    count: usize,
    in_flight: usize,
    tally: &mut Tally,
    vigil: &Vigil,
) -> Result<(), Failure> {
    Load::new(swarm, peers, count, in_flight, tally).run(vigil)
}

struct Pair {
    began: Instant,
    request: u32,
    /// What the controller was told.
    told: Option<(u64, u8)>,
    /// Whether the controlled peer was told.
    controlled: bool,
    asking: bool,
}

struct Load<'a> {
    swarm: &'a mut Swarm,
    /// The first peer of the first pair; its partner is the next one.
    first: usize,
    pairs: Vec<Pair>,
    waiting: VecDeque<usize>,
    in_flight: usize,
    count: u64,
    begun: u64,
    ended: u64,
    tally: &'a mut Tally,
}

impl<'a> Load<'a> {
    fn new(
        swarm: &'a mut Swarm,
        peers: &[usize],
        count: usize,
        in_flight: usize,
        tally: &'a mut Tally,
    ) -> Self {
        let began = clock::now();
        let pair = || Pair { began, request: 0, told: None, controlled: false, asking: false };
        Self {
            swarm,
            first: peers.first().copied().unwrap_or_default(),
            pairs: (0..peers.len() / 2).map(|_| pair()).collect(),
            waiting: (0..peers.len() / 2).collect(),
            in_flight,
            count: count as u64,
            begun: 0,
            ended: 0,
            tally,
        }
    }

    fn run(&mut self, vigil: &Vigil) -> Result<(), Failure> {
        while self.ended < self.count {
            while self.begun < self.count
                && self.begun - self.ended < self.in_flight as u64
                && let Some(pair) = self.waiting.pop_front()
            {
                self.ask(pair);
            }
            self.swarm.turn(TURN)?;
            while let Some((peer, happening)) = self.swarm.poll_happening() {
                self.handle(peer, happening)?;
            }
            vigil.tick(self.ended, self.count)?;
        }
        Ok(())
    }

    fn ask(&mut self, number: usize) {
        let controller = self.first + 2 * number;
        let peer = self.swarm.peer(controller + 1).id;
        let pair = &mut self.pairs[number];
        let request = pair.request + 1;
        *pair = Pair { began: clock::now(), request, told: None, controlled: false, asking: true };
        self.begun += 1;
        self.swarm.send(controller, &Message::Introduce { request, peer, from: Port::Main });
    }

    fn handle(&mut self, peer: usize, happening: Happening) -> Result<(), Failure> {
        let Some(number) = peer.checked_sub(self.first).map(|at| at / 2) else {
            return Err(failure(format!("an idle peer: {happening:?}")));
        };
        match happening {
            Happening::Message(Message::Release(release)) => self.released(number, &release),
            Happening::Message(Message::Refused(refused)) => {
                self.end(number, Some(&format!("refused: {}", refused.code)));
            }
            Happening::Message(Message::Cancelled { code, .. }) => {
                self.end(number, Some(&format!("cancelled: {code}")));
            }
            Happening::Message(Message::Prepare { .. }) => {
                return Err(failure("asked for a hole: that isn't the fast path"));
            }
            Happening::Message(_) => {}
            Happening::LoggedIn(_) => unreachable!("nobody logs in meanwhile"),
            Happening::Lost(why) => return Err(failure(format!("a peer was lost: {why}"))),
        }
        Ok(())
    }

    fn released(&mut self, number: usize, release: &Release) {
        let pair = &mut self.pairs[number];
        match release.role {
            Role::Controller => pair.told = Some((release.introduction, release.round)),
            Role::Controlled => pair.controlled = true,
        }
        if let (Some((introduction, round)), true) = (pair.told, pair.controlled) {
            self.end(number, None);
            let outcome = Message::Outcome { introduction, round, result: RoundResult::Connected };
            self.swarm.send(self.first + 2 * number, &outcome);
        }
    }

    fn end(&mut self, number: usize, error: Option<&str>) {
        let pair = &mut self.pairs[number];
        if !std::mem::replace(&mut pair.asking, false) {
            return;
        }
        self.ended += 1;
        match error {
            None => self.tally.done(clock::now() - pair.began),
            Some(kind) => self.tally.failed(kind),
        }
        self.waiting.push_back(number);
    }
}

fn failure(why: impl Into<String>) -> Failure {
    Failure::new(exit::OTHER, why)
}

//! Introductions: the broker's work alone.

use std::collections::VecDeque;
use std::time::Instant;

use super::{LOGINS, Run, login};
use crate::bench::args::IntroduceArgs;
use crate::bench::floor::Shape;
use crate::bench::report::{Figure, Report};
use crate::bench::swarm::{Happening, Swarm};
use crate::bench::tally::Tally;
use crate::bench::vigil::{TURN, Vigil};
use crate::cli::exit::Failure;
use crate::net::clock;
use crate::wire::message::{Message, Port, Release, Role, RoundResult};

pub(super) fn run(run: &mut Run<'_>, args: &IntroduceArgs) -> Result<Report, Failure> {
    let mut swarm = run.swarm(2 * args.pairs)?;
    let peers: Vec<_> = (0..2 * args.pairs).map(|_| swarm.add()).collect();
    run.vigil.phase("pairs log in");
    login::all_in(&mut swarm, &peers, LOGINS, &run.vigil)?;
    let mut load = Load::new(swarm, peers[0], args);
    let meter = run.meter()?;
    run.vigil.phase("introduce");
    let tally = load.run(&run.vigil)?;
    let figure = Figure::new("introduction", &tally, &meter.stop()?);
    drop(load);
    let floor = run.floor(Shape::Forward, args.count as u64, args.in_flight)?;
    let mut report = run.report("introduce");
    report.beside_floor(figure, floor);
    report.note("request, two releases, outcome: two messages in, two out; no socket is punched");
    Ok(report)
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

struct Load {
    swarm: Swarm,
    /// The first peer of the first pair; its partner is the next one.
    first: usize,
    pairs: Vec<Pair>,
    waiting: VecDeque<usize>,
    in_flight: usize,
    count: u64,
    begun: u64,
    tally: Tally,
}

impl Load {
    fn new(swarm: Swarm, first: usize, args: &IntroduceArgs) -> Self {
        let began = clock::now();
        let pair = || Pair { began, request: 0, told: None, controlled: false, asking: false };
        Self {
            swarm,
            first,
            pairs: (0..args.pairs).map(|_| pair()).collect(),
            waiting: (0..args.pairs).collect(),
            in_flight: args.in_flight,
            count: args.count as u64,
            begun: 0,
            tally: Tally::new(),
        }
    }

    fn run(&mut self, vigil: &Vigil) -> Result<Tally, Failure> {
        while self.tally.ended() < self.count {
            while self.begun < self.count
                && self.begun - self.tally.ended() < self.in_flight as u64
                && let Some(pair) = self.waiting.pop_front()
            {
                self.ask(pair);
            }
            self.swarm.turn(TURN)?;
            while let Some((peer, happening)) = self.swarm.poll_happening() {
                self.handle(peer, happening)?;
            }
            vigil.tick(self.tally.ended(), self.count)?;
        }
        Ok(std::mem::replace(&mut self.tally, Tally::new()))
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
            return Err(super::failure(format!("an idle peer: {happening:?}")));
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
                return Err(super::failure("asked for a hole: that isn't the fast path"));
            }
            Happening::Message(_) => {}
            Happening::LoggedIn(_) => unreachable!("nobody logs in meanwhile"),
            Happening::Lost(why) => return Err(super::failure(format!("a peer was lost: {why}"))),
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
        match error {
            None => self.tally.done(clock::now() - pair.began),
            Some(kind) => self.tally.failed(kind),
        }
        self.waiting.push_back(number);
    }
}

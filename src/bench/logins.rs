//! Peers log in: some at a time, or all at once.

use std::time::{Duration, Instant};

use super::swarm::{Happening, Swarm};
use super::tally::Tally;
use super::vigil::{TURN, Vigil};
use crate::cli::exit::{self, Failure};
use crate::limits;
use crate::net::clock;
use crate::proto::timers::Timers;
use crate::wire::message::Welcome;

/// Tries of one login.
const TRIES: u32 = 16;

/// All of these peers log in, or it fails. Returns the last welcome.
pub(super) fn all_in(
    swarm: &mut Swarm,
    peers: &[usize],
    in_flight: usize,
    vigil: &Vigil,
) -> Result<Option<Box<Welcome>>, Failure> {
    let mut tally = Tally::new();
    let welcome = log_in(swarm, peers, in_flight, &mut tally, vigil)?;
    match tally.errors.iter().next() {
        None => Ok(welcome),
        Some((kind, count)) => Err(failure(format!("{count} logins failed: {kind}"))),
    }
}

/// These peers log in, so many at once. Whoever is turned away comes back as a real peer does: with
/// jitter, and later each time. Returns the last welcome.
pub(super) fn log_in(
    swarm: &mut Swarm,
    peers: &[usize],
    in_flight: usize,
    tally: &mut Tally,
    vigil: &Vigil,
) -> Result<Option<Box<Welcome>>, Failure> {
    let mut logins = Logins::new(peers, tally);
    let total = peers.len() as u64;
    while logins.ended < total {
        while logins.begun < peers.len() && logins.begun - (logins.ended as usize) < in_flight {
            logins.begin(swarm);
        }
        let longest = logins.begin_again(swarm);
        swarm.turn(longest)?;
        while let Some((peer, happening)) = swarm.poll_happening() {
            logins.handle(peer, happening)?;
        }
        vigil.tick(logins.ended, total)?;
    }
    Ok(logins.welcome)
}

struct Logins<'a> {
    peers: &'a [usize],
    tally: &'a mut Tally,
    /// When each began, and how often it was tried again.
    state: Vec<(Instant, u32)>,
    again: Timers<usize>,
    chance: fastrand::Rng,
    begun: usize,
    ended: u64,
    welcome: Option<Box<Welcome>>,
}

impl<'a> Logins<'a> {
    fn new(peers: &'a [usize], tally: &'a mut Tally) -> Self {
        Self {
            peers,
            tally,
            state: vec![(clock::now(), 0); peers.len()],
            again: Timers::new(),
            chance: fastrand::Rng::with_seed(peers.len() as u64),
            begun: 0,
            ended: 0,
            welcome: None,
        }
    }

    fn begin(&mut self, swarm: &mut Swarm) {
        self.state[self.begun].0 = clock::now();
        swarm.log_in(self.peers[self.begun]);
        self.begun += 1;
    }

    /// Those whose time has come try again. Returns how long there is nothing to do but wait.
    fn begin_again(&mut self, swarm: &mut Swarm) -> Duration {
        let now = clock::now();
        while let Some((_, peer)) = self.again.expire(now) {
            swarm.log_in(peer);
        }
        let next = self.again.next().map(|at| at.saturating_duration_since(now));
        next.map_or(TURN, |next| next.min(TURN))
    }

    fn handle(&mut self, peer: usize, happening: Happening) -> Result<(), Failure> {
        // Peers are numbered as they are added, and those of one load are added together.
        let first = self.peers.first().copied().unwrap_or_default();
        let at = peer.checked_sub(first).filter(|at| *at < self.peers.len());
        let Some(at) = at else {
            return match happening {
                Happening::Lost(why) => Err(failure(format!("another peer was lost: {why}"))),
                // It is logged in, and S may have something to tell it.
                Happening::LoggedIn(_) | Happening::Message(_) => Ok(()),
            };
        };
        let (began, tries) = &mut self.state[at];
        match happening {
            Happening::LoggedIn(welcome) => {
                self.tally.done(clock::now() - *began);
                self.welcome = Some(welcome);
                self.ended += 1;
            }
            Happening::Lost(kind) if *tries < TRIES => {
                self.tally.retried(&kind);
                *tries += 1;
                let pause = pause(*tries, &mut self.chance);
                self.again.set(clock::now() + pause, peer);
            }
            Happening::Lost(kind) => {
                self.tally.failed(&kind);
                self.ended += 1;
            }
            Happening::Message(other) => {
                return Err(failure(format!("before it was logged in: {other:?}")));
            }
        }
        Ok(())
    }
}

/// Full jitter, and twice as long each time.
fn pause(tries: u32, chance: &mut fastrand::Rng) -> Duration {
    let longest = limits::RECONNECT_FIRST * 2_u32.pow(tries.min(8) - 1);
    longest.min(limits::RECONNECT_LONGEST).mul_f64(chance.f64())
}

fn failure(why: String) -> Failure {
    Failure::new(exit::OTHER, why)
}

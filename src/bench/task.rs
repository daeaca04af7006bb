//! What a process does to make load: prepared first, so that it can begin in one instant.

use serde::{Deserialize, Serialize};

use super::introductions;
use super::logins;
use super::swarm::Swarm;
use super::tally::Tally;
use super::target::Target;
use super::vigil::Vigil;
use crate::cli::exit::Failure;
use crate::net::sys;

/// Logins in progress at once where they aren't what is measured.
pub(super) const LOGINS: usize = 32;

/// Descriptors of a process that aren't its peers'.
const SPARE_DESCRIPTORS: usize = 64;

/// A load, or a process' share of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Task {
    /// Peers log in, and stay.
    Login { peers: usize, in_flight: usize },
    /// Peers were logged in and come back all at once.
    Storm { peers: usize },
    /// The same again and again, until it is told to stop.
    Storms { peers: usize },
    /// Nothing, until it is told to stop: the peers are there beforehand.
    Idle,
    /// Pairs of peers are introduced.
    Introduce { pairs: usize, count: usize, in_flight: usize },
}

impl Task {
    /// Whether it ends only when it is told to.
    pub(super) fn is_endless(&self) -> bool {
        matches!(self, Self::Storms { .. } | Self::Idle)
    }

    fn peers(&self) -> usize {
        match self {
            Self::Login { peers, .. } | Self::Storm { peers } | Self::Storms { peers } => *peers,
            Self::Idle => 0,
            Self::Introduce { pairs, .. } => 2 * pairs,
        }
    }

    /// The shares of so many processes. None is empty.
    pub(super) fn split(&self, processes: usize) -> Vec<Self> {
        let share =
            |whole: usize, at: usize| whole / processes + usize::from(at < whole % processes);
        let part = |at: usize| match *self {
            Self::Login { peers, in_flight } => {
                Self::Login { peers: share(peers, at), in_flight: share(in_flight, at).max(1) }
            }
            Self::Storm { peers } => Self::Storm { peers: share(peers, at) },
            Self::Storms { peers } => Self::Storms { peers: share(peers, at) },
            Self::Idle => Self::Idle,
            Self::Introduce { pairs, count, in_flight } => Self::Introduce {
                pairs: share(pairs, at).max(1),
                count: share(count, at),
                in_flight: share(in_flight, at).max(1),
            },
        };
        (0..processes).map(part).collect()
    }
}

/// A load that is about to begin.
pub(super) struct Prepared {
    swarm: Swarm,
    task: Task,
    /// Those that the task is about.
    peers: Vec<usize>,
}

impl Prepared {
    /// Logs in whoever must be there beforehand, and so many silent peers.
    pub(super) fn new(
        target: &Target,
        task: Task,
        idle: usize,
        first_source: usize,
        vigil: &mut Vigil,
    ) -> Result<Self, Failure> {
        let mut swarm = Swarm::new(target, first_source)?;
        afford(idle + task.peers())?;
        let mut add = |count: usize| (0..count).map(|_| swarm.add()).collect::<Vec<_>>();
        let (others, peers) = (add(idle), add(task.peers()));
        if !others.is_empty() {
            vigil.phase("idle peers log in");
            logins::all_in(&mut swarm, &others, LOGINS, vigil)?;
        }
        match task {
            Task::Storm { .. } | Task::Storms { .. } | Task::Introduce { .. } => {
                vigil.phase("peers log in");
                logins::all_in(&mut swarm, &peers, LOGINS, vigil)?;
            }
            Task::Login { .. } | Task::Idle => {}
        }
        if let Task::Storm { .. } = task {
            peers.iter().for_each(|peer| swarm.cut(*peer));
        }
        Ok(Self { swarm, task, peers })
    }

    /// Does it.
    pub(super) fn run(&mut self, vigil: &mut Vigil) -> Result<Tally, Failure> {
        let mut tally = Tally::new();
        let (swarm, peers) = (&mut self.swarm, &self.peers[..]);
        match self.task {
            Task::Login { in_flight, .. } => {
                vigil.phase("login");
                logins::log_in(swarm, peers, in_flight, &mut tally, vigil)?;
            }
            Task::Storm { .. } => {
                vigil.phase("storm");
                logins::log_in(swarm, peers, peers.len(), &mut tally, vigil)?;
            }
            Task::Storms { .. } => {
                while vigil.check().is_ok() {
                    peers.iter().for_each(|peer| swarm.cut(*peer));
                    let stormed = logins::log_in(swarm, peers, peers.len(), &mut tally, vigil);
                    stormed.map(drop).or_else(|failure| match vigil.check() {
                        Ok(()) => Err(failure),
                        // Told to stop in the middle of it.
                        Err(_) => Ok(()),
                    })?;
                }
            }
            Task::Idle => {
                while vigil.check().is_ok() {
                    std::thread::park_timeout(super::vigil::TURN);
                }
            }
            Task::Introduce { count, in_flight, .. } => {
                vigil.phase("introduce");
                introductions::introduce(swarm, peers, count, in_flight, &mut tally, vigil)?;
            }
        }
        Ok(tally)
    }
}

/// Whether this process may have so many peers.
fn afford(peers: usize) -> Result<(), Failure> {
    let (wanted, granted) = (peers + SPARE_DESCRIPTORS, sys::raise_descriptor_limit()?);
    if wanted as u64 <= granted {
        return Ok(());
    }
    let error = format!("{wanted} descriptors are needed, and {granted} are granted");
    Err(Failure::usage(error).hint("fewer peers, or more processes: --processes N"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_the_whole() {
        let task = Task::Introduce { pairs: 7, count: 1001, in_flight: 2 };
        let parts = task.split(3);
        let (mut pairs, mut counts) = (0, 0);
        for part in parts {
            let Task::Introduce { pairs: some, count, in_flight: 1 } = part else {
                panic!("{part:?}")
            };
            pairs += some;
            counts += count;
        }
        assert_eq!((pairs, counts), (7, 1001));
        assert_eq!(Task::Storm { peers: 9 }.split(1), [Task::Storm { peers: 9 }]);
    }
}

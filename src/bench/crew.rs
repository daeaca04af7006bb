//! Those who make the load: this process, or several.

use super::meter::{Cost, Meter};
use super::tally::Tally;
use super::target::Target;
use super::task::{Prepared, Task};
use super::vigil::Vigil;
use super::worker::Workers;
use crate::cli::exit::Failure;

/// A load that is prepared. Its peers stay until it is dropped.
pub(super) enum Crew {
    Here(Box<Prepared>),
    Workers(Workers),
}

impl Crew {
    /// Prepares a task, with so many silent peers beside it.
    pub(super) fn prepare(
        target: &Target,
        task: Task,
        idle: usize,
        processes: usize,
        vigil: &mut Vigil,
    ) -> Result<Self, Failure> {
        if processes > 1 {
            let tasks = task.split(processes);
            return Ok(Self::Workers(Workers::start(target, &tasks, idle, vigil)?));
        }
        Ok(Self::Here(Box::new(Prepared::new(target, task, idle, 0, vigil)?)))
    }

    /// Does it, once the server has nothing else left to do.
    pub(super) fn work(
        &mut self,
        target: &Target,
        vigil: &mut Vigil,
    ) -> Result<(Tally, Cost), Failure> {
        target.settle(vigil)?;
        match self {
            Self::Here(load) => {
                let meter = Meter::start(target.pid(), &[std::process::id()])?;
                let tally = load.run(vigil)?;
                Ok((tally, meter.stop()?))
            }
            Self::Workers(workers) => {
                let meter = Meter::start(target.pid(), &workers.pids())?;
                vigil.phase("the processes work");
                workers.go()?;
                let outcome = workers.collect(vigil)?;
                Ok((outcome.tally, meter.stop()?))
            }
        }
    }

    /// The processes whose peers they are.
    pub(super) fn pids(&self) -> Vec<u32> {
        match self {
            Self::Here(_) => vec![std::process::id()],
            Self::Workers(workers) => workers.pids(),
        }
    }
}

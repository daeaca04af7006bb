//! The modes: what each puts a server through, and what it makes of it.

mod floor;
mod idle;
mod introduce;
mod login;
mod stun;

use super::args::{Command, Global};
use super::floor::{Floor, Shape};
use super::machine::Machine;
use super::meter::Meter;
use super::report::{Figure, Report};
use super::swarm::Swarm;
use super::target::Target;
use super::vigil::Vigil;
use crate::cli::exit::{self, Failure};
use crate::cli::output::Output;
use crate::net::sys;

/// Logins in progress at once where they aren't what is measured.
const LOGINS: usize = 32;

/// Descriptors of a process that aren't its peers'.
const SPARE_DESCRIPTORS: usize = 64;

/// What every mode works with.
struct Run<'a> {
    global: &'a Global,
    target: Target,
    vigil: Vigil,
}

/// Runs a mode, and prints what came of it.
pub(super) fn run(global: &Global, command: &Command, output: &Output) -> Result<(), Failure> {
    sys::raise_descriptor_limit()?;
    let vigil = Vigil::new(output)?;
    if let Command::Floor(args) = command {
        return floor::run(args, vigil)?.print(output);
    }
    let mut run = Run { global, target: Target::open(global)?, vigil };
    let report = match command {
        Command::Login(args) => login::run(&mut run, args),
        Command::Idle(args) => idle::run(&mut run, args),
        Command::Introduce(args) => introduce::run(&mut run, args),
        Command::Stun(args) => stun::run(&mut run, args),
        Command::Floor(_) | Command::FloorServer => unreachable!("they have no target"),
    }?;
    report.print(output)
}

impl Run<'_> {
    fn report(&self, mode: &'static str) -> Report {
        let mut report = Report::new(mode, Machine::look(Some(&self.target)));
        if self.target.pid().is_none() {
            report.note("S is elsewhere: its CPU time and memory are not seen");
        }
        if self.global.idle > 0 {
            report.note(format!("{} other peers were logged in and silent", self.global.idle));
        }
        report
    }

    /// Peers that are there beforehand, among them those that `--idle` asks for; the next ones come after
    /// them.
    fn swarm(&mut self, more: usize) -> Result<Swarm, Failure> {
        let mut swarm = Swarm::new(&self.target)?;
        let wanted = self.global.idle + more + SPARE_DESCRIPTORS;
        let granted = sys::descriptor_limit()? as usize;
        if wanted > granted {
            let error = format!("{wanted} descriptors are needed, and {granted} are granted");
            return Err(Failure::usage(error).hint("fewer peers, or ulimit -n"));
        }
        if self.global.idle > 0 {
            self.vigil.phase("idle peers log in");
            let peers: Vec<_> = (0..self.global.idle).map(|_| swarm.add()).collect();
            login::all_in(&mut swarm, &peers, LOGINS, &self.vigil)?;
        }
        Ok(swarm)
    }

    /// A phase begins in which this process makes the load.
    fn meter(&self) -> Result<Meter, Failure> {
        self.target.settle(&self.vigil)?;
        Ok(Meter::start(self.target.pid(), &[std::process::id()])?)
    }

    /// The floor of a figure, if it is asked for.
    fn floor(
        &mut self,
        shape: Shape,
        count: u64,
        in_flight: usize,
    ) -> Result<Option<Figure>, Failure> {
        if !self.global.floor {
            return Ok(None);
        }
        let (tally, cost) = Floor::start()?.measure(shape, count, in_flight, &mut self.vigil)?;
        Ok(Some(Figure::new(shape.name(), &tally, &cost)))
    }
}

fn failure(why: impl Into<String>) -> Failure {
    Failure::new(exit::OTHER, why)
}

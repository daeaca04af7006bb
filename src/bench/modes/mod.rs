//! The modes: what each puts a server through, and what it makes of it.

mod floor;
mod idle;
mod introduce;
mod login;
pub(super) mod memory;
mod punch;
mod relay;
mod stun;

use super::args::{Command, Global};
use super::crew::Crew;
use super::floor::{Floor, Shape};
use super::machine::Machine;
use super::meter::Meter;
use super::report::{Figure, Report};
use super::target::Target;
use super::task::Task;
use super::vigil::Vigil;
use crate::cli::exit::{self, Failure};
use crate::cli::output::Output;
use crate::net::sys;

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
    match command {
        Command::Floor(args) => return floor::run(args, vigil)?.print(output),
        Command::Memory(args) => return memory::run(args, vigil)?.print(output),
        _ => {}
    }
    let mut run = Run { global, target: Target::open(global)?, vigil };
    let report = match command {
        Command::Login(args) => login::run(&mut run, args),
        Command::Idle(args) => idle::run(&mut run, args),
        Command::Introduce(args) => introduce::run(&mut run, args),
        Command::Stun(args) => stun::run(&mut run, args),
        Command::Punch(args) => punch::run(&mut run, args),
        Command::Relay(args) => relay::run(&mut run, args),
        Command::Floor(_)
        | Command::Memory(_)
        | Command::MemoryOf(_)
        | Command::FloorServer
        | Command::Worker { .. } => unreachable!("they have no target"),
    }?;
    report.print(output)
}

impl Run<'_> {
    fn report(&self, mode: &'static str) -> Report {
        let mut report = Report::new(mode, Machine::look(Some(&self.target)));
        if self.target.pid().is_none() {
            report.note("S is elsewhere: its CPU time and memory are not seen");
        }
        if self.global.processes > 1 {
            report.note(format!("the load came from {} processes", self.global.processes));
        }
        if self.global.idle > 0 {
            report.note(format!("{} other peers were logged in and silent", self.global.idle));
        }
        report
    }

    /// Prepares a task, with the silent peers that `--idle` asks for.
    fn crew(&mut self, task: Task) -> Result<Crew, Failure> {
        let Global { idle, processes, .. } = *self.global;
        Crew::prepare(&self.target, task, idle, processes, &mut self.vigil)
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

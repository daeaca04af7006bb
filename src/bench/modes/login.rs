//! Logins, one after the other or all at once.

use super::Run;
use crate::bench::args::LoginArgs;
use crate::bench::floor::Shape;
use crate::bench::report::{Figure, Report};
use crate::bench::task::Task;
use crate::cli::exit::Failure;

pub(super) fn run(run: &mut Run<'_>, args: &LoginArgs) -> Result<Report, Failure> {
    let &LoginArgs { peers, in_flight, storm } = args;
    let (name, task) = match storm {
        true => ("login, all at once", Task::Storm { peers }),
        false => ("login", Task::Login { peers, in_flight }),
    };
    let mut crew = run.crew(task)?;
    let (tally, cost) = crew.work(&run.target, &mut run.vigil)?;
    drop(crew);
    // The floor's connections don't come all at once: it has no protocol to come back with.
    let floor = run.floor(Shape::Accept, peers as u64, in_flight)?;
    let mut report = run.report("login");
    report.beside_floor(Figure::new(name, &tally, &cost), floor);
    if storm {
        report.note("latency from a peer's first dial to its welcome, tries again included");
    }
    report.note("what a peer does beside its login, looking at its NAT, is not part of it");
    Ok(report)
}

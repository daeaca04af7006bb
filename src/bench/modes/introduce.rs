//! Introductions: the broker's work alone.

use super::Run;
use crate::bench::args::IntroduceArgs;
use crate::bench::floor::Shape;
use crate::bench::report::{Figure, Report};
use crate::bench::task::Task;
use crate::cli::exit::Failure;

pub(super) fn run(run: &mut Run<'_>, args: &IntroduceArgs) -> Result<Report, Failure> {
    let &IntroduceArgs { count, pairs, in_flight } = args;
    let mut crew = run.crew(Task::Introduce { pairs, count, in_flight })?;
    let (tally, cost) = crew.work(&run.target, &mut run.vigil)?;
    drop(crew);
    let floor = run.floor(Shape::Forward, count as u64, in_flight)?;
    let mut report = run.report("introduce");
    report.beside_floor(Figure::new("introduction", &tally, &cost), floor);
    report.note("request, two releases, outcome: two messages in, two out; no socket is punched");
    Ok(report)
}

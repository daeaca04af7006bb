//! The floor alone.

use crate::bench::args::FloorArgs;
use crate::bench::floor::{Floor, Shape};
use crate::bench::machine::Machine;
use crate::bench::report::{Figure, Report};
use crate::bench::vigil::Vigil;
use crate::cli::exit::Failure;

/// Connections that stay are bounded by descriptors.
const HELD: u64 = 10_000;

pub(super) fn run(args: &FloorArgs, mut vigil: Vigil) -> Result<Report, Failure> {
    let mut report = Report::new("floor", Machine::look(None));
    for shape in Shape::ALL {
        let count = match shape {
            Shape::Accept => HELD.min(args.count as u64),
            _ => args.count as u64,
        };
        let (tally, cost) = Floor::start()?.measure(shape, count, args.connections, &mut vigil)?;
        report.figure(Figure::new(shape.name(), &tally, &cost));
    }
    Ok(report)
}

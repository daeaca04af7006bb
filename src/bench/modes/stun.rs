//! STUN Binding requests over TCP.

use std::net::SocketAddr;

use super::Run;
use crate::bench::args::StunArgs;
use crate::bench::exchange::{After, Conns, Exchange};
use crate::bench::floor::Shape;
use crate::bench::logins;
use crate::bench::report::{Figure, Report};
use crate::bench::swarm::Swarm;
use crate::bench::task::Task;
use crate::cli::exit::Failure;
use crate::wire::stun;

/// Of so many requests, one is made on a connection of its own: that costs several times as much.
const PER_CONNECTION: usize = 4;

/// Its address is behind those of all others.
const ASKER: usize = 10_000_000;

pub(super) fn run(run: &mut Run<'_>, args: &StunArgs) -> Result<Report, Failure> {
    let _others = match run.global.idle {
        0 => None,
        _ => Some(run.crew(Task::Idle)?),
    };
    // Where STUN is answered, a peer hears at its login.
    let mut swarm = Swarm::new(&run.target, ASKER)?;
    let asker = swarm.add();
    let welcome = logins::all_in(&mut swarm, &[asker], 1, &run.vigil)?;
    let hole = welcome.and_then(|welcome| swarm.hole(&welcome));
    let to = hole.ok_or_else(|| super::failure("this rendezvous answers no STUN"))?;
    let mut report = run.report("stun");

    let mut conns = Conns::towards(to)?;
    run.vigil.phase("STUN, persistent");
    conns.open(to, args.connections, &run.vigil)?;
    let exchange = exchange(to, args.count, args.connections);
    let meter = run.meter()?;
    let tally = conns.persistent(&exchange, &run.vigil)?;
    let figure = Figure::new("STUN, persistent", &tally, &meter.stop()?);
    let floor = run.floor(Shape::Answer, exchange.count, exchange.in_flight)?;
    report.beside_floor(figure, floor);

    let exchange = Exchange { count: exchange.count.div_ceil(PER_CONNECTION as u64), ..exchange };
    let mut conns = Conns::towards(to)?;
    let meter = run.meter()?;
    run.vigil.phase("STUN, one per connection");
    let tally = conns.one_each(&exchange, After::Close, &run.vigil)?;
    let figure = Figure::new("STUN, one per connection", &tally, &meter.stop()?);
    let floor = run.floor(Shape::AcceptClose, exchange.count, exchange.in_flight)?;
    report.beside_floor(figure, floor);
    Ok(report)
}

fn exchange(to: SocketAddr, count: usize, in_flight: usize) -> Exchange {
    let mut request = Vec::new();
    stun::binding_request(&mut request, &[7; 12], None);
    Exchange { to, request, answer, count: count as u64, in_flight }
}

fn answer(got: &[u8]) -> Result<Option<usize>, String> {
    match stun::decode(got) {
        Ok(Some((stun::Message::Success(_), length))) => Ok(Some(length)),
        Ok(Some((other, _))) => Err(format!("answered {other:?}")),
        Ok(None) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

//! Logins, one after the other or all at once.

use std::time::Duration;

use super::Run;
use crate::bench::args::LoginArgs;
use crate::bench::floor::Shape;
use crate::bench::report::{Figure, Report};
use crate::bench::swarm::{Happening, Swarm};
use crate::bench::tally::Tally;
use crate::bench::vigil::{TURN, Vigil};
use crate::cli::exit::Failure;
use crate::limits;
use crate::net::clock;
use crate::proto::timers::Timers;
use crate::wire::message::Welcome;

/// Tries of one login.
const TRIES: u32 = 16;

pub(super) fn run(run: &mut Run<'_>, args: &LoginArgs) -> Result<Report, Failure> {
    let mut swarm = run.swarm(args.peers)?;
    let peers: Vec<_> = (0..args.peers).map(|_| swarm.add()).collect();
    let mut in_flight = args.in_flight;
    if args.storm {
        run.vigil.phase("log in before the storm");
        all_in(&mut swarm, &peers, in_flight, &run.vigil)?;
        peers.iter().for_each(|peer| swarm.cut(*peer));
        in_flight = peers.len();
    }
    let meter = run.meter()?;
    run.vigil.phase(if args.storm { "storm" } else { "login" });
    let (tally, _) = log_in(&mut swarm, &peers, in_flight, &run.vigil)?;
    let cost = meter.stop()?;
    let name = if args.storm { "login, all at once" } else { "login" };
    let figure = Figure::new(name, &tally, &cost);
    drop(swarm);
    // The floor's connections come as these did, but not all at once: it has no protocol to come back with.
    let floor = run.floor(Shape::Accept, args.peers as u64, args.in_flight)?;
    let mut report = run.report("login");
    report.beside_floor(figure, floor);
    if args.storm {
        report
            .note("latency from the first dial of the storm to each welcome, tries again included");
    }
    report.note("what a peer does beside its login, looking at its NAT, is not part of it");
    Ok(report)
}

/// All of these peers log in, or it fails. Returns the last welcome.
pub(super) fn all_in(
    swarm: &mut Swarm,
    peers: &[usize],
    in_flight: usize,
    vigil: &Vigil,
) -> Result<Option<Box<Welcome>>, Failure> {
    let (tally, welcome) = log_in(swarm, peers, in_flight, vigil)?;
    match tally.errors.iter().next() {
        None => Ok(welcome),
        Some((kind, count)) => Err(super::failure(format!("{count} logins failed: {kind}"))),
    }
}

/// These peers log in, so many at once. Whoever is turned away comes back as a real peer does: with
/// jitter, and later each time.
pub(super) fn log_in(
    swarm: &mut Swarm,
    peers: &[usize],
    in_flight: usize,
    vigil: &Vigil,
) -> Result<(Tally, Option<Box<Welcome>>), Failure> {
    let mut tally = Tally::new();
    let mut welcome = None;
    let first = peers.first().copied().unwrap_or_default();
    let mut first_dials = vec![None; peers.len()];
    let mut tries = vec![0; peers.len()];
    let mut again = Timers::new();
    let mut chance = fastrand::Rng::with_seed(peers.len() as u64);
    let mut begun = 0;
    let total = peers.len() as u64;
    while tally.ended() < total {
        while begun < peers.len() && begun - (tally.ended() as usize) < in_flight {
            first_dials[begun] = Some(clock::now());
            swarm.log_in(peers[begun]);
            begun += 1;
        }
        let now = clock::now();
        while let Some((_, peer)) = again.expire(now) {
            swarm.log_in(peer);
        }
        let next = again.next().map(|at: std::time::Instant| at.saturating_duration_since(now));
        swarm.turn(next.map_or(TURN, |next| next.min(TURN)))?;
        while let Some((peer, happening)) = swarm.poll_happening() {
            // Those that were there before may lose their connection, too.
            let Some(at) = peer.checked_sub(first).filter(|at| *at < peers.len()) else {
                return Err(super::failure(format!("an idle peer: {happening:?}")));
            };
            match happening {
                Happening::LoggedIn(said) => {
                    let began = first_dials[at].unwrap_or(swarm.peer(peer).began);
                    tally.done(clock::now() - began);
                    welcome = Some(said);
                }
                Happening::Lost(kind) if tries[at] < TRIES => {
                    tally.retried(&kind);
                    tries[at] += 1;
                    again.set(clock::now() + pause(tries[at], &mut chance), peer);
                }
                Happening::Lost(kind) => tally.failed(&kind),
                Happening::Message(other) => {
                    return Err(super::failure(format!("unexpected: {other:?}")));
                }
            }
        }
        vigil.tick(tally.ended(), total)?;
    }
    Ok((tally, welcome))
}

/// Full jitter, and twice as long each time.
fn pause(tries: u32, chance: &mut fastrand::Rng) -> Duration {
    let longest = limits::RECONNECT_FIRST * 2_u32.pow(tries.min(8) - 1);
    longest.min(limits::RECONNECT_LONGEST).mul_f64(chance.f64())
}

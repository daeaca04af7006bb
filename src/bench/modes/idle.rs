//! Peers that say nothing: what each of them keeps.

use std::io;
use std::time::Duration;

use super::Run;
use crate::bench::args::IdleArgs;
use crate::bench::crew::Crew;
use crate::bench::floor::{Floor, Shape};
use crate::bench::proc;
use crate::bench::report::{Figure, Report};
use crate::bench::target::pause;
use crate::bench::task::{LOGINS, Task};
use crate::cli::exit::Failure;
use crate::cli::text;

/// From one look at the signals to the next.
const GLANCE: Duration = Duration::from_millis(250);

/// The kernel's share, seen from outside.
#[derive(Clone, Copy)]
struct Kernel {
    available: u64,
    sockets: proc::Sockets,
}

impl Kernel {
    fn look() -> io::Result<Self> {
        Ok(Self { available: proc::available()?, sockets: proc::sockets()? })
    }
}

pub(super) fn run(run: &mut Run<'_>, args: &IdleArgs) -> Result<Report, Failure> {
    let mut crew = run.crew(Task::Login { peers: args.peers, in_flight: LOGINS })?;
    run.target.settle(&run.vigil)?;
    let pid = run.target.pid();
    let resident = |pid: Option<u32>| pid.map(proc::resident).transpose();
    let own = |crew: &Crew| crew.pids().into_iter().map(proc::resident).sum::<io::Result<u64>>();
    let own_before = own(&crew)?;
    let (before, kernel_before) = (resident(pid)?, Kernel::look()?);
    let (tally, login_cost) = crew.work(&run.target, &mut run.vigil)?;
    let meter = run.meter()?;
    let (after, kernel_after) = (resident(pid)?, Kernel::look()?);
    let grown = own(&crew)?.saturating_sub(own_before);
    let wakes_before = pid.map(proc::wake_ups).transpose()?;
    run.vigil.phase(format!("{} s of silence", args.seconds));
    for _ in 0..args.seconds * 4 {
        pause(GLANCE);
        run.vigil.check()?;
    }
    let cost = meter.stop()?;
    let wakes = pid.map(proc::wake_ups).transpose()?.zip(wakes_before).map(|(now, was)| now - was);
    let mut report = run.report("idle");
    report.figure(Figure::new("login", &tally, &login_cost));
    report.value("peers", args.peers as f64, &format!("{} peers logged in and silent", args.peers));
    if let (Some(before), Some(after)) = (before, after) {
        let each = after.saturating_sub(before) as f64 / args.peers as f64;
        let (from, to) = (text::bytes(before), text::bytes(after));
        let said =
            format!("resident memory of S: {each:.0} B a peer ({from} before, {to} with all)");
        report.value("server_resident_bytes_per_peer", each, &said);
    }
    kernel(&mut report, args.peers, kernel_before, kernel_after, grown, before.zip(after));
    if let (Some(cpu), Some(wakes)) = (cost.server, wakes) {
        let seconds = cost.wall.as_secs_f64();
        let millis = cpu.as_secs_f64() * 1e3;
        let said = format!("CPU time of S in {seconds:.1} s of silence: {millis:.3} ms");
        report.value("server_idle_cpu_ms", millis, &said);
        let rate = wakes as f64 / seconds;
        let said = format!("wake-ups of S in that time: {wakes}, {rate:.2} a second");
        report.value("server_wake_ups_per_second", rate, &said);
    }
    drop(crew);
    if run.global.floor {
        floor(run, args, &mut report)?;
    }
    Ok(report)
}

fn kernel(
    report: &mut Report,
    peers: usize,
    before: Kernel,
    after: Kernel,
    own: u64,
    server: Option<(u64, u64)>,
) {
    let peers = peers as f64;
    let server = server.map_or(0, |(before, after)| after.saturating_sub(before));
    let taken =
        before.available.saturating_sub(after.available).saturating_sub(own + server) as f64;
    let said = format!(
        "kernel memory, MemAvailable less both processes: {:.0} B a peer, for both ends of its connection",
        taken / peers
    );
    report.value("kernel_bytes_per_peer_both_ends", taken / peers, &said);
    let in_use = after.sockets.in_use.saturating_sub(before.sockets.in_use) as f64;
    let pages = after.sockets.pages as f64 - before.sockets.pages as f64;
    let said = format!(
        "kernel sockets: {:.2} a peer, and {pages:.0} pages of buffers more",
        in_use / peers
    );
    report.value("kernel_sockets_per_peer", in_use / peers, &said);
    report.value("kernel_buffer_pages", pages, "");
}

/// A bare server with as many connections.
fn floor(run: &mut Run<'_>, args: &IdleArgs, report: &mut Report) -> Result<(), Failure> {
    let floor = Floor::start()?;
    let before = proc::resident(floor.program.pid())?;
    let held = floor.measure(Shape::Accept, args.peers as u64, LOGINS, &mut run.vigil)?;
    let after = proc::resident(floor.program.pid())?;
    let each = after.saturating_sub(before) as f64 / args.peers as f64;
    let said = format!("resident memory of a bare server: {each:.0} B a connection");
    report.value("floor_resident_bytes_per_connection", each, &said);
    report.figure(Figure::new(Shape::Accept.name(), &held.0, &held.1));
    Ok(())
}

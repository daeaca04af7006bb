//! The relay: what S's work for each byte costs.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;

use super::Run;
use crate::bench::args::RelayArgs;
use crate::bench::floor::Floor;
use crate::bench::flow::{Flows, Pair};
use crate::bench::logins;
use crate::bench::meter::{Cost, Meter};
use crate::bench::report::Report;
use crate::bench::swarm::{Happening, Swarm};
use crate::bench::vigil::{TURN, Vigil};
use crate::cli::exit::Failure;
use crate::limits;
use crate::net::clock;
use crate::net::socket::{self, Dialled};
use crate::wire::message::{Message, Port, Release, Role, RoundResult, Welcome};
use crate::wire::stun::{self, Join};

/// Of the bytes, so many flow before any are counted: windows and caches are warm then.
const WARM_UP: u64 = 8;

pub(super) fn run(run: &mut Run<'_>, args: &RelayArgs) -> Result<Report, Failure> {
    let mut swarm = Swarm::new(&run.target, 0)?;
    let mut lines = Vec::new();
    for pairs in [1, args.pairs] {
        run.vigil.phase(format!("relay, pairs: {pairs}"));
        let joined = (0..pairs).map(|_| pair(&mut swarm, run.target.main, &run.vigil));
        let mut flows = Flows::new(joined.collect::<Result<_, _>>()?)?;
        let server = run.target.pid();
        let cost = measure(&mut flows, args.bytes() / pairs as u64, server, &run.vigil)?;
        drop(flows);
        let floor = if run.global.floor { Some(floor(run, args, pairs)?) } else { None };
        lines.push((pairs, cost, floor));
        if args.pairs == 1 {
            break;
        }
    }
    let mut report = run.report("relay");
    report.value(
        "gb",
        args.gb,
        &format!("{} GB (10^9 bytes) in all, one way, at each row", args.gb),
    );
    for (pairs, cost, floor) in lines {
        add(&mut report, args, pairs, cost, floor);
    }
    report.note("plain bytes: S doesn't look at them. One thread sends and receives them all");
    if run.target.pid().is_none() {
        report.note("that S may hold bytes back: its relay has a rate");
    }
    Ok(report)
}

/// The names of the values carry the number of pairs.
fn add(report: &mut Report, args: &RelayArgs, pairs: usize, cost: Cost, floor: Option<Cost>) {
    let rate = args.gb / cost.wall.as_secs_f64();
    let busy = |cpu: std::time::Duration| cpu.as_secs_f64() / cost.wall.as_secs_f64();
    let bench = busy(cost.clients) * 100.0;
    let mut said = format!("{pairs:>5} pairs  {rate:>6.2} GB/s  bench busy {bench:>3.0} %");
    report.value(format!("gb_per_second_at_{pairs}"), rate, "");
    if let Some(cpu) = cost.server {
        let each = cpu.as_secs_f64() / args.gb;
        said += &format!("  S busy {:>3.0} %  CPU of S {each:.3} s/GB", busy(cpu) * 100.0);
        report.value(format!("server_cpu_seconds_per_gb_at_{pairs}"), each, "");
        if let Some(bare) = floor.and_then(|floor| floor.server) {
            let bare = bare.as_secs_f64() / args.gb;
            said += &format!("  floor: splice {bare:.3} s/GB  ratio {:.2}", each / bare);
            report.value(format!("floor_cpu_seconds_per_gb_at_{pairs}"), bare, "");
            report.value(format!("floor_ratio_at_{pairs}"), each / bare, "");
        }
    }
    report.say(&said);
}

fn measure(
    flows: &mut Flows,
    bytes_each: u64,
    server: Option<u32>,
    vigil: &Vigil,
) -> Result<Cost, Failure> {
    flows.run(bytes_each / WARM_UP, vigil)?;
    let meter = Meter::start(server, &[std::process::id()])?;
    flows.run(bytes_each, vigil)?;
    Ok(meter.stop()?)
}

/// The same through the bare server.
fn floor(run: &mut Run<'_>, args: &RelayArgs, pairs: usize) -> Result<Cost, Failure> {
    let floor = Floor::start()?;
    run.vigil.phase(format!("floor: splice, pairs: {pairs}"));
    let mut joined = Vec::new();
    for _ in 0..pairs {
        // One after the other: two that follow each other are a pair.
        let near = connect(floor.listening.splice, &run.vigil)?;
        let far = connect(floor.listening.splice, &run.vigil)?;
        joined.push(Pair { near, far });
    }
    let server = Some(floor.program.pid());
    measure(&mut Flows::new(joined)?, args.bytes() / pairs as u64, server, &run.vigil)
}

// ---- two peers join a relay ----------------------------------------------------------------------

fn pair(swarm: &mut Swarm, server: SocketAddr, vigil: &Vigil) -> Result<Pair, Failure> {
    let peers = [swarm.add(), swarm.add()];
    let mut welcomes = Vec::new();
    for peer in peers {
        let welcome = logins::all_in(swarm, &[peer], 1, vigil)?;
        welcomes.extend(welcome);
    }
    let [a, b] = &welcomes[..] else { return Err(super::failure("a login without a welcome")) };
    let asked = Message::Introduce { request: 1, peer: b.id, from: Port::Main };
    swarm.send(peers[0], &asked);
    let [to_a, to_b] = releases(swarm, vigil)?;
    let near = join(a, &to_a, server, vigil)?;
    let far = join(b, &to_b, server, vigil)?;
    let ends = [near, far];
    for end in &ends {
        joined(end, vigil)?;
    }
    let Release { introduction, round, .. } = *to_a;
    let outcome = Message::Outcome { introduction, round, result: RoundResult::Relayed };
    swarm.send(peers[0], &outcome);
    let [near, far] = ends;
    Ok(Pair { near, far })
}

/// That of the controller, then the other one.
fn releases(swarm: &mut Swarm, vigil: &Vigil) -> Result<[Box<Release>; 2], Failure> {
    let (mut controller, mut controlled) = (None, None);
    loop {
        swarm.turn(TURN)?;
        vigil.check()?;
        while let Some((_, happening)) = swarm.poll_happening() {
            match happening {
                Happening::Message(Message::Release(release)) => match release.role {
                    Role::Controller => controller = Some(release),
                    Role::Controlled => controlled = Some(release),
                },
                Happening::Message(Message::Refused(refused)) => {
                    return Err(super::failure(format!("no release: {}", refused.code)));
                }
                Happening::Lost(why) => return Err(super::failure(format!("no release: {why}"))),
                // Of an earlier pair.
                Happening::Message(_) | Happening::LoggedIn(_) => {}
            }
        }
        match (controller, controlled) {
            (Some(one), Some(other)) => return Ok([one, other]),
            some => (controller, controlled) = some,
        }
    }
}

fn join(
    welcome: &Welcome,
    release: &Release,
    server: SocketAddr,
    vigil: &Vigil,
) -> Result<TcpStream, Failure> {
    let mut at = release.relay.ok_or_else(|| super::failure("this rendezvous does not relay"))?;
    if at.ip().is_unspecified() {
        at.set_ip(server.ip());
    }
    let &Release { introduction, token, role, .. } = release;
    let join = Join { session: welcome.token, introduction, token, role };
    let mut request = Vec::new();
    stun::relay_request(&mut request, &[7; 12], &join);
    let mut stream = connect(at, vigil)?;
    stream.write_all(&request)?;
    Ok(stream)
}

/// Reads the answer of S, and not a byte more.
fn joined(mut stream: &TcpStream, vigil: &Vigil) -> Result<(), Failure> {
    let (mut answer, mut byte) = (Vec::new(), [0]);
    let deadline = clock::now() + limits::RELAY_JOIN_TIME;
    loop {
        match stream.read(&mut byte) {
            Ok(0) => return Err(super::failure("S closed a connection that joined its relay")),
            Ok(_) => answer.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                vigil.check()?;
                if clock::now() > deadline {
                    return Err(super::failure("S does not answer who joins its relay"));
                }
                std::thread::yield_now();
            }
            Err(error) => return Err(error.into()),
        }
        match stun::decode(&answer) {
            Ok(None) => {}
            Ok(Some((stun::Message::Success(_), _))) => return Ok(()),
            Ok(Some((other, _))) => return Err(super::failure(format!("not relayed: {other:?}"))),
            Err(error) => return Err(super::failure(format!("not relayed: {error}"))),
        }
    }
}

/// Waits for it: nothing else is going on.
fn connect(to: SocketAddr, vigil: &Vigil) -> Result<TcpStream, Failure> {
    let stream = socket::dial(0, to)?;
    loop {
        match socket::look_at_dial(&stream) {
            Dialled::Established { .. } => return Ok(stream),
            Dialled::Failed(error) => return Err(error.into()),
            Dialled::Pending => vigil.check()?,
        }
        std::thread::yield_now();
    }
}

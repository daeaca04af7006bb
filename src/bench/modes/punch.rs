//! Whole punches: two real peers and S, from the request to the first sealed words.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Run;
use crate::bench::args::PunchArgs;
use crate::bench::floor::Shape;
use crate::bench::meter::Cost;
use crate::bench::report::{Figure, Report};
use crate::bench::tally::Tally;
use crate::bench::target::Target;
use crate::bench::task::Task;
use crate::bench::vigil::{TURN, Vigil};
use crate::bench::worker::Workers;
use crate::cli::exit::Failure;
use crate::identity::{PeerId, SecretKey, ServerAddr};
use crate::net::clock;
use crate::net::peer::{Event, LocalEnd, Options, PeerHost, Service, StreamId};
use crate::net::reactor::{HostId, Reactor};
use crate::proto::peer::{self, PunchId};
use crate::proto::punch::{Outcome, Preference, Report as PunchReport};
use crate::wire::message::Allow;
use crate::wire::record::Purpose;

/// What B shares.
const SERVICE: &str = "bench";

pub(super) fn run(run: &mut Run<'_>, args: &PunchArgs) -> Result<Report, Failure> {
    let (idle, storm) = (run.global.idle, args.storm.unwrap_or(0));
    let silent = idle.checked_sub(storm);
    let silent = silent.ok_or_else(|| Failure::usage("a storm of more peers than --idle has"))?;
    let others = (idle > 0).then(|| {
        let task = match storm {
            0 => Task::Idle,
            peers => Task::Storms { peers },
        };
        Workers::start(&run.target, &[task], silent, &mut run.vigil)
    });
    let mut others = others.transpose()?;
    run.vigil.phase("peers log in");
    let mut load = Load::new(&run.target, args)?;
    load.settle(&run.vigil)?;
    let meter = run.meter()?;
    if let Some(others) = &mut others {
        others.go()?;
    }
    run.vigil.phase("punch");
    let tally = load.run(&run.vigil)?;
    let cost = meter.stop()?;
    drop(load);
    let storms = others.map(|mut others| others.collect(&run.vigil)).transpose()?;
    let floor = run.floor(Shape::Forward, args.count as u64, args.in_flight)?;
    let mut report = run.report("punch");
    let figure = Figure::new("punch", &tally, &cost);
    let figure = if storm > 0 { figure.among_others() } else { figure };
    report.beside_floor(figure, floor);
    report
        .note("both peers are real and share one thread; from the request to a proved connection");
    if let Some(storms) = storms.filter(|_| storm > 0) {
        // Whose share of the server's time that was can't be told.
        let cost = Cost { server: None, clients: storms.cpu, ..cost };
        report.figure(Figure::new("beside it: reconnect storms", &storms.tally, &cost));
    }
    Ok(report)
}

struct Peer {
    host: HostId,
    id: PeerId,
    /// Punches under way, and since when.
    asked: HashMap<PunchId, Instant>,
    /// Proved, and how long it took; the other end has yet to say a word.
    standing: HashMap<StreamId, Duration>,
}

struct Load {
    reactor: Reactor,
    /// Those who ask, then as many who are asked.
    peers: Vec<Peer>,
    count: u64,
    in_flight: u64,
    begun: u64,
    tally: Tally,
}

impl Load {
    fn new(target: &Target, args: &PunchArgs) -> Result<Self, Failure> {
        // Each pair connects its main ports once, as peers do: so many that no pair comes twice.
        let side = (args.count as f64).sqrt().ceil() as usize;
        let side = side.max(args.in_flight.min(args.count)).min(args.peers);
        let server = ServerAddr {
            key: target.key,
            host: target.main.ip().to_string(),
            port: target.main.port(),
        };
        let mut reactor = Reactor::new()?;
        let peers = (0..2 * side).map(|number| open(&mut reactor, &server, number, side)).collect();
        let (count, in_flight) = (args.count as u64, args.in_flight as u64);
        Ok(Self { reactor, peers, count, in_flight, begun: 0, tally: Tally::new() })
    }

    /// Until all are logged in and have looked at their NATs.
    fn settle(&mut self, vigil: &Vigil) -> Result<(), Failure> {
        let (mut settled, total) = (0, self.peers.len() as u64);
        while settled < total {
            self.reactor.turn(Some(clock::now() + TURN))?;
            for peer in &self.peers {
                while let Some(event) = self.reactor.peer(peer.host).poll_event() {
                    match event {
                        Event::Peer(peer::Event::NatSettled(_)) => settled += 1,
                        Event::Peer(peer::Event::LoggedOut { error, .. }) => {
                            return Err(super::failure(format!("a peer: {error}")));
                        }
                        _ => {}
                    }
                }
            }
            vigil.tick(settled, total)?;
        }
        Ok(())
    }

    fn run(&mut self, vigil: &Vigil) -> Result<Tally, Failure> {
        while self.tally.ended() < self.count {
            while self.begun < self.count && self.begun - self.tally.ended() < self.in_flight {
                self.ask()?;
            }
            self.reactor.turn(Some(clock::now() + TURN))?;
            for number in 0..self.peers.len() {
                let host = self.peers[number].host;
                while let Some(event) = self.reactor.peer(host).poll_event() {
                    self.handle(number, event)?;
                }
            }
            vigil.tick(self.tally.ended(), self.count)?;
        }
        Ok(std::mem::replace(&mut self.tally, Tally::new()))
    }

    fn ask(&mut self) -> Result<(), Failure> {
        let side = self.peers.len() / 2;
        let (turn, at) = (self.begun as usize / side, self.begun as usize % side);
        let asked = self.peers[side + (at + turn) % side].id;
        let asker = &mut self.peers[at];
        let began = clock::now();
        let purpose = Purpose::Stream(SERVICE.into());
        let punch = self.reactor.with_peer(asker.host, |peer, core| {
            peer.connect(core, asked, Preference::DirectOnly, purpose, LocalEnd::Application)
        });
        let punch = punch.map_err(|error| super::failure(format!("a request: {error}")))?;
        asker.asked.insert(punch, began);
        self.begun += 1;
        Ok(())
    }

    fn handle(&mut self, number: usize, event: Event) -> Result<(), Failure> {
        let peer = &mut self.peers[number];
        match event {
            Event::Connected { punch, stream, report } => {
                let Some(began) = peer.asked.remove(&punch) else { return Ok(()) };
                peer.standing.insert(stream, clock::now() - began);
                if report.rounds.len() > 1 {
                    self.tally.retried(&format!("in round {}", report.rounds.len()));
                }
            }
            // The other end's first words have come, sealed.
            Event::Opened(stream) => {
                let Some(took) = peer.standing.remove(&stream) else { return Ok(()) };
                self.tally.done(took);
                let host = peer.host;
                self.reactor.with_peer(host, |peer, core| peer.close_stream(core, stream));
            }
            Event::Failed { punch, report } if peer.asked.remove(&punch).is_some() => {
                self.tally.failed(&why(&report));
            }
            Event::Closed { stream, end } if peer.standing.remove(&stream).is_some() => {
                let why = end.error.map_or("ended".to_owned(), |error| error.to_string());
                self.tally.failed(&why);
            }
            Event::Peer(peer::Event::LoggedOut { error, .. }) => {
                return Err(super::failure(format!("a peer was lost: {error}")));
            }
            _ => {}
        }
        Ok(())
    }
}

fn why(report: &PunchReport) -> String {
    match &report.outcome {
        Outcome::Failed(error) => error.to_string(),
        other => format!("{other:?}"),
    }
}

fn open(reactor: &mut Reactor, server: &ServerAddr, number: usize, side: usize) -> Peer {
    let is_asked = number >= side;
    let key = Arc::new(SecretKey::generate());
    let id = PeerId::of(key.public());
    let services = HashMap::from([(SERVICE.to_owned(), Service::Application)]);
    let options = Options {
        key,
        server: server.clone(),
        reachable: true,
        allow: Allow { anyone: is_asked, peers: Vec::new() },
        services: if is_asked { services } else { HashMap::new() },
        reconnect: false,
        agent: "gimlet-bench".into(),
        spare_holes: 0,
        follow_network: false,
        port_mapping: false,
    };
    let host = reactor.add_peer(|core, host| PeerHost::open(core, host, options, number as u64));
    Peer { host, id, asked: HashMap::new(), standing: HashMap::new() }
}

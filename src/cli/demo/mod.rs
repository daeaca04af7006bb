//! `gimlet demo`: a rendezvous and two peers in one process, on the loopback interface, and what
//! happens between them as a diagram. It reads and writes no files.

mod actor;
mod timeline;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::actor::{Actor, PINGS, TRANSFER_BYTES};
use self::timeline::{Arrow, Summary, Timeline};
use super::exit::{self, Failure};
use super::output::Output;
use super::session::agent;
use super::text;
use crate::identity::{SecretKey, ServerAddr};
use crate::net::clock;
use crate::net::peer::{LocalEnd, Options, PeerHost, Service};
use crate::net::reactor::Reactor;
use crate::net::rendezvous::{self, RendezvousHost};
use crate::proto::punch::Preference;
use crate::wire::message::Allow;
use crate::wire::record::Purpose;

/// The whole of it takes a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(15);

const SERVICE: &str = "demo";

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Plays it.
pub(crate) fn run(output: &Output) -> Result<(), Failure> {
    let mut demo = Demo {
        reactor: Reactor::new()?,
        timeline: Timeline::new(*output),
        actors: Vec::new(),
        deadline: clock::now() + PATIENCE,
    };
    demo.timeline.open()?;
    demo.play()
}

struct Demo {
    reactor: Reactor,
    timeline: Timeline,
    /// A, then B.
    actors: Vec<Actor>,
    deadline: Instant,
}

impl Demo {
    fn play(&mut self) -> Result<(), Failure> {
        let server = self.open_rendezvous()?;
        let keys = [Arc::new(SecretKey::generate()), Arc::new(SecretKey::generate())];
        let caller = keys[0].public().peer_id();

        self.log_in("A", Arc::clone(&keys[0]), &server, Allow::default())?;
        self.log_in(
            "B",
            Arc::clone(&keys[1]),
            &server,
            Allow { anyone: false, peers: vec![caller] },
        )?;
        self.connect()?;
        self.until("the direct connection", |actors| actors.iter().all(Actor::is_connected))?;

        let (began, asked) = (clock::now(), self.actors[0].asked);
        self.actors.iter_mut().for_each(Actor::start_transfer);
        self.until("the transfer", |actors| actors.iter().all(Actor::has_received))?;
        let transfer = clock::now().duration_since(began);
        let (size, rate) = (text::bytes(TRANSFER_BYTES), text::rate(2 * TRANSFER_BYTES, transfer));
        let what = format!("{size} each way, every byte as it was sent: {rate}");
        self.timeline.tell("transferred", Arrow::Direct, &what)?;

        self.actors[0].start_pings();
        self.until("the round trips", |actors| actors[0].round_trips.len() >= PINGS)?;
        let best = self.actors[0].round_trips.iter().min().copied().unwrap_or_default();
        let what = format!("a round trip takes {} (best of {PINGS})", text::time(best));
        self.timeline.tell("pinged", Arrow::Direct, &what)?;

        self.actors.iter_mut().for_each(Actor::finish);
        self.until("the end", |actors| actors.iter().all(Actor::is_closed))?;
        self.timeline.tell(
            "closed",
            Arrow::Direct,
            "both have finished, and the connection is closed",
        )?;
        self.sum_up(asked, transfer, best)
    }

    fn open_rendezvous(&mut self) -> Result<ServerAddr, Failure> {
        let key = Arc::new(SecretKey::generate());
        let id = key.public().peer_id();
        let options = rendezvous::Options {
            key,
            main: vec![LOOPBACK],
            holes: vec![LOOPBACK, LOOPBACK],
            text: String::new(),
            relay: true,
            dial_back: true,
            limits: rendezvous::Limits::default(),
        };
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(std::io::Error::other)?;
        let host = self
            .reactor
            .add_rendezvous(|core, id| RendezvousHost::open(core, id, options, seed))?;
        let rendezvous = self.reactor.rendezvous(host);
        let main = rendezvous.main_addresses()[0];
        let holes: Vec<_> =
            rendezvous.hole_addresses().iter().map(|hole| hole.port().to_string()).collect();
        let what = format!("S listens on {main}, and on ports {} for STUN", holes.join(" and "));
        self.timeline.tell("listening", Arrow::AtS, &what)?;
        Ok(ServerAddr { key: Some(id), host: main.ip().to_string(), port: main.port() })
    }

    fn log_in(
        &mut self,
        name: &'static str,
        key: Arc<SecretKey>,
        server: &ServerAddr,
        allow: Allow,
    ) -> Result<(), Failure> {
        let id = key.public().peer_id();
        let options = Options {
            key,
            server: server.clone(),
            reachable: true,
            allow,
            services: HashMap::from([(SERVICE.to_owned(), Service::Application)]),
            reconnect: false,
            agent: agent(),
            spare_holes: 0,
            follow_network: false,
            port_mapping: false,
        };
        let seed = getrandom::u64().map_err(std::io::Error::other)?;
        let host = self.reactor.add_peer(|core, id| PeerHost::open(core, id, options, seed));
        self.actors.push(Actor::new(name, id, host));
        let at = self.actors.len() - 1;
        self.until("the login", |actors| actors[at].is_ready())
    }

    fn connect(&mut self) -> Result<(), Failure> {
        let (host, peer) = (self.actors[0].host, self.actors[1].id);
        self.actors[0].asked = clock::now();
        let purpose = Purpose::Stream(SERVICE.to_owned());
        self.reactor
            .with_peer(host, |host, core| {
                host.connect(core, peer, Preference::Any, purpose, LocalEnd::Application)
            })
            .map_err(|error| Failure::new(exit::OTHER, error.to_string()))?;
        let what = format!("A asks for B, and there for the service \"{SERVICE}\"");
        self.timeline.tell("asked", Arrow::AToS, &what)
    }

    /// Turns the loop until something is so.
    fn until(&mut self, what: &str, done: impl Fn(&[Actor]) -> bool) -> Result<(), Failure> {
        loop {
            self.hear()?;
            if done(&self.actors) {
                return Ok(());
            }
            if clock::now() >= self.deadline {
                let seconds = PATIENCE.as_secs();
                let error = format!("{what} has not come about within {seconds} s");
                return Err(Failure::new(exit::OTHER, error));
            }
            self.reactor.turn(Some(self.deadline))?;
        }
    }

    /// Takes the events of both and moves what can be moved, until that makes no more events.
    fn hear(&mut self) -> Result<(), Failure> {
        let mut quiet = false;
        while !quiet {
            quiet = true;
            for actor in &mut self.actors {
                while let Some(event) = self.reactor.peer(actor.host).poll_event() {
                    quiet = false;
                    actor.handle(event, &mut self.timeline)?;
                }
                self.reactor.with_peer(actor.host, |host, core| actor.pump(host, core))?;
            }
        }
        Ok(())
    }

    fn sum_up(&self, asked: Instant, transfer: Duration, rtt: Duration) -> Result<(), Failure> {
        let Some((proved, report)) = &self.actors[0].proved else {
            return Err(Failure::new(exit::OTHER, "the connection is not proved"));
        };
        self.timeline.close(&Summary {
            proved_after: proved.duration_since(asked),
            rounds: report.rounds.len(),
            bytes_each_way: TRANSFER_BYTES,
            transfer,
            rtt,
            report,
        })
    }
}

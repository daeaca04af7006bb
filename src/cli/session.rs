//! One login of one peer, and the loop around it: what all commands that log in have in common.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::address_book::AddressBook;
use super::events;
use super::exit::{self, Failure};
use super::explain;
use super::known_servers::place;
use super::output::Output;
use super::report_json;
use super::settings::Settings;
use super::signals::{Signal, Signals};
use super::trust::Trust;
use crate::identity::{PeerId, SecretKey};
use crate::limits;
use crate::net::clock;
use crate::net::peer::{Event, Options, PeerHost, Service};
use crate::net::reactor::{Core, HostId, Reactor};
use crate::net::sys;
use crate::proto::peer::{self, LoginError};
use crate::proto::portmap::{self, Worthless};
use crate::proto::punch::{Report, report};
use crate::wire::message::{Allocation, Allow, Filtering, Mapping, Nat, Refusal};

/// What a command runs with.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) output: Output,
    pub(crate) book: AddressBook,
    pub(crate) key: Arc<SecretKey>,
    pub(crate) id: PeerId,
}

impl Context {
    /// Reads the address book, and the key, which is made at the first use.
    pub(crate) fn new(settings: Settings, output: Output) -> Result<Self, Failure> {
        let book = AddressBook::load(settings.home.address_book())?;
        let key = settings.home.key()?;
        let id = key.public().peer_id();
        Ok(Self { settings, output, book, key: Arc::new(key), id })
    }
}

/// What a session is for.
#[derive(Debug)]
pub(crate) enum Part {
    /// Others may call. It takes the place of an earlier session of the same identity.
    Share(Offer),
    /// One call at most. Callers of one identity run beside each other.
    CallOnce,
    /// Many calls to one peer: fresh ports are kept ready for them.
    CallOften {
        /// See [`Offer::port_mapping`].
        port_mapping: bool,
    },
    /// No calls. It hears who comes and goes.
    Watch,
    /// No calls. It looks at the NAT.
    Look {
        /// See [`Offer::port_mapping`].
        port_mapping: bool,
    },
}

/// What a session offers to others.
#[derive(Debug, Default)]
pub(crate) struct Offer {
    /// Whom it lets in.
    pub(crate) allow: Allow,
    /// What it shares.
    pub(crate) services: HashMap<String, Service>,
    /// Whether the router is asked to map a port. Not worth it for one call.
    pub(crate) port_mapping: bool,
}

/// What [`Session::next`] has to tell.
#[derive(Debug)]
pub(crate) enum Happening {
    /// The peer's.
    Event(Event),
    /// A source that the command watches is ready.
    Ready(usize),
    /// The program should end.
    Signal(Signal),
    /// The time is up.
    Deadline,
}

/// A peer that logs in and stays so.
pub(crate) struct Session<'a> {
    pub(crate) context: &'a Context,
    pub(crate) reactor: Reactor,
    host: HostId,
    signals: Signals,
    trust: Trust,
    ready: VecDeque<usize>,
    /// Whether the loop has turned since the last deadline.
    turned: bool,
    /// Why there is no login, unless there is one.
    last_error: Option<LoginError>,
    /// What has been told of the NAT.
    nat_told: Option<Nat>,
    /// Where the command listens, for the event that says so.
    pub(crate) listen: Option<SocketAddr>,
}

impl<'a> Session<'a> {
    /// Begins to log in.
    pub(crate) fn open(context: &'a Context, part: Part) -> Result<Self, Failure> {
        let server = context.settings.server()?;
        let trust = Trust::new(server, context.settings.home.known_servers())?;
        match sys::raise_descriptor_limit() {
            Ok(limit) => log::debug!("descriptors: {limit}"),
            Err(error) => log::warn!("the limit of descriptors stays: {error}"),
        }
        let mut reactor = Reactor::new()?;
        let signals = Signals::watch(&mut reactor, &Signal::ENDS)?;
        // One call, or one look, is over before a new login would help it.
        let follow_network = !matches!(part, Part::CallOnce | Part::Look { .. });
        let (offer, spare_holes, port_mapping) = match part {
            Part::Share(offer) => {
                let port_mapping = offer.port_mapping;
                (Some(offer), 0, port_mapping)
            }
            Part::CallOnce | Part::Watch => (None, 0, false),
            Part::Look { port_mapping } => (None, 0, port_mapping),
            Part::CallOften { port_mapping } => (None, limits::SPARE_HOLES, port_mapping),
        };
        let reachable = offer.is_some();
        let offer = offer.unwrap_or_default();
        let options = Options {
            key: Arc::clone(&context.key),
            server: trust.server().clone(),
            reachable,
            allow: offer.allow,
            services: offer.services,
            reconnect: true,
            agent: agent(),
            spare_holes,
            follow_network,
            port_mapping,
        };
        let seed = getrandom::u64().map_err(std::io::Error::other)?;
        let host = reactor.add_peer(|core, id| PeerHost::open(core, id, options, seed));
        Ok(Self {
            context,
            reactor,
            host,
            signals,
            trust,
            ready: VecDeque::new(),
            turned: false,
            last_error: None,
            nat_told: None,
            listen: None,
        })
    }

    /// Waits for the next thing to happen. The deadline is told only when all else has been.
    pub(crate) fn next(&mut self, deadline: Option<Instant>) -> Result<Happening, Failure> {
        loop {
            if let Some(key) = self.ready.pop_front() {
                let signal = self.signals.take(key);
                return Ok(signal.map_or(Happening::Ready(key), Happening::Signal));
            }
            if let Some(event) = self.reactor.peer(self.host).poll_event() {
                if let Event::ServerKey(key) = event {
                    self.trust.see(key, &self.context.output)?;
                }
                return Ok(Happening::Event(event));
            }
            if self.turned && deadline.is_some_and(|at| at <= clock::now()) {
                self.turned = false;
                return Ok(Happening::Deadline);
            }
            self.reactor.turn(deadline)?;
            self.turned = true;
            self.ready.extend(self.reactor.take_ready());
        }
    }

    /// Gives the peer a command.
    pub(crate) fn with_peer<T>(
        &mut self,
        command: impl FnOnce(&mut PeerHost, &mut Core) -> T,
    ) -> T {
        self.reactor.with_peer(self.host, command)
    }

    /// Enters rooms, now and after each login.
    pub(crate) fn join(&mut self, rooms: Vec<String>) {
        for room in rooms {
            self.with_peer(|peer, core| peer.command(core, |machine| machine.join(room)));
        }
    }

    /// Asks to hear of peers, now and after each login.
    pub(crate) fn watch(&mut self, peers: Vec<PeerId>) {
        self.with_peer(|peer, core| peer.command(core, |machine| machine.watch(peers)));
    }

    /// The program ends: what the router does for us is ended first, as far as that goes quickly.
    pub(crate) fn close(mut self) -> Result<(), Failure> {
        let deadline = clock::now() + limits::PORT_UNMAPPING_TIME;
        self.with_peer(PeerHost::remove_port_mapping);
        while self.reactor.peer(self.host).has_port_mapping() && clock::now() < deadline {
            self.reactor.turn(Some(deadline))?;
        }
        Ok(())
    }

    /// Why there is no login, as far as is known.
    pub(crate) fn login_failure(&self) -> Option<Failure> {
        self.last_error.as_ref().map(|error| explain::login(error, &self.trust))
    }

    /// What a failed login means for the user.
    pub(crate) fn explain_login(&self, error: &LoginError) -> Failure {
        explain::login(error, &self.trust)
    }

    /// Where the rendezvous is.
    pub(crate) fn place(&self) -> &str {
        self.trust.place()
    }

    /// Tells of the login, the NAT, the router, and who comes and goes.
    ///
    /// # Errors
    /// When the login is lost for good.
    pub(crate) fn announce(&mut self, event: Event) -> Result<(), Failure> {
        let event = match event {
            Event::Peer(event) => event,
            Event::DirectWay { report, .. } => return self.direct_way(&report),
            Event::PortMapped { mapping, worth } => return self.port_mapped(mapping, worth),
            Event::PortMappingLost(mapping) => return self.port_mapping_lost(mapping),
            _ => return Ok(()),
        };
        match event {
            peer::Event::LoggedIn { observed, text } => self.logged_in(observed, &text),
            peer::Event::LoggedOut { error, retry_in } => self.logged_out(error, retry_in),
            peer::Event::NatKnown(nat) => self.nat_known(nat, false),
            peer::Event::NatSettled(nat) => self.nat_known(nat, true),
            peer::Event::Presence { peer, online, room } => self.presence(peer, online, &room),
            peer::Event::Refused { code, text } => {
                let error = if text.is_empty() { code.to_string() } else { text };
                self.output().note(&format!("the rendezvous refuses: {error}"));
                self.output().event(&events::Event::Refused { error })
            }
            _ => Ok(()),
        }
    }

    fn logged_in(&mut self, observed: SocketAddr, text: &str) -> Result<(), Failure> {
        self.last_error = None;
        let elsewhere = self.reactor.peer(self.host).machine().elsewhere().map(place);
        let place = elsewhere.as_deref().unwrap_or(self.trust.place());
        self.output().say(&format!("logged in at {place}, which sees you at {observed}"))?;
        if !text.is_empty() {
            self.output().say(&format!("{place} says: {text}"))?;
        }
        self.output().event(&events::Event::Ready {
            id: self.context.id.to_string(),
            server: place,
            observed,
            listen: self.listen,
            text,
        })
    }

    fn logged_out(&mut self, error: LoginError, retry_in: Option<Duration>) -> Result<(), Failure> {
        let failure = explain::login(&error, &self.trust);
        let Some(delay) = retry_in else { return Err(failure) };
        let next = match delay.as_secs_f64() {
            0.0 => "logging in anew".to_owned(),
            seconds => format!("next try in {seconds:.1} s"),
        };
        // A connection in need of the login says so itself.
        if !self.output().is_quiet() {
            self.output().note(&format!("{}; {next}", failure.error));
        }
        self.output().event(&events::Event::LoggedOut {
            error: error.to_string(),
            retry_in_ms: report_json::millis(delay),
        })?;
        self.last_error = Some(error);
        Ok(())
    }

    /// Tells what is new.
    fn nat_known(&mut self, nat: Nat, complete: bool) -> Result<(), Failure> {
        let before = self.nat_told.replace(nat);
        if before == Some(nat) && !complete {
            return Ok(());
        }
        let before = before.unwrap_or_default();
        if before.mapping != nat.mapping || nat == Nat::default() {
            let mapping = report::mapping(nat.mapping);
            self.output().say(&format!("NAT mapping: {mapping} ({})", meaning(nat.mapping)))?;
        }
        let is_news =
            report_json::allocation(before.allocation) != report_json::allocation(nat.allocation);
        if let Some(ports) = ports(nat.allocation).filter(|_| is_news) {
            let allocation = report_json::allocation(nat.allocation);
            self.output().say(&format!("NAT ports: {allocation} ({ports})"))?;
        }
        if before.filtering != nat.filtering {
            let (filtering, lets_in) = (report_json::filtering(nat.filtering), lets_in(nat));
            self.output().say(&format!("NAT filtering: {filtering} ({lets_in})"))?;
        }
        let pool = self.with_peer(|peer, _| peer.machine().pool().to_vec());
        let mapping = events::MappingJson::new(nat, &pool, complete);
        self.output().event(&events::Event::Mapping(mapping))
    }

    fn direct_way(&self, report: &Report) -> Result<(), Failure> {
        let named = self.context.book.named(report.peer);
        self.output().say(&format!(
            "{}: a direct way has opened; this connection stays relayed, the next will be direct",
            named.name
        ))?;
        log::info!("{report}");
        self.output().event(&events::Event::DirectWay {
            peer: report.peer.to_string(),
            name: &named.name,
            report: Box::new(report_json::report(report)),
        })
    }

    fn port_mapped(
        &self,
        mapping: portmap::Mapping,
        worth: Result<(), Worthless>,
    ) -> Result<(), Failure> {
        let portmap::Mapping { protocol, external } = mapping;
        match worth {
            Ok(()) => log::info!("the router maps {external} to us, by {protocol}"),
            Err(why) => {
                log::info!("the router maps {external} to us, by {protocol}, in vain: {why}");
            }
        }
        self.output().event(&events::Event::PortMapped {
            protocol: report_json::protocol(protocol),
            endpoint: external,
            candidate: worth.is_ok(),
        })
    }

    fn port_mapping_lost(&self, mapping: portmap::Mapping) -> Result<(), Failure> {
        let portmap::Mapping { protocol, external } = mapping;
        log::info!("the router maps {external} to us no more, by {protocol}");
        let protocol = report_json::protocol(protocol);
        self.output().event(&events::Event::PortMappingLost { protocol, endpoint: external })
    }

    fn presence(&self, peer: PeerId, online: bool, room: &str) -> Result<(), Failure> {
        let named = self.context.book.named(peer);
        let verb = if online { "is online" } else { "went offline" };
        let place = if room.is_empty() { String::new() } else { format!(", in room {room}") };
        self.output().say(&format!("{} {verb}{place}", named.name))?;
        self.output().event(&events::Event::Presence {
            peer: peer.to_string(),
            name: &named.name,
            online,
            room,
        })
    }

    pub(crate) fn output(&self) -> &'a Output {
        &self.context.output
    }
}

/// The program and its version, for the operator's log.
pub(crate) fn agent() -> String {
    concat!("gimlet/", env!("CARGO_PKG_VERSION")).to_owned()
}

fn meaning(mapping: Mapping) -> &'static str {
    match mapping {
        Mapping::Unknown => "the hole ports of the rendezvous could not be reached",
        Mapping::None => "the address is your own",
        Mapping::EndpointIndependent => "others can be told where to reach you",
        Mapping::AddressDependent | Mapping::AddressAndPortDependent => {
            "each connection gets a new port: some pairs of NATs won't connect"
        }
    }
}

/// Whom a NAT lets in, and what others get.
fn lets_in(nat: Nat) -> String {
    let who = match nat.filtering {
        Filtering::Unknown => return "not probed".to_owned(),
        Filtering::EndpointIndependent => {
            return "everybody may come in where it maps you".to_owned();
        }
        Filtering::AddressDependent => "addresses that you have dialled may come in",
        Filtering::AddressAndPortDependent => "only whom you have dialled may come in",
    };
    match nat.refusal {
        Refusal::Unknown => who.to_owned(),
        Refusal::Silence => format!("{who}; others get no answer"),
        Refusal::Rst => format!("{who}; others get an RST"),
        Refusal::Icmp => format!("{who}; others get an ICMP error"),
    }
}

/// What is known of the ports that a NAT hands out.
fn ports(allocation: Allocation) -> Option<String> {
    match allocation {
        Allocation::Unknown => None,
        Allocation::Preserving => Some("each connection keeps its local port".to_owned()),
        Allocation::Sequential { delta, .. } => {
            Some(format!("the next is {delta:+} from the last"))
        }
        Allocation::Random => Some("no pattern was seen".to_owned()),
        Allocation::Block { first, last } => Some(format!("some port from {first} to {last}")),
    }
}

/// The signal as the end of a command that should have gone on until then.
pub(crate) fn stopped_by(signal: Signal) -> Failure {
    log::info!("{signal:?}: ends");
    Failure::quiet(exit::OK)
}

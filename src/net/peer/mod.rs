//! A peer in a reactor: drives the peer machine with real sockets.
//!
//! ```text
//! main_link   the login, and the listeners on its port
//! network     what becomes of the login when this machine's network changes
//! holes       fresh ports, and probes
//! look        a closer look at the NAT, from a hole of its own
//! idle        connections that say nothing, to see how long the NAT keeps them
//! paths       dials and accepted connections, until one is proved
//! relay       the way through S, until it is a path
//! port_mapping  what our router is asked for
//! direct_way  … and whether a direct one opens after all
//! streams     the proved connections, and the local sockets that they are pumped to
//! ```

mod direct_way;
mod events;
mod holes;
mod idle;
mod local;
mod look;
mod main_link;
mod network;
mod paths;
mod port_mapping;
mod relay;
mod streams;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mio::Token;
use mio::net::{TcpListener, TcpStream, UdpSocket};
use slab::Slab;

use self::direct_way::Search;
pub use self::events::{Event, StreamEnd, StreamError, StreamId};
use self::holes::{HoleSockets, ProbeLink};
use self::idle::IdleLink;
use self::local::Local;
pub use self::local::{LocalEnd, LocalSocket};
use self::look::LookLink;
use self::main_link::{MainLink, MainPort};
use self::paths::PathLink;
use self::port_mapping::{PortMapping, RouterLink};
use self::relay::RelayLink;
use self::streams::Wanted;
use super::clock;
use super::outbox::Outbox;
use super::reactor::{Core, HostId, Mail, Readiness};
use super::{socket, sys};
use crate::identity::{PeerId, SecretKey, ServerAddr};
use crate::limits;
use crate::proto::peer::{Action, Config, Peer, PunchId};
use crate::proto::punch::{self, ConnId, Preference, PunchError};
use crate::proto::timers::Timers;
use crate::wire::frame::FrameReader;
use crate::wire::message::{Allow, Port};
use crate::wire::record::Purpose;

/// What a peer is and offers.
#[derive(Debug)]
pub struct Options {
    /// Its identity.
    pub key: Arc<SecretKey>,
    /// The rendezvous. Its key, if there is one, is pinned.
    pub server: ServerAddr,
    /// Whether others may ask for it; it takes the place of an earlier session of the same key.
    pub reachable: bool,
    /// Whom it consents to.
    pub allow: Allow,
    /// What it shares: the name of each service, and where it is.
    pub services: HashMap<String, Service>,
    /// Whether it logs in again when the rendezvous is lost.
    pub reconnect: bool,
    /// The program and its version, for the operator's log.
    pub agent: String,
    /// Holes to keep ready once one was needed; see [`Config::spare_holes`].
    pub spare_holes: usize,
    /// Whether changes of this machine's network are noticed at once, with one socket for all peers of a
    /// reactor. Otherwise, and where the system has no such notices, a login that the old network takes
    /// with it ends by keepalive. For who stays logged in.
    pub follow_network: bool,
    /// Whether this network's router is asked to map the main port. Whoever ends calls
    /// [`PeerHost::remove_port_mapping`] first.
    pub port_mapping: bool,
}

/// What a peer does with a stream that an allowed peer opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Connects it to this address.
    Address(SocketAddr),
    /// Hands it to the application: [`Event::Incoming`], [`PeerHost::read`], [`PeerHost::write`].
    Application,
}

/// A framed connection.
#[derive(Debug)]
struct Wire {
    stream: TcpStream,
    token: Token,
    out: Outbox,
    frames: FrameReader,
}

impl Wire {
    fn new(stream: TcpStream, token: Token) -> Self {
        Self { stream, token, out: Outbox::default(), frames: FrameReader::new() }
    }

    fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.out.send(&mut self.stream, bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush(&mut self.stream)
    }
}

enum Sock {
    Main(Box<MainLink>),
    Listener {
        listener: TcpListener,
        token: Token,
        port: Port,
        /// Accepting rests until then.
        paused: Option<Instant>,
    },
    Probe(Box<ProbeLink>),
    Idle(Box<IdleLink>),
    Look(Box<LookLink>),
    Dial {
        stream: TcpStream,
        token: Token,
        punch: PunchId,
        conn: ConnId,
    },
    Relay(Box<RelayLink>),
    /// Between us and our router, or all routers.
    Datagrams {
        socket: UdpSocket,
        token: Token,
    },
    Router(Box<RouterLink>),
    Path(Box<PathLink>),
    Local(Box<Local>),
    /// Between two kinds, for the length of a call.
    Moving,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// An accepted connection must have said whose it is.
    Unclaimed(usize),
    /// A closed stream must be delivered.
    Linger(usize),
    /// A direct way is searched for, beside this relayed stream.
    Search(StreamId),
}

/// A peer in a reactor.
///
/// - commands: [`Self::connect`], [`Self::cancel`], [`Self::write`], [`Self::finish`],
///   [`Self::ping`], [`Self::close_stream`], and those of [`Self::machine`]
/// - output: [`Self::poll_event`], [`Self::read`]
pub struct PeerHost {
    id: HostId,
    options: Options,
    machine: Peer,
    socks: Slab<Sock>,
    main: Option<usize>,
    /// The local port of the main connection, and its listeners.
    main_port: Option<MainPort>,
    /// The lookup of the rendezvous' name that is awaited.
    lookup: Option<u64>,
    /// Which of several addresses of the rendezvous is tried first.
    attempt: usize,
    candidates: Vec<SocketAddr>,
    holes: HashMap<u64, HoleSockets>,
    conns: HashMap<(PunchId, ConnId), usize>,
    /// Accepted connections that belong to no punch which is known, by when they must: the oldest first.
    unclaimed: BTreeSet<(Instant, usize)>,
    wanted: HashMap<PunchId, Wanted>,
    won: HashMap<PunchId, StreamId>,
    /// Relayed streams beside which a direct way is searched for, and the punches that do it.
    searches: HashMap<StreamId, Search>,
    searching: HashMap<PunchId, StreamId>,
    streams: HashMap<StreamId, usize>,
    last_stream: u64,
    port_mapping: Option<Box<PortMapping>>,
    timers: Timers<Due>,
    events: VecDeque<Event>,
    /// Where a frame is made before it is written.
    assembly: Vec<u8>,
}

impl PeerHost {
    /// A peer that begins to log in.
    pub fn open(core: &mut Core, id: HostId, options: Options, seed: u64) -> Self {
        let config = Config {
            id: PeerId::of(options.key.public()),
            reachable: options.reachable,
            allow: options.allow.clone(),
            agent: options.agent.clone(),
            reconnect: options.reconnect,
            spare_holes: options.spare_holes,
            sockets: sys::descriptor_limit().map_or(256, |limit| limit as usize / 4),
        };
        let port_mapping = options.port_mapping.then(|| Box::new(PortMapping::new(seed)));
        let mut host = Self {
            id,
            options,
            machine: Peer::new(config, seed),
            socks: Slab::new(),
            main: None,
            main_port: None,
            lookup: None,
            attempt: 0,
            candidates: Vec::new(),
            holes: HashMap::new(),
            conns: HashMap::new(),
            unclaimed: BTreeSet::new(),
            wanted: HashMap::new(),
            won: HashMap::new(),
            searches: HashMap::new(),
            searching: HashMap::new(),
            streams: HashMap::new(),
            last_stream: 0,
            port_mapping,
            timers: Timers::new(),
            events: VecDeque::new(),
            assembly: Vec::new(),
        };
        if host.options.follow_network {
            core.follow_network(id);
        }
        host.machine.start(clock::now());
        host.drain(core);
        host
    }

    // ---- getters ----

    /// The machine, to read from.
    pub fn machine(&self) -> &Peer {
        &self.machine
    }

    /// The local endpoint of the main connection, while there is one.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self.main.and_then(|key| self.socks.get(key)) {
            Some(Sock::Main(main)) => main.wire.stream.local_addr().ok(),
            _ => None,
        }
    }

    /// How many sockets are open.
    pub fn sockets(&self) -> usize {
        self.socks.len()
    }

    /// How many streams are open.
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    // ---- commands ----

    /// Asks for a connection, direct or, if `preference` allows, relayed. `local` is what the stream is pumped to. The answer is
    /// [`Event::Connected`] or [`Event::Failed`].
    ///
    /// # Errors
    /// See [`Peer::connect`].
    pub fn connect(
        &mut self,
        core: &mut Core,
        peer: PeerId,
        preference: Preference,
        purpose: Purpose,
        local: LocalEnd,
    ) -> Result<PunchId, PunchError> {
        let punch = self.machine.connect(peer, preference, clock::now())?;
        self.wanted.insert(punch, Wanted::new(purpose, local));
        self.drain(core);
        Ok(punch)
    }

    /// Takes a request back.
    pub fn cancel(&mut self, core: &mut Core, punch: PunchId) {
        self.machine.cancel(punch, clock::now());
        self.drain(core);
    }

    /// Gives the machine a command that needs no sockets: consent, watch lists, rooms.
    pub fn command(&mut self, core: &mut Core, command: impl FnOnce(&mut Peer)) {
        command(&mut self.machine);
        self.drain(core);
    }

    // ---- driving ----

    /// What has happened.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] is due at the latest.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let mapping = self.port_mapping.as_ref().and_then(|mapping| mapping.poll_timeout());
        [self.machine.poll_timeout(), self.timers.next(), mapping].into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, core: &mut Core, now: Instant) {
        self.machine.handle_timeout(now);
        self.handle_port_mapping_timeout(core);
        while let Some((at, due)) = self.timers.expire(now) {
            match due {
                Due::Unclaimed(key) => self.expire_unclaimed(core, key, at),
                Due::Linger(key) => self.expire_linger(core, key),
                Due::Search(stream) => self.expire_search(core, stream, now),
            }
        }
        self.drain(core);
    }

    pub(super) fn handle_mail(&mut self, core: &mut Core, mail: Mail) {
        match mail {
            Mail::Resolved { lookup, found } => self.handle_resolved(core, lookup, found),
        }
        self.drain(core);
    }

    pub(super) fn handle_ready(&mut self, core: &mut Core, key: usize, readiness: Readiness) {
        match self.socks.get(key) {
            Some(Sock::Main(_)) => self.handle_main_ready(core, key, readiness),
            Some(Sock::Listener { .. }) => self.handle_listener_ready(core, key),
            Some(Sock::Probe(_)) => self.handle_probe_ready(core, key, readiness),
            Some(Sock::Idle(_)) => self.handle_idle_ready(core, key, readiness),
            Some(Sock::Look(_)) => self.handle_look_ready(core, key, readiness),
            Some(Sock::Dial { .. }) => self.handle_dial_ready(core, key),
            Some(Sock::Relay(_)) => self.handle_relay_ready(core, key),
            Some(Sock::Datagrams { .. }) => self.handle_datagrams(core, key),
            Some(Sock::Router(_)) => self.handle_router_ready(core, key, readiness),
            Some(Sock::Path(_)) => self.handle_path_ready(core, key, readiness),
            Some(Sock::Local(_)) => self.handle_local_ready(core, key, readiness),
            Some(Sock::Moving) | None => {
                debug_assert!(false, "tokens are taken back before a socket is forgotten")
            }
        }
        self.drain(core);
    }

    /// Does what the machine wants, until it wants nothing more, and hands its events on.
    fn drain(&mut self, core: &mut Core) {
        self.drain_port_mapping(core);
        loop {
            self.act(core);
            // What is handed on may give the machine something to say.
            if !self.hand_on_all(core) {
                return;
            }
        }
    }

    fn act(&mut self, core: &mut Core) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::DialMain => self.dial_main(core),
                Action::CloseMain => self.close_main(core),
                Action::LookAtNetwork => self.look_at_network(core),
                Action::Send(message) => self.send_main(core, &message),
                Action::ProbeMain { to } => self.probe_main(core, to),
                Action::ProbeFresh { index, to } => self.probe_fresh(core, index, to),
                Action::CloseProbes => self.close_probes(core),
                Action::OpenHole { tag, to, beside } => self.open_hole(core, tag, to, beside),
                Action::ProbeHole { tag } => self.probe_hole(core, tag),
                Action::CloseHole { tag } => self.close_hole(core, tag),
                Action::OpenIdle { number, to, seconds } => {
                    self.open_idle(core, number, to, seconds);
                }
                Action::CloseIdle { number } => self.close_idle(core, number),
                Action::Hairpin { tag, to, via } => self.dial_ourselves(core, tag, to, via),
                Action::Introduced { punch } => self.claim_waiting(core, punch),
                Action::Punch { punch, action } => self.drive_punch(core, punch, &action),
            }
        }
    }

    /// Returns whether there was anything.
    fn hand_on_all(&mut self, core: &mut Core) -> bool {
        let mut any = false;
        while let Some(event) = self.machine.poll_event() {
            self.hand_on(core, event);
            any = true;
        }
        any
    }

    fn drive_punch(&mut self, core: &mut Core, punch: PunchId, action: &punch::Action) {
        match *action {
            punch::Action::Dial { conn, from, beside, to } => {
                self.dial(core, punch, conn, (from, beside), to);
            }
            punch::Action::Relay { conn, to } => self.dial_relay(core, punch, conn, to),
            punch::Action::Offer(conn) => self.offer(core, punch, conn),
            punch::Action::Claim(conn) => self.claim(core, punch, conn),
            punch::Action::Answer(conn) => self.answer_held(core, punch, conn),
            punch::Action::Close(conn) => self.close_conn(core, punch, conn),
            punch::Action::RoundOver(_) => debug_assert!(false, "the peer machine says it to S"),
        }
    }

    // ---- sockets ----

    /// The local port number behind a name, if it is open.
    fn port_number(&self, port: Port) -> Option<u16> {
        match port {
            Port::Main => self.main_port.as_ref().map(|main| main.number),
            Port::Hole(tag) => self.holes.get(&tag).map(|hole| hole.number),
        }
    }

    fn add_listener(
        &mut self,
        core: &mut Core,
        mut listener: TcpListener,
        port: Port,
    ) -> std::io::Result<usize> {
        let key = self.socks.vacant_key();
        let token = core.register(&mut listener, self.id, key)?;
        Ok(self.socks.insert(Sock::Listener { listener, token, port, paused: None }))
    }

    fn add_stream(
        &mut self,
        core: &mut Core,
        mut stream: TcpStream,
        make: impl FnOnce(TcpStream, Token) -> Sock,
    ) -> std::io::Result<usize> {
        let key = self.socks.vacant_key();
        let token = core.register(&mut stream, self.id, key)?;
        Ok(self.socks.insert(make(stream, token)))
    }

    /// Forgets a socket and closes it.
    fn drop_sock(&mut self, core: &mut Core, key: usize) {
        match self.socks.try_remove(key) {
            Some(Sock::Main(mut main)) => {
                core.deregister(&mut main.wire.stream, main.wire.token);
            }
            Some(Sock::Listener { mut listener, token, .. }) => {
                core.deregister(&mut listener, token);
            }
            Some(Sock::Probe(mut probe)) => core.deregister(&mut probe.stream, probe.token),
            Some(Sock::Idle(mut idle)) => core.deregister(&mut idle.stream, idle.token),
            Some(Sock::Look(mut link)) => core.deregister(&mut link.stream, link.token),
            Some(Sock::Dial { mut stream, token, .. }) => core.deregister(&mut stream, token),
            Some(Sock::Relay(mut relay)) => core.deregister(&mut relay.stream, relay.token),
            Some(Sock::Datagrams { mut socket, token }) => core.deregister(&mut socket, token),
            Some(Sock::Router(mut link)) => core.deregister(&mut link.stream, link.token),
            Some(Sock::Path(mut path)) => {
                core.deregister(&mut path.wire.stream, path.wire.token);
            }
            Some(Sock::Local(mut local)) => {
                let token = local.token;
                core.deregister(&mut local.socket, token);
            }
            Some(Sock::Moving) | None => {}
        }
    }

    /// Closes everything, without a word to anybody.
    pub(super) fn close_all(&mut self, core: &mut Core) {
        let keys: Vec<_> = self.socks.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.drop_sock(core, key);
        }
        core.unfollow_network(self.id);
    }

    fn handle_listener_ready(&mut self, core: &mut Core, key: usize) {
        for _ in 0..limits::TURN_ACCEPTS {
            let Some(Sock::Listener { listener, token, port, paused }) = self.socks.get_mut(key)
            else {
                return;
            };
            let (token, port) = (*token, *port);
            if socket::is_paused(paused, clock::now()) {
                return;
            }
            match listener.accept() {
                Ok((stream, remote)) => self.accept(core, stream, port, remote),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) if socket::is_exhaustion(&error) => {
                    log::warn!("accept pauses: {error}");
                    let until = clock::now() + limits::ACCEPT_PAUSE;
                    *paused = Some(until);
                    return core.requeue_at(token, until);
                }
                // One connection's fault: the next may be sound.
                Err(error) => log::debug!("accept: {error}"),
            }
            self.drain(core);
        }
        if let Some(Sock::Listener { token, .. }) = self.socks.get(key) {
            core.requeue(*token, Readiness::READABLE);
        }
    }
}

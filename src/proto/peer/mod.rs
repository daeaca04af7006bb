//! The peer machine: one login at a rendezvous, kept alive, and the punches made through it.
//!
//! ```text
//! Idle ─start─▶ Connecting ─handshake─▶ Authenticated ─Welcome─▶ LoggedIn
//!                  ▲                          │                     │
//!                  └──── backoff, jitter ── Offline ◀──── lost ─────┘
//!                                             Stopped ◀── replaced, or the application stops
//! ```
//!
//! Requests go out as soon as the channel is authenticated: they needn't wait for the welcome.

mod error;
mod farewell;
mod holes;
mod lifetime;
mod look;
mod nat;
mod network;
mod output;
mod punches;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

pub use self::error::LoginError;
use self::farewell::Whereabouts;
use self::holes::Holes;
use self::lifetime::Measurement;
pub use self::lifetime::{IdleEnd, Lifetime, LifetimeError};
use self::look::Look;
use self::nat::ProbesOut;
pub use self::network::Network;
use self::network::NetworkWatch;
pub use self::output::{Action, Event};
pub use self::punches::PunchId;
use self::punches::Punches;
use crate::identity::PeerId;
use crate::limits;
use crate::proto::nat::{Given, Observation};
use crate::proto::timers::Timers;
use crate::wire::message::{Allow, Login, Message, Nat, Nonce, Welcome};

/// What a peer is, and how it behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its own id.
    pub id: PeerId,
    /// Others may ask for it.
    pub reachable: bool,
    /// Whom it consents to.
    pub allow: Allow,
    /// The program and its version, for the operator's log.
    pub agent: String,
    /// Whether it logs in again when the rendezvous is lost.
    pub reconnect: bool,
    /// Fresh holes that are kept ready once one was needed, at most [`limits::SPARE_HOLES`]: each
    /// saves its request a round trip. For who calls the same peer again and again.
    pub spare_holes: usize,
    /// Sockets that all punches together may use for guessing ports: a part of the process's
    /// descriptors, so that a birthday doesn't hurt anything else.
    pub sockets: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Offline,
    Connecting,
    Authenticated,
    LoggedIn,
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Login,
    Reconnect,
    Network,
    Stale,
    Punch(PunchId),
    Request(PunchId),
    HoleProbe(u64),
    HoleExpiry(u64),
    IdleProbe(u64),
    Probes,
    Look,
}

/// What is known of the main connection while there is one.
#[derive(Clone, Debug, Default)]
struct Main {
    local_port: u16,
    server: Option<SocketAddr>,
    observed: Option<SocketAddr>,
    hosts: Vec<IpAddr>,
    nonce: Nonce,
    welcome: Option<Welcome>,
    /// What the login's probes have shown.
    observations: Vec<Observation>,
    /// What the probes from fresh ports have shown, in the order in which they went out.
    given: Vec<Option<Given>>,
    /// Those that are out.
    probes: Option<ProbesOut>,
    /// They are to be sent again when these are in.
    probe_again: bool,
    /// What S knows of our NAT and our addresses, as the message that says so.
    told: Option<Message>,
}

/// The machine of one peer.
///
/// - getters: [`Self::is_logged_in`], [`Self::observed`], [`Self::nat`], [`Self::login`], …
/// - commands: [`Self::start`], [`Self::stop`], [`Self::connect`], [`Self::cancel`],
///   [`Self::set_allow`], [`Self::watch`], [`Self::join`], [`Self::look_closely`],
///   [`Self::measure_lifetime`]
/// - events: `handle_*`
/// - output: [`Self::poll_action`], [`Self::poll_event`], [`Self::poll_timeout`]
#[derive(Debug)]
pub struct Peer {
    config: Config,
    state: State,
    main: Main,
    nat: Nat,
    /// Addresses that it hands out beside the observed one.
    pool: Vec<IpAddr>,
    look: Look,
    /// Where routers map the main port because they were asked to.
    mapped: Vec<SocketAddr>,
    network: NetworkWatch,
    /// Handshakes so far: the number of the current login.
    logins: u64,
    /// Failed logins since the last good one.
    failures: u32,
    login_deadline: Option<Instant>,
    /// When a lost rendezvous is dialled again.
    reconnect_at: Option<Instant>,
    watched: Vec<PeerId>,
    rooms: Vec<String>,
    punches: Punches,
    holes: Holes,
    measurement: Measurement,
    timers: Timers<Due>,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
    random: fastrand::Rng,
    rests: HashMap<PeerId, Instant>,
    whereabouts: Whereabouts,
}

impl Peer {
    /// A peer that does nothing until it is started. `seed` is for jitter alone.
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            config,
            state: State::Idle,
            main: Main::default(),
            nat: Nat::default(),
            pool: Vec::new(),
            look: Look::default(),
            mapped: Vec::new(),
            network: NetworkWatch::default(),
            logins: 0,
            failures: 0,
            login_deadline: None,
            reconnect_at: None,
            watched: Vec::new(),
            rooms: Vec::new(),
            punches: Punches::default(),
            holes: Holes::default(),
            measurement: Measurement::default(),
            timers: Timers::new(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            random: fastrand::Rng::with_seed(seed),
            rests: HashMap::new(),
            whereabouts: Whereabouts::default(),
        }
    }

    // ---- getters ----

    /// Whether the rendezvous has welcomed us.
    pub fn is_logged_in(&self) -> bool {
        self.state == State::LoggedIn
    }

    /// Whether nothing more will happen at the rendezvous.
    pub fn is_stopped(&self) -> bool {
        self.state == State::Stopped
    }

    /// The endpoint at which S sees us.
    pub fn observed(&self) -> Option<SocketAddr> {
        self.main.observed
    }

    /// What our NAT has shown so far.
    pub fn nat(&self) -> Nat {
        self.nat
    }

    /// How the endpoints of S see the main port. The first is that of the login.
    pub fn observations(&self) -> &[Observation] {
        &self.main.observations
    }

    /// The addresses of this machine, as of the login or the last look at its network.
    pub fn hosts(&self) -> &[IpAddr] {
        &self.main.hosts
    }

    /// Addresses that our NAT hands out beside the one that S sees.
    pub fn pool(&self) -> &[IpAddr] {
        &self.pool
    }

    /// How many punches are in progress.
    pub fn punches(&self) -> usize {
        self.punches.len()
    }

    /// How many holes are open.
    pub fn holes(&self) -> usize {
        self.holes.len()
    }

    /// Whether this machine has an address of a family: IPv6, or IPv4.
    pub fn has_host_address(&self, ipv6: bool) -> bool {
        self.main.hosts.iter().any(|host| host.is_ipv6() == ipv6)
    }

    /// Whether a peer is allowed.
    pub fn permits(&self, peer: &PeerId) -> bool {
        self.config.allow.permits(peer)
    }

    /// What to say at login. `nonce` is new and unguessable each time.
    pub fn login(&mut self, local_port: u16, hosts: Vec<IpAddr>, nonce: Nonce) -> Login {
        self.begin_on_network(&hosts);
        self.main = Main { local_port, nonce, hosts: hosts.clone(), ..Main::default() };
        self.mapped.clear();
        self.main.told = Some(Message::Update {
            nat: self.nat,
            hosts: hosts.clone(),
            mapped: Vec::new(),
            pool: Vec::new(),
        });
        self.logins += 1;
        self.punches.forget_introductions();
        // The new main port has been used with nobody.
        self.rests.clear();
        Login {
            reachable: self.config.reachable,
            nonce,
            local_port,
            hosts,
            allow: self.config.allow.clone(),
            agent: self.config.agent.clone(),
            nat: self.nat,
        }
    }

    // ---- commands ----

    /// Logs in.
    pub fn start(&mut self, now: Instant) {
        if self.state == State::Idle {
            self.dial(now);
        }
    }

    /// Logs out for good. Punches that are released go on.
    pub fn stop(&mut self, now: Instant) {
        if self.state != State::Stopped {
            self.enter(State::Stopped, "stopped");
            self.actions.push_back(Action::CloseMain);
            self.take_back_probes();
            self.abandon_measurement();
            self.abandon_look();
            self.settle(now);
        }
    }

    /// Replaces the consent.
    pub fn set_allow(&mut self, allow: Allow) {
        self.config.allow = allow.clone();
        if self.may_ask() {
            self.send(Message::Allow(allow));
        }
    }

    /// Asks to hear who of these comes and goes; replaces an earlier list.
    pub fn watch(&mut self, peers: Vec<PeerId>) {
        self.watched = peers;
        if self.may_ask() {
            self.send(Message::Watch { peers: self.watched.clone() });
        }
    }

    /// Enters a room.
    pub fn join(&mut self, room: String) {
        if self.may_ask() {
            self.send(Message::Join { room: room.clone() });
        }
        self.rooms.push(room);
    }

    // ---- events of the main connection ----

    /// The handshake is done and the login is sent: requests may follow it at once.
    pub fn handle_channel(&mut self, server: SocketAddr, now: Instant) {
        if self.state != State::Connecting {
            return;
        }
        self.main.server = Some(server);
        self.whereabouts.begin_login();
        self.enter(State::Authenticated, "handshake done");
        if !self.watched.is_empty() {
            self.send(Message::Watch { peers: self.watched.clone() });
        }
        for room in self.rooms.clone() {
            self.send(Message::Join { room });
        }
        self.ask_for_waiting(now);
    }

    /// A message came over the main connection.
    pub fn handle_message(&mut self, message: Message, now: Instant) {
        log::trace!("main connection: {message:?}");
        match message {
            Message::Welcome(welcome) => self.handle_welcome(welcome, now),
            Message::Refused(refused) => self.handle_refused(refused, now),
            Message::Closing { code, text } => {
                self.actions.push_back(Action::CloseMain);
                self.handle_main_lost(LoginError::Closed { code, text }, now);
            }
            Message::Draining { spread, to } => self.handle_draining(spread, &to),
            Message::Prepare { tag, round, probes } => {
                self.handle_prepare(tag, round, probes, now);
            }
            Message::Release(release) => self.handle_release(&release, now),
            Message::Cancelled { introduction, code } => {
                self.handle_cancelled(introduction, code, now);
            }
            Message::Awaited { introduction } => {
                self.with_introduction(introduction, now, |punch| punch.handle_relay_awaited(now));
            }
            Message::Presence { peer, online, room } => {
                self.events.push_back(Event::Presence { peer, online, room });
            }
            Message::DialedBack { tag, same_address, other_address } => {
                self.handle_dialled_back(tag, same_address, other_address, now);
            }
            Message::Ping(value) => self.send(Message::Pong(value)),
            // Not for a peer, or not known to this version.
            _ => {}
        }
        self.settle(now);
    }

    /// The main connection is lost, or could not be made.
    pub fn handle_main_lost(&mut self, error: LoginError, now: Instant) {
        if matches!(self.state, State::Idle | State::Offline | State::Stopped) {
            return;
        }
        self.clear_login_deadline();
        self.forget_requests();
        self.close_spare_holes();
        self.take_back_probes();
        self.abandon_measurement();
        self.abandon_look();
        let is_final = !self.config.reconnect || self.whereabouts.is_final(&error);
        let retry_in = (!is_final).then(|| self.next_login(&error, now));
        match retry_in {
            Some(delay) => {
                self.enter(State::Offline, "lost");
                self.reconnect_at = Some(now + delay);
                self.timers.set(now + delay, Due::Reconnect);
            }
            None => self.enter(State::Stopped, "lost for good"),
        }
        self.events.push_back(Event::LoggedOut { error, retry_in });
        self.settle(now);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, due)) = self.timers.expire(now) {
            match due {
                Due::Login => {
                    self.login_deadline = None;
                    self.actions.push_back(Action::CloseMain);
                    self.handle_main_lost(LoginError::TimedOut, now);
                }
                Due::Reconnect => self.dial(now),
                Due::Network => self.look_at_network(now),
                Due::Stale => self.leave_network(now),
                Due::Punch(punch) => self.expire_punch(punch, at, now),
                Due::Request(punch) => self.expire_request(punch, now),
                Due::HoleProbe(tag) => self.actions.push_back(Action::ProbeHole { tag }),
                Due::HoleExpiry(tag) => self.expire_hole(tag),
                Due::Probes => self.expire_probes(at, now),
                Due::Look => self.expire_look(at, now),
                Due::IdleProbe(number) => self.expire_idle_probe(number),
            }
        }
        self.settle(now);
    }

    // ---- output ----

    /// What to do now.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What has happened.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Self::handle_timeout`] at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    // ---- login ----

    fn dial(&mut self, now: Instant) {
        if !matches!(self.state, State::Idle | State::Offline) {
            return;
        }
        self.enter(State::Connecting, "dial");
        if let Some(at) = self.reconnect_at.take() {
            self.timers.clear(at, Due::Reconnect);
        }
        let deadline = now + limits::LOGIN_TIME;
        self.login_deadline = Some(deadline);
        self.timers.set(deadline, Due::Login);
        self.actions.push_back(Action::DialMain);
    }

    fn handle_welcome(&mut self, welcome: Welcome, now: Instant) {
        if self.state != State::Authenticated {
            return;
        }
        self.clear_login_deadline();
        self.failures = 0;
        self.whereabouts.arrive(now);
        self.enter(State::LoggedIn, "welcome");
        self.main.observed = Some(welcome.observed);
        self.events
            .push_back(Event::LoggedIn { observed: welcome.observed, text: welcome.text.clone() });
        self.arrive_from(welcome.observed);
        self.main.welcome = Some(welcome);
        self.probe_mapping(now);
        self.ask_for_waiting(now);
    }

    fn backoff(&mut self, error: &LoginError) -> Duration {
        if *error == LoginError::NetworkChanged {
            return Duration::ZERO;
        }
        let doubled = limits::RECONNECT_FIRST * 2u32.pow(self.failures.min(10));
        self.failures += 1;
        self.jittered(doubled.min(limits::RECONNECT_LONGEST))
    }

    /// Full jitter, so that the peers of a rendezvous that restarts don't come in step; but never at once,
    /// or a rendezvous that refuses would be asked in a loop.
    fn jittered(&mut self, longest: Duration) -> Duration {
        let longest = longest.as_millis() as u64;
        Duration::from_millis(self.random.u64(longest / 10..=longest))
    }

    fn clear_login_deadline(&mut self) {
        if let Some(at) = self.login_deadline.take() {
            self.timers.clear(at, Due::Login);
        }
    }

    fn may_ask(&self) -> bool {
        matches!(self.state, State::Authenticated | State::LoggedIn)
    }

    fn send(&mut self, message: Message) {
        self.actions.push_back(Action::Send(message));
    }

    fn enter(&mut self, state: State, why: &str) {
        log::debug!("peer id={}: {:?} -> {state:?}: {why}", self.config.id, self.state);
        self.state = state;
    }
}

#[cfg(test)]
mod tests;

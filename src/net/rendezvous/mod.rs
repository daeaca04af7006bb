//! The rendezvous in a reactor: drives the rendezvous machine with real sockets.
//!
//! ```text
//! sessions   main port: accept, handshake, messages; crowd: handshakes that wait for their turn
//! holes      hole ports: STUN; delayed: answers that are wanted late
//! dial_back  dials to peers that ask for it
//! relay      two connections to hole ports, joined; flow: one direction; pace: how fast
//! ```

mod crowd;
mod delayed;
mod dial_back;
mod flow;
mod holes;
mod pace;
mod relay;
mod sessions;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Token;
use mio::net::TcpListener;
use slab::Slab;

use self::crowd::Crowd;
use self::delayed::Delayed;
use self::dial_back::{DialBack, DialBackLink};
use self::holes::HoleLink;
use self::relay::{RelayLink, Relays};
use self::sessions::MainLink;
use super::clock;
use super::reactor::{Core, HostId, Readiness};
use super::{socket, sys};
use crate::identity::SecretKey;
use crate::limits;
use crate::proto::rendezvous::{
    Action, Config, LinkId, RelayId, Rendezvous, SessionId, counted_address,
};
pub use crate::proto::rendezvous::{Farewell, Limits};
use crate::proto::timers::Timers;

/// What a rendezvous is.
#[derive(Debug)]
pub struct Options {
    /// Its identity.
    pub key: Arc<SecretKey>,
    /// Where peers log in.
    pub main: Vec<SocketAddr>,
    /// Where STUN is answered. Two ports at least, or mapping behaviour can't be told.
    pub holes: Vec<SocketAddr>,
    /// Words for every peer that logs in.
    pub text: String,
    /// Whether data is relayed for two peers that found no way to each other.
    pub relay: bool,
    /// Whether peers are dialled back that want to know what their NATs let in.
    pub dial_back: bool,
    /// The bounds.
    pub limits: Limits,
}

/// What has been counted at the sockets; the machine counts the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections to the main port that were accepted.
    pub accepted: u64,
    /// Connections to either kind of port that were closed at once, because a bound was reached.
    pub turned_away: u64,
    /// Handshakes on the main port that failed: wrong version, wrong bytes, too slow.
    pub handshakes_failed: u64,
    /// Sessions that were closed because their bytes made no sense.
    pub bad_frames: u64,
    /// Sessions that were closed because they did not read.
    pub slow: u64,
    /// STUN requests answered.
    pub stun: u64,
    /// STUN connections closed because their bytes made no sense.
    pub bad_stun: u64,
    /// Times that accepting paused for want of descriptors.
    pub accept_pauses: u64,
    /// Bytes relayed, both ways, up to now.
    pub relayed_bytes: u64,
}

enum Sock {
    Listener(Box<Listening>),
    Main(Box<MainLink>),
    Hole(Box<HoleLink>),
    DialBack(Box<DialBackLink>),
    Relay(Box<RelayLink>),
    /// Between two kinds, for the length of a call.
    Moving,
}

struct Listening {
    listener: TcpListener,
    token: Token,
    port: ListenerKind,
    /// Accepting rests until then.
    paused: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListenerKind {
    Main,
    Hole,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// A handshake must be done.
    Handshake(LinkId),
    /// A closing connection must be gone.
    Linger(LinkId),
    /// A hole connection may have been silent for too long.
    HoleIdle(LinkId),
    /// A STUN request is to be answered.
    DelayedAnswer(LinkId),
    /// A peer has been dialled back for long enough.
    DialBack(SessionId),
    /// A relayed pair may have been silent for too long.
    RelayIdle(RelayId),
    /// A relayed pair may flow on.
    RelayPace(RelayId),
}

/// A rendezvous in a reactor.
pub struct RendezvousHost {
    id: HostId,
    key: Arc<SecretKey>,
    machine: Rendezvous,
    socks: Slab<Sock>,
    serial: u32,
    main_addresses: Vec<SocketAddr>,
    hole_addresses: Vec<SocketAddr>,
    main_per_address: HashMap<IpAddr, u32>,
    holes_per_address: HashMap<IpAddr, u32>,
    /// Handshakes that aren't finished, by address, and in all.
    handshakes_per_address: HashMap<IpAddr, u32>,
    handshakes: usize,
    crowd: Crowd,
    hole_links: usize,
    delayed: Delayed,
    dial_backs: HashMap<SessionId, DialBack>,
    /// How many descriptors the process may have.
    descriptors: usize,
    relays: Relays,
    timers: Timers<Due>,
    counters: Counters,
    /// Links whose peers don't read: closed after the machine has been drained.
    broken: VecDeque<LinkId>,
    /// Where a frame is made before it is written.
    assembly: Vec<u8>,
}

impl RendezvousHost {
    /// Binds the listeners. `seed` must be unguessable: tokens derive from it.
    ///
    /// # Errors
    /// What binding says, with the address at fault.
    pub fn open(core: &mut Core, id: HostId, options: Options, seed: [u8; 32]) -> io::Result<Self> {
        let main = bind_all(&options.main)?;
        let holes = bind_all(&options.holes)?;
        let main_addresses = addresses(&main)?;
        let hole_addresses = addresses(&holes)?;
        let relays = Relays::new(&options.limits, clock::now());
        let config = Config {
            holes: announced(&main_addresses, &hole_addresses),
            text: options.text,
            relay: options.relay,
            dial_back: options.dial_back,
            limits: options.limits,
        };
        let mut host = Self {
            id,
            key: options.key,
            machine: Rendezvous::new(config, seed),
            socks: Slab::new(),
            serial: 0,
            main_addresses,
            hole_addresses,
            main_per_address: HashMap::new(),
            holes_per_address: HashMap::new(),
            handshakes_per_address: HashMap::new(),
            handshakes: 0,
            crowd: Crowd::default(),
            hole_links: 0,
            delayed: Delayed::default(),
            dial_backs: HashMap::new(),
            descriptors: sys::descriptor_limit().map_or(usize::MAX, |limit| limit as usize),
            relays,
            timers: Timers::new(),
            counters: Counters::default(),
            broken: VecDeque::new(),
            assembly: Vec::new(),
        };
        let listeners = main
            .into_iter()
            .map(|listener| (listener, ListenerKind::Main))
            .chain(holes.into_iter().map(|listener| (listener, ListenerKind::Hole)));
        for (mut listener, port) in listeners {
            let token = core.register(&mut listener, id, host.socks.vacant_key())?;
            let listening = Listening { listener, token, port, paused: None };
            host.socks.insert(Sock::Listener(Box::new(listening)));
        }
        Ok(host)
    }

    // ---- getters ----

    /// The machine, to read from.
    pub fn machine(&self) -> &Rendezvous {
        &self.machine
    }

    /// What has been counted at the sockets.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether it stops, and should get no new peers.
    pub fn is_draining(&self) -> bool {
        self.machine.is_draining()
    }

    /// Where peers log in.
    pub fn main_addresses(&self) -> &[SocketAddr] {
        &self.main_addresses
    }

    /// Where STUN is answered.
    pub fn hole_addresses(&self) -> &[SocketAddr] {
        &self.hole_addresses
    }

    /// How many handshakes on the main port are not finished.
    pub fn handshakes(&self) -> usize {
        self.handshakes
    }

    /// How many sockets are open, listeners included.
    pub fn sockets(&self) -> usize {
        self.socks.len()
    }

    /// How many empty pipes are kept for whom the relay needs them next: two descriptors each.
    pub fn spare_pipes(&self) -> usize {
        self.relays.spare_pipes()
    }

    /// Whether it drains, and nothing is left to wait for.
    pub fn is_drained(&self) -> bool {
        self.machine.is_drained()
    }

    /// How many connections to the main port there are, those included that are being closed.
    pub fn main_links(&self) -> usize {
        self.main_per_address.values().map(|links| *links as usize).sum()
    }

    // ---- commands ----

    /// Changes what can be changed while it runs. What is in progress keeps its deadlines; lower bounds hold
    /// for what comes.
    pub fn reconfigure(&mut self, text: String, relay: bool, dial_back: bool, limits: Limits) {
        self.relays.set_limits(&limits);
        let holes = self.machine.config().holes.clone();
        self.machine.set_config(Config { holes, text, relay, dial_back, limits });
    }

    /// Begins to stop. Introductions in progress and relayed pairs go on, new ones are refused; peers are
    /// told when to come back, or where to go. Then [`Self::shut_down`], at the latest when no one waits for
    /// anything any more ([`Self::is_drained`]).
    pub fn begin_drain(&mut self, core: &mut Core, farewell: Farewell) {
        self.machine.begin_drain(farewell);
        self.drain(core);
    }

    /// Tells every peer that the rendezvous stops, and accepts no more.
    pub fn shut_down(&mut self, core: &mut Core, text: &str) {
        let listeners: Vec<_> = self
            .socks
            .iter()
            .filter(|(_, sock)| matches!(sock, Sock::Listener(_)))
            .map(|(key, _)| key)
            .collect();
        for key in listeners {
            self.drop_sock(core, key);
        }
        self.machine.drain(text, clock::now());
        self.drain(core);
    }

    // ---- driving ----

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let deadlines =
            [self.machine.poll_timeout(), self.timers.next(), self.crowd.poll_timeout()];
        deadlines.into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, core: &mut Core, now: Instant) {
        self.machine.handle_timeout(now);
        while let Some((_, due)) = self.timers.expire(now) {
            match due {
                Due::Handshake(link) => self.expire_handshake(core, link),
                Due::Linger(link) => self.expire_linger(core, link),
                Due::HoleIdle(link) => self.expire_hole(core, link, now),
                Due::DelayedAnswer(link) => self.answer_delayed(core, link),
                Due::DialBack(session) => self.expire_dial_back(core, session),
                Due::RelayIdle(id) => self.expire_pair(core, id, now),
                Due::RelayPace(id) => self.pump_pair(core, id),
            }
        }
        self.go_on_with_handshakes(core, now);
        self.drain(core);
    }

    pub(super) fn handle_ready(&mut self, core: &mut Core, key: usize, ready: Readiness) {
        match self.socks.get(key) {
            Some(Sock::Listener(_)) => self.handle_listener_ready(core, key),
            Some(Sock::Main(_)) => self.handle_main_ready(core, key, ready),
            Some(Sock::Hole(_)) => self.handle_hole_ready(core, key, ready),
            Some(Sock::DialBack(_)) => self.handle_dial_back_ready(core, key),
            Some(Sock::Relay(_)) => self.handle_relay_ready(core, key, ready),
            Some(Sock::Moving) | None => {
                debug_assert!(false, "tokens are taken back before a socket is forgotten")
            }
        }
        self.drain(core);
    }

    /// A word for the kind of a socket, for the log.
    pub(super) fn kind_of(&self, key: usize) -> &'static str {
        match self.socks.get(key) {
            Some(Sock::Listener(listening)) => match listening.port {
                ListenerKind::Main => "main-listener",
                ListenerKind::Hole => "hole-listener",
            },
            Some(Sock::Main(_)) => "main",
            Some(Sock::Hole(_)) => "hole",
            Some(Sock::DialBack(_)) => "dial-back",
            Some(Sock::Relay(_)) => "relay",
            Some(Sock::Moving) | None => "none",
        }
    }

    /// Does what the machine wants, until it wants nothing more.
    fn drain(&mut self, core: &mut Core) {
        loop {
            while let Some(action) = self.machine.poll_action() {
                match action {
                    Action::Send { link, message } => self.send(link, &message),
                    Action::Close { link, code, text } => {
                        self.close_politely(core, link, code, text);
                    }
                    Action::RefuseRelay { link, refusal } => {
                        self.refuse_relay(core, link, refusal);
                    }
                    Action::DialBack { session, to, from } => {
                        self.dial_back(core, session, to, from);
                    }
                }
            }
            let Some(link) = self.broken.pop_front() else { return };
            self.lose_link(core, link);
        }
    }

    // ---- sockets ----

    fn handle_listener_ready(&mut self, core: &mut Core, key: usize) {
        for _ in 0..limits::TURN_ACCEPTS {
            let Some(Sock::Listener(listening)) = self.socks.get_mut(key) else { return };
            let Listening { listener, token, port, paused } = &mut **listening;
            let (token, port) = (*token, *port);
            if socket::is_paused(paused, clock::now()) {
                return;
            }
            match listener.accept() {
                Ok((stream, remote)) => match port {
                    ListenerKind::Main => self.accept_main(core, stream, remote),
                    ListenerKind::Hole => self.accept_hole(core, stream, remote),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if socket::is_exhaustion(&error) => {
                    self.counters.accept_pauses += 1;
                    log::warn!("accept pauses: {error}");
                    let until = clock::now() + limits::ACCEPT_PAUSE;
                    *paused = Some(until);
                    return core.requeue_at(token, until);
                }
                // One connection's fault: the next may be sound.
                Err(error) => log::debug!("accept: {error}"),
            }
        }
        if let Some(Sock::Listener(listening)) = self.socks.get(key) {
            core.requeue(listening.token, Readiness::READABLE);
        }
    }

    /// Sockets beyond which no more hole connections are accepted.
    fn socket_limit(&self) -> usize {
        self.descriptors.saturating_sub(self.machine.limits().reserved_descriptors)
    }

    fn next_link(&mut self, key: usize) -> LinkId {
        self.serial = self.serial.wrapping_add(1);
        LinkId(u64::from(self.serial) << 32 | key as u64)
    }

    fn set_timer(&mut self, after: Duration, due: Due) -> Instant {
        let at = clock::now() + after;
        self.timers.set(at, due);
        at
    }

    /// Forgets a socket and closes it.
    fn drop_sock(&mut self, core: &mut Core, key: usize) {
        match self.socks.try_remove(key) {
            Some(Sock::Listener(mut listening)) => {
                core.deregister(&mut listening.listener, listening.token);
            }
            Some(Sock::Main(mut main)) => core.deregister(&mut main.stream, main.token),
            Some(Sock::Hole(mut hole)) => core.deregister(&mut hole.stream, hole.token),
            Some(Sock::DialBack(mut dial)) => core.deregister(&mut dial.stream, dial.token),
            Some(Sock::Relay(mut relay)) => core.deregister(&mut relay.stream, relay.token),
            Some(Sock::Moving) | None => {}
        }
    }

    /// Closes everything, without a word to anybody.
    pub(super) fn close_all(&mut self, core: &mut Core) {
        let keys: Vec<_> = self.socks.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.drop_sock(core, key);
        }
    }
}

fn key_of(link: LinkId) -> usize {
    (link.0 & 0xffff_ffff) as usize
}

/// Counts a connection of an address, if its share allows.
fn count_in(counts: &mut HashMap<IpAddr, u32>, remote: SocketAddr, limit: usize) -> bool {
    let count = counts.entry(counted_address(remote)).or_insert(0);
    let allowed = (*count as usize) < limit;
    *count += u32::from(allowed);
    allowed
}

fn count_out(counts: &mut HashMap<IpAddr, u32>, remote: SocketAddr) {
    let address = counted_address(remote);
    if let Some(count) = counts.get_mut(&address) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&address);
        }
    }
}

fn bind_all(addresses: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    let bind = |address: &SocketAddr| {
        socket::listen(*address)
            .map_err(|error| io::Error::new(error.kind(), format!("listen on {address}: {error}")))
    };
    addresses.iter().map(bind).collect()
}

fn addresses(listeners: &[TcpListener]) -> io::Result<Vec<SocketAddr>> {
    listeners.iter().map(TcpListener::local_addr).collect()
}

/// The hole endpoints as peers are told. One that sits on the only main address of its family is
/// announced as "the address at which you reached me": S may be behind a port forwarding.
fn announced(main: &[SocketAddr], holes: &[SocketAddr]) -> Vec<SocketAddr> {
    holes
        .iter()
        .map(|hole| {
            let mut family = main.iter().filter(|main| main.is_ipv4() == hole.is_ipv4());
            let only = family.next().filter(|_| family.next().is_none());
            match only {
                Some(only) if only.ip() == hole.ip() => {
                    SocketAddr::new(socket::unspecified(*hole), hole.port())
                }
                _ => *hole,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_on_the_only_main_address_is_announced_by_its_port() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let main = [parse("192.0.2.1:4000"), parse("[2001:db8::1]:4000")];
        let holes = [parse("192.0.2.1:8000"), parse("192.0.2.2:8000"), parse("[2001:db8::1]:8000")];
        let expected = [parse("0.0.0.0:8000"), parse("192.0.2.2:8000"), parse("[::]:8000")];
        assert_eq!(announced(&main, &holes), expected);
    }

    #[test]
    fn an_ipv6_host_is_its_network() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let mut counts = HashMap::new();
        assert!(count_in(&mut counts, parse("[2001:db8::1]:1"), 1));
        assert!(!count_in(&mut counts, parse("[2001:db8::2]:1"), 1));
        assert!(count_in(&mut counts, parse("[2001:db8:0:1::1]:1"), 1));
        count_out(&mut counts, parse("[2001:db8::1]:1"));
        assert_eq!(counts.len(), 1);
    }
}

//! Asks this network's router to map a port: PCP, NAT-PMP and UPnP side by side (IPv4), and PCP for a
//! pinhole in its firewall (IPv6).
//!
//! What changes nothing in the router goes out at once: PCP's one request, which is answered or not,
//! NAT-PMP's question for the address, UPnP's search. The first two may grant for a moment before the
//! next is asked to, so that a router which speaks all three gets one mapping. What was granted is
//! renewed at half of its time, asked for anew when the router has forgotten it, and removed at the end.

mod igd;
mod lease;
mod nat_pmp;
mod pcp;
mod side;
mod state;

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Instant;

use self::side::Side;
use crate::proto::punch::candidates::is_private;
use crate::wire::portmap::http::Response;
use crate::wire::portmap::pcp::Nonce;

/// The way out of this network, by family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// IPv4.
    pub v4: Option<Route>,
    /// IPv6.
    pub v6: Option<Route>,
}

/// A default route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The router.
    pub gateway: IpAddr,
    /// The interface's number, for a gateway with a link-local address.
    pub scope: u32,
    /// Our address on that way.
    pub own: IpAddr,
}

impl Route {
    fn gateway_at(&self, port: u16) -> SocketAddr {
        match self.gateway {
            IpAddr::V4(ip) => (ip, port).into(),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, self.scope).into(),
        }
    }
}

/// What granted a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The Port Control Protocol (RFC 6887).
    Pcp,
    /// The NAT Port Mapping Protocol (RFC 6886).
    NatPmp,
    /// UPnP's Internet Gateway Device.
    Upnp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pcp => "PCP",
            Self::NatPmp => "NAT-PMP",
            Self::Upnp => "UPnP",
        })
    }
}

/// A mapping that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// What granted it.
    pub protocol: Protocol,
    /// Where the router says that others reach our port.
    pub external: SocketAddr,
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a datagram, from our address of the same family. What comes back, from whomever:
    /// [`PortMapper::handle_datagram`].
    Send {
        /// Where to.
        to: SocketAddr,
        /// What.
        bytes: Vec<u8>,
    },
    /// Connect, and send an HTTP request. Then [`PortMapper::handle_answer`], once. There is one such
    /// call at a time.
    Call {
        /// Where to.
        to: SocketAddr,
        /// What.
        request: Vec<u8>,
    },
    /// Forget the call that is under way: its answer is no longer wanted.
    HangUp,
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A mapping stands, or stands elsewhere than before.
    Mapped(Mapping),
    /// A mapping has ended that we did not end.
    Lost(Mapping),
}

/// Where the parts of the machine put what they want.
#[derive(Debug)]
struct Out {
    actions: VecDeque<Action>,
    random: fastrand::Rng,
}

impl Out {
    fn send(&mut self, to: SocketAddr, bytes: Vec<u8>) {
        self.actions.push_back(Action::Send { to, bytes });
    }

    fn call(&mut self, to: SocketAddr, request: Vec<u8>) {
        self.actions.push_back(Action::Call { to, request });
    }

    fn hang_up(&mut self) {
        self.actions.push_back(Action::HangUp);
    }
}

/// Keeps one local TCP port mapped, in each family that has a way out.
///
/// - getters: [`Self::mappings`], [`Self::is_started`], [`Self::is_idle`]
/// - commands: [`Self::start`], [`Self::set_network`], [`Self::stop`]
/// - events: `handle_*`
/// - output: [`Self::poll_action`], [`Self::poll_event`], [`Self::poll_timeout`]
#[derive(Debug)]
pub struct PortMapper {
    nonce: Nonce,
    /// The port that is mapped; none before the start and after the end.
    port: Option<u16>,
    network: Network,
    v4: Option<Side>,
    v6: Option<Side>,
    out: Out,
    events: VecDeque<Event>,
}

impl PortMapper {
    /// Does nothing until it is started. The nonce must be unguessable: whoever knows it can end our
    /// mappings. `seed` is for jitter alone.
    pub fn new(nonce: Nonce, seed: u64) -> Self {
        let out = Out { actions: VecDeque::new(), random: fastrand::Rng::with_seed(seed) };
        Self {
            nonce,
            port: None,
            network: Network::default(),
            v4: None,
            v6: None,
            out,
            events: VecDeque::new(),
        }
    }

    // ---- getters ----

    /// The mappings that stand.
    pub fn mappings(&self) -> impl Iterator<Item = Mapping> {
        self.sides().filter_map(Side::mapping)
    }

    /// Whether a mapping is wanted.
    pub fn is_started(&self) -> bool {
        self.port.is_some()
    }

    /// Whether nothing is under way, and no mapping stands: after [`Self::stop`], whether all is
    /// removed.
    pub fn is_idle(&self) -> bool {
        self.sides().all(Side::is_idle)
    }

    fn sides(&self) -> impl Iterator<Item = &Side> {
        [&self.v4, &self.v6].into_iter().flatten()
    }

    // ---- commands ----

    /// Asks for a mapping of `port`. One of another port is removed.
    pub fn start(&mut self, port: u16, network: Network, now: Instant) {
        if self.port == Some(port) {
            return self.set_network(network, now);
        }
        // What is left in another network's router is out of reach, and ends by itself.
        self.port = None;
        self.set_network(network, now);
        self.port = Some(port);
        let mut leftover = None;
        for mut side in [self.v4.take(), self.v6.take()].into_iter().flatten() {
            leftover = side.abandon(now, &mut self.out).or(leftover);
        }
        self.v4 = self.side(network.v4, leftover, now);
        self.v6 = self.side(network.v6, None, now);
    }

    /// The way out may be another than before: then a mapping is asked for there.
    pub fn set_network(&mut self, network: Network, now: Instant) {
        let old = std::mem::replace(&mut self.network, network);
        if old.v4 != network.v4 {
            log::debug!("port mapping: IPv4 goes another way: {:?}", network.v4);
            let left = self.v4.take();
            self.leave(left);
            self.v4 = self.side(network.v4, None, now);
        }
        if old.v6 != network.v6 {
            log::debug!("port mapping: IPv6 goes another way: {:?}", network.v6);
            let left = self.v6.take();
            self.leave(left);
            self.v6 = self.side(network.v6, None, now);
        }
    }

    fn leave(&mut self, side: Option<Side>) {
        if let Some(mapping) = side.and_then(|side| side.leave(&mut self.out)) {
            self.events.push_back(Event::Lost(mapping));
        }
    }

    /// A side that has begun to ask, once there is a port to ask for.
    fn side(
        &mut self,
        route: Option<Route>,
        leftover: Option<side::Leftover>,
        now: Instant,
    ) -> Option<Side> {
        let mut side = Side::new(route?, self.port?, self.nonce, leftover);
        side.start(now, &mut self.out);
        Some(side)
    }

    /// Removes the mappings. That is done when [`Self::is_idle`].
    pub fn stop(&mut self, now: Instant) {
        self.port = None;
        for side in [&mut self.v4, &mut self.v6].into_iter().flatten() {
            side.remove(now, &mut self.out);
        }
    }

    // ---- events ----

    /// Something came to one of our addresses, or to all clients of such servers.
    pub fn handle_datagram(&mut self, from: SocketAddr, bytes: &[u8], now: Instant) {
        let side = if from.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        if let Some(side) = side {
            side.handle_datagram(from, bytes, now, &mut self.out);
        }
        self.settle(now);
    }

    /// The call that is under way has been answered; `None` when it failed.
    pub fn handle_answer(&mut self, answer: Option<&Response>, now: Instant) {
        // Calls are UPnP's, which is of IPv4.
        if let Some(side) = &mut self.v4 {
            side.handle_answer(answer, now, &mut self.out);
        }
        self.settle(now);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        for side in [&mut self.v4, &mut self.v6].into_iter().flatten() {
            side.handle_timeout(now, &mut self.out);
        }
        self.settle(now);
    }

    fn settle(&mut self, now: Instant) {
        for side in [&mut self.v4, &mut self.v6].into_iter().flatten() {
            side.settle(now, &mut self.out, &mut self.events);
        }
    }

    // ---- output ----

    /// What to do now.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.out.actions.pop_front()
    }

    /// What has happened.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Self::handle_timeout`] at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.sides().filter_map(Side::next).min()
    }
}

/// Why a mapped endpoint is no candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worthless {
    /// The router's own address is a private one: there is another NAT before it.
    Private,
    /// S sees us somewhere else: there is another NAT, or another way out, or somebody lies.
    Elsewhere,
}

impl fmt::Display for Worthless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Private => "the router itself is behind a NAT",
            Self::Elsewhere => "the rendezvous sees us at another address",
        })
    }
}

/// Whether others may reach a mapped endpoint, as far as that can be told from where we are: `known` are
/// the addresses of our interfaces, and those at which S sees us.
///
/// # Errors
/// Why not.
pub fn check(external: SocketAddr, known: &[IpAddr]) -> Result<(), Worthless> {
    let ip = external.ip();
    let mut rivals = known.iter().filter(|known| known.is_ipv4() == ip.is_ipv4());
    if rivals.clone().any(|known| *known == ip) {
        // Whatever it looks like, it is where we are seen.
        return Ok(());
    }
    if is_private(ip) {
        return Err(Worthless::Private);
    }
    // Where nothing public is known of a family, the router is taken at its word.
    match rivals.any(|known| !is_private(*known)) {
        true => Err(Worthless::Elsewhere),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;

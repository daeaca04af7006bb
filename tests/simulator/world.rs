//! The world: hosts, routers and networks, one queue of events, one virtual clock.
//!
//! Everything happens in the order of the queue; nothing looks at a real clock. A world is a function of
//! its seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::packet::{Content, FastMap, Nanos, Packet};
use crate::path::{HOP, Path, Place};
use crate::peer::PeerDriver;
use crate::rendezvous::RendezvousDriver;
use crate::router::{Router, Verdict};
use crate::stranger::Stranger;
use crate::tcp::{self, SockId, Tcp};

/// A moment, as a host's program is told it: the world's time, and the host's own clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) at: Nanos,
    pub(crate) instant: Instant,
}

/// What runs on a host.
pub(crate) enum App {
    Rendezvous(Box<RendezvousDriver>),
    Peer(Box<PeerDriver>),
    Stranger(Stranger),
    /// Plain sockets: what happened to them is kept.
    Plain(Vec<(SockId, tcp::Event)>),
    None,
}

pub(crate) struct Host {
    pub(crate) name: &'static str,
    pub(crate) tcp: Tcp,
    pub(crate) app: App,
    net: usize,
    place: Place,
    /// Its clock at the beginning of the world.
    epoch: Instant,
    pub(crate) powered: bool,
    /// The wake-up that is scheduled.
    armed: Nanos,
}

pub(crate) struct RouterNode {
    pub(crate) router: Router,
    place: Place,
    inside: usize,
    outside: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Host(usize),
    Router(usize),
}

/// A network: who is in it, and where the rest goes.
#[derive(Default)]
struct Net {
    members: FastMap<u32, Node>,
    gateway: Option<usize>,
}

/// The network that all sites are on.
pub(crate) const WAN: usize = 0;

enum Event {
    Arrive {
        node: Node,
        packet: Packet,
    },
    Timer {
        host: usize,
        sock: SockId,
    },
    Wake {
        host: usize,
    },
    /// A router may answer this by now.
    Late {
        router: usize,
        packet: Packet,
    },
    /// The scenario does something.
    Cue(u32),
}

pub(crate) struct World {
    pub(crate) now: Nanos,
    queue: BinaryHeap<Reverse<(Nanos, u64, usize)>>,
    events: Slab<Event>,
    serial: u64,
    pub(crate) hosts: Vec<Host>,
    pub(crate) routers: Vec<RouterNode>,
    nets: Vec<Net>,
    pub(crate) path: Path,
    origin: Instant,
    pub(crate) trace: bool,
    /// Packets that were sent, and a digest of them all: two runs of a seed are the same.
    pub(crate) packets: u64,
    pub(crate) digest: u64,
    /// The code of the last ICMP error that a host got.
    pub(crate) last_icmp: Option<u8>,
}

impl World {
    #[allow(clippy::disallowed_methods, reason = "any instant will do as the origin")]
    pub(crate) fn new(seed: u64, trace: bool) -> Self {
        Self {
            now: 0,
            queue: BinaryHeap::new(),
            events: Slab::new(),
            serial: 0,
            hosts: Vec::new(),
            routers: Vec::new(),
            nets: vec![Net::default()],
            path: Path::new(seed),
            // Room for clocks that are behind.
            origin: Instant::now() + Duration::from_secs(1 << 20),
            trace,
            packets: 0,
            digest: 0,
            last_icmp: None,
        }
    }

    // ---- building ----

    /// `offset` is by how much its clock is ahead.
    pub(crate) fn add_host(
        &mut self,
        name: &'static str,
        net: usize,
        place: Place,
        ips: &[Ipv4Addr],
        offset: Duration,
        seed: u64,
    ) -> usize {
        let index = self.hosts.len();
        let ips: Vec<u32> = ips.iter().map(|ip| ip.to_bits()).collect();
        for ip in &ips {
            self.nets[net].members.insert(*ip, Node::Host(index));
        }
        let (tcp, epoch) = (Tcp::new(ips, seed), self.origin + offset);
        let (app, powered, armed) = (App::None, true, Nanos::MAX);
        self.hosts.push(Host { name, tcp, app, net, place, epoch, powered, armed });
        index
    }

    /// Puts a router between `outside` and a new network, which is returned.
    pub(crate) fn add_router(&mut self, router: Router, outside: usize, place: Place) -> usize {
        let (index, inside) = (self.routers.len(), self.nets.len());
        for ip in router.public() {
            self.nets[outside].members.insert(*ip, Node::Router(index));
        }
        self.nets.push(Net { members: FastMap::default(), gateway: Some(index) });
        self.routers.push(RouterNode { router, place, inside, outside });
        inside
    }

    /// Where nothing is translated, the WAN must know the way to a host behind a router.
    pub(crate) fn announce(&mut self, ip: Ipv4Addr, net: usize) {
        let mut net = net;
        while let Some(gateway) = self.nets[net].gateway {
            net = self.routers[gateway].outside;
            self.nets[net].members.entry(ip.to_bits()).or_insert(Node::Router(gateway));
        }
    }

    // ---- running ----

    /// Has [`Self::run`] return at that time.
    pub(crate) fn cue(&mut self, at: Nanos, cue: u32) {
        self.schedule(at, Event::Cue(cue));
    }

    /// Runs to the next cue and returns it; none when nothing is left to happen.
    pub(crate) fn run(&mut self) -> Option<u32> {
        while let Some(Reverse((at, _, key))) = self.queue.pop() {
            self.now = at;
            match self.events.remove(key) {
                Event::Arrive { node: Node::Host(host), packet } => self.arrive(host, packet),
                Event::Arrive { node: Node::Router(router), packet } => {
                    self.inbound(router, packet);
                }
                Event::Timer { host, sock } => {
                    if self.hosts[host].powered {
                        self.hosts[host].tcp.handle_timer(sock, at);
                        self.settle(host);
                    }
                }
                Event::Wake { host } => self.wake(host),
                Event::Late { router, packet } => {
                    if let Some(answer) = self.routers[router].router.answer_late(&packet) {
                        self.emit(self.routers[router].outside, Node::Router(router), answer);
                    }
                }
                Event::Cue(cue) => return Some(cue),
            }
        }
        None
    }

    pub(crate) fn now_of(&self, host: usize) -> Now {
        Now { at: self.now, instant: self.hosts[host].epoch + Duration::from_nanos(self.now) }
    }

    /// Lets the scenario, or a test, do something on a host.
    pub(crate) fn with<T>(
        &mut self,
        host: usize,
        act: impl FnOnce(&mut App, &mut Tcp, Now) -> T,
    ) -> T {
        let now = self.now_of(host);
        let Host { app, tcp, .. } = &mut self.hosts[host];
        let result = act(app, tcp, now);
        self.settle(host);
        result
    }

    /// The machine is unplugged.
    pub(crate) fn power_off(&mut self, host: usize) {
        let host = &mut self.hosts[host];
        host.powered = false;
        host.tcp.power_off();
        host.app = App::None;
    }

    pub(crate) fn power_on(&mut self, host: usize, app: App) {
        self.hosts[host].powered = true;
        self.hosts[host].app = app;
    }

    fn schedule(&mut self, at: Nanos, event: Event) {
        self.serial += 1;
        let key = self.events.insert(event);
        self.queue.push(Reverse((at, self.serial, key)));
    }

    // ---- hosts ----

    fn arrive(&mut self, host: usize, packet: Packet) {
        let now = self.now;
        let node = &mut self.hosts[host];
        if node.powered && node.tcp.owns(packet.to.ip) {
            if let Content::Unreachable { code, .. } = packet.content {
                self.last_icmp = Some(code);
            }
            node.tcp.receive(packet, now);
            self.settle(host);
        }
    }

    fn wake(&mut self, host: usize) {
        let now = self.now_of(host);
        let node = &mut self.hosts[host];
        if now.at < node.armed {
            return;
        }
        node.armed = Nanos::MAX;
        let due = node.app.poll_timeout(node.epoch).is_some_and(|at| at <= now.at);
        if due {
            node.app.handle_timeout(&mut node.tcp, now);
        }
        self.settle(host);
    }

    /// Hands the host's events to its program, until there are none, and its packets to the network.
    fn settle(&mut self, host: usize) {
        let now = self.now_of(host);
        let node = &mut self.hosts[host];
        while let Some((sock, event)) = node.tcp.events.pop_front() {
            if self.trace && !matches!(event, tcp::Event::Frame(_)) {
                println!("{:>12} {} {sock:?} {event:?}", micros(now.at), node.name);
            }
            node.app.handle_event(&mut node.tcp, sock, event, now);
        }
        let net = node.net;
        let mut out = std::mem::take(&mut node.tcp.out);
        for packet in out.drain(..) {
            self.emit(net, Node::Host(host), packet);
        }
        let node = &mut self.hosts[host];
        node.tcp.out = out;
        let mut timers = std::mem::take(&mut node.tcp.timers);
        for (at, sock) in timers.drain(..) {
            self.schedule(at, Event::Timer { host, sock });
        }
        let node = &mut self.hosts[host];
        node.tcp.timers = timers;
        if let Some(at) = node.app.poll_timeout(node.epoch)
            && at < node.armed
        {
            let at = at.max(now.at);
            node.armed = at;
            self.schedule(at, Event::Wake { host });
        }
    }

    // ---- packets ----

    /// A node puts a packet on a network.
    fn emit(&mut self, net: usize, from: Node, packet: Packet) {
        let to = self.nets[net].members.get(&packet.to.ip).copied();
        let gateway = self.nets[net].gateway;
        match (to, gateway) {
            (Some(to), _) if net == WAN => self.carry(from, to, packet),
            (Some(to), _) => self.schedule(self.now + HOP, Event::Arrive { node: to, packet }),
            (None, Some(gateway)) => self.outbound(gateway, packet),
            (None, None) => self.note(&packet, "nobody there"),
        }
    }

    fn carry(&mut self, from: Node, to: Node, packet: Packet) {
        let copies = self.path.carry(self.place(from), self.place(to));
        if copies[0].is_none() {
            return self.note(&packet, "lost");
        }
        self.note(&packet, "");
        if let Some(second) = copies[1] {
            let packet = packet.clone();
            self.schedule(self.now + second, Event::Arrive { node: to, packet });
        }
        if let Some(first) = copies[0] {
            self.schedule(self.now + first, Event::Arrive { node: to, packet });
        }
    }

    fn place(&self, node: Node) -> Place {
        match node {
            Node::Host(host) => self.hosts[host].place,
            Node::Router(router) => self.routers[router].place,
        }
    }

    fn outbound(&mut self, index: usize, mut packet: Packet) {
        let now = self.now;
        let node = &mut self.routers[index];
        let (inside, outside) = (node.inside, node.outside);
        if node.router.is_hairpin(&packet) {
            return self.hairpin(index, packet);
        }
        match node.router.outbound(&mut packet, now) {
            Verdict::Forward => self.emit(outside, Node::Router(index), packet),
            Verdict::Answer(answer) => self.emit(inside, Node::Router(index), answer),
            Verdict::Drop(why) => self.note(&packet, why),
            Verdict::AskAt(_) => unreachable!("routers answer late to the WAN alone"),
        }
    }

    /// A packet from within to a public endpoint of the same router: both its ends are translated.
    fn hairpin(&mut self, index: usize, mut packet: Packet) {
        let now = self.now;
        let node = &mut self.routers[index];
        let inside = node.inside;
        if !node.router.hairpins() {
            return self.note(&packet, "no hairpin");
        }
        match node.router.outbound(&mut packet, now) {
            Verdict::Forward => self.inbound(index, packet),
            Verdict::Answer(answer) => self.emit(inside, Node::Router(index), answer),
            Verdict::Drop(why) => self.note(&packet, why),
            Verdict::AskAt(_) => unreachable!("routers answer late to the WAN alone"),
        }
    }

    fn inbound(&mut self, index: usize, mut packet: Packet) {
        let now = self.now;
        let node = &mut self.routers[index];
        let (inside, outside) = (node.inside, node.outside);
        let hairpin = node.router.public().contains(&packet.from.ip);
        match node.router.inbound(&mut packet, now) {
            Verdict::Forward => self.emit(inside, Node::Router(index), packet),
            Verdict::Answer(answer) if hairpin => self.inbound(index, answer),
            Verdict::Answer(answer) => self.emit(outside, Node::Router(index), answer),
            Verdict::AskAt(at) => self.schedule(at, Event::Late { router: index, packet }),
            Verdict::Drop(why) => self.note(&packet, why),
        }
    }

    fn note(&mut self, packet: &Packet, fate: &str) {
        self.packets += 1;
        let seq = packet.segment().map_or(0, |segment| segment.seq);
        let word = packet.from.key() ^ packet.to.key().rotate_left(17) ^ u64::from(seq) ^ self.now;
        self.digest = (self.digest.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if self.trace {
            println!("{:>12} {packet} {fate}", micros(self.now));
        }
    }
}

impl App {
    fn handle_event(&mut self, tcp: &mut Tcp, sock: SockId, event: tcp::Event, now: Now) {
        match self {
            Self::Rendezvous(driver) => driver.handle_event(tcp, sock, event, now),
            Self::Peer(driver) => driver.handle_event(tcp, sock, event, now),
            Self::Stranger(stranger) => stranger.handle_event(tcp, sock, &event, now),
            Self::Plain(events) => events.push((sock, event)),
            Self::None => {}
        }
    }

    fn handle_timeout(&mut self, tcp: &mut Tcp, now: Now) {
        match self {
            Self::Rendezvous(driver) => driver.handle_timeout(tcp, now),
            Self::Peer(driver) => driver.handle_timeout(tcp, now),
            Self::Stranger(_) | Self::Plain(_) | Self::None => {}
        }
    }

    /// In the world's time.
    fn poll_timeout(&self, epoch: Instant) -> Option<Nanos> {
        let at = match self {
            Self::Rendezvous(driver) => driver.poll_timeout(),
            Self::Peer(driver) => driver.poll_timeout(),
            Self::Stranger(_) | Self::Plain(_) | Self::None => None,
        }?;
        Some(at.saturating_duration_since(epoch).as_nanos() as Nanos)
    }

    pub(crate) fn peer(&mut self) -> &mut PeerDriver {
        match self {
            Self::Peer(driver) => driver,
            _ => panic!("no peer runs here"),
        }
    }

    pub(crate) fn rendezvous(&mut self) -> &mut RendezvousDriver {
        match self {
            Self::Rendezvous(driver) => driver,
            _ => panic!("no rendezvous runs here"),
        }
    }
}

pub(crate) fn micros(at: Nanos) -> String {
    format!("{}.{:03} ms", at / 1_000_000, at / 1000 % 1000)
}

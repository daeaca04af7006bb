//! One machine's TCP, as far as punches can tell it from Linux's: who gets a connection, what is refused,
//! when a SYN is sent again, and what an RST or an ICMP error does to whom.
//!
//! Sockets that share a port, simultaneous open, EADDRNOTAVAIL, and the rest as measured on Linux with
//! plain sockets. Every socket has SO_REUSEPORT; TCP timestamps are on, so that a pair of endpoints in
//! TIME_WAIT may be used again at once, and TIME_WAIT isn't there at all. Windows are endless.

mod incoming;

use std::collections::VecDeque;
use std::rc::Rc;

use gimlet::proto::punch::DialError;
use slab::Slab;

use crate::packet::{
    ACK, Content, Endpoint, FIN, FastMap, Frame, MILLISECOND, Nanos, Packet, RST, SECOND, SYN,
    Segment, pair,
};

/// A socket. The id of one that is gone is recognised and means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SockId {
    index: u32,
    generation: u32,
}

/// What a program learns of its sockets.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// connect() has succeeded.
    Connected,
    /// connect() has failed; the socket is gone.
    Failed(DialError),
    /// accept() on a listener of this port returns this socket.
    Accepted(u16),
    Frame(Rc<Frame>),
    /// The other side has closed.
    Eof,
    /// The connection is broken; the socket is gone.
    Reset,
}

/// Ports that Linux gives to those who don't care (net.ipv4.ip_local_port_range).
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// Waits before the SYN is sent again (tcp_syn_linear_timeouts = 4); after the last the dial has failed.
const SYN_WAITS: [Nanos; 8] = [1000, 1000, 1000, 1000, 1000, 2000, 4000, 8000];

/// Waits before the SYN-ACK of a listener is sent again (tcp_synack_retries = 5).
const SYN_ACK_WAITS: [Nanos; 5] = [1000, 2000, 4000, 8000, 16_000];

/// Data is sent again after the round trip and this, at first (TCP_RTO_MIN).
const LEAST_RTO: Nanos = 200 * MILLISECOND;

/// Unacknowledged for this long, a connection is given up: TCP_USER_TIMEOUT as gimlet sets it beside keepalive,
/// and what tcp_retries2 = 15 amounts to without. A closed socket takes the shorter one, too (Linux has
/// tcp_orphan_retries for it).
const USER_TIMEOUT: Nanos = 40 * SECOND;
const RETRIES_TIME: Nanos = 924 * SECOND;

/// Longest wait before something is sent again (TCP_RTO_MAX).
const LONGEST_RTO: Nanos = 120 * SECOND;

/// Silence after which an idle connection is probed, the time between two probes, and how many there are
/// before it is given up: as gimlet sets them.
const KEEPALIVE: (Nanos, Nanos, u8) = (50 * SECOND, 10 * SECOND, 3);

/// A closed socket whose FIN nobody acknowledges is forgotten after so many tries.
const FIN_TRIES: u8 = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    SynSent,
    /// Both SYNs are out: our own, and the other side's.
    SynReceived,
    Established,
}

struct Sock {
    generation: u32,
    local: Endpoint,
    remote: Endpoint,
    state: State,
    /// A listener made it; nobody has accepted it before it is established.
    of_listener: bool,
    /// close() was called: the kernel alone sees it to its end.
    orphan: bool,
    fin_queued: bool,
    fin_seen: bool,
    keepalive: bool,
    iss: u32,
    irs: u32,
    una: u32,
    rcv: u32,
    unacked: VecDeque<Rc<Frame>>,
    early: Vec<(u32, Rc<Frame>)>,
    tries: u8,
    begun: Nanos,
    rtt: Nanos,
    /// When the oldest unacknowledged thing went out first.
    since: Nanos,
    deadline: Nanos,
    /// When the timer that is set expires; the deadline may be later by now.
    armed: Nanos,
}

impl Sock {
    fn next(&self) -> u32 {
        match self.state {
            State::SynSent | State::SynReceived => self.iss.wrapping_add(1),
            State::Established => {
                let sent = self.unacked.len() as u32 + u32::from(self.fin_queued);
                self.una.wrapping_add(sent)
            }
        }
    }

    fn rto(&self) -> Nanos {
        let first = self.rtt + LEAST_RTO.max(self.rtt);
        (first << self.tries.min(8)).min(LONGEST_RTO)
    }
}

pub(crate) struct Tcp {
    ips: Vec<u32>,
    socks: Slab<Sock>,
    by_pair: FastMap<u128, u32>,
    listeners: FastMap<u16, ()>,
    /// Whatever the port, there is a listener.
    open: bool,
    /// How many sockets and listeners use a local port.
    users: FastMap<u16, u32>,
    generation: u32,
    /// The socket that an ICMP error has ended last.
    unreachable: Option<SockId>,
    random: fastrand::Rng,
    pub(crate) out: Vec<Packet>,
    pub(crate) events: VecDeque<(SockId, Event)>,
    /// Timers to set.
    pub(crate) timers: Vec<(Nanos, SockId)>,
}

impl Tcp {
    pub(crate) fn new(ips: Vec<u32>, seed: u64) -> Self {
        Self {
            ips,
            socks: Slab::new(),
            by_pair: FastMap::default(),
            listeners: FastMap::default(),
            open: false,
            users: FastMap::default(),
            generation: 0,
            unreachable: None,
            random: fastrand::Rng::with_seed(seed),
            out: Vec::new(),
            events: VecDeque::new(),
            timers: Vec::new(),
        }
    }

    // ---- getters ----

    pub(crate) fn ip(&self) -> u32 {
        self.ips[0]
    }

    pub(crate) fn owns(&self, ip: u32) -> bool {
        self.ips.contains(&ip)
    }

    /// Sockets that are not gone, those that the program has closed included.
    pub(crate) fn sockets(&self) -> usize {
        self.socks.len()
    }

    pub(crate) fn listening(&self) -> usize {
        self.listeners.len()
    }

    pub(crate) fn ends(&self, id: SockId) -> Option<(Endpoint, Endpoint)> {
        self.get(id).map(|sock| (sock.local, sock.remote))
    }

    /// Whether it was an ICMP error that the socket has failed with, just now.
    pub(crate) fn is_unreachable(&self, id: SockId) -> bool {
        self.unreachable == Some(id)
    }

    /// Both initial sequence numbers, ours first: they tell one connection from another.
    pub(crate) fn sequences(&self, id: SockId) -> Option<(u32, u32)> {
        self.get(id).map(|sock| (sock.iss, sock.irs))
    }

    // ---- what programs do ----

    /// Listens on a port, 0 for a free one.
    pub(crate) fn listen(&mut self, port: u16) -> u16 {
        let port = if port == 0 { self.free_port() } else { port };
        self.listeners.insert(port, ());
        self.use_port(port);
        port
    }

    /// Listens on every port.
    pub(crate) fn listen_everywhere(&mut self) {
        self.open = true;
    }

    /// Closes a listener. Connections that it has not handed over go with it.
    pub(crate) fn unlisten(&mut self, port: u16) {
        if self.listeners.remove(&port).is_none() {
            return;
        }
        self.leave_port(port);
        let half = |sock: &Sock| sock.of_listener && sock.state == State::SynReceived;
        let gone: Vec<_> = self
            .socks
            .iter()
            .filter(|(_, sock)| sock.local.port == port && half(sock))
            .map(|(index, sock)| SockId { index: index as u32, generation: sock.generation })
            .collect();
        for id in gone {
            self.remove(id);
        }
    }

    /// connect() from a local port, 0 for a fresh one.
    pub(crate) fn dial(
        &mut self,
        port: u16,
        remote: Endpoint,
        now: Nanos,
    ) -> Result<SockId, DialError> {
        let ip = self.ip();
        self.dial_from(Endpoint { ip, port }, remote, now)
    }

    /// The same from one of several addresses.
    pub(crate) fn dial_from(
        &mut self,
        Endpoint { ip, port }: Endpoint,
        remote: Endpoint,
        now: Nanos,
    ) -> Result<SockId, DialError> {
        let port = if port == 0 { self.free_port() } else { port };
        let local = Endpoint { ip, port };
        if self.by_pair.contains_key(&pair(local, remote)) {
            return Err(DialError::Taken);
        }
        let id = self.insert(local, remote, State::SynSent, now);
        self.transmit_first(id, SYN);
        self.arm(id, now + SYN_WAITS[0] * MILLISECOND);
        Ok(id)
    }

    pub(crate) fn send(&mut self, id: SockId, frame: Frame, now: Nanos) {
        let Some(sock) = self.get_mut(id) else { return };
        if sock.state != State::Established || sock.orphan {
            return;
        }
        let frame = Rc::new(frame);
        let (seq, idle) = (sock.next(), sock.unacked.is_empty());
        sock.unacked.push_back(frame.clone());
        if idle {
            sock.since = now;
        }
        let rto = sock.rto();
        self.emit(id, ACK, seq, Some(frame));
        if idle {
            self.arm(id, now + rto);
        }
    }

    /// SO_KEEPALIVE on an idle connection.
    pub(crate) fn keep_alive(&mut self, id: SockId, now: Nanos) {
        let Some(sock) = self.get_mut(id) else { return };
        sock.keepalive = true;
        if sock.deadline == Nanos::MAX {
            self.arm(id, now + KEEPALIVE.0);
        }
    }

    /// close(): in silence from SYN_SENT, with a FIN else.
    pub(crate) fn close(&mut self, id: SockId, now: Nanos) {
        let Some(sock) = self.get_mut(id) else { return };
        match sock.state {
            State::SynSent => self.remove(id),
            _ if sock.orphan => {}
            State::SynReceived | State::Established => {
                sock.orphan = true;
                let seq = sock.next();
                sock.fin_queued = true;
                if sock.unacked.is_empty() {
                    sock.since = now;
                }
                let rto = sock.rto();
                self.emit(id, ACK | FIN, seq, None);
                self.arm(id, now + rto);
            }
        }
    }

    /// close() with SO_LINGER 0: an RST.
    pub(crate) fn abort(&mut self, id: SockId) {
        if let Some(sock) = self.get(id)
            && sock.state != State::SynSent
        {
            let seq = sock.next();
            self.emit(id, RST | ACK, seq, None);
        }
        self.remove(id);
    }

    /// The machine loses its power: nothing is said to anybody.
    pub(crate) fn power_off(&mut self) {
        self.socks.clear();
        self.by_pair.clear();
        self.listeners.clear();
        self.users.clear();
        self.out.clear();
        self.events.clear();
        self.timers.clear();
    }

    // ---- time ----

    pub(crate) fn handle_timer(&mut self, id: SockId, now: Nanos) {
        let Some(sock) = self.get_mut(id) else { return };
        if now < sock.armed {
            return;
        }
        sock.armed = Nanos::MAX;
        let deadline = sock.deadline;
        if now >= deadline {
            self.expire(id, now);
        } else if deadline != Nanos::MAX {
            self.arm(id, deadline);
        }
    }

    fn expire(&mut self, id: SockId, now: Nanos) {
        let Some(sock) = self.get_mut(id) else { return };
        sock.tries += 1;
        let tries = usize::from(sock.tries);
        let (state, of_listener) = (sock.state, sock.of_listener);
        let waits: &[Nanos] = if of_listener { &SYN_ACK_WAITS } else { &SYN_WAITS };
        match state {
            State::SynSent | State::SynReceived if tries >= waits.len() => {
                self.fail(id, DialError::TimedOut);
            }
            State::SynSent => {
                self.transmit_first(id, SYN);
                self.arm(id, now + waits[tries] * MILLISECOND);
            }
            State::SynReceived => {
                self.transmit_first(id, SYN | ACK);
                self.arm(id, now + waits[tries] * MILLISECOND);
            }
            State::Established => self.send_again(id, now),
        }
    }

    fn send_again(&mut self, id: SockId, now: Nanos) {
        let Some(sock) = self.get_mut(id) else { return };
        let orphan = sock.orphan;
        if orphan && sock.tries > FIN_TRIES {
            return self.remove(id);
        }
        let idle = sock.unacked.is_empty() && !sock.fin_queued;
        let dead = match idle {
            true => sock.tries > KEEPALIVE.2,
            false => {
                let short = sock.keepalive || orphan;
                let longest = if short { USER_TIMEOUT } else { RETRIES_TIME };
                now.saturating_sub(sock.since) >= longest
            }
        };
        if dead {
            self.remove(id);
            if !orphan {
                self.events.push_back((id, Event::Reset));
            }
            return;
        }
        if idle {
            let seq = sock.next().wrapping_sub(1);
            self.emit(id, ACK, seq, None);
            return self.arm(id, now + KEEPALIVE.1);
        }
        let (una, fin, rto) = (sock.una, sock.fin_queued, sock.rto());
        // What got lost with it is sent again with the next acknowledgement's timer.
        let frames: Vec<_> = sock.unacked.iter().take(8).cloned().collect();
        let mut seq = una;
        for frame in frames {
            self.emit(id, ACK, seq, Some(frame));
            seq = seq.wrapping_add(1);
        }
        if fin {
            let seq = self.socks[id.index as usize].next().wrapping_sub(1);
            self.emit(id, ACK | FIN, seq, None);
        }
        self.arm(id, now + rto);
    }

    fn arm(&mut self, id: SockId, at: Nanos) {
        let Some(sock) = self.get_mut(id) else { return };
        sock.deadline = at;
        if at < sock.armed {
            sock.armed = at;
            self.timers.push((at, id));
        }
    }

    // ---- the table ----

    fn get(&self, id: SockId) -> Option<&Sock> {
        self.socks.get(id.index as usize).filter(|sock| sock.generation == id.generation)
    }

    fn get_mut(&mut self, id: SockId) -> Option<&mut Sock> {
        self.socks.get_mut(id.index as usize).filter(|sock| sock.generation == id.generation)
    }

    fn insert(&mut self, local: Endpoint, remote: Endpoint, state: State, now: Nanos) -> SockId {
        self.generation += 1;
        let iss = self.random.u32(..);
        let index = self.socks.insert(Sock {
            generation: self.generation,
            local,
            remote,
            state,
            of_listener: false,
            orphan: false,
            fin_queued: false,
            fin_seen: false,
            keepalive: false,
            iss,
            irs: 0,
            una: iss.wrapping_add(1),
            rcv: 0,
            unacked: VecDeque::new(),
            early: Vec::new(),
            tries: 0,
            begun: now,
            rtt: SECOND,
            since: now,
            deadline: Nanos::MAX,
            armed: Nanos::MAX,
        }) as u32;
        self.by_pair.insert(pair(local, remote), index);
        self.use_port(local.port);
        SockId { index, generation: self.generation }
    }

    fn establish(&mut self, id: SockId, now: Nanos) {
        let sock = &mut self.socks[id.index as usize];
        if sock.tries == 0 {
            sock.rtt = now - sock.begun;
        }
        sock.state = State::Established;
        sock.tries = 0;
        if !sock.orphan {
            sock.deadline = Nanos::MAX;
        }
    }

    fn fail(&mut self, id: SockId, error: DialError) {
        let Some(sock) = self.get(id) else { return };
        let silent = sock.of_listener || sock.orphan;
        self.remove(id);
        if !silent {
            self.events.push_back((id, Event::Failed(error)));
        }
    }

    fn remove(&mut self, id: SockId) {
        if self.get(id).is_some() {
            let sock = self.socks.remove(id.index as usize);
            self.by_pair.remove(&pair(sock.local, sock.remote));
            self.leave_port(sock.local.port);
        }
    }

    fn use_port(&mut self, port: u16) {
        *self.users.entry(port).or_insert(0) += 1;
    }

    fn leave_port(&mut self, port: u16) {
        if let Some(users) = self.users.get_mut(&port) {
            *users -= 1;
            if *users == 0 {
                self.users.remove(&port);
            }
        }
    }

    fn free_port(&mut self) -> u16 {
        loop {
            let port = self.random.u16(EPHEMERAL);
            if !self.users.contains_key(&port) {
                return port;
            }
        }
    }

    // ---- packets ----

    fn transmit_first(&mut self, id: SockId, flags: u8) {
        let iss = self.socks[id.index as usize].iss;
        self.emit(id, flags, iss, None);
    }

    fn acknowledge(&mut self, id: SockId) {
        if let Some(sock) = self.get(id) {
            let seq = sock.next();
            self.emit(id, ACK, seq, None);
        }
    }

    fn emit(&mut self, id: SockId, flags: u8, seq: u32, frame: Option<Rc<Frame>>) {
        let sock = &self.socks[id.index as usize];
        let ack = if flags & ACK != 0 { sock.rcv } else { 0 };
        let content = Content::Segment(Segment { flags, seq, ack, frame });
        self.out.push(Packet { from: sock.local, to: sock.remote, content });
    }
}

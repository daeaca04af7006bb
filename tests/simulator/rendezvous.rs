//! Drives the rendezvous machine with simulated sockets, as `net::rendezvous` does with real ones.

mod dial_back;

use std::time::{Duration, Instant};

use gimlet::identity::PublicKey;
use gimlet::limits;
use gimlet::proto::rendezvous::{
    Action, Config, JoinVerdict, Limits, LinkId, ProbeVerdict, RelayEnd, RelayId, Rendezvous,
    SessionId,
};
use gimlet::proto::timers::Timers;
use gimlet::wire::message::{Login, Message};
use gimlet::wire::refusal::RelayRefusal;
use gimlet::wire::stun::{self, Transaction};

use self::dial_back::DialBack;
use crate::packet::{Endpoint, FastMap, Frame};
use crate::tcp::{Event, SockId, Tcp};
use crate::topology::S_V4;
use crate::world::Now;

pub(crate) const MAIN_PORT: u16 = 4000;
pub(crate) const HOLE_PORTS: [u16; 2] = [8000, 8001];

/// As `net::rendezvous` has it.
const UNKNOWN_PROBE: u16 = 481;

/// What a connection is.
#[derive(Clone, Debug)]
enum Link {
    /// Accepted at the main port; the time is when its handshake must be done.
    Hello {
        deadline: Instant,
    },
    Reply {
        deadline: Instant,
        sent: Instant,
    },
    Session(SessionId),
    /// Told to go.
    Closing,
    Hole {
        idle_at: Instant,
    },
    /// S dials, to see what a peer's NAT lets in.
    DialBack {
        session: SessionId,
        place: usize,
    },
    RelayWaiting(Transaction),
    RelayPaired {
        relay: RelayId,
        with: SockId,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Handshake(SockId),
    Linger(SockId),
    HoleIdle(SockId),
    DialBack(SessionId),
}

pub(crate) struct RendezvousDriver {
    pub(crate) machine: Rendezvous,
    links: FastMap<SockId, Link>,
    by_link: FastMap<u64, SockId>,
    names: FastMap<SockId, u64>,
    last: u64,
    dial_backs: FastMap<SessionId, DialBack>,
    timers: Timers<Due>,
}

impl RendezvousDriver {
    pub(crate) fn open(tcp: &mut Tcp, relay: bool, seed: u64) -> Self {
        for port in [MAIN_PORT].into_iter().chain(HOLE_PORTS) {
            tcp.listen(port);
        }
        let unspecified = std::net::Ipv4Addr::UNSPECIFIED;
        let config = Config {
            holes: vec![
                Endpoint::new(unspecified, HOLE_PORTS[0]).into(),
                Endpoint::new(unspecified, HOLE_PORTS[1]).into(),
                Endpoint::new(S_V4[1], HOLE_PORTS[0]).into(),
            ],
            text: String::new(),
            relay,
            dial_back: true,
            limits: Limits::default(),
        };
        let mut bytes = [0; 32];
        fastrand::Rng::with_seed(seed).fill(&mut bytes);
        Self {
            machine: Rendezvous::new(config, bytes),
            links: FastMap::default(),
            by_link: FastMap::default(),
            names: FastMap::default(),
            last: 0,
            dial_backs: FastMap::default(),
            timers: Timers::new(),
        }
    }

    // ---- getters ----

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [self.machine.poll_timeout(), self.timers.next()].into_iter().flatten().min()
    }

    /// What it still keeps, in words; none if that is nothing.
    pub(crate) fn leftovers(&self) -> Option<String> {
        let machine = &self.machine;
        let kept = [machine.sessions(), machine.introductions(), machine.relays()];
        let dials = self.dial_backs.len();
        (kept != [0; 3] || !self.links.is_empty() || dials != 0).then(|| {
            let links = self.links.values();
            format!("sessions, introductions, relays {kept:?}; links {links:?}; dials back {dials}")
        })
    }

    // ---- commands ----

    /// The process ends: the kernel closes what it had open.
    pub(crate) fn exit(&mut self, tcp: &mut Tcp, now: Now) {
        for port in [MAIN_PORT].into_iter().chain(HOLE_PORTS) {
            tcp.unlisten(port);
        }
        let mut socks: Vec<_> = self.links.keys().copied().collect();
        socks.sort_unstable();
        for sock in socks {
            tcp.close(sock, now.at);
        }
    }

    /// The process is asked to end, and says goodbye.
    pub(crate) fn shut_down(&mut self, tcp: &mut Tcp, now: Now) {
        self.machine.drain("maintenance", now.instant);
        self.drain(tcp, now);
    }

    // ---- events ----

    pub(crate) fn handle_event(&mut self, tcp: &mut Tcp, sock: SockId, event: Event, now: Now) {
        match event {
            Event::Accepted(MAIN_PORT) => {
                let deadline = now.instant + limits::HANDSHAKE_TIME;
                self.timers.set(deadline, Due::Handshake(sock));
                tcp.keep_alive(sock, now.at);
                self.add(sock, Link::Hello { deadline });
            }
            Event::Accepted(_) => {
                let idle_at = now.instant + limits::HOLE_IDLE_TIME;
                self.timers.set(idle_at, Due::HoleIdle(sock));
                self.add(sock, Link::Hole { idle_at });
            }
            Event::Frame(frame) => self.take_frame(tcp, sock, &frame, now),
            Event::Eof | Event::Reset => self.lose(tcp, sock, matches!(event, Event::Eof), now),
            Event::Connected | Event::Failed(_) => self.handle_dialled(tcp, sock, &event),
        }
        self.drain(tcp, now);
    }

    pub(crate) fn handle_timeout(&mut self, tcp: &mut Tcp, now: Now) {
        self.machine.handle_timeout(now.instant);
        while let Some((at, due)) = self.timers.expire(now.instant) {
            match due {
                Due::Handshake(sock) => {
                    if let Some(Link::Hello { deadline } | Link::Reply { deadline, .. }) =
                        self.links.get(&sock)
                        && *deadline == at
                    {
                        self.forget(tcp, sock, now);
                    }
                }
                Due::Linger(sock) => self.forget(tcp, sock, now),
                Due::DialBack(session) => self.expire_dial_back(tcp, session),
                Due::HoleIdle(sock) => {
                    let idle_at = match self.links.get(&sock) {
                        Some(Link::Hole { idle_at }) => *idle_at,
                        _ => continue,
                    };
                    if idle_at <= now.instant {
                        self.forget(tcp, sock, now);
                    } else {
                        self.timers.set(idle_at, Due::HoleIdle(sock));
                    }
                }
            }
        }
        self.drain(tcp, now);
    }

    fn take_frame(&mut self, tcp: &mut Tcp, sock: SockId, frame: &Frame, now: Now) {
        let Some(link) = self.links.get(&sock).cloned() else { return };
        match (link, frame) {
            (Link::Hello { deadline }, Frame::Hello) => {
                tcp.send(sock, Frame::Reply, now.at);
                self.links.insert(sock, Link::Reply { deadline, sent: now.instant });
            }
            (Link::Reply { sent, .. }, Frame::Login { key, login }) => {
                self.log_in(tcp, sock, *key, login, now.instant - sent, now);
            }
            (Link::Session(session), Frame::Message(bytes)) => {
                let message = Message::decode(bytes).expect("peers encode what can be decoded");
                self.machine.handle_message(session, message, now.instant);
            }
            (Link::Hole { .. }, Frame::Stun(bytes)) => {
                let idle_at = now.instant + limits::HOLE_IDLE_TIME;
                self.links.insert(sock, Link::Hole { idle_at });
                self.take_request(tcp, sock, bytes, now);
            }
            (Link::RelayPaired { with, .. }, frame) => tcp.send(with, frame.clone(), now.at),
            (Link::RelayWaiting(_), _) => {
                self.machine.handle_relay_left(LinkId(self.names[&sock]));
                self.forget(tcp, sock, now);
            }
            (Link::Closing, _) => {}
            // Bytes that make no sense.
            (link, _) => {
                if let Link::Session(session) = link {
                    self.machine.handle_closed(session, now.instant);
                }
                self.forget(tcp, sock, now);
            }
        }
    }

    fn log_in(
        &mut self,
        tcp: &mut Tcp,
        sock: SockId,
        key: PublicKey,
        login: &[u8],
        round_trip: Duration,
        now: Now,
    ) {
        let (Some((_, remote)), Ok(login)) = (tcp.ends(sock), Login::decode(login)) else { return };
        let link = LinkId(self.names[&sock]);
        // The welcome may only go to a session: it is one before the machine's actions are done.
        let session =
            self.machine.handle_login(link, remote.into(), key, login, round_trip, now.instant);
        match session {
            Ok(session) => {
                self.links.insert(sock, Link::Session(session));
            }
            Err(_) => self.forget(tcp, sock, now),
        }
    }

    fn take_request(&mut self, tcp: &mut Tcp, sock: SockId, bytes: &[u8], now: Now) {
        let Some((local, remote)) = tcp.ends(sock) else { return };
        let at = std::net::SocketAddr::from(local).ip();
        let request = match stun::decode(bytes) {
            Ok(Some((stun::Message::Request(request), used))) if used == bytes.len() => request,
            other => panic!("peers send whole requests: {other:?}"),
        };
        let transaction = request.transaction;
        if let Some(join) = request.relay {
            return self.join_relay(tcp, sock, transaction, &join, now);
        }
        let verdict = request
            .probe
            .map(|probe| self.machine.handle_probe(&probe, remote.into(), at, now.instant));
        let mut answer = Vec::new();
        match verdict {
            Some(ProbeVerdict::Unknown) => {
                stun::binding_error(&mut answer, &transaction, UNKNOWN_PROBE, "", &[]);
            }
            Some(ProbeVerdict::Tied) | None => {
                stun::binding_success(&mut answer, &transaction, remote.into(), None, None);
            }
        }
        tcp.send(sock, Frame::Stun(answer), now.at);
    }

    // ---- the relay ----

    fn join_relay(
        &mut self,
        tcp: &mut Tcp,
        sock: SockId,
        transaction: Transaction,
        join: &stun::Join,
        now: Now,
    ) {
        let link = LinkId(self.names[&sock]);
        match self.machine.handle_relay_join(link, join, now.instant) {
            JoinVerdict::Refused(refusal) => refuse(tcp, sock, &transaction, refusal, now),
            JoinVerdict::Waiting => {
                self.links.insert(sock, Link::RelayWaiting(transaction));
            }
            JoinVerdict::Paired { relay, with } => {
                self.links.insert(sock, Link::RelayWaiting(transaction));
                let with = self.by_link[&with.0];
                for (one, other) in [(sock, with), (with, sock)] {
                    let Some(Link::RelayWaiting(transaction)) = self.links.get(&one) else {
                        panic!("who is paired has waited");
                    };
                    let mut answer = Vec::new();
                    if let Some((_, remote)) = tcp.ends(one) {
                        tcp.keep_alive(one, now.at);
                        let remote = remote.into();
                        stun::binding_success(&mut answer, transaction, remote, None, None);
                        tcp.send(one, Frame::Stun(answer), now.at);
                    }
                    let link = Link::RelayPaired { relay, with: other };
                    self.links.insert(one, link);
                }
            }
        }
    }

    fn end_pair(&mut self, tcp: &mut Tcp, sock: SockId, clean: bool, now: Now) {
        let Some(Link::RelayPaired { relay, with }) = self.links.get(&sock).cloned() else {
            return;
        };
        // Peers close whole connections, so the other way ends with this one.
        let end = if clean { RelayEnd::Finished } else { RelayEnd::Broken };
        self.machine.handle_relay_ended(relay, 0, end);
        if clean {
            self.forget(tcp, with, now);
        } else {
            tcp.abort(with);
            self.forget_link(with);
        }
        self.forget(tcp, sock, now);
    }

    // ---- output ----

    fn drain(&mut self, tcp: &mut Tcp, now: Now) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Send { link, message } => self.send(tcp, link, &message, now),
                Action::Close { link, code, text } => {
                    self.send(tcp, link, &Message::Closing { code, text }, now);
                    if let Some(sock) = self.by_link.get(&link.0).copied() {
                        self.links.insert(sock, Link::Closing);
                        let linger = now.instant + limits::LINGER_TIME;
                        self.timers.set(linger, Due::Linger(sock));
                    }
                }
                Action::DialBack { session, to, from } => {
                    self.dial_back(tcp, session, (to, from), now);
                }
                Action::RefuseRelay { link, refusal } => {
                    let Some(sock) = self.by_link.get(&link.0).copied() else { continue };
                    if let Some(Link::RelayWaiting(transaction)) = self.links.get(&sock) {
                        refuse(tcp, sock, &transaction.clone(), refusal, now);
                        self.forget(tcp, sock, now);
                    }
                }
            }
        }
    }

    fn send(&mut self, tcp: &mut Tcp, link: LinkId, message: &Message, now: Now) {
        let Some(sock) = self.by_link.get(&link.0).copied() else { return };
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        tcp.send(sock, Frame::Message(bytes), now.at);
    }

    // ---- the table ----

    fn add(&mut self, sock: SockId, link: Link) {
        self.last += 1;
        self.names.insert(sock, self.last);
        self.by_link.insert(self.last, sock);
        self.links.insert(sock, link);
    }

    /// A connection is gone, or its other side has closed.
    fn lose(&mut self, tcp: &mut Tcp, sock: SockId, clean: bool, now: Now) {
        match self.links.get(&sock) {
            Some(Link::Session(session)) => self.machine.handle_closed(*session, now.instant),
            Some(Link::RelayWaiting(_)) => {
                self.machine.handle_relay_left(LinkId(self.names[&sock]));
            }
            Some(Link::RelayPaired { .. }) => return self.end_pair(tcp, sock, clean, now),
            Some(
                Link::Hello { .. }
                | Link::Reply { .. }
                | Link::Hole { .. }
                | Link::DialBack { .. }
                | Link::Closing,
            )
            | None => {}
        }
        self.forget(tcp, sock, now);
    }

    fn forget(&mut self, tcp: &mut Tcp, sock: SockId, now: Now) {
        tcp.close(sock, now.at);
        self.forget_link(sock);
    }

    fn forget_link(&mut self, sock: SockId) {
        self.links.remove(&sock);
        if let Some(name) = self.names.remove(&sock) {
            self.by_link.remove(&name);
        }
    }
}

fn refuse(tcp: &mut Tcp, sock: SockId, transaction: &Transaction, refusal: RelayRefusal, now: Now) {
    let mut answer = Vec::new();
    stun::binding_error(&mut answer, transaction, refusal.to_code(), refusal.label(), &[]);
    tcp.send(sock, Frame::Stun(answer), now.at);
}

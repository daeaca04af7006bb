//! The hole ports: STUN Binding over TCP (RFC 8489 §6.2.2), for peers and for anybody.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use mio::Token;
use mio::net::TcpStream;

use super::{Due, RendezvousHost, Sock, count_in, count_out, key_of};
use crate::limits;
use crate::net::clock;
use crate::net::outbox::Outbox;
use crate::net::reactor::{Core, Readiness};
use crate::net::socket;
use crate::proto::rendezvous::{LinkId, ProbeVerdict};
use crate::wire::stun::{self, Join, Transaction};

/// The error code for a probe that belongs to no session or to no awaited hole. Not registered: only
/// our own attribute draws it.
const UNKNOWN_PROBE: u16 = 481;

/// A connection to a hole port.
pub(super) struct HoleLink {
    pub(super) stream: TcpStream,
    pub(super) token: Token,
    link: LinkId,
    pub(super) remote: SocketAddr,
    /// Another endpoint at which we answer (RFC 5780 §7.4), if there is one.
    pub(super) other: Option<SocketAddr>,
    pub(super) active: Instant,
    /// A request that is to be answered at this time.
    pub(super) delayed: Option<(Transaction, Instant)>,
    /// The timer that is set.
    pub(super) expires: Instant,
    pub(super) out: Outbox,
    partial: Vec<u8>,
}

/// How far the requests were answered.
struct Progress {
    /// Bytes.
    used: usize,
    /// Whether they made sense.
    sound: bool,
    /// The last of them asks to join a relay.
    join: Option<(Transaction, Join)>,
}

impl RendezvousHost {
    pub(super) fn accept_hole(&mut self, core: &mut Core, stream: TcpStream, remote: SocketAddr) {
        let bounds = self.machine.limits();
        let full = self.hole_links >= bounds.hole_links || self.socks.len() >= self.socket_limit();
        if full || !count_in(&mut self.holes_per_address, remote, bounds.holes_per_address) {
            self.counters.turned_away += 1;
            return;
        }
        if let Err(error) = self.add_hole(core, stream, remote) {
            log::warn!("accepted {remote} and closed it: {error}");
            count_out(&mut self.holes_per_address, remote);
        }
    }

    fn add_hole(
        &mut self,
        core: &mut Core,
        mut stream: TcpStream,
        remote: SocketAddr,
    ) -> io::Result<()> {
        socket::adopt(&stream)?;
        let other = self.other_endpoint(stream.local_addr()?);
        let key = self.socks.vacant_key();
        let token = core.register(&mut stream, self.id, key)?;
        let link = self.next_link(key);
        let expires = self.set_timer(self.machine.limits().hole_idle_time, Due::HoleIdle(link));
        self.socks.insert(Sock::Hole(Box::new(HoleLink {
            stream,
            token,
            link,
            remote,
            other,
            active: clock::now(),
            delayed: None,
            expires,
            out: Outbox::default(),
            partial: Vec::new(),
        })));
        self.hole_links += 1;
        Ok(())
    }

    /// RFC 5780 §6: OTHER-ADDRESS differs in address and port where it can, else in the port.
    fn other_endpoint(&self, ours: SocketAddr) -> Option<SocketAddr> {
        let others = self
            .hole_addresses
            .iter()
            .filter(|hole| hole.is_ipv4() == ours.is_ipv4())
            .map(|hole| {
                let ip = if hole.ip().is_unspecified() { ours.ip() } else { hole.ip() };
                SocketAddr::new(ip, hole.port())
            })
            .filter(|hole| *hole != ours);
        others.max_by_key(|hole| (hole.ip() != ours.ip(), hole.port() != ours.port()))
    }

    pub(super) fn hole_link(&mut self, link: LinkId) -> Option<&mut HoleLink> {
        match self.socks.get_mut(key_of(link)) {
            Some(Sock::Hole(hole)) if hole.link == link => Some(hole),
            _ => None,
        }
    }

    pub(super) fn handle_hole_ready(&mut self, core: &mut Core, key: usize, ready: Readiness) {
        let Some(Sock::Hole(hole)) = self.socks.get_mut(key) else { return };
        let link = hole.link;
        if ready.writable && hole.out.flush(&mut hole.stream).is_err() {
            return self.lose_hole(core, link);
        }
        if ready.readable {
            self.read_hole(core, link, ready);
        }
    }

    fn read_hole(&mut self, core: &mut Core, link: LinkId, ready: Readiness) {
        let mut scratch = core.take_scratch();
        let mut turn = 0;
        while let Some(hole) = self.hole_link(link) {
            if turn >= limits::TURN_BYTES {
                core.requeue(hole.token, Readiness::READABLE);
                break;
            }
            match io::Read::read(&mut hole.stream, &mut scratch) {
                Ok(0) => {
                    self.lose_hole(core, link);
                    break;
                }
                Ok(length) => {
                    turn += length;
                    hole.active = clock::now();
                    self.take_requests(core, link, &scratch[..length]);
                    if ready.is_exhausted_by(length, scratch.len()) {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.lose_hole(core, link);
                    break;
                }
            }
        }
        core.put_scratch(scratch);
    }

    /// Answers every whole request but that for a relay, keeps the beginning of the next, and writes all answers at once.
    fn take_requests(&mut self, core: &mut Core, link: LinkId, input: &[u8]) {
        let Some(hole) = self.hole_link(link) else { return };
        let mut kept = std::mem::take(&mut hole.partial);
        let joined = !kept.is_empty();
        if joined {
            kept.extend_from_slice(input);
        }
        let bytes = if joined { &kept[..] } else { input };
        let mut answers = std::mem::take(&mut self.assembly);
        answers.clear();
        let Progress { used, sound, join } = self.answer_all(link, bytes, &mut answers);
        let rest = bytes[used..].to_vec();
        // Nobody may speak behind a request for a relay before it is answered.
        let sound = sound && (join.is_none() || rest.is_empty());
        if let Some(hole) = self.hole_link(link) {
            hole.partial = rest;
            let sent = hole.out.send(&mut hole.stream, &answers);
            if sent.is_err() || hole.out.len() > limits::HOLE_BACKLOG_BYTES || !sound {
                self.counters.bad_stun += u64::from(!sound);
                self.lose_hole(core, link);
            } else if let Some((transaction, join)) = join {
                self.join_relay(core, link, transaction, &join);
            }
        }
        self.assembly = answers;
        self.drain(core);
    }

    fn answer_all(&mut self, link: LinkId, bytes: &[u8], answers: &mut Vec<u8>) -> Progress {
        let mut used = 0;
        let progress = |used, sound| Progress { used, sound, join: None };
        loop {
            match stun::decode(&bytes[used..]) {
                Ok(Some((message, length))) => {
                    used += length;
                    if let stun::Message::Request(request) = message {
                        if let (Some(join), true) = (request.relay, request.unknown.is_empty()) {
                            self.counters.stun += 1;
                            let join = Some((request.transaction, join));
                            return Progress { join, ..progress(used, true) };
                        }
                        self.answer(link, &request, answers);
                    }
                    // RFC 8489 §6.3: what isn't a Binding request is discarded.
                }
                Ok(None) => return progress(used, true),
                Err(error) => {
                    log::debug!("STUN: {error}");
                    return progress(used, false);
                }
            }
        }
    }

    fn answer(&mut self, link: LinkId, request: &stun::Request, answers: &mut Vec<u8>) {
        let Some(hole) = self.hole_link(link) else { return };
        let (remote, other) = (hole.remote, hole.other);
        // Where it isn't known any more the connection is broken, which the next read tells.
        let at = hole.stream.local_addr().map_or(socket::unspecified(remote), |ours| ours.ip());
        self.counters.stun += 1;
        let transaction = &request.transaction;
        // RFC 8489 §6.3.1.
        if !request.unknown.is_empty() {
            let (code, unknown) = (stun::code::UNKNOWN_ATTRIBUTE, request.unknown.as_slice());
            return stun::binding_error(answers, transaction, code, "Unknown Attribute", unknown);
        }
        let verdict = request
            .probe
            .as_ref()
            .map(|probe| self.machine.handle_probe(probe, remote, at, clock::now()));
        match verdict {
            Some(ProbeVerdict::Unknown) => {
                stun::binding_error(answers, transaction, UNKNOWN_PROBE, "Unknown Probe", &[]);
            }
            Some(ProbeVerdict::Tied) | None if request.delay > 0 => {
                self.delay_answer(link, *transaction, request.delay, answers);
            }
            Some(ProbeVerdict::Tied) | None => {
                stun::binding_success(answers, transaction, remote, other, None);
            }
        }
    }

    pub(super) fn lose_hole(&mut self, core: &mut Core, link: LinkId) {
        let Some(hole) = self.hole_link(link) else { return };
        let (remote, expires) = (hole.remote, hole.expires);
        self.forget_delayed(link);
        self.timers.clear(expires, Due::HoleIdle(link));
        count_out(&mut self.holes_per_address, remote);
        self.hole_links -= 1;
        self.drop_sock(core, key_of(link));
    }

    /// The timer is set once; when it expires, it is set again for as long as the connection has spoken
    /// meanwhile, or is yet to be answered.
    pub(super) fn expire_hole(&mut self, core: &mut Core, link: LinkId, now: Instant) {
        let idle_time = self.machine.limits().hole_idle_time;
        let Some(hole) = self.hole_link(link) else { return };
        let last = hole.delayed.map_or(hole.active, |(_, at)| hole.active.max(at));
        let idle_at = last + idle_time;
        if idle_at <= now {
            self.lose_hole(core, link);
        } else {
            hole.expires = idle_at;
            self.timers.set(idle_at, Due::HoleIdle(link));
        }
    }
}

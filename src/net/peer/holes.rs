//! Fresh local ports that listen, and STUN probes from them and from the main port.

use std::io;
use std::net::SocketAddr;

use mio::Token;
use mio::net::TcpStream;

use super::look::HairpinTest;
use super::{PeerHost, Sock};
use crate::limits;
use crate::net::clock;
use crate::net::reactor::{Core, Readiness};
use crate::net::socket::{self, Dialled};
use crate::proto::nat::Given;
use crate::wire::message::Port;
use crate::wire::stun;

/// The sockets of a hole.
pub(super) struct HoleSockets {
    pub(super) number: u16,
    listeners: Vec<usize>,
    probe: Option<usize>,
    /// Probes that went out beside it.
    beside: Vec<usize>,
    /// Connections of a look at our own NAT that is made from it.
    pub(super) guests: Vec<usize>,
    pub(super) hairpin: Option<HairpinTest>,
}

/// A connection to a hole port of S.
pub(super) struct ProbeLink {
    pub(super) stream: TcpStream,
    pub(super) token: Token,
    to: SocketAddr,
    purpose: ProbePurpose,
    connected: bool,
    received: Vec<u8>,
}

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProbePurpose {
    /// To see how the main port is mapped.
    Main,
    /// To see which port the NAT hands out; the number is its place in the series.
    Fresh(usize),
    /// To hold a hole open.
    Hole(u64),
    /// To show, beside a hole's own probe, what the NAT hands out next.
    Beside(u64),
}

impl PeerHost {
    /// Looks at the NAT from the main port.
    pub(super) fn probe_main(&mut self, core: &mut Core, to: SocketAddr) {
        let number = self.port_number(Port::Main).unwrap_or(0);
        if let Err(error) = self.open_probe(core, number, to, ProbePurpose::Main) {
            log::debug!("probe of the main port to {to}: {error}");
            self.machine.handle_main_probe(to, None, clock::now());
        }
    }

    /// Looks at which port the NAT hands out.
    pub(super) fn probe_fresh(&mut self, core: &mut Core, index: usize, to: SocketAddr) {
        if let Err(error) = self.open_probe(core, 0, to, ProbePurpose::Fresh(index)) {
            log::debug!("probe from a fresh port to {to}: {error}");
            self.machine.handle_fresh_probe(index, None, clock::now());
        }
    }

    /// Closes the probes that nobody waits for any more.
    pub(super) fn close_probes(&mut self, core: &mut Core) {
        let looks = |sock: &Sock| match sock {
            Sock::Probe(probe) => {
                matches!(probe.purpose, ProbePurpose::Main | ProbePurpose::Fresh(_))
            }
            _ => false,
        };
        let found = self.socks.iter().filter(|(_, sock)| looks(sock));
        let keys: Vec<_> = found.map(|(key, _)| key).collect();
        for key in keys {
            self.drop_sock(core, key);
        }
    }

    /// Opens a fresh port: the listener first, so that whoever learns of the hole finds it there.
    pub(super) fn open_hole(&mut self, core: &mut Core, tag: u64, to: SocketAddr, beside: u8) {
        if let Err(error) = self.try_open_hole(core, tag, to, beside) {
            log::warn!("a hole can't be opened: {error}");
            self.close_hole(core, tag);
            self.machine.handle_hole_lost(tag, clock::now());
        }
    }

    fn try_open_hole(
        &mut self,
        core: &mut Core,
        tag: u64,
        to: SocketAddr,
        beside: u8,
    ) -> io::Result<()> {
        let listener = socket::listen_shared(SocketAddr::new(socket::unspecified(to), 0))?;
        let number = listener.local_addr()?.port();
        let listener = self.add_listener(core, listener, Port::Hole(tag))?;
        let hole = HoleSockets {
            number,
            listeners: vec![listener],
            probe: None,
            beside: Vec::new(),
            guests: Vec::new(),
            hairpin: None,
        };
        self.holes.insert(tag, hole);
        self.listen_in_other_family(core, tag, to, number);
        // Each is the hole's at once: if a later one can't be opened, all are closed.
        let probe = self.open_probe(core, number, to, ProbePurpose::Hole(tag))?;
        self.holes.entry(tag).and_modify(|hole| hole.probe = Some(probe));
        for _ in 0..beside {
            let probe = self.open_probe(core, 0, to, ProbePurpose::Beside(tag))?;
            self.holes.entry(tag).and_modify(|hole| hole.beside.push(probe));
        }
        Ok(())
    }

    /// The other peer may come by the other family, if we have an address in it.
    fn listen_in_other_family(&mut self, core: &mut Core, tag: u64, to: SocketAddr, number: u16) {
        let other: SocketAddr = match to {
            SocketAddr::V4(_) => (std::net::Ipv6Addr::UNSPECIFIED, number).into(),
            SocketAddr::V6(_) => (std::net::Ipv4Addr::UNSPECIFIED, number).into(),
        };
        if !self.machine.has_host_address(other.is_ipv6()) {
            return;
        }
        let listener = socket::listen_shared(other)
            .and_then(|listener| self.add_listener(core, listener, Port::Hole(tag)));
        match (listener, self.holes.get_mut(&tag)) {
            (Ok(key), Some(hole)) => hole.listeners.push(key),
            (Ok(key), None) => self.drop_sock(core, key),
            (Err(error), _) => log::debug!("listen on {other}: {error}"),
        }
    }

    fn open_probe(
        &mut self,
        core: &mut Core,
        number: u16,
        to: SocketAddr,
        purpose: ProbePurpose,
    ) -> io::Result<usize> {
        let stream = socket::dial(number, to)?;
        self.add_stream(core, stream, |stream, token| {
            let received = Vec::new();
            Sock::Probe(Box::new(ProbeLink {
                stream,
                token,
                to,
                purpose,
                connected: false,
                received,
            }))
        })
    }

    pub(super) fn close_hole(&mut self, core: &mut Core, tag: u64) {
        let Some(hole) = self.holes.remove(&tag) else { return };
        let connections = hole.probe.into_iter().chain(hole.beside).chain(hole.guests);
        for key in hole.listeners.into_iter().chain(connections) {
            self.drop_sock(core, key);
        }
    }

    /// Sends a hole's probe again.
    pub(super) fn probe_hole(&mut self, core: &mut Core, tag: u64) {
        if let Some(key) = self.holes.get(&tag).and_then(|hole| hole.probe) {
            self.send_probe(core, key);
        }
    }

    pub(super) fn handle_probe_ready(&mut self, core: &mut Core, key: usize, ready: Readiness) {
        let Some(Sock::Probe(probe)) = self.socks.get_mut(key) else { return };
        if !probe.connected {
            match socket::look_at_dial(&probe.stream) {
                Dialled::Pending => return,
                Dialled::Established { .. } => {
                    probe.connected = true;
                    self.send_probe(core, key);
                }
                Dialled::Failed(error) => return self.lose_probe(core, key, &error.to_string()),
            }
        }
        if ready.readable {
            self.read_probe(core, key);
        }
    }

    /// A probe is below a hundred bytes and the first of its connection: it is written whole, or the
    /// connection is of no use.
    fn send_probe(&mut self, core: &mut Core, key: usize) {
        let Some(Sock::Probe(probe)) = self.socks.get_mut(key) else { return };
        let number = probe.stream.local_addr().map_or(0, |local| local.port());
        let attribute = match probe.purpose {
            ProbePurpose::Main => self.machine.probe(0, number),
            ProbePurpose::Hole(tag) => self.machine.probe(tag, number),
            // It names no local port: nothing listens on it.
            ProbePurpose::Beside(tag) => self.machine.probe(tag, 0),
            ProbePurpose::Fresh(_) => None,
        };
        let mut transaction = stun::Transaction::default();
        getrandom::fill(&mut transaction).expect("the system has randomness");
        let mut request = Vec::new();
        stun::binding_request(&mut request, &transaction, attribute.as_ref());
        match io::Write::write(&mut probe.stream, &request) {
            Ok(length) if length == request.len() => {}
            Ok(_) => self.lose_probe(core, key, "the probe was not written whole"),
            Err(error) => self.lose_probe(core, key, &error.to_string()),
        }
    }

    fn read_probe(&mut self, core: &mut Core, key: usize) {
        let mut chunk = [0; stun::MESSAGE_BYTES];
        loop {
            let Some(Sock::Probe(probe)) = self.socks.get_mut(key) else { return };
            match io::Read::read(&mut probe.stream, &mut chunk) {
                Ok(0) => return self.lose_probe(core, key, "closed by the rendezvous"),
                Ok(length) => {
                    probe.received.extend_from_slice(&chunk[..length]);
                    if probe.received.len() > 2 * stun::MESSAGE_BYTES {
                        return self.lose_probe(core, key, "too long an answer");
                    }
                    self.take_probe_answers(core, key);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.lose_probe(core, key, &error.to_string()),
            }
        }
    }

    fn take_probe_answers(&mut self, core: &mut Core, key: usize) {
        loop {
            let Some(Sock::Probe(probe)) = self.socks.get_mut(key) else { return };
            let (to, purpose) = (probe.to, probe.purpose);
            let local = probe.stream.local_addr().map_or(0, |local| local.port());
            let (answer, used) = match stun::decode(&probe.received) {
                Ok(None) => return,
                Ok(Some((message, used))) => (mapped_endpoint(&message), used),
                Err(error) => return self.lose_probe(core, key, &error.to_string()),
            };
            probe.received.drain(..used);
            match (answer, purpose) {
                (Some(mapped), ProbePurpose::Hole(tag)) => {
                    log::debug!("hole tag={tag:#x} mapped={mapped}");
                    self.machine.handle_hole_shown(tag, mapped, clock::now());
                    if self.options.follow_network {
                        self.machine.handle_public_address(mapped.ip(), clock::now());
                    }
                }
                (None, ProbePurpose::Hole(tag)) => {
                    self.machine.handle_hole_refused(tag, clock::now());
                }
                // It has been seen, and stays open so that the NAT doesn't use its port again.
                (_, ProbePurpose::Beside(_)) => {}
                (mapped, ProbePurpose::Main) => {
                    self.drop_sock(core, key);
                    self.machine.handle_main_probe(to, mapped, clock::now());
                }
                (mapped, ProbePurpose::Fresh(index)) => {
                    self.drop_sock(core, key);
                    let given = mapped.map(|mapped| Given { local, destination: to, mapped });
                    self.machine.handle_fresh_probe(index, given, clock::now());
                }
            }
        }
    }

    fn lose_probe(&mut self, core: &mut Core, key: usize, why: &str) {
        let Some(Sock::Probe(probe)) = self.socks.get(key) else { return };
        let (to, purpose) = (probe.to, probe.purpose);
        log::debug!("probe to {to}: {why}");
        self.drop_sock(core, key);
        match purpose {
            ProbePurpose::Hole(tag) => {
                if let Some(hole) = self.holes.get_mut(&tag) {
                    hole.probe = None;
                }
                self.machine.handle_hole_lost(tag, clock::now());
            }
            ProbePurpose::Beside(tag) => {
                if let Some(hole) = self.holes.get_mut(&tag) {
                    hole.beside.retain(|other| *other != key);
                }
            }
            ProbePurpose::Main => self.machine.handle_main_probe(to, None, clock::now()),
            ProbePurpose::Fresh(index) => {
                self.machine.handle_fresh_probe(index, None, clock::now());
            }
        }
    }
}

/// The mapped endpoint in a STUN answer; none in an error answer.
fn mapped_endpoint(message: &stun::Message<'_>) -> Option<SocketAddr> {
    match message {
        stun::Message::Success(success) => Some(success.mapped),
        _ => None,
    }
}

const _: () = assert!(stun::MESSAGE_BYTES <= limits::SCRATCH_BYTES);

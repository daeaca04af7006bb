//! Drives the machine that has the router map our main port: datagrams, one HTTP call at a time.

use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::Token;
use mio::net::{TcpStream, UdpSocket};

use super::{Event, PeerHost, Sock};
use crate::limits;
use crate::net::outbox::Outbox;
use crate::net::reactor::{Core, Readiness};
use crate::net::socket::{self, Dialled};
use crate::net::{clock, gateway};
use crate::proto::portmap::{self, Action, Mapping, PortMapper, Worthless};
use crate::wire::portmap::http::{self, Response};

/// The machine and its sockets.
pub(super) struct PortMapping {
    machine: PortMapper,
    /// Our addresses on the ways out, each with a socket that is bound to it.
    own: Vec<(IpAddr, usize)>,
    /// Where routers tell that they have restarted.
    announcements: Vec<usize>,
    call: Option<usize>,
    /// What the application has been told.
    told: Vec<(Mapping, Result<(), Worthless>)>,
}

/// An HTTP call to a router.
pub(super) struct RouterLink {
    pub(super) stream: TcpStream,
    pub(super) token: Token,
    to: SocketAddr,
    /// What is to be said once it is connected.
    request: Vec<u8>,
    connected: bool,
    out: Outbox,
    received: Vec<u8>,
}

impl PortMapping {
    pub(super) fn new(seed: u64) -> Self {
        let mut nonce = [0; 12];
        getrandom::fill(&mut nonce).expect("the system has randomness");
        Self {
            machine: PortMapper::new(nonce, seed),
            own: Vec::new(),
            announcements: Vec::new(),
            call: None,
            told: Vec::new(),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<std::time::Instant> {
        self.machine.poll_timeout()
    }
}

impl PeerHost {
    // ---- commands ----

    /// Has the router remove what it maps for us, and asks for nothing more. That takes a moment:
    /// [`Self::has_port_mapping`] tells when it is done.
    pub fn remove_port_mapping(&mut self, core: &mut Core) {
        self.options.port_mapping = false;
        if let Some(mapping) = &mut self.port_mapping {
            mapping.machine.stop(clock::now());
        }
        self.drain(core);
    }

    /// Whether a router maps our main port, or is being asked to, or to end it.
    pub fn has_port_mapping(&self) -> bool {
        self.port_mapping.as_ref().is_some_and(|mapping| !mapping.machine.is_idle())
    }

    /// A login has a new main port. Nothing waits for the router.
    pub(super) fn map_main_port(&mut self, core: &mut Core, number: u16) {
        if !self.options.port_mapping || number == 0 {
            return;
        }
        let network = gateway::network();
        self.use_network(core, network);
        if let Some(mapping) = &mut self.port_mapping {
            mapping.told.clear();
            mapping.machine.start(number, network, clock::now());
        }
        self.drain_port_mapping(core);
    }

    // ---- events ----

    pub(super) fn handle_port_mapping_timeout(&mut self, core: &mut Core) {
        let now = clock::now();
        let due = self.port_mapping.as_ref().and_then(|mapping| mapping.poll_timeout());
        if due.is_none_or(|at| at > now) {
            return;
        }
        // Rarely due: a good moment to see whether we are somewhere else, if nothing else tells.
        self.look_at_gateways(core);
        if let Some(mapping) = &mut self.port_mapping {
            mapping.machine.handle_timeout(now);
        }
    }

    /// The network may have changed under the login.
    pub(super) fn look_at_gateways(&mut self, core: &mut Core) {
        if !self.port_mapping.as_ref().is_some_and(|mapping| mapping.machine.is_started()) {
            return;
        }
        let network = gateway::network();
        self.use_network(core, network);
        if let Some(mapping) = &mut self.port_mapping {
            mapping.machine.set_network(network, clock::now());
        }
        self.drain_port_mapping(core);
    }

    pub(super) fn handle_datagrams(&mut self, core: &mut Core, key: usize) {
        let mut scratch = core.take_scratch();
        for turn in 0.. {
            let Some(Sock::Datagrams { socket, token }) = self.socks.get_mut(key) else { break };
            if turn == limits::TURN_DATAGRAMS {
                core.requeue(*token, Readiness::READABLE);
                break;
            }
            match socket.recv_from(&mut scratch) {
                Ok((length, from)) => {
                    if let Some(mapping) = &mut self.port_mapping {
                        let bytes = &scratch[..length];
                        mapping.machine.handle_datagram(from, bytes, clock::now());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        log::debug!("port mapping: {error}");
                    }
                    break;
                }
            }
        }
        core.put_scratch(scratch);
    }

    pub(super) fn handle_router_ready(&mut self, core: &mut Core, key: usize, ready: Readiness) {
        let Some(Sock::Router(link)) = self.socks.get_mut(key) else { return };
        if !link.connected {
            match socket::look_at_dial(&link.stream) {
                Dialled::Pending => return,
                Dialled::Established { .. } => link.connected = true,
                Dialled::Failed(error) => return self.fail_call(core, &error.to_string()),
            }
            let request = std::mem::take(&mut link.request);
            link.out.push(&request);
        }
        if let Err(error) = link.out.flush(&mut link.stream) {
            return self.fail_call(core, &error.to_string());
        }
        if ready.readable {
            self.read_router(core, key);
        }
    }

    /// The answer's bound is below what one turn may read.
    fn read_router(&mut self, core: &mut Core, key: usize) {
        let mut chunk = [0; 4096];
        loop {
            let Some(Sock::Router(link)) = self.socks.get_mut(key) else { return };
            let length = match io::Read::read(&mut link.stream, &mut chunk) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return self.fail_call(core, &error.to_string()),
            };
            link.received.extend_from_slice(&chunk[..length]);
            match http::decode(&link.received, length == 0) {
                Ok(None) => {}
                Ok(Some(response)) => return self.end_call(core, Some(&response)),
                Err(error) => return self.fail_call(core, &error.to_string()),
            }
        }
    }

    // ---- what the machine wants ----

    pub(super) fn drain_port_mapping(&mut self, core: &mut Core) {
        while let Some(action) = self.port_mapping.as_mut().and_then(|m| m.machine.poll_action()) {
            match action {
                Action::Send { to, bytes } => self.send_datagram(to, &bytes),
                Action::Call { to, request } => self.call_router(core, to, request),
                Action::HangUp => self.hang_up(core),
            }
        }
        let mut changed = false;
        while self.port_mapping.as_mut().and_then(|m| m.machine.poll_event()).is_some() {
            changed = true;
        }
        if changed {
            self.tell_mapped();
        }
    }

    /// Tells S and the application where the main port is mapped, once it is known where S sees us; again
    /// when more of that is known.
    pub(super) fn tell_mapped(&mut self) {
        let Some(mapping) = &mut self.port_mapping else { return };
        if !self.machine.is_logged_in() {
            return;
        }
        let known = self.machine.known_addresses();
        let found: Vec<_> = mapping
            .machine
            .mappings()
            .map(|found| (found, portmap::check(found.external, &known)))
            .collect();
        let told = std::mem::replace(&mut mapping.told, found.clone());
        for (lost, _) in told.iter().filter(|(told, _)| !found.iter().any(|(new, _)| told == new)) {
            self.events.push_back(Event::PortMappingLost(*lost));
        }
        for (new, worth) in found.iter().filter(|new| !told.contains(new)) {
            if let Err(why) = worth {
                log::debug!("port mapping: {} is worth nothing: {why}", new.external);
            }
            self.events.push_back(Event::PortMapped { mapping: *new, worth: *worth });
        }
        let worth = found.iter().filter(|(_, worth)| worth.is_ok());
        self.machine.set_mapped(worth.map(|(mapping, _)| mapping.external).collect());
    }

    fn send_datagram(&mut self, to: SocketAddr, bytes: &[u8]) {
        let Some(mapping) = &self.port_mapping else { return };
        let key = mapping.own.iter().find(|(ip, _)| ip.is_ipv4() == to.is_ipv4());
        let Some(Sock::Datagrams { socket, .. }) = key.and_then(|(_, key)| self.socks.get(*key))
        else {
            return;
        };
        // What is lost is sent again.
        if let Err(error) = socket.send_to(bytes, to) {
            log::debug!("port mapping: {to}: {error}");
        }
    }

    fn call_router(&mut self, core: &mut Core, to: SocketAddr, request: Vec<u8>) {
        let called = socket::dial(0, to).and_then(|stream| {
            self.add_stream(core, stream, |stream, token| {
                Sock::Router(Box::new(RouterLink {
                    stream,
                    token,
                    to,
                    request,
                    connected: false,
                    out: Outbox::default(),
                    received: Vec::new(),
                }))
            })
        });
        match (called, &mut self.port_mapping) {
            (Ok(key), Some(mapping)) => mapping.call = Some(key),
            (Ok(key), None) => self.drop_sock(core, key),
            (Err(error), _) => {
                log::debug!("port mapping: {to}: {error}");
                self.end_call(core, None);
            }
        }
    }

    fn fail_call(&mut self, core: &mut Core, why: &str) {
        let key = self.port_mapping.as_ref().and_then(|mapping| mapping.call);
        if let Some(Sock::Router(link)) = key.and_then(|key| self.socks.get(key)) {
            log::debug!("port mapping: {}: {why}", link.to);
        }
        self.end_call(core, None);
    }

    fn end_call(&mut self, core: &mut Core, answer: Option<&Response>) {
        self.hang_up(core);
        if let Some(mapping) = &mut self.port_mapping {
            mapping.machine.handle_answer(answer, clock::now());
        }
    }

    fn hang_up(&mut self, core: &mut Core) {
        if let Some(key) = self.port_mapping.as_mut().and_then(|mapping| mapping.call.take()) {
            self.drop_sock(core, key);
        }
    }

    // ---- sockets ----

    /// Opens sockets for our addresses on the ways out, unless they are open.
    fn use_network(&mut self, core: &mut Core, network: portmap::Network) {
        let Some(mapping) = &mut self.port_mapping else { return };
        let routes: Vec<_> = [network.v4, network.v6].into_iter().flatten().collect();
        if mapping.own.iter().map(|(ip, _)| *ip).eq(routes.iter().map(|route| route.own)) {
            return;
        }
        let own = std::mem::take(&mut mapping.own).into_iter().map(|(_, key)| key);
        let old: Vec<_> = own.chain(std::mem::take(&mut mapping.announcements)).collect();
        for key in old {
            self.drop_sock(core, key);
        }
        for route in routes {
            let own = self.add_datagrams(core, socket::datagrams((route.own, 0).into()));
            let heard = self.add_datagrams(core, socket::announcements(route.own, route.scope));
            if let Some(mapping) = &mut self.port_mapping {
                mapping.own.extend(own.map(|key| (route.own, key)));
                mapping.announcements.extend(heard);
            }
        }
    }

    fn add_datagrams(&mut self, core: &mut Core, socket: io::Result<UdpSocket>) -> Option<usize> {
        let added = socket.and_then(|mut socket| {
            let key = self.socks.vacant_key();
            let token = core.register(&mut socket, self.id, key)?;
            Ok(self.socks.insert(Sock::Datagrams { socket, token }))
        });
        added.inspect_err(|error| log::debug!("port mapping: {error}")).ok()
    }
}

//! The main connection: name, dial, handshake, messages; and the listeners on its local port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net::TcpListener;

use super::{PeerHost, Sock, Wire};
use crate::identity::ServerAddr;
use crate::limits;
use crate::net::reactor::{Core, Readiness};
use crate::net::socket::{self, Dialled};
use crate::net::{clock, interfaces};
use crate::proto::peer::LoginError;
use crate::wire::message::{Message, Nonce, Port};
use crate::wire::noise::{Channel, ClientHandshake, NoiseError};

use super::events::Event;
use super::network::Origin;

/// Ports that are tried until one is free in both families.
const PORT_TRIES: u32 = 16;

/// The local port that the main connection shares with listeners.
pub(super) struct MainPort {
    pub(super) number: u16,
    listeners: Vec<usize>,
}

/// The connection to the rendezvous.
pub(super) struct MainLink {
    pub(super) wire: Wire,
    server: SocketAddr,
    pub(super) origin: Origin,
    stage: Stage,
}

enum Stage {
    Connecting,
    Handshake(ClientHandshake),
    Open(Channel),
    /// Between two stages, for the length of a call.
    Moving,
}

impl PeerHost {
    // ---- dial ----

    /// Finds out where the rendezvous is, then dials it.
    pub(super) fn dial_main(&mut self, core: &mut Core) {
        self.close_main(core);
        let server = self.rendezvous();
        match server.host.parse::<IpAddr>() {
            Ok(ip) => {
                self.candidates = vec![SocketAddr::new(ip, server.port)];
                self.dial_next(core, None);
            }
            Err(_) => {
                self.lookup = Some(core.resolve(self.id, server.host, server.port));
            }
        }
    }

    pub(super) fn handle_resolved(
        &mut self,
        core: &mut Core,
        lookup: u64,
        found: io::Result<Vec<SocketAddr>>,
    ) {
        // We were stopped meanwhile, or took too long, or it was for another peer in our place.
        if self.lookup != Some(lookup) {
            return;
        }
        self.lookup = None;
        match found {
            Ok(found) if !found.is_empty() => {
                self.candidates = found;
                let first = self.attempt % self.candidates.len();
                self.candidates.rotate_left(first);
                self.attempt += 1;
                self.dial_next(core, None);
            }
            Ok(_) => self.unreachable("the name has no address"),
            Err(error) => self.unreachable(&error.to_string()),
        }
    }

    /// Dials the next of the addresses that the name has; `before` is why the last one failed.
    fn dial_next(&mut self, core: &mut Core, before: Option<io::Error>) {
        let mut error = before;
        while !self.candidates.is_empty() {
            let server = self.candidates.remove(0);
            match self.dial_server(core, server) {
                Ok(key) => {
                    self.main = Some(key);
                    return;
                }
                Err(failed) => error = Some(failed),
            }
        }
        let server = self.rendezvous();
        let why = error.map_or_else(String::new, |error| error.to_string());
        self.unreachable(&format!("{}:{}: {why}", server.host, server.port));
    }

    /// The one that is dialled: that of the options, or another one that it has named.
    fn rendezvous(&self) -> ServerAddr {
        self.machine.elsewhere().unwrap_or(&self.options.server).clone()
    }

    fn unreachable(&mut self, why: &str) {
        let error = LoginError::Unreachable(why.to_owned());
        self.machine.handle_main_lost(error, clock::now());
    }

    fn dial_server(&mut self, core: &mut Core, server: SocketAddr) -> io::Result<usize> {
        let number = self.open_main_port(core, server);
        let origin = Origin::of(server);
        let stream = socket::dial(number, server)?;
        self.add_stream(core, stream, |stream, token| {
            let wire = Wire::new(stream, token);
            Sock::Main(Box::new(MainLink { wire, server, origin, stage: Stage::Connecting }))
        })
    }

    /// A fresh port with a listener, in both families if it can be had. 0 when it can't: then others
    /// can't reach the main port, but we can still log in.
    fn open_main_port(&mut self, core: &mut Core, server: SocketAddr) -> u16 {
        self.close_main_port(core);
        for _ in 0..PORT_TRIES {
            let Some((number, listeners)) = listen_on_both(server) else { continue };
            let mut keys = Vec::new();
            for listener in listeners {
                match self.add_listener(core, listener, Port::Main) {
                    Ok(key) => keys.push(key),
                    Err(error) => log::warn!("listen on the main port: {error}"),
                }
            }
            self.main_port = Some(MainPort { number, listeners: keys });
            return number;
        }
        log::warn!("no local port to listen on: only fresh holes can be reached");
        0
    }

    fn close_main_port(&mut self, core: &mut Core) {
        for key in self.main_port.take().map_or_else(Vec::new, |port| port.listeners) {
            self.drop_sock(core, key);
        }
    }

    pub(super) fn close_main(&mut self, core: &mut Core) {
        self.lookup = None;
        if let Some(key) = self.main.take() {
            self.drop_sock(core, key);
        }
    }

    // ---- events ----

    pub(super) fn handle_main_ready(&mut self, core: &mut Core, key: usize, ready: Readiness) {
        let Some(Sock::Main(main)) = self.socks.get_mut(key) else { return };
        if matches!(main.stage, Stage::Connecting) {
            return self.look_at_main(core, key);
        }
        if ready.writable
            && let Err(error) = main.wire.flush()
        {
            return self.lose_main(core, LoginError::Lost(error.to_string()));
        }
        if ready.readable
            && let Err(error) = self.read_main(core, key, ready)
        {
            self.lose_main(core, error);
        }
    }

    fn look_at_main(&mut self, core: &mut Core, key: usize) {
        let Some(Sock::Main(main)) = self.socks.get_mut(key) else { return };
        match socket::look_at_dial(&main.wire.stream) {
            Dialled::Pending => {}
            Dialled::Established { .. } => {
                if let Err(error) = socket::keep_alive(&main.wire.stream) {
                    log::debug!("keepalive: {error}");
                }
                let mut hello = Vec::new();
                main.stage =
                    Stage::Handshake(ClientHandshake::start(&self.options.key, &mut hello));
                if let Err(error) = main.wire.send(&hello) {
                    self.lose_main(core, LoginError::Lost(error.to_string()));
                }
            }
            Dialled::Failed(error) => {
                self.close_main(core);
                self.dial_next(core, Some(error));
            }
        }
    }

    fn lose_main(&mut self, core: &mut Core, error: LoginError) {
        self.close_main(core);
        self.machine.handle_main_lost(error, clock::now());
    }

    /// Reads a turn's worth; what is left waits for the next turn.
    fn read_main(
        &mut self,
        core: &mut Core,
        key: usize,
        ready: Readiness,
    ) -> Result<(), LoginError> {
        let mut scratch = core.take_scratch();
        let mut turn = 0;
        let result = loop {
            let Some(Sock::Main(main)) = self.socks.get_mut(key) else { break Ok(()) };
            if turn >= limits::TURN_BYTES {
                core.requeue(main.wire.token, Readiness::READABLE);
                break Ok(());
            }
            match io::Read::read(&mut main.wire.stream, &mut scratch) {
                Ok(0) => break Err(LoginError::Lost("closed by the rendezvous".into())),
                Ok(length) => {
                    turn += length;
                    if let Err(error) = self.take_main_frames(core, key, &mut scratch[..length]) {
                        break Err(error);
                    }
                    if ready.is_exhausted_by(length, scratch.len()) {
                        break Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(LoginError::Lost(error.to_string())),
            }
        };
        core.put_scratch(scratch);
        result
    }

    fn take_main_frames(
        &mut self,
        core: &mut Core,
        key: usize,
        input: &mut [u8],
    ) -> Result<(), LoginError> {
        let Some(Sock::Main(main)) = self.socks.get_mut(key) else { return Ok(()) };
        let mut frames = std::mem::take(&mut main.wire.frames);
        let mut at = 0;
        loop {
            let (used, body) = frames
                .next(&mut input[at..], limits::FRAME_BYTES)
                .map_err(|error| LoginError::Protocol(error.to_string()))?;
            at += used;
            let Some(body) = body else { break };
            self.take_main_frame(core, key, body)?;
            if self.main != Some(key) {
                return Ok(());
            }
        }
        if let Some(Sock::Main(main)) = self.socks.get_mut(key) {
            main.wire.frames = frames;
        }
        Ok(())
    }

    fn take_main_frame(
        &mut self,
        core: &mut Core,
        key: usize,
        body: &mut [u8],
    ) -> Result<(), LoginError> {
        let Some(Sock::Main(main)) = self.socks.get_mut(key) else { return Ok(()) };
        match std::mem::replace(&mut main.stage, Stage::Moving) {
            Stage::Handshake(handshake) => self.finish_handshake(core, key, handshake, body),
            Stage::Open(mut channel) => {
                let message = channel
                    .open(body)
                    .map_err(|error| LoginError::Protocol(error.to_string()))
                    .and_then(|text| {
                        Message::decode(text)
                            .map_err(|error| LoginError::Protocol(error.to_string()))
                    });
                main.stage = Stage::Open(channel);
                self.machine.handle_message(message?, clock::now());
                self.drain(core);
                Ok(())
            }
            Stage::Connecting | Stage::Moving => unreachable!("nothing is read while connecting"),
        }
    }

    fn finish_handshake(
        &mut self,
        core: &mut Core,
        key: usize,
        handshake: ClientHandshake,
        reply: &[u8],
    ) -> Result<(), LoginError> {
        let expected = self.rendezvous().key;
        let Some(Sock::Main(main)) = self.socks.get_mut(key) else { return Ok(()) };
        let server = main.server;
        let number = self.main_port.as_ref().map_or(0, |port| port.number);
        let hosts = interfaces::host_addresses(server.ip().is_loopback());
        let login = self.machine.login(number, hosts, new_nonce());
        let (mut payload, mut out) = (Vec::new(), Vec::new());
        login.encode(&mut payload);
        let (channel, found) =
            handshake.finish(reply, expected, &payload, &mut out).map_err(LoginError::Handshake)?;
        main.stage = Stage::Open(channel);
        // One that was named to us is known by its key alone.
        if self.machine.elsewhere().is_none() {
            let id = found.peer_id();
            self.events.push_back(Event::ServerKey(id));
            // From now on this is the rendezvous that we know, whoever answers at its address.
            self.options.server.key = Some(id);
        }
        main.wire.send(&out).map_err(|error| LoginError::Lost(error.to_string()))?;
        self.machine.handle_channel(server, clock::now());
        // Those who meet on this machine are on it.
        if !server.ip().is_loopback() {
            self.map_main_port(core, number);
        }
        self.drain(core);
        Ok(())
    }

    // ---- sending ----

    pub(super) fn send_main(&mut self, core: &mut Core, message: &Message) {
        let Some(Sock::Main(main)) = self.main.and_then(|key| self.socks.get_mut(key)) else {
            return;
        };
        let Stage::Open(channel) = &mut main.stage else { return };
        self.assembly.clear();
        channel.seal(&mut self.assembly, |out| message.encode(out));
        let sent = main.wire.send(&self.assembly);
        if let Err(error) = sent {
            self.lose_main(core, LoginError::Lost(error.to_string()));
        } else if main.wire.out.len() > limits::MAIN_BACKLOG_BYTES {
            self.lose_main(core, LoginError::Lost("it does not read what we send".into()));
        }
    }
}

fn new_nonce() -> Nonce {
    let mut nonce = Nonce::default();
    getrandom::fill(&mut nonce).expect("the system has randomness");
    nonce
}

/// Listeners of both families on one free port, that of the server's family first. `None` if the port
/// that the kernel gave is taken in the other family, or nothing can be bound.
fn listen_on_both(server: SocketAddr) -> Option<(u16, Vec<TcpListener>)> {
    let first = SocketAddr::new(socket::unspecified(server), 0);
    let listener = socket::listen_shared(first)
        .inspect_err(|error| log::debug!("listen on {first}: {error}"))
        .ok()?;
    let number = listener.local_addr().ok()?.port();
    let other: IpAddr = match server {
        SocketAddr::V4(_) => Ipv6Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv4Addr::UNSPECIFIED.into(),
    };
    match socket::listen_shared(SocketAddr::new(other, number)) {
        Ok(second) => Some((number, vec![listener, second])),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => None,
        // This machine has one family alone.
        Err(_) => Some((number, vec![listener])),
    }
}

impl From<NoiseError> for LoginError {
    fn from(error: NoiseError) -> Self {
        Self::Handshake(error)
    }
}

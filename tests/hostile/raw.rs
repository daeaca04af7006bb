//! The attacker's tools: sockets without a reactor, looked at between its turns.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use gimlet::identity::{PeerId, SecretKey};
use gimlet::wire::message::{Allow, Login, Message, Nat};
use gimlet::wire::noise::{Channel, ClientHandshake, NoiseError};
use gimlet::wire::refusal::{ClosingCode, RefusalCode};

use crate::support::{DEADLINE, World};

/// How the other side ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    Reset,
}

/// How the attacker takes leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    Close,
    HalfClose,
    Reset,
}

impl Leave {
    pub(crate) const ALL: [Self; 3] = [Self::Close, Self::HalfClose, Self::Reset];
}

/// A connection.
pub(crate) struct Raw {
    stream: TcpStream,
    pub(crate) received: Vec<u8>,
    pub(crate) end: Option<End>,
}

impl Raw {
    pub(crate) fn connect(to: SocketAddr) -> Self {
        Self::of(TcpStream::connect_timeout(&to, DEADLINE).unwrap())
    }

    /// One that takes little before it reads.
    pub(crate) fn connect_narrow(to: SocketAddr) -> Self {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(to),
            socket2::Type::STREAM,
            Some(socket2::Protocol::TCP),
        )
        .unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect_timeout(&to.into(), Duration::from_secs(5)).unwrap();
        Self::of(socket.into())
    }

    pub(crate) fn of(stream: TcpStream) -> Self {
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, received: Vec::new(), end: None }
    }

    /// Writes what the kernel takes. Says how much that was; the other side may have closed already.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> usize {
        match self.stream.write(bytes) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => {
                self.end.get_or_insert(End::Reset);
                0
            }
        }
    }

    /// Reads what has arrived.
    pub(crate) fn look(&mut self) {
        let mut chunk = [0; 16 * 1024];
        while self.end.is_none() {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.end = Some(End::Closed),
                Ok(length) => self.received.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.end = Some(End::Reset),
            }
        }
    }

    pub(crate) fn leave(self, how: Leave) -> Option<TcpStream> {
        match how {
            Leave::Close => None,
            Leave::HalfClose => {
                // The other side may have closed already.
                let _ = self.stream.shutdown(Shutdown::Write);
                Some(self.stream)
            }
            Leave::Reset => {
                socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
                None
            }
        }
    }

    /// The body of the next whole frame that has arrived.
    pub(crate) fn take_frame(&mut self) -> Option<Vec<u8>> {
        let header: [u8; 2] = self.received.get(..2)?.try_into().unwrap();
        let end = 2 + usize::from(u16::from_be_bytes(header));
        let body = self.received.get(2..end)?.to_vec();
        self.received.drain(..end);
        Some(body)
    }

    /// Turns until a frame has come.
    pub(crate) fn frame(&mut self, world: &mut World) -> Vec<u8> {
        let mut found = None;
        world.until("a frame comes", |_| {
            self.look();
            found = self.take_frame();
            assert!(found.is_some() || self.end.is_none(), "{:?} before a frame", self.end);
            found.is_some()
        });
        found.unwrap()
    }

    /// Turns until the other side has closed; what it said on the way is in `received`.
    pub(crate) fn ended(&mut self, world: &mut World) -> End {
        world.until("it is closed", |_| {
            self.look();
            self.end.is_some()
        });
        self.end.unwrap()
    }

    /// Turns until a refusal has come in clear, and then the end.
    pub(crate) fn refused(&mut self, world: &mut World) -> (RefusalCode, String) {
        let refusal = read_refusal(&self.frame(world));
        assert_eq!(self.ended(world), End::Closed, "the words must not be overtaken by an RST");
        refusal
    }
}

/// Reads a refusal as a peer does that waits for the reply to its hello.
pub(crate) fn read_refusal(body: &[u8]) -> (RefusalCode, String) {
    let handshake = ClientHandshake::start(&SecretKey::generate(), &mut Vec::new());
    match handshake.finish(body, None, &[], &mut Vec::new()) {
        Err(NoiseError::Refused { code, text }) => (code, text),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("a reply, not a refusal"),
    }
}

/// A login as honest peers make it. They listen on the port that they name; here nobody does.
pub(crate) fn login() -> Login {
    Login {
        reachable: true,
        nonce: [9; 16],
        local_port: 9,
        hosts: vec!["127.0.0.1".parse().unwrap()],
        allow: Allow { anyone: true, peers: Vec::new() },
        agent: "attacker".into(),
        nat: Nat::default(),
    }
}

/// A peer by hand: it has logged in properly, and does what it likes from then on.
pub(crate) struct RawPeer {
    pub(crate) raw: Raw,
    pub(crate) channel: Channel,
    pub(crate) key: SecretKey,
}

impl RawPeer {
    pub(crate) fn log_in(world: &mut World, login: &Login) -> Self {
        let raw = Raw::connect(main_port(world));
        Self::log_in_over(world, raw, login)
    }

    pub(crate) fn log_in_over(world: &mut World, mut raw: Raw, login: &Login) -> Self {
        let key = SecretKey::generate();
        let (handshake, reply) = greet(world, &mut raw, &key);
        let (mut payload, mut finish) = (Vec::new(), Vec::new());
        login.encode(&mut payload);
        let pinned = world.address.key;
        let (mut channel, _) = handshake.finish(&reply, pinned, &payload, &mut finish).unwrap();
        raw.send(&finish);
        let mut body = raw.frame(world);
        match Message::decode(channel.open(&mut body).unwrap()).unwrap() {
            Message::Welcome(welcome) => assert_eq!(welcome.id, PeerId::of(key.public())),
            other => panic!("{other:?}"),
        }
        Self { raw, channel, key }
    }

    pub(crate) fn id(&self) -> PeerId {
        PeerId::of(self.key.public())
    }

    /// The frame of a message.
    pub(crate) fn seal(&mut self, message: &Message) -> Vec<u8> {
        self.seal_bytes(|out| message.encode(out))
    }

    pub(crate) fn seal_bytes(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        self.channel.seal(&mut out, write);
        out
    }

    pub(crate) fn send(&mut self, message: &Message) {
        let frame = self.seal(message);
        assert_eq!(self.raw.send(&frame), frame.len());
    }

    /// Turns until a message has come.
    pub(crate) fn message(&mut self, world: &mut World) -> Message {
        let mut body = self.raw.frame(world);
        Message::decode(self.channel.open(&mut body).unwrap()).unwrap()
    }

    /// Turns until S has said why it closes, and has closed.
    pub(crate) fn closed(&mut self, world: &mut World) -> (ClosingCode, String) {
        loop {
            if let Message::Closing { code, text } = self.message(world) {
                assert_eq!(self.raw.ended(world), End::Closed);
                return (code, text);
            }
        }
    }
}

/// Where the peers of a world log in.
pub(crate) fn main_port(world: &mut World) -> SocketAddr {
    world.rendezvous().main_addresses()[0]
}

/// Says hello, and waits for the reply's body.
pub(crate) fn greet(
    world: &mut World,
    raw: &mut Raw,
    key: &SecretKey,
) -> (ClientHandshake, Vec<u8>) {
    let mut hello = Vec::new();
    let handshake = ClientHandshake::start(key, &mut hello);
    assert_eq!(raw.send(&hello), hello.len());
    (handshake, raw.frame(world))
}

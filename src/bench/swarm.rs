//! Thousands of peers that log in and talk over their main connections, in one event loop.
//!
//! They are real as far as S can see: the real handshake, real messages, one TCP connection each. What a
//! whole [`PeerHost`](crate::net::peer::PeerHost) has beside that, two listeners and the looks at its NAT,
//! they don't: three descriptors a peer would leave room for a third of the peers.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::sources::Sources;
use super::target::Target;
use crate::identity::{PeerId, SecretKey};
use crate::limits;
use crate::net::outbox::Outbox;
use crate::net::socket::{self, Dialled};
use crate::net::{clock, sys};
use crate::wire::frame::FrameReader;
use crate::wire::message::{Allow, Login, Message, Nat, Welcome};
use crate::wire::noise::{Channel, ClientHandshake};

/// Events taken from the kernel in one turn.
const EVENTS: usize = 1024;

/// What a peer has to say.
#[derive(Debug)]
pub(super) enum Happening {
    /// It is logged in.
    LoggedIn(Box<Welcome>),
    /// S has sent it a message.
    Message(Message),
    /// Its connection is gone, or did not come about: what kind of failure.
    Lost(String),
}

/// A peer.
pub(super) struct Peer {
    key: SecretKey,
    pub(super) id: PeerId,
    /// When it began to log in.
    pub(super) began: Instant,
    link: Option<Box<Link>>,
}

struct Link {
    stream: TcpStream,
    frames: FrameReader,
    out: Outbox,
    stage: Stage,
}

enum Stage {
    Connecting,
    Handshake(ClientHandshake),
    /// The last frame of the handshake is out.
    Welcome(Channel),
    Open(Channel),
    /// Between two stages, for the length of a call.
    Moving,
}

/// The peers and their event loop.
pub(super) struct Swarm {
    poll: Poll,
    events: Events,
    server: SocketAddr,
    server_key: Option<PeerId>,
    sources: Sources,
    first_source: usize,
    peers: Vec<Peer>,
    happenings: VecDeque<(usize, Happening)>,
    scratch: Vec<u8>,
    assembly: Vec<u8>,
}

impl Swarm {
    /// Without peers. Their addresses begin with that of number `first_source`.
    pub(super) fn new(target: &Target, first_source: usize) -> io::Result<Self> {
        sys::raise_descriptor_limit()?;
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            server: target.main,
            server_key: target.key,
            sources: Sources::towards(target.main),
            first_source,
            peers: Vec::new(),
            happenings: VecDeque::new(),
            scratch: vec![0; limits::SCRATCH_BYTES],
            assembly: Vec::new(),
        })
    }

    /// Another peer, which does nothing yet.
    pub(super) fn add(&mut self) -> usize {
        let key = SecretKey::generate();
        let id = PeerId::of(key.public());
        self.peers.push(Peer { key, id, began: clock::now(), link: None });
        self.peers.len() - 1
    }

    pub(super) fn peer(&self, number: usize) -> &Peer {
        &self.peers[number]
    }

    /// Where S answers STUN, as it told a peer.
    pub(super) fn hole(&self, welcome: &Welcome) -> Option<SocketAddr> {
        let mut hole = *welcome.holes.first()?;
        if hole.ip().is_unspecified() {
            hole.set_ip(self.server.ip());
        }
        Some(hole)
    }

    /// Begins to log in. What comes of it is a [`Happening`].
    pub(super) fn log_in(&mut self, number: usize) {
        self.peers[number].began = clock::now();
        if let Err(error) = self.dial(number) {
            self.lose(number, &kind(&error));
        }
    }

    fn dial(&mut self, number: usize) -> io::Result<()> {
        let source = self.sources.of(self.first_source + number);
        let mut stream = socket::dial_from(source, self.server)?;
        stream.set_nodelay(true)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(number), interest)?;
        let (frames, out, stage) = (FrameReader::new(), Outbox::default(), Stage::Connecting);
        self.peers[number].link = Some(Box::new(Link { stream, frames, out, stage }));
        Ok(())
    }

    /// Closes a peer's connection.
    pub(super) fn cut(&mut self, number: usize) {
        self.peers[number].link = None;
    }

    /// Sends a message of a peer that is logged in.
    pub(super) fn send(&mut self, number: usize, message: &Message) {
        let Some(link) = &mut self.peers[number].link else { return };
        let Stage::Open(channel) = &mut link.stage else { return };
        self.assembly.clear();
        channel.seal(&mut self.assembly, |out| message.encode(out));
        if let Err(error) = link.out.send(&mut link.stream, &self.assembly) {
            self.lose(number, &kind(&error));
        }
    }

    /// Waits for events, and works them off.
    pub(super) fn turn(&mut self, longest: Duration) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(longest)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            // Of a connection that is closed and dialled anew, too: then nothing is to be had.
            self.handle_ready(event.token().0);
        }
        self.events = events;
        Ok(())
    }

    /// What has happened, to which peer.
    pub(super) fn poll_happening(&mut self) -> Option<(usize, Happening)> {
        self.happenings.pop_front()
    }

    // ---- one peer ----

    fn handle_ready(&mut self, number: usize) {
        if let Err(why) = self.look_at_link(number) {
            self.lose(number, &why);
        }
    }

    fn lose(&mut self, number: usize, why: &str) {
        self.cut(number);
        self.happenings.push_back((number, Happening::Lost(why.to_owned())));
    }

    fn look_at_link(&mut self, number: usize) -> Result<(), String> {
        let Peer { key, link: Some(link), .. } = &mut self.peers[number] else { return Ok(()) };
        if matches!(link.stage, Stage::Connecting) {
            match socket::look_at_dial(&link.stream) {
                Dialled::Pending => return Ok(()),
                Dialled::Failed(error) => return Err(kind(&error)),
                Dialled::Established { .. } => {}
            }
            self.assembly.clear();
            link.stage = Stage::Handshake(ClientHandshake::start(key, &mut self.assembly));
            return link.out.send(&mut link.stream, &self.assembly).map_err(|error| kind(&error));
        }
        link.out.flush(&mut link.stream).map_err(|error| kind(&error))?;
        self.read(number)
    }

    fn read(&mut self, number: usize) -> Result<(), String> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let result = loop {
            let Some(link) = &mut self.peers[number].link else { break Ok(()) };
            match io::Read::read(&mut link.stream, &mut scratch) {
                Ok(0) => break Err("closed by the server".to_owned()),
                Ok(length) => {
                    if let Err(why) = self.take_frames(number, &mut scratch[..length]) {
                        break Err(why);
                    }
                    // A short read has emptied the socket: the next byte is another edge.
                    if length < scratch.len() {
                        break Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(kind(&error)),
            }
        };
        self.scratch = scratch;
        result
    }

    fn take_frames(&mut self, number: usize, input: &mut [u8]) -> Result<(), String> {
        let Some(link) = &mut self.peers[number].link else { return Ok(()) };
        let mut frames = std::mem::take(&mut link.frames);
        let mut at = 0;
        loop {
            let next = frames.next(&mut input[at..], limits::FRAME_BYTES);
            let (used, body) = next.map_err(|error| error.to_string())?;
            at += used;
            let Some(body) = body else { break };
            self.take_frame(number, body)?;
        }
        if let Some(link) = &mut self.peers[number].link {
            link.frames = frames;
        }
        Ok(())
    }

    fn take_frame(&mut self, number: usize, body: &mut [u8]) -> Result<(), String> {
        let Some(link) = &mut self.peers[number].link else { return Ok(()) };
        match std::mem::replace(&mut link.stage, Stage::Moving) {
            Stage::Handshake(handshake) => {
                let channel = self.finish_handshake(number, handshake, body)?;
                self.set_stage(number, Stage::Welcome(channel));
            }
            Stage::Welcome(mut channel) => match open(&mut channel, body)? {
                Message::Welcome(welcome) => {
                    self.set_stage(number, Stage::Open(channel));
                    self.happenings.push_back((number, Happening::LoggedIn(Box::new(welcome))));
                }
                Message::Closing { code, .. } => return Err(format!("not let in: {code}")),
                other => return Err(format!("no welcome: {other:?}")),
            },
            Stage::Open(mut channel) => {
                let message = open(&mut channel, body)?;
                self.set_stage(number, Stage::Open(channel));
                self.happenings.push_back((number, Happening::Message(message)));
            }
            Stage::Connecting | Stage::Moving => unreachable!("nothing is read while connecting"),
        }
        Ok(())
    }

    fn set_stage(&mut self, number: usize, stage: Stage) {
        if let Some(link) = &mut self.peers[number].link {
            link.stage = stage;
        }
    }

    fn finish_handshake(
        &mut self,
        number: usize,
        handshake: ClientHandshake,
        reply: &[u8],
    ) -> Result<Channel, String> {
        let Peer { id, link: Some(link), .. } = &mut self.peers[number] else {
            return Err("cut off".to_owned());
        };
        let local = link.stream.local_addr().map_err(|error| kind(&error))?;
        let mut payload = Vec::new();
        // That it listens there is never put to the test: S takes its word for it, and brings it
        // together with others by the fast path.
        login(*id, local).encode(&mut payload);
        self.assembly.clear();
        let (channel, _) = handshake
            .finish(reply, self.server_key, &payload, &mut self.assembly)
            .map_err(|error| error.to_string())?;
        link.out.send(&mut link.stream, &self.assembly).map_err(|error| kind(&error))?;
        Ok(channel)
    }
}

fn login(id: PeerId, local: SocketAddr) -> Login {
    let mut nonce = [0; 16];
    let taken = nonce.len().min(id.as_bytes().len());
    nonce[..taken].copy_from_slice(&id.as_bytes()[..taken]);
    Login {
        reachable: true,
        nonce,
        local_port: local.port(),
        hosts: vec![local.ip()],
        allow: Allow { anyone: true, peers: Vec::new() },
        agent: "gimlet-bench".into(),
        nat: Nat::default(),
    }
}

fn open(channel: &mut Channel, body: &mut [u8]) -> Result<Message, String> {
    let text = channel.open(body).map_err(|error| error.to_string())?;
    Message::decode(text).map_err(|error| error.to_string())
}

/// An error's name: what belongs to one address or another is one kind.
pub(super) fn kind(error: &io::Error) -> String {
    error.kind().to_string()
}

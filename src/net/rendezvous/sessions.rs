//! The main port: accept, handshake, messages.

use std::fmt;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::Token;
use mio::net::TcpStream;

use super::{Due, RendezvousHost, Sock, count_in, count_out, key_of};
use crate::limits;
use crate::net::clock;
use crate::net::outbox::Outbox;
use crate::net::reactor::{Core, Readiness};
use crate::net::socket;
use crate::proto::rendezvous::{LinkId, SessionId};
use crate::wire::frame::FrameReader;
use crate::wire::message::{Login, Message};
use crate::wire::noise::{self, Channel, NoiseError, ServerHandshake};
use crate::wire::refusal::{ClosingCode, RefusalCode};

/// A connection to the main port. There are many, and most are silent: see the test on its size.
pub(super) struct MainLink {
    pub(super) stream: TcpStream,
    pub(super) token: Token,
    link: LinkId,
    remote: Remote,
    out: Outbox,
    frames: FrameReader,
    stage: Stage,
    /// It is in a queue of handshakes.
    waits: bool,
}

/// Where a connection comes from, without what only an IPv6 socket address has beside: 20 bytes for 32.
#[derive(Clone, Copy)]
struct Remote {
    ip: IpAddr,
    port: u16,
}

impl Remote {
    fn of(address: SocketAddr) -> Self {
        Self { ip: address.ip(), port: address.port() }
    }

    fn address(self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().fmt(f)
    }
}

enum Stage {
    /// The peer's hello must come.
    Hello { deadline: Instant },
    /// Our reply is out; its last frame must come.
    Reply {
        deadline: Instant,
        handshake: ServerHandshake,
        sent: Instant,
        /// When something came back: it may wait for its turn, which is no part of the round trip.
        arrived: Option<Instant>,
    },
    /// Logged in.
    Session { channel: Channel, session: SessionId },
    /// Told to go; what it still says is thrown away.
    Closing,
    /// Between two stages, for the length of a call.
    Moving,
}

impl RendezvousHost {
    // ---- beginnings ----

    pub(super) fn accept_main(&mut self, core: &mut Core, stream: TcpStream, remote: SocketAddr) {
        let bounds = self.machine.limits();
        if self.handshakes >= bounds.handshakes
            || !count_in(&mut self.main_per_address, remote, bounds.links_per_address)
        {
            self.counters.turned_away += 1;
            return;
        }
        let of_one = bounds.handshakes_per_address;
        if !count_in(&mut self.handshakes_per_address, remote, of_one) {
            self.counters.turned_away += 1;
            return count_out(&mut self.main_per_address, remote);
        }
        if let Err(error) = self.add_main(core, stream, remote) {
            log::warn!("accepted {remote} and closed it: {error}");
            count_out(&mut self.main_per_address, remote);
            count_out(&mut self.handshakes_per_address, remote);
        }
    }

    fn add_main(
        &mut self,
        core: &mut Core,
        mut stream: TcpStream,
        remote: SocketAddr,
    ) -> io::Result<()> {
        socket::adopt(&stream)?;
        let key = self.socks.vacant_key();
        let token = core.register(&mut stream, self.id, key)?;
        let link = self.next_link(key);
        let deadline = self.set_timer(self.machine.limits().handshake_time, Due::Handshake(link));
        self.socks.insert(Sock::Main(Box::new(MainLink {
            stream,
            token,
            link,
            remote: Remote::of(remote),
            out: Outbox::default(),
            frames: FrameReader::new(),
            stage: Stage::Hello { deadline },
            waits: false,
        })));
        self.handshakes += 1;
        self.counters.accepted += 1;
        Ok(())
    }

    fn main_link(&mut self, link: LinkId) -> Option<&mut MainLink> {
        match self.socks.get_mut(key_of(link)) {
            Some(Sock::Main(main)) if main.link == link => Some(main),
            _ => None,
        }
    }

    // ---- events ----

    pub(super) fn handle_main_ready(&mut self, core: &mut Core, key: usize, ready: Readiness) {
        let Some(Sock::Main(main)) = self.socks.get_mut(key) else { return };
        let link = main.link;
        if ready.writable
            && let Err(error) = main.out.flush(&mut main.stream)
        {
            log::debug!("link {}: {error}", main.remote);
            return self.lose_link(core, link);
        }
        self.shut_if_flushed(link);
        if !ready.readable {
            return;
        }
        let Some(main) = self.main_link(link) else { return };
        let finishes = match &mut main.stage {
            Stage::Hello { .. } => false,
            Stage::Reply { arrived, .. } => {
                arrived.get_or_insert_with(clock::now);
                true
            }
            _ => return self.read_main(core, link, ready),
        };
        if !std::mem::replace(&mut main.waits, true) {
            self.queue_handshake(link, finishes);
        }
    }

    /// A connection comes out of the queue of handshakes, if it is still there.
    pub(super) fn is_called_up(&mut self, link: LinkId) -> bool {
        self.main_link(link).is_some_and(|main| std::mem::take(&mut main.waits))
    }

    pub(super) fn read_main(&mut self, core: &mut Core, link: LinkId, ready: Readiness) {
        let mut scratch = core.take_scratch();
        let mut turn = 0;
        while let Some(main) = self.main_link(link) {
            if turn >= limits::TURN_BYTES {
                core.requeue(main.token, Readiness::READABLE);
                break;
            }
            match io::Read::read(&mut main.stream, &mut scratch) {
                Ok(0) => {
                    self.lose_link(core, link);
                    break;
                }
                Ok(length) => {
                    turn += length;
                    self.take_frames(core, link, &mut scratch[..length]);
                    if ready.is_exhausted_by(length, scratch.len()) {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    log::debug!("link {}: {error}", main.remote);
                    self.lose_link(core, link);
                    break;
                }
            }
        }
        core.put_scratch(scratch);
    }

    fn take_frames(&mut self, core: &mut Core, link: LinkId, input: &mut [u8]) {
        let Some(main) = self.main_link(link) else { return };
        let mut frames = std::mem::take(&mut main.frames);
        let mut at = 0;
        // A frame may end the link.
        while let Some(main) = self.main_link(link) {
            let limit = match main.stage {
                Stage::Session { .. } => limits::FRAME_BYTES,
                Stage::Closing => return,
                _ => limits::HANDSHAKE_FRAME_BYTES,
            };
            match frames.next(&mut input[at..], limit) {
                Ok((used, Some(body))) => {
                    at += used;
                    self.take_frame(core, link, body);
                    self.drain(core);
                }
                Ok((_, None)) => {
                    main.frames = frames;
                    return;
                }
                Err(error) => {
                    log::debug!("link {}: {error}", main.remote);
                    return self.reject(core, link, &NoiseError::NotGimlet);
                }
            }
        }
    }

    fn take_frame(&mut self, core: &mut Core, link: LinkId, body: &mut [u8]) {
        let Some(main) = self.main_link(link) else { return };
        match std::mem::replace(&mut main.stage, Stage::Moving) {
            Stage::Hello { deadline } => self.take_hello(core, link, deadline, body),
            Stage::Reply { deadline, handshake, sent, arrived } => {
                let arrived = arrived.unwrap_or_else(clock::now);
                let round_trip = arrived.saturating_duration_since(sent);
                self.take_finish(core, link, deadline, handshake, round_trip, body);
            }
            Stage::Session { mut channel, session } => {
                let opened = channel.open(body).map(|text| Message::decode(text));
                main.stage = Stage::Session { channel, session };
                match opened {
                    Ok(Ok(message)) => {
                        log::trace!("link {}: {message:?}", main.remote);
                        self.machine.handle_message(session, message, clock::now());
                    }
                    Ok(Err(error)) => self.reject(core, link, &error.into()),
                    Err(error) => self.reject(core, link, &error),
                }
            }
            stage @ (Stage::Closing | Stage::Moving) => main.stage = stage,
        }
    }

    fn take_hello(&mut self, core: &mut Core, link: LinkId, deadline: Instant, body: &[u8]) {
        let mut out = Vec::new();
        let replied = ServerHandshake::reply(body, &self.key, &mut out);
        let Some(main) = self.main_link(link) else { return };
        match replied {
            Ok(handshake) => {
                let sent = clock::now();
                main.stage = Stage::Reply { deadline, handshake, sent, arrived: None };
                if main.out.send(&mut main.stream, &out).is_err() {
                    self.lose_link(core, link);
                }
            }
            Err(error) => {
                main.stage = Stage::Hello { deadline };
                self.reject(core, link, &error);
            }
        }
    }

    fn take_finish(
        &mut self,
        core: &mut Core,
        link: LinkId,
        deadline: Instant,
        handshake: ServerHandshake,
        round_trip: Duration,
        body: &[u8],
    ) {
        let now = clock::now();
        let finished = handshake
            .finish(body)
            .and_then(|(channel, key, payload)| Ok((channel, key, Login::decode(&payload)?)));
        let Some(main) = self.main_link(link) else { return };
        main.stage = Stage::Hello { deadline };
        let (channel, key, login) = match finished {
            Ok(finished) => finished,
            Err(error) => return self.reject(core, link, &error),
        };
        let remote = main.remote.address();
        self.end_handshake(link, deadline);
        match self.machine.handle_login(link, remote, key, login, round_trip, now) {
            Ok(session) => {
                if let Some(main) = self.main_link(link) {
                    main.stage = Stage::Session { channel, session };
                }
            }
            Err(code) => self.refuse_login(core, link, channel, code),
        }
    }

    /// The machine has no room: say so on the channel that stands already.
    fn refuse_login(
        &mut self,
        core: &mut Core,
        link: LinkId,
        mut channel: Channel,
        code: RefusalCode,
    ) {
        self.counters.turned_away += 1;
        let mut out = Vec::new();
        for message in self.machine.refused_login(code) {
            channel.seal(&mut out, |out| message.encode(out));
        }
        self.say_goodbye(core, link, &out);
    }

    fn end_handshake(&mut self, link: LinkId, deadline: Instant) {
        self.handshakes -= 1;
        if let Some(remote) = self.main_link(link).map(|main| main.remote.address()) {
            count_out(&mut self.handshakes_per_address, remote);
        }
        self.timers.clear(deadline, Due::Handshake(link));
    }

    // ---- sending ----

    pub(super) fn send(&mut self, link: LinkId, message: &Message) {
        let mut assembly = std::mem::take(&mut self.assembly);
        assembly.clear();
        let most = self.machine.limits().main_backlog_bytes;
        if let Some(main) = self.main_link(link)
            && let Stage::Session { channel, .. } = &mut main.stage
        {
            log::trace!("link {}: send {message:?}", main.remote);
            channel.seal(&mut assembly, |out| message.encode(out));
            let sent = main.out.send(&mut main.stream, &assembly);
            let slow = main.out.len() > most;
            if sent.is_err() || slow {
                self.counters.slow += u64::from(slow);
                self.broken.push_back(link);
            }
        }
        self.assembly = assembly;
    }

    // ---- ends ----

    /// The machine closes a session, which it has forgotten already.
    pub(super) fn close_politely(
        &mut self,
        core: &mut Core,
        link: LinkId,
        code: ClosingCode,
        text: String,
    ) {
        let Some(main) = self.main_link(link) else { return };
        let Stage::Session { channel, .. } = &mut main.stage else { return };
        let mut out = Vec::new();
        let closing = Message::Closing { code, text };
        channel.seal(&mut out, |out| closing.encode(out));
        self.say_goodbye(core, link, &out);
    }

    /// Bytes that make no sense: the peer is told what we make of them, and closed.
    fn reject(&mut self, core: &mut Core, link: LinkId, error: &NoiseError) {
        let now = clock::now();
        let Some(main) = self.main_link(link) else { return };
        log::debug!("link {}: {error}", main.remote);
        match main.stage {
            Stage::Session { session, .. } => {
                self.counters.bad_frames += 1;
                self.machine.handle_closed(session, now);
                self.close_politely(core, link, ClosingCode::Protocol, error.to_string());
            }
            Stage::Hello { deadline } | Stage::Reply { deadline, .. } => {
                self.counters.handshakes_failed += 1;
                self.end_handshake(link, deadline);
                let mut out = Vec::new();
                noise::refusal(error, &mut out);
                self.say_goodbye(core, link, &out);
            }
            Stage::Closing | Stage::Moving => self.lose_link(core, link),
        }
    }

    /// Sends last words and half-closes; the rest goes when the peer closes, or after a while. To
    /// close at once could overtake the words with an RST.
    fn say_goodbye(&mut self, core: &mut Core, link: LinkId, words: &[u8]) {
        let Some(main) = self.main_link(link) else { return };
        main.stage = Stage::Closing;
        if main.out.send(&mut main.stream, words).is_err() {
            return self.lose_link(core, link);
        }
        self.shut_if_flushed(link);
        self.set_timer(limits::LINGER_TIME, Due::Linger(link));
    }

    fn shut_if_flushed(&mut self, link: LinkId) {
        if let Some(main) = self.main_link(link)
            && matches!(main.stage, Stage::Closing)
            && main.out.is_empty()
            && let Err(error) = main.stream.shutdown(Shutdown::Write)
        {
            log::debug!("link {}: {error}", main.remote);
        }
    }

    /// The connection is gone.
    pub(super) fn lose_link(&mut self, core: &mut Core, link: LinkId) {
        let Some(main) = self.main_link(link) else { return };
        let remote = main.remote.address();
        match std::mem::replace(&mut main.stage, Stage::Closing) {
            Stage::Session { session, .. } => self.machine.handle_closed(session, clock::now()),
            Stage::Hello { deadline } | Stage::Reply { deadline, .. } => {
                self.counters.handshakes_failed += 1;
                self.end_handshake(link, deadline);
            }
            Stage::Closing | Stage::Moving => {}
        }
        count_out(&mut self.main_per_address, remote);
        self.drop_sock(core, key_of(link));
    }

    pub(super) fn expire_handshake(&mut self, core: &mut Core, link: LinkId) {
        let slow = self.machine.limits().handshake_time.as_secs();
        if let Some(main) = self.main_link(link) {
            log::debug!("link {}: no login within {slow} s", main.remote);
            self.lose_link(core, link);
        }
    }

    pub(super) fn expire_linger(&mut self, core: &mut Core, link: LinkId) {
        if self.main_link(link).is_some_and(|main| matches!(main.stage, Stage::Closing)) {
            self.lose_link(core, link);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_connection_is_small() {
        assert!(size_of::<MainLink>() <= 168, "{} bytes", size_of::<MainLink>());
        assert!(size_of::<Sock>() <= 16, "{} bytes", size_of::<Sock>());
    }
}

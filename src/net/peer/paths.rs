//! Dials and accepted connections of punches, until one is proved to lead to the peer.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use mio::net::TcpStream;

use super::streams::Direct;
use super::{Due, PeerHost, Sock, Wire};
use crate::limits;
use crate::net::clock;
use crate::net::reactor::{Core, Readiness};
use crate::net::socket::{self, Dialled};
use crate::proto::peer::PunchId;
use crate::proto::punch::{ConnId, DialError, PathError};
use crate::wire::message::{Port, Role, Token};
use crate::wire::noise::{self, FirstFrame, PathHandshake};
use crate::wire::record::Opening;

/// A connection with another peer, proved or not yet.
pub(super) struct PathLink {
    pub(super) wire: Wire,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// The punch that it belongs to, until that has ended.
    pub(super) punch: Option<(PunchId, ConnId)>,
    pub(super) stage: Stage,
}

pub(super) enum Stage {
    /// Accepted; it has not said whose it is.
    Unclaimed { until: Instant },
    /// It has said so, and the release that would tell us more is still on its way.
    Waiting { until: Instant, introduction: u64, token: Token, offer: Option<Vec<u8>> },
    /// It belongs to a punch. The controller has not made its offer, or the controlled awaits it.
    Claimed,
    /// Controller: the offer is out.
    Offered(PathHandshake),
    /// Controlled: the offer waits, because another was answered.
    Held(Vec<u8>),
    /// Proved.
    Direct(Box<Direct>),
    /// Between two stages, for the length of a call.
    Moving,
}

impl PathLink {
    /// The bound of a frame: a stranger gets less than a peer.
    fn frame_limit(&self) -> usize {
        match self.stage {
            Stage::Direct(_) => limits::FRAME_BYTES,
            _ => limits::HANDSHAKE_FRAME_BYTES,
        }
    }
}

impl PeerHost {
    // ---- dials ----

    pub(super) fn dial(
        &mut self,
        core: &mut Core,
        punch: PunchId,
        conn: ConnId,
        (from, beside): (Option<Port>, u8),
        to: SocketAddr,
    ) {
        let number =
            from.map_or(Some(0), |port| self.port_number(port)?.checked_add(beside.into()));
        let Some(number) = number else {
            return self.machine.handle_dial_failed(punch, conn, DialError::Other, clock::now());
        };
        let dialled = socket::dial(number, to).and_then(|stream| {
            self.add_stream(core, stream, |stream, token| Sock::Dial { stream, token, punch, conn })
        });
        match dialled {
            Ok(key) => {
                log::trace!("dial {number} -> {to}");
                self.conns.insert((punch, conn), key);
            }
            Err(error) => {
                log::debug!("dial {number} -> {to}: {error}");
                let error = socket::dial_error(&error, true);
                self.machine.handle_dial_failed(punch, conn, error, clock::now());
            }
        }
    }

    pub(super) fn handle_dial_ready(&mut self, core: &mut Core, key: usize) {
        let Some(Sock::Dial { stream, token, punch, conn }) = self.socks.get(key) else { return };
        let (token, punch, conn) = (*token, *punch, *conn);
        match socket::look_at_dial(stream) {
            Dialled::Pending => {}
            // On loopback a dial can meet itself.
            Dialled::Established { local, remote } if local == remote => {
                self.fail_dial(core, key, (punch, conn), DialError::Refused);
            }
            Dialled::Established { local, remote } => {
                self.become_path(key, local, remote);
                self.machine.handle_established(punch, conn, local, remote, clock::now());
                // What has arrived already makes no new edge.
                core.requeue(token, Readiness::READABLE);
            }
            Dialled::Failed(error) => {
                let error = socket::dial_error(&error, false);
                self.fail_dial(core, key, (punch, conn), error);
            }
        }
    }

    fn fail_dial(
        &mut self,
        core: &mut Core,
        key: usize,
        (punch, conn): (PunchId, ConnId),
        error: DialError,
    ) {
        self.drop_sock(core, key);
        self.conns.remove(&(punch, conn));
        self.machine.handle_dial_failed(punch, conn, error, clock::now());
    }

    /// The slot keeps its key and its token while the dial in it becomes a connection.
    fn become_path(&mut self, key: usize, local: SocketAddr, remote: SocketAddr) {
        let Sock::Dial { stream, token, punch, conn } =
            std::mem::replace(&mut self.socks[key], Sock::Moving)
        else {
            unreachable!("the caller has looked");
        };
        let (wire, punch) = (Wire::new(stream, token), Some((punch, conn)));
        let path = PathLink { wire, local, remote, punch, stage: Stage::Claimed };
        self.socks[key] = Sock::Path(Box::new(path));
    }

    // ---- accepted connections ----

    pub(super) fn accept(
        &mut self,
        core: &mut Core,
        stream: TcpStream,
        port: Port,
        remote: SocketAddr,
    ) {
        if let Port::Hole(tag) = port
            && self.machine.is_looking_from(tag)
        {
            return self.accept_guest(core, tag, stream);
        }
        let now = clock::now();
        let (Ok(local), Ok(())) = (stream.local_addr(), stream.set_nodelay(true)) else { return };
        let punch = self.machine.handle_accepted(port, local, remote, now);
        let until = now + limits::UNCLAIMED_TIME;
        if punch.is_none() && self.unclaimed.len() >= limits::UNCLAIMED_PATHS {
            self.lose_oldest_unclaimed(core);
        }
        let stage = if punch.is_some() { Stage::Claimed } else { Stage::Unclaimed { until } };
        let added = self.add_stream(core, stream, |stream, token| {
            let wire = Wire::new(stream, token);
            Sock::Path(Box::new(PathLink { wire, local, remote, punch, stage }))
        });
        match (added, punch) {
            (Ok(key), Some(conn)) => {
                self.conns.insert(conn, key);
            }
            (Ok(key), None) => {
                self.unclaimed.insert((until, key));
                self.timers.set(until, Due::Unclaimed(key));
            }
            (Err(error), punch) => {
                log::warn!("accepted {remote} and closed it: {error}");
                if let Some((punch, conn)) = punch {
                    self.machine.handle_path_lost(punch, conn, PathError::Lost, now);
                }
            }
        }
    }

    /// Strangers who say nothing don't keep the peer out: it speaks as soon as it is connected.
    fn lose_oldest_unclaimed(&mut self, core: &mut Core) {
        if let Some((_, key)) = self.unclaimed.first().copied() {
            log::debug!("an accepted connection is closed: too many strangers");
            self.lose_path(core, key, PathError::Stranger);
        }
    }

    pub(super) fn expire_unclaimed(&mut self, core: &mut Core, key: usize, at: Instant) {
        let Some(Sock::Path(path)) = self.socks.get(key) else { return };
        // The slot may belong to another connection by now.
        if let Stage::Unclaimed { until } | Stage::Waiting { until, .. } = path.stage
            && until == at
        {
            log::debug!("accepted {} and closed it: it did not say whose it is", path.remote);
            self.lose_path(core, key, PathError::Stranger);
        }
    }

    /// The first frame of a connection that we accepted from an address that we didn't expect.
    fn take_first_frame(&mut self, core: &mut Core, key: usize, body: &[u8]) {
        let (introduction, token, offer, role) = match FirstFrame::decode(body) {
            Ok(FirstFrame::Claim { introduction, token }) => {
                (introduction, token, None, Role::Controller)
            }
            Ok(FirstFrame::Offer { introduction, token, handshake }) => {
                (introduction, token, Some(handshake.to_vec()), Role::Controlled)
            }
            Ok(FirstFrame::Answer(_)) | Err(_) => {
                return self.lose_path(core, key, PathError::Stranger);
            }
        };
        let Some(Sock::Path(path)) = self.socks.get_mut(key) else { return };
        let Stage::Unclaimed { until } = path.stage else { return };
        path.stage = Stage::Waiting { until, introduction, token, offer };
        self.claim_path(core, key, role);
    }

    /// A punch has learnt its token: do accepted connections wait for it?
    pub(super) fn claim_waiting(&mut self, core: &mut Core, punch: PunchId) {
        let Some(context) = self.machine.path_context(punch) else { return };
        let token = context.token;
        let Some(role) = self.machine.punch_role(punch) else { return };
        let waits = |key: &usize| match self.socks.get(*key) {
            Some(Sock::Path(path)) => {
                matches!(path.stage, Stage::Waiting { token: its, .. } if its == token)
            }
            _ => false,
        };
        let waiting: Vec<_> = self.unclaimed.iter().map(|(_, key)| *key).filter(waits).collect();
        for key in waiting {
            self.claim_path(core, key, role);
        }
    }

    fn claim_path(&mut self, core: &mut Core, key: usize, role: Role) {
        let Some(Sock::Path(path)) = self.socks.get_mut(key) else { return };
        let Stage::Waiting { until, introduction, token, offer } = &mut path.stage else { return };
        let (until, introduction, token) = (*until, *introduction, *token);
        let (local, remote, now) = (path.local, path.remote, clock::now());
        let Some(conn) =
            self.machine.handle_claimed(role, introduction, &token, local, remote, now)
        else {
            return;
        };
        let offer = offer.take();
        path.stage = Stage::Claimed;
        path.punch = Some(conn);
        self.conns.insert(conn, key);
        self.unclaimed.remove(&(until, key));
        self.timers.clear(until, Due::Unclaimed(key));
        if let Some(offer) = offer {
            self.take_offer(core, key, offer);
        }
    }

    // ---- the proof ----

    /// Controller: begins the handshake.
    pub(super) fn offer(&mut self, core: &mut Core, punch: PunchId, conn: ConnId) {
        let Some(&key) = self.conns.get(&(punch, conn)) else { return };
        let (Some(context), Some(wanted)) =
            (self.machine.path_context(punch), self.wanted.get_mut(&punch))
        else {
            return;
        };
        let mut payload = Vec::new();
        wanted.opening().encode(&mut payload);
        let mut out = Vec::new();
        let handshake = PathHandshake::offer(&self.options.key, context, &payload, &mut out);
        self.send_first(core, key, Stage::Offered(handshake), &out);
    }

    /// Controlled: says which punch the connection is for.
    pub(super) fn claim(&mut self, core: &mut Core, punch: PunchId, conn: ConnId) {
        let Some(&key) = self.conns.get(&(punch, conn)) else { return };
        let Some(context) = self.machine.path_context(punch) else { return };
        let mut out = Vec::new();
        noise::claim(context, &mut out);
        self.send_first(core, key, Stage::Claimed, &out);
    }

    /// Sends our first frame, unless the offer came first and is answered already.
    fn send_first(&mut self, core: &mut Core, key: usize, next: Stage, bytes: &[u8]) {
        let Some(Sock::Path(path)) = self.socks.get_mut(key) else { return };
        if !matches!(path.stage, Stage::Claimed) {
            return;
        }
        path.stage = next;
        if let Err(error) = path.wire.send(bytes) {
            log::debug!("path {}: {error}", path.remote);
            self.lose_path(core, key, PathError::Lost);
        }
    }

    /// Controlled: an offer has come. One is answered, the others are held.
    fn take_offer(&mut self, core: &mut Core, key: usize, offer: Vec<u8>) {
        let Some(Sock::Path(path)) = self.socks.get_mut(key) else { return };
        let Some((punch, conn)) = path.punch else { return };
        if !self.machine.may_answer(punch) {
            path.stage = Stage::Held(offer);
            return self.machine.handle_offer_held(punch, conn, clock::now());
        }
        let Some(context) = self.machine.path_context(punch) else { return };
        let mut out = Vec::new();
        let answered = noise::answer(&self.options.key, context, &offer, &mut out);
        let opening =
            answered.and_then(|(channel, payload)| Ok((channel, Opening::decode(&payload)?)));
        match opening {
            Ok((channel, opening)) => {
                if let Err(error) = path.wire.send(&out) {
                    log::debug!("path {}: {error}", path.remote);
                    return self.lose_path(core, key, PathError::Lost);
                }
                if self.machine.handle_proved(punch, conn, clock::now()) {
                    self.serve(core, key, channel, opening);
                }
            }
            Err(error) => {
                log::warn!("path {}: whoever offers is not the peer: {error}", path.remote);
                self.lose_path(core, key, PathError::Stranger);
            }
        }
    }

    /// Controlled: the connection that was answered is lost; the next, please.
    pub(super) fn answer_held(&mut self, core: &mut Core, punch: PunchId, conn: ConnId) {
        let Some(&key) = self.conns.get(&(punch, conn)) else { return };
        let Some(Sock::Path(path)) = self.socks.get_mut(key) else { return };
        match std::mem::replace(&mut path.stage, Stage::Claimed) {
            Stage::Held(offer) => self.take_offer(core, key, offer),
            other => path.stage = other,
        }
    }

    /// Controller: the offer is answered.
    fn take_answer(&mut self, core: &mut Core, key: usize, handshake: PathHandshake, body: &[u8]) {
        let Some(Sock::Path(path)) = self.socks.get_mut(key) else { return };
        let Some((punch, conn)) = path.punch else { return };
        let answer = match FirstFrame::decode(body) {
            Ok(FirstFrame::Answer(answer)) => answer,
            // It dialled us, and says whose it is though we know.
            Ok(FirstFrame::Claim { introduction, token })
                if self.machine.belongs(punch, introduction, &token) =>
            {
                path.stage = Stage::Offered(handshake);
                return;
            }
            _ => return self.lose_path(core, key, PathError::Stranger),
        };
        match handshake.finish(answer) {
            Ok(channel) => {
                if self.machine.handle_proved(punch, conn, clock::now()) {
                    self.begin(core, key, punch, channel);
                }
            }
            Err(error) => {
                log::warn!("path {}: whoever answers is not the peer: {error}", path.remote);
                self.lose_path(core, key, PathError::Stranger);
            }
        }
    }

    // ---- bytes ----

    pub(super) fn handle_path_ready(&mut self, core: &mut Core, key: usize, ready: Readiness) {
        if ready.writable {
            self.flush_path(core, key);
        }
        if ready.readable {
            self.read_path(core, key, ready);
        }
    }

    fn flush_path(&mut self, core: &mut Core, key: usize) {
        let Some(Sock::Path(path)) = self.socks.get_mut(key) else { return };
        match path.wire.flush() {
            Ok(()) => self.handle_path_flushed(core, key),
            Err(error) => self.break_path(core, key, &error),
        }
    }

    /// Reads a turn's worth; what is left waits for the next turn.
    fn read_path(&mut self, core: &mut Core, key: usize, ready: Readiness) {
        let mut scratch = core.take_scratch();
        let mut turn = 0;
        loop {
            if self.is_stream_full(key) {
                self.pause_path(key);
                break;
            }
            let Some(Sock::Path(path)) = self.socks.get_mut(key) else { break };
            if turn >= limits::TURN_BYTES {
                core.requeue(path.wire.token, Readiness::READABLE);
                break;
            }
            match io::Read::read(&mut path.wire.stream, &mut scratch) {
                Ok(0) => {
                    self.break_path(core, key, &io::ErrorKind::UnexpectedEof.into());
                    break;
                }
                Ok(length) => {
                    turn += length;
                    self.take_path_frames(core, key, &mut scratch[..length]);
                    if ready.is_exhausted_by(length, scratch.len()) {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.break_path(core, key, &error);
                    break;
                }
            }
        }
        core.put_scratch(scratch);
    }

    pub(super) fn take_path_frames(&mut self, core: &mut Core, key: usize, input: &mut [u8]) {
        let Some(Sock::Path(path)) = self.socks.get_mut(key) else { return };
        let token = path.wire.token;
        let mut frames = std::mem::take(&mut path.wire.frames);
        let mut at = 0;
        loop {
            // A frame may have ended the connection, and another may have its slot.
            let Some(Sock::Path(path)) = self.socks.get_mut(key) else { return };
            if path.wire.token != token {
                return;
            }
            match frames.next(&mut input[at..], path.frame_limit()) {
                Ok((used, Some(body))) => {
                    at += used;
                    self.take_path_frame(core, key, body);
                    self.drain(core);
                }
                Ok((_, None)) => {
                    path.wire.frames = frames;
                    return;
                }
                Err(error) => {
                    log::debug!("path {}: {error}", path.remote);
                    let error = io::Error::new(io::ErrorKind::InvalidData, error);
                    return self.break_path(core, key, &error);
                }
            }
        }
    }

    fn take_path_frame(&mut self, core: &mut Core, key: usize, body: &mut [u8]) {
        let Some(Sock::Path(path)) = self.socks.get_mut(key) else { return };
        match &mut path.stage {
            Stage::Direct(_) => self.take_record(core, key, body),
            Stage::Unclaimed { .. } => self.take_first_frame(core, key, body),
            Stage::Offered(_) => {
                if let Stage::Offered(handshake) = std::mem::replace(&mut path.stage, Stage::Moving)
                {
                    self.take_answer(core, key, handshake, body);
                }
            }
            Stage::Claimed => match (path.punch, FirstFrame::decode(body)) {
                (Some((punch, _)), Ok(FirstFrame::Offer { introduction, token, handshake }))
                    if self.machine.belongs(punch, introduction, &token)
                        && self.machine.punch_role(punch) == Some(Role::Controlled) =>
                {
                    self.take_offer(core, key, handshake.to_vec());
                }
                (Some((punch, _)), Ok(FirstFrame::Claim { introduction, token }))
                    if self.machine.belongs(punch, introduction, &token) => {}
                _ => self.lose_path(core, key, PathError::Stranger),
            },
            // Nobody speaks out of turn.
            Stage::Waiting { .. } | Stage::Held(_) | Stage::Moving => {
                self.lose_path(core, key, PathError::Stranger);
            }
        }
    }

    // ---- the end ----

    /// The socket failed.
    pub(super) fn break_path(&mut self, core: &mut Core, key: usize, error: &io::Error) {
        let Some(Sock::Path(path)) = self.socks.get(key) else { return };
        match (&path.stage, error.kind()) {
            (Stage::Direct(_), _) => self.break_stream(core, key, error),
            // Not our frames: a stranger.
            (_, io::ErrorKind::InvalidData) => self.lose_path(core, key, PathError::Stranger),
            _ => self.lose_path(core, key, PathError::Lost),
        }
    }

    /// A connection that was not proved is given up.
    pub(super) fn lose_path(&mut self, core: &mut Core, key: usize, error: PathError) {
        if let Some((punch, conn)) = self.forget_path(core, key) {
            self.machine.handle_path_lost(punch, conn, error, clock::now());
        }
    }

    /// Closes a path, and says which punch it belonged to.
    pub(super) fn forget_path(&mut self, core: &mut Core, key: usize) -> Option<(PunchId, ConnId)> {
        let Some(Sock::Path(path)) = self.socks.get(key) else { return None };
        let punch = path.punch;
        if let Stage::Unclaimed { until } | Stage::Waiting { until, .. } = path.stage {
            self.timers.clear(until, Due::Unclaimed(key));
            self.unclaimed.remove(&(until, key));
        }
        if let Some(conn) = punch {
            self.conns.remove(&conn);
        }
        self.drop_sock(core, key);
        punch
    }

    /// The machine doesn't need a dial or a path any more.
    pub(super) fn close_conn(&mut self, core: &mut Core, punch: PunchId, conn: ConnId) {
        let Some(key) = self.conns.remove(&(punch, conn)) else { return };
        match self.socks.get_mut(key) {
            Some(Sock::Path(path)) if matches!(path.stage, Stage::Direct(_)) => {
                // The machine has forgotten it; the id may belong to the next dial already.
                path.punch = None;
                self.break_stream(core, key, &io::ErrorKind::TimedOut.into());
            }
            Some(Sock::Path(_)) => {
                self.forget_path(core, key);
            }
            _ => self.drop_sock(core, key),
        }
    }
}

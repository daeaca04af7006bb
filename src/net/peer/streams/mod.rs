//! Proved connections: records in and out, and the pump between them and the local ends.
//!
//! ```text
//! local socket ──read──▶ seal ──▶ direct connection        paused while its queue is long
//! local socket ◀──queue── open ◀──read── direct connection   not read while the local queue is long
//! ```
//!
//! So a slow reader slows its writer, through both kernels, and no queue grows without a bound. The
//! end of one direction travels as a record of its own, and becomes a half-close at the other side.

mod application;
mod pump;

use std::collections::VecDeque;
use std::io::{self, Read};

use super::events::{Event, StreamEnd, StreamError, StreamId};
use super::local::{Local, LocalEnd, LocalSocket};
use super::paths::Stage;
use super::{Due, PeerHost, Service, Sock};
use crate::identity::PeerId;
use crate::limits;
use crate::net::clock;
use crate::net::reactor::{Core, Readiness};
use crate::net::socket;
use crate::proto::peer::PunchId;
use crate::proto::punch::PathError;
use crate::wire::noise::Channel;
use crate::wire::record::{Opening, Purpose, Record};
use crate::wire::refusal::RefusalCode;

/// What a connection is asked for, until it stands.
pub(super) struct Wanted {
    purpose: Purpose,
    local: LocalEnd,
    early: Vec<u8>,
    early_taken: bool,
}

impl Wanted {
    pub(super) fn new(purpose: Purpose, local: LocalEnd) -> Self {
        Self { purpose, local, early: Vec::new(), early_taken: false }
    }

    /// What the offer carries. What the local socket has to say by now goes with it; all offers of a
    /// punch carry the same.
    pub(super) fn opening(&mut self) -> Opening {
        if let (LocalEnd::Socket(local), false) = (&mut self.local, self.early_taken) {
            let mut early = vec![0; limits::EARLY_DATA_BYTES];
            // An end or an error will show itself again when the pump reads.
            let length = local.read(&mut early).unwrap_or(0);
            early.truncate(length);
            self.early = early;
        }
        self.early_taken = true;
        Opening { purpose: self.purpose.clone(), early: self.early.clone() }
    }

    /// There will be no connection: the program that waits for it learns so at once.
    pub(super) fn give_up(self) {
        if let LocalEnd::Socket(local) = self.local {
            local.abort();
        }
    }
}

/// A proved connection.
pub(super) struct Direct {
    id: StreamId,
    channel: Channel,
    partner: Partner,
    /// We are the controlled, and the controller's first record has not come.
    unconfirmed: bool,
    sent_fin: bool,
    got_fin: bool,
    /// Not read, because the local end has too much to take.
    paused: bool,
    sent: u64,
    received: u64,
}

enum Partner {
    /// Not begun yet.
    Pending(LocalEnd),
    /// A local socket, by its key.
    Socket(usize),
    /// The application.
    Application(Inbox),
    /// Round trips alone.
    Nothing,
    /// We have refused; what still comes is thrown away.
    Refused,
}

/// What waits for the application.
#[derive(Default)]
struct Inbox {
    bytes: VecDeque<u8>,
    /// It wants to hear when it may write again.
    wants_to_write: bool,
    /// It has been told that no more will come.
    at_end: bool,
}

impl Direct {
    fn new(id: StreamId, channel: Channel, partner: Partner, unconfirmed: bool) -> Self {
        Self {
            id,
            channel,
            partner,
            unconfirmed,
            sent_fin: false,
            got_fin: false,
            paused: false,
            sent: 0,
            received: 0,
        }
    }

    fn is_finished(&self) -> bool {
        self.sent_fin && self.got_fin
    }

    fn end(&self, error: Option<StreamError>) -> StreamEnd {
        StreamEnd { sent: self.sent, received: self.received, error }
    }
}

impl PeerHost {
    // ---- beginnings ----

    /// Controller: the connection is proved, and chosen.
    pub(super) fn begin(&mut self, core: &mut Core, key: usize, punch: PunchId, channel: Channel) {
        let Some(wanted) = self.wanted.remove(&punch) else {
            debug_assert!(false, "what is proved was wanted");
            return;
        };
        let partner = Partner::Pending(wanted.local);
        let id = self.make_direct(key, channel, partner, false);
        if let Some(direct) = self.direct(key) {
            direct.sent += wanted.early.len() as u64;
        }
        self.won.insert(punch, id);
        // The application hears of the connection first: the confirmation may break it.
        self.hand_on_all(core);
        self.send_record(core, key, &Record::Confirm);
    }

    /// Controller: the application knows of the connection; now it may flow.
    pub(super) fn start_partner(&mut self, core: &mut Core, id: StreamId) {
        let Ok(key) = self.stream_key(id) else { return };
        let Some(direct) = self.direct(key) else { return };
        match std::mem::replace(&mut direct.partner, Partner::Nothing) {
            Partner::Pending(LocalEnd::Socket(socket)) => {
                self.attach(core, key, socket, false);
            }
            Partner::Pending(LocalEnd::Application) => {
                direct.partner = Partner::Application(Inbox::default());
            }
            Partner::Pending(LocalEnd::Nothing) => {}
            other => direct.partner = other,
        }
        self.resume_path(core, key);
    }

    /// Controlled: the offer is answered; give the controller what it asks for.
    pub(super) fn serve(
        &mut self,
        core: &mut Core,
        key: usize,
        channel: Channel,
        opening: Opening,
    ) {
        let Some(Sock::Path(path)) = self.socks.get(key) else { return };
        let peer = path.punch.and_then(|(punch, _)| self.machine.punch_peer(punch));
        let Some(peer) = peer else { return };
        let id = self.make_direct(key, channel, Partner::Nothing, true);
        let purpose = opening.purpose.clone();
        self.events.push_back(Event::Incoming { stream: id, peer, purpose });
        match opening.purpose {
            Purpose::Ping => self.send_record(core, key, &Record::Opened),
            Purpose::Stream(service) => {
                self.serve_stream(core, key, peer, &service, &opening.early);
            }
        }
    }

    fn serve_stream(
        &mut self,
        core: &mut Core,
        key: usize,
        peer: PeerId,
        service: &str,
        early: &[u8],
    ) {
        match self.options.services.get(service).copied() {
            Some(Service::Address(address)) => match socket::dial(0, address) {
                Ok(stream) => {
                    self.attach(core, key, LocalSocket::Tcp(stream), true);
                    self.deliver(core, key, early);
                }
                Err(error) => self.refuse_service(core, key, &error),
            },
            Some(Service::Application) => {
                if let Some(direct) = self.direct(key) {
                    direct.partner = Partner::Application(Inbox::default());
                }
                self.send_record(core, key, &Record::Opened);
                self.deliver(core, key, early);
            }
            None => {
                log::info!("peer={peer} asks for the service '{service}', which isn't shared");
                self.refuse(core, key, RefusalCode::NoSuchService, String::new());
            }
        }
    }

    fn make_direct(
        &mut self,
        key: usize,
        channel: Channel,
        partner: Partner,
        unconfirmed: bool,
    ) -> StreamId {
        self.last_stream += 1;
        let id = StreamId(self.last_stream);
        if let Some(Sock::Path(path)) = self.socks.get_mut(key) {
            if let Err(error) = socket::keep_alive(&path.wire.stream) {
                log::debug!("keepalive: {error}");
            }
            path.stage = Stage::Direct(Box::new(Direct::new(id, channel, partner, unconfirmed)));
            if !unconfirmed {
                path.punch.take().map(|conn| self.conns.remove(&conn));
            }
        }
        self.streams.insert(id, key);
        id
    }

    fn attach(&mut self, core: &mut Core, key: usize, mut socket: LocalSocket, connecting: bool) {
        let local_key = self.socks.vacant_key();
        match core.register(&mut socket, self.id, local_key) {
            Ok(token) => {
                let local = Local::new(socket, token, key, connecting);
                self.socks.insert(Sock::Local(Box::new(local)));
                if let Some(direct) = self.direct(key) {
                    direct.partner = Partner::Socket(local_key);
                }
            }
            Err(error) => {
                socket.abort();
                self.end_stream(core, key, Some(StreamError::Local(error.to_string())));
            }
        }
    }

    fn refuse_service(&mut self, core: &mut Core, key: usize, error: &io::Error) {
        log::warn!("a shared service can't be reached: {error}");
        self.refuse(core, key, RefusalCode::ServiceUnreachable, String::new());
    }

    /// Refuses, and lets the refusal arrive: closing at once could overtake it with an RST.
    fn refuse(&mut self, core: &mut Core, key: usize, code: RefusalCode, text: String) {
        self.send_record(core, key, &Record::Refused { code, text: text.clone() });
        let Some(direct) = self.direct(key) else { return };
        direct.partner = Partner::Refused;
        let id = direct.id;
        let end = direct.end(Some(StreamError::Refused { code, text }));
        self.streams.remove(&id);
        self.events.push_back(Event::Closed { stream: id, end });
        self.linger(key);
    }

    /// A connection that has shown that it works, and that the application doesn't know.
    pub(super) fn finish_unseen(&mut self, core: &mut Core, id: StreamId) {
        let Some(key) = self.streams.remove(&id) else { return };
        if let Some(direct) = self.direct(key) {
            direct.partner = Partner::Nothing;
        }
        self.send_fin(core, key);
    }

    // ---- records in ----

    pub(super) fn take_record(&mut self, core: &mut Core, key: usize, body: &mut [u8]) {
        let Some(Sock::Path(path)) = self.socks.get_mut(key) else { return };
        let Stage::Direct(direct) = &mut path.stage else { return };
        let text = match direct.channel.open(body) {
            Ok(text) => &*text,
            Err(error) => return self.end_stream(core, key, Some(StreamError::Protocol(error))),
        };
        if std::mem::take(&mut direct.unconfirmed)
            && let Some((punch, conn)) = path.punch.take()
        {
            self.conns.remove(&(punch, conn));
            let id = direct.id;
            self.won.insert(punch, id);
            self.machine.handle_confirmed(punch, conn, clock::now());
        }
        match Record::decode(text) {
            Ok(record) => self.handle_record(core, key, record),
            Err(error) => {
                self.end_stream(core, key, Some(StreamError::Protocol(error.into())));
            }
        }
    }

    fn handle_record(&mut self, core: &mut Core, key: usize, record: Record<'_>) {
        let Some(direct) = self.direct(key) else { return };
        let id = direct.id;
        match record {
            Record::Data(bytes) => self.deliver(core, key, bytes),
            Record::Fin => {
                direct.got_fin = true;
                self.finish_local(core, key);
            }
            Record::Opened => self.events.push_back(Event::Opened(id)),
            Record::Refused { code, text } => {
                self.end_stream(core, key, Some(StreamError::Refused { code, text }));
            }
            Record::Ping(value) => self.send_record(core, key, &Record::Pong(value)),
            Record::Pong(value) => self.events.push_back(Event::Pong { stream: id, value }),
            // The confirmation is in its arrival.
            Record::Confirm | Record::Unknown(_) => {}
        }
    }

    /// Hands bytes to the local end. Whoever reads the connection looks at
    /// [`Self::is_stream_full`] first.
    fn deliver(&mut self, core: &mut Core, key: usize, bytes: &[u8]) {
        let Some(direct) = self.direct(key) else { return };
        if direct.got_fin {
            let error = crate::wire::noise::NoiseError::NotGimlet;
            return self.end_stream(core, key, Some(StreamError::Protocol(error)));
        }
        direct.received += bytes.len() as u64;
        match &mut direct.partner {
            Partner::Socket(local) => {
                let local = *local;
                if let Some(Sock::Local(local)) = self.socks.get_mut(local)
                    && let Err(error) = local.send(bytes)
                {
                    self.end_stream(core, key, Some(StreamError::Local(error.to_string())));
                }
            }
            Partner::Application(inbox) => {
                let was_empty = inbox.bytes.is_empty();
                inbox.bytes.extend(bytes);
                if was_empty && !bytes.is_empty() {
                    let id = direct.id;
                    self.events.push_back(Event::Readable(id));
                }
            }
            Partner::Pending(_) | Partner::Nothing | Partner::Refused => {}
        }
    }

    fn finish_local(&mut self, core: &mut Core, key: usize) {
        let Some(direct) = self.direct(key) else { return };
        let id = direct.id;
        match direct.partner {
            Partner::Socket(local) => {
                if let Some(Sock::Local(local)) = self.socks.get_mut(local) {
                    local.finishing = true;
                    if let Err(error) = local.flush() {
                        let error = StreamError::Local(error.to_string());
                        return self.end_stream(core, key, Some(error));
                    }
                }
            }
            Partner::Application(_) => self.events.push_back(Event::Readable(id)),
            // Nobody else will say the other half.
            Partner::Nothing => self.send_fin(core, key),
            Partner::Pending(_) | Partner::Refused => {}
        }
        self.close_if_done(core, key);
    }

    // ---- records out ----

    fn send_record(&mut self, core: &mut Core, key: usize, record: &Record<'_>) {
        let Some(Sock::Path(path)) = self.socks.get_mut(key) else { return };
        let Stage::Direct(direct) = &mut path.stage else { return };
        self.assembly.clear();
        direct.channel.seal(&mut self.assembly, |out| record.encode(out));
        if let Err(error) = path.wire.send(&self.assembly) {
            self.break_stream(core, key, &error);
        } else if path.wire.out.len() > 2 * limits::STREAM_BACKLOG_BYTES + limits::SCRATCH_BYTES {
            // Pings that nobody takes the answers of.
            self.break_stream(core, key, &io::ErrorKind::TimedOut.into());
        }
    }

    /// Seals as many records as it takes, and writes them at once.
    fn send_data(&mut self, core: &mut Core, key: usize, bytes: &[u8]) {
        let Some(Sock::Path(path)) = self.socks.get_mut(key) else { return };
        let Stage::Direct(direct) = &mut path.stage else { return };
        self.assembly.clear();
        for chunk in bytes.chunks(limits::RECORD_PAYLOAD_BYTES) {
            direct.channel.seal(&mut self.assembly, |out| Record::Data(chunk).encode(out));
        }
        direct.sent += bytes.len() as u64;
        if let Err(error) = path.wire.send(&self.assembly) {
            self.break_stream(core, key, &error);
        }
    }

    fn send_fin(&mut self, core: &mut Core, key: usize) {
        let Some(direct) = self.direct(key) else { return };
        if !std::mem::replace(&mut direct.sent_fin, true) {
            self.send_record(core, key, &Record::Fin);
            self.close_if_done(core, key);
        }
    }

    /// The connection has taken what was queued: the local end may go on.
    pub(super) fn handle_path_flushed(&mut self, core: &mut Core, key: usize) {
        let Some(Sock::Path(path)) = self.socks.get_mut(key) else { return };
        if path.wire.out.len() > limits::STREAM_BACKLOG_BYTES / 2 {
            return;
        }
        let Stage::Direct(direct) = &mut path.stage else { return };
        match &mut direct.partner {
            Partner::Socket(local) => {
                let local = *local;
                if let Some(Sock::Local(local)) = self.socks.get_mut(local)
                    && std::mem::take(&mut local.paused)
                {
                    core.requeue(local.token, Readiness::READABLE);
                }
            }
            Partner::Application(inbox) => {
                if std::mem::take(&mut inbox.wants_to_write) {
                    self.events.push_back(Event::Writable(direct.id));
                }
            }
            Partner::Pending(_) | Partner::Nothing | Partner::Refused => {}
        }
        self.close_if_done(core, key);
    }

    // ---- ends ----

    /// Both sides have finished, and all is written: the connection may go. What the local socket has
    /// not taken yet it will take without it.
    fn close_if_done(&mut self, core: &mut Core, key: usize) {
        let Some(Sock::Path(path)) = self.socks.get(key) else { return };
        let Stage::Direct(direct) = &path.stage else { return };
        let local_done = match &direct.partner {
            Partner::Application(inbox) => inbox.at_end,
            Partner::Pending(_) => false,
            _ => true,
        };
        if direct.is_finished() && path.wire.out.is_empty() && local_done {
            self.end_stream(core, key, None);
        }
    }

    /// The connection failed, or was closed by the other peer.
    pub(super) fn break_stream(&mut self, core: &mut Core, key: usize, error: &io::Error) {
        let Some(direct) = self.direct(key) else { return };
        if matches!(direct.partner, Partner::Refused) {
            // It has taken the refusal.
            return self.forget_stream(core, key, PathError::Lost);
        }
        if direct.is_finished() && matches!(direct.partner, Partner::Application(_)) {
            // Nothing was lost: the application has yet to read the rest.
            return;
        }
        let why = match error.kind() {
            io::ErrorKind::UnexpectedEof => "it was closed before its end".to_owned(),
            _ => error.to_string(),
        };
        self.end_stream(core, key, Some(StreamError::Lost(why)));
    }

    fn end_stream(&mut self, core: &mut Core, key: usize, error: Option<StreamError>) {
        let Some(direct) = self.direct(key) else { return };
        let (id, end) = (direct.id, direct.end(error));
        let partner = std::mem::replace(&mut direct.partner, Partner::Nothing);
        let broken = end.error.is_some();
        if let Partner::Socket(local) = partner {
            self.release_local(core, local, broken);
        } else if let Partner::Pending(LocalEnd::Socket(local)) = partner
            && broken
        {
            local.abort();
        }
        if self.streams.remove(&id).is_some() {
            self.events.push_back(Event::Closed { stream: id, end });
        }
        if broken && let Some(Sock::Path(path)) = self.socks.get(key) {
            socket::abort(&path.wire.stream);
        }
        self.forget_stream(core, key, PathError::Lost);
    }

    fn forget_stream(&mut self, core: &mut Core, key: usize, error: PathError) {
        if let Some((punch, conn)) = self.forget_path(core, key) {
            self.machine.handle_path_lost(punch, conn, error, clock::now());
        }
    }

    /// Takes leave of the local socket: at once if the stream broke, else when it has taken the rest.
    fn release_local(&mut self, core: &mut Core, key: usize, broken: bool) {
        let Some(Sock::Local(local)) = self.socks.get_mut(key) else { return };
        local.partner = None;
        if broken {
            local.socket.abort();
            return self.drop_sock(core, key);
        }
        match local.flush() {
            Ok(()) if !local.write_done => self.linger(key),
            _ => self.drop_sock(core, key),
        }
    }

    fn linger(&mut self, key: usize) {
        self.timers.set(clock::now() + limits::LINGER_TIME, Due::Linger(key));
    }

    /// Time is up for a socket that lingers; if its slot belongs to another by now, nothing happens.
    pub(super) fn expire_linger(&mut self, core: &mut Core, key: usize) {
        match self.socks.get(key) {
            Some(Sock::Local(local)) if local.partner.is_none() => self.drop_sock(core, key),
            Some(Sock::Path(path)) => {
                if let Stage::Direct(direct) = &path.stage
                    && matches!(direct.partner, Partner::Refused)
                {
                    self.forget_stream(core, key, PathError::Lost);
                }
            }
            _ => {}
        }
    }

    fn direct(&mut self, key: usize) -> Option<&mut Direct> {
        match self.socks.get_mut(key) {
            Some(Sock::Path(path)) => match &mut path.stage {
                Stage::Direct(direct) => Some(direct),
                _ => None,
            },
            _ => None,
        }
    }
}

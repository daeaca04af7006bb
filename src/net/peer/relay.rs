//! The relay of S: a plain dial, one request and its answer. From there on it is a path like any other.

use std::io;
use std::net::SocketAddr;

use mio::Token;
use mio::net::TcpStream;

use super::paths::{PathLink, Stage};
use super::{PeerHost, Sock, Wire};
use crate::net::clock;
use crate::net::reactor::{Core, Readiness};
use crate::net::socket::{self, Dialled};
use crate::proto::peer::PunchId;
use crate::proto::punch::{ConnId, DialError};
use crate::wire::refusal::RelayRefusal;
use crate::wire::stun::{self, Join};

/// A connection to a hole port of S that joins a relay.
pub(super) struct RelayLink {
    pub(super) stream: TcpStream,
    pub(super) token: Token,
    punch: PunchId,
    conn: ConnId,
    join: Join,
    /// The request is out, under this name.
    asked: Option<stun::Transaction>,
    received: Vec<u8>,
}

/// What S has said so far.
enum Answer {
    Partial,
    /// The other peer is there. The answer takes so many bytes.
    Joined(usize),
    Failed(DialError),
}

impl PeerHost {
    pub(super) fn dial_relay(
        &mut self,
        core: &mut Core,
        punch: PunchId,
        conn: ConnId,
        to: SocketAddr,
    ) {
        let Some(join) = self.machine.relay_join(punch) else {
            return self.machine.handle_dial_failed(punch, conn, DialError::Other, clock::now());
        };
        let dialled = socket::dial(0, to).and_then(|stream| {
            self.add_stream(core, stream, |stream, token| {
                let (asked, received) = (None, Vec::new());
                let link = RelayLink { stream, token, punch, conn, join, asked, received };
                Sock::Relay(Box::new(link))
            })
        });
        match dialled {
            Ok(key) => {
                self.conns.insert((punch, conn), key);
            }
            Err(error) => {
                log::debug!("relay {to}: {error}");
                let error = socket::dial_error(&error, true);
                self.machine.handle_dial_failed(punch, conn, error, clock::now());
            }
        }
    }

    pub(super) fn handle_relay_ready(&mut self, core: &mut Core, key: usize) {
        let Some(Sock::Relay(link)) = self.socks.get_mut(key) else { return };
        if link.asked.is_none() {
            match socket::look_at_dial(&link.stream) {
                Dialled::Pending => return,
                Dialled::Established { .. } => {
                    if let Err(error) = link.ask() {
                        return self.fail_relay(core, key, socket::dial_error(&error, false));
                    }
                }
                Dialled::Failed(error) => {
                    return self.fail_relay(core, key, socket::dial_error(&error, false));
                }
            }
        }
        match self.read_relay_answer(key) {
            Answer::Partial => {}
            Answer::Joined(used) => self.become_relayed_path(core, key, used),
            Answer::Failed(error) => self.fail_relay(core, key, error),
        }
    }

    fn read_relay_answer(&mut self, key: usize) -> Answer {
        let Some(Sock::Relay(link)) = self.socks.get_mut(key) else { return Answer::Partial };
        let mut chunk = [0; stun::MESSAGE_BYTES];
        loop {
            match io::Read::read(&mut link.stream, &mut chunk) {
                Ok(0) => return Answer::Failed(DialError::Other),
                Ok(length) => link.received.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Answer::Partial,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Answer::Failed(socket::dial_error(&error, false)),
            }
            // At most a whole message is kept: more would have been an answer, or an error.
            match link.answer() {
                Answer::Partial => {}
                answer => return answer,
            }
        }
    }

    /// The slot keeps its key and its token. What the other peer has sent right behind S's answer is
    /// read first.
    fn become_relayed_path(&mut self, core: &mut Core, key: usize, used: usize) {
        let Some(Sock::Relay(link)) = self.socks.get(key) else { return };
        let (Ok(local), Ok(remote)) = (link.stream.local_addr(), link.stream.peer_addr()) else {
            return self.fail_relay(core, key, DialError::Other);
        };
        let Sock::Relay(link) = std::mem::replace(&mut self.socks[key], Sock::Moving) else {
            unreachable!("it was one above")
        };
        let RelayLink { stream, token, punch, conn, received, .. } = *link;
        let (wire, stage) = (Wire::new(stream, token), Stage::Claimed);
        let path = PathLink { wire, local, remote, punch: Some((punch, conn)), stage };
        self.socks[key] = Sock::Path(Box::new(path));
        log::debug!("relay {remote}: joined");
        self.machine.handle_established(punch, conn, local, remote, clock::now());
        self.drain(core);
        let mut rest = received[used..].to_vec();
        let is_there =
            matches!(self.socks.get(key), Some(Sock::Path(path)) if path.wire.token == token);
        if is_there && !rest.is_empty() {
            self.take_path_frames(core, key, &mut rest);
        }
        // What has arrived already makes no new edge.
        core.requeue(token, Readiness::READABLE);
    }

    fn fail_relay(&mut self, core: &mut Core, key: usize, error: DialError) {
        let Some(Sock::Relay(link)) = self.socks.get(key) else { return };
        let (punch, conn) = (link.punch, link.conn);
        log::debug!("relay: {error:?}");
        self.drop_sock(core, key);
        self.conns.remove(&(punch, conn));
        self.machine.handle_dial_failed(punch, conn, error, clock::now());
    }
}

impl RelayLink {
    /// The request is a hundred bytes and the first of its connection: it is written whole, or the
    /// connection is of no use.
    fn ask(&mut self) -> io::Result<()> {
        let mut transaction = stun::Transaction::default();
        getrandom::fill(&mut transaction).expect("the system has randomness");
        let mut request = Vec::new();
        stun::relay_request(&mut request, &transaction, &self.join);
        self.asked = Some(transaction);
        match io::Write::write(&mut self.stream, &request)? {
            length if length == request.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    fn answer(&self) -> Answer {
        match stun::decode(&self.received) {
            Ok(None) => Answer::Partial,
            Ok(Some((stun::Message::Success(success), used)))
                if Some(success.transaction) == self.asked =>
            {
                Answer::Joined(used)
            }
            Ok(Some((stun::Message::Error(error), _))) => {
                Answer::Failed(DialError::RelayRefused(RelayRefusal::from_code(error.code)))
            }
            Ok(Some(_)) | Err(_) => Answer::Failed(DialError::Other),
        }
    }
}

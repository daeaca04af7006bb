//! Connections that ask for a late answer and then say nothing, not even a keepalive: what comes in after
//! that shows that the NAT still has their mappings.

use std::io;
use std::net::SocketAddr;

use mio::Token;
use mio::net::TcpStream;

use super::{PeerHost, Sock};
use crate::net::clock;
use crate::net::reactor::{Core, Readiness};
use crate::net::socket::{self, Dialled};
use crate::proto::peer::IdleEnd;
use crate::wire::stun;

/// Such a connection.
pub(super) struct IdleLink {
    pub(super) stream: TcpStream,
    pub(super) token: Token,
    number: u64,
    seconds: u32,
    connected: bool,
    received: Vec<u8>,
}

impl PeerHost {
    pub(super) fn open_idle(&mut self, core: &mut Core, number: u64, to: SocketAddr, seconds: u32) {
        let opened = socket::dial(0, to).and_then(|stream| {
            self.add_stream(core, stream, |stream, token| {
                let (connected, received) = (false, Vec::new());
                let link = IdleLink { stream, token, number, seconds, connected, received };
                Sock::Idle(Box::new(link))
            })
        });
        if let Err(error) = opened {
            log::debug!("an idle connection to {to}: {error}");
            self.machine.handle_idle_ended(number, IdleEnd::Unknown, clock::now());
        }
    }

    pub(super) fn close_idle(&mut self, core: &mut Core, number: u64) {
        let is_it = |sock: &Sock| matches!(sock, Sock::Idle(idle) if idle.number == number);
        let found = self.socks.iter().find(|(_, sock)| is_it(sock)).map(|(key, _)| key);
        if let Some(key) = found {
            self.drop_sock(core, key);
        }
    }

    pub(super) fn handle_idle_ready(&mut self, core: &mut Core, key: usize, ready: Readiness) {
        let Some(Sock::Idle(idle)) = self.socks.get_mut(key) else { return };
        if !idle.connected {
            match socket::look_at_dial(&idle.stream) {
                Dialled::Pending => return,
                Dialled::Established { .. } => {
                    idle.connected = true;
                    let number = idle.number;
                    match idle.ask() {
                        Ok(()) => self.machine.handle_idle_asked(number, clock::now()),
                        Err(error) => return self.end_idle(core, key, IdleEnd::Unknown, &error),
                    }
                }
                Dialled::Failed(error) => {
                    return self.end_idle(core, key, IdleEnd::Unknown, &error);
                }
            }
        }
        if ready.readable {
            self.read_idle(core, key);
        }
    }

    fn read_idle(&mut self, core: &mut Core, key: usize) {
        let Some(Sock::Idle(idle)) = self.socks.get_mut(key) else { return };
        match idle.read() {
            Ok(None) => {}
            Ok(Some(end)) => self.end_idle(core, key, end, &io::ErrorKind::Other.into()),
            // A NAT may tell both ends when it forgets a connection (RFC 5382 §5).
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                self.end_idle(core, key, IdleEnd::Gone, &error);
            }
            Err(error) => self.end_idle(core, key, IdleEnd::Unknown, &error),
        }
    }

    fn end_idle(&mut self, core: &mut Core, key: usize, end: IdleEnd, why: &io::Error) {
        let Some(Sock::Idle(idle)) = self.socks.get(key) else { return };
        let number = idle.number;
        log::debug!("a connection that was to be idle for {} s: {end:?} ({why})", idle.seconds);
        self.drop_sock(core, key);
        self.machine.handle_idle_ended(number, end, clock::now());
    }
}

impl IdleLink {
    /// The request is the first of its connection: it is written whole, or the connection is of no use.
    fn ask(&mut self) -> io::Result<()> {
        let mut transaction = stun::Transaction::default();
        getrandom::fill(&mut transaction).expect("the system has randomness");
        let mut request = Vec::new();
        stun::delayed_request(&mut request, &transaction, self.seconds);
        match io::Write::write(&mut self.stream, &request)? {
            length if length == request.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// What has come, once a whole answer has.
    fn read(&mut self) -> io::Result<Option<IdleEnd>> {
        let mut chunk = [0; stun::MESSAGE_BYTES];
        loop {
            match io::Read::read(&mut self.stream, &mut chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.received.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            match stun::decode(&self.received) {
                Ok(Some((stun::Message::Success(_), _))) => return Ok(Some(IdleEnd::Lives)),
                // S refuses: too many are waiting.
                Ok(Some(_)) => return Ok(Some(IdleEnd::Unknown)),
                // The decoder bounds what is not a whole message.
                Ok(None) => {}
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
    }
}

//! The close look at our own NAT, with sockets: what is accepted on the look's own hole, and the dial to
//! ourselves. None of it is ever taken for a connection of a punch.

use std::io;
use std::net::SocketAddr;

use mio::Token;
use mio::net::TcpStream;

use super::{PeerHost, Sock};
use crate::limits;
use crate::net::clock;
use crate::net::reactor::{Core, Readiness};
use crate::net::socket::{self, Dialled};
use crate::wire::message::Hairpinning;

/// What our dial says to our listener, so that nobody else is taken for us.
type Secret = [u8; 16];

/// What has been seen of a dial to ourselves.
#[derive(Debug, Default)]
pub(super) struct HairpinTest {
    secret: Secret,
    /// The dial stands.
    connected: bool,
    /// The listener has accepted it.
    accepted: bool,
}

/// A connection of the look.
pub(super) struct LookLink {
    pub(super) stream: TcpStream,
    pub(super) token: Token,
    tag: u64,
    end: End,
}

/// Which end of the connection we have.
enum End {
    Dialled,
    /// Who it is shows in what it says: S says nothing.
    Accepted(Vec<u8>),
}

impl PeerHost {
    /// Dials our own hole by its mapped endpoint.
    pub(super) fn dial_ourselves(&mut self, core: &mut Core, tag: u64, to: SocketAddr) {
        let mut test = HairpinTest::default();
        getrandom::fill(&mut test.secret).expect("the system has randomness");
        let Some(hole) = self.holes.get_mut(&tag) else {
            return self.machine.handle_hairpin(tag, Hairpinning::Unknown, clock::now());
        };
        hole.hairpin = Some(test);
        let added = socket::dial(0, to)
            .and_then(|stream| self.add_look_link(core, tag, stream, End::Dialled));
        if let Err(error) = added {
            log::debug!("dial to ourselves at {to}: {error}");
            self.machine.handle_hairpin(tag, Hairpinning::Unknown, clock::now());
        }
    }

    /// Somebody has come to the look's hole.
    pub(super) fn accept_guest(&mut self, core: &mut Core, tag: u64, stream: TcpStream) {
        let guests = self.holes.get(&tag).map_or(usize::MAX, |hole| hole.guests.len());
        if guests >= limits::LOOK_GUESTS {
            return log::debug!("the look's hole has guests enough");
        }
        if let Err(error) = self.add_look_link(core, tag, stream, End::Accepted(Vec::new())) {
            log::debug!("accepted and closed: {error}");
        }
    }

    fn add_look_link(
        &mut self,
        core: &mut Core,
        tag: u64,
        stream: TcpStream,
        end: End,
    ) -> io::Result<()> {
        let key = self.add_stream(core, stream, |stream, token| {
            Sock::Look(Box::new(LookLink { stream, token, tag, end }))
        })?;
        if let Some(hole) = self.holes.get_mut(&tag) {
            hole.guests.push(key);
        }
        Ok(())
    }

    pub(super) fn handle_look_ready(&mut self, core: &mut Core, key: usize, ready: Readiness) {
        let Some(Sock::Look(link)) = self.socks.get_mut(key) else { return };
        match &mut link.end {
            End::Dialled => self.look_at_ourselves(core, key),
            End::Accepted(heard) if ready.readable => match listen_to(&mut link.stream, heard) {
                Ok(false) => {}
                Ok(true) => self.recognise(core, key),
                // S has seen what it wanted.
                Err(_) => self.drop_look_link(core, key),
            },
            End::Accepted(_) => {}
        }
    }

    fn look_at_ourselves(&mut self, core: &mut Core, key: usize) {
        let Some(Sock::Look(link)) = self.socks.get_mut(key) else { return };
        let tag = link.tag;
        match socket::look_at_dial(&link.stream) {
            Dialled::Pending => {}
            Dialled::Established { .. } => {
                let Some(test) = self.holes.get_mut(&tag).and_then(|hole| hole.hairpin.as_mut())
                else {
                    return;
                };
                // The edges that follow are of no interest.
                if !std::mem::replace(&mut test.connected, true) {
                    let said = io::Write::write(&mut link.stream, &test.secret);
                    log::trace!("dial to ourselves stands: {said:?}");
                    self.conclude(tag);
                }
            }
            Dialled::Failed(error) => {
                log::debug!("dial to ourselves: {error}");
                self.drop_look_link(core, key);
                self.machine.handle_hairpin(tag, Hairpinning::Unsupported, clock::now());
            }
        }
    }

    /// A guest has said as much as our own dial says.
    fn recognise(&mut self, core: &mut Core, key: usize) {
        let Some(Sock::Look(link)) = self.socks.get(key) else { return };
        let (tag, End::Accepted(heard)) = (link.tag, &link.end) else { return };
        let test = self.holes.get_mut(&tag).and_then(|hole| hole.hairpin.as_mut());
        match test {
            Some(test) if test.secret == heard[..] => {
                test.accepted = true;
                self.conclude(tag);
            }
            _ => self.drop_look_link(core, key),
        }
    }

    fn conclude(&mut self, tag: u64) {
        let test = self.holes.get(&tag).and_then(|hole| hole.hairpin.as_ref());
        if test.is_some_and(|test| test.connected && test.accepted) {
            self.machine.handle_hairpin(tag, Hairpinning::Supported, clock::now());
        }
    }

    fn drop_look_link(&mut self, core: &mut Core, key: usize) {
        let Some(Sock::Look(link)) = self.socks.get(key) else { return };
        if let Some(hole) = self.holes.get_mut(&link.tag) {
            hole.guests.retain(|guest| *guest != key);
        }
        self.drop_sock(core, key);
    }
}

/// Reads until as much is there as our own dial says; says whether it is.
fn listen_to(stream: &mut TcpStream, heard: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = Secret::default();
    while heard.len() < chunk.len() {
        let missing = chunk.len() - heard.len();
        match io::Read::read(stream, &mut chunk[..missing]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => heard.extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

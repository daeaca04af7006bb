//! The close look at our own NAT, with sockets: what is accepted on the look's own hole, and the dial to
//! ourselves. None of it is ever taken for a connection of a punch.
//!
//! Where a fresh port's mapped endpoint holds for all destinations, both ends dial, as two peers behind the
//! NAT would, so that its filter lets each in. Else only the fresh port dials the hole.

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
use crate::wire::stun;

/// What the fresh port says to the hole, so that nobody else is taken for us.
type Secret = [u8; 16];

/// What has been seen of a dial to ourselves.
#[derive(Debug)]
pub(super) struct HairpinTest {
    secret: Secret,
    /// The hole's mapped endpoint.
    to: SocketAddr,
    /// The fresh local port, and its mapped endpoint, where both ends dial.
    fresh: Option<(u16, SocketAddr)>,
    /// Dials that may still be made: a NAT that answers RST shuts the door at each.
    dials: u32,
    /// The dial of the fresh port stands.
    connected: bool,
    /// The hole has heard the secret.
    heard: bool,
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
    /// Asks S for the fresh port's mapped endpoint, and then keeps the mapping alive.
    Asking { asked: bool, received: Vec<u8> },
    /// From the fresh port to the hole.
    Fresh,
    /// From the hole to the fresh port, or accepted by the hole: who it is shows in what it says. S says
    /// nothing.
    Hole { dialled: bool, heard: Vec<u8> },
}

impl PeerHost {
    /// Dials our own hole by its mapped endpoint; from both ends, if `via` can tell the mapped endpoint of
    /// a fresh port.
    pub(super) fn dial_ourselves(
        &mut self,
        core: &mut Core,
        tag: u64,
        to: SocketAddr,
        via: Option<SocketAddr>,
    ) {
        let mut secret = Secret::default();
        getrandom::fill(&mut secret).expect("the system has randomness");
        let dials = limits::HAIRPIN_DIALS;
        let test = HairpinTest { secret, to, fresh: None, dials, connected: false, heard: false };
        if let Some(hole) = self.holes.get_mut(&tag) {
            hole.hairpin = Some(test);
        }
        let begun = match via {
            Some(via) => socket::dial_from_shared_port(via).and_then(|stream| {
                let end = End::Asking { asked: false, received: Vec::new() };
                self.add_look_link(core, tag, stream, end)
            }),
            None => self.dial_hole(core, tag),
        };
        if let Err(error) = begun {
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
        let end = End::Hole { dialled: false, heard: Vec::new() };
        if let Err(error) = self.add_look_link(core, tag, stream, end) {
            log::debug!("accepted and closed: {error}");
        }
    }

    /// From the fresh port, whichever it is.
    fn dial_hole(&mut self, core: &mut Core, tag: u64) -> io::Result<()> {
        let Some(test) = self.hairpin_test(tag) else { return Ok(()) };
        if test.dials == 0 {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        test.dials -= 1;
        let stream = socket::dial(test.fresh.map_or(0, |(number, _)| number), test.to)?;
        self.add_look_link(core, tag, stream, End::Fresh)
    }

    /// From the hole to the fresh port.
    fn dial_fresh(&mut self, core: &mut Core, tag: u64) -> io::Result<()> {
        let Some(number) = self.holes.get(&tag).map(|hole| hole.number) else { return Ok(()) };
        let Some(test) = self.hairpin_test(tag) else { return Ok(()) };
        let Some((_, fresh)) = test.fresh.filter(|_| test.dials > 0) else { return Ok(()) };
        test.dials -= 1;
        let stream = socket::dial(number, fresh)?;
        let end = End::Hole { dialled: true, heard: Vec::new() };
        self.add_look_link(core, tag, stream, end)
    }

    fn hairpin_test(&mut self, tag: u64) -> Option<&mut HairpinTest> {
        self.holes.get_mut(&tag)?.hairpin.as_mut()
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

    // ---- events ----

    pub(super) fn handle_look_ready(&mut self, core: &mut Core, key: usize, ready: Readiness) {
        let Some(Sock::Look(link)) = self.socks.get_mut(key) else { return };
        match socket::look_at_dial(&link.stream) {
            Dialled::Pending => {}
            Dialled::Failed(error) => self.lose_look_link(core, key, &error),
            Dialled::Established { .. } => {
                if let Err(error) = self.use_look_link(core, key, ready) {
                    self.lose_look_link(core, key, &error);
                }
            }
        }
    }

    fn use_look_link(&mut self, core: &mut Core, key: usize, ready: Readiness) -> io::Result<()> {
        let Some(Sock::Look(link)) = self.socks.get_mut(key) else { return Ok(()) };
        let tag = link.tag;
        match &mut link.end {
            End::Asking { asked, received } => {
                if !std::mem::replace(asked, true) {
                    ask(&mut link.stream)?;
                }
                let Some(mapped) = hear_answer(&mut link.stream, received)? else { return Ok(()) };
                let number = link.stream.local_addr()?.port();
                self.dial_both(core, tag, (number, mapped))
            }
            End::Fresh => {
                let test = self.holes.get_mut(&tag).and_then(|hole| hole.hairpin.as_mut());
                // The edges that follow are of no interest.
                if let Some(test) = test
                    && !std::mem::replace(&mut test.connected, true)
                {
                    io::Write::write(&mut link.stream, &test.secret)?;
                    self.conclude_hairpin(tag);
                }
                Ok(())
            }
            End::Hole { heard, .. } if ready.readable => {
                if hear_secret(&mut link.stream, heard)? {
                    let test = self.holes.get_mut(&tag).and_then(|hole| hole.hairpin.as_mut());
                    let test = test.filter(|test| test.secret == heard[..]);
                    test.ok_or(io::ErrorKind::InvalidData)?.heard = true;
                    self.conclude_hairpin(tag);
                }
                Ok(())
            }
            End::Hole { .. } => Ok(()),
        }
    }

    /// The fresh port is mapped: it dials the hole while the hole dials it.
    fn dial_both(&mut self, core: &mut Core, tag: u64, fresh: (u16, SocketAddr)) -> io::Result<()> {
        if let Some(test) = self.hairpin_test(tag)
            && test.fresh.replace(fresh).is_none()
        {
            self.dial_hole(core, tag)?;
            // Whoever came first is accepted, and this dial finds its place taken.
            if let Err(error) = self.dial_fresh(core, tag) {
                log::debug!("dial from our hole: {error}");
            }
        }
        Ok(())
    }

    fn conclude_hairpin(&mut self, tag: u64) {
        if self.hairpin_test(tag).is_some_and(|test| test.connected && test.heard) {
            self.machine.handle_hairpin(tag, Hairpinning::Supported, clock::now());
        }
    }

    /// A connection is of no use any more: a stranger's, or S has seen what it wanted, or a dial was
    /// refused, and is made again while there are any left.
    fn lose_look_link(&mut self, core: &mut Core, key: usize, error: &io::Error) {
        let Some(Sock::Look(link)) = self.socks.get(key) else { return };
        let tag = link.tag;
        log::debug!("look at our own NAT: {error}");
        let (is_fresh, is_dialled) = match &link.end {
            End::Asking { .. } => (false, false),
            End::Fresh => (true, true),
            End::Hole { dialled, .. } => (false, *dialled),
        };
        let is_asking = matches!(link.end, End::Asking { .. });
        if let Some(hole) = self.holes.get_mut(&tag) {
            hole.guests.retain(|guest| *guest != key);
        }
        self.drop_sock(core, key);
        let both = self.hairpin_test(tag).is_some_and(|test| test.fresh.is_some());
        let again = match (is_fresh, is_dialled && both) {
            (true, true) => self.dial_hole(core, tag),
            (false, true) => self.dial_fresh(core, tag),
            (true, false) => Err(io::ErrorKind::ConnectionRefused.into()),
            (false, false) => Ok(()),
        };
        if is_asking && !both {
            self.machine.handle_hairpin(tag, Hairpinning::Unknown, clock::now());
        } else if is_fresh && again.is_err() {
            self.machine.handle_hairpin(tag, Hairpinning::Unsupported, clock::now());
        }
    }
}

/// The request is the first of its connection: it is written whole, or the connection is of no use.
fn ask(stream: &mut TcpStream) -> io::Result<()> {
    let mut transaction = stun::Transaction::default();
    getrandom::fill(&mut transaction).expect("the system has randomness");
    let mut request = Vec::new();
    stun::binding_request(&mut request, &transaction, None);
    match io::Write::write(stream, &request)? {
        length if length == request.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// The mapped endpoint, once a whole answer is there.
fn hear_answer(stream: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<Option<SocketAddr>> {
    let mut chunk = [0; stun::MESSAGE_BYTES];
    while let Some(length) = read_some(stream, &mut chunk)? {
        received.extend_from_slice(&chunk[..length]);
        match stun::decode(received) {
            Ok(None) => {}
            Ok(Some((stun::Message::Success(success), _))) => return Ok(Some(success.mapped)),
            Ok(Some(_)) | Err(_) => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    Ok(None)
}

/// Reads until as much is there as the fresh port says; says whether it is.
fn hear_secret(stream: &mut TcpStream, heard: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = Secret::default();
    while heard.len() < chunk.len() {
        let missing = chunk.len() - heard.len();
        match read_some(stream, &mut chunk[..missing])? {
            Some(length) => heard.extend_from_slice(&chunk[..length]),
            None => return Ok(false),
        }
    }
    Ok(true)
}

/// `None` when there is nothing to read now.
fn read_some(stream: &mut TcpStream, chunk: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match io::Read::read(stream, chunk) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => return Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

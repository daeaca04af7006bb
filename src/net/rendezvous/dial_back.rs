//! Dials back to a peer's hole, with sockets: from the address that the peer itself dialled, and from
//! another one, both from ports that the peer never heard of.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use mio::Token;
use mio::net::TcpStream;

use super::{Due, RendezvousHost, Sock};
use crate::limits;
use crate::net::reactor::Core;
use crate::net::socket::{self, Dialled};
use crate::proto::rendezvous::SessionId;
use crate::wire::message::DialBackEnd;

/// The dials for one session.
#[derive(Debug)]
pub(super) struct DialBack {
    /// From the same address, and from another one.
    dials: [Dial; 2],
    until: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Dial {
    /// The key of its socket.
    Open(usize),
    Ended(DialBackEnd),
}

/// One dial.
pub(super) struct DialBackLink {
    pub(super) stream: TcpStream,
    pub(super) token: Token,
    session: SessionId,
    /// Its place in [`DialBack::dials`].
    place: usize,
}

impl RendezvousHost {
    pub(super) fn dial_back(
        &mut self,
        core: &mut Core,
        session: SessionId,
        to: SocketAddr,
        from: IpAddr,
    ) {
        let sources = [Some(from), self.another_address(from)];
        let dials = [0, 1].map(|place| match sources[place] {
            Some(source) => self.dial_back_from(core, session, place, source, to),
            None => Dial::Ended(DialBackEnd::NotMade),
        });
        let until = self.set_timer(limits::DIAL_BACK_TIME, Due::DialBack(session));
        self.dial_backs.insert(session, DialBack { dials, until });
        self.conclude_dial_back(session);
    }

    fn dial_back_from(
        &mut self,
        core: &mut Core,
        session: SessionId,
        place: usize,
        from: IpAddr,
        to: SocketAddr,
    ) -> Dial {
        // They take no descriptor from a login.
        if self.socks.len() >= self.socket_limit() {
            return Dial::Ended(DialBackEnd::NotMade);
        }
        let key = self.socks.vacant_key();
        let dialled = socket::dial_from(from, to).and_then(|mut stream| {
            let token = core.register(&mut stream, self.id, key)?;
            Ok(DialBackLink { stream, token, session, place })
        });
        match dialled {
            Ok(link) => {
                self.socks.insert(Sock::DialBack(Box::new(link)));
                Dial::Open(key)
            }
            Err(error) => {
                log::debug!("dial back {from} -> {to}: {error}");
                Dial::Ended(DialBackEnd::NotMade)
            }
        }
    }

    /// An address of ours in the same family from which the peer expects nothing.
    fn another_address(&self, from: IpAddr) -> Option<IpAddr> {
        let mut ours = self.hole_addresses.iter().map(SocketAddr::ip);
        ours.find(|ip| ip.is_ipv4() == from.is_ipv4() && !ip.is_unspecified() && *ip != from)
    }

    pub(super) fn handle_dial_back_ready(&mut self, core: &mut Core, key: usize) {
        let Some(Sock::DialBack(link)) = self.socks.get(key) else { return };
        let end = match socket::look_at_dial(&link.stream) {
            Dialled::Pending => return,
            Dialled::Established { .. } => DialBackEnd::Connected,
            Dialled::Failed(error) => socket::refusal(&link.stream, &error),
        };
        let session = link.session;
        self.end_dial_back(core, key, end);
        self.conclude_dial_back(session);
    }

    /// Nothing more is waited for.
    pub(super) fn expire_dial_back(&mut self, core: &mut Core, session: SessionId) {
        let Some(dials) = self.dial_backs.get(&session).map(|it| it.dials) else { return };
        for dial in dials {
            if let Dial::Open(key) = dial
                && let Some(Sock::DialBack(link)) = self.socks.get(key)
            {
                let silence = std::io::ErrorKind::TimedOut.into();
                let end = socket::refusal(&link.stream, &silence);
                self.end_dial_back(core, key, end);
            }
        }
        self.conclude_dial_back(session);
    }

    fn end_dial_back(&mut self, core: &mut Core, key: usize, end: DialBackEnd) {
        let Some(Sock::DialBack(link)) = self.socks.get(key) else { return };
        socket::abort(&link.stream);
        if let Some(dial_back) = self.dial_backs.get_mut(&link.session) {
            dial_back.dials[link.place] = Dial::Ended(end);
        }
        self.drop_sock(core, key);
    }

    /// Tells the machine, once both dials have ended.
    fn conclude_dial_back(&mut self, session: SessionId) {
        let Some(DialBack { dials, until }) = self.dial_backs.get(&session) else { return };
        if let [Dial::Ended(same), Dial::Ended(other)] = *dials {
            self.timers.clear(*until, Due::DialBack(session));
            self.dial_backs.remove(&session);
            self.machine.handle_dialed_back(session, same, other);
        }
    }
}

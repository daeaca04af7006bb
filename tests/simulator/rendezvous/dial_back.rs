//! Dials back to a peer's hole, as `net::rendezvous::dial_back` makes them: from the address that the peer
//! itself dialled, and from the other one, both from ports that the peer never heard of.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use gimlet::limits;
use gimlet::proto::rendezvous::SessionId;
use gimlet::wire::message::DialBackEnd;

use super::{Due, Link, RendezvousDriver};
use crate::packet::Endpoint;
use crate::tcp::{Event, SockId, Tcp};
use crate::topology::S_V4;
use crate::world::Now;

/// The dials for one session.
pub(super) struct DialBack {
    dials: [Dial; 2],
    until: Instant,
}

#[derive(Clone, Copy)]
enum Dial {
    Open(SockId),
    Ended(DialBackEnd),
}

impl RendezvousDriver {
    pub(super) fn dial_back(
        &mut self,
        tcp: &mut Tcp,
        session: SessionId,
        (to, from): (SocketAddr, IpAddr),
        now: Now,
    ) {
        let mut sources = S_V4;
        if IpAddr::V4(sources[0]) != from {
            sources.reverse();
        }
        let dials = [0, 1].map(|place| {
            let dialled = Endpoint::of(to)
                .and_then(|to| tcp.dial_from(Endpoint::new(sources[place], 0), to, now.at).ok());
            match dialled {
                Some(sock) => {
                    self.add(sock, Link::DialBack { session, place });
                    Dial::Open(sock)
                }
                None => Dial::Ended(DialBackEnd::NotMade),
            }
        });
        let until = now.instant + limits::DIAL_BACK_TIME;
        self.timers.set(until, Due::DialBack(session));
        self.dial_backs.insert(session, DialBack { dials, until });
        self.conclude_dial_back(session);
    }

    pub(super) fn handle_dialled(&mut self, tcp: &mut Tcp, sock: SockId, event: &Event) {
        let end = match event {
            Event::Connected => DialBackEnd::Connected,
            // The errors are the same; what came shows in the socket's error queue.
            Event::Failed(_) if tcp.is_unreachable(sock) => DialBackEnd::Icmp,
            Event::Failed(_) => DialBackEnd::Rst,
            _ => return,
        };
        self.end_dial_back(tcp, sock, end);
    }

    /// Nothing more is waited for.
    pub(super) fn expire_dial_back(&mut self, tcp: &mut Tcp, session: SessionId) {
        let Some(dials) = self.dial_backs.get(&session).map(|it| it.dials) else { return };
        for dial in dials {
            if let Dial::Open(sock) = dial {
                self.end_dial_back(tcp, sock, DialBackEnd::Silence);
            }
        }
    }

    fn end_dial_back(&mut self, tcp: &mut Tcp, sock: SockId, end: DialBackEnd) {
        let Some(Link::DialBack { session, place }) = self.links.get(&sock).cloned() else {
            return;
        };
        tcp.abort(sock);
        self.forget_link(sock);
        if let Some(dial_back) = self.dial_backs.get_mut(&session) {
            dial_back.dials[place] = Dial::Ended(end);
        }
        self.conclude_dial_back(session);
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

//! Fresh ports, STUN probes, and the relay until it is a path.

use std::net::SocketAddr;

use gimlet::proto::nat::Given;
use gimlet::proto::peer::PunchId;
use gimlet::proto::punch::{ConnId, DialError};
use gimlet::wire::message::Port;
use gimlet::wire::refusal::RelayRefusal;
use gimlet::wire::stun;

use super::paths::{Path, Stage};
use super::{PeerDriver, Use};
use crate::packet::{Endpoint, Frame};
use crate::tcp::{Event, SockId, Tcp};
use crate::world::Now;

/// The sockets of a hole.
pub(super) struct HoleSockets {
    pub(super) number: u16,
    probe: Option<SockId>,
    beside: Vec<SockId>,
}

/// A connection to a hole port of S.
#[derive(Clone, Copy)]
pub(super) struct Probe {
    to: SocketAddr,
    purpose: Purpose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Main,
    Fresh(usize),
    Hole(u64),
    Beside(u64),
}

/// A connection to a hole port of S that joins a relay.
pub(super) struct RelayLink {
    punch: PunchId,
    conn: ConnId,
    join: stun::Join,
}

impl PeerDriver {
    pub(super) fn probe_main(&mut self, tcp: &mut Tcp, to: SocketAddr, now: Now) {
        let number = self.port_number(Port::Main).unwrap_or(0);
        if self.open_probe(tcp, number, to, Purpose::Main, now).is_none() {
            self.machine.handle_main_probe(to, None, now.instant);
        }
    }

    pub(super) fn probe_fresh(&mut self, tcp: &mut Tcp, index: usize, to: SocketAddr, now: Now) {
        if self.open_probe(tcp, 0, to, Purpose::Fresh(index), now).is_none() {
            self.machine.handle_fresh_probe(index, None, now.instant);
        }
    }

    pub(super) fn close_probes(&mut self, tcp: &mut Tcp, now: Now) {
        let looks = |used: &Use| match used {
            Use::Probe(probe) => matches!(probe.purpose, Purpose::Main | Purpose::Fresh(_)),
            _ => false,
        };
        let found = self.socks.iter().filter(|(_, used)| looks(used));
        let mut socks: Vec<_> = found.map(|(sock, _)| *sock).collect();
        socks.sort_unstable();
        for sock in socks {
            self.drop_sock(tcp, sock, now);
        }
    }

    pub(super) fn open_hole(
        &mut self,
        tcp: &mut Tcp,
        tag: u64,
        to: SocketAddr,
        beside: u8,
        now: Now,
    ) {
        let number = tcp.listen(0);
        self.ports.insert(number, Port::Hole(tag));
        let probe = self.open_probe(tcp, number, to, Purpose::Hole(tag), now);
        let others = (0..beside)
            .filter_map(|_| self.open_probe(tcp, 0, to, Purpose::Beside(tag), now))
            .collect();
        self.holes.insert(tag, HoleSockets { number, probe, beside: others });
    }

    pub(super) fn close_hole(&mut self, tcp: &mut Tcp, tag: u64, now: Now) {
        let Some(hole) = self.holes.remove(&tag) else { return };
        tcp.unlisten(hole.number);
        self.ports.remove(&hole.number);
        for sock in hole.probe.into_iter().chain(hole.beside) {
            self.socks.remove(&sock);
            tcp.close(sock, now.at);
        }
    }

    pub(super) fn probe_hole(&mut self, tcp: &mut Tcp, tag: u64, now: Now) {
        if let Some(sock) = self.holes.get(&tag).and_then(|hole| hole.probe) {
            self.send_probe(tcp, sock, now);
        }
    }

    fn open_probe(
        &mut self,
        tcp: &mut Tcp,
        number: u16,
        to: SocketAddr,
        purpose: Purpose,
        now: Now,
    ) -> Option<SockId> {
        let sock = tcp.dial(number, Endpoint::of(to)?, now.at).ok()?;
        self.socks.insert(sock, Use::Probe(Probe { to, purpose }));
        Some(sock)
    }

    pub(super) fn handle_probe(&mut self, tcp: &mut Tcp, sock: SockId, event: Event, now: Now) {
        match event {
            Event::Connected => self.send_probe(tcp, sock, now),
            Event::Frame(frame) => match &*frame {
                Frame::Stun(bytes) => self.take_probe_answer(tcp, sock, bytes, now),
                frame => self.faults.push(format!("a hole port answers {frame:?}")),
            },
            Event::Failed(_) | Event::Eof | Event::Reset => self.lose_probe(tcp, sock, now),
            Event::Accepted(_) => unreachable!("it was dialled"),
        }
    }

    fn send_probe(&mut self, tcp: &mut Tcp, sock: SockId, now: Now) {
        let Some(Use::Probe(probe)) = self.socks.get(&sock) else { return };
        let number = tcp.ends(sock).map_or(0, |(local, _)| local.port);
        let attribute = match probe.purpose {
            Purpose::Main => self.machine.probe(0, number),
            Purpose::Hole(tag) => self.machine.probe(tag, number),
            Purpose::Beside(tag) => self.machine.probe(tag, 0),
            Purpose::Fresh(_) => None,
        };
        let mut request = Vec::new();
        stun::binding_request(&mut request, &[1; 12], attribute.as_ref());
        tcp.send(sock, Frame::Stun(request), now.at);
    }

    fn take_probe_answer(&mut self, tcp: &mut Tcp, sock: SockId, bytes: &[u8], now: Now) {
        let Some(Use::Probe(Probe { to, purpose })) = self.socks.get(&sock) else { return };
        let (to, purpose) = (*to, *purpose);
        let local = tcp.ends(sock).map_or(0, |(local, _)| local.port);
        let mapped = match stun::decode(bytes) {
            Ok(Some((stun::Message::Success(success), _))) => Some(success.mapped),
            Ok(Some(_)) => None,
            other => return self.faults.push(format!("S answers a probe with {other:?}")),
        };
        match (mapped, purpose) {
            (Some(mapped), Purpose::Hole(tag)) => {
                self.machine.handle_hole_shown(tag, mapped, now.instant);
            }
            (None, Purpose::Hole(tag)) => self.machine.handle_hole_refused(tag, now.instant),
            (_, Purpose::Beside(_)) => {}
            (mapped, Purpose::Main) => {
                self.drop_sock(tcp, sock, now);
                self.machine.handle_main_probe(to, mapped, now.instant);
            }
            (mapped, Purpose::Fresh(index)) => {
                self.drop_sock(tcp, sock, now);
                let given = mapped.map(|mapped| Given { local, destination: to, mapped });
                self.machine.handle_fresh_probe(index, given, now.instant);
            }
        }
    }

    fn lose_probe(&mut self, tcp: &mut Tcp, sock: SockId, now: Now) {
        let Some(Use::Probe(Probe { to, purpose })) = self.socks.get(&sock) else { return };
        let (to, purpose) = (*to, *purpose);
        self.drop_sock(tcp, sock, now);
        match purpose {
            Purpose::Hole(tag) => {
                if let Some(hole) = self.holes.get_mut(&tag) {
                    hole.probe = None;
                }
                self.machine.handle_hole_lost(tag, now.instant);
            }
            Purpose::Beside(tag) => {
                if let Some(hole) = self.holes.get_mut(&tag) {
                    hole.beside.retain(|other| *other != sock);
                }
            }
            Purpose::Main => self.machine.handle_main_probe(to, None, now.instant),
            Purpose::Fresh(index) => self.machine.handle_fresh_probe(index, None, now.instant),
        }
    }

    pub(super) fn drop_sock(&mut self, tcp: &mut Tcp, sock: SockId, now: Now) {
        self.socks.remove(&sock);
        tcp.close(sock, now.at);
    }

    // ---- the relay ----

    pub(super) fn dial_relay(
        &mut self,
        tcp: &mut Tcp,
        punch: PunchId,
        conn: ConnId,
        to: SocketAddr,
        now: Now,
    ) {
        let join = self.machine.relay_join(punch);
        let dialled = match (join, Endpoint::of(to)) {
            (Some(join), Some(to)) => tcp.dial(0, to, now.at).map(|sock| (sock, join)),
            _ => Err(DialError::Other),
        };
        match dialled {
            Ok((sock, join)) => {
                self.socks.insert(sock, Use::Relay(RelayLink { punch, conn, join }));
                self.conns.insert((punch, conn), sock);
            }
            Err(error) => self.machine.handle_dial_failed(punch, conn, error, now.instant),
        }
    }

    pub(super) fn handle_relay(&mut self, tcp: &mut Tcp, sock: SockId, event: Event, now: Now) {
        let Some(Use::Relay(link)) = self.socks.get(&sock) else { return };
        match event {
            Event::Connected => {
                let mut request = Vec::new();
                stun::relay_request(&mut request, &[2; 12], &link.join);
                tcp.send(sock, Frame::Stun(request), now.at);
            }
            Event::Frame(frame) => match relay_answer(&frame) {
                Ok(()) => self.become_relayed_path(tcp, sock, now),
                Err(error) => self.fail_relay(tcp, sock, error, now),
            },
            Event::Failed(error) => self.fail_relay(tcp, sock, error, now),
            Event::Eof | Event::Reset => self.fail_relay(tcp, sock, DialError::Other, now),
            Event::Accepted(_) => unreachable!("it was dialled"),
        }
    }

    fn become_relayed_path(&mut self, tcp: &mut Tcp, sock: SockId, now: Now) {
        let Some(Use::Relay(link)) = self.socks.get(&sock) else { return };
        let (punch, conn) = (link.punch, link.conn);
        let Some((local, remote)) = tcp.ends(sock) else { return };
        let path = Path { punch: Some((punch, conn)), stage: Stage::Claimed, local, remote };
        self.socks.insert(sock, Use::Path(path));
        let (local, remote) = (local.into(), remote.into());
        self.machine.handle_established(punch, conn, local, remote, now.instant);
    }

    fn fail_relay(&mut self, tcp: &mut Tcp, sock: SockId, error: DialError, now: Now) {
        let Some(Use::Relay(link)) = self.socks.get(&sock) else { return };
        let (punch, conn) = (link.punch, link.conn);
        self.drop_sock(tcp, sock, now);
        self.conns.remove(&(punch, conn));
        self.machine.handle_dial_failed(punch, conn, error, now.instant);
    }
}

fn relay_answer(frame: &Frame) -> Result<(), DialError> {
    let Frame::Stun(bytes) = frame else { return Err(DialError::Other) };
    match stun::decode(bytes) {
        Ok(Some((stun::Message::Success(_), _))) => Ok(()),
        Ok(Some((stun::Message::Error(error), _))) => {
            Err(DialError::RelayRefused(RelayRefusal::from_code(error.code)))
        }
        _ => Err(DialError::Other),
    }
}

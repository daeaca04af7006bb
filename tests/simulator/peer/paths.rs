//! Dials and accepted connections of punches, until one is proved to lead to the peer; and what is left of
//! the winner until it is closed.

use std::net::SocketAddr;
use std::time::Instant;

use gimlet::limits;
use gimlet::proto::peer::PunchId;
use gimlet::proto::punch::{ConnId, DialError, PathError};
use gimlet::wire::message::{Port, Role, Token};
use gimlet::wire::noise::PathContext;

use super::{Due, PeerDriver, Use, Winner};
use crate::packet::{Endpoint, Frame, Proof};
use crate::tcp::{Event, SockId, Tcp};
use crate::world::Now;

/// A connection with another peer, proved or not yet.
#[derive(Clone)]
pub(super) struct Path {
    pub(super) punch: Option<(PunchId, ConnId)>,
    pub(super) stage: Stage,
    pub(super) local: Endpoint,
    pub(super) remote: Endpoint,
}

/// The stages of `net::peer`.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    Unclaimed {
        until: Instant,
    },
    Waiting {
        until: Instant,
        introduction: u64,
        token: Token,
        offer: Option<Proof>,
    },
    Claimed,
    Offered,
    Held(Proof),
    /// Proved; for the controlled, confirmed or not yet.
    Direct {
        winner: Winner,
    },
}

impl Path {
    pub(super) fn is_stream(&self) -> bool {
        matches!(self.stage, Stage::Direct { .. }) && self.punch.is_none()
    }
}

impl PeerDriver {
    // ---- dials ----

    pub(super) fn dial(
        &mut self,
        tcp: &mut Tcp,
        punch: PunchId,
        conn: ConnId,
        (from, beside): (Option<Port>, u8),
        to: SocketAddr,
        now: Now,
    ) {
        let number =
            from.map_or(Some(0), |port| self.port_number(port)?.checked_add(beside.into()));
        let dialled = match (number, Endpoint::of(to)) {
            (None, _) => Err(DialError::Other),
            (_, None) => Err(DialError::NoRoute),
            (Some(number), Some(to)) => tcp.dial(number, to, now.at),
        };
        match dialled {
            Ok(sock) => {
                self.socks.insert(sock, Use::Dial { punch, conn });
                self.conns.insert((punch, conn), sock);
            }
            Err(error) => self.machine.handle_dial_failed(punch, conn, error, now.instant),
        }
    }

    pub(super) fn handle_dial(&mut self, tcp: &mut Tcp, sock: SockId, event: Event, now: Now) {
        let Some(Use::Dial { punch, conn }) = self.socks.get(&sock) else { return };
        let (punch, conn) = (*punch, *conn);
        match event {
            Event::Connected => {
                let Some((local, remote)) = tcp.ends(sock) else { return };
                let stage = Stage::Claimed;
                let path = Path { punch: Some((punch, conn)), stage, local, remote };
                self.socks.insert(sock, Use::Path(path));
                let (local, remote) = (local.into(), remote.into());
                self.machine.handle_established(punch, conn, local, remote, now.instant);
            }
            Event::Failed(error) => {
                self.drop_sock(tcp, sock, now);
                self.conns.remove(&(punch, conn));
                self.machine.handle_dial_failed(punch, conn, error, now.instant);
            }
            event => self.faults.push(format!("a dial that is not through: {event:?}")),
        }
    }

    // ---- accepted connections ----

    pub(super) fn accept(&mut self, tcp: &mut Tcp, sock: SockId, number: u16, now: Now) {
        let Some((local, remote)) = tcp.ends(sock) else { return };
        let Some(&port) = self.ports.get(&number) else { return tcp.close(sock, now.at) };
        let (local_, remote_) = (local.into(), remote.into());
        let punch = self.machine.handle_accepted(port, local_, remote_, now.instant);
        let until = now.instant + limits::UNCLAIMED_TIME;
        if punch.is_none()
            && self.unclaimed.len() >= limits::UNCLAIMED_PATHS
            && let Some((_, oldest)) = self.unclaimed.first().copied()
        {
            self.lose_path(tcp, oldest, PathError::Stranger, now);
        }
        let stage = if punch.is_some() { Stage::Claimed } else { Stage::Unclaimed { until } };
        self.socks.insert(sock, Use::Path(Path { punch, stage, local, remote }));
        match punch {
            Some(conn) => {
                self.conns.insert(conn, sock);
            }
            None => {
                self.unclaimed.insert((until, sock));
                self.timers.set(until, Due::Unclaimed(sock));
            }
        }
    }

    pub(super) fn expire_unclaimed(&mut self, tcp: &mut Tcp, sock: SockId, at: Instant, now: Now) {
        if let Some(Use::Path(path)) = self.socks.get(&sock)
            && let Stage::Unclaimed { until } | Stage::Waiting { until, .. } = path.stage
            && until == at
        {
            self.lose_path(tcp, sock, PathError::Stranger, now);
        }
    }

    /// The first frame of a connection that came from an address that we didn't expect.
    fn take_first_frame(&mut self, tcp: &mut Tcp, sock: SockId, frame: &Frame, now: Now) {
        let (introduction, token, offer, role) = match frame {
            Frame::Claim { introduction, token } => (*introduction, *token, None, Role::Controller),
            Frame::Offer { introduction, token, proof } => {
                (*introduction, *token, Some(proof.clone()), Role::Controlled)
            }
            _ => return self.lose_path(tcp, sock, PathError::Stranger, now),
        };
        let Some(path) = self.path(sock) else { return };
        let Stage::Unclaimed { until } = path.stage else { return };
        path.stage = Stage::Waiting { until, introduction, token, offer };
        self.claim_path(tcp, sock, role, now);
    }

    /// A punch has learnt its token: do accepted connections wait for it?
    pub(super) fn claim_waiting(&mut self, tcp: &mut Tcp, punch: PunchId, now: Now) {
        let token = self.machine.path_context(punch).map(|context| context.token);
        let (Some(token), Some(role)) = (token, self.machine.punch_role(punch)) else { return };
        let waits = |sock: &SockId| match self.socks.get(sock) {
            Some(Use::Path(path)) => {
                matches!(path.stage, Stage::Waiting { token: its, .. } if its == token)
            }
            _ => false,
        };
        let waiting: Vec<_> = self.unclaimed.iter().map(|(_, sock)| *sock).filter(waits).collect();
        for sock in waiting {
            self.claim_path(tcp, sock, role, now);
        }
    }

    fn claim_path(&mut self, tcp: &mut Tcp, sock: SockId, role: Role, now: Now) {
        let Some(path) = self.path(sock) else { return };
        let Stage::Waiting { until, introduction, token, .. } = path.stage else { return };
        let (local, remote) = (path.local.into(), path.remote.into());
        let Some(conn) =
            self.machine.handle_claimed(role, introduction, &token, local, remote, now.instant)
        else {
            return;
        };
        let Some(path) = self.path(sock) else { return };
        let stage = std::mem::replace(&mut path.stage, Stage::Claimed);
        path.punch = Some(conn);
        self.conns.insert(conn, sock);
        self.unclaimed.remove(&(until, sock));
        self.timers.clear(until, Due::Unclaimed(sock));
        if let Stage::Waiting { offer: Some(offer), .. } = stage {
            self.take_offer(tcp, sock, offer, now);
        }
    }

    // ---- the proof ----

    pub(super) fn offer(&mut self, tcp: &mut Tcp, punch: PunchId, conn: ConnId, now: Now) {
        let Some(context) = self.machine.path_context(punch) else { return };
        let (introduction, token) = (context.introduction, context.token);
        let proof = self.prove(context);
        let offer = Frame::Offer { introduction, token, proof };
        self.send_first(tcp, (punch, conn), Stage::Offered, offer, now);
    }

    pub(super) fn claim(&mut self, tcp: &mut Tcp, punch: PunchId, conn: ConnId, now: Now) {
        let Some(context) = self.machine.path_context(punch) else { return };
        let claim = Frame::Claim { introduction: context.introduction, token: context.token };
        self.send_first(tcp, (punch, conn), Stage::Claimed, claim, now);
    }

    /// Sends our first frame, unless the offer came first and is answered already.
    fn send_first(
        &mut self,
        tcp: &mut Tcp,
        conn: (PunchId, ConnId),
        next: Stage,
        frame: Frame,
        now: Now,
    ) {
        let Some(&sock) = self.conns.get(&conn) else { return };
        let Some(path) = self.path(sock) else { return };
        if matches!(path.stage, Stage::Claimed) {
            path.stage = next;
            tcp.send(sock, frame, now.at);
        }
    }

    /// What our key says of the introduction.
    fn prove(&self, context: &PathContext) -> Proof {
        Proof {
            from: self.key,
            to: context.remote,
            introduction: context.introduction,
            token: context.token,
            nonce: context.nonce,
        }
    }

    /// Whether the other side's key says the same.
    fn accepts(&self, context: &PathContext, proof: &Proof) -> bool {
        *proof == Proof { from: context.remote, to: self.key, ..self.prove(context) }
    }

    fn take_offer(&mut self, tcp: &mut Tcp, sock: SockId, offer: Proof, now: Now) {
        let Some((punch, conn)) = self.path(sock).and_then(|path| path.punch) else { return };
        if !self.machine.may_answer(punch) {
            if let Some(path) = self.path(sock) {
                path.stage = Stage::Held(offer);
            }
            return self.machine.handle_offer_held(punch, conn, now.instant);
        }
        let Some(context) = self.machine.path_context(punch) else { return };
        if !self.accepts(context, &offer) {
            return self.lose_path(tcp, sock, PathError::Stranger, now);
        }
        let answer = Frame::Answer(self.prove(context));
        tcp.send(sock, answer, now.at);
        if self.machine.handle_proved(punch, conn, now.instant) {
            self.become_direct(tcp, sock, offer.from);
        }
    }

    pub(super) fn answer_held(&mut self, tcp: &mut Tcp, punch: PunchId, conn: ConnId, now: Now) {
        let Some(&sock) = self.conns.get(&(punch, conn)) else { return };
        let Some(path) = self.path(sock) else { return };
        if let Stage::Held(offer) = &path.stage {
            let offer = offer.clone();
            path.stage = Stage::Claimed;
            self.take_offer(tcp, sock, offer, now);
        }
    }

    fn take_answer(&mut self, tcp: &mut Tcp, sock: SockId, frame: &Frame, now: Now) {
        let Some((punch, conn)) = self.path(sock).and_then(|path| path.punch) else { return };
        let answer = match frame {
            Frame::Answer(answer) => answer,
            // It dialled us, and says whose it is though we know.
            Frame::Claim { introduction, token }
                if self.machine.belongs(punch, *introduction, token) =>
            {
                return;
            }
            _ => return self.lose_path(tcp, sock, PathError::Stranger, now),
        };
        let Some(context) = self.machine.path_context(punch) else { return };
        if !self.accepts(context, answer) {
            return self.lose_path(tcp, sock, PathError::Stranger, now);
        }
        // The machine's report is on its way as soon as it knows.
        let Some(winner) = self.winner(tcp, sock, answer.from) else { return };
        if self.machine.handle_proved(punch, conn, now.instant) {
            self.become_direct(tcp, sock, answer.from);
            self.confirm(tcp, (punch, conn), sock, winner, now);
            tcp.send(sock, Frame::Record, now.at);
        }
    }

    fn winner(
        &self,
        tcp: &Tcp,
        sock: SockId,
        proved: gimlet::identity::PublicKey,
    ) -> Option<Winner> {
        let (local, remote) = tcp.ends(sock)?;
        let token = self.token_of(sock);
        Some(Winner { sock, local, remote, sequences: tcp.sequences(sock)?, proved, token })
    }

    /// While its punch goes on.
    fn token_of(&self, sock: SockId) -> Option<Token> {
        let Some(Use::Path(path)) = self.socks.get(&sock) else { return None };
        self.machine.path_context(path.punch?.0).map(|context| context.token)
    }

    fn become_direct(&mut self, tcp: &Tcp, sock: SockId, proved: gimlet::identity::PublicKey) {
        let Some(winner) = self.winner(tcp, sock, proved) else { return };
        if let Some(path) = self.path(sock) {
            path.stage = Stage::Direct { winner };
        }
    }

    /// The connection is the application's now.
    fn confirm(
        &mut self,
        tcp: &mut Tcp,
        (punch, conn): (PunchId, ConnId),
        sock: SockId,
        winner: Winner,
        now: Now,
    ) {
        if let Some(path) = self.path(sock) {
            path.punch = None;
        }
        self.conns.remove(&(punch, conn));
        tcp.keep_alive(sock, now.at);
        if let Some(other) = self.won.insert(punch, winner) {
            self.faults.push(format!("two winners: {other:?} and {winner:?}"));
        }
    }

    // ---- frames ----

    pub(super) fn handle_path(&mut self, tcp: &mut Tcp, sock: SockId, event: Event, now: Now) {
        let Some(path) = self.path(sock) else { return };
        match event {
            Event::Frame(frame) => self.take_path_frame(tcp, sock, &frame, now),
            Event::Eof | Event::Reset if path.is_stream() => self.drop_sock(tcp, sock, now),
            Event::Eof | Event::Reset => self.lose_path(tcp, sock, PathError::Lost, now),
            event => self.faults.push(format!("a path: {event:?}")),
        }
    }

    fn take_path_frame(&mut self, tcp: &mut Tcp, sock: SockId, frame: &Frame, now: Now) {
        let Some(Use::Path(path)) = self.socks.get(&sock) else { return };
        let punch = path.punch;
        let belongs = |introduction: &u64, token: &Token| {
            punch.is_some_and(|(punch, _)| self.machine.belongs(punch, *introduction, token))
        };
        let role = punch.and_then(|(punch, _)| self.machine.punch_role(punch));
        match (&path.stage, frame) {
            (Stage::Direct { winner }, Frame::Record) => {
                let winner = *winner;
                if let Some((punch, conn)) = punch {
                    self.confirm(tcp, (punch, conn), sock, winner, now);
                    self.machine.handle_confirmed(punch, conn, now.instant);
                }
            }
            (Stage::Unclaimed { .. }, _) => self.take_first_frame(tcp, sock, frame, now),
            (Stage::Offered, _) => self.take_answer(tcp, sock, frame, now),
            (Stage::Claimed, Frame::Offer { introduction, token, proof })
                if belongs(introduction, token) && role == Some(Role::Controlled) =>
            {
                self.take_offer(tcp, sock, proof.clone(), now);
            }
            (Stage::Claimed, Frame::Claim { introduction, token })
                if belongs(introduction, token) => {}
            _ => self.lose_path(tcp, sock, PathError::Stranger, now),
        }
    }

    // ---- the end ----

    fn path(&mut self, sock: SockId) -> Option<&mut Path> {
        match self.socks.get_mut(&sock) {
            Some(Use::Path(path)) => Some(path),
            _ => None,
        }
    }

    fn lose_path(&mut self, tcp: &mut Tcp, sock: SockId, error: PathError, now: Now) {
        if let Some((punch, conn)) = self.forget_path(tcp, sock, now) {
            self.machine.handle_path_lost(punch, conn, error, now.instant);
        }
    }

    fn forget_path(&mut self, tcp: &mut Tcp, sock: SockId, now: Now) -> Option<(PunchId, ConnId)> {
        let path = self.path(sock)?.clone();
        if let Stage::Unclaimed { until } | Stage::Waiting { until, .. } = path.stage {
            self.timers.clear(until, Due::Unclaimed(sock));
            self.unclaimed.remove(&(until, sock));
        }
        if let Some(conn) = path.punch {
            self.conns.remove(&conn);
        }
        self.drop_sock(tcp, sock, now);
        path.punch
    }

    /// The machine doesn't need a dial or a path any more.
    pub(super) fn close_conn(&mut self, tcp: &mut Tcp, punch: PunchId, conn: ConnId, now: Now) {
        let Some(&sock) = self.conns.get(&(punch, conn)) else { return };
        if self.forget_path(tcp, sock, now).is_none() {
            self.drop_sock(tcp, sock, now);
        }
        self.conns.remove(&(punch, conn));
    }
}

//! Drives the peer machine with simulated sockets, as `net::peer` does with real ones: the same calls in the
//! same order.
//!
//! ```text
//! mod      the login, the machine's actions
//! probes   fresh ports, STUN, the relay until it is a path
//! paths    dials and accepted connections, until one is proved
//! ```

mod paths;
mod probes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use gimlet::identity::{PeerId, PublicKey};
use gimlet::proto::peer::{self, Action, Config, LoginError, Peer, PunchId};
use gimlet::proto::punch::{self, ConnId, Outcome, Report};
use gimlet::proto::timers::Timers;

use gimlet::wire::message::Hairpinning;
use gimlet::wire::message::{Message, Port, Token};

use self::paths::Path;
use self::probes::{HoleSockets, Probe, RelayLink};
use crate::packet::{Endpoint, FastMap, Frame};
use crate::tcp::{Event, SockId, Tcp};
use crate::world::Now;

/// What a socket is for.
enum Use {
    Main(MainStage),
    Probe(Probe),
    Dial { punch: PunchId, conn: ConnId },
    Relay(RelayLink),
    Path(Path),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MainStage {
    Connecting,
    Handshake,
    Open,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Unclaimed(SockId),
}

/// The end of a punch.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) report: Report,
    /// The winner's ends and initial sequence numbers, ours first.
    pub(crate) winner: Option<Winner>,
}

/// What tells one TCP connection from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Winner {
    pub(crate) sock: SockId,
    pub(crate) local: Endpoint,
    pub(crate) remote: Endpoint,
    pub(crate) sequences: (u32, u32),
    /// Who is at the other end, as the handshake has proved.
    pub(crate) proved: PublicKey,
    /// Of which introduction: S counts anew when it restarts, but its tokens are others then.
    pub(crate) token: Option<Token>,
}

pub(crate) struct PeerDriver {
    pub(crate) key: PublicKey,
    pub(crate) machine: Peer,
    server: Endpoint,
    hosts: Vec<IpAddr>,
    socks: FastMap<SockId, Use>,
    main: Option<SockId>,
    main_port: Option<u16>,
    /// What listens where.
    ports: FastMap<u16, Port>,
    holes: BTreeMap<u64, HoleSockets>,
    conns: BTreeMap<(PunchId, ConnId), SockId>,
    unclaimed: BTreeSet<(Instant, SockId)>,
    timers: Timers<Due>,
    won: BTreeMap<PunchId, Winner>,
    pub(crate) ended: Vec<Ended>,
    /// Broken promises, in words.
    pub(crate) faults: Vec<String>,
    random: fastrand::Rng,
    trace: bool,
}

impl PeerDriver {
    pub(crate) fn open(
        key: PublicKey,
        config: Config,
        server: Endpoint,
        hosts: Vec<IpAddr>,
        seed: u64,
        trace: bool,
    ) -> Self {
        Self {
            key,
            machine: Peer::new(config, seed),
            server,
            hosts,
            socks: FastMap::default(),
            main: None,
            main_port: None,
            ports: FastMap::default(),
            holes: BTreeMap::new(),
            conns: BTreeMap::new(),
            unclaimed: BTreeSet::new(),
            timers: Timers::new(),
            won: BTreeMap::new(),
            ended: Vec::new(),
            faults: Vec::new(),
            random: fastrand::Rng::with_seed(!seed),
            trace,
        }
    }

    // ---- getters ----

    pub(crate) fn id(&self) -> PeerId {
        PeerId::of(&self.key)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [self.machine.poll_timeout(), self.timers.next()].into_iter().flatten().min()
    }

    pub(crate) fn has_main(&self) -> bool {
        self.main.is_some()
    }

    /// The winners that are still open.
    pub(crate) fn streams(&self) -> Vec<SockId> {
        let is_stream = |used: &Use| matches!(used, Use::Path(path) if path.is_stream());
        let streams = self.socks.iter().filter(|(_, used)| is_stream(used));
        let mut streams: Vec<_> = streams.map(|(sock, _)| *sock).collect();
        streams.sort_unstable();
        streams
    }

    /// What it still keeps, in words; none if that is nothing but the main connection and the winners.
    pub(crate) fn leftovers(&self) -> Option<String> {
        let tables = [
            self.socks.len() - usize::from(self.main.is_some()) - self.streams().len(),
            self.conns.len(),
            self.holes.len(),
            self.unclaimed.len(),
            self.won.len(),
            self.machine.punches(),
            self.machine.holes(),
        ];
        (tables != [0; 7]).then(|| {
            format!("sockets, conns, holes, unclaimed, won, punches, machine's holes: {tables:?}")
        })
    }

    // ---- commands ----

    pub(crate) fn start(&mut self, tcp: &mut Tcp, now: Now) {
        self.machine.start(now.instant);
        self.drain(tcp, now);
    }

    pub(crate) fn stop(&mut self, tcp: &mut Tcp, now: Now) {
        self.machine.stop(now.instant);
        self.drain(tcp, now);
    }

    pub(crate) fn connect(
        &mut self,
        tcp: &mut Tcp,
        peer: PeerId,
        preference: punch::Preference,
        now: Now,
    ) -> Result<PunchId, punch::PunchError> {
        let punch = self.machine.connect(peer, preference, now.instant)?;
        self.drain(tcp, now);
        Ok(punch)
    }

    pub(crate) fn cancel(&mut self, tcp: &mut Tcp, punch: PunchId, now: Now) {
        self.machine.cancel(punch, now.instant);
        self.drain(tcp, now);
    }

    /// The process ends: the kernel closes what it had open.
    pub(crate) fn exit(&mut self, tcp: &mut Tcp, now: Now) {
        let mut ports: Vec<_> = self.ports.keys().copied().collect();
        ports.sort_unstable();
        for port in ports {
            tcp.unlisten(port);
        }
        let mut socks: Vec<_> = self.socks.keys().copied().collect();
        socks.sort_unstable();
        for sock in socks {
            tcp.close(sock, now.at);
        }
        // Whoever is on the way up finds nobody.
        self.socks.clear();
    }

    /// Closes the winners, as a program does that has said all.
    pub(crate) fn close_streams(&mut self, tcp: &mut Tcp, now: Now) {
        for sock in self.streams() {
            self.socks.remove(&sock);
            tcp.close(sock, now.at);
        }
    }

    // ---- events ----

    pub(crate) fn handle_event(&mut self, tcp: &mut Tcp, sock: SockId, event: Event, now: Now) {
        if let Event::Accepted(port) = event {
            self.accept(tcp, sock, port, now);
            return self.drain(tcp, now);
        }
        match self.socks.get(&sock) {
            Some(Use::Main(_)) => self.handle_main(tcp, sock, event, now),
            Some(Use::Probe(_)) => self.handle_probe(tcp, sock, event, now),
            Some(Use::Dial { .. }) => self.handle_dial(tcp, sock, event, now),
            Some(Use::Relay(_)) => self.handle_relay(tcp, sock, event, now),
            Some(Use::Path(_)) => self.handle_path(tcp, sock, event, now),
            // Closed by us while this was on its way up.
            None => {}
        }
        self.drain(tcp, now);
    }

    pub(crate) fn handle_timeout(&mut self, tcp: &mut Tcp, now: Now) {
        self.machine.handle_timeout(now.instant);
        while let Some((at, Due::Unclaimed(sock))) = self.timers.expire(now.instant) {
            self.expire_unclaimed(tcp, sock, at, now);
        }
        self.drain(tcp, now);
    }

    /// Does what the machine wants, until it wants nothing more.
    fn drain(&mut self, tcp: &mut Tcp, now: Now) {
        while let Some(action) = self.machine.poll_action() {
            if self.trace {
                println!("{:>12} {} {action:?}", crate::world::micros(now.at), self.id());
            }
            match action {
                Action::DialMain => self.dial_main(tcp, now),
                // No network changes under a machine here.
                Action::LookAtNetwork => {}
                Action::CloseMain => self.close_main(tcp, now),
                Action::Send(message) => self.send_main(tcp, &message, now),
                Action::ProbeMain { to } => self.probe_main(tcp, to, now),
                Action::ProbeFresh { index, to } => self.probe_fresh(tcp, index, to, now),
                Action::CloseProbes => self.close_probes(tcp, now),
                Action::OpenHole { tag, to, beside } => self.open_hole(tcp, tag, to, beside, now),
                Action::ProbeHole { tag } => self.probe_hole(tcp, tag, now),
                Action::CloseHole { tag } => self.close_hole(tcp, tag, now),
                // Nobody measures lifetimes here, or dials itself.
                Action::OpenIdle { .. } | Action::CloseIdle { .. } => {}
                Action::Hairpin { tag, .. } => {
                    self.machine.handle_hairpin(tag, Hairpinning::Unknown, now.instant);
                }
                Action::Introduced { punch } => self.claim_waiting(tcp, punch, now),
                Action::Punch { punch, action } => self.drive_punch(tcp, punch, &action, now),
            }
        }
        while let Some(event) = self.machine.poll_event() {
            if let peer::Event::Ended { punch, report } = event {
                self.end(punch, *report);
            }
        }
    }

    fn drive_punch(&mut self, tcp: &mut Tcp, punch: PunchId, action: &punch::Action, now: Now) {
        match *action {
            punch::Action::Dial { conn, from, beside, to } => {
                self.dial(tcp, punch, conn, (from, beside), to, now);
            }
            punch::Action::Relay { conn, to } => self.dial_relay(tcp, punch, conn, to, now),
            punch::Action::Offer(conn) => self.offer(tcp, punch, conn, now),
            punch::Action::Claim(conn) => self.claim(tcp, punch, conn, now),
            punch::Action::Answer(conn) => self.answer_held(tcp, punch, conn, now),
            punch::Action::Close(conn) => self.close_conn(tcp, punch, conn, now),
            punch::Action::RoundOver(_) => {
                self.faults.push("RoundOver is for the peer machine alone".into());
            }
        }
    }

    fn end(&mut self, punch: PunchId, report: Report) {
        let winner = self.won.remove(&punch);
        let connected = matches!(report.outcome, Outcome::Connected(_));
        if connected != winner.is_some() {
            self.faults.push(format!("{:?}, and the winner is {winner:?}", report.outcome));
        }
        if report.outcome == Outcome::Pending {
            self.faults.push("a punch has ended without an outcome".into());
        }
        self.ended.push(Ended { report, winner });
    }

    // ---- the main connection ----

    /// A fresh port with a listener, and a dial from it.
    fn dial_main(&mut self, tcp: &mut Tcp, now: Now) {
        self.close_main(tcp, now);
        if let Some(port) = self.main_port.take() {
            tcp.unlisten(port);
            self.ports.remove(&port);
        }
        let port = tcp.listen(0);
        self.ports.insert(port, Port::Main);
        self.main_port = Some(port);
        match tcp.dial(port, self.server, now.at) {
            Ok(sock) => {
                self.main = Some(sock);
                self.socks.insert(sock, Use::Main(MainStage::Connecting));
            }
            Err(error) => {
                let error = LoginError::Unreachable(format!("{error:?}"));
                self.machine.handle_main_lost(error, now.instant);
            }
        }
    }

    fn close_main(&mut self, tcp: &mut Tcp, now: Now) {
        if let Some(sock) = self.main.take() {
            self.socks.remove(&sock);
            tcp.close(sock, now.at);
        }
    }

    fn lose_main(&mut self, tcp: &mut Tcp, error: LoginError, now: Now) {
        self.close_main(tcp, now);
        self.machine.handle_main_lost(error, now.instant);
    }

    fn handle_main(&mut self, tcp: &mut Tcp, sock: SockId, event: Event, now: Now) {
        let Some(Use::Main(stage)) = self.socks.get_mut(&sock) else { return };
        match (event, *stage) {
            (Event::Connected, MainStage::Connecting) => {
                *stage = MainStage::Handshake;
                tcp.keep_alive(sock, now.at);
                tcp.send(sock, Frame::Hello, now.at);
            }
            (Event::Frame(frame), MainStage::Handshake) if *frame == Frame::Reply => {
                *stage = MainStage::Open;
                self.log_in(tcp, sock, now);
            }
            (Event::Frame(frame), MainStage::Open) => {
                let Frame::Message(bytes) = &*frame else {
                    return self.faults.push(format!("S sends {frame:?}"));
                };
                match Message::decode(bytes) {
                    Ok(message) => {
                        if self.trace {
                            let at = crate::world::micros(now.at);
                            println!("{at:>12} {} hears {message:?}", self.id());
                        }
                        self.machine.handle_message(message, now.instant);
                    }
                    Err(error) => self.faults.push(format!("S sends what nobody reads: {error}")),
                }
            }
            (Event::Failed(error), _) => {
                self.lose_main(tcp, LoginError::Unreachable(format!("{error:?}")), now);
            }
            (Event::Eof, _) => self.lose_main(tcp, LoginError::Lost("closed".into()), now),
            (Event::Reset, _) => self.lose_main(tcp, LoginError::Lost("reset".into()), now),
            (event, stage) => self.faults.push(format!("main connection: {event:?} in {stage:?}")),
        }
    }

    fn log_in(&mut self, tcp: &mut Tcp, sock: SockId, now: Now) {
        let mut nonce = [0; 16];
        self.random.fill(&mut nonce);
        let port = self.main_port.unwrap_or(0);
        let login = self.machine.login(port, self.hosts.clone(), nonce);
        let mut bytes = Vec::new();
        login.encode(&mut bytes);
        tcp.send(sock, Frame::Login { key: self.key, login: bytes }, now.at);
        self.machine.handle_channel(self.server.into(), now.instant);
    }

    fn send_main(&mut self, tcp: &mut Tcp, message: &Message, now: Now) {
        let Some(sock) = self.main else { return };
        if matches!(self.socks.get(&sock), Some(Use::Main(MainStage::Open))) {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            tcp.send(sock, Frame::Message(bytes), now.at);
        }
    }

    /// The local port number behind a name, if it is open.
    fn port_number(&self, port: Port) -> Option<u16> {
        match port {
            Port::Main => self.main_port,
            Port::Hole(tag) => self.holes.get(&tag).map(|hole| hole.number),
        }
    }
}

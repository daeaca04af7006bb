//! The machine, driven by fake links.

mod counts;
mod dial_back;
mod drain;
mod introductions;
mod logins;
mod presence;
mod relay;
mod rounds;
mod soak;

use std::time::{Duration, Instant};

use super::*;
use crate::identity::PeerId;
use crate::wire::message::{
    Allocation, Allow, Mapping, Nat, Port, Release, RoundResult, Token, Welcome,
};

/// Where all probes come to.
const S_ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

/// A machine, its clock, and what it has said so far.
struct World {
    s: Rendezvous,
    now: Instant,
    links: u64,
}

/// A peer as the tests know it.
#[derive(Clone, Copy)]
struct Known {
    link: LinkId,
    session: SessionId,
    id: PeerId,
    key: PublicKey,
    token: Token,
}

fn key(number: u8) -> PublicKey {
    PublicKey::from_bytes([number; 32])
}

fn id(number: u8) -> PeerId {
    PeerId::of(&key(number))
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Reachable, listens on port 1000, permits anyone.
fn open_login(number: u8) -> Login {
    Login {
        reachable: true,
        nonce: [number; 16],
        local_port: 1000,
        hosts: vec![format!("192.168.0.{number}").parse().unwrap()],
        allow: Allow { anyone: true, peers: vec![] },
        agent: "test".into(),
        nat: Nat::default(),
    }
}

fn update(nat: Nat) -> Message {
    Message::Update { nat, hosts: vec![], mapped: vec![], pool: vec![] }
}

fn allow_only(numbers: &[u8]) -> Allow {
    Allow { anyone: false, peers: numbers.iter().map(|number| id(*number)).collect() }
}

impl World {
    fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    #[allow(clippy::disallowed_methods, reason = "a test may take any instant as its origin")]
    fn with_limits(limits: Limits) -> Self {
        let holes = vec![addr("0.0.0.0:8000")];
        let config = Config { holes, text: "hello".into(), relay: true, dial_back: true, limits };
        Self { s: Rendezvous::new(config, [7; 32]), now: Instant::now(), links: 0 }
    }

    fn try_login(&mut self, number: u8, login: Login) -> Result<(LinkId, SessionId), RefusalCode> {
        self.links += 1;
        let link = LinkId(self.links);
        let remote = SocketAddr::new([203, 0, 113, number].into(), 5000);
        let round_trip = Duration::from_millis(10 * u64::from(number));
        let session =
            self.s.handle_login(link, remote, key(number), login, round_trip, self.now)?;
        Ok((link, session))
    }

    /// Logs in, and takes the welcome, which comes after what the login did to others.
    fn login(&mut self, number: u8, login: Login) -> Known {
        let (link, session) = self.try_login(number, login).expect("the login stands");
        let token = self.s.tokens.of_session(session);
        Known { link, session, id: id(number), key: key(number), token }
    }

    /// An [`open_login`] whose welcome is out of the way.
    fn open(&mut self, number: u8) -> Known {
        let peer = self.login(number, open_login(number));
        let _ = self.actions();
        peer
    }

    /// Behind a NAT whose next port is predicted from three probes.
    fn open_behind(&mut self, number: u8, mapping: Mapping) -> Known {
        let allocation = Allocation::Sequential { delta: 1, busy: 0 };
        let nat = Nat { mapping, allocation, ..Nat::default() };
        let peer = self.open(number);
        let hosts = open_login(number).hosts;
        self.say(peer, Message::Update { nat, hosts, mapped: vec![], pool: vec![] });
        peer
    }

    fn caller(&mut self, number: u8) -> Known {
        let peer = self.login(number, Login { reachable: false, ..open_login(number) });
        let _ = self.actions();
        peer
    }

    fn say(&mut self, peer: Known, message: Message) {
        self.s.handle_message(peer.session, message, self.now);
        self.s.check();
    }

    fn introduce(&mut self, peer: Known, request: u32, to: u8) {
        self.say(peer, Message::Introduce { request, peer: id(to), from: Port::Main });
    }

    fn outcome(&mut self, peer: Known, introduction: u64, round: u8, result: RoundResult) {
        self.say(peer, Message::Outcome { introduction, round, result });
    }

    fn close(&mut self, peer: Known) {
        self.s.handle_closed(peer.session, self.now);
        self.s.check();
    }

    fn probe(&mut self, peer: Known, tag: u64, round: u8, mapped: &str) -> ProbeVerdict {
        let local_port = if tag == 0 { 1000 } else { 3000 };
        let probe = Probe { token: peer.token, tag, round, local_port };
        let verdict = self.s.handle_probe(&probe, addr(mapped), S_ADDRESS, self.now);
        self.s.check();
        verdict
    }

    /// The probes that go out beside a hole's own name no local port.
    fn probe_beside(&mut self, peer: Known, tag: u64, mapped: &[&str]) {
        for mapped in mapped {
            let probe = Probe { token: peer.token, tag, round: 1, local_port: 0 };
            let verdict = self.s.handle_probe(&probe, addr(mapped), S_ADDRESS, self.now);
            assert_eq!(verdict, ProbeVerdict::Tied);
            self.s.check();
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.s.handle_timeout(self.now);
        self.s.check();
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.s.poll_action()).collect()
    }

    /// What was sent since it was last looked at; nothing else has been done.
    fn sent(&mut self) -> Vec<(LinkId, Message)> {
        let actions = self.actions().into_iter();
        actions
            .map(|action| match action {
                Action::Send { link, message } => (link, message),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// The two releases that were sent, of the first and the second peer.
    fn releases(&mut self, one: Known, other: Known) -> (Release, Release) {
        let sent = self.sent();
        assert_eq!(sent.len(), 2, "{sent:?}");
        let of = |peer: Known| {
            let found = sent.iter().find(|(link, _)| *link == peer.link);
            match found {
                Some((_, Message::Release(release))) => (**release).clone(),
                _ => panic!("{sent:?}"),
            }
        };
        (of(one), of(other))
    }

    /// The tag of the only thing that was sent: to open a hole.
    fn prepared(&mut self, peer: Known, round: u8) -> u64 {
        match self.sent()[..] {
            [(link, Message::Prepare { tag, round: said, .. })] if link == peer.link => {
                assert_eq!(said, round);
                tag
            }
            ref sent => panic!("{sent:?}"),
        }
    }

    fn assert_refused(&mut self, peer: Known, request: u32, code: RefusalCode) {
        let refused = Message::Refused(Refused { request, code, text: String::new() });
        assert_eq!(self.sent(), [(peer.link, refused)]);
    }
}

fn cancelled(introduction: u64, code: RefusalCode) -> Message {
    Message::Cancelled { introduction, code }
}

//! What a peer and the rendezvous say to each other over the main connection.
//!
//! ```text
//! type  message    from → to   fields, in the order of the structs below
//! 0x01  Welcome    S → peer    id, observed, token, hole endpoints, text
//! 0x02  Refused    S → peer    request, code, text
//! 0x03  Closing    S → peer    code, text
//! 0x04  Draining   S → peer    spread, to
//! 0x10  Introduce  peer → S    request, peer, port to be released from
//! 0x11  Prepare    S → peer    tag, round, probes
//! 0x12  Release    S → peer    introduction, request, round, role, delay, peer's key, its nonce,
//!                              token, port to dial from, what its NAT has shown, its candidates,
//!                              how many local ports dial, further ports to dial at random, the relay,
//!                              whether there is hope of a direct connection, whether the round is
//!                              brief, whether the receiver lets the other side come first
//! 0x13  Outcome    peer → S    introduction, round, result
//! 0x14  Cancelled  S → peer    introduction, code
//! 0x15  Awaited    S → peer    introduction
//! 0x20  Watch      peer → S    peers
//! 0x21  Join       peer → S    room
//! 0x22  Presence   S → peer    peer, online, room
//! 0x30  Allow      peer → S    anybody, peers
//! 0x31  Update     peer → S    what the NAT has shown, host addresses, mapped endpoints, the NAT's pool
//! 0x32  DialBack   peer → S    tag
//! 0x33  DialedBack S → peer    tag, how the dials ended, from the same address and from another one
//! 0x40  Ping       either      value
//! 0x41  Pong       either      value
//! ```
//!
//! A message is one sealed frame: `type: u8 | fields`. A type that the reader doesn't know is skipped;
//! fields after the last one that it knows are ignored. How fields look: [`super::codec`]. The
//! [`Login`] isn't in the table: it travels inside the handshake ([`super::noise`]).

mod layout;
mod nat;

use std::net::{IpAddr, SocketAddr};

use super::refusal::{ClosingCode, RefusalCode};
use crate::identity::{PeerId, PublicKey};

/// Ties the two ends of an introduction, or a probe and a session, together. Unguessable.
pub type Token = [u8; 16];

/// One peer's chance word for a login: it makes each of its handshakes of this login unlike those
/// of any other, even to a rendezvous that replays introductions.
pub type Nonce = [u8; 16];

/// What a peer says of itself when it logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Others may ask for it, and it takes the place of an earlier session of the same key. A
    /// session that only calls leaves this off.
    pub reachable: bool,
    /// New for each login.
    pub nonce: Nonce,
    /// Local port of the main connection, which also listens; 0 if it doesn't.
    pub local_port: u16,
    /// Addresses of its interfaces.
    pub hosts: Vec<IpAddr>,
    /// Whom it consents to.
    pub allow: Allow,
    /// The program and its version, for the operator's log.
    pub agent: String,
    /// What its NAT has shown before, if it has reason to take the NAT for the same one.
    pub nat: Nat,
}

/// Whose introductions a peer consents to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// Everybody, whatever the list says.
    pub anyone: bool,
    /// These peers.
    pub peers: Vec<PeerId>,
}

impl Allow {
    /// Whether `peer` may be introduced.
    pub fn permits(&self, peer: &PeerId) -> bool {
        self.anyone || self.peers.contains(peer)
    }
}

/// The login stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The peer's id, as S computed it.
    pub id: PeerId,
    /// The endpoint that S sees the main connection come from: its server-reflexive address.
    pub observed: SocketAddr,
    /// Goes into the probes that belong to this session.
    pub token: Token,
    /// Where S answers STUN. An unspecified address means "the address at which you reached me".
    pub holes: Vec<SocketAddr>,
    /// Words of the operator.
    pub text: String,
}

/// A request is not granted; the session goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The number that the request had; 0 when it had none.
    pub request: u32,
    /// Why.
    pub code: RefusalCode,
    /// The same for a person; may be empty.
    pub text: String,
}

/// Two peers may begin: dial now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Number of the introduction. It only ever grows within a session.
    pub introduction: u64,
    /// The number of the controller's request; 0 for the controlled.
    pub request: u32,
    /// Counts from 1.
    pub round: u8,
    /// Which side of the introduction the receiver is.
    pub role: Role,
    /// Dial this much later: the nearer peer waits for the farther. Microseconds.
    pub delay: u32,
    /// The other peer's static key; its id is the key's hash.
    pub key: PublicKey,
    /// The nonce of the controlled peer's login, in the releases of both.
    pub nonce: Nonce,
    /// Known to the two peers and S alone.
    pub token: Token,
    /// The local port that S has the receiver's endpoint of.
    pub from: Port,
    /// What the other peer's NAT has shown.
    pub nat: Nat,
    /// Where the other peer may be reached.
    pub candidates: Vec<Candidate>,
    /// Local ports that dial the candidates: this many, `from` and fresh ones beside it.
    pub sockets: u16,
    /// Local ports in a row that dial the candidates, `from` being the first; and how many of the other side's
    /// do, each candidate's port being the first. Each dials its counterpart, or the one that there is.
    pub rows: [u8; 2],
    /// Further ports to dial, chosen at random.
    pub spray: Option<Spray>,
    /// The hole endpoint of S at which a relay may be joined ([`super::stun::Join`]), if S relays. An
    /// unspecified address means "the address at which you reached me".
    pub relay: Option<SocketAddr>,
    /// Whether a direct connection may come about, by what both NATs have shown. If not, the relay is
    /// joined at once.
    pub hopeful: bool,
    /// Ports are guessed on either side, or which of several addresses will meet: it shows soon whether that
    /// succeeds.
    pub brief: bool,
    /// Let the other side's SYN come first. Until then, dial other ports of its addresses, so that the own
    /// NAT's filter lets its SYN in, and does not take it for one that crosses ours.
    pub yields: bool,
}

/// Ports of one address to dial: `dials` different ones, chosen at random from `first` to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Spray {
    /// The address.
    pub ip: IpAddr,
    /// The lowest port.
    pub first: u16,
    /// The highest port.
    pub last: u16,
    /// How many.
    pub dials: u16,
}

/// One of a peer's local ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Port {
    /// That of the main connection.
    Main,
    /// The hole of this tag: that of a [`Message::Prepare`], or one of the peer's own choice.
    Hole(u64),
}

/// Set in the tags of holes that S asks for. A peer chooses others, and not 0, which is the tag of
/// probes from the main port.
pub const CHOSEN_BY_SERVER: u64 = 1 << 63;

/// The sides of an introduction. The role comes from here, never from connect or accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Asked for the introduction; begins the handshake and chooses the winner.
    Controller,
    /// Was asked for.
    Controlled,
}

/// A transport address that may reach a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// Where it comes from.
    pub kind: CandidateKind,
    /// Where to dial.
    pub address: SocketAddr,
}

/// Where a candidate comes from, in the terms of RFC 8445 §4 and RFC 6544 §4.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CandidateKind {
    /// An address of one of the peer's interfaces.
    Host,
    /// What S saw.
    ServerReflexive,
    /// What the peer's router maps to it because it was asked to (RFC 6887, RFC 6886, UPnP IGD).
    PortMapped,
    /// What S expects to see next.
    Predicted,
    /// The relay of S. Never among the candidates of a release: both peers dial it.
    Relayed,
}

/// What a NAT has shown of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Nat {
    /// How it maps.
    pub mapping: Mapping,
    /// Which ports it hands out. Matters where the mapping depends on the destination.
    pub allocation: Allocation,
    /// Which of its addresses it hands out.
    pub pooling: Pooling,
    /// From whom a mapped endpoint is reached.
    pub filtering: Filtering,
    /// What a SYN draws that is not let in.
    pub refusal: Refusal,
    /// Whether hosts behind it reach each other at their mapped endpoints.
    pub hairpinning: Hairpinning,
}

/// Which of several external addresses a NAT gives to the mappings of one internal address: RFC 4787
/// §4.1, REQ-2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// Not probed.
    #[default]
    Unknown,
    /// Always the same one, as far as was seen.
    Paired,
    /// Any.
    Arbitrary,
}

/// From whom a mapped endpoint is reached: RFC 4787 §5, RFC 5382 §4.3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Filtering {
    /// Not probed.
    #[default]
    Unknown,
    /// From everybody.
    EndpointIndependent,
    /// From addresses that the inside has dialled.
    AddressDependent,
    /// From endpoints that the inside has dialled.
    AddressAndPortDependent,
}

/// What a SYN draws that a NAT or a firewall does not let in: RFC 5382 §4.3, REQ-4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Not probed, or every SYN is let in.
    #[default]
    Unknown,
    /// Nothing.
    Silence,
    /// An RST.
    Rst,
    /// An ICMP error.
    Icmp,
}

/// Whether a NAT lets hosts behind it reach each other at their mapped endpoints: RFC 4787 §6, RFC 5382
/// §7.2, REQ-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Hairpinning {
    /// Not probed.
    #[default]
    Unknown,
    /// It does.
    Supported,
    /// It doesn't.
    Unsupported,
}

/// How a dial of S back to a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DialBackEnd {
    /// It was not made: S has no such address, or a bound is reached.
    NotMade,
    /// It connected.
    Connected,
    /// An RST answered.
    Rst,
    /// An ICMP error answered.
    Icmp,
    /// Nothing answered.
    Silence,
}

/// Which port a NAT gives a new mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Allocation {
    /// Not probed, or no pattern was seen.
    #[default]
    Unknown,
    /// The local port (RFC 4787 §4.2.1, port preservation).
    Preserving,
    /// The one that is `delta` after the last.
    Sequential {
        /// Ports from one mapping to the next; negative when it counts down.
        delta: i16,
        /// Mappings a second that others behind it made while it was looked at.
        busy: u16,
    },
    /// Any.
    Random,
    /// Any of a block, as carrier NATs assign them.
    Block {
        /// The lowest port.
        first: u16,
        /// The highest port.
        last: u16,
    },
}

/// How a NAT maps: RFC 4787 §4.1, RFC 5382 §4.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mapping {
    /// Not probed yet, or not known.
    #[default]
    Unknown,
    /// No NAT: the observed address is the peer's own.
    None,
    /// One endpoint for all destinations.
    EndpointIndependent,
    /// One endpoint for all ports of a destination address.
    AddressDependent,
    /// Another endpoint for each destination.
    AddressAndPortDependent,
}

/// How a round ended for the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoundResult {
    /// A direct connection stands and is proved.
    Connected,
    /// A connection through the relay is proved.
    Relayed,
    /// No connection; the next round, please.
    Failed,
    /// The peer doesn't want the connection any more.
    GivenUp,
}

/// A message over the main connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// See [`Welcome`].
    Welcome(Welcome),
    /// See [`Refused`].
    Refused(Refused),
    /// S closes this session.
    Closing {
        /// Why.
        code: ClosingCode,
        /// The same for a person; may be empty.
        text: String,
    },
    /// S stops: nothing new is granted, and [`Self::Closing`] follows when nothing of this session is in
    /// progress any more.
    Draining {
        /// Come back within this time, at a moment chosen at random. Milliseconds.
        spread: u32,
        /// Another rendezvous to go to, as `KEY@HOST:PORT`; empty if there is none.
        to: String,
    },
    /// Bring me together with a peer.
    Introduce {
        /// A number for the answer, not 0.
        request: u32,
        /// Whom.
        peer: PeerId,
        /// The local port to be released from. A hole's probe has come to a hole port before, or is
        /// on its way; its tag is the peer's own choice, below [`CHOSEN_BY_SERVER`].
        from: Port,
    },
    /// Open a fresh hole: a new local port that listens, and a probe from it to a hole port.
    Prepare {
        /// Goes into the probe.
        tag: u64,
        /// The round that it is for; goes into the probe.
        round: u8,
        /// Probes in all: those beyond the first go out beside it, from fresh local ports of their own,
        /// to show what the NAT hands out next.
        probes: u8,
    },
    /// See [`Release`].
    Release(Box<Release>),
    /// How a round ended.
    Outcome {
        /// Which introduction.
        introduction: u64,
        /// Which round.
        round: u8,
        /// How.
        result: RoundResult,
    },
    /// The introduction is over.
    Cancelled {
        /// Which introduction.
        introduction: u64,
        /// Why.
        code: RefusalCode,
    },
    /// The other peer waits at the relay.
    Awaited {
        /// In which introduction.
        introduction: u64,
    },
    /// Tell me who of these comes and goes, of those that allow me. Replaces an earlier list.
    Watch {
        /// Whom.
        peers: Vec<PeerId>,
    },
    /// Enter a room: its members hear of each other.
    Join {
        /// Its name.
        room: String,
    },
    /// A peer came or went: the article's announcement of a new user.
    Presence {
        /// Who.
        peer: PeerId,
        /// Came, or was there before us.
        online: bool,
        /// The room in which it was seen; empty for a watched peer.
        room: String,
    },
    /// Replaces the consent given at login.
    Allow(Allow),
    /// What the peer has learnt about its NAT since login.
    Update {
        /// What the NAT has shown.
        nat: Nat,
        /// Addresses of the peer's interfaces.
        hosts: Vec<IpAddr>,
        /// Where routers map the main port because they were asked to.
        mapped: Vec<SocketAddr>,
        /// External addresses that the NAT hands out beside the one that S sees.
        pool: Vec<IpAddr>,
    },
    /// Dial me back at the endpoint of a hole, so that I learn what my NAT lets in.
    DialBack {
        /// The hole: one of the peer's own choice, which has shown.
        tag: u64,
    },
    /// The answer to [`Self::DialBack`].
    DialedBack {
        /// The hole.
        tag: u64,
        /// From the address that the hole connection goes to, and another port.
        same_address: DialBackEnd,
        /// From another address.
        other_address: DialBackEnd,
    },
    /// Answer with the same value.
    Ping(u64),
    /// The answer.
    Pong(u64),
    /// A type that this version doesn't know. Skip it. Never sent.
    Unknown(u8),
}

impl Mapping {
    /// Whether the endpoint that S observed is the one that others will see, too. What isn't known
    /// is tried.
    pub fn is_shared(self) -> bool {
        !matches!(self, Self::AddressDependent | Self::AddressAndPortDependent)
    }
}

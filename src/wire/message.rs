//! What a peer and the rendezvous say to each other over the main connection.
//!
//! ```text
//! type  message    from → to   fields, in the order of the structs below
//! 0x01  Welcome    S → peer    id, observed, token, hole endpoints, text
//! 0x02  Refused    S → peer    request, code, text
//! 0x03  Closing    S → peer    code, text
//! 0x10  Introduce  peer → S    request, peer, port to be released from
//! 0x11  Prepare    S → peer    tag, round
//! 0x12  Release    S → peer    introduction, request, round, role, delay, peer's key, its nonce,
//!                              token, port to dial from, its mapping, its candidates
//! 0x13  Outcome    peer → S    introduction, round, result
//! 0x14  Cancelled  S → peer    introduction, code
//! 0x20  Watch      peer → S    peers
//! 0x21  Join       peer → S    room
//! 0x22  Presence   S → peer    peer, online, room
//! 0x30  Allow      peer → S    anybody, peers
//! 0x31  Update     peer → S    mapping, host addresses
//! 0x40  Ping       either      value
//! 0x41  Pong       either      value
//! ```
//!
//! A message is one sealed frame: `type: u8 | fields`. A type that the reader doesn't know is skipped;
//! fields after the last one that it knows are ignored. How fields look: [`super::codec`]. The
//! [`Login`] isn't in the table: it travels inside the handshake ([`super::noise`]).

use std::net::{IpAddr, SocketAddr};

use super::codec::{DecodeError, Reader, Writer};
pub use super::refusal::{ClosingCode, RefusalCode};
use crate::identity::{PeerId, PublicKey};
use crate::limits;

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
    /// How the other peer's NAT maps.
    pub mapping: Mapping,
    /// Where the other peer may be reached.
    pub candidates: Vec<Candidate>,
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
        /// How the NAT maps.
        mapping: Mapping,
        /// Addresses of the peer's interfaces.
        hosts: Vec<IpAddr>,
    },
    /// Answer with the same value.
    Ping(u64),
    /// The answer.
    Pong(u64),
    /// A type that this version doesn't know. Skip it. Never sent.
    Unknown(u8),
}

mod kind {
    pub(super) const WELCOME: u8 = 0x01;
    pub(super) const REFUSED: u8 = 0x02;
    pub(super) const CLOSING: u8 = 0x03;
    pub(super) const INTRODUCE: u8 = 0x10;
    pub(super) const PREPARE: u8 = 0x11;
    pub(super) const RELEASE: u8 = 0x12;
    pub(super) const OUTCOME: u8 = 0x13;
    pub(super) const CANCELLED: u8 = 0x14;
    pub(super) const WATCH: u8 = 0x20;
    pub(super) const JOIN: u8 = 0x21;
    pub(super) const PRESENCE: u8 = 0x22;
    pub(super) const ALLOW: u8 = 0x30;
    pub(super) const UPDATE: u8 = 0x31;
    pub(super) const PING: u8 = 0x40;
    pub(super) const PONG: u8 = 0x41;
}

impl Message {
    /// Appends `type | fields`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Welcome(welcome) => {
                out.put_u8(kind::WELCOME);
                welcome.encode(out);
            }
            Self::Refused(Refused { request, code, text }) => {
                out.put_u8(kind::REFUSED);
                out.put_u32(*request);
                out.put_u8(code.to_byte());
                out.put_text(text, limits::TEXT_BYTES);
            }
            Self::Closing { code, text } => {
                out.put_u8(kind::CLOSING);
                out.put_u8(code.to_byte());
                out.put_text(text, limits::TEXT_BYTES);
            }
            Self::Introduce { request, peer, from } => {
                out.put_u8(kind::INTRODUCE);
                out.put_u32(*request);
                out.put(peer.as_bytes());
                from.encode(out);
            }
            Self::Prepare { tag, round } => {
                out.put_u8(kind::PREPARE);
                out.put_u64(*tag);
                out.put_u8(*round);
            }
            Self::Release(release) => {
                out.put_u8(kind::RELEASE);
                release.encode(out);
            }
            Self::Outcome { introduction, round, result } => {
                out.put_u8(kind::OUTCOME);
                out.put_u64(*introduction);
                out.put_u8(*round);
                out.put_u8(result.to_byte());
            }
            Self::Cancelled { introduction, code } => {
                out.put_u8(kind::CANCELLED);
                out.put_u64(*introduction);
                out.put_u8(code.to_byte());
            }
            Self::Watch { peers } => {
                out.put_u8(kind::WATCH);
                put_peers(out, peers, limits::WATCHED_PEERS);
            }
            Self::Join { room } => {
                out.put_u8(kind::JOIN);
                out.put_text(room, limits::ROOM_NAME_BYTES);
            }
            Self::Presence { peer, online, room } => {
                out.put_u8(kind::PRESENCE);
                out.put(peer.as_bytes());
                out.put_bool(*online);
                out.put_text(room, limits::ROOM_NAME_BYTES);
            }
            Self::Allow(allow) => {
                out.put_u8(kind::ALLOW);
                allow.encode(out);
            }
            Self::Update { mapping, hosts } => {
                out.put_u8(kind::UPDATE);
                out.put_u8(mapping.to_byte());
                put_hosts(out, hosts);
            }
            Self::Ping(value) => {
                out.put_u8(kind::PING);
                out.put_u64(*value);
            }
            Self::Pong(value) => {
                out.put_u8(kind::PONG);
                out.put_u64(*value);
            }
            Self::Unknown(kind) => unreachable!("an unknown message ({kind:#x}) is never sent"),
        }
    }

    /// Reads `type | fields`.
    ///
    /// # Errors
    /// [`DecodeError`] names the field at fault. A type that isn't known is no error.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let r = &mut reader;
        Ok(match r.u8("type")? {
            kind::WELCOME => Self::Welcome(Welcome::decode(r)?),
            kind::REFUSED => Self::Refused(Refused {
                request: r.u32("request")?,
                code: RefusalCode::from_byte(r.u8("code")?),
                text: r.text("text", limits::TEXT_BYTES)?,
            }),
            kind::CLOSING => Self::Closing {
                code: ClosingCode::from_byte(r.u8("code")?),
                text: r.text("text", limits::TEXT_BYTES)?,
            },
            kind::INTRODUCE => Self::Introduce {
                request: r.u32("request")?,
                peer: r.peer_id("peer")?,
                from: Port::decode(r)?,
            },
            kind::PREPARE => Self::Prepare { tag: r.u64("tag")?, round: r.u8("round")? },
            kind::RELEASE => Self::Release(Box::new(Release::decode(r)?)),
            kind::OUTCOME => Self::Outcome {
                introduction: r.u64("introduction")?,
                round: r.u8("round")?,
                result: RoundResult::from_byte(r.u8("result")?)?,
            },
            kind::CANCELLED => Self::Cancelled {
                introduction: r.u64("introduction")?,
                code: RefusalCode::from_byte(r.u8("code")?),
            },
            kind::WATCH => Self::Watch { peers: peers(r, limits::WATCHED_PEERS)? },
            kind::JOIN => Self::Join { room: r.text("room", limits::ROOM_NAME_BYTES)? },
            kind::PRESENCE => Self::Presence {
                peer: r.peer_id("peer")?,
                online: r.bool("online")?,
                room: r.text("room", limits::ROOM_NAME_BYTES)?,
            },
            kind::ALLOW => Self::Allow(Allow::decode(r)?),
            kind::UPDATE => {
                Self::Update { mapping: Mapping::from_byte(r.u8("mapping")?), hosts: hosts(r)? }
            }
            kind::PING => Self::Ping(r.u64("value")?),
            kind::PONG => Self::Pong(r.u64("value")?),
            unknown => Self::Unknown(unknown),
        })
    }
}

impl Login {
    /// Appends the fields.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_bool(self.reachable);
        out.put(&self.nonce);
        out.put_u16(self.local_port);
        put_hosts(out, &self.hosts);
        self.allow.encode(out);
        out.put_text(&self.agent, limits::TEXT_BYTES);
    }

    /// Reads the fields.
    ///
    /// # Errors
    /// [`DecodeError`] names the field at fault.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let r = &mut Reader::new(bytes);
        Ok(Self {
            reachable: r.bool("reachable")?,
            nonce: r.array("nonce")?,
            local_port: r.u16("local port")?,
            hosts: hosts(r)?,
            allow: Allow::decode(r)?,
            agent: r.text("agent", limits::TEXT_BYTES)?,
        })
    }
}

impl Allow {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_bool(self.anyone);
        put_peers(out, &self.peers, limits::ALLOWED_PEERS);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { anyone: r.bool("anyone")?, peers: peers(r, limits::ALLOWED_PEERS)? })
    }
}

impl Welcome {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put(self.id.as_bytes());
        out.put_address(self.observed);
        out.put(&self.token);
        out.put_list(&self.holes, limits::HOLE_ENDPOINTS, |out, hole| out.put_address(*hole));
        out.put_text(&self.text, limits::TEXT_BYTES);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: r.peer_id("id")?,
            observed: r.address("observed")?,
            token: r.array("token")?,
            holes: r.list("holes", limits::HOLE_ENDPOINTS, |r| r.address("holes"))?,
            text: r.text("text", limits::TEXT_BYTES)?,
        })
    }
}

impl Release {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.introduction);
        out.put_u32(self.request);
        out.put_u8(self.round);
        out.put_u8(self.role.to_byte());
        out.put_u32(self.delay);
        out.put(self.key.as_bytes());
        out.put(&self.nonce);
        out.put(&self.token);
        self.from.encode(out);
        out.put_u8(self.mapping.to_byte());
        out.put_list(&self.candidates, limits::CANDIDATES, |out, candidate| {
            out.put_u8(candidate.kind.to_byte());
            out.put_address(candidate.address);
        });
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            introduction: r.u64("introduction")?,
            request: r.u32("request")?,
            round: r.u8("round")?,
            role: Role::from_byte(r.u8("role")?)?,
            delay: r.u32("delay")?,
            key: r.key("key")?,
            nonce: r.array("nonce")?,
            token: r.array("token")?,
            from: Port::decode(r)?,
            mapping: Mapping::from_byte(r.u8("mapping")?),
            candidates: r
                .list("candidates", limits::CANDIDATES, |r| {
                    let kind = CandidateKind::from_byte(r.u8("candidates")?);
                    let address = r.address("candidates")?;
                    Ok(kind.map(|kind| Candidate { kind, address }))
                })?
                .into_iter()
                .flatten()
                .collect(),
        })
    }
}

fn put_peers(out: &mut Vec<u8>, peers: &[PeerId], limit: usize) {
    out.put_list(peers, limit, |out, peer| out.put(peer.as_bytes()));
}

fn peers(r: &mut Reader<'_>, limit: usize) -> Result<Vec<PeerId>, DecodeError> {
    r.list("peers", limit, |r| r.peer_id("peers"))
}

fn put_hosts(out: &mut Vec<u8>, hosts: &[IpAddr]) {
    out.put_list(hosts, limits::HOST_ADDRESSES, |out, host| out.put_ip(*host));
}

fn hosts(r: &mut Reader<'_>) -> Result<Vec<IpAddr>, DecodeError> {
    r.list("hosts", limits::HOST_ADDRESSES, |r| r.ip("hosts"))
}

impl Port {
    fn encode(self, out: &mut Vec<u8>) {
        match self {
            Self::Main => out.put_u8(0),
            Self::Hole(tag) => {
                out.put_u8(1);
                out.put_u64(tag);
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.u8("port")? {
            0 => Ok(Self::Main),
            1 => Ok(Self::Hole(r.u64("port")?)),
            _ => Err(DecodeError::Invalid("port")),
        }
    }
}

impl Role {
    fn to_byte(self) -> u8 {
        match self {
            Self::Controller => 0,
            Self::Controlled => 1,
        }
    }

    fn from_byte(byte: u8) -> Result<Self, DecodeError> {
        match byte {
            0 => Ok(Self::Controller),
            1 => Ok(Self::Controlled),
            _ => Err(DecodeError::Invalid("role")),
        }
    }
}

impl CandidateKind {
    fn to_byte(self) -> u8 {
        match self {
            Self::Host => 0,
            Self::ServerReflexive => 1,
        }
    }

    /// A kind that a newer version may have is no error: that candidate is left out.
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Host),
            1 => Some(Self::ServerReflexive),
            _ => None,
        }
    }
}

impl Mapping {
    fn to_byte(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::None => 1,
            Self::EndpointIndependent => 2,
            Self::AddressDependent => 3,
            Self::AddressAndPortDependent => 4,
        }
    }

    fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::None,
            2 => Self::EndpointIndependent,
            3 => Self::AddressDependent,
            4 => Self::AddressAndPortDependent,
            _ => Self::Unknown,
        }
    }

    /// Whether the endpoint that S observed is the one that others will see, too. What isn't known
    /// is tried.
    pub fn is_shared(self) -> bool {
        !matches!(self, Self::AddressDependent | Self::AddressAndPortDependent)
    }
}

impl RoundResult {
    fn to_byte(self) -> u8 {
        match self {
            Self::Connected => 0,
            Self::Failed => 1,
            Self::GivenUp => 2,
        }
    }

    fn from_byte(byte: u8) -> Result<Self, DecodeError> {
        match byte {
            0 => Ok(Self::Connected),
            1 => Ok(Self::Failed),
            2 => Ok(Self::GivenUp),
            _ => Err(DecodeError::Invalid("result")),
        }
    }
}

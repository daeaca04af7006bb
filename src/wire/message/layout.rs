//! The layout of each message: fields in the order of the structs.

use std::net::IpAddr;

use super::{
    Allow, Candidate, CandidateKind, DialBackEnd, Login, Message, Nat, Port, Refused, Release,
    Role, RoundResult, Spray, Welcome,
};
use crate::identity::PeerId;
use crate::limits;
use crate::wire::codec::{DecodeError, Reader, Writer};
use crate::wire::refusal::{ClosingCode, RefusalCode};

mod kind {
    pub(super) const WELCOME: u8 = 0x01;
    pub(super) const REFUSED: u8 = 0x02;
    pub(super) const CLOSING: u8 = 0x03;
    pub(super) const DRAINING: u8 = 0x04;
    pub(super) const INTRODUCE: u8 = 0x10;
    pub(super) const PREPARE: u8 = 0x11;
    pub(super) const RELEASE: u8 = 0x12;
    pub(super) const OUTCOME: u8 = 0x13;
    pub(super) const CANCELLED: u8 = 0x14;
    pub(super) const AWAITED: u8 = 0x15;
    pub(super) const WATCH: u8 = 0x20;
    pub(super) const JOIN: u8 = 0x21;
    pub(super) const PRESENCE: u8 = 0x22;
    pub(super) const ALLOW: u8 = 0x30;
    pub(super) const UPDATE: u8 = 0x31;
    pub(super) const DIAL_BACK: u8 = 0x32;
    pub(super) const DIALED_BACK: u8 = 0x33;
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
            Self::Draining { spread, to } => {
                out.put_u8(kind::DRAINING);
                out.put_u32(*spread);
                out.put_text(to, limits::SERVER_ADDRESS_BYTES);
            }
            Self::Introduce { request, peer, from } => {
                out.put_u8(kind::INTRODUCE);
                out.put_u32(*request);
                out.put(peer.as_bytes());
                from.encode(out);
            }
            Self::Prepare { tag, round, probes } => {
                out.put_u8(kind::PREPARE);
                out.put_u64(*tag);
                out.put_u8(*round);
                out.put_u8(*probes);
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
            Self::Awaited { introduction } => {
                out.put_u8(kind::AWAITED);
                out.put_u64(*introduction);
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
            Self::Update { nat, hosts, mapped, pool } => {
                out.put_u8(kind::UPDATE);
                nat.encode(out);
                put_hosts(out, hosts);
                out.put_list(mapped, limits::MAPPED_ENDPOINTS, |out, it| out.put_address(*it));
                out.put_list(pool, limits::POOL_ADDRESSES, |out, ip| out.put_ip(*ip));
            }
            Self::DialBack { tag } => {
                out.put_u8(kind::DIAL_BACK);
                out.put_u64(*tag);
            }
            Self::DialedBack { tag, same_address, other_address } => {
                out.put_u8(kind::DIALED_BACK);
                out.put_u64(*tag);
                out.put_u8(same_address.to_byte());
                out.put_u8(other_address.to_byte());
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
            kind::DRAINING => Self::Draining {
                spread: r.u32("spread")?,
                to: r.text("to", limits::SERVER_ADDRESS_BYTES)?,
            },
            kind::INTRODUCE => Self::Introduce {
                request: r.u32("request")?,
                peer: r.peer_id("peer")?,
                from: Port::decode(r)?,
            },
            kind::PREPARE => {
                Self::Prepare { tag: r.u64("tag")?, round: r.u8("round")?, probes: r.u8("probes")? }
            }
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
            kind::AWAITED => Self::Awaited { introduction: r.u64("introduction")? },
            kind::WATCH => Self::Watch { peers: peers(r, limits::WATCHED_PEERS)? },
            kind::JOIN => Self::Join { room: r.text("room", limits::ROOM_NAME_BYTES)? },
            kind::PRESENCE => Self::Presence {
                peer: r.peer_id("peer")?,
                online: r.bool("online")?,
                room: r.text("room", limits::ROOM_NAME_BYTES)?,
            },
            kind::ALLOW => Self::Allow(Allow::decode(r)?),
            kind::UPDATE => Self::Update {
                nat: Nat::decode(r)?,
                hosts: hosts(r)?,
                mapped: r.list("mapped", limits::MAPPED_ENDPOINTS, |r| r.address("mapped"))?,
                pool: r.list("pool", limits::POOL_ADDRESSES, |r| r.ip("pool"))?,
            },
            kind::DIAL_BACK => Self::DialBack { tag: r.u64("tag")? },
            kind::DIALED_BACK => Self::DialedBack {
                tag: r.u64("tag")?,
                same_address: DialBackEnd::from_byte(r.u8("same address")?),
                other_address: DialBackEnd::from_byte(r.u8("other address")?),
            },
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
        self.nat.encode(out);
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
            nat: Nat::decode(r)?,
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
        self.nat.encode(out);
        out.put_list(&self.candidates, limits::CANDIDATES, |out, candidate| {
            out.put_u8(candidate.kind.to_byte());
            out.put_address(candidate.address);
        });
        out.put_u16(self.sockets);
        out.put(&self.rows);
        out.put_bool(self.spray.is_some());
        if let Some(spray) = self.spray {
            out.put_ip(spray.ip);
            out.put_u16(spray.first);
            out.put_u16(spray.last);
            out.put_u16(spray.dials);
        }
        out.put_bool(self.relay.is_some());
        if let Some(relay) = self.relay {
            out.put_address(relay);
        }
        out.put_bool(self.hopeful);
        out.put_bool(self.brief);
        out.put_bool(self.yields);
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
            nat: Nat::decode(r)?,
            candidates: r
                .list("candidates", limits::CANDIDATES, |r| {
                    let kind = CandidateKind::from_byte(r.u8("candidates")?);
                    let address = r.address("candidates")?;
                    Ok(kind.map(|kind| Candidate { kind, address }))
                })?
                .into_iter()
                .flatten()
                .collect(),
            sockets: r.u16("sockets")?,
            rows: r.array("rows")?,
            spray: match r.bool("spray")? {
                true => Some(Spray {
                    ip: r.ip("spray")?,
                    first: r.u16("spray")?,
                    last: r.u16("spray")?,
                    dials: r.u16("spray")?,
                }),
                false => None,
            },
            relay: r.bool("relay")?.then(|| r.address("relay")).transpose()?,
            hopeful: r.bool("hopeful")?,
            brief: r.bool("brief")?,
            yields: r.bool("yields")?,
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
    pub(in crate::wire) fn to_byte(self) -> u8 {
        match self {
            Self::Controller => 0,
            Self::Controlled => 1,
        }
    }

    pub(in crate::wire) fn from_byte(byte: u8) -> Result<Self, DecodeError> {
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
            Self::Predicted => 2,
            Self::PortMapped => 3,
            Self::Relayed => 4,
        }
    }

    /// A kind that a newer version may have is no error: that candidate is left out.
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Host),
            1 => Some(Self::ServerReflexive),
            2 => Some(Self::Predicted),
            3 => Some(Self::PortMapped),
            4 => Some(Self::Relayed),
            _ => None,
        }
    }
}

impl DialBackEnd {
    fn to_byte(self) -> u8 {
        match self {
            Self::NotMade => 0,
            Self::Connected => 1,
            Self::Rst => 2,
            Self::Icmp => 3,
            Self::Silence => 4,
        }
    }

    fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Connected,
            2 => Self::Rst,
            3 => Self::Icmp,
            4 => Self::Silence,
            _ => Self::NotMade,
        }
    }
}

impl RoundResult {
    fn to_byte(self) -> u8 {
        match self {
            Self::Connected => 0,
            Self::Failed => 1,
            Self::GivenUp => 2,
            Self::Relayed => 3,
        }
    }

    fn from_byte(byte: u8) -> Result<Self, DecodeError> {
        match byte {
            0 => Ok(Self::Connected),
            1 => Ok(Self::Failed),
            2 => Ok(Self::GivenUp),
            3 => Ok(Self::Relayed),
            _ => Err(DecodeError::Invalid("result")),
        }
    }
}

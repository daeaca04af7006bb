//! What goes over the simulated wires: TCP segments, and ICMP errors that quote one.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use gimlet::identity::PublicKey;
use gimlet::wire::message::{Message, Nonce, Token};

/// Virtual time since the world began, in nanoseconds: exact, since machines set jittered timers.
pub(crate) type Nanos = u64;

pub(crate) const MICROSECOND: Nanos = 1_000;
pub(crate) const MILLISECOND: Nanos = 1_000_000;
pub(crate) const SECOND: Nanos = 1_000_000_000;

/// An IPv4 transport address, in six bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    pub(crate) ip: u32,
    pub(crate) port: u16,
}

impl Endpoint {
    pub(crate) const fn new(ip: Ipv4Addr, port: u16) -> Self {
        Self { ip: ip.to_bits(), port }
    }

    /// None for IPv6, which the simulator doesn't speak.
    pub(crate) fn of(address: SocketAddr) -> Option<Self> {
        match address {
            SocketAddr::V4(v4) => Some(Self::new(*v4.ip(), v4.port())),
            SocketAddr::V6(_) => None,
        }
    }

    pub(crate) fn key(self) -> u64 {
        u64::from(self.ip) << 16 | u64::from(self.port)
    }
}

/// A pair of endpoints as a key.
pub(crate) fn pair(one: Endpoint, other: Endpoint) -> u128 {
    u128::from(one.key()) << 64 | u128::from(other.key())
}

impl From<Endpoint> for SocketAddr {
    fn from(endpoint: Endpoint) -> Self {
        Self::new(IpAddr::V4(Ipv4Addr::from_bits(endpoint.ip)), endpoint.port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", Ipv4Addr::from_bits(self.ip), self.port)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: Endpoint,
    pub(crate) to: Endpoint,
    pub(crate) content: Content,
}

#[derive(Clone, Debug)]
pub(crate) enum Content {
    Segment(Segment),
    /// ICMP "destination unreachable", which quotes a packet that went from here to there.
    Unreachable {
        code: u8,
        quoted_from: Endpoint,
        quoted_to: Endpoint,
    },
}

/// A SYN takes one sequence number, so does a frame, so does a FIN.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) flags: u8,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) frame: Option<Rc<Frame>>,
}

impl Segment {
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The first of a connection.
    pub(crate) fn is_syn(&self) -> bool {
        self.flags & (SYN | ACK | RST) == SYN
    }

    /// What a closed port answers (RFC 9293 §3.10.7.1).
    pub(crate) fn refusal(&self) -> Self {
        let length = u32::from(self.has(SYN)) + u32::from(self.has(FIN));
        let length = length + u32::from(self.frame.is_some());
        match self.has(ACK) {
            true => Self { flags: RST, seq: self.ack, ack: 0, frame: None },
            false => {
                let ack = self.seq.wrapping_add(length);
                Self { flags: RST | ACK, seq: 0, ack, frame: None }
            }
        }
    }
}

impl Packet {
    pub(crate) fn segment(&self) -> Option<&Segment> {
        match &self.content {
            Content::Segment(segment) => Some(segment),
            Content::Unreachable { .. } => None,
        }
    }

    /// The answer of a router that refuses the packet with an RST.
    pub(crate) fn reset(&self) -> Option<Self> {
        let content = Content::Segment(self.segment()?.refusal());
        Some(Self { from: self.to, to: self.from, content })
    }

    /// The answer of a router that refuses the packet with an ICMP error.
    pub(crate) fn unreachable(&self, code: u8) -> Self {
        let (quoted_from, quoted_to) = (self.from, self.to);
        let content = Content::Unreachable { code, quoted_from, quoted_to };
        Self { from: self.to, to: self.from, content }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {} ", self.from, self.to)?;
        let segment = match &self.content {
            Content::Segment(segment) => segment,
            Content::Unreachable { code, quoted_from, quoted_to } => {
                return write!(f, "ICMP unreachable ({code}) for {quoted_from} > {quoted_to}");
            }
        };
        let names = [(SYN, "SYN"), (FIN, "FIN"), (RST, "RST"), (ACK, "ACK")];
        for (flag, name) in names {
            if segment.has(flag) {
                write!(f, "{name} ")?;
            }
        }
        write!(f, "seq {:x} ack {:x}", segment.seq, segment.ack)?;
        match &segment.frame {
            Some(frame) => write!(f, " {frame:?}"),
            None => Ok(()),
        }
    }
}

/// What programs say to each other.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// The three messages of a login's handshake. The last one carries an encoded login.
    Hello,
    Reply,
    Login {
        key: PublicKey,
        login: Vec<u8>,
    },
    /// An encoded message of a main connection.
    Message(Vec<u8>),
    /// Bytes on a hole connection.
    Stun(Vec<u8>),
    /// The frames between two peers.
    Claim {
        introduction: u64,
        token: Token,
    },
    Offer {
        introduction: u64,
        token: Token,
        proof: Proof,
    },
    Answer(Proof),
    /// Sealed, once there is a proof: the first one confirms.
    Record,
    /// A stranger's words.
    Gibberish,
}

impl fmt::Debug for Frame {
    /// Short, for traces.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hello => f.write_str("hello"),
            Self::Reply => f.write_str("reply"),
            Self::Login { .. } => f.write_str("login"),
            Self::Message(bytes) => match Message::decode(bytes) {
                Ok(message) => message.fmt(f),
                Err(error) => error.fmt(f),
            },
            Self::Stun(bytes) => write!(f, "STUN, {} bytes", bytes.len()),
            Self::Claim { introduction, .. } => write!(f, "claim {introduction}"),
            Self::Offer { introduction, .. } => write!(f, "offer {introduction}"),
            Self::Answer(proof) => write!(f, "answer {}", proof.introduction),
            Self::Record => f.write_str("record"),
            Self::Gibberish => f.write_str("gibberish"),
        }
    }
}

/// What Noise KK would prove: both sides name the same introduction, and each other. Only the owner of
/// a key writes its own in `from`: strangers of the simulator have keys of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    pub(crate) from: PublicKey,
    pub(crate) to: PublicKey,
    pub(crate) introduction: u64,
    pub(crate) token: Token,
    pub(crate) nonce: Nonce,
}

/// A table that is fast, and the same in each run.
pub(crate) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<FastHasher>>;

/// Multiplies and folds: the keys come from our own seeds, and nobody attacks them.
#[derive(Clone, Copy, Default)]
pub(crate) struct FastHasher(u64);

impl FastHasher {
    fn mix(&mut self, value: u64) {
        let product = u128::from(self.0 ^ value ^ 0x2545_f491_4f6c_dd1d) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

impl Hasher for FastHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u16(&mut self, value: u16) {
        self.mix(value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.mix(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    fn write_u128(&mut self, value: u128) {
        self.mix(value as u64);
        self.mix((value >> 64) as u64);
    }
}

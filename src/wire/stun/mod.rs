//! STUN over TCP: the Binding method of RFC 8489 with OTHER-ADDRESS of RFC 5780. Bytes to values and
//! back; no sockets, and no memory of its own.
//!
//! Peers ask the hole ports how their NAT maps a local port, and so can any stock STUN client. We
//! have our own codec because the maintained crate, `stun-types`, brings tracing, rand, thiserror,
//! hmac, md-5, sha1, sha2 and crc along, for message integrity that a Binding over TCP never uses.
//! The tests check this codec against it in both directions.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-----------------------------------------------------------+
//! |0 0|   message type            |  bytes after the header       |  header, 20 bytes
//! +-------------------------------+-------------------------------+  (RFC 8489 §5)
//! |                   magic cookie 0x2112A442                     |
//! |                   transaction id, 12 bytes                    |
//! +-------------------------------+-------------------------------+
//! |   attribute type              |  bytes of the value           |  attributes, each padded to
//! |   value …                                                     |  4 bytes (RFC 8489 §14)
//! +---------------------------------------------------------------+
//!
//! GIMLET-PROBE, whose value is 28 bytes:
//! +---------------------------------------------------------------+
//! |   token, 16 bytes                                             |
//! |   tag, 8 bytes                                                |
//! +---------------+---------------+-------------------------------+
//! |   round       |   0           |  local port                   |
//! +---------------+---------------+-------------------------------+
//!
//! GIMLET-RELAY, whose value is 44 bytes:
//! +---------------------------------------------------------------+
//! |   token of the session, 16 bytes                              |
//! |   number of the introduction, 8 bytes                         |
//! |   token of the introduction, 16 bytes                         |
//! +---------------+-----------------------------------------------+
//! |   role        |   0                                           |
//! +---------------+-----------------------------------------------+
//!
//! GIMLET-DELAY, whose value is 4 bytes:
//! +---------------------------------------------------------------+
//! |   seconds                                                     |
//! +---------------------------------------------------------------+
//! ```
//!
//! A request with GIMLET-RELAY is the last message of its connection. It is answered once both peers
//! of the introduction have sent theirs: after a success, every byte is relayed from one connection
//! to the other; until then, the peer is silent.
//!
//! A request with GIMLET-DELAY is answered after so many seconds, in which nothing else is said on its
//! connection: if the answer comes, the NAT has kept an idle mapping for so long.
//!
//! Over TCP a message says itself how long it is (RFC 8489 §6.2.2), so that [`decode()`] cuts a
//! stream into messages. Whatever it refuses can't be read past: the connection is closed.

mod decode;
mod encode;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::message::Role;
pub use decode::decode;
pub use encode::{binding_error, binding_request, binding_success, delayed_request, relay_request};

/// Largest message that is read, header included, in bytes. A Binding is small: the largest that we
/// write is below 256, and over UDP, from which stock servers come, 576 are safe (RFC 8489 §6.1).
/// The rest is room for attributes that we ignore.
pub const MESSAGE_BYTES: usize = 1024;

/// How many unknown attributes of one message are listed. Honest clients send one or two
/// (CHANGE-REQUEST); the answer needn't name all that a hostile one makes up.
pub const UNKNOWN_ATTRIBUTES: usize = 8;

/// Bytes of a transaction id (RFC 8489 §5).
pub const TRANSACTION_BYTES: usize = 12;

/// Relates a response to its request. Chosen at random by the client (RFC 8489 §5).
pub type Transaction = [u8; TRANSACTION_BYTES];

/// Bytes of a header (RFC 8489 §5).
const HEADER_BYTES: usize = 20;

/// "The Magic Cookie field MUST contain the fixed value 0x2112A442" (RFC 8489 §5).
const COOKIE: u32 = 0x2112_A442;

/// What FINGERPRINT's CRC is XORed with: it is "STUN" (RFC 8489 §14.7).
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// The Binding method (RFC 8489 §18.2).
const BINDING: u16 = 0x001;

/// Bytes of a GIMLET-PROBE's value.
const PROBE_BYTES: usize = 28;

/// Bytes of a GIMLET-RELAY's value.
const JOIN_BYTES: usize = 44;

/// Bytes of a GIMLET-DELAY's value.
const DELAY_BYTES: usize = 4;

/// Error codes that a Binding server answers with (RFC 8489 §14.8).
pub mod code {
    /// The request was malformed.
    pub const BAD_REQUEST: u16 = 400;
    /// The request has a comprehension-required attribute that the server doesn't know.
    pub const UNKNOWN_ATTRIBUTE: u16 = 420;
    /// The server has a passing problem: try again.
    pub const SERVER_ERROR: u16 = 500;
}

/// Attribute types (RFC 8489 §18.3, RFC 5780 §9.1). Those below 0x8000 must be understood
/// (comprehension-required), the others may be ignored.
mod attribute {
    pub(super) const MAPPED_ADDRESS: u16 = 0x0001;
    /// Reserved; stock servers still send it to old clients (RFC 3489 §11.2.5).
    pub(super) const SOURCE_ADDRESS: u16 = 0x0004;
    /// Reserved; stock servers still send it to old clients (RFC 3489 §11.2.3).
    pub(super) const CHANGED_ADDRESS: u16 = 0x0005;
    pub(super) const USERNAME: u16 = 0x0006;
    pub(super) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(super) const ERROR_CODE: u16 = 0x0009;
    pub(super) const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
    pub(super) const REALM: u16 = 0x0014;
    pub(super) const NONCE: u16 = 0x0015;
    pub(super) const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
    pub(super) const PASSWORD_ALGORITHM: u16 = 0x001D;
    pub(super) const USERHASH: u16 = 0x001E;
    pub(super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub(super) const SOFTWARE: u16 = 0x8022;
    pub(super) const FINGERPRINT: u16 = 0x8028;
    pub(super) const OTHER_ADDRESS: u16 = 0x802C;
    /// Ours, "GM" with the top bit of each letter set: from the range of expert review, not
    /// assigned, and comprehension-optional, so that a stock server ignores it.
    pub(super) const GIMLET_PROBE: u16 = 0xC7CD;
    /// Ours likewise, and the next number. A stock server would answer at once, as to any client:
    /// whoever is then relayed to is no peer, and does not pass the handshake.
    pub(super) const GIMLET_RELAY: u16 = 0xC7CE;
    /// Ours likewise. A stock server answers at once, which the client notices.
    pub(super) const GIMLET_DELAY: u16 = 0xC7CF;

    /// Whether a receiver that doesn't know this attribute must refuse the message (RFC 8489 §14).
    pub(super) fn is_required(kind: u16) -> bool {
        kind < 0x8000
    }
}

/// A message that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Someone asks for its address.
    Request(Request),
    /// The answer to a request.
    Success(Success),
    /// The refusal of a request.
    Error(ErrorResponse<'a>),
    /// A well-formed message that is no part of a Binding transaction. RFC 8489 §6.3 has it ignored.
    Other(Other),
}

/// A Binding request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// To be repeated in the response.
    pub transaction: Transaction,
    /// Whose probe this is, when the client is a Gimlet peer.
    pub probe: Option<Probe>,
    /// Which relay the client joins, if it is for that.
    pub relay: Option<Join>,
    /// After how many seconds the client wants its answer; 0 means at once.
    pub delay: u32,
    /// Attributes that must be understood and aren't. Unless it is empty, the answer is an error 420
    /// that lists them (RFC 8489 §6.3.1). CHANGE-REQUEST of RFC 5780 is such an attribute: an answer
    /// from another address is not possible over TCP.
    pub unknown: UnknownAttributes,
}

/// A Binding success response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Success {
    /// That of the request.
    pub transaction: Transaction,
    /// The client's address as the server sees it.
    pub mapped: SocketAddr,
    /// Where else the server listens, with another address and another port (RFC 5780 §7.4).
    pub other: Option<SocketAddr>,
}

/// A Binding error response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorResponse<'a> {
    /// That of the request.
    pub transaction: Transaction,
    /// 300 to 699; the hundreds are the class.
    pub code: u16,
    /// For people. Up to the first byte that isn't UTF-8.
    pub reason: &'a str,
    /// Attributes of the request that the server didn't understand.
    pub unknown: UnknownAttributes,
}

/// An indication, or a message of another method than Binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Other {
    /// Its transaction.
    pub transaction: Transaction,
    /// Its method; 1 is Binding.
    pub method: u16,
    /// Its class.
    pub class: Class,
}

/// What a message is in its transaction (RFC 8489 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It asks for a response.
    Request,
    /// It asks for none.
    Indication,
    /// It grants a request.
    Success,
    /// It refuses one.
    Error,
}

/// Ties a request to a session on the main port: which peer asks, and for what. The attribute
/// GIMLET-PROBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Probe {
    /// Names the session, in confidence between a peer and its rendezvous.
    pub token: [u8; 16],
    /// Names what the probe is for: chosen by whoever asked for it.
    pub tag: u64,
    /// The round of the punch that it belongs to.
    pub round: u8,
    /// The port that the peer sent it from, as the peer sees it.
    pub local_port: u16,
}

/// One side of an introduction joins the relay. The attribute GIMLET-RELAY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Join {
    /// Names the session, as in a [`Probe`].
    pub session: [u8; 16],
    /// Number of the introduction.
    pub introduction: u64,
    /// The introduction's token.
    pub token: [u8; 16],
    /// Which side the client is.
    pub role: Role,
}

/// A bounded list of attribute types, none twice: the first [`UNKNOWN_ATTRIBUTES`] of a message.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct UnknownAttributes {
    /// Those after `count` are zero.
    kinds: [u16; UNKNOWN_ATTRIBUTES],
    count: u8,
}

impl UnknownAttributes {
    /// The list.
    pub fn as_slice(&self) -> &[u16] {
        &self.kinds[..usize::from(self.count)]
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn add(&mut self, kind: u16) {
        let count = usize::from(self.count);
        if count < UNKNOWN_ATTRIBUTES && !self.as_slice().contains(&kind) {
            self.kinds[count] = kind;
            self.count += 1;
        }
    }
}

impl fmt::Debug for UnknownAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        for kind in self.as_slice() {
            list.entry(&format_args!("{kind:#06x}"));
        }
        list.finish()
    }
}

/// Why bytes are not a STUN message that we can use. All of these are the sender's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StunError {
    /// The first two bits are not zero: another protocol (RFC 8489 §5).
    NotStun,
    /// The magic cookie is wrong: another protocol, or a client of RFC 3489.
    Cookie,
    /// The length is not a multiple of four bytes (RFC 8489 §5).
    Length {
        /// It.
        found: u16,
    },
    /// The message is longer than [`MESSAGE_BYTES`].
    TooLong {
        /// Its length, without the header.
        found: u16,
    },
    /// An attribute reaches beyond the end of the message.
    Truncated {
        /// Its type.
        kind: u16,
    },
    /// The value of an attribute has the wrong form.
    Value {
        /// Its type.
        kind: u16,
    },
    /// FINGERPRINT doesn't fit the message: it was damaged, or is not STUN (RFC 8489 §14.7).
    Fingerprint,
    /// A response lacks the attribute that it is for.
    Missing {
        /// Its type.
        kind: u16,
    },
    /// A success response has an attribute that must be understood and isn't (RFC 8489 §6.3.3).
    Unknown {
        /// Its type.
        kind: u16,
    },
}

impl fmt::Display for StunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotStun => f.write_str("not STUN: the first two bits are not zero"),
            Self::Cookie => f.write_str("not STUN as of RFC 5389 and later: no magic cookie"),
            Self::Length { found } => write!(f, "length {found} is not a multiple of four"),
            Self::TooLong { found } => {
                write!(f, "length {found} and the header exceed {MESSAGE_BYTES} bytes")
            }
            Self::Truncated { kind } => write!(f, "attribute {kind:#06x} exceeds the message"),
            Self::Value { kind } => write!(f, "attribute {kind:#06x} has a malformed value"),
            Self::Fingerprint => f.write_str("the fingerprint does not fit the message"),
            Self::Missing { kind } => write!(f, "attribute {kind:#06x} is missing"),
            Self::Unknown { kind } => write!(f, "attribute {kind:#06x} is required, and unknown"),
        }
    }
}

impl std::error::Error for StunError {}

/// Masks the address of XOR-MAPPED-ADDRESS, or unmasks it: the same operation (RFC 8489 §14.2).
fn xor(address: SocketAddr, transaction: &Transaction) -> SocketAddr {
    let port = address.port() ^ (COOKIE >> 16) as u16;
    let ip = match address.ip() {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() ^ COOKIE)),
        IpAddr::V6(ip) => {
            let mut mask = [0; 16];
            mask[..4].copy_from_slice(&COOKIE.to_be_bytes());
            mask[4..].copy_from_slice(transaction);
            IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() ^ u128::from_be_bytes(mask)))
        }
    };
    SocketAddr::new(ip, port)
}

/// CRC-32 as in ITU-T V.42 and ISO-HDLC: reflected, all ones before and after.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| crc >> 8 ^ CRC_TABLE[usize::from(crc as u8 ^ byte)];
    !bytes.iter().fold(!0, step)
}

const CRC_TABLE: [u32; 256] = crc_table();

const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::encode::{Writer, encode_probe};
    use super::*;
    use proptest::prelude::*;
    use stun_types::attribute as theirs;
    use stun_types::attribute::{AttributeStaticType, RawAttribute};
    use stun_types::message::{
        self as their_message, MessageClass, MessageType, MessageWrite, MessageWriteExt,
        MessageWriteVec, TransactionId,
    };

    const T: Transaction = *b"transaction!";

    /// RFC 5769 §2.1: a request with SOFTWARE, PRIORITY (of ICE, so unknown here), ICE-CONTROLLED,
    /// USERNAME, MESSAGE-INTEGRITY and FINGERPRINT.
    const SAMPLE_REQUEST: &[u8] = b"\x00\x01\x00\x58\x21\x12\xa4\x42\
        \xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
        \x80\x22\x00\x10STUN test client\
        \x00\x24\x00\x04\x6e\x00\x01\xff\
        \x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36\
        \x00\x06\x00\x09evtj:h6vY\x20\x20\x20\
        \x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\
        \xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71\xa2\
        \x80\x28\x00\x04\xe5\x7a\x3b\xcf";

    /// RFC 5769 §2.2: a response with SOFTWARE, an IPv4 address, MESSAGE-INTEGRITY and FINGERPRINT.
    const SAMPLE_RESPONSE_V4: &[u8] = b"\x01\x01\x00\x3c\x21\x12\xa4\x42\
        \xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
        \x80\x22\x00\x0btest vector\x20\
        \x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43\
        \x00\x08\x00\x14\x2b\x91\xf5\x99\xfd\x9e\x90\xc3\x8c\x74\
        \x89\xf9\x2a\xf9\xba\x53\xf0\x6b\xe7\xd7\
        \x80\x28\x00\x04\xc0\x7d\x4c\x96";

    /// RFC 5769 §2.3: the same with an IPv6 address.
    const SAMPLE_RESPONSE_V6: &[u8] = b"\x01\x01\x00\x48\x21\x12\xa4\x42\
        \xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
        \x80\x22\x00\x0btest vector\x20\
        \x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\
        \xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9\
        \x00\x08\x00\x14\xa3\x82\x95\x4e\x4b\xe6\x7b\xf1\x17\x84\
        \xc9\x7c\x82\x92\xc2\x75\xbf\xe3\xed\x41\
        \x80\x28\x00\x04\xc8\xfb\x0b\x4c";

    const SAMPLE_TRANSACTION: Transaction = *b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";

    /// Decodes exactly one message.
    fn decode_one(bytes: &[u8]) -> Result<Message<'_>, StunError> {
        let (message, consumed) = decode(bytes)?.expect("a whole message");
        assert_eq!(consumed, bytes.len());
        Ok(message)
    }

    /// A message of any type and attributes.
    fn message(kind: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::begin(&mut out, Class::Request, &T);
        for (kind, value) in attributes {
            writer.attribute(*kind, |out| out.extend_from_slice(value));
        }
        writer.finish();
        out[..2].copy_from_slice(&kind.to_be_bytes());
        out
    }

    fn with_fingerprint(mut bytes: Vec<u8>) -> Vec<u8> {
        let length = (bytes.len() - HEADER_BYTES + 8) as u16;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        let crc = crc32(&bytes) ^ FINGERPRINT_XOR;
        bytes.extend_from_slice(&[0x80, 0x28, 0, 4]);
        bytes.extend_from_slice(&crc.to_be_bytes());
        bytes
    }

    #[test]
    fn reads_the_sample_request_of_rfc_5769() {
        let Message::Request(request) = decode_one(SAMPLE_REQUEST).unwrap() else { panic!() };
        assert_eq!(request.transaction, SAMPLE_TRANSACTION);
        assert_eq!(request.probe, None);
        assert_eq!(request.unknown.as_slice(), [0x0024]);
        assert_eq!(format!("{:?}", request.unknown), "[0x0024]");
    }

    #[test]
    fn reads_the_sample_responses_of_rfc_5769() {
        let samples = [
            (SAMPLE_RESPONSE_V4, "192.0.2.1:32853"),
            (SAMPLE_RESPONSE_V6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
        ];
        for (bytes, mapped) in samples {
            let expected = Success {
                transaction: SAMPLE_TRANSACTION,
                mapped: mapped.parse().unwrap(),
                other: None,
            };
            assert_eq!(decode_one(bytes), Ok(Message::Success(expected)));
        }
    }

    #[test]
    fn a_fingerprint_that_does_not_fit_is_refused() {
        for sample in [SAMPLE_REQUEST, SAMPLE_RESPONSE_V4, SAMPLE_RESPONSE_V6] {
            for at in HEADER_BYTES - TRANSACTION_BYTES..HEADER_BYTES {
                let mut wrong = sample.to_vec();
                wrong[at] ^= 1;
                assert_eq!(decode(&wrong), Err(StunError::Fingerprint));
            }
        }
        let early = message(0x0001, &[(0x8028, &[0; 4]), (0x8022, b"x")]);
        assert_eq!(decode(&early), Err(StunError::Fingerprint));
        let short = message(0x0001, &[(0x8028, &[0; 3])]);
        assert_eq!(decode(&short), Err(StunError::Value { kind: 0x8028 }));
        assert!(decode_one(&with_fingerprint(message(0x0001, &[]))).is_ok());
    }

    #[test]
    fn the_crc_is_iso_hdlc() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn another_protocol_is_refused_at_its_first_bytes() {
        assert_eq!(decode(b"G"), Err(StunError::NotStun));
        assert_eq!(decode(b"\x16\x03\x01\x02"), Err(StunError::Length { found: 0x0102 }));
        assert_eq!(decode(b"\x00\x01\x00\x00\x00"), Err(StunError::Cookie));
        assert_eq!(decode(b"\x00\x01\x00\x00\x21\x13"), Err(StunError::Cookie));
        assert_eq!(decode(b"\x00\x01\x00\x02"), Err(StunError::Length { found: 2 }));
        assert_eq!(decode(b"\x00\x01\x04\x00"), Err(StunError::TooLong { found: 1024 }));
        assert_eq!(decode(b"\x00\x01\x03\xec"), Ok(None));
        assert_eq!(decode(b""), Ok(None));
    }

    #[test]
    fn what_must_be_understood_is_listed_once_and_up_to_a_bound() {
        let kinds: Vec<u16> = (0x0100..0x0120).flat_map(|kind| [kind, kind]).collect();
        let attributes: Vec<(u16, &[u8])> = kinds.iter().map(|kind| (*kind, &b"abc"[..])).collect();
        let bytes = message(0x0001, &attributes);
        let Message::Request(request) = decode_one(&bytes).unwrap() else { panic!() };
        assert_eq!(request.unknown.as_slice(), &*(0x0100..0x0108).collect::<Vec<u16>>());
    }

    #[test]
    fn change_request_is_not_understood() {
        let bytes = message(0x0001, &[(0x0003, &[0, 0, 0, 6])]);
        let Message::Request(request) = decode_one(&bytes).unwrap() else { panic!() };
        assert_eq!(request.unknown.as_slice(), [0x0003]);
    }

    #[test]
    fn what_follows_message_integrity_is_ignored() {
        let probe = [0; PROBE_BYTES];
        let bytes = message(0x0001, &[(0x0008, &[0; 20]), (0xC7CD, &probe), (0x0003, &[0; 4])]);
        let Message::Request(request) = decode_one(&bytes).unwrap() else { panic!() };
        assert_eq!((request.probe, request.unknown.is_empty()), (None, true));
    }

    #[test]
    fn the_first_of_several_counts() {
        let first = [0, 1, 0, 80, 192, 0, 2, 1];
        let second = [0, 1, 0, 81, 192, 0, 2, 2];
        let bytes = message(0x0101, &[(0x0001, &first), (0x0001, &second), (0x802C, &second)]);
        let Message::Success(success) = decode_one(&bytes).unwrap() else { panic!() };
        assert_eq!(success.mapped, "192.0.2.1:80".parse().unwrap());
        assert_eq!(success.other, Some("192.0.2.2:81".parse().unwrap()));
    }

    #[test]
    fn the_masked_address_is_preferred_to_the_plain_one() {
        let mut bytes = message(0x0101, &[(0x0001, &[0, 1, 0, 80, 192, 0, 2, 1])]);
        let masked = "[2001:db8::7]:9".parse().unwrap();
        let mut tail = Vec::new();
        binding_success(&mut tail, &T, masked, None, None);
        bytes.extend_from_slice(&tail[HEADER_BYTES..]);
        bytes[3] += (tail.len() - HEADER_BYTES) as u8;
        let Message::Success(success) = decode_one(&bytes).unwrap() else { panic!() };
        assert_eq!(success.mapped, masked);
    }

    #[test]
    fn malformed_attributes_are_named() {
        let truncated = |kind| StunError::Truncated { kind };
        let value = |kind| StunError::Value { kind };
        let missing = |kind| StunError::Missing { kind };
        let v4 = [0, 1, 0, 80, 192, 0, 2, 1];
        let cases = [
            (message(0x0001, &[(0xC7CD, &[0; 27])]), value(0xC7CD)),
            (message(0x0001, &[(0xC7CD, &[0; 29])]), value(0xC7CD)),
            (message(0x0001, &[(0xC7CE, &[0; 43])]), value(0xC7CE)),
            (message(0x0001, &[(0xC7CE, &[2; 44])]), value(0xC7CE)),
            (message(0x0101, &[]), missing(0x0020)),
            (message(0x0101, &[(0x0020, &v4[..7])]), value(0x0020)),
            (message(0x0101, &[(0x0020, &[0; 20])]), value(0x0020)),
            (message(0x0101, &[(0x0001, b"")]), value(0x0001)),
            (
                message(0x0101, &[(0x0001, &v4), (0x802C, &[0, 2, 0, 80, 1, 2, 3, 4])]),
                value(0x802C),
            ),
            (message(0x0101, &[(0x0001, &v4), (0x0100, b"")]), StunError::Unknown { kind: 0x0100 }),
            (message(0x0111, &[]), missing(0x0009)),
            (message(0x0111, &[(0x0009, &[0, 0, 4])]), value(0x0009)),
            (message(0x0111, &[(0x0009, &[0, 0, 2, 0])]), value(0x0009)),
            (message(0x0111, &[(0x0009, &[0, 0, 4, 100])]), value(0x0009)),
            (message(0x0111, &[(0x000A, &[0, 0, 4])]), value(0x000A)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(decode(&bytes), Err(expected), "{bytes:02x?}");
            assert!(!expected.to_string().is_empty());
        }
        for kind in [0x0001, 0x0101, 0x0111, 0x0011, 0x0003] {
            let mut bytes = message(kind, &[(0x8022, b"abc")]);
            bytes[HEADER_BYTES + 3] = 5;
            assert_eq!(decode(&bytes), Err(truncated(0x8022)));
        }
    }

    #[test]
    fn indications_and_other_methods_are_recognised() {
        let cases = [
            (0x0011, Class::Indication, 0x001),
            (0x0003, Class::Request, 0x003),
            (0x0113, Class::Error, 0x003),
            (0x3EEF, Class::Request, 0xFFF),
            (0x3FFF, Class::Error, 0xFFF),
        ];
        for (kind, class, method) in cases {
            let other = Other { transaction: T, method, class };
            assert_eq!(decode_one(&message(kind, &[])), Ok(Message::Other(other)));
        }
    }

    #[test]
    fn a_reason_is_read_up_to_its_first_broken_byte() {
        let bytes = message(0x0111, &[(0x0009, b"\0\0\x04\x00so\xff so")]);
        let Message::Error(error) = decode_one(&bytes).unwrap() else { panic!() };
        assert_eq!((error.code, error.reason), (400, "so"));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let long = "ä".repeat(500);
        let mut out = Vec::new();
        binding_error(&mut out, &T, code::SERVER_ERROR, &long, &[1; 100]);
        let Message::Error(error) = decode_one(&out).unwrap() else { panic!() };
        assert_eq!(error.reason, "ä".repeat(63));
        let mut out = Vec::new();
        binding_success(&mut out, &T, "[::1]:1".parse().unwrap(), None, Some(&long));
        assert!(out.len() < 256 && decode_one(&out).is_ok());
    }

    #[test]
    #[should_panic(expected = "200 is not a STUN error code")]
    fn a_code_that_is_no_error_is_a_bug() {
        binding_error(&mut Vec::new(), &T, 200, "OK", &[]);
    }

    // ---- properties ----------------------------------------------------------------------------

    fn any_address() -> impl Strategy<Value = SocketAddr> {
        any::<(IpAddr, u16)>().prop_map(SocketAddr::from)
    }

    fn any_probe() -> impl Strategy<Value = Probe> {
        any::<([u8; 16], u64, u8, u16)>().prop_map(|(token, tag, round, local_port)| Probe {
            token,
            tag,
            round,
            local_port,
        })
    }

    fn any_join() -> impl Strategy<Value = Join> {
        any::<([u8; 16], u64, [u8; 16], bool)>().prop_map(
            |(session, introduction, token, controls)| {
                let role = if controls { Role::Controller } else { Role::Controlled };
                Join { session, introduction, token, role }
            },
        )
    }

    /// Some message that we can write.
    fn any_message() -> impl Strategy<Value = Vec<u8>> {
        let write = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            out
        };
        prop_oneof![
            (any::<Transaction>(), any_join())
                .prop_map(move |(t, join)| write(&|out| relay_request(out, &t, &join))),
            (any::<Transaction>(), prop::option::of(any_probe()))
                .prop_map(move |(t, probe)| write(&|out| binding_request(out, &t, probe.as_ref()))),
            (
                any::<Transaction>(),
                any_address(),
                prop::option::of(any_address()),
                prop::option::of(".{0,200}")
            )
                .prop_map(move |(t, mapped, other, software)| {
                    write(&|out| binding_success(out, &t, mapped, other, software.as_deref()))
                }),
            (
                any::<Transaction>(),
                300u16..700,
                ".{0,200}",
                prop::collection::vec(any::<u16>(), 0..12)
            )
                .prop_map(move |(t, code, reason, unknown)| {
                    write(&|out| binding_error(out, &t, code, &reason, &unknown))
                }),
        ]
    }

    fn their_id(transaction: Transaction) -> TransactionId {
        let mut wide = [0; 16];
        wide[4..].copy_from_slice(&transaction);
        u128::from_be_bytes(wide).into()
    }

    fn their_builder(class: MessageClass, transaction: Transaction) -> MessageWriteVec {
        their_message::Message::builder(
            MessageType::from_class_method(class, their_message::BINDING),
            their_id(transaction),
            MessageWriteVec::new(),
        )
    }

    fn probe_bytes(probe: &Probe) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_probe(&mut bytes, probe);
        bytes
    }

    proptest! {
        #[test]
        fn a_request_round_trips(t: Transaction, probe in prop::option::of(any_probe())) {
            let mut out = b"before".to_vec();
            binding_request(&mut out, &t, probe.as_ref());
            let unknown = UnknownAttributes::default();
            let expected = Request { transaction: t, probe, relay: None, delay: 0, unknown };
            prop_assert_eq!(decode_one(&out[6..]), Ok(Message::Request(expected)));
        }

        #[test]
        fn a_relay_request_round_trips(t: Transaction, join in any_join()) {
            let mut out = b"before".to_vec();
            relay_request(&mut out, &t, &join);
            let unknown = UnknownAttributes::default();
            let expected = Request { transaction: t, probe: None, relay: Some(join), delay: 0, unknown };
            prop_assert_eq!(decode_one(&out[6..]), Ok(Message::Request(expected)));
        }

        #[test]
        fn a_delayed_request_round_trips_and_stun_types_may_ignore_it(t: Transaction, delay: u32) {
            let mut out = Vec::new();
            delayed_request(&mut out, &t, delay);
            let unknown = UnknownAttributes::default();
            let expected = Request { transaction: t, probe: None, relay: None, delay, unknown };
            prop_assert_eq!(decode_one(&out), Ok(Message::Request(expected)));
            let read = their_message::Message::from_bytes(&out).unwrap();
            let raw = read.raw_attribute(attribute::GIMLET_DELAY.into()).unwrap();
            prop_assert!(!theirs::Attribute::get_type(&raw).comprehension_required());
        }

        #[test]
        fn stun_types_reads_our_relay_request(t: Transaction, join in any_join()) {
            let mut out = Vec::new();
            relay_request(&mut out, &t, &join);
            let read = their_message::Message::from_bytes(&out).unwrap();
            prop_assert!(read.has_class(MessageClass::Request));
            let raw = read.raw_attribute(attribute::GIMLET_RELAY.into()).unwrap();
            prop_assert!(!theirs::Attribute::get_type(&raw).comprehension_required());
            prop_assert_eq!(raw.value.len(), JOIN_BYTES);
        }

        #[test]
        fn a_success_round_trips(
            t: Transaction,
            mapped in any_address(),
            other in prop::option::of(any_address()),
            software in prop::option::of(".{0,200}"),
        ) {
            let mut out = b"before".to_vec();
            binding_success(&mut out, &t, mapped, other, software.as_deref());
            let expected = Success { transaction: t, mapped, other };
            prop_assert_eq!(decode_one(&out[6..]), Ok(Message::Success(expected)));
        }

        #[test]
        fn an_error_round_trips(
            t: Transaction,
            code in 300u16..700,
            reason in "[a-zä]{0,63}",
            unknown in prop::collection::btree_set(any::<u16>(), 0..=UNKNOWN_ATTRIBUTES),
        ) {
            let unknown: Vec<u16> = unknown.into_iter().collect();
            let mut out = b"before".to_vec();
            binding_error(&mut out, &t, code, &reason, &unknown);
            let Message::Error(error) = decode_one(&out[6..]).unwrap() else { panic!() };
            prop_assert_eq!((error.transaction, error.code), (t, code));
            prop_assert_eq!(error.reason, reason);
            prop_assert_eq!(error.unknown.as_slice(), unknown);
        }

        #[test]
        fn every_prefix_is_partial_and_what_follows_does_not_matter(
            bytes in any_message(),
            fingerprint: bool,
            tail: Vec<u8>,
        ) {
            let bytes = if fingerprint { with_fingerprint(bytes) } else { bytes };
            for end in 0..bytes.len() {
                prop_assert_eq!(decode(&bytes[..end]), Ok(None));
            }
            let whole = decode(&bytes).unwrap();
            let stream = [&bytes[..], &tail].concat();
            prop_assert_eq!(decode(&stream).unwrap(), whole);
            prop_assert_eq!(whole.unwrap().1, bytes.len());
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            if let Ok(Some((_, consumed))) = decode(&bytes) {
                prop_assert!(consumed <= bytes.len());
            }
        }

        #[test]
        fn random_bodies_never_panic(
            kind in prop::sample::select(vec![0x0001u16, 0x0101, 0x0111, 0x0011]),
            words in prop::collection::vec(
                prop_oneof![
                    any::<u32>(),
                    // Headers of attributes that we know, with likely lengths.
                    (
                        prop::sample::select(vec![0x01u32, 0x08, 0x09, 0x0A, 0x20, 0x8028, 0xC7CD, 0xC7CE]),
                        prop::sample::select(vec![0u32, 3, 4, 8, 20, 28, 44]),
                    ).prop_map(|(kind, length)| kind << 16 | length),
                    prop::sample::select(vec![0x0001_0050u32, 0x0002_0050, 0x0000_0414]),
                ],
                0..40,
            ),
        ) {
            let mut bytes = message(kind, &[]);
            bytes[2..4].copy_from_slice(&(words.len() as u16 * 4).to_be_bytes());
            bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
            match decode(&bytes) {
                Ok(done) => prop_assert_eq!(done.unwrap().1, bytes.len()),
                Err(_) => {
                    // What is wrong with a body shows when it is whole, not before.
                    prop_assert_eq!(decode(&bytes[..bytes.len() - 1]), Ok(None));
                }
            }
        }

        #[test]
        fn a_damaged_message_never_panics(bytes in any_message(), at: prop::sample::Index, by in 1u8..) {
            let mut bytes = bytes;
            let at = at.index(bytes.len());
            bytes[at] ^= by;
            if let Ok(Some((_, consumed))) = decode(&bytes) {
                prop_assert!(consumed <= bytes.len());
            }
        }

        #[test]
        fn stun_types_reads_our_request(t: Transaction, probe in any_probe()) {
            let mut out = Vec::new();
            binding_request(&mut out, &t, Some(&probe));
            let read = their_message::Message::from_bytes(&out).unwrap();
            prop_assert_eq!(read.transaction_id(), their_id(t));
            prop_assert!(read.has_class(MessageClass::Request));
            prop_assert!(read.has_method(their_message::BINDING));
            let raw = read.raw_attribute(attribute::GIMLET_PROBE.into()).unwrap();
            prop_assert!(!theirs::Attribute::get_type(&raw).comprehension_required());
            prop_assert_eq!(&*raw.value, probe_bytes(&probe));
        }

        #[test]
        fn stun_types_reads_our_success(
            t: Transaction,
            mapped in any_address(),
            other in any_address(),
            software in "[a-zä]{0,63}",
        ) {
            let mut out = Vec::new();
            binding_success(&mut out, &t, mapped, Some(other), Some(&software));
            let out = with_fingerprint(out);
            let read = their_message::Message::from_bytes(&out).unwrap();
            prop_assert_eq!(read.transaction_id(), their_id(t));
            prop_assert!(read.has_class(MessageClass::Success));
            let xored = read.attribute::<theirs::XorMappedAddress>().unwrap();
            prop_assert_eq!(xored.addr(their_id(t)), mapped);
            let raw = read.raw_attribute(attribute::OTHER_ADDRESS.into()).unwrap();
            prop_assert_eq!(theirs::MappedSocketAddr::from_raw(&raw).unwrap().addr(), other);
            let named = read.attribute::<theirs::Software>().unwrap();
            prop_assert_eq!(named.software(), software);
        }

        #[test]
        fn stun_types_reads_our_error(
            t: Transaction,
            code in 300u16..700,
            reason in "[a-zä]{0,63}",
            unknown: [u16; 3],
        ) {
            let mut out = Vec::new();
            binding_error(&mut out, &t, code, &reason, &unknown);
            let read = their_message::Message::from_bytes(&out).unwrap();
            prop_assert!(read.has_class(MessageClass::Error));
            let error = read.attribute::<theirs::ErrorCode>().unwrap();
            prop_assert_eq!((error.code(), error.reason()), (code, &*reason));
            let listed = read.attribute::<theirs::UnknownAttributes>().unwrap();
            prop_assert!(unknown.iter().all(|kind| listed.has_attribute((*kind).into())));
        }

        #[test]
        fn we_read_a_request_of_stun_types(t: Transaction, probe in any_probe(), fingerprint: bool) {
            let mut builder = their_builder(MessageClass::Request, t);
            builder.add_attribute(&theirs::Software::new("odd length").unwrap()).unwrap();
            builder.add_attribute(&RawAttribute::new(0x0003.into(), &[0, 0, 0, 6])).unwrap();
            let value = probe_bytes(&probe);
            builder.add_attribute(&RawAttribute::new(attribute::GIMLET_PROBE.into(), &value)).unwrap();
            if fingerprint {
                builder.add_fingerprint().unwrap();
            }
            let bytes = builder.finish();
            let Message::Request(request) = decode_one(&bytes).unwrap() else { panic!() };
            prop_assert_eq!((request.transaction, request.probe), (t, Some(probe)));
            prop_assert_eq!(request.unknown.as_slice(), [0x0003]);
        }

        #[test]
        fn we_read_a_success_of_stun_types(
            t: Transaction,
            mapped in any_address(),
            other in prop::option::of(any_address()),
            fingerprint: bool,
        ) {
            let mut builder = their_builder(MessageClass::Success, t);
            if let Some(other) = other {
                let other = theirs::MappedSocketAddr::new(other);
                builder.add_attribute(&other.to_raw(attribute::OTHER_ADDRESS.into())).unwrap();
            }
            builder.add_attribute(&theirs::XorMappedAddress::new(mapped, their_id(t))).unwrap();
            if fingerprint {
                builder.add_fingerprint().unwrap();
            }
            let expected = Success { transaction: t, mapped, other };
            let bytes = builder.finish();
            prop_assert_eq!(decode_one(&bytes), Ok(Message::Success(expected)));
        }

        #[test]
        fn we_read_an_error_of_stun_types(t: Transaction, code in 300u16..700, reason in "[a-zä]{0,63}") {
            let mut builder = their_builder(MessageClass::Error, t);
            builder.add_attribute(&theirs::ErrorCode::new(code, &reason).unwrap()).unwrap();
            let unknown = theirs::UnknownAttributes::new(&[theirs::Username::TYPE]);
            builder.add_attribute(&unknown).unwrap();
            let bytes = builder.finish();
            let Message::Error(error) = decode_one(&bytes).unwrap() else { panic!() };
            prop_assert_eq!((error.transaction, error.code, error.reason), (t, code, &*reason));
            prop_assert_eq!(error.unknown.as_slice(), [0x0006]);
        }
    }
}

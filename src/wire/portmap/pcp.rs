//! The Port Control Protocol, version 2 (RFC 6887): MAP, and ANNOUNCE.
//!
//! ```text
//! request   2 | op: u8 | 0: u16 | lifetime: u32 | client: 16 bytes            | MAP
//! response  2 | 0x80+op | 0 | result: u8 | lifetime: u32 | epoch: u32 | 0: 12 | MAP
//! MAP       nonce: 12 bytes | protocol: u8 | 0: 24 bits | internal port: u16
//!           | external port: u16 | external address: 16 bytes
//! ```
//!
//! An IPv4 address is written as an IPv4-mapped IPv6 one (RFC 6887 §5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{ResultCode, TCP, u16_at, u32_at};

/// "Version: … This document specifies protocol version 2" (RFC 6887 §7.1).
pub const VERSION: u8 = 2;

/// "PCP messages MUST NOT exceed 1100 octets" (RFC 6887 §7).
pub const MESSAGE_BYTES: usize = 1100;

const HEADER_BYTES: usize = 24;
const MAP_BYTES: usize = HEADER_BYTES + 36;
const RESPONSE: u8 = 0x80;
const ANNOUNCE: u8 = 0;
const MAP: u8 = 1;

/// Known to the client and the server alone: who doesn't know it can't change the mapping.
pub type Nonce = [u8; 12];

/// A wish for a mapping of a TCP port, or for its end when the lifetime is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapRequest {
    /// The address that this comes from, which is the one that is mapped.
    pub client: IpAddr,
    /// New for each mapping.
    pub nonce: Nonce,
    /// In seconds.
    pub lifetime: u32,
    /// The client's port.
    pub internal_port: u16,
    /// Which external port, and of which address, would be liked. An unspecified address is any.
    pub suggested: SocketAddr,
}

impl MapRequest {
    /// The bytes to send.
    pub fn encode(&self) -> [u8; MAP_BYTES] {
        let mut out = [0; MAP_BYTES];
        out[0] = VERSION;
        out[1] = MAP;
        out[4..8].copy_from_slice(&self.lifetime.to_be_bytes());
        out[8..24].copy_from_slice(&wide(self.client));
        out[24..36].copy_from_slice(&self.nonce);
        out[36] = TCP;
        out[40..42].copy_from_slice(&self.internal_port.to_be_bytes());
        out[42..44].copy_from_slice(&self.suggested.port().to_be_bytes());
        out[44..60].copy_from_slice(&wide(self.suggested.ip()));
        out
    }
}

/// What a server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// How it went.
    pub result: ResultCode,
    /// Seconds: of the mapping, or for which an error stands.
    pub lifetime: u32,
    /// Seconds since the server lost its mappings, by its own clock (RFC 6887 §8.5).
    pub epoch: u32,
    /// What it answers.
    pub body: Body,
}

/// What a response answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// A MAP request.
    Map(Mapping),
    /// An ANNOUNCE request, or nothing: the server tells that it has restarted.
    Announce,
    /// An error that doesn't say what it answers.
    Nothing,
}

/// A mapping as the server has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// That of the request.
    pub nonce: Nonce,
    /// The client's port.
    pub internal_port: u16,
    /// Where others reach it.
    pub external: SocketAddr,
}

/// Reads a response. `None` is what no PCP server of version 2 or 1 says: it is "silently ignored"
/// (RFC 6887 §8.3). A server of another version is known by its [`ResultCode::UnsupportedVersion`].
pub fn decode(bytes: &[u8]) -> Option<Response> {
    // "any message which is shorter than 4 octets, longer than 1100, or not a multiple of four"
    // (RFC 6887 §8.3); and a response has a header.
    let is_sized = (HEADER_BYTES..=MESSAGE_BYTES).contains(&bytes.len());
    if !is_sized || !bytes.len().is_multiple_of(4) || bytes[1] & RESPONSE == 0 {
        return None;
    }
    let result = result_code(bytes[3]);
    if bytes[0] != VERSION && result != ResultCode::UnsupportedVersion {
        return None;
    }
    let body = match (bytes[1] & !RESPONSE, result) {
        (ANNOUNCE, _) => Body::Announce,
        (MAP, _) if bytes.len() >= MAP_BYTES => Body::Map(decode_map(&bytes[HEADER_BYTES..])?),
        // A success without the mapping that it means.
        (_, ResultCode::Success) => return None,
        _ => Body::Nothing,
    };
    Some(Response { result, lifetime: u32_at(bytes, 4)?, epoch: u32_at(bytes, 8)?, body })
}

/// `None` for a mapping of another protocol than TCP: it isn't ours.
fn decode_map(bytes: &[u8]) -> Option<Mapping> {
    let nonce = bytes.get(..12)?.try_into().ok()?;
    let external: [u8; 16] = bytes.get(20..36)?.try_into().ok()?;
    let ip = IpAddr::V6(Ipv6Addr::from(external)).to_canonical();
    (bytes[12] == TCP).then_some(Mapping {
        nonce,
        internal_port: u16_at(bytes, 16)?,
        external: SocketAddr::new(ip, u16_at(bytes, 18)?),
    })
}

fn wide(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// "any address": the all-zeros one of the client's family (RFC 6887 §11.1).
pub fn any_address(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// RFC 6887 §7.4.
fn result_code(byte: u8) -> ResultCode {
    match byte {
        0 => ResultCode::Success,
        1 => ResultCode::UnsupportedVersion,
        2 => ResultCode::NotAuthorized,
        4 => ResultCode::UnsupportedOpcode,
        7 => ResultCode::NetworkFailure,
        8 => ResultCode::NoResources,
        10 => ResultCode::QuotaExceeded,
        12 => ResultCode::AddressMismatch,
        byte => ResultCode::Other(byte.into()),
    }
}

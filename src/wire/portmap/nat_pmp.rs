//! The NAT Port Mapping Protocol (RFC 6886): IPv4 alone.
//!
//! ```text
//! address?   0 | 0                   0 | 128 | result: u16 | epoch: u32 | address: 4 bytes
//! map TCP    0 | 2 | 0: u16          0 | 130 | result: u16 | epoch: u32 | internal port: u16
//!            | internal port: u16      | external port: u16 | lifetime: u32
//!            | external port: u16
//!            | lifetime: u32
//! ```

use std::net::Ipv4Addr;

use super::{ResultCode, u16_at, u32_at};

/// The version of all messages: 0 (RFC 6886 §3).
pub const VERSION: u8 = 0;

const RESPONSE: u8 = 128;
const ADDRESS: u8 = 0;
const MAP_TCP: u8 = 2;

/// What the public address is (RFC 6886 §3.2).
pub const ADDRESS_REQUEST: [u8; 2] = [VERSION, ADDRESS];

/// A wish for a mapping of a TCP port (RFC 6886 §3.3), or for its end when the lifetime is 0 (§3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapRequest {
    /// The client's port.
    pub internal_port: u16,
    /// Which external port would be liked; 0 in a request for the end.
    pub external_port: u16,
    /// In seconds.
    pub lifetime: u32,
}

impl MapRequest {
    /// The bytes to send.
    pub fn encode(&self) -> [u8; 12] {
        let mut out = [0; 12];
        out[1] = MAP_TCP;
        out[4..6].copy_from_slice(&self.internal_port.to_be_bytes());
        out[6..8].copy_from_slice(&self.external_port.to_be_bytes());
        out[8..12].copy_from_slice(&self.lifetime.to_be_bytes());
        out
    }
}

/// What a server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// How it went.
    pub result: ResultCode,
    /// Seconds since it lost its mappings, by its own clock (RFC 6886 §3.6).
    pub epoch: u32,
    /// What it answers.
    pub body: Body,
}

/// What a response answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// The public address; also told to everybody when it has changed or the server has restarted.
    Address(Ipv4Addr),
    /// A mapping, as the server has it.
    Mapped {
        /// The client's port.
        internal_port: u16,
        /// Where others reach it.
        external_port: u16,
        /// In seconds.
        lifetime: u32,
    },
    /// An error.
    Nothing,
}

/// Reads a response. `None` is what no NAT-PMP server says, or of what we never ask for.
pub fn decode(bytes: &[u8]) -> Option<Response> {
    let (&[version, op], _) = bytes.split_first_chunk()?;
    if version != VERSION || op < RESPONSE {
        return None;
    }
    let result = result_code(u16_at(bytes, 2)?);
    let body = match (op - RESPONSE, result) {
        (ADDRESS, ResultCode::Success) => Body::Address(u32_at(bytes, 8)?.into()),
        (MAP_TCP, ResultCode::Success) => Body::Mapped {
            internal_port: u16_at(bytes, 8)?,
            external_port: u16_at(bytes, 10)?,
            lifetime: u32_at(bytes, 12)?,
        },
        (_, ResultCode::Success) => return None,
        _ => Body::Nothing,
    };
    Some(Response { result, epoch: u32_at(bytes, 4)?, body })
}

/// RFC 6886 §3.5.
fn result_code(number: u16) -> ResultCode {
    match number {
        0 => ResultCode::Success,
        1 => ResultCode::UnsupportedVersion,
        2 => ResultCode::NotAuthorized,
        3 => ResultCode::NetworkFailure,
        4 => ResultCode::NoResources,
        5 => ResultCode::UnsupportedOpcode,
        number => ResultCode::Other(number),
    }
}

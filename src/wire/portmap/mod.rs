//! What a router is asked for a port mapping with: PCP, NAT-PMP, and UPnP's Internet Gateway Device.
//!
//! ```text
//! pcp       UDP 5351   Port Control Protocol, version 2 (RFC 6887): IPv4 mappings, IPv6 pinholes
//! nat_pmp   UDP 5351   NAT Port Mapping Protocol, version 0 (RFC 6886): IPv4
//! ssdp      UDP 1900   who is an Internet Gateway Device here, and where is its description?
//! igd       HTTP       its description, and SOAP calls of WANIPConnection or WANPPPConnection
//! http, url            as much of HTTP/1.1 as that takes
//! ```
//!
//! Whoever is on the same network can answer in the router's place. So all that is read is bounded
//! before it is looked at, and no answer leads anywhere but back to the address that sent it.

pub mod http;
pub mod igd;
pub mod nat_pmp;
pub mod pcp;
pub mod ssdp;
pub mod url;

#[cfg(test)]
mod tests;

use std::fmt;

/// "the PCP server's listening port is UDP 5351" (RFC 6887 §19.1); the same for NAT-PMP (RFC 6886 §3).
pub const SERVER_PORT: u16 = 5351;

/// Where a server multicasts that it has restarted: "the clients' port, 5350" (RFC 6887 §14.1.1,
/// RFC 6886 §3.2.1).
pub const CLIENT_PORT: u16 = 5350;

/// TCP, as IANA numbers protocols.
const TCP: u8 = 6;

/// How a server of PCP (RFC 6887 §7.4) or of NAT-PMP (RFC 6886 §3.5) says that it went. They number the
/// same things differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResultCode {
    /// It is done.
    Success,
    /// The server speaks another version.
    UnsupportedVersion,
    /// Port mapping is switched off, or not for this client.
    NotAuthorized,
    /// The server knows no mappings of TCP ports.
    UnsupportedOpcode,
    /// What lies beyond it is not there, or has given it no address.
    NetworkFailure,
    /// It has no more ports, now.
    NoResources,
    /// This client has too many.
    QuotaExceeded,
    /// There is another NAT between the client and the server.
    AddressMismatch,
    /// Others.
    Other(u16),
}

impl fmt::Display for ResultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(code) => write!(f, "result {code}"),
            named => write!(f, "{named:?}"),
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

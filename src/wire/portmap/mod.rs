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

/// "the PCP server's listening port is UDP 5351" (RFC 6887 §19.1); the same for NAT-PMP (RFC 6886 §3).
pub const SERVER_PORT: u16 = 5351;

/// Where a server multicasts that it has restarted: "the clients' port, 5350" (RFC 6887 §14.1.1,
/// RFC 6886 §3.2.1).
pub const CLIENT_PORT: u16 = 5350;

/// TCP, as IANA numbers protocols.
const TCP: u8 = 6;

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

//! SSDP, the discovery of UPnP (UPnP Device Architecture 1.1 §1.3): "is there a router?", and who says
//! yes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use super::url::Url;

/// Where all devices listen.
pub const MULTICAST: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 250), 1900);

/// What a router calls itself. One of version 2 must answer to 1 as well; not all do.
const TARGETS: [&str; 2] = [
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
];

/// Header fields of an answer that are looked at; real ones have about ten.
const HEADERS: usize = 32;

/// The questions to send, each in a datagram of its own.
pub fn searches() -> impl Iterator<Item = Vec<u8>> {
    TARGETS.iter().map(|target| {
        // MX: answer within so many seconds.
        format!(
            "M-SEARCH * HTTP/1.1\r\nHOST: {MULTICAST}\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
             ST: {target}\r\n\r\n"
        )
        .into_bytes()
    })
}

/// Where the router that sent this answer describes itself. `None` if it isn't the answer of one, or
/// leads to another host than that which sent it.
pub fn decode(from: IpAddr, datagram: &[u8]) -> Option<Url> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    // Some devices leave out the empty line at the end: what is there is there.
    response.parse(datagram).ok()?;
    if response.code? != 200 {
        return None;
    }
    let header = |name: &str| {
        let field = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        field.and_then(|field| std::str::from_utf8(field.value).ok()).map(str::trim)
    };
    TARGETS.contains(&header("ST")?).then_some(())?;
    Url::parse(header("LOCATION")?).filter(|url| url.host() == from)
}

/// Where to ask a router that doesn't hear multicast.
pub fn unicast(gateway: Ipv4Addr) -> SocketAddr {
    (gateway, MULTICAST.port()).into()
}

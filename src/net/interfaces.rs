//! The addresses of this machine: its host candidates.

use std::net::IpAddr;

use crate::limits;

/// Addresses at which others may reach this machine, IPv4 first, at most [`limits::HOST_ADDRESSES`].
/// Loopback addresses are listed alone, and only when the rendezvous itself is on this machine: they
/// mean another machine everywhere else.
pub fn host_addresses(loopback: bool) -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        log::warn!("the interfaces can't be listed, so there are no host candidates: {error}");
        Vec::new()
    });
    let mut addresses: Vec<IpAddr> = interfaces
        .iter()
        .map(if_addrs::Interface::ip)
        .filter(|ip| ip.is_loopback() == loopback && !is_link_local(*ip))
        .collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.dedup();
    addresses.truncate(limits::HOST_ADDRESSES);
    addresses
}

/// A link-local address needs the number of an interface, which means nothing to the other peer.
fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

//! The addresses of this machine: its host candidates.

use std::net::IpAddr;

use crate::limits;

/// Addresses at which others may reach this machine, IPv4 first, at most [`limits::HOST_ADDRESSES`].
/// Loopback addresses are listed alone, and only when the rendezvous itself is on this machine: they
/// mean another machine everywhere else.
pub fn host_addresses(loopback: bool) -> Vec<IpAddr> {
    let all = all_addresses().unwrap_or_else(|error| {
        log::warn!("the interfaces can't be listed, so there are no host candidates: {error}");
        Vec::new()
    });
    hosts_among(all, loopback)
}

/// Of all addresses of this machine, those that [`host_addresses`] returns.
pub(super) fn hosts_among(mut addresses: Vec<IpAddr>, loopback: bool) -> Vec<IpAddr> {
    addresses.retain(|ip| ip.is_loopback() == loopback && !is_link_local(*ip));
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.dedup();
    addresses.truncate(limits::HOST_ADDRESSES);
    addresses
}

/// All addresses of this machine's interfaces.
pub(super) fn all_addresses() -> std::io::Result<Vec<IpAddr>> {
    Ok(if_addrs::get_if_addrs()?.iter().map(if_addrs::Interface::ip).collect())
}

/// A link-local address needs the number of an interface, which means nothing to the other peer.
fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

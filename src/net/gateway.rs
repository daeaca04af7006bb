//! The ways out of this network: default routes, as Linux lists them, and our own address on each.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::socket;
use crate::proto::portmap::{Network, Route};

/// A default route's gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Gateway {
    ip: IpAddr,
    interface: String,
    metric: u32,
}

/// The default routes with a gateway, and our own address there. Empty where they can't be learnt.
pub fn network() -> Network {
    let v4 = read("/proc/net/route").and_then(|table| best(ipv4_gateways(&table)));
    let v6 = read("/proc/net/ipv6_route").and_then(|table| best(ipv6_gateways(&table)));
    Network { v4: v4.and_then(route), v6: v6.and_then(route) }
}

fn read(path: &str) -> Option<String> {
    if !cfg!(target_os = "linux") {
        log::debug!("the default gateway is not looked up on this system: no port mapping");
        return None;
    }
    let table = std::fs::read_to_string(path);
    table.inspect_err(|error| log::debug!("{path}: {error}: no port mapping")).ok()
}

fn best(gateways: Vec<Gateway>) -> Option<Gateway> {
    gateways.into_iter().min_by_key(|gateway| gateway.metric)
}

/// Our own address is the one that the kernel would take. IPv6 has several: the one with which we reach
/// the world, and not that with which we reach the gateway, is to be opened.
fn route(gateway: Gateway) -> Option<Route> {
    let scope = interface_index(&gateway.interface);
    let towards: SocketAddr = match gateway.ip {
        IpAddr::V4(ip) => (ip, 9).into(),
        IpAddr::V6(_) => (A_PLACE_ELSEWHERE, 9).into(),
    };
    let own = socket::source_address(towards);
    let own = own.inspect_err(|error| log::debug!("{towards}: {error}: no port mapping")).ok()?;
    let is_global = match own {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_loopback(),
        // Behind a router that translates IPv6 there is nothing to be opened.
        IpAddr::V6(ip) => (ip.segments()[0] & 0xe000) == 0x2000,
    };
    is_global.then_some(Route { gateway: gateway.ip, scope, own })
}

/// Of RFC 3849: nobody is there, and nothing is sent there.
const A_PLACE_ELSEWHERE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// 0 if it isn't known.
fn interface_index(name: &str) -> u32 {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let found = interfaces.iter().find(|interface| interface.name == name);
    found.and_then(|interface| interface.index).unwrap_or(0)
}

/// RTF_UP | RTF_GATEWAY of `<linux/route.h>`.
const UP_AND_GATEWAY: u32 = 0x3;

/// RTF_REJECT of `<linux/route.h>`.
const REJECT: u32 = 0x200;

/// Reads /proc/net/route: addresses are 32-bit numbers in the host's byte order.
fn ipv4_gateways(table: &str) -> Vec<Gateway> {
    let gateway = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [interface, destination, gateway, flags, _, _, metric, mask, ..] = fields[..] else {
            return None;
        };
        let hex = |text| u32::from_str_radix(text, 16).ok();
        let is_default = hex(destination)? == 0 && hex(mask)? == 0 && leads_out(hex(flags)?);
        let ip = Ipv4Addr::from(hex(gateway)?.to_ne_bytes());
        let metric = metric.parse().ok()?;
        is_default.then_some(Gateway { ip: ip.into(), interface: interface.to_owned(), metric })
    };
    table.lines().filter_map(gateway).collect()
}

/// Reads /proc/net/ipv6_route: addresses are 32 digits in their own order.
fn ipv6_gateways(table: &str) -> Vec<Gateway> {
    let gateway = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [destination, bits, _, _, gateway, metric, _, _, flags, interface] = fields[..] else {
            return None;
        };
        let hex = |text| u32::from_str_radix(text, 16).ok();
        let wide = |text| u128::from_str_radix(text, 16).ok();
        let is_default = wide(destination)? == 0 && hex(bits)? == 0 && leads_out(hex(flags)?);
        let ip = Ipv6Addr::from(wide(gateway)?);
        let metric = hex(metric)?;
        is_default.then_some(Gateway { ip: ip.into(), interface: interface.to_owned(), metric })
    };
    table.lines().filter_map(gateway).collect()
}

fn leads_out(flags: u32) -> bool {
    flags & (UP_AND_GATEWAY | REJECT) == UP_AND_GATEWAY
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Linux 6.18, 2026-11-24: a cable, and a wireless network beside it.
    const ROUTE: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT                                                       
wlan0\t00000000\t0101020A\t0003\t0\t0\t600\t00000000\t0\t0\t0                                                                              
eth0\t00000000\t0101010A\t0003\t0\t0\t100\t00000000\t0\t0\t0                                                                               
tun0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0                                                                                
eth0\t0001010A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0                                                                                 
";

    /// The same machine.
    const IPV6_ROUTE: &str = "\
20010db800a100010000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000002 00000000 80200001       lo
";

    fn gateway(ip: &str, interface: &str, metric: u32) -> Gateway {
        Gateway { ip: ip.parse().unwrap(), interface: interface.to_owned(), metric }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_default_gateway_of_ipv4_is_the_one_with_the_least_metric() {
        let found = ipv4_gateways(ROUTE);
        let [wireless, cable] = [("10.2.1.1", "wlan0", 600), ("10.1.1.1", "eth0", 100)]
            .map(|(ip, interface, metric)| gateway(ip, interface, metric));
        assert_eq!(found, [wireless, cable.clone()]);
        assert_eq!(best(found), Some(cable));
    }

    #[test]
    fn the_default_gateway_of_ipv6_is_none_that_rejects() {
        assert_eq!(ipv6_gateways(IPV6_ROUTE), [gateway("fe80::1", "eth0", 1024)]);
    }

    #[test]
    fn what_is_no_table_has_no_gateway() {
        for text in ["", "\n", "a b c d e f g h i j k", "eth0 0 zz 3 0 0 0 0", &ROUTE[..140]] {
            assert_eq!(ipv4_gateways(text), [], "{text}");
            assert_eq!(ipv6_gateways(text), [], "{text}");
        }
    }
}

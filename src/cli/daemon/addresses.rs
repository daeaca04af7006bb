//! By which addresses peers reach a rendezvous.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::proto::punch::candidates::is_private;

/// The places to give to peers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Places {
    /// `HOST:PORT` each.
    pub(crate) places: Vec<String>,
    reach: Reach,
}

/// Who can use them, as far as their addresses tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Everybody, or those whom the operator means.
    Everybody,
    /// Everybody with IPv6.
    SixAlone,
    /// The private network.
    Network,
    /// This machine.
    Machine,
}

impl Places {
    /// For listeners at `main`: the public name if there is one. Else the addresses that they are
    /// bound to, and for those that are bound to all of them, the global ones of `interfaces`, or
    /// else the private ones.
    pub(crate) fn new(main: &[SocketAddr], public: Option<&str>, interfaces: &[IpAddr]) -> Self {
        if let Some(host) = public {
            let places = main.iter().map(|address| place(host, address.port())).collect();
            return Self { places: distinct(places), reach: Reach::Everybody };
        }
        let mut all: Vec<SocketAddr> =
            main.iter().flat_map(|address| expand(*address, interfaces)).collect();
        let best = all.iter().map(|address| rank(address.ip())).min().unwrap_or(0);
        // Bound to a private address on purpose: there it stays.
        all.retain(|address| rank(address.ip()) == best || main.contains(address));
        let reach = match best {
            0 if has_four(main) && !has_four(&all) => Reach::SixAlone,
            0 => Reach::Everybody,
            1 => Reach::Network,
            _ => Reach::Machine,
        };
        Self { places: distinct(all.iter().map(ToString::to_string).collect()), reach }
    }

    /// What an operator should know who believes that all peers can reach this machine.
    pub(crate) fn warning(&self, main: &[SocketAddr], holes: &[SocketAddr]) -> Option<String> {
        let mut ports: Vec<u16> = main.iter().chain(holes).map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports.dedup();
        let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
        let ports = ports.join(", ");
        let what_to_do = format!(
            "have the router forward TCP {ports} to this machine, and start gimletd with \
             --public HOST, the address of the router"
        );
        match self.reach {
            Reach::Everybody => None,
            Reach::SixAlone => {
                Some(format!("peers without IPv6 can't reach this machine: {what_to_do}"))
            }
            Reach::Network => Some(format!(
                "this machine has a private address, and only its own network can reach it: \
                 {what_to_do}"
            )),
            Reach::Machine => Some("only programs on this machine can reach it".to_owned()),
        }
    }
}

fn has_four(addresses: &[SocketAddr]) -> bool {
    addresses.iter().any(SocketAddr::is_ipv4)
}

/// The addresses behind one that means all of them.
fn expand(address: SocketAddr, interfaces: &[IpAddr]) -> Vec<SocketAddr> {
    if !address.ip().is_unspecified() {
        return vec![address];
    }
    let same_family = interfaces.iter().filter(|ip| ip.is_ipv4() == address.is_ipv4());
    same_family.map(|ip| SocketAddr::new(*ip, address.port())).collect()
}

/// 0 for a global address, 1 for a private one, 2 for loopback.
fn rank(ip: IpAddr) -> u8 {
    match (ip.is_loopback(), is_private(ip)) {
        (true, _) => 2,
        (false, true) => 1,
        (false, false) => 0,
    }
}

fn place(host: &str, port: u16) -> String {
    match host.parse::<Ipv6Addr>() {
        Ok(ip) => format!("[{ip}]:{port}"),
        Err(_) => format!("{host}:{port}"),
    }
}

fn distinct(places: Vec<String>) -> Vec<String> {
    let mut seen = Vec::new();
    for place in places {
        if !seen.contains(&place) {
            seen.push(place);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(main: &[&str], public: Option<&str>, interfaces: &[&str]) -> (Vec<String>, Reach) {
        let main: Vec<_> = main.iter().map(|text| text.parse().unwrap()).collect();
        let interfaces: Vec<_> = interfaces.iter().map(|text| text.parse().unwrap()).collect();
        let places = Places::new(&main, public, &interfaces);
        (places.places, places.reach)
    }

    const BOTH: [&str; 2] = ["0.0.0.0:4000", "[::]:4000"];

    #[test]
    fn a_public_name_is_all_that_peers_need() {
        let found = places(&BOTH, Some("example.net"), &["192.168.1.2"]);
        assert_eq!(found, (vec!["example.net:4000".to_owned()], Reach::Everybody));
        let found = places(&BOTH[..1], Some("2001:db8::1"), &[]);
        assert_eq!(found.0, ["[2001:db8::1]:4000"]);
    }

    #[test]
    fn global_addresses_come_before_private_ones() {
        let all = ["192.168.1.2", "203.0.113.5", "127.0.0.1", "2001:db8::1", "fd00::1", "::1"];
        let (found, reach) = places(&BOTH, None, &all);
        assert_eq!(found, ["203.0.113.5:4000", "[2001:db8::1]:4000"]);
        assert_eq!(reach, Reach::Everybody);
        let (found, reach) = places(&BOTH, None, &["192.168.1.2", "2001:db8::1"]);
        assert_eq!((found.len(), reach), (1, Reach::SixAlone));
        let (found, reach) = places(&BOTH, None, &["192.168.1.2", "fd00::1", "127.0.0.1"]);
        assert_eq!(found, ["192.168.1.2:4000", "[fd00::1]:4000"]);
        assert_eq!(reach, Reach::Network);
    }

    #[test]
    fn a_bound_address_is_given_as_it_is() {
        let found = places(&["127.0.0.1:7"], None, &["203.0.113.5"]);
        assert_eq!(found, (vec!["127.0.0.1:7".to_owned()], Reach::Machine));
        let (found, _) = places(&["203.0.113.5:1", "10.0.0.1:1"], None, &[]);
        assert_eq!(found, ["203.0.113.5:1", "10.0.0.1:1"]);
    }

    #[test]
    fn the_warning_says_which_ports_to_forward() {
        let main = ["0.0.0.0:4000".parse().unwrap()];
        let holes = ["0.0.0.0:8000", "0.0.0.0:8001"].map(|text| text.parse().unwrap());
        let places = Places::new(&main, None, &["10.0.0.1".parse().unwrap()]);
        let warning = places.warning(&main, &holes).unwrap();
        assert!(warning.contains("TCP 4000, 8000, 8001"), "{warning}");
        assert!(warning.contains("--public HOST"), "{warning}");
        let places = Places::new(&main, None, &["203.0.113.1".parse().unwrap()]);
        assert_eq!(places.warning(&main, &holes), None);
    }
}

//! Which of the other peer's candidates are worth a dial, and in which order.

use std::net::{IpAddr, SocketAddr};

use crate::limits;
use crate::wire::message::{Candidate, CandidateKind};

/// Where we are ourselves, as far as we know.
#[derive(Clone, Debug, Default)]
pub struct OwnAddresses {
    /// Addresses of our interfaces.
    pub hosts: Vec<IpAddr>,
    /// The endpoint that S sees.
    pub observed: Option<SocketAddr>,
    /// Further addresses of our NAT.
    pub pool: Vec<IpAddr>,
    /// The local port that we dial from, 0 if not known.
    pub local_port: u16,
}

/// The candidates to dial, best first (the order of RFC 8445 §5.1.2: host before reflexive).
///
/// A private address means something only inside its own network. It is dialled when both peers
/// appear behind one public address, or when S itself sees the other one at a private address; it
/// would lead to strangers otherwise.
pub fn worth_dialling(candidates: &[Candidate], own: &OwnAddresses) -> Vec<Candidate> {
    let near = is_near(candidates, own);
    let mut chosen: Vec<Candidate> = Vec::new();
    for candidate in candidates.iter().take(limits::CANDIDATES) {
        let known = chosen.iter().any(|other| other.address == candidate.address);
        if !known && is_dialable(candidate, near) && !is_ourselves(candidate.address, own) {
            chosen.push(*candidate);
        }
    }
    chosen.sort_by_key(|candidate| candidate.kind);
    chosen
}

/// Hosts that seem to be in a network of ours, though the two of us appear at different public addresses: a NAT
/// may give each of its hosts another one, or there are two ways out. Where the addresses are alike by chance,
/// they lead to strangers, so one dial must be enough for each.
pub(super) fn neighbours(
    candidates: &[Candidate],
    own: &OwnAddresses,
) -> impl Iterator<Item = Candidate> {
    let near = is_near(candidates, own);
    let listed = candidates.iter().take(limits::CANDIDATES).copied();
    listed.filter(move |candidate| {
        let ip = candidate.address.ip();
        let alike = own.hosts.iter().any(|host| is_in_network_of(ip, *host));
        let host = candidate.kind == CandidateKind::Host;
        !near
            && host
            && alike
            && is_private(ip)
            && is_dialable(candidate, true)
            && !own.hosts.contains(&ip)
    })
}

/// Whether an address is in the network of a host: the first 24 bits of IPv4 say so, as home routers have it,
/// and the first 64 of IPv6. An address of the loopback, or of one link, says nothing.
fn is_in_network_of(ip: IpAddr, host: IpAddr) -> bool {
    match (ip, host) {
        (IpAddr::V4(ip), IpAddr::V4(host)) => {
            !ip.is_loopback() && !ip.is_link_local() && ip.octets()[..3] == host.octets()[..3]
        }
        (IpAddr::V6(ip), IpAddr::V6(host)) => {
            ip.is_unique_local() && ip.segments()[..4] == host.segments()[..4]
        }
        _ => false,
    }
}

fn is_near(candidates: &[Candidate], own: &OwnAddresses) -> bool {
    candidates
        .iter()
        .filter(|candidate| candidate.kind == CandidateKind::ServerReflexive)
        .any(|candidate| {
            let ip = candidate.address.ip();
            is_private(ip)
                || own.observed.is_some_and(|observed| observed.ip() == ip)
                || own.pool.contains(&ip)
        })
        // Where nothing is translated, S sees a host address and lists it as that alone.
        || own.observed.is_some_and(|observed| is_private(observed.ip()))
            && candidates.iter().all(|candidate| candidate.kind == CandidateKind::Host)
}

fn is_dialable(candidate: &Candidate, near: bool) -> bool {
    let address = candidate.address;
    let usable = candidate.kind != CandidateKind::Relayed
        && address.port() != 0
        && !address.ip().is_unspecified()
        && !address.ip().is_multicast()
        && !matches!(address.ip(), IpAddr::V4(ip) if ip.is_broadcast());
    usable && (near || candidate.kind != CandidateKind::Host || !is_private(address.ip()))
}

fn is_ourselves(address: SocketAddr, own: &OwnAddresses) -> bool {
    address.port() == own.local_port && own.hosts.contains(&address.ip())
}

/// Whether an address means something only inside its own network: RFC 1918, RFC 6598 (carrier
/// NAT), RFC 4193 (unique local), link-local, loopback.
pub fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(kind: CandidateKind, address: &str) -> Candidate {
        Candidate { kind, address: address.parse().unwrap() }
    }

    fn own(observed: &str) -> OwnAddresses {
        OwnAddresses {
            hosts: vec!["192.168.1.2".parse().unwrap()],
            observed: Some(observed.parse().unwrap()),
            pool: Vec::new(),
            local_port: 1000,
        }
    }

    fn addresses(candidates: &[Candidate], own: &OwnAddresses) -> Vec<String> {
        worth_dialling(candidates, own).iter().map(|c| c.address.to_string()).collect()
    }

    #[test]
    fn private_hosts_only_behind_one_public_address_and_first() {
        let candidates = [
            candidate(CandidateKind::ServerReflexive, "203.0.113.7:2000"),
            candidate(CandidateKind::Host, "192.168.1.3:2000"),
        ];
        assert_eq!(addresses(&candidates, &own("198.51.100.1:9")), ["203.0.113.7:2000"]);
        assert_eq!(
            addresses(&candidates, &own("203.0.113.7:9")),
            ["192.168.1.3:2000", "203.0.113.7:2000"]
        );
    }

    #[test]
    fn one_nat_that_shows_us_at_different_addresses_is_one_network() {
        let candidates = [
            candidate(CandidateKind::ServerReflexive, "203.0.113.7:2000"),
            candidate(CandidateKind::Host, "192.168.7.3:2000"),
        ];
        let mut own = own("203.0.113.8:9");
        assert_eq!(addresses(&candidates, &own), ["203.0.113.7:2000"]);
        own.pool = vec!["203.0.113.7".parse().unwrap()];
        assert_eq!(addresses(&candidates, &own).len(), 2);
    }

    #[test]
    fn a_host_that_seems_to_be_in_our_network_is_a_neighbour_unless_it_is_near_anyway() {
        let found = |host: &str, observed: &str| {
            let candidates = [
                candidate(CandidateKind::ServerReflexive, "203.0.113.7:2000"),
                candidate(CandidateKind::Host, host),
            ];
            neighbours(&candidates, &own(observed)).count()
        };
        assert_eq!(found("192.168.1.3:2000", "198.51.100.1:9"), 1);
        assert_eq!(found("192.168.2.3:2000", "198.51.100.1:9"), 0, "another network");
        assert_eq!(found("192.168.1.3:2000", "203.0.113.7:9"), 0, "it is near");
        assert_eq!(found("192.168.1.2:2000", "198.51.100.1:9"), 0, "we have that address");
    }

    #[test]
    fn a_public_host_address_is_always_dialled() {
        let candidates = [candidate(CandidateKind::Host, "[2001:db8::1]:2000")];
        assert_eq!(addresses(&candidates, &own("198.51.100.1:9")), ["[2001:db8::1]:2000"]);
    }

    #[test]
    fn all_on_one_private_network_with_the_rendezvous() {
        let candidates = [candidate(CandidateKind::Host, "192.168.1.3:2000")];
        assert_eq!(addresses(&candidates, &own("192.168.1.2:1000")), ["192.168.1.3:2000"]);
        assert!(addresses(&candidates, &own("198.51.100.1:9")).is_empty());
    }

    #[test]
    fn never_ourselves_nor_what_is_no_host() {
        let candidates = [
            candidate(CandidateKind::Host, "192.168.1.2:1000"),
            candidate(CandidateKind::Host, "0.0.0.0:2000"),
            candidate(CandidateKind::Host, "224.0.0.1:2000"),
            candidate(CandidateKind::ServerReflexive, "203.0.113.7:0"),
            candidate(CandidateKind::ServerReflexive, "203.0.113.7:3"),
        ];
        assert_eq!(addresses(&candidates, &own("203.0.113.7:9")), ["203.0.113.7:3"]);
    }
}

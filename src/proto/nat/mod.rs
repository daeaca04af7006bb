//! What probes say about a NAT, in the terms of RFC 4787 and RFC 5382. Pure functions of what was seen.

mod allocation;
mod class;
mod filtering;
mod pooling;

use std::net::{IpAddr, SocketAddr};

pub use self::allocation::{Moment, SERIES, classify_allocation, foreign_rate};
pub use self::class::NatClass;
pub use self::filtering::classify_filtering;
pub use self::pooling::classify_pooling;
use crate::wire::message::Mapping;

/// One look at how the NAT maps a local port: the endpoint that a destination saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Where the connection went.
    pub destination: SocketAddr,
    /// Where it seemed to come from.
    pub mapped: SocketAddr,
}

/// A mapping of a fresh local port of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// The local port.
    pub local: u16,
    /// Where the connection went.
    pub destination: SocketAddr,
    /// Where it seemed to come from.
    pub mapped: SocketAddr,
}

/// Classifies the mapping of one local port by what several destinations saw of it: RFC 5780 §4.3,
/// with TCP connections in the place of its tests I to III. `hosts` are the machine's own addresses.
///
/// Observations of the other address family are left out: the first one says which counts.
///
/// A NAT that keeps the port and takes any of several addresses depends on the destination all the same:
/// what is observed does not hold for others. That its port can be foretold is for its allocation to say,
/// and how many addresses there are for its pooling.
pub fn classify_mapping(
    observations: &[Observation],
    local_port: u16,
    hosts: &[IpAddr],
) -> Mapping {
    let Some(first) = observations.first() else { return Mapping::Unknown };
    let seen: Vec<_> =
        observations.iter().filter(|o| o.mapped.is_ipv4() == first.mapped.is_ipv4()).collect();
    if seen.iter().any(|o| o.mapped != first.mapped) {
        let same_address = |o: &&&Observation| o.destination.ip() == first.destination.ip();
        return if seen.iter().filter(same_address).any(|o| o.mapped != first.mapped) {
            Mapping::AddressAndPortDependent
        } else {
            Mapping::AddressDependent
        };
    }
    if hosts.contains(&first.mapped.ip()) && first.mapped.port() == local_port {
        return Mapping::None;
    }
    match seen.len() {
        1 => Mapping::Unknown,
        _ => Mapping::EndpointIndependent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classify(seen: &[(&str, &str)]) -> Mapping {
        let observations: Vec<_> = seen
            .iter()
            .map(|(destination, mapped)| Observation {
                destination: destination.parse().unwrap(),
                mapped: mapped.parse().unwrap(),
            })
            .collect();
        classify_mapping(&observations, 1000, &["10.0.0.2".parse().unwrap()])
    }

    #[test]
    fn one_endpoint_for_all_is_endpoint_independent() {
        let seen = [("192.0.2.1:4000", "203.0.113.1:7"), ("192.0.2.1:8000", "203.0.113.1:7")];
        assert_eq!(classify(&seen), Mapping::EndpointIndependent);
        assert_eq!(classify(&seen[..1]), Mapping::Unknown, "one look proves nothing");
        assert_eq!(classify(&[]), Mapping::Unknown);
    }

    #[test]
    fn our_own_address_is_no_nat_and_another_port_is_one() {
        assert_eq!(classify(&[("192.0.2.1:4000", "10.0.0.2:1000")]), Mapping::None);
        assert_eq!(classify(&[("192.0.2.1:4000", "10.0.0.2:1001")]), Mapping::Unknown);
    }

    #[test]
    fn another_port_for_another_port_depends_on_both() {
        assert_eq!(
            classify(&[("192.0.2.1:4000", "203.0.113.1:7"), ("192.0.2.1:8000", "203.0.113.1:8")]),
            Mapping::AddressAndPortDependent
        );
    }

    #[test]
    fn another_port_for_another_address_alone_depends_on_the_address() {
        let seen = [
            ("192.0.2.1:4000", "203.0.113.1:7"),
            ("192.0.2.1:8000", "203.0.113.1:7"),
            ("192.0.2.2:8000", "203.0.113.1:8"),
        ];
        assert_eq!(classify(&seen), Mapping::AddressDependent);
    }

    #[test]
    fn the_other_family_does_not_count() {
        let seen = [
            ("192.0.2.1:4000", "203.0.113.1:7"),
            ("[2001:db8::1]:8000", "[2001:db8::9]:1000"),
            ("192.0.2.1:8000", "203.0.113.1:7"),
        ];
        assert_eq!(classify(&seen), Mapping::EndpointIndependent);
    }
}

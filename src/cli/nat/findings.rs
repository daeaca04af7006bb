//! What a look at the NAT has found, whoever was asked.

use std::net::{IpAddr, SocketAddr};

use crate::limits;
use crate::proto::nat::Observation;
use crate::proto::peer::Lifetime;
use crate::proto::portmap::{Mapping, Worthless};
use crate::proto::punch::candidates::is_private;
use crate::wire::message::{self, Nat};

/// Who was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Our rendezvous, which helps with all of it.
    Rendezvous(String),
    /// Any STUN server: the mapping half.
    Stun(String),
}

impl Source {
    /// The word of events.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Rendezvous(_) => "rendezvous",
            Self::Stun(_) => "stun",
        }
    }

    /// Where it is.
    pub(crate) fn place(&self) -> &str {
        match self {
            Self::Rendezvous(place) | Self::Stun(place) => place,
        }
    }
}

/// A destination that did not answer, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreached {
    pub(crate) to: SocketAddr,
    pub(crate) error: String,
}

/// A port that a router maps because it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortMapped {
    pub(crate) mapping: Mapping,
    /// Whether others can reach it; why not.
    pub(crate) worth: Result<(), Worthless>,
}

/// What was found.
#[derive(Clone, Debug)]
pub(crate) struct Findings {
    pub(crate) source: Source,
    /// In the terms of RFC 4787 and RFC 5382.
    pub(crate) nat: Nat,
    /// The local endpoint that was looked at.
    pub(crate) local: SocketAddr,
    /// Addresses of this machine's interfaces.
    pub(crate) hosts: Vec<IpAddr>,
    /// How each destination saw the local endpoint.
    pub(crate) seen: Vec<Observation>,
    /// Further public addresses that the NAT has used.
    pub(crate) pool: Vec<IpAddr>,
    /// Destinations that did not answer.
    pub(crate) unreached: Vec<Unreached>,
    /// Where a router maps a port because this machine asked it to.
    pub(crate) port_mapped: Vec<PortMapped>,
    /// How long a silent connection is kept, if that was measured.
    pub(crate) lifetime: Option<Lifetime>,
}

impl Findings {
    /// The public endpoints, each once, in the order in which they were seen.
    pub(crate) fn endpoints(&self) -> Vec<SocketAddr> {
        once_each(self.seen.iter().map(|seen| seen.mapped))
    }

    /// The public addresses, each once.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        let seen = self.seen.iter().map(|seen| seen.mapped.ip());
        once_each(seen.chain(self.pool.iter().copied()))
    }

    /// Whether anything translates, as far as is known.
    pub(crate) fn is_translated(&self) -> bool {
        match self.nat.mapping {
            message::Mapping::None => false,
            message::Mapping::Unknown => {
                self.endpoints().iter().any(|endpoint| !self.hosts.contains(&endpoint.ip()))
            }
            _ => true,
        }
    }

    /// Whether each destination gets a mapping of its own.
    pub(crate) fn depends_on_destination(&self) -> bool {
        !self.nat.mapping.is_shared()
    }

    /// Whether a second destination has shown whether the mapping depends on it.
    pub(crate) fn is_mapping_known(&self) -> bool {
        self.nat.mapping != message::Mapping::Unknown
    }

    /// One endpoint for several ports of a single address: a NAT that distinguishes addresses alone
    /// looks like this, too.
    pub(crate) fn may_depend_on_address(&self) -> bool {
        let destinations = once_each(self.of_first_family().map(|seen| seen.destination.ip()));
        self.nat.mapping == message::Mapping::EndpointIndependent && destinations.len() == 1
    }

    /// Observations of the family that counts: that of the first.
    fn of_first_family(&self) -> impl Iterator<Item = &Observation> {
        let v4 = self.seen.first().is_some_and(|seen| seen.mapped.is_ipv4());
        self.seen.iter().filter(move |seen| seen.mapped.is_ipv4() == v4)
    }

    /// Of the rendezvous, nothing but the port of the login was reached: whatever else is dialled is
    /// stopped, here or there. Other STUN servers often name endpoints that they don't have.
    pub(crate) fn is_way_out_blocked(&self) -> bool {
        let rendezvous = matches!(self.source, Source::Rendezvous(_));
        rendezvous && self.seen.len() <= 1 && !self.unreached.is_empty()
    }

    /// A carrier's network between this machine's network and the internet shows in its addresses: those
    /// of RFC 6598, or a private one where a public one should be.
    pub(crate) fn carrier_address(&self) -> Option<IpAddr> {
        let mut own = self.hosts.iter().copied().chain([self.local.ip()]);
        let shared = own.find(|ip| is_shared_space(*ip));
        // A router that maps a port tells its outer address.
        let outer = self.port_mapped.iter().map(|mapped| mapped.mapping.external.ip());
        let outer = outer.into_iter().find(|ip| is_private(*ip));
        let far = self.seen.iter().any(|seen| !is_private(seen.mapped.ip()));
        shared.or(outer).filter(|_| far)
    }

    /// Whether a router lets others in at a port.
    pub(crate) fn is_port_mapped(&self) -> bool {
        self.port_mapped.iter().any(|mapped| mapped.worth.is_ok())
    }

    /// A router lets others in, but there is another NAT in front of it.
    pub(crate) fn is_port_mapped_in_vain(&self) -> bool {
        !self.port_mapped.is_empty() && !self.is_port_mapped()
    }

    /// Global IPv6 addresses of this machine.
    pub(crate) fn ipv6(&self) -> Vec<IpAddr> {
        self.hosts.iter().copied().filter(|ip| ip.is_ipv6() && !is_private(*ip)).collect()
    }

    /// Silent connections are forgotten before the kernel's keepalive reminds the NAT of them.
    pub(crate) fn is_lifetime_short(&self) -> bool {
        let gone = self.lifetime.and_then(|lifetime| lifetime.gone);
        gone.is_some_and(|gone| gone <= limits::KEEPALIVE_IDLE)
    }
}

/// RFC 6598: what a carrier uses between its customers and its NAT.
fn is_shared_space(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            a == 100 && (64..128).contains(&b)
        }
        IpAddr::V6(_) => false,
    }
}

fn once_each<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut kept = Vec::new();
    for one in all {
        if !kept.contains(&one) {
            kept.push(one);
        }
    }
    kept
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::proto::portmap::Protocol;
    use crate::wire::message::Allocation;

    /// Behind a NAT with this mapping and allocation, seen by two ports of two addresses.
    pub(crate) fn behind(mapping: message::Mapping, allocation: Allocation) -> Findings {
        let seen = ["198.51.100.1:4000", "198.51.100.1:8000", "203.0.113.1:8001"];
        let see = |destination: &str| Observation {
            destination: destination.parse().unwrap(),
            mapped: "192.0.2.17:7000".parse().unwrap(),
        };
        Findings {
            source: Source::Rendezvous("s.example:4000".into()),
            nat: Nat { mapping, allocation, ..Nat::default() },
            local: "10.0.0.2:5000".parse().unwrap(),
            hosts: vec!["10.0.0.2".parse().unwrap()],
            seen: seen.map(see).to_vec(),
            pool: Vec::new(),
            unreached: Vec::new(),
            port_mapped: Vec::new(),
            lifetime: None,
        }
    }

    pub(crate) fn mapped(external: &str, worth: Result<(), Worthless>) -> PortMapped {
        let external = external.parse().unwrap();
        PortMapped { mapping: Mapping { protocol: Protocol::Upnp, external }, worth }
    }

    pub(crate) fn eim() -> Findings {
        behind(message::Mapping::EndpointIndependent, Allocation::Unknown)
    }

    #[test]
    fn one_address_alone_leaves_a_doubt() {
        assert!(!eim().may_depend_on_address());
        let mut findings = eim();
        findings.seen.truncate(2);
        assert!(findings.may_depend_on_address());
        findings.nat.mapping = message::Mapping::AddressAndPortDependent;
        assert!(!findings.may_depend_on_address(), "it does, and that is seen");
    }

    #[test]
    fn a_carrier_shows_in_addresses() {
        assert_eq!(eim().carrier_address(), None);
        let mut findings = eim();
        findings.hosts.push("100.64.3.4".parse().unwrap());
        assert_eq!(findings.carrier_address(), Some("100.64.3.4".parse().unwrap()));
        let mut findings = eim();
        findings.port_mapped.push(mapped("192.168.7.7:5000", Err(Worthless::Private)));
        assert_eq!(findings.carrier_address(), Some("192.168.7.7".parse().unwrap()));
        // A server in the carrier's own network sees it as it is: that says nothing.
        for seen in &mut findings.seen {
            seen.mapped = "100.64.3.4:7".parse().unwrap();
        }
        assert_eq!(findings.carrier_address(), None);
    }

    #[test]
    fn a_way_out_is_blocked_when_the_one_port_alone_answers() {
        let mut findings = eim();
        let to = findings.seen[1].destination;
        findings.unreached.push(Unreached { to, error: "no answer".into() });
        assert!(!findings.is_way_out_blocked(), "others did answer");
        findings.seen.truncate(1);
        assert!(findings.is_way_out_blocked());
        findings.source = Source::Stun("stun.example:3478".into());
        assert!(!findings.is_way_out_blocked(), "it may have one address, and name two");
    }
}

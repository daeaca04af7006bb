//! What could be changed, of what was seen. Each piece has a code that never changes.

use super::findings::{Findings, Source};
use crate::limits;
use crate::wire::message::{Allocation, Filtering, Mapping, Pooling, Refusal};

/// A piece of advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Nothing but the login's port answers.
    OpenOutgoing,
    /// The mapping depends on the destination.
    EndpointIndependentMapping,
    /// Let programs ask for ports.
    EnablePortMapping,
    /// A carrier translates, too.
    CarrierNat,
    /// Connections leave from several addresses.
    AddressPairing,
    /// There is no IPv6.
    EnableIpv6,
    /// Unexpected connections are answered instead of dropped.
    DropSilently,
    /// Silent connections are forgotten too soon.
    MappingLifetime,
    /// The server has one address.
    SecondAddress,
    /// The server has one endpoint.
    OtherServer,
    /// Ask our rendezvous for the rest.
    AskRendezvous,
}

/// All of it, the most useful first.
const ALL: [Advice; 11] = [
    Advice::OpenOutgoing,
    Advice::EndpointIndependentMapping,
    Advice::EnablePortMapping,
    Advice::CarrierNat,
    Advice::AddressPairing,
    Advice::EnableIpv6,
    Advice::DropSilently,
    Advice::MappingLifetime,
    Advice::SecondAddress,
    Advice::OtherServer,
    Advice::AskRendezvous,
];

/// What fits the findings.
pub(crate) fn advice(findings: &Findings) -> Vec<Advice> {
    ALL.into_iter().filter(|advice| advice.fits(findings)).collect()
}

impl Advice {
    fn fits(self, findings: &Findings) -> bool {
        let nat = &findings.nat;
        let depends = findings.depends_on_destination();
        let lets_in = nat.filtering == Filtering::EndpointIndependent || findings.is_port_mapped();
        // A carrier's NAT is nothing that its customers can set.
        let carrier = is_carriers(findings);
        match self {
            Self::OpenOutgoing => findings.is_way_out_blocked(),
            // Where a port is mapped, nothing else matters much.
            Self::EndpointIndependentMapping => depends && !carrier && !findings.is_port_mapped(),
            Self::EnablePortMapping => {
                findings.is_translated() && findings.port_mapped.is_empty() && !lets_in
            }
            Self::CarrierNat => carrier && !lets_in,
            Self::AddressPairing => nat.pooling == Pooling::Arbitrary,
            Self::EnableIpv6 => findings.ipv6().is_empty() && !lets_in && (depends || carrier),
            Self::DropSilently => matches!(nat.refusal, Refusal::Rst | Refusal::Icmp),
            Self::MappingLifetime => findings.is_lifetime_short(),
            Self::SecondAddress => findings.may_depend_on_address(),
            Self::OtherServer => {
                matches!(findings.source, Source::Stun(_)) && nat.mapping == Mapping::Unknown
            }
            Self::AskRendezvous => {
                matches!(findings.source, Source::Stun(_)) && findings.is_translated()
            }
        }
    }

    /// The code.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::OpenOutgoing => "open-outgoing",
            Self::EndpointIndependentMapping => "endpoint-independent-mapping",
            Self::EnablePortMapping => "enable-port-mapping",
            Self::CarrierNat => "carrier-nat",
            Self::AddressPairing => "address-pairing",
            Self::EnableIpv6 => "enable-ipv6",
            Self::DropSilently => "drop-silently",
            Self::MappingLifetime => "mapping-lifetime",
            Self::SecondAddress => "second-address",
            Self::OtherServer => "other-server",
            Self::AskRendezvous => "ask-rendezvous",
        }
    }

    /// For a person.
    pub(crate) fn text(self, findings: &Findings) -> String {
        match self {
            Self::OpenOutgoing => {
                let ports: Vec<String> =
                    findings.unreached.iter().map(|unreached| unreached.to.to_string()).collect();
                format!(
                    "Let this machine connect to any TCP port, or at least to {}: direct connections \
                     go to ports that nobody knows beforehand, and the relay is at these. If other \
                     networks can't reach them either, the rendezvous' own firewall is in the way: \
                     tell its operator.",
                    ports.join(" and ")
                )
            }
            Self::EndpointIndependentMapping => {
                "Set the router's NAT type for TCP to endpoint-independent: it may be called \
                 \"full cone\" or \"open\" there. Turn off what is called \"symmetric\" \
                 or \"strict\"."
                    .into()
            }
            Self::EnablePortMapping => {
                "Turn on UPnP, NAT-PMP or PCP in the router, so that programs can ask it to let \
                 connections in."
                    .into()
            }
            Self::CarrierNat => carrier_text(findings),
            Self::AddressPairing => {
                "Your connections leave from several public addresses. Ask your provider, or whoever \
                 runs the gateway, for paired pooling (RFC 4787, REQ-2): one address for all \
                 connections of a machine."
                    .into()
            }
            Self::EnableIpv6 => {
                "Turn on IPv6, here and in the router: nothing is translated there, so that two \
                 machines with IPv6 connect at once."
                    .into()
            }
            Self::DropSilently => {
                "Let the firewall drop unexpected connections silently instead of rejecting them: an \
                 answer to the other side's dial undoes it, and costs another try."
                    .into()
            }
            Self::MappingLifetime => format!(
                "Raise the router's timeout for established TCP connections. It forgets silent ones \
                 before the keepalive, which comes after {} s; RFC 5382 asks for 2 hours and 4 minutes.",
                limits::KEEPALIVE_IDLE.as_secs()
            ),
            Self::SecondAddress => format!(
                "{} has one address, from which a NAT that distinguishes addresses looks like one \
                 that doesn't. A rendezvous with two tells them apart: see \"A second address\" in \
                 the manual's page on operations.",
                findings.source.place()
            ),
            Self::OtherServer => format!(
                "{} answers at one endpoint alone, so that nobody can tell whether your NAT maps \
                 another destination otherwise. Ask a server that has further ones (RFC 5780), or a \
                 gimletd: leave --stun away.",
                findings.source.place()
            ),
            Self::AskRendezvous => {
                "A STUN server shows how you go out. How others come in, a gimletd shows: leave \
                 --stun away."
                    .into()
            }
        }
    }
}

/// A carrier's NAT shows in the addresses between it and its customer, in the blocks of ports that it
/// assigns (RFC 6888 REQ-14, RFC 7422), and in its many public addresses.
fn is_carriers(findings: &Findings) -> bool {
    findings.carrier_address().is_some()
        || findings.is_port_mapped_in_vain()
        || matches!(findings.nat.allocation, Allocation::Block { .. })
        || findings.nat.pooling == Pooling::Arbitrary
}

fn carrier_text(findings: &Findings) -> String {
    let evidence = match (findings.carrier_address(), findings.nat.allocation) {
        (Some(address), _) => format!("{address} is an address of your provider's own network"),
        (None, Allocation::Block { first, last }) => {
            format!("your connections share the ports {first} to {last} of an address")
        }
        _ if findings.is_port_mapped_in_vain() => {
            "your router's own address is not the one at which others see you".into()
        }
        _ => "your connections leave from several public addresses".into(),
    };
    format!(
        "There seems to be another NAT behind your router, most likely your provider's: {evidence}. No \
         setting of the router changes that. Ask the provider for IPv6, or for a public address of your \
         own; if both NATs are yours, turn one into a bridge."
    )
}

#[cfg(test)]
mod tests {
    use super::super::findings::Unreached;
    use super::super::findings::tests::{behind, eim, mapped};
    use super::*;
    use crate::proto::peer::Lifetime;
    use std::time::Duration;

    fn codes(findings: &Findings) -> Vec<&'static str> {
        advice(findings).into_iter().map(Advice::code).collect()
    }

    #[test]
    fn each_piece_is_listed_once_and_has_a_code_of_its_own() {
        let mut codes = ALL.map(Advice::code);
        codes.sort_unstable();
        assert!(codes.windows(2).all(|pair| pair[0] != pair[1]), "{codes:?}");
    }

    #[test]
    fn whoever_has_no_nat_has_nothing_to_change() {
        let mut findings = behind(Mapping::None, Allocation::Unknown);
        findings.nat.filtering = Filtering::EndpointIndependent;
        assert!(codes(&findings).is_empty());
    }

    #[test]
    fn a_home_router_is_asked_for_what_it_can_do() {
        assert_eq!(codes(&eim()), ["enable-port-mapping"]);
        let mut findings = eim();
        findings.nat.filtering = Filtering::EndpointIndependent;
        assert!(codes(&findings).is_empty(), "everybody gets in as it is");
        let mut findings = eim();
        findings.port_mapped.push(mapped("192.0.2.17:5000", Ok(())));
        assert!(codes(&findings).is_empty(), "it does so already");
        let random = behind(Mapping::AddressAndPortDependent, Allocation::Random);
        let expected = ["endpoint-independent-mapping", "enable-port-mapping", "enable-ipv6"];
        assert_eq!(codes(&random), expected);
    }

    #[test]
    fn who_has_ipv6_is_not_told_to_get_it() {
        let mut findings = behind(Mapping::AddressAndPortDependent, Allocation::Random);
        findings.hosts.push("fe80::1".parse().unwrap());
        assert!(codes(&findings).contains(&"enable-ipv6"), "link-local leads nowhere");
        findings.hosts.push("2001:db8::1".parse().unwrap());
        assert!(!codes(&findings).contains(&"enable-ipv6"));
    }

    #[test]
    fn a_carriers_nat_is_not_the_users_to_set() {
        let block = Allocation::Block { first: 2048, last: 3071 };
        let findings = behind(Mapping::AddressAndPortDependent, block);
        assert_eq!(codes(&findings), ["enable-port-mapping", "carrier-nat", "enable-ipv6"]);
        let text = Advice::CarrierNat.text(&findings);
        assert!(text.contains("the ports 2048 to 3071"), "{text}");
        let mut findings = eim();
        findings.hosts = vec!["100.64.1.2".parse().unwrap()];
        assert!(Advice::CarrierNat.text(&findings).contains("100.64.1.2"));
        let mut findings = eim();
        findings.nat.pooling = Pooling::Arbitrary;
        assert!(codes(&findings).contains(&"address-pairing"));
    }

    #[test]
    fn a_firewall_that_answers_is_told_to_be_silent() {
        for (refusal, told) in [
            (Refusal::Rst, true),
            (Refusal::Icmp, true),
            (Refusal::Silence, false),
            (Refusal::Unknown, false),
        ] {
            let mut findings = eim();
            findings.nat.refusal = refusal;
            assert_eq!(codes(&findings).contains(&"drop-silently"), told, "{refusal:?}");
        }
    }

    #[test]
    fn a_nat_that_forgets_sooner_than_the_keepalive_comes_is_told_of() {
        for (gone, told) in [(42, true), (60, false)] {
            let mut findings = eim();
            let gone = Some(Duration::from_secs(gone));
            findings.lifetime = Some(Lifetime { lives: None, gone });
            assert_eq!(codes(&findings).contains(&"mapping-lifetime"), told, "{gone:?}");
        }
    }

    #[test]
    fn what_is_missing_to_know_more_is_told() {
        let mut findings = eim();
        findings.seen.truncate(2);
        assert!(codes(&findings).contains(&"second-address"));
        let mut findings = behind(Mapping::Unknown, Allocation::Preserving);
        findings.source = Source::Stun("stun.example:3478".into());
        findings.seen.truncate(1);
        let told = codes(&findings);
        assert!(told.contains(&"other-server") && told.contains(&"ask-rendezvous"), "{told:?}");
        let mut findings = behind(Mapping::Unknown, Allocation::Unknown);
        findings.seen.truncate(1);
        let to = "198.51.100.1:8000".parse().unwrap();
        findings.unreached.push(Unreached { to, error: "no answer".into() });
        assert_eq!(codes(&findings)[0], "open-outgoing");
        assert!(Advice::OpenOutgoing.text(&findings).contains("198.51.100.1:8000"));
    }
}

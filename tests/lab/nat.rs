//! What stands between a host and the WAN, in the words of RFC 4787 and RFC 5382, and the
//! nftables rules that make a Linux router behave so.

use std::net::Ipv4Addr;

/// A router's behaviour. A new preset is one constant; a new behaviour is one variant below and
/// its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nat {
    pub(crate) name: &'static str,
    pub(crate) family: Family,
    pub(crate) mapping: Mapping,
    pub(crate) filtering: Filtering,
    pub(crate) refusal: Refusal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Which external endpoint an internal one gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mapping {
    /// The host has a public address of its own.
    None,
    /// Endpoint-independent, and the port stays the same where it is free.
    Preserving,
    /// Endpoint-independent; the port is another one.
    EndpointIndependent,
}

/// From whom packets to a mapped endpoint are let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filtering {
    /// Everybody, even unmapped: there is no filter.
    None,
    EndpointIndependent,
    AddressAndPortDependent,
}

/// What a SYN that is not let in draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Silence,
    Rst,
}

impl Nat {
    /// No router: the host is on the WAN.
    pub(crate) const OPEN: Self = Self {
        name: "open",
        family: Family::V4,
        mapping: Mapping::None,
        filtering: Filtering::None,
        refusal: Refusal::Rst,
    };
    /// A stateful firewall before a public address.
    pub(crate) const FIREWALL: Self = Self {
        name: "firewall",
        filtering: Filtering::AddressAndPortDependent,
        refusal: Refusal::Silence,
        ..Self::OPEN
    };
    pub(crate) const PRESERVING: Self =
        Self { name: "preserving", mapping: Mapping::Preserving, ..Self::FIREWALL };
    pub(crate) const PRESERVING_RST: Self =
        Self { name: "preserving_rst", refusal: Refusal::Rst, ..Self::PRESERVING };
    /// Endpoint-independent mapping to another port, as long as any connection of the internal
    /// endpoint is alive.
    pub(crate) const EIM: Self =
        Self { name: "eim", mapping: Mapping::EndpointIndependent, ..Self::FIREWALL };
    /// Endpoint-independent mapping and filtering: once mapped, anybody may come in.
    pub(crate) const EIM_EIF: Self =
        Self { name: "eim_eif", filtering: Filtering::EndpointIndependent, ..Self::EIM };
    /// IPv6 alone, with the firewall of a home router.
    pub(crate) const FIREWALL_V6: Self =
        Self { name: "firewall_v6", family: Family::V6, ..Self::FIREWALL };
    /// IPv6 alone, and nothing in between.
    pub(crate) const OPEN_V6: Self = Self { name: "open_v6", family: Family::V6, ..Self::OPEN };

    pub(crate) fn has_router(&self) -> bool {
        self.filtering != Filtering::None
    }

    /// The router's rules. Its WAN side is called `wan` and owns the public address.
    pub(crate) fn ruleset(&self, public: Ipv4Addr) -> String {
        let mapping = match (self.mapping, self.filtering) {
            (Mapping::None, _) => String::new(),
            (Mapping::Preserving, _) => source_nat(&format!("snat ip to {public}")),
            (Mapping::EndpointIndependent, Filtering::EndpointIndependent) => {
                learnt_nat(&format!("{public}:{OTHER_PORTS}"))
            }
            (Mapping::EndpointIndependent, _) => {
                source_nat(&format!("snat ip to {public}:{OTHER_PORTS}"))
            }
        };
        mapping + &filter(self.refusal)
    }
}

/// Linux gives an internal endpoint the external one that its living connections have, and else
/// keeps the port when it is in the range: so the range must lie outside of the ports that hosts
/// take for themselves (32768 to 60999).
const OTHER_PORTS: &str = "20000-29999";

fn source_nat(rule: &str) -> String {
    format!(
        "table ip nat {{
            chain translate {{
                type nat hook postrouting priority srcnat
                oifname wan meta l4proto tcp {rule}
            }}
        }}\n"
    )
}

/// Learns each mapping as it is made, for the way out (so that it outlives its connections) and
/// for the way in (so that anybody may use it).
fn learnt_nat(range: &str) -> String {
    let internal = "ct original ip saddr . ct original proto-src";
    let learn_in = format!("update @inward {{ tcp sport : {internal} }}");
    let learn_out = format!("update @outward {{ {internal} : ip saddr . tcp sport }}");
    format!(
        "table ip nat {{
            map outward {{
                type ipv4_addr . inet_service : ipv4_addr . inet_service
                flags dynamic,timeout; timeout 5m; size 65535
            }}
            map inward {{
                type inet_service : ipv4_addr . inet_service
                flags dynamic,timeout; timeout 5m; size 65535
            }}
            chain map_in {{
                type nat hook prerouting priority dstnat
                iifname wan dnat ip to tcp dport map @inward
            }}
            chain map_out {{
                type nat hook postrouting priority srcnat
                oifname wan snat ip to ip saddr . tcp sport map @outward
                oifname wan meta l4proto tcp snat ip to {range}
            }}
            chain learn {{
                type filter hook postrouting priority srcnat + 10
                oifname wan meta l4proto tcp ct state new ct direction original {learn_in}
                oifname wan meta l4proto tcp ct state new ct direction original {learn_out}
            }}
        }}\n"
    )
}

/// What comes from the WAN must belong to a connection, or have been translated by a rule.
fn filter(refusal: Refusal) -> String {
    let refuse = match refusal {
        Refusal::Silence => "",
        Refusal::Rst => "meta l4proto tcp reject with tcp reset",
    };
    format!(
        "table inet filter {{
            chain from_wan {{
                ct state established,related accept
                ct status dnat accept
                meta l4proto icmpv6 accept
                {refuse}
                drop
            }}
            chain forward {{
                type filter hook forward priority filter
                iifname wan jump from_wan
            }}
            chain input {{
                type filter hook input priority filter
                iifname wan jump from_wan
            }}
        }}\n"
    )
}

//! The rules that make a Linux router behave as a [`Nat`] says.

use std::net::Ipv4Addr;

use super::{
    Allocation, Crossing, Engine, Filtering, Mapping, Nat, Pool, Reach, Refusal, SEQUENCE_FIRST,
    SEQUENCE_STEPS, USUAL_SYN_LIFETIME, Unreachable,
};
use crate::topology::S_V4;

impl Nat {
    /// The router's rules. Its WAN side is called `wan` and owns the public addresses.
    pub(crate) fn ruleset(&self, public: &[Ipv4Addr]) -> String {
        if self.engine == Engine::Userspace {
            return String::new();
        }
        assert_ne!(self.refusal, Refusal::LateIcmp, "{}: nftables has no timers", self.name);
        assert!(!self.hairpin, "{}: for these rules, what a LAN sends out stays out", self.name);
        assert_eq!(self.syn_lifetime, USUAL_SYN_LIFETIME, "{}: conntrack has its own", self.name);
        let translate = match (self.mapping, self.filtering) {
            (Mapping::None, _) => String::new(),
            (Mapping::AddressDependent, _) => learnt_by_address(&self.source(public)),
            (Mapping::EndpointIndependent, Filtering::EndpointIndependent) => {
                learnt(&self.source(public), "")
            }
            (Mapping::EndpointIndependent, Filtering::AddressDependent) => {
                learnt(&self.source(public), "tcp dport . ip saddr @known")
            }
            _ => source_nat(&self.source(public)),
        };
        translate + &crossing(self.crossing) + &reach(self.reach) + &filter(self.refusal)
    }

    /// The statement that gives a new connection its external endpoint.
    fn source(&self, public: &[Ipv4Addr]) -> String {
        use Allocation::{Preserving, Random, Sequential};
        let (first, last) = (public[0], public[public.len() - 1]);
        match (self.allocation, self.pool) {
            (Preserving, Pool::One) if self.refusal == Refusal::OwnRst => "masquerade".to_owned(),
            (Preserving, Pool::One) => format!("snat ip to {first}"),
            (Preserving, Pool::Paired(_)) => format!("snat ip to {first}-{last} persistent"),
            (Preserving, Pool::Arbitrary(count)) => {
                let addresses = numbered(public.iter());
                format!("snat ip to numgen random mod {count} map {{ {addresses} }}")
            }
            (Random { first: low, last: high }, Pool::One) => {
                // Without the flag, an internal endpoint keeps its external one.
                let every_time = match self.mapping {
                    Mapping::EndpointIndependent => "",
                    _ => "fully-random",
                };
                format!("snat ip to {first}:{low}-{high} {every_time}")
            }
            (Sequential { step }, Pool::One) => {
                // Without the map, numgen gives the port with its bytes swapped.
                let ports = numbered((0..SEQUENCE_STEPS).map(|n| SEQUENCE_FIRST + n * step));
                format!("snat ip to {first} : numgen inc mod {SEQUENCE_STEPS} map {{ {ports} }}")
            }
            _ => panic!("{}: nftables can't do this", self.name),
        }
    }
}

/// The elements of a map from 0, 1, … to the values.
fn numbered(values: impl Iterator<Item = impl std::fmt::Display>) -> String {
    values.enumerate().map(|(n, value)| format!("{n} : {value}, ")).collect()
}

fn source_nat(source: &str) -> String {
    format!(
        "table ip nat {{
            chain translate {{
                type nat hook postrouting priority srcnat
                oifname wan meta l4proto tcp {source}
            }}
        }}\n"
    )
}

/// Learns each mapping as it is made, for the way out (so that it outlives its connections) and
/// for the way in (so that whoever fulfils the condition may use it).
fn learnt(source: &str, condition: &str) -> String {
    let internal = "ct original ip saddr . ct original proto-src";
    let learn_in = format!("update @inward {{ tcp sport : {internal} }}");
    let learn_out = format!("update @outward {{ {internal} : ip saddr . tcp sport }}");
    let learn_whom = "update @known { tcp sport . ip daddr }";
    let fresh = "oifname wan meta l4proto tcp ct state new ct direction original";
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
            set known {{
                type inet_service . ipv4_addr
                flags dynamic,timeout; timeout 5m; size 65535
            }}
            chain map_in {{
                type nat hook prerouting priority dstnat
                iifname wan {condition} dnat ip to tcp dport map @inward
            }}
            chain map_out {{
                type nat hook postrouting priority srcnat
                oifname wan snat ip to ip saddr . tcp sport map @outward
                oifname wan meta l4proto tcp {source}
            }}
            chain learn {{
                type filter hook postrouting priority srcnat + 10
                {fresh} {learn_in}
                {fresh} {learn_out}
                {fresh} {learn_whom}
            }}
        }}\n"
    )
}

/// Learns which external endpoint an internal one has towards an address.
fn learnt_by_address(source: &str) -> String {
    let fresh = "oifname wan meta l4proto tcp ct state new ct direction original";
    let key = "ct original ip saddr . ct original proto-src . ip daddr";
    format!(
        "table ip nat {{
            map outward {{
                type ipv4_addr . inet_service . ipv4_addr : ipv4_addr . inet_service
                flags dynamic,timeout; timeout 5m; size 65535
            }}
            chain map_out {{
                type nat hook postrouting priority srcnat
                oifname wan snat ip to ip saddr . tcp sport . ip daddr map @outward
                oifname wan meta l4proto tcp {source}
            }}
            chain learn {{
                type filter hook postrouting priority srcnat + 10
                {fresh} update @outward {{ {key} : ip saddr . tcp sport }}
            }}
        }}\n"
    )
}

/// Remembers our SYNs; the verdict on one that meets them falls before conntrack sees it, which would
/// take it for the beginning of a simultaneous open even if it is dropped later.
fn crossing(crossing: Crossing) -> String {
    let verdict = match crossing {
        Crossing::LetIn => return String::new(),
        Crossing::Dropped => "drop",
        Crossing::Reset => "reject with tcp reset",
    };
    let syn = "tcp flags & (syn | ack | rst) == syn";
    format!(
        "table ip crossing {{
            set dialled {{
                type inet_service . ipv4_addr . inet_service
                flags dynamic,timeout; timeout 2m; size 65535
            }}
            chain from_wan {{
                type filter hook prerouting priority raw
                iifname wan {syn} tcp dport . ip saddr . tcp sport @dialled {verdict}
            }}
            chain to_wan {{
                type filter hook postrouting priority srcnat + 10
                oifname wan {syn} update @dialled {{ tcp sport . ip daddr . tcp dport }}
            }}
        }}\n"
    )
}

fn reach(reach: Reach) -> String {
    let [first, second] = S_V4;
    match reach {
        Reach::Everybody => String::new(),
        Reach::Rendezvous => format!(
            "table ip reach {{
                chain forward {{
                    type filter hook forward priority filter - 1
                    oifname wan ip daddr != {{ {first}, {second} }} drop
                }}
            }}\n"
        ),
    }
}

/// What comes from the WAN must belong to a connection, or have been translated by a rule.
fn filter(refusal: Refusal) -> String {
    let refuse = match refusal {
        Refusal::Silence | Refusal::OwnRst | Refusal::LateIcmp => "",
        Refusal::Rst => "meta l4proto tcp reject with tcp reset",
        Refusal::Icmp(Unreachable::Port) => "meta l4proto tcp reject with icmpx port-unreachable",
        Refusal::Icmp(Unreachable::Prohibited) => {
            "meta l4proto tcp reject with icmpx admin-prohibited"
        }
    };
    let own = if refusal == Refusal::OwnRst { "accept" } else { "jump from_wan" };
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
                iifname wan {own}
            }}
        }}\n"
    )
}

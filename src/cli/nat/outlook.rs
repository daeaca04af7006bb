//! What a NAT means for connecting. Nothing is decided here: [`strategy`] is asked what it would do
//! with each kind of NAT on the other side, and that is told.

use super::findings::Findings;
use crate::proto::punch::strategy::{self, Aim};
use crate::wire::message::{Allocation, Filtering, Mapping, Nat, Refusal};

/// How a direct connection with some other NAT comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// Both dial what is known.
    AtOnce,
    /// Ports are predicted.
    Prediction,
    /// Ports are guessed, many at a time.
    Guessing,
    /// It doesn't: the rendezvous relays.
    Relayed,
}

impl Way {
    /// The word of events.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AtOnce => "at-once",
            Self::Prediction => "prediction",
            Self::Guessing => "guessing",
            Self::Relayed => "relayed",
        }
    }

    /// For a person.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::AtOnce => "direct, at once",
            Self::Prediction => "direct, by predicting ports",
            Self::Guessing => "direct, by guessing ports",
            Self::Relayed => "only through the relay",
        }
    }
}

/// A kind of NAT on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Other {
    /// The word of events.
    pub(crate) name: &'static str,
    /// For a person.
    pub(crate) meaning: &'static str,
    nat: Nat,
}

const UNKNOWN: Nat = Nat {
    mapping: Mapping::Unknown,
    allocation: Allocation::Unknown,
    pooling: crate::wire::message::Pooling::Unknown,
    filtering: Filtering::Unknown,
    refusal: Refusal::Unknown,
    hairpinning: crate::wire::message::Hairpinning::Unknown,
};

/// Filtering by address and port, which is what most NATs do; none where there is nothing to filter.
const fn guarded(mapping: Mapping, allocation: Allocation) -> Nat {
    let filtering = Filtering::AddressAndPortDependent;
    Nat { mapping, allocation, filtering, refusal: Refusal::Silence, ..UNKNOWN }
}

const fn symmetric(allocation: Allocation) -> Nat {
    guarded(Mapping::AddressAndPortDependent, allocation)
}

/// One of each kind, from the easiest to the hardest.
pub(crate) const OTHERS: [Other; 6] = [
    Other {
        name: "open",
        meaning: "no NAT and no firewall",
        nat: Nat { mapping: Mapping::None, filtering: Filtering::EndpointIndependent, ..UNKNOWN },
    },
    Other {
        name: "firewall",
        meaning: "a firewall alone",
        nat: guarded(Mapping::None, Allocation::Preserving),
    },
    Other {
        name: "endpoint-independent",
        meaning: "endpoint-independent mapping: most home routers",
        nat: guarded(Mapping::EndpointIndependent, Allocation::Unknown),
    },
    Other {
        name: "sequential",
        meaning: "a new port for each destination, in sequence",
        nat: symmetric(Allocation::Sequential { delta: 1, busy: 0 }),
    },
    Other {
        name: "block",
        meaning: "a new port for each destination, any of a small block",
        nat: symmetric(Allocation::Block { first: 2048, last: 3071 }),
    },
    Other {
        name: "random",
        meaning: "a new port for each destination, any at all",
        nat: symmetric(Allocation::Random),
    },
];

/// With which kinds of NATs a connection comes about, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outlook {
    /// In the order of [`OTHERS`]; none where not even the relay can be reached.
    pub(crate) ways: Option<[Way; OTHERS.len()]>,
    /// All in all.
    pub(crate) direct: Direct,
}

/// Whether direct connections can be expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direct {
    /// With every NAT that maps endpoint-independently, and with everything easier, a direct connection
    /// comes about at once or by prediction.
    Expected,
    /// With these, ports have to be guessed for it, or not all that it depends on is known.
    Likely,
    /// Not even with all of these, or nothing but the login can be dialled at all.
    Unlikely,
}

impl Direct {
    /// The word of events.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Expected => "expected",
            Self::Likely => "likely",
            Self::Unlikely => "unlikely",
        }
    }

    /// For a person.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Expected => "direct connections can be expected",
            Self::Likely => "direct connections are likely",
            Self::Unlikely => "direct connections can't be expected: mostly relayed",
        }
    }
}

/// What the findings mean.
pub(crate) fn outlook(findings: &Findings) -> Outlook {
    if findings.is_way_out_blocked() {
        return Outlook { ways: None, direct: Direct::Unlikely };
    }
    let ways = OTHERS.map(|other| way(planned(findings), other.nat));
    let known = findings.is_mapping_known() || findings.is_port_mapped();
    Outlook { ways: Some(ways), direct: verdict(&ways, known) }
}

/// What the first round is planned with.
fn planned(findings: &Findings) -> Nat {
    let nat = findings.nat;
    if findings.is_port_mapped() {
        return strategy::where_port_mapped(nat);
    }
    match nat.allocation {
        // Whose ports were looked at and not understood is not one that will be seen in the next round.
        Allocation::Unknown if findings.depends_on_destination() => {
            Nat { allocation: Allocation::Random, ..nat }
        }
        _ => nat,
    }
}

/// What the first round of a punch between the two would do.
fn way(own: Nat, other: Nat) -> Way {
    if !strategy::is_hopeful(own, other) {
        return Way::Relayed;
    }
    let sides = strategy::plan(own, other, 1, 1);
    let ways = sides.iter().map(|side| match side.aim {
        Aim::Observed => Way::AtOnce,
        Aim::Ahead(_) | Aim::Step(..) => Way::Prediction,
        Aim::Random(..) => Way::Guessing,
    });
    ways.max().unwrap_or(Way::AtOnce)
}

/// The rule behind the exit code.
fn verdict(ways: &[Way; OTHERS.len()], is_mapping_known: bool) -> Direct {
    const COMMON: usize = 3;
    let hardest = ways[..COMMON].iter().max().copied().unwrap_or(Way::Relayed);
    match hardest {
        Way::Relayed => Direct::Unlikely,
        Way::AtOnce | Way::Prediction if is_mapping_known => Direct::Expected,
        _ => Direct::Likely,
    }
}

#[cfg(test)]
mod tests {
    use super::super::findings::Unreached;
    use super::super::findings::tests::{behind, eim, mapped};
    use super::*;
    use crate::proto::portmap::Worthless;
    use Way::{AtOnce, Guessing, Prediction, Relayed};

    fn both(findings: &Findings) -> (Direct, [Way; OTHERS.len()]) {
        let outlook = outlook(findings);
        (outlook.direct, outlook.ways.unwrap())
    }

    #[test]
    fn the_common_kinds_are_those_that_map_endpoint_independently() {
        let common = |other: &Other| {
            matches!(other.nat.mapping, Mapping::None | Mapping::EndpointIndependent)
        };
        let kinds: Vec<bool> = OTHERS.iter().map(common).collect();
        assert_eq!(kinds, [true, true, true, false, false, false]);
    }

    #[test]
    fn each_kind_of_nat_has_its_outlook() {
        let of = |allocation| both(&behind(Mapping::AddressAndPortDependent, allocation));
        let (direct, ways) = both(&eim());
        assert_eq!(direct, Direct::Expected);
        assert_eq!(ways, [AtOnce, AtOnce, AtOnce, Prediction, Guessing, Guessing]);

        let (direct, ways) = of(Allocation::Sequential { delta: 1, busy: 0 });
        assert_eq!(direct, Direct::Expected);
        assert_eq!((&ways[2..4], ways[5]), (&[Prediction, Prediction][..], Relayed));

        let (direct, ways) = of(Allocation::Random);
        assert_eq!(direct, Direct::Likely);
        assert_eq!(ways, [AtOnce, Guessing, Guessing, Relayed, Relayed, Relayed]);

        let (direct, ways) = of(Allocation::Block { first: 1024, last: 2047 });
        assert_eq!((direct, ways[4]), (Direct::Likely, Guessing));

        let (direct, ways) = of(Allocation::Preserving);
        assert_eq!((direct, ways[2]), (Direct::Expected, AtOnce));
    }

    #[test]
    fn a_nat_that_lets_everybody_in_needs_no_guessing() {
        let mut findings = eim();
        findings.nat.filtering = Filtering::EndpointIndependent;
        assert_eq!(both(&findings).1, [AtOnce; OTHERS.len()]);
    }

    #[test]
    fn so_does_a_router_that_maps_a_port_where_others_can_reach_it() {
        let mut findings = behind(Mapping::AddressAndPortDependent, Allocation::Random);
        findings.port_mapped.push(mapped("10.9.9.9:5000", Err(Worthless::Private)));
        assert_eq!(both(&findings).0, Direct::Likely);
        findings.port_mapped.push(mapped("192.0.2.17:5000", Ok(())));
        assert_eq!(both(&findings), (Direct::Expected, [AtOnce; OTHERS.len()]));
    }

    #[test]
    fn ports_without_a_pattern_are_any_ports() {
        let unknown = behind(Mapping::AddressAndPortDependent, Allocation::Unknown);
        let random = behind(Mapping::AddressAndPortDependent, Allocation::Random);
        assert_eq!(both(&unknown), both(&random));
    }

    #[test]
    fn what_is_not_known_is_not_promised() {
        let unknown = outlook(&behind(Mapping::Unknown, Allocation::Preserving));
        assert_eq!(unknown.direct, Direct::Likely);
        let mut findings = behind(Mapping::Unknown, Allocation::Unknown);
        let (to, error) = (findings.seen[1].destination, "no answer".to_owned());
        findings.unreached.push(Unreached { to, error });
        findings.seen.truncate(1);
        let blocked = outlook(&findings);
        assert_eq!(blocked.direct, Direct::Unlikely);
        assert_eq!(blocked.ways, None);
    }

    #[test]
    fn the_rule_asks_for_the_common_kinds_alone() {
        let rule = |hardest| verdict(&[AtOnce, AtOnce, hardest, Relayed, Relayed, Relayed], true);
        assert_eq!(rule(AtOnce), Direct::Expected);
        assert_eq!(rule(Prediction), Direct::Expected);
        assert_eq!(rule(Guessing), Direct::Likely);
        assert_eq!(rule(Relayed), Direct::Unlikely);
    }
}

//! The findings as data. The names of fields and their words never change their meaning.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use serde_json::{Map, Value};

use super::super::report_json;
use super::advice::Advice;
use super::findings::{Findings, PortMapped};
use super::outlook::{OTHERS, Outlook};
use super::words;
use crate::wire::message::Allocation;

/// The event `nat`.
#[derive(Debug, Serialize)]
pub(crate) struct NatJson<'a> {
    event: &'static str,
    /// Who was asked: `rendezvous`, or `stun`.
    source: &'static str,
    server: &'a str,
    local: SocketAddr,
    /// The local endpoint as the destinations see it, each way once.
    public: Vec<SocketAddr>,
    /// Further ones included.
    public_addresses: Vec<IpAddr>,
    seen: Vec<SeenJson>,
    unreached: Vec<UnreachedJson<'a>>,
    mapping: &'static str,
    /// False where destinations of one address alone were seen, so that a NAT which distinguishes
    /// addresses would look the same.
    mapping_certain: bool,
    allocation: AllocationJson,
    pooling: &'static str,
    filtering: &'static str,
    refusal: &'static str,
    hairpinning: &'static str,
    port_mapped: Vec<PortMappedJson>,
    ipv6: Vec<IpAddr>,
    /// How long a silent connection is kept; null where that was not measured.
    lifetime: Option<LifetimeJson>,
    /// How a direct connection comes about, by the kind of NAT on the other side; null where nothing but
    /// the login is reached.
    with: Option<Map<String, Value>>,
    /// `expected`, `likely` or `unlikely`.
    direct: &'static str,
    advice: Vec<&'static str>,
    /// That of the program.
    exit_code: u8,
}

#[derive(Debug, Serialize)]
struct SeenJson {
    by: SocketAddr,
    at: SocketAddr,
}

#[derive(Debug, Serialize)]
struct UnreachedJson<'a> {
    to: SocketAddr,
    error: &'a str,
}

#[derive(Debug, Serialize)]
struct LifetimeJson {
    /// The longest silence that it survives, as far as was seen.
    lives_ms: Option<f64>,
    /// The shortest one beyond that, after which it is gone.
    gone_ms: Option<f64>,
}

/// As in the event `port_mapped`.
#[derive(Debug, Serialize)]
struct PortMappedJson {
    protocol: &'static str,
    endpoint: SocketAddr,
    /// Whether others can reach it.
    candidate: bool,
}

/// What a kind doesn't have is null.
#[derive(Debug, Default, Serialize)]
struct AllocationJson {
    kind: &'static str,
    delta: Option<i16>,
    busy: Option<u16>,
    first: Option<u16>,
    last: Option<u16>,
}

/// The findings as an event.
pub(crate) fn nat<'a>(
    findings: &'a Findings,
    outlook: &Outlook,
    advice: &[Advice],
    exit_code: u8,
) -> NatJson<'a> {
    let seen = findings.seen.iter().map(|seen| SeenJson { by: seen.destination, at: seen.mapped });
    let unreached = findings.unreached.iter();
    NatJson {
        event: "nat",
        source: findings.source.name(),
        server: findings.source.place(),
        local: findings.local,
        public: findings.endpoints(),
        public_addresses: findings.addresses(),
        seen: seen.collect(),
        unreached: unreached.map(|one| UnreachedJson { to: one.to, error: &one.error }).collect(),
        mapping: words::mapping(findings.nat.mapping),
        mapping_certain: findings.is_mapping_known() && !findings.may_depend_on_address(),
        allocation: allocation(findings.nat.allocation),
        pooling: words::pooling(findings.nat.pooling),
        filtering: words::filtering(findings.nat.filtering),
        refusal: words::refusal(findings.nat.refusal),
        hairpinning: words::hairpinning(findings.nat.hairpinning),
        port_mapped: findings.port_mapped.iter().map(port_mapped).collect(),
        ipv6: findings.ipv6(),
        lifetime: findings.lifetime.map(|lifetime| LifetimeJson {
            lives_ms: lifetime.lives.map(report_json::millis),
            gone_ms: lifetime.gone.map(report_json::millis),
        }),
        with: outlook.ways.map(|ways| {
            let names = OTHERS.iter().map(|other| other.name.to_owned());
            names.zip(ways.map(|way| way.name().into())).collect()
        }),
        direct: outlook.direct.name(),
        advice: advice.iter().map(|advice| advice.code()).collect(),
        exit_code,
    }
}

fn port_mapped(mapped: &PortMapped) -> PortMappedJson {
    PortMappedJson {
        protocol: report_json::protocol(mapped.mapping.protocol),
        endpoint: mapped.mapping.external,
        candidate: mapped.worth.is_ok(),
    }
}

fn allocation(allocation: Allocation) -> AllocationJson {
    let kind = words::allocation(allocation);
    match allocation {
        Allocation::Sequential { delta, busy } => {
            AllocationJson { kind, delta: Some(delta), busy: Some(busy), ..Default::default() }
        }
        Allocation::Block { first, last } => {
            AllocationJson { kind, first: Some(first), last: Some(last), ..Default::default() }
        }
        Allocation::Unknown | Allocation::Preserving | Allocation::Random => {
            AllocationJson { kind, ..Default::default() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::advice::advice;
    use super::super::findings::tests::{behind, mapped};
    use super::super::outlook::outlook;
    use super::*;
    use crate::proto::peer::Lifetime;
    use crate::proto::portmap::Worthless;
    use crate::wire::message::Mapping;
    use serde_json::json;

    #[test]
    fn the_words_of_the_event_never_change() {
        let block = Allocation::Block { first: 2048, last: 3071 };
        let mut findings = behind(Mapping::AddressAndPortDependent, block);
        findings.seen.truncate(1);
        let lives = Some(std::time::Duration::from_secs(60));
        findings.lifetime = Some(Lifetime { lives, gone: None });
        findings.port_mapped.push(mapped("100.64.1.1:5000", Err(Worthless::Private)));
        findings.pool.push("192.0.2.18".parse().unwrap());
        let (outlook, advice) = (outlook(&findings), advice(&findings));
        let found = serde_json::to_value(nat(&findings, &outlook, &advice, 0)).unwrap();
        let expected = json!({
            "event": "nat",
            "source": "rendezvous",
            "server": "s.example:4000",
            "local": "10.0.0.2:5000",
            "public": ["192.0.2.17:7000"],
            "public_addresses": ["192.0.2.17", "192.0.2.18"],
            "seen": [{"by": "198.51.100.1:4000", "at": "192.0.2.17:7000"}],
            "unreached": [],
            "mapping": "address-and-port-dependent",
            "mapping_certain": true,
            "allocation":
                {"kind": "block", "delta": null, "busy": null, "first": 2048, "last": 3071},
            "pooling": "unknown",
            "filtering": "unknown",
            "refusal": "unknown",
            "hairpinning": "unknown",
            "port_mapped":
                [{"protocol": "upnp", "endpoint": "100.64.1.1:5000", "candidate": false}],
            "ipv6": [],
            "lifetime": {"lives_ms": 60000.0, "gone_ms": null},
            "with": {
                "open": "at-once",
                "firewall": "guessing",
                "endpoint-independent": "guessing",
                "sequential": "guessing",
                "block": "guessing",
                "random": "relayed",
            },
            "direct": "likely",
            "advice": ["carrier-nat", "enable-ipv6"],
            "exit_code": 0,
        });
        assert_eq!(found, expected);
    }
}

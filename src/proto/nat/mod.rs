//! What probes say about a NAT.

use std::net::{IpAddr, SocketAddr};

use crate::wire::message::{Allocation, Mapping};

/// One look at how the NAT maps a local port: the endpoint that a destination saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Where the connection went.
    pub destination: SocketAddr,
    /// Where it seemed to come from.
    pub mapped: SocketAddr,
}

/// Classifies the mapping of one local port by what several destinations saw of it: RFC 5780 §4.3,
/// with TCP connections in the place of its tests I to III. `hosts` are the machine's own addresses.
///
/// Observations of the other address family are left out: the first one says which counts.
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

/// Classifies which ports a NAT hands out, by the ports that it gave to mappings in the order in which
/// they were asked for, each from the local port beside it. Foreign connections may have taken some in
/// between.
pub fn classify_allocation(given: &[Given]) -> Allocation {
    if given.len() < 3 {
        return Allocation::Unknown;
    }
    if given.iter().all(|given| given.mapped == given.local) {
        return Allocation::Preserving;
    }
    if let Some(delta) = sequential_delta(given) {
        return Allocation::Sequential { delta, busy: 0 };
    }
    match block_around(given) {
        Some((first, last)) => Allocation::Block { first, last },
        None => Allocation::Random,
    }
}

/// Probes from fresh ports that show which ports a NAT hands out.
pub const SERIES: usize = 9;

/// The port that a NAT gave to a mapping from a local port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// Ours.
    pub local: u16,
    /// The NAT's.
    pub mapped: u16,
}

/// Longest step from one of our mappings to the next that still counts as a sequence: a few foreign
/// connections may lie in between.
const LONGEST_STEP: i32 = 128;

/// Connections of others that lie between two of ours on average, and still leave a sequence. The probes go
/// out at once: more than these would mean hundreds a second.
const FOREIGN_BETWEEN: i32 = 8;

/// Steps all in one direction, short ones, are a sequence, whose delta is what all steps are multiples of. The
/// SYNs of parallel probes may overtake each other, so the ports are put in order first; a random NAT
/// doesn't give ports so close together, and those of a block are in no step.
fn sequential_delta(given: &[Given]) -> Option<i16> {
    let mut ports: Vec<i32> = given.iter().map(|given| i32::from(given.mapped)).collect();
    let upward = ports.windows(2).filter(|pair| pair[1] > pair[0]).count();
    let downward = ports.windows(2).filter(|pair| pair[1] < pair[0]).count();
    ports.sort_unstable();
    let mut steps: Vec<i32> = ports.windows(2).map(|pair| pair[1] - pair[0]).collect();
    steps.sort_unstable();
    // Some may have been overtaken, and one step wraps around.
    let out_of_order = upward.min(downward);
    if out_of_order > (steps.len() / 4).max(1) {
        return None;
    }
    // A wrap-around leaves one long step.
    steps.pop_if(|longest| *longest > LONGEST_STEP);
    let delta = steps.iter().copied().fold(0, greatest_common_divisor);
    let is_close = steps.iter().sum::<i32>() <= FOREIGN_BETWEEN * delta * steps.len() as i32;
    if steps.first() == Some(&0) || delta == 0 || delta > LONGEST_STEP / 2 || !is_close {
        return None;
    }
    let delta = delta as i16;
    Some(if upward >= downward { delta } else { -delta })
}

fn greatest_common_divisor(one: i32, other: i32) -> i32 {
    if other == 0 { one } else { greatest_common_divisor(other, one % other) }
}

/// Carrier NATs assign blocks whose size is a power of two, aligned to it (RFC 7422, RFC 6888 REQ-14).
/// Random ports over the whole range fall into one of 4,096 with a probability of one in millions.
fn block_around(given: &[Given]) -> Option<(u16, u16)> {
    const LARGEST: u32 = 4096;
    if is_lumped(given) {
        return None;
    }
    let lowest = given.iter().map(|given| u32::from(given.mapped)).min()?;
    let highest = given.iter().map(|given| u32::from(given.mapped)).max()?;
    let mut size = 256;
    while size <= LARGEST {
        let first = lowest / size * size;
        if highest < first + size {
            return Some((first as u16, (first + size - 1) as u16));
        }
        size *= 2;
    }
    // Not aligned, but close together all the same.
    let spread = highest - lowest;
    let slack = spread / given.len() as u32 + 1;
    (spread < LARGEST / 2).then(|| {
        let last = (highest + slack).min(u32::from(u16::MAX));
        (lowest.saturating_sub(slack) as u16, last as u16)
    })
}

/// Whether one gap takes most of the range: the two lumps of a NAT that counts for each address, which lie
/// near each other by chance. With nine random ports of a block that comes once in two thousand times.
fn is_lumped(given: &[Given]) -> bool {
    let mut ports: Vec<u16> = given.iter().map(|given| given.mapped).collect();
    ports.sort_unstable();
    let widest = ports.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
    let spread = ports.last().zip(ports.first()).map_or(0, |(last, first)| last - first);
    u32::from(widest) * 4 > u32::from(spread) * 3
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

    fn allocation(mapped: &[u16]) -> Allocation {
        let given: Vec<_> = mapped
            .iter()
            .enumerate()
            .map(|(index, mapped)| Given { local: 50_000 + index as u16, mapped: *mapped })
            .collect();
        classify_allocation(&given)
    }

    #[test]
    fn steps_of_one_size_are_a_sequence_with_strangers_in_between() {
        let up = Allocation::Sequential { delta: 1, busy: 0 };
        assert_eq!(allocation(&[7000, 7001, 7002, 7003]), up);
        assert_eq!(allocation(&[7000, 7001, 7005, 7006, 7012]), up);
        assert_eq!(allocation(&[7000, 7002, 7005, 7009, 7011, 7014]), up, "one between each two");
        assert_eq!(allocation(&[7000, 7002, 7001, 7003]), up, "overtaken on the way");
        assert_eq!(allocation(&[65_534, 65_535, 1024, 1025]), up, "it wraps around");
        assert_eq!(
            allocation(&[7000, 7002, 7004, 7010]),
            Allocation::Sequential { delta: 2, busy: 0 }
        );
        assert_eq!(
            allocation(&[7009, 7008, 7006, 7005]),
            Allocation::Sequential { delta: -1, busy: 0 }
        );
    }

    #[test]
    fn the_local_ports_themselves_are_preserved() {
        assert_eq!(allocation(&[50_000, 50_001, 50_002]), Allocation::Preserving);
    }

    #[test]
    fn ports_all_over_are_random_and_close_ones_a_block() {
        let random = [9000, 41_000, 2200, 60_000, 33_000, 17_000];
        assert_eq!(allocation(&random), Allocation::Random);
        let block = [2050, 3000, 2800, 2500, 2217, 2999];
        assert_eq!(allocation(&block), Allocation::Block { first: 2048, last: 3071 });
        assert_eq!(allocation(&[2050, 3000]), Allocation::Unknown, "two prove nothing");
        let lumps = [2050, 3000, 2051, 3001, 2052, 3002, 2053, 3003, 2054];
        assert_eq!(allocation(&lumps), Allocation::Random, "two sequences by turns");
    }

    #[test]
    fn random_ports_are_hardly_ever_taken_for_anything_else() {
        let mut random = fastrand::Rng::with_seed(1);
        let wrong = (0..10_000)
            .filter(|_| {
                let ports: Vec<u16> = (0..9).map(|_| random.u16(1024..)).collect();
                allocation(&ports) != Allocation::Random
            })
            .count();
        assert!(wrong <= 2, "{wrong} of 10,000");
    }

    #[test]
    fn random_ports_of_a_block_are_hardly_ever_taken_for_a_sequence() {
        let mut random = fastrand::Rng::with_seed(3);
        let wrong = (0..10_000)
            .filter(|_| {
                let ports: Vec<u16> = (0..9).map(|_| random.u16(20_480..21_504)).collect();
                matches!(allocation(&ports), Allocation::Sequential { .. })
            })
            .count();
        assert!(wrong <= 2, "{wrong} of 10,000");
    }

    #[test]
    fn random_ports_of_a_block_are_mostly_taken_for_a_block() {
        let mut random = fastrand::Rng::with_seed(2);
        let right = (0..1000)
            .filter(|_| {
                let ports: Vec<u16> = (0..9).map(|_| random.u16(2048..3072)).collect();
                matches!(allocation(&ports), Allocation::Block { first, last }
                    if first >= 2048 && last <= 3071)
            })
            .count();
        assert!(right >= 800, "{right} of 1,000");
    }
}

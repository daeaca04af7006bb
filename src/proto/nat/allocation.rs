//! Which ports a NAT hands out, and how fast.

use std::time::{Duration, Instant};

use super::Given;
use crate::wire::message::Allocation;

/// Probes from fresh ports that show which ports and addresses a NAT hands out. Twelve random ports of a
/// block all lie in one half of it, which would then be taken for the block, once in 2,048 times.
pub const SERIES: usize = 12;

/// Classifies which ports a NAT hands out, by the ports that it gave to mappings in the order in which
/// they were asked for, each from the local port beside it. Foreign connections may have taken some in
/// between.
pub fn classify_allocation(given: &[Given]) -> Allocation {
    if given.len() < 3 {
        return Allocation::Unknown;
    }
    if given.iter().all(|given| given.mapped.port() == given.local) {
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
    let mut ports: Vec<i32> = given.iter().map(|given| i32::from(given.mapped.port())).collect();
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
    let lowest = given.iter().map(|given| u32::from(given.mapped.port())).min()?;
    let highest = given.iter().map(|given| u32::from(given.mapped.port())).max()?;
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
/// near each other by chance. With nine random ports of a block that comes once in two thousand times, with twelve less often.
fn is_lumped(given: &[Given]) -> bool {
    let mut ports: Vec<u16> = given.iter().map(|given| given.mapped.port()).collect();
    ports.sort_unstable();
    let widest = ports.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
    let spread = ports.last().zip(ports.first()).map_or(0, |(last, first)| last - first);
    u32::from(widest) * 4 > u32::from(spread) * 3
}

/// What a sequence had come to when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub at: Instant,
    /// The ports that mappings of ours got then.
    pub ports: Vec<u16>,
}

/// Between two looks that are closer than this, one foreign mapping more or less would be many a second.
const SHORTEST_WATCH: Duration = Duration::from_millis(100);

/// More steps than this between two looks are a wrap-around, or no sequence.
const MOST_STEPS: i32 = 8192;

/// How many mappings a second others make on a NAT that hands ports out in sequence: the steps from one
/// look at it to the next, less `own` mappings that we made in between. `None` when too little is known.
pub fn foreign_rate(delta: i16, before: &Moment, after: &Moment, own: u32) -> Option<u16> {
    let time = after.at.saturating_duration_since(before.at);
    if delta == 0 || time < SHORTEST_WATCH {
        return None;
    }
    let along = |ports: &[u16]| -> Vec<i32> {
        ports.iter().map(|port| i32::from(*port) * i32::from(delta.signum())).collect()
    };
    let last = along(&before.ports).into_iter().max()?;
    let next = along(&after.ports).into_iter().min()?;
    let steps = (next - last) / i32::from(delta.unsigned_abs());
    if !(1..=MOST_STEPS).contains(&steps) {
        return None;
    }
    let foreign = (steps as u32 - 1).saturating_sub(own);
    Some((f64::from(foreign) / time.as_secs_f64()).round() as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(local: u16, to: &str, mapped: u16) -> Given {
        let destination = (to.parse::<std::net::IpAddr>().unwrap(), 8000).into();
        Given { local, destination, mapped: ([203, 0, 113, 1], mapped).into() }
    }

    fn allocation(mapped: &[u16]) -> Allocation {
        let given: Vec<_> = mapped
            .iter()
            .enumerate()
            .map(|(index, mapped)| given(50_000 + index as u16, "192.0.2.1", *mapped))
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

    #[test]
    fn a_sequence_for_each_address_foretells_nothing() {
        // Close together, too: they are no block.
        for second in [41_000, 9_500] {
            let given: Vec<_> = (0..8)
                .map(|index| match index % 2 {
                    0 => given(50_000 + index, "192.0.2.1", 9000 + index / 2),
                    _ => given(50_000 + index, "192.0.2.2", second + index / 2),
                })
                .collect();
            assert_eq!(classify_allocation(&given), Allocation::Random);
        }
        let one_for_all: Vec<_> = (0..8)
            .map(|index| {
                given(
                    50_000 + index,
                    ["192.0.2.1", "192.0.2.2"][usize::from(index % 2)],
                    9000 + index,
                )
            })
            .collect();
        let expected = Allocation::Sequential { delta: 1, busy: 0 };
        assert_eq!(classify_allocation(&one_for_all), expected);
    }

    /// A NAT that counts, with others behind it.
    struct Sequence {
        port: u16,
        delta: i16,
    }

    impl Sequence {
        fn next(&mut self) -> u16 {
            self.port = self.port.wrapping_add_signed(self.delta);
            self.port
        }

        fn look(&mut self, at: Instant, mappings: usize) -> Moment {
            Moment { at, ports: (0..mappings).map(|_| self.next()).collect() }
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test may take any instant as its origin")]
    fn the_mappings_of_others_are_counted_and_ours_are_not() {
        let origin = Instant::now();
        let mut random = fastrand::Rng::with_seed(5);
        for (delta, rate) in [(1, 0), (1, 5), (2, 20), (-1, 50)] {
            let mut sequence = Sequence { port: 30_000, delta };
            let before = sequence.look(origin, 9);
            // One hole of ours, and others at random moments for two seconds.
            sequence.next();
            let foreign = (0..2000).filter(|_| random.u32(..1000) < rate).count();
            sequence.look(origin, foreign);
            let after = sequence.look(origin + Duration::from_secs(2), 3);
            let expected = (foreign as f64 / 2.0).round() as u16;
            assert_eq!(foreign_rate(delta, &before, &after, 1), Some(expected));
            assert!(expected.abs_diff(rate as u16) <= rate as u16 / 2 + 1, "{expected} for {rate}");
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test may take any instant as its origin")]
    fn too_short_a_watch_or_a_sequence_that_begins_anew_says_nothing() {
        let origin = Instant::now();
        let moment = |ms, ports: &[u16]| Moment {
            at: origin + Duration::from_millis(ms),
            ports: ports.to_vec(),
        };
        let before = moment(0, &[7000, 7001]);
        assert_eq!(foreign_rate(1, &before, &moment(20, &[7002]), 0), None);
        assert_eq!(foreign_rate(1, &before, &moment(1000, &[1024]), 0), None, "it wrapped around");
        assert_eq!(foreign_rate(1, &before, &moment(1000, &[60_000]), 0), None);
        assert_eq!(foreign_rate(1, &before, &moment(1000, &[]), 0), None);
        assert_eq!(foreign_rate(1, &before, &moment(1000, &[7002]), 1), Some(0));
    }
}

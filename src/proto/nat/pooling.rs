//! Which of its addresses a NAT hands out.

use std::net::IpAddr;

use crate::wire::message::Pooling;

/// Mappings that must all have one address before a NAT counts as one that pairs. Of two addresses, taken
/// at random, the same one comes up six times in a row once in 32 times, of four once in 1,024.
const LOOKS: usize = 6;

/// Classifies the pooling by the external addresses of different mappings of one host (RFC 4787 §4.1).
/// And those beside `observed`.
pub fn classify_pooling(observed: IpAddr, mappings: &[IpAddr]) -> (Pooling, Vec<IpAddr>) {
    let mut others = Vec::new();
    let same_family = mappings.iter().filter(|ip| ip.is_ipv4() == observed.is_ipv4());
    let looks = same_family.clone().count();
    for ip in same_family {
        if *ip != observed && !others.contains(ip) {
            others.push(*ip);
        }
    }
    let pooling = match (others.len(), looks) {
        (0, LOOKS..) => Pooling::Paired,
        (0, _) => Pooling::Unknown,
        _ => Pooling::Arbitrary,
    };
    (pooling, others)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [203, 0, 113, last].into()
    }

    #[test]
    fn one_address_again_and_again_is_paired_and_another_one_is_not() {
        assert_eq!(classify_pooling(ip(1), &[ip(1); 6]), (Pooling::Paired, vec![]));
        assert_eq!(classify_pooling(ip(1), &[ip(1); 5]), (Pooling::Unknown, vec![]));
        let arbitrary = classify_pooling(ip(1), &[ip(1), ip(3), ip(1), ip(3), ip(2)]);
        assert_eq!(arbitrary, (Pooling::Arbitrary, vec![ip(3), ip(2)]));
    }

    #[test]
    fn the_other_family_does_not_count() {
        let mut mappings = vec![ip(1); 6];
        mappings.push("2001:db8::1".parse().unwrap());
        assert_eq!(classify_pooling(ip(1), &mappings), (Pooling::Paired, vec![]));
    }
}

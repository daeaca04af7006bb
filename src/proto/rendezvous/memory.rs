//! What is remembered for a while: bounded, and the oldest makes room.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use crate::limits;
use crate::proto::timers::Timers;
use crate::wire::message::Nat;

/// Values that are forgotten in time.
#[derive(Debug)]
pub(super) struct Memory<K, V> {
    values: HashMap<K, (Instant, V)>,
    expiry: Timers<K>,
}

impl<K: Hash + Ord + Copy, V> Memory<K, V> {
    /// Remembers a value until an instant, and forgets the oldest one if there are too many.
    pub(super) fn remember(&mut self, key: K, value: V, until: Instant, limit: usize) {
        self.forget(&key);
        if limit == 0 {
            return;
        }
        while self.values.len() >= limit {
            self.forget_oldest();
        }
        self.expiry.set(until, key);
        self.values.insert(key, (until, value));
    }

    pub(super) fn forget(&mut self, key: &K) {
        if let Some((until, _)) = self.values.remove(key) {
            self.expiry.clear(until, *key);
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key).map(|(_, value)| value)
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.expiry.next()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, key)) = self.expiry.expire(now) {
            self.values.remove(&key);
        }
        debug_assert_eq!(self.values.len(), self.expiry.len());
    }

    fn forget_oldest(&mut self) {
        let oldest = self.expiry.next().expect("each value has its expiry");
        if let Some((_, key)) = self.expiry.expire(oldest) {
            self.values.remove(&key);
        }
    }
}

impl<K: Ord + Copy, V> Default for Memory<K, V> {
    fn default() -> Self {
        Self { values: HashMap::new(), expiry: Timers::new() }
    }
}

/// What stands before a peer, by the address that S sees: an IPv4 address, or the /64 of an IPv6 one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Network(IpAddr);

impl Network {
    pub(super) fn of(observed: IpAddr) -> Self {
        Self(match observed {
            IpAddr::V4(_) => observed,
            IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) >> 64 << 64).into(),
        })
    }
}

/// What networks have shown, so that the next peer behind one needn't find out first: a peer that has
/// just logged in is introduced with what others behind its NAT have seen, and two networks begin with
/// what has connected them before.
///
/// It is a hint and no more. What a peer says of its own NAT counts before it, and a peer can mislead
/// only those behind its own address.
#[derive(Debug, Default)]
pub(super) struct Networks {
    nats: Memory<Network, Nat>,
    /// The rung (see [`crate::proto::punch::strategy`]) that connected two networks, where it wasn't the
    /// first.
    rungs: Memory<(Network, Network), u8>,
}

impl Networks {
    /// Who has seen nothing of its NAT teaches nothing.
    pub(super) fn learn_nat(&mut self, network: Network, nat: Nat, now: Instant) {
        if nat == Nat::default() {
            return;
        }
        self.nats.handle_timeout(now);
        self.nats.remember(network, nat, now + limits::NETWORK_TIME, limits::NETWORKS);
    }

    pub(super) fn nat(&mut self, network: Network, now: Instant) -> Option<Nat> {
        self.nats.handle_timeout(now);
        self.nats.get(&network).copied()
    }

    pub(super) fn learn_rung(&mut self, one: Network, other: Network, rung: u8, now: Instant) {
        self.rungs.handle_timeout(now);
        let pair = (one.min(other), one.max(other));
        match rung {
            1 => self.rungs.forget(&pair),
            rung => {
                let until = now + limits::NETWORK_TIME;
                self.rungs.remember(pair, rung, until, limits::NETWORKS);
            }
        }
    }

    /// Where to begin.
    pub(super) fn rung(&mut self, one: Network, other: Network, now: Instant) -> u8 {
        self.rungs.handle_timeout(now);
        self.rungs.get(&(one.min(other), one.max(other))).copied().unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::Mapping;
    use std::time::Duration;

    #[allow(clippy::disallowed_methods, reason = "a test may take any instant as its origin")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn network(text: &str) -> Network {
        Network::of(text.parse().unwrap())
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten_in_time() {
        let start = origin();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut memory = Memory::default();
        memory.remember(1, "one", at(10), 2);
        memory.remember(2, "two", at(11), 2);
        memory.remember(3, "three", at(12), 2);
        assert_eq!((memory.len(), memory.get(&1)), (2, None), "the oldest makes room");
        memory.remember(2, "again", at(13), 2);
        assert_eq!(memory.get(&2), Some(&"again"));
        memory.handle_timeout(at(12));
        assert!(memory.get(&3).is_none() && memory.get(&2).is_some());
        memory.handle_timeout(at(13));
        assert_eq!((memory.len(), memory.poll_timeout()), (0, None));
    }

    #[test]
    fn two_networks_begin_with_what_connected_them_until_something_else_does() {
        let (one, other) = (network("203.0.113.1"), network("2001:db8::1"));
        let (mut networks, now) = (Networks::default(), origin());
        assert_eq!(networks.rung(one, other, now), 1);
        networks.learn_rung(one, other, 2, now);
        assert_eq!(networks.rung(network("2001:db8::2"), one, now), 2, "the same /64");
        assert_eq!(networks.rung(one, network("203.0.113.2"), now), 1);
        networks.learn_rung(other, one, 1, now);
        assert_eq!(networks.rung(one, other, now), 1);
        networks.learn_rung(one, other, 3, now);
        assert_eq!(networks.rung(one, other, now + limits::NETWORK_TIME), 1, "it is long ago");
    }

    #[test]
    fn a_network_s_nat_is_known_to_the_next_peer_behind_it() {
        let (mut networks, now) = (Networks::default(), origin());
        let nat = Nat { mapping: Mapping::EndpointIndependent, ..Nat::default() };
        networks.learn_nat(network("203.0.113.1"), nat, now);
        assert_eq!(networks.nat(network("203.0.113.1"), now), Some(nat));
        assert_eq!(networks.nat(network("203.0.113.2"), now), None);
    }
}

//! Which external endpoint a new mapping gets.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::nat::{Allocation, Nat, Pool, SEQUENCE_FIRST, SEQUENCE_STEPS};

pub(super) struct Ports {
    nat: Nat,
    public: Vec<Ipv4Addr>,
    /// How many mappings a sequential NAT has made.
    made: u16,
    /// The next port towards each address, where they are counted so.
    next_towards: HashMap<Ipv4Addr, u16>,
    random: fastrand::Rng,
}

/// Ports that are looked at before the NAT gives up: as many as a full block has.
const ATTEMPTS: usize = 1024;

/// Where a NAT that counts for each destination wraps around.
const LOWEST: u16 = 1024;

impl Ports {
    pub(super) fn new(nat: Nat, public: Vec<Ipv4Addr>, seed: u64) -> Self {
        assert_eq!(public.len(), usize::from(nat.addresses()));
        let random = fastrand::Rng::with_seed(seed);
        Self { nat, public, made: 0, next_towards: HashMap::new(), random }
    }

    pub(super) fn pick(
        &mut self,
        internal: SocketAddrV4,
        remote: SocketAddrV4,
        is_free: impl Fn(SocketAddrV4) -> bool,
    ) -> Option<SocketAddrV4> {
        (0..ATTEMPTS).find_map(|attempt| {
            let external = SocketAddrV4::new(
                self.address(*internal.ip()),
                self.port(internal.port(), *remote.ip(), attempt),
            );
            is_free(external).then_some(external)
        })
    }

    fn address(&mut self, internal: Ipv4Addr) -> Ipv4Addr {
        let count = self.public.len();
        self.public[match self.nat.pool {
            Pool::One => 0,
            Pool::Paired(_) => internal.to_bits() as usize % count,
            Pool::Arbitrary(_) => self.random.usize(..count),
        }]
    }

    fn port(&mut self, internal: u16, remote: Ipv4Addr, attempt: usize) -> u16 {
        match self.nat.allocation {
            Allocation::Preserving if attempt < self.public.len() => internal,
            Allocation::Preserving => self.random.u16(LOWEST..),
            Allocation::Random { first, last } => self.random.u16(first..=last),
            Allocation::Sequential { step } => {
                let made = self.made;
                self.made = (made + 1) % SEQUENCE_STEPS;
                SEQUENCE_FIRST + made * step
            }
            Allocation::SequentialPerAddress => {
                let first = self.random.u16(LOWEST..);
                let next = self.next_towards.entry(remote).or_insert(first);
                let port = *next;
                *next = port.checked_add(1).unwrap_or(LOWEST);
                port
            }
        }
    }
}

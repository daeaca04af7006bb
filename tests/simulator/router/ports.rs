//! Which external endpoint a new mapping gets.

use crate::nat::{Allocation, Nat, Pool, SEQUENCE_FIRST, SEQUENCE_STEPS};
use crate::packet::{Endpoint, FastMap, Nanos, SECOND};

pub(super) struct Ports {
    nat: Nat,
    public: Vec<u32>,
    /// How many mappings a sequential NAT has made.
    made: u16,
    /// The next port towards each address, where they are counted so.
    next_towards: FastMap<u32, u16>,
    /// When the next connection of others is opened.
    next_foreign: Nanos,
    random: fastrand::Rng,
}

/// Ports that are looked at before the NAT gives up: as many as a full block has.
const ATTEMPTS: usize = 1024;

/// Below are the well-known ports.
const LOWEST: u16 = 1024;

impl Ports {
    pub(super) fn new(nat: Nat, public: Vec<u32>, seed: u64) -> Self {
        assert_eq!(public.len(), usize::from(nat.addresses()));
        let mut random = fastrand::Rng::with_seed(seed);
        let made = random.u16(..SEQUENCE_STEPS);
        let mut ports =
            Self { nat, public, made, next_towards: FastMap::default(), next_foreign: 0, random };
        ports.next_foreign = ports.pause();
        ports
    }

    pub(super) fn pick(
        &mut self,
        internal: Endpoint,
        remote: Endpoint,
        now: Nanos,
        is_free: impl Fn(Endpoint) -> bool,
    ) -> Option<Endpoint> {
        self.let_others_dial(now);
        (0..ATTEMPTS).find_map(|attempt| {
            let ip = self.address(internal.ip);
            let external = Endpoint { ip, port: self.port(internal.port, remote.ip, attempt) };
            is_free(external).then_some(external)
        })
    }

    fn address(&mut self, internal: u32) -> u32 {
        let count = self.public.len();
        self.public[match self.nat.pool {
            Pool::One => 0,
            Pool::Paired(_) => internal as usize % count,
            Pool::Arbitrary(_) => self.random.usize(..count),
        }]
    }

    fn port(&mut self, internal: u16, remote: u32, attempt: usize) -> u16 {
        match self.nat.allocation {
            Allocation::Preserving if attempt < self.public.len() => internal,
            Allocation::Preserving => self.random.u16(LOWEST..),
            Allocation::Random { first, last } => self.random.u16(first..=last),
            Allocation::Sequential { step } => {
                let made = self.made;
                self.count();
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

    fn count(&mut self) {
        self.made = (self.made + 1) % SEQUENCE_STEPS;
    }

    /// The connections that others behind this NAT have opened since, at random moments: they take their
    /// ports too.
    fn let_others_dial(&mut self, now: Nanos) {
        while self.nat.foreign > 0 && self.next_foreign <= now {
            self.count();
            self.next_foreign += self.pause();
        }
    }

    /// Exponentially distributed, as between the arrivals of a Poisson process.
    fn pause(&mut self) -> Nanos {
        let mean = SECOND as f64 / f64::from(self.nat.foreign.max(1));
        (-(1.0 - self.random.f64()).ln() * mean) as Nanos + 1
    }
}

//! Builds a lab: hosts, routers, and the WAN between them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use crate::namespace::Namespace;
use crate::nat::{Family, Mapping, Nat};
use crate::site::{self, PeerSite};
use crate::traffic::{Sink, Traffic};
use crate::wan::Wan;

/// The sites of the WAN, as [`Wan`] counts them. Peers behind one NAT are both at site `A`.
pub(crate) const S: usize = 0;
pub(crate) const A: usize = 1;
pub(crate) const B: usize = 2;

/// S has two addresses, for what RFC 5780 calls the alternate address.
pub(crate) const S_V4: [Ipv4Addr; 2] =
    [Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(203, 0, 113, 1)];
pub(crate) const S_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 1);

/// A lab that runs. One per test at a time: a test that holds two can wait for itself.
pub(crate) struct Lab {
    pub(crate) s: Host,
    pub(crate) a: Host,
    pub(crate) b: Host,
    /// Of A, then of B, from the host outwards. None where the peer is on the WAN itself; one where
    /// the peers share it.
    pub(crate) routers: Vec<Namespace>,
    pub(crate) wan: Wan,
    /// Where the connections of others lead, if there are any.
    pub(crate) sink: Option<Sink>,
    _traffic: Vec<Traffic>,
    _turn: Turn,
}

/// A machine with its addresses.
pub(crate) struct Host {
    pub(crate) namespace: Namespace,
    pub(crate) v4: Option<Ipv4Addr>,
    pub(crate) v6: Option<Ipv6Addr>,
    /// The address that the WAN sees in packets of this host.
    pub(crate) public: IpAddr,
}

#[derive(Clone, Copy)]
pub(crate) struct Plan {
    access: Access,
    with_v6: bool,
    delay: Duration,
    seed: u64,
    alone: bool,
}

#[derive(Clone, Copy)]
enum Access {
    Apart(Nat, Nat),
    /// Both peers behind one router, in one LAN or in two.
    Shared(Nat, Lans),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lans {
    One,
    Two,
    /// Two, between which the router forwards nothing.
    TwoApart,
}

impl Lab {
    /// Both peers on the WAN, without delay, until told otherwise.
    pub(crate) fn plan() -> Plan {
        Plan {
            access: Access::Apart(Nat::OPEN, Nat::OPEN),
            with_v6: false,
            delay: Duration::ZERO,
            seed: 1,
            alone: false,
        }
    }
}

impl Plan {
    pub(crate) fn between(mut self, a: Nat, b: Nat) -> Self {
        self.access = Access::Apart(a, b);
        self
    }

    pub(crate) fn behind_one(mut self, nat: Nat, lans: Lans) -> Self {
        let fits = lans == Lans::One || nat.mapping != Mapping::None || nat.family == Family::V6;
        assert!(nat.has_router() && fits, "{nat:?} is no router to share");
        self.access = Access::Shared(nat, lans);
        self
    }

    /// Gives peers with IPv4 global IPv6 addresses as well, behind a firewall where there is a
    /// router.
    pub(crate) fn with_v6(mut self) -> Self {
        self.with_v6 = true;
        self
    }

    /// One way, between every two sites.
    pub(crate) fn delay_ms(mut self, delay: u64) -> Self {
        self.delay = Duration::from_millis(delay);
        self
    }

    /// Decides which packets are lost, where some are.
    pub(crate) fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// No other lab of this process runs meanwhile: for tests that measure time.
    pub(crate) fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    pub(crate) fn build(self) -> Lab {
        let turn = Turn::take(self.alone);
        let mut sites = Vec::new();
        let s = site::rendezvous_host(&mut sites);
        let mut routers = Vec::new();
        let mut traffic = Vec::new();
        let (a, b) = match self.access {
            Access::Apart(nat_a, nat_b) => {
                let mut peer = |name, number, nat: Nat| {
                    let site = PeerSite::new(number, nat, self.with_v6, self.seed);
                    if !nat.has_router() {
                        return site.host_on_wan(name, &mut sites);
                    }
                    let chain = site.routers(&mut sites);
                    let host = site.host_in_lan(name, &chain[0], 1, 2);
                    traffic.extend(site.traffic(&chain[0]));
                    routers.extend(chain);
                    host
                };
                (peer("a", 1, nat_a), peer("b", 2, nat_b))
            }
            Access::Shared(nat, lans) => {
                let site = PeerSite::new(1, nat, self.with_v6, self.seed);
                let chain = site.routers(&mut sites);
                let a = site.host_in_lan("a", &chain[0], 1, 2);
                let lan_of_b = if lans == Lans::One { 1 } else { 2 };
                let b = site.host_in_lan("b", &chain[0], lan_of_b, 3);
                if lans == Lans::TwoApart {
                    site::part_lans(&chain[0]);
                }
                traffic.extend(site.traffic(&chain[0]));
                routers.extend(chain);
                (a, b)
            }
        };
        let sink = (!traffic.is_empty()).then(|| site::sink(&mut sites));
        let wan = Wan::start(sites, self.delay, self.seed);
        Lab { s, a, b, routers, wan, sink, _traffic: traffic, _turn: turn }
    }
}

impl Host {
    /// The address that the host itself uses: private behind a NAT.
    pub(crate) fn own(&self) -> IpAddr {
        self.v4.map(IpAddr::from).or(self.v6.map(IpAddr::from)).unwrap()
    }
}

/// Labs run beside each other, except those that want the machine for themselves.
enum Turn {
    Shared(#[expect(dead_code)] RwLockReadGuard<'static, ()>),
    Alone(#[expect(dead_code)] RwLockWriteGuard<'static, ()>),
}

impl Turn {
    fn take(alone: bool) -> Self {
        static MACHINE: RwLock<()> = RwLock::new(());
        // A test that failed while it held the lock leaves nothing broken behind.
        match alone {
            false => Self::Shared(MACHINE.read().unwrap_or_else(|e| e.into_inner())),
            true => Self::Alone(MACHINE.write().unwrap_or_else(|e| e.into_inner())),
        }
    }
}

//! Builds a lab: hosts, routers, and the WAN between them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use crate::namespace::Namespace;
use crate::nat::{Family, Mapping, Nat};
use crate::sys;
use crate::wan::{Prefix, Site, Wan};

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
    /// None where the peer is on the WAN itself; one router where the peers share it.
    pub(crate) routers: Vec<Namespace>,
    pub(crate) wan: Wan,
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
        let s = rendezvous_host(&mut sites);
        let mut routers = Vec::new();
        let (a, b) = match self.access {
            Access::Apart(nat_a, nat_b) => {
                let mut peer = |name, number, nat| {
                    let site = PeerSite::new(number, nat, self.with_v6);
                    if !nat.has_router() {
                        return site.host_on_wan(name, &mut sites);
                    }
                    let router = site.router(&mut sites);
                    let host = site.host_in_lan(name, &router, 1, 2);
                    routers.push(router);
                    host
                };
                (peer("a", 1, nat_a), peer("b", 2, nat_b))
            }
            Access::Shared(nat, lans) => {
                let site = PeerSite::new(1, nat, self.with_v6);
                let router = site.router(&mut sites);
                let a = site.host_in_lan("a", &router, 1, 2);
                let lan_of_b = if lans == Lans::One { 1 } else { 2 };
                let b = site.host_in_lan("b", &router, lan_of_b, 3);
                routers.push(router);
                (a, b)
            }
        };
        let wan = Wan::start(sites, self.delay, self.seed);
        Lab { s, a, b, routers, wan, _turn: turn }
    }
}

impl Host {
    /// The address that the host itself uses: private behind a NAT.
    pub(crate) fn own(&self) -> IpAddr {
        self.v4.map(IpAddr::from).or(self.v6.map(IpAddr::from)).unwrap()
    }
}

fn rendezvous_host(sites: &mut Vec<Site>) -> Host {
    let namespace = Namespace::new("s");
    let addresses = [S_V4[0].into(), S_V4[1].into(), S_V6.into()];
    let prefixes = addresses.map(|a: IpAddr| Prefix(a, if a.is_ipv4() { 32 } else { 128 }));
    connect_to_wan(&namespace, prefixes.to_vec(), &addresses, sites);
    Host { namespace, v4: Some(S_V4[0]), v6: Some(S_V6), public: S_V4[0].into() }
}

/// The addresses of one peer's place. Site `n` has the public block 192.0.2.(16n)/28, whose upper
/// half is the LAN where nothing is translated, private LANs 10.n.(lan).0/24, and
/// 2001:db8:a(n)::/48.
struct PeerSite {
    number: u8,
    nat: Nat,
    v4: bool,
    v6: bool,
}

impl PeerSite {
    fn new(number: u8, nat: Nat, with_v6: bool) -> Self {
        let v4 = nat.family == Family::V4;
        Self { number, nat, v4, v6: with_v6 || !v4 }
    }

    fn public_v4(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, 16 * self.number + host)
    }

    fn lan_v4(&self, lan: u8, host: u8) -> (Ipv4Addr, u8) {
        match self.nat.mapping {
            Mapping::None => (self.public_v4(8 * lan + host), 29),
            _ => (Ipv4Addr::new(10, self.number, lan, host), 24),
        }
    }

    fn lan_v6(&self, lan: u8, host: u8) -> Ipv6Addr {
        let site = 0xa0 + u16::from(self.number);
        Ipv6Addr::new(0x2001, 0xdb8, site, lan.into(), 0, 0, 0, host.into())
    }

    fn prefixes(&self) -> Vec<Prefix> {
        let v4 = self.v4.then(|| Prefix(self.public_v4(0).into(), 28));
        let v6 = self.v6.then(|| Prefix(self.lan_v6(0, 0).into(), 48));
        v4.into_iter().chain(v6).collect()
    }

    fn host_on_wan(&self, name: &'static str, sites: &mut Vec<Site>) -> Host {
        let namespace = Namespace::new(name);
        let v4 = self.v4.then(|| self.public_v4(1));
        let v6 = self.v6.then(|| self.lan_v6(0, 1));
        let v4_addresses = v4.map(IpAddr::from).into_iter();
        let addresses: Vec<_> = v4_addresses.chain(v6.map(IpAddr::from)).collect();
        connect_to_wan(&namespace, self.prefixes(), &addresses, sites);
        Host { namespace, v4, v6, public: addresses[0] }
    }

    /// Has a bridge, `lan1` and `lan2`, for each LAN.
    fn router(&self, sites: &mut Vec<Site>) -> Namespace {
        let router = Namespace::new("router");
        router.sysctl("ipv4/ip_forward", "1");
        router.sysctl("ipv6/conf/all/forwarding", "1");
        router.nft(&self.nat.ruleset(self.public_v4(1)));
        let own = if self.v4 { self.public_v4(1).into() } else { self.lan_v6(0, 1).into() };
        connect_to_wan(&router, self.prefixes(), &[own], sites);
        for lan in [1, 2] {
            let (v4, bits) = self.lan_v4(lan, 1);
            let mut lines = format!("link add lan{lan} type bridge\nlink set lan{lan} up\n");
            if self.v4 && (lan == 1 || bits == 24) {
                lines += &format!("address add {v4}/{bits} dev lan{lan}\n");
            }
            if self.v6 {
                let v6 = self.lan_v6(lan, 1);
                lines += &format!("address add {v6}/64 dev lan{lan} nodad\n");
            }
            router.ip(&lines);
        }
        router
    }

    fn host_in_lan(&self, name: &'static str, router: &Namespace, lan: u8, host: u8) -> Host {
        let namespace = Namespace::new(name);
        let path = namespace.path();
        router.ip(&format!(
            "link add to_{name} type veth peer name eth0 netns {path}
            link set to_{name} master lan{lan} up\n"
        ));
        let v4 = self.v4.then(|| self.lan_v4(lan, host));
        let v6 = self.v6.then(|| self.lan_v6(lan, host));
        let mut lines = "link set eth0 up\n".to_owned();
        if let Some((address, bits)) = v4 {
            let gateway = self.lan_v4(lan, 1).0;
            lines += &format!(
                "address add {address}/{bits} dev eth0\nroute add default via {gateway}\n"
            );
        }
        if let Some(address) = v6 {
            let gateway = self.lan_v6(lan, 1);
            lines +=
                &format!("address add {address}/64 dev eth0 nodad\nroute add ::/0 via {gateway}\n");
        }
        namespace.ip(&lines);
        let v4 = v4.map(|(address, _)| address);
        let public = match (v4, v6) {
            (Some(own), _) if self.nat.mapping == Mapping::None => own.into(),
            (Some(_), _) => self.public_v4(1).into(),
            (None, v6) => v6.unwrap().into(),
        };
        Host { namespace, v4, v6, public }
    }
}

/// Gives the namespace the device `wan`, and the WAN another site.
fn connect_to_wan(
    namespace: &Namespace,
    prefixes: Vec<Prefix>,
    own: &[IpAddr],
    sites: &mut Vec<Site>,
) {
    let tun = namespace.run(|| sys::open_tun("wan")).expect("a TUN device");
    let mut lines = "link set wan up mtu 1500 txqueuelen 10000\n".to_owned();
    for address in own {
        match address {
            IpAddr::V4(v4) => lines += &format!("address add {v4}/32 dev wan\n"),
            IpAddr::V6(v6) => lines += &format!("address add {v6}/128 dev wan nodad\n"),
        }
    }
    lines += "route add 0.0.0.0/0 dev wan\nroute add ::/0 dev wan\n";
    namespace.ip(&lines);
    sites.push(Site { tun, prefixes });
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

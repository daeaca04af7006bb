//! The places on the WAN, built: hosts, routers, what is between them, and their addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::namespace::Namespace;
use crate::nat::{Engine, Family, Mapping, Nat};
use crate::sys;
use crate::topology::{Host, S_V4, S_V6};
use crate::traffic::{Sink, Traffic};
use crate::userspace_nat::{Timeouts, UserspaceNat};
use crate::wan::{Prefix, Site};

pub(crate) fn rendezvous_host(sites: &mut Vec<Site>) -> Host {
    let namespace = Namespace::new("s");
    let addresses = [S_V4[0].into(), S_V4[1].into(), S_V6.into()];
    let prefixes = addresses.map(|a: IpAddr| Prefix(a, if a.is_ipv4() { 32 } else { 128 }));
    connect_to_wan(&namespace, prefixes.to_vec(), &addresses, sites);
    Host { namespace, v4: Some(S_V4[0]), v6: Some(S_V6), public: S_V4[0].into() }
}

/// Where others connect to.
const SINK: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 241);

pub(crate) fn sink(sites: &mut Vec<Site>) -> Sink {
    let namespace = Namespace::new("sink");
    connect_to_wan(&namespace, vec![Prefix(SINK.into(), 32)], &[SINK.into()], sites);
    Sink::start(namespace, SINK.into())
}

/// The addresses of one peer's place. Site `n` has the public block 192.0.2.(16n)/28, whose upper
/// half is the LAN where nothing is translated, private LANs 10.n.(lan).0/24, 100.64.n.0/24 (RFC 6598)
/// where a carrier translates too, and 2001:db8:a(n)::/48.
pub(crate) struct PeerSite {
    number: u8,
    nat: Nat,
    v4: bool,
    v6: bool,
    seed: u64,
}

impl PeerSite {
    pub(crate) fn new(number: u8, nat: Nat, with_v6: bool, seed: u64) -> Self {
        let v4 = nat.family == Family::V4;
        let seed = seed.wrapping_mul(256) + u64::from(number);
        Self { number, nat, v4, v6: with_v6 || !v4, seed }
    }

    fn public_v4(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, 16 * self.number + host)
    }

    fn carrier_v4(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(100, 64, self.number, host)
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

    pub(crate) fn host_on_wan(&self, name: &'static str, sites: &mut Vec<Site>) -> Host {
        let namespace = Namespace::new(name);
        let v4 = self.v4.then(|| self.public_v4(1));
        let v6 = self.v6.then(|| self.lan_v6(0, 1));
        let v4_addresses = v4.map(IpAddr::from).into_iter();
        let addresses: Vec<_> = v4_addresses.chain(v6.map(IpAddr::from)).collect();
        connect_to_wan(&namespace, self.prefixes(), &addresses, sites);
        Host { namespace, v4, v6, public: addresses[0] }
    }

    /// The home router, and before it the carrier's if there is one.
    pub(crate) fn routers(&self, sites: &mut Vec<Site>) -> Vec<Namespace> {
        let Some(carrier) = self.nat.carrier else {
            let home = new_router("router");
            self.uplink(&home, self.nat, sites);
            self.add_lans(&home);
            return vec![home];
        };
        // What is done in this process is done at the edge of the WAN.
        let home_nat = Nat { engine: Engine::Kernel, ..self.nat };
        let carrier_nat = Nat { engine: self.nat.engine, ..*carrier };
        let (home, carrier) = (new_router("router"), new_router("carrier"));
        self.uplink(&carrier, carrier_nat, sites);
        self.connect_to_carrier(&home, &carrier);
        home.nft(&home_nat.ruleset(&[self.carrier_v4(1)]));
        self.add_lans(&home);
        vec![home, carrier]
    }

    /// Connects the router to the WAN, and has it translate.
    fn uplink(&self, router: &Namespace, nat: Nat, sites: &mut Vec<Site>) {
        let public: Vec<Ipv4Addr> = (1..=nat.addresses()).map(|n| self.public_v4(n)).collect();
        router.nft(&nat.ruleset(&public));
        let mut own: Vec<IpAddr> = public.iter().map(|v4| IpAddr::V4(*v4)).collect();
        if !self.v4 {
            own = vec![self.lan_v6(0, 1).into()];
        } else if nat.engine == Engine::Userspace && nat.mapping != Mapping::None {
            // The public addresses are beyond the device.
            own.clear();
        }
        connect_to_wan(router, self.prefixes(), &own, sites);
        if nat.engine == Engine::Userspace {
            let timeouts = Timeouts { opening: nat.syn_lifetime, ..Timeouts::USUAL };
            let translator = UserspaceNat::new(nat, public, timeouts, self.seed);
            sites.last_mut().unwrap().nat = Some(translator);
        }
    }

    fn connect_to_carrier(&self, home: &Namespace, carrier: &Namespace) {
        let (own, gateway) = (self.carrier_v4(1), self.carrier_v4(254));
        let path = home.path();
        carrier.ip(&format!(
            "link add to_home type veth peer name wan netns {path}
            link set to_home up
            address add {gateway}/24 dev to_home\n"
        ));
        home.ip(&format!(
            "link set wan up
            address add {own}/24 dev wan
            route add default via {gateway}\n"
        ));
    }

    /// A bridge for each LAN, `lan1` and `lan2`.
    fn add_lans(&self, router: &Namespace) {
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
    }

    /// The connections of others behind this NAT.
    pub(crate) fn traffic(&self, router: &Namespace) -> Option<Traffic> {
        let start = || {
            let neighbour = self.host_in_lan("neighbour", router, 1, 5);
            let from = neighbour.own();
            Traffic::start(neighbour.namespace, from, SINK.into(), self.nat.foreign, self.seed)
        };
        (self.nat.foreign > 0).then(start)
    }

    pub(crate) fn host_in_lan(
        &self,
        name: &'static str,
        router: &Namespace,
        lan: u8,
        host: u8,
    ) -> Host {
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

/// What guests and owners of one router have of each other.
pub(crate) fn part_lans(router: &Namespace) {
    router.nft(
        "table inet lans {
            chain forward {
                type filter hook forward priority filter - 2
                iifname lan1 oifname lan2 drop
                iifname lan2 oifname lan1 drop
            }
        }\n",
    );
}

fn new_router(name: &'static str) -> Namespace {
    let router = Namespace::new(name);
    router.sysctl("ipv4/ip_forward", "1");
    router.sysctl("ipv6/conf/all/forwarding", "1");
    router
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
    sites.push(Site { tun, prefixes, nat: None });
}

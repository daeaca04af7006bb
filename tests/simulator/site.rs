//! Builds the places of a story: S, and the two peers behind what stands between them and the WAN.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use gimlet::identity::PublicKey;
use gimlet::proto::peer::Config;
use gimlet::wire::message::Allow;

use crate::nat::{Mapping, Nat};
use crate::packet::Endpoint;
use crate::path::Place;
use crate::peer::PeerDriver;
use crate::rendezvous::{MAIN_PORT, RendezvousDriver};
use crate::router::{Habits, Router};
use crate::stranger::{Manners, Stranger};
use crate::topology::{S_V4, public_block};
use crate::world::{App, WAN, World};

/// S is always the first host, then come A and B.
pub(crate) const S: usize = 0;
pub(crate) const A: usize = 1;
pub(crate) const B: usize = 2;

/// Where the two peers are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Layout {
    /// Each behind its own.
    Apart([Nat; 2]),
    /// In one LAN behind one router.
    OneLan(Nat),
    /// Each behind its own router, and both of these behind one carrier's. Their LANs use the same private
    /// addresses, and in each somebody else has the address that the other peer has in its own.
    OneCarrier { homes: [Nat; 2], carrier: Nat },
}

/// How a peer is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Person {
    pub(crate) place: Place,
    /// By how much its clock is ahead.
    pub(crate) offset: Duration,
    /// Sockets that it has to spare.
    pub(crate) sockets: usize,
    pub(crate) spare_holes: usize,
}

pub(crate) fn key(host: usize) -> PublicKey {
    PublicKey::from_bytes([host as u8 + 1; 32])
}

pub(crate) fn add_rendezvous(world: &mut World, place: Place, relay: bool, seed: u64) {
    let host = world.add_host("S", WAN, place, &S_V4, Duration::from_secs(77), seed);
    assert_eq!(host, S);
    start_rendezvous(world, relay, seed);
}

pub(crate) fn start_rendezvous(world: &mut World, relay: bool, seed: u64) {
    let driver = RendezvousDriver::open(&mut world.hosts[S].tcp, relay, seed);
    world.power_on(S, App::Rendezvous(Box::new(driver)));
}

/// Puts A and B where the layout wants them.
pub(crate) fn add_peers(
    world: &mut World,
    layout: Layout,
    people: [Person; 2],
    habits: Habits,
    seed: u64,
) {
    match layout {
        Layout::Apart(nats) => {
            for (n, nat) in nats.into_iter().enumerate() {
                let site = n as u8 + 1;
                let (net, lan) = add_access(world, site, nat, people[n].place, habits, seed);
                add_peer(world, n, net, lan, people[n], seed);
            }
        }
        Layout::OneLan(nat) => {
            let (net, lan) = add_access(world, 1, nat, people[0].place, habits, seed);
            let neighbour = Ipv4Addr::from_bits(lan.to_bits() + 1);
            add_peer(world, 0, net, lan, people[0], seed);
            add_peer(world, 1, net, neighbour, people[1], seed);
        }
        Layout::OneCarrier { homes, carrier } => {
            let public = addresses(public_block(1), carrier);
            let router = Router::new(carrier, habits, public, seed ^ 1);
            let inner = world.add_router(router, WAN, people[0].place);
            let own = [2, 3].map(|n| Ipv4Addr::new(192, 168, 1, n));
            let mut nets = [0; 2];
            for (n, nat) in homes.into_iter().enumerate() {
                let public = addresses(Ipv4Addr::new(100, 64, n as u8 + 1, 0), nat);
                let router = Router::new(nat, habits, public, seed ^ (n as u64 + 2));
                nets[n] = world.add_router(router, inner, Place::default());
            }
            for n in 0..2 {
                add_peer(world, n, nets[n], own[n], people[n], seed);
            }
            for n in 0..2 {
                let manners = [Manners::Echo, Manners::Impostor][(seed >> 1) as usize % 2];
                add_stranger(world, nets[n], own[1 - n], manners, seed);
            }
        }
    }
}

/// The routers of one site; returns the innermost network and the address of its first host.
pub(crate) fn add_access(
    world: &mut World,
    site: u8,
    nat: Nat,
    place: Place,
    habits: Habits,
    seed: u64,
) -> (usize, Ipv4Addr) {
    let block = public_block(site);
    let public = Ipv4Addr::from_bits(block.to_bits() + 9);
    if !nat.has_router() {
        return (WAN, public);
    }
    let seed = seed ^ u64::from(site) << 8;
    let lan = Ipv4Addr::new(10, site, 1, 2);
    if let Some(carrier) = nat.carrier {
        let outer = Router::new(*carrier, habits, addresses(block, *carrier), seed ^ 1);
        let middle = world.add_router(outer, WAN, place);
        let home = Nat { carrier: None, ..nat };
        let between = addresses(Ipv4Addr::new(100, 64, site, 0), home);
        let inner = Router::new(home, habits, between, seed ^ 2);
        return (world.add_router(inner, middle, Place::default()), lan);
    }
    let owned = if nat.mapping == Mapping::None { Vec::new() } else { addresses(block, nat) };
    let owned =
        if owned.is_empty() { vec![Ipv4Addr::from_bits(block.to_bits() + 1)] } else { owned };
    let net = world.add_router(Router::new(nat, habits, owned, seed ^ 1), WAN, place);
    if nat.mapping == Mapping::None {
        // Nothing is translated: the hosts have public addresses.
        for n in 0..2 {
            world.announce(Ipv4Addr::from_bits(public.to_bits() + n), net);
        }
        return (net, public);
    }
    (net, lan)
}

fn addresses(block: Ipv4Addr, nat: Nat) -> Vec<Ipv4Addr> {
    (1..=u32::from(nat.addresses())).map(|n| Ipv4Addr::from_bits(block.to_bits() + n)).collect()
}

fn add_peer(world: &mut World, n: usize, net: usize, ip: Ipv4Addr, person: Person, seed: u64) {
    let seed = seed ^ (n as u64 + 1) << 32;
    let name = ["A", "B"][n];
    let host = world.add_host(name, net, person.place, &[ip], person.offset, seed);
    assert_eq!(host, n + 1);
    start_peer(world, host, ip, person, seed);
}

/// A new process of the peer.
fn start_peer(world: &mut World, host: usize, ip: Ipv4Addr, person: Person, seed: u64) {
    let key = key(host);
    let config = Config {
        id: key.peer_id(),
        reachable: true,
        allow: Allow { anyone: true, peers: vec![] },
        agent: String::new(),
        reconnect: true,
        spare_holes: person.spare_holes,
        sockets: person.sockets,
    };
    let server = Endpoint::new(S_V4[0], MAIN_PORT);
    let driver = PeerDriver::open(key, config, server, vec![IpAddr::V4(ip)], seed, world.trace);
    world.power_on(host, App::Peer(Box::new(driver)));
}

/// As before, on the same machine.
pub(crate) fn restart_peer(world: &mut World, host: usize, person: Person, seed: u64) {
    let ip = Ipv4Addr::from_bits(world.hosts[host].tcp.ip());
    start_peer(world, host, ip, person, seed);
}

/// Somebody on the WAN.
pub(crate) fn add_passer_by(world: &mut World, manners: Manners, seed: u64) -> usize {
    let ip = Ipv4Addr::new(198, 18, 0, world.hosts.len() as u8);
    add_stranger(world, WAN, ip, manners, seed)
}

pub(crate) fn add_stranger(
    world: &mut World,
    net: usize,
    ip: Ipv4Addr,
    manners: Manners,
    seed: u64,
) -> usize {
    let place = Place::default();
    let host = world.add_host("stranger", net, place, &[ip], Duration::ZERO, !seed);
    world.hosts[host].tcp.listen_everywhere();
    world.power_on(host, App::Stranger(Stranger { manners }));
    host
}

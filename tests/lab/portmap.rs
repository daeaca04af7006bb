//! Port mapping, by a real router daemon: MiniUPnPd beside the rules of the router.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::data::Exchange;
use crate::namespace::{Namespace, require_tool};
use crate::nat::Nat;
use crate::peers::{Peer, Rendezvous};
use crate::programs::{Program, Stdout};
use crate::sockets::{SOON, at, dial};
use crate::topology::{Lab, S_V4};

const DAEMON: &str = "/usr/sbin/miniupnpd";

/// How long a dial may take that is not let in.
const REFUSED: Duration = Duration::from_millis(500);

/// What the router offers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Offer {
    Everything,
    /// A server of an older time: version 2 of the protocol is not heard.
    NatPmp,
    Upnp,
}

#[test]
fn a_port_that_pcp_maps_is_reached_from_outside() {
    maps_and_unmaps(Nat::EIM, Offer::Everything, "pcp");
}

/// Without the mapping there would be nothing to aim at.
#[test]
fn two_that_draw_their_ports_at_random_connect_where_one_router_maps() {
    maps_and_unmaps(Nat::RANDOM, Offer::Everything, "pcp");
}

#[test]
fn a_port_that_nat_pmp_maps_is_reached_from_outside() {
    maps_and_unmaps(Nat::EIM, Offer::NatPmp, "nat-pmp");
}

#[test]
fn a_port_that_upnp_maps_is_reached_from_outside() {
    maps_and_unmaps(Nat::EIM, Offer::Upnp, "upnp");
}

/// A, whose ports nobody predicts, comes to B at the mapped endpoint: B's NAT filters by port, and
/// shows S another port than the mapped one.
fn maps_and_unmaps(nat: Nat, offer: Offer, protocol: &str) {
    let lab = Lab::plan().between(Nat::RANDOM, nat).delay_ms(5).build();
    let router = Router::start(&lab.routers[1], Stun::at_s(&lab), offer);
    let rendezvous = Rendezvous::start(&lab);
    let (a, b) = (Peer::new(&lab.a, &rendezvous), Peer::new(&lab.b, &rendezvous));
    let service = at([127, 0, 0, 1], 8080);
    let exchange = Exchange::start(&lab.b.namespace, service, 5, b"world".to_vec());
    let mut share = b.share("web", service, &a);

    let mapped = share.event("port_mapped", SOON);
    assert_eq!(mapped["protocol"], protocol, "{mapped}");
    assert_eq!(mapped["candidate"], true, "{mapped}");
    let endpoint = endpoint_of(&mapped);
    assert_eq!(endpoint.ip(), lab.b.public);
    assert!(router.maps(endpoint.port()), "{}", router.namespace.rules());
    let from_wan = |within| dial(&lab.s.namespace, at(S_V4[0], 0), endpoint, within);
    from_wan(SOON).expect("a plain connection from outside");

    let (received, connected, _) = a.pipe(&b, "web").exchange(b"hello");
    assert_eq!((received, exchange.visit().received), (b"world".to_vec(), b"hello".to_vec()));
    assert_eq!(connected["path"], "direct", "{connected}");
    let winner = &connected["report"]["outcome"];
    assert_eq!((&winner["kind"], &winner["round"]), (&"port-mapped".into(), &1.into()), "{winner}");

    share.terminate(SOON);
    assert!(!router.maps(endpoint.port()), "{}", router.namespace.rules());
    from_wan(REFUSED).expect_err("the mapping is gone");
}

#[test]
fn an_ipv6_firewall_gets_a_pinhole() {
    let lab = Lab::plan().between(Nat::PRESERVING, Nat::EIM).with_v6().build();
    let router = Router::start(&lab.routers[1], Stun::at_s(&lab), Offer::Everything);
    let rendezvous = Rendezvous::start(&lab);
    let (a, b) = (Peer::new(&lab.a, &rendezvous), Peer::new(&lab.b, &rendezvous));
    let mut share = b.share("web", at([127, 0, 0, 1], 8080), &a);
    let mapped = [share.event("port_mapped", SOON), share.event("port_mapped", SOON)];
    let own = IpAddr::from(lab.b.v6.unwrap());
    let pinhole = mapped.iter().map(endpoint_of).find(|endpoint| endpoint.ip() == own);
    let pinhole = pinhole.unwrap_or_else(|| panic!("{mapped:?}"));
    let from_wan = |port, within| {
        let from = at(lab.s.v6.unwrap(), 0);
        dial(&lab.s.namespace, from, at(own, port), within)
    };
    from_wan(pinhole.port(), SOON).expect("a plain connection from outside");
    from_wan(pinhole.port() ^ 1, REFUSED).expect_err("no other port is open");
    share.terminate(SOON);
    from_wan(pinhole.port(), REFUSED).expect_err("the pinhole is closed");
    assert!(!router.maps(pinhole.port()));
}

#[test]
fn a_mapping_comes_back_after_the_router_restarted() {
    let lab = Lab::plan().between(Nat::OPEN, Nat::EIM).build();
    let mut router = Router::start(&lab.routers[0], Stun::at_s(&lab), Offer::Everything);
    let rendezvous = Rendezvous::start(&lab);
    let (a, b) = (Peer::new(&lab.a, &rendezvous), Peer::new(&lab.b, &rendezvous));
    let share = b.share("web", at([127, 0, 0, 1], 8080), &a);
    let endpoint = endpoint_of(&share.event("port_mapped", SOON));
    // A clock that has hardly begun to run can't go back.
    router.wait_for_epoch(&lab.b.namespace, 5);
    router.die();
    assert!(!router.maps(endpoint.port()), "the router has forgotten it");
    router.come_back();
    // Up to five seconds after the router said that it is there again.
    let deadline = Instant::now() + 2 * SOON;
    while !router.maps(endpoint.port()) {
        assert!(Instant::now() < deadline, "the mapping has not come back");
        std::thread::yield_now();
    }
}

#[test]
fn a_router_behind_a_carriers_nat_maps_in_vain() {
    let lab = Lab::plan().between(Nat::OPEN, Nat::DOUBLE).build();
    let [home, carrier] = &lab.routers[..] else { panic!("two routers") };
    // The carrier's NAT is for TCP alone: the daemon asks where that sees it.
    let [near, too] = [Ipv4Addr::new(100, 64, 2, 254), Ipv4Addr::new(100, 64, 2, 253)];
    carrier.ip(&format!("address add {too}/24 dev to_home\n"));
    let _router = Router::start(home, Stun { host: carrier, at: [near, too] }, Offer::Everything);
    let rendezvous = Rendezvous::start(&lab);
    let (a, b) = (Peer::new(&lab.a, &rendezvous), Peer::new(&lab.b, &rendezvous));
    let share = b.share("web", at([127, 0, 0, 1], 8080), &a);
    let mapped = share.event("port_mapped", SOON);
    assert_eq!(mapped["candidate"], false, "{mapped}");
}

#[test]
fn gimlet_nat_tells_of_a_mapped_port_and_leaves_none_behind() {
    let lab = Lab::plan().between(Nat::OPEN, Nat::RANDOM).build();
    let router = Router::start(&lab.routers[0], Stun::at_s(&lab), Offer::Everything);
    let rendezvous = Rendezvous::start(&lab);
    let b = Peer::new(&lab.b, &rendezvous);
    let mut program = b.nat(&[]);
    let nat = program.event("nat", 2 * SOON);
    program.succeed(SOON);
    let [mapped] = &nat["port_mapped"].as_array().unwrap()[..] else { panic!("{nat}") };
    assert_eq!(mapped["candidate"], true, "{nat}");
    assert_eq!((&nat["direct"], &nat["with"]["random"]), (&"expected".into(), &"at-once".into()));
    assert!(!router.maps(endpoint_of(mapped).port()), "{}", router.namespace.rules());

    let mut program = b.nat(&["--no-port-mapping"]);
    let nat = program.event("nat", 2 * SOON);
    program.succeed(SOON);
    assert_eq!(nat["port_mapped"].as_array().unwrap().len(), 0, "{nat}");
    assert_eq!(nat["direct"], "likely", "{nat}");
}

#[test]
fn nothing_is_asked_of_the_router_by_who_says_no_or_calls_once() {
    let lab = Lab::plan().between(Nat::EIM, Nat::EIM).build();
    let rules = "table inet asked {
        counter asked { }
        chain input {
            type filter hook prerouting priority filter
            udp dport { 1900, 5351 } counter name asked
        }
    }\n";
    lab.routers.iter().for_each(|router| router.nft(rules));
    let rendezvous = Rendezvous::start(&lab);
    let (a, b) = (Peer::new(&lab.a, &rendezvous), Peer::new(&lab.b, &rendezvous));
    let service = at([127, 0, 0, 1], 8080);
    let exchange = Exchange::start(&lab.b.namespace, service, 5, b"world".to_vec());
    let asked = |router: &Namespace| !router.rules().contains("packets 0 bytes 0");
    let share = b.share_with("web", service, &a, &["--no-port-mapping"]);
    a.pipe(&b, "web").exchange(b"hello");
    exchange.visit();
    assert_eq!([&lab.routers[0], &lab.routers[1]].map(asked), [false, false]);
    drop(share);
    // The counter does count.
    let _share = b.share("web", service, &a);
    a.pipe(&b, "web").exchange(b"hello");
    assert_eq!([&lab.routers[0], &lab.routers[1]].map(asked), [false, true]);
}

fn endpoint_of(event: &Value) -> SocketAddr {
    event["endpoint"].as_str().and_then(|text| text.parse().ok()).expect("an endpoint")
}

/// A router's daemon.
struct Router<'lab> {
    namespace: &'lab Namespace,
    stun: Stun<'lab>,
    offer: Offer,
    daemon: Program,
    files: TempDir,
}

impl<'lab> Router<'lab> {
    fn start(namespace: &'lab Namespace, stun: Stun<'lab>, offer: Offer) -> Self {
        require_tool(DAEMON, "miniupnpd-nftables");
        // The daemon's chains stand before the router's own verdicts.
        let old_time = match offer {
            Offer::NatPmp => {
                "add rule inet upnp input iifname lan1 udp dport 5351 @th,64,8 2 drop\n"
            }
            Offer::Everything | Offer::Upnp => "",
        };
        namespace.nft(&format!(
            "table inet upnp {{
                chain prerouting {{
                    type nat hook prerouting priority dstnat
                    jump map_in
                }}
                chain postrouting {{
                    type nat hook postrouting priority srcnat
                    jump map_out
                }}
                chain input {{
                    type filter hook input priority filter - 1
                }}
                chain map_in {{ }}
                chain map_out {{ }}
            }}
            table inet filter {{
                chain mapped {{ }}
            }}
            insert rule inet filter forward jump mapped
            insert rule inet filter input iifname wan udp sport {{ {FIRST_STUN_PORT}, {OTHER_STUN_PORT} }} accept
            {old_time}"
        ));
        let files = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let config = format!(
            "ext_ifname=wan
            ext_perform_stun=yes
            ext_stun_host={}
            ext_stun_port={FIRST_STUN_PORT}
            listening_ip=lan1
            enable_upnp={}
            secure_mode=yes
            system_uptime=no
            upnp_table_name=filter
            upnp_nat_table_name=upnp
            upnp_forward_chain=mapped
            upnp_nat_chain=map_in
            upnp_nat_postrouting_chain=map_out
            allow 1024-65535 0.0.0.0/0 1024-65535
            deny 0-65535 0.0.0.0/0 0-65535\n",
            stun.at[0],
            if offer == Offer::NatPmp { "no" } else { "yes" },
        );
        let lines: Vec<_> = config.lines().map(str::trim).collect();
        fs::write(files.path().join("miniupnpd.conf"), lines.join("\n") + "\n").unwrap();
        let daemon = start_daemon(namespace, stun, offer, &files);
        Self { namespace, stun, offer, daemon, files }
    }

    /// … and forgets all mappings.
    fn die(&mut self) {
        self.daemon.kill();
        self.namespace.nft("flush chain inet upnp map_in\nflush chain inet filter mapped\n");
    }

    fn come_back(&mut self) {
        self.daemon = start_daemon(self.namespace, self.stun, self.offer, &self.files);
    }

    fn maps(&self, port: u16) -> bool {
        self.namespace.rules().contains(&format!("th dport {port} "))
    }

    /// Waits until the daemon has counted so many seconds.
    fn wait_for_epoch(&self, lan: &Namespace, seconds: u32) {
        let gateway = at([10, 2, 1, 1], 5351);
        let socket = lan.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let deadline = Instant::now() + 2 * SOON;
        let mut answer = [0; 16];
        while u32::from_be_bytes(answer[4..8].try_into().unwrap()) < seconds {
            assert!(Instant::now() < deadline, "the daemon's clock stands still");
            socket.send_to(&[0, 0], gateway).unwrap();
            assert_eq!(socket.recv(&mut answer).unwrap(), 12, "an answer of NAT-PMP");
        }
    }
}

fn start_daemon(namespace: &Namespace, stun: Stun<'_>, offer: Offer, files: &TempDir) -> Program {
    let stun = stun.host.run(|| StunServer::bind(stun.at));
    let mut command = namespace.command(DAEMON);
    command.arg("-d").arg("-f").arg(files.path().join("miniupnpd.conf"));
    command.arg("-P").arg(files.path().join("pid"));
    if offer != Offer::Upnp {
        command.arg("-N");
    }
    let daemon = Program::start("miniupnpd", command, Stdout::Lines);
    stun.serve();
    daemon.line(
        "line about listening",
        SOON,
        match offer {
            Offer::NatPmp | Offer::Everything => |line| line.contains("Listening for NAT-PMP/PCP"),
            Offer::Upnp => |line| line.contains("HTTP listening on port"),
        },
    );
    daemon
}

/// The daemon takes the lab's addresses for what they are, none of the internet, unless a STUN server
/// (RFC 3489, with changed addresses and ports) tells it that it is seen there.
struct StunServer([[UdpSocket; 2]; 2]);

/// Where it is, with two addresses.
#[derive(Clone, Copy)]
struct Stun<'lab> {
    host: &'lab Namespace,
    at: [Ipv4Addr; 2],
}

impl<'lab> Stun<'lab> {
    fn at_s(lab: &'lab Lab) -> Self {
        Self { host: &lab.s.namespace, at: S_V4 }
    }
}

const FIRST_STUN_PORT: u16 = 3478;
const OTHER_STUN_PORT: u16 = 3479;

impl StunServer {
    fn bind(addresses: [Ipv4Addr; 2]) -> Self {
        let bind = |ip: Ipv4Addr, port| UdpSocket::bind(at(ip, port)).expect("a port for STUN");
        Self(addresses.map(|ip| [FIRST_STUN_PORT, OTHER_STUN_PORT].map(|port| bind(ip, port))))
    }

    /// Answers the daemon's four requests.
    fn serve(&self) {
        let first = &self.0[0][0];
        first.set_read_timeout(Some(SOON)).unwrap();
        for _ in 0..4 {
            let mut request = [0; 128];
            let (length, from) = first.recv_from(&mut request).expect("a STUN request");
            let SocketAddr::V4(seen) = from else { panic!("{from}") };
            // CHANGE-REQUEST is all that it has: "change IP" is bit 2, "change port" bit 1.
            let change = usize::from(request[length - 1]);
            // A success, and XOR-MAPPED-ADDRESS.
            let mut answer = vec![1, 1, 0, 12];
            answer.extend_from_slice(&request[4..20]);
            answer.extend_from_slice(&[0, 0x20, 0, 8, 0, 1]);
            answer.extend_from_slice(&(seen.port() ^ 0x2112).to_be_bytes());
            answer.extend_from_slice(&(seen.ip().to_bits() ^ 0x2112_A442).to_be_bytes());
            let socket = &self.0[change >> 2 & 1][change >> 1 & 1];
            socket.send_to(&answer, from).expect("answer");
        }
    }
}

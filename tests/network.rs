//! The network of this machine changes, or leads back to it: in a namespace of its own, with the kernel's
//! own notices. Needs root, `ip`, `nft` and `unshare`.
#![allow(clippy::disallowed_methods, reason = "tests have deadlines of their own")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gimlet::net::peer::{Event, Options};
use gimlet::net::reactor::HostId;
use gimlet::proto::peer::{self, LoginError};
use gimlet::wire::message::{Filtering, Hairpinning, Mapping};

use support::{World, echo};

/// Says to the test that it is in a namespace of its own.
const ALONE: &str = "GIMLET_TEST_NAMESPACE";

/// Runs the test again, by its name, where its network can be changed.
fn in_a_namespace(name: &str, test: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let output = Command::new("unshare")
        .args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .expect("this test needs the program unshare: apt-get install util-linux");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{name} in a namespace of its own (is this root, and is there iproute2?):\n{said}\n{complaint}"
    );
}

/// Runs lines of `ip` commands.
fn ip(lines: &str) {
    run("ip", ["-batch", "-"], "iproute2", lines);
}

/// Runs lines of `nft` commands.
fn nft(lines: &str) {
    run("nft", ["-f", "-"], "nftables", lines);
}

fn run(program: &str, arguments: [&str; 2], package: &str, lines: &str) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap_or_else(|_| panic!("this test needs {program}: apt-get install {package}"));
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{program}:\n{lines}");
}

fn follow(options: &mut Options) {
    options.follow_network = true;
    echo(options);
}

fn at(address: &str) -> IpAddr {
    address.parse().unwrap()
}

/// Waits until the NAT has been looked at, closely too, and S been told, without a new login.
fn looked_at_nat(world: &mut World, host: HostId) {
    world.wait(host, |event| match event {
        Event::Peer(peer::Event::NatSettled(_)) => Some(()),
        Event::Peer(peer::Event::LoggedOut { error, .. }) => panic!("{error}"),
        _ => None,
    });
}

fn logged_in(world: &mut World, host: HostId) -> SocketAddr {
    world.wait(host, |event| match event {
        Event::Peer(peer::Event::LoggedIn { observed, .. }) => Some(observed),
        _ => None,
    })
}

#[test]
fn an_address_that_comes_is_told_to_s_and_dialled_by_others() {
    in_a_namespace("an_address_that_comes_is_told_to_s_and_dialled_by_others", || {
        let mut world = World::new();
        let (b, b_id) = world.peer(follow);
        let (a, _) = world.peer(|_| {});
        world.logged_in(a);
        looked_at_nat(&mut world, b);
        ip("address add 127.0.7.7/32 dev lo");
        looked_at_nat(&mut world, b);
        let report = world.connects_and_talks(a, b, b_id);
        let mut dials = report.rounds.iter().flat_map(|round| &round.dials);
        assert!(dials.any(|dial| dial.to.ip() == at("127.0.7.7")), "{report}");
    });
}

#[test]
fn a_burst_is_one_change_and_silence_wakes_nobody() {
    in_a_namespace("a_burst_is_one_change_and_silence_wakes_nobody", || {
        let mut world = World::new();
        let (b, _) = world.peer(follow);
        looked_at_nat(&mut world, b);
        let before = world.census();
        // More than the kernel keeps for us, so that some of it is lost.
        let burst =
            "address add 127.0.7.7/32 dev lo\naddress del 127.0.7.7/32 dev lo\n".repeat(500);
        ip(&(burst + "address add 127.0.7.8/32 dev lo\n"));
        let mut looks = 0;
        while !world.reactor.peer(b).machine().hosts().contains(&at("127.0.7.8")) {
            looked_at_nat(&mut world, b);
            looks += 1;
        }
        assert!(looks <= 2, "one while it went on, and one for the rest: {looks}");
        world.comes_back_to(before);
        let (until, mut turns) = (Instant::now() + Duration::from_secs(1), 0);
        while Instant::now() < until {
            world.reactor.turn(Some(until)).unwrap();
            turns += 1;
        }
        assert!(turns <= 3, "{turns} turns of an idle reactor");
    });
}

/// Has connections to S begin at another address of this machine.
fn reach_s_from(address: &str) {
    ip(&format!(
        "address add {address}/32 dev lo
        route replace local 127.0.0.1 dev lo table local src {address}\n"
    ));
}

/// The login is left, and made anew from there without a wait.
fn logs_in_anew_from(world: &mut World, host: HostId, address: &str) {
    world.wait(host, |event| match event {
        Event::Peer(peer::Event::LoggedOut { error, retry_in }) => {
            assert_eq!((error, retry_in), (LoginError::NetworkChanged, Some(Duration::ZERO)));
            Some(())
        }
        _ => None,
    });
    assert_eq!(logged_in(world, host).ip(), at(address));
}

#[test]
fn a_login_from_which_the_way_out_has_moved_is_made_anew() {
    in_a_namespace("a_login_from_which_the_way_out_has_moved_is_made_anew", || {
        let mut world = World::new();
        let (b, _) = world.peer(follow);
        assert_eq!(logged_in(&mut world, b).ip(), at("127.0.0.1"));
        // Its old address stays.
        reach_s_from("127.0.7.7");
        logs_in_anew_from(&mut world, b, "127.0.7.7");
    });
}

#[test]
fn a_login_from_an_address_that_goes_is_made_anew_from_another_at_once() {
    in_a_namespace("a_login_from_an_address_that_goes_is_made_anew_from_another_at_once", || {
        reach_s_from("127.0.7.7");
        let mut world = World::new();
        let (b, b_id) = world.peer(follow);
        assert_eq!(logged_in(&mut world, b).ip(), at("127.0.7.7"));
        ip("address del 127.0.7.7/32 dev lo\n");
        reach_s_from("127.0.7.8");
        logs_in_anew_from(&mut world, b, "127.0.7.8");
        let (a, _) = world.peer(|_| {});
        world.logged_in(a);
        world.connects_and_talks(a, b, b_id);
    });
}

/// A host with more addresses than it may name: S sees it at one that it doesn't know to be its own, so
/// that it looks like one behind a NAT which changes nothing.
const UNNAMED: &str = "127.0.8.8";

fn be_unnamed() {
    let named: String = (1..8).map(|n| format!("address add 127.0.8.{n}/32 dev lo\n")).collect();
    ip(&named);
    reach_s_from(UNNAMED);
}

/// The ports on which somebody listens in this namespace, for IPv4.
fn listening() -> Vec<u16> {
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        // The second is the local endpoint, the fourth the state: 0A is LISTEN.
        let (_, port) = fields[1].split_once(':')?;
        (fields[3] == "0A").then(|| u16::from_str_radix(port, 16).unwrap())
    };
    sockets.lines().skip(1).filter_map(port).collect()
}

#[test]
fn a_peer_reaches_itself_at_its_mapped_endpoint() {
    in_a_namespace("a_peer_reaches_itself_at_its_mapped_endpoint", || {
        be_unnamed();
        let mut world = World::new();
        let before = world.census();
        let (b, _) = world.peer(echo);
        let nat = world.settled(b);
        assert_eq!(nat.mapping, Mapping::EndpointIndependent);
        assert_eq!(nat.filtering, Filtering::AddressDependent, "S has one address");
        assert_eq!(nat.hairpinning, Hairpinning::Supported);
        world.reactor.remove(b);
        world.comes_back_to(before);
    });
}

#[test]
fn a_stranger_on_the_looks_hole_is_cut_off_and_not_taken_for_us() {
    in_a_namespace("a_stranger_on_the_looks_hole_is_cut_off_and_not_taken_for_us", || {
        be_unnamed();
        // Whoever dials that address from itself comes to somebody else.
        let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
        elsewhere.set_nonblocking(true).unwrap();
        let to = elsewhere.local_addr().unwrap();
        nft(&format!(
            "table ip t {{
                chain output {{
                    type nat hook output priority -100
                    ip saddr {UNNAMED} ip daddr {UNNAMED} tcp dport != 0 dnat to {to}
                }}
            }}\n"
        ));
        let mut world = World::new();
        let known = listening();
        let (b, _) = world.peer(echo);
        world.logged_in(b);
        let main = world.reactor.peer(b).local_address().unwrap().port();
        let mut hole = None;
        world.until("the look's hole listens", |_| {
            hole = listening().into_iter().find(|port| *port != main && !known.contains(port));
            hole.is_some()
        });
        // What the fresh port dials stands, and has said its secret to the wrong one.
        let mut wrong = Vec::new();
        world.until("the peer has dialled itself", |_| match elsewhere.accept() {
            Ok((stream, _)) => {
                wrong.push(stream);
                true
            }
            Err(error) => panic_unless_would_block(&error),
        });
        let mut stranger = dial_from_elsewhere(SocketAddr::new(at(UNNAMED), hole.unwrap()));
        stranger.write_all(&[0; 16]).unwrap();
        stranger.set_nonblocking(true).unwrap();
        world.until("the stranger is cut off", |_| match stranger.read(&mut [0]) {
            Ok(0) => true,
            Ok(_) => panic!("it was answered"),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
            Err(error) => panic_unless_would_block(&error),
        });
        assert_eq!(world.settled(b).hairpinning, Hairpinning::Unsupported);
    });
}

/// From an address that the redirection leaves alone.
fn dial_from_elsewhere(to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(at("127.0.0.1"), 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

fn panic_unless_would_block(error: &std::io::Error) -> bool {
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
    false
}

#[test]
fn one_socket_serves_all_who_follow_the_network_and_goes_with_them() {
    let mut world = World::new();
    let (one, _) = world.peer(follow);
    let (two, _) = world.peer(follow);
    let (other, _) = world.peer(|_| {});
    for host in [one, two, other] {
        world.logged_in(host);
    }
    assert_eq!(route_sockets(), 1);
    world.reactor.remove(one);
    assert_eq!(route_sockets(), 1);
    world.reactor.remove(two);
    assert_eq!(route_sockets(), 0);
}

/// Sockets of this process on which the kernel says that its network has changed.
fn route_sockets() -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let own: Vec<String> = descriptors
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .map(|target| target.display().to_string())
        .collect();
    let sockets = std::fs::read_to_string("/proc/net/netlink").unwrap();
    let is_ours = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        // The second is the protocol, NETLINK_ROUTE; the last one the inode.
        fields[1] == "0" && own.contains(&format!("socket:[{}]", fields.last().unwrap()))
    };
    sockets.lines().skip(1).filter(is_ours).count()
}

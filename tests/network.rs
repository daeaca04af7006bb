//! The network of this machine changes: in a namespace of its own, with the kernel's own notices. Needs
//! root, `ip` and `unshare`.
#![allow(clippy::disallowed_methods, reason = "tests have deadlines of their own")]

mod support;

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gimlet::net::peer::{Event, Options};
use gimlet::net::reactor::HostId;
use gimlet::proto::peer::{self, LoginError};

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
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("this test needs the program ip: apt-get install iproute2");
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "ip:\n{lines}");
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

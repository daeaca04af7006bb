//! What a NAT does, as plain sockets see it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::nat::{
    Allocation, Crossing, Family, Filtering, Mapping, Nat, Pool, Reach, Refusal, SEQUENCE_FIRST,
    SEQUENCE_STEPS,
};
use crate::sockets::{SOON, accept, at, begin_dial, dial, listen};
use crate::sys;
use crate::topology::{A, B, Host, Lab, S, S_V4, S_V6};

/// Long enough for any answer without delay on the WAN, short enough to wait for none.
pub(crate) const SILENCE: Duration = Duration::from_millis(400);

/// Long enough for an answer of a NAT that must wait for six seconds.
const PATIENCE: Duration = Duration::from_secs(9);

pub(crate) const LOCAL_PORT: u16 = 40_000;

/// In each engine that can do it, the preset does what its parts say.
pub(crate) fn behaves_as_named(nat: Nat) {
    for nat in nat.engines() {
        let stranger = if nat.family == Family::V4 { Nat::OPEN } else { Nat::OPEN_V6 };
        let plan = Lab::plan().between(nat, stranger);
        // What is forgotten within seconds must be looked at before.
        let plan = if nat.syn_lifetime < PATIENCE { plan.alone() } else { plan };
        let lab = plan.build();
        // What the WAN sees of two NATs is the outer one, since the inner ones keep ports.
        let seen = *nat.chain().last().unwrap();
        let (endpoints, _alive) = observe(&lab, nat.family);
        println!("{} in {:?}: {endpoints:?}", nat.name, nat.engine);
        check_mapping(&seen, &endpoints);
        check_addresses(&lab, &seen, &endpoints);
        check_ports(&seen, nat.foreign, &endpoints);
        check_filtering(&lab, &seen, endpoints[0]);
        check_reach(&lab, &nat);
        if seen.mapping == Mapping::EndpointIndependent {
            check_crossing(&lab, seen.crossing);
        }
        check_memory(&lab, &nat);
        check_traffic(&lab, nat.foreign);
    }
}

/// How S, at `remote`, sees a connection from the host's port, and both ends of it.
pub(crate) fn probe(
    lab: &Lab,
    from: &Host,
    port: u16,
    remote: SocketAddr,
) -> (SocketAddr, [TcpStream; 2]) {
    let listener = listen(&lab.s.namespace, remote);
    let local = match remote {
        SocketAddr::V4(_) => at(from.v4.unwrap(), port),
        SocketAddr::V6(_) => at(from.v6.unwrap(), port),
    };
    let near = dial(&from.namespace, local, remote, SOON).expect("dial S");
    let (far, seen) = accept(&listener, SOON).unwrap();
    (seen, [near, far])
}

/// How eight destinations see one local port of A, in this order: four ports of each address of S. And
/// the connections, which keep the mappings.
fn observe(lab: &Lab, family: Family) -> (Vec<SocketAddr>, Vec<[TcpStream; 2]>) {
    let addresses: [IpAddr; 2] = match family {
        Family::V4 => S_V4.map(IpAddr::from),
        Family::V6 => [S_V6.into(), S_V6.into()],
    };
    let remotes = (0..8).map(|n| at(addresses[usize::from(n / 4)], 9000 + n));
    remotes.map(|remote| probe(lab, &lab.a, LOCAL_PORT, remote)).unzip()
}

fn check_mapping(nat: &Nat, endpoints: &[SocketAddr]) {
    let distinct = |endpoints: &[SocketAddr]| {
        let mut endpoints = endpoints.to_vec();
        endpoints.sort();
        endpoints.dedup();
        endpoints.len()
    };
    let of_each = [distinct(&endpoints[..4]), distinct(&endpoints[4..])];
    let fits = match (nat.mapping, nat.pool) {
        (Mapping::None | Mapping::EndpointIndependent, _) => distinct(endpoints) == 1,
        (Mapping::AddressDependent, _) => distinct(endpoints) == 2 && of_each == [1, 1],
        // The same one of four may come up by chance, but not seven times.
        (Mapping::AddressAndPortDependent, Pool::Arbitrary(_)) => distinct(endpoints) > 1,
        // Two or even three of eight may coincide by chance, where there are only a thousand.
        (Mapping::AddressAndPortDependent, _) => distinct(endpoints) > 5,
    };
    assert!(fits, "{}: {:?} mapping: {endpoints:?}", nat.name, nat.mapping);
}

fn check_addresses(lab: &Lab, nat: &Nat, endpoints: &[SocketAddr]) {
    let IpAddr::V4(first) = lab.a.public else {
        return assert!(endpoints.iter().all(|endpoint| endpoint.ip() == lab.a.public));
    };
    let last = Ipv4Addr::from_bits(first.to_bits() + u32::from(nat.addresses()) - 1);
    let mut seen: Vec<IpAddr> = endpoints.iter().map(SocketAddr::ip).collect();
    assert!(seen.iter().all(|ip| (first..=last).contains(ip)), "{}: {seen:?}", nat.name);
    seen.sort();
    seen.dedup();
    let arbitrary = matches!(nat.pool, Pool::Arbitrary(_));
    assert_eq!(seen.len() > 1, arbitrary, "{}: {seen:?}", nat.name);
    let translated = !seen.contains(&lab.a.own());
    assert_eq!(translated, nat.mapping != Mapping::None, "{}: {seen:?}", nat.name);
}

fn check_ports(nat: &Nat, foreign: u32, endpoints: &[SocketAddr]) {
    let ports: Vec<u16> = endpoints.iter().map(SocketAddr::port).collect();
    let steps = |ports: &[u16]| -> Vec<i32> {
        ports.windows(2).map(|pair| i32::from(pair[1]) - i32::from(pair[0])).collect()
    };
    let fits = match nat.allocation {
        Allocation::Preserving => ports.iter().all(|port| *port == LOCAL_PORT),
        Allocation::Random { first, last } => {
            let lowest = *ports.iter().min().unwrap();
            let highest = *ports.iter().max().unwrap();
            // Eight random ports spread: they lie in an eighth of the range once in 300,000 times.
            let spread = highest - lowest > (last - first) / 8;
            let one_for_all = nat.mapping != Mapping::AddressAndPortDependent;
            first <= lowest && highest <= last && (spread || one_for_all)
        }
        Allocation::Sequential { step } => {
            let step = i32::from(step);
            let in_range = i32::from(SEQUENCE_STEPS) * step;
            let begins = i32::from(ports[0]) - i32::from(SEQUENCE_FIRST);
            let advances = |made: &i32| match foreign {
                0 => *made == step,
                _ => *made > 0 && made % step == 0,
            };
            (0..in_range).contains(&begins) && steps(&ports).iter().all(advances)
        }
        Allocation::SequentialPerAddress => {
            let (one, other) = ports.split_at(4);
            steps(one) == [1; 3] && steps(other) == [1; 3] && one[3].abs_diff(other[0]) > 1
        }
    };
    assert!(fits, "{}: {:?} allocation: {ports:?}", nat.name, nat.allocation);
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Answer {
    LetIn,
    Silence,
    Rst,
    Icmp(u8),
    /// After six seconds.
    LateIcmp(u8),
}

fn check_filtering(lab: &Lab, nat: &Nat, mapped: SocketAddr) {
    let _listener = listen(&lab.a.namespace, at(lab.a.own(), LOCAL_PORT));
    let refused = match nat.refusal {
        Refusal::Silence => Answer::Silence,
        Refusal::Rst | Refusal::OwnRst => Answer::Rst,
        Refusal::Icmp(code) => Answer::Icmp(code as u8),
        Refusal::LateIcmp => Answer::LateIcmp(3),
    };
    let (to_known, to_stranger) = match nat.filtering {
        Filtering::None | Filtering::EndpointIndependent => (Answer::LetIn, Answer::LetIn),
        Filtering::AddressDependent => (Answer::LetIn, refused),
        Filtering::AddressAndPortDependent => (refused, refused),
    };
    let known: IpAddr = if mapped.is_ipv4() { S_V4[0].into() } else { S_V6.into() };
    let stranger = lab.b.own();
    let wait = if nat.refusal == Refusal::LateIcmp { PATIENCE } else { SILENCE };
    let unmapped = at(mapped.ip(), 1234);
    let answers = thread::scope(|scope| {
        let knocks = [
            scope.spawn(|| knock(&lab.s, at(known, 9555), mapped, wait)),
            scope.spawn(|| knock(&lab.b, at(stranger, 9556), mapped, wait)),
            // Without a filter it is the host that refuses: nobody listens there.
            scope.spawn(|| knock(&lab.b, at(stranger, 9557), unmapped, wait)),
        ];
        knocks.map(|knock| knock.join().unwrap())
    });
    let expected = [to_known, to_stranger, refused];
    assert_eq!(answers, expected, "{}: SYNs to {mapped}, {mapped}, {unmapped}", nat.name);
}

/// What a SYN draws.
pub(crate) fn knock(host: &Host, from: SocketAddr, to: SocketAddr, wait: Duration) -> Answer {
    // An RST and an ICMP error look the same in connect().
    let errors = host.namespace.run(|| match from {
        SocketAddr::V4(_) => Some(Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))),
        SocketAddr::V6(_) => None,
    });
    let start = Instant::now();
    let refused = match dial(&host.namespace, from, to, wait) {
        Ok(_) => return Answer::LetIn,
        Err(e) => e.kind(),
    };
    let late = start.elapsed() >= Duration::from_secs(6);
    let code = errors.and_then(|socket| unreachable_code(&socket.unwrap(), from.port()));
    match (refused, code) {
        (io::ErrorKind::TimedOut, None) => Answer::Silence,
        (io::ErrorKind::ConnectionRefused, None) => Answer::Rst,
        (_, Some(code)) if late => Answer::LateIcmp(code),
        (_, Some(code)) => Answer::Icmp(code),
        (kind, None) => panic!("{kind:?}"),
    }
}

/// The code of a "destination unreachable" that has come for a segment from this port.
fn unreachable_code(socket: &Socket, port: u16) -> Option<u8> {
    socket.set_nonblocking(true).unwrap();
    let mut packet = [0; 2048];
    loop {
        let length = io::Read::read(&mut &*socket, &mut packet).ok()?;
        // An IPv4 header, eight bytes of ICMP, the quoted IPv4 header, the quoted ports.
        let (icmp, ports) = (&packet[20..], &packet[48..]);
        if length >= 52 && icmp[0] == 3 && ports[..2] == port.to_be_bytes() {
            return Some(icmp[1]);
        }
    }
}

fn check_reach(lab: &Lab, nat: &Nat) {
    if nat.family == Family::V6 {
        return;
    }
    let to = at(lab.b.own(), 9300);
    let _listener = listen(&lab.b.namespace, to);
    let reached = dial(&lab.a.namespace, at(lab.a.own(), 0), to, SILENCE);
    assert_eq!(reached.is_ok(), nat.reach == Reach::Everybody, "{}: {reached:?}", nat.name);
}

/// A's SYN stays on its way to S for as long as the test runs, and a SYN of S meets it.
fn check_crossing(lab: &Lab, crossing: Crossing) {
    let (mapped, _alive) = probe(lab, &lab.a, LOCAL_PORT + 1, at(S_V4[0], 9000));
    lab.wan.set_delay_one_way(A, S, Duration::from_secs(3600));
    let (own, s) = (at(lab.a.own(), LOCAL_PORT + 1), at(S_V4[0], 9100));
    let before = lab.wan.bytes(A);
    let dialling = begin_dial(&lab.a.namespace, own, s).unwrap();
    let deadline = Instant::now() + SOON;
    while lab.wan.bytes(A) == before {
        assert!(Instant::now() < deadline, "no SYN goes out");
        thread::yield_now();
    }
    if crossing == Crossing::Reset {
        // Or else the RST would be on its way for as long. It comes before our SYN is sent again.
        lab.wan.set_delay_one_way(A, S, Duration::ZERO);
    }
    let answer = knock(&lab.s, s, mapped, SILENCE);
    let state = sys::tcp_state(dialling.as_fd()).unwrap();
    let expected = match crossing {
        Crossing::LetIn => (Answer::Silence, sys::SYN_RECV),
        Crossing::Dropped => (Answer::Silence, sys::SYN_SENT),
        // By now our SYN may have been sent again, and have been refused by S, where nobody listens.
        Crossing::Reset => (Answer::Rst, state),
    };
    assert_eq!((answer, state), expected, "a SYN that meets our own");
    lab.wan.set_delay_one_way(A, S, Duration::ZERO);
}

/// What went out is remembered as long as the preset says, and no longer. Of usual NATs that takes minutes;
/// conntrack's own are not ours to test.
fn check_memory(lab: &Lab, nat: &Nat) {
    if nat.syn_lifetime >= PATIENCE {
        return;
    }
    let (own, stranger) = (at(lab.a.own(), LOCAL_PORT + 2), lab.b.own());
    let _listener = listen(&lab.a.namespace, own);
    let (mapped, _alive) = probe(lab, &lab.a, LOCAL_PORT + 2, at(S_V4[0], 9000));
    // Closed at once: a SYN that the kernel sends again would be remembered anew.
    let holes = [9601, 9602].map(|port| at(stranger, port));
    let before = lab.wan.bytes(A);
    // They must not draw an RST, which would close the holes.
    lab.wan.set_delay_one_way(A, B, Duration::from_secs(3600));
    for hole in holes {
        drop(begin_dial(&lab.a.namespace, own, hole).unwrap());
    }
    let deadline = Instant::now() + SOON;
    while lab.wan.bytes(A) < before + 2 * SYN_BYTES {
        assert!(Instant::now() < deadline, "no SYN goes out");
        thread::yield_now();
    }
    lab.wan.set_delay_one_way(A, B, Duration::ZERO);
    assert_eq!(knock(&lab.b, holes[0], mapped, SILENCE), Answer::LetIn, "{}: at once", nat.name);
    // The NAT's clock can't be turned. It looks for what has expired ten times a second.
    thread::sleep(nat.syn_lifetime + SILENCE);
    assert_eq!(knock(&lab.b, holes[1], mapped, SILENCE), Answer::Silence, "{}: later", nat.name);
}

/// The shortest SYN: two headers without options.
const SYN_BYTES: u64 = 40;

fn check_traffic(lab: &Lab, per_second: u32) {
    let Some(sink) = &lab.sink else { return assert_eq!(per_second, 0) };
    let time = sink.time_for(3 * per_second, 10 * SOON);
    // Three seconds, were it not for chance and a busy machine.
    let range = Duration::from_millis(500)..Duration::from_secs(12);
    assert!(range.contains(&time), "{} foreign connections took {time:?}", 3 * per_second);
}

//! What no plain socket can show, or not in time: timers, checksums, and combinations without a preset.

use super::packet::{ACK, RST, SYN, checksum};
use super::*;
use crate::nat::{Allocation, Filtering, Pool};

const HOST: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 1, 1, 2), 40_000);
const PUBLIC: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 17);
const PEER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 33), 5000);
const STRANGER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 34), 6000);

/// A NAT and a clock that the test turns.
struct Bench {
    nat: UserspaceNat,
    now: Instant,
}

impl Bench {
    fn new(nat: Nat) -> Self {
        Self::with_timeouts(nat, Timeouts::USUAL)
    }

    fn with_timeouts(nat: Nat, timeouts: Timeouts) -> Self {
        let public =
            (0..nat.addresses()).map(|n| Ipv4Addr::from_bits(PUBLIC.to_bits() + u32::from(n)));
        let nat = UserspaceNat::new(nat, public.collect(), timeouts, 1);
        Self { nat, now: Instant::now() }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    /// Where the segment seems to come from, if it goes out.
    fn out(&mut self, from: SocketAddrV4, to: SocketAddrV4, flags: u8) -> Option<SocketAddrV4> {
        let mut packet = segment(from, to, flags);
        match self.nat.outbound(&mut packet, self.now) {
            Verdict::Forward => Some(valid(&packet).source),
            verdict => {
                assert_eq!(verdict, Verdict::Drop);
                None
            }
        }
    }

    /// Whom the segment reaches, or what comes back.
    fn come(&mut self, from: SocketAddrV4, to: SocketAddrV4, flags: u8) -> Come {
        let mut packet = segment(from, to, flags);
        match self.nat.inbound(&mut packet, self.now) {
            Verdict::Forward => Come::Reaches(valid(&packet).destination),
            Verdict::Drop => Come::Nowhere,
            Verdict::Answer(answer) => Come::Back(answer),
        }
    }
}

#[derive(Debug, PartialEq)]
enum Come {
    Reaches(SocketAddrV4),
    Nowhere,
    Back(Vec<u8>),
}

fn segment(from: SocketAddrV4, to: SocketAddrV4, flags: u8) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum);
    packet.extend(from.port().to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend(0xfeed_f00d_u32.to_be_bytes());
    packet.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    let sum = checksum(&[&packet[12..], &[0, 6, 0, 20]].concat());
    packet[36..38].copy_from_slice(&sum);
    packet
}

/// What the packet holds, its checksums being right.
fn valid(packet: &[u8]) -> Segment {
    assert_eq!(checksum(&packet[..20]), [0, 0], "header of {packet:x?}");
    let summed = [&packet[12..], &[0, 6, 0, 20]].concat();
    assert_eq!(checksum(&summed), [0, 0], "segment of {packet:x?}");
    match packet::read(packet) {
        Some(Content::Segment(segment)) => segment,
        other => panic!("{other:?}"),
    }
}

#[test]
fn translation_keeps_checksums_right_whatever_the_endpoints() {
    let mut bench = Bench::new(Nat::RANDOM);
    for port in 0..2000 {
        let from = SocketAddrV4::new(*HOST.ip(), 1 + 31 * port);
        let external = bench.out(from, PEER, SYN).unwrap();
        assert_eq!(bench.come(PEER, external, SYN | ACK), Come::Reaches(from));
    }
}

#[test]
fn reset_acknowledges_the_syn_and_nothing_else() {
    let mut bench = Bench::new(Nat::PRESERVING_RST);
    let to = SocketAddrV4::new(PUBLIC, 40_000);
    let Come::Back(answer) = bench.come(STRANGER, to, SYN) else { panic!("no answer") };
    let expected = Segment { source: to, destination: STRANGER, flags: RST | ACK };
    assert_eq!(valid(&answer), expected);
    assert_eq!(answer[24..28], [0; 4], "its own sequence number");
    assert_eq!(answer[28..32], 0xfeed_f00e_u32.to_be_bytes());
    assert_eq!(bench.come(STRANGER, to, ACK), Come::Nowhere);
}

#[test]
fn icmp_errors_are_translated_both_ways() {
    // Our packet draws an error on the other side: the error must name us as we name ourselves.
    let mut bench = Bench::new(Nat::EIM);
    let external = bench.out(HOST, PEER, SYN).unwrap();
    let mut error = packet::unreachable(&segment(external, PEER, SYN), 3);
    assert_eq!(bench.nat.inbound(&mut error, bench.now), Verdict::Forward);
    let inner = Content::Error { source: HOST, destination: PEER };
    assert_eq!(packet::read(&error), Some(inner));
    assert_eq!(error[16..20], HOST.ip().octets(), "where the error goes");
    assert_eq!((checksum(&error[..20]), checksum(&error[20..])), ([0, 0], [0, 0]));
    assert_eq!(checksum(&error[28..48]), [0, 0], "the quoted header");

    // And the other way round, where a second NAT behind this one refuses.
    let mut error = packet::unreachable(&segment(PEER, HOST, SYN), 3);
    assert_eq!(bench.nat.outbound(&mut error, bench.now), Verdict::Forward);
    let outer = Content::Error { source: PEER, destination: external };
    assert_eq!(packet::read(&error), Some(outer));
    assert_eq!(error[12..16], external.ip().octets(), "where the error comes from");
    assert_eq!((checksum(&error[..20]), checksum(&error[20..])), ([0, 0], [0, 0]));

    let mut strange = packet::unreachable(&segment(external, STRANGER, SYN), 3);
    assert_eq!(bench.nat.inbound(&mut strange, bench.now), Verdict::Drop);
}

#[test]
fn late_answer_comes_after_six_seconds_unless_a_syn_went_out_meanwhile() {
    for went_out in [false, true] {
        let mut bench = Bench::new(Nat::PATIENT);
        let to = SocketAddrV4::new(PUBLIC, HOST.port());
        assert_eq!(bench.come(PEER, to, SYN), Come::Nowhere);
        let due = bench.nat.poll_timeout().unwrap();
        assert_eq!(due, bench.now + PATIENCE);
        if went_out {
            assert_eq!(bench.out(HOST, PEER, SYN), Some(to));
        }
        assert_eq!(bench.nat.poll_answer(due - Duration::from_millis(1)), None);
        let answer = bench.nat.poll_answer(due);
        let named = Content::Error { source: PEER, destination: to };
        let expected = if went_out { None } else { Some(named) };
        assert_eq!(answer.as_deref().and_then(packet::read), expected);
        assert_eq!(bench.nat.poll_timeout(), None);
    }
}

#[test]
fn mapping_lives_as_long_as_its_longest_connection() {
    let timeouts = Timeouts { opening: Duration::from_secs(1), ..Timeouts::USUAL };
    let mut bench = Bench::with_timeouts(Nat::EIM, timeouts);
    let external = bench.out(HOST, PEER, SYN).unwrap();
    bench.wait(Duration::from_millis(900));
    assert_eq!(bench.come(PEER, external, SYN | ACK), Come::Reaches(HOST));
    bench.wait(Duration::from_millis(900));
    assert_eq!(bench.out(HOST, PEER, ACK), Some(external), "each packet renews it");
    assert_eq!(bench.out(HOST, STRANGER, SYN), Some(external));
    bench.wait(Duration::from_secs(7000));
    assert_eq!(bench.come(STRANGER, external, SYN | ACK), Come::Nowhere, "the hole is forgotten");
    assert_eq!(bench.out(HOST, PEER, ACK), Some(external), "the connection is not");
    bench.wait(Duration::from_secs(7500));
    assert_eq!(bench.out(HOST, PEER, ACK), None);
    assert_ne!(bench.out(HOST, PEER, SYN), Some(external));
}

#[test]
fn rst_closes_a_hole_at_once_and_a_connection_soon() {
    let mut bench = Bench::new(Nat::PRESERVING);
    let external = bench.out(HOST, PEER, SYN).unwrap();
    assert_eq!(bench.come(PEER, external, RST | ACK), Come::Reaches(HOST));
    assert_eq!(bench.come(PEER, external, SYN), Come::Nowhere);

    bench.out(HOST, PEER, SYN).unwrap();
    assert_eq!(bench.come(PEER, external, SYN), Come::Reaches(HOST));
    assert_eq!(bench.come(PEER, external, RST | ACK), Come::Reaches(HOST));
    // It may have been a stray one, which the host has not believed.
    assert_eq!(bench.come(PEER, external, ACK), Come::Reaches(HOST));
    assert_eq!(bench.come(PEER, external, RST | ACK), Come::Reaches(HOST));
    bench.wait(Duration::from_secs(11));
    assert_eq!(bench.come(PEER, external, ACK), Come::Nowhere);
}

#[test]
fn crossing_counts_only_while_nothing_has_come_in() {
    let mut bench = Bench::new(Nat::CROSSING_RESET);
    let external = bench.out(HOST, PEER, SYN).unwrap();
    assert!(matches!(bench.come(PEER, external, SYN), Come::Back(_)));
    assert_eq!(
        bench.come(PEER, external, SYN | ACK),
        Come::Reaches(HOST),
        "the hole is still there"
    );
    assert_eq!(bench.come(PEER, external, ACK), Come::Reaches(HOST));
}

#[test]
fn weak_filters_fit_mappings_that_depend_on_the_destination() {
    let weak = Nat { filtering: Filtering::EndpointIndependent, ..Nat::SEQUENTIAL };
    let mut bench = Bench::new(weak);
    let external = bench.out(HOST, PEER, SYN).unwrap();
    assert_eq!(bench.come(STRANGER, external, SYN), Come::Reaches(HOST));
    assert_eq!(bench.out(HOST, STRANGER, SYN | ACK), Some(external), "answered as it came in");

    let weak = Nat { filtering: Filtering::AddressDependent, ..Nat::SEQUENTIAL };
    let mut bench = Bench::new(weak);
    let external = bench.out(HOST, PEER, SYN).unwrap();
    let other_port = SocketAddrV4::new(*PEER.ip(), PEER.port() + 1);
    assert_eq!(bench.come(other_port, external, SYN), Come::Reaches(HOST));
    assert_eq!(bench.come(STRANGER, external, SYN), Come::Nowhere);
}

#[test]
fn counting_for_each_address_wraps_around() {
    let mut bench = Bench::new(Nat::SEQUENTIAL_PER_ADDRESS);
    let ports: Vec<u16> = (1..=u16::MAX)
        .step_by(2)
        .chain((2..=u16::MAX).step_by(2))
        .map(|port| bench.out(HOST, SocketAddrV4::new(*PEER.ip(), port), SYN).unwrap().port())
        .collect();
    assert!(ports.windows(2).all(|pair| pair[1] == pair[0].checked_add(1).unwrap_or(1024)));
    assert!(ports.contains(&u16::MAX));
}

#[test]
fn full_block_has_no_port_left() {
    let eim = Nat { allocation: Allocation::Random { first: 2048, last: 2051 }, ..Nat::EIM };
    let mut bench = Bench::new(eim);
    let mut dial = |port| bench.out(SocketAddrV4::new(*HOST.ip(), port), PEER, SYN);
    let mut given: Vec<u16> = (1..=4).map(|port| dial(port).unwrap().port()).collect();
    given.sort_unstable();
    assert_eq!(given, [2048, 2049, 2050, 2051]);
    assert_eq!(dial(5), None);
}

#[test]
fn paired_pool_gives_each_host_an_address_of_its_own() {
    let mut bench = Bench::new(Nat { pool: Pool::Paired(4), ..Nat::EIM });
    let mut address = |host, port| {
        let from = SocketAddrV4::new(Ipv4Addr::new(10, 1, 1, host), port);
        *bench.out(from, PEER, SYN).unwrap().ip()
    };
    let first: Vec<_> = (2..6).map(|host| address(host, 1000)).collect();
    let second: Vec<_> = (2..6).map(|host| address(host, 2000)).collect();
    assert_eq!(first, second);
    assert!((1..4).all(|n| first[n] != first[0]));
}

#[test]
fn two_hosts_with_one_port_get_two() {
    let mut bench = Bench::new(Nat::PRESERVING);
    let other = SocketAddrV4::new(Ipv4Addr::new(10, 1, 1, 3), HOST.port());
    assert_eq!(bench.out(HOST, PEER, SYN).unwrap().port(), HOST.port());
    assert_ne!(bench.out(other, PEER, SYN).unwrap().port(), HOST.port());
}

//! How fast: measured with 50 ms round trip between every two sites.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::data::{Exchange, median};
use crate::nat::Nat;
use crate::peers::{Peer, Rendezvous};
use crate::sockets::{SOON, at, dial};
use crate::topology::Lab;

const ONE_WAY_MS: u64 = 25;
const ROUND_TRIP: Duration = Duration::from_millis(2 * ONE_WAY_MS);

#[test]
fn two_eim_nats_connect_in_two_round_trips() {
    connects_within(2.0, 10.0, 20, Nat::EIM, Nat::EIM);
}

#[test]
fn two_nats_that_answer_rst_connect_in_two_round_trips() {
    connects_within(2.0, 10.0, 20, Nat::PRESERVING_RST, Nat::PRESERVING_RST);
}

#[test]
fn pairs_with_a_sequential_nat_connect_in_four_and_a_half_round_trips() {
    connects_within(4.5, 0.0, 11, Nat::SEQUENTIAL, Nat::EIM);
    connects_within(4.5, 0.0, 11, Nat::EIM, Nat::SEQUENTIAL);
    connects_within(4.5, 0.0, 11, Nat::SEQUENTIAL, Nat::SEQUENTIAL_2);
}

/// Thousands of dials, in the first round and not as the last resort.
#[test]
fn birthdays_connect_in_four_round_trips_and_150_ms() {
    connects_within(4.0, 150.0, 9, Nat::RANDOM, Nat::EIM);
    connects_within(4.0, 150.0, 9, Nat::EIM, Nat::RANDOM);
}

/// Until the connection stands, in the median.
fn connects_within(round_trips: f64, spare_ms: f64, times: usize, nat_a: Nat, nat_b: Nat) {
    let mut times = connection_times(nat_a, nat_b, times, "direct").connected;
    let typical = median(&mut times);
    println!("{} to {}: {times:.1?}, median {typical:.1} ms", nat_a.name, nat_b.name);
    let limit = round_trips * ROUND_TRIP.as_secs_f64() * 1e3 + spare_ms;
    assert!(typical <= limit, "median {typical:.1} ms of {times:.1?}, {limit} ms were allowed");
}

/// What both NATs have shown leaves no hope: nobody waits for dials to fail.
#[test]
fn relay_has_the_first_byte_across_in_five_round_trips_where_nothing_else_can_work() {
    for (nat_a, nat_b) in
        [(Nat::RANDOM, Nat::RANDOM), (Nat::RANDOM, Nat::SEQUENTIAL), (Nat::SEQUENTIAL, Nat::RANDOM)]
    {
        let mut times = connection_times(nat_a, nat_b, 11, "relayed").first_byte;
        let typical = median(&mut times);
        println!("{} to {}, relayed: {times:.1?}, median {typical:.1?}", nat_a.name, nat_b.name);
        assert!(typical <= 5 * ROUND_TRIP, "median {typical:.1?} of {times:.1?}");
    }
}

/// Of one connection after the other between two peers that are logged in.
struct Times {
    /// From the request to the connection, in milliseconds, as A says.
    connected: Vec<f64>,
    /// From the request to the first byte at B's service.
    first_byte: Vec<Duration>,
}

/// Each connection to the entrance of a forwarding is a punch of its own.
fn connection_times(nat_a: Nat, nat_b: Nat, times: usize, path: &str) -> Times {
    let lab = Lab::plan().between(nat_a, nat_b).delay_ms(ONE_WAY_MS).alone().build();
    let rendezvous = Rendezvous::start(&lab);
    let a = Peer::new(&lab.a, &rendezvous);
    let b = Peer::new(&lab.b, &rendezvous);
    let service = at([127, 0, 0, 1], 8080);
    let exchange = Exchange::start(&lab.b.namespace, service, 1, vec![2]);
    let _share = b.share("web", service, &a);
    let entrance = at([127, 0, 0, 1], 2222);
    let forward = a.forward(entrance, &b, "web");
    let connect = || {
        let local = at([127, 0, 0, 1], 0);
        let start = Instant::now();
        let mut client = dial(&lab.a.namespace, local, entrance, SOON).unwrap();
        client.write_all(&[1]).unwrap();
        client.read_exact(&mut [0]).unwrap();
        drop(client);
        let first_byte = exchange.visit().first_byte - start;
        (forward.event("connected", SOON), first_byte)
    };
    // A peer is ready before it has looked at its NAT; the first connection may be quicker than that.
    connect();
    let mut measured = Times { connected: Vec::new(), first_byte: Vec::new() };
    for _ in 0..times {
        let (connected, first_byte) = connect();
        assert_eq!(connected["path"], path, "{} to {}: {connected}", nat_a.name, nat_b.name);
        let elapsed = connected["elapsed_ms"].as_f64();
        measured.connected.push(elapsed.unwrap_or_else(|| panic!("{connected}")));
        measured.first_byte.push(first_byte);
    }
    measured
}

/// From the start of the process, through login, introduction and punch.
#[test]
fn cold_pipe_has_its_first_byte_across_in_five_round_trips() {
    /// What a debug build takes to start and to do its cryptography.
    const PROCESS_START: Duration = Duration::from_millis(15);

    let lab = Lab::plan().between(Nat::EIM, Nat::EIM).delay_ms(ONE_WAY_MS).alone().build();
    let rendezvous = Rendezvous::start(&lab);
    let a = Peer::new(&lab.a, &rendezvous);
    let b = Peer::new(&lab.b, &rendezvous);
    let service = at([127, 0, 0, 1], 8080);
    let exchange = Exchange::start(&lab.b.namespace, service, 1, vec![2]);
    let _share = b.share("web", service, &a);

    let mut times: Vec<Duration> = (0..7)
        .map(|_| {
            let start = Instant::now();
            let mut pipe = a.pipe(&b, "web");
            pipe.write(&[1]);
            let (received, _, _) = pipe.exchange(&[]);
            assert_eq!(received, [2]);
            exchange.visit().first_byte - start
        })
        .collect();
    let typical = median(&mut times);
    println!("cold pipe, first byte: {times:.1?}, median {typical:.1?}");
    assert!(typical <= 5 * ROUND_TRIP + PROCESS_START, "median {typical:.1?} of {times:.1?}");
}

#[test]
fn ping_answers_as_often_as_asked() {
    let lab = Lab::plan().between(Nat::EIM, Nat::EIM).delay_ms(ONE_WAY_MS).build();
    let rendezvous = Rendezvous::start(&lab);
    let a = Peer::new(&lab.a, &rendezvous);
    let b = Peer::new(&lab.b, &rendezvous);
    let _share = b.share("web", at([127, 0, 0, 1], 8080), &a);
    let mut ping = a.ping(&b, 3);
    for number in 1..=3 {
        let pong = ping.event("pong", SOON);
        let round_trip = pong["rtt_ms"].as_f64().unwrap_or_else(|| panic!("{pong}"));
        assert!(round_trip >= 2.0 * ONE_WAY_MS as f64, "{number}: {pong}");
    }
    ping.succeed(SOON);
}

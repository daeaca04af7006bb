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
    connects_in_two_round_trips(Nat::EIM, Nat::EIM);
}

#[test]
fn two_nats_that_answer_rst_connect_in_two_round_trips() {
    connects_in_two_round_trips(Nat::PRESERVING_RST, Nat::PRESERVING_RST);
}

/// From the request to the direct connection, both peers being logged in.
fn connects_in_two_round_trips(nat_a: Nat, nat_b: Nat) {
    let lab = Lab::plan().between(nat_a, nat_b).delay_ms(ONE_WAY_MS).alone().build();
    let rendezvous = Rendezvous::start(&lab);
    let a = Peer::new(&lab.a, &rendezvous);
    let b = Peer::new(&lab.b, &rendezvous);
    let service = at([127, 0, 0, 1], 8080);
    let exchange = Exchange::start(&lab.b.namespace, service, 1, vec![2]);
    let _share = b.share("web", service, &a);
    let entrance = at([127, 0, 0, 1], 2222);
    let forward = a.forward(entrance, &b, "web");

    let mut times: Vec<f64> = (0..20)
        .map(|_| {
            let local = at([127, 0, 0, 1], 0);
            let mut client = dial(&lab.a.namespace, local, entrance, SOON).unwrap();
            client.write_all(&[1]).unwrap();
            client.read_exact(&mut [0]).unwrap();
            drop(client);
            exchange.visit();
            let connected = forward.event("connected", SOON);
            assert_eq!(connected["path"], "direct", "{connected}");
            connected["elapsed_ms"].as_f64().unwrap_or_else(|| panic!("{connected}"))
        })
        .collect();
    let typical = median(&mut times);
    println!("{} to {}: {times:.1?}, median {typical:.1} ms", nat_a.name, nat_b.name);
    let limit = 2.0 * ROUND_TRIP.as_secs_f64() * 1e3 + 10.0;
    assert!(typical <= limit, "median {typical:.1} ms of {times:.1?}");
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

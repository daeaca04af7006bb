//! The WAN keeps its delays, carries enough, counts and loses as told.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use crate::data::median;
use crate::nat::Nat;
use crate::sockets::{SOON, accept, at, dial, listen};
use crate::topology::{A, B, Lab, S, S_V4};

#[test]
fn wan_keeps_its_delay_to_a_fraction_of_a_millisecond() {
    let lab = Lab::plan().between(Nat::EIM, Nat::OPEN).delay_ms(25).alone().build();
    let (near, far) = connect(&lab);
    let echo = thread::spawn(move || {
        let mut byte = [0];
        while (&far).read(&mut byte).unwrap() > 0 {
            (&far).write_all(&byte).unwrap();
        }
    });
    let mut times: Vec<_> = (0..20)
        .map(|_| {
            let start = Instant::now();
            (&near).write_all(&[1]).unwrap();
            (&near).read_exact(&mut [0]).unwrap();
            start.elapsed()
        })
        .collect();
    drop(near);
    echo.join().unwrap();
    let (low, typical) = (*times.iter().min().unwrap(), median(&mut times));
    println!("round trips at 50 ms: least {low:?}, median {typical:?}");
    assert!(low >= Duration::from_millis(50));
    assert!(typical < Duration::from_micros(51_500), "{typical:?}");
}

#[test]
fn wan_carries_tens_of_megabytes_a_second_and_counts_them() {
    const TOTAL: u64 = 64 << 20;
    let lab = Lab::plan().between(Nat::PRESERVING, Nat::OPEN).alone().build();
    let (near, far) = connect(&lab);
    let before = [S, A, B].map(|site| lab.wan.bytes(site));
    let start = Instant::now();
    let sender = thread::spawn(move || {
        let chunk = vec![7; 1 << 16];
        for _ in 0..TOTAL / chunk.len() as u64 {
            (&near).write_all(&chunk).unwrap();
        }
    });
    let received = std::io::copy(&mut far.take(TOTAL), &mut std::io::sink()).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    sender.join().unwrap();
    assert_eq!(received, TOTAL);
    let after = [S, A, B].map(|site| lab.wan.bytes(site));
    println!("{:.0} MB/s; bytes {before:?} to {after:?}", TOTAL as f64 / seconds / 1e6);
    assert!(seconds < 6.0, "{TOTAL} bytes took {seconds} s");
    assert!(after[S] - before[S] > TOTAL && after[A] - before[A] > TOTAL);
    assert_eq!(after[B], before[B]);
}

#[test]
fn wan_loses_the_part_of_packets_that_it_is_told_to() {
    let lab = Lab::plan().seed(7).build();
    let (from, to) = (at(lab.a.own(), 5000), at(S_V4[0], 5000));
    let receiver = lab.s.namespace.run(|| UdpSocket::bind(to)).unwrap();
    let sender = lab.a.namespace.run(|| UdpSocket::bind(from)).unwrap();
    receiver.set_read_timeout(Some(SOON)).unwrap();
    // In portions that surely fit into the receiver's buffer.
    let arrived: usize = (0..10)
        .map(|_| {
            lab.wan.set_loss(A, 0.2);
            let seen = lab.wan.bytes(A);
            (0..100).for_each(|_| assert_eq!(sender.send_to(&[0; 8], to).unwrap(), 8));
            let deadline = Instant::now() + SOON;
            while lab.wan.bytes(A) < seen + 100 * 36 {
                assert!(Instant::now() < deadline, "packets are missing");
                thread::yield_now();
            }
            lab.wan.set_loss(A, 0.0);
            sender.send_to(b"end", to).unwrap();
            (0..).take_while(|_| receiver.recv(&mut [0; 8]).unwrap() == 8).count()
        })
        .sum();
    assert!((750..850).contains(&arrived), "{arrived} of 1000 at 20 % loss");
}

/// A connection from A to S: A's end, S's end.
fn connect(lab: &Lab) -> (TcpStream, TcpStream) {
    let remote = at(S_V4[0], 9000);
    let listener = listen(&lab.s.namespace, remote);
    let near = dial(&lab.a.namespace, at(lab.a.own(), 0), remote, SOON).unwrap();
    let (far, _) = accept(&listener, SOON).unwrap();
    far.set_nodelay(true).unwrap();
    (near, far)
}

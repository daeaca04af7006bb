//! A birthday that fails is hundreds of sockets for nothing: it costs the host's other connections nothing,
//! and leaves nothing behind.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::data::Exchange;
use crate::nat::Nat;
use crate::peers::{Peer, Pipe, Rendezvous};
use crate::programs::Program;
use crate::sockets::{SOON, accept, at, dial, listen};
use crate::topology::{Lab, S_V4};

/// By when an introduction has ended, however it ends.
const END: Duration = Duration::from_secs(40);

/// Between two looks at how many descriptors there are.
const GLANCE: Duration = Duration::from_millis(5);

/// What the side that maps at random opens for a birthday, where it may.
const BIRTHDAY: usize = 256;

/// A limit that many systems still have for a process.
const FEW: usize = 256;

/// The code of a program that found no direct way.
const NO_CONNECTION: i32 = 6;

/// What a host has to do with others: a connection through its NAT on which something goes each way all the
/// time.
struct Bystander {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU32>,
    thread: JoinHandle<io::Result<()>>,
}

impl Bystander {
    fn start(lab: &Lab) -> Self {
        let remote = at(S_V4[1], 9000);
        let listener = listen(&lab.s.namespace, remote);
        let near = dial(&lab.b.namespace, at(lab.b.own(), 0), remote, SOON).unwrap();
        let (far, _) = accept(&listener, SOON).unwrap();
        far.set_read_timeout(Some(SOON)).unwrap();
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&rounds));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let number = count.load(Ordering::Relaxed);
                pass(&near, &far, number)?;
                pass(&far, &near, !number)?;
                count.store(number + 1, Ordering::Relaxed);
            }
            Ok(())
        });
        Self { stop, rounds, thread }
    }

    fn rounds(&self) -> u32 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// It lives, and has lost nothing.
    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().expect("the host's other connection broke");
    }
}

/// A word goes from one end to the other, and is the one that was sent.
fn pass(mut from: &TcpStream, mut to: &TcpStream, word: u32) -> io::Result<()> {
    from.write_all(&word.to_be_bytes())?;
    let mut received = [0; 4];
    to.read_exact(&mut received)?;
    match u32::from_be_bytes(received) == word {
        true => Ok(()),
        false => Err(io::Error::other(format!("{word} has become {received:?}"))),
    }
}

/// B draws its ports at random, A's NAT maps endpoint-independently, and between the two nothing gets
/// through, which neither can see.
fn parted() -> Lab {
    let lab = Lab::plan().between(Nat::EIM, Nat::RANDOM).delay_ms(5).build();
    let b = lab.b.public;
    lab.routers[0].nft(&format!(
        "table inet guard {{
            chain forward {{
                type filter hook forward priority filter - 3
                ip daddr {b} drop
                ip saddr {b} drop
            }}
        }}\n"
    ));
    lab
}

fn descriptors(program: &Program) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", program.pid())).unwrap().count()
}

/// Until the look at B's NAT is over, and nothing of it is left.
fn settle(share: &Program) -> usize {
    while share.event("mapping", SOON)["complete"] != true {}
    descriptors(share)
}

/// The most descriptors that B had until A knew how it ended.
fn most_descriptors(share: &Program, pipe: &Pipe) -> usize {
    let deadline = Instant::now() + END;
    let mut most = 0;
    while pipe.program.event_of(&["failed", "connected"], GLANCE).is_err() {
        assert!(Instant::now() < deadline, "it has no end");
        most = most.max(descriptors(share));
    }
    most
}

fn comes_back_to(share: &Program, before: usize) {
    let deadline = Instant::now() + END;
    let mut now = descriptors(share);
    while now != before {
        assert!(Instant::now() < deadline, "{before} descriptors, and then {now}");
        thread::sleep(GLANCE);
        now = descriptors(share);
    }
}

#[test]
fn a_birthday_that_fails_leaves_the_hosts_other_connections_alone() {
    let lab = parted();
    let rendezvous = Rendezvous::start(&lab);
    let a = Peer::new(&lab.a, &rendezvous);
    let b = Peer::new(&lab.b, &rendezvous);
    let bystander = Bystander::start(&lab);
    let share = b.share("web", at([127, 0, 0, 1], 8080), &a);
    let before = settle(&share);
    let begun = bystander.rounds();

    let mut pipe = a.pipe_with(&["--direct-only"], &b, "web");
    let most = most_descriptors(&share, &pipe);
    assert_eq!(pipe.program.exit(SOON).code(), Some(NO_CONNECTION));
    println!("{before} descriptors before, {most} at most");
    assert!(most >= before + BIRTHDAY, "there was no birthday: {before}, then {most}");

    let meanwhile = bystander.rounds() - begun;
    println!("{meanwhile} round trips of the other connection meanwhile");
    assert!(meanwhile > 0, "the other connection stood still");
    comes_back_to(&share, before);
    bystander.end();
}

#[test]
fn a_birthday_takes_a_quarter_of_few_descriptors_and_the_relay_still_works() {
    let lab = parted();
    let rendezvous = Rendezvous::start(&lab);
    let a = Peer::new(&lab.a, &rendezvous);
    let b = Peer::new(&lab.b, &rendezvous).with_descriptors(FEW);
    let bystander = Bystander::start(&lab);
    let service = at([127, 0, 0, 1], 8080);
    let exchange = Exchange::start(&lab.b.namespace, service, 5, b"world".to_vec());
    let share = b.share("web", service, &a);
    let before = settle(&share);

    let mut pipe = a.pipe_with(&["--direct-only"], &b, "web");
    let most = most_descriptors(&share, &pipe);
    assert_eq!(pipe.program.exit(SOON).code(), Some(NO_CONNECTION));
    println!("{before} descriptors before, {most} at most, of {FEW}");
    assert!(most >= before + FEW / 8, "it was not tried: {before}, then {most}");
    assert!(most <= FEW / 2, "half of them are for everything else: {most}");
    comes_back_to(&share, before);

    let (received, connected, _) = a.pipe(&b, "web").exchange(b"hello");
    assert_eq!((received, exchange.visit().received), (b"world".to_vec(), b"hello".to_vec()));
    assert_eq!(connected["path"], "relayed", "{connected}");
    comes_back_to(&share, before);
    bystander.end();
}

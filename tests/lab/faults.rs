//! What breaks is noticed, and what can come back does.

use std::time::Duration;

use crate::data::Exchange;
use crate::nat::Nat;
use crate::peers::{Peer, Pipe, Rendezvous};
use crate::programs::Program;
use crate::sockets::{SOON, at};
use crate::topology::{B, Lab};

/// By when a peer must have noticed that S is gone, waited, and logged in again.
const RETURN: Duration = Duration::from_secs(30);

/// By when a peer must have noticed that the other has fallen silent.
const NOTICE: Duration = Duration::from_secs(60);

#[test]
fn share_comes_back_after_the_rendezvous_crashed() {
    let lab = Lab::plan().between(Nat::EIM, Nat::PRESERVING).build();
    let mut rendezvous = Rendezvous::start(&lab);
    let a = Peer::new(&lab.a, &rendezvous);
    let b = Peer::new(&lab.b, &rendezvous);
    let service = at([127, 0, 0, 1], 8080);
    let exchange = Exchange::start(&lab.b.namespace, service, 5, b"world".to_vec());
    let share = b.share("web", service, &a);
    rendezvous.crash_and_restart(&lab);
    share.event("ready", RETURN);
    let (received, connected, _) = a.pipe(&b, "web").exchange(b"hello");
    assert_eq!((received, exchange.visit().received), (b"world".to_vec(), b"hello".to_vec()));
    assert_eq!(connected["path"], "direct", "{connected}");
}

#[test]
fn pipe_fails_when_the_nats_forget_everything() {
    // Elsewhere, conntrack would pick the connection up as it was.
    let lab = Lab::plan().between(Nat::EIM, Nat::EIM).build();
    pipe_fails_after(&lab, NOTICE, |_| lab.routers.iter().for_each(|nat| nat.flush_conntrack()));
}

#[test]
fn pipe_fails_when_the_other_side_falls_silent() {
    let lab = Lab::plan().between(Nat::EIM, Nat::OPEN).build();
    pipe_fails_after(&lab, NOTICE, |_| lab.wan.set_loss(B, 1.0));
}

#[test]
fn pipe_fails_when_the_other_side_is_killed() {
    let lab = Lab::plan().between(Nat::EIM, Nat::EIM).build();
    pipe_fails_after(&lab, SOON, Program::kill);
}

/// In the middle of a transfer, something happens to B.
fn pipe_fails_after(lab: &Lab, within: Duration, happen: impl FnOnce(&mut Program)) {
    let rendezvous = Rendezvous::start(lab);
    let a = Peer::new(&lab.a, &rendezvous);
    let b = Peer::new(&lab.b, &rendezvous);
    let service = at([127, 0, 0, 1], 8080);
    let _exchange = Exchange::start(&lab.b.namespace, service, 1, b"!".to_vec());
    let mut share = b.share("web", service, &a);
    let mut pipe: Pipe = a.pipe(&b, "web");
    pipe.write(b"?");
    assert_eq!(pipe.read_byte(), b'!');
    happen(&mut share);
    pipe.write_if_open(b"is anybody there?");
    let status = pipe.program.exit(within);
    assert!(!status.success(), "gimlet pipe ended with {status}");
}

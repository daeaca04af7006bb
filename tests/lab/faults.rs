//! What breaks is noticed, and what can come back does.

use std::time::Duration;

use crate::data::Exchange;
use crate::nat::Nat;
use crate::peers::{Peer, Pipe, Rendezvous};
use crate::programs::Program;
use crate::sockets::{SOON, at};
use crate::topology::{B, Lab, Lans};

/// By when a peer must have noticed that S is gone, waited, and logged in again.
const RETURN: Duration = Duration::from_secs(30);

/// By when a peer whose address has changed must be back. Keepalive would take 80 s to notice.
const MOVE: Duration = Duration::from_secs(10);

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
fn share_comes_back_at_once_from_another_address() {
    let lab = Lab::plan().between(Nat::EIM, Nat::EIM).alone().build();
    let rendezvous = Rendezvous::start(&lab);
    let a = Peer::new(&lab.a, &rendezvous);
    let b = Peer::new(&lab.b, &rendezvous);
    let service = at([127, 0, 0, 1], 8080);
    let exchange = Exchange::start(&lab.b.namespace, service, 5, b"world".to_vec());
    let share = b.share("web", service, &a);
    let old = lab.b.v4.unwrap();
    lab.b.namespace.ip(&format!(
        "address del {old}/24 dev eth0
        address add 10.2.1.77/24 dev eth0
        route add default via 10.2.1.1\n"
    ));
    share.event("ready", MOVE);
    let (received, connected, _) = a.pipe(&b, "web").exchange(b"hello");
    assert_eq!((received, exchange.visit().received), (b"world".to_vec(), b"hello".to_vec()));
    assert_eq!(connected["path"], "direct", "{connected}");
}

#[test]
fn an_address_that_comes_is_dialled_without_a_new_login() {
    let lab = Lab::plan().behind_one(Nat::EIM, Lans::One).build();
    let rendezvous = Rendezvous::start(&lab);
    let a = Peer::new(&lab.a, &rendezvous);
    let b = Peer::new(&lab.b, &rendezvous);
    let service = at([127, 0, 0, 1], 8080);
    let exchange = Exchange::start(&lab.b.namespace, service, 5, b"world".to_vec());
    let share = b.share("web", service, &a);
    while share.event("mapping", SOON)["complete"] != true {}
    lab.b.namespace.ip("address add 10.1.1.77/24 dev eth0\n");
    // Its NAT is looked at again, and S is told: the login goes on.
    let next = share.event_of(&["mapping", "logged_out", "ready"], SOON).unwrap();
    assert_eq!(next["event"], "mapping", "{next}");
    let (received, connected, _) = a.pipe(&b, "web").exchange(b"hello");
    assert_eq!((received, exchange.visit().received), (b"world".to_vec(), b"hello".to_vec()));
    let dials = connected["report"]["rounds"][0]["dials"].as_array().unwrap();
    let to_the_new =
        |dial: &serde_json::Value| dial["to"].as_str().unwrap().starts_with("10.1.1.77:");
    assert!(dials.iter().any(to_the_new), "{connected}");
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

//! What goes through S: sealed, and only what finds no other way.

use std::collections::HashSet;
use std::io::Write;
use std::thread;

use crate::data::{Exchange, noise};
use crate::nat::Nat;
use crate::peers::{Peer, Rendezvous};
use crate::sockets::{SOON, accept, at, dial, listen};
use crate::topology::{Lab, Lans, Plan, S, S_V4};
use crate::wan::Tapped;

/// So many bytes in a row are no chance: they are what was to be kept secret.
const WINDOW: usize = 16;

const PATTERN: usize = 4096;

const PAYLOAD: usize = 1 << 20;

/// A payload that can be recognised by any part of it: noise, over and over.
struct Secret {
    payload: Vec<u8>,
    windows: HashSet<[u8; WINDOW]>,
}

impl Secret {
    fn new(seed: u64) -> Self {
        let payload = noise(seed, PATTERN).repeat(PAYLOAD / PATTERN);
        let one_and_the_turn = &payload[..PATTERN + WINDOW - 1];
        let windows = one_and_the_turn.windows(WINDOW).map(|w| w.try_into().unwrap()).collect();
        Self { payload, windows }
    }

    fn occurs_in(&self, tapped: &Tapped) -> bool {
        tapped.iter().any(|bytes| bytes.windows(WINDOW).any(|window| self.windows.contains(window)))
    }
}

#[test]
fn on_its_wire_s_has_ciphertext_alone() {
    let lab = Lab::plan().between(Nat::PRESERVING, Nat::EIM).build();
    let (from_a, from_b) = (Secret::new(1), Secret::new(2));

    lab.wan.tap(S);
    let relayed = exchange(&lab, &["--relay"], &from_a, &from_b);
    let tapped = lab.wan.untap();
    assert_eq!(relayed, "relayed");
    let seen: usize = tapped.iter().map(Vec::len).sum();
    println!("{seen} bytes in {} segments from and to S", tapped.len());
    assert!(seen >= 4 * PAYLOAD, "each payload goes to S and from S: {seen} bytes");
    assert!(!from_a.occurs_in(&tapped), "what A sends is legible");
    assert!(!from_b.occurs_in(&tapped), "what B sends is legible");

    // A check that finds nothing must be one that can find something.
    lab.wan.tap(S);
    send_in_clear(&lab, &from_a.payload);
    let tapped = lab.wan.untap();
    assert!(from_a.occurs_in(&tapped), "the tap misses what is in the clear");
    assert!(!from_b.occurs_in(&tapped), "the search finds what was not sent");
}

/// A connection from A to S without Gimlet.
fn send_in_clear(lab: &Lab, payload: &[u8]) {
    let remote = at(S_V4[0], 9000);
    let listener = listen(&lab.s.namespace, remote);
    let mut near = dial(&lab.a.namespace, at(lab.a.own(), 0), remote, SOON).unwrap();
    let (mut far, _) = accept(&listener, SOON).unwrap();
    let received = thread::scope(|scope| {
        scope.spawn(move || near.write_all(payload).unwrap());
        let mut received = Vec::new();
        std::io::Read::read_to_end(&mut far, &mut received).unwrap();
        received
    });
    assert!(received == payload);
}

#[test]
fn two_behind_one_nat_that_does_not_hairpin_in_lans_that_are_apart() {
    is_relayed(Lab::plan().behind_one(Nat::PRESERVING, Lans::TwoApart));
    is_relayed(Lab::plan().behind_one(Nat::EIM.in_userspace(), Lans::TwoApart));
}

#[test]
fn from_a_network_out_of_which_only_s_is_reached() {
    is_relayed(Lab::plan().between(Nat::BLOCKED, Nat::OPEN));
    is_relayed(Lab::plan().between(Nat::EIM, Nat::BLOCKED));
}

fn is_relayed(plan: Plan) {
    let lab = plan.build();
    assert_eq!(exchange(&lab, &[], &Secret::new(3), &Secret::new(4)), "relayed");
}

/// Both send theirs; all of it arrives. Says which way it took.
fn exchange(lab: &Lab, options: &[&str], from_a: &Secret, from_b: &Secret) -> String {
    let rendezvous = Rendezvous::start(lab);
    let a = Peer::new(&lab.a, &rendezvous);
    let b = Peer::new(&lab.b, &rendezvous);
    let service = at([127, 0, 0, 1], 8080);
    let answer = from_b.payload.clone();
    let exchange = Exchange::start(&lab.b.namespace, service, PAYLOAD, answer);
    let _share = b.share("web", service, &a);
    let pipe = a.pipe_with(options, &b, "web");
    let (received, connected, _) = pipe.exchange(&from_a.payload);
    assert!(exchange.visit().received == from_a.payload, "B received other bytes");
    assert!(received == from_b.payload, "A received other bytes");
    connected["path"].as_str().unwrap_or_else(|| panic!("{connected}")).to_owned()
}

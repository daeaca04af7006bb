//! The hole ports answer a STUN client that isn't ours: requests made and answers read by another
//! codec, over real TCP.
#![allow(clippy::disallowed_methods, reason = "tests have deadlines of their own")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use stun_types::attribute::XorMappedAddress;
use stun_types::message::{BINDING, Message, MessageWriteVec};
use stun_types::prelude::*;

use support::World;

#[test]
fn a_stock_client_learns_its_mapped_address() {
    let mut world = World::new();
    let hole = world.rendezvous().hole_addresses()[0];
    let mut client = TcpStream::connect(hole).unwrap();
    client.set_nonblocking(true).unwrap();
    let request = Message::builder_request(BINDING, MessageWriteVec::new()).finish();
    client.write_all(&request).unwrap();
    let answer = read_message(&mut world, &mut client);
    let answer = Message::from_bytes(&answer).unwrap();
    assert!(answer.is_response());
    let transaction = Message::from_bytes(&request).unwrap().transaction_id();
    assert_eq!(answer.transaction_id(), transaction);
    let mapped = answer.attribute::<XorMappedAddress>().unwrap().addr(transaction);
    assert_eq!(mapped, client.local_addr().unwrap());
}

fn read_message(world: &mut World, client: &mut TcpStream) -> Vec<u8> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut buffer = [0; 512];
    loop {
        world.turn();
        match client.read(&mut buffer) {
            Ok(0) => panic!("the hole port closed the connection"),
            Ok(length) => return buffer[..length].to_vec(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
        assert!(Instant::now() < deadline, "no answer");
    }
}

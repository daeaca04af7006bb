//! A relayed connection, and a direct way that opens while it lives.

use std::io::{Read, Write};
use std::time::Duration;

use crate::data::Exchange;
use crate::nat::Nat;
use crate::peers::{Peer, Rendezvous};
use crate::sockets::{SOON, at, dial};
use crate::topology::Lab;

/// By when the search has found it: its first two tries.
const SEARCH: Duration = Duration::from_secs(40);

#[test]
fn a_direct_way_that_opens_later_is_found_and_taken_by_the_next_connection() {
    let lab = Lab::plan().between(Nat::PRESERVING, Nat::EIM).delay_ms(5).build();
    let rendezvous = Rendezvous::start(&lab);
    let a = Peer::new(&lab.a, &rendezvous);
    let b = Peer::new(&lab.b, &rendezvous);
    let service = at([127, 0, 0, 1], 8080);
    let exchange = Exchange::start(&lab.b.namespace, service, 1, vec![2]);
    let _share = b.share("web", service, &a);
    let entrance = at([127, 0, 0, 1], 2222);
    let forward = a.forward(entrance, &b, "web");
    let b_outside = lab.b.public;
    lab.routers[0].nft(&format!(
        "table ip wall {{
            chain out {{ type filter hook forward priority 0; ip daddr {b_outside} drop; }}
            chain in {{ type filter hook forward priority 0; ip saddr {b_outside} drop; }}
        }}"
    ));
    let connect = || dial(&lab.a.namespace, at([127, 0, 0, 1], 0), entrance, SOON).unwrap();
    let first = connect();
    let connected = forward.event("connected", SOON);
    assert_eq!(connected["path"], "relayed", "{connected}");
    assert!(connected["why_relayed"].is_string(), "{connected}");

    lab.routers[0].nft("delete table ip wall");
    let found = forward.event("direct_way", SEARCH);
    assert_eq!(found["report"]["outcome"]["result"], "connected", "{found}");

    let second = connect();
    let connected = forward.event("connected", SOON);
    assert_eq!(connected["path"], "direct", "{connected}");
    for mut client in [first, second] {
        client.write_all(&[1]).unwrap();
        client.read_exact(&mut [0]).unwrap();
        drop(client);
        exchange.visit();
    }
}

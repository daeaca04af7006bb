//! # Gimlet: direct TCP between two machines behind NATs
//!
//! Two peers that both sit behind NATs get a TCP connection with each other: a rendezvous that both
//! can reach tells each where the other appears to be, and both dial at the same moment, so that each
//! NAT takes the other's SYN for part of a connection that began inside. The connection is proved and
//! encrypted from end to end; the rendezvous can neither read nor join. Where the NATs make a direct
//! connection impossible, the rendezvous relays what it can't read.
//!
//! ```text
//!             main connection: login, introductions        main connection
//!   peer A ───────────────────────────▶ S ◀─────────────────────────── peer B
//!   10.0.0.2:P                      gimletd                      192.168.1.5:Q
//!      │                                                              │
//!   NAT A  203.0.113.1:P' ◀═══════ both dial at once ═══════▶ 198.51.100.1:Q'  NAT B
//! ```
//!
//! # How it is built
//!
//! Data goes one way, and so do imports:
//!
//! ```text
//! socket ready → net::reactor → wire::decode → proto machine → Action → wire::encode → net → socket
//!
//! bin → bench → cli → admin → net → proto → wire → identity
//! ```
//!
//! - [`identity`]: keys, and peer ids that prove themselves.
//! - [`wire`]: bytes <-> messages. No sockets, no clock.
//! - [`proto`]: the state machines: [`proto::rendezvous`], [`proto::peer`], [`proto::punch`],
//!   [`proto::portmap`]. No sockets, no clock, no randomness of their own.
//! - [`net`]: the only sockets: one reactor on mio, on one thread, for any number of peers and
//!   rendezvous.
//! - `admin`: HTTP for the operator of a rendezvous, in the same reactor.
//! - [`limits`]: every bound, with its unit and its reason.
//! - [`manual`]: the protocol, the threat model, operations, benchmarks, what NATs do.
//!
//! The rule for driving a machine by hand: *mutate once, drain `poll_action` until it is empty, then
//! read `poll_timeout`*.
//!
//! # A rendezvous and two peers in one thread
//!
//! ```
//! use std::collections::HashMap;
//! use std::sync::Arc;
//! use gimlet::identity::{PeerId, SecretKey, ServerAddr};
//! use gimlet::net::peer::{Event, LocalEnd, Options, PeerHost, Service};
//! use gimlet::net::reactor::Reactor;
//! use gimlet::net::rendezvous::{self, RendezvousHost};
//! use gimlet::proto::punch::Preference;
//! use gimlet::wire::message::Allow;
//! use gimlet::wire::record::Purpose;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut reactor = Reactor::new()?;
//!
//! let any = "127.0.0.1:0".parse()?;
//! let options = rendezvous::Options {
//!     key: Arc::new(SecretKey::generate()),
//!     main: vec![any],
//!     holes: vec![any, any],
//!     text: String::new(),
//!     relay: true,
//!     dial_back: true,
//!     limits: rendezvous::Limits::default(),
//! };
//! let mut seed = [0; 32];
//! # getrandom::fill(&mut seed).unwrap(); // unguessable, in earnest
//! let s = reactor.add_rendezvous(|core, id| RendezvousHost::open(core, id, options, seed))?;
//! let main = reactor.rendezvous(s).main_addresses()[0];
//! let server = ServerAddr { key: None, host: main.ip().to_string(), port: main.port() };
//!
//! let peer = |allow, services| Options {
//!     key: Arc::new(SecretKey::generate()),
//!     server: server.clone(),
//!     reachable: true,
//!     allow,
//!     services,
//!     reconnect: true,
//!     agent: "example".into(),
//!     spare_holes: 0,
//!     follow_network: false,
//!     port_mapping: false,
//! };
//! let services = HashMap::from([("chat".to_string(), Service::Application)]);
//! let b = peer(Allow { anyone: true, peers: vec![] }, services);
//! let b_id = PeerId::of(b.key.public());
//! let a = peer(Allow::default(), HashMap::new());
//! let b = reactor.add_peer(|core, id| PeerHost::open(core, id, b, 1));
//! let a = reactor.add_peer(|core, id| PeerHost::open(core, id, a, 2));
//!
//! // A asks for B once B is there.
//! while !reactor.peer(b).machine().is_logged_in() {
//!     reactor.turn(None)?;
//! }
//! let chat = Purpose::Stream("chat".into());
//! let (any, local) = (Preference::Any, LocalEnd::Application);
//! reactor.with_peer(a, |peer, core| peer.connect(core, b_id, any, chat, local))?;
//! let report = 'connected: loop {
//!     reactor.turn(None)?;
//!     while let Some(event) = reactor.peer(a).poll_event() {
//!         match event {
//!             Event::Connected { report, .. } => break 'connected report,
//!             Event::Failed { report, .. } => return Err(report.to_string().into()),
//!             _ => {}
//!         }
//!     }
//! };
//! println!("{report}");
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! - `cli` (default): what the programs need. An embedder takes `default-features = false`.
//! - `asm` (default): X25519 and ChaCha20-Poly1305 in assembly where it fits the processor, as tested at run
//!   time: a login and a proof at half the price, a message at a fifth.

#[cfg(feature = "cli")]
pub mod admin;
#[cfg(feature = "cli")]
pub mod bench;
#[cfg(feature = "cli")]
pub mod cli;
pub mod identity;
pub mod limits;
pub mod manual;
pub mod net;
mod primitives;
pub mod proto;
pub mod wire;

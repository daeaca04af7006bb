//! The operator's port: HTTP/1.1 in the reactor of the rendezvous, after its work.
//!
//! ```text
//! /             a status page, for people
//! /metrics      for Prometheus
//! /api/stats    the same numbers as JSON: [`Snapshot`]
//! /healthz      the loop turns
//! /readyz       peers may come; 503 as soon as it drains
//! ```
//!
//! It is the application's part of a reactor: its sockets are watched, and looked at after each turn, when
//! what the peers wanted is done. A few requests are answered then, and the next turn comes first again.
//! There is no password: the port is for this machine, or for a network of operators.
//!
//! ```text
//! connections  accept, read, write, deadlines
//! http         requests in, answers out
//! pages        what there is; metrics, snapshot, process: its numbers
//! ```

mod connections;
mod http;
mod metrics;
mod pages;
mod process;
mod snapshot;

pub use self::connections::Admin;
pub use self::process::Process;
pub use self::snapshot::{
    Connections, Counts, DialBacks, EventLoop, Histogram, Introductions, NatPair, Presence, Relay,
    Sessions, Snapshot, Stun,
};

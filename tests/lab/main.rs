//! The NAT lab: the real binaries behind real NATs, on one machine.
//!
//! ```text
//!   host A ── router A ──┐                    ┌── router B ── host B
//!            (nftables)  TUN                TUN  (nftables)
//!                        └────── the WAN ─────┘
//!                                  TUN
//!                                   │
//!                                 host S
//! ```
//!
//! Every box is a network namespace without a name, held by a descriptor of this process: when
//! the process ends, however it ends, nothing is left behind, and any number of labs run side by
//! side. The WAN is a thread of this process that carries packets between the sites' TUN devices,
//! with a delay that it keeps to a fraction of a millisecond, and counts them.
//!
//! The lab needs root, and the packages iproute2, nftables, miniupnpd-nftables, coturn, openssh-client and
//! openssh-server. A test that lacks them fails and says so.

// Tests drive real programs in real time: here is no machine that could be told the time.
#![allow(clippy::disallowed_methods)]

mod data;
mod grid;
mod namespace;
mod nat;
mod peers;
mod programs;
mod site;
mod sockets;
mod sys;
mod topology;
mod traffic;
mod userspace_nat;
mod wan;

mod agreed;
#[path = "../simulator/agreed.rs"]
mod agreed_table;
mod behaviour;
mod birthday;
mod checks;
mod classify;
mod compared;
mod direct_way;
mod faults;
mod forward;
mod matrix;
mod nat_command;
mod pairs;
mod portmap;
mod presets;
mod relayed;
#[path = "../simulator/scenarios.rs"]
mod scenarios;
mod ssh;
mod timing;

//! State machines. No sockets, no clock, no randomness of their own.
//!
//! Each machine has four kinds of method: getters; `handle_*` (something happened); commands (the
//! application wants something); `poll_*` (what to do now). The rule for driving one: *mutate once,
//! drain `poll_action` until it is empty, then read `poll_timeout`*.

pub mod histogram;
pub mod nat;
pub mod peer;
pub mod portmap;
pub mod punch;
pub mod rendezvous;
pub mod timers;

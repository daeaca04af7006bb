//! The only sockets: a reactor on mio, and the two hosts that drive the machines in it.

pub mod clock;
pub mod gateway;
pub mod interfaces;
mod network;
pub mod outbox;
pub mod peer;
pub mod reactor;
pub mod rendezvous;
pub mod socket;
pub mod sys;

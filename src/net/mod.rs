//! The only sockets: a reactor on mio, the two hosts that drive the machines in it, and beside it a STUN
//! client for those who ask once.

pub mod clock;
pub mod gateway;
pub mod interfaces;
pub mod lag;
mod network;
pub mod outbox;
pub mod peer;
pub mod reactor;
pub mod rendezvous;
pub mod socket;
pub mod stun_client;
pub mod sys;

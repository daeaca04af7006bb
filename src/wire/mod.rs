//! Bytes <-> messages. No sockets, no clock.
//!
//! ```text
//! TCP stream     = frame, frame, …
//! frame          = length: u16 BE | body                                    frame
//! handshake body = kind: u8 | fields, in clear, with Noise inside           noise
//! sealed body    = ChaCha20-Poly1305(type: u8 | fields) | tag               noise::Channel
//!
//! main connection    peer ↔ S     handshake XX, then messages               message
//! direct connection  peer ↔ peer  handshake KK, then records                record
//! hole connection    peer ↔ S     STUN Binding over TCP (RFC 8489)          stun
//! peer ↔ its router               PCP, NAT-PMP, UPnP                        portmap
//! ```
//!
//! Decoders take what has arrived and say how much of it they used: half a frame is not an error.
//! What is wrong is a typed error that names the culprit; nothing here panics on bytes.

pub mod codec;
pub mod frame;
pub mod message;
pub mod noise;
pub mod portmap;
pub mod record;
pub mod refusal;
pub mod stun;

#[cfg(test)]
mod tests;

//! What the operator chooses.

use std::net::SocketAddr;
use std::time::Duration;

use crate::limits;

/// What a rendezvous is told at its start.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Where STUN is answered, as peers are told. An unspecified address means "the address at which
    /// the peer reached us".
    pub holes: Vec<SocketAddr>,
    /// Words of the operator, for each welcome.
    pub text: String,
    /// Whether data is relayed for two peers that found no way to each other.
    pub relay: bool,
    /// Whether peers are dialled back that want to know what their NATs let in.
    pub dial_back: bool,
    /// The bounds.
    pub limits: Limits,
}

/// The bounds that an operator may lower, or a test: [`limits`] has the meaning and the reason of
/// each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// [`limits::SESSIONS`]
    pub sessions: usize,
    /// [`limits::CALLERS_PER_PEER`]
    pub callers_per_peer: usize,
    /// [`limits::INTRODUCTIONS`]
    pub introductions: usize,
    /// [`limits::INTRODUCTIONS_PER_SESSION`]
    pub introductions_per_session: usize,
    /// [`limits::INTRODUCTION_TIME`]
    pub introduction_time: Duration,
    /// [`limits::HOLE_TIME`]
    pub hole_time: Duration,
    /// [`limits::RELEASE_DELAY`]
    pub release_delay: Duration,
    /// [`limits::DEPARTED_PEERS`]
    pub departed_peers: usize,
    /// [`limits::DEPARTED_TIME`]
    pub departed_time: Duration,
    /// [`limits::UNKNOWN_MESSAGES`]
    pub unknown_messages: u32,
    /// Watches of all sessions together: some 30 bytes each, so that 256 in each of a million
    /// sessions can't be had. A few for each session that there may be.
    pub watches: usize,
    /// [`limits::WATCHED_PEERS`]
    pub watched_peers: usize,
    /// [`limits::WATCHERS_PER_PEER`]
    pub watchers_per_peer: usize,
    /// [`limits::ROOMS`]
    pub rooms: usize,
    /// [`limits::ROOMS_PER_SESSION`]
    pub rooms_per_session: usize,
    /// [`limits::ROOM_MEMBERS`]
    pub room_members: usize,
    /// [`limits::RELAYS`]
    pub relays: usize,
    /// [`limits::RELAYS_PER_PEER`]
    pub relays_per_peer: usize,
    /// [`limits::RELAY_JOIN_TIME`]
    pub relay_join_time: Duration,
    /// [`limits::RELAY_IDLE_TIME`]
    pub relay_idle_time: Duration,
    /// [`limits::RELAY_BYTES_PER_SECOND`]
    pub relay_bytes_per_second: u64,
    /// [`limits::RELAY_TOTAL_BYTES_PER_SECOND`]
    pub relay_total_bytes_per_second: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: limits::SESSIONS,
            callers_per_peer: limits::CALLERS_PER_PEER,
            introductions: limits::INTRODUCTIONS,
            introductions_per_session: limits::INTRODUCTIONS_PER_SESSION,
            introduction_time: limits::INTRODUCTION_TIME,
            hole_time: limits::HOLE_TIME,
            release_delay: limits::RELEASE_DELAY,
            departed_peers: limits::DEPARTED_PEERS,
            departed_time: limits::DEPARTED_TIME,
            unknown_messages: limits::UNKNOWN_MESSAGES,
            watches: limits::WATCHES,
            watched_peers: limits::WATCHED_PEERS,
            watchers_per_peer: limits::WATCHERS_PER_PEER,
            rooms: limits::ROOMS,
            rooms_per_session: limits::ROOMS_PER_SESSION,
            room_members: limits::ROOM_MEMBERS,
            relays: limits::RELAYS,
            relays_per_peer: limits::RELAYS_PER_PEER,
            relay_join_time: limits::RELAY_JOIN_TIME,
            relay_idle_time: limits::RELAY_IDLE_TIME,
            relay_bytes_per_second: limits::RELAY_BYTES_PER_SECOND,
            relay_total_bytes_per_second: limits::RELAY_TOTAL_BYTES_PER_SECOND,
        }
    }
}

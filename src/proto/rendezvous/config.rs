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

/// The bounds that an operator may change, or a test: [`limits`] has the meaning and the reason of
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
    /// [`limits::WATCHES`]
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
    /// [`limits::DIAL_BACKS`]
    pub dial_backs: usize,
    /// [`limits::DIAL_BACKS_PER_ADDRESS`]
    pub dial_backs_per_address: u32,
    // ---- those that the driver holds, at its sockets ----
    /// [`limits::LINKS_PER_ADDRESS`]
    pub links_per_address: usize,
    /// [`limits::HANDSHAKES`]
    pub handshakes: usize,
    /// [`limits::HANDSHAKES_PER_ADDRESS`]
    pub handshakes_per_address: usize,
    /// [`limits::HANDSHAKE_TIME`]
    pub handshake_time: Duration,
    /// [`limits::MAIN_BACKLOG_BYTES`]
    pub main_backlog_bytes: usize,
    /// [`limits::HOLE_LINKS`]
    pub hole_links: usize,
    /// [`limits::HOLES_PER_ADDRESS`]
    pub holes_per_address: usize,
    /// [`limits::HOLE_IDLE_TIME`]
    pub hole_idle_time: Duration,
    /// [`limits::DELAYED_ANSWERS`]
    pub delayed_answers: usize,
    /// [`limits::DELAYED_ANSWERS_PER_ADDRESS`]
    pub delayed_answers_per_address: usize,
    /// [`limits::RESERVED_DESCRIPTORS`]
    pub reserved_descriptors: usize,
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
            dial_backs: limits::DIAL_BACKS,
            dial_backs_per_address: limits::DIAL_BACKS_PER_ADDRESS,
            links_per_address: limits::LINKS_PER_ADDRESS,
            handshakes: limits::HANDSHAKES,
            handshakes_per_address: limits::HANDSHAKES_PER_ADDRESS,
            handshake_time: limits::HANDSHAKE_TIME,
            main_backlog_bytes: limits::MAIN_BACKLOG_BYTES,
            hole_links: limits::HOLE_LINKS,
            holes_per_address: limits::HOLES_PER_ADDRESS,
            hole_idle_time: limits::HOLE_IDLE_TIME,
            delayed_answers: limits::DELAYED_ANSWERS,
            delayed_answers_per_address: limits::DELAYED_ANSWERS_PER_ADDRESS,
            reserved_descriptors: limits::RESERVED_DESCRIPTORS,
        }
    }
}

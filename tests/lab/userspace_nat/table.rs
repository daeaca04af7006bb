//! What a NAT remembers: its mappings, and the connections on them.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use super::Timeouts;
use super::packet::{ACK, FIN, RST, SYN, Segment};
use crate::nat::{self, Filtering, Nat};

pub(super) struct Table {
    nat: Nat,
    timeouts: Timeouts,
    mappings: HashMap<Key, Mapping>,
    /// The mappings with this external endpoint. Only [`Table::add`] and
    /// [`Table::forget_expired`] change which there are.
    at: HashMap<SocketAddrV4, Vec<Key>>,
    next_look: Option<Instant>,
}

/// Whose a mapping is: the internal endpoint's, towards as much of the remote one as counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    internal: SocketAddrV4,
    address: Option<Ipv4Addr>,
    port: Option<u16>,
}

pub(super) struct Mapping {
    key: Key,
    pub(super) external: SocketAddrV4,
    connections: HashMap<SocketAddrV4, Connection>,
}

struct Connection {
    state: State,
    expires: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Our SYN went out, and nothing has come in: the hole.
    Dialled,
    Opening,
    Established,
    Closing,
    Reset,
}

/// How often expired connections are looked for: the precision of all timeouts.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

impl Table {
    pub(super) fn new(nat: Nat, timeouts: Timeouts) -> Self {
        Self { nat, timeouts, mappings: HashMap::new(), at: HashMap::new(), next_look: None }
    }

    /// The mapping that a packet from the internal endpoint to the remote one uses.
    pub(super) fn outbound(
        &self,
        internal: SocketAddrV4,
        remote: SocketAddrV4,
    ) -> Option<&Mapping> {
        let own = self.mappings.get(&self.key(internal, remote));
        // Whoever was let in by a weak filter is answered through the mapping that it came in by.
        let answers = |mapping: &&Mapping| {
            mapping.internal() == internal && mapping.connections.contains_key(&remote)
        };
        own.or_else(|| self.has_visitors().then(|| self.mappings.values().find(answers))?)
    }

    /// The mapping that a packet from the remote endpoint comes in through, if it is let in.
    pub(super) fn inbound(&self, external: SocketAddrV4, remote: SocketAddrV4) -> Option<&Mapping> {
        let mappings =
            || self.at.get(&external).into_iter().flatten().map(|key| &self.mappings[key]);
        let connected = mappings().find(|mapping| mapping.connections.contains_key(&remote));
        connected.or_else(|| mappings().find(|mapping| self.lets_in(mapping, remote)))
    }

    /// Whether a new mapping for this remote endpoint may be given this external one. As in Linux, those
    /// for different remote endpoints share one where the filter tells their packets apart.
    pub(super) fn is_free(&self, external: SocketAddrV4, remote: SocketAddrV4) -> bool {
        let shares = self.nat.mapping == nat::Mapping::AddressAndPortDependent
            && self.nat.filtering == Filtering::AddressAndPortDependent;
        let taken = |key: &Key| !shares || self.mappings[key].connections.contains_key(&remote);
        !self.at.get(&external).into_iter().flatten().any(taken)
    }

    pub(super) fn add(
        &mut self,
        internal: SocketAddrV4,
        remote: SocketAddrV4,
        external: SocketAddrV4,
    ) {
        let key = self.key(internal, remote);
        let mapping = Mapping { key, external, connections: HashMap::new() };
        assert!(self.mappings.insert(key, mapping).is_none(), "{internal} had a mapping already");
        self.at.entry(external).or_default().push(key);
    }

    /// A segment goes out, for which there is a mapping.
    pub(super) fn passes_out(&mut self, segment: Segment, now: Instant) {
        use State::{Closing, Dialled, Reset};
        let mapping = self.outbound(segment.source, segment.destination).unwrap();
        let (key, known) = (mapping.key, mapping.state(segment.destination));
        let begins = matches!(known, None | Some(Dialled | Closing | Reset)) && segment.is_syn();
        let state = if begins { Dialled } else { next(known, segment.flags) };
        self.set(key, segment.destination, state, now);
    }

    /// A segment comes in, and is let in.
    pub(super) fn passes_in(&mut self, segment: Segment, now: Instant) {
        let mapping = self.inbound(segment.destination, segment.source).unwrap();
        let (key, known) = (mapping.key, mapping.state(segment.source));
        if known == Some(State::Dialled) && segment.flags & RST != 0 {
            // As Linux does: where nothing but an RST came, nothing is left of the connection.
            self.mappings.get_mut(&key).unwrap().connections.remove(&segment.source);
            self.forget_unused();
        } else {
            self.set(key, segment.source, next(known, segment.flags), now);
        }
    }

    pub(super) fn forget_expired(&mut self, now: Instant) {
        if self.next_look.is_some_and(|next| now < next) {
            return;
        }
        self.next_look = Some(now + LOOK_INTERVAL);
        for mapping in self.mappings.values_mut() {
            mapping.connections.retain(|_, connection| now < connection.expires);
        }
        self.forget_unused();
    }

    fn forget_unused(&mut self) {
        self.mappings.retain(|_, mapping| !mapping.connections.is_empty());
        self.at.retain(|_, keys| {
            keys.retain(|key| self.mappings.contains_key(key));
            !keys.is_empty()
        });
    }

    fn set(&mut self, key: Key, remote: SocketAddrV4, state: State, now: Instant) {
        let lifetime = match state {
            State::Dialled | State::Opening => self.timeouts.opening,
            State::Established => self.timeouts.established,
            State::Closing => self.timeouts.closing,
            State::Reset => self.timeouts.reset,
        };
        let connection = Connection { state, expires: now + lifetime };
        self.mappings.get_mut(&key).unwrap().connections.insert(remote, connection);
    }

    /// Whether a mapping towards one remote endpoint may have connections with others.
    fn has_visitors(&self) -> bool {
        self.nat.mapping != nat::Mapping::EndpointIndependent
            && self.nat.filtering != Filtering::AddressAndPortDependent
    }

    fn lets_in(&self, mapping: &Mapping, remote: SocketAddrV4) -> bool {
        match self.nat.filtering {
            Filtering::None | Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => {
                mapping.connections.keys().any(|known| known.ip() == remote.ip())
            }
            Filtering::AddressAndPortDependent => false,
        }
    }

    fn key(&self, internal: SocketAddrV4, remote: SocketAddrV4) -> Key {
        use nat::Mapping::{AddressAndPortDependent, AddressDependent};
        let mapping = self.nat.mapping;
        let by_address = matches!(mapping, AddressDependent | AddressAndPortDependent);
        Key {
            internal,
            address: by_address.then(|| *remote.ip()),
            port: (mapping == AddressAndPortDependent).then(|| remote.port()),
        }
    }
}

impl Mapping {
    pub(super) fn internal(&self) -> SocketAddrV4 {
        self.key.internal
    }

    pub(super) fn state(&self, remote: SocketAddrV4) -> Option<State> {
        self.connections.get(&remote).map(|connection| connection.state)
    }
}

/// The state after a segment in either direction, other than the first SYNs that went out.
fn next(state: Option<State>, flags: u8) -> State {
    match state {
        _ if flags & RST != 0 => State::Reset,
        _ if flags & SYN != 0 => State::Opening,
        _ if flags & FIN != 0 => State::Closing,
        Some(State::Closing) => State::Closing,
        _ if flags & ACK != 0 => State::Established,
        known => known.unwrap_or(State::Opening),
    }
}

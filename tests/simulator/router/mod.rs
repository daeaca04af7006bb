//! A router: a NAT and a filter, in the words of RFC 4787 and RFC 5382. Packets and the time go in, verdicts
//! come out.

mod conntrack;
mod ports;

use std::net::Ipv4Addr;

use slab::Slab;

use self::conntrack::{Conn, Direction, Track};
use self::ports::Ports;
use crate::nat::{Crossing, Filtering, Mapping, Nat, Reach, Refusal};
use crate::packet::{
    Content, Endpoint, FastMap, MILLISECOND, Nanos, Packet, SECOND, Segment, pair,
};
use crate::topology::S_V4;

/// What the lab's vocabulary doesn't say of a NAT, and what makes it worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Habits {
    /// Looks at sequence numbers, as Linux does: a second SYN or SYN-ACK with another one than the first
    /// is invalid while the connection begins.
    pub(crate) strict: bool,
    /// What becomes of packets from within to one of its own public endpoints.
    pub(crate) hairpin: bool,
    /// How long a SYN that nobody answers is remembered.
    pub(crate) syn_lifetime: Nanos,
}

impl Habits {
    pub(crate) const LINUX: Self =
        Self { strict: true, hairpin: false, syn_lifetime: 120 * SECOND };
}

/// RFC 5382 REQ-4: no answer "for at least 6 seconds after the packet is received".
const PATIENCE: Nanos = 6 * SECOND;

/// What becomes of a packet, which has been translated if it goes on.
#[must_use]
pub(crate) enum Verdict {
    Forward,
    /// Why.
    Drop(&'static str),
    /// It is dropped, and this goes to where it came from.
    Answer(Packet),
    /// It is dropped, and [`Router::answer_late`] is to be asked at that time.
    AskAt(Nanos),
}

/// An internal endpoint's external one, towards as much of the remote one as counts.
struct Mapped {
    key: (Endpoint, Endpoint),
    internal: Endpoint,
    external: Endpoint,
    conns: u32,
    /// Who was written to: the addresses, where the filter asks for them.
    known: Vec<u32>,
}

pub(crate) struct Router {
    nat: Nat,
    habits: Habits,
    public: Vec<u32>,
    ports: Ports,
    conns: Slab<Conn>,
    /// By the external and the remote endpoint.
    outside: FastMap<u128, u32>,
    /// By the internal and the remote endpoint.
    inside: FastMap<u128, u32>,
    mappings: Slab<Mapped>,
    by_key: FastMap<u128, u32>,
    /// Where a mapping has its external endpoint for itself alone.
    by_external: FastMap<u64, u32>,
    /// The next look for what has expired.
    next_look: Nanos,
}

/// The precision of all timeouts.
const LOOK_INTERVAL: Nanos = 100 * MILLISECOND;

impl Router {
    pub(crate) fn new(nat: Nat, habits: Habits, public: Vec<Ipv4Addr>, seed: u64) -> Self {
        let public: Vec<u32> = public.into_iter().map(Ipv4Addr::to_bits).collect();
        let ports = Ports::new(nat, public.clone(), seed);
        let habits = Habits {
            hairpin: habits.hairpin || nat.hairpin,
            syn_lifetime: habits.syn_lifetime.min(nat.syn_lifetime.as_nanos() as Nanos),
            ..habits
        };
        Self {
            nat,
            habits,
            public,
            ports,
            conns: Slab::new(),
            outside: FastMap::default(),
            inside: FastMap::default(),
            mappings: Slab::new(),
            by_key: FastMap::default(),
            by_external: FastMap::default(),
            next_look: 0,
        }
    }

    pub(crate) fn public(&self) -> &[u32] {
        &self.public
    }

    /// Whether a packet from within goes to a public endpoint of this router itself.
    pub(crate) fn is_hairpin(&self, packet: &Packet) -> bool {
        self.nat.mapping != Mapping::None && self.public.contains(&packet.to.ip)
    }

    /// It has been switched off and on again.
    pub(crate) fn forget_all(&mut self) {
        self.conns.clear();
        self.outside.clear();
        self.inside.clear();
        self.mappings.clear();
        self.by_key.clear();
        self.by_external.clear();
    }

    pub(crate) fn hairpins(&self) -> bool {
        self.habits.hairpin
    }

    // ---- packets ----

    /// A packet from the LAN.
    pub(crate) fn outbound(&mut self, packet: &mut Packet, now: Nanos) -> Verdict {
        self.forget_expired(now);
        match &packet.content {
            Content::Segment(segment) => {
                let segment = segment.clone();
                self.segment_out(&segment, packet, now)
            }
            Content::Unreachable { quoted_from, quoted_to, .. } => {
                let key = pair(*quoted_to, *quoted_from);
                let Some(&index) = self.inside.get(&key) else { return Verdict::Drop("unknown") };
                let external = self.conns[index as usize].external;
                if let Content::Unreachable { quoted_to, .. } = &mut packet.content {
                    *quoted_to = external;
                }
                packet.from = external;
                Verdict::Forward
            }
        }
    }

    /// A packet from the WAN.
    pub(crate) fn inbound(&mut self, packet: &mut Packet, now: Nanos) -> Verdict {
        self.forget_expired(now);
        match &packet.content {
            Content::Segment(segment) => {
                let segment = segment.clone();
                self.segment_in(&segment, packet, now)
            }
            Content::Unreachable { quoted_from, quoted_to, .. } => {
                let key = pair(*quoted_from, *quoted_to);
                let Some(&index) = self.outside.get(&key) else { return Verdict::Drop("unknown") };
                let internal = self.conns[index as usize].internal;
                if let Content::Unreachable { quoted_from, .. } = &mut packet.content {
                    *quoted_from = internal;
                }
                packet.to = internal;
                Verdict::Forward
            }
        }
    }

    fn segment_out(&mut self, segment: &Segment, packet: &mut Packet, now: Nanos) -> Verdict {
        let (internal, remote) = (packet.from, packet.to);
        if self.nat.reach == Reach::Rendezvous && !S_V4.contains(&Ipv4Addr::from_bits(remote.ip)) {
            return Verdict::Drop("blocked");
        }
        if let Some(&index) = self.inside.get(&pair(internal, remote)) {
            match self.track(index, Direction::Out, segment, now) {
                Track::Pass => {
                    packet.from = self.conns[index as usize].external;
                    return Verdict::Forward;
                }
                Track::PassAndForget => {
                    packet.from = self.conns[index as usize].external;
                    self.remove(index);
                    return Verdict::Forward;
                }
                Track::Invalid => return Verdict::Drop("invalid"),
                Track::Reopen => self.remove(index),
            }
        }
        if !segment.is_syn() {
            return Verdict::Drop("not of a connection");
        }
        let Some(mapping) = self.mapping_for(internal, remote, now) else {
            return Verdict::Drop("no port is free");
        };
        let index = self.add(mapping, remote, Direction::Out, segment.seq, now);
        packet.from = self.conns[index as usize].external;
        Verdict::Forward
    }

    fn segment_in(&mut self, segment: &Segment, packet: &mut Packet, now: Nanos) -> Verdict {
        let (external, remote) = (packet.to, packet.from);
        if let Some(&index) = self.outside.get(&pair(external, remote)) {
            let conn = &self.conns[index as usize];
            let internal = conn.internal;
            if segment.is_syn() && conn.is_hole() {
                match self.nat.crossing {
                    Crossing::LetIn => {}
                    Crossing::Dropped => return Verdict::Drop("simultaneous open"),
                    Crossing::Reset => return reset(packet),
                }
            }
            match self.track(index, Direction::In, segment, now) {
                Track::Pass => {
                    packet.to = internal;
                    return Verdict::Forward;
                }
                Track::PassAndForget => {
                    packet.to = internal;
                    self.remove(index);
                    return Verdict::Forward;
                }
                Track::Invalid => return self.refuse(segment, packet, now),
                Track::Reopen => self.remove(index),
            }
        }
        let Some(mapping) = self.open_mapping(external, remote).filter(|_| segment.is_syn()) else {
            return self.refuse(segment, packet, now);
        };
        packet.to = self.mappings[mapping as usize].internal;
        self.add(mapping, remote, Direction::In, segment.seq, now);
        Verdict::Forward
    }

    fn refuse(&self, segment: &Segment, packet: &Packet, now: Nanos) -> Verdict {
        if !segment.is_syn() {
            return Verdict::Drop("filtered");
        }
        match self.nat.refusal {
            Refusal::Silence => Verdict::Drop("filtered"),
            Refusal::Rst | Refusal::OwnRst => reset(packet),
            Refusal::Icmp(code) => Verdict::Answer(packet.unreachable(code as u8)),
            Refusal::LateIcmp => Verdict::AskAt(now + PATIENCE),
        }
    }

    /// "If during this interval the NAT receives and translates an outbound SYN for the connection the
    /// NAT MUST silently drop the original unsolicited inbound SYN packet" (RFC 5382 REQ-4).
    #[must_use]
    pub(crate) fn answer_late(&self, packet: &Packet) -> Option<Packet> {
        let known = self.outside.contains_key(&pair(packet.to, packet.from));
        (!known).then(|| packet.unreachable(crate::nat::Unreachable::Port as u8))
    }

    // ---- connections ----

    fn track(&mut self, index: u32, direction: Direction, segment: &Segment, now: Nanos) -> Track {
        let syn_lifetime = self.habits.syn_lifetime;
        let conn = &mut self.conns[index as usize];
        let track = conn.track(direction, segment, self.habits.strict);
        if track == Track::Pass {
            conn.expires = now + conn.lifetime(syn_lifetime);
        }
        track
    }

    fn add(
        &mut self,
        mapping: u32,
        remote: Endpoint,
        direction: Direction,
        seq: u32,
        now: Nanos,
    ) -> u32 {
        let mapped = &mut self.mappings[mapping as usize];
        mapped.conns += 1;
        let (internal, external) = (mapped.internal, mapped.external);
        if self.nat.filtering == Filtering::AddressDependent
            && direction == Direction::Out
            && !mapped.known.contains(&remote.ip)
        {
            mapped.known.push(remote.ip);
        }
        let mut conn = Conn::new(internal, external, remote, mapping, direction, seq);
        conn.expires = now + conn.lifetime(self.habits.syn_lifetime);
        let index = self.conns.insert(conn) as u32;
        self.outside.insert(pair(external, remote), index);
        self.inside.insert(pair(internal, remote), index);
        index
    }

    fn remove(&mut self, index: u32) {
        let conn = self.conns.remove(index as usize);
        self.outside.remove(&pair(conn.external, conn.remote));
        self.inside.remove(&pair(conn.internal, conn.remote));
        let mapped = &mut self.mappings[conn.mapping as usize];
        mapped.conns -= 1;
        if mapped.conns == 0 {
            let mapped = self.mappings.remove(conn.mapping as usize);
            self.by_key.remove(&pair(mapped.key.0, mapped.key.1));
            self.by_external.remove(&mapped.external.key());
        }
    }

    fn forget_expired(&mut self, now: Nanos) {
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK_INTERVAL;
        let expired: Vec<u32> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.expires <= now)
            .map(|(index, _)| index as u32)
            .collect();
        for index in expired {
            self.remove(index);
        }
    }

    // ---- mappings ----

    /// The mapping for a new connection from within. None if all ports are taken.
    fn mapping_for(&mut self, internal: Endpoint, remote: Endpoint, now: Nanos) -> Option<u32> {
        let key = (internal, self.counted(remote));
        if let Some(&known) = self.by_key.get(&pair(key.0, key.1)) {
            return Some(known);
        }
        let external = match self.nat.mapping {
            Mapping::None => internal,
            _ => {
                let shares = self.shares_endpoints();
                let (outside, by_external) = (&self.outside, &self.by_external);
                self.ports.pick(internal, remote, now, |external| match shares {
                    true => !outside.contains_key(&pair(external, remote)),
                    false => !by_external.contains_key(&external.key()),
                })?
            }
        };
        let mapped = Mapped { key, internal, external, conns: 0, known: Vec::new() };
        let index = self.mappings.insert(mapped) as u32;
        self.by_key.insert(pair(key.0, key.1), index);
        self.by_external.insert(external.key(), index);
        Some(index)
    }

    /// As much of a remote endpoint as the mapping depends on.
    fn counted(&self, remote: Endpoint) -> Endpoint {
        match self.nat.mapping {
            Mapping::None | Mapping::EndpointIndependent => Endpoint { ip: 0, port: 0 },
            Mapping::AddressDependent => Endpoint { port: 0, ..remote },
            Mapping::AddressAndPortDependent => remote,
        }
    }

    /// As in Linux, mappings for different remote endpoints share an external one where the filter tells
    /// their packets apart.
    fn shares_endpoints(&self) -> bool {
        self.nat.mapping == Mapping::AddressAndPortDependent
            && self.nat.filtering == Filtering::AddressAndPortDependent
    }

    /// The mapping through which a weak filter lets somebody in who is no part of a connection.
    fn open_mapping(&self, external: Endpoint, remote: Endpoint) -> Option<u32> {
        if self.shares_endpoints() {
            return None;
        }
        let index = *self.by_external.get(&external.key())?;
        let mapped = &self.mappings[index as usize];
        let lets_in = match self.nat.filtering {
            Filtering::None | Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => mapped.known.contains(&remote.ip),
            Filtering::AddressAndPortDependent => false,
        };
        lets_in.then_some(index)
    }
}

fn reset(packet: &Packet) -> Verdict {
    match packet.reset() {
        Some(answer) => Verdict::Answer(answer),
        None => Verdict::Drop("filtered"),
    }
}

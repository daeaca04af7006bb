//! A NAT in the test process, for what nftables can't do: every part of a [`Nat`] in every combination,
//! with timers.
//!
//! It stands where the site's TUN device meets the WAN, and has neither sockets nor a clock: packets and
//! the time go in, verdicts come out. What it does not do is look at sequence numbers: conntrack drops a
//! second SYN-ACK that has another one than the first, this NAT lets it pass.

mod packet;
mod ports;
mod table;
mod tests;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use crate::nat::{Crossing, Family, Mapping, Nat, Reach, Refusal, USUAL_SYN_LIFETIME, Unreachable};
use crate::topology::S_V4;
use packet::{Content, Segment};
use ports::Ports;
use table::{State, Table};

pub(crate) struct UserspaceNat {
    nat: Nat,
    table: Table,
    ports: Ports,
    /// SYNs that wait for their answer, the eldest first.
    late: VecDeque<(Instant, Vec<u8>)>,
}

/// What becomes of a packet, which has been translated if it goes on.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Verdict {
    Forward,
    Drop,
    /// It is dropped, and this goes to where it came from.
    Answer(Vec<u8>),
}

/// How long a connection that says nothing is remembered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) opening: Duration,
    pub(crate) established: Duration,
    pub(crate) closing: Duration,
    pub(crate) reset: Duration,
}

impl Timeouts {
    /// Linux's own, with RFC 5382's for idle connections (REQ-5: not less than 2 hours 4 minutes).
    pub(crate) const USUAL: Self = Self {
        opening: USUAL_SYN_LIFETIME,
        established: Duration::from_secs(7440),
        closing: Duration::from_secs(120),
        reset: Duration::from_secs(10),
    };
}

/// RFC 5382 REQ-4: no answer "for at least 6 seconds after the packet is received".
const PATIENCE: Duration = Duration::from_secs(6);

impl UserspaceNat {
    pub(crate) fn new(nat: Nat, public: Vec<Ipv4Addr>, timeouts: Timeouts, seed: u64) -> Self {
        assert_eq!(nat.family, Family::V4, "{}: this NAT does IPv4 alone", nat.name);
        let ports = Ports::new(nat, public, seed);
        Self { nat, table: Table::new(nat, timeouts), ports, late: VecDeque::new() }
    }

    /// Whether what it has sent to itself comes in again.
    pub(crate) fn knows_hairpinning(&self) -> bool {
        self.nat.hairpin
    }

    /// A packet from the LAN.
    pub(crate) fn outbound(&mut self, packet: &mut [u8], now: Instant) -> Verdict {
        self.table.forget_expired(now);
        match packet::read(packet) {
            Some(Content::Segment(segment)) => self.segment_out(segment, packet, now),
            Some(Content::Error { source, destination }) => {
                let mapping = self.table.outbound(destination, source);
                let Some(external) = mapping.map(|mapping| mapping.external) else {
                    return Verdict::Drop;
                };
                packet::set_quoted_destination(packet, external);
                Verdict::Forward
            }
            None => Verdict::Drop,
        }
    }

    /// A packet from the WAN.
    pub(crate) fn inbound(&mut self, packet: &mut [u8], now: Instant) -> Verdict {
        self.table.forget_expired(now);
        match packet::read(packet) {
            Some(Content::Segment(segment)) => self.segment_in(segment, packet, now),
            Some(Content::Error { source, destination }) => {
                let Some(mapping) = self.table.inbound(source, destination) else {
                    return Verdict::Drop;
                };
                packet::set_quoted_source(packet, mapping.internal());
                Verdict::Forward
            }
            None => Verdict::Drop,
        }
    }

    /// A late answer that is due now.
    #[must_use]
    pub(crate) fn poll_answer(&mut self, now: Instant) -> Option<Vec<u8>> {
        while self.late.front().is_some_and(|(due, _)| *due <= now) {
            let (_, syn) = self.late.pop_front()?;
            let Some(Content::Segment(segment)) = packet::read(&syn) else { continue };
            // "If during this interval the NAT receives and translates an outbound SYN for the
            // connection the NAT MUST silently drop the original unsolicited inbound SYN packet."
            if self.table.inbound(segment.destination, segment.source).is_none() {
                return Some(packet::unreachable(&syn, Unreachable::Port as u8));
            }
        }
        None
    }

    /// When to ask for a late answer.
    #[must_use]
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.late.front().map(|(due, _)| *due)
    }

    fn segment_out(&mut self, segment: Segment, packet: &mut [u8], now: Instant) -> Verdict {
        let Segment { source, destination, .. } = segment;
        if self.nat.reach == Reach::Rendezvous && !S_V4.contains(destination.ip()) {
            return Verdict::Drop;
        }
        let known = self.table.outbound(source, destination).map(|mapping| mapping.external);
        let external = match known {
            Some(external) => external,
            None if !segment.is_syn() => return Verdict::Drop,
            None => match self.new_mapping(source, destination) {
                Some(external) => external,
                None => return Verdict::Drop,
            },
        };
        self.table.passes_out(segment, now);
        packet::set_source(packet, external);
        Verdict::Forward
    }

    /// None if all ports are taken.
    fn new_mapping(&mut self, source: SocketAddrV4, remote: SocketAddrV4) -> Option<SocketAddrV4> {
        let external = match self.nat.mapping {
            Mapping::None => source,
            _ => self.ports.pick(source, remote, |port| self.table.is_free(port, remote))?,
        };
        self.table.add(source, remote, external);
        Some(external)
    }

    fn segment_in(&mut self, segment: Segment, packet: &mut [u8], now: Instant) -> Verdict {
        let Segment { source, destination, .. } = segment;
        let Some(mapping) = self.table.inbound(destination, source) else {
            return self.refuse(segment, packet, now);
        };
        let crosses = segment.is_syn() && mapping.state(source) == Some(State::Dialled);
        match self.nat.crossing {
            Crossing::Dropped if crosses => return Verdict::Drop,
            Crossing::Reset if crosses => return Verdict::Answer(packet::reset(packet)),
            _ => {}
        }
        let internal = mapping.internal();
        self.table.passes_in(segment, now);
        packet::set_destination(packet, internal);
        Verdict::Forward
    }

    fn refuse(&mut self, segment: Segment, packet: &[u8], now: Instant) -> Verdict {
        if !segment.is_syn() {
            return Verdict::Drop;
        }
        match self.nat.refusal {
            Refusal::Silence => Verdict::Drop,
            Refusal::Rst | Refusal::OwnRst => Verdict::Answer(packet::reset(packet)),
            Refusal::Icmp(code) => Verdict::Answer(packet::unreachable(packet, code as u8)),
            Refusal::LateIcmp => {
                self.late.push_back((now + PATIENCE, packet.to_vec()));
                Verdict::Drop
            }
        }
    }
}

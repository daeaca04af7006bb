//! What comes from the network, state by state (RFC 9293 §3.10.7).

use std::rc::Rc;

use gimlet::proto::punch::DialError;

use super::*;

impl Tcp {
    pub(crate) fn receive(&mut self, packet: Packet, now: Nanos) {
        match packet.content {
            Content::Segment(segment) => self.segment(packet.from, packet.to, segment, now),
            Content::Unreachable { code, quoted_from, quoted_to } => {
                self.unreachable(quoted_from, quoted_to, code);
            }
        }
    }

    pub(super) fn segment(&mut self, from: Endpoint, to: Endpoint, segment: Segment, now: Nanos) {
        let found = self.by_pair.get(&pair(to, from)).copied();
        let Some(index) = found else { return self.segment_of_none(from, to, &segment, now) };
        let id = SockId { index, generation: self.socks[index as usize].generation };
        match self.socks[index as usize].state {
            State::SynSent => self.in_syn_sent(id, &segment, now),
            State::SynReceived => self.in_syn_received(id, segment, now),
            State::Established => self.in_established(id, segment, now),
        }
    }

    /// RFC 9293 §3.10.7.1 and §3.10.7.2: CLOSED and LISTEN.
    pub(super) fn segment_of_none(
        &mut self,
        from: Endpoint,
        to: Endpoint,
        segment: &Segment,
        now: Nanos,
    ) {
        if segment.has(RST) {
            return;
        }
        let listens = self.open || self.listeners.contains_key(&to.port);
        if !segment.is_syn() || !listens {
            let content = Content::Segment(segment.refusal());
            return self.out.push(Packet { from: to, to: from, content });
        }
        let id = self.insert(to, from, State::SynReceived, now);
        let sock = &mut self.socks[id.index as usize];
        sock.of_listener = true;
        sock.irs = segment.seq;
        sock.rcv = segment.seq.wrapping_add(1);
        self.transmit_first(id, SYN | ACK);
        self.arm(id, now + SYN_ACK_WAITS[0] * MILLISECOND);
    }

    /// RFC 9293 §3.10.7.3.
    pub(super) fn in_syn_sent(&mut self, id: SockId, segment: &Segment, now: Nanos) {
        let sock = &mut self.socks[id.index as usize];
        if segment.has(ACK) && segment.ack != sock.iss.wrapping_add(1) {
            if !segment.has(RST) {
                let content = Content::Segment(segment.refusal());
                let (from, to) = (sock.local, sock.remote);
                self.out.push(Packet { from, to, content });
            }
            return;
        }
        if segment.has(RST) {
            if segment.has(ACK) {
                self.fail(id, DialError::Refused);
            }
            return;
        }
        if !segment.has(SYN) {
            return;
        }
        sock.irs = segment.seq;
        sock.rcv = segment.seq.wrapping_add(1);
        if segment.has(ACK) {
            self.establish(id, now);
            self.acknowledge(id);
            self.events.push_back((id, Event::Connected));
        } else {
            // Simultaneous open (RFC 9293 §3.5, figure 8).
            sock.state = State::SynReceived;
            sock.tries = 0;
            self.transmit_first(id, SYN | ACK);
            self.arm(id, now + SYN_ACK_WAITS[0] * MILLISECOND);
        }
    }

    pub(super) fn in_syn_received(&mut self, id: SockId, segment: Segment, now: Nanos) {
        let sock = &mut self.socks[id.index as usize];
        if segment.has(RST) {
            if segment.seq == sock.rcv {
                self.fail(id, DialError::Refused);
            }
            return;
        }
        if segment.has(SYN) && segment.seq != sock.irs {
            // RFC 5961 §4: what doesn't fit is answered with an ACK, and may draw an RST.
            return self.acknowledge(id);
        }
        if segment.is_syn() {
            return self.transmit_first(id, SYN | ACK);
        }
        if !segment.has(ACK) {
            return;
        }
        if segment.ack != sock.iss.wrapping_add(1) && !(sock.orphan && segment.has(ACK)) {
            let content = Content::Segment(segment.refusal());
            let (from, to) = (sock.local, sock.remote);
            return self.out.push(Packet { from, to, content });
        }
        let (of_listener, orphan, port) = (sock.of_listener, sock.orphan, sock.local.port);
        self.establish(id, now);
        if !orphan {
            let event = if of_listener { Event::Accepted(port) } else { Event::Connected };
            self.events.push_back((id, event));
        }
        if segment.has(SYN) {
            self.acknowledge(id);
        } else {
            self.in_established(id, segment, now);
        }
    }

    pub(super) fn in_established(&mut self, id: SockId, segment: Segment, now: Nanos) {
        let sock = &mut self.socks[id.index as usize];
        if segment.has(RST) {
            if segment.seq == sock.rcv {
                let orphan = sock.orphan;
                self.remove(id);
                if !orphan {
                    self.events.push_back((id, Event::Reset));
                }
            }
            return;
        }
        if segment.has(SYN) {
            return self.acknowledge(id);
        }
        if sock.keepalive && sock.unacked.is_empty() && !sock.fin_queued && !sock.orphan {
            sock.tries = 0;
            sock.deadline = now + KEEPALIVE.0;
        }
        if segment.frame.is_none() && !segment.has(FIN) && segment.seq == sock.rcv.wrapping_sub(1) {
            self.acknowledge(id);
        }
        self.take_ack(id, segment.ack, now);
        if segment.frame.is_some() || segment.has(FIN) {
            self.take_data(id, segment);
        }
        self.bury(id);
    }

    pub(super) fn take_ack(&mut self, id: SockId, ack: u32, now: Nanos) {
        let Some(sock) = self.get_mut(id) else { return };
        let (acked, out) = (ack.wrapping_sub(sock.una), sock.next().wrapping_sub(sock.una));
        if acked == 0 || acked > out {
            return;
        }
        let frames = (acked as usize).min(sock.unacked.len());
        sock.unacked.drain(..frames);
        let fin_acked = acked as usize > frames;
        sock.una = ack;
        if fin_acked {
            // The FIN leaves the count.
            sock.fin_queued = false;
            sock.una = ack;
        }
        sock.tries = 0;
        sock.since = now;
        let waiting = !sock.unacked.is_empty() || sock.fin_queued;
        let probes = sock.keepalive && !sock.orphan;
        sock.deadline = match (waiting, probes) {
            (true, _) => now + sock.rto(),
            (false, true) => now + KEEPALIVE.0,
            (false, false) => Nanos::MAX,
        };
        let deadline = sock.deadline;
        if waiting || probes {
            self.arm(id, deadline);
        } else if let Some(sock) = self.get_mut(id)
            && sock.orphan
            && fin_acked
            && !sock.fin_seen
        {
            // FIN_WAIT_2 (tcp_fin_timeout): the other side may say for a while that it closes too.
            sock.tries = FIN_TRIES;
            self.arm(id, now + 60 * SECOND);
        }
    }

    pub(super) fn take_data(&mut self, id: SockId, segment: Segment) {
        let Some(sock) = self.get_mut(id) else { return };
        if sock.orphan && segment.frame.is_some() {
            // Nobody will read it: Linux resets (RFC 9293 §3.6.1 lets it).
            let seq = sock.next();
            self.emit(id, RST | ACK, seq, None);
            return self.remove(id);
        }
        let ahead = segment.seq.wrapping_sub(sock.rcv);
        if ahead as i32 > 0 {
            if let Some(frame) = segment.frame
                && sock.early.iter().all(|(seq, _)| *seq != segment.seq)
            {
                sock.early.push((segment.seq, frame));
            }
        } else if ahead == 0 {
            if let Some(frame) = segment.frame {
                self.deliver(id, frame);
            }
            let Some(sock) = self.get_mut(id) else { return };
            if segment.flags & FIN != 0 && !sock.fin_seen {
                sock.rcv = sock.rcv.wrapping_add(1);
                sock.fin_seen = true;
                if !sock.orphan {
                    self.events.push_back((id, Event::Eof));
                }
            }
        }
        self.acknowledge(id);
    }

    pub(super) fn deliver(&mut self, id: SockId, frame: Rc<Frame>) {
        let mut next = Some(frame);
        while let Some(frame) = next {
            self.events.push_back((id, Event::Frame(frame)));
            let sock = &mut self.socks[id.index as usize];
            sock.rcv = sock.rcv.wrapping_add(1);
            let at = sock.early.iter().position(|(seq, _)| *seq == sock.rcv);
            next = at.map(|at| sock.early.swap_remove(at).1);
        }
    }

    /// A closed socket goes when both FINs are through.
    pub(super) fn bury(&mut self, id: SockId) {
        if let Some(sock) = self.get(id)
            && sock.orphan
            && sock.fin_seen
            && !sock.fin_queued
            && sock.unacked.is_empty()
        {
            self.remove(id);
        }
    }

    /// An ICMP error kills what is not established yet; Linux doesn't look at the code's meaning else.
    pub(super) fn unreachable(&mut self, from: Endpoint, to: Endpoint, code: u8) {
        let Some(&index) = self.by_pair.get(&pair(from, to)) else { return };
        let sock = &self.socks[index as usize];
        if sock.state != State::Established {
            let id = SockId { index, generation: sock.generation };
            let port_unreachable = 3;
            let refused = code == port_unreachable;
            self.unreachable = Some(id);
            self.fail(id, if refused { DialError::Refused } else { DialError::Unreachable });
        }
    }
}

//! The life of one connection in a router, as Linux's conntrack keeps it (nf_conntrack_proto_tcp.c): the
//! states that a punch goes through, and what is invalid in them.

use crate::packet::{ACK, Endpoint, FIN, Nanos, RST, SECOND, SYN, Segment};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the LAN.
    Out,
    /// From the WAN.
    In,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    SynSent,
    /// Both sides have sent a SYN: simultaneous open.
    SynSent2,
    SynReceived,
    Established,
    Closing,
    /// After an RST.
    Closed,
}

pub(super) struct Conn {
    pub(super) internal: Endpoint,
    pub(super) external: Endpoint,
    pub(super) remote: Endpoint,
    pub(super) mapping: u32,
    pub(super) expires: Nanos,
    opener: Direction,
    state: State,
    /// Initial sequence numbers: of what went out, of what came in.
    isn: [Option<u32>; 2],
    /// Something has gone the other way than the first SYN.
    replied: bool,
}

/// What is made of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Track {
    Pass,
    /// It goes on, and the connection is forgotten.
    PassAndForget,
    /// It is no part of the connection.
    Invalid,
    /// A new connection begins in the place of the old one.
    Reopen,
}

impl Conn {
    pub(super) fn new(
        internal: Endpoint,
        external: Endpoint,
        remote: Endpoint,
        mapping: u32,
        opener: Direction,
        seq: u32,
    ) -> Self {
        let mut isn = [None; 2];
        isn[opener as usize] = Some(seq);
        let state = State::SynSent;
        let (expires, replied) = (0, false);
        Self { internal, external, remote, mapping, expires, opener, state, isn, replied }
    }

    /// Our SYN went out, and nothing has come in.
    pub(super) fn is_hole(&self) -> bool {
        self.state == State::SynSent && self.opener == Direction::Out
    }

    /// Linux's own timeouts, with RFC 5382's for idle connections (REQ-5).
    pub(super) fn lifetime(&self, syn_lifetime: Nanos) -> Nanos {
        match self.state {
            State::SynSent | State::SynSent2 => syn_lifetime,
            State::SynReceived => 60 * SECOND,
            State::Established => 7440 * SECOND,
            State::Closing => 120 * SECOND,
            State::Closed => 10 * SECOND,
        }
    }

    pub(super) fn track(&mut self, direction: Direction, segment: &Segment, strict: bool) -> Track {
        let track = match segment.flags & (SYN | ACK | RST) {
            flags if flags & RST != 0 => return self.track_rst(),
            SYN => self.track_syn(direction, segment.seq, strict),
            flags if flags & SYN != 0 => self.track_syn_ack(direction, segment, strict),
            _ => self.track_other(direction, segment),
        };
        if track == Track::Pass && direction != self.opener {
            self.replied = true;
        }
        track
    }

    /// "If only reply is a RST, we can consider ourselves not to have an established connection": the hole
    /// is shut at once.
    fn track_rst(&mut self) -> Track {
        if !self.replied {
            return Track::PassAndForget;
        }
        self.state = State::Closed;
        Track::Pass
    }

    fn track_syn(&mut self, direction: Direction, seq: u32, strict: bool) -> Track {
        let isn = &mut self.isn[direction as usize];
        let fits = !strict || isn.is_none_or(|known| known == seq);
        match (self.state, direction == self.opener) {
            (State::SynSent, true) => *isn = Some(seq),
            (State::SynSent, false) => {
                *isn = Some(seq);
                self.state = State::SynSent2;
            }
            // Once the other side's SYN has passed, another one of ours is no retransmission.
            (State::SynSent2, _) if fits => {}
            (State::SynSent2, _) => return Track::Invalid,
            (State::Closed, true) => return Track::Reopen,
            // It may be half open: the other end says so.
            (State::SynReceived | State::Established | State::Closing, true) => {}
            (_, false) => return Track::Invalid,
        }
        Track::Pass
    }

    fn track_syn_ack(&mut self, direction: Direction, segment: &Segment, strict: bool) -> Track {
        let other = self.isn[1 - direction as usize];
        let isn = &mut self.isn[direction as usize];
        let same = isn.is_none_or(|known| known == segment.seq);
        let answers = other.is_some_and(|other| segment.ack == other.wrapping_add(1));
        let sound = !strict || (same && answers);
        match (self.state, direction == self.opener) {
            (State::SynSent, true) => return Track::Invalid,
            (State::SynSent | State::SynSent2, _) if !sound => return Track::Invalid,
            (State::SynSent | State::SynSent2, _) => {
                *isn = Some(segment.seq);
                self.state = State::SynReceived;
            }
            (State::SynReceived, _) | (_, false) => {}
            (State::Established | State::Closing | State::Closed, true) => return Track::Invalid,
        }
        Track::Pass
    }

    fn track_other(&mut self, direction: Direction, segment: &Segment) -> Track {
        let fin = segment.has(FIN);
        match (self.state, direction == self.opener) {
            (State::SynSent | State::SynSent2, true) => return Track::Invalid,
            (State::SynSent | State::SynSent2 | State::Closed, _) => {}
            (State::SynReceived, true) if !fin => self.state = State::Established,
            (State::SynReceived, false) if !fin => {}
            _ if fin => self.state = State::Closing,
            _ => {}
        }
        Track::Pass
    }
}

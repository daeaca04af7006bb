//! Relayed pairs: two connections to the hole ports, joined.
//!
//! ```text
//! Hole ── GIMLET-RELAY ──▶ Waiting ── the other side joins ──▶ Paired ──▶ closed, both
//!                             └── refused, or gone ──▶ closed
//! ```

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::Token;
use mio::net::TcpStream;

use super::flow::{Flow, Means, Pipes, Stop};
use super::pace::Pace;
use super::{Due, RendezvousHost, Sock, count_out, key_of};
use crate::net::clock;
use crate::net::reactor::{Core, Readiness};
use crate::net::socket;
use crate::proto::rendezvous::{JoinVerdict, Limits, LinkId, RelayEnd, RelayId};
use crate::wire::refusal::RelayRefusal;
use crate::wire::stun::{self, Join, Transaction};

/// A connection that joins a relay.
pub(super) struct RelayLink {
    pub(super) stream: TcpStream,
    pub(super) token: Token,
    pub(super) link: LinkId,
    pub(super) remote: SocketAddr,
    pub(super) stage: Stage,
    /// Bytes that arrive are no event: the other side doesn't take what has been read already.
    deaf: bool,
}

#[derive(Clone, Copy)]
pub(super) enum Stage {
    /// For the other side, with this request unanswered.
    Waiting(Transaction),
    /// It is this end of this pair.
    Paired(RelayId, usize),
}

/// Two connections and what flows between them.
struct Pair {
    /// Of the sockets.
    keys: [usize; 2],
    /// From the first to the second, and back.
    flows: [Flow; 2],
    pace: Pace,
    active: Instant,
    /// The timer that is set.
    expires: Instant,
}

/// The pairs of a rendezvous, and what they share.
pub(super) struct Relays {
    pairs: HashMap<RelayId, Pair>,
    pipes: Pipes,
    total: Pace,
    bytes_per_second: u64,
    idle_time: Duration,
}

impl Relays {
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            pairs: HashMap::new(),
            pipes: Pipes::new(),
            total: Pace::new(limits.relay_total_bytes_per_second, now),
            bytes_per_second: limits.relay_bytes_per_second,
            idle_time: limits.relay_idle_time,
        }
    }

    pub(super) fn spare_pipes(&self) -> usize {
        self.pipes.spare()
    }
}

impl Relays {
    /// Pairs that flow already flow at the new rates.
    pub(super) fn set_limits(&mut self, limits: &Limits) {
        self.total.set_rate(limits.relay_total_bytes_per_second);
        self.bytes_per_second = limits.relay_bytes_per_second;
        self.idle_time = limits.relay_idle_time;
        for pair in self.pairs.values_mut() {
            pair.pace.set_rate(limits.relay_bytes_per_second);
        }
    }
}

impl RendezvousHost {
    // ---- getters ----

    /// Bytes that were read from one side of a relay and that the other has not taken yet, in all.
    pub fn relay_backlog(&self) -> usize {
        let flows = self.relays.pairs.values().flat_map(|pair| &pair.flows);
        flows.map(Flow::backlog).sum()
    }

    // ---- commands ----

    /// Whether relayed bytes are moved by splice(2), where there is one, or copied. For kernels on
    /// which it is slow, and for tests.
    pub fn set_splice(&mut self, enabled: bool) {
        self.relays.pipes.enabled = enabled;
    }

    // ---- joining ----

    /// A hole connection has sent its last message: it joins a relay.
    pub(super) fn join_relay(
        &mut self,
        core: &mut Core,
        link: LinkId,
        transaction: Transaction,
        join: &Join,
    ) {
        match self.machine.handle_relay_join(link, join, clock::now()) {
            JoinVerdict::Refused(refusal) => self.refuse_join(core, link, &transaction, refusal),
            JoinVerdict::Waiting => self.become_relay_link(link, transaction),
            JoinVerdict::Paired { relay, with } => {
                self.become_relay_link(link, transaction);
                self.begin_pair(core, relay, [with, link]);
            }
        }
    }

    /// The slot keeps its key and its token while the hole connection in it becomes one that waits.
    /// It still counts against its address.
    fn become_relay_link(&mut self, link: LinkId, transaction: Transaction) {
        self.forget_delayed(link);
        let Some(place) = self.socks.get_mut(key_of(link)) else { return };
        let Sock::Hole(hole) = std::mem::replace(place, Sock::Moving) else {
            unreachable!("the caller has looked")
        };
        self.timers.clear(hole.expires, Due::HoleIdle(link));
        let (stream, token, remote) = (hole.stream, hole.token, hole.remote);
        let stage = Stage::Waiting(transaction);
        *place =
            Sock::Relay(Box::new(RelayLink { stream, token, link, remote, stage, deaf: false }));
    }

    fn relay_link(&mut self, link: LinkId) -> Option<&mut RelayLink> {
        match self.socks.get_mut(key_of(link)) {
            Some(Sock::Relay(relay)) if relay.link == link => Some(relay),
            _ => None,
        }
    }

    /// Answers both with success; from now on their bytes are each other's.
    fn begin_pair(&mut self, core: &mut Core, id: RelayId, links: [LinkId; 2]) {
        let now = clock::now();
        let expires = self.set_timer(self.relays.idle_time, Due::RelayIdle(id));
        let pair = Pair {
            keys: links.map(key_of),
            flows: [Flow::new(), Flow::new()],
            pace: Pace::new(self.relays.bytes_per_second, now),
            active: now,
            expires,
        };
        self.relays.pairs.insert(id, pair);
        for (side, link) in links.into_iter().enumerate() {
            let begun = self.relay_link(link).map(|relay| relay.begin(id, side));
            if let Some(Err(error)) = begun {
                log::debug!("relay={id}: {error}");
                return self.end_pair(core, id, RelayEnd::Broken);
            }
        }
        self.pump_pair(core, id);
    }

    // ---- bytes ----

    pub(super) fn handle_relay_ready(&mut self, core: &mut Core, key: usize, ready: Readiness) {
        let Some(Sock::Relay(relay)) = self.socks.get_mut(key) else { return };
        match relay.stage {
            Stage::Waiting(_) => {
                let link = relay.link;
                if ready.readable && !relay.is_silent() {
                    self.lose_waiting(core, link);
                }
            }
            Stage::Paired(id, side) => {
                let Some(pair) = self.relays.pairs.get_mut(&id) else { return };
                let [there, back] = [side, 1 - side].map(|side| &pair.flows[side]);
                // Once is chance: where the reader is slow for long, it saves most wake-ups.
                let in_vain = ready.readable && there.readable && there.is_stuck();
                let in_vain = in_vain && !(ready.writable && back.is_stuck());
                pair.flows[side].readable |= ready.readable;
                pair.flows[1 - side].writable |= ready.writable;
                if in_vain {
                    return self.listen_to(core, key, false);
                }
                self.pump_pair(core, id);
            }
        }
    }

    /// Moves bytes both ways, a turn's worth each.
    pub(super) fn pump_pair(&mut self, core: &mut Core, id: RelayId) {
        let mut scratch = core.take_scratch();
        let stops = self.pump_flows(id, &mut scratch);
        core.put_scratch(scratch);
        let Some((stops, tokens)) = stops else { return };
        self.listen_again(core, id);
        for (side, stop) in stops.into_iter().enumerate() {
            match stop {
                Ok(Stop::Event | Stop::Over) => {}
                Ok(Stop::Turn) => core.requeue(tokens[side], Readiness::READABLE),
                Ok(Stop::Pace(at)) => self.timers.set(at, Due::RelayPace(id)),
                Err(error) => {
                    log::debug!("relay={id}: {error}");
                    return self.end_pair(core, id, RelayEnd::Broken);
                }
            }
        }
        let pair = self.relays.pairs.get(&id);
        if pair.is_some_and(|pair| pair.flows.iter().all(Flow::is_over)) {
            self.end_pair(core, id, RelayEnd::Finished);
        }
    }

    /// Who has become deaf hears again, where what it has sent is taken again.
    fn listen_again(&mut self, core: &mut Core, id: RelayId) {
        let Some(pair) = self.relays.pairs.get(&id) else { return };
        let stuck = [0, 1].map(|side| pair.flows[side].is_stuck());
        for (key, stuck) in pair.keys.into_iter().zip(stuck) {
            if !stuck {
                self.listen_to(core, key, true);
            }
        }
    }

    /// Whether bytes that arrive at this end are events.
    fn listen_to(&mut self, core: &mut Core, key: usize, wanted: bool) {
        let Some(Sock::Relay(relay)) = self.socks.get_mut(key) else { return };
        if relay.deaf != wanted {
            return;
        }
        relay.deaf = !wanted;
        if let Err(error) = core.want_reading(&mut relay.stream, relay.token, wanted) {
            log::debug!("relay link of {}: {error}", relay.remote);
        }
    }

    fn pump_flows(
        &mut self,
        id: RelayId,
        scratch: &mut [u8],
    ) -> Option<([io::Result<Stop>; 2], [Token; 2])> {
        let Relays { pairs, pipes, total, .. } = &mut self.relays;
        let Pair { keys, flows, pace, active, .. } = pairs.get_mut(&id)?;
        let [Some(Sock::Relay(one)), Some(Sock::Relay(other))] =
            keys.map(|key| self.socks.get(key))
        else {
            debug_assert!(false, "a pair goes before its sockets");
            return None;
        };
        let now = clock::now();
        let before: u64 = flows.iter().map(|flow| flow.bytes).sum();
        let mut means = Means { pair: pace, total, pipes, scratch };
        let [there, back] = flows;
        let stops = [
            there.pump(&one.stream, &other.stream, &mut means, now),
            back.pump(&other.stream, &one.stream, &mut means, now),
        ];
        let moved = there.bytes + back.bytes - before;
        if moved > 0 {
            *active = now;
            self.counters.relayed_bytes += moved;
        }
        Some((stops, [one.token, other.token]))
    }

    // ---- ends ----

    fn refuse_join(
        &mut self,
        core: &mut Core,
        link: LinkId,
        transaction: &Transaction,
        refusal: RelayRefusal,
    ) {
        let Some(Sock::Hole(hole)) = self.socks.get_mut(key_of(link)) else { return };
        let answer = refusal_bytes(transaction, refusal);
        if hole.out.send(&mut hole.stream, &answer).is_err() {
            self.lose_hole(core, link);
        }
    }

    /// The other side did not come, or the introduction is over.
    pub(super) fn refuse_relay(&mut self, core: &mut Core, link: LinkId, refusal: RelayRefusal) {
        let Some(relay) = self.relay_link(link) else { return };
        if let Stage::Waiting(transaction) = relay.stage {
            let answer = refusal_bytes(&transaction, refusal);
            if let Err(error) = relay.write_whole(&answer) {
                log::debug!("relay link of {}: {error}", relay.remote);
            }
            self.drop_relay_link(core, key_of(link));
        }
    }

    /// A connection that waits is gone, or speaks out of turn.
    fn lose_waiting(&mut self, core: &mut Core, link: LinkId) {
        self.machine.handle_relay_left(link);
        self.drop_relay_link(core, key_of(link));
    }

    fn drop_relay_link(&mut self, core: &mut Core, key: usize) {
        if let Some(Sock::Relay(relay)) = self.socks.get(key) {
            count_out(&mut self.holes_per_address, relay.remote);
            self.drop_sock(core, key);
        }
    }

    fn end_pair(&mut self, core: &mut Core, id: RelayId, end: RelayEnd) {
        let Some(mut pair) = self.relays.pairs.remove(&id) else { return };
        self.timers.clear(pair.expires, Due::RelayIdle(id));
        for key in pair.keys {
            if let (Some(Sock::Relay(relay)), true) =
                (self.socks.get(key), end != RelayEnd::Finished)
            {
                socket::abort(&relay.stream);
            }
            self.drop_relay_link(core, key);
        }
        let bytes = pair.flows.iter().map(|flow| flow.bytes).sum();
        for flow in pair.flows {
            flow.dissolve(&mut pair.pace, &mut self.relays.total, &mut self.relays.pipes);
        }
        self.machine.handle_relay_ended(id, bytes, end);
    }

    /// The timer is set once; when it expires, it is set again for as long as something has flowed
    /// meanwhile.
    pub(super) fn expire_pair(&mut self, core: &mut Core, id: RelayId, now: Instant) {
        let Some(pair) = self.relays.pairs.get_mut(&id) else { return };
        let idle_at = pair.active + self.relays.idle_time;
        if idle_at <= now {
            self.end_pair(core, id, RelayEnd::Idle);
        } else {
            pair.expires = idle_at;
            self.timers.set(idle_at, Due::RelayIdle(id));
        }
    }
}

impl RelayLink {
    fn begin(&mut self, id: RelayId, side: usize) -> io::Result<()> {
        let Stage::Waiting(transaction) =
            std::mem::replace(&mut self.stage, Stage::Paired(id, side))
        else {
            unreachable!("who is paired has waited, if only for a moment")
        };
        let mut answer = Vec::new();
        stun::binding_success(&mut answer, &transaction, self.remote, None, None);
        socket::keep_alive(&self.stream)?;
        self.write_whole(&answer)
    }

    /// An answer is below a hundred bytes and the first of its connection: either it is written whole,
    /// or the connection is of no use.
    fn write_whole(&mut self, bytes: &[u8]) -> io::Result<()> {
        match io::Write::write(&mut self.stream, bytes)? {
            length if length == bytes.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// Whether it is there, and says nothing, as it should.
    fn is_silent(&mut self) -> bool {
        let result = io::Read::read(&mut self.stream, &mut [0]);
        let quiet = [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted];
        matches!(result, Err(error) if quiet.contains(&error.kind()))
    }
}

fn refusal_bytes(transaction: &Transaction, refusal: RelayRefusal) -> Vec<u8> {
    let mut answer = Vec::new();
    stun::binding_error(&mut answer, transaction, refusal.to_code(), refusal.label(), &[]);
    answer
}

//! All numbers at one moment: the object of `/api/stats`, and what `/metrics` is written from.
//!
//! Counters alone: nothing here grows with the sessions.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::process::Process;
use crate::net::lag::Lag;
use crate::net::reactor::{HostId, Reactor};
use crate::net::rendezvous::{Counters, RendezvousHost};
use crate::proto::histogram::{self, BOUNDS};
use crate::proto::rendezvous::{Outcome, RelayEnd, Stats};
use crate::wire::refusal::{RefusalCode, RelayRefusal};

/// How often each of a few things happened, by name.
pub type Counts = BTreeMap<&'static str, u64>;

/// All numbers at one moment. Those that aren't said to be of this moment count since the start.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// The version of the program.
    pub version: &'static str,
    /// Time since the start.
    pub uptime_seconds: f64,
    /// Whether it stops, and should get no new peers.
    pub draining: bool,
    /// Peers that are logged in.
    pub sessions: Sessions,
    /// Connections to its ports.
    pub connections: Connections,
    /// Logins and requests that were not granted, by reason.
    pub refusals: Counts,
    /// Two peers brought together.
    pub introductions: Introductions,
    /// Data that it carries for peers without a direct way.
    pub relay: Relay,
    /// The hole ports.
    pub stun: Stun,
    /// Peers dialled back.
    pub dial_backs: DialBacks,
    /// Who hears of whom.
    pub presence: Presence,
    /// The event loop.
    pub event_loop: EventLoop,
    /// What the system says.
    pub process: Process,
}

/// See [`Snapshot::sessions`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Sessions {
    /// At this moment.
    pub current: u64,
    /// Logins granted.
    pub logins: u64,
    /// Sessions that ended.
    pub logouts: u64,
    /// Sessions that a newer one of the same key replaced.
    pub replaced: u64,
    /// Sessions that were closed, by reason: `protocol`, `bad_frame`, `slow`.
    pub closed: Counts,
    /// Messages of types that this version doesn't know.
    pub unknown_messages: u64,
}

/// See [`Snapshot::connections`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Connections {
    /// Sockets of the rendezvous, at this moment.
    pub current: u64,
    /// Logins in progress, at this moment.
    pub handshakes: u64,
    /// Connections to the main port that were accepted.
    pub accepted: u64,
    /// Connections that were closed at once, because a bound was reached.
    pub turned_away: u64,
    /// Handshakes that failed.
    pub handshakes_failed: u64,
    /// Times that accepting paused for want of descriptors.
    pub accept_pauses: u64,
}

/// See [`Snapshot::introductions`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Introductions {
    /// In progress at this moment.
    pub current: u64,
    /// Begun.
    pub started: u64,
    /// How they ended: `connected`, `relayed`, `failed`, `timed_out`, `given_up`, `abandoned`.
    pub outcomes: Counts,
    /// The same by pair of NATs, of those that have met.
    pub nat_pairs: Vec<NatPair>,
    /// Rounds released: first ones, second ones, …
    pub rounds: Vec<u64>,
    /// Rounds released without a hole that didn't show in time.
    pub holes_missed: u64,
    /// Outcomes that nobody waited for.
    pub stray_outcomes: u64,
    /// From the request at S to the word, at S, that a direct connection stands.
    pub time_to_direct: Histogram,
}

/// Two kinds of NAT that have met.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct NatPair {
    /// Their classes, in the order of [`NatClass`](crate::proto::nat::NatClass): who asked doesn't matter.
    pub nats: [&'static str; 2],
    /// How the introductions between them ended.
    pub outcomes: Counts,
}

/// See [`Snapshot::relay`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Relay {
    /// Pairs at this moment, those of which one side has yet to join included.
    pub pairs: u64,
    /// Pairs that both sides joined.
    pub started: u64,
    /// Bytes carried, both ways.
    pub bytes: u64,
    /// Pairs that ended, by how.
    pub ended: Counts,
    /// Requests to join that were not granted, by reason.
    pub refused: Counts,
}

/// See [`Snapshot::stun`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Stun {
    /// Requests answered.
    pub answered: u64,
    /// Connections closed because their bytes made no sense.
    pub bad: u64,
    /// Probes of a peer that is logged in.
    pub probes_tied: u64,
    /// Probes that belong to nothing here.
    pub probes_unknown: u64,
}

/// See [`Snapshot::dial_backs`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct DialBacks {
    /// Made.
    pub made: u64,
    /// Asked for and not made.
    pub refused: u64,
}

/// See [`Snapshot::presence`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Presence {
    /// Watches at this moment.
    pub watches: u64,
    /// Rooms with members at this moment.
    pub rooms: u64,
    /// Comings and goings told.
    pub messages: u64,
}

/// See [`Snapshot::event_loop`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct EventLoop {
    /// How long its turns took.
    pub turns: Histogram,
    /// How late its timers fired.
    pub timer_lag: Histogram,
    /// Handlers that took more than 10 ms.
    pub slow_handlers: u64,
}

/// Durations in classes.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Histogram {
    /// Upper bound of each class but the last, included.
    pub bounds_seconds: Vec<f64>,
    /// How many there were in each class; the last is for what is longer than all bounds.
    pub counts: Vec<u64>,
    /// All of them together.
    pub sum_seconds: f64,
}

impl Snapshot {
    /// Of a rendezvous in a reactor, which was started at `started`.
    ///
    /// # Panics
    /// If `rendezvous` is not that of a rendezvous in this reactor.
    pub fn take(reactor: &mut Reactor, rendezvous: HostId, started: Instant, now: Instant) -> Self {
        let event_loop = EventLoop::of(reactor.lag());
        let host = reactor.rendezvous(rendezvous);
        Self::of(host, event_loop, now.saturating_duration_since(started))
    }

    fn of(host: &RendezvousHost, event_loop: EventLoop, uptime: Duration) -> Self {
        let (machine, counters) = (host.machine(), host.counters());
        let stats = machine.stats();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: uptime.as_secs_f64(),
            draining: host.is_draining(),
            sessions: Sessions::of(machine.sessions(), stats, counters),
            connections: Connections {
                current: host.sockets() as u64,
                handshakes: host.handshakes() as u64,
                accepted: counters.accepted,
                turned_away: counters.turned_away,
                handshakes_failed: counters.handshakes_failed,
                accept_pauses: counters.accept_pauses,
            },
            refusals: refusals(stats),
            introductions: Introductions::of(machine.introductions(), stats),
            relay: Relay::of(machine.relays(), stats, counters),
            stun: Stun {
                answered: counters.stun,
                bad: counters.bad_stun,
                probes_tied: stats.probes_tied,
                probes_unknown: stats.probes_unknown,
            },
            dial_backs: DialBacks { made: stats.dial_backs, refused: stats.dial_backs_refused },
            presence: Presence {
                watches: machine.watches() as u64,
                rooms: machine.rooms() as u64,
                messages: stats.presence_messages,
            },
            event_loop,
            process: Process::look(),
        }
    }

    pub(super) fn write_json(&self, out: &mut String) {
        match serde_json::to_string(self) {
            Ok(json) => out.push_str(&json),
            Err(error) => log::warn!("statistics as JSON: {error}"),
        }
    }
}

impl Sessions {
    fn of(current: usize, stats: &Stats, counters: &Counters) -> Self {
        Self {
            current: current as u64,
            logins: stats.logins,
            logouts: stats.logouts,
            replaced: stats.replaced,
            closed: Counts::from([
                ("protocol", stats.protocol_closes),
                ("bad_frame", counters.bad_frames),
                ("slow", counters.slow),
            ]),
            unknown_messages: stats.unknown_messages,
        }
    }
}

/// Those that have not happened are there too: an alert on a counter that isn't there says nothing.
fn refusals(stats: &Stats) -> Counts {
    let known = (1..=RefusalCode::Protocol.to_byte()).map(RefusalCode::from_byte);
    let mut counts: Counts = known.map(|code| (code.label(), 0)).collect();
    for (code, count) in &stats.refusals {
        *counts.entry(code.label()).or_default() += count;
    }
    counts
}

impl Introductions {
    fn of(current: usize, stats: &Stats) -> Self {
        let pairs = stats.nat_pairs.iter().map(|(nats, counts)| NatPair {
            nats: nats.map(|nat| nat.label()),
            outcomes: Outcome::ALL
                .iter()
                .map(|it| it.label())
                .zip(counts.iter().copied())
                .collect(),
        });
        Self {
            current: current as u64,
            started: stats.introductions_started,
            outcomes: Outcome::ALL.iter().map(|it| (it.label(), stats.ended(*it))).collect(),
            nat_pairs: pairs.collect(),
            rounds: stats.rounds_released.to_vec(),
            holes_missed: stats.holes_missed,
            stray_outcomes: stats.stray_outcomes,
            time_to_direct: Histogram::of(&stats.time_to_direct),
        }
    }
}

impl Relay {
    fn of(pairs: usize, stats: &Stats, counters: &Counters) -> Self {
        const ENDS: [RelayEnd; 3] = [RelayEnd::Finished, RelayEnd::Broken, RelayEnd::Idle];
        const REFUSALS: [RelayRefusal; 5] = [
            RelayRefusal::Off,
            RelayRefusal::Unknown,
            RelayRefusal::Alone,
            RelayRefusal::Quota,
            RelayRefusal::Full,
        ];
        let mut ended: Counts = ENDS.iter().map(|end| (end.label(), 0)).collect();
        for (end, count) in &stats.relays_ended {
            *ended.entry(end.label()).or_default() += count;
        }
        let mut refused: Counts = REFUSALS.iter().map(|refusal| (word(*refusal), 0)).collect();
        for (refusal, count) in &stats.relays_refused {
            *refused.entry(word(*refusal)).or_default() += count;
        }
        let bytes = counters.relayed_bytes;
        Self { pairs: pairs as u64, started: stats.relays_started, bytes, ended, refused }
    }
}

/// A word for a label.
fn word(refusal: RelayRefusal) -> &'static str {
    match refusal {
        RelayRefusal::Off => "off",
        RelayRefusal::Unknown => "unknown",
        RelayRefusal::Alone => "alone",
        RelayRefusal::Quota => "quota",
        RelayRefusal::Full => "full",
        RelayRefusal::Other(_) => "other",
    }
}

impl EventLoop {
    fn of(lag: &Lag) -> Self {
        Self {
            turns: Histogram::of(lag.turns()),
            timer_lag: Histogram::of(lag.timers()),
            slow_handlers: lag.slow_handlers(),
        }
    }
}

impl Histogram {
    fn of(histogram: &histogram::Histogram) -> Self {
        Self {
            bounds_seconds: BOUNDS.iter().map(Duration::as_secs_f64).collect(),
            counts: histogram.counts().to_vec(),
            sum_seconds: histogram.sum().as_secs_f64(),
        }
    }
}

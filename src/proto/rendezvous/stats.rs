//! What the rendezvous has done so far, in numbers for the operator. They only grow.

use std::collections::BTreeMap;

use super::RelayEnd;
use crate::limits;
use crate::proto::histogram::Histogram;
use crate::proto::nat::NatClass;
use crate::wire::refusal::{RefusalCode, RelayRefusal};

/// Counters since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Logins granted.
    pub logins: u64,
    /// Sessions that ended, for whatever reason.
    pub logouts: u64,
    /// Sessions that a newer one of the same key replaced.
    pub replaced: u64,
    /// Sessions closed because the peer broke the protocol.
    pub protocol_closes: u64,
    /// What was not granted, logins and requests, by reason.
    pub refusals: BTreeMap<RefusalCode, u64>,
    /// Relays that both sides joined.
    pub relays_started: u64,
    /// Requests to join a relay that were not granted, or whose other side never came, by reason.
    pub relays_refused: BTreeMap<RelayRefusal, u64>,
    /// Relays that ended, by how.
    pub relays_ended: BTreeMap<RelayEnd, u64>,
    /// Bytes that the relays that ended had carried, both ways.
    pub relayed_bytes: u64,
    /// Introductions begun.
    pub introductions_started: u64,
    /// … that ended with a direct connection.
    pub introductions_connected: u64,
    /// … that ended with a relayed one.
    pub introductions_relayed: u64,
    /// … all of whose rounds failed.
    pub introductions_failed: u64,
    /// … that one side gave up.
    pub introductions_given_up: u64,
    /// … whose deadline passed with no word of how they ended.
    pub introductions_timed_out: u64,
    /// … one side of which went away.
    pub introductions_abandoned: u64,
    /// The ends of introductions, by what kinds of NATs met.
    pub nat_pairs: NatPairs,
    /// From the request at S to the word, at S, that a direct connection stands.
    pub time_to_direct: Histogram,
    /// Rounds released: the first ones, the second ones, …
    pub rounds_released: [u64; limits::ROUNDS as usize],
    /// Rounds released without a hole that did not show in time.
    pub holes_missed: u64,
    /// Outcomes that nobody waited for.
    pub stray_outcomes: u64,
    /// Probes that belong to a session, and to a hole if they name one.
    pub probes_tied: u64,
    /// Probes that belong to nothing here.
    pub probes_unknown: u64,
    /// Dials back to peers, from one address or two.
    pub dial_backs: u64,
    /// … that were asked for and not made: a bound, or no such hole.
    pub dial_backs_refused: u64,
    /// Comings and goings told.
    pub presence_messages: u64,
    /// Messages of a type that this version doesn't know.
    pub unknown_messages: u64,
}

/// How an introduction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Outcome {
    /// With a direct connection.
    Connected,
    /// With a relayed one.
    Relayed,
    /// All of its rounds failed.
    Failed,
    /// Its deadline passed.
    TimedOut,
    /// One side gave it up.
    GivenUp,
    /// One side went away.
    Abandoned,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Connected,
        Self::Relayed,
        Self::Failed,
        Self::TimedOut,
        Self::GivenUp,
        Self::Abandoned,
    ];

    /// A word for a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Relayed => "relayed",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::GivenUp => "given_up",
            Self::Abandoned => "abandoned",
        }
    }
}

const CLASSES: usize = NatClass::ALL.len();
const OUTCOMES: usize = Outcome::ALL.len();

/// Counts by pair of NATs and by outcome. It doesn't matter which of the two asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatPairs {
    counts: [[[u64; OUTCOMES]; CLASSES]; CLASSES],
}

impl NatPairs {
    fn count(&mut self, [one, other]: [NatClass; 2], outcome: Outcome) {
        let (first, second) = (one.min(other), one.max(other));
        self.counts[first as usize][second as usize][outcome as usize] += 1;
    }

    /// The pairs that have met, each with its counts in the order of [`Outcome::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = ([NatClass; 2], &[u64; OUTCOMES])> {
        let pairs = NatClass::ALL.into_iter().zip(&self.counts).flat_map(|(first, row)| {
            NatClass::ALL
                .into_iter()
                .zip(row)
                .map(move |(second, counts)| ([first, second], counts))
        });
        pairs.filter(|(_, counts)| counts.iter().any(|count| *count > 0))
    }
}

impl Stats {
    pub(super) fn count_end(&mut self, nats: [NatClass; 2], outcome: Outcome) {
        self.nat_pairs.count(nats, outcome);
        *match outcome {
            Outcome::Connected => &mut self.introductions_connected,
            Outcome::Relayed => &mut self.introductions_relayed,
            Outcome::Failed => &mut self.introductions_failed,
            Outcome::TimedOut => &mut self.introductions_timed_out,
            Outcome::GivenUp => &mut self.introductions_given_up,
            Outcome::Abandoned => &mut self.introductions_abandoned,
        } += 1;
    }

    /// How many introductions ended so.
    pub fn ended(&self, outcome: Outcome) -> u64 {
        match outcome {
            Outcome::Connected => self.introductions_connected,
            Outcome::Relayed => self.introductions_relayed,
            Outcome::Failed => self.introductions_failed,
            Outcome::TimedOut => self.introductions_timed_out,
            Outcome::GivenUp => self.introductions_given_up,
            Outcome::Abandoned => self.introductions_abandoned,
        }
    }

    pub(super) fn count_refusal(&mut self, code: RefusalCode) {
        *self.refusals.entry(code).or_default() += 1;
    }

    pub(super) fn count_relay_refusal(&mut self, refusal: RelayRefusal) {
        *self.relays_refused.entry(refusal).or_default() += 1;
    }

    pub(super) fn count_release(&mut self, round: u8) {
        if let Some(count) = self.rounds_released.get_mut(usize::from(round) - 1) {
            *count += 1;
        }
    }
}

//! What the rendezvous has done so far, in numbers for the operator. They only grow.

use std::collections::BTreeMap;

use super::RelayEnd;
use crate::limits;
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

impl Stats {
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

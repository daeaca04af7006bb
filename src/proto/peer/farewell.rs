//! A rendezvous that stops says so: when to come back, or where to go. Which rendezvous is dialled next.
//!
//! ```text
//! home ◀──── both tried in turn while neither answers ────▶ elsewhere
//!   └── drains, and names another ──▶ elsewhere ── drains ──▶ home, or where it says
//! ```
//!
//! Home is where the user sent us. Nothing is remembered beyond the process.

use std::time::{Duration, Instant};

use super::{LoginError, Peer};
use crate::identity::ServerAddr;
use crate::limits;
use crate::wire::refusal::ClosingCode;

/// Where the peer is, and what it was told.
#[derive(Debug, Default)]
pub(super) struct Whereabouts {
    /// What the rendezvous of this login has said of its end.
    farewell: Option<Farewell>,
    /// The rendezvous that another one has named.
    elsewhere: Option<ServerAddr>,
    /// Whether it is the one of this login, or of the next.
    away: bool,
    /// How often we have been sent on without a rest.
    hops: u32,
    /// Since when this login stands.
    welcomed: Option<Instant>,
}

#[derive(Debug)]
struct Farewell {
    spread: Duration,
    to: Option<ServerAddr>,
}

impl Whereabouts {
    /// Whether the rendezvous grants nothing any more: what is wanted waits for the next login.
    pub(super) fn is_told_to_go(&self) -> bool {
        self.farewell.is_some()
    }

    pub(super) fn begin_login(&mut self) {
        self.farewell = None;
        self.welcomed = None;
    }

    pub(super) fn arrive(&mut self, now: Instant) {
        self.welcomed = Some(now);
        if !self.away {
            self.elsewhere = None;
        }
    }

    /// Whether trying again is of no use. Of what another rendezvous has named, that is no word.
    pub(super) fn is_final(&self, error: &LoginError) -> bool {
        let replaced = matches!(error, LoginError::Closed { code: ClosingCode::Replaced, .. });
        error.is_final() && (!self.away || replaced)
    }

    /// The login is over, or has failed: chooses where the next one is. Says within which time it should
    /// be, if the rendezvous has.
    fn leave(&mut self, error: &LoginError, now: Instant) -> Option<Duration> {
        let welcomed = self.welcomed.take();
        if welcomed.is_some_and(|since| now >= since + limits::REDIRECT_REST) {
            self.hops = 0;
        }
        match self.farewell.take() {
            Some(Farewell { spread, to: Some(to) }) if self.hops < limits::REDIRECTS => {
                self.hops += 1;
                (self.elsewhere, self.away) = (Some(to), true);
                Some(spread)
            }
            Some(Farewell { spread, .. }) => {
                (self.elsewhere, self.away) = (None, false);
                Some(spread)
            }
            None if self.away && error.is_final() => {
                (self.elsewhere, self.away) = (None, false);
                None
            }
            None => {
                let failed = welcomed.is_none() && *error != LoginError::NetworkChanged;
                self.away ^= failed && self.elsewhere.is_some();
                None
            }
        }
    }
}

impl Peer {
    /// The rendezvous of this login, or of the next, if it isn't the one that the user has named. Always with its
    /// key.
    pub fn elsewhere(&self) -> Option<&ServerAddr> {
        self.whereabouts.elsewhere.as_ref().filter(|_| self.whereabouts.away)
    }

    /// S stops. It is followed to another one only if it says whose key that has.
    pub(super) fn handle_draining(&mut self, spread: u32, to: &str) {
        let named = to.parse::<ServerAddr>().ok().filter(|to| to.key.is_some());
        if named.is_none() && !to.is_empty() {
            log::warn!("the rendezvous names another one by {to:?}, which is not KEY@HOST:PORT");
        }
        let spread = Duration::from_millis(spread.into());
        let spread = spread.clamp(limits::RECONNECT_FIRST, limits::RETURN_LONGEST);
        self.whereabouts.farewell = Some(Farewell { spread, to: named });
    }

    /// After which time to log in again, and, by the way, where.
    pub(super) fn next_login(&mut self, error: &LoginError, now: Instant) -> Duration {
        match self.whereabouts.leave(error, now) {
            // Whoever wants something now comes as early as ever.
            Some(spread) if !self.punches.are_waiting() => self.jittered(spread),
            _ => self.backoff(error),
        }
    }
}

//! How far a protocol over UDP is with its one mapping: what PCP and NAT-PMP have in common.
//!
//! ```text
//! Off ─▶ Asking ─granted─▶ Granted ─remove─▶ Removing ─▶ Ended
//!          ▲  │ refused       │ expired
//!          │  ▼               │
//!        Resting     Asking ◀─┘
//! ```

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::lease::{Lease, restart_pause};
use crate::limits;

/// How far it is; `A` is how it asks.
#[derive(Debug)]
pub(super) enum State<A> {
    Off,
    /// Nothing is granted yet.
    Asking(A),
    Granted(Lease),
    /// Refused, or not there.
    Resting(Instant),
    Removing {
        retry_at: Instant,
        tries: u8,
    },
    /// Removed, for good: what comes late is of no interest.
    Ended,
}

/// How a protocol asks.
pub(super) trait Ask {
    /// When to ask again, if an answer is waited for.
    fn retry_at(&self) -> Option<Instant>;

    /// Whether a mapping may come of it.
    fn is_for_mapping(&self) -> bool;
}

/// What it is time for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To wait.
    None,
    /// To ask from the beginning.
    Start,
    /// To ask again: no answer has come.
    AskAgain,
    /// To have the mapping renewed.
    Renew,
    /// To have the mapping removed, once more.
    Remove,
}

impl<A: Ask> State<A> {
    // ---- getters ----

    pub(super) fn external(&self) -> Option<SocketAddr> {
        match self {
            Self::Granted(lease) => Some(lease.external),
            _ => None,
        }
    }

    /// Whether it has said no, or nothing at all: others needn't wait for it.
    pub(super) fn has_refused(&self) -> bool {
        matches!(self, Self::Resting(_))
    }

    pub(super) fn is_off(&self) -> bool {
        matches!(self, Self::Off | Self::Ended)
    }

    /// When [`Self::step`] has something to say.
    pub(super) fn next(&self) -> Option<Instant> {
        match self {
            Self::Off | Self::Ended => None,
            Self::Asking(ask) => ask.retry_at(),
            Self::Granted(lease) => Some(lease.next()),
            Self::Resting(until) => Some(*until),
            Self::Removing { retry_at, .. } => Some(*retry_at),
        }
    }

    // ---- commands ----

    /// Another protocol has been quicker.
    pub(super) fn rest(&mut self) {
        if matches!(self, Self::Asking(_) | Self::Resting(_)) {
            *self = Self::Off;
        }
    }

    /// The mapping is no longer wanted. Says whether the server is to be told: one that was asked for may
    /// have come about, too.
    pub(super) fn remove(&mut self, now: Instant) -> bool {
        let is_granted = matches!(self, Self::Granted(_));
        let may_come = matches!(self, Self::Asking(ask) if ask.is_for_mapping());
        *self = match is_granted {
            true => Self::Removing { retry_at: now + limits::PORT_UNMAPPING_RETRY, tries: 1 },
            false => Self::Ended,
        };
        is_granted || may_come
    }

    // ---- events ----

    /// The server maps our port to that endpoint, for so long; if that is no time, it has removed the
    /// mapping. Says whether there is a new mapping.
    pub(super) fn grant(
        &mut self,
        external: SocketAddr,
        lifetime: Duration,
        now: Instant,
        random: &mut fastrand::Rng,
    ) -> bool {
        let is_wanted = match self {
            // One that comes late is one of ours all the same, and to be removed in the end.
            Self::Off | Self::Granted(_) => true,
            Self::Asking(ask) => ask.is_for_mapping(),
            Self::Removing { .. } if lifetime.is_zero() => {
                *self = Self::Ended;
                false
            }
            Self::Resting(_) | Self::Removing { .. } | Self::Ended => false,
        };
        let is_endpoint = !external.ip().is_unspecified() && external.port() != 0;
        let is_new = is_wanted && is_endpoint && !lifetime.is_zero();
        if is_new {
            *self = Self::Granted(Lease::new(external, lifetime, now, random));
        }
        is_new
    }

    /// The server has said no. A mapping stands until its end, whatever became of its renewal.
    pub(super) fn refuse(&mut self, until: Instant) {
        match self {
            Self::Asking(ask) if ask.retry_at().is_some() => *self = Self::Resting(until),
            Self::Removing { .. } => *self = Self::Ended,
            Self::Off | Self::Asking(_) | Self::Granted(_) | Self::Resting(_) | Self::Ended => {}
        }
    }

    /// The server has lost its mappings.
    pub(super) fn forget(&mut self, now: Instant, random: &mut fastrand::Rng) {
        if let Self::Granted(lease) = self {
            log::debug!("the server has restarted, and forgotten {}", lease.external);
            lease.forget(now, random);
        }
    }

    /// A server that has refused, or was not there, shows that it is there.
    pub(super) fn see_server(&mut self, now: Instant, random: &mut fastrand::Rng) {
        if let Self::Resting(until) = self {
            *until = (*until).min(now + restart_pause(random));
        }
    }

    /// What it is time for. Until then, see [`Self::next`].
    pub(super) fn step(&mut self, now: Instant) -> Step {
        match self {
            Self::Asking(ask) if ask.retry_at().is_some_and(|at| at <= now) => Step::AskAgain,
            Self::Granted(lease) if lease.expires <= now => Step::Start,
            Self::Granted(lease) if lease.renew_at <= now => {
                lease.put_off(now);
                Step::Renew
            }
            Self::Resting(until) if *until <= now => Step::Start,
            Self::Removing { retry_at, tries } if *retry_at <= now => {
                if *tries >= limits::PORT_UNMAPPING_TRIES {
                    *self = Self::Ended;
                    return Step::None;
                }
                *tries += 1;
                *retry_at = now + limits::PORT_UNMAPPING_RETRY;
                Step::Remove
            }
            _ => Step::None,
        }
    }
}

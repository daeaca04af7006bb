//! How much a loop lags: how long its turns take, how late its timers fire, and what took too long.
//!
//! Counted in fixed memory. A handler costs one look at the clock: the end of one is the beginning of the
//! next.

use std::time::{Duration, Instant};

use crate::limits;
use crate::proto::histogram::Histogram;

/// What has been measured since the start.
#[derive(Debug, Default)]
pub struct Lag {
    turns: Histogram,
    timers: Histogram,
    slow_handlers: u64,
    /// When the kernel was last done with waiting: the turn in progress began then.
    woken: Option<Instant>,
    /// When the last line about a slow handler was written, and how many more there were since.
    logged: Option<Instant>,
    unlogged: u64,
}

impl Lag {
    /// How long turns took, from the end of one wait to the beginning of the next. That is how long an event
    /// waits at most that comes meanwhile.
    pub fn turns(&self) -> &Histogram {
        &self.turns
    }

    /// How late timers fired. Up to a millisecond is the kernel's: it counts no finer.
    pub fn timers(&self) -> &Histogram {
        &self.timers
    }

    /// Handlers that took longer than [`limits::SLOW_HANDLER`].
    pub fn slow_handlers(&self) -> u64 {
        self.slow_handlers
    }

    /// A turn is over: now comes the wait for the next.
    pub(super) fn waits(&mut self, now: Instant) {
        if let Some(woken) = self.woken.take() {
            self.turns.count(now.saturating_duration_since(woken));
        }
    }

    /// The wait is over.
    pub(super) fn woken(&mut self, now: Instant) {
        self.woken = Some(now);
    }

    /// A timer has fired that was set for `due`.
    pub(super) fn fired(&mut self, due: Instant, now: Instant) {
        self.timers.count(now.saturating_duration_since(due));
    }

    /// A handler is done. Says so if it took too long, once in a while.
    pub(super) fn handled(&mut self, what: What, began: Instant, now: Instant) {
        let took = now.saturating_duration_since(began);
        if took <= limits::SLOW_HANDLER {
            return;
        }
        self.slow_handlers += 1;
        let rests =
            |logged: Instant| now.saturating_duration_since(logged) < limits::SLOW_LOG_PAUSE;
        if self.logged.is_some_and(rests) {
            self.unlogged += 1;
            return;
        }
        let more = std::mem::take(&mut self.unlogged);
        self.logged = Some(now);
        log::warn!("slow handler: {what} ms={} unlogged={more}", millis(took));
    }
}

/// What was handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A socket of a host is ready.
    Ready { host: u32, socket: &'static str },
    /// A host's time has come.
    Timers { host: u32 },
    /// A helper thread has done something.
    Mail { host: u32 },
    /// This machine's network has changed.
    Network,
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ready { host, socket } => write!(f, "host={host} socket={socket}"),
            Self::Timers { host } => write!(f, "host={host} timers"),
            Self::Mail { host } => write!(f, "host={host} mail"),
            Self::Network => f.write_str("network"),
        }
    }
}

fn millis(time: Duration) -> u128 {
    time.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::clock;

    #[test]
    fn a_turn_lasts_from_one_wait_to_the_next() {
        let (mut lag, start) = (Lag::default(), clock::now());
        let at = |ms| start + Duration::from_millis(ms);
        lag.waits(at(0));
        assert_eq!(lag.turns().total(), 0, "nothing has been done yet");
        lag.woken(at(10));
        lag.fired(at(7), at(10));
        lag.waits(at(14));
        assert_eq!((lag.turns().total(), lag.turns().sum()), (1, Duration::from_millis(4)));
        assert_eq!(lag.timers().sum(), Duration::from_millis(3));
    }

    #[test]
    fn slow_handlers_are_all_counted_and_few_are_logged() {
        let (mut lag, start) = (Lag::default(), clock::now());
        let what = What::Ready { host: 0, socket: "main" };
        assert_eq!(what.to_string(), "host=0 socket=main");
        let slow = limits::SLOW_HANDLER + Duration::from_millis(1);
        lag.handled(what, start, start + limits::SLOW_HANDLER);
        assert_eq!(lag.slow_handlers(), 0);
        for _ in 0..3 {
            lag.handled(what, start, start + slow);
        }
        assert_eq!((lag.slow_handlers(), lag.unlogged), (3, 2));
        lag.handled(what, start, start + slow + limits::SLOW_LOG_PAUSE);
        assert_eq!((lag.slow_handlers(), lag.unlogged), (4, 0));
    }
}

//! So many bytes a second, for whoever reserves them first.

use std::time::{Duration, Instant};

use crate::limits;

/// A rate that several share. A reservation says from when on it holds, so that nobody is passed over,
/// and nobody polls.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: u64,
    /// What was reserved so far takes the link until then.
    taken_until: Instant,
}

impl Pace {
    pub(super) fn new(per_second: u64, now: Instant) -> Self {
        Self { per_second: per_second.max(1), taken_until: earliest(now) }
    }

    /// Changes the rate. What is reserved stays so.
    pub(super) fn set_rate(&mut self, per_second: u64) {
        self.per_second = per_second.max(1);
    }

    /// Reserves `bytes`. They may pass from the returned instant on, which may lie in the past.
    pub(super) fn reserve(&mut self, bytes: usize, now: Instant) -> Instant {
        let from = self.taken_until.max(earliest(now));
        self.taken_until = from + self.time(bytes);
        from
    }

    /// Gives back what was reserved and not used.
    pub(super) fn refund(&mut self, bytes: usize) {
        if let Some(earlier) = self.taken_until.checked_sub(self.time(bytes)) {
            self.taken_until = earlier;
        }
    }

    /// What is reserved at once: a sixteenth of a second's worth, so that waits are short.
    pub(super) fn portion(&self) -> usize {
        let bytes = usize::try_from(self.per_second / 16).unwrap_or(usize::MAX);
        bytes.clamp(SMALLEST_PORTION, limits::RELAY_TURN_BYTES)
    }

    fn time(&self, bytes: usize) -> Duration {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// A system call for less than a page is not worth it.
const SMALLEST_PORTION: usize = 4096;

/// What was not used before this is lost.
fn earliest(now: Instant) -> Instant {
    now.checked_sub(limits::RELAY_BURST_TIME).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test may take any instant as its origin")]
    fn a_burst_passes_and_then_no_more_than_the_rate() {
        let now = Instant::now() + Duration::from_secs(10);
        let mut pace = Pace::new(1000, now);
        let mut passed = 0;
        while pace.reserve(10, now) <= now {
            passed += 10;
        }
        pace.refund(10);
        assert!((250..=260).contains(&passed), "{passed}");
        assert!(pace.reserve(1000, now) > now);
        let next = pace.reserve(10, now);
        assert!(next >= now + Duration::from_millis(990), "{:?}", next - now);
        pace.refund(1010);
        let later = now + Duration::from_secs(60);
        assert_eq!(pace.reserve(500, later), later - limits::RELAY_BURST_TIME, "no more is kept");
        assert_eq!(pace.reserve(1, later), later + Duration::from_millis(250));
    }
}

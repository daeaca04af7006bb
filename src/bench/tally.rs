//! What came of a load: how many, how long each took, and what went wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Significant digits of a latency.
const DIGITS: u8 = 3;

/// Counts of a phase.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// In nanoseconds.
    latency: Histogram<u64>,
    /// Operations that failed, by kind.
    pub(super) errors: BTreeMap<String, u64>,
    /// Tries that failed and were made again, by kind.
    pub(super) retries: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn new() -> Self {
        let latency = Histogram::new(DIGITS).expect("three digits are within its range");
        Self { latency, errors: BTreeMap::new(), retries: BTreeMap::new() }
    }

    /// An operation that succeeded.
    pub(super) fn done(&mut self, took: Duration) {
        let recorded = self.latency.record(took.as_nanos() as u64);
        debug_assert!(recorded.is_ok(), "it resizes itself: no duration is too long");
    }

    /// One that didn't.
    pub(super) fn failed(&mut self, kind: &str) {
        *self.errors.entry(kind.to_owned()).or_default() += 1;
    }

    /// One that is tried again.
    pub(super) fn retried(&mut self, kind: &str) {
        *self.retries.entry(kind.to_owned()).or_default() += 1;
    }

    /// As it is told to another process.
    pub(super) fn save(&self) -> Saved {
        let latency = self.latency.iter_recorded();
        Saved {
            latency: latency.map(|it| (it.value_iterated_to(), it.count_at_value())).collect(),
            errors: self.errors.clone(),
            retries: self.retries.clone(),
        }
    }

    /// Adds what another process has counted.
    pub(super) fn merge(&mut self, other: &Saved) {
        for (value, count) in &other.latency {
            let recorded = self.latency.record_n(*value, *count);
            debug_assert!(recorded.is_ok(), "it resizes itself");
        }
        let counts = [(&mut self.errors, &other.errors), (&mut self.retries, &other.retries)];
        for (ours, theirs) in counts {
            for (kind, count) in theirs {
                *ours.entry(kind.clone()).or_default() += count;
            }
        }
    }

    /// How many succeeded.
    pub(super) fn count(&self) -> u64 {
        self.latency.len()
    }

    /// How many ended, one way or the other.
    pub(super) fn ended(&self) -> u64 {
        self.count() + self.errors.values().sum::<u64>()
    }

    /// How long they took; none if none succeeded.
    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        let at = |percent| self.latency.value_at_percentile(percent) as f64 / 1e3;
        (self.count() > 0).then(|| Percentiles {
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p99_9: at(99.9),
            max: self.latency.max() as f64 / 1e3,
        })
    }
}

/// Counts on their way from one process to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    /// Nanoseconds, and how often.
    latency: Vec<(u64, u64)>,
    errors: BTreeMap<String, u64>,
    retries: BTreeMap<String, u64>,
}

/// Latencies, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Percentiles {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p99_9: f64,
    pub(super) max: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_thousand() {
        let mut tally = Tally::new();
        assert_eq!(tally.percentiles(), None);
        (1..=1000).for_each(|ms| tally.done(Duration::from_millis(ms)));
        let found = tally.percentiles().unwrap();
        for (found, ms) in
            [(found.p50, 500.0), (found.p90, 900.0), (found.p99, 990.0), (found.p99_9, 999.0)]
        {
            assert!((found / (ms * 1e3) - 1.0).abs() < 0.002, "{found} is not {ms} ms");
        }
        assert!(found.max >= 1e6);
    }

    #[test]
    fn what_several_have_counted_is_one_count() {
        let mut tally = Tally::new();
        tally.done(Duration::from_millis(1));
        tally.failed("busy");
        let mut sum = Tally::new();
        sum.merge(&tally.save());
        sum.merge(&tally.save());
        assert_eq!((sum.count(), sum.errors["busy"]), (2, 2));
        let (one, two) = (tally.percentiles().unwrap(), sum.percentiles().unwrap());
        assert!((one.p99 / two.p99 - 1.0).abs() < 0.002, "{one:?} {two:?}");
    }

    #[test]
    fn failures_end_an_operation_and_retries_do_not() {
        let mut tally = Tally::new();
        tally.done(Duration::ZERO);
        tally.failed("busy");
        tally.failed("busy");
        tally.retried("refused");
        assert_eq!((tally.count(), tally.ended()), (1, 3));
        assert_eq!((tally.errors["busy"], tally.retries["refused"]), (2, 1));
    }
}

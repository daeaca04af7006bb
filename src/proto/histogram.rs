//! How long something took, counted in classes: fixed memory, no allocation.

use std::time::Duration;

/// Upper bounds of the classes, each included. One scale for all that is measured: from a tenth of a
/// millisecond, a turn of a busy loop, to the longest time that an introduction may take.
pub const BOUNDS: [Duration; 18] = [
    Duration::from_micros(100),
    Duration::from_micros(200),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(30),
];

/// Durations since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// One for each of [`BOUNDS`], and what is longer than all of them.
    counts: [u64; BOUNDS.len() + 1],
    sum: Duration,
}

impl Histogram {
    /// Counts one.
    pub fn count(&mut self, took: Duration) {
        self.counts[BOUNDS.partition_point(|bound| *bound < took)] += 1;
        self.sum = self.sum.saturating_add(took);
    }

    /// How many there were in each class: those of [`BOUNDS`], and the longer ones.
    pub fn counts(&self) -> &[u64; BOUNDS.len() + 1] {
        &self.counts
    }

    /// How many there were.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_once_below_the_first_bound_that_it_does_not_exceed() {
        let mut histogram = Histogram::default();
        let ms = Duration::from_millis;
        for took in [Duration::ZERO, Duration::from_micros(100), ms(5), ms(6), ms(40_000)] {
            histogram.count(took);
        }
        let counted: Vec<_> =
            (0..).zip(histogram.counts()).filter(|(_, count)| **count > 0).collect();
        assert_eq!(counted, [(0, &2), (5, &1), (6, &1), (BOUNDS.len(), &1)]);
        assert_eq!(histogram.total(), 5);
        assert_eq!(histogram.sum(), ms(40_011) + Duration::from_micros(100));
        assert!(BOUNDS.is_sorted());
    }
}

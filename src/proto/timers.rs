//! Deadlines of a machine: set, cleared and expired in O(log n), nothing scanned, nothing ticking.

use std::collections::BTreeSet;
use std::time::Instant;

/// A queue of deadlines, each with a key. The owner of a deadline keeps its instant to clear it.
#[derive(Debug)]
pub struct Timers<K> {
    queue: BTreeSet<(Instant, K)>,
}

impl<K: Ord + Copy> Timers<K> {
    /// An empty queue.
    pub fn new() -> Self {
        Self { queue: BTreeSet::new() }
    }

    /// Sets a deadline. The same key may have several, at different instants.
    pub fn set(&mut self, at: Instant, key: K) {
        self.queue.insert((at, key));
    }

    /// Clears the deadline that was set with the same arguments, if it has not expired.
    pub fn clear(&mut self, at: Instant, key: K) {
        self.queue.remove(&(at, key));
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Instant> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes the earliest deadline that is not after `now`.
    pub fn expire(&mut self, now: Instant) -> Option<(Instant, K)> {
        self.queue.first().filter(|(at, _)| *at <= now)?;
        self.queue.pop_first()
    }

    /// How many deadlines are set.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

impl<K: Ord + Copy> Default for Timers<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test may take any instant as its origin")]
    fn expires_in_order_and_not_before_time() {
        let origin = Instant::now();
        let at = |ms| origin + Duration::from_millis(ms);
        let mut timers = Timers::new();
        timers.set(at(30), 'c');
        timers.set(at(10), 'a');
        timers.set(at(20), 'b');
        timers.clear(at(20), 'b');
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.expire(at(9)), None);
        assert_eq!(timers.expire(at(40)), Some((at(10), 'a')));
        assert_eq!(timers.expire(at(40)), Some((at(30), 'c')));
        assert!(timers.is_empty());
    }
}

//! What happens to packets on the WAN: delay, jitter, loss, reordering, duplicates.

use crate::packet::{MICROSECOND, Nanos};

/// Somewhere on the map, in nanoseconds of travel: distances obey the triangle inequality.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Place {
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// To the WAN and from it: a slow access line.
    pub(crate) access: Nanos,
}

/// How the WAN treats packets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Conditions {
    /// Longest extra delay. Each packet has its own, so that they overtake each other.
    pub(crate) jitter: Nanos,
    /// The part of packets that is lost.
    pub(crate) loss: f64,
    /// The part that arrives twice.
    pub(crate) duplicates: f64,
}

/// One hop inside a site.
pub(crate) const HOP: Nanos = 100 * MICROSECOND;

pub(crate) struct Path {
    pub(crate) conditions: Conditions,
    random: fastrand::Rng,
}

impl Path {
    pub(crate) fn new(seed: u64) -> Self {
        Self { conditions: Conditions::default(), random: fastrand::Rng::with_seed(seed) }
    }

    /// When the copies of a packet arrive, after which time: none, one or two.
    pub(crate) fn carry(&mut self, from: Place, to: Place) -> [Option<Nanos>; 2] {
        let Conditions { loss, duplicates, .. } = self.conditions;
        if self.happens(loss) {
            return [None, None];
        }
        let first = self.delay(from, to);
        let second = self.happens(duplicates).then(|| self.delay(from, to));
        [Some(first), second]
    }

    fn happens(&mut self, part: f64) -> bool {
        part > 0.0 && self.random.f64() < part
    }

    fn delay(&mut self, from: Place, to: Place) -> Nanos {
        let jitter = match self.conditions.jitter {
            0 => 0,
            longest => self.random.u64(..longest),
        };
        HOP + distance(from, to) + jitter
    }
}

/// One way, without jitter.
pub(crate) fn distance(from: Place, to: Place) -> Nanos {
    let line = (from.x - to.x).hypot(from.y - to.y) as Nanos;
    from.access + line + to.access
}

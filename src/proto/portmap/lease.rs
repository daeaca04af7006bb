//! A mapping for a time, and a server's clock that shows restarts: what all protocols have in common.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A mapping that stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub(super) external: SocketAddr,
    pub(super) expires: Instant,
    pub(super) renew_at: Instant,
}

/// "no more often than once every four seconds" (RFC 6887 §11.2.1).
const SHORTEST_PAUSE: Duration = Duration::from_secs(4);

impl Lease {
    /// To be renewed "between 1/2 and 5/8 of expiration time" (RFC 6887 §11.2.1).
    pub(super) fn new(
        external: SocketAddr,
        lifetime: Duration,
        now: Instant,
        random: &mut fastrand::Rng,
    ) -> Self {
        let renew_at = now + lifetime / 2 + fraction(lifetime / 8, random);
        Self { external, expires: now + lifetime, renew_at }
    }

    /// A request for its renewal goes out: the next one, if this isn't answered, after half of what is
    /// then left.
    pub(super) fn put_off(&mut self, now: Instant) {
        let left = self.expires.saturating_duration_since(now);
        self.renew_at = now + (left / 2).max(SHORTEST_PAUSE);
    }

    /// When to see to it.
    pub(super) fn next(&self) -> Instant {
        self.renew_at.min(self.expires)
    }

    /// The server has forgotten it: renewed "after a random delay of up to five seconds", so that
    /// not all clients come at once (RFC 6887 §8.5, RFC 6886 §3.7).
    pub(super) fn forget(&mut self, now: Instant, random: &mut fastrand::Rng) {
        self.renew_at = self.renew_at.min(now + restart_pause(random));
    }
}

/// See [`Lease::forget`].
pub(super) fn restart_pause(random: &mut fastrand::Rng) -> Duration {
    fraction(Duration::from_secs(5), random)
}

fn fraction(of: Duration, random: &mut fastrand::Rng) -> Duration {
    of.mul_f64(random.f64())
}

/// The seconds that a server has counted since it lost its mappings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Epoch {
    told: u32,
    at: Instant,
}

impl Epoch {
    /// What the server tells now, and whether it has lost its mappings since it last told, by the rules
    /// of RFC 6887 §8.5.
    pub(super) fn pcp(before: Option<Self>, told: u32, now: Instant) -> (Self, bool) {
        let is_sound = before.is_none_or(|before| {
            let ours = now.saturating_duration_since(before.at).as_secs();
            // "curr_server_time < prev_server_time - 1": packets may overtake each other.
            if u64::from(told) + 1 < u64::from(before.told) {
                return false;
            }
            let theirs = u64::from(told.saturating_sub(before.told));
            // "client_delta + 2 < server_delta - server_delta/16", and the other way round.
            ours + 2 >= theirs - theirs / 16 && theirs + 2 >= ours - ours / 16
        });
        (Self { told, at: now }, !is_sound)
    }

    /// The same by the rule of RFC 6886 §3.6.
    pub(super) fn nat_pmp(before: Option<Self>, told: u32, now: Instant) -> (Self, bool) {
        let is_sound = before.is_none_or(|before| {
            let ours = now.saturating_duration_since(before.at).as_secs();
            // "less than the client's conservative estimate by more than 2 seconds", whose clock is
            // taken to run at 7/8 of the speed.
            u64::from(told) + 2 >= u64::from(before.told) + ours * 7 / 8
        });
        (Self { told, at: now }, !is_sound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "a test may take any instant as its origin")]
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_lease_is_renewed_in_halves_and_not_too_often() {
        let (origin, mut random) = (origin(), fastrand::Rng::with_seed(1));
        let at = |seconds| origin + Duration::from_secs(seconds);
        for _ in 0..100 {
            let external = "192.0.2.1:1".parse().unwrap();
            let lease = Lease::new(external, Duration::from_secs(800), origin, &mut random);
            assert!((at(400)..=at(500)).contains(&lease.next()));
        }
        let external = "192.0.2.1:1".parse().unwrap();
        let mut lease = Lease::new(external, Duration::from_secs(800), origin, &mut random);
        lease.put_off(at(400));
        assert_eq!(lease.next(), at(600));
        lease.put_off(at(796));
        assert_eq!(lease.next(), at(800), "the end comes before the next renewal");
        lease.forget(at(10), &mut random);
        assert!(lease.next() <= at(15));
    }

    #[test]
    fn a_clock_that_goes_back_or_wrong_shows_a_restart() {
        let origin = origin();
        let later = |seconds| origin + Duration::from_secs(seconds);
        let before = Some(Epoch { told: 1000, at: origin });
        for (seconds, told, pcp, nat_pmp) in [
            (100, 1100, false, false),
            (100, 1098, false, false),
            (0, 999, false, false),
            (0, 997, true, true),
            (100, 3, true, true),
            // Too slow for PCP, not for NAT-PMP, and too slow for both.
            (1600, 1000 + 1480, true, false),
            (1600, 1000 + 1300, true, true),
            // A clock that runs ahead: another server.
            (100, 1200, true, false),
        ] {
            assert_eq!(Epoch::pcp(before, told, later(seconds)).1, pcp, "{seconds} {told}");
            assert_eq!(Epoch::nat_pmp(before, told, later(seconds)).1, nat_pmp, "{seconds} {told}");
        }
        assert!(!Epoch::pcp(None, 7, origin).1);
        assert!(!Epoch::nat_pmp(None, 7, origin).1);
        assert!(!Epoch::pcp(Some(Epoch { told: u32::MAX, at: origin }), u32::MAX, origin).1);
    }
}

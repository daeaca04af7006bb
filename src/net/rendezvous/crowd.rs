//! Handshakes that wait for their turn. When thousands of peers come back at once, their arithmetic is minutes
//! of messages to those who are here: so it is done a few steps a turn, after all that has come for sessions.
//! Handshakes that have begun go first, so that peers get in one after the other, and not all at the end.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::RendezvousHost;
use crate::limits;
use crate::net::clock;
use crate::net::reactor::{Core, Readiness};
use crate::proto::rendezvous::LinkId;

/// Connections on which something has come, and whose handshake is not finished.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    beginning: VecDeque<LinkId>,
    finishing: VecDeque<LinkId>,
    /// When it is to go on, while there is anybody.
    due: Option<Instant>,
}

impl Crowd {
    /// Puts a connection in its queue: that of those who want to begin, or to finish.
    pub(super) fn enter(&mut self, link: LinkId, finishes: bool, now: Instant) {
        let queue = if finishes { &mut self.finishing } else { &mut self.beginning };
        queue.push_back(link);
        self.due.get_or_insert(now);
    }

    /// When [`RendezvousHost::go_on_with_handshakes`] is to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    fn next(&mut self) -> Option<LinkId> {
        self.finishing.pop_front().or_else(|| self.beginning.pop_front())
    }

    fn is_empty(&self) -> bool {
        self.finishing.is_empty() && self.beginning.is_empty()
    }
}

impl RendezvousHost {
    /// Something has come on a connection whose handshake is not finished.
    pub(super) fn queue_handshake(&mut self, link: LinkId, finishes: bool) {
        self.crowd.enter(link, finishes, clock::now());
    }

    /// Takes as many steps as a turn allows. Who has left meanwhile costs none.
    pub(super) fn go_on_with_handshakes(&mut self, core: &mut Core, now: Instant) {
        let mut steps = 0;
        while steps < limits::TURN_HANDSHAKE_STEPS
            && let Some(link) = self.crowd.next()
        {
            steps += usize::from(self.is_called_up(link));
            self.read_main(core, link, Readiness::READABLE);
        }
        // After this instant, so that the events of the next turn come before it.
        let next = now + Duration::from_nanos(1);
        self.crowd.due = (!self.crowd.is_empty()).then_some(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_begun_goes_before_who_has_not() {
        let (mut crowd, now) = (Crowd::default(), clock::now());
        assert_eq!(crowd.poll_timeout(), None);
        for (link, finishes) in [(1, false), (2, true), (3, false), (4, true)] {
            crowd.enter(LinkId(link), finishes, now);
        }
        assert_eq!(crowd.poll_timeout(), Some(now));
        let order: Vec<_> = std::iter::from_fn(|| crowd.next()).map(|link| link.0).collect();
        assert_eq!(order, [2, 4, 1, 3]);
        assert!(crowd.is_empty());
    }
}

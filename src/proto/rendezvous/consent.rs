//! Whom a peer consents to, also for a while after it has left.

use std::collections::HashMap;
use std::time::Instant;

use crate::identity::PeerId;
use crate::limits;
use crate::proto::timers::Timers;
use crate::wire::message::Allow;

/// An [`Allow`] as S keeps it: sorted, without room to spare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Consent {
    anyone: bool,
    peers: Box<[PeerId]>,
}

impl Consent {
    pub(super) fn of(mut allow: Allow) -> Self {
        allow.peers.truncate(limits::ALLOWED_PEERS);
        allow.peers.sort_unstable();
        allow.peers.dedup();
        Self { anyone: allow.anyone, peers: allow.peers.into_boxed_slice() }
    }

    pub(super) fn permits(&self, peer: &PeerId) -> bool {
        self.anyone || self.peers.binary_search(peer).is_ok()
    }

    pub(super) fn permits_nobody(&self) -> bool {
        !self.anyone && self.peers.is_empty()
    }
}

/// The consent of peers that have left, so that whom they permit hears "offline".
#[derive(Debug, Default)]
pub(super) struct Departed {
    peers: HashMap<PeerId, (Instant, Consent)>,
    expiry: Timers<PeerId>,
}

impl Departed {
    /// Remembers a consent until an instant, and forgets the oldest one if there are too many.
    pub(super) fn remember(
        &mut self,
        peer: PeerId,
        consent: Consent,
        until: Instant,
        limit: usize,
    ) {
        self.forget(&peer);
        if consent.permits_nobody() || limit == 0 {
            return;
        }
        while self.peers.len() >= limit {
            self.forget_oldest();
        }
        self.expiry.set(until, peer);
        self.peers.insert(peer, (until, consent));
    }

    pub(super) fn forget(&mut self, peer: &PeerId) {
        if let Some((until, _)) = self.peers.remove(peer) {
            self.expiry.clear(until, *peer);
        }
    }

    pub(super) fn get(&self, peer: &PeerId) -> Option<&Consent> {
        self.peers.get(peer).map(|(_, consent)| consent)
    }

    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.expiry.next()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, peer)) = self.expiry.expire(now) {
            self.peers.remove(&peer);
        }
        debug_assert_eq!(self.peers.len(), self.expiry.len());
    }

    fn forget_oldest(&mut self) {
        let oldest = self.expiry.next().expect("each departed peer has its expiry");
        if let Some((_, peer)) = self.expiry.expire(oldest) {
            self.peers.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn peer(number: u8) -> PeerId {
        PeerId::from_bytes([number; 15])
    }

    fn only(number: u8) -> Consent {
        Consent::of(Allow { anyone: false, peers: vec![peer(number)] })
    }

    #[test]
    fn consent_is_to_those_on_the_list_or_to_anyone() {
        let peers = vec![peer(3), peer(1), peer(3), peer(2)];
        let listed = Consent::of(Allow { anyone: false, peers });
        assert!((1..=3).all(|number| listed.permits(&peer(number))));
        assert!(!listed.permits(&peer(4)));
        assert!(Consent::of(Allow { anyone: true, peers: vec![] }).permits(&peer(4)));
        assert!(Consent::default().permits_nobody());
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test may take any instant as its origin")]
    fn the_departed_are_bounded_and_forgotten_in_time() {
        let origin = Instant::now();
        let at = |seconds| origin + Duration::from_secs(seconds);
        let mut departed = Departed::default();
        departed.remember(peer(1), only(9), at(10), 2);
        departed.remember(peer(2), only(9), at(11), 2);
        departed.remember(peer(4), Consent::default(), at(11), 2);
        assert_eq!(departed.len(), 2, "who permits nobody is not remembered");
        departed.remember(peer(3), only(9), at(12), 2);
        assert!(departed.get(&peer(1)).is_none(), "the oldest makes room");
        departed.remember(peer(2), only(8), at(13), 2);
        assert!(departed.get(&peer(2)).unwrap().permits(&peer(8)));
        departed.handle_timeout(at(12));
        assert!(departed.get(&peer(3)).is_none() && departed.get(&peer(2)).is_some());
        departed.handle_timeout(at(13));
        assert_eq!((departed.len(), departed.poll_timeout()), (0, None));
    }
}

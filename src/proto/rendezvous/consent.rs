//! Whom a peer consents to.

use crate::identity::PeerId;
use crate::limits;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u8) -> PeerId {
        PeerId::from_bytes([number; 15])
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
}

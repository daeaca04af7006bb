//! Words that nobody but S can make up, all derived from its seed.
//!
//! ```text
//! a session's token        index: u32 | generation: u32 | MAC(seed, "session" | both)[..8]
//! an introduction's token  MAC(seed, "introduction" | number: u64)
//! MAC = keyed BLAKE2s with 16 bytes of output (RFC 7693)
//! ```
//!
//! A session's token names the session by itself, so that a probe is tied in O(1) and nothing is
//! stored.

use std::fmt;

use blake2::Blake2sMac;
use blake2::digest::Mac;
use blake2::digest::consts::U16;

use super::sessions::SessionId;
use super::table::IntroductionId;
use crate::wire::message::Token;

pub(super) struct Tokens {
    seed: [u8; 32],
}

impl Tokens {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self { seed }
    }

    pub(super) fn of_session(&self, id: SessionId) -> Token {
        let name = id.to_bytes();
        let mac: Token = self.mac(b"session", &name).finalize().into_bytes().into();
        let mut token = mac;
        token[..8].copy_from_slice(&name);
        token[8..].copy_from_slice(&mac[..8]);
        token
    }

    /// The session that a token names, if it is one of ours. The session may be gone.
    pub(super) fn session_of(&self, token: &Token) -> Option<SessionId> {
        let (name, proof) = token.split_first_chunk::<8>()?;
        self.mac(b"session", name).verify_truncated_left(proof).ok()?;
        Some(SessionId::from_bytes(*name))
    }

    pub(super) fn of_introduction(&self, id: IntroductionId) -> Token {
        self.mac(b"introduction", &id.0.to_be_bytes()).finalize().into_bytes().into()
    }

    fn mac(&self, label: &[u8], name: &[u8; 8]) -> Blake2sMac<U16> {
        let keyed = <Blake2sMac<U16> as Mac>::new_from_slice(&self.seed);
        keyed.expect("BLAKE2s takes keys of up to 32 bytes").chain_update(label).chain_update(name)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_session_and_no_other_does() {
        let tokens = Tokens::new([7; 32]);
        let id = SessionId::from_bytes([0, 0, 1, 2, 0, 0, 0, 9]);
        let token = tokens.of_session(id);
        assert_eq!(tokens.session_of(&token), Some(id));
        assert_eq!(Tokens::new([8; 32]).session_of(&token), None);
        for bit in 0..128 {
            let mut forged = token;
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(tokens.session_of(&forged), None);
        }
    }

    #[test]
    fn tokens_are_the_seed_s_and_differ() {
        let (one, other) = (Tokens::new([1; 32]), Tokens::new([2; 32]));
        let id = IntroductionId(5);
        assert_eq!(one.of_introduction(id), Tokens::new([1; 32]).of_introduction(id));
        assert_ne!(one.of_introduction(id), other.of_introduction(id));
        assert_ne!(one.of_introduction(id), one.of_introduction(IntroductionId(6)));
    }
}

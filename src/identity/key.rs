//! X25519 keys.

use std::fmt;
use std::sync::Arc;

use super::peer_id::PeerId;
use crate::primitives::Primitives;
use crate::primitives::x25519::{KEY_BYTES, KeyPair};

/// The public half of a peer's key: what handshakes show and ids are a hash of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_BYTES]);

impl PublicKey {
    /// A key from the wire or from a handshake.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// The key as it is on the wire.
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The id of the peer that owns this key.
    pub fn peer_id(&self) -> PeerId {
        PeerId::of(self)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// A peer's static key. Whoever has it is that peer.
///
/// It is wiped from memory when it is dropped, never printed, and can't be cloned. Its bytes stay in
/// one place on the heap, so that moving it leaves no copies behind.
pub struct SecretKey {
    pair: Arc<KeyPair>,
    public: PublicKey,
}

impl SecretKey {
    /// A new key from the operating system's randomness.
    ///
    /// # Panics
    /// When the operating system has no randomness to give: no key is better than one that others
    /// can guess.
    pub fn generate() -> Self {
        Self::fill(|secret| getrandom::fill(secret).expect("the operating system gives randomness"))
    }

    /// A key that was stored. Any 32 bytes are one (RFC 7748 §5 sets and clears what it needs).
    pub fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Self {
        Self::fill(|secret| secret.copy_from_slice(bytes))
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The secret itself: for the Noise handshake and the key file, and for nothing else.
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.pair.secret
    }

    /// For handshakes in which this is the local static key.
    pub(crate) fn primitives(&self) -> Primitives {
        Primitives::new(Arc::clone(&self.pair))
    }

    /// Makes a key from what `write` puts into its place.
    fn fill(write: impl FnOnce(&mut [u8; KEY_BYTES])) -> Self {
        let pair = KeyPair::fill(write);
        let public = PublicKey(pair.public);
        Self { pair, public }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey").field("public", &self.public).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_key_is_that_of_rfc_7748() {
        // §6.1, Alice.
        let secret = hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
        let public = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
        assert_eq!(SecretKey::from_bytes(&secret).public().as_bytes(), &hex(public));
    }

    #[test]
    fn generated_keys_differ() {
        assert_ne!(SecretKey::generate().public(), SecretKey::generate().public());
    }

    #[test]
    fn a_stored_key_comes_back_the_same() {
        let key = SecretKey::generate();
        let again = SecretKey::from_bytes(key.expose());
        assert_eq!(again.expose(), key.expose());
        assert_eq!(again.public(), key.public());
        assert_eq!(key.public().peer_id(), PeerId::of(key.public()));
    }

    #[test]
    fn debug_shows_the_public_half_only() {
        let key = SecretKey::from_bytes(&[0xab; 32]);
        let text = format!("{key:?}");
        assert_eq!(text, format!("SecretKey {{ public: {:?}, .. }}", key.public()));
        assert!(!text.contains("abab"));
    }

    fn hex(text: &str) -> [u8; 32] {
        std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
    }
}

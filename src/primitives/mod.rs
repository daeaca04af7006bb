//! The two primitives that nearly all of our time goes into: [`x25519`], and [`cipher`] for what is sealed.
//!
//! Each has two implementations with the same results. With the feature `asm`, on a processor that they
//! fit, those of the crate graviola: formally verified assembly for the curve (s2n-bignum), vector
//! instructions for the cipher. Else those of RustCrypto and curve25519-dalek, which snow has too.
//! [`Primitives`] brings them into snow's handshakes.

pub(crate) mod cipher;
pub(crate) mod x25519;

use std::sync::Arc;

use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};

use self::cipher::HandshakeCipher;
use self::x25519::{HandshakePair, KeyPair};

/// Whether this processor has the instructions.
#[cfg(all(feature = "asm", any(target_arch = "x86_64", target_arch = "aarch64")))]
fn assembly_fits() -> bool {
    graviola::util::is_cpu_supported()
}

/// The primitives of a handshake with a local static key.
pub(crate) struct Primitives {
    local: Arc<KeyPair>,
}

impl Primitives {
    pub(crate) fn new(local: Arc<KeyPair>) -> Self {
        Self { local }
    }
}

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        DefaultResolver.resolve_rng()
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(HandshakePair::new(Arc::clone(&self.local)))),
            other => DefaultResolver.resolve_dh(other),
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        match choice {
            CipherChoice::ChaChaPoly => Some(Box::<HandshakeCipher>::default()),
            other => DefaultResolver.resolve_cipher(other),
        }
    }
}

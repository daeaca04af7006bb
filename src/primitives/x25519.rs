//! X25519 (RFC 7748), which is most of what a login and a proof cost.

use std::sync::{Arc, OnceLock};

use snow::types::{Dh, Random};
use zeroize::Zeroizing;

/// Bytes of a key, public or secret, and of what two of them share (RFC 7748 §5).
pub(crate) const KEY_BYTES: usize = 32;

pub(crate) type Secret = Zeroizing<[u8; KEY_BYTES]>;

/// The public half of `secret`.
fn public_of(secret: &[u8; KEY_BYTES]) -> [u8; KEY_BYTES] {
    #[cfg(all(feature = "asm", any(target_arch = "x86_64", target_arch = "aarch64")))]
    if super::assembly_fits() {
        return assembly::public_of(secret);
    }
    portable::public_of(secret)
}

/// What the owners of two keys share. Nothing with a public key of small order, which would give the same
/// to everybody (RFC 7748 §6.1).
fn shared(secret: &[u8; KEY_BYTES], public: &[u8; KEY_BYTES]) -> Option<Secret> {
    #[cfg(all(feature = "asm", any(target_arch = "x86_64", target_arch = "aarch64")))]
    if super::assembly_fits() {
        return assembly::shared(secret, public);
    }
    portable::shared(secret, public)
}

#[cfg(all(feature = "asm", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod assembly {
    use graviola::key_agreement::x25519::{PublicKey, StaticPrivateKey};

    use super::{KEY_BYTES, Secret};

    pub(super) fn public_of(secret: &[u8; KEY_BYTES]) -> [u8; KEY_BYTES] {
        StaticPrivateKey::from_array(secret).public_key().as_bytes()
    }

    pub(super) fn shared(secret: &[u8; KEY_BYTES], public: &[u8; KEY_BYTES]) -> Option<Secret> {
        let public = PublicKey::from_array(public);
        let shared = StaticPrivateKey::from_array(secret).diffie_hellman(&public).ok()?;
        Some(Secret::new(shared.0))
    }
}

mod portable {
    use curve25519_dalek::MontgomeryPoint;

    use super::{KEY_BYTES, Secret};

    pub(super) fn public_of(secret: &[u8; KEY_BYTES]) -> [u8; KEY_BYTES] {
        MontgomeryPoint::mul_base_clamped(*secret).to_bytes()
    }

    pub(super) fn shared(secret: &[u8; KEY_BYTES], public: &[u8; KEY_BYTES]) -> Option<Secret> {
        let shared = Secret::new(MontgomeryPoint(*public).mul_clamped(*secret).to_bytes());
        (*shared != [0; KEY_BYTES]).then_some(shared)
    }
}

/// A secret, in one place on the heap until it is wiped, and its public half.
pub(crate) struct KeyPair {
    pub(crate) secret: Secret,
    pub(crate) public: [u8; KEY_BYTES],
}

impl KeyPair {
    /// Makes a pair of what `write` puts into the secret's place.
    pub(crate) fn fill(write: impl FnOnce(&mut [u8; KEY_BYTES])) -> Arc<Self> {
        let mut pair = Arc::new(Self { secret: Secret::default(), public: [0; KEY_BYTES] });
        let new = Arc::get_mut(&mut pair).expect("nobody else has it yet");
        write(&mut new.secret);
        new.public = public_of(&new.secret);
        pair
    }
}

/// A key pair inside a handshake, static or ephemeral.
pub(super) struct HandshakePair {
    /// The local static pair. Its public half is known, and not computed for each handshake.
    local: Arc<KeyPair>,
    secret: Secret,
    public: OnceLock<[u8; KEY_BYTES]>,
}

impl HandshakePair {
    pub(super) fn new(local: Arc<KeyPair>) -> Self {
        Self { local, secret: Secret::default(), public: OnceLock::new() }
    }
}

impl Dh for HandshakePair {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        KEY_BYTES
    }

    fn priv_len(&self) -> usize {
        KEY_BYTES
    }

    fn set(&mut self, secret: &[u8]) {
        self.secret.copy_from_slice(secret);
        // The two are the same wherever this is called, so that the time of comparing them says nothing.
        self.public = match *self.secret == *self.local.secret {
            true => self.local.public.into(),
            false => OnceLock::new(),
        };
    }

    fn generate(&mut self, random: &mut dyn Random) -> Result<(), snow::Error> {
        self.public = OnceLock::new();
        random.try_fill_bytes(&mut *self.secret)
    }

    fn pubkey(&self) -> &[u8] {
        self.public.get_or_init(|| public_of(&self.secret))
    }

    fn privkey(&self) -> &[u8] {
        &*self.secret
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        // snow's buffers have room for larger curves.
        let public = public.first_chunk().ok_or(snow::Error::Dh)?;
        let out = out.first_chunk_mut().ok_or(snow::Error::Dh)?;
        *out = *shared(&self.secret, public).ok_or(snow::Error::Dh)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use snow::resolvers::{CryptoResolver, DefaultResolver};

    use super::*;

    /// RFC 7748 §6.1: two secrets, their public halves, and what they share.
    const ALICE: &str = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a";
    const BOB_PUBLIC: &str = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
    const SHARED: &str = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742";

    #[test]
    fn both_implementations_share_the_secret_of_rfc_7748() {
        let (alice, bob) = (hex(ALICE), hex(BOB_PUBLIC));
        assert_eq!(*portable::shared(&alice, &bob).unwrap(), hex(SHARED));
        assert_eq!(*shared(&alice, &bob).unwrap(), hex(SHARED));
    }

    #[test]
    fn both_implementations_agree() {
        let mut random = fastrand::Rng::with_seed(7748);
        for _ in 0..100 {
            let mut keys = [[0; KEY_BYTES]; 2];
            keys.iter_mut().for_each(|key| random.fill(key));
            let [secret, public] = keys;
            assert_eq!(public_of(&secret), portable::public_of(&secret));
            // Not all of these bytes are a point of the curve: its twin is as good (RFC 7748 §5).
            assert_eq!(shared(&secret, &public), portable::shared(&secret, &public));
        }
    }

    #[test]
    fn both_implementations_refuse_points_of_small_order() {
        let one = std::array::from_fn(|at| u8::from(at == 0));
        for public in [[0; KEY_BYTES], one] {
            assert_eq!(portable::shared(&[7; KEY_BYTES], &public), None);
            assert_eq!(shared(&[7; KEY_BYTES], &public), None);
        }
    }

    #[test]
    #[cfg(all(feature = "asm", target_arch = "x86_64"))]
    fn the_assembly_is_used_where_it_fits() {
        assert_eq!(crate::primitives::assembly_fits(), std::arch::is_x86_feature_detected!("adx"));
    }

    #[test]
    fn a_pair_in_a_handshake_knows_its_public_half() {
        let local = KeyPair::fill(|secret| *secret = hex(ALICE));
        let mut pair = HandshakePair::new(Arc::clone(&local));
        pair.set(&*local.secret);
        assert_eq!(pair.pubkey(), local.public);
        pair.set(&[9; KEY_BYTES]);
        assert_eq!(pair.pubkey(), public_of(&[9; KEY_BYTES]));
        pair.generate(&mut *DefaultResolver.resolve_rng().unwrap()).unwrap();
        assert_eq!(pair.pubkey(), public_of(pair.privkey().first_chunk().unwrap()));
        assert_ne!(pair.pubkey(), local.public);
    }

    fn hex(text: &str) -> [u8; KEY_BYTES] {
        std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
    }
}

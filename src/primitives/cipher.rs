//! ChaCha20-Poly1305 (RFC 8439 §2.8), in place.

use zeroize::Zeroizing;

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 32;

/// Bytes of a nonce.
const NONCE_BYTES: usize = 12;

/// Bytes of a tag.
const TAG_BYTES: usize = crate::limits::TAG_BYTES;

/// Seals `text`, and returns its tag. A counter must not come twice with one key.
pub(crate) fn seal(
    key: &[u8; KEY_BYTES],
    counter: u64,
    associated: &[u8],
    text: &mut [u8],
) -> [u8; TAG_BYTES] {
    #[cfg(all(feature = "asm", any(target_arch = "x86_64", target_arch = "aarch64")))]
    if super::assembly_fits() {
        return assembly::seal(key, &nonce(counter), associated, text);
    }
    portable::seal(key, &nonce(counter), associated, text)
}

/// Opens what [`seal`] made. If this returns false, somebody else made it, and `text` is worth nothing.
#[must_use]
pub(crate) fn open(
    key: &[u8; KEY_BYTES],
    counter: u64,
    associated: &[u8],
    text: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> bool {
    #[cfg(all(feature = "asm", any(target_arch = "x86_64", target_arch = "aarch64")))]
    if super::assembly_fits() {
        return assembly::open(key, &nonce(counter), associated, text, tag);
    }
    portable::open(key, &nonce(counter), associated, text, tag)
}

/// Noise §12.3: 32 bits of zeros and the counter, little-endian.
fn nonce(counter: u64) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

#[cfg(all(feature = "asm", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod assembly {
    use graviola::aead::ChaCha20Poly1305;

    use super::{KEY_BYTES, NONCE_BYTES, TAG_BYTES};

    pub(super) fn seal(
        key: &[u8; KEY_BYTES],
        nonce: &[u8; NONCE_BYTES],
        associated: &[u8],
        text: &mut [u8],
    ) -> [u8; TAG_BYTES] {
        let mut tag = [0; TAG_BYTES];
        ChaCha20Poly1305::new(*key).encrypt(nonce, associated, text, &mut tag);
        tag
    }

    pub(super) fn open(
        key: &[u8; KEY_BYTES],
        nonce: &[u8; NONCE_BYTES],
        associated: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> bool {
        ChaCha20Poly1305::new(*key).decrypt(nonce, associated, text, tag).is_ok()
    }
}

mod portable {
    use chacha20poly1305::ChaCha20Poly1305;
    use chacha20poly1305::aead::{AeadInPlace, KeyInit};

    use super::{KEY_BYTES, NONCE_BYTES, TAG_BYTES};

    pub(super) fn seal(
        key: &[u8; KEY_BYTES],
        nonce: &[u8; NONCE_BYTES],
        associated: &[u8],
        text: &mut [u8],
    ) -> [u8; TAG_BYTES] {
        ChaCha20Poly1305::new(key.into())
            .encrypt_in_place_detached(nonce.into(), associated, text)
            .expect("a frame is far below the cipher's limit")
            .into()
    }

    pub(super) fn open(
        key: &[u8; KEY_BYTES],
        nonce: &[u8; NONCE_BYTES],
        associated: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> bool {
        ChaCha20Poly1305::new(key.into())
            .decrypt_in_place_detached(nonce.into(), associated, text, tag.into())
            .is_ok()
    }
}

/// The cipher inside a handshake.
#[derive(Default)]
pub(super) struct HandshakeCipher {
    key: Zeroizing<[u8; KEY_BYTES]>,
}

impl snow::types::Cipher for HandshakeCipher {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; KEY_BYTES]) {
        *self.key = *key;
    }

    fn encrypt(&self, nonce: u64, associated: &[u8], text: &[u8], out: &mut [u8]) -> usize {
        let (sealed, rest) = out.split_at_mut(text.len());
        sealed.copy_from_slice(text);
        rest[..TAG_BYTES].copy_from_slice(&seal(&self.key, nonce, associated, sealed));
        text.len() + TAG_BYTES
    }

    fn decrypt(
        &self,
        nonce: u64,
        associated: &[u8],
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        let (text, tag) = sealed.split_last_chunk().ok_or(snow::Error::Decrypt)?;
        let out = out.get_mut(..text.len()).ok_or(snow::Error::Decrypt)?;
        out.copy_from_slice(text);
        match open(&self.key, nonce, associated, out, tag) {
            true => Ok(text.len()),
            false => Err(snow::Error::Decrypt),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_implementations_seal_alike_and_open_each_other() {
        let mut random = fastrand::Rng::with_seed(8439);
        for length in (0..300).chain([1400, 16 * 1024]) {
            let (mut key, mut associated) = ([0; KEY_BYTES], vec![0; length % 37]);
            random.fill(&mut key);
            random.fill(&mut associated);
            let counter = random.u64(..);
            let text: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
            let (mut ours, mut other) = (text.clone(), text.clone());
            let tag = seal(&key, counter, &associated, &mut ours);
            assert_eq!(tag, portable::seal(&key, &nonce(counter), &associated, &mut other));
            assert_eq!(ours, other);
            assert!(open(&key, counter, &associated, &mut ours, &tag));
            assert!(portable::open(&key, &nonce(counter), &associated, &mut other, &tag));
            assert_eq!((&ours, &other), (&text, &text));
        }
    }

    #[test]
    fn what_was_altered_does_not_open() {
        let (key, associated) = ([7; KEY_BYTES], [1, 2, 3]);
        let mut sealed = *b"a frame";
        let tag = seal(&key, 5, &associated, &mut sealed);
        fn opens(
            key: &[u8; KEY_BYTES],
            counter: u64,
            associated: &[u8],
            mut text: [u8; 7],
            tag: &[u8; TAG_BYTES],
        ) -> bool {
            open(key, counter, associated, &mut text, tag)
        }
        assert!(opens(&key, 5, &associated, sealed, &tag));
        assert!(!opens(&[8; KEY_BYTES], 5, &associated, sealed, &tag));
        assert!(!opens(&key, 6, &associated, sealed, &tag));
        assert!(!opens(&key, 5, &associated[1..], sealed, &tag));
        for at in 0..sealed.len() {
            let mut altered = sealed;
            altered[at] ^= 1;
            assert!(!opens(&key, 5, &associated, altered, &tag));
        }
        for at in 0..TAG_BYTES {
            let mut altered = tag;
            altered[at] ^= 0x80;
            assert!(!opens(&key, 5, &associated, sealed, &altered));
        }
    }

    #[test]
    fn a_handshake_message_that_is_too_short_or_finds_no_room_is_an_error() {
        use snow::types::Cipher;
        let cipher = HandshakeCipher::default();
        let mut sealed = [0; 20];
        assert_eq!(cipher.encrypt(1, &[], b"text", &mut sealed), 20);
        assert!(cipher.decrypt(1, &[], &sealed[..15], &mut [0; 20]).is_err());
        assert!(cipher.decrypt(1, &[], &sealed, &mut [0; 3]).is_err());
        let mut out = [0; 4];
        assert_eq!(cipher.decrypt(1, &[], &sealed, &mut out).ok(), Some(4));
        assert_eq!(&out, b"text");
    }
}

//! Who is who: keys, peer ids, and how people write them down. No network and no clock.
//!
//! ```text
//! SecretKey ──public()──▶ PublicKey ──peer_id()──▶ PeerId ──Display──▶ abcd-efgh-…
//!  (key file)              (in handshakes)          (in people's hands: address books, arguments)
//! ```
//!
//! Each peer, and each rendezvous, has one X25519 key, kept in a file that only its owner can read
//! ([`load_or_create`]). Its [`PeerId`] is a hash of the public key, so that an id proves itself:
//! whoever completes a Noise handshake with a key of that hash is that peer, and no server can say
//! otherwise. A rendezvous is named by a [`ServerAddr`], which may pin its key by the same kind of
//! id.

mod address;
mod base32;
mod file;
mod key;
mod peer_id;

pub use address::{DEFAULT_PORT, ParseServerAddrError, ServerAddr};
pub use file::{Corruption, KeyFileError, load_or_create, write_private};
pub use key::{PublicKey, SecretKey};
pub use peer_id::{ParsePeerIdError, PeerId};

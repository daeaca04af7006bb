//! The Noise handshakes, and the sealed frames after them.
//!
//! ```text
//! main connection: Noise_XX_25519_ChaChaPoly_BLAKE2s, prologue "gimlet main" | version
//!   peer → S   0x01 | "gimlet" | version: u8 | e
//!   S → peer   0x02 | e, ee, s, es
//!   peer → S   0x03 | s, se, payload: Login
//!   S → peer   0x7f | code: u8 | text        a refusal, in clear, after which S closes
//!
//! direct connection: Noise_KK_25519_ChaChaPoly_BLAKE2s,
//!                    prologue "gimlet path" | version | introduction: u64 | controlled's nonce
//!   controlled → controller   0x11 | introduction: u64 | token           "I belong to this punch"
//!   controller → controlled   0x12 | introduction: u64 | token | e, es, ss, payload: Opening
//!   controlled → controller   0x13 | e, ee, se
//! ```
//!
//! Each line is the body of a frame. After it, a frame's body is `ciphertext | tag` with Noise's
//! transport keys: a counter from 0 as nonce, no associated data. We take the two keys out of `snow`
//! when the handshake is done, because 80 bytes is all that an idle connection needs to keep.
//!
//! KK authenticates the first message, but gives its payload no forward secrecy, and alone it could be
//! replayed (Noise §7.7). The prologue prevents that: the number of an introduction only grows within a
//! login, and the nonce is new in each, so no controlled peer accepts the same first message twice.

use std::fmt;
use std::sync::OnceLock;

use snow::params::NoiseParams;
use snow::{Builder, HandshakeState};
use zeroize::Zeroize;

use super::codec::{DecodeError, Reader, Writer};
use super::frame::write_frame;
use super::message::{Nonce, Token};
use super::refusal::RefusalCode;
use crate::identity::{PeerId, PublicKey, SecretKey};
use crate::limits;
use crate::primitives::cipher;

/// The protocol's version: the first thing that a peer says.
pub const VERSION: u8 = 1;

const MAGIC: &[u8; 6] = b"gimlet";

mod kind {
    pub(super) const HELLO: u8 = 0x01;
    pub(super) const REPLY: u8 = 0x02;
    pub(super) const FINISH: u8 = 0x03;
    pub(super) const CLAIM: u8 = 0x11;
    pub(super) const OFFER: u8 = 0x12;
    pub(super) const ANSWER: u8 = 0x13;
    pub(super) const REFUSE: u8 = 0x7f;
}

/// Why a handshake, or the connection after it, can't go on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoiseError {
    /// Not a frame of this protocol at this point: another kind of server, or a stranger.
    NotGimlet,
    /// The other side speaks another version.
    Version {
        /// The version that it speaks.
        theirs: u8,
    },
    /// The other side refuses.
    Refused {
        /// Why.
        code: RefusalCode,
        /// The same for a person; may be empty.
        text: String,
    },
    /// The server's key isn't the one that was pinned.
    WrongKey {
        /// The one that was pinned.
        expected: PeerId,
        /// The one that answered.
        found: PeerId,
    },
    /// Keys or bytes don't fit together: another key, or altered on the way.
    Crypto,
    /// The payload of a handshake can't be read.
    Payload(DecodeError),
}

impl fmt::Display for NoiseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGimlet => f.write_str("the other side does not speak Gimlet's protocol"),
            Self::Version { theirs } => write!(
                f,
                "the other side speaks version {theirs} of the protocol, this is version {VERSION}: \
                 update the older of the two"
            ),
            Self::Refused { code, text } if text.is_empty() => write!(f, "refused: {code}"),
            Self::Refused { text, .. } => write!(f, "refused: {text}"),
            Self::WrongKey { expected, found } => {
                write!(f, "the key {found} answered where {expected} was expected")
            }
            Self::Crypto => f.write_str("a message that was not made with the right keys"),
            Self::Payload(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for NoiseError {}

impl From<DecodeError> for NoiseError {
    fn from(error: DecodeError) -> Self {
        Self::Payload(error)
    }
}

// ---- main connection ---------------------------------------------------------------------------

/// The peer's side of a login, after its hello.
pub struct ClientHandshake {
    noise: Box<HandshakeState>,
}

impl ClientHandshake {
    /// Appends the hello frame.
    pub fn start(key: &SecretKey, out: &mut Vec<u8>) -> Self {
        let mut noise = builder(main_params(), key, &main_prologue(VERSION))
            .build_initiator()
            .expect("XX needs a local key alone");
        write_frame(out, |out| {
            out.put_u8(kind::HELLO);
            out.put(MAGIC);
            out.put_u8(VERSION);
            write_noise(&mut noise, &[], out);
        });
        Self { noise: Box::new(noise) }
    }

    /// Takes the body of the server's reply and appends the last frame, with `payload` sealed to the
    /// server. Nothing about this peer is sent to a server whose key isn't `pinned`.
    ///
    /// # Errors
    /// [`NoiseError`]: a refusal, a wrong key, another protocol.
    pub fn finish(
        mut self,
        reply: &[u8],
        pinned: Option<PeerId>,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(Channel, PublicKey), NoiseError> {
        read_noise(&mut self.noise, expect(reply, kind::REPLY)?)?;
        let server = remote_key(&self.noise)?;
        let found = PeerId::of(&server);
        if let Some(expected) = pinned.filter(|pinned| *pinned != found) {
            return Err(NoiseError::WrongKey { expected, found });
        }
        write_frame(out, |out| {
            out.put_u8(kind::FINISH);
            write_noise(&mut self.noise, payload, out);
        });
        Ok((Channel::of_initiator(&mut self.noise), server))
    }
}

/// The server's side of a login, after its reply.
pub struct ServerHandshake {
    noise: Box<HandshakeState>,
}

impl ServerHandshake {
    /// Takes the body of a peer's hello and appends the reply frame.
    ///
    /// # Errors
    /// [`NoiseError`]; answer with [`refusal`].
    pub fn reply(hello: &[u8], key: &SecretKey, out: &mut Vec<u8>) -> Result<Self, NoiseError> {
        let mut reader = Reader::new(expect(hello, kind::HELLO)?);
        let magic: [u8; 6] = reader.array("magic").map_err(|_| NoiseError::NotGimlet)?;
        if magic != *MAGIC {
            return Err(NoiseError::NotGimlet);
        }
        let version = reader.u8("version")?;
        if version != VERSION {
            return Err(NoiseError::Version { theirs: version });
        }
        let mut noise = builder(main_params(), key, &main_prologue(version))
            .build_responder()
            .expect("XX needs a local key alone");
        read_noise(&mut noise, reader.rest())?;
        write_frame(out, |out| {
            out.put_u8(kind::REPLY);
            write_noise(&mut noise, &[], out);
        });
        Ok(Self { noise: Box::new(noise) })
    }

    /// Takes the body of the peer's last frame: the peer's key, and the payload.
    ///
    /// # Errors
    /// [`NoiseError`].
    pub fn finish(mut self, finish: &[u8]) -> Result<(Channel, PublicKey, Vec<u8>), NoiseError> {
        let payload = read_noise(&mut self.noise, expect(finish, kind::FINISH)?)?;
        let peer = remote_key(&self.noise)?;
        Ok((Channel::of_responder(&mut self.noise), peer, payload))
    }
}

/// Appends a refusal in clear, in place of a handshake frame.
pub fn refusal(error: &NoiseError, out: &mut Vec<u8>) {
    let (code, text) = match error {
        NoiseError::Version { theirs } => (
            RefusalCode::Version,
            format!("this server speaks version {VERSION} of the protocol, and you speak {theirs}"),
        ),
        NoiseError::Refused { code, text } => (*code, text.clone()),
        other => (RefusalCode::Protocol, other.to_string()),
    };
    write_frame(out, |out| {
        out.put_u8(kind::REFUSE);
        out.put_u8(code.to_byte());
        out.put_text(&text, limits::TEXT_BYTES);
    });
}

// ---- direct connection ----------------------------------------------------------------------------

/// What both sides of a direct connection know before it stands.
#[derive(Clone, Debug)]
pub struct PathContext {
    /// Number of the introduction.
    pub introduction: u64,
    /// Known to the two peers and S.
    pub token: Token,
    /// The nonce of the controlled peer's login.
    pub nonce: Nonce,
    /// The other peer's key.
    pub remote: PublicKey,
}

/// The frames that may come first on a connection between peers.
#[derive(Debug, PartialEq, Eq)]
pub enum FirstFrame<'a> {
    /// "I belong to this introduction", from the controlled peer.
    Claim {
        /// Which.
        introduction: u64,
        /// Shows that it was told by S.
        token: Token,
    },
    /// The controller's handshake.
    Offer {
        /// Which introduction.
        introduction: u64,
        /// Shows that it was told by S.
        token: Token,
        /// For [`answer`].
        handshake: &'a [u8],
    },
    /// The controlled peer's handshake, for [`PathHandshake::finish`].
    Answer(&'a [u8]),
}

impl<'a> FirstFrame<'a> {
    /// Reads the body of a frame.
    ///
    /// # Errors
    /// [`NoiseError::NotGimlet`]: a stranger.
    pub fn decode(body: &'a [u8]) -> Result<Self, NoiseError> {
        let mut r = Reader::new(body);
        let claim = |r: &mut Reader<'_>| Ok((r.u64("introduction")?, r.array("token")?));
        let stranger = |_: DecodeError| NoiseError::NotGimlet;
        match r.u8("kind").map_err(stranger)? {
            kind::CLAIM => {
                let (introduction, token) = claim(&mut r).map_err(stranger)?;
                Ok(Self::Claim { introduction, token })
            }
            kind::OFFER => {
                let (introduction, token) = claim(&mut r).map_err(stranger)?;
                Ok(Self::Offer { introduction, token, handshake: r.rest() })
            }
            kind::ANSWER => Ok(Self::Answer(r.rest())),
            _ => Err(NoiseError::NotGimlet),
        }
    }
}

/// Appends the controlled peer's claim.
pub fn claim(context: &PathContext, out: &mut Vec<u8>) {
    write_frame(out, |out| {
        out.put_u8(kind::CLAIM);
        out.put_u64(context.introduction);
        out.put(&context.token);
    });
}

/// The controller's side of a path's proof, after its offer.
pub struct PathHandshake {
    noise: Box<HandshakeState>,
}

impl PathHandshake {
    /// Appends the controller's offer, with `payload` sealed to the other peer.
    pub fn offer(
        key: &SecretKey,
        context: &PathContext,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Self {
        let mut noise = builder(path_params(), key, &path_prologue(context))
            .remote_public_key(context.remote.as_bytes())
            .and_then(Builder::build_initiator)
            .expect("KK needs both static keys alone");
        write_frame(out, |out| {
            out.put_u8(kind::OFFER);
            out.put_u64(context.introduction);
            out.put(&context.token);
            write_noise(&mut noise, payload, out);
        });
        Self { noise: Box::new(noise) }
    }

    /// Takes the answer: now the path is proved.
    ///
    /// # Errors
    /// [`NoiseError::Crypto`]: whoever answers isn't the peer.
    pub fn finish(mut self, answer: &[u8]) -> Result<Channel, NoiseError> {
        read_noise(&mut self.noise, answer)?;
        Ok(Channel::of_initiator(&mut self.noise))
    }
}

/// The controlled peer's whole handshake: reads an offer, appends the answer frame, and returns the
/// channel and the offer's payload.
///
/// # Errors
/// [`NoiseError::Crypto`]: whoever offers isn't the peer.
pub fn answer(
    key: &SecretKey,
    context: &PathContext,
    offer: &[u8],
    out: &mut Vec<u8>,
) -> Result<(Channel, Vec<u8>), NoiseError> {
    let mut noise = builder(path_params(), key, &path_prologue(context))
        .remote_public_key(context.remote.as_bytes())
        .and_then(Builder::build_responder)
        .expect("KK needs both static keys alone");
    let payload = read_noise(&mut noise, offer)?;
    write_frame(out, |out| {
        out.put_u8(kind::ANSWER);
        write_noise(&mut noise, &[], out);
    });
    Ok((Channel::of_responder(&mut noise), payload))
}

// ---- after the handshake ----------------------------------------------------------------------------

/// The keys of an established connection: seals what we send, opens what we receive.
#[derive(Debug)]
pub struct Channel {
    seal: HalfChannel,
    open: HalfChannel,
}

impl Channel {
    fn of_initiator(noise: &mut HandshakeState) -> Self {
        let (to_responder, to_initiator) = noise.dangerously_get_raw_split();
        Self { seal: HalfChannel::new(to_responder), open: HalfChannel::new(to_initiator) }
    }

    fn of_responder(noise: &mut HandshakeState) -> Self {
        let Self { seal, open } = Self::of_initiator(noise);
        Self { seal: open, open: seal }
    }

    /// Appends a frame whose plaintext `write` appends, sealed in place.
    pub fn seal(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let counter = self.seal.next_counter();
        write_frame(out, |out| {
            let start = out.len();
            write(out);
            let tag = cipher::seal(&self.seal.key, counter, &[], &mut out[start..]);
            out.extend_from_slice(&tag);
        });
    }

    /// Opens the body of a frame in place.
    ///
    /// # Errors
    /// [`NoiseError::Crypto`]: not sealed by the other side, or altered; the connection is over.
    pub fn open<'a>(&mut self, body: &'a mut [u8]) -> Result<&'a mut [u8], NoiseError> {
        let (text, tag) = body.split_last_chunk_mut().ok_or(NoiseError::Crypto)?;
        let counter = self.open.next_counter();
        match cipher::open(&self.open.key, counter, &[], text, tag) {
            true => Ok(text),
            false => Err(NoiseError::Crypto),
        }
    }
}

/// One direction: 40 bytes. ChaCha20 has no key schedule, so there is nothing more to keep.
struct HalfChannel {
    key: [u8; cipher::KEY_BYTES],
    counter: u64,
}

impl HalfChannel {
    fn new(key: [u8; cipher::KEY_BYTES]) -> Self {
        Self { key, counter: 0 }
    }

    /// A u64 doesn't wrap in the life of a connection; that it must not is Noise's rule.
    fn next_counter(&mut self) -> u64 {
        let counter = self.counter;
        self.counter = counter.checked_add(1).expect("2^64 records were never sent");
        counter
    }
}

impl Drop for HalfChannel {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl fmt::Debug for HalfChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HalfChannel").field("counter", &self.counter).finish_non_exhaustive()
    }
}

// ---- shared pieces --------------------------------------------------------------------------------

fn main_params() -> NoiseParams {
    static PARAMS: OnceLock<NoiseParams> = OnceLock::new();
    parsed(&PARAMS, "Noise_XX_25519_ChaChaPoly_BLAKE2s")
}

fn path_params() -> NoiseParams {
    static PARAMS: OnceLock<NoiseParams> = OnceLock::new();
    parsed(&PARAMS, "Noise_KK_25519_ChaChaPoly_BLAKE2s")
}

fn parsed(cell: &OnceLock<NoiseParams>, name: &str) -> NoiseParams {
    cell.get_or_init(|| name.parse().expect("a pattern that snow knows")).clone()
}

fn main_prologue(version: u8) -> Vec<u8> {
    let mut out = b"gimlet main".to_vec();
    out.put_u8(version);
    out
}

fn path_prologue(context: &PathContext) -> Vec<u8> {
    let mut out = b"gimlet path".to_vec();
    out.put_u8(VERSION);
    out.put_u64(context.introduction);
    out.put(&context.nonce);
    out
}

fn builder<'a>(params: NoiseParams, key: &'a SecretKey, prologue: &'a [u8]) -> Builder<'a> {
    Builder::with_resolver(params, Box::new(key.primitives()))
        .local_private_key(key.expose())
        .and_then(|builder| builder.prologue(prologue))
        .expect("each is set once")
}

fn write_noise(noise: &mut HandshakeState, payload: &[u8], out: &mut Vec<u8>) {
    // The longest overhead of a message: e, s with its tag, and the payload's tag.
    const OVERHEAD: usize = 32 + 48 + limits::TAG_BYTES;
    let start = out.len();
    out.resize(start + payload.len() + OVERHEAD, 0);
    let length = noise
        .write_message(payload, &mut out[start..])
        .expect("the buffer is large enough and it is our turn");
    out.truncate(start + length);
}

fn read_noise(noise: &mut HandshakeState, message: &[u8]) -> Result<Vec<u8>, NoiseError> {
    let mut payload = vec![0; message.len()];
    let length = noise.read_message(message, &mut payload).map_err(|_| NoiseError::Crypto)?;
    payload.truncate(length);
    Ok(payload)
}

fn remote_key(noise: &HandshakeState) -> Result<PublicKey, NoiseError> {
    let key = noise.get_remote_static().ok_or(NoiseError::Crypto)?;
    Ok(PublicKey::from_bytes(key.try_into().map_err(|_| NoiseError::Crypto)?))
}

fn expect(body: &[u8], wanted: u8) -> Result<&[u8], NoiseError> {
    match body.split_first() {
        Some((kind, rest)) if *kind == wanted => Ok(rest),
        Some((&kind::REFUSE, rest)) => {
            let mut r = Reader::new(rest);
            let code = RefusalCode::from_byte(r.u8("code")?);
            let text = r.text("text", limits::TEXT_BYTES)?;
            Err(NoiseError::Refused { code, text })
        }
        _ => Err(NoiseError::NotGimlet),
    }
}

//! What two peers say to each other on their direct connection.
//!
//! ```text
//! in the offer: Opening = purpose: u8 (0 ping, 1 stream) | service: text | early data
//!
//! 0x00  Data     bytes                 of the stream, after the early data
//! 0x01  Fin                            no more data will come this way
//! 0x02  Opened                         the service is there
//! 0x03  Refused  code: u8 | text       it isn't; the connection is over
//! 0x04  Confirm                        the controller has chosen this connection
//! 0x05  Ping     value: u64
//! 0x06  Pong     value: u64
//! ```
//!
//! A record is one sealed frame, `type: u8 | fields`; a type that the reader doesn't know is skipped.
//! The stream's bytes are counted from the first byte of early data on, on each side, whatever
//! connection carries them: so a later version can move a stream to another connection.

use super::codec::{DecodeError, Reader, Writer};
use super::refusal::RefusalCode;
use crate::limits;

/// What the controller wants, in its first handshake message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// What the connection is for.
    pub purpose: Purpose,
    /// The first bytes of the stream, at most [`limits::EARLY_DATA_BYTES`].
    pub early: Vec<u8>,
}

/// What a connection is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Round trips; any allowed peer may.
    Ping,
    /// A stream to the named service.
    Stream(String),
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record<'a> {
    /// Bytes of the stream.
    Data(&'a [u8]),
    /// No more data will come this way.
    Fin,
    /// The service is there.
    Opened,
    /// The service is not to be had.
    Refused {
        /// Why.
        code: RefusalCode,
        /// The same for a person; may be empty.
        text: String,
    },
    /// The controller has chosen this connection.
    Confirm,
    /// Answer with the same value.
    Ping(u64),
    /// The answer.
    Pong(u64),
    /// A type that this version doesn't know. Skip it. Never sent.
    Unknown(u8),
}

impl Opening {
    /// Appends the fields.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let service = match &self.purpose {
            Purpose::Ping => {
                out.put_u8(0);
                ""
            }
            Purpose::Stream(service) => {
                out.put_u8(1);
                service
            }
        };
        out.put_text(service, limits::SERVICE_NAME_BYTES);
        out.put(&self.early);
    }

    /// Reads the fields.
    ///
    /// # Errors
    /// [`DecodeError`] names the field at fault.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let purpose = r.u8("purpose")?;
        let service = r.text("service", limits::SERVICE_NAME_BYTES)?;
        let purpose = match purpose {
            0 => Purpose::Ping,
            1 => Purpose::Stream(service),
            _ => return Err(DecodeError::Invalid("purpose")),
        };
        let early = r.rest().to_vec();
        if early.len() > limits::EARLY_DATA_BYTES {
            return Err(DecodeError::TooMany("early data"));
        }
        Ok(Self { purpose, early })
    }
}

impl<'a> Record<'a> {
    /// Appends `type | fields`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Data(bytes) => {
                out.put_u8(0x00);
                out.put(bytes);
            }
            Self::Fin => out.put_u8(0x01),
            Self::Opened => out.put_u8(0x02),
            Self::Refused { code, text } => {
                out.put_u8(0x03);
                out.put_u8(code.to_byte());
                out.put_text(text, limits::TEXT_BYTES);
            }
            Self::Confirm => out.put_u8(0x04),
            Self::Ping(value) => {
                out.put_u8(0x05);
                out.put_u64(*value);
            }
            Self::Pong(value) => {
                out.put_u8(0x06);
                out.put_u64(*value);
            }
            Self::Unknown(kind) => unreachable!("an unknown record ({kind:#x}) is never sent"),
        }
    }

    /// Reads `type | fields`.
    ///
    /// # Errors
    /// [`DecodeError`] names the field at fault. A type that isn't known is no error.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        Ok(match r.u8("type")? {
            0x00 => Self::Data(r.rest()),
            0x01 => Self::Fin,
            0x02 => Self::Opened,
            0x03 => Self::Refused {
                code: RefusalCode::from_byte(r.u8("code")?),
                text: r.text("text", limits::TEXT_BYTES)?,
            },
            0x04 => Self::Confirm,
            0x05 => Self::Ping(r.u64("value")?),
            0x06 => Self::Pong(r.u64("value")?),
            unknown => Self::Unknown(unknown),
        })
    }
}

//! Why there is no login.

use std::fmt;

use crate::wire::noise::NoiseError;
use crate::wire::refusal::{ClosingCode, RefusalCode};

/// Why there is no login.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoginError {
    /// The name of the rendezvous can't be resolved, or its address can't be reached.
    Unreachable(String),
    /// The connection was lost.
    Lost(String),
    /// The network of this machine has changed, and the connection belongs to the old one.
    NetworkChanged,
    /// It took longer than [`crate::limits::LOGIN_TIME`].
    TimedOut,
    /// The handshake failed.
    Handshake(NoiseError),
    /// S closed the session.
    Closed {
        /// Why.
        code: ClosingCode,
        /// The same for a person; may be empty.
        text: String,
    },
    /// S broke the protocol.
    Protocol(String),
}

impl LoginError {
    /// Whether trying again is of no use.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Closed { code, .. } => *code == ClosingCode::Replaced,
            Self::Handshake(error) => matches!(
                error,
                NoiseError::WrongKey { .. }
                    | NoiseError::NotGimlet
                    | NoiseError::Version { .. }
                    | NoiseError::Refused { code: RefusalCode::Version, .. }
            ),
            _ => false,
        }
    }
}

impl fmt::Display for LoginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "the rendezvous can't be reached: {why}"),
            Self::Lost(why) => write!(f, "the connection to the rendezvous was lost: {why}"),
            Self::NetworkChanged => f.write_str("the network of this machine has changed"),
            Self::TimedOut => f.write_str("the rendezvous did not answer in time"),
            Self::Handshake(error) => write!(f, "the login failed: {error}"),
            Self::Closed { code, text } if text.is_empty() => code.fmt(f),
            Self::Closed { text, .. } => f.write_str(text),
            Self::Protocol(why) => write!(f, "the rendezvous broke the protocol: {why}"),
        }
    }
}

impl std::error::Error for LoginError {}

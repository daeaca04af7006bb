//! Why something is not granted, as bytes and for people.

use std::fmt;

/// Why S, or the other peer, does not grant something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RefusalCode {
    /// The peer allows the asker, and isn't logged in.
    Offline,
    /// The peer does not allow the asker, or S doesn't know it: a stranger isn't told which.
    NotAllowed,
    /// A bound is reached; later it may work.
    Busy,
    /// One cannot be introduced to oneself.
    Yourself,
    /// S doesn't speak the version that the peer asked for.
    Version,
    /// Not a service that the peer shares.
    NoSuchService,
    /// The peer shares the service, and could not reach it.
    ServiceUnreachable,
    /// All rounds failed.
    NoConnection,
    /// The other peer has gone.
    PeerGone,
    /// The message broke the protocol.
    Protocol,
    /// S stops, and grants nothing any more: the next login will do.
    Draining,
    /// A code that this version doesn't know.
    Other(u8),
}

impl RefusalCode {
    /// The code as a byte on the wire.
    pub fn to_byte(self) -> u8 {
        match self {
            Self::Offline => 1,
            Self::NotAllowed => 2,
            Self::Busy => 3,
            Self::Yourself => 4,
            Self::Version => 5,
            Self::NoSuchService => 6,
            Self::ServiceUnreachable => 7,
            Self::NoConnection => 8,
            Self::PeerGone => 9,
            Self::Protocol => 10,
            Self::Draining => 11,
            Self::Other(byte) => byte,
        }
    }

    /// The code that a byte on the wire means.
    pub fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Offline,
            2 => Self::NotAllowed,
            3 => Self::Busy,
            4 => Self::Yourself,
            5 => Self::Version,
            6 => Self::NoSuchService,
            7 => Self::ServiceUnreachable,
            8 => Self::NoConnection,
            9 => Self::PeerGone,
            10 => Self::Protocol,
            11 => Self::Draining,
            other => Self::Other(other),
        }
    }

    /// A word for a log line or a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::NotAllowed => "not-allowed",
            Self::Busy => "busy",
            Self::Yourself => "yourself",
            Self::Version => "version",
            Self::NoSuchService => "no-such-service",
            Self::ServiceUnreachable => "service-unreachable",
            Self::NoConnection => "no-connection",
            Self::PeerGone => "peer-gone",
            Self::Protocol => "protocol",
            Self::Draining => "draining",
            Self::Other(_) => "other",
        }
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Offline => "the peer is offline",
            Self::NotAllowed => "the peer does not allow you, or is not known",
            Self::Busy => "too much is going on at once; try again later",
            Self::Yourself => "that peer is yourself",
            Self::Version => "the versions of the protocol differ",
            Self::NoSuchService => "the peer shares no service of that name with you",
            Self::ServiceUnreachable => "the peer could not reach its service",
            Self::NoConnection => "no direct connection came about",
            Self::PeerGone => "the peer has gone",
            Self::Protocol => "the protocol was broken",
            Self::Draining => "the rendezvous is shutting down",
            Self::Other(byte) => return write!(f, "refused for a reason unknown here ({byte})"),
        })
    }
}

/// Why S closes a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ClosingCode {
    /// The same key has logged in again.
    Replaced,
    /// S stops; come back later.
    ShuttingDown,
    /// The peer broke the protocol.
    Protocol,
    /// A bound is reached.
    Busy,
    /// A code that this version doesn't know.
    Other(u8),
}

impl ClosingCode {
    /// The code as a byte on the wire.
    pub fn to_byte(self) -> u8 {
        match self {
            Self::Replaced => 1,
            Self::ShuttingDown => 2,
            Self::Protocol => 3,
            Self::Busy => 4,
            Self::Other(byte) => byte,
        }
    }

    /// The code that a byte on the wire means.
    pub fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Replaced,
            2 => Self::ShuttingDown,
            3 => Self::Protocol,
            4 => Self::Busy,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for ClosingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replaced => "the same identity has logged in elsewhere",
            Self::ShuttingDown => "the rendezvous is shutting down",
            Self::Protocol => "the protocol was broken",
            Self::Busy => "too much is going on at once; try again later",
            Self::Other(byte) => return write!(f, "closed for a reason unknown here ({byte})"),
        })
    }
}

/// Why S does not relay for a pair: STUN error codes, those of RFC 8656 and RFC 6062 where one fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RelayRefusal {
    /// 403 (RFC 8656 §19): the operator has switched the relay off.
    Off,
    /// 437 (RFC 8656 §19): no introduction in progress fits, or it has been relayed already.
    Unknown,
    /// 447 (RFC 6062 §6.3): the other side did not join in time.
    Alone,
    /// 486 (RFC 8656 §19): one of the two peers has as many relays as it may have.
    Quota,
    /// 508 (RFC 8656 §19): S has as many relays as it may have.
    Full,
    /// A code that this version doesn't know.
    Other(u16),
}

impl RelayRefusal {
    /// The code of the STUN error response.
    pub fn to_code(self) -> u16 {
        match self {
            Self::Off => 403,
            Self::Unknown => 437,
            Self::Alone => 447,
            Self::Quota => 486,
            Self::Full => 508,
            Self::Other(code) => code,
        }
    }

    /// The refusal that the code of a STUN error response means.
    pub fn from_code(code: u16) -> Self {
        match code {
            403 => Self::Off,
            437 => Self::Unknown,
            447 => Self::Alone,
            486 => Self::Quota,
            508 => Self::Full,
            other => Self::Other(other),
        }
    }

    /// A few words for a report.
    pub fn label(self) -> &'static str {
        match self {
            Self::Off => "the relay is switched off",
            Self::Unknown => "the rendezvous knows of no such introduction",
            Self::Alone => "the other peer did not join the relay",
            Self::Quota => "too many relayed connections of one peer",
            Self::Full => "the relay is full",
            Self::Other(_) => "the relay refused",
        }
    }
}

impl fmt::Display for RelayRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(code) => write!(f, "{} ({code})", self.label()),
            _ => f.write_str(self.label()),
        }
    }
}

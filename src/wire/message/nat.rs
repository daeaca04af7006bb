//! The layout of what NATs have shown.

use super::{Allocation, Filtering, Hairpinning, Mapping, Nat, Pooling, Refusal};
use crate::wire::codec::{DecodeError, Reader, Writer};

impl Nat {
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        out.put_u8(self.mapping.to_byte());
        self.allocation.encode(out);
        out.put_u8(self.pooling.to_byte());
        out.put_u8(self.filtering.to_byte());
        out.put_u8(self.refusal.to_byte());
        out.put_u8(self.hairpinning.to_byte());
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            mapping: Mapping::from_byte(r.u8("mapping")?),
            allocation: Allocation::decode(r)?,
            pooling: Pooling::from_byte(r.u8("pooling")?),
            filtering: Filtering::from_byte(r.u8("filtering")?),
            refusal: Refusal::from_byte(r.u8("refusal")?),
            hairpinning: Hairpinning::from_byte(r.u8("hairpinning")?),
        })
    }
}

/// `kind: u8 | two u16`, whatever the kind, so that an unknown kind can be passed over.
impl Allocation {
    fn encode(self, out: &mut Vec<u8>) {
        let (kind, one, other) = match self {
            Self::Unknown => (0, 0, 0),
            Self::Preserving => (1, 0, 0),
            Self::Sequential { delta, busy } => (2, delta as u16, busy),
            Self::Random => (3, 0, 0),
            Self::Block { first, last } => (4, first, last),
        };
        out.put_u8(kind);
        out.put_u16(one);
        out.put_u16(other);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = r.u8("allocation")?;
        let (one, other) = (r.u16("allocation")?, r.u16("allocation")?);
        Ok(match kind {
            1 => Self::Preserving,
            2 => Self::Sequential { delta: one as i16, busy: other },
            3 => Self::Random,
            4 if one <= other => Self::Block { first: one, last: other },
            _ => Self::Unknown,
        })
    }
}

impl Mapping {
    fn to_byte(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::None => 1,
            Self::EndpointIndependent => 2,
            Self::AddressDependent => 3,
            Self::AddressAndPortDependent => 4,
        }
    }

    fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::None,
            2 => Self::EndpointIndependent,
            3 => Self::AddressDependent,
            4 => Self::AddressAndPortDependent,
            _ => Self::Unknown,
        }
    }
}

/// What isn't known to this version counts as unknown: each of these only says what is tried first.
impl Pooling {
    fn to_byte(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Paired => 1,
            Self::Arbitrary => 2,
        }
    }

    fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Paired,
            2 => Self::Arbitrary,
            _ => Self::Unknown,
        }
    }
}

impl Filtering {
    fn to_byte(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::EndpointIndependent => 1,
            Self::AddressDependent => 2,
            Self::AddressAndPortDependent => 3,
        }
    }

    fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::EndpointIndependent,
            2 => Self::AddressDependent,
            3 => Self::AddressAndPortDependent,
            _ => Self::Unknown,
        }
    }
}

impl Refusal {
    fn to_byte(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Silence => 1,
            Self::Rst => 2,
            Self::Icmp => 3,
        }
    }

    fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Silence,
            2 => Self::Rst,
            3 => Self::Icmp,
            _ => Self::Unknown,
        }
    }
}

impl Hairpinning {
    fn to_byte(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Supported => 1,
            Self::Unsupported => 2,
        }
    }

    fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Supported,
            2 => Self::Unsupported,
            _ => Self::Unknown,
        }
    }
}

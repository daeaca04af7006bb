//! Fields <-> bytes: the primitives that all messages are made of.
//!
//! Integers are big-endian. A list is `count: u16 | items`, a text `length: u16 | UTF-8`, an address
//! `family: u8 (4 or 6) | 4 or 16 bytes | port: u16`. A decoder reads the fields that it
//! knows and ignores what follows them, so that a message may grow at its end.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::identity::{PeerId, PublicKey};

/// A message that does not hold what its type says: the peer is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The message ends inside the named field.
    Truncated(&'static str),
    /// The named field holds more than its bound.
    TooMany(&'static str),
    /// The named field has a value that its type doesn't have.
    Invalid(&'static str),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated(field) => write!(f, "a message that ends inside its field '{field}'"),
            Self::TooMany(field) => write!(f, "a message with too much in its field '{field}'"),
            Self::Invalid(field) => write!(f, "a message with a bad value in its field '{field}'"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Reads fields one after the other.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What no field has taken.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn bytes(
        &mut self,
        field: &'static str,
        length: usize,
    ) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) =
            self.rest.split_at_checked(length).ok_or(DecodeError::Truncated(field))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        Ok(self.bytes(field, N)?.try_into().expect("N bytes were taken"))
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        Ok(self.array::<1>(field)?[0])
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array(field)?))
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array(field)?))
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array(field)?))
    }

    pub(crate) fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Invalid(field)),
        }
    }

    pub(crate) fn peer_id(&mut self, field: &'static str) -> Result<PeerId, DecodeError> {
        Ok(PeerId::from_bytes(self.array(field)?))
    }

    pub(crate) fn key(&mut self, field: &'static str) -> Result<PublicKey, DecodeError> {
        Ok(PublicKey::from_bytes(self.array(field)?))
    }

    /// A text of at most `limit` bytes. It will be shown to people, so control characters (an
    /// escape sequence for their terminal, say) become spaces.
    pub(crate) fn text(
        &mut self,
        field: &'static str,
        limit: usize,
    ) -> Result<String, DecodeError> {
        let length = usize::from(self.u16(field)?);
        if length > limit {
            return Err(DecodeError::TooMany(field));
        }
        let text = std::str::from_utf8(self.bytes(field, length)?)
            .map_err(|_| DecodeError::Invalid(field))?;
        Ok(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
    }

    pub(crate) fn ip(&mut self, field: &'static str) -> Result<IpAddr, DecodeError> {
        match self.u8(field)? {
            4 => Ok(Ipv4Addr::from(self.array::<4>(field)?).into()),
            6 => Ok(Ipv6Addr::from(self.array::<16>(field)?).into()),
            _ => Err(DecodeError::Invalid(field)),
        }
    }

    pub(crate) fn address(&mut self, field: &'static str) -> Result<SocketAddr, DecodeError> {
        let ip = self.ip(field)?;
        Ok(SocketAddr::new(ip, self.u16(field)?))
    }

    /// A list with a u16 count of at most `limit`.
    pub(crate) fn list<T>(
        &mut self,
        field: &'static str,
        limit: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = usize::from(self.u16(field)?);
        if count > limit {
            return Err(DecodeError::TooMany(field));
        }
        (0..count).map(|_| item(self)).collect()
    }
}

/// Appends fields one after the other.
pub(crate) trait Writer {
    fn put(&mut self, bytes: &[u8]);

    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_be_bytes());
    }

    fn put_bool(&mut self, value: bool) {
        self.put_u8(value.into());
    }

    /// A text, cut at a character's boundary when it is longer than `limit` bytes.
    fn put_text(&mut self, text: &str, limit: usize) {
        let mut end = text.len().min(limit);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.put_u16(end as u16);
        self.put(&text.as_bytes()[..end]);
    }

    fn put_ip(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => {
                self.put_u8(4);
                self.put(&ip.octets());
            }
            IpAddr::V6(ip) => {
                self.put_u8(6);
                self.put(&ip.octets());
            }
        }
    }

    fn put_address(&mut self, address: SocketAddr) {
        self.put_ip(address.ip());
        self.put_u16(address.port());
    }

    /// A list, cut at `limit` items.
    fn put_list<T>(&mut self, items: &[T], limit: usize, mut item: impl FnMut(&mut Self, &T)) {
        let items = &items[..items.len().min(limit)];
        self.put_u16(items.len() as u16);
        for each in items {
            item(self, each);
        }
    }
}

impl Writer for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

//! Bytes to messages.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    BINDING, COOKIE, Class, DELAY_BYTES, ErrorResponse, FINGERPRINT_XOR, HEADER_BYTES, JOIN_BYTES,
    Join, MESSAGE_BYTES, Message, Other, PROBE_BYTES, Probe, Request, StunError, Success,
    Transaction, UnknownAttributes, attribute, crc32, xor,
};
use crate::wire::message::Role;

/// Bytes before an attribute's value (RFC 8489 §14).
const ATTRIBUTE_HEADER_BYTES: usize = 4;

/// Reads the message at the beginning of `buf`, and says how many bytes it takes. `None` means that
/// it is not all there yet.
///
/// # Errors
/// [`StunError`], as soon as it shows: for what isn't STUN that is at the first byte, mostly.
pub fn decode(buf: &[u8]) -> Result<Option<(Message<'_>, usize)>, StunError> {
    let Some(end) = message_end(buf)? else { return Ok(None) };
    let Some(message) = buf.get(..end) else { return Ok(None) };
    let (class, method) = split_type(u16_at(message, 0));
    let transaction = transaction_of(message);
    let message = match (class, method) {
        (Class::Request, BINDING) => Message::Request(decode_request(message, transaction)?),
        (Class::Success, BINDING) => Message::Success(decode_success(message, transaction)?),
        (Class::Error, BINDING) => Message::Error(decode_error(message, transaction)?),
        (class, method) => {
            Attributes::of(message).try_for_each(|attribute| attribute.map(drop))?;
            Message::Other(Other { transaction, method, class })
        }
    };
    Ok(Some((message, end)))
}

/// Where the message ends, once its header is there. Checks as much of the header as there is, so
/// that another protocol is not waited for.
fn message_end(buf: &[u8]) -> Result<Option<usize>, StunError> {
    // "The most significant 2 bits of every STUN message MUST be zeroes" (RFC 8489 §5).
    if buf.first().is_some_and(|byte| byte & 0b1100_0000 != 0) {
        return Err(StunError::NotStun);
    }
    let cookie = buf.get(4..).unwrap_or_default();
    if cookie.iter().zip(COOKIE.to_be_bytes()).any(|(found, right)| *found != right) {
        return Err(StunError::Cookie);
    }
    if buf.len() < 4 {
        return Ok(None);
    }
    let found = u16_at(buf, 2);
    if !found.is_multiple_of(4) {
        return Err(StunError::Length { found });
    }
    let end = HEADER_BYTES + usize::from(found);
    if end > MESSAGE_BYTES {
        return Err(StunError::TooLong { found });
    }
    Ok(Some(end))
}

/// Takes a message type apart: `00 MMMMM C MMM C MMMM` (RFC 8489 §5, figure 3).
fn split_type(kind: u16) -> (Class, u16) {
    let method = (kind & 0x3E00) >> 2 | (kind & 0x00E0) >> 1 | kind & 0x000F;
    let class = match (kind & 0x0100 != 0, kind & 0x0010 != 0) {
        (false, false) => Class::Request,
        (false, true) => Class::Indication,
        (true, false) => Class::Success,
        (true, true) => Class::Error,
    };
    (class, method)
}

fn decode_request(message: &[u8], transaction: Transaction) -> Result<Request, StunError> {
    let unknown = UnknownAttributes::default();
    let mut request = Request { transaction, probe: None, relay: None, delay: 0, unknown };
    for attribute in Attributes::of(message) {
        let Attribute { kind, value } = attribute?;
        match kind {
            attribute::GIMLET_PROBE if request.probe.is_none() => {
                request.probe = Some(decode_probe(value)?);
            }
            attribute::GIMLET_RELAY if request.relay.is_none() => {
                request.relay = Some(decode_join(value)?);
            }
            attribute::GIMLET_DELAY if request.delay == 0 => {
                let value: [u8; DELAY_BYTES] =
                    value.try_into().map_err(|_| StunError::Value { kind })?;
                request.delay = u32::from_be_bytes(value);
            }
            // Credentials: understood, and not asked for. A server of public addresses doesn't
            // authenticate (RFC 8489 §12).
            attribute::USERNAME
            | attribute::USERHASH
            | attribute::REALM
            | attribute::NONCE
            | attribute::PASSWORD_ALGORITHM
            | attribute::MESSAGE_INTEGRITY
            | attribute::MESSAGE_INTEGRITY_SHA256 => {}
            _ if attribute::is_required(kind) => request.unknown.add(kind),
            _ => {}
        }
    }
    Ok(request)
}

fn decode_success(message: &[u8], transaction: Transaction) -> Result<Success, StunError> {
    let (mut xored, mut plain, mut other) = (None, None, None);
    for attribute in Attributes::of(message) {
        let Attribute { kind, value } = attribute?;
        let address = || decode_address(value).ok_or(StunError::Value { kind });
        match kind {
            // "only the first occurrence needs to be processed by a receiver" (RFC 8489 §14).
            attribute::XOR_MAPPED_ADDRESS if xored.is_none() => {
                xored = Some(xor(address()?, &transaction));
            }
            attribute::MAPPED_ADDRESS if plain.is_none() => plain = Some(address()?),
            attribute::OTHER_ADDRESS if other.is_none() => other = Some(address()?),
            attribute::XOR_MAPPED_ADDRESS
            | attribute::MAPPED_ADDRESS
            | attribute::SOURCE_ADDRESS
            | attribute::CHANGED_ADDRESS
            | attribute::MESSAGE_INTEGRITY
            | attribute::MESSAGE_INTEGRITY_SHA256 => {}
            _ if attribute::is_required(kind) => return Err(StunError::Unknown { kind }),
            _ => {}
        }
    }
    // The XORed one first: some NATs rewrite addresses that they recognise (RFC 8489 §14.2).
    let missing = StunError::Missing { kind: attribute::XOR_MAPPED_ADDRESS };
    Ok(Success { transaction, mapped: xored.or(plain).ok_or(missing)?, other })
}

fn decode_error(message: &[u8], transaction: Transaction) -> Result<ErrorResponse<'_>, StunError> {
    let mut error = None;
    let mut unknown = UnknownAttributes::default();
    for attribute in Attributes::of(message) {
        let Attribute { kind, value } = attribute?;
        match kind {
            attribute::ERROR_CODE if error.is_none() => error = Some(decode_error_code(value)?),
            attribute::UNKNOWN_ATTRIBUTES if !value.len().is_multiple_of(2) => {
                return Err(StunError::Value { kind });
            }
            attribute::UNKNOWN_ATTRIBUTES => {
                value.chunks_exact(2).for_each(|kind| unknown.add(u16_at(kind, 0)));
            }
            // Whatever else it has, the transaction failed (RFC 8489 §6.3.4).
            _ => {}
        }
    }
    let missing = StunError::Missing { kind: attribute::ERROR_CODE };
    let (code, reason) = error.ok_or(missing)?;
    Ok(ErrorResponse { transaction, code, reason, unknown })
}

fn decode_error_code(value: &[u8]) -> Result<(u16, &str), StunError> {
    let malformed = StunError::Value { kind: attribute::ERROR_CODE };
    let Some(([_, _, class, number], reason)) = value.split_first_chunk() else {
        return Err(malformed);
    };
    // Class: three bits, "between 3 and 6". Number: "between 0 and 99" (RFC 8489 §14.8).
    let class = class & 0b111;
    if !(3..=6).contains(&class) || *number > 99 {
        return Err(malformed);
    }
    let code = u16::from(class) * 100 + u16::from(*number);
    Ok((code, reason.utf8_chunks().next().map_or("", |chunk| chunk.valid())))
}

fn decode_probe(value: &[u8]) -> Result<Probe, StunError> {
    let malformed = || StunError::Value { kind: attribute::GIMLET_PROBE };
    let value: &[u8; PROBE_BYTES] = value.try_into().map_err(|_| malformed())?;
    Ok(Probe {
        token: bytes_at(value, 0),
        tag: u64::from_be_bytes(bytes_at(value, 16)),
        round: value[24],
        local_port: u16_at(value, 26),
    })
}

fn decode_join(value: &[u8]) -> Result<Join, StunError> {
    let malformed = StunError::Value { kind: attribute::GIMLET_RELAY };
    let value: &[u8; JOIN_BYTES] = value.try_into().map_err(|_| malformed)?;
    Ok(Join {
        session: bytes_at(value, 0),
        introduction: u64::from_be_bytes(bytes_at(value, 16)),
        token: bytes_at(value, 24),
        role: Role::from_byte(value[40]).map_err(|_| malformed)?,
    })
}

/// Reads the value of MAPPED-ADDRESS and of those that look like it (RFC 8489 §14.1).
fn decode_address(value: &[u8]) -> Option<SocketAddr> {
    let (&[_, family, port @ ..], address) = value.split_first_chunk::<4>()?;
    let ip = match family {
        0x01 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?)),
        0x02 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(port)))
}

struct Attribute<'a> {
    kind: u16,
    value: &'a [u8],
}

/// The attributes of a whole message that are to be looked at. Verifies FINGERPRINT on the way.
struct Attributes<'a> {
    message: &'a [u8],
    /// Where the next attribute begins.
    at: usize,
    /// An integrity attribute has passed.
    sealed: bool,
}

impl<'a> Attributes<'a> {
    fn of(message: &'a [u8]) -> Self {
        Self { message, at: HEADER_BYTES, sealed: false }
    }

    /// Reads the attribute at `self.at`, which is not the end, and moves past it.
    fn read(&mut self) -> Result<Attribute<'a>, StunError> {
        // Both the message and each attribute are a multiple of four bytes, so that the type and
        // the length are always there.
        let (header, rest) = self.message[self.at..].split_at(ATTRIBUTE_HEADER_BYTES);
        let (kind, length) = (u16_at(header, 0), usize::from(u16_at(header, 2)));
        if length.next_multiple_of(4) > rest.len() {
            return Err(StunError::Truncated { kind });
        }
        if kind == attribute::FINGERPRINT {
            self.check_fingerprint(&rest[..length])?;
        }
        // Padding "MUST be ignored by the receiver" (RFC 8489 §14).
        self.at += ATTRIBUTE_HEADER_BYTES + length.next_multiple_of(4);
        Ok(Attribute { kind, value: &rest[..length] })
    }

    /// It is "the CRC-32 of the STUN message up to (but excluding) the FINGERPRINT attribute
    /// itself", which "MUST be the last attribute" (RFC 8489 §14.7).
    fn check_fingerprint(&self, value: &[u8]) -> Result<(), StunError> {
        let value: [u8; 4] =
            value.try_into().map_err(|_| StunError::Value { kind: attribute::FINGERPRINT })?;
        let is_last = self.at + ATTRIBUTE_HEADER_BYTES + value.len() == self.message.len();
        let right = crc32(&self.message[..self.at]) ^ FINGERPRINT_XOR;
        if is_last && u32::from_be_bytes(value) == right {
            Ok(())
        } else {
            Err(StunError::Fingerprint)
        }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, StunError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.at < self.message.len() {
            let attribute = match self.read() {
                Ok(attribute) => attribute,
                Err(e) => {
                    self.at = self.message.len();
                    return Some(Err(e));
                }
            };
            // But for these two and FINGERPRINT, "agents MUST ignore all other attributes that
            // follow MESSAGE-INTEGRITY" (RFC 8489 §14.5; §14.6 says the same).
            let seal = [attribute::MESSAGE_INTEGRITY, attribute::MESSAGE_INTEGRITY_SHA256];
            if seal.contains(&attribute.kind) {
                self.sealed = true;
            } else if self.sealed {
                continue;
            }
            return Some(Ok(attribute));
        }
        None
    }
}

fn transaction_of(message: &[u8]) -> Transaction {
    bytes_at(message, 8)
}

/// The bytes at a place that the caller knows to exist.
fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes_at(bytes, at))
}

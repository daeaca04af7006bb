//! Messages to bytes.

use std::net::{IpAddr, SocketAddr};

use super::{
    BINDING, COOKIE, Class, HEADER_BYTES, Join, Probe, Transaction, UNKNOWN_ATTRIBUTES, attribute,
    xor,
};

/// Longest reason or software name that is written, in bytes: both are "fewer than 128 characters"
/// (RFC 8489 §14.8, §14.14).
const TEXT_BYTES: usize = 127;

/// Appends a Binding request to `out`.
pub fn binding_request(out: &mut Vec<u8>, transaction: &Transaction, probe: Option<&Probe>) {
    let mut writer = Writer::begin(out, Class::Request, transaction);
    if let Some(probe) = probe {
        writer.attribute(attribute::GIMLET_PROBE, |out| encode_probe(out, probe));
    }
    writer.finish();
}

/// Appends the Binding request that joins a relay.
pub fn relay_request(out: &mut Vec<u8>, transaction: &Transaction, join: &Join) {
    let mut writer = Writer::begin(out, Class::Request, transaction);
    writer.attribute(attribute::GIMLET_RELAY, |out| {
        out.extend_from_slice(&join.session);
        out.extend_from_slice(&join.introduction.to_be_bytes());
        out.extend_from_slice(&join.token);
        out.extend_from_slice(&[join.role.to_byte(), 0, 0, 0]);
    });
    writer.finish();
}

/// Appends the Binding request that is to be answered after so many seconds.
pub fn delayed_request(out: &mut Vec<u8>, transaction: &Transaction, seconds: u32) {
    let mut writer = Writer::begin(out, Class::Request, transaction);
    writer.attribute(attribute::GIMLET_DELAY, |out| {
        out.extend_from_slice(&seconds.to_be_bytes());
    });
    writer.finish();
}

/// Appends a Binding success response to `out`: what address the client has, and where else the
/// server listens. Of `software` at most 127 bytes are written.
pub fn binding_success(
    out: &mut Vec<u8>,
    transaction: &Transaction,
    mapped: SocketAddr,
    other: Option<SocketAddr>,
    software: Option<&str>,
) {
    let mut writer = Writer::begin(out, Class::Success, transaction);
    let xored = xor(mapped, transaction);
    writer.attribute(attribute::XOR_MAPPED_ADDRESS, |out| encode_address(out, xored));
    if let Some(other) = other {
        writer.attribute(attribute::OTHER_ADDRESS, |out| encode_address(out, other));
    }
    if let Some(software) = software {
        writer.attribute(attribute::SOFTWARE, |out| encode_text(out, software));
    }
    writer.finish();
}

/// Appends a Binding error response to `out`. `code` is one of [`code`](super::code), and `unknown`
/// goes with 420. Of `reason` at most 127 bytes are written, of `unknown` the first
/// [`UNKNOWN_ATTRIBUTES`].
///
/// # Panics
/// When `code` is not within 300 to 699.
pub fn binding_error(
    out: &mut Vec<u8>,
    transaction: &Transaction,
    code: u16,
    reason: &str,
    unknown: &[u16],
) {
    assert!((300..700).contains(&code), "{code} is not a STUN error code");
    let mut writer = Writer::begin(out, Class::Error, transaction);
    writer.attribute(attribute::ERROR_CODE, |out| {
        out.extend_from_slice(&[0, 0, (code / 100) as u8, (code % 100) as u8]);
        encode_text(out, reason);
    });
    if !unknown.is_empty() {
        writer.attribute(attribute::UNKNOWN_ATTRIBUTES, |out| {
            let listed = unknown.iter().take(UNKNOWN_ATTRIBUTES);
            listed.for_each(|kind| out.extend_from_slice(&kind.to_be_bytes()));
        });
    }
    writer.finish();
}

pub(super) fn encode_probe(out: &mut Vec<u8>, probe: &Probe) {
    out.extend_from_slice(&probe.token);
    out.extend_from_slice(&probe.tag.to_be_bytes());
    out.extend_from_slice(&[probe.round, 0]);
    out.extend_from_slice(&probe.local_port.to_be_bytes());
}

fn encode_address(out: &mut Vec<u8>, address: SocketAddr) {
    let family = if address.is_ipv4() { 0x01 } else { 0x02 };
    out.extend_from_slice(&[0, family]);
    out.extend_from_slice(&address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
}

/// Writes as many whole characters as [`TEXT_BYTES`] hold.
fn encode_text(out: &mut Vec<u8>, text: &str) {
    let fits = (0..=text.len().min(TEXT_BYTES)).rev().find(|at| text.is_char_boundary(*at));
    out.extend_from_slice(&text.as_bytes()[..fits.unwrap_or(0)]);
}

/// Writes one message behind whatever `out` holds.
pub(super) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// Where the message begins.
    start: usize,
}

impl<'a> Writer<'a> {
    pub(super) fn begin(out: &'a mut Vec<u8>, class: Class, transaction: &Transaction) -> Self {
        let start = out.len();
        let class: u16 = match class {
            Class::Request => 0x0000,
            Class::Indication => 0x0010,
            Class::Success => 0x0100,
            Class::Error => 0x0110,
        };
        out.extend_from_slice(&(class | BINDING).to_be_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&COOKIE.to_be_bytes());
        out.extend_from_slice(transaction);
        Self { out, start }
    }

    pub(super) fn attribute(&mut self, kind: u16, write_value: impl FnOnce(&mut Vec<u8>)) {
        self.out.extend_from_slice(&kind.to_be_bytes());
        self.out.extend_from_slice(&[0; 2]);
        let value = self.out.len();
        write_value(self.out);
        self.put_length(value - 2, self.out.len() - value);
        let message = self.out.len() - self.start;
        self.out.resize(self.start + message.next_multiple_of(4), 0);
    }

    pub(super) fn finish(mut self) {
        let length = self.out.len() - self.start - HEADER_BYTES;
        self.put_length(self.start + 2, length);
    }

    fn put_length(&mut self, at: usize, length: usize) {
        let length = u16::try_from(length).expect("all that we write is below MESSAGE_BYTES");
        self.out[at..at + 2].copy_from_slice(&length.to_be_bytes());
    }
}

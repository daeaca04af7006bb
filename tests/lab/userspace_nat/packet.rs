//! IPv4 packets with TCP segments, and ICMP errors that quote one: read, rewritten in place, answered.

use std::net::{Ipv4Addr, SocketAddrV4};

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMP_HEADER: usize = 8;
const SOURCE: usize = 12;
const DESTINATION: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Segment(Segment),
    /// An ICMP error. The endpoints are those of the packet that it quotes, which went the other way.
    Error {
        source: SocketAddrV4,
        destination: SocketAddrV4,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) source: SocketAddrV4,
    pub(crate) destination: SocketAddrV4,
    pub(crate) flags: u8,
}

impl Segment {
    /// The first of a connection.
    pub(crate) fn is_syn(&self) -> bool {
        self.flags & (SYN | ACK | RST) == SYN
    }
}

/// None for everything else than what is named above.
pub(crate) fn read(packet: &[u8]) -> Option<Content> {
    let inner = header_length(packet)?;
    match packet[9] {
        TCP => {
            let (source, destination) = endpoints(packet)?;
            let header = packet.get(inner..inner + 20)?;
            Some(Content::Segment(Segment { source, destination, flags: header[13] }))
        }
        // RFC 792: destination unreachable, time exceeded, parameter problem.
        ICMP if matches!(packet.get(inner)?, 3 | 11 | 12) => {
            let quoted = packet.get(inner + ICMP_HEADER..)?;
            let (source, destination) = endpoints(quoted).filter(|_| quoted[9] == TCP)?;
            Some(Content::Error { source, destination })
        }
        _ => None,
    }
}

pub(crate) fn set_source(packet: &mut [u8], to: SocketAddrV4) {
    set_endpoint(packet, SOURCE, 0, to);
}

pub(crate) fn set_destination(packet: &mut [u8], to: SocketAddrV4) {
    set_endpoint(packet, DESTINATION, 2, to);
}

/// An ICMP error on its way in: what it quotes came from `to`, and there it must go.
pub(crate) fn set_quoted_source(packet: &mut [u8], to: SocketAddrV4) {
    set_quoted(packet, DESTINATION, SOURCE, 0, to);
}

/// An ICMP error on its way out, about a packet that was sent to `from` before its translation.
pub(crate) fn set_quoted_destination(packet: &mut [u8], from: SocketAddrV4) {
    set_quoted(packet, SOURCE, DESTINATION, 2, from);
}

/// What a closed port answers to a SYN (RFC 9293 §3.5.2, group 1).
pub(crate) fn reset(packet: &[u8]) -> Vec<u8> {
    let tcp = header_length(packet).unwrap();
    let mut answer = header(TCP, 20, packet, DESTINATION);
    answer.extend(&packet[tcp + 2..tcp + 4]);
    answer.extend(&packet[tcp..tcp + 2]);
    answer.extend([0; 4]);
    let sequence = u32::from_be_bytes(packet[tcp + 4..tcp + 8].try_into().unwrap());
    answer.extend(sequence.wrapping_add(1).to_be_bytes());
    answer.extend([5 << 4, RST | ACK, 0, 0, 0, 0, 0, 0]);
    // RFC 9293 §3.1: the pseudo-header of the checksum holds the addresses, the protocol and the length.
    let mut summed = answer[SOURCE..].to_vec();
    summed.extend([0, TCP, 0, 20]);
    let checksum = checksum(&summed);
    answer[36..38].copy_from_slice(&checksum);
    answer
}

/// What a router answers (RFC 792, destination unreachable).
pub(crate) fn unreachable(packet: &[u8], code: u8) -> Vec<u8> {
    let quote = &packet[..packet.len().min(header_length(packet).unwrap() + 40)];
    let mut answer = header(ICMP, ICMP_HEADER + quote.len(), packet, DESTINATION);
    answer.extend([3, code, 0, 0, 0, 0, 0, 0]);
    answer.extend(quote);
    let checksum = checksum(&answer[20..]);
    answer[22..24].copy_from_slice(&checksum);
    answer
}

/// An IPv4 header for an answer to the packet, from the address at `from`.
fn header(protocol: u8, length: usize, packet: &[u8], from: usize) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend((20 + length as u16).to_be_bytes());
    header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    header.extend(&packet[from..from + 4]);
    header.extend(&packet[SOURCE..SOURCE + 4]);
    let checksum = checksum(&header);
    header[10..12].copy_from_slice(&checksum);
    header
}

fn header_length(packet: &[u8]) -> Option<usize> {
    let length = usize::from(packet.first()? & 0x0f) * 4;
    (packet[0] >> 4 == 4 && length >= 20 && packet.len() >= length + 8).then_some(length)
}

fn endpoints(packet: &[u8]) -> Option<(SocketAddrV4, SocketAddrV4)> {
    let ports = header_length(packet)?;
    let endpoint = |address: usize, port: usize| {
        let address: [u8; 4] = packet[address..address + 4].try_into().unwrap();
        let port = u16::from_be_bytes(packet[port..port + 2].try_into().unwrap());
        SocketAddrV4::new(Ipv4Addr::from(address), port)
    };
    Some((endpoint(SOURCE, ports), endpoint(DESTINATION, ports + 2)))
}

fn set_endpoint(packet: &mut [u8], address: usize, port: usize, to: SocketAddrV4) {
    let tcp = header_length(packet).unwrap();
    let sum = tcp + 16;
    replace(packet, address, &to.ip().octets(), &[10, sum]);
    replace(packet, tcp + port, &to.port().to_be_bytes(), &[sum]);
}

fn set_quoted(packet: &mut [u8], outer: usize, inner: usize, port: usize, to: SocketAddrV4) {
    let icmp = header_length(packet).unwrap();
    replace(packet, outer, &to.ip().octets(), &[10]);
    let quoted = &mut packet[icmp + ICMP_HEADER..];
    let tcp = header_length(quoted).unwrap();
    replace(quoted, inner, &to.ip().octets(), &[10]);
    quoted[tcp + port..tcp + port + 2].copy_from_slice(&to.port().to_be_bytes());
    packet[icmp + 2..icmp + 4].fill(0);
    let checksum = checksum(&packet[icmp..]);
    packet[icmp + 2..icmp + 4].copy_from_slice(&checksum);
}

/// Puts whole 16-bit words into the packet and keeps its checksums right (RFC 1624, equation 3).
fn replace(packet: &mut [u8], at: usize, new: &[u8], checksums: &[usize]) {
    let word = |bytes: &[u8]| u32::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    for (at, new) in (at..).step_by(2).zip(new.chunks(2)) {
        let old = word(&packet[at..at + 2]);
        packet[at..at + 2].copy_from_slice(new);
        for sum in checksums {
            let kept = word(&packet[*sum..sum + 2]);
            let changed = folded((!kept & 0xffff) + (!old & 0xffff) + word(new));
            packet[*sum..sum + 2].copy_from_slice(&(!changed).to_be_bytes());
        }
    }
}

/// The internet checksum (RFC 1071).
pub(crate) fn checksum(bytes: &[u8]) -> [u8; 2] {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    (!folded(bytes.chunks(2).map(word).sum())).to_be_bytes()
}

fn folded(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

//! How people name a rendezvous: `[KEY@]HOST[:PORT]`.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use super::peer_id::{ParsePeerIdError, PeerId};

/// The main port of a rendezvous, when its address names none.
pub const DEFAULT_PORT: u16 = 4000;

/// Longest name of a host, in bytes (RFC 1035 §2.3.4, less the length and root bytes).
const HOST_BYTES: usize = 253;

/// Longest part of a name between two dots, in bytes (RFC 1035 §2.3.4).
const LABEL_BYTES: usize = 63;

/// Where a rendezvous is and, if the address says so, who it is.
///
/// ```
/// use gimlet::identity::ServerAddr;
///
/// let server: ServerAddr = "example.net".parse()?;
/// assert_eq!(server.to_string(), "example.net:4000");
/// let server: ServerAddr = "[2001:db8::1]:443".parse()?;
/// assert_eq!((server.host.as_str(), server.port), ("2001:db8::1", 443));
/// # Ok::<(), gimlet::identity::ParseServerAddrError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerAddr {
    /// The id of the rendezvous. With it, no one else can answer in its place; without it the first
    /// key that it shows is trusted and remembered.
    pub key: Option<PeerId>,
    /// A host name in lower case, or an IP address without brackets.
    pub host: String,
    /// The main port.
    pub port: u16,
}

impl fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = self.key {
            write!(f, "{key}@")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for ServerAddr {
    type Err = ParseServerAddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let (key, place) = match text.rsplit_once('@') {
            Some((key, place)) => (Some(key.parse().map_err(ParseServerAddrError::Key)?), place),
            None => (None, text),
        };
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => split_brackets(rest)?,
            None => split_name(place)?,
        };
        Ok(Self { key, host, port: port.map_or(Ok(DEFAULT_PORT), parse_port)? })
    }
}

/// Splits `ADDRESS]` or `ADDRESS]:PORT`.
fn split_brackets(rest: &str) -> Result<(String, Option<&str>), ParseServerAddrError> {
    let bad = || ParseServerAddrError::Brackets { found: format!("[{rest}") };
    let (address, after) = rest.split_once(']').ok_or_else(bad)?;
    let address: Ipv6Addr = address.parse().map_err(|_| bad())?;
    let port = match after {
        "" => None,
        _ => Some(after.strip_prefix(':').ok_or_else(bad)?),
    };
    Ok((address.to_string(), port))
}

/// Splits `HOST` or `HOST:PORT`.
fn split_name(place: &str) -> Result<(String, Option<&str>), ParseServerAddrError> {
    let (host, port) = match place.split_once(':') {
        Some((_, rest)) if rest.contains(':') => {
            return Err(ParseServerAddrError::Colons { found: place.to_owned() });
        }
        Some((host, port)) => (host, Some(port)),
        None => (place, None),
    };
    if host.is_empty() {
        return Err(ParseServerAddrError::NoHost);
    }
    if !is_host_name(host) {
        return Err(ParseServerAddrError::Host { found: host.to_owned() });
    }
    Ok((host.to_ascii_lowercase(), port))
}

/// Whether a text can be looked up as a name, or is an IPv4 address. RFC 952 and RFC 1123 §2.1, and
/// the underscore, which real names have.
fn is_host_name(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_BYTES).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    host.len() <= HOST_BYTES && host.strip_suffix('.').unwrap_or(host).split('.').all(is_label)
}

fn parse_port(port: &str) -> Result<u16, ParseServerAddrError> {
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse() {
        Ok(number) if digits && number != 0 => Ok(number),
        _ => Err(ParseServerAddrError::Port { found: port.to_owned() }),
    }
}

/// Why a text is not the address of a rendezvous.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParseServerAddrError {
    /// What stands before the `@` is not a peer id.
    Key(ParsePeerIdError),
    /// There is no host.
    NoHost,
    /// The host is neither a name nor an IPv4 address.
    Host {
        /// What stands in its place.
        found: String,
    },
    /// There are several colons: an IPv6 address without brackets.
    Colons {
        /// What was found.
        found: String,
    },
    /// What begins with a bracket is not `[IPv6]` or `[IPv6]:PORT`.
    Brackets {
        /// What was found, from the bracket on.
        found: String,
    },
    /// The port is not a number from 1 to 65535.
    Port {
        /// What stands in its place.
        found: String,
    },
}

impl fmt::Display for ParseServerAddrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(why) => write!(f, "what stands before the '@' is not a server's key: {why}"),
            Self::NoHost => f.write_str("the host is missing: write [KEY@]HOST[:PORT]"),
            Self::Host { found } => {
                write!(f, "{found:?} is neither a host name nor an IPv4 address")
            }
            Self::Colons { found } => {
                write!(f, "{found:?} has several colons: write an IPv6 address in brackets, [::1]")
            }
            Self::Brackets { found } => {
                write!(f, "{found:?} is not an IPv6 address in brackets, such as [::1]:4000")
            }
            Self::Port { found } => write!(f, "{found:?} is not a port from 1 to 65535"),
        }
    }
}

impl std::error::Error for ParseServerAddrError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Key(why) => Some(why),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn server(key: Option<PeerId>, host: &str, port: u16) -> ServerAddr {
        ServerAddr { key, host: host.to_owned(), port }
    }

    #[test]
    fn each_part_may_be_left_out_but_the_host() {
        let id = PeerId::from_bytes([9; 15]);
        let cases = [
            ("example.net", server(None, "example.net", 4000)),
            (" Example.NET:1\n", server(None, "example.net", 1)),
            ("192.0.2.7:65535", server(None, "192.0.2.7", 65535)),
            ("localhost.", server(None, "localhost.", 4000)),
            ("[2001:DB8:0::1]", server(None, "2001:db8::1", 4000)),
            ("[::1]:8", server(None, "::1", 8)),
            (&format!("{id}@a_b.c-d"), server(Some(id), "a_b.c-d", 4000)),
            (&format!("{id}@[::]:12"), server(Some(id), "::", 12)),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn errors_name_what_is_wrong() {
        use ParseServerAddrError as E;
        let host = |found: &str| E::Host { found: found.to_owned() };
        let colons = |found: &str| E::Colons { found: found.to_owned() };
        let brackets = |found: &str| E::Brackets { found: found.to_owned() };
        let port = |found: &str| E::Port { found: found.to_owned() };
        let long = "a".repeat(64);
        let cases = [
            ("", E::NoHost),
            (":4000", E::NoHost),
            ("me@example.net", E::Key(ParsePeerIdError::Length { found: 2 })),
            ("@example.net", E::Key(ParsePeerIdError::Length { found: 0 })),
            ("example net", host("example net")),
            ("http://example.net", port("//example.net")),
            ("bücher.example", host("bücher.example")),
            ("a..b", host("a..b")),
            ("-a.b", host("-a.b")),
            (&long, host(&long)),
            ("2001:db8::1", colons("2001:db8::1")),
            ("a:1:2", colons("a:1:2")),
            ("[::1", brackets("[::1")),
            ("[::1]4000", brackets("[::1]4000")),
            ("[127.0.0.1]:1", brackets("[127.0.0.1]:1")),
            ("a:", port("")),
            ("a:0", port("0")),
            ("a:+1", port("+1")),
            ("a:65536", port("65536")),
            ("[::1]:x", port("x")),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<ServerAddr>(), Err(expected), "{text}");
        }
    }

    proptest! {
        #[test]
        fn display_round_trips(
            key in prop::option::of(any::<[u8; 15]>().prop_map(PeerId::from_bytes)),
            host in prop_oneof![
                "[a-z0-9_]([a-z0-9-]{0,20}[a-z0-9])?(\\.[a-z0-9]{1,10}){0,3}\\.?",
                any::<std::net::Ipv4Addr>().prop_map(|address| address.to_string()),
                any::<Ipv6Addr>().prop_map(|address| address.to_string()),
            ],
            port in 1u16..,
        ) {
            let server = ServerAddr { key, host, port };
            prop_assert_eq!(server.to_string().parse(), Ok(server));
        }

        #[test]
        fn any_text_is_an_address_or_an_error(text in "\\PC*|[a-z0-9@:.\\[\\]-]{0,40}") {
            if let Ok(server) = text.parse::<ServerAddr>() {
                prop_assert_eq!(server.to_string().parse(), Ok(server));
            }
        }
    }
}

//! `http://ADDRESS[:PORT][/PATH]`, and nothing else: where a router says that its services are.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::limits;

/// A place that HTTP leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Url {
    /// The address: names are not looked up.
    pub at: SocketAddr,
    /// Begins with '/'; has the query, too.
    pub path: String,
}

impl Url {
    /// Reads a URL whose host is an IPv4 address. `None` is anything else, and what could break the
    /// request's lines.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = strip_scheme(text)?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)?),
            None => (authority, 80),
        };
        let ip: Ipv4Addr = host.parse().ok()?;
        is_clean(path).then(|| Self { at: (ip, port).into(), path: path.to_owned() })
    }

    /// Follows a reference in a document that was read from here. It may name another port, or
    /// another path; one that names another host leads nowhere.
    pub fn join(&self, reference: &str) -> Option<Self> {
        let joined = if strip_scheme(reference).is_some() {
            Self::parse(reference)?
        } else {
            // Routers write "ctl/x" for "/ctl/x", and describe themselves at "/": below that a
            // path has no meaning of its own.
            let path = format!("/{}", reference.trim_start_matches('/'));
            is_clean(&path).then_some(Self { at: self.at, path })?
        };
        (joined.host() == self.host()).then_some(joined)
    }

    /// The host's address.
    pub fn host(&self) -> IpAddr {
        self.at.ip()
    }
}

/// The scheme's name is "case-insensitive" (RFC 3986 §3.1).
fn strip_scheme(text: &str) -> Option<&str> {
    const SCHEME: &str = "http://";
    let scheme = text.get(..SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| &text[SCHEME.len()..])
}

/// Whether it can stand in a request's first line.
fn is_clean(path: &str) -> bool {
    path.len() <= limits::URL_PATH_BYTES && path.bytes().all(|byte| byte.is_ascii_graphic())
}

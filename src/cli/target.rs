//! What stands on the command line for a service, a target, a place to listen.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use super::exit::{self, Failure};
use crate::limits;

/// `PEER/SERVICE`: a service of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerService {
    /// A name or an id.
    pub(crate) peer: String,
    /// The name of the service.
    pub(crate) service: String,
}

impl FromStr for PeerService {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((peer, service)) if !peer.is_empty() => {
                check_service(service)?;
                Ok(Self { peer: peer.to_owned(), service: service.to_owned() })
            }
            _ => Err("write PEER/SERVICE, for example home/ssh".to_owned()),
        }
    }
}

impl fmt::Display for PeerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.peer, self.service)
    }
}

/// `NAME=TARGET`: something to share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shared {
    /// The name of the service.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) target: Target,
}

impl FromStr for Shared {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, target) = text
            .split_once('=')
            .ok_or("write NAME=HOST:PORT, or NAME=PORT for a port of this machine: ssh=22")?;
        check_service(name)?;
        Ok(Self { name: name.to_owned(), target: target.parse()? })
    }
}

/// Whether a text can be the name of a service.
pub(crate) fn check_service(name: &str) -> Result<(), String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() {
        return Err("the name of the service is missing".to_owned());
    }
    if name.len() > limits::SERVICE_NAME_BYTES {
        let most = limits::SERVICE_NAME_BYTES;
        return Err(format!("the name of a service has at most {most} characters"));
    }
    match name.bytes().all(good) {
        true => Ok(()),
        false => Err(format!("{name:?} is no name for a service: use a-z, 0-9, '.', '_', '-'")),
    }
}

/// `HOST:PORT`, or `PORT` of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    host: String,
    port: u16,
}

impl Target {
    /// A port of this machine.
    pub(crate) fn local(port: u16) -> Self {
        Self { host: Ipv4Addr::LOCALHOST.to_string(), port }
    }

    /// The address behind it. A name is looked up now, and IPv4 preferred: that is where most
    /// services of a `localhost` are.
    pub(crate) fn resolve(&self) -> Result<SocketAddr, Failure> {
        let found = (self.host.as_str(), self.port).to_socket_addrs();
        let mut found: Vec<_> =
            found.map_err(|error| Failure::new(exit::OTHER, format!("{self}: {error}")))?.collect();
        found.sort_by_key(SocketAddr::is_ipv6);
        let first = found.into_iter().next();
        first.ok_or_else(|| Failure::new(exit::OTHER, format!("{self}: the name has no address")))
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port),
            None => return parse_port(text).map(Self::local),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match (bare, host) {
            (None, "") => return Err(format!("{text:?}: the host is missing")),
            (None, host) if host.contains([':', '[', ']', '/']) => {
                return Err(format!("{text:?} is not HOST:PORT (IPv6 in brackets: [::1]:80)"));
            }
            _ => {}
        }
        Ok(Self { host: bare.unwrap_or(host).to_owned(), port: parse_port(port)? })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port != 0 && !text.starts_with('+') => Ok(port),
        _ => Err(format!("{text:?} is not a port from 1 to 65535")),
    }
}

/// `PORT` on this machine's loopback, or `IP:PORT`; port 0 lets the kernel choose.
pub(crate) fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
    }
    text.parse().map_err(|_| format!("{text:?} is neither PORT nor IP:PORT"))
}

/// `IP` or `IP:PORT`, for a rendezvous.
pub(crate) fn parse_bind(text: &str, default_port: u16) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(text);
    match bare.parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, default_port)),
        Err(_) => text.parse().map_err(|_| format!("{text:?} is not IP:PORT, such as [::]:4000")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_of_a_peer() {
        let target: PeerService = "home/ssh".parse().unwrap();
        assert_eq!((target.peer.as_str(), target.service.as_str()), ("home", "ssh"));
        for bad in ["home", "/ssh", "home/", "home/a b", "home/a/b"] {
            bad.parse::<PeerService>().unwrap_err();
        }
        format!("home/{}", "x".repeat(65)).parse::<PeerService>().unwrap_err();
    }

    #[test]
    fn a_port_alone_is_one_of_this_machine() {
        let shared: Shared = "ssh=22".parse().unwrap();
        assert_eq!(shared.target.to_string(), "127.0.0.1:22");
        assert_eq!(shared.target.resolve().unwrap(), "127.0.0.1:22".parse().unwrap());
    }

    #[test]
    fn a_target_is_a_host_and_a_port() {
        for good in ["192.0.2.1:80", "[::1]:80", "localhost:80"] {
            assert_eq!(good.parse::<Target>().unwrap().to_string(), good);
        }
        assert!("localhost:80".parse::<Target>().unwrap().resolve().unwrap().ip().is_loopback());
        for bad in ["", "0", "65536", "+1", "a:", ":80", "::1:80", "a:0", "http://a:80"] {
            bad.parse::<Target>().unwrap_err();
        }
    }

    #[test]
    fn a_share_has_a_name() {
        for bad in ["ssh", "=22", "a b=22", "ssh="] {
            bad.parse::<Shared>().unwrap_err();
        }
    }

    #[test]
    fn where_to_listen() {
        let listen = |text| parse_listen(text).map(|at| at.to_string());
        assert_eq!(listen("2222").unwrap(), "127.0.0.1:2222");
        assert_eq!(listen("0").unwrap(), "127.0.0.1:0");
        assert_eq!(listen("[::1]:0").unwrap(), "[::1]:0");
        listen("localhost:22").unwrap_err();
        listen("65536").unwrap_err();
    }

    #[test]
    fn where_a_rendezvous_binds() {
        let bind = |text| parse_bind(text, 4000).map(|at| at.to_string());
        assert_eq!(bind("0.0.0.0").unwrap(), "0.0.0.0:4000");
        assert_eq!(bind("[::]").unwrap(), "[::]:4000");
        assert_eq!(bind("::").unwrap(), "[::]:4000");
        assert_eq!(bind("[::]:1").unwrap(), "[::]:1");
        bind("4000").unwrap_err();
    }
}

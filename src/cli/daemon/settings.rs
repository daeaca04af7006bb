//! What holds for one run of a rendezvous: the command line before the environment before the file.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::super::exit::{self, Failure};
use super::super::home::{Environment, base};
use super::super::target::parse_bind;
use super::super::toml_file;
use super::args::Args;
use super::rate::Rate;
use crate::identity::{DEFAULT_PORT, KeyFileError, SecretKey, ServerAddr, load_or_create};
use crate::limits;

/// The ports on which STUN is answered, when none are named.
const HOLE_PORTS: [u16; 2] = [8000, 8001];

/// Where a service of the system keeps its state.
const SYSTEM_STATE: &str = "/var/lib/gimlet";

/// The settings of one run.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) key: Arc<SecretKey>,
    /// The directory that the key is in.
    pub(crate) state: PathBuf,
    pub(crate) main: Vec<SocketAddr>,
    pub(crate) holes: Vec<SocketAddr>,
    /// By which name peers reach this machine.
    pub(crate) public: Option<String>,
    pub(crate) text: String,
    /// Whether data may flow through this rendezvous.
    pub(crate) relay: bool,
    /// Bytes that may flow each second, for one pair.
    pub(crate) relay_rate: u64,
    /// … and in all.
    pub(crate) relay_total_rate: u64,
    /// Whether peers may have themselves dialled back.
    pub(crate) dial_back: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    main: Vec<Main>,
    hole: Vec<SocketAddr>,
    public: Option<String>,
    text: Option<String>,
    relay: Option<bool>,
    #[serde(rename = "relay-rate")]
    relay_rate: Option<Rate>,
    #[serde(rename = "relay-total-rate")]
    relay_total_rate: Option<Rate>,
    #[serde(rename = "dial-back")]
    dial_back: Option<bool>,
    state: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Main(SocketAddr);

impl TryFrom<String> for Main {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parse_bind(&text, DEFAULT_PORT).map(Self)
    }
}

impl Settings {
    /// Puts them together, and makes the key at the first start.
    pub(crate) fn load(args: &Args, environment: Environment<'_>) -> Result<Self, Failure> {
        let file = match &args.config {
            None => File::default(),
            Some(path) => toml_file::load(path)?
                .ok_or_else(|| Failure::usage(format!("there is no {}", path.display())))?,
        };
        let main = first(&args.main, &file.main.iter().map(|main| main.0).collect::<Vec<_>>())
            .unwrap_or_else(everywhere);
        let holes = first(&args.hole, &file.hole).unwrap_or_else(|| holes_beside(&main));
        check_holes(&holes)?;
        let public = args.public.clone().or(file.public).filter(|host| !host.is_empty());
        if let Some(host) = &public {
            check_host(host)?;
        }
        let relay = !args.no_relay && file.relay.unwrap_or(true);
        let or = |rate: Option<Rate>, usual| rate.map_or(usual, |rate| rate.0);
        let relay_rate = args.relay_rate.or(file.relay_rate);
        let relay_total_rate = args.relay_total_rate.or(file.relay_total_rate);
        let dial_back = !args.no_dial_back && file.dial_back.unwrap_or(true);
        let text = args.text.clone().or(file.text).unwrap_or_default();
        if text.len() > limits::TEXT_BYTES {
            let most = limits::TEXT_BYTES;
            return Err(Failure::usage(format!("the welcome has more than {most} bytes")));
        }
        let named = args.state.clone().filter(|state| !state.as_os_str().is_empty());
        let (state, key) = key(named.or(file.state), environment)?;
        Ok(Self {
            key: Arc::new(key),
            state,
            main,
            holes,
            public,
            text,
            relay,
            dial_back,
            relay_rate: or(relay_rate, limits::RELAY_BYTES_PER_SECOND),
            relay_total_rate: or(relay_total_rate, limits::RELAY_TOTAL_BYTES_PER_SECOND),
        })
    }
}

fn first(args: &[SocketAddr], file: &[SocketAddr]) -> Option<Vec<SocketAddr>> {
    [args, file].into_iter().find(|list| !list.is_empty()).map(<[_]>::to_vec)
}

/// All addresses of this machine, in the families that it has.
fn everywhere() -> Vec<SocketAddr> {
    let mut all = vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT))];
    let six = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    match UdpSocket::bind(six) {
        Ok(_) => all.push(SocketAddr::from((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT))),
        Err(error) => log::info!("no IPv6 here: {error}"),
    }
    all
}

/// The usual ports of the same addresses; ports of the kernel's choice where that is wanted of the
/// main port too.
fn holes_beside(main: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut holes = Vec::new();
    let mut seen: Vec<IpAddr> = Vec::new();
    for address in main {
        if !seen.contains(&address.ip()) {
            seen.push(address.ip());
            let ports = if address.port() == 0 { [0, 0] } else { HOLE_PORTS };
            holes.extend(ports.map(|port| SocketAddr::new(address.ip(), port)));
        }
    }
    holes.truncate(limits::HOLE_ENDPOINTS);
    holes
}

fn check_holes(holes: &[SocketAddr]) -> Result<(), Failure> {
    if holes.len() > limits::HOLE_ENDPOINTS {
        let most = limits::HOLE_ENDPOINTS;
        return Err(Failure::usage(format!("--hole: at most {most} addresses")));
    }
    for four in [true, false] {
        if holes.iter().filter(|hole| hole.is_ipv4() == four).count() == 1 {
            log::warn!("with one hole port alone, peers can't tell how their NATs map: name two");
        }
    }
    Ok(())
}

fn check_host(host: &str) -> Result<(), Failure> {
    let bracketed = match host.parse::<Ipv6Addr>() {
        Ok(ip) => format!("[{ip}]:1"),
        Err(_) => format!("{host}:1"),
    };
    match bracketed.parse::<ServerAddr>() {
        Ok(ServerAddr { key: None, .. }) => Ok(()),
        Ok(_) => Err(Failure::usage("--public is a host alone, without a key")),
        Err(error) => Err(Failure::usage(format!("--public is a host alone: {error}"))),
    }
}

/// The key in the named directory, or where services keep their state, or, for those who may not
/// write there, where users do.
fn key(
    named: Option<PathBuf>,
    environment: Environment<'_>,
) -> Result<(PathBuf, SecretKey), Failure> {
    let failure = |error: KeyFileError| Failure::new(exit::OTHER, error.to_string());
    let load = |state: &Path| load_or_create(&state.join("key"));
    if let Some(state) = named {
        let key = load(&state).map_err(failure)?;
        return Ok((state, key));
    }
    let system = PathBuf::from(SYSTEM_STATE);
    match (load(&system), base(environment, "XDG_STATE_HOME", ".local/state")) {
        (Ok(key), _) => Ok((system, key)),
        (Err(KeyFileError::Io { source, .. }), Some(base)) if is_forbidden(&source) => {
            let state = base.join("gimlet");
            let key = load(&state).map_err(failure)?;
            Ok((state, key))
        }
        (Err(error), _) => Err(failure(error).hint("to keep the key elsewhere: --state DIR")),
    }
}

fn is_forbidden(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn load(file: &str, arguments: &[&str]) -> Result<Settings, Failure> {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("gimletd.toml");
        std::fs::write(&path, file).unwrap();
        let state = home.path().join("state");
        let line = ["gimletd", "--config", path.to_str().unwrap(), "--state"]
            .into_iter()
            .chain([state.to_str().unwrap()])
            .chain(arguments.iter().copied());
        Settings::load(&Args::try_parse_from(line).unwrap(), &|_| None)
    }

    fn texts(addresses: &[SocketAddr]) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_usual_ports_are_the_default() {
        let settings = load("", &[]).unwrap();
        assert_eq!(settings.main[0].to_string(), "0.0.0.0:4000");
        assert_eq!(texts(&settings.holes[..2]), ["0.0.0.0:8000", "0.0.0.0:8001"]);
        assert_eq!(settings.holes.len(), 2 * settings.main.len());
    }

    #[test]
    fn the_command_line_comes_before_the_file() {
        let file = "main = [\"127.0.0.1\"]\nhole = [\"127.0.0.1:5\", \"127.0.0.1:6\"]\n\
                    public = \"a.example\"\ntext = \"hello\"\n";
        let settings = load(file, &[]).unwrap();
        assert_eq!(texts(&settings.main), ["127.0.0.1:4000"]);
        assert_eq!(texts(&settings.holes), ["127.0.0.1:5", "127.0.0.1:6"]);
        assert_eq!(settings.public.as_deref(), Some("a.example"));
        let line = ["--main", "127.0.0.2:0", "--public", "b.example", "--text", "hi"];
        let settings = load(file, &line).unwrap();
        assert_eq!(texts(&settings.main), ["127.0.0.2:0"]);
        assert_eq!(settings.public.as_deref(), Some("b.example"));
        assert_eq!(settings.text, "hi");
    }

    #[test]
    fn the_relays_rates_come_from_the_line_the_file_or_the_limits() {
        let rates = |settings: Settings| (settings.relay_rate, settings.relay_total_rate);
        let usual = (limits::RELAY_BYTES_PER_SECOND, limits::RELAY_TOTAL_BYTES_PER_SECOND);
        assert_eq!(rates(load("", &[]).unwrap()), usual);
        let file = "relay-rate = \"2M\"\nrelay-total-rate = \"1G\"\n";
        assert_eq!(rates(load(file, &[]).unwrap()), (2 << 20, 1 << 30));
        let settings = load(file, &["--relay-rate", "500K"]).unwrap();
        assert_eq!(rates(settings), (500 << 10, 1 << 30));
    }

    #[test]
    fn ports_of_the_kernels_choice() {
        let settings = load("", &["--main", "127.0.0.1:0"]).unwrap();
        assert_eq!(texts(&settings.holes), ["127.0.0.1:0", "127.0.0.1:0"]);
    }

    #[test]
    fn mistakes_are_refused() {
        let long = format!("text = \"{}\"", "x".repeat(limits::TEXT_BYTES + 1));
        for file in
            ["mian = []", "main = [\"x\"]", "hole = [\"127.0.0.1\"]", "relay-rate = \"0\"", &long]
        {
            assert_eq!(load(file, &[]).unwrap_err().code, exit::USAGE, "{file}");
        }
        for host in ["a b", "a:1", "KEY@a", "http://a"] {
            assert_eq!(load("", &["--public", host]).unwrap_err().code, exit::USAGE, "{host}");
        }
        load("", &["--public", "2001:db8::1"]).unwrap();
    }
}

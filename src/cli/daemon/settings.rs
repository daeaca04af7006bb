//! What holds for one run of a rendezvous: the command line before the environment before the file.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use log::LevelFilter;

use super::super::exit::{self, Failure};
use super::super::home::{Environment, base};
use super::super::logging;
use super::args::Args;
use super::bounds::BOUNDS;
use super::file::{File, SETTINGS, check_holes};
use crate::identity::{DEFAULT_PORT, KeyFileError, PeerId, SecretKey, ServerAddr, load_or_create};
use crate::limits;
use crate::net::rendezvous::{Limits, Options};

/// The ports on which STUN is answered, when none are named.
const HOLE_PORTS: [u16; 2] = [8000, 8001];

/// Where a service of the system keeps its state.
const SYSTEM_STATE: &str = "/var/lib/gimlet";

/// How long what is in progress may take to end: a punch of three rounds, in most cases.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// The settings of one run.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) main: Vec<SocketAddr>,
    pub(crate) holes: Vec<SocketAddr>,
    /// Where operators look.
    pub(crate) admin: Option<SocketAddr>,
    /// By which name peers reach this machine.
    pub(crate) public: Option<String>,
    pub(crate) text: String,
    /// The directory that the key is in, if one is named.
    pub(crate) state: Option<PathBuf>,
    /// Whether data may flow through this rendezvous.
    pub(crate) relay: bool,
    /// Whether peers may have themselves dialled back.
    pub(crate) dial_back: bool,
    /// How long what is in progress may take to end once it should stop.
    pub(crate) drain_time: Duration,
    /// Where peers go then.
    pub(crate) drain_to: Option<ServerAddr>,
    /// What is logged.
    pub(crate) log: LevelFilter,
    pub(crate) limits: Limits,
}

/// A setting that differs from another one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) name: String,
    /// As the file has it; "-" if it is not set.
    pub(crate) old: String,
    pub(crate) new: String,
    pub(crate) needs_restart: bool,
}

impl Settings {
    /// Puts them together. Nothing is made or bound.
    pub(crate) fn load(args: &Args) -> Result<Self, Failure> {
        let file = args.config.as_deref().map_or(Ok(File::default()), File::load)?;
        let main = first(&args.main, &file.main).unwrap_or_else(everywhere);
        let holes = first(&args.hole, &file.hole).unwrap_or_else(|| holes_beside(&main));
        check_holes(&holes).map_err(|error| Failure::usage(format!("--hole: {error}")))?;
        let public = args.public.clone().or(file.public).filter(|host| !host.is_empty());
        let named = args.state.clone().filter(|state| !state.as_os_str().is_empty());
        let mut limits = file.limits;
        if let Some(rate) = args.relay_rate {
            limits.relay_bytes_per_second = rate.0;
        }
        if let Some(rate) = args.relay_total_rate {
            limits.relay_total_bytes_per_second = rate.0;
        }
        for chosen in &args.limit {
            chosen.apply(&mut limits);
        }
        Ok(Self {
            main,
            holes,
            admin: args.admin.or(file.admin),
            public,
            text: args.text.clone().or(file.text).unwrap_or_default(),
            state: named.or(file.state),
            relay: !args.no_relay && file.relay.unwrap_or(true),
            dial_back: !args.no_dial_back && file.dial_back.unwrap_or(true),
            drain_time: args.drain_time.or(file.drain_time).map_or(DRAIN_TIME, |time| time.0),
            drain_to: args.drain_to.clone().or(file.drain_to),
            log: match args.verbose {
                0 => file.log.unwrap_or(LevelFilter::Warn),
                verbose => logging::level(verbose),
            },
            limits,
        })
    }

    /// Peers that are sent to us by ourselves would come back at once.
    pub(crate) fn check_drain_to(&self, own: PeerId) -> Result<(), Failure> {
        match &self.drain_to {
            Some(to) if to.key == Some(own) => {
                Err(Failure::usage("drain-to names this very rendezvous, by its own key"))
            }
            _ => Ok(()),
        }
    }

    /// What differs from these settings in `new`.
    pub(crate) fn changes(&self, new: &Self) -> Vec<Change> {
        let shown = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let settings = SETTINGS.iter().map(|setting| Change {
            name: setting.name.to_owned(),
            old: shown((setting.show)(self)),
            new: shown((setting.show)(new)),
            needs_restart: setting.needs_restart,
        });
        let bounds = BOUNDS.iter().map(|bound| Change {
            name: bound.name(),
            old: bound.show(&self.limits),
            new: bound.show(&new.limits),
            needs_restart: false,
        });
        settings.chain(bounds).filter(|change| change.old != change.new).collect()
    }

    /// Becomes `new`, but for what holds from a start to an end.
    pub(crate) fn take_over(&mut self, new: Self) {
        let Self { main, holes, admin, public, state, .. } = std::mem::replace(self, new);
        (self.main, self.holes, self.admin) = (main, holes, admin);
        (self.public, self.state) = (public, state);
    }

    /// What is sound and yet no good idea.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for four in [true, false] {
            if self.holes.iter().filter(|hole| hole.is_ipv4() == four).count() == 1 {
                let warning =
                    "with one hole port alone, peers can't tell how their NATs map: name two";
                warnings.push(warning.to_owned());
            }
        }
        warnings
    }

    /// The key and its directory: the named one, or where services keep their state, or, for those who may
    /// not write there, where users do. Made at the first start.
    pub(crate) fn key(
        &self,
        environment: Environment<'_>,
    ) -> Result<(PathBuf, SecretKey), Failure> {
        let failure = |error: KeyFileError| Failure::new(exit::OTHER, error.to_string());
        let load = |state: &Path| load_or_create(&state.join("key"));
        if let Some(state) = &self.state {
            return Ok((state.clone(), load(state).map_err(failure)?));
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

    /// A rendezvous with these settings.
    pub(crate) fn options(&self, key: Arc<SecretKey>) -> Options {
        Options {
            key,
            main: self.main.clone(),
            holes: self.holes.clone(),
            text: self.text.clone(),
            relay: self.relay,
            dial_back: self.dial_back,
            limits: self.limits.clone(),
        }
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

fn is_forbidden(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
}

#[cfg(test)]
mod tests {
    use super::super::file::effective;
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn load(file: &str, arguments: &[&str]) -> Result<Settings, String> {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("gimletd.toml");
        std::fs::write(&path, file).unwrap();
        let line = ["gimletd", "--config", path.to_str().unwrap()];
        let line = Line::try_parse_from(line.into_iter().chain(arguments.iter().copied()));
        let line = line.map_err(|error| error.to_string())?;
        Settings::load(&line.args).map_err(|failure| {
            assert_eq!(failure.code, exit::USAGE);
            failure.error
        })
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
                    public = \"a.example\"\ntext = \"hello\"\nstate = \"/a\"\n\
                    [limits]\nrooms = 7\nrelays = 8\n";
        let settings = load(file, &[]).unwrap();
        assert_eq!(texts(&settings.main), ["127.0.0.1:4000"]);
        assert_eq!(texts(&settings.holes), ["127.0.0.1:5", "127.0.0.1:6"]);
        assert_eq!(settings.public.as_deref(), Some("a.example"));
        assert_eq!(settings.state.as_deref(), Some(Path::new("/a")));
        let line = ["--main", "127.0.0.2:0", "--public", "b.example", "--text", "hi"];
        let line = [&line[..], &["--limit", "rooms=9", "--state", "/b"]].concat();
        let settings = load(file, &line).unwrap();
        assert_eq!(texts(&settings.main), ["127.0.0.2:0"]);
        assert_eq!(settings.public.as_deref(), Some("b.example"));
        assert_eq!(settings.text, "hi");
        assert_eq!(settings.state.as_deref(), Some(Path::new("/b")));
        assert_eq!((settings.limits.rooms, settings.limits.relays), (9, 8));
    }

    #[test]
    fn the_relays_rates_come_from_the_line_the_file_or_the_limits() {
        let rates = |settings: Settings| {
            let limits = settings.limits;
            (limits.relay_bytes_per_second, limits.relay_total_bytes_per_second)
        };
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
            load(file, &[]).unwrap_err();
        }
        for host in ["a b", "a:1", "KEY@a", "http://a"] {
            load("", &["--public", host]).unwrap_err();
        }
        load("", &["--public", "2001:db8::1"]).unwrap();
    }

    #[test]
    fn what_differs_is_told_and_taken_over_unless_it_needs_a_restart() {
        let file = |port: u16, text: &str, rooms: u32| {
            format!("main = [\"[::1]:{port}\"]\ntext = \"{text}\"\n[limits]\nrooms = {rooms}\n")
        };
        let mut old = load(&file(4000, "a", 5), &[]).unwrap();
        assert_eq!(old.changes(&old), []);
        let new = load(&file(5000, "b", 6), &["--public", "x.example"]).unwrap();
        let changes = old.changes(&new);
        let told = |needs_restart| {
            let of_kind = changes.iter().filter(move |it| it.needs_restart == needs_restart);
            of_kind
                .map(|it| (it.name.as_str(), it.old.as_str(), it.new.as_str()))
                .collect::<Vec<_>>()
        };
        assert_eq!(told(false), [("text", "\"a\"", "\"b\""), ("rooms", "5", "6")]);
        let main = ("main", "[\"[::1]:4000\"]", "[\"[::1]:5000\"]");
        assert_eq!(told(true), [main, ("public", "-", "\"x.example\"")]);
        old.take_over(new.clone());
        assert_eq!((old.text.as_str(), old.limits.rooms), ("b", 6));
        let left = old.changes(&new);
        assert!(left.len() == 2 && left.iter().all(|change| change.needs_restart));
    }

    #[test]
    fn how_it_stops_and_what_it_logs() {
        let settings = load("", &[]).unwrap();
        assert_eq!((settings.drain_time, settings.log), (DRAIN_TIME, LevelFilter::Warn));
        let key = PeerId::from_bytes([7; 15]);
        let file =
            format!("drain-time = \"3s\"\ndrain-to = \"{key}@a.example\"\nlog = \"debug\"\n");
        let settings = load(&file, &[]).unwrap();
        assert_eq!((settings.drain_time.as_secs(), settings.log), (3, LevelFilter::Debug));
        settings.check_drain_to(key).unwrap_err();
        settings.check_drain_to(PeerId::from_bytes([8; 15])).unwrap();
        let line = ["--drain-time", "0s", "-v", "--drain-to", &format!("{key}@b.example:7")];
        let settings = load(&file, &line).unwrap();
        assert_eq!((settings.drain_time.as_secs(), settings.log), (0, LevelFilter::Info));
        assert_eq!(settings.drain_to.unwrap().host, "b.example");
        for wrong in ["drain-to = \"a.example\"", "log = \"loud\"", "drain-time = \"2h\""] {
            load(wrong, &[]).unwrap_err();
        }
    }

    /// What is printed sets what it shows.
    #[test]
    fn the_effective_settings_are_a_settings_file() {
        let line =
            ["--main", "[::1]:7", "--no-relay", "--limit", "hole-time=1500ms", "--text", "\"\\"];
        let line = [&line[..], &["--public", "a.example", "--state", "/x"]].concat();
        let shown = effective(&load("", &line).unwrap());
        let again = load(&shown, &[]).unwrap();
        assert_eq!(effective(&again), shown);
        assert_eq!((again.relay, again.limits.hole_time.as_millis()), (false, 1500));
    }

    #[test]
    fn one_hole_port_is_warned_of() {
        assert_eq!(load("hole = [\"127.0.0.1:5\"]", &[]).unwrap().warnings().len(), 1);
        assert!(load("", &[]).unwrap().warnings().is_empty());
    }
}

//! The settings file of `gimletd`: what may stand in it, what each means, and where a mistake is.
//!
//! [`SETTINGS`] and [`BOUNDS`] are the one definition: the file is read by them, `gimletd check` prints by
//! them, and the commented default file is made of them.

use std::fmt::Write as _;
use std::net::{Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use log::LevelFilter;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::exit::{self, Failure};
use super::super::nearest::nearest;
use super::super::target::parse_bind;
use super::super::toml_file::place_of;
use super::bounds::{BOUNDS, Bound, Unit};
use super::settings::Settings;
use super::units::{Rate, Time};
use crate::identity::{DEFAULT_PORT, ServerAddr};
use crate::limits;
use crate::net::rendezvous::Limits;

/// The table of the bounds.
const LIMITS: &str = "limits";

const LONGEST_DRAIN: Duration = Duration::from_secs(3600);

/// What a file says. What is left out is `None`, and of the limits the default.
#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    pub(crate) main: Vec<SocketAddr>,
    pub(crate) hole: Vec<SocketAddr>,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) public: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) state: Option<PathBuf>,
    pub(crate) relay: Option<bool>,
    pub(crate) dial_back: Option<bool>,
    pub(crate) drain_time: Option<Time>,
    pub(crate) drain_to: Option<ServerAddr>,
    pub(crate) log: Option<LevelFilter>,
    pub(crate) limits: Limits,
}

type Value<'a> = &'a Spanned<DeValue<'a>>;

/// One setting outside of the limits.
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    /// For a comment in the file.
    about: &'static str,
    /// The default, or an example where there is none, as the file has it.
    example: &'static str,
    /// Whether it holds from a start to an end.
    pub(crate) needs_restart: bool,
    read: fn(&mut File, Value<'_>) -> Result<(), Mistake>,
    /// Its value as the file has it, if it is set.
    pub(crate) show: fn(&Settings) -> Option<String>,
}

/// All of them, in the order of the file.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting {
        name: "main",
        about: "Where peers log in. An address alone means port 4000.",
        example: "[\"0.0.0.0:4000\", \"[::]:4000\"]",
        needs_restart: true,
        read: |file, value| {
            let main = |text: &str| parse_bind(text, DEFAULT_PORT);
            addresses(value, main).map(|main| file.main = main)
        },
        show: |settings| Some(list(&settings.main)),
    },
    Setting {
        name: "hole",
        about: "Where STUN is answered: two ports of each address, or peers can't tell how their NATs map.",
        example: "[\"0.0.0.0:8000\", \"0.0.0.0:8001\", \"[::]:8000\", \"[::]:8001\"]",
        needs_restart: true,
        read: |file, value| {
            file.hole = addresses(value, endpoint)?;
            check_holes(&file.hole).map_err(|text| Mistake { at: value.span(), text })
        },
        show: |settings| Some(list(&settings.holes)),
    },
    Setting {
        name: "admin",
        about: "A port for operators: a status page, and /metrics. It has no password.",
        example: "\"127.0.0.1:9400\"",
        needs_restart: true,
        read: |file, value| checked(value, endpoint).map(|admin| file.admin = Some(admin)),
        show: |settings| settings.admin.map(|admin| quoted(&admin.to_string())),
    },
    Setting {
        name: "public",
        about: "The name or address by which peers reach this machine, without a port.",
        example: "\"rendezvous.example.net\"",
        needs_restart: true,
        read: |file, value| checked(value, host).map(|host| file.public = Some(host)),
        show: |settings| settings.public.as_deref().map(quoted),
    },
    Setting {
        name: "text",
        about: "Words for every peer that logs in, at most 512 bytes.",
        example: "\"\"",
        needs_restart: false,
        read: |file, value| checked(value, welcome).map(|text| file.text = Some(text)),
        show: |settings| Some(quoted(&settings.text)),
    },
    Setting {
        name: "state",
        about: "The directory of the key. Whoever may not write in this one gets ~/.local/state/gimlet.",
        example: "\"/var/lib/gimlet\"",
        needs_restart: true,
        read: |file, value| text(value).map(|path| file.state = Some(path.into())),
        show: |settings| settings.state.as_ref().map(|path| quoted(&path.display().to_string())),
    },
    Setting {
        name: "relay",
        about: "Whether data is carried for two peers that found no way to each other.",
        example: "true",
        needs_restart: false,
        read: |file, value| flag(value).map(|on| file.relay = Some(on)),
        show: |settings| Some(settings.relay.to_string()),
    },
    Setting {
        name: "relay-rate",
        about: "Bytes that a relayed pair may have each second, both ways together.",
        example: "\"8M\"",
        needs_restart: false,
        read: |file, value| {
            parsed(value).map(|Rate(bytes)| file.limits.relay_bytes_per_second = bytes)
        },
        show: |settings| Some(rate(settings.limits.relay_bytes_per_second)),
    },
    Setting {
        name: "relay-total-rate",
        about: "Bytes that all relayed pairs may have each second.",
        example: "\"64M\"",
        needs_restart: false,
        read: |file, value| {
            parsed(value).map(|Rate(bytes)| file.limits.relay_total_bytes_per_second = bytes)
        },
        show: |settings| Some(rate(settings.limits.relay_total_bytes_per_second)),
    },
    Setting {
        name: "dial-back",
        about: "Whether peers are dialled back that want to know what their NATs let in.",
        example: "true",
        needs_restart: false,
        read: |file, value| flag(value).map(|on| file.dial_back = Some(on)),
        show: |settings| Some(settings.dial_back.to_string()),
    },
    Setting {
        name: "drain-time",
        about: "After SIGTERM: how long what is in progress may take to end, at most 1h.",
        example: "\"10s\"",
        needs_restart: false,
        read: |file, value| checked(value, drain_time).map(|time| file.drain_time = Some(time)),
        show: |settings| Some(format!("\"{}\"", Time(settings.drain_time))),
    },
    Setting {
        name: "drain-to",
        about: "After SIGTERM: the rendezvous to which peers go meanwhile, with its key.",
        example: "\"KEY@other.example.net:4000\"",
        needs_restart: false,
        read: |file, value| checked(value, other_server).map(|to| file.drain_to = Some(to)),
        show: |settings| settings.drain_to.as_ref().map(|to| format!("\"{to}\"")),
    },
    Setting {
        name: "log",
        about: "What is logged: off, error, warn, info, debug or trace. From info on with ids and addresses.",
        example: "\"warn\"",
        needs_restart: false,
        read: |file, value| checked(value, log_level).map(|level| file.log = Some(level)),
        show: |settings| Some(format!("\"{}\"", settings.log).to_lowercase()),
    },
];

// ---- reading -----------------------------------------------------------------------------------------

/// What is wrong, and with which bytes of the file.
#[derive(Debug)]
struct Mistake {
    at: Range<usize>,
    text: String,
}

impl File {
    /// Reads a file.
    ///
    /// # Errors
    /// All of its mistakes, each with its line and column.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Failure::usage(format!("there is no {}", path.display()))
            }
            _ => Failure::new(exit::OTHER, format!("cannot read {}: {error}", path.display())),
        })?;
        Self::parse(&text).map_err(|mistakes| Failure::usage(told(path, &text, mistakes)))
    }

    fn parse(text: &str) -> Result<Self, Vec<Mistake>> {
        let (document, errors) = DeTable::parse_recoverable(text);
        let mut mistakes: Vec<_> = errors
            .iter()
            .map(|error| Mistake {
                at: error.span().unwrap_or_default(),
                text: error.message().trim_end().replace('\n', ", "),
            })
            .collect();
        // What comes of a broken line is no mistake of its own.
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let mut file = Self::default();
        for (key, value) in document.get_ref() {
            let result = match SETTINGS.iter().find(|setting| setting.name == key.get_ref()) {
                Some(setting) => (setting.read)(&mut file, value),
                None if key.get_ref() == LIMITS => {
                    file.read_limits(value, &mut mistakes).map_err(|wrong| *wrong)
                }
                None => Err(Mistake { at: key.span(), text: unknown_setting(key.get_ref()) }),
            };
            mistakes.extend(result.err());
        }
        if mistakes.is_empty() { Ok(file) } else { Err(mistakes) }
    }

    fn read_limits(
        &mut self,
        value: Value<'_>,
        mistakes: &mut Vec<Mistake>,
    ) -> Result<(), Box<Mistake>> {
        let table = value
            .get_ref()
            .as_table()
            .ok_or_else(|| Box::new(expected(value, "the table [limits]")))?;
        for (key, value) in table {
            let result = match Bound::find(key.get_ref()) {
                Some(bound) => read_bound(bound, &mut self.limits, value),
                None => Err(Mistake { at: key.span(), text: unknown_limit(key.get_ref()) }),
            };
            mistakes.extend(result.err());
        }
        Ok(())
    }
}

fn told(path: &Path, text: &str, mut mistakes: Vec<Mistake>) -> String {
    mistakes.sort_by_key(|mistake| mistake.at.start);
    let told = mistakes.iter().map(|mistake| {
        let (line, column) = place_of(text, mistake.at.start);
        format!("{}:{line}:{column}: {}", path.display(), mistake.text)
    });
    told.collect::<Vec<_>>().join("\n")
}

fn unknown_setting(name: &str) -> String {
    if Bound::find(name).is_some() {
        return format!("{name} belongs under [limits]");
    }
    let known = SETTINGS.iter().map(|setting| setting.name).chain([LIMITS]);
    format!("there is no setting {name:?}{}", nearest(name, known))
}

fn unknown_limit(name: &str) -> String {
    if SETTINGS.iter().any(|setting| setting.name == name) {
        return format!("{name} is no limit: it belongs above [limits]");
    }
    let names: Vec<_> = BOUNDS.iter().map(Bound::name).collect();
    format!("there is no limit {name:?}{}", nearest(name, names.iter().map(String::as_str)))
}

fn read_bound(bound: &Bound, limits: &mut Limits, value: Value<'_>) -> Result<(), Mistake> {
    let mistake = |text| Mistake { at: value.span(), text };
    let number = match (bound.unit, value.get_ref()) {
        (Unit::Count, DeValue::Integer(number)) => {
            u64::from_str_radix(number.as_str(), number.radix())
                .map_err(|_| mistake(format!("{number} is out of its range, {}", bound.range())))?
        }
        (Unit::Count, _) => return Err(expected(value, "a number")),
        (Unit::Bytes, _) => bound.unit.parse(text(value)?).map_err(mistake)?,
        (Unit::Time, _) => bound.unit.parse(text(value)?).map_err(mistake)?,
    };
    bound.set(limits, number).map_err(mistake)
}

fn expected(value: Value<'_>, what: &str) -> Mistake {
    let found = value.get_ref().type_str();
    Mistake { at: value.span(), text: format!("expected {what}, and found: {found}") }
}

fn text<'a>(value: Value<'a>) -> Result<&'a str, Mistake> {
    value.get_ref().as_str().ok_or_else(|| expected(value, "a text in quotes"))
}

fn flag(value: Value<'_>) -> Result<bool, Mistake> {
    value.get_ref().as_bool().ok_or_else(|| expected(value, "true or false"))
}

fn checked<T>(value: Value<'_>, check: fn(&str) -> Result<T, String>) -> Result<T, Mistake> {
    check(text(value)?).map_err(|text| Mistake { at: value.span(), text })
}

fn parsed<T: FromStr<Err: ToString>>(value: Value<'_>) -> Result<T, Mistake> {
    checked(value, |text| text.parse().map_err(|error: T::Err| error.to_string()))
}

fn addresses(
    value: Value<'_>,
    parse: fn(&str) -> Result<SocketAddr, String>,
) -> Result<Vec<SocketAddr>, Mistake> {
    let array = value.get_ref().as_array();
    let array = array.ok_or_else(|| expected(value, "a list, such as [\"0.0.0.0:4000\"]"))?;
    array.iter().map(|address| checked(address, parse)).collect()
}

// ---- checks that the command line needs, too -----------------------------------------------------------

fn endpoint(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not IP:PORT, such as [::]:8000"))
}

/// A host as peers reach it.
pub(crate) fn host(text: &str) -> Result<String, String> {
    let bracketed = match text.parse::<Ipv6Addr>() {
        Ok(ip) => format!("[{ip}]:1"),
        Err(_) => format!("{text}:1"),
    };
    match bracketed.parse::<ServerAddr>() {
        // An empty one is one that is not set.
        _ if text.is_empty() => Ok(String::new()),
        Ok(ServerAddr { key: None, .. }) => Ok(text.to_owned()),
        Ok(_) => Err("it must be a host alone, without a key".to_owned()),
        Err(error) => Err(format!("it must be a host alone: {error}")),
    }
}

/// Words for a login.
pub(crate) fn welcome(text: &str) -> Result<String, String> {
    match text.len() <= limits::TEXT_BYTES {
        true => Ok(text.to_owned()),
        false => Err(format!("the welcome has more than {} bytes", limits::TEXT_BYTES)),
    }
}

/// Not more hole ports than a welcome can name.
pub(crate) fn check_holes(holes: &[SocketAddr]) -> Result<(), String> {
    match holes.len() <= limits::HOLE_ENDPOINTS {
        true => Ok(()),
        false => Err(format!("at most {} hole ports can be announced", limits::HOLE_ENDPOINTS)),
    }
}

/// How long a drain may take.
pub(crate) fn drain_time(text: &str) -> Result<Time, String> {
    let time: Time = text.parse()?;
    match time.0 <= LONGEST_DRAIN {
        true => Ok(time),
        false => Err(format!("{time} is out of its range, 0s to {}", Time(LONGEST_DRAIN))),
    }
}

/// Another rendezvous, which peers recognise by its key.
pub(crate) fn other_server(text: &str) -> Result<ServerAddr, String> {
    let server: ServerAddr = text.parse().map_err(|error| format!("{error}"))?;
    match server.key {
        Some(_) => Ok(server),
        None => Err("it must be KEY@HOST:PORT: peers go nowhere without a key".to_owned()),
    }
}

fn log_level(text: &str) -> Result<LevelFilter, String> {
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    match levels.contains(&text) {
        true => Ok(text.parse().expect("they are the names of all levels")),
        false => Err(format!("{text:?} is none of {}", levels.join(", "))),
    }
}

// ---- writing -----------------------------------------------------------------------------------------

/// The settings that hold, as a file that would set them.
pub(crate) fn effective(settings: &Settings) -> String {
    let mut file = String::new();
    for setting in SETTINGS {
        if let Some(value) = (setting.show)(settings) {
            line(&mut file, &format!("{} = {value}", setting.name));
        }
    }
    line(&mut file, &format!("\n[{LIMITS}]"));
    for bound in BOUNDS {
        line(&mut file, &format!("{} = {}", bound.name(), bound.show(&settings.limits)));
    }
    file
}

/// A file in which every setting is explained, and none is set.
pub(crate) fn commented() -> String {
    let mut file = String::from(
        "# Settings of gimletd, the rendezvous of Gimlet. What is commented out shows the default, or an\n\
         # example. Options on the command line come before what stands here.\n\
         # Check it with: gimletd check --config FILE\n\
         # After SIGHUP it is read again; what needs a restart is marked.\n",
    );
    for setting in SETTINGS {
        let restart = if setting.needs_restart { " (restart)" } else { "" };
        line(&mut file, &format!("\n# {}{restart}", setting.about));
        line(&mut file, &format!("#{} = {}", setting.name, setting.example));
    }
    line(
        &mut file,
        &format!(
            "\n# The bounds. Counts are numbers; times have a unit (ms, s, m, h, d), and so may bytes (K, M,\n\
             # G: powers of 1024). Lower ones hold for what comes.\n[{LIMITS}]"
        ),
    );
    let limits = Limits::default();
    for bound in BOUNDS {
        line(&mut file, &format!("\n# {} {}.", bound.about, bound.range()));
        line(&mut file, &format!("#{} = {}", bound.name(), bound.show(&limits)));
    }
    file
}

fn line(file: &mut String, line: &str) {
    writeln!(file, "{line}").expect("a String takes everything");
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn rate(bytes: u64) -> String {
    format!("\"{}\"", Rate(bytes))
}

fn list(addresses: &[SocketAddr]) -> String {
    let texts: Vec<_> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    format!("[{}]", texts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::PeerId;

    fn mistakes(text: &str) -> Vec<String> {
        let told = told(Path::new("d.toml"), text, File::parse(text).unwrap_err());
        told.lines().map(str::to_owned).collect()
    }

    #[test]
    fn limits_are_read_with_their_units() {
        let text = "relay-rate = \"2M\"\n[limits]\nsessions = 1_000\nhole-time = \"2s\"\n\
                    main-backlog-bytes = \"1M\"\n";
        let limits = File::parse(text).unwrap().limits;
        let expected = Limits {
            sessions: 1000,
            hole_time: Duration::from_secs(2),
            main_backlog_bytes: 1 << 20,
            relay_bytes_per_second: 2 << 20,
            ..Limits::default()
        };
        assert_eq!(limits, expected);
    }

    #[test]
    fn a_mistake_is_named_by_line_and_column() {
        let cases = [
            ("rely = true", "d.toml:1:1: there is no setting \"rely\"; did you mean relay?"),
            ("\nrelay = 1", "d.toml:2:9: expected true or false, and found: integer"),
            ("relay-rate = 8", "d.toml:1:14: expected a text in quotes, and found: integer"),
            ("relay-rate = \"0\"", "d.toml:1:14: nothing would flow"),
            ("main = \"::\"", "d.toml:1:8: expected a list"),
            ("main = [\"::\",\n  \"x\"]", "d.toml:2:3: \"x\" is not IP:PORT"),
            ("public = \"a:1\"", "d.toml:1:10: it must be a host alone"),
            ("sessions = 1", "d.toml:1:1: sessions belongs under [limits]"),
            ("limits = 1", "d.toml:1:10: expected the table [limits]"),
            ("[limits]\nrelay = true", "d.toml:2:1: relay is no limit: it belongs above [limits]"),
            (
                "[limits]\nsesions = 1",
                "d.toml:2:1: there is no limit \"sesions\"; did you mean sessions?",
            ),
            ("[limits]\nsessions = 0", "d.toml:2:12: 0 is out of its range, 1 to 16000000"),
            ("[limits]\nsessions = -1", "d.toml:2:12: -1 is out of its range, 1 to 16000000"),
            ("[limits]\nsessions = \"1\"", "d.toml:2:12: expected a number, and found: string"),
            ("[limits]\nhole-time = 4", "d.toml:2:13: expected a text in quotes"),
            ("[limits]\nhole-time = \"4\"", "d.toml:2:13: \"4\" is no time, such as 500ms"),
            ("[limits]\nhole-time = \"4h\"", "d.toml:2:13: 4h is out of its range, 100ms to 1m"),
            ("relay = tru", "d.toml:1:9: "),
            ("ä = \"ö\"", "d.toml:1:1: "),
            ("text = \"äöü\"; x", "d.toml:1:13: "),
        ];
        for (text, expected) in cases {
            let found = mistakes(text);
            assert!(found[0].starts_with(expected), "{text}: {found:?}");
        }
    }

    #[test]
    fn all_mistakes_are_told_at_once_and_in_order() {
        let found = mistakes("b = 1\na = 2\nrelay = true\n[limits]\nx = 1\nrooms = true\n");
        let lines: Vec<_> = found.iter().map(|line| line.split(':').nth(1).unwrap()).collect();
        assert_eq!(lines, ["1", "2", "5", "6"]);
    }

    /// Uncommented, the default file sets what holds anyway.
    #[test]
    fn the_commented_file_shows_the_defaults() {
        let (commented, key) = (commented(), PeerId::from_bytes([7; 15]).to_string());
        let text: String = commented
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if !rest.starts_with(' ') => format!("{}\n", rest.replace("KEY", &key)),
                _ => format!("{line}\n"),
            })
            .collect();
        let file = File::parse(&text).unwrap();
        assert_eq!(file.limits, Limits::default());
        assert_eq!((file.relay, file.dial_back), (Some(true), Some(true)));
        let ports: Vec<_> = file.main.iter().chain(&file.hole).map(SocketAddr::port).collect();
        assert_eq!(ports, [4000, 4000, 8000, 8001, 8000, 8001]);
        for setting in SETTINGS {
            assert!(text.contains(&format!("\n{} = ", setting.name)), "{}", setting.name);
        }
        assert!(File::parse(&commented).unwrap().main.is_empty());
        assert!(commented.lines().all(|line| line.len() <= 110), "too wide");
    }
}

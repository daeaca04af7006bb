//! The command line of `gimlet`: one definition for the parser and the help.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use super::exit;
use super::nat::StunServer;
use super::target::{PeerService, Shared, parse_listen};
use crate::identity::{ParseServerAddrError, PeerId, ServerAddr};
use crate::limits;
use crate::proto::punch::Preference;

const EXAMPLE: &str = "\
Example: reach the ssh server of a machine at home, both machines behind NATs.
  1. On a machine that both can reach:      gimletd
     It prints its address, KEY@HOST:4000. On the two others, put it into GIMLET_SERVER.
  2. At each of the two, learn its id:      gimlet id
  3. At home:                               gimlet peer add laptop ID-OF-THE-LAPTOP
                                            gimlet share ssh=22 --allow laptop
  4. On the laptop:                         gimlet peer add home ID-OF-HOME
                                            ssh -o ProxyCommand='gimlet pipe %h/ssh' user@home

See it work here and now, without any setup: gimlet demo";

/// Direct TCP between two machines behind NATs.
///
/// A rendezvous (gimletd) brings two peers together. Their NATs are opened by both dialling at once,
/// and what they then say goes directly between them, encrypted from end to end.
#[derive(Debug, Parser)]
#[command(name = "gimlet", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = format!("{EXAMPLE}\n\n{}", exit::help()))]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every subcommand takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The rendezvous. With KEY, nobody else can answer in its place; without it, the first key that
    /// it shows is remembered
    #[arg(long, global = true, env = "GIMLET_SERVER", value_name = "[KEY@]HOST[:PORT]")]
    #[arg(help_heading = "Global options")]
    pub(crate) server: Option<ServerArg>,

    /// Where the key, the address book and config.toml are [default: ~/.config/gimlet]
    #[arg(long, global = true, env = "GIMLET_HOME", value_name = "DIR")]
    #[arg(value_parser = OsStringValueParser::new().map(path), help_heading = "Global options")]
    pub(crate) home: Option<PathBuf>,

    /// Log what happens to stderr; -vv and -vvv say more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    #[arg(help_heading = "Global options")]
    pub(crate) verbose: u8,

    /// Print events as JSON, one object a line
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
}

/// Unlike clap's own, lets an empty text through: an empty variable is one that is not set.
fn path(text: OsString) -> PathBuf {
    PathBuf::from(text)
}

/// The address of a rendezvous; none when the text is empty, as an empty variable is.
#[derive(Clone, Debug)]
pub(crate) struct ServerArg(pub(crate) Option<ServerAddr>);

impl FromStr for ServerArg {
    type Err = ParseServerAddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "" => Ok(Self(None)),
            text => text.parse().map(|server| Self(Some(server))),
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print this machine's peer id; its key is made at the first use
    #[command(after_help = "Example:\n  gimlet id\n\n\
        Others name you by this id. It is no secret: it lets them recognise you, and nothing more.")]
    Id,
    /// Names for the ids of others: the address book
    #[command(subcommand)]
    Peer(PeerCommand),
    /// Rendezvous servers that this machine has seen
    #[command(subcommand)]
    Server(ServerCommand),
    Share(ShareArgs),
    Pipe(PipeArgs),
    Forward(ForwardArgs),
    Ping(PingArgs),
    Watch(WatchArgs),
    Nat(NatArgs),
    /// Watch two peers punch through to each other, all in this process
    ///
    /// A rendezvous and two peers on the loopback interface: no files, no network, no root.
    #[command(after_help = "Example:\n  gimlet demo")]
    Demo,
}

/// The address book.
#[derive(Debug, Subcommand)]
pub(crate) enum PeerCommand {
    /// Give a peer a name
    #[command(after_help = "Example:\n  \
        gimlet peer add home abcd-efgh-ijkl-mnop-qrst-uvwx-yz23\n\n\
        The name then stands wherever an id may. It is known on this machine alone.")]
    Add {
        /// a-z, 0-9, '.', '_', '-'
        name: String,
        /// What `gimlet id` prints on that machine
        id: PeerId,
        /// The name may belong to another id already
        #[arg(long)]
        replace: bool,
    },
    /// Print all names and their ids
    #[command(after_help = "Example:\n  gimlet peer list")]
    List,
    /// Forget a name
    #[command(after_help = "Example:\n  gimlet peer remove home")]
    Remove {
        /// The name
        name: String,
    },
}

/// Known rendezvous servers.
#[derive(Debug, Subcommand)]
pub(crate) enum ServerCommand {
    /// Print the servers whose keys are remembered
    #[command(after_help = "Example:\n  gimlet server list")]
    List,
    /// Forget a server's key, so that its next one is trusted
    #[command(after_help = "Example:\n  gimlet server forget example.net:4000\n\n\
        Do this only when you know why the server's key has changed.")]
    Forget {
        /// The server
        // Not `server`: that is the global option.
        #[arg(value_name = "HOST[:PORT]")]
        forgotten: ServerAddr,
    },
}

/// Share services of this machine with peers, and stay logged in
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    gimlet share ssh=22 --allow laptop\n  \
    gimlet share ssh=22 web=localhost:8080 nas=192.168.1.9:445 --allow laptop --allow phone\n\n\
    Peers reach them with `gimlet pipe` and `gimlet forward`. Whoever is not allowed is not even \
    told that you are here. What config.toml says under allow, rooms and [services] holds where the \
    command line says nothing.")]
pub(crate) struct ShareArgs {
    /// A service's name and where it is; a PORT alone is one of this machine
    #[arg(value_name = "NAME=[HOST:]PORT")]
    pub(crate) services: Vec<Shared>,
    /// Who may connect: a name or an id (repeatable)
    #[arg(long, value_name = "PEER")]
    pub(crate) allow: Vec<String>,
    /// Everybody may connect
    #[arg(long)]
    pub(crate) allow_any: bool,
    /// A room to be seen in (repeatable)
    #[arg(long, value_name = "ROOM")]
    pub(crate) room: Vec<String>,
    #[command(flatten)]
    pub(crate) mapping: PortMapping,
}

/// Whether the router is asked for something.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct PortMapping {
    /// Don't ask the router to map a port (PCP, NAT-PMP, UPnP)
    #[arg(long)]
    pub(crate) no_port_mapping: bool,
}

/// Connect stdin and stdout to a peer's service
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    ssh -o ProxyCommand='gimlet pipe %h/ssh' user@home\n  \
    tar c docs | gimlet pipe home/backup\n\n\
    Nothing but the service's bytes goes to stdout. The end of stdin is passed on, and the service \
    may still answer; when both directions have ended, so does this.")]
pub(crate) struct PipeArgs {
    /// Whom, and what there
    #[arg(value_name = "PEER/SERVICE")]
    pub(crate) target: PeerService,
    #[command(flatten)]
    pub(crate) way: Way,
    #[command(flatten)]
    pub(crate) timeout: Timeout,
}

/// Which ways a connection may take.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Way {
    /// Through the rendezvous at once, without trying a direct connection
    #[arg(long, conflicts_with = "direct_only")]
    relay: bool,
    /// A direct connection or none: never through the rendezvous
    #[arg(long)]
    direct_only: bool,
}

impl Way {
    pub(crate) fn preference(self) -> Preference {
        match self {
            Self { relay: true, .. } => Preference::RelayOnly,
            Self { direct_only: true, .. } => Preference::DirectOnly,
            _ => Preference::Any,
        }
    }
}

/// How long to try.
#[derive(Debug, Args)]
pub(crate) struct Timeout {
    /// Give up if there is no connection after this time
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

/// Listen on a local port, and connect each connection to a peer's service
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    gimlet forward 8080 home/web\n  \
    gimlet forward 127.0.0.1:0 home/web --json\n\n\
    A PORT alone listens on 127.0.0.1; with port 0 the kernel chooses one, which is printed.")]
pub(crate) struct ForwardArgs {
    /// Where to listen: PORT or IP:PORT
    #[arg(value_name = "LISTEN", value_parser = parse_listen)]
    pub(crate) listen: SocketAddr,
    /// Whom, and what there
    #[arg(value_name = "PEER/SERVICE")]
    pub(crate) target: PeerService,
    #[command(flatten)]
    pub(crate) way: Way,
    #[command(flatten)]
    pub(crate) mapping: PortMapping,
}

/// Connect to a peer, say how that went, and measure round trips
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gimlet ping home\n\n\
    The peer must be sharing something and allow you.")]
pub(crate) struct PingArgs {
    /// Whom
    pub(crate) peer: String,
    /// How many round trips
    #[arg(long, short, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,
    /// Time between them
    #[arg(long, short, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(crate) interval: Duration,
    #[command(flatten)]
    pub(crate) way: Way,
    #[command(flatten)]
    pub(crate) timeout: Timeout,
}

/// Say who comes and goes
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    gimlet watch\n  gimlet watch home laptop\n  gimlet watch --room friends\n\n\
    A peer is seen by those whom it allows, and in a room by everybody who is in it. Without \
    PEER and ROOM: everybody in the address book.")]
pub(crate) struct WatchArgs {
    /// Names or ids
    pub(crate) peers: Vec<String>,
    /// A room to enter (repeatable)
    #[arg(long, value_name = "ROOM")]
    pub(crate) room: Vec<String>,
}

/// Say what kind of NAT this machine is behind, and what that means for connecting
///
/// The rendezvous helps to look: how the NAT maps, which ports it hands out, whom it lets in. What
/// follows is told for each kind of NAT on the other side, with what could be changed on the router. The
/// terms are those of RFC 4787 and RFC 5382.
#[derive(Debug, Args)]
#[command(after_help = format!("Examples:\n  \
    gimlet nat\n  gimlet nat --stun stun.example.net:3478\n  \
    gimlet nat --lifetime 300\n  gimlet nat --json | jq -r .direct\n  \
    gimlet nat >/dev/null && echo 'direct connections can be expected'\n\n\
    A STUN server shows how connections go out, and not how they come in. It needs no login.\n\n\
    The exit code is 0 when direct connections can be expected with every NAT that maps \
    endpoint-independently, which most do, and with everything easier, if need be by predicting or \
    guessing ports; {} when they can't; 3 when nobody answers.", exit::MOSTLY_RELAYED))]
pub(crate) struct NatArgs {
    /// Ask this STUN server over TCP, instead of the rendezvous [default port: 3478]
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) stun: Option<StunServer>,
    /// Also measure how long the NAT keeps a silent connection, up to this time, which is how long it
    /// takes
    #[arg(long, value_name = "SECONDS", value_parser = silence, conflicts_with = "stun")]
    pub(crate) lifetime: Option<Duration>,
    #[command(flatten)]
    pub(crate) mapping: PortMapping,
}

/// A time from a millisecond to a year.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match (0.001..=31_536_000.0).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err("from 0.001 to 31536000 seconds".to_owned()),
    }
}

/// A time of silence: whole seconds, as long as a rendezvous waits with an answer.
fn silence(text: &str) -> Result<Duration, String> {
    let most = limits::DELAYED_ANSWER_TIME.as_secs();
    match text.parse() {
        Ok(seconds) if (1..=most).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("a whole number from 1 to {most}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_teaches_with_an_example() {
        fn check(command: &clap::Command) {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name}");
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(command.has_subcommands() || help.contains("gimlet "), "{name}");
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn global_options_stand_before_and_after_the_command() {
        for line in ["gimlet -vv --json --server a id", "gimlet id -vv --json --server a"] {
            let global = parse(line).unwrap().global;
            assert_eq!((global.verbose, global.json), (2, true));
            assert_eq!(global.server.unwrap().0.unwrap().host, "a");
        }
    }

    #[test]
    fn each_command_takes_its_arguments() {
        let share = "gimlet share ssh=22 web=[::1]:80 --allow a --allow b --room r";
        let Command::Share(share) = parse(share).unwrap().command else { panic!() };
        assert_eq!((share.services.len(), share.allow.len(), share.room.len()), (2, 2, 1));

        let Command::Pipe(pipe) = parse("gimlet pipe home/ssh").unwrap().command else { panic!() };
        assert_eq!(pipe.timeout.timeout, Duration::from_secs(30));
        assert_eq!(pipe.way.preference(), Preference::Any);
        assert!(parse("gimlet pipe home/ssh --relay --direct-only").is_err());
        let line = "gimlet pipe home/ssh --timeout 0.5";
        let Command::Pipe(pipe) = parse(line).unwrap().command else { panic!() };
        assert_eq!(pipe.timeout.timeout, Duration::from_millis(500));

        let line = "gimlet ping home --count 2 --interval 0.1";
        let Command::Ping(ping) = parse(line).unwrap().command else { panic!() };
        assert_eq!((ping.count, ping.interval), (2, Duration::from_millis(100)));

        let line = "gimlet nat --stun stun.example.net";
        let Command::Nat(nat) = parse(line).unwrap().command else { panic!() };
        assert_eq!(nat.stun.unwrap().to_string(), "stun.example.net:3478");

        let line = "gimlet forward [::1]:0 home/web --no-port-mapping";
        let Command::Forward(forward) = parse(line).unwrap().command else { panic!() };
        assert_eq!(forward.listen, "[::1]:0".parse().unwrap());
        assert!(forward.mapping.no_port_mapping && !share.mapping.no_port_mapping);
    }

    #[test]
    fn a_server_is_forgotten_whatever_the_global_option_says() {
        let cli = parse("gimlet server forget a:1 --server b:2").unwrap();
        let Command::Server(ServerCommand::Forget { forgotten }) = cli.command else { panic!() };
        assert_eq!((forgotten.host.as_str(), forgotten.port), ("a", 1));
    }

    #[test]
    fn mistakes_are_refused() {
        for line in [
            "gimlet",
            "gimlet pipe home",
            "gimlet share ssh",
            "gimlet peer add home abcd",
            "gimlet ping home --count 0",
            "gimlet ping home --interval 0",
            "gimlet forward localhost:1 home/web",
            "gimlet id --server a:b:c",
            "gimlet nat --stun a:b:c",
            "gimlet nat --lifetime 0",
            "gimlet nat --lifetime 60 --stun a",
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), i32::from(exit::USAGE), "{line}");
        }
    }
}

//! The command line of `gimletd`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Parser, Subcommand};

use super::super::target::parse_bind;
use super::bounds::Chosen;
use super::file;
use super::units::{Rate, Time};
use crate::identity::{DEFAULT_PORT, ServerAddr};

/// The rendezvous of Gimlet: brings peers behind NATs together.
///
/// Run it on a machine that all peers can reach, on TCP ports 4000, 8000 and 8001. It prints its
/// address, KEY@HOST:4000, one for each way to reach it; give one of them to the peers. It sees who
/// connects with whom, and never what they say.
#[derive(Debug, Parser)]
#[command(name = "gimletd", version, max_term_width = 100)]
#[command(after_help = "Examples:\n  \
    gimletd\n  \
    gimletd --public rendezvous.example.net\n  \
    gimletd --main 127.0.0.1:0 --hole 127.0.0.1:0 --hole 127.0.0.1:0 --state /tmp/rendezvous\n\n\
    gimletd check --default > gimletd.toml\n\n\
    The settings of FILE are shown and explained by gimletd check --default.\n\
    SIGTERM and SIGINT end it with exit code 0, when what is in progress has ended and all peers know; a \
    second one at once. SIGHUP reads FILE again. SIGUSR1 logs more, SIGUSR2 less.")]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    run: Args,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

impl Cli {
    /// The options, wherever they stand.
    pub(crate) fn args(&self) -> &Args {
        match &self.command {
            Some(Command::Check(check)) => &check.args,
            None => &self.run,
        }
    }
}

/// What `gimletd` does beside its work.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check the settings without starting: FILE, and the options as for a start
    #[command(after_help = "Exit codes:\n  \
        0  a start would find no mistake\n  \
        1  FILE can't be read\n  \
        2  there are mistakes: one line for each, FILE:LINE:COLUMN: what is wrong")]
    Check(CheckArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// Print the settings that hold, as a file
    #[arg(long)]
    pub(crate) print: bool,

    /// Print a file that explains every setting, with the defaults
    #[arg(long, conflicts_with = "print")]
    pub(crate) default: bool,

    #[command(flatten)]
    pub(crate) args: Args,
}

/// What a start is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    // Not a doc comment: rustdoc would look for a link.
    #[arg(long, value_name = "IP[:PORT]", value_parser = main_address)]
    #[arg(help = "Where peers log in (repeatable) [default: 0.0.0.0:4000 and [::]:4000]")]
    pub(crate) main: Vec<SocketAddr>,

    /// Where STUN is answered (repeatable) [default: ports 8000 and 8001 of the same addresses]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) hole: Vec<SocketAddr>,

    /// A port for operators: a status page and /metrics. No password: bind it to 127.0.0.1
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) admin: Option<SocketAddr>,

    /// Where the key is kept [default: /var/lib/gimlet, or ~/.local/state/gimlet]
    #[arg(long, value_name = "DIR", env = "GIMLET_STATE")]
    #[arg(value_parser = OsStringValueParser::new().map(path))]
    pub(crate) state: Option<PathBuf>,

    /// The name or address by which peers reach this machine
    #[arg(long, value_name = "HOST", value_parser = file::host)]
    pub(crate) public: Option<String>,

    /// Words for every peer that logs in
    #[arg(long, value_name = "WELCOME", value_parser = file::welcome)]
    pub(crate) text: Option<String>,

    /// Introduce peers, but never carry their data: no relay
    #[arg(long)]
    pub(crate) no_relay: bool,

    // Not a doc comment: rustdoc would look for a link.
    #[arg(long, value_name = "BYTES")]
    #[arg(help = "What a relayed pair may have each second, both ways together [default: 8M]")]
    pub(crate) relay_rate: Option<Rate>,

    // Not a doc comment: rustdoc would look for a link.
    #[arg(long, value_name = "BYTES")]
    #[arg(help = "What all relayed pairs may have each second [default: 64M]")]
    pub(crate) relay_total_rate: Option<Rate>,

    /// Never dial a peer back: peers don't learn what their NATs let in
    #[arg(long)]
    pub(crate) no_dial_back: bool,

    // Not a doc comment: rustdoc would look for a link.
    #[arg(long, value_name = "TIME", value_parser = file::drain_time)]
    #[arg(help = "After SIGTERM, how long what is in progress may take to end [default: 10s]")]
    pub(crate) drain_time: Option<Time>,

    /// After SIGTERM, the rendezvous to which peers go
    #[arg(long, value_name = "KEY@HOST:PORT", value_parser = file::other_server)]
    pub(crate) drain_to: Option<ServerAddr>,

    // Not a doc comment: rustdoc would look for a link.
    #[arg(long, value_name = "NAME=VALUE")]
    #[arg(help = "Change a bound (repeatable): one of [limits] in gimletd check --default")]
    pub(crate) limit: Vec<Chosen>,

    /// Settings; the command line comes before them
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Log what happens to stderr; -vv and -vvv say more
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Print one JSON object instead of the addresses
    #[arg(long)]
    pub(crate) json: bool,
}

fn main_address(text: &str) -> Result<SocketAddr, String> {
    parse_bind(text, DEFAULT_PORT)
}

/// Unlike clap's own, lets an empty text through: an empty variable is one that is not set.
fn path(text: OsString) -> PathBuf {
    PathBuf::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_default_rates_are_the_limits() {
        let help = Cli::command().render_long_help().to_string();
        for (option, rate) in [
            ("--relay-rate", limits::RELAY_BYTES_PER_SECOND),
            ("--relay-total-rate", limits::RELAY_TOTAL_BYTES_PER_SECOND),
        ] {
            let (_, rest) = help.split_once(&format!("{option} <BYTES>")).unwrap();
            let (_, rest) = rest.split_once("[default: ").unwrap();
            let (default, _) = rest.split_once(']').unwrap();
            assert_eq!(default.parse(), Ok(Rate(rate)), "{option}");
        }
    }

    #[test]
    fn addresses_are_repeatable() {
        let line = "gimletd --main 0.0.0.0 --main [::]:5 --hole 0.0.0.0:1 --hole 0.0.0.0:2";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let args = cli.args();
        assert_eq!(args.main, ["0.0.0.0:4000".parse().unwrap(), "[::]:5".parse().unwrap()]);
        assert_eq!(args.hole.len(), 2);
        Cli::try_parse_from(["gimletd", "--hole", "0.0.0.0"]).unwrap_err();
    }

    #[test]
    fn a_check_takes_the_options_of_a_start() {
        let line = "gimletd check --limit rooms=5 --config x --print";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        assert!(matches!(&cli.command, Some(Command::Check(check)) if check.print));
        assert_eq!((cli.args().limit.len(), cli.args().config.is_some()), (1, true));
        for line in ["gimletd check --print --default", "gimletd --limit rooms", "gimletd chek"] {
            Cli::try_parse_from(line.split(' ')).unwrap_err();
        }
    }
}

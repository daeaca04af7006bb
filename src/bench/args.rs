//! The command line of `gimlet-bench`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::identity::ServerAddr;

/// What a rendezvous costs, measured from outside.
///
/// Starts a gimletd of its own on the loopback interface, puts it under load, and says what one operation
/// costs: CPU time of the server's process, latency, memory. Build it with --release, or the figures mean
/// nothing.
#[derive(Debug, Parser)]
#[command(name = "gimlet-bench", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Examples:\n  \
    gimlet-bench login --floor\n  \
    gimlet-bench idle --peers 18000\n  \
    gimlet-bench introduce --in-flight 64 --idle 10000 --json\n\n\
    What each figure means: the page \"benchmarks\" of the manual.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every mode takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Put this rendezvous under load, instead of one of our own. It must be yours. Its CPU time and
    /// memory can't be seen from here
    #[arg(long, global = true, value_name = "[KEY@]HOST[:PORT]", help_heading = "Global options")]
    pub(crate) against: Option<ServerAddr>,

    /// The gimletd to start [default: the one beside this program]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    #[arg(conflicts_with = "against")]
    pub(crate) gimletd: Option<PathBuf>,

    /// Beforehand, let this many other peers log in and stay silent
    #[arg(long, global = true, value_name = "N", default_value_t = 0)]
    #[arg(help_heading = "Global options")]
    pub(crate) idle: usize,

    /// Spread the load over this many processes
    #[arg(long, global = true, value_name = "N", default_value = "1", value_parser = positive)]
    #[arg(help_heading = "Global options")]
    pub(crate) processes: usize,

    /// Measure the same shape against a bare server without a protocol, too, and print the ratio
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) floor: bool,

    /// Log what happens to stderr; -vv and -vvv say more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    #[arg(help_heading = "Global options")]
    pub(crate) verbose: u8,

    /// Print one JSON object instead of the table
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Login(LoginArgs),
    Idle(IdleArgs),
    Introduce(IntroduceArgs),
    Stun(StunArgs),
    Punch(PunchArgs),
    Relay(RelayArgs),
    Memory(MemoryArgs),
    Floor(FloorArgs),
    /// The server of the floor
    #[command(hide = true)]
    FloorServer,
    /// A process of several that make load
    #[command(hide = true)]
    Worker {
        /// What it is told, as JSON
        assignment: String,
    },
    /// A process that holds so many sessions in memory
    #[command(hide = true)]
    MemoryOf(MemoryOfArgs),
}

/// Logins: TCP, the whole Noise handshake, the welcome
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gimlet-bench login --peers 18000\n  \
    gimlet-bench login --peers 18000 --storm\n\n\
    All peers stay logged in. With --storm they are cut off when all are in, and come back in one \
    instant: that is what is measured, from the first dial on.")]
pub(crate) struct LoginArgs {
    /// How many peers log in
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = positive)]
    pub(crate) peers: usize,
    /// How many logins are in progress at once
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = positive)]
    pub(crate) in_flight: usize,
    /// All come back at once
    #[arg(long)]
    pub(crate) storm: bool,
}

/// Silent peers: memory of the server and the kernel, CPU time and wake-ups
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gimlet-bench idle --peers 18000 --seconds 30")]
pub(crate) struct IdleArgs {
    /// How many peers are logged in
    #[arg(long, value_name = "N", default_value_t = 18_000, value_parser = positive)]
    pub(crate) peers: usize,
    /// How long the silence is measured
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,
}

/// Introductions through the rendezvous, with no sockets punched: what the broker alone costs
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gimlet-bench introduce --count 200000 --in-flight 64\n\n\
    One of each pair asks for the other; the rendezvous releases both; the first one reports that they are \
    connected. The latency is that from the request to the later of the two releases.")]
pub(crate) struct IntroduceArgs {
    /// How many introductions
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = positive)]
    pub(crate) count: usize,
    /// Pairs of peers that take turns
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = positive)]
    pub(crate) pairs: usize,
    /// How many are in progress at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive)]
    pub(crate) in_flight: usize,
}

/// STUN Binding requests over TCP: on persistent connections, and one per connection
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gimlet-bench stun --count 200000 --connections 64 --floor")]
pub(crate) struct StunArgs {
    /// How many requests on persistent connections; one per connection are a quarter of it
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = positive)]
    pub(crate) count: usize,
    /// How many connections at once, with one request each
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive)]
    pub(crate) connections: usize,
}

/// Whole punches: two real peers and the rendezvous, from the request to the first sealed words
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gimlet-bench punch --count 10000 --in-flight 32\n  \
    gimlet-bench punch --count 2000 --in-flight 4 --idle 18000 --storm 2000")]
pub(crate) struct PunchArgs {
    /// How many punches
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = positive)]
    pub(crate) count: usize,
    /// How many are in progress at once
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = positive)]
    pub(crate) in_flight: usize,
    /// Peers on either side at most. As many are taken as no pair of them needs to meet twice
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = positive)]
    pub(crate) peers: usize,
    /// Of the peers of --idle, so many come back all at once, again and again
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) storm: Option<usize>,
}

/// Bytes through the relay: GB a second and CPU seconds per GB, of one pair and of many
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gimlet-bench relay --gb 8 --pairs 64 --floor")]
pub(crate) struct RelayArgs {
    /// How much flows, in GB (10^9 bytes), at each number of pairs
    #[arg(long, value_name = "GB", default_value_t = 8.0, value_parser = amount)]
    pub(crate) gb: f64,
    /// How many pairs are many
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive)]
    pub(crate) pairs: usize,
}

impl RelayArgs {
    pub(crate) fn bytes(&self) -> u64 {
        (self.gb * 1e9) as u64
    }
}

/// The rendezvous machine alone, in memory: bytes a session, and the cost of operations by their number
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gimlet-bench memory --sessions 1000,18000,100000,1000000")]
pub(crate) struct MemoryArgs {
    /// How many sessions; each in a process of its own
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = positive)]
    #[arg(default_values_t = [1000, 18_000, 100_000, 1_000_000])]
    pub(crate) sessions: Vec<usize>,
}

/// One size of [`MemoryArgs`].
#[derive(Debug, Args)]
pub(crate) struct MemoryOfArgs {
    pub(crate) sessions: usize,
}

/// The bare server alone: what accepting, answering and forwarding cost without any protocol
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gimlet-bench floor")]
pub(crate) struct FloorArgs {
    /// How many operations of each shape
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = positive)]
    pub(crate) count: usize,
    /// How many connections, or dials, at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive)]
    pub(crate) connections: usize,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a whole number from 1 on".to_owned()),
        Ok(number) => Ok(number),
    }
}

fn amount(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(gb) if (0.001..=1e6).contains(&gb) => Ok(gb),
        _ => Err("a number of GB, from 0.001 on".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_mode_teaches_with_an_example() {
        for mode in Cli::command().get_subcommands().filter(|mode| !mode.is_hide_set()) {
            let help = mode.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(mode.get_about().is_some(), "{}", mode.get_name());
            assert!(help.contains(&format!("gimlet-bench {}", mode.get_name())), "{help}");
        }
    }

    #[test]
    fn global_options_stand_before_and_after_the_mode() {
        for line in [
            "gimlet-bench --json --floor --idle 5 login --peers 7",
            "gimlet-bench login --peers 7 --json --floor --idle 5",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert!(cli.global.json && cli.global.floor);
            assert_eq!(cli.global.idle, 5);
            assert!(matches!(
                cli.command,
                Command::Login(LoginArgs { peers: 7, storm: false, .. })
            ));
        }
    }

    #[test]
    fn nothing_is_nothing_to_measure() {
        for line in
            ["gimlet-bench login --peers 0", "gimlet-bench idle --seconds 0", "gimlet-bench"]
        {
            Cli::try_parse_from(line.split(' ')).unwrap_err();
        }
    }
}

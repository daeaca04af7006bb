//! `gimlet-bench`: a load generator on this library, and what it measures.
//!
//! ```text
//! args ─▶ modes ─▶ target: a gimletd of its own, in a process of its own; or S elsewhere
//!           │      floor:  a bare mio server without a protocol, likewise
//!           ├────▶ crew:     tasks, in this process or in several (worker)
//!           │        └─▶ swarm: thousands of peers that log in and talk over their main connections
//!           ├────▶ exchange: many connections, bytes in and bytes out; flow: very many bytes
//!           └────▶ report:   table, or JSON      meter, proc, tally: what it cost
//! ```
//!
//! One thread a process. What S costs is the CPU time of its process alone, in the measured phase
//! alone; how busy both sides were says which of them was the bottleneck.

mod args;
mod crew;
mod exchange;
mod floor;
mod floor_server;
mod flow;
mod introductions;
mod logins;
mod machine;
mod meter;
mod modes;
mod proc;
mod report;
mod sources;
mod swarm;
mod tally;
mod target;
mod task;
mod vigil;
mod worker;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use self::args::{Cli, Command};
use crate::cli::exit;
use crate::cli::logging::{self, Lines};
use crate::cli::output::{Output, Stream};

/// The command line, for man pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Reads the command line, runs what it says, and tells how that ended.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.global.verbose, Lines::Indented);
    let output =
        Output::new("gimlet-bench", cli.global.json, cli.global.verbose > 0, Stream::Stdout);
    let result = match &cli.command {
        Command::FloorServer => floor_server::run(),
        Command::Worker { assignment } => worker::run(assignment),
        Command::MemoryOf(args) => modes::memory::run_one(args),
        command => modes::run(&cli.global, command, &output),
    };
    let code = exit::finish(&output, result);
    logging::finish();
    code
}

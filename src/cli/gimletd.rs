//! `gimletd`: the rendezvous.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use super::daemon::{self, Cli};
use super::exit;
use super::logging::{self, Lines};
use super::output::{Output, Stream};

/// The command line, for man pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Reads the command line, runs a rendezvous until a signal ends it, and tells how that ended.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let args = cli.args();
    logging::start(args.verbose, Lines::One);
    let output = Output::new("gimletd", args.json, args.verbose > 0, Stream::Stdout);
    let code = exit::finish(&output, daemon::run(&cli, &output));
    logging::finish();
    code
}

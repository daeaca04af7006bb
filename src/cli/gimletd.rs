//! `gimletd`: the rendezvous.

use std::process::ExitCode;

use clap::Parser;

use super::daemon::{self, Cli};
use super::output::{Output, Stream};
use super::{exit, logging};

/// Reads the command line, runs a rendezvous until a signal ends it, and tells how that ended.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let args = cli.args();
    logging::start(args.verbose);
    let output = Output::new("gimletd", args.json, args.verbose > 0, Stream::Stdout);
    exit::finish(&output, daemon::run(&cli, &output))
}

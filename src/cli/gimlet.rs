//! `gimlet`: a peer.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use super::args::{Cli, Command, NatArgs};
use super::exit::{self, Failure};
use super::logging::{self, Lines};
use super::output::{Output, Stream};
use super::session::Context;
use super::settings::Settings;
use super::{book, demo, forward, nat, ping, pipe, share, watch};

/// The command line, for man pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Reads the command line, does what it says, and tells how that ended.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.global.verbose, Lines::Indented);
    let stream = match cli.command {
        Command::Pipe(_) => Stream::Stderr,
        _ => Stream::Stdout,
    };
    let output = Output::new("gimlet", cli.global.json, cli.global.verbose > 0, stream);
    let code = exit::finish(&output, run(&cli, output));
    logging::finish();
    code
}

fn run(cli: &Cli, output: Output) -> Result<(), Failure> {
    // They need no settings, and must not fail for bad ones.
    match &cli.command {
        Command::Demo => return demo::run(&output),
        Command::Nat(NatArgs { stun: Some(server), .. }) => return nat::run_stun(&output, server),
        _ => {}
    }
    let settings = Settings::load(&cli.global, &|name| std::env::var_os(name))?;
    match &cli.command {
        Command::Id => book::id(&settings, &output),
        Command::Peer(command) => book::peer(&settings, &output, command),
        Command::Server(command) => book::server(&settings, &output, command),
        command => online(&Context::new(settings, output)?, command),
    }
}

/// What needs a login.
fn online(context: &Context, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Share(args) => share::run(context, args),
        Command::Pipe(args) => pipe::run(context, args),
        Command::Forward(args) => forward::run(context, args),
        Command::Ping(args) => ping::run(context, args),
        Command::Watch(args) => watch::run(context, args),
        Command::Nat(args) => nat::run(context, args),
        Command::Id | Command::Peer(_) | Command::Server(_) | Command::Demo => {
            unreachable!("they need no login")
        }
    }
}

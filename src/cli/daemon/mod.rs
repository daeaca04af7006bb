//! The rendezvous as a program: where it listens, what it prints, how it ends.

mod addresses;
mod args;
mod bounds;
mod check;
mod file;
mod lifecycle;
mod operator;
mod settings;
mod units;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use self::addresses::Places;
pub(crate) use self::args::Cli;
use self::args::{Args, Command};
use self::lifecycle::Daemon;
use self::operator::Operator;
use self::settings::Settings;
use super::exit::{self, Failure};
use super::logging;
use super::output::Output;
use super::signals::{Signal, Signals};
use crate::identity::PeerId;
use crate::net::reactor::{HostId, Reactor};
use crate::net::rendezvous::{Options, RendezvousHost};
use crate::net::{interfaces, sys};

/// Does what the command line says.
pub(crate) fn run(cli: &Cli, output: &Output) -> Result<(), Failure> {
    match &cli.command {
        Some(Command::Check(check)) => check::run(check, output),
        None => serve(cli.args(), output),
    }
}

/// Runs until a signal ends it.
fn serve(args: &Args, output: &Output) -> Result<(), Failure> {
    let settings = Settings::load(args)?;
    logging::set_level(settings.log);
    for warning in settings.warnings() {
        log::warn!("{warning}");
    }
    let (state, key) = settings.key(&|name| std::env::var_os(name))?;
    let key = Arc::new(key);
    settings.check_drain_to(key.public().peer_id())?;
    let descriptors = sys::raise_descriptor_limit()?;
    let mut reactor = Reactor::new()?;
    // Before anything is printed: whoever reads it may send a signal at once.
    let signals = Signals::watch(&mut reactor, &Signal::DAEMON)?;
    let host = open(&mut reactor, settings.options(Arc::clone(&key)))?;
    let operator = Operator::open(&mut reactor, host, settings.admin)?;
    let admin = operator.address()?;
    let place = Place { key: key.public().peer_id(), state: &state, admin, descriptors };
    announce(&mut reactor, host, &settings, &place, output)?;
    Daemon { args, settings, key: place.key, reactor, host, operator, signals }.run()
}

fn open(reactor: &mut Reactor, options: Options) -> Result<HostId, Failure> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(std::io::Error::other)?;
    reactor
        .add_rendezvous(|core, id| RendezvousHost::open(core, id, options, seed))
        .map_err(|error| bind_failure(&error))
}

fn bind_failure(error: &std::io::Error) -> Failure {
    let failure = Failure::new(exit::OTHER, error.to_string());
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            failure.hint("is another gimletd running? Other ports: --main IP:PORT --hole IP:PORT")
        }
        std::io::ErrorKind::AddrNotAvailable => {
            failure.hint("this machine has no such address; 0.0.0.0 and [::] mean all that it has")
        }
        _ => failure,
    }
}

// ---- what it prints ----

/// The object of `--json`.
#[derive(Debug, Serialize)]
struct Listening<'a> {
    event: &'static str,
    key: String,
    addresses: &'a [String],
    main: &'a [SocketAddr],
    holes: &'a [SocketAddr],
    admin: Option<SocketAddr>,
    descriptors: u64,
    warning: Option<&'a str>,
}

/// What a start has found.
struct Place<'a> {
    key: PeerId,
    /// The directory of the key.
    state: &'a Path,
    admin: Option<SocketAddr>,
    descriptors: u64,
}

fn announce(
    reactor: &mut Reactor,
    host: HostId,
    settings: &Settings,
    place: &Place<'_>,
    output: &Output,
) -> Result<(), Failure> {
    let Place { key, state, admin, descriptors } = *place;
    let rendezvous = reactor.rendezvous(host);
    let (main, holes) = (rendezvous.main_addresses(), rendezvous.hole_addresses());
    let places = Places::new(
        main,
        settings.public.as_deref(),
        &[interfaces::host_addresses(false), interfaces::host_addresses(true)].concat(),
    );
    let addresses = with_key(key, &places.places);
    let warning = places.warning(main, holes);
    if output.is_json() {
        return output.object(&Listening {
            event: "listening",
            key: key.to_string(),
            addresses: &addresses,
            main,
            holes,
            admin,
            descriptors,
            warning: warning.as_deref(),
        });
    }
    output.note(&format!("the key is {key}, in {}", state.display()));
    output.note(&format!("peers log in at {}", list(main)));
    output.note(&format!("STUN is answered at {}", list(holes)));
    if let Some(admin) = admin {
        output.note(&format!("operators look at http://{admin}/"));
    }
    output.note(&format!("descriptors: {descriptors}, one for each peer that is logged in"));
    if let Some(warning) = &warning {
        output.note(&format!("WARNING: {warning}"));
    }
    output
        .note("peers use one of these: --server, GIMLET_SERVER, or server = \"…\" in config.toml");
    print(&addresses, output)
}

/// A rendezvous runs on when nobody reads what it prints.
fn print(addresses: &[String], output: &Output) -> Result<(), Failure> {
    for address in addresses {
        match output.print(address) {
            Err(failure) if failure.error.is_empty() => {}
            printed => printed?,
        }
    }
    Ok(())
}

fn with_key(key: PeerId, places: &[String]) -> Vec<String> {
    places.iter().map(|place| format!("{key}@{place}")).collect()
}

fn list(addresses: &[SocketAddr]) -> String {
    let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

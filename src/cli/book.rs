//! `gimlet id`, `gimlet peer` and `gimlet server`: what needs no login.

use serde_json::json;

use super::address_book::AddressBook;
use super::args::{PeerCommand, ServerCommand};
use super::exit::Failure;
use super::known_servers::{KnownServers, place};
use super::output::Output;
use super::settings::Settings;

/// Prints the peer id.
pub(crate) fn id(settings: &Settings, output: &Output) -> Result<(), Failure> {
    let id = settings.home.key()?.public().peer_id().to_string();
    match output.is_json() {
        true => output.object(&json!({ "id": id })),
        false => output.print(&id),
    }
}

/// Reads and changes the address book.
pub(crate) fn peer(
    settings: &Settings,
    output: &Output,
    command: &PeerCommand,
) -> Result<(), Failure> {
    let mut book = AddressBook::load(settings.home.address_book())?;
    match command {
        PeerCommand::Add { name, id, replace } => {
            let name = book.add(name, *id, *replace)?;
            output.say(&format!("{name} is {id}"))?;
            tell(output, &name, &id.to_string())
        }
        PeerCommand::Remove { name } => {
            let id = book.remove(name)?;
            output.say(&format!("{} is forgotten; it was {id}", name.to_ascii_lowercase()))?;
            tell(output, &name.to_ascii_lowercase(), &id.to_string())
        }
        PeerCommand::List if book.iter().next().is_none() => {
            output.note("the address book is empty: gimlet peer add NAME ID");
            Ok(())
        }
        PeerCommand::List => {
            let width = book.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
            for (name, id) in book.iter() {
                output.say(&format!("{name:<width$}  {id}"))?;
                tell(output, name, &id.to_string())?;
            }
            Ok(())
        }
    }
}

fn tell(output: &Output, name: &str, id: &str) -> Result<(), Failure> {
    match output.is_json() {
        true => output.object(&json!({ "name": name, "id": id })),
        false => Ok(()),
    }
}

/// Reads and changes the list of known servers.
pub(crate) fn server(
    settings: &Settings,
    output: &Output,
    command: &ServerCommand,
) -> Result<(), Failure> {
    let mut known = KnownServers::load(settings.home.known_servers())?;
    match command {
        ServerCommand::Forget { forgotten } => {
            let key = known.forget(forgotten)?;
            let (place, file) = (place(forgotten), known.path().display());
            output.say(&format!("{place} is forgotten in {file}; its key was {key}"))?;
            tell_server(output, &place, &key.to_string())
        }
        ServerCommand::List => {
            let width = known.iter().map(|(place, _)| place.len()).max().unwrap_or(0);
            for (place, key) in known.iter() {
                output.say(&format!("{place:<width$}  {key}"))?;
                tell_server(output, place, &key.to_string())?;
            }
            Ok(())
        }
    }
}

fn tell_server(output: &Output, place: &str, key: &str) -> Result<(), Failure> {
    match output.is_json() {
        true => output.object(&json!({ "server": place, "key": key })),
        false => Ok(()),
    }
}

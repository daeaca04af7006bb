//! Whether the rendezvous is the one that we know: its key comes from its address, or from the file
//! of known servers, or is trusted at first use.

use std::path::PathBuf;

use super::events::Event;
use super::exit::{self, Failure};
use super::known_servers::{KnownServers, place};
use super::output::Output;
use crate::identity::{PeerId, ServerAddr};

/// Where the expected key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The user wrote KEY@HOST.
    Address,
    /// An earlier login.
    Remembered,
    /// Nobody has seen this server yet.
    Nowhere,
}

/// The rendezvous and what is known of its key.
#[derive(Debug)]
pub(crate) struct Trust {
    server: ServerAddr,
    place: String,
    source: Source,
    file: PathBuf,
}

impl Trust {
    /// Looks the server up among the known ones, unless its address has its key.
    pub(crate) fn new(mut server: ServerAddr, file: PathBuf) -> Result<Self, Failure> {
        let place = place(&server);
        let source = match server.key {
            Some(_) => Source::Address,
            None => {
                server.key = KnownServers::load(file.clone())?.get(&place);
                if server.key.is_some() { Source::Remembered } else { Source::Nowhere }
            }
        };
        Ok(Self { server, place, source, file })
    }

    /// The server, with its key if that is known.
    pub(crate) fn server(&self) -> &ServerAddr {
        &self.server
    }

    /// The server without its key.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// A server has proved that it has this key. The reactor has compared it with the one that was
    /// expected, if there was one.
    pub(crate) fn see(&mut self, key: PeerId, output: &Output) -> Result<(), Failure> {
        if self.source != Source::Nowhere {
            return Ok(());
        }
        self.source = Source::Remembered;
        self.server.key = Some(key);
        // Another process may have been first.
        let mut known = KnownServers::load(self.file.clone())?;
        match known.get(&self.place) {
            Some(earlier) if earlier != key => return Err(self.changed(earlier, key)),
            Some(_) => return Ok(()),
            None => {}
        }
        output.event(&Event::ServerKey { server: &self.place, key: key.to_string() })?;
        output.note(&format!(
            "trusting the rendezvous {} with key {key}, seen for the first time",
            self.place
        ));
        if let Err(failure) = known.remember(&self.place, key) {
            log::warn!("the server's key is not remembered: {}", failure.error);
        }
        Ok(())
    }

    /// Somebody else's key answered.
    pub(crate) fn changed(&self, expected: PeerId, found: PeerId) -> Failure {
        if self.source == Source::Address {
            let error = format!(
                "the server at {} has the key {found}, and its address asks for {expected}",
                self.place
            );
            return Failure::new(exit::SERVER_KEY, error).hint(
                "nothing was sent to it. Either the address is outdated, or somebody answers in the \
                 server's place: ask its operator for the line KEY@HOST:PORT that gimletd prints",
            );
        }
        let place = &self.place;
        let file = self.file.display();
        let line = KnownServers::load(self.file.clone())
            .ok()
            .and_then(|known| known.line_of(place))
            .map_or_else(String::new, |line| format!(", line {line}"));
        Failure::new(
            exit::SERVER_KEY,
            format!("THE KEY OF THE RENDEZVOUS {place} HAS CHANGED: it was {expected}, and is {found}"),
        )
        .hint(format!(
            "somebody may be answering in its place, or its operator has set it up anew; nothing was \
             sent to it. Ask the operator. If the new key is right: gimlet server forget {place} (or \
             remove its line from {file}{line}), and connect again"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::output::Stream;
    use super::*;

    fn keys() -> [PeerId; 2] {
        [7, 8].map(|byte| PeerId::from_bytes([byte; 15]))
    }

    fn output() -> Output {
        Output::new("test", false, false, Stream::Stderr)
    }

    fn trust(server: &str, home: &tempfile::TempDir) -> Trust {
        Trust::new(server.parse().unwrap(), home.path().join("known_servers.toml")).unwrap()
    }

    #[test]
    fn the_first_key_is_remembered_and_then_expected() {
        let [key, _] = keys();
        let home = tempfile::tempdir().unwrap();
        let mut first = trust("example.net", &home);
        assert_eq!(first.server().key, None);
        first.see(key, &output()).unwrap();
        assert_eq!(trust("EXAMPLE.net:4000", &home).server().key, Some(key));
        assert_eq!(trust("example.net:4001", &home).server().key, None);
    }

    #[test]
    fn a_key_in_the_address_is_expected_and_not_remembered() {
        let [key, other] = keys();
        let home = tempfile::tempdir().unwrap();
        let mut pinned = trust(&format!("{key}@example.net"), &home);
        assert_eq!(pinned.server().key, Some(key));
        pinned.see(key, &output()).unwrap();
        assert_eq!(trust("example.net", &home).server().key, None);
        assert!(pinned.changed(key, other).hint.unwrap().contains("gimletd"));
    }

    #[test]
    fn a_changed_key_is_refused_and_explained() {
        let [key, other] = keys();
        let home = tempfile::tempdir().unwrap();
        let mut late = trust("example.net", &home);
        trust("example.net", &home).see(key, &output()).unwrap();
        let failure = late.see(other, &output()).unwrap_err();
        assert_eq!(failure.code, exit::SERVER_KEY);
        let hint = failure.hint.unwrap();
        for word in ["gimlet server forget example.net:4000", "known_servers.toml, line 3"] {
            assert!(hint.contains(word), "{hint}");
        }
        assert_eq!(trust("example.net", &home).server().key, Some(key));
    }
}

//! Keys of rendezvous servers, remembered at the first login, as ssh does with its hosts.
//!
//! ```toml
//! "example.net:4000" = "abcd-efgh-ijkl-mnop-qrst-uvwx-yz23"
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::exit::{self, Failure};
use super::toml_file::{self, from_text};
use crate::identity::{PeerId, ServerAddr, write_private};

const HEADER: &str = "# Keys of rendezvous servers, remembered at the first login.\n# To trust a \
                      server's new key, remove its line: gimlet server forget HOST:PORT\n";

/// The keys in the file.
#[derive(Debug)]
pub(crate) struct KnownServers {
    path: PathBuf,
    keys: BTreeMap<String, PeerId>,
}

impl KnownServers {
    /// Reads the file; without one no server is known.
    pub(crate) fn load(path: PathBuf) -> Result<Self, Failure> {
        let entries = toml_file::load::<BTreeMap<String, Key>>(&path)?.unwrap_or_default();
        let keys = entries.into_iter().map(|(place, key)| (place, key.0)).collect();
        Ok(Self { path, keys })
    }

    /// `HOST:PORT` and key of each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, PeerId)> {
        self.keys.iter().map(|(place, key)| (place.as_str(), *key))
    }

    /// The key that is known for a place.
    pub(crate) fn get(&self, place: &str) -> Option<PeerId> {
        self.keys.get(place).copied()
    }

    /// Remembers a key.
    pub(crate) fn remember(&mut self, place: &str, key: PeerId) -> Result<(), Failure> {
        self.keys.insert(place.to_owned(), key);
        self.save()
    }

    /// Forgets a key, so that the next one is trusted.
    pub(crate) fn forget(&mut self, server: &ServerAddr) -> Result<PeerId, Failure> {
        let place = place(server);
        let Some(key) = self.keys.remove(&place) else {
            return Err(Failure::new(exit::OTHER, format!("no key of {place} is known here"))
                .hint("those that are: gimlet server list"));
        };
        self.save().map(|()| key)
    }

    /// The file, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The line of a place in the file.
    pub(crate) fn line_of(&self, place: &str) -> Option<usize> {
        let text = std::fs::read_to_string(&self.path).ok()?;
        let quoted = format!("\"{place}\"");
        let line = text.lines().position(|line| line.trim_start().starts_with(&quoted))?;
        Some(line + 1)
    }

    fn save(&self) -> Result<(), Failure> {
        let table: BTreeMap<_, _> =
            self.iter().map(|(place, key)| (place, key.to_string())).collect();
        let entries = toml::to_string(&table).expect("texts can be written as TOML");
        write_private(&self.path, format!("{HEADER}{entries}").as_bytes())?;
        Ok(())
    }
}

/// `HOST:PORT`: what a key is remembered for.
pub(crate) fn place(server: &ServerAddr) -> String {
    ServerAddr { key: None, ..server.clone() }.to_string()
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Key(PeerId);

from_text!(Key);

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> PeerId {
        PeerId::from_bytes([7; 15])
    }

    #[test]
    fn a_key_is_remembered_and_forgotten() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("known_servers.toml");
        let mut known = KnownServers::load(path.clone()).unwrap();
        known.remember("example.net:4000", key()).unwrap();
        known.remember("[::1]:4000", key()).unwrap();
        let mut known = KnownServers::load(path).unwrap();
        assert_eq!(known.get("example.net:4000"), Some(key()));
        assert_eq!(known.line_of("[::1]:4000"), Some(3));
        assert_eq!(known.line_of("example.net:4000"), Some(4));
        known.forget(&"EXAMPLE.net".parse().unwrap()).unwrap();
        assert_eq!(known.get("example.net:4000"), None);
        assert_eq!(known.line_of("example.net:4000"), None);
        known.forget(&"example.net".parse().unwrap()).unwrap_err();
    }

    #[test]
    fn a_place_has_no_key_and_always_a_port() {
        let server: ServerAddr = format!("{}@[2001:db8::1]", key()).parse().unwrap();
        assert_eq!(place(&server), "[2001:db8::1]:4000");
    }
}

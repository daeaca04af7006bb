//! `config.toml`: what a user doesn't want to say each time.
//!
//! ```toml
//! server = "KEY@example.net:4000"
//! allow = ["laptop", "abcd-efgh-ijkl-mnop-qrst-uvwx-yz23"]
//! allow_any = false
//! rooms = ["friends"]
//! port_mapping = true
//!
//! [services]
//! ssh = 22
//! web = "localhost:8080"
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::exit::Failure;
use super::target::{Shared, Target, check_service};
use super::toml_file::{self, from_text};
use crate::identity::ServerAddr;

/// The settings of a file. What is left out is empty.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    server: Option<Server>,
    /// Names and ids of peers that may connect.
    pub(crate) allow: Vec<String>,
    /// Whether everybody may.
    pub(crate) allow_any: bool,
    /// Rooms to be in.
    pub(crate) rooms: Vec<String>,
    /// Whether the router is asked to map a port: it is, unless this says no.
    pub(crate) port_mapping: Option<bool>,
    services: BTreeMap<ServiceName, Place>,
}

impl Config {
    /// Reads a file; without one nothing is set.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        Ok(toml_file::load(path)?.unwrap_or_default())
    }

    /// The rendezvous.
    pub(crate) fn server(&self) -> Option<&ServerAddr> {
        self.server.as_ref().map(|server| &server.0)
    }

    /// What to share.
    pub(crate) fn services(&self) -> Vec<Shared> {
        let shared = |(name, place): (&ServiceName, &Place)| Shared {
            name: name.0.clone(),
            target: place.0.clone(),
        };
        self.services.iter().map(shared).collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Server(ServerAddr);

from_text!(Server);

#[derive(Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
struct ServiceName(String);

impl TryFrom<String> for ServiceName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        check_service(&name).map(|()| Self(name))
    }
}

/// A target: a text as on the command line, or the number of a port.
#[derive(Debug)]
struct Place(Target);

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlaceVisitor)
    }
}

struct PlaceVisitor;

impl Visitor<'_> for PlaceVisitor {
    type Value = Place;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port, or \"HOST:PORT\"")
    }

    fn visit_i64<E: Error>(self, port: i64) -> Result<Place, E> {
        self.visit_str(&port.to_string())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Place, E> {
        text.parse().map(Place).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, Failure> {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path)
    }

    #[test]
    fn all_settings_are_read() {
        let config = load(
            "server = \"example.net\"\nallow = [\"a\"]\nallow_any = true\nrooms = [\"r\"]\n\
             port_mapping = false\n[services]\nssh = 22\nweb = \"localhost:80\"\n",
        )
        .unwrap();
        assert_eq!(config.server().unwrap().to_string(), "example.net:4000");
        assert_eq!((config.allow, config.allow_any), (vec!["a".to_owned()], true));
        assert_eq!(config.rooms, ["r"]);
        assert_eq!(config.port_mapping, Some(false));
        let config = load("services = { web = \"localhost:80\", ssh = 22 }").unwrap();
        let services: Vec<_> = config
            .services()
            .iter()
            .map(|shared| format!("{}={}", shared.name, shared.target))
            .collect();
        assert_eq!(services, ["ssh=127.0.0.1:22", "web=localhost:80"]);
    }

    #[test]
    fn an_empty_file_and_no_file_set_nothing() {
        assert!(load("").unwrap().server().is_none());
        assert!(Config::load(Path::new("/nowhere/config.toml")).unwrap().services().is_empty());
    }

    #[test]
    fn a_mistake_is_named_by_file_and_line() {
        let cases = [
            ("sever = \"a\"", 1, "unknown field `sever`"),
            ("\n[services]\n\"a b\" = 1\n", 3, "is no name for a service"),
            ("\n[services]\nssh = 0\n", 3, "is not a port"),
            ("[services]\nssh = true\n", 2, "a port, or"),
            ("rooms = []\nserver = \"a:b:c\"\n", 2, "brackets"),
            ("allow = \"a\"\n", 1, "expected"),
        ];
        for (text, line, what) in cases {
            let error = load(text).unwrap_err().error;
            assert!(error.contains(&format!("config.toml:{line}: ")), "{text}: {error}");
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}

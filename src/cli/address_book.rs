//! The address book: names that a person gives to peers.
//!
//! ```toml
//! home = "abcd-efgh-ijkl-mnop-qrst-uvwx-yz23"
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::exit::{self, Failure};
use super::toml_file::{self, from_text};
use crate::identity::{ParsePeerIdError, PeerId, write_private};

/// Characters of a name.
const NAME_CHARS: usize = 63;

const HEADER: &str = "# Gimlet's address book. `gimlet peer add` and `gimlet peer remove` rewrite it: \
                      comments are lost.\n";

/// A peer as the user named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// Who it is.
    pub(crate) id: PeerId,
    /// Its name in the address book, or its id.
    pub(crate) name: String,
}

/// The names of peers, as they are in the file.
#[derive(Debug)]
pub(crate) struct AddressBook {
    path: PathBuf,
    peers: BTreeMap<String, PeerId>,
}

impl AddressBook {
    /// Reads the file; without one the book is empty.
    pub(crate) fn load(path: PathBuf) -> Result<Self, Failure> {
        let entries = toml_file::load::<BTreeMap<Name, Id>>(&path)?.unwrap_or_default();
        let peers = entries.into_iter().map(|(name, id)| (name.0.0, id.0)).collect();
        Ok(Self { path, peers })
    }

    /// The names and ids, in the order of the names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, PeerId)> {
        self.peers.iter().map(|(name, id)| (name.as_str(), *id))
    }

    /// Whom a text means: a name of the book, in whatever case (ssh gives `%h` in lower case), or an
    /// id.
    pub(crate) fn resolve(&self, text: &str) -> Result<Named, Failure> {
        match (self.peers.get(&text.to_ascii_lowercase()), text.parse()) {
            (Some(id), _) => Ok(Named { id: *id, name: text.to_ascii_lowercase() }),
            (None, Ok(id)) => Ok(self.named(id)),
            (None, Err(error)) => Err(self.unknown(text, error)),
        }
    }

    /// A peer by the name that it has here, or by its id if it has none.
    pub(crate) fn named(&self, id: PeerId) -> Named {
        let name = self.iter().find(|(_, known)| *known == id).map(|(name, _)| name.to_owned());
        Named { id, name: name.unwrap_or_else(|| id.to_string()) }
    }

    /// Puts a name into the book and the file. Returns the name, in lower case.
    pub(crate) fn add(&mut self, name: &str, id: PeerId, replace: bool) -> Result<String, Failure> {
        let name = name.to_ascii_lowercase();
        check_name(&name).map_err(Failure::usage)?;
        match self.peers.get(&name) {
            Some(known) if *known != id && !replace => {
                Err(Failure::new(exit::OTHER, format!("{name} is already the name of {known}"))
                    .hint("to give the name to the new id: --replace"))
            }
            _ => {
                self.peers.insert(name.clone(), id);
                self.save().map(|()| name)
            }
        }
    }

    /// Takes a name out of the book and the file.
    pub(crate) fn remove(&mut self, name: &str) -> Result<PeerId, Failure> {
        let name = name.to_ascii_lowercase();
        let Some(id) = self.peers.remove(&name) else {
            return Err(Failure::new(exit::NOT_ALLOWED, format!("there is no {name:?} here"))
                .hint("names that there are: gimlet peer list"));
        };
        self.save().map(|()| id)
    }

    fn save(&self) -> Result<(), Failure> {
        let table: BTreeMap<_, _> = self.iter().map(|(name, id)| (name, id.to_string())).collect();
        let entries = toml::to_string(&table).expect("texts can be written as TOML");
        write_private(&self.path, format!("{HEADER}{entries}").as_bytes())?;
        Ok(())
    }

    fn unknown(&self, text: &str, error: ParsePeerIdError) -> Failure {
        // A name never has this length or these symbols all right: it was meant as an id.
        let meant_as_id = !matches!(error, ParsePeerIdError::Length { found } if found < 20)
            && check_name(&text.to_ascii_lowercase()).is_ok()
            && text.len() > 20;
        let failure = |why: String| Failure::new(exit::NOT_ALLOWED, why);
        if meant_as_id || matches!(error, ParsePeerIdError::Mistyped) {
            return failure(format!("{text:?}: {error}"));
        }
        failure(format!("{text:?} is neither a name in {} nor a peer id", self.path.display()))
            .hint(format!("name it: gimlet peer add {} ID", text.to_ascii_lowercase()))
    }
}

/// Whether a text can be a name: it must look unlike an id, a path and an option.
fn check_name(name: &str) -> Result<(), String> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let starts_well = name.bytes().next().is_some_and(good);
    if !starts_well || !name.bytes().all(|byte| good(byte) || b"._-".contains(&byte)) {
        return Err(format!(
            "{name:?} can't be a name: a name has a-z, 0-9, '.', '_' and '-', and starts with a \
             letter or a digit"
        ));
    }
    if name.len() > NAME_CHARS {
        return Err(format!("a name has at most {NAME_CHARS} characters"));
    }
    match name.parse::<PeerId>() {
        Ok(_) => Err("a peer id can't be a name".to_owned()),
        Err(_) => Ok(()),
    }
}

#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
struct Name(CheckedName);

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct CheckedName(String);

impl std::str::FromStr for CheckedName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        check_name(name).map(|()| Self(name.to_owned()))
    }
}

from_text!(Name);

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Id(PeerId);

from_text!(Id);

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> [PeerId; 2] {
        [7, 8].map(|byte| PeerId::from_bytes([byte; 15]))
    }

    fn book() -> (tempfile::TempDir, AddressBook) {
        let home = tempfile::tempdir().unwrap();
        let book = AddressBook::load(home.path().join("peers.toml")).unwrap();
        (home, book)
    }

    #[test]
    fn what_is_added_is_there_after_a_restart() {
        let [id, other] = ids();
        let (home, mut book) = book();
        assert_eq!(book.add("Home.Net", id, false).unwrap(), "home.net");
        book.add("laptop", other, false).unwrap();
        let book = AddressBook::load(home.path().join("peers.toml")).unwrap();
        assert_eq!(book.iter().collect::<Vec<_>>(), [("home.net", id), ("laptop", other)]);
    }

    #[test]
    fn a_name_keeps_its_id_unless_told_otherwise() {
        let [id, other] = ids();
        let (_home, mut book) = book();
        book.add("home", id, false).unwrap();
        book.add("home", id, false).unwrap();
        let failure = book.add("home", other, false).unwrap_err();
        assert!(failure.hint.unwrap().contains("--replace"));
        assert_eq!(book.resolve("home").unwrap().id, id);
        book.add("home", other, true).unwrap();
        assert_eq!(book.resolve("home").unwrap().id, other);
        assert_eq!(book.remove("home").unwrap(), other);
        assert_eq!(book.remove("home").unwrap_err().code, exit::NOT_ALLOWED);
    }

    #[test]
    fn a_peer_is_found_by_name_in_any_case_and_by_id() {
        let [id, other] = ids();
        let (_home, mut book) = book();
        book.add("home", id, false).unwrap();
        let home = Named { id, name: "home".to_owned() };
        for text in ["home", "HOME", &id.to_string(), &id.to_string().to_uppercase()] {
            assert_eq!(book.resolve(text).unwrap(), home);
        }
        let stranger = book.resolve(&other.to_string()).unwrap();
        assert_eq!(stranger.name, other.to_string());
    }

    #[test]
    fn whoever_is_unknown_is_explained() {
        let [id, _] = ids();
        let (_home, book) = book();
        let failure = book.resolve("work").unwrap_err();
        assert_eq!(failure.code, exit::NOT_ALLOWED);
        assert_eq!(failure.hint.unwrap(), "name it: gimlet peer add work ID");
        let mut mistyped = id.to_string();
        mistyped.replace_range(0..1, if mistyped.starts_with('a') { "b" } else { "a" });
        let failure = book.resolve(&mistyped).unwrap_err();
        assert!(failure.error.contains("mistyped"), "{}", failure.error);
        let failure = book.resolve(&mistyped[..29]).unwrap_err();
        assert!(failure.error.contains("is a part missing?"), "{}", failure.error);
    }

    #[test]
    fn names_are_restricted() {
        let [id, _] = ids();
        let long = "a".repeat(NAME_CHARS);
        for good in ["a", "0", "a.b_c-d", &long] {
            check_name(good).unwrap();
        }
        let too_long = "a".repeat(NAME_CHARS + 1);
        let id = id.to_string();
        for bad in ["", "-a", ".a", "_a", "A", "a b", "a/b", "ä", &too_long, &id] {
            check_name(bad).unwrap_err();
        }
    }

    #[test]
    fn a_mistake_in_the_file_is_named_by_its_line() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("peers.toml");
        for (text, line) in [("\nhome = \"x\"\n", 2), ("Home = \"x\"\n", 1), ("home = 1\n", 1)] {
            std::fs::write(&path, text).unwrap();
            let failure = AddressBook::load(path.clone()).unwrap_err();
            let place = format!("{}:{line}: ", path.display());
            assert!(failure.error.starts_with(&place), "{}", failure.error);
        }
    }
}

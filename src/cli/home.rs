//! The home directory: where a peer keeps its key, its settings and what it has learnt.
//!
//! ```text
//! key                 the secret key: whoever has it is this peer
//! config.toml         settings, written by the user
//! peers.toml          the address book
//! known_servers.toml  keys of rendezvous servers, remembered at the first login
//! ```

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::exit::{self, Failure};
use crate::identity::{SecretKey, load_or_create};

/// Reads a variable of the environment: [`std::env::var_os`], but in tests.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The home directory of a peer. It need not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    directory: PathBuf,
}

impl Home {
    /// The directory that the user named, or `gimlet` where settings are kept.
    pub(crate) fn locate(
        named: Option<&Path>,
        environment: Environment<'_>,
    ) -> Result<Self, Failure> {
        let directory = match named {
            Some(directory) if !directory.as_os_str().is_empty() => directory.to_owned(),
            _ => base(environment, "XDG_CONFIG_HOME", ".config")
                .ok_or_else(|| {
                    Failure::usage("there is no home directory: HOME is not set")
                        .hint("say where the key and the settings are: --home DIR")
                })?
                .join("gimlet"),
        };
        Ok(Self { directory })
    }

    /// The key, made at the first use.
    pub(crate) fn key(&self) -> Result<SecretKey, Failure> {
        load_or_create(&self.directory.join("key"))
            .map_err(|error| Failure::new(exit::OTHER, error.to_string()))
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.directory.join("config.toml")
    }

    pub(crate) fn address_book(&self) -> PathBuf {
        self.directory.join("peers.toml")
    }

    pub(crate) fn known_servers(&self) -> PathBuf {
        self.directory.join("known_servers.toml")
    }
}

/// A base directory of the XDG specification: what the variable says, if that is an absolute path,
/// or a directory below HOME.
pub(crate) fn base(environment: Environment<'_>, variable: &str, below: &str) -> Option<PathBuf> {
    let absolute = |name: &str| {
        environment(name).map(PathBuf::from).filter(|directory| directory.is_absolute())
    };
    absolute(variable).or_else(|| Some(absolute("HOME")?.join(below)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(named: Option<&str>, variables: &[(&str, &str)]) -> Result<PathBuf, Failure> {
        let environment = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        };
        Home::locate(named.map(Path::new), &environment).map(|home| home.directory)
    }

    #[test]
    fn a_named_directory_comes_first_then_xdg_then_home() {
        let both = [("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")];
        assert_eq!(home(Some("here"), &both).unwrap(), Path::new("here"));
        assert_eq!(home(None, &both).unwrap(), Path::new("/x/gimlet"));
        assert_eq!(home(None, &both[..1]).unwrap(), Path::new("/h/.config/gimlet"));
    }

    #[test]
    fn an_empty_or_relative_variable_counts_as_none() {
        let variables = [("HOME", "/h"), ("XDG_CONFIG_HOME", "x")];
        assert_eq!(home(Some(""), &variables).unwrap(), Path::new("/h/.config/gimlet"));
        let failure = home(None, &[("HOME", "")]).unwrap_err();
        assert_eq!(failure.code, exit::USAGE);
    }
}

//! Settings files: read whole, and complained about by file and line.

use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;

use super::exit::{self, Failure};

/// Reads a TOML file; `None` if there is none.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let error = format!("cannot read {}: {error}", path.display());
            return Err(Failure::new(exit::OTHER, error));
        }
    };
    parse(path, &text).map(Some)
}

fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, Failure> {
    toml::from_str(text).map_err(|error| {
        let (line, _) = error.span().map_or((1, 1), |span| place_of(text, span.start));
        Failure::usage(format!("{}:{line}: {}", path.display(), error.message().trim_end()))
    })
}

/// The line of a byte of `text` and its column, in characters; the first of each is 1.
pub(crate) fn place_of(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or(before);
    (1 + before.matches('\n').count(), 1 + line.chars().count())
}

/// A value that a settings file writes as a string, and that knows how to read itself.
macro_rules! from_text {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse().map(Self).map_err(|error| format!("{error}"))
            }
        }
    };
}
pub(crate) use from_text;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_mistake_is_named_by_file_and_line() {
        let path = Path::new("/x/config.toml");
        let failure = parse::<BTreeMap<String, u8>>(path, "a = 1\n\nb = 300\n").unwrap_err();
        assert_eq!(failure.code, exit::USAGE);
        assert!(failure.error.starts_with("/x/config.toml:3: "), "{}", failure.error);
        let failure = parse::<BTreeMap<String, u8>>(path, "a = 1\nb").unwrap_err();
        assert!(failure.error.starts_with("/x/config.toml:2: "), "{}", failure.error);
    }

    #[test]
    fn no_file_is_no_mistake() {
        let found = load::<BTreeMap<String, u8>>(Path::new("/nowhere/at/all.toml")).unwrap();
        assert_eq!(found, None);
    }
}

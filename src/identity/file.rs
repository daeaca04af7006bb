//! The key file, and private files in general.
//!
//! ```text
//! # Secret key of the Gimlet peer abcd-efgh-….
//! # Keep it secret: whoever has it is this peer.
//! <secret key (32 bytes) and check (3 bytes) in base32: 56 characters>
//! ```
//!
//! A file appears under its name whole or not at all: it is written beside its place, synced, and
//! then linked or renamed to it.

use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use blake2::{Blake2s256, Digest};
use zeroize::Zeroizing;

use super::base32;
use super::key::SecretKey;

/// Bytes of the secret key.
const SECRET_BYTES: usize = 32;

/// Bytes that follow the secret and show that it is the one that was written: with them the whole
/// fills base32's groups, and a damaged file passes once in 2^24.
const CHECK_BYTES: usize = 3;

/// Characters of the line that holds the secret.
const LINE_CHARS: usize =
    (SECRET_BYTES + CHECK_BYTES) * base32::GROUP_SYMBOLS / base32::GROUP_BYTES;

/// What the hash in a key file is for: keeps it from colliding with any other use of the hash.
const DOMAIN: &[u8] = b"gimlet key file v1";

/// Largest key file that is read, in bytes: ours are below 200, the rest is for people's comments.
const FILE_BYTES: usize = 4096;

/// Loads the secret key in a file, or makes one and stores it there if there is no such file.
///
/// Directories on the way are made for their owner only. Of several processes that start at once,
/// one stores its key and all others load that one. An existing file is never changed.
///
/// # Errors
/// [`KeyFileError`]: the file can't be read or made, others may read or write it, or it holds no
/// key.
pub fn load_or_create(path: &Path) -> Result<SecretKey, KeyFileError> {
    if let Some(key) = load(path)? {
        return Ok(key);
    }
    let key = SecretKey::generate();
    match create_private(path, &render(&key)) {
        Ok(()) => Ok(key),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let gone = || KeyFileError::io("read", path, io::ErrorKind::NotFound.into());
            load(path)?.ok_or_else(gone)
        }
        Err(e) => Err(KeyFileError::io("create", path, e)),
    }
}

/// Writes a file that only its owner can read, or replaces it: at every moment the name leads to the
/// old content or to the new, whole.
///
/// Directories on the way are made for their owner only.
///
/// # Errors
/// What the file system says; the text names the file.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let replace = || {
        let draft = Draft::beside(path, bytes)?;
        fs::rename(&draft.path, path)?;
        sync_directory_of(path);
        Ok(())
    };
    replace().map_err(|e: io::Error| {
        io::Error::new(e.kind(), format!("cannot write {}: {e}", path.display()))
    })
}

/// Reads a key file; `None` if there is none.
fn load(path: &Path) -> Result<Option<SecretKey>, KeyFileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(KeyFileError::io("open", path, e)),
    };
    let metadata = file.metadata().map_err(|e| KeyFileError::io("read", path, e))?;
    if !metadata.is_file() {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
        return Err(KeyFileError::io("read", path, source));
    }
    let mode = mode_of(&metadata);
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
    }
    let text = read_bounded(file).map_err(|e| KeyFileError::io("read", path, e))?;
    let corrupt = |why| KeyFileError::Corrupt { path: path.to_owned(), why };
    parse(&text).map(Some).map_err(corrupt)
}

/// Reads a little more than the largest key file that we accept, into memory that is wiped.
fn read_bounded(file: File) -> io::Result<Zeroizing<Vec<u8>>> {
    // The capacity is enough for all of it, so that the vector never moves and leaves a copy.
    let mut text = Zeroizing::new(Vec::with_capacity(2 * FILE_BYTES));
    file.take(FILE_BYTES as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// The content of the file of a key.
fn render(key: &SecretKey) -> Zeroizing<Vec<u8>> {
    let header = format!(
        "# Secret key of the Gimlet peer {}.\n# Keep it secret: whoever has it is this peer.\n",
        key.public().peer_id()
    );
    let mut bytes = Zeroizing::new([0; SECRET_BYTES + CHECK_BYTES]);
    bytes[..SECRET_BYTES].copy_from_slice(key.expose());
    bytes[SECRET_BYTES..].copy_from_slice(&check(key.expose()));
    let mut line = Zeroizing::new([0; LINE_CHARS]);
    base32::spread(&*bytes, &mut *line);

    let mut text = Zeroizing::new(Vec::with_capacity(header.len() + LINE_CHARS + 1));
    text.extend_from_slice(header.as_bytes());
    text.extend(line.iter().map(|symbol| base32::letter(*symbol)));
    text.push(b'\n');
    text
}

/// Reads what [`render`] wrote; comments and blank lines don't matter.
fn parse(text: &[u8]) -> Result<SecretKey, Corruption> {
    if text.len() > FILE_BYTES {
        return Err(Corruption::TooLong);
    }
    let mut lines = text
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && line[0] != b'#');
    match (lines.next(), lines.next()) {
        (Some(line), None) => parse_line(line),
        (None, _) => Err(Corruption::NoKey),
        (Some(_), Some(_)) => Err(Corruption::Form),
    }
}

fn parse_line(line: &[u8]) -> Result<SecretKey, Corruption> {
    if line.len() != LINE_CHARS {
        return Err(Corruption::Form);
    }
    let mut symbols = Zeroizing::new([0; LINE_CHARS]);
    for (slot, letter) in symbols.iter_mut().zip(line) {
        *slot = base32::symbol(char::from(*letter)).ok_or(Corruption::Form)?;
    }
    let mut bytes = Zeroizing::new([0; SECRET_BYTES + CHECK_BYTES]);
    base32::gather(&*symbols, &mut *bytes);
    let (secret, found) = bytes.split_first_chunk().expect("it is longer than a secret key");
    if check(secret) != found {
        return Err(Corruption::Check);
    }
    Ok(SecretKey::from_bytes(secret))
}

fn check(secret: &[u8; SECRET_BYTES]) -> [u8; CHECK_BYTES] {
    let hash = Blake2s256::new().chain_update(DOMAIN).chain_update(secret).finalize();
    std::array::from_fn(|at| hash[at])
}

/// Why there is no key to be had from a file.
#[derive(Debug)]
pub enum KeyFileError {
    /// The file system refused something.
    Io {
        /// What was tried, as a verb: "open".
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Users other than its owner may read or write the file.
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else than a key. It is left as it is.
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: Corruption,
    },
}

impl KeyFileError {
    fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), source }
    }
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, path, source } => {
                write!(f, "cannot {doing} the key file {}: {source}", path.display())
            }
            Self::Exposed { path, mode } => write!(
                f,
                "others may read or write the key file {path} (mode {mode:04o}): chmod 600 {path}",
                path = path.display(),
            ),
            Self::Corrupt { path, why } => write!(
                f,
                "the key file {} is damaged ({why}): restore it, or move it away to start with a \
                 new key",
                path.display(),
            ),
        }
    }
}

impl std::error::Error for KeyFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Exposed { .. } | Self::Corrupt { .. } => None,
        }
    }
}

/// What is wrong with the content of a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corruption {
    /// It is too long for a key file.
    TooLong,
    /// It is empty, or has comments only.
    NoKey,
    /// It holds something that doesn't look like a key.
    Form,
    /// It holds a key of the right form, but not the one that was written.
    Check,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "it is too long",
            Self::NoKey => "there is no key in it",
            Self::Form => "it is not one line of 56 characters a-z and 2-7",
            Self::Check => "its check does not fit",
        })
    }
}

/// Writes a private file under a name that doesn't exist yet; `AlreadyExists` if it does.
fn create_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = Draft::beside(path, bytes)?;
    match fs::hard_link(&draft.path, path) {
        // Some file systems have no hard links, and Android forbids them to programs. There a
        // process that starts in the same instant could read our half-written file, and call it
        // damaged.
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            let mut file = create_new(path)?;
            file.write_all(bytes)?;
            file.sync_all()?;
        }
        linked => linked?,
    }
    sync_directory_of(path);
    Ok(())
}

/// A finished file on its way to its name; removed when dropped.
struct Draft {
    path: PathBuf,
}

impl Draft {
    /// Writes and syncs a private file in the directory of `path`, which is made if need be.
    fn beside(path: &Path, bytes: &[u8]) -> io::Result<Self> {
        let no_name =
            || io::Error::new(io::ErrorKind::InvalidInput, "it is not the name of a file");
        let name = path.file_name().ok_or_else(no_name)?;
        create_directory(directory_of(path))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{:016x}.new", getrandom::u64().map_err(io::Error::other)?));

        let path = path.with_file_name(hidden);
        let mut file = create_new(&path)?;
        let draft = Self { path };
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove.
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes sure that the name of a new file survives a power failure. The content is synced already,
/// and not all file systems let a directory be synced: so this fails quietly.
fn sync_directory_of(path: &Path) {
    let _ = File::open(directory_of(path)).and_then(|directory| directory.sync_all());
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn create_directory(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// The permission bits of a file.
#[cfg(unix)]
fn mode_of(metadata: &Metadata) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777
}

/// Elsewhere files have no such bits.
#[cfg(not(unix))]
fn mode_of(_: &Metadata) -> u32 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use tempfile::TempDir;

    fn scratch() -> TempDir {
        tempfile::tempdir().unwrap()
    }

    fn names_in(directory: &Path) -> Vec<std::ffi::OsString> {
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn makes_a_key_once_and_loads_it_afterwards() {
        let scratch = scratch();
        let path = scratch.path().join("deep/er/key");
        let made = load_or_create(&path).unwrap();
        let loaded = load_or_create(&path).unwrap();
        assert_eq!(made.expose(), loaded.expose());
        assert_eq!(names_in(path.parent().unwrap()), ["key"]);

        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with(&format!(
                "# Secret key of the Gimlet peer {}",
                made.public().peer_id()
            ))
        );
        assert!(text.contains("Keep it secret"));
    }

    #[cfg(unix)]
    #[test]
    fn what_it_makes_is_for_the_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = scratch();
        let path = scratch.path().join("home/key");
        load_or_create(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        write_private(&path.with_file_name("book"), b"1").unwrap();
        assert_eq!(mode(&path.with_file_name("book")), 0o600);
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = scratch();
        let path = scratch.path().join("key");
        load_or_create(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = load_or_create(&path).unwrap_err();
            assert!(matches!(error, KeyFileError::Exposed { mode: found, .. } if found == mode));
            let cure = format!("chmod 600 {}", path.display());
            assert!(error.to_string().ends_with(&cure), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        load_or_create(&path).unwrap();
    }

    #[test]
    fn all_who_start_at_once_have_the_same_key() {
        const STARTERS: usize = 8;
        for _ in 0..5 {
            let scratch = scratch();
            let path = scratch.path().join("home/key");
            let start = Barrier::new(STARTERS);
            let run = || {
                start.wait();
                *load_or_create(&path).unwrap().public()
            };
            let keys: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..STARTERS).map(|_| scope.spawn(run)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(keys.iter().all(|key| *key == keys[0]));
            assert_eq!(names_in(path.parent().unwrap()), ["key"]);
        }
    }

    #[test]
    fn a_damaged_file_is_named_and_left_alone() {
        let scratch = scratch();
        let path = scratch.path().join("key");
        let long = "#".repeat(FILE_BYTES + 1);
        let cases = [
            ("", Corruption::NoKey),
            ("# only a comment\n\n", Corruption::NoKey),
            ("hello\n", Corruption::Form),
            (&"0".repeat(LINE_CHARS), Corruption::Form),
            (&"é".repeat(LINE_CHARS / 2), Corruption::Form),
            (&"a".repeat(LINE_CHARS), Corruption::Check),
            (&format!("{0}\n{0}", "a".repeat(LINE_CHARS)), Corruption::Form),
            (&long, Corruption::TooLong),
        ];
        for (content, expected) in cases {
            write_private(&path, content.as_bytes()).unwrap();
            let error = load_or_create(&path).unwrap_err();
            assert!(matches!(&error, KeyFileError::Corrupt { why, .. } if *why == expected));
            assert!(error.to_string().contains(&path.display().to_string()));
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }

    #[test]
    fn one_wrong_character_in_a_key_is_noticed() {
        let text = render(&SecretKey::from_bytes(&[1; SECRET_BYTES]));
        assert!(parse(&text).is_ok());
        let line = text.len() - 1 - LINE_CHARS;
        for at in line..text.len() - 1 {
            let mut wrong = text.to_vec();
            wrong[at] = if wrong[at] == b'a' { b'b' } else { b'a' };
            assert!(matches!(parse(&wrong), Err(Corruption::Check)));
        }
    }

    #[test]
    fn a_key_survives_editors_and_shouting() {
        let key = SecretKey::from_bytes(&[7; SECRET_BYTES]);
        let text = String::from_utf8(render(&key).to_vec()).unwrap();
        let edited = format!("\n{}\n# mine\n", text.to_uppercase().replace('\n', " \r\n"));
        assert_eq!(parse(edited.as_bytes()).unwrap().expose(), key.expose());
    }

    #[test]
    fn a_private_file_is_replaced_whole() {
        let scratch = scratch();
        let path = scratch.path().join("home/book");
        write_private(&path, b"first").unwrap();
        write_private(&path, b"2nd").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2nd");
        assert_eq!(names_in(path.parent().unwrap()), ["book"]);
    }

    #[test]
    fn what_cannot_be_written_is_named_and_leaves_nothing() {
        let scratch = scratch();
        let directory = scratch.path().join("taken");
        fs::create_dir(&directory).unwrap();
        let error = write_private(&directory, b"x").unwrap_err();
        assert!(error.to_string().contains("taken"), "{error}");
        assert!(matches!(load_or_create(&directory), Err(KeyFileError::Io { .. })));
        assert!(matches!(load_or_create(Path::new("/")), Err(KeyFileError::Io { .. })));
        assert_eq!(names_in(scratch.path()), ["taken"]);
    }
}

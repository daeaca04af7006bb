//! Standard output as the plain descriptor that it is, without a buffer, and its early end.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Standard input, to read from directly.
pub(crate) fn stdin() -> io::Result<File> {
    Ok(io::stdin().as_fd().try_clone_to_owned()?.into())
}

/// Standard output, to write to directly.
pub(crate) fn stdout() -> io::Result<File> {
    Ok(io::stdout().as_fd().try_clone_to_owned()?.into())
}

/// Lets whoever reads our standard output see its end while this process goes on. Nothing that is
/// printed later goes anywhere.
pub(crate) fn close_stdout() -> io::Result<()> {
    let null = File::options().write(true).open("/dev/null")?;
    // SAFETY: both are open descriptors of this process, and no Rust object owns the second: the
    // standard library treats 1 as always open, and it stays so.
    let result = unsafe { libc::dup2(null.as_raw_fd(), io::stdout().as_raw_fd()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

//! Standard input and output as the plain descriptors that they are, without buffers.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

/// Standard input, to read from directly.
pub(crate) fn stdin() -> io::Result<File> {
    Ok(io::stdin().as_fd().try_clone_to_owned()?.into())
}

/// Standard output, to write to directly.
pub(crate) fn stdout() -> io::Result<File> {
    Ok(io::stdout().as_fd().try_clone_to_owned()?.into())
}

//! Who wants to hear that this machine's network has changed, and the socket on which the kernel says
//! it: one for all peers of a reactor, there as long as one of them wants it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::reactor::HostId;
use super::sys;
use crate::limits;

/// What a look at the socket has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Notices {
    /// There was a notice, or one was lost.
    pub(super) changed: bool,
    /// There may be more.
    pub(super) more: bool,
}

/// The socket, and those who follow it.
#[derive(Debug, Default)]
pub(super) struct NetworkNotices {
    socket: Option<File>,
    followers: BTreeSet<HostId>,
}

impl NetworkNotices {
    /// Where the socket can't be had, nothing is noticed.
    pub(super) fn follow(&mut self, registry: &Registry, token: Token, host: HostId) {
        self.followers.insert(host);
        if self.socket.is_none() {
            match open(registry, token) {
                Ok(socket) => self.socket = Some(socket),
                Err(error) => log::debug!("changes of the network go unnoticed: {error}"),
            }
        }
    }

    pub(super) fn unfollow(&mut self, registry: &Registry, host: HostId) {
        self.followers.remove(&host);
        if self.followers.is_empty()
            && let Some(socket) = self.socket.take()
            && let Err(error) = registry.deregister(&mut SourceFd(&socket.as_raw_fd()))
        {
            log::debug!("deregister: {error}");
        }
    }

    pub(super) fn followers(&self) -> Vec<HostId> {
        self.followers.iter().copied().collect()
    }

    /// Reads a turn's worth. A burst is one change.
    pub(super) fn read(&mut self, scratch: &mut [u8]) -> Notices {
        let Some(socket) = &mut self.socket else { return Notices::default() };
        let mut changed = false;
        for _ in 0..limits::TURN_NOTICES {
            match socket.read(scratch) {
                Ok(_) => changed = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Notices { changed, more: false };
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // More came than the socket holds, and what was lost may be what matters.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changed = true,
                Err(error) => {
                    log::debug!("notices of the network: {error}");
                    return Notices { changed, more: false };
                }
            }
        }
        Notices { changed, more: true }
    }
}

fn open(registry: &Registry, token: Token) -> io::Result<File> {
    let socket = File::from(sys::network_notices()?);
    registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)?;
    Ok(socket)
}

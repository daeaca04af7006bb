//! What a phase costs: time on the wall, and CPU time on either side.

use std::io;
use std::time::{Duration, Instant};

use super::proc;
use crate::net::clock;

/// A phase under way.
#[derive(Debug)]
pub(super) struct Meter {
    server: Option<(u32, Duration)>,
    clients: Vec<(u32, Duration)>,
    began: Instant,
}

/// What it cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) wall: Duration,
    /// CPU time of the server's process, where it can be seen.
    pub(super) server: Option<Duration>,
    /// CPU time of those who made the load.
    pub(super) clients: Duration,
}

impl Meter {
    /// Begins a phase with a server, and a load that these processes make.
    pub(super) fn start(server: Option<u32>, clients: &[u32]) -> io::Result<Self> {
        let with_cpu = |pid: u32| Ok::<_, io::Error>((pid, proc::cpu(pid)?));
        let clients = clients.iter().map(|pid| with_cpu(*pid)).collect::<Result<_, _>>()?;
        let server = server.map(with_cpu).transpose()?;
        Ok(Self { server, clients, began: clock::now() })
    }

    /// Ends it.
    pub(super) fn stop(&self) -> io::Result<Cost> {
        let wall = clock::now() - self.began;
        let since = |(pid, before): &(u32, Duration)| {
            Ok::<_, io::Error>(proc::cpu(*pid)?.saturating_sub(*before))
        };
        let server = self.server.as_ref().map(since).transpose()?;
        let clients = self.clients.iter().map(since).sum::<Result<Duration, _>>()?;
        Ok(Cost { wall, server, clients })
    }
}

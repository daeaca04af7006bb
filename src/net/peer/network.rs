//! This machine's network changes: what there is now, and whether the main connection belongs to it.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::{PeerHost, Sock};
use crate::net::reactor::Core;
use crate::net::{clock, interfaces, socket};
use crate::proto::peer::Network;

/// Where a connection to the rendezvous begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    server: SocketAddr,
    /// The address from which the kernel reaches it, while there is a way.
    source: Option<IpAddr>,
}

impl Origin {
    /// As the kernel sees it now.
    pub(super) fn of(server: SocketAddr) -> Self {
        let source = socket::source_address(server);
        Self { server, source: source.inspect_err(|error| log::debug!("no way: {error}")).ok() }
    }

    /// Whether a connection that began here begins as a new one would. While there is no way, nothing
    /// does, and the old one may still come to life again.
    fn is_current(self) -> bool {
        let now = Self::of(self.server).source;
        self.source.is_none() || now.is_none() || self.source == now
    }
}

impl PeerHost {
    /// Addresses or routes of this machine have changed, or may have.
    pub(in crate::net) fn handle_network_changed(&mut self, core: &mut Core) {
        self.machine.handle_network_changed(clock::now());
        self.drain(core);
    }

    pub(super) fn look_at_network(&mut self, core: &mut Core) {
        self.look_at_gateways(core);
        match self.network() {
            Ok(network) => {
                log::debug!("network: {network:?}");
                self.machine.handle_network(network, clock::now());
            }
            Err(error) => log::warn!("the interfaces can't be listed: {error}"),
        }
    }

    fn network(&self) -> io::Result<Network> {
        let all = interfaces::all_addresses()?;
        let main = match self.main.and_then(|key| self.socks.get(key)) {
            Some(Sock::Main(main)) => Some(main),
            _ => None,
        };
        let main_stands = main.is_none_or(|main| {
            let local = main.wire.stream.local_addr();
            main.origin.is_current() && local.is_ok_and(|local| all.contains(&local.ip()))
        });
        let near = match main {
            Some(main) => main.origin.server.ip().is_loopback(),
            None => self.options.server.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()),
        };
        Ok(Network { hosts: interfaces::hosts_among(all, near), main_stands })
    }
}

//! Where peers come from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Peers behind one address: far below what a rendezvous grants one, and below its ephemeral ports.
const PEERS_PER_ADDRESS: usize = 250;

/// The first address of those that follow each other.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);

/// The source addresses of a load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sources {
    spread: bool,
    any: IpAddr,
}

impl Sources {
    /// All of 127.0.0.0/8 is on this machine: towards a server there, peers spread over it. Towards others,
    /// the kernel chooses.
    pub(super) fn towards(server: SocketAddr) -> Self {
        let spread = server.is_ipv4() && server.ip().is_loopback();
        Self { spread, any: crate::net::socket::unspecified(server) }
    }

    /// The address of a peer.
    pub(super) fn of(self, number: usize) -> IpAddr {
        match self.spread {
            true => {
                Ipv4Addr::from_bits(FIRST.to_bits() + (number / PEERS_PER_ADDRESS) as u32).into()
            }
            false => self.any,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_spread_over_the_loopback_network_alone() {
        let near = Sources::towards("127.0.0.1:4000".parse().unwrap());
        assert_eq!(near.of(0).to_string(), "127.1.0.1");
        assert_eq!(near.of(249), near.of(0));
        assert_eq!(near.of(250).to_string(), "127.1.0.2");
        assert!(near.of(1_000_000).is_loopback());
        let far = Sources::towards("[::1]:4000".parse().unwrap());
        assert_eq!(far.of(1000).to_string(), "::");
    }
}

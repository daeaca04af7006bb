//! Where S is. The lab's vocabulary of NATs, which the simulator shares, asks for it.

use std::net::Ipv4Addr;

/// S has two addresses, for what RFC 5780 calls the alternate address.
pub(crate) const S_V4: [Ipv4Addr; 2] =
    [Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(203, 0, 113, 1)];

/// Site `n` has 16 public addresses from here.
pub(crate) fn public_block(site: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, 16 * site)
}

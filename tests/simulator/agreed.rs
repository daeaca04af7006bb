//! What the kernel's NATs of the lab and the simulator's own must both do: one table, which a test of each of
//! them holds. Plain sockets look at it from outside.

use std::net::SocketAddr;

/// Plain sockets on three machines: A behind the NAT, S with two addresses, and B. Delays are small.
pub(crate) trait Bench {
    /// How S, at one of its addresses, sees a connection from a local port of A. It stays open.
    fn observe(&mut self, local: u16, address: usize, port: u16) -> SocketAddr;

    /// A dials a port of S from a local port, and S refuses it with an RST.
    fn refused(&mut self, local: u16, port: u16);

    /// What a SYN draws; A listens on [`LOCAL`].
    fn knock(&mut self, from: Knocker, to: SocketAddr) -> Answer;

    /// Whether A and B, both behind this NAT, connect when each dials where S sees the other, at once.
    fn crosses(&mut self) -> bool;
}

/// The local port of A that is observed.
pub(crate) const LOCAL: u16 = 40_000;

/// Who knocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Knocker {
    /// S, from a port that A has not written to.
    OtherPort,
    /// B, whom A has not written to.
    Stranger,
}

/// What a SYN draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    LetIn,
    Silence,
    Rst,
    /// Destination unreachable, with this code.
    Icmp(u8),
}

/// How S sees one local port at two ports of one address, and at another address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Three times the same endpoint.
    Same,
    /// Another one at the other address.
    ByAddress,
    /// Three different ones.
    Different,
}

/// Which port a mapping gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// The local one.
    Kept,
    /// So many after the one that was given before.
    After(u16),
    /// Another one.
    Other,
}

/// What is agreed of one NAT.
pub(crate) struct Line {
    pub(crate) nat: &'static str,
    seen: Seen,
    /// The port of the second mapping.
    next: Given,
    /// The port of a mapping that follows one that an RST has ended, which follows another.
    after_rst: Given,
    /// What [`Knocker::OtherPort`] and [`Knocker::Stranger`] draw at A's endpoint.
    knocks: [Answer; 2],
    /// Where endpoints can be foreseen.
    crosses: Option<bool>,
}

use Answer::{Icmp, LetIn, Rst, Silence};
use Given::{After, Kept, Other};
use Seen::{ByAddress, Different, Same};

const fn line(
    nat: &'static str,
    seen: Seen,
    next: Given,
    after_rst: Given,
    knocks: [Answer; 2],
    crosses: Option<bool>,
) -> Line {
    Line { nat, seen, next, after_rst, knocks, crosses }
}

pub(crate) const TABLE: [Line; 16] = [
    line("open", Same, Kept, Kept, [LetIn, LetIn], Some(true)),
    line("firewall", Same, Kept, Kept, [Silence, Silence], Some(true)),
    line("preserving", Same, Kept, Kept, [Silence, Silence], Some(true)),
    line("preserving_rst", Same, Kept, Kept, [Rst, Rst], Some(true)),
    line("preserving_icmp", Same, Kept, Kept, [Icmp(3), Icmp(3)], Some(true)),
    line("preserving_prohibited", Same, Kept, Kept, [Icmp(13), Icmp(13)], Some(true)),
    line("masquerade", Same, Kept, Kept, [Rst, Rst], Some(true)),
    line("pool_paired", Same, Kept, Kept, [Silence, Silence], Some(true)),
    line("crossing_dropped", Same, Kept, Kept, [Silence, Silence], Some(false)),
    line("crossing_reset", Same, Kept, Kept, [Silence, Silence], Some(false)),
    line("eim", Same, Other, Other, [Silence, Silence], Some(true)),
    line("eim_adf", Same, Other, Other, [LetIn, Silence], Some(true)),
    line("eim_eif", Same, Other, Other, [LetIn, LetIn], Some(true)),
    line("adm", ByAddress, Other, Other, [Silence, Silence], None),
    line("sequential", Different, After(1), After(2), [Silence, Silence], None),
    line("sequential_2", Different, After(2), After(4), [Silence, Silence], None),
];

/// Looks at a NAT, and compares.
pub(crate) fn check(line: &Line, bench: &mut impl Bench) {
    let nat = line.nat;
    let seen = [(0, 9000), (0, 9001), (1, 9002)].map(|(at, port)| bench.observe(LOCAL, at, port));
    let how = match (seen[0] == seen[1], seen[0] == seen[2]) {
        (true, true) => Seen::Same,
        (true, false) => Seen::ByAddress,
        (false, _) => Seen::Different,
    };
    assert_eq!(how, line.seen, "{nat}: {seen:?}");
    assert_eq!(given(LOCAL, seen[0], seen[1]), line.next, "{nat}: {seen:?}");

    let before = bench.observe(LOCAL + 1, 0, 9003);
    bench.refused(LOCAL + 2, 9004);
    let after = bench.observe(LOCAL + 2, 0, 9004);
    assert_eq!(given(LOCAL + 2, before, after), line.after_rst, "{nat}: {before}, RST, {after}");

    let knocks = [Knocker::OtherPort, Knocker::Stranger].map(|who| bench.knock(who, seen[0]));
    assert_eq!(knocks, line.knocks, "{nat}: SYNs to {}", seen[0]);
    if let Some(expected) = line.crosses {
        assert_eq!(bench.crosses(), expected, "{nat}: both dial at once");
    }
}

fn given(local: u16, before: SocketAddr, port: SocketAddr) -> Given {
    match port.port().checked_sub(before.port()) {
        _ if port.port() == local => Given::Kept,
        Some(step @ 1..=16) => Given::After(step),
        _ => Given::Other,
    }
}

//! What the machine hands out: what its driver has to do, and what its application may want to know.

use std::net::SocketAddr;
use std::time::Duration;

use super::{IdleEnd, Lifetime, LoginError, PunchId};
use crate::identity::PeerId;
use crate::proto::punch::{self, Report};
use crate::wire::message::{Message, Nat};
use crate::wire::refusal::RefusalCode;

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect to the rendezvous from a fresh local port that also listens, and shake hands. Then
    /// [`super::Peer::handle_channel`], or [`super::Peer::handle_main_lost`].
    DialMain,
    /// Close the main connection.
    CloseMain,
    /// Look at this machine's network, and say what is there: [`super::Peer::handle_network`].
    LookAtNetwork,
    /// Send a message over the main connection.
    Send(Message),
    /// Probe from the main connection's local port.
    ProbeMain {
        /// The hole endpoint of S.
        to: SocketAddr,
    },
    /// Probe from a fresh local port, and close it.
    ProbeFresh {
        /// For the answer.
        index: usize,
        /// The hole endpoint of S.
        to: SocketAddr,
    },
    /// Close the probes of the main port and of fresh ones: the login that they were for is over, or their
    /// time, and so is the use of their answers. A rendezvous that lost its power would never answer, nor
    /// would a port that a firewall hides.
    CloseProbes,
    /// Open a fresh local port that listens, and a hole connection from it that stays open.
    OpenHole {
        /// Its name; goes into the probe.
        tag: u64,
        /// The hole endpoint of S.
        to: SocketAddr,
        /// Probes that go out beside it, each from a fresh local port, at the same time. They stay open
        /// with the hole.
        beside: u8,
    },
    /// Send the probe of a hole once more, over the connection that it has.
    ProbeHole {
        /// Which hole.
        tag: u64,
    },
    /// Close a hole's listener and its hole connection.
    CloseHole {
        /// Which hole.
        tag: u64,
    },
    /// Connect from a fresh local port, ask for an answer after so many seconds, and say nothing more.
    /// Then [`super::Peer::handle_idle_asked`], and [`super::Peer::handle_idle_ended`].
    OpenIdle {
        /// Its name.
        number: u64,
        /// The hole endpoint of S.
        to: SocketAddr,
        /// When S is to answer.
        seconds: u32,
    },
    /// Dial the mapped endpoint of a hole of ours from a fresh local port, and see whether the hole hears
    /// of it. Then [`super::Peer::handle_hairpin`]. It goes with the hole.
    Hairpin {
        /// Which hole.
        tag: u64,
        /// Its mapped endpoint.
        to: SocketAddr,
        /// Ask here for the mapped endpoint of the fresh port, and dial from the hole to that, too.
        via: Option<SocketAddr>,
    },
    /// Close such a connection.
    CloseIdle {
        /// Which one.
        number: u64,
    },
    /// A punch has learnt its token: a connection that was accepted before may belong to it.
    Introduced {
        /// Which punch.
        punch: PunchId,
    },
    /// Something to do for a punch.
    Punch {
        /// Which punch.
        punch: PunchId,
        /// What.
        action: punch::Action,
    },
}

/// What the application may want to know.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The rendezvous welcomes us.
    LoggedIn {
        /// The endpoint that it sees.
        observed: SocketAddr,
        /// Words of its operator.
        text: String,
    },
    /// The rendezvous is lost, or could not be reached.
    LoggedOut {
        /// Why.
        error: LoginError,
        /// When it is tried again; `None` when it isn't.
        retry_in: Option<Duration>,
    },
    /// The probes are in: what our NAT has shown. Comes again when more of them are in.
    NatKnown(Nat),
    /// All that this look at our NAT could show is known.
    NatSettled(Nat),
    /// A connection that said nothing has shown whether the NAT kept it.
    IdleMapping {
        /// For how long it said nothing.
        idle: Duration,
        /// How that ended.
        end: IdleEnd,
    },
    /// All of those that were asked for have.
    LifetimeKnown(Lifetime),
    /// Somebody came or went.
    Presence {
        /// Who.
        peer: PeerId,
        /// Came.
        online: bool,
        /// In which room; empty for a watched peer.
        room: String,
    },
    /// S did not grant something that was not a request for a connection.
    Refused {
        /// Why.
        code: RefusalCode,
        /// The same for a person; may be empty.
        text: String,
    },
    /// A round of a punch is on.
    Released {
        /// Which punch.
        punch: PunchId,
        /// With whom.
        peer: PeerId,
        /// Which round.
        round: u8,
    },
    /// A punch has ended; its id means nothing any more.
    Ended {
        /// Which punch.
        punch: PunchId,
        /// Its story, with the outcome.
        report: Box<Report>,
    },
}

//! What a peer in a reactor tells its application.

use std::fmt;

use super::PeerHost;
use crate::identity::PeerId;
use crate::net::reactor::Core;
use crate::proto::peer::{self, PunchId};
use crate::proto::portmap::{Mapping, Worthless};
use crate::proto::punch::{Outcome, Report};
use crate::wire::noise::NoiseError;
use crate::wire::record::Purpose;
use crate::wire::refusal::RefusalCode;

/// A proved connection and the stream on it. Never used twice by one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub(super) u64);

/// What has happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The machine's own: login, mapping, presence, rounds.
    Peer(peer::Event),
    /// The key with which the rendezvous answered. If none was pinned, remember it.
    ServerKey(PeerId),
    /// A connection that we asked for stands and is proved.
    Connected {
        /// What [`PeerHost::connect`] returned.
        punch: PunchId,
        /// Its name from now on.
        stream: StreamId,
        /// How it came about.
        report: Box<Report>,
    },
    /// A connection that we asked for did not come about.
    Failed {
        /// What [`PeerHost::connect`] returned.
        punch: PunchId,
        /// What was tried.
        report: Box<Report>,
    },
    /// An allowed peer opens a stream. The report follows with [`Self::Confirmed`].
    Incoming {
        /// Its name.
        stream: StreamId,
        /// Who opens it.
        peer: PeerId,
        /// What for.
        purpose: Purpose,
    },
    /// The other peer has chosen this connection.
    Confirmed {
        /// Which, unless it ended at once.
        stream: Option<StreamId>,
        /// How it came about.
        report: Box<Report>,
    },
    /// Beside this relayed stream, a direct connection has come about. The stream stays relayed; the next
    /// one is direct at once.
    DirectWay {
        /// The relayed stream.
        stream: StreamId,
        /// How the direct connection came about.
        report: Box<Report>,
    },
    /// The service at the other end is there.
    Opened(StreamId),
    /// The application's end has something to read, or has reached the end.
    Readable(StreamId),
    /// The application's end takes bytes again.
    Writable(StreamId),
    /// A ping came back.
    Pong {
        /// Over which connection.
        stream: StreamId,
        /// The value that was sent.
        value: u64,
    },
    /// Our router maps the main port.
    PortMapped {
        /// Where, and by which protocol.
        mapping: Mapping,
        /// Whether it is told to S; why not, where others can't reach it.
        worth: Result<(), Worthless>,
    },
    /// Our router doesn't map the main port any more, though nobody asked it to end that.
    PortMappingLost(Mapping),
    /// A stream has ended.
    Closed {
        /// Which.
        stream: StreamId,
        /// How.
        end: StreamEnd,
    },
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEnd {
    /// Bytes of ours that were handed to the connection.
    pub sent: u64,
    /// Bytes of theirs that were read from it.
    pub received: u64,
    /// What broke it; `None` when both sides had finished.
    pub error: Option<StreamError>,
}

/// What broke a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamError {
    /// The other peer refused it.
    Refused {
        /// Why.
        code: RefusalCode,
        /// The same for a person; may be empty.
        text: String,
    },
    /// The connection ended before the stream did.
    Lost(String),
    /// The local socket failed.
    Local(String),
    /// The other peer sent what can't be read.
    Protocol(NoiseError),
    /// The application closed it.
    Closed,
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { code, text } if text.is_empty() => code.fmt(f),
            Self::Refused { text, .. } => f.write_str(text),
            Self::Lost(why) => write!(f, "the direct connection was lost: {why}"),
            Self::Local(why) => write!(f, "the local side failed: {why}"),
            Self::Protocol(error) => error.fmt(f),
            Self::Closed => f.write_str("closed here"),
        }
    }
}

impl std::error::Error for StreamError {}

impl PeerHost {
    pub(super) fn hand_on(&mut self, core: &mut Core, event: peer::Event) {
        let peer::Event::Ended { punch, report } = event else {
            let tells_where_we_are =
                matches!(event, peer::Event::LoggedIn { .. } | peer::Event::NatKnown(_));
            self.events.push_back(Event::Peer(event));
            if tells_where_we_are {
                self.tell_mapped();
            }
            return;
        };
        let stream = self.won.remove(&punch);
        if self.end_search(core, punch, stream, &report) {
            return;
        }
        let connected = matches!(report.outcome, Outcome::Connected(_));
        match self.wanted.remove(&punch) {
            Some(wanted) if !connected => {
                wanted.give_up();
                self.events.push_back(Event::Failed { punch, report });
            }
            // The controlled did not ask for anything.
            None if !connected => {
                self.events.push_back(Event::Peer(peer::Event::Ended { punch, report }))
            }
            None => match stream {
                Some(stream) if report.role == crate::wire::message::Role::Controller => {
                    self.search_if_relayed(stream, &report);
                    self.events.push_back(Event::Connected { punch, stream, report });
                    self.start_partner(core, stream);
                }
                stream => self.events.push_back(Event::Confirmed { stream, report }),
            },
            Some(_) => debug_assert!(false, "the winner takes what was wanted"),
        }
    }
}

//! Somebody else's machine at an address that a candidate names, or one that knocks at ours.

use crate::packet::{Endpoint, Frame};
use crate::tcp::{Event, SockId, Tcp};
use crate::world::Now;

/// What it does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    /// Waits to be spoken to, and doesn't answer.
    Silent,
    /// Says something that is none of our frames.
    Talkative,
    /// Sends back what it hears.
    Echo,
    /// Closes at once.
    Closing,
}

pub(crate) struct Stranger {
    pub(crate) manners: Manners,
}

impl Stranger {
    pub(crate) fn knock(tcp: &mut Tcp, at: Endpoint, now: Now) {
        // Whether it could is all the same to it.
        let _ = tcp.dial(0, at, now.at);
    }

    pub(crate) fn handle_event(&self, tcp: &mut Tcp, sock: SockId, event: &Event, now: Now) {
        match (event, self.manners) {
            (Event::Connected | Event::Accepted(_), Manners::Talkative) => {
                tcp.send(sock, Frame::Gibberish, now.at);
            }
            (Event::Connected | Event::Accepted(_), Manners::Closing) | (Event::Eof, _) => {
                tcp.close(sock, now.at);
            }
            (Event::Frame(frame), Manners::Echo) => tcp.send(sock, (**frame).clone(), now.at),
            _ => {}
        }
    }
}

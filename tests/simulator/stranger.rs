//! Somebody else's machine at an address that a candidate names, or one that knocks at ours.

use gimlet::identity::PublicKey;

use crate::packet::{Endpoint, Frame, Proof};
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
    /// Speaks our frames, and vouches for what it hears with a key of its own.
    Impostor,
}

/// The key that an impostor has.
const ITS_OWN: [u8; 32] = [99; 32];

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
            (Event::Frame(frame), Manners::Impostor) => {
                if let Frame::Offer { proof, .. } = &**frame {
                    let from = PublicKey::from_bytes(ITS_OWN);
                    let answer = Proof { from, to: proof.from, ..proof.clone() };
                    tcp.send(sock, Frame::Answer(answer), now.at);
                }
            }
            _ => {}
        }
    }
}

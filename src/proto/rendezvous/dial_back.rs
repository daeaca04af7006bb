//! Dials back to peers that want to know what their NATs let in: whether one is made, and how it ended.
//!
//! S dials where it has seen a hole of the session that asks, which is the end of a TCP connection that
//! was made with the session's secret token: nobody can have it dial a stranger. Who may ask how often is
//! bounded all the same, since a dial costs SYNs and descriptors.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::sessions::{OwnHole, SessionId};
use super::{Action, Limits, Rendezvous};
use crate::limits;
use crate::wire::message::{DialBackEnd, Message};

/// Dials in progress, and how many were made lately.
#[derive(Debug, Default)]
pub(super) struct DialBacks {
    /// The tag of the hole that is dialled for a session, which may have gone meanwhile.
    in_progress: HashMap<SessionId, u64>,
    /// In this period, by the address that is dialled.
    per_address: HashMap<IpAddr, u32>,
    /// When the period began.
    since: Option<Instant>,
}

impl DialBacks {
    /// Counts one, if all bounds allow.
    fn begin(&mut self, session: SessionId, hole: &OwnHole, bounds: &Limits, now: Instant) -> bool {
        if self.since.is_none_or(|since| now >= since + limits::DIAL_BACK_PERIOD) {
            self.since = Some(now);
            self.per_address.clear();
        }
        let address = counted_address(hole.mapped);
        let made = self.per_address.get(&address).copied();
        let allowed = self.in_progress.len() < bounds.dial_backs
            && !self.in_progress.contains_key(&session)
            && made.unwrap_or(0) < bounds.dial_backs_per_address
            && (made.is_some() || self.per_address.len() < limits::DIAL_BACK_ADDRESSES);
        if allowed {
            self.in_progress.insert(session, hole.tag);
            *self.per_address.entry(address).or_default() += 1;
        }
        allowed
    }

    #[cfg(test)]
    pub(super) fn in_progress(&self) -> usize {
        self.in_progress.len()
    }
}

impl Rendezvous {
    // ---- events ----

    /// The dials of [`Action::DialBack`] are over: from the address that the hole connection goes to, and
    /// from another one.
    pub fn handle_dialed_back(
        &mut self,
        session: SessionId,
        same_address: DialBackEnd,
        other_address: DialBackEnd,
    ) {
        if let Some(tag) = self.dial_backs.in_progress.remove(&session) {
            log::debug!(
                "dialled back session={session} same={same_address:?} other={other_address:?}"
            );
            self.answer_dial_back(session, tag, same_address, other_address);
        }
    }

    // ---- requests ----

    pub(super) fn handle_dial_back(&mut self, session: SessionId, tag: u64, now: Instant) {
        let hole = self.sessions.live(session).own_hole(tag).filter(|_| self.config.dial_back);
        match hole {
            Some(hole) if self.dial_backs.begin(session, &hole, &self.config.limits, now) => {
                self.stats.dial_backs += 1;
                let (to, from) = (hole.mapped, hole.at);
                self.outbox.actions.push_back(Action::DialBack { session, to, from });
            }
            _ => {
                self.stats.dial_backs_refused += 1;
                let not_made = DialBackEnd::NotMade;
                self.answer_dial_back(session, tag, not_made, not_made);
            }
        }
    }

    fn answer_dial_back(
        &mut self,
        session: SessionId,
        tag: u64,
        same_address: DialBackEnd,
        other_address: DialBackEnd,
    ) {
        if let Some(session) = self.sessions.get(session) {
            let answer = Message::DialedBack { tag, same_address, other_address };
            self.outbox.send(session.link, answer);
        }
    }
}

/// What counts as one stranger: an IPv4 address, or the /64 that one IPv6 host may choose from.
pub fn counted_address(remote: SocketAddr) -> IpAddr {
    match remote.ip() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) & !u128::from(u64::MAX)).into()),
    }
}

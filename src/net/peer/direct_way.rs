//! After a relayed connection: has a direct way opened meanwhile?
//!
//! While the relayed stream lives, the punch is tried again in the background, for round trips alone. What
//! comes of it is told to the application, and S remembers what worked, so that the next connection takes it
//! first. The stream itself stays where it is.

use std::time::Instant;

use super::streams::Wanted;
use super::{Due, Event, LocalEnd, PeerHost, StreamId};
use crate::identity::PeerId;
use crate::limits;
use crate::net::clock;
use crate::net::reactor::Core;
use crate::proto::peer::PunchId;
use crate::proto::punch::{Outcome, Preference, Report};
use crate::wire::record::Purpose;

/// What is tried for a relayed stream.
pub(super) struct Search {
    peer: PeerId,
    tries: u32,
}

impl PeerHost {
    /// A connection of ours stands: if it is relayed without need, the search begins.
    pub(super) fn search_if_relayed(&mut self, stream: StreamId, report: &Report) {
        let wished = report.preference == Preference::Any && report.hopeful;
        if report.is_relayed() && wished && self.searches.len() < limits::SEARCHES {
            self.searches.insert(stream, Search { peer: report.peer, tries: 0 });
            self.search_later(stream, 0);
        }
    }

    fn search_later(&mut self, stream: StreamId, tries: u32) {
        let at = clock::now() + limits::SEARCH_PAUSE * limits::SEARCH_BACKOFF.pow(tries);
        self.timers.set(at, Due::Search(stream));
    }

    pub(super) fn expire_search(&mut self, core: &mut Core, stream: StreamId, now: Instant) {
        if !self.streams.contains_key(&stream) {
            self.searches.remove(&stream);
        }
        let Some(search) = self.searches.get_mut(&stream) else { return };
        search.tries += 1;
        let (peer, tries) = (search.peer, search.tries);
        match self.machine.connect(peer, Preference::DirectOnly, now) {
            Ok(punch) => {
                self.wanted.insert(punch, Wanted::new(Purpose::Ping, LocalEnd::Nothing));
                self.searching.insert(punch, stream);
            }
            Err(error) => {
                log::debug!("search for a direct way to {peer}: {error}");
                self.try_again(stream, tries);
            }
        }
        self.drain(core);
    }

    /// A punch of a search has ended. Says whether it was one.
    pub(super) fn end_search(
        &mut self,
        core: &mut Core,
        punch: PunchId,
        won: Option<StreamId>,
        report: &Report,
    ) -> bool {
        let Some(stream) = self.searching.remove(&punch) else { return false };
        self.wanted.remove(&punch);
        if let Some(won) = won {
            self.finish_unseen(core, won);
        }
        let Some(search) = self.searches.get(&stream) else { return true };
        let tries = search.tries;
        if matches!(report.outcome, Outcome::Connected(_)) {
            self.searches.remove(&stream);
            let report = Box::new(report.clone());
            self.events.push_back(Event::DirectWay { stream, report });
        } else {
            self.try_again(stream, tries);
        }
        true
    }

    fn try_again(&mut self, stream: StreamId, tries: u32) {
        if tries < limits::SEARCH_TRIES {
            self.search_later(stream, tries);
        } else {
            self.searches.remove(&stream);
        }
    }
}

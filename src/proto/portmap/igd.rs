//! A control point of UPnP: finds a router, reads its description, and calls it.
//!
//! ```text
//! Searching ─answer─▶ Describe ─services─▶ Address ─▶ Ready ─ask─▶ Map ─▶ Holding
//!                        ▲   │ none          │ refused   (others first)      │ half of the lease
//!                        └───┴───────────────┘               Address ◀───────┘
//! ```

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::lease::Lease;
use super::{Out, Route};
use crate::limits;
use crate::wire::portmap::http::{self, Response};
use crate::wire::portmap::igd::{self, IgdError, Service};
use crate::wire::portmap::ssdp;
use crate::wire::portmap::url::Url;

/// Pauses after each search: an answer takes up to a second, and a datagram may be lost.
const SEARCH_PAUSES: [Duration; 3] =
    [Duration::from_secs(2), Duration::from_secs(2), Duration::from_secs(4)];

/// External ports that are tried where others have taken them.
const PORT_TRIES: u32 = 4;

#[derive(Debug)]
pub(super) struct Client {
    route: Route,
    own: Ipv4Addr,
    port: u16,
    state: State,
    searches: usize,
    /// Descriptions to be read.
    found: VecDeque<Url>,
    /// All that were told of since the start, so that nobody keeps us reading.
    seen: Vec<Url>,
    /// Services to be tried.
    services: VecDeque<Service>,
    /// The one that is used, with the public address that it named.
    service: Option<(Service, Ipv4Addr)>,
    lease: Option<Lease>,
    /// The router knows no other mappings than those for ever.
    permanent: bool,
    /// The mapping that it has been asked for last.
    asked: Option<(Service, u16)>,
    /// A mapping of an earlier port, to be removed before anything else.
    leftover: Option<(Service, u16)>,
}

#[derive(Debug)]
enum State {
    Off,
    Searching(Instant),
    /// A call is under way.
    Calling {
        call: Call,
        until: Instant,
    },
    /// There is a router, and it may be asked for a mapping.
    Ready,
    Holding,
    /// Refused, or not there.
    Resting(Instant),
}

#[derive(Clone, Debug)]
enum Call {
    Describe(Url),
    Address(Service),
    Map {
        mapping: igd::Mapping,
        tries: u32,
    },
    /// A mapping of an earlier port.
    UnmapLeftover,
    /// The last one.
    Unmap,
}

impl Client {
    pub(super) fn new(
        route: Route,
        own: Ipv4Addr,
        port: u16,
        leftover: Option<(Service, u16)>,
    ) -> Self {
        Self {
            route,
            own,
            port,
            state: State::Off,
            searches: 0,
            found: VecDeque::new(),
            seen: Vec::new(),
            services: VecDeque::new(),
            service: None,
            lease: None,
            permanent: false,
            asked: None,
            leftover,
        }
    }

    // ---- getters ----

    pub(super) fn external(&self) -> Option<SocketAddr> {
        self.lease.map(|lease| lease.external)
    }

    /// Whether [`Self::ask`] would help.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready)
    }

    pub(super) fn is_off(&self) -> bool {
        matches!(self.state, State::Off)
    }

    /// What may be left of it in the router.
    pub(super) fn remains(&self) -> Option<(Service, u16)> {
        self.asked.clone().or_else(|| self.leftover.clone())
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let lease = self.lease.as_ref();
        match &self.state {
            State::Off | State::Ready => None,
            State::Searching(at) | State::Resting(at) => Some(*at),
            State::Calling { until, .. } => {
                lease.map(|lease| lease.expires).into_iter().chain([*until]).min()
            }
            State::Holding => lease.map(Lease::next),
        }
    }

    // ---- commands ----

    pub(super) fn start(&mut self, now: Instant, out: &mut Out) {
        if let Some((service, port)) = &self.leftover {
            let request = igd::unmap_call(service, *port);
            return self.call(service.control.at, request, Call::UnmapLeftover, now, out);
        }
        self.searches = 0;
        self.found.clear();
        self.seen.clear();
        self.services.clear();
        self.search(now, out);
    }

    /// Asks for the mapping.
    pub(super) fn ask(&mut self, now: Instant, out: &mut Out) {
        // The one that we had, or the same number outside as inside.
        let port = self.lease.map_or(self.port, |lease| lease.external.port());
        self.map(port, 1, now, out);
    }

    /// Another protocol has been quicker.
    pub(super) fn rest(&mut self, out: &mut Out) {
        // What changes something in the router is seen through.
        let is_changing = matches!(
            self.state,
            State::Calling { call: Call::Map { .. } | Call::Unmap | Call::UnmapLeftover, .. }
        );
        if self.lease.is_none() && !is_changing {
            self.hang_up(out);
            self.state = State::Off;
        }
    }

    /// Has the mapping removed. One that was asked for may have come about, too.
    pub(super) fn remove(&mut self, now: Instant, out: &mut Out) {
        self.hang_up(out);
        self.state = State::Off;
        self.lease = None;
        if let Some((service, port)) = self.asked.take().or_else(|| self.leftover.take()) {
            let request = igd::unmap_call(&service, port);
            self.call(service.control.at, request, Call::Unmap, now, out);
        }
    }

    // ---- events ----

    /// Somebody says where a router describes itself.
    pub(super) fn handle_found(&mut self, from: IpAddr, url: Url, now: Instant, out: &mut Out) {
        let is_wanted = matches!(self.state, State::Searching(_) | State::Calling { .. });
        let is_new = !self.seen.contains(&url) && self.seen.len() < limits::IGD_ANSWERS;
        if !is_wanted || !is_new {
            return;
        }
        self.seen.push(url.clone());
        // Our own gateway's word comes first.
        match from == self.route.gateway {
            true => self.found.push_front(url),
            false => self.found.push_back(url),
        }
        if let State::Searching(_) = self.state {
            self.try_next(now, out);
        }
    }

    /// The call that was made last has been answered, or has failed.
    pub(super) fn handle_answer(&mut self, answer: Option<&Response>, now: Instant, out: &mut Out) {
        let State::Calling { call, .. } = &self.state else { return };
        match call.clone() {
            Call::Describe(url) => {
                let found = answer.map(|answer| igd::services(&url, answer));
                self.services = found.and_then(Result::ok).unwrap_or_default().into();
                self.try_next(now, out);
            }
            Call::Address(service) => {
                let address = answer.map_or(Err(IgdError::Malformed), igd::address);
                self.handle_address(service, address, now, out);
            }
            Call::Map { mapping, tries } => self.handle_mapped(mapping, tries, answer, now, out),
            Call::UnmapLeftover => {
                self.leftover = None;
                self.start(now, out);
            }
            Call::Unmap => self.state = State::Off,
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Out) {
        let is_due = |at: Instant| at <= now;
        if self.lease.is_some_and(|lease| is_due(lease.expires)) {
            self.lease = None;
            self.hang_up(out);
            return self.start(now, out);
        }
        match &self.state {
            State::Searching(at) if is_due(*at) => self.search(now, out),
            State::Resting(at) if is_due(*at) => self.start(now, out),
            State::Calling { until, .. } if is_due(*until) => {
                self.hang_up(out);
                self.handle_answer(None, now, out);
            }
            State::Holding => {
                if let Some(lease) = &mut self.lease
                    && is_due(lease.renew_at)
                {
                    lease.put_off(now);
                    self.ask_address(now, out);
                }
            }
            _ => {}
        }
    }

    // ---- steps ----

    fn search(&mut self, now: Instant, out: &mut Out) {
        let Some(pause) = SEARCH_PAUSES.get(self.searches) else {
            self.state = State::Resting(now + limits::PORT_MAPPING_REST);
            return;
        };
        self.searches += 1;
        self.state = State::Searching(now + *pause);
        for search in ssdp::searches() {
            if let IpAddr::V4(gateway) = self.route.gateway {
                out.send(ssdp::unicast(gateway), search.clone());
            }
            out.send(ssdp::MULTICAST.into(), search);
        }
    }

    /// The next service, or else the next description, or else another search.
    fn try_next(&mut self, now: Instant, out: &mut Out) {
        if let Some(service) = self.services.pop_front() {
            return self.ask_address_of(service, now, out);
        }
        if let Some(url) = self.found.pop_front() {
            return self.call(url.at, http::get(&url), Call::Describe(url), now, out);
        }
        self.search(now, out);
    }

    fn ask_address(&mut self, now: Instant, out: &mut Out) {
        if let Some((service, _)) = self.service.clone() {
            self.ask_address_of(service, now, out);
        }
    }

    fn ask_address_of(&mut self, service: Service, now: Instant, out: &mut Out) {
        let request = igd::address_call(&service);
        self.call(service.control.at, request, Call::Address(service), now, out);
    }

    fn handle_address(
        &mut self,
        service: Service,
        address: Result<Ipv4Addr, IgdError>,
        now: Instant,
        out: &mut Out,
    ) {
        match address {
            Ok(address) if !address.is_unspecified() => {
                self.service = Some((service, address));
                match self.lease {
                    None => self.state = State::Ready,
                    Some(_) => self.ask(now, out),
                }
            }
            // It is renewed another time.
            _ if self.lease.is_some() => self.state = State::Holding,
            // A way out that leads nowhere: a router may have several.
            _ => self.try_next(now, out),
        }
    }

    fn map(&mut self, external_port: u16, tries: u32, now: Instant, out: &mut Out) {
        let Some((service, _)) = self.service.clone() else { return };
        let lease = if self.permanent { 0 } else { limits::IGD_LEASE.as_secs() as u32 };
        let mapping =
            igd::Mapping { client: self.own, internal_port: self.port, external_port, lease };
        let request = igd::map_call(&service, &mapping);
        let at = service.control.at;
        self.asked = Some((service, external_port));
        self.call(at, request, Call::Map { mapping, tries }, now, out);
    }

    fn handle_mapped(
        &mut self,
        mapping: igd::Mapping,
        tries: u32,
        answer: Option<&Response>,
        now: Instant,
        out: &mut Out,
    ) {
        let Some((service, address)) = self.service.clone() else { return };
        let result = answer
            .map_or(Err(IgdError::Malformed), |answer| igd::mapped(&service, &mapping, answer));
        match result {
            Ok(port) => {
                let external = SocketAddr::new(address.into(), port);
                self.asked = Some((service, port));
                let lease = Lease::new(external, limits::IGD_LEASE, now, &mut out.random);
                self.lease = Some(lease);
                self.state = State::Holding;
            }
            Err(IgdError::Refused(igd::ONLY_PERMANENT)) if !self.permanent => {
                self.permanent = true;
                self.map(mapping.external_port, tries, now, out);
            }
            Err(IgdError::Refused(igd::CONFLICT)) if tries < PORT_TRIES => {
                self.asked = None;
                let port = out.random.u16(1024..);
                self.map(port, tries + 1, now, out);
            }
            Err(error) => {
                log::debug!("UPnP gateway={}: {error}", self.route.gateway);
                match self.lease {
                    Some(_) => self.state = State::Holding,
                    None => {
                        // Whoever refused has nothing of ours; who did not answer may have.
                        if matches!(error, IgdError::Refused(_)) {
                            self.asked = None;
                        }
                        self.try_next(now, out);
                    }
                }
            }
        }
    }

    fn call(&mut self, to: SocketAddr, request: Vec<u8>, call: Call, now: Instant, out: &mut Out) {
        self.state = State::Calling { call, until: now + limits::ROUTER_ANSWER_TIME };
        out.call(to, request);
    }

    /// Ends a call that is under way.
    pub(super) fn hang_up(&self, out: &mut Out) {
        if let State::Calling { .. } = self.state {
            out.hang_up();
        }
    }
}

//! One router in one family: which protocol may ask it when, and which mapping counts.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::{Event, Mapping, Out, Protocol, Route, igd, nat_pmp, pcp};
use crate::limits;
use crate::wire::portmap::http::Response;
use crate::wire::portmap::igd::Service;
use crate::wire::portmap::{self as wire, SERVER_PORT};

/// A mapping that only a call removes: by which service, and its external port.
pub(super) type Leftover = (Service, u16);

#[derive(Debug)]
pub(super) struct Side {
    route: Route,
    pcp: pcp::Client,
    /// For IPv4 alone.
    nat_pmp: Option<nat_pmp::Client>,
    /// For IPv4 alone.
    igd: Option<igd::Client>,
    /// When it was first asked.
    started: Option<Instant>,
    /// What the application has been told of.
    told: Option<Mapping>,
}

impl Side {
    pub(super) fn new(
        route: Route,
        port: u16,
        nonce: wire::pcp::Nonce,
        leftover: Option<Leftover>,
    ) -> Self {
        let v4 = match route.own {
            IpAddr::V4(own) => Some(own),
            IpAddr::V6(_) => None,
        };
        Self {
            route,
            pcp: pcp::Client::new(route, port, nonce),
            nat_pmp: v4.map(|_| nat_pmp::Client::new(route, port)),
            igd: v4.map(|own| igd::Client::new(route, own, port, leftover)),
            started: None,
            told: None,
        }
    }

    // ---- getters ----

    pub(super) fn mapping(&self) -> Option<Mapping> {
        let found = [Protocol::Pcp, Protocol::NatPmp, Protocol::Upnp];
        found.into_iter().find_map(|protocol| self.mapping_by(protocol))
    }

    fn mapping_by(&self, protocol: Protocol) -> Option<Mapping> {
        let external = match protocol {
            Protocol::Pcp => self.pcp.state().external(),
            Protocol::NatPmp => self.nat_pmp.as_ref().and_then(|client| client.state().external()),
            Protocol::Upnp => self.igd.as_ref().and_then(igd::Client::external),
        };
        external.map(|external| Mapping { protocol, external })
    }

    pub(super) fn is_idle(&self) -> bool {
        self.pcp.state().is_off()
            && self.nat_pmp.as_ref().is_none_or(|client| client.state().is_off())
            && self.igd.as_ref().is_none_or(igd::Client::is_off)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let clients = [
            self.pcp.state().next(),
            self.nat_pmp.as_ref().and_then(|client| client.state().next()),
            self.igd.as_ref().and_then(igd::Client::next),
            self.turn_of_nat_pmp(),
            self.turn_of_igd(),
        ];
        clients.into_iter().flatten().min()
    }

    // ---- commands ----

    pub(super) fn start(&mut self, now: Instant, out: &mut Out) {
        self.started = Some(now);
        if self.pcp.state().is_off() {
            self.pcp.start(now, out);
        }
        if let Some(nat_pmp) = self.nat_pmp.as_mut().filter(|client| client.state().is_off()) {
            nat_pmp.start(now, out);
        }
        if let Some(igd) = self.igd.as_mut().filter(|client| client.is_off()) {
            igd.start(now, out);
        }
    }

    /// Has everything removed, once, and hears how that goes.
    pub(super) fn remove(&mut self, now: Instant, out: &mut Out) {
        if self.started.take().is_none() {
            return;
        }
        self.told = None;
        self.pcp.remove(now, out);
        if let Some(nat_pmp) = &mut self.nat_pmp {
            nat_pmp.remove(now, out);
        }
        if let Some(igd) = &mut self.igd {
            igd.remove(now, out);
        }
    }

    /// Has everything removed, and hears no more of it.
    pub(super) fn abandon(&mut self, now: Instant, out: &mut Out) -> Option<Leftover> {
        self.pcp.remove(now, out);
        if let Some(nat_pmp) = &mut self.nat_pmp {
            nat_pmp.remove(now, out);
        }
        let igd = self.igd.take()?;
        igd.hang_up(out);
        igd.remains()
    }

    /// Forgets everything: its router is out of reach. Returns what the application believes to stand.
    pub(super) fn leave(self, out: &mut Out) -> Option<Mapping> {
        if let Some(igd) = &self.igd {
            igd.hang_up(out);
        }
        self.told
    }

    // ---- events ----

    pub(super) fn handle_datagram(
        &mut self,
        from: SocketAddr,
        bytes: &[u8],
        now: Instant,
        out: &mut Out,
    ) {
        if from.port() == SERVER_PORT {
            // RFC 6887 §8.3, RFC 6886 §3.1: what comes from elsewhere is ignored.
            if from.ip() == self.route.gateway {
                self.handle_server(bytes, now, out);
            }
        } else if let Some(igd) = &mut self.igd
            && let Some(url) = wire::ssdp::decode(from.ip(), bytes)
        {
            igd.handle_found(from.ip(), url, now, out);
        }
    }

    /// The first byte is the version in both protocols.
    fn handle_server(&mut self, bytes: &[u8], now: Instant, out: &mut Out) {
        if let Some(response) = wire::nat_pmp::decode(bytes) {
            self.pcp.handle_nat_pmp(response.result, now);
            if let Some(nat_pmp) = &mut self.nat_pmp {
                nat_pmp.handle(&response, now, out);
            }
        } else if let Some(response) = wire::pcp::decode(bytes) {
            self.pcp.handle(&response, now, out);
        }
    }

    pub(super) fn handle_answer(&mut self, answer: Option<&Response>, now: Instant, out: &mut Out) {
        if let Some(igd) = &mut self.igd {
            igd.handle_answer(answer, now, out);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Out) {
        self.pcp.handle_timeout(now, out);
        if let Some(nat_pmp) = &mut self.nat_pmp {
            nat_pmp.handle_timeout(now, out);
        }
        if let Some(igd) = &mut self.igd {
            igd.handle_timeout(now, out);
        }
    }

    // ---- who is next ----

    /// After each event: lets the next protocol ask, or all others rest, and tells what has changed.
    pub(super) fn settle(&mut self, now: Instant, out: &mut Out, events: &mut VecDeque<Event>) {
        if self.started.is_none() {
            return;
        }
        if self.turn_of_nat_pmp().is_some_and(|at| at <= now)
            && let Some(nat_pmp) = &mut self.nat_pmp
        {
            nat_pmp.ask(now, out);
        }
        if self.turn_of_igd().is_some_and(|at| at <= now)
            && let Some(igd) = &mut self.igd
        {
            igd.ask(now, out);
        }
        if self.mapping().is_some() {
            self.rest_others(out);
        }
        self.tell(now, out, events);
    }

    /// From when on NAT-PMP may ask for a mapping, if it could.
    fn turn_of_nat_pmp(&self) -> Option<Instant> {
        let started = self.started?;
        let is_ready = self.nat_pmp.as_ref().is_some_and(nat_pmp::Client::is_ready);
        let refused = self.pcp.state().has_refused();
        let delay = if refused { Duration::ZERO } else { limits::NAT_PMP_DELAY };
        (is_ready && self.mapping().is_none()).then_some(started + delay)
    }

    /// From when on UPnP may ask for a mapping, if it could.
    fn turn_of_igd(&self) -> Option<Instant> {
        let started = self.started?;
        let is_ready = self.igd.as_ref().is_some_and(igd::Client::is_ready);
        let refused = self.pcp.state().has_refused()
            && self.nat_pmp.as_ref().is_none_or(|client| client.state().has_refused());
        let delay = if refused { Duration::ZERO } else { limits::IGD_DELAY };
        (is_ready && self.mapping().is_none()).then_some(started + delay)
    }

    fn rest_others(&mut self, out: &mut Out) {
        self.pcp.rest();
        if let Some(nat_pmp) = &mut self.nat_pmp {
            nat_pmp.rest();
        }
        if let Some(igd) = &mut self.igd {
            igd.rest(out);
        }
    }

    /// A mapping counts until it ends, even if a better protocol grants one later.
    fn tell(&mut self, now: Instant, out: &mut Out, events: &mut VecDeque<Event>) {
        let still = self.told.and_then(|told| self.mapping_by(told.protocol));
        let best = still.or_else(|| self.mapping());
        let told = std::mem::replace(&mut self.told, best);
        match (told, best) {
            (Some(told), None) => {
                log::debug!("port mapping lost: {told:?}");
                events.push_back(Event::Lost(told));
                self.start(now, out);
            }
            (told, Some(best)) if told != Some(best) => {
                log::debug!("port mapping: {best:?}");
                events.push_back(Event::Mapped(best));
            }
            _ => {}
        }
    }
}

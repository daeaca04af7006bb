//! A look at our own NAT at each login, and what is made of it.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::{Action, Due, Event, Peer};
use crate::limits;
use crate::proto::nat::{
    Given, Observation, SERIES, classify_allocation, classify_mapping, classify_pooling,
};
use crate::wire::message::{Allocation, Mapping, Message, Nat};

/// Probes that are out: of one kind at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProbesOut {
    kind: Kind,
    /// Those that have neither been answered nor failed: one at least.
    number: usize,
    /// So long they are waited for.
    until: Instant,
}

/// Where probes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    MainPort,
    FreshPorts,
}

impl Peer {
    // ---- events ----

    /// A probe from the main port has been answered, or has failed.
    pub fn handle_main_probe(&mut self, to: SocketAddr, mapped: Option<SocketAddr>, now: Instant) {
        let Some(left) = self.take_probe(Kind::MainPort) else { return };
        if let Some(mapped) = mapped {
            self.main.observations.push(Observation { destination: to, mapped });
        }
        if left == 0 {
            self.learn_mapping(now);
        }
    }

    /// A probe from a fresh port has been answered, or has failed.
    pub fn handle_fresh_probe(&mut self, index: usize, given: Option<Given>, now: Instant) {
        let Some(left) = self.take_probe(Kind::FreshPorts) else { return };
        if let Some(slot) = self.main.given.get_mut(index) {
            *slot = given;
        }
        if left == 0 {
            self.learn_allocation(now);
        }
    }

    // ---- probes ----

    /// Looks at our own NAT from the main port: once for each hole endpoint.
    pub(super) fn probe_mapping(&mut self, now: Instant) {
        self.abandon_look();
        let (Some(server), Some(observed)) = (self.main.server, self.main.observed) else { return };
        self.main.observations = vec![Observation { destination: server, mapped: observed }];
        let endpoints = self.hole_endpoints();
        if self.main.local_port == 0 || endpoints.is_empty() {
            return self.learn_mapping(now);
        }
        self.await_probes(Kind::MainPort, endpoints.len(), now);
        self.look.begin_series(now);
        for to in endpoints {
            self.actions.push_back(Action::ProbeMain { to });
        }
    }

    fn await_probes(&mut self, kind: Kind, number: usize, now: Instant) {
        let until = now + limits::PROBE_TIME;
        self.timers.set(until, Due::Probes);
        self.main.probes = Some(ProbesOut { kind, number, until });
    }

    /// A probe has been answered, or has failed. Says how many others are still out; `None` if nobody waits
    /// for it.
    fn take_probe(&mut self, kind: Kind) -> Option<usize> {
        let out = self.main.probes.as_mut().filter(|out| out.kind == kind)?;
        out.number -= 1;
        let ProbesOut { number, until, .. } = *out;
        if number == 0 {
            self.main.probes = None;
            self.timers.clear(until, Due::Probes);
        }
        Some(number)
    }

    /// Those that are out have had their time. A hole port that a firewall hides says nothing: the others
    /// have said what there is to know.
    pub(super) fn expire_probes(&mut self, at: Instant, now: Instant) {
        let Some(out) = self.main.probes.filter(|out| out.until == at) else { return };
        log::debug!("probes without an answer: {} ({:?})", out.number, out.kind);
        self.take_back_probes();
        match out.kind {
            Kind::MainPort => self.learn_mapping(now),
            Kind::FreshPorts => self.learn_allocation(now),
        }
    }

    /// A late answer of those that are still out must not count for what comes next: another login, another
    /// series.
    pub(super) fn take_back_probes(&mut self) {
        if let Some(out) = self.main.probes.take() {
            self.timers.clear(out.until, Due::Probes);
            self.actions.push_back(Action::CloseProbes);
        }
    }

    fn learn_mapping(&mut self, now: Instant) {
        if self.is_asked_again(now) || !self.confirm_network() {
            return;
        }
        let main = &self.main;
        let mapping = classify_mapping(&main.observations, main.local_port, &main.hosts);
        let seen: Vec<u16> = main.observations.iter().map(|seen| seen.mapped.port()).collect();
        let keeps_port = mapping == Mapping::EndpointIndependent
            && seen.iter().all(|port| *port == main.local_port);
        // What the same NAT has shown before holds until it shows something else.
        if self.nat.mapping != mapping {
            self.nat = Nat { mapping, ..Nat::default() };
            self.pool.clear();
        }
        if keeps_port {
            self.nat.allocation = Allocation::Preserving;
        }
        self.see_ports(seen.into_iter());
        self.events.push_back(Event::NatKnown(self.nat));
        if mapping.is_shared() {
            self.tell_nat();
        }
        self.look_further(now);
    }

    /// Where the mapping is shared, nobody needs to foretell a port: only who looks closely asks for more.
    pub(super) fn look_further(&mut self, now: Instant) {
        let mapping = self.nat.mapping;
        let curious = mapping == Mapping::EndpointIndependent && self.looks_closely();
        if !mapping.is_shared() || curious {
            self.probe_fresh_ports(SERIES, now);
        } else {
            self.begin_look(now);
        }
    }

    /// The network has changed while the probes were out: they begin anew.
    fn is_asked_again(&mut self, now: Instant) -> bool {
        let again = std::mem::take(&mut self.main.probe_again);
        if again {
            self.probe_mapping(now);
        }
        again
    }

    /// Which ports and addresses does the NAT hand out? The probes go to all addresses of S by turns: a NAT
    /// that counts for each address (RFC 6056 §3.3.3) is no sequence that others could foresee.
    pub(super) fn probe_fresh_ports(&mut self, probes: usize, now: Instant) {
        let addresses = self.hole_addresses();
        self.look.begin_series(now);
        self.main.given = vec![None; probes];
        if addresses.is_empty() {
            return self.learn_allocation(now);
        }
        self.await_probes(Kind::FreshPorts, probes, now);
        for (index, to) in (0..probes).zip(addresses.iter().cycle()) {
            self.actions.push_back(Action::ProbeFresh { index, to: *to });
        }
    }

    fn learn_allocation(&mut self, now: Instant) {
        if self.is_asked_again(now) {
            return;
        }
        let given: Vec<Given> = self.main.given.iter().copied().flatten().collect();
        if self.is_counting() {
            return self.handle_counted(&given, now);
        }
        match classify_allocation(&given) {
            // The main port may have shown more.
            Allocation::Unknown => {}
            allocation => self.nat.allocation = allocation,
        }
        self.see_ports(given.iter().map(|given| given.mapped.port()));
        self.learn_pooling(&given);
        self.events.push_back(Event::NatKnown(self.nat));
        self.tell_nat();
        self.begin_look(now);
    }

    fn learn_pooling(&mut self, given: &[Given]) {
        let Some(observed) = self.main.observed else { return };
        let fresh = given.iter().map(|given| given.mapped.ip());
        // All that the main port showed is one mapping where that is shared.
        let main = self.main.observations.iter().map(|seen| seen.mapped.ip());
        let main = main.take(if self.nat.mapping.is_shared() { 1 } else { usize::MAX });
        let mappings: Vec<IpAddr> = main.chain(fresh).collect();
        (self.nat.pooling, self.pool) = classify_pooling(observed.ip(), &mappings);
        self.pool.truncate(limits::POOL_ADDRESSES);
    }

    /// Tells S what it doesn't know yet.
    pub(super) fn tell_nat(&mut self) {
        let update = Message::Update {
            nat: self.nat,
            hosts: self.main.hosts.clone(),
            mapped: self.mapped.clone(),
            pool: self.pool.clone(),
        };
        if self.is_logged_in() && self.main.told.as_ref() != Some(&update) {
            self.main.told = Some(update.clone());
            self.send(update);
        }
    }

    /// Where we are: the addresses of this machine, and those at which S sees its main port.
    pub fn known_addresses(&self) -> Vec<IpAddr> {
        let seen = self.main.observations.iter().map(|observation| observation.mapped);
        let seen = self.main.observed.into_iter().chain(seen);
        let seen = seen.map(|endpoint| endpoint.ip().to_canonical());
        self.main.hosts.iter().copied().chain(seen).collect()
    }

    /// Where routers map the main port of this login because they were asked to: replaces what was said
    /// before. A next login has another port, and begins without.
    pub fn set_mapped(&mut self, mut mapped: Vec<SocketAddr>) {
        mapped.truncate(limits::MAPPED_ENDPOINTS);
        self.mapped = mapped;
        self.tell_nat();
    }

    /// Where S answers STUN, as we can reach it: first where it has answered this login. A firewall may hide
    /// one of its ports.
    pub fn hole_endpoints(&self) -> Vec<SocketAddr> {
        let Some(welcome) = &self.main.welcome else { return Vec::new() };
        let mut endpoints = Vec::new();
        for hole in welcome.holes.iter().take(limits::HOLE_ENDPOINTS) {
            let endpoint = self.reachable_endpoint(*hole);
            endpoints.extend(endpoint.filter(|endpoint| !endpoints.contains(endpoint)));
        }
        endpoints.sort_by_key(|endpoint| !self.has_answered(*endpoint));
        endpoints
    }

    /// Whether an endpoint of S has answered a probe of this login.
    pub(super) fn has_answered(&self, endpoint: SocketAddr) -> bool {
        self.main.observations.iter().any(|seen| seen.destination == endpoint)
    }

    /// An endpoint of S as we dial it, if we have an address of its family.
    pub(super) fn reachable_endpoint(&self, announced: SocketAddr) -> Option<SocketAddr> {
        let server = self.main.server?;
        let ip = if announced.ip().is_unspecified() { server.ip() } else { announced.ip() };
        let endpoint = SocketAddr::new(ip, announced.port());
        let reachable = endpoint.is_ipv4() == server.is_ipv4()
            || self.main.hosts.iter().any(|host| host.is_ipv4() == endpoint.is_ipv4());
        reachable.then_some(endpoint)
    }

    /// One hole endpoint at each address of S, of the family in which S sees us.
    fn hole_addresses(&self) -> Vec<SocketAddr> {
        let mut found: Vec<SocketAddr> = Vec::new();
        for hole in self.hole_endpoints() {
            let same_family = self.main.server.is_some_and(|s| s.is_ipv4() == hole.is_ipv4());
            if same_family && found.iter().all(|other| other.ip() != hole.ip()) {
                found.push(hole);
            }
        }
        found
    }

    /// The hole endpoint for fresh holes: of the family in which S sees us.
    pub(super) fn hole_endpoint(&self) -> Option<SocketAddr> {
        let server = self.main.server?;
        self.hole_endpoints().into_iter().find(|hole| hole.is_ipv4() == server.is_ipv4())
    }
}

//! The client's side of NAT-PMP (RFC 6886).

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::lease::Epoch;
use super::state::{Ask, State, Step};
use super::{Out, Route};
use crate::limits;
use crate::wire::portmap::nat_pmp::{ADDRESS_REQUEST, Body, MapRequest, Response};
use crate::wire::portmap::{ResultCode, SERVER_PORT};

/// "the client … waits 250 ms … doubles … until it has made nine attempts" (RFC 6886 §3.1).
const FIRST_WAIT: Duration = Duration::from_millis(250);
const TRIES: u32 = 9;

#[derive(Debug)]
pub(super) struct Client {
    route: Route,
    port: u16,
    state: State<Asking>,
    /// The public address.
    address: Option<Ipv4Addr>,
    /// The external port that we had last: it is asked for again.
    liked: u16,
    epoch: Option<Epoch>,
}

#[derive(Debug)]
pub(super) enum Asking {
    /// Asked what the public address is. That changes nothing in the router.
    Address(Attempt),
    /// It is there, and may be asked for a mapping.
    Ready,
    Mapping(Attempt),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    retry_at: Instant,
    tries: u32,
}

impl Attempt {
    fn first(now: Instant) -> Self {
        Self { retry_at: now + FIRST_WAIT, tries: 1 }
    }

    /// The next one, after which the wait is doubled; none when there have been enough.
    fn next(self, now: Instant) -> Option<Self> {
        let wait = FIRST_WAIT * 2u32.pow(self.tries);
        let next = Self { retry_at: now + wait, tries: self.tries + 1 };
        (self.tries < TRIES).then_some(next)
    }
}

impl Ask for Asking {
    fn retry_at(&self) -> Option<Instant> {
        match self {
            Self::Address(attempt) | Self::Mapping(attempt) => Some(attempt.retry_at),
            Self::Ready => None,
        }
    }

    fn is_for_mapping(&self) -> bool {
        matches!(self, Self::Mapping(_))
    }
}

impl Client {
    pub(super) fn new(route: Route, port: u16) -> Self {
        Self { route, port, state: State::Off, address: None, liked: port, epoch: None }
    }

    // ---- getters ----

    pub(super) fn state(&self) -> &State<Asking> {
        &self.state
    }

    /// Whether [`Self::ask`] would help.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.state, State::Asking(Asking::Ready))
    }

    // ---- commands ----

    pub(super) fn start(&mut self, now: Instant, out: &mut Out) {
        self.look(out);
        self.state = State::Asking(Asking::Address(Attempt::first(now)));
    }

    /// Asks for the mapping.
    pub(super) fn ask(&mut self, now: Instant, out: &mut Out) {
        self.send(limits::PORT_MAPPING_LIFETIME, out);
        self.state = State::Asking(Asking::Mapping(Attempt::first(now)));
    }

    /// Another protocol has been quicker.
    pub(super) fn rest(&mut self) {
        self.state.rest();
    }

    /// Has the mapping removed.
    pub(super) fn remove(&mut self, now: Instant, out: &mut Out) {
        if self.state.remove(now) {
            self.send(Duration::ZERO, out);
        }
    }

    // ---- events ----

    pub(super) fn handle(&mut self, response: &Response, now: Instant, out: &mut Out) {
        // To a request of another version, not to ours.
        if response.result == ResultCode::UnsupportedVersion {
            return;
        }
        if let Body::Mapped { internal_port, .. } = response.body
            && internal_port != self.port
        {
            return;
        }
        self.see_epoch(response.epoch, now, out);
        match response.body {
            Body::Address(address) => self.learn_address(address, now, out),
            Body::Mapped { external_port, lifetime, .. } => {
                self.granted(external_port, lifetime, now, out);
            }
            Body::Nothing => {
                log::debug!("NAT-PMP gateway={}: {}", self.route.gateway, response.result);
                self.state.refuse(now + limits::PORT_MAPPING_REST);
            }
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Out) {
        match self.state.step(now) {
            Step::None => {}
            Step::Start => self.start(now, out),
            Step::AskAgain => self.ask_again(now, out),
            Step::Renew => {
                // The address may have changed meanwhile.
                self.look(out);
                self.send(limits::PORT_MAPPING_LIFETIME, out);
            }
            Step::Remove => self.send(Duration::ZERO, out),
        }
    }

    fn ask_again(&mut self, now: Instant, out: &mut Out) {
        let State::Asking(Asking::Address(attempt) | Asking::Mapping(attempt)) = &mut self.state
        else {
            return;
        };
        match attempt.next(now) {
            None => self.state = State::Resting(now + limits::PORT_MAPPING_REST),
            Some(next) => {
                *attempt = next;
                match self.state {
                    State::Asking(Asking::Address(_)) => self.look(out),
                    _ => self.send(limits::PORT_MAPPING_LIFETIME, out),
                }
            }
        }
    }

    fn learn_address(&mut self, address: Ipv4Addr, now: Instant, out: &mut Out) {
        if address.is_unspecified() {
            return;
        }
        self.address = Some(address);
        match &mut self.state {
            State::Asking(asking @ Asking::Address(_)) => *asking = Asking::Ready,
            State::Granted(lease) => lease.external.set_ip(address.into()),
            // Nobody has asked: it tells that it is there again.
            state => state.see_server(now, &mut out.random),
        }
    }

    fn granted(&mut self, port: u16, lifetime: u32, now: Instant, out: &mut Out) {
        // Without an address there is no endpoint, and no mapping.
        let address = self.address.unwrap_or(Ipv4Addr::UNSPECIFIED);
        let external = SocketAddr::new(address.into(), port);
        let lifetime = Duration::from_secs(lifetime.into()).min(limits::PORT_MAPPING_LIFETIME);
        if self.state.grant(external, lifetime, now, &mut out.random) {
            self.liked = port;
        }
    }

    fn see_epoch(&mut self, told: u32, now: Instant, out: &mut Out) {
        let (epoch, restarted) = Epoch::nat_pmp(self.epoch, told, now);
        self.epoch = Some(epoch);
        if restarted {
            self.state.forget(now, &mut out.random);
        }
    }

    fn look(&self, out: &mut Out) {
        out.send(self.route.gateway_at(SERVER_PORT), ADDRESS_REQUEST.to_vec());
    }

    fn send(&self, lifetime: Duration, out: &mut Out) {
        // "the client … MUST set the Suggested External Port to zero" to remove one (§3.4).
        let external_port = if lifetime.is_zero() { 0 } else { self.liked };
        let lifetime = lifetime.as_secs() as u32;
        let request = MapRequest { internal_port: self.port, external_port, lifetime };
        out.send(self.route.gateway_at(SERVER_PORT), request.encode().to_vec());
    }
}

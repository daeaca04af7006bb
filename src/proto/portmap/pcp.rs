//! The client's side of PCP (RFC 6887).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::lease::{Epoch, restart_pause};
use super::state::{Ask, State, Step};
use super::{Out, Route};
use crate::limits;
use crate::wire::portmap::pcp::{self, Body, MapRequest, Nonce, Response};
use crate::wire::portmap::{ResultCode, SERVER_PORT};

/// "IRT: Initial retransmission time, SHOULD be 3 seconds" (RFC 6887 §8.1.1).
const FIRST_WAIT: Duration = Duration::from_secs(3);

/// "MRT: Maximum retransmission time, SHOULD be 1024 seconds" (the same).
const LONGEST_WAIT: Duration = Duration::from_secs(1024);

/// "Short lifetime errors … 30 seconds" (RFC 6887 §7.4).
const SHORTEST_REST: Duration = Duration::from_secs(30);

/// "It is RECOMMENDED that … the maximum … be 24 hours" (RFC 6887 §15).
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug)]
pub(super) struct Client {
    route: Route,
    port: u16,
    nonce: Nonce,
    state: State<Asking>,
    /// The external endpoint that we had last: it is asked for again.
    liked: SocketAddr,
    epoch: Option<Epoch>,
}

/// The request is out, and not answered.
#[derive(Debug)]
pub(super) struct Asking {
    retry_at: Instant,
    wait: Duration,
}

impl Ask for Asking {
    fn retry_at(&self) -> Option<Instant> {
        Some(self.retry_at)
    }

    fn is_for_mapping(&self) -> bool {
        true
    }
}

impl Client {
    pub(super) fn new(route: Route, port: u16, nonce: Nonce) -> Self {
        let liked = SocketAddr::new(pcp::any_address(route.own), port);
        Self { route, port, nonce, state: State::Off, liked, epoch: None }
    }

    // ---- getters ----

    pub(super) fn state(&self) -> &State<Asking> {
        &self.state
    }

    // ---- commands ----

    pub(super) fn start(&mut self, now: Instant, out: &mut Out) {
        self.ask(FIRST_WAIT, now, out);
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
        if let Body::Map(mapping) = response.body
            && (mapping.nonce != self.nonce || mapping.internal_port != self.port)
        {
            return;
        }
        self.see_epoch(response.epoch, now, out);
        match (response.body, response.result) {
            (Body::Announce, ResultCode::Success) => self.ask_soon(now, out),
            (Body::Map(mapping), ResultCode::Success) => {
                let lifetime = Duration::from_secs(response.lifetime.into()).min(LONGEST_LIFETIME);
                if self.state.grant(mapping.external, lifetime, now, &mut out.random) {
                    self.liked = mapping.external;
                }
            }
            // §8.3: such an answer to an ANNOUNCE is none of ours.
            (_, ResultCode::Success) => {}
            (_, why) => self.refused(&why.to_string(), response.lifetime, now),
        }
    }

    /// A server of NAT-PMP alone answers to version 2 in its own words (RFC 6886 §3.5).
    pub(super) fn handle_nat_pmp(&mut self, result: ResultCode, now: Instant) {
        if result == ResultCode::UnsupportedVersion {
            self.refused("NAT-PMP alone", u32::MAX, now);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Out) {
        match self.state.step(now) {
            Step::None => {}
            Step::Start => self.start(now, out),
            Step::AskAgain => self.ask_again(now, out),
            Step::Renew => self.send(limits::PORT_MAPPING_LIFETIME, out),
            Step::Remove => self.send(Duration::ZERO, out),
        }
    }

    fn ask_again(&mut self, now: Instant, out: &mut Out) {
        if let State::Asking(asking) = &self.state {
            // "RT = (1 + RAND) * MIN (2 * RTprev, MRT)" (§8.1.1).
            self.ask((asking.wait * 2).min(LONGEST_WAIT), now, out);
        }
    }

    fn ask(&mut self, wait: Duration, now: Instant, out: &mut Out) {
        self.send(limits::PORT_MAPPING_LIFETIME, out);
        let wait = spread(wait, out);
        self.state = State::Asking(Asking { retry_at: now + wait, wait });
    }

    fn refused(&mut self, why: &str, lifetime: u32, now: Instant) {
        log::debug!("PCP gateway={}: {why}", self.route.gateway);
        let rest = Duration::from_secs(lifetime.into());
        self.state.refuse(now + rest.clamp(SHORTEST_REST, limits::PORT_MAPPING_REST));
    }

    fn see_epoch(&mut self, told: u32, now: Instant, out: &mut Out) {
        let (epoch, restarted) = Epoch::pcp(self.epoch, told, now);
        self.epoch = Some(epoch);
        if restarted {
            self.state.forget(now, &mut out.random);
        }
    }

    /// The server is there, and may have just come.
    fn ask_soon(&mut self, now: Instant, out: &mut Out) {
        self.state.see_server(now, &mut out.random);
        if let State::Asking(asking) = &mut self.state {
            asking.retry_at = asking.retry_at.min(now + restart_pause(&mut out.random));
        }
    }

    fn send(&self, lifetime: Duration, out: &mut Out) {
        let request = MapRequest {
            client: self.route.own,
            nonce: self.nonce,
            lifetime: lifetime.as_secs() as u32,
            internal_port: self.port,
            suggested: self.liked,
        };
        out.send(self.route.gateway_at(SERVER_PORT), request.encode().to_vec());
    }
}

/// "RAND: … between -0.1 and +0.1" (RFC 6887 §8.1.1).
fn spread(wait: Duration, out: &mut Out) -> Duration {
    wait.mul_f64(0.9 + 0.2 * out.random.f64())
}

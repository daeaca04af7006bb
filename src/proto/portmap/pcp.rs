//! The client's side of PCP (RFC 6887).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::lease::{Epoch, Lease, restart_pause};
use super::{Out, Route};
use crate::limits;
use crate::wire::portmap::pcp::{self, Body, MapRequest, Nonce, Response, ResultCode};
use crate::wire::portmap::{SERVER_PORT, nat_pmp};

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
    state: State,
    /// The external endpoint that we had last: it is asked for again.
    liked: SocketAddr,
    epoch: Option<Epoch>,
}

#[derive(Debug)]
enum State {
    Off,
    /// No answer yet.
    Asking {
        retry_at: Instant,
        wait: Duration,
    },
    Granted(Lease),
    /// Refused.
    Resting(Instant),
    Removing {
        retry_at: Instant,
        tries: u8,
    },
    /// Removed, for good: what comes late is of no interest.
    Ended,
}

impl Client {
    pub(super) fn new(route: Route, port: u16, nonce: Nonce) -> Self {
        let liked = SocketAddr::new(pcp::any_address(route.own), port);
        Self { route, port, nonce, state: State::Off, liked, epoch: None }
    }

    // ---- getters ----

    pub(super) fn external(&self) -> Option<SocketAddr> {
        match &self.state {
            State::Granted(lease) => Some(lease.external),
            _ => None,
        }
    }

    /// Whether it has said no: others needn't wait for it.
    pub(super) fn has_refused(&self) -> bool {
        matches!(self.state, State::Resting(_))
    }

    pub(super) fn is_off(&self) -> bool {
        matches!(self.state, State::Off | State::Ended)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        match &self.state {
            State::Off | State::Ended => None,
            State::Asking { retry_at, .. } | State::Removing { retry_at, .. } => Some(*retry_at),
            State::Granted(lease) => Some(lease.next()),
            State::Resting(until) => Some(*until),
        }
    }

    // ---- commands ----

    pub(super) fn start(&mut self, now: Instant, out: &mut Out) {
        self.send(limits::PORT_MAPPING_LIFETIME, out);
        let wait = spread(FIRST_WAIT, out);
        self.state = State::Asking { retry_at: now + wait, wait };
    }

    /// Another protocol has been quicker.
    pub(super) fn rest(&mut self) {
        if !matches!(self.state, State::Granted(_) | State::Removing { .. } | State::Ended) {
            self.state = State::Off;
        }
    }

    /// Has the mapping removed. One that was asked for may have come about, too.
    pub(super) fn remove(&mut self, now: Instant, out: &mut Out) {
        let was = std::mem::replace(&mut self.state, State::Ended);
        if matches!(was, State::Granted(_) | State::Asking { .. }) {
            self.send(Duration::ZERO, out);
        }
        if matches!(was, State::Granted(_)) {
            let retry_at = now + limits::PORT_UNMAPPING_RETRY;
            self.state = State::Removing { retry_at, tries: 1 };
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
                self.granted(mapping.external, response.lifetime, now, out);
            }
            // §8.3: such an answer to an ANNOUNCE is none of ours.
            (_, ResultCode::Success) => {}
            (_, why) => self.refused(&why.to_string(), response.lifetime, now),
        }
    }

    /// A server of NAT-PMP alone answers to version 2 in its own words (RFC 6886 §3.5).
    pub(super) fn handle_nat_pmp(&mut self, result: nat_pmp::ResultCode, now: Instant) {
        if result == nat_pmp::ResultCode::UnsupportedVersion {
            self.refused("NAT-PMP alone", u32::MAX, now);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Out) {
        match &mut self.state {
            State::Asking { retry_at, wait } if *retry_at <= now => {
                // "RT = (1 + RAND) * MIN (2 * RTprev, MRT)" (§8.1.1).
                *wait = spread((*wait * 2).min(LONGEST_WAIT), out);
                *retry_at = now + *wait;
                self.send(limits::PORT_MAPPING_LIFETIME, out);
            }
            State::Granted(lease) if lease.expires <= now => self.start(now, out),
            State::Granted(lease) if lease.renew_at <= now => {
                lease.put_off(now);
                self.send(limits::PORT_MAPPING_LIFETIME, out);
            }
            State::Resting(until) if *until <= now => self.start(now, out),
            State::Removing { retry_at, .. } if *retry_at <= now => self.remove_again(now, out),
            _ => {}
        }
    }

    fn remove_again(&mut self, now: Instant, out: &mut Out) {
        let State::Removing { retry_at, tries } = &mut self.state else { return };
        if *tries >= limits::PORT_UNMAPPING_TRIES {
            self.state = State::Ended;
            return;
        }
        *tries += 1;
        *retry_at = now + limits::PORT_UNMAPPING_RETRY;
        self.send(Duration::ZERO, out);
    }

    fn granted(&mut self, external: SocketAddr, lifetime: u32, now: Instant, out: &mut Out) {
        let lifetime = Duration::from_secs(lifetime.into()).min(LONGEST_LIFETIME);
        let is_endpoint = !external.ip().is_unspecified() && external.port() != 0;
        match (&self.state, lifetime.is_zero()) {
            (State::Removing { .. }, true) => self.state = State::Ended,
            // One that comes late is one of ours all the same, and to be removed in the end.
            (State::Off | State::Asking { .. } | State::Granted(_), false) if is_endpoint => {
                self.liked = external;
                self.state = State::Granted(Lease::new(external, lifetime, now, &mut out.random));
            }
            _ => {}
        }
    }

    fn refused(&mut self, why: &str, lifetime: u32, now: Instant) {
        match &self.state {
            State::Asking { .. } => {
                let rest = Duration::from_secs(lifetime.into());
                let rest = rest.clamp(SHORTEST_REST, limits::PORT_MAPPING_REST);
                log::debug!("PCP gateway={}: {why}; again in {rest:?}", self.route.gateway);
                self.state = State::Resting(now + rest);
            }
            // It stands until its end, whatever became of the renewal.
            State::Granted(_) => log::debug!("PCP renewal: {why}"),
            State::Removing { .. } => self.state = State::Ended,
            State::Off | State::Resting(_) | State::Ended => {}
        }
    }

    fn see_epoch(&mut self, told: u32, now: Instant, out: &mut Out) {
        let (epoch, restarted) = Epoch::pcp(self.epoch, told, now);
        self.epoch = Some(epoch);
        if restarted && let State::Granted(lease) = &mut self.state {
            log::debug!("PCP gateway={} has restarted", self.route.gateway);
            lease.forget(now, &mut out.random);
        }
    }

    /// The server is there, and may have just come.
    fn ask_soon(&mut self, now: Instant, out: &mut Out) {
        let soon = now + restart_pause(&mut out.random);
        match &mut self.state {
            State::Asking { retry_at: at, .. } | State::Resting(at) => *at = (*at).min(soon),
            State::Off | State::Granted(_) | State::Removing { .. } | State::Ended => {}
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

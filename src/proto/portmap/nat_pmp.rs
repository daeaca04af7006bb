//! The client's side of NAT-PMP (RFC 6886).

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::lease::{Epoch, Lease, restart_pause};
use super::{Out, Route};
use crate::limits;
use crate::wire::portmap::SERVER_PORT;
use crate::wire::portmap::nat_pmp::{ADDRESS_REQUEST, Body, MapRequest, Response, ResultCode};

/// "the client … waits 250 ms … doubles … until it has made nine attempts" (RFC 6886 §3.1).
const FIRST_WAIT: Duration = Duration::from_millis(250);
const TRIES: u32 = 9;

#[derive(Debug)]
pub(super) struct Client {
    route: Route,
    port: u16,
    state: State,
    /// The public address.
    address: Option<Ipv4Addr>,
    /// The external port that we had last: it is asked for again.
    liked: u16,
    epoch: Option<Epoch>,
}

#[derive(Debug)]
enum State {
    Off,
    /// Asked what the public address is. That changes nothing in the router.
    Looking {
        retry_at: Instant,
        tries: u32,
    },
    /// It is there, and may be asked for a mapping.
    Ready,
    Asking {
        retry_at: Instant,
        tries: u32,
    },
    Granted(Lease),
    /// Refused, or not there.
    Resting(Instant),
    Removing {
        retry_at: Instant,
        tries: u8,
    },
    /// Removed, for good: what comes late is of no interest.
    Ended,
}

impl Client {
    pub(super) fn new(route: Route, port: u16) -> Self {
        Self { route, port, state: State::Off, address: None, liked: port, epoch: None }
    }

    // ---- getters ----

    pub(super) fn external(&self) -> Option<SocketAddr> {
        match &self.state {
            State::Granted(lease) => Some(lease.external),
            _ => None,
        }
    }

    /// Whether [`Self::ask`] would help.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready)
    }

    /// Whether it has said no, or nothing at all: others needn't wait for it.
    pub(super) fn has_refused(&self) -> bool {
        matches!(self.state, State::Resting(_))
    }

    pub(super) fn is_off(&self) -> bool {
        matches!(self.state, State::Off | State::Ended)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        match &self.state {
            State::Off | State::Ready | State::Ended => None,
            State::Looking { retry_at, .. }
            | State::Asking { retry_at, .. }
            | State::Removing { retry_at, .. } => Some(*retry_at),
            State::Granted(lease) => Some(lease.next()),
            State::Resting(until) => Some(*until),
        }
    }

    // ---- commands ----

    pub(super) fn start(&mut self, now: Instant, out: &mut Out) {
        self.look(out);
        self.state = State::Looking { retry_at: now + FIRST_WAIT, tries: 1 };
    }

    /// Asks for the mapping.
    pub(super) fn ask(&mut self, now: Instant, out: &mut Out) {
        self.send(limits::PORT_MAPPING_LIFETIME, out);
        self.state = State::Asking { retry_at: now + FIRST_WAIT, tries: 1 };
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
            Body::Nothing => self.refused(response.result, now),
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Out) {
        match &mut self.state {
            State::Looking { retry_at, tries } if *retry_at <= now => {
                match wait_longer(retry_at, tries, now) {
                    true => self.look(out),
                    false => self.state = State::Resting(now + limits::PORT_MAPPING_REST),
                }
            }
            State::Asking { retry_at, tries } if *retry_at <= now => {
                match wait_longer(retry_at, tries, now) {
                    true => self.send(limits::PORT_MAPPING_LIFETIME, out),
                    false => self.state = State::Resting(now + limits::PORT_MAPPING_REST),
                }
            }
            State::Granted(lease) if lease.expires <= now => self.start(now, out),
            State::Granted(lease) if lease.renew_at <= now => {
                lease.put_off(now);
                // The address may have changed meanwhile.
                self.look(out);
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

    fn learn_address(&mut self, address: Ipv4Addr, now: Instant, out: &mut Out) {
        if address.is_unspecified() {
            return;
        }
        self.address = Some(address);
        match &mut self.state {
            State::Looking { .. } => self.state = State::Ready,
            State::Granted(lease) => lease.external.set_ip(address.into()),
            // Nobody has asked: it tells that it is there again.
            State::Resting(until) => {
                *until = (*until).min(now + restart_pause(&mut out.random));
            }
            State::Off
            | State::Ready
            | State::Asking { .. }
            | State::Removing { .. }
            | State::Ended => {}
        }
    }

    fn granted(&mut self, port: u16, lifetime: u32, now: Instant, out: &mut Out) {
        match (&self.state, self.address, lifetime) {
            (State::Removing { .. }, _, 0) => self.state = State::Ended,
            (State::Off | State::Asking { .. } | State::Granted(_), Some(address), 1..)
                if port != 0 =>
            {
                self.liked = port;
                let lifetime = Duration::from_secs(lifetime.into());
                let lifetime = lifetime.min(limits::PORT_MAPPING_LIFETIME);
                let external = SocketAddr::new(address.into(), port);
                self.state = State::Granted(Lease::new(external, lifetime, now, &mut out.random));
            }
            _ => {}
        }
    }

    fn refused(&mut self, why: ResultCode, now: Instant) {
        match &self.state {
            State::Looking { .. } | State::Asking { .. } => {
                log::debug!("NAT-PMP gateway={}: {why}", self.route.gateway);
                self.state = State::Resting(now + limits::PORT_MAPPING_REST);
            }
            // It stands until its end, whatever became of the renewal.
            State::Granted(_) => log::debug!("NAT-PMP renewal: {why}"),
            State::Removing { .. } => self.state = State::Ended,
            State::Off | State::Ready | State::Resting(_) | State::Ended => {}
        }
    }

    fn see_epoch(&mut self, told: u32, now: Instant, out: &mut Out) {
        let (epoch, restarted) = Epoch::nat_pmp(self.epoch, told, now);
        self.epoch = Some(epoch);
        if restarted && let State::Granted(lease) = &mut self.state {
            log::debug!("NAT-PMP gateway={} has restarted", self.route.gateway);
            lease.forget(now, &mut out.random);
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

/// Doubles the wait; `false` when there has been enough of it.
fn wait_longer(retry_at: &mut Instant, tries: &mut u32, now: Instant) -> bool {
    let again = *tries < TRIES;
    *retry_at = now + FIRST_WAIT * 2u32.pow(*tries);
    *tries += 1;
    again
}

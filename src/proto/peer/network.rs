//! The network changes under a login: addresses come and go, and the way to S becomes another one.
//!
//! ```text
//! a notice ─settle─▶ LookAtNetwork ─▶ handle_network ─┬▶ nothing new: nothing happens
//!                                                     ├▶ other addresses: the NAT is looked at anew
//!                                                     └▶ the main connection belongs to the old
//!                                                        network: it is left, and dialled anew at once
//! ```
//!
//! A notice says only that something may have changed; the look shows what there is. So a notice that
//! comes before the look costs nothing, and the last change is always seen.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::{Action, Due, LoginError, Peer, State};
use crate::limits;
use crate::proto::nat::Observation;
use crate::wire::message::Nat;

/// What a look at this machine's network shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The addresses of its interfaces, as for [`Peer::login`].
    pub hosts: Vec<IpAddr>,
    /// Whether the main connection still begins where a new one would: its local address is there, and
    /// is the one from which S is reached. True if there is no main connection.
    pub main_stands: bool,
}

/// When the network was looked at, and what is held of it.
#[derive(Debug, Default)]
pub(super) struct NetworkWatch {
    /// When it will be looked at.
    due: Option<Instant>,
    /// When it was.
    last: Option<Instant>,
    /// The way out may be another one although our addresses are the same.
    doubted: bool,
    /// Public addresses that have raised a doubt in this login, at most [`limits::POOL_ADDRESSES`].
    strange: Vec<IpAddr>,
    /// A probe of this login has shown the public address of the main connection.
    confirmed: bool,
    /// Where what is known of the NAT was learnt: our own addresses, and the public one.
    learnt_at: (Vec<IpAddr>, Option<IpAddr>),
}

impl Peer {
    // ---- events ----

    /// Addresses or routes of this machine have changed, or may have. Answered, once it has settled,
    /// with [`Action::LookAtNetwork`].
    pub fn handle_network_changed(&mut self, now: Instant) {
        if self.network.due.is_some() || matches!(self.state, State::Idle | State::Stopped) {
            return;
        }
        let settled = now + limits::NETWORK_SETTLE_TIME;
        let next = self.network.last.map(|last| last + limits::NETWORK_LOOK_INTERVAL);
        let at = next.map_or(settled, |next| settled.max(next));
        self.network.due = Some(at);
        self.timers.set(at, Due::Network);
    }

    /// What a look at the network has shown.
    pub fn handle_network(&mut self, network: Network, now: Instant) {
        let doubted = std::mem::take(&mut self.network.doubted);
        let changed = network.hosts != self.main.hosts;
        match self.state {
            State::Idle | State::Stopped => {}
            State::Offline if changed => {
                self.main.hosts = network.hosts;
                self.dial_on_new_network(now);
            }
            State::Offline => {}
            _ if !network.main_stands => {
                self.main.hosts = network.hosts;
                self.leave_network(now);
            }
            // What it says at login is read then.
            State::Connecting => {}
            State::Authenticated | State::LoggedIn if changed || doubted => {
                self.main.hosts = network.hosts;
                self.look_at_nat_again(now);
            }
            State::Authenticated | State::LoggedIn => {}
        }
        self.settle(now);
    }

    /// A hole shows the public address at which we are. If it isn't the main connection's, the network
    /// beyond this machine has changed, unnoticed by it, or the NAT has several addresses.
    pub fn handle_public_address(&mut self, seen: IpAddr, now: Instant) {
        let Some(main) = self.main.observed.map(|observed| observed.ip()) else { return };
        let known = |o: &Observation| o.mapped.ip() == seen;
        let strange = &mut self.network.strange;
        if seen == main
            || seen.is_ipv4() != main.is_ipv4()
            || strange.contains(&seen)
            || strange.len() >= limits::POOL_ADDRESSES
            || self.main.observations.iter().any(known)
            || self.pool.contains(&seen)
        {
            return;
        }
        log::debug!("peer id={}: seen at {seen}, the main connection at {main}", self.config.id);
        strange.push(seen);
        self.network.doubted = true;
        self.handle_network_changed(now);
    }

    // ---- for the timers ----

    pub(super) fn look_at_network(&mut self, now: Instant) {
        self.network.due = None;
        if self.state != State::Stopped {
            self.network.last = Some(now);
            self.actions.push_back(Action::LookAtNetwork);
        }
    }

    /// The main connection belongs to the old network. Its end would be noticed only by keepalive.
    pub(super) fn leave_network(&mut self, now: Instant) {
        self.actions.push_back(Action::CloseMain);
        self.handle_main_lost(LoginError::NetworkChanged, now);
    }

    /// Whatever kept us from S, on the new network it may be otherwise.
    fn dial_on_new_network(&mut self, now: Instant) {
        self.failures = 0;
        self.dial(now);
    }

    fn look_at_nat_again(&mut self, now: Instant) {
        if self.main.probes.is_some() {
            self.main.probe_again = true;
        } else if self.state == State::LoggedIn {
            self.probe_mapping(now);
        }
    }

    // ---- for the login and its probes ----

    /// A new login from other addresses than those with which the NAT was learnt: it may be another NAT.
    pub(super) fn begin_on_network(&mut self, hosts: &[IpAddr]) {
        self.network.strange.clear();
        self.network.confirmed = false;
        if self.network.learnt_at.0 != hosts {
            self.forget_nat();
        }
    }

    /// S sees the new login at a public address. If it is another one than that with which the NAT was
    /// learnt, S must forget what the login has said of it.
    pub(super) fn arrive_from(&mut self, observed: SocketAddr) {
        let learnt_at = self.network.learnt_at.1;
        if learnt_at.is_some_and(|learnt_at| learnt_at != observed.ip()) {
            self.forget_nat();
            self.tell_nat();
        }
    }

    fn forget_nat(&mut self) {
        self.nat = Nat::default();
        self.pool.clear();
        self.network.learnt_at = <_>::default();
    }

    /// The probes of a look are in. Says whether they belong to the network of the main connection: if
    /// earlier ones of this login have shown its public address and these show another, it is dead.
    pub(super) fn confirm_network(&mut self) -> bool {
        let Some(main) = self.main.observed.map(|observed| observed.ip()) else { return false };
        // The first observation is the main connection itself.
        let probes = self.main.observations.iter().skip(1);
        let mut seen =
            probes.map(|o| o.mapped.ip()).filter(|ip| ip.is_ipv4() == main.is_ipv4()).peekable();
        let shown = seen.peek().is_some();
        let confirmed = seen.any(|ip| ip == main);
        if shown
            && !confirmed
            && self.network.confirmed
            && let Some(at) = self.network.last
        {
            // Due at once: the look that asked for the probes is over.
            self.timers.set(at, Due::Stale);
            return false;
        }
        self.network.confirmed |= confirmed;
        self.network.learnt_at = (self.main.hosts.clone(), Some(main));
        true
    }
}

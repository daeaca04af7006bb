//! The loop of the daemon: a turn for the peers, then signals, then operators.

use std::net::SocketAddr;
use std::time::Instant;

use super::super::exit::{self, Failure};
use super::super::signals::{Signal, Signals};
use crate::admin::Admin;
use crate::net::reactor::{HostId, Reactor};

/// The operator's port, if there is one.
pub(super) struct Operator(Option<Admin>);

impl Operator {
    pub(super) fn open(
        reactor: &mut Reactor,
        rendezvous: HostId,
        address: Option<SocketAddr>,
    ) -> Result<Self, Failure> {
        let open = |address| {
            Admin::open(reactor, rendezvous, address).map_err(|error| {
                Failure::new(exit::OTHER, error.to_string()).hint("another one: --admin IP:PORT")
            })
        };
        Ok(Self(address.map(open).transpose()?))
    }

    pub(super) fn address(&self) -> Result<Option<SocketAddr>, Failure> {
        Ok(self.0.as_ref().map(Admin::address).transpose()?)
    }

    /// One turn, and what operators want then. Returns the signals that have come.
    pub(super) fn turn(
        &mut self,
        reactor: &mut Reactor,
        signals: &mut Signals,
        deadline: Option<Instant>,
    ) -> Result<Vec<Signal>, Failure> {
        let next = self.0.as_ref().and_then(Admin::poll_timeout);
        reactor.turn([deadline, next].into_iter().flatten().min())?;
        let mut taken = Vec::new();
        for key in reactor.take_ready() {
            match (signals.take(key), &mut self.0) {
                (Some(signal), _) => taken.push(signal),
                (None, Some(admin)) => admin.handle_ready(key),
                (None, None) => {}
            }
        }
        if let Some(admin) = &mut self.0 {
            admin.drive(reactor);
        }
        Ok(taken)
    }
}

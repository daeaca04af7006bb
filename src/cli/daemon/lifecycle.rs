//! A rendezvous from its start to its end: what signals do to it.
//!
//! ```text
//! SIGHUP            the settings are read again
//! SIGUSR1, SIGUSR2  the log says more, or less
//! SIGTERM, SIGINT   ─▶ drains: what is in progress ends, or its time is up ─▶ goodbye ─▶ exit code 0
//!                      a second one ends it at once
//! ```

use std::time::{Duration, Instant};

use super::super::exit::Failure;
use super::super::logging;
use super::super::signals::{Signal, Signals};
use super::args::Args;
use super::operator::Operator;
use super::settings::Settings;
use crate::identity::PeerId;
use crate::net::clock;
use crate::net::reactor::{HostId, Reactor};
use crate::net::rendezvous::Farewell;

/// How long peers may take to hear that the rendezvous stops.
const GOODBYE_TIME: Duration = Duration::from_secs(3);

/// What peers are told.
const GOODBYE: &str = "the rendezvous is shutting down";

/// A running rendezvous.
pub(super) struct Daemon<'a> {
    pub(super) args: &'a Args,
    pub(super) settings: Settings,
    pub(super) key: PeerId,
    pub(super) reactor: Reactor,
    pub(super) host: HostId,
    pub(super) operator: Operator,
    pub(super) signals: Signals,
}

impl Daemon<'_> {
    /// Runs until a signal ends it.
    pub(super) fn run(&mut self) -> Result<(), Failure> {
        let signal = loop {
            if let Some(signal) = self.turn(None)? {
                break signal;
            }
        };
        log::info!("asked to stop signal={signal:?}");
        let drained = self.drain()? && self.say_goodbye()?;
        log::info!("ends drained={drained}");
        Ok(())
    }

    /// Waits for something to do, and does it. Tells of a wish that it end.
    fn turn(&mut self, deadline: Option<Instant>) -> Result<Option<Signal>, Failure> {
        let signals = self.operator.turn(&mut self.reactor, &mut self.signals, deadline)?;
        let mut end = None;
        for signal in signals {
            match signal {
                Signal::HangUp => self.reload(),
                Signal::LogMore => logging::more(),
                Signal::LogLess => logging::less(),
                Signal::Interrupt | Signal::Terminate => end = Some(signal),
            }
        }
        Ok(end)
    }

    // ---- the end ----

    /// Until nothing is in progress any more, or the time is up. False if that was cut short.
    fn drain(&mut self) -> Result<bool, Failure> {
        let deadline = clock::now() + self.settings.drain_time;
        let farewell = Farewell { text: GOODBYE.to_owned(), to: self.settings.drain_to.clone() };
        self.reactor.with_rendezvous(self.host, |host, core| host.begin_drain(core, farewell));
        self.turn_until(deadline, |reactor, host| reactor.rendezvous(host).is_drained())
    }

    /// Until all peers know. False if that was cut short.
    fn say_goodbye(&mut self) -> Result<bool, Failure> {
        let deadline = clock::now() + GOODBYE_TIME;
        self.reactor.with_rendezvous(self.host, |host, core| host.shut_down(core, GOODBYE));
        self.turn_until(deadline, |reactor, host| reactor.rendezvous(host).main_links() == 0)
    }

    fn turn_until(
        &mut self,
        deadline: Instant,
        is_done: fn(&mut Reactor, HostId) -> bool,
    ) -> Result<bool, Failure> {
        while !is_done(&mut self.reactor, self.host) && clock::now() < deadline {
            if let Some(signal) = self.turn(Some(deadline))? {
                log::warn!("ends at once signal={signal:?}");
                return Ok(false);
            }
        }
        Ok(true)
    }

    // ---- the settings ----

    /// Reads the file again. What can change does; a file with mistakes changes nothing.
    fn reload(&mut self) {
        if self.args.config.is_none() {
            return log::warn!("no settings are read again: there is no file (--config)");
        }
        let loaded = Settings::load(self.args).and_then(|settings| {
            settings.check_drain_to(self.key)?;
            Ok(settings)
        });
        match loaded {
            Ok(new) => self.take_over(new),
            Err(failure) => {
                for line in failure.error.lines() {
                    log::error!("all settings stay: {line}");
                }
            }
        }
    }

    fn take_over(&mut self, new: Settings) {
        let changes = self.settings.changes(&new);
        for change in &changes {
            let (name, old, new) = (&change.name, &change.old, &change.new);
            match change.needs_restart {
                true => log::warn!("needs a restart setting={name} is={old} file={new}"),
                false => log::info!("changed setting={name} was={old} is={new}"),
            }
        }
        log::info!("settings read again changes={}", changes.len());
        if self.settings.log != new.log {
            logging::set_level(new.log);
        }
        self.settings.take_over(new);
        let (text, limits) = (self.settings.text.clone(), self.settings.limits.clone());
        let (relay, dial_back) = (self.settings.relay, self.settings.dial_back);
        self.reactor.rendezvous(self.host).reconfigure(text, relay, dial_back, limits);
    }
}

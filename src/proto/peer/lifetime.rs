//! How long our NAT keeps the mapping of a connection that says nothing, measured when someone asks.
//!
//! One connection for each time that is asked about, all at once, from a fresh local port each. S answers
//! after that time, and neither side says anything before. An answer that comes proves that the mapping
//! lives so long; one that does not come, that it is gone.

use std::time::{Duration, Instant};

use super::{Action, Due, Event, Peer};
use crate::limits;

/// What connections that said nothing have shown of the NAT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetime {
    /// The longest silence after which something still came in.
    pub lives: Option<Duration>,
    /// The shortest silence beyond that after which nothing came in.
    pub gone: Option<Duration>,
}

/// How the silence of one connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleEnd {
    /// The answer came.
    Lives,
    /// It did not come: the NAT has forgotten the connection.
    Gone,
    /// It could not be tried, or S did not take part.
    Unknown,
}

/// Why nothing is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LifetimeError {
    /// There is no login.
    LoggedOut,
    /// The last measurement is not over.
    InProgress,
    /// No time is named, or more than [`limits::IDLE_PROBES`], or one that is zero or longer than
    /// [`limits::DELAYED_ANSWER_TIME`].
    Times,
}

impl std::fmt::Display for LifetimeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::LoggedOut => f.write_str("there is no login"),
            Self::InProgress => f.write_str("the last measurement is not over"),
            Self::Times => write!(
                f,
                "1 to {} times, each of 1 to {} seconds",
                limits::IDLE_PROBES,
                limits::DELAYED_ANSWER_TIME.as_secs()
            ),
        }
    }
}

impl std::error::Error for LifetimeError {}

/// One connection.
#[derive(Clone, Copy, Debug)]
struct Probe {
    idle: Duration,
    /// Its number, which no other connection of this peer has.
    number: u64,
    deadline: Instant,
    /// The request is out.
    asked: bool,
    end: Option<IdleEnd>,
}

/// The measurement in progress, if there is one.
#[derive(Debug, Default)]
pub(super) struct Measurement {
    probes: Vec<Probe>,
    last_number: u64,
}

impl Peer {
    // ---- commands ----

    /// Measures whether the NAT keeps mappings that are idle for each of these times, in whole seconds.
    /// [`Event::IdleMapping`] tells of each, and [`Event::LifetimeKnown`] of all.
    ///
    /// # Errors
    /// [`LifetimeError`]: nothing is measured.
    pub fn measure_lifetime(
        &mut self,
        times: &[Duration],
        now: Instant,
    ) -> Result<(), LifetimeError> {
        let bounds = Duration::from_secs(1)..=limits::DELAYED_ANSWER_TIME;
        let fit = (1..=limits::IDLE_PROBES).contains(&times.len())
            && times.iter().all(|time| bounds.contains(time));
        if !fit {
            return Err(LifetimeError::Times);
        }
        if !self.measurement.probes.is_empty() {
            return Err(LifetimeError::InProgress);
        }
        let to = self.hole_endpoint().filter(|_| self.is_logged_in());
        let to = to.ok_or(LifetimeError::LoggedOut)?;
        for time in times {
            let seconds = time.as_secs() as u32;
            self.measurement.last_number += 1;
            let number = self.measurement.last_number;
            let idle = Duration::from_secs(seconds.into());
            let deadline = now + limits::IDLE_PROBE_OPENING_TIME;
            self.timers.set(deadline, Due::IdleProbe(number));
            let probe = Probe { idle, number, deadline, asked: false, end: None };
            self.measurement.probes.push(probe);
            self.actions.push_back(Action::OpenIdle { number, to, seconds });
        }
        Ok(())
    }

    // ---- events ----

    /// The connection stands, and the request is out: from now on it is idle.
    pub fn handle_idle_asked(&mut self, number: u64, now: Instant) {
        let Some(probe) = self.idle_probe(number) else { return };
        let (before, deadline) = (probe.deadline, now + probe.idle + limits::IDLE_PROBE_GRACE);
        probe.asked = true;
        probe.deadline = deadline;
        self.timers.clear(before, Due::IdleProbe(number));
        self.timers.set(deadline, Due::IdleProbe(number));
    }

    /// The silence has ended: with the answer, or the connection is lost. The driver has closed it.
    pub fn handle_idle_ended(&mut self, number: u64, end: IdleEnd, now: Instant) {
        let Some(probe) = self.idle_probe(number) else { return };
        let due = probe.deadline - limits::IDLE_PROBE_GRACE;
        // An answer that comes at once is that of a server which knows no delays.
        let early = !probe.asked || now + Duration::from_secs(1) < due;
        let end = if early && end == IdleEnd::Lives { IdleEnd::Unknown } else { end };
        self.end_idle_probe(number, end);
    }

    pub(super) fn expire_idle_probe(&mut self, number: u64) {
        let Some(probe) = self.idle_probe(number) else { return };
        let end = if probe.asked { IdleEnd::Gone } else { IdleEnd::Unknown };
        self.actions.push_back(Action::CloseIdle { number });
        self.end_idle_probe(number, end);
    }

    /// S is gone, or the network: silence proves nothing any more.
    pub(super) fn abandon_measurement(&mut self) {
        let open: Vec<u64> = self
            .measurement
            .probes
            .iter()
            .filter(|probe| probe.end.is_none())
            .map(|probe| probe.number)
            .collect();
        for number in open {
            self.actions.push_back(Action::CloseIdle { number });
            self.end_idle_probe(number, IdleEnd::Unknown);
        }
    }

    fn idle_probe(&mut self, number: u64) -> Option<&mut Probe> {
        let mut probes = self.measurement.probes.iter_mut();
        probes.find(|probe| probe.number == number && probe.end.is_none())
    }

    fn end_idle_probe(&mut self, number: u64, end: IdleEnd) {
        let Some(probe) = self.idle_probe(number) else { return };
        probe.end = Some(end);
        let (idle, deadline) = (probe.idle, probe.deadline);
        self.timers.clear(deadline, Due::IdleProbe(number));
        self.events.push_back(Event::IdleMapping { idle, end });
        if self.measurement.probes.iter().all(|probe| probe.end.is_some()) {
            let probes = std::mem::take(&mut self.measurement.probes);
            let ends = probes.iter().filter_map(|probe| Some((probe.idle, probe.end?)));
            self.events.push_back(Event::LifetimeKnown(lifetime(ends)));
        }
    }
}

/// What the ends of all silences say together. One that is lost below the longest that lived was lost for
/// another reason.
fn lifetime(ends: impl Iterator<Item = (Duration, IdleEnd)> + Clone) -> Lifetime {
    let of = |wanted| ends.clone().filter(move |(_, end)| *end == wanted).map(|(idle, _)| idle);
    let lives = of(IdleEnd::Lives).max();
    let gone = of(IdleEnd::Gone).filter(|gone| lives.is_none_or(|lives| *gone > lives)).min();
    Lifetime { lives, gone }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_lifetime_lies_between_the_longest_that_lives_and_the_next_that_is_gone() {
        let ends = [
            (seconds(30), IdleEnd::Lives),
            (seconds(60), IdleEnd::Gone),
            (seconds(120), IdleEnd::Lives),
            (seconds(240), IdleEnd::Unknown),
            (seconds(600), IdleEnd::Gone),
            (seconds(300), IdleEnd::Gone),
        ];
        let expected = Lifetime { lives: Some(seconds(120)), gone: Some(seconds(300)) };
        assert_eq!(lifetime(ends.into_iter()), expected);
        assert_eq!(lifetime(ends[..1].iter().copied()).gone, None);
        assert_eq!(lifetime([].into_iter()), Lifetime::default());
    }
}

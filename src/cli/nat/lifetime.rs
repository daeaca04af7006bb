//! How long the NAT keeps a connection that says nothing.

use std::time::Duration;

use super::super::exit::{self, Failure};
use super::super::session::{Happening, Session};
use super::super::text;
use crate::limits;
use crate::net::clock;
use crate::net::peer::Event;
use crate::proto::peer::{self, IdleEnd, Lifetime};

/// From each time to the next shorter one: two steps are half of it.
const STEP: f64 = std::f64::consts::SQRT_2;

/// Silences beside each other, the longest first, in whole seconds.
pub(super) fn times(longest: Duration) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut seconds = longest.as_secs();
    while seconds > 0 && times.len() < limits::IDLE_PROBES {
        times.push(Duration::from_secs(seconds));
        seconds = ((seconds as f64 / STEP) as u64).min(seconds - 1);
    }
    times
}

/// Measures, which takes as long as the longest silence and a little more.
pub(super) fn measure(session: &mut Session<'_>, longest: Duration) -> Result<Lifetime, Failure> {
    let times = times(longest);
    let most = longest + limits::IDLE_PROBE_OPENING_TIME + limits::IDLE_PROBE_GRACE;
    let output = session.output();
    let (count, long) = (times.len(), words(longest));
    output.progress(&format!("{count} connections say nothing, for up to {long}"));
    let mut begun = Ok(());
    session.with_peer(|host, core| {
        host.command(core, |machine| begun = machine.measure_lifetime(&times, clock::now()));
    });
    begun.map_err(|error| Failure::new(exit::OTHER, format!("nothing is measured: {error}")))?;
    // The machine ends it in time; a second more is for a machine that is busy.
    let deadline = clock::now() + most + Duration::from_secs(1);
    loop {
        match session.next(Some(deadline))? {
            Happening::Event(Event::Peer(peer::Event::IdleMapping { idle, end })) => {
                output.progress(&told(idle, end));
            }
            Happening::Event(Event::Peer(peer::Event::LifetimeKnown(lifetime))) => {
                return Ok(lifetime);
            }
            Happening::Signal(signal) => return Err(Failure::quiet(signal.exit_code())),
            Happening::Deadline => return Ok(Lifetime::default()),
            Happening::Event(_) | Happening::Ready(_) => {}
        }
    }
}

/// A time of silence, which is one of whole seconds.
pub(super) fn words(silence: Duration) -> String {
    match silence.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        _ => text::time(silence),
    }
}

fn told(idle: Duration, end: IdleEnd) -> String {
    let idle = words(idle);
    match end {
        IdleEnd::Lives => format!("after {idle} of silence it lives"),
        IdleEnd::Gone => format!("after {idle} of silence it is gone"),
        IdleEnd::Unknown => format!("{idle} of silence could not be tried"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_become_shorter_and_are_as_many_as_may_be() {
        let seconds = |longest| -> Vec<u64> {
            times(Duration::from_secs(longest)).iter().map(Duration::as_secs).collect()
        };
        assert_eq!(seconds(1), [1]);
        assert_eq!(seconds(10), [10, 7, 4, 2, 1]);
        for longest in [300, limits::DELAYED_ANSWER_TIME.as_secs()] {
            let times = seconds(longest);
            assert!(times.len() <= limits::IDLE_PROBES && times[0] == longest);
            assert!(times.windows(2).all(|pair| pair[0] > pair[1]), "{times:?}");
        }
    }
}

//! `gimlet ping`: how a connection to a peer comes about, and how long a round trip takes on it.

use std::time::{Duration, Instant};

use super::args::PingArgs;
use super::call;
use super::events::Event as JsonEvent;
use super::exit::{self, Failure};
use super::explain::{self, Wish};
use super::report_json::millis;
use super::session::{Context, Happening, Part, Session};
use crate::net::clock;
use crate::net::peer::{Event, LocalEnd, StreamId};

/// How long the last round trips may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects, pings, sums up.
pub(crate) fn run(context: &Context, args: &PingArgs) -> Result<(), Failure> {
    let peer = context.book.resolve(&args.peer)?;
    let wish = Wish { own: context.id, peer, service: None, preference: args.way.preference() };
    let mut session = Session::open(context, Part::CallOnce)?;
    let stream = call::connect(&mut session, &wish, LocalEnd::Nothing, args.timeout.timeout)?;
    let mut pings = Pings::new(stream, args);
    let result = pings.run(&mut session, &wish);
    pings.summary(&session)?;
    result
}

struct Pings {
    stream: StreamId,
    count: u64,
    interval: Duration,
    /// When each was sent; the first is number 1.
    sent: Vec<Instant>,
    round_trips: Vec<Duration>,
}

impl Pings {
    fn new(stream: StreamId, args: &PingArgs) -> Self {
        let (count, interval) = (args.count, args.interval);
        Self { stream, count, interval, sent: Vec::new(), round_trips: Vec::new() }
    }

    fn run(&mut self, session: &mut Session<'_>, wish: &Wish) -> Result<(), Failure> {
        let mut next = clock::now();
        while (self.round_trips.len() as u64) < self.count {
            if self.is_all_sent() {
                next = self.sent[self.sent.len() - 1] + PATIENCE;
            } else if next <= clock::now() {
                self.send(session)?;
                next += self.interval;
                continue;
            }
            match session.next(Some(next))? {
                Happening::Event(Event::Pong { value, .. }) => self.take(session, value)?,
                Happening::Event(Event::Closed { stream, end }) if stream == self.stream => {
                    return Err(match end.error {
                        Some(error) => explain::stream(&error, wish),
                        None => Failure::new(exit::LOST, "the other peer closed the connection"),
                    });
                }
                Happening::Signal(signal) => return Err(Failure::quiet(signal.exit_code())),
                Happening::Deadline if self.is_all_sent() => {
                    let name = &wish.peer.name;
                    return Err(Failure::new(exit::LOST, format!("{name} does not answer")));
                }
                // The connection stands without the rendezvous.
                Happening::Event(event) => {
                    if let Err(failure) = session.announce(event) {
                        log::info!("no more rendezvous: {}", failure.error);
                    }
                }
                Happening::Ready(_) | Happening::Deadline => {}
            }
        }
        session.with_peer(|host, core| host.close_stream(core, self.stream));
        Ok(())
    }

    fn is_all_sent(&self) -> bool {
        self.sent.len() as u64 >= self.count
    }

    fn send(&mut self, session: &mut Session<'_>) -> Result<(), Failure> {
        self.sent.push(clock::now());
        let (stream, value) = (self.stream, self.sent.len() as u64);
        let sent = session.with_peer(|host, core| host.ping(core, stream, value));
        // If the stream is gone, the event that says so is on its way.
        sent.or_else(|error| match error.kind() {
            std::io::ErrorKind::NotConnected => Ok(()),
            _ => Err(error.into()),
        })
    }

    fn take(&mut self, session: &Session<'_>, seq: u64) -> Result<(), Failure> {
        let at = usize::try_from(seq).ok().and_then(|seq| seq.checked_sub(1));
        let Some(sent) = at.and_then(|at| self.sent.get(at)) else { return Ok(()) };
        let round_trip = clock::now().duration_since(*sent);
        self.round_trips.push(round_trip);
        let rtt_ms = millis(round_trip);
        session.output().say(&format!("round trip {seq}: {rtt_ms:.2} ms"))?;
        session.output().event(&JsonEvent::Pong { seq, rtt_ms })
    }

    fn summary(&self, session: &Session<'_>) -> Result<(), Failure> {
        let (Some(min), Some(max)) = (self.round_trips.iter().min(), self.round_trips.iter().max())
        else {
            return Ok(());
        };
        let (sent, received) = (self.sent.len() as u64, self.round_trips.len());
        let sum: Duration = self.round_trips.iter().sum();
        let average = sum.div_f64(received as f64);
        let [min_ms, avg_ms, max_ms] = [*min, average, *max].map(millis);
        session.output().say(&format!(
            "{received} of {sent} came back: min {min_ms:.2} ms, avg {avg_ms:.2} ms, max {max_ms:.2} ms"
        ))?;
        let received = received as u64;
        session.output().event(&JsonEvent::Summary { sent, received, min_ms, avg_ms, max_ms })
    }
}

//! The bounds of a rendezvous that an operator may change: names, units, sane ranges, and what each is for.
//! The defaults, and the reasons for them, are in [`crate::limits`].

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::super::nearest::nearest;
use super::units::{Size, Time};
use crate::limits;
use crate::net::rendezvous::Limits;

/// What a bound counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Time, in milliseconds.
    Time,
}

impl Unit {
    /// Reads a value as it stands on the command line or in a text of the file.
    pub(crate) fn parse(self, text: &str) -> Result<u64, String> {
        match self {
            Self::Count => text.parse().map_err(|_| format!("{text:?} is no number, such as 1000")),
            Self::Bytes => text.parse().map(|Size(bytes)| bytes),
            Self::Time => text.parse().map(Time::millis),
        }
    }

    fn show(self, value: u64) -> String {
        match self {
            Self::Count => value.to_string(),
            Self::Bytes => Size(value).to_string(),
            Self::Time => Time::from_millis(value).to_string(),
        }
    }
}

/// One bound.
pub(crate) struct Bound {
    field: &'static str,
    pub(crate) unit: Unit,
    range: RangeInclusive<u64>,
    /// For a comment in the file.
    pub(crate) about: &'static str,
    get: fn(&Limits) -> u64,
    set: fn(&mut Limits, u64),
}

impl Bound {
    /// Its name in the file and on the command line.
    pub(crate) fn name(&self) -> String {
        self.field.replace('_', "-")
    }

    /// The bound of this name.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        BOUNDS.iter().find(|bound| bound.name() == name)
    }

    /// Its value, as the file has it.
    pub(crate) fn show(&self, limits: &Limits) -> String {
        let text = self.unit.show((self.get)(limits));
        if self.unit == Unit::Count { text } else { format!("\"{text}\"") }
    }

    /// Changes it, if the value is sane.
    pub(crate) fn set(&self, limits: &mut Limits, value: u64) -> Result<(), String> {
        if !self.range.contains(&value) {
            return Err(format!("{} is out of its range, {}", self.unit.show(value), self.range()));
        }
        (self.set)(limits, value);
        Ok(())
    }

    /// The values that it may have.
    pub(crate) fn range(&self) -> String {
        let [least, most] = [self.range.start(), self.range.end()].map(|it| self.unit.show(*it));
        format!("{least} to {most}")
    }
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field)
    }
}

/// `NAME=VALUE` on the command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chosen {
    bound: &'static Bound,
    value: u64,
}

impl Chosen {
    pub(crate) fn apply(self, limits: &mut Limits) {
        (self.bound.set)(limits, self.value);
    }
}

impl FromStr for Chosen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("a limit is NAME=VALUE")?;
        let names: Vec<_> = BOUNDS.iter().map(Bound::name).collect();
        let bound = Bound::find(name).ok_or_else(|| {
            format!("there is no limit {name:?}{}", nearest(name, names.iter().map(String::as_str)))
        })?;
        let value = bound.unit.parse(value)?;
        bound.set(&mut Limits::default(), value)?;
        Ok(Self { bound, value })
    }
}

/// A field of [`Limits`] as a number.
trait Field {
    fn to_number(self) -> u64;
    fn from_number(number: u64) -> Self;
}

macro_rules! whole_numbers {
    ($($type:ty),*) => { $(
        impl Field for $type {
            fn to_number(self) -> u64 {
                self as u64
            }

            fn from_number(number: u64) -> Self {
                Self::try_from(number).unwrap_or(Self::MAX)
            }
        }
    )* };
}

whole_numbers!(usize, u32);

impl Field for Duration {
    fn to_number(self) -> u64 {
        Time(self).millis()
    }

    fn from_number(number: u64) -> Self {
        Self::from_millis(number)
    }
}

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const DAY: u64 = 24 * 60 * MINUTE;
const MILLION: u64 = 1_000_000;

macro_rules! bounds {
    ($($field:ident: $unit:ident, $range:expr, $about:literal;)*) => {
        /// All of them, in the order of the file.
        pub(crate) const BOUNDS: &[Bound] = &[$(Bound {
            field: stringify!($field),
            unit: Unit::$unit,
            range: $range,
            about: $about,
            get: |limits| Field::to_number(limits.$field),
            set: |limits, value| limits.$field = Field::from_number(value),
        }),*];
    };
}

bounds! {
    sessions: Count, 1..=16 * MILLION,
        "Peers that are logged in. Each needs a descriptor: that limit is usually reached first.";
    links_per_address: Count, 1..=16 * MILLION,
        "Connections to the main port from one IPv4 address or IPv6 /64, sessions included.";
    handshakes: Count, 1..=MILLION,
        "Logins in progress.";
    handshakes_per_address: Count, 1..=MILLION,
        "Logins in progress from one IPv4 address or IPv6 /64.";
    handshake_time: Time, SECOND..=5 * MINUTE,
        "A login must be done within this time.";
    callers_per_peer: Count, 1..=MILLION,
        "Sessions of one key that only call, such as parallel `gimlet pipe`s.";
    main_backlog_bytes: Bytes, 64 << 10..=64 << 20,
        "Bytes that wait for a peer that doesn't read, before it is closed.";
    unknown_messages: Count, 0..=MILLION,
        "Messages of unknown types in one session, before it is closed.";
    reserved_descriptors: Count, 16..=MILLION,
        "Descriptors that the hole ports may not take from logins.";
    introductions: Count, 1..=16 * MILLION,
        "Introductions in progress.";
    introductions_per_session: Count, 1..=MILLION,
        "Introductions in progress of one session, asked for or answered.";
    introduction_time: Time, 5 * SECOND..=10 * MINUTE,
        "An introduction ends at the latest after this time.";
    hole_time: Time, 100..=MINUTE,
        "A fresh hole must show within this time, or the round begins without it.";
    release_delay: Time, 0..=5 * SECOND,
        "Longest time by which the nearer peer's dial is held back to meet the other's.";
    departed_peers: Count, 0..=16 * MILLION,
        "Peers that have left and whose consent is remembered.";
    departed_time: Time, 0..=30 * DAY,
        "How long it is remembered.";
    watches: Count, 0..=100 * MILLION,
        "Watches in all: one session that wants to hear of one peer.";
    watched_peers: Count, 0..=limits::WATCHED_PEERS as u64,
        "Peers that one session may watch.";
    watchers_per_peer: Count, 0..=MILLION,
        "Sessions that may watch one peer.";
    rooms: Count, 0..=16 * MILLION,
        "Rooms in all.";
    rooms_per_session: Count, 0..=1000,
        "Rooms that one session may be in.";
    room_members: Count, 1..=MILLION,
        "Sessions in one room: each coming and going is told to all of them.";
    hole_links: Count, 1..=16 * MILLION,
        "Connections to the hole ports.";
    holes_per_address: Count, 1..=16 * MILLION,
        "Connections to the hole ports from one IPv4 address or IPv6 /64.";
    hole_idle_time: Time, 5 * SECOND..=DAY,
        "A hole connection that says nothing is closed after this time.";
    delayed_answers: Count, 0..=MILLION,
        "STUN answers that wait for a time that the client has named.";
    delayed_answers_per_address: Count, 0..=MILLION,
        "The same, of one IPv4 address or IPv6 /64.";
    dial_backs: Count, 0..=100_000,
        "Dials back to peers in progress.";
    dial_backs_per_address: Count, 0..=MILLION,
        "Dials back in a minute to one IPv4 address or IPv6 /64.";
    relays: Count, 0..=MILLION,
        "Relayed pairs: two descriptors each, and four more while their readers are slow.";
    relays_per_peer: Count, 0..=MILLION,
        "Relayed pairs of one peer.";
    relay_join_time: Time, SECOND..=10 * MINUTE,
        "How long the first side of a relay waits for the other.";
    relay_idle_time: Time, 10 * SECOND..=30 * DAY,
        "A relayed pair that is silent for this long is closed.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_within_its_range_and_reads_as_it_is_shown() {
        for bound in BOUNDS {
            let mut limits = Limits::default();
            let shown = bound.show(&limits);
            let value = bound.unit.parse(shown.trim_matches('"')).unwrap();
            bound.set(&mut limits, value).unwrap();
            assert_eq!(limits, Limits::default(), "{bound:?}");
        }
    }

    #[test]
    fn every_bound_changes_what_it_names_and_nothing_else() {
        for bound in BOUNDS {
            let mut limits = Limits::default();
            let value = *bound.range.start();
            bound.set(&mut limits, value).unwrap();
            assert_eq!((bound.get)(&limits), value, "{bound:?}");
            for other in BOUNDS.iter().filter(|other| other.field != bound.field) {
                assert_eq!((other.get)(&limits), (other.get)(&Limits::default()), "{other:?}");
            }
        }
    }

    #[test]
    fn no_field_is_left_out_but_the_relays_rates() {
        let fields = format!("{:#?}", Limits::default());
        let fields = fields.lines().filter_map(|line| line.trim().split_once(": "));
        for (field, _) in fields {
            let known = BOUNDS.iter().any(|bound| bound.field == field);
            assert!(known || field.ends_with("bytes_per_second"), "{field}");
        }
    }

    #[test]
    fn a_limit_on_the_command_line() {
        let chosen: Chosen = "hole-time=500ms".parse().unwrap();
        let mut limits = Limits::default();
        chosen.apply(&mut limits);
        assert_eq!(limits.hole_time, Duration::from_millis(500));
        let mistake = |text: &str| text.parse::<Chosen>().unwrap_err();
        assert!(mistake("hole_time=1s").contains("did you mean hole-time?"));
        assert!(mistake("hole-time=1").contains("no time"));
        assert!(mistake("hole-time=2m").contains("2m is out of its range, 100ms to 1m"));
        assert!(mistake("hole-time").contains("NAME=VALUE"));
    }
}

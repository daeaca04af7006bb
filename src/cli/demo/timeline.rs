//! The diagram of the demonstration: time, who to whom, and what.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::exit::Failure;
use super::super::output::Output;
use super::super::report_json::{self, ReportJson, millis};
use super::super::text;
use crate::net::clock;
use crate::proto::punch::Report;

/// Who says something to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrow {
    AtS,
    AToS,
    BToS,
    /// S to both.
    FromS,
    AToB,
    BToA,
    /// Both ways, past S.
    Direct,
}

impl Arrow {
    /// From a peer to S.
    pub(super) fn to_s(name: &str) -> Self {
        if name == "A" { Self::AToS } else { Self::BToS }
    }

    /// From a peer to the other.
    pub(super) fn to_other(name: &str) -> Self {
        if name == "A" { Self::AToB } else { Self::BToA }
    }

    /// Below the letters of the heading.
    fn drawing(self) -> &'static str {
        match self {
            Self::AtS => "│       ●       │",
            Self::AToS => "├──────▶│       │",
            Self::BToS => "│       │◀──────┤",
            Self::FromS => "│◀──────┼──────▶│",
            Self::AToB => "├──────────────▶│",
            Self::BToA => "│◀──────────────┤",
            Self::Direct => "│◀═════════════▶│",
        }
    }

    fn who(self) -> &'static str {
        match self {
            Self::AtS | Self::FromS => "S",
            Self::AToS | Self::AToB => "A",
            Self::BToS | Self::BToA => "B",
            Self::Direct => "A, B",
        }
    }

    fn colour(self) -> Colour {
        match self {
            Self::AtS | Self::FromS => Colour::Yellow,
            Self::AToS | Self::AToB => Colour::Cyan,
            Self::BToS | Self::BToA => Colour::Magenta,
            Self::Direct => Colour::Green,
        }
    }
}

/// Colours and weights of a terminal (ECMA-48 §8.3.117).
#[derive(Clone, Copy, Debug)]
enum Colour {
    Bold = 1,
    Faint = 2,
    Green = 32,
    Yellow = 33,
    Magenta = 35,
    Cyan = 36,
}

/// What the demonstration has shown.
pub(super) struct Summary<'a> {
    pub(super) proved_after: Duration,
    pub(super) rounds: usize,
    pub(super) bytes_each_way: u64,
    pub(super) transfer: Duration,
    pub(super) rtt: Duration,
    pub(super) report: &'a Report,
}

/// Prints as things happen.
pub(super) struct Timeline {
    output: Output,
    start: Instant,
    colours: bool,
    /// The last round that S has released.
    round: u8,
}

#[derive(Serialize)]
struct Line<'a> {
    event: &'a str,
    t_ms: f64,
    who: &'a str,
    what: &'a str,
}

#[derive(Serialize)]
struct SummaryLine {
    event: &'static str,
    t_ms: f64,
    direct: bool,
    proved_ms: f64,
    rounds: usize,
    bytes_each_way: u64,
    transfer_ms: f64,
    mib_per_second: f64,
    rtt_ms: f64,
    report: ReportJson,
}

impl Timeline {
    pub(super) fn new(output: Output) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colours = std::io::stdout().is_terminal() && !plain;
        Self { output, start: clock::now(), colours, round: 0 }
    }

    /// The heading.
    pub(super) fn open(&self) -> Result<(), Failure> {
        self.output.say(&self.paint(
            Colour::Bold,
            "A rendezvous S and two peers A and B, in one process, on the loopback interface",
        ))?;
        self.output.say("")?;
        self.output.say(&self.paint(Colour::Bold, "     time   A       S       B"))
    }

    /// S has brought the two together: both are told, and it is printed once.
    pub(super) fn introduced(&mut self, round: u8) -> Result<(), Failure> {
        if self.round == round {
            return Ok(());
        }
        self.round = round;
        let what = format!("S tells each where the other is, in the same instant: round {round}");
        self.tell("introduced", Arrow::FromS, &what)
    }

    /// One line.
    pub(super) fn tell(&self, event: &str, arrow: Arrow, what: &str) -> Result<(), Failure> {
        let elapsed = clock::now().duration_since(self.start);
        if self.output.is_json() {
            let (t_ms, who) = (millis(elapsed), arrow.who());
            return self.output.object(&Line { event, t_ms, who, what });
        }
        let time = self.paint(Colour::Faint, &format!("{:>9}", text::time(elapsed)));
        let drawing = self.paint(arrow.colour(), arrow.drawing());
        self.output.say(&format!("{time}   {drawing}   {what}"))
    }

    /// The last words.
    pub(super) fn close(&self, summary: &Summary<'_>) -> Result<(), Failure> {
        let both_ways = 2 * summary.bytes_each_way;
        if self.output.is_json() {
            let mebibytes = both_ways as f64 / f64::from(1 << 20);
            return self.output.object(&SummaryLine {
                event: "summary",
                t_ms: millis(clock::now().duration_since(self.start)),
                direct: true,
                proved_ms: millis(summary.proved_after),
                rounds: summary.rounds,
                bytes_each_way: summary.bytes_each_way,
                transfer_ms: millis(summary.transfer),
                mib_per_second: mebibytes / summary.transfer.as_secs_f64().max(1e-9),
                rtt_ms: millis(summary.rtt),
                report: report_json::report(summary.report),
            });
        }
        let rounds = if summary.rounds == 1 { "round" } else { "rounds" };
        self.output.say("")?;
        self.output.say(&self.paint(
            Colour::Green,
            &format!(
                "A and B are connected directly, {} after A asked, in {} {rounds}.",
                text::time(summary.proved_after),
                summary.rounds
            ),
        ))?;
        self.output.say(&format!(
            "{} went through that connection at {}, encrypted from end to end, and none of it \
             through S.",
            text::bytes(both_ways),
            text::rate(both_ways, summary.transfer)
        ))?;
        self.output.say("Across two real networks it is the same: gimlet --help says how.")
    }

    fn paint(&self, colour: Colour, text: &str) -> String {
        match self.colours {
            true => format!("\x1b[{}m{text}\x1b[0m", colour as u8),
            false => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lanes_are_aligned() {
        let all = [
            Arrow::AtS,
            Arrow::AToS,
            Arrow::BToS,
            Arrow::FromS,
            Arrow::AToB,
            Arrow::BToA,
            Arrow::Direct,
        ];
        for arrow in all {
            assert_eq!(arrow.drawing().chars().count(), "A       S       B".len(), "{arrow:?}");
        }
    }
}

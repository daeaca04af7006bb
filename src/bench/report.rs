//! What a run prints: a table for people, or one JSON object.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::machine::Machine;
use super::meter::Cost;
use super::tally::{Percentiles, Tally};
use crate::cli::exit::Failure;
use crate::cli::output::Output;
use crate::cli::text;

/// A run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    event: &'static str,
    mode: &'static str,
    #[serde(flatten)]
    machine: Machine,
    figures: Vec<Figure>,
    /// Single values, their unit in the name.
    values: BTreeMap<String, f64>,
    notes: Vec<String>,
    #[serde(skip)]
    said: Vec<String>,
}

/// One kind of operation.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figure {
    name: &'static str,
    count: u64,
    seconds: f64,
    per_second: f64,
    latency_us: Option<Percentiles>,
    errors: BTreeMap<String, u64>,
    retries: BTreeMap<String, u64>,
    /// CPU time of the server's process.
    server_cpu_seconds: Option<f64>,
    server_cpu_us_per_operation: Option<f64>,
    /// Of one core. At 1, the server was the bottleneck.
    server_busy: Option<f64>,
    /// Likewise those who made the load.
    bench_busy: f64,
    /// The server's CPU time per operation, over that of the bare server.
    floor_ratio: Option<f64>,
}

impl Figure {
    pub(super) fn new(name: &'static str, tally: &Tally, cost: &Cost) -> Self {
        let (count, seconds) = (tally.count(), cost.wall.as_secs_f64().max(1e-9));
        let server = cost.server.map(|cpu| cpu.as_secs_f64());
        Self {
            name,
            count,
            seconds,
            per_second: count as f64 / seconds,
            latency_us: tally.percentiles(),
            errors: tally.errors.clone(),
            retries: tally.retries.clone(),
            server_cpu_seconds: server,
            server_cpu_us_per_operation: server.map(|cpu| cpu * 1e6 / count.max(1) as f64),
            server_busy: server.map(|cpu| cpu / seconds),
            bench_busy: cost.clients.as_secs_f64() / seconds,
            floor_ratio: None,
        }
    }

    /// The server had other work in that time: its CPU time can't be divided by these operations.
    pub(super) fn among_others(mut self) -> Self {
        self.server_cpu_us_per_operation = None;
        self
    }

    /// What one operation costs the server, in microseconds.
    pub(super) fn cost(&self) -> Option<f64> {
        self.server_cpu_us_per_operation
    }

    fn row(&self) -> [String; COLUMNS.len()] {
        let latency = |pick: fn(&Percentiles) -> f64| self.latency_us.as_ref().map(pick);
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        [
            self.name.to_owned(),
            self.count.to_string(),
            format!("{:.0}/s", self.per_second),
            micros(latency(|l| l.p50)),
            micros(latency(|l| l.p90)),
            micros(latency(|l| l.p99)),
            micros(latency(|l| l.p99_9)),
            self.errors.values().sum::<u64>().to_string(),
            self.cost().map_or("-".into(), |cost| format!("{cost:.1} µs")),
            self.server_busy.map_or("-".into(), percent),
            percent(self.bench_busy),
        ]
    }
}

const COLUMNS: [&str; 11] = [
    "",
    "count",
    "rate",
    "p50",
    "p90",
    "p99",
    "p99.9",
    "errors",
    "CPU of S each",
    "S busy",
    "bench busy",
];

fn micros(value: Option<f64>) -> String {
    value.map_or("-".into(), |value| text::time(Duration::from_secs_f64(value / 1e6)))
}

impl Report {
    pub(super) fn new(mode: &'static str, machine: Machine) -> Self {
        let (figures, values, notes, said) = (Vec::new(), BTreeMap::new(), Vec::new(), Vec::new());
        Self { event: "report", mode, machine, figures, values, notes, said }
    }

    /// A row of the table.
    pub(super) fn figure(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// A row, and below it the row of its floor, if there is one.
    pub(super) fn beside_floor(&mut self, mut figure: Figure, floor: Option<Figure>) {
        let costs = figure.cost().zip(floor.as_ref().and_then(Figure::cost));
        figure.floor_ratio = costs.map(|(cost, floor)| cost / floor.max(1e-9));
        if let Some(ratio) = figure.floor_ratio {
            self.said.push(format!("{}: {ratio:.1} times its floor", figure.name));
        }
        self.figures.push(figure);
        self.figures.extend(floor);
    }

    /// A single value, with what a person reads.
    pub(super) fn value(&mut self, name: impl Into<String>, value: f64, said: &str) {
        self.values.insert(name.into(), value);
        if !said.is_empty() {
            self.say(said);
        }
    }

    /// A line for a person alone.
    pub(super) fn say(&mut self, line: &str) {
        self.said.push(line.to_owned());
    }

    /// Something that whoever reads the figures must know.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Prints it.
    pub(super) fn print(&self, output: &Output) -> Result<(), Failure> {
        if output.is_json() {
            return output.object(self);
        }
        output.print(&self.text())
    }

    fn text(&self) -> String {
        let mut lines = self.machine.lines();
        if !self.figures.is_empty() {
            lines.push(String::new());
            lines.extend(table(&self.figures));
        }
        lines.push(String::new());
        lines.extend(self.said.iter().cloned());
        for figure in &self.figures {
            for (what, kinds) in [("failed", &figure.errors), ("tried again", &figure.retries)] {
                let kinds = kinds.iter();
                lines.extend(kinds.map(|(kind, n)| format!("{}: {n} {what}: {kind}", figure.name)));
            }
        }
        lines.extend(self.notes.iter().map(|note| format!("note: {note}")));
        lines.join("\n").trim_end().to_owned()
    }
}

/// Columns as wide as what is in them; the first to the left, the numbers to the right.
fn table(figures: &[Figure]) -> Vec<String> {
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    rows.extend(figures.iter().map(Figure::row));
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..COLUMNS.len()).map(width).collect();
    let line = |row: &[String; COLUMNS.len()]| {
        let mut line = format!("{:<w$}", row[0], w = widths[0]);
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            line += &format!("  {cell:>width$}");
        }
        line
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &'static str, server: Option<Duration>) -> Figure {
        let mut tally = Tally::new();
        (0..1000).for_each(|_| tally.done(Duration::from_micros(250)));
        tally.failed("busy");
        let (wall, clients) = (Duration::from_secs(2), Duration::from_secs(1));
        Figure::new(name, &tally, &Cost { wall, server, clients })
    }

    #[test]
    fn a_figure_divides_by_what_succeeded() {
        let figure = figure("login", Some(Duration::from_millis(100)));
        assert_eq!((figure.count, figure.per_second), (1000, 500.0));
        assert!((figure.cost().unwrap() - 100.0).abs() < 1e-9);
        assert!((figure.server_busy.unwrap() - 0.05).abs() < 1e-9);
        assert!((figure.bench_busy - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_row_is_as_wide_as_the_head_and_says_all() {
        let rows = table(&[figure("login", Some(Duration::from_millis(100))), figure("far", None)]);
        let width = rows[0].chars().count();
        assert!(rows.iter().all(|row| row.chars().count() == width), "{rows:#?}");
        for part in ["login", "1000", "500/s", "0.25 ms", "1", "100.0 µs", "5 %", "50 %"] {
            assert!(rows[1].contains(part), "{part}: {}", rows[1]);
        }
        assert!(rows[2].contains(" - "), "what can't be seen: {}", rows[2]);
    }

    #[test]
    fn the_ratio_is_that_of_the_costs() {
        let mut report = Report::new("login", Machine::look(None));
        let [whole, floor] = [100, 20].map(|ms| figure("login", Some(Duration::from_millis(ms))));
        report.beside_floor(whole, Some(floor));
        assert!((report.figures[0].floor_ratio.unwrap() - 5.0).abs() < 1e-9);
        let text = report.text();
        assert!(text.contains("login: 5.0 times its floor"), "{text}");
        assert!(text.contains("login: 1 failed: busy"), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["figures"][0]["errors"]["busy"], 1);
        assert_eq!(json["mode"], "login");
        assert!(json["kernel"].as_str().unwrap().starts_with("Linux "));
    }
}

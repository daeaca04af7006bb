//! What the programs print: lines for people, or events as JSON, and never a panic when nobody reads.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::events::Event;
use super::exit::{self, Failure};

/// Where lines and events go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error, because standard output belongs to somebody else. Lines for people only
    /// when they asked for more.
    Stderr,
}

/// How a program speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    program: &'static str,
    json: bool,
    verbose: bool,
    stream: Stream,
}

impl Output {
    /// The voice of a program.
    pub(crate) fn new(program: &'static str, json: bool, verbose: bool, stream: Stream) -> Self {
        Self { program, json, verbose, stream }
    }

    /// Whether events are printed, and no lines for people.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a person hears of failures alone.
    pub(crate) fn is_quiet(&self) -> bool {
        self.stream == Stream::Stderr && !self.verbose
    }

    /// Prints an event, if events are asked for.
    pub(crate) fn event(&self, event: &Event<'_>) -> Result<(), Failure> {
        match self.json {
            true => self.object(event),
            false => Ok(()),
        }
    }

    /// Prints an object as one line of JSON.
    pub(crate) fn object(&self, object: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(object).expect("our objects have texts for keys");
        self.print(&text)
    }

    /// Tells a person that all goes its way.
    pub(crate) fn say(&self, text: &str) -> Result<(), Failure> {
        match (self.json, self.stream) {
            (true, _) => Ok(()),
            (false, Stream::Stderr) if !self.verbose => Ok(()),
            (false, _) => self.print(text),
        }
    }

    /// Tells a person who waits what is being done, beside what is printed.
    pub(crate) fn progress(&self, text: &str) {
        if !self.json && (self.verbose || io::stderr().is_terminal()) {
            complain(&format!("{}: {text} …", self.program));
        }
    }

    /// Tells a person that something should be seen to.
    pub(crate) fn note(&self, text: &str) {
        if !self.json {
            complain(&format!("{}: {text}", self.program));
        }
    }

    /// Tells a person what to do about a failure, and what was tried.
    pub(crate) fn advise(&self, failure: &Failure) {
        let report = failure.report.as_ref().map(ToString::to_string);
        for text in failure.hint.iter().chain(&report).filter(|_| !self.json) {
            complain(&format!("  {}", text.replace('\n', "\n  ")));
        }
    }

    /// Prints a line.
    pub(crate) fn print(&self, text: &str) -> Result<(), Failure> {
        match self.stream {
            Stream::Stderr => complain(text),
            Stream::Stdout => {
                let mut stdout = io::stdout().lock();
                let printed = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
                printed.map_err(|error| unprinted(&error))?;
            }
        }
        Ok(())
    }

    /// Says why the program ends.
    pub(crate) fn failure(&self, failure: &Failure) {
        let event = Event::Error {
            error: &failure.error,
            hint: failure.hint.as_deref(),
            exit_code: failure.code,
        };
        // If that can't be printed either, the exit code has to say it.
        let _ = self.event(&event);
        self.note(&failure.error);
        self.advise(failure);
    }
}

/// Nobody reads what we print any more: that is an end like another.
fn unprinted(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::quiet(exit::OK),
        _ => Failure::new(exit::OTHER, format!("cannot write to standard output: {error}")),
    }
}

/// Writes to standard error. When that is closed there is nobody to tell.
fn complain(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "{text}");
}

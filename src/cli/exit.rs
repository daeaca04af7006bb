//! How the programs end: the exit codes, and failures that say what to do.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::output::Output;
use crate::proto::punch::Report;

/// All went well.
pub(crate) const OK: u8 = 0;
/// Any failure that has no code of its own.
pub(crate) const OTHER: u8 = 1;
/// The command line or a settings file is wrong. clap's own code.
pub(crate) const USAGE: u8 = 2;
/// The rendezvous can't be reached, or doesn't answer.
pub(crate) const RENDEZVOUS: u8 = 3;
/// The peer is offline.
pub(crate) const OFFLINE: u8 = 4;
/// The peer does not allow us, or nobody knows it.
pub(crate) const NOT_ALLOWED: u8 = 5;
/// No direct connection came about.
pub(crate) const NO_CONNECTION: u8 = 6;
/// The peer has no such service, or can't reach it.
pub(crate) const SERVICE: u8 = 7;
/// The direct connection was lost midway.
pub(crate) const LOST: u8 = 8;
/// The rendezvous isn't the one that we know, or the handshake with it failed.
pub(crate) const SERVER_KEY: u8 = 9;
/// Another login of the same identity took our place.
pub(crate) const REPLACED: u8 = 10;
/// `nat`: direct connections can't be expected.
pub(crate) const MOSTLY_RELAYED: u8 = 11;
/// Ended by SIGHUP, as shells count: 128 and the signal's number.
pub(crate) const HUNG_UP: u8 = 129;
/// Ended by SIGINT.
pub(crate) const INTERRUPTED: u8 = 130;
/// `pipe` could not deliver: its standard output was closed (SIGPIPE).
pub(crate) const BROKEN_PIPE: u8 = 141;
/// Ended by SIGTERM.
pub(crate) const TERMINATED: u8 = 143;

/// What the codes mean, for `--help`.
const TABLE: [(u8, &str); 16] = [
    (OK, "all went well"),
    (OTHER, "another failure"),
    (USAGE, "a mistake in the command line or in a settings file"),
    (RENDEZVOUS, "the rendezvous, or the STUN server, can't be reached"),
    (OFFLINE, "the peer is offline"),
    (NOT_ALLOWED, "the peer does not allow you, or is not known"),
    (NO_CONNECTION, "no direct connection came about"),
    (SERVICE, "the peer has no such service, or can't reach it"),
    (LOST, "the direct connection was lost midway"),
    (SERVER_KEY, "the rendezvous has another key than the one known, or its handshake failed"),
    (REPLACED, "another login of the same identity took over"),
    (MOSTLY_RELAYED, "nat: direct connections can't be expected: mostly relayed"),
    (HUNG_UP, "pipe, ping, nat: hung up (SIGHUP)"),
    (INTERRUPTED, "pipe, ping, nat: interrupted (SIGINT)"),
    (BROKEN_PIPE, "pipe: standard output was closed"),
    (TERMINATED, "pipe, ping, nat: terminated (SIGTERM)"),
];

/// The table of codes as a section of a help text.
pub(crate) fn help() -> String {
    let mut text = String::from("Exit codes:\n");
    for (code, meaning) in TABLE {
        writeln!(text, "  {code:>3}  {meaning}").expect("a String takes everything");
    }
    text.truncate(text.trim_end().len());
    text
}

/// Why a program ends otherwise than well.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) code: u8,
    /// What went wrong; empty when there is nothing to say.
    pub(crate) error: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// What was tried to make a connection.
    pub(crate) report: Option<Box<Report>>,
}

impl Failure {
    /// A failure without advice.
    pub(crate) fn new(code: u8, error: impl Into<String>) -> Self {
        Self { code, error: error.into(), hint: None, report: None }
    }

    /// A mistake of the user.
    pub(crate) fn usage(error: impl Into<String>) -> Self {
        Self::new(USAGE, error)
    }

    /// An end that needs no words: a signal, or an output that nobody reads any more.
    pub(crate) fn quiet(code: u8) -> Self {
        Self::new(code, "")
    }

    /// With advice.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With the story of the punch.
    pub(crate) fn report(mut self, report: Box<Report>) -> Self {
        self.report = Some(report);
        self
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(OTHER, error.to_string())
    }
}

/// Tells how the program ended, and makes an exit code of it.
pub(crate) fn finish(output: &Output, result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.error.is_empty() {
                output.failure(&failure);
            }
            ExitCode::from(failure.code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_explained_once_and_in_order() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
        let help = help();
        assert!(help.contains("\n   10  another login"), "{help}");
        assert!(!help.ends_with('\n'));
    }
}

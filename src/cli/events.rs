//! The events of `--json`. Each is one object on one line; names of fields never change, times are
//! numbers of milliseconds.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::report_json::{self, ReportJson, millis, opened};
use crate::net::peer::StreamEnd;
use crate::proto::punch::report::{self, role};
use crate::proto::punch::{Outcome, Report};
use crate::wire::message::{Allocation, Nat};

/// An event.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event<'a> {
    /// The rendezvous has welcomed us.
    Ready {
        id: String,
        server: &'a str,
        observed: SocketAddr,
        #[serde(skip_serializing_if = "Option::is_none")]
        listen: Option<SocketAddr>,
        #[serde(skip_serializing_if = "str::is_empty")]
        text: &'a str,
    },
    /// The rendezvous' key is seen for the first time, and trusted.
    ServerKey { server: &'a str, key: String },
    /// What our NAT has shown. Comes again when more is known.
    Mapping(MappingJson<'a>),
    /// The router maps our port: whether others can reach it there, as far as can be told.
    PortMapped { protocol: &'static str, endpoint: SocketAddr, candidate: bool },
    /// The router doesn't do so any more.
    PortMappingLost { protocol: &'static str, endpoint: SocketAddr },
    /// The rendezvous is lost, or can't be reached.
    LoggedOut { error: String, retry_in_ms: f64 },
    /// The rendezvous did not grant something.
    Refused { error: String },
    /// A connection stands.
    Connected(Box<Connected<'a>>),
    /// A connection did not come about.
    Failed(Box<Failed<'a>>),
    /// Beside a relayed connection, a direct one has come about: the next will be direct.
    DirectWay { peer: String, name: &'a str, report: Box<ReportJson> },
    /// A connection has ended.
    Closed {
        connection: u64,
        peer: String,
        name: &'a str,
        service: Option<&'a str>,
        sent: u64,
        received: u64,
        error: Option<String>,
    },
    /// Somebody came or went.
    Presence { peer: String, name: &'a str, online: bool, room: &'a str },
    /// A round trip.
    Pong { seq: u64, rtt_ms: f64 },
    /// All round trips.
    Summary { sent: u64, received: u64, min_ms: f64, avg_ms: f64, max_ms: f64 },
    /// The program ends because of this.
    Error { error: &'a str, hint: Option<&'a str>, exit_code: u8 },
}

/// See [`Event::Mapping`]. What a kind of allocation doesn't have is left out.
#[derive(Debug, Serialize)]
pub(crate) struct MappingJson<'a> {
    mapping: &'static str,
    allocation: &'static str,
    /// Of a sequence: ports from one mapping to the next, and mappings of others a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<i16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    busy: Option<u16>,
    /// Of a block: its lowest and its highest port.
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<u16>,
    pooling: &'static str,
    /// External addresses beside the observed one.
    pool: &'a [IpAddr],
    filtering: &'static str,
    refusal: &'static str,
    hairpinning: &'static str,
    /// No more will be known in this login.
    complete: bool,
}

impl<'a> MappingJson<'a> {
    /// What the NAT has shown; `pool` are its further addresses.
    pub(crate) fn new(nat: Nat, pool: &'a [IpAddr], complete: bool) -> Self {
        let (delta, busy) = match nat.allocation {
            Allocation::Sequential { delta, busy } => (Some(delta), Some(busy)),
            _ => (None, None),
        };
        let (first, last) = match nat.allocation {
            Allocation::Block { first, last } => (Some(first), Some(last)),
            _ => (None, None),
        };
        Self {
            mapping: report::mapping(nat.mapping),
            allocation: report_json::allocation(nat.allocation),
            delta,
            busy,
            first,
            last,
            pooling: report_json::pooling(nat.pooling),
            pool,
            filtering: report_json::filtering(nat.filtering),
            refusal: report_json::refusal(nat.refusal),
            hairpinning: report_json::hairpinning(nat.hairpinning),
            complete,
        }
    }
}

/// See [`Event::Connected`].
#[derive(Debug, Serialize)]
pub(crate) struct Connected<'a> {
    /// Counts the connections of this process; null when it ended at once.
    connection: Option<u64>,
    peer: String,
    name: &'a str,
    service: Option<&'a str>,
    path: &'static str,
    /// Why it isn't direct.
    #[serde(skip_serializing_if = "Option::is_none")]
    why_relayed: Option<String>,
    remote: SocketAddr,
    local: SocketAddr,
    /// From the request to the TCP connection.
    elapsed_ms: f64,
    /// From the request to its proof.
    proved_ms: f64,
    rounds: usize,
    role: &'static str,
    opened: &'static str,
    report: ReportJson,
}

/// See [`Event::Failed`].
#[derive(Debug, Serialize)]
pub(crate) struct Failed<'a> {
    pub(crate) peer: String,
    pub(crate) name: &'a str,
    pub(crate) service: Option<&'a str>,
    pub(crate) error: String,
    pub(crate) reason: &'static str,
    pub(crate) hint: Option<String>,
    /// The exit code of a program that ends for this.
    pub(crate) code: u8,
    pub(crate) report: ReportJson,
}

/// Whose connection, and for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    /// The other peer's name in the address book, or its id.
    pub(crate) name: &'a str,
    /// What it is for; none for round trips.
    pub(crate) service: Option<&'a str>,
    /// Its number.
    pub(crate) connection: Option<u64>,
}

impl<'a> Event<'a> {
    /// A connection that stands; `None` if the report tells of none.
    pub(crate) fn connected(subject: Subject<'a>, report: &Report) -> Option<Self> {
        let Outcome::Connected(winner) = &report.outcome else { return None };
        Some(Self::Connected(Box::new(Connected {
            connection: subject.connection,
            peer: report.peer.to_string(),
            name: subject.name,
            service: subject.service,
            path: winner.path(),
            why_relayed: winner.is_relayed().then(|| report.why_not_direct()),
            remote: winner.remote,
            local: winner.local,
            elapsed_ms: millis(winner.established_after),
            proved_ms: millis(report.elapsed),
            rounds: report.rounds.len(),
            role: role(report.role),
            opened: opened(winner.opened),
            report: report_json::report(report),
        })))
    }

    /// A connection that has ended.
    pub(crate) fn closed(subject: Subject<'a>, peer: String, end: &StreamEnd) -> Self {
        Self::Closed {
            connection: subject.connection.unwrap_or_default(),
            peer,
            name: subject.name,
            service: subject.service,
            sent: end.sent,
            received: end.received,
            error: end.error.as_ref().map(ToString::to_string),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_events_never_change() {
        let text = |event: &Event<'_>| serde_json::to_string(event).unwrap();
        let observed = "192.0.2.1:5".parse().unwrap();
        let ready =
            Event::Ready { id: "x".into(), server: "s:1", observed, listen: None, text: "" };
        assert_eq!(
            text(&ready),
            r#"{"event":"ready","id":"x","server":"s:1","observed":"192.0.2.1:5"}"#
        );
        let allocation = Allocation::Block { first: 1024, last: 2047 };
        let nat = Nat { allocation, ..Nat::default() };
        assert_eq!(
            text(&Event::Mapping(MappingJson::new(nat, &[], true))),
            r#"{"event":"mapping","mapping":"unknown","allocation":"block","first":1024,"last":2047,"pooling":"unknown","pool":[],"filtering":"unknown","refusal":"unknown","hairpinning":"unknown","complete":true}"#
        );
        let pong = Event::Pong { seq: 1, rtt_ms: 0.25 };
        assert_eq!(text(&pong), r#"{"event":"pong","seq":1,"rtt_ms":0.25}"#);
        let mapped = Event::PortMapped { protocol: "pcp", endpoint: observed, candidate: true };
        assert_eq!(
            text(&mapped),
            r#"{"event":"port_mapped","protocol":"pcp","endpoint":"192.0.2.1:5","candidate":true}"#
        );
        let error = Event::Error { error: "e", hint: None, exit_code: 4 };
        assert_eq!(text(&error), r#"{"event":"error","error":"e","hint":null,"exit_code":4}"#);
    }
}

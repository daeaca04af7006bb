//! The story of a punch as data. The names of fields and their words never change their meaning.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use crate::proto::portmap::Protocol;
use crate::proto::punch::report::{candidate_kind, mapping, role};
use crate::proto::punch::{
    DialEnd, DialReport, Opened, Outcome, PunchError, Report, RoundReport, Winner,
};
use crate::wire::message::{Allocation, Filtering, Hairpinning, Pooling, Port, Refusal};
use crate::wire::refusal::RelayRefusal;

/// A [`Report`].
#[derive(Debug, Serialize)]
pub(crate) struct ReportJson {
    peer: String,
    role: &'static str,
    introduction: Option<u64>,
    mapping: &'static str,
    remote_mapping: &'static str,
    released_after_ms: Option<f64>,
    rounds: Vec<RoundJson>,
    /// Whether what both NATs had shown left hope of a direct connection.
    hopeful: bool,
    relay: Option<DialJson>,
    outcome: OutcomeJson,
    elapsed_ms: f64,
}

#[derive(Debug, Serialize)]
struct RoundJson {
    round: u8,
    from: &'static str,
    accepted: u32,
    /// Dials to guessed ports, and from guessed ones, which are not listed.
    strays: u32,
    dials: Vec<DialJson>,
}

#[derive(Debug, Serialize)]
struct DialJson {
    to: SocketAddr,
    kind: &'static str,
    attempts: u32,
    end: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
enum OutcomeJson {
    Pending,
    Connected(WinnerJson),
    Failed { reason: &'static str, error: String },
}

#[derive(Debug, Serialize)]
struct WinnerJson {
    local: SocketAddr,
    remote: SocketAddr,
    opened: &'static str,
    kind: &'static str,
    round: u8,
    established_after_ms: f64,
}

/// A report as data.
pub(crate) fn report(report: &Report) -> ReportJson {
    ReportJson {
        peer: report.peer.to_string(),
        role: role(report.role),
        introduction: report.introduction,
        mapping: mapping(report.mapping),
        remote_mapping: mapping(report.remote_mapping),
        released_after_ms: report.released_after.map(millis),
        rounds: report.rounds.iter().map(round).collect(),
        hopeful: report.hopeful,
        relay: report.relay.as_ref().map(dial),
        outcome: outcome(&report.outcome),
        elapsed_ms: millis(report.elapsed),
    }
}

fn round(round: &RoundReport) -> RoundJson {
    let from = match round.from {
        Port::Main => "main",
        Port::Hole(_) => "hole",
    };
    RoundJson {
        round: round.round,
        from,
        accepted: round.accepted,
        strays: round.strays,
        dials: round.dials.iter().map(dial).collect(),
    }
}

fn dial(dial: &DialReport) -> DialJson {
    DialJson {
        to: dial.to,
        kind: candidate_kind(dial.kind),
        attempts: dial.attempts,
        end: dial_end(dial.end),
    }
}

fn outcome(outcome: &Outcome) -> OutcomeJson {
    match outcome {
        Outcome::Pending => OutcomeJson::Pending,
        Outcome::Connected(winner) => OutcomeJson::Connected(winner_json(winner)),
        Outcome::Failed(error) => {
            OutcomeJson::Failed { reason: reason(*error), error: error.to_string() }
        }
    }
}

fn winner_json(winner: &Winner) -> WinnerJson {
    WinnerJson {
        local: winner.local,
        remote: winner.remote,
        opened: opened(winner.opened),
        // RFC 8445 §5.1.1: learnt from the connection itself.
        kind: winner.kind.map_or("peer-reflexive", candidate_kind),
        round: winner.round,
        established_after_ms: millis(winner.established_after),
    }
}

/// The word for how a connection came about.
pub(crate) fn opened(opened: Opened) -> &'static str {
    match opened {
        Opened::Dialled => "dialled",
        Opened::Accepted => "accepted",
    }
}

fn dial_end(end: DialEnd) -> &'static str {
    match end {
        DialEnd::Pending => "pending",
        DialEnd::Refused => "refused",
        DialEnd::Unreachable => "unreachable",
        DialEnd::NoRoute => "no-route",
        DialEnd::Taken => "taken",
        DialEnd::TimedOut => "timed-out",
        DialEnd::Exhausted => "exhausted",
        DialEnd::RelayRefused(refusal) => match refusal {
            RelayRefusal::Off => "relay-off",
            RelayRefusal::Unknown => "relay-unknown",
            RelayRefusal::Alone => "relay-alone",
            RelayRefusal::Quota => "relay-quota",
            RelayRefusal::Full => "relay-full",
            RelayRefusal::Other(_) => "relay-refused",
        },
        DialEnd::Failed => "failed",
        DialEnd::Stranger => "stranger",
        DialEnd::Lost => "lost",
        DialEnd::Spare => "spare",
        DialEnd::Won => "won",
    }
}

/// The word for which ports a NAT hands out.
pub(crate) fn allocation(allocation: Allocation) -> &'static str {
    match allocation {
        Allocation::Unknown => "unknown",
        Allocation::Preserving => "preserving",
        Allocation::Sequential { .. } => "sequential",
        Allocation::Random => "random",
        Allocation::Block { .. } => "block",
    }
}

/// The word for what granted a port mapping.
pub(crate) fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Pcp => "pcp",
        Protocol::NatPmp => "nat-pmp",
        Protocol::Upnp => "upnp",
    }
}

/// The term for which of its addresses a NAT hands out.
pub(crate) fn pooling(pooling: Pooling) -> &'static str {
    match pooling {
        Pooling::Unknown => "unknown",
        Pooling::Paired => "paired",
        Pooling::Arbitrary => "arbitrary",
    }
}

/// The term for whom a NAT lets in.
pub(crate) fn filtering(filtering: Filtering) -> &'static str {
    match filtering {
        Filtering::Unknown => "unknown",
        Filtering::EndpointIndependent => "endpoint-independent",
        Filtering::AddressDependent => "address-dependent",
        Filtering::AddressAndPortDependent => "address-and-port-dependent",
    }
}

/// The word for what a SYN draws that is not let in.
pub(crate) fn refusal(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Unknown => "unknown",
        Refusal::Silence => "silence",
        Refusal::Rst => "rst",
        Refusal::Icmp => "icmp",
    }
}

/// The word for whether a NAT lets those behind it reach each other by their mapped endpoints.
pub(crate) fn hairpinning(hairpinning: Hairpinning) -> &'static str {
    match hairpinning {
        Hairpinning::Unknown => "unknown",
        Hairpinning::Supported => "supported",
        Hairpinning::Unsupported => "unsupported",
    }
}

/// The word for why a punch failed.
pub(crate) fn reason(error: PunchError) -> &'static str {
    match error {
        PunchError::Refused(code) => code.label(),
        PunchError::RendezvousLost => "rendezvous-lost",
        PunchError::NoAnswer => "no-answer",
        PunchError::NoConnection => "no-connection",
        PunchError::WrongPeer => "wrong-peer",
        PunchError::Lost => "lost",
        PunchError::TooMany => "too-many",
        PunchError::Cancelled => "cancelled",
    }
}

/// Milliseconds, to the microsecond.
pub(crate) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::PeerId;
    use crate::proto::punch::Preference;
    use crate::wire::message::{CandidateKind, Mapping, Role};
    use crate::wire::refusal::RefusalCode;
    use serde_json::json;

    fn example(outcome: Outcome) -> Report {
        Report {
            peer: PeerId::from_bytes([1; 15]),
            role: Role::Controller,
            preference: Preference::Any,
            introduction: Some(7),
            mapping: Mapping::EndpointIndependent,
            remote_mapping: Mapping::Unknown,
            rounds: vec![RoundReport {
                round: 1,
                from: Port::Hole(9),
                dials: vec![DialReport {
                    to: "192.0.2.1:5".parse().unwrap(),
                    kind: CandidateKind::ServerReflexive,
                    attempts: 3,
                    end: DialEnd::Won,
                }],
                strays: 5,
                accepted: 2,
            }],
            hopeful: true,
            relay_offered: true,
            relay: None,
            outcome,
            released_after: None,
            elapsed: Duration::from_micros(101_250),
        }
    }

    #[test]
    fn the_words_of_a_report_never_change() {
        let winner = Winner {
            local: "10.0.0.1:4".parse().unwrap(),
            remote: "192.0.2.1:5".parse().unwrap(),
            opened: Opened::Accepted,
            kind: None,
            round: 1,
            established_after: Duration::from_micros(99_500),
        };
        let found = serde_json::to_value(report(&example(Outcome::Connected(winner)))).unwrap();
        let expected = json!({
            "peer": PeerId::from_bytes([1; 15]).to_string(),
            "role": "controller",
            "introduction": 7,
            "mapping": "endpoint-independent",
            "remote_mapping": "unknown",
            "released_after_ms": null,
            "rounds": [{
                "round": 1,
                "from": "hole",
                "accepted": 2,
                "strays": 5,
                "dials": [{
                    "to": "192.0.2.1:5",
                    "kind": "server-reflexive",
                    "attempts": 3,
                    "end": "won",
                }],
            }],
            "hopeful": true,
            "relay": null,
            "outcome": {
                "result": "connected",
                "local": "10.0.0.1:4",
                "remote": "192.0.2.1:5",
                "opened": "accepted",
                "kind": "peer-reflexive",
                "round": 1,
                "established_after_ms": 99.5,
            },
            "elapsed_ms": 101.25,
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_failure_has_its_reason() {
        let error = PunchError::Refused(RefusalCode::Offline);
        let found = serde_json::to_value(report(&example(Outcome::Failed(error)))).unwrap();
        assert_eq!(found["outcome"]["result"], "failed");
        assert_eq!(found["outcome"]["reason"], "offline");
    }
}

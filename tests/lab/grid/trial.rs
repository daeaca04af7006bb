//! One attempt of A to reach B, each behind its NAT, with the real programs.

use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use serde_json::{Value, json};

use super::theory;
use crate::data::{Exchange, noise};
use crate::nat::Nat;
use crate::peers::{Peer, Rendezvous};
use crate::programs::Program;
use crate::sockets::{SOON, at};
use crate::topology::Lab;

/// One way, between every two sites.
pub(crate) const ONE_WAY_MS: u64 = 25;

/// What goes each way.
const PAYLOAD: usize = 64 << 10;

/// By when an attempt must have ended, one way or the other: an introduction may take 30 seconds.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    Direct,
    Relayed,
    None,
}

/// How it went.
pub(crate) struct Trial {
    pub(crate) a: Nat,
    pub(crate) b: Nat,
    /// Counts the attempts of this pair from 1.
    pub(crate) number: u64,
    pub(crate) path: Path,
    /// From the request to the connection.
    pub(crate) elapsed_ms: Option<f64>,
    pub(crate) rounds: Option<u64>,
    /// Why there is no connection, or what was wrong with it.
    pub(crate) error: Option<String>,
    /// A's report, where the connection isn't direct.
    pub(crate) report: Option<Value>,
}

impl Trial {
    /// In a lab of its own, with identities, ports and NATs that nobody has used before.
    pub(crate) fn run(a: Nat, b: Nat, number: u64) -> Self {
        let mut trial = Self {
            a,
            b,
            number,
            path: Path::None,
            elapsed_ms: None,
            rounds: None,
            error: None,
            report: None,
        };
        let attempt = AssertUnwindSafe(|| trial.attempt());
        if let Err(panic) = panic::catch_unwind(attempt) {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
            trial.path = Path::None;
            trial.error = Some(format!("the lab: {text}"));
        }
        trial
    }

    fn attempt(&mut self) {
        let plan = Lab::plan().between(self.a, self.b).delay_ms(ONE_WAY_MS).seed(self.number);
        let lab = plan.build();
        let rendezvous = Rendezvous::start(&lab);
        let a = Peer::new(&lab.a, &rendezvous);
        let b = Peer::new(&lab.b, &rendezvous);
        let service = at([127, 0, 0, 1], 8080);
        let (from_a, from_b) = (noise(1, PAYLOAD), noise(2, PAYLOAD));
        let exchange = Exchange::start(&lab.b.namespace, service, PAYLOAD, from_b.clone());
        let share = b.share("web", service, &a);
        wait_until_known(&share);
        let pipe = a.pipe(&b, "web");
        let event = match pipe.program.event_of(&["connected", "failed", "error"], PATIENCE) {
            Ok(event) => event,
            Err(problem) => return self.error = Some(problem),
        };
        self.rounds = event["rounds"].as_u64().or(rounds(&event["report"]));
        self.report = (event["path"] != "direct").then(|| event["report"].clone());
        if event["event"] != "connected" {
            let why = event["reason"].as_str().or(event["error"].as_str());
            return self.error = Some(why.unwrap_or("no reason").to_owned());
        }
        let (received, _) = pipe.exchange_once_connected(&from_a);
        let arrived = exchange.visit().received;
        assert!(arrived == from_a && received == from_b, "other bytes came than were sent");
        self.elapsed_ms = event["elapsed_ms"].as_f64();
        self.path = match event["path"].as_str() {
            Some("direct") => Path::Direct,
            Some("relayed") => Path::Relayed,
            _ => panic!("an unknown path: {event}"),
        };
    }

    pub(crate) fn as_json(&self) -> Value {
        json!({
            "pair": [self.a.label(), self.b.label()],
            "run": self.number,
            "possible": theory::is_possible(&self.a, &self.b),
            "path": self.path.name(),
            "elapsed_ms": self.elapsed_ms,
            "rounds": self.rounds,
            "error": self.error,
            "report": self.report,
        })
    }
}

/// B has been there for a while, and has looked at its NAT; A has just started.
fn wait_until_known(share: &Program) {
    let seen = share.event("mapping", SOON);
    let by_destination =
        ["address-dependent", "address-and-port-dependent"].iter().any(|it| seen["mapping"] == *it);
    if by_destination && seen["allocation"] == "unknown" {
        share.event("mapping", SOON);
    }
}

fn rounds(report: &Value) -> Option<u64> {
    report["rounds"].as_array().map(|rounds| rounds.len() as u64)
}

impl Path {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relayed => "relayed",
            Self::None => "none",
        }
    }
}

//! The mapping half of a NAT, seen by any STUN server over TCP.

use std::fmt;
use std::str::FromStr;

use super::super::exit::{self, Failure};
use super::super::output::Output;
use super::findings::{Findings, Source, Unreached};
use crate::identity::ServerAddr;
use crate::net::interfaces;
use crate::net::stun_client::{self, ProbeError, Stage, Survey, SurveyError};

/// The port of STUN over TCP (RFC 8489 §18.6).
const STUN_PORT: u16 = 3478;

/// `HOST[:PORT]`: a STUN server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StunServer(ServerAddr);

impl FromStr for StunServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // With our port behind it, a text is an address only if it names none.
        let address = format!("{text}:{STUN_PORT}").parse().or_else(|_| text.parse());
        match address {
            Ok(ServerAddr { key: Some(_), .. }) => {
                Err("a STUN server has no key: write HOST or HOST:PORT".to_owned())
            }
            Ok(address) => Ok(Self(address)),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl fmt::Display for StunServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Asks the server.
pub(super) fn look(output: &Output, server: &StunServer) -> Result<Findings, Failure> {
    let mut progress = |stage| output.progress(&told(stage));
    let survey = stun_client::survey(&server.0.host, server.0.port, &mut progress);
    let survey = survey.map_err(|error| explain(&error, server))?;
    Ok(findings(survey, server))
}

fn told(stage: Stage) -> String {
    match stage {
        Stage::Resolving => "looking up the server".into(),
        Stage::Asking(server) => format!("asking {server}"),
        Stage::Mapping(count) => format!("asking its other endpoints: {count}"),
        Stage::Allocation(count) => format!("asking from {count} fresh ports"),
    }
}

fn findings(survey: Survey, server: &StunServer) -> Findings {
    let nat = survey.nat();
    let failed = survey.failed.into_iter();
    let unreached = failed.map(|(to, error)| Unreached { to, error: error.to_string() });
    Findings {
        source: Source::Stun(server.to_string()),
        nat,
        local: survey.local,
        hosts: interfaces::host_addresses(survey.local.ip().is_loopback()),
        pool: survey.series.iter().map(|fresh| fresh.mapped.ip()).collect(),
        seen: survey.observations,
        unreached: unreached.collect(),
        port_mapped: Vec::new(),
        lifetime: None,
    }
}

fn explain(error: &SurveyError, server: &StunServer) -> Failure {
    let code = match error {
        SurveyError::NotFound(_) | SurveyError::NoAnswer { .. } => exit::RENDEZVOUS,
        SurveyError::Local(_) => exit::OTHER,
    };
    let (place, error_text) = (server.to_string(), error.to_string());
    let named = error_text.contains(&place);
    let error_text = if named { error_text } else { format!("{place}: {error_text}") };
    let failure = Failure::new(code, error_text);
    match error {
        SurveyError::NoAnswer { error: ProbeError::Refused | ProbeError::TimedOut, .. } => failure
            .hint(
                "many STUN servers answer over UDP alone: this one has to listen on TCP, too. A \
                 gimletd does, at port 8000",
            ),
        SurveyError::NoAnswer { error: ProbeError::NotStun(_) | ProbeError::TooMuch, .. } => {
            failure.hint("another program listens there: is it the right port?")
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::stun::StunError;

    #[test]
    fn a_server_is_a_host_with_a_port_or_without() {
        let cases = [
            ("stun.example.net", "stun.example.net:3478"),
            ("stun.example.net:8000", "stun.example.net:8000"),
            ("192.0.2.1", "192.0.2.1:3478"),
            ("[2001:db8::1]", "[2001:db8::1]:3478"),
            ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<StunServer>().unwrap().to_string(), expected);
        }
        for text in ["", ":80", "a:b", "2001:db8::1", "a:0", "http://a"] {
            assert!(text.parse::<StunServer>().is_err(), "{text}");
        }
    }

    #[test]
    fn each_failure_has_its_code() {
        let server: StunServer = "127.0.0.1:9".parse().unwrap();
        let no_answer =
            |error| SurveyError::NoAnswer { server: "127.0.0.1:9".parse().unwrap(), error };
        let cases = [
            (SurveyError::NotFound("x".into()), exit::RENDEZVOUS),
            (no_answer(ProbeError::Refused), exit::RENDEZVOUS),
            (no_answer(ProbeError::NotStun(StunError::NotStun)), exit::RENDEZVOUS),
            (SurveyError::Local(std::io::ErrorKind::OutOfMemory.into()), exit::OTHER),
        ];
        for (error, code) in cases {
            let failure = explain(&error, &server);
            assert_eq!(failure.code, code, "{error:?}");
            assert_eq!(failure.error.matches("127.0.0.1:9").count(), 1, "{}", failure.error);
        }
    }
}

//! What a failure means for the user: the exit code, and what to do about it.

use super::address_book::Named;
use super::events;
use super::exit::{self, Failure};
use super::report_json;
use super::trust::Trust;
use crate::identity::PeerId;
use crate::net::peer::StreamError;
use crate::proto::peer::LoginError;
use crate::proto::punch::{Outcome, Preference, PunchError, Report};
use crate::wire::noise::NoiseError;
use crate::wire::refusal::{ClosingCode, RefusalCode};

/// What was asked for, by whom.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// Our own id.
    pub(crate) own: PeerId,
    /// Whom.
    pub(crate) peer: Named,
    /// What there; none for round trips.
    pub(crate) service: Option<String>,
    /// Which ways it may take.
    pub(crate) preference: Preference,
}

impl Wish {
    /// For events.
    pub(crate) fn subject(&self, connection: Option<u64>) -> events::Subject<'_> {
        events::Subject { name: &self.peer.name, service: self.service.as_deref(), connection }
    }

    fn service(&self) -> &str {
        self.service.as_deref().unwrap_or("NAME")
    }
}

/// A login that failed.
pub(crate) fn login(error: &LoginError, trust: &Trust) -> Failure {
    if let LoginError::Handshake(NoiseError::WrongKey { expected, found }) = error {
        return trust.changed(*expected, *found);
    }
    let (place, error_text) = (trust.place(), error.to_string());
    let named = error_text.contains(place);
    let error_text = if named { error_text } else { format!("{place}: {error_text}") };
    let failure = Failure::new(login_code(error), error_text);
    match error {
        LoginError::Unreachable(_) | LoginError::TimedOut => failure.hint(format!(
            "is gimletd running there, and does its firewall let TCP {place} through?"
        )),
        LoginError::Handshake(NoiseError::NotGimlet) => {
            failure.hint("another program listens there: is it the port that gimletd printed?")
        }
        LoginError::Closed { code: ClosingCode::Replaced, .. } => failure
            .hint("one identity can share at one place at a time; for a second one: --home DIR"),
        _ => failure,
    }
}

fn login_code(error: &LoginError) -> u8 {
    match error {
        LoginError::Closed { code: ClosingCode::Replaced, .. } => exit::REPLACED,
        LoginError::Handshake(NoiseError::Refused { code: RefusalCode::Busy, .. }) => {
            exit::RENDEZVOUS
        }
        LoginError::Handshake(_) => exit::SERVER_KEY,
        LoginError::Unreachable(_)
        | LoginError::Lost(_)
        | LoginError::NetworkChanged
        | LoginError::TimedOut
        | LoginError::Closed { .. }
        | LoginError::Protocol(_) => exit::RENDEZVOUS,
    }
}

/// A connection that did not come about.
pub(crate) fn punch(report: &Report, wish: &Wish) -> Failure {
    let Outcome::Failed(error) = report.outcome else {
        return Failure::new(exit::OTHER, "the connection has an unknown fate");
    };
    let failure = match error {
        PunchError::Refused(code) => refusal(code, wish),
        error => of_punch(error, wish),
    };
    // Where nothing was tried there is nothing to tell.
    match report.rounds.is_empty() && report.relay.is_none() {
        true => failure,
        false => failure.report(Box::new(report.clone())),
    }
}

fn of_punch(error: PunchError, wish: &Wish) -> Failure {
    let name = &wish.peer.name;
    let failure = Failure::new(punch_code(error), format!("{name}: {error}"));
    match error {
        PunchError::NoConnection => failure.hint(
            "both sides dialled and none got through: a firewall or a pair of NATs that map each \
             connection anew is in the way",
        ),
        PunchError::RendezvousLost | PunchError::NoAnswer => {
            failure.hint("try again; if it stays so, look at the rendezvous")
        }
        _ => failure,
    }
}

fn punch_code(error: PunchError) -> u8 {
    match error {
        PunchError::RendezvousLost | PunchError::NoAnswer => exit::RENDEZVOUS,
        PunchError::NoConnection | PunchError::Lost => exit::NO_CONNECTION,
        PunchError::WrongPeer => exit::SERVER_KEY,
        PunchError::Refused(code) => refusal_code(code),
        PunchError::TooMany | PunchError::Cancelled => exit::OTHER,
    }
}

fn refusal(code: RefusalCode, wish: &Wish) -> Failure {
    let (name, own, service) = (&wish.peer.name, wish.own, wish.service());
    let failure = |error: String| Failure::new(refusal_code(code), error);
    match code {
        RefusalCode::NotAllowed => {
            failure(format!("{name} does not allow you, or is not logged in here"))
                .hint(format!("on that machine: gimlet share {service}=… --allow {own}"))
        }
        RefusalCode::Offline | RefusalCode::PeerGone => failure(format!("{name} is offline"))
            .hint(format!("on that machine: gimlet share {service}=…")),
        RefusalCode::Yourself => failure(format!("{name} is this very identity"))
            .hint("the two machines need a key each: don't copy the home directory"),
        RefusalCode::NoSuchService => {
            failure(format!("{name} shares no service named {service} with you"))
                .hint(format!("on that machine: gimlet share {service}=HOST:PORT"))
        }
        RefusalCode::ServiceUnreachable => {
            failure(format!("{name} can't reach its own service {service}"))
                .hint("is it running, and at the place that `gimlet share` names?")
        }
        RefusalCode::Busy => failure(format!("{name}: {code}")),
        _ => failure(format!("{name}: {code}")),
    }
}

fn refusal_code(code: RefusalCode) -> u8 {
    match code {
        RefusalCode::Offline | RefusalCode::PeerGone => exit::OFFLINE,
        RefusalCode::NotAllowed => exit::NOT_ALLOWED,
        RefusalCode::NoSuchService | RefusalCode::ServiceUnreachable => exit::SERVICE,
        RefusalCode::NoConnection => exit::NO_CONNECTION,
        RefusalCode::Version => exit::SERVER_KEY,
        RefusalCode::Draining => exit::RENDEZVOUS,
        RefusalCode::Busy
        | RefusalCode::Yourself
        | RefusalCode::Protocol
        | RefusalCode::Other(_) => exit::OTHER,
    }
}

/// A connection that stood, and broke.
pub(crate) fn stream(error: &StreamError, wish: &Wish) -> Failure {
    match error {
        StreamError::Refused { code, .. } => refusal(*code, wish),
        StreamError::Lost(_) | StreamError::Protocol(_) => {
            Failure::new(exit::LOST, format!("{}: {error}", wish.peer.name))
        }
        StreamError::Local(_) | StreamError::Closed => Failure::new(exit::OTHER, error.to_string()),
    }
}

/// The event that tells of a connection that did not come about.
pub(crate) fn failed<'a>(report: &Report, wish: &'a Wish, failure: &Failure) -> events::Event<'a> {
    let reason = match report.outcome {
        Outcome::Failed(error) => report_json::reason(error),
        Outcome::Pending | Outcome::Connected(_) => "unknown",
    };
    events::Event::Failed(Box::new(events::Failed {
        peer: wish.peer.id.to_string(),
        name: &wish.peer.name,
        service: wish.service.as_deref(),
        error: failure.error.clone(),
        reason,
        hint: failure.hint.clone(),
        code: failure.code,
        report: report_json::report(report),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish() -> Wish {
        let id = PeerId::from_bytes([1; 15]);
        let peer = Named { id: PeerId::from_bytes([2; 15]), name: "home".to_owned() };
        Wish { own: id, peer, service: Some("ssh".to_owned()), preference: Preference::Any }
    }

    fn trust() -> Trust {
        Trust::new("example.net".parse().unwrap(), "/nowhere/known_servers.toml".into()).unwrap()
    }

    #[test]
    fn each_failure_of_a_punch_has_its_code() {
        let cases = [
            (PunchError::Refused(RefusalCode::Offline), exit::OFFLINE),
            (PunchError::Refused(RefusalCode::PeerGone), exit::OFFLINE),
            (PunchError::Refused(RefusalCode::NotAllowed), exit::NOT_ALLOWED),
            (PunchError::Refused(RefusalCode::NoSuchService), exit::SERVICE),
            (PunchError::Refused(RefusalCode::ServiceUnreachable), exit::SERVICE),
            (PunchError::Refused(RefusalCode::Yourself), exit::OTHER),
            (PunchError::NoConnection, exit::NO_CONNECTION),
            (PunchError::Lost, exit::NO_CONNECTION),
            (PunchError::RendezvousLost, exit::RENDEZVOUS),
            (PunchError::NoAnswer, exit::RENDEZVOUS),
            (PunchError::WrongPeer, exit::SERVER_KEY),
            (PunchError::TooMany, exit::OTHER),
        ];
        for (error, code) in cases {
            assert_eq!(punch_code(error), code, "{error:?}");
            let failure = match error {
                PunchError::Refused(refused) => refusal(refused, &wish()),
                error => of_punch(error, &wish()),
            };
            assert_eq!(failure.code, code, "{error:?}");
        }
    }

    #[test]
    fn each_failure_of_a_login_has_its_code() {
        let closed = |code| LoginError::Closed { code, text: String::new() };
        let refused =
            |code| LoginError::Handshake(NoiseError::Refused { code, text: String::new() });
        let wrong_key = LoginError::Handshake(NoiseError::WrongKey {
            expected: PeerId::from_bytes([3; 15]),
            found: PeerId::from_bytes([4; 15]),
        });
        let cases = [
            (LoginError::Unreachable("x".into()), exit::RENDEZVOUS),
            (LoginError::Lost("x".into()), exit::RENDEZVOUS),
            (LoginError::TimedOut, exit::RENDEZVOUS),
            (LoginError::Protocol("x".into()), exit::RENDEZVOUS),
            (closed(ClosingCode::ShuttingDown), exit::RENDEZVOUS),
            (closed(ClosingCode::Replaced), exit::REPLACED),
            (refused(RefusalCode::Busy), exit::RENDEZVOUS),
            (refused(RefusalCode::Version), exit::SERVER_KEY),
            (LoginError::Handshake(NoiseError::NotGimlet), exit::SERVER_KEY),
            (wrong_key, exit::SERVER_KEY),
        ];
        for (error, code) in cases {
            assert_eq!(login(&error, &trust()).code, code, "{error:?}");
        }
    }

    #[test]
    fn each_failure_of_a_stream_has_its_code() {
        let code = RefusalCode::NoSuchService;
        let refused = StreamError::Refused { code, text: String::new() };
        assert_eq!(stream(&refused, &wish()).code, exit::SERVICE);
        assert_eq!(stream(&StreamError::Lost("x".into()), &wish()).code, exit::LOST);
        assert_eq!(stream(&StreamError::Local("x".into()), &wish()).code, exit::OTHER);
    }

    #[test]
    fn whoever_is_not_allowed_is_told_what_to_do_there() {
        let hint = refusal(RefusalCode::NotAllowed, &wish()).hint.unwrap();
        assert!(hint.contains("gimlet share ssh=… --allow "), "{hint}");
        assert!(hint.contains(&wish().own.to_string()), "{hint}");
    }
}

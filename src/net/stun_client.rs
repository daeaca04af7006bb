//! A look at our own NAT through any STUN server that answers over TCP (RFC 8489; RFC 5780 where the
//! server has further endpoints). For programs that ask once: it waits, and is no part of the reactor.
//!
//! ```text
//! name ─▶ addresses ─▶ one probe ─▶ OTHER-ADDRESS ─▶ the server's other endpoints, from the same port
//!                                                 ─▶ a series from fresh ports, all at once
//! ```
//!
//! What comes back is judged by the pure functions of [`crate::proto::nat`], as everywhere. Only the
//! mapping half of a NAT shows: over TCP no server answers from an address that was not dialled, so that
//! filtering can't be seen (RFC 5780 §4.4 needs UDP).

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::clock;
use super::socket::{self, Dialled};
use crate::limits;
use crate::proto::nat::{
    Given, Observation, SERIES, classify_allocation, classify_mapping, classify_pooling,
};
use crate::proto::punch::DialError;
use crate::proto::punch::candidates::is_private;
use crate::wire::message::Nat;
use crate::wire::stun::{self, StunError, Transaction};

/// What the probes have brought.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The local endpoint from which all destinations were probed.
    pub local: SocketAddr,
    /// How each destination saw it. The first is the server that was asked for.
    pub observations: Vec<Observation>,
    /// Connections from fresh ports, to each of its addresses by turns, in the order in which they went
    /// out.
    pub series: Vec<Given>,
    /// Destinations that did not answer.
    pub failed: Vec<(SocketAddr, ProbeError)>,
}

impl Survey {
    /// What the NAT has shown.
    pub fn nat(&self) -> Nat {
        let addresses: Vec<_> = self.series.iter().map(|given| given.mapped.ip()).collect();
        let observed = self.observations.first().map(|observation| observation.mapped.ip());
        let pooling = observed.map(|observed| classify_pooling(observed, &addresses).0);
        Nat {
            mapping: classify_mapping(&self.observations, self.local.port(), &[self.local.ip()]),
            allocation: classify_allocation(&self.series),
            pooling: pooling.unwrap_or_default(),
            ..Nat::default()
        }
    }
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The name is looked up.
    Resolving,
    /// The server is asked for the first time.
    Asking(SocketAddr),
    /// So many further endpoints of the server are asked.
    Mapping(usize),
    /// So many fresh ports ask.
    Allocation(usize),
}

/// Why there is no survey.
#[derive(Debug)]
pub enum SurveyError {
    /// The name of the server has no address.
    NotFound(String),
    /// The server did not answer as one does.
    NoAnswer {
        /// The address that was tried last.
        server: SocketAddr,
        /// How it ended.
        error: ProbeError,
    },
    /// This machine can't: no sockets, no memory.
    Local(io::Error),
}

impl fmt::Display for SurveyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(why) => write!(f, "the name can't be resolved: {why}"),
            Self::NoAnswer { server, error } => write!(f, "{server}: {error}"),
            Self::Local(error) => write!(f, "this machine can't probe: {error}"),
        }
    }
}

impl std::error::Error for SurveyError {}

impl From<io::Error> for SurveyError {
    fn from(error: io::Error) -> Self {
        Self::Local(error)
    }
}

/// How a probe failed, and whose doing that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeError {
    /// Nobody listens there, or a firewall answers so.
    Refused,
    /// No way leads there.
    Unreachable,
    /// Nothing answers there: no connection.
    TimedOut,
    /// It took the connection, and said nothing.
    Silent,
    /// It took the connection and closed it without an answer.
    Closed,
    /// It speaks, but not STUN.
    NotStun(StunError),
    /// It sent more than an answer can be.
    TooMuch,
    /// It is a STUN server, and refuses.
    Refusal {
        /// See [`stun::code`].
        code: u16,
        /// Its words.
        reason: String,
    },
    /// This machine's own doing.
    Local(String),
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("it refuses the connection: nobody listens there"),
            Self::Unreachable => f.write_str("no way leads there"),
            Self::TimedOut => f.write_str("no answer to the connection"),
            Self::Silent => f.write_str("it takes the connection, but does not answer"),
            Self::Closed => f.write_str("it closes the connection without an answer"),
            Self::NotStun(error) => write!(f, "it is no STUN server: {error}"),
            Self::TooMuch => f.write_str("it is no STUN server: too long an answer"),
            Self::Refusal { code, reason } => write!(f, "it refuses with {code} {reason:?}"),
            Self::Local(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ProbeError {}

/// Asks the server and its other endpoints. Takes a few seconds at most: each of its steps is bounded
/// by a constant of [`limits`].
///
/// # Errors
/// [`SurveyError`], when not even the first probe is answered.
pub fn survey(
    host: &str,
    port: u16,
    progress: &mut dyn FnMut(Stage),
) -> Result<Survey, SurveyError> {
    progress(Stage::Resolving);
    let (reserved, mut prober, first) = ask_first(resolve(host, port)?, progress)?;
    let (server, local) = (first.destination, first.local);
    prober.ask_others(local.port(), server, progress)?;
    let (observations, failed) = prober.seen();
    // What follows must not take the place of what is open: the mappings of this port live until the
    // end.
    let series = ask_series(&observations, progress)?;
    drop(reserved);
    Ok(Survey { local, observations, series, failed })
}

// ---- steps -----------------------------------------------------------------------------------------

/// The addresses of a name, IPv4 first: most NATs are there.
fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, SurveyError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let (sender, receiver) = mpsc::channel();
    let name = host.to_owned();
    // The resolver of the system can't be told how long to try.
    std::thread::Builder::new().name("gimlet-dns".into()).spawn(move || {
        let found = (name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        // Nobody may wait for it any more.
        let _ = sender.send(found);
    })?;
    let found = receiver
        .recv_timeout(limits::STUN_RESOLVE_TIME)
        .map_err(|_| SurveyError::NotFound("the resolver does not answer".into()))?;
    let mut found = found.map_err(|error| SurveyError::NotFound(error.to_string()))?;
    found.sort_by_key(SocketAddr::is_ipv6);
    found.truncate(limits::STUN_ADDRESSES);
    match found.is_empty() {
        true => Err(SurveyError::NotFound("it has no address".into())),
        false => Ok(found),
    }
}

/// What the first answer has shown.
struct First {
    destination: SocketAddr,
    local: SocketAddr,
}

/// Asks one address after the other until one answers.
fn ask_first(
    addresses: Vec<SocketAddr>,
    progress: &mut dyn FnMut(Stage),
) -> Result<(socket::Reserved, Prober, First), SurveyError> {
    let mut last = None;
    for server in addresses {
        progress(Stage::Asking(server));
        let reserved = socket::reserve(server)?;
        let mut prober = Prober::new()?;
        prober.open(reserved.port(), server);
        prober.wait()?;
        match prober.probes[0].end() {
            Ok(answer) => {
                let first = First { destination: server, local: answer.local };
                return Ok((reserved, prober, first));
            }
            Err(error) => last = Some(SurveyError::NoAnswer { server, error }),
        }
    }
    Err(last.unwrap_or_else(|| SurveyError::NotFound("it has no address".into())))
}

/// Fresh ports, all at once, so that few foreign connections come in between; to all addresses by turns,
/// so that a NAT which counts for each address is not taken for a sequence.
fn ask_series(
    observations: &[Observation],
    progress: &mut dyn FnMut(Stage),
) -> Result<Vec<Given>, SurveyError> {
    progress(Stage::Allocation(SERIES));
    let mut prober = Prober::new()?;
    let mut targets: Vec<SocketAddr> = Vec::new();
    for Observation { destination, .. } in observations {
        if targets.iter().all(|target| target.ip() != destination.ip()) {
            targets.push(*destination);
        }
    }
    for to in targets.into_iter().cycle().take(SERIES) {
        prober.open(0, to);
    }
    prober.wait()?;
    let given = prober.probes.iter().filter_map(|probe| {
        let Answer { local, mapped, .. } = probe.end().ok()?;
        Some(Given { local: local.port(), destination: probe.to, mapped })
    });
    Ok(given.collect())
}

// ---- probes ----------------------------------------------------------------------------------------

/// Probes that run beside each other. Their connections stay open as long as it lives.
struct Prober {
    poll: Poll,
    probes: Vec<Probe>,
}

struct Probe {
    to: SocketAddr,
    state: State,
}

enum State {
    Connecting(TcpStream),
    Asked {
        stream: TcpStream,
        transaction: Transaction,
        received: Vec<u8>,
    },
    /// The connection holds the mapping while others are probed.
    Answered(#[expect(dead_code, reason = "closed when dropped")] TcpStream, Answer),
    Failed(ProbeError),
}

#[derive(Clone, Copy, Debug)]
struct Answer {
    local: SocketAddr,
    mapped: SocketAddr,
    other: Option<SocketAddr>,
}

impl Prober {
    fn new() -> io::Result<Self> {
        Ok(Self { poll: Poll::new()?, probes: Vec::new() })
    }

    /// Begins a probe, from a shared local port if it is not 0.
    fn open(&mut self, local_port: u16, to: SocketAddr) {
        let opened = socket::dial(local_port, to).and_then(|mut stream| {
            let token = Token(self.probes.len());
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, token, interest)?;
            Ok(stream)
        });
        let state = match opened {
            Ok(stream) => State::Connecting(stream),
            Err(error) => State::Failed(probe_error(&error)),
        };
        self.probes.push(Probe { to, state });
    }

    /// Waits until all probes have ended, or their time is up.
    fn wait(&mut self) -> io::Result<()> {
        let deadline = clock::now() + limits::STUN_ANSWER_TIME;
        let mut events = Events::with_capacity(64);
        while self.probes.iter().any(Probe::is_open) {
            let left = deadline.saturating_duration_since(clock::now());
            if left.is_zero() {
                self.probes.iter_mut().for_each(Probe::expire);
                break;
            }
            match self.poll.poll(&mut events, Some(left)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                if let Some(probe) = self.probes.get_mut(event.token().0) {
                    probe.advance();
                }
            }
        }
        Ok(())
    }

    /// Asks the other endpoints that the answers name, and those which their answers name.
    fn ask_others(
        &mut self,
        local_port: u16,
        server: SocketAddr,
        progress: &mut dyn FnMut(Stage),
    ) -> io::Result<()> {
        loop {
            let targets = self.others(server);
            if targets.is_empty() {
                return Ok(());
            }
            progress(Stage::Mapping(targets.len()));
            for to in targets {
                self.open(local_port, to);
            }
            self.wait()?;
        }
    }

    /// Endpoints that are known and not asked yet: RFC 5780 §4.3, the changed port at the same address,
    /// the same port at the other address, and both changed.
    fn others(&self, server: SocketAddr) -> Vec<SocketAddr> {
        let mut targets: Vec<SocketAddr> = Vec::new();
        for probe in &self.probes {
            let Ok(Answer { other: Some(other), .. }) = probe.end() else { continue };
            let combinations = [
                SocketAddr::new(probe.to.ip(), other.port()),
                SocketAddr::new(other.ip(), probe.to.port()),
                other,
            ];
            for target in combinations {
                let asked = self.probes.iter().any(|probe| probe.to == target);
                if !asked && !targets.contains(&target) && may_be_asked(target, server) {
                    targets.push(target);
                }
            }
        }
        targets.truncate(limits::HOLE_ENDPOINTS.saturating_sub(self.probes.len()));
        targets
    }

    fn seen(&self) -> (Vec<Observation>, Vec<(SocketAddr, ProbeError)>) {
        let (mut seen, mut failed) = (Vec::new(), Vec::new());
        for probe in &self.probes {
            match probe.end() {
                Ok(answer) => {
                    seen.push(Observation { destination: probe.to, mapped: answer.mapped });
                }
                Err(error) => failed.push((probe.to, error)),
            }
        }
        (seen, failed)
    }
}

/// A server may name whatever it likes. It must not send us into the user's own network, nor into the
/// other family, from which nothing is learnt about this NAT.
fn may_be_asked(target: SocketAddr, server: SocketAddr) -> bool {
    target.port() != 0
        && target.is_ipv4() == server.is_ipv4()
        && !target.ip().is_unspecified()
        && !target.ip().is_multicast()
        && (!is_private(target.ip()) || is_private(server.ip()))
}

impl Probe {
    fn is_open(&self) -> bool {
        matches!(self.state, State::Connecting(_) | State::Asked { .. })
    }

    /// How it ended; one that has not ended has not been answered.
    fn end(&self) -> Result<Answer, ProbeError> {
        match &self.state {
            State::Answered(_, answer) => Ok(*answer),
            State::Failed(error) => Err(error.clone()),
            State::Connecting(_) => Err(ProbeError::TimedOut),
            State::Asked { .. } => Err(ProbeError::Silent),
        }
    }

    fn expire(&mut self) {
        if self.is_open()
            && let Err(error) = self.end()
        {
            self.state = State::Failed(error);
        }
    }

    /// Goes on after an event, as far as it goes.
    fn advance(&mut self) {
        let mut state = std::mem::replace(&mut self.state, State::Failed(ProbeError::Silent));
        if let State::Connecting(stream) = state {
            state = connected(stream);
        }
        if let State::Asked { stream, transaction, received } = state {
            state = read_answer(stream, transaction, received);
        }
        self.state = state;
    }
}

/// Asks, once the connection stands.
fn connected(mut stream: TcpStream) -> State {
    match socket::look_at_dial(&stream) {
        Dialled::Pending => return State::Connecting(stream),
        Dialled::Failed(error) => return State::Failed(probe_error(&error)),
        Dialled::Established { .. } => {}
    }
    let mut transaction = Transaction::default();
    getrandom::fill(&mut transaction).expect("the system has randomness");
    let mut request = Vec::new();
    stun::binding_request(&mut request, &transaction, None);
    match stream.write(&request) {
        // Twenty bytes, the first of their connection.
        Ok(length) if length == request.len() => {
            State::Asked { stream, transaction, received: Vec::new() }
        }
        Ok(_) => State::Failed(ProbeError::Local("the probe was not written whole".into())),
        Err(error) => State::Failed(probe_error(&error)),
    }
}

fn read_answer(mut stream: TcpStream, transaction: Transaction, mut received: Vec<u8>) -> State {
    let mut chunk = [0; stun::MESSAGE_BYTES];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return State::Failed(ProbeError::Closed),
            Ok(length) => received.extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return State::Asked { stream, transaction, received };
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return State::Failed(probe_error(&error)),
        }
        match find_answer(&received, &transaction) {
            Ok(Some((mapped, other))) => {
                return match stream.local_addr() {
                    Ok(local) => State::Answered(stream, Answer { local, mapped, other }),
                    Err(error) => State::Failed(probe_error(&error)),
                };
            }
            Ok(None) if received.len() > 2 * stun::MESSAGE_BYTES => {
                return State::Failed(ProbeError::TooMuch);
            }
            Ok(None) => {}
            Err(error) => return State::Failed(error),
        }
    }
}

/// The answer to our request among the messages that came. Others are passed over (RFC 8489 §6.3).
fn find_answer(
    mut bytes: &[u8],
    ours: &Transaction,
) -> Result<Option<(SocketAddr, Option<SocketAddr>)>, ProbeError> {
    while let Some((message, used)) = stun::decode(bytes).map_err(ProbeError::NotStun)? {
        match message {
            stun::Message::Success(success) if success.transaction == *ours => {
                return Ok(Some((success.mapped, success.other)));
            }
            stun::Message::Error(error) if error.transaction == *ours => {
                let reason = error.reason.to_owned();
                return Err(ProbeError::Refusal { code: error.code, reason });
            }
            _ => bytes = &bytes[used..],
        }
    }
    Ok(None)
}

fn probe_error(error: &io::Error) -> ProbeError {
    match socket::dial_error(error, false) {
        DialError::Refused if error.raw_os_error() == Some(libc::ECONNRESET) => ProbeError::Closed,
        DialError::Refused => ProbeError::Refused,
        DialError::NoRoute | DialError::Unreachable => ProbeError::Unreachable,
        DialError::TimedOut => ProbeError::TimedOut,
        _ => ProbeError::Local(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::thread::{self, JoinHandle};

    use super::*;

    /// A server for one connection after the other, each of which `serve` answers. Ends with the last.
    fn server(
        connections: usize,
        serve: impl Fn(&mut TcpStream, SocketAddr) + Send + 'static,
    ) -> (u16, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = thread::spawn(move || {
            for _ in 0..connections {
                let (mut stream, remote) = listener.accept().unwrap();
                serve(&mut stream, remote);
            }
        });
        (port, thread)
    }

    fn request(stream: &mut TcpStream) -> Transaction {
        let mut bytes = [0; 20];
        stream.read_exact(&mut bytes).unwrap();
        match stun::decode(&bytes).unwrap().unwrap().0 {
            stun::Message::Request(request) => request.transaction,
            other => panic!("{other:?}"),
        }
    }

    fn failure(serve: impl Fn(&mut TcpStream, SocketAddr) + Send + 'static) -> ProbeError {
        let (port, thread) = server(1, serve);
        let error = survey("127.0.0.1", port, &mut |_| {}).unwrap_err();
        thread.join().unwrap();
        match error {
            SurveyError::NoAnswer { server, error } => {
                assert_eq!(server.port(), port);
                error
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_server_without_other_addresses_tells_the_ports_and_no_more_of_the_mapping() {
        let (port, thread) = server(1 + SERIES, |stream, _| {
            let transaction = request(stream);
            let mut answer = Vec::new();
            let mapped = "203.0.113.1:7".parse().unwrap();
            stun::binding_success(&mut answer, &transaction, mapped, None, None);
            // In two pieces.
            stream.write_all(&answer[..9]).unwrap();
            stream.write_all(&answer[9..]).unwrap();
        });
        let mut stages = Vec::new();
        let survey = survey("127.0.0.1", port, &mut |stage| stages.push(stage)).unwrap();
        thread.join().unwrap();
        assert_eq!(survey.observations.len(), 1);
        assert_eq!(survey.series.len(), SERIES);
        assert!(survey.failed.is_empty());
        assert_eq!(survey.nat().mapping, crate::wire::message::Mapping::Unknown);
        assert_eq!(stages.last(), Some(&Stage::Allocation(SERIES)));
    }

    #[test]
    fn each_failure_names_the_culprit() {
        let closes = |stream: &mut TcpStream, _| {
            request(stream);
        };
        assert_eq!(failure(closes), ProbeError::Closed);
        let babbles = |stream: &mut TcpStream, _| stream.write_all(b"SSH-2.0-x\r\n").unwrap();
        assert_eq!(failure(babbles), ProbeError::NotStun(StunError::NotStun));
        let refuses = |stream: &mut TcpStream, _| {
            let transaction = request(stream);
            let mut answer = Vec::new();
            stun::binding_error(&mut answer, &transaction, 401, "no", &[]);
            stream.write_all(&answer).unwrap();
        };
        let refusal = ProbeError::Refusal { code: 401, reason: "no".into() };
        assert_eq!(failure(refuses), refusal);
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = survey("127.0.0.1", closed, &mut |_| {}).unwrap_err();
        assert!(matches!(error, SurveyError::NoAnswer { error: ProbeError::Refused, .. }));
    }

    #[test]
    fn answers_to_others_are_passed_over_up_to_a_bound() {
        let other = |stream: &mut TcpStream, _| {
            request(stream);
            let mapped = "203.0.113.1:7".parse().unwrap();
            let mut answers = Vec::new();
            while answers.len() <= 2 * stun::MESSAGE_BYTES {
                stun::binding_success(&mut answers, &[7; 12], mapped, None, None);
            }
            stream.write_all(&answers).unwrap();
        };
        assert_eq!(failure(other), ProbeError::TooMuch);
    }

    #[test]
    fn whoever_is_silent_is_told_from_whoever_does_not_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut prober = Prober::new().unwrap();
        prober.open(0, listener.local_addr().unwrap());
        let (_stream, _) = listener.accept().unwrap();
        assert_eq!(prober.probes[0].end().unwrap_err(), ProbeError::TimedOut);
        prober.poll.poll(&mut Events::with_capacity(1), None).unwrap();
        prober.probes[0].advance();
        prober.probes[0].expire();
        assert_eq!(prober.probes[0].end().unwrap_err(), ProbeError::Silent);
    }

    #[test]
    fn a_server_does_not_send_us_where_it_likes() {
        let ask = |target: &str, server: &str| {
            may_be_asked(target.parse().unwrap(), server.parse().unwrap())
        };
        assert!(ask("203.0.113.2:3479", "203.0.113.1:3478"));
        assert!(ask("10.0.0.2:3479", "10.0.0.1:3478"), "a server in our own network");
        for target in ["10.0.0.1:80", "127.0.0.1:80", "[2001:db8::1]:80", "0.0.0.0:80"] {
            assert!(!ask(target, "203.0.113.1:3478"), "{target}");
        }
        assert!(!ask("203.0.113.2:0", "203.0.113.1:3478"));
    }
}

//! HTTP/1.1, as far as operators need it: requests without a body in, answers out. No sockets.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::pages::Route;
use crate::limits;

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    Misdirected,
    HeadersTooLarge,
    Unavailable,
    VersionNotSupported,
}

impl Status {
    /// The code with its words (RFC 9110 §15; RFC 6585 §5 for 431).
    pub(super) fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::RequestTimeout => "408 Request Timeout",
            Self::Misdirected => "421 Misdirected Request",
            Self::HeadersTooLarge => "431 Request Header Fields Too Large",
            Self::Unavailable => "503 Service Unavailable",
            Self::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }
}

/// A whole request, and what is to be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// What is asked for, or why it isn't given.
    pub(super) wanted: Result<Route, Status>,
    /// The head of the answer alone.
    pub(super) head: bool,
    /// Another request may follow.
    pub(super) keep_alive: bool,
}

impl Request {
    /// What no sense can be made of: where the next request would begin is unknown.
    pub(super) fn refused(status: Status) -> Self {
        Self { wanted: Err(status), head: false, keep_alive: false }
    }
}

/// The first request of what has come, and its length; nothing as long as it isn't whole.
pub(super) fn parse(bytes: &[u8]) -> Option<(Request, usize)> {
    let refused = |status| Some((Request::refused(status), bytes.len()));
    let mut headers = [httparse::EMPTY_HEADER; limits::ADMIN_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => Some((judge(&parsed), length)),
        Ok(httparse::Status::Partial) if bytes.len() < limits::ADMIN_REQUEST_BYTES => None,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            refused(Status::HeadersTooLarge)
        }
        Err(httparse::Error::Version) => refused(Status::VersionNotSupported),
        Err(_) => refused(Status::BadRequest),
    }
}

fn judge(request: &httparse::Request<'_, '_>) -> Request {
    let headers = Headers(&*request.headers);
    let Some((authority, path)) = split_target(request.path.unwrap_or_default()) else {
        return Request::refused(Status::BadRequest);
    };
    let Ok(host) = headers.host(request.version == Some(1)) else {
        return Request::refused(Status::BadRequest);
    };
    let method = request.method.unwrap_or_default();
    let has_body = headers.announce_a_body();
    let wanted = match method {
        // RFC 9112 §3.2.2: an authority in the target comes before the Host.
        _ if authority.or(host).is_some_and(|host| !cannot_be_rebound(host)) => {
            Err(Status::Misdirected)
        }
        "GET" | "HEAD" if has_body => Err(Status::BadRequest),
        "GET" | "HEAD" => Route::of(path).ok_or(Status::NotFound),
        _ => Err(Status::MethodNotAllowed),
    };
    // A body isn't read, so that the connection ends with it.
    let keep_alive = request.version == Some(1) && !has_body && !headers.say_close();
    Request { wanted, head: method == "HEAD", keep_alive }
}

/// The authority, if the target has one, and the path without a query.
fn split_target(target: &str) -> Option<(Option<&str>, &str)> {
    let (authority, rest) = match target.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            (Some(&rest[..end]), &rest[end..])
        }
        _ => (None, target),
    };
    let path = rest.split('?').next().unwrap_or_default();
    match (authority, path) {
        (Some(_), "") => Some((authority, "/")),
        (_, path) if path.starts_with('/') => Some((authority, path)),
        _ => None,
    }
}

struct Headers<'a>(&'a [httparse::Header<'a>]);

impl<'a> Headers<'a> {
    fn all(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        let named = self.0.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value)
    }

    /// "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that lacks
    /// a Host header field and to any request message that contains more than one" (RFC 9112 §3.2).
    fn host(&self, required: bool) -> Result<Option<&'a str>, ()> {
        let mut hosts = self.all("host");
        let host = hosts.next().map(std::str::from_utf8).transpose().map_err(drop)?;
        let sound = hosts.next().is_none() && (host.is_some() || !required);
        sound.then_some(host).ok_or(())
    }

    fn announce_a_body(&self) -> bool {
        let none = |length: &[u8]| !length.is_empty() && length.iter().all(|digit| *digit == b'0');
        self.all("transfer-encoding").next().is_some()
            || self.all("content-length").any(|length| !none(length))
    }

    fn say_close(&self) -> bool {
        let mut options =
            self.all("connection").flat_map(|value| value.split(|byte| *byte == b','));
        options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
    }
}

/// Whether a Host is an address, or a name of this machine that no DNS server can give to it: a page of
/// another site, whose name was made to lead here, must read nothing (DNS rebinding). An address in the Host
/// is the one that the browser has connected to, so that there is nothing to rebind.
fn cannot_be_rebound(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    if let Some(ip) = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        return ip.parse::<Ipv6Addr>().is_ok();
    }
    name.parse::<Ipv4Addr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}

/// Writes an answer, head and body.
pub(super) fn compose(
    status: Status,
    request: &Request,
    kind: &str,
    body: &str,
    out: &mut Vec<u8>,
) {
    /// Nothing from elsewhere, nothing inline, in no frame.
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                          connect-src 'self'; base-uri 'none'; form-action 'none'; \
                          frame-ancestors 'none'";
    let mut head = String::with_capacity(512);
    let allow = if status == Status::MethodNotAllowed { "Allow: GET, HEAD\r\n" } else { "" };
    let close = if request.keep_alive { "" } else { "Connection: close\r\n" };
    let written = write!(
        head,
        "HTTP/1.1 {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         Content-Security-Policy: {POLICY}\r\nX-Content-Type-Options: nosniff\r\n\
         Referrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: same-origin\r\n\
         {allow}{close}\r\n",
        status.line(),
        body.len(),
    );
    debug_assert!(written.is_ok(), "a String takes all");
    out.extend_from_slice(head.as_bytes());
    if !request.head {
        out.extend_from_slice(body.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Request {
        let (request, length) = parse(text.as_bytes()).expect("it is whole");
        assert_eq!(length, text.len());
        request
    }

    fn wanted(line: &str, headers: &str) -> Result<Route, Status> {
        parsed(&format!("{line} HTTP/1.1\r\n{headers}\r\n")).wanted
    }

    const HOST: &str = "Host: localhost:9400\r\n";

    #[test]
    fn a_request_is_parsed_when_it_is_whole_and_not_before() {
        let whole = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), None, "{length}");
        }
        let two = [&whole[..], whole].concat();
        let (request, length) = parse(&two).unwrap();
        assert_eq!(length, whole.len());
        assert_eq!(request, Request { wanted: Ok(Route::Metrics), head: false, keep_alive: true });
    }

    #[test]
    fn targets() {
        assert_eq!(wanted("GET /", HOST), Ok(Route::Page));
        assert_eq!(wanted("GET /?a=/metrics", HOST), Ok(Route::Page));
        assert_eq!(wanted("GET http://127.0.0.1:9400/readyz?x", HOST), Ok(Route::Ready));
        assert_eq!(wanted("GET http://[::1]", HOST), Ok(Route::Page));
        assert_eq!(wanted("GET http://evil.example/", HOST), Err(Status::Misdirected));
        for target in ["*", "metrics", "https://localhost/", "localhost:9400"] {
            assert_eq!(wanted(&format!("GET {target}"), HOST), Err(Status::BadRequest), "{target}");
        }
        for target in ["/x", "//metrics", "/metrics/", "/../metrics", "/%6detrics"] {
            assert_eq!(wanted(&format!("GET {target}"), HOST), Err(Status::NotFound), "{target}");
        }
    }

    #[test]
    fn methods_and_bodies() {
        assert_eq!(wanted("POST /", HOST), Err(Status::MethodNotAllowed));
        assert_eq!(wanted("get /", HOST), Err(Status::MethodNotAllowed));
        let with = |headers: &str| parsed(&format!("GET / HTTP/1.1\r\n{HOST}{headers}\r\n\r\n"));
        assert_eq!(with("Content-Length: 0").wanted, Ok(Route::Page));
        for body in ["Content-Length: 1", "Content-Length: x", "Transfer-Encoding: chunked"] {
            let request = with(body);
            assert_eq!(request.wanted, Err(Status::BadRequest), "{body}");
            assert!(!request.keep_alive);
        }
        assert!(parsed(&format!("HEAD / HTTP/1.1\r\n{HOST}\r\n")).head);
    }

    #[test]
    fn names_of_others_are_refused() {
        let host = |host: &str| wanted("GET /", &format!("Host: {host}\r\n"));
        for ours in
            ["localhost", "LOCALHOST:1", "127.0.0.1:9400", "127.9.9.9", "[::1]:9400", "192.0.2.1"]
        {
            assert_eq!(host(ours), Ok(Route::Page), "{ours}");
        }
        for foreign in [
            "evil.example",
            "evil.example:9400",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            ":80",
            "::1",
            "[::1",
            "user@localhost",
        ] {
            assert_eq!(host(foreign), Err(Status::Misdirected), "{foreign}");
        }
        assert_eq!(wanted("GET /", ""), Err(Status::BadRequest));
        assert_eq!(wanted("GET /", &[HOST, HOST].concat()), Err(Status::BadRequest));
    }

    #[test]
    fn versions_and_what_follows() {
        let old = parsed("GET /healthz HTTP/1.0\r\n\r\n");
        assert_eq!((old.wanted, old.keep_alive), (Ok(Route::Health), false));
        let last = parsed(&format!("GET / HTTP/1.1\r\n{HOST}Connection: x, Close\r\n\r\n"));
        assert!(!last.keep_alive);
        let two = parse(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap().0;
        assert_eq!(two, Request::refused(Status::VersionNotSupported));
        let nonsense = parse(b"\x16\x03\x01\x02\x00").unwrap().0;
        assert_eq!(nonsense, Request::refused(Status::BadRequest));
    }

    #[test]
    fn too_much_is_refused() {
        let long = format!("GET /{}", "x".repeat(limits::ADMIN_REQUEST_BYTES));
        let (request, _) = parse(long.as_bytes()).unwrap();
        assert_eq!(request, Request::refused(Status::HeadersTooLarge));
        let many =
            format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(limits::ADMIN_HEADERS + 1));
        assert_eq!(parsed(&many), Request::refused(Status::HeadersTooLarge));
    }

    #[test]
    fn an_answer_to_head_is_its_head() {
        let answer = |head| {
            let mut out = Vec::new();
            let request = Request { wanted: Ok(Route::Health), head, keep_alive: true };
            compose(Status::Ok, &request, "text/plain", "ok\n", &mut out);
            String::from_utf8(out).unwrap()
        };
        let (get, head) = (answer(false), answer(true));
        assert!(get.starts_with("HTTP/1.1 200 OK\r\n") && get.ends_with("\r\n\r\nok\n"), "{get}");
        assert!(get.contains("\r\nContent-Length: 3\r\n"), "{get}");
        assert_eq!(format!("{head}ok\n"), get);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_host_panics(host in "\\PC{0,40}") {
            let _ = cannot_be_rebound(&host);
        }
    }
}

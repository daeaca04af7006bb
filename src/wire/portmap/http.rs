//! As much of HTTP/1.1 as a router's services take: one request and one answer on a connection.

use std::fmt;

use super::url::Url;
use crate::limits;

/// Header fields of an answer that are looked at; real ones have about ten.
const HEADERS: usize = 64;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// 200, or 500 for a SOAP fault.
    pub status: u16,
    /// What it says.
    pub body: Vec<u8>,
}

/// The router answered what can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpError {
    /// It isn't HTTP, or has too many header fields.
    Malformed,
    /// It is longer than [`limits::ROUTER_ANSWER_BYTES`].
    TooLong,
    /// It ended too early.
    Truncated,
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not an HTTP answer",
            Self::TooLong => "too long an answer",
            Self::Truncated => "the answer ended too early",
        })
    }
}

impl std::error::Error for HttpError {}

/// A request for a document.
pub fn get(url: &Url) -> Vec<u8> {
    let Url { at, path } = url;
    format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n").into_bytes()
}

/// A SOAP call (UPnP Device Architecture 1.1 §3.2.1).
pub(super) fn call(url: &Url, service: &str, action: &str, body: &str) -> Vec<u8> {
    let (Url { at, path }, length) = (url, body.len());
    format!(
        "POST {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\
         Content-Type: text/xml; charset=\"utf-8\"\r\nContent-Length: {length}\r\n\
         SOAPAction: \"{service}#{action}\"\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Reads an answer from all that has come; `ended` when no more will. `None` means that it is not all
/// there yet.
///
/// # Errors
/// [`HttpError`].
pub fn decode(bytes: &[u8], ended: bool) -> Result<Option<Response>, HttpError> {
    if bytes.len() > limits::ROUTER_ANSWER_BYTES {
        return Err(HttpError::TooLong);
    }
    let found = decode_some(bytes, ended)?;
    if found.is_none() && ended {
        return Err(HttpError::Truncated);
    }
    Ok(found)
}

fn decode_some(mut bytes: &[u8], ended: bool) -> Result<Option<Response>, HttpError> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut head = httparse::Response::new(&mut headers);
        let length = match head.parse(bytes).map_err(|_| HttpError::Malformed)? {
            httparse::Status::Partial => return Ok(None),
            httparse::Status::Complete(length) => length,
        };
        let status = head.code.ok_or(HttpError::Malformed)?;
        bytes = &bytes[length..];
        // "100 Continue" and its like come before the answer (RFC 9110 §15.2).
        if !(100..200).contains(&status) {
            let body = decode_body(&head, bytes, ended)?;
            return Ok(body.map(|body| Response { status, body }));
        }
    }
}

fn decode_body(
    head: &httparse::Response<'_, '_>,
    body: &[u8],
    ended: bool,
) -> Result<Option<Vec<u8>>, HttpError> {
    let field = |name: &str| {
        let field = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        field.and_then(|field| std::str::from_utf8(field.value).ok()).map(str::trim)
    };
    if field("Transfer-Encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return decode_chunks(body);
    }
    let Some(length) = field("Content-Length") else {
        // It ends with the connection (RFC 9112 §6.3).
        return Ok(ended.then(|| body.to_vec()));
    };
    let length: usize = length.parse().map_err(|_| HttpError::Malformed)?;
    if length > limits::ROUTER_ANSWER_BYTES {
        return Err(HttpError::TooLong);
    }
    Ok(body.get(..length).map(<[u8]>::to_vec))
}

/// RFC 9112 §7.1.
fn decode_chunks(mut bytes: &[u8]) -> Result<Option<Vec<u8>>, HttpError> {
    let mut body = Vec::new();
    loop {
        let (start, size) = match httparse::parse_chunk_size(bytes) {
            Err(_) => return Err(HttpError::Malformed),
            Ok(httparse::Status::Partial) => return Ok(None),
            Ok(httparse::Status::Complete(found)) => found,
        };
        if size > limits::ROUTER_ANSWER_BYTES as u64 {
            return Err(HttpError::TooLong);
        }
        if size == 0 {
            // What trails it is of no interest.
            return Ok(Some(body));
        }
        let end = start + size as usize;
        let Some(chunk) = bytes.get(start..end) else { return Ok(None) };
        body.extend_from_slice(chunk);
        match bytes.get(end..end + 2) {
            None => return Ok(None),
            Some(b"\r\n") => bytes = &bytes[end + 2..],
            Some(_) => return Err(HttpError::Malformed),
        }
    }
}

//! UPnP's Internet Gateway Device: its description, and the calls of its WAN connection (IGD:1 and
//! IGD:2: WANIPConnection:1 and :2, WANPPPConnection:1).

use std::fmt;
use std::net::Ipv4Addr;

use roxmltree::{Document, Node, ParsingOptions};

use super::http::{self, Response};
use super::url::Url;
use crate::limits;

/// A service that maps ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Which.
    pub kind: ServiceKind,
    /// Where it is called.
    pub control: Url,
}

/// Which service, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServiceKind {
    /// Chooses another port where the wished one is taken.
    IpConnection2,
    /// The usual one.
    IpConnection1,
    /// That of a router which dials in itself.
    PppConnection1,
}

impl ServiceKind {
    const ALL: [Self; 3] = [Self::IpConnection2, Self::IpConnection1, Self::PppConnection1];

    fn urn(self) -> &'static str {
        match self {
            Self::IpConnection2 => "urn:schemas-upnp-org:service:WANIPConnection:2",
            Self::IpConnection1 => "urn:schemas-upnp-org:service:WANIPConnection:1",
            Self::PppConnection1 => "urn:schemas-upnp-org:service:WANPPPConnection:1",
        }
    }
}

/// Why an answer is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IgdError {
    /// It isn't what was asked for.
    Malformed,
    /// The router refused, with a code of UPnP.
    Refused(u16),
}

/// "The specified mapping conflicts with one assigned previously to another client"
/// (WANIPConnection:1 §2.4.16).
pub const CONFLICT: u16 = 718;

/// "The NAT implementation only supports permanent lease times on port mappings" (the same).
pub const ONLY_PERMANENT: u16 = 725;

impl fmt::Display for IgdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("an answer that can't be read"),
            Self::Refused(code) => write!(f, "refused with error {code}"),
        }
    }
}

impl std::error::Error for IgdError {}

// ---- the description ------------------------------------------------------------------------------

/// The services in the description that was read from `url`, the best first, at most
/// [`limits::IGD_SERVICES`]. Those elsewhere than at the describing host itself are left out.
///
/// # Errors
/// [`IgdError::Malformed`].
pub fn services(url: &Url, response: &Response) -> Result<Vec<Service>, IgdError> {
    if response.status != 200 {
        return Err(IgdError::Malformed);
    }
    let text = text_of(response)?;
    let document = parse(text)?;
    let root = document.root_element();
    // "URLBase: OPTIONAL" in version 1.0, and gone in 1.1.
    let base = child_text(root, "URLBase").and_then(|base| url.join(base));
    let base = base.as_ref().unwrap_or(url);
    let mut found: Vec<Service> = root
        .descendants()
        .filter(|node| node.tag_name().name() == "service")
        .filter_map(|node| {
            let urn = child_text(node, "serviceType")?;
            let kind = ServiceKind::ALL.into_iter().find(|kind| kind.urn() == urn)?;
            let control = base.join(child_text(node, "controlURL")?)?;
            Some(Service { kind, control })
        })
        .collect();
    found.sort_by_key(|service| service.kind);
    found.truncate(limits::IGD_SERVICES);
    Ok(found)
}

// ---- the calls -----------------------------------------------------------------------------------

/// Asks for the public address.
pub fn address_call(service: &Service) -> Vec<u8> {
    call(service, "GetExternalIPAddress", "")
}

/// Reads its answer.
///
/// # Errors
/// [`IgdError`].
pub fn address(response: &Response) -> Result<Ipv4Addr, IgdError> {
    result(response, "NewExternalIPAddress")?.parse().map_err(|_| IgdError::Malformed)
}

/// A mapping of a TCP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Our address.
    pub client: Ipv4Addr,
    /// Our port.
    pub internal_port: u16,
    /// Where others shall reach it.
    pub external_port: u16,
    /// In seconds; 0 for ever.
    pub lease: u32,
}

/// Asks for a mapping.
pub fn map_call(service: &Service, mapping: &Mapping) -> Vec<u8> {
    let action = match service.kind {
        ServiceKind::IpConnection2 => "AddAnyPortMapping",
        ServiceKind::IpConnection1 | ServiceKind::PppConnection1 => "AddPortMapping",
    };
    let Mapping { client, internal_port, lease, .. } = mapping;
    let arguments = format!(
        "{}<NewInternalPort>{internal_port}</NewInternalPort>\
         <NewInternalClient>{client}</NewInternalClient><NewEnabled>1</NewEnabled>\
         <NewPortMappingDescription>Gimlet</NewPortMappingDescription>\
         <NewLeaseDuration>{lease}</NewLeaseDuration>",
        key(mapping.external_port)
    );
    call(service, action, &arguments)
}

/// Reads its answer: the external port.
///
/// # Errors
/// [`IgdError`].
pub fn mapped(service: &Service, mapping: &Mapping, response: &Response) -> Result<u16, IgdError> {
    match service.kind {
        ServiceKind::IpConnection2 => {
            let port: u16 =
                result(response, "NewReservedPort")?.parse().map_err(|_| IgdError::Malformed)?;
            if port == 0 { Err(IgdError::Malformed) } else { Ok(port) }
        }
        ServiceKind::IpConnection1 | ServiceKind::PppConnection1 => {
            succeeded(response).map(|()| mapping.external_port)
        }
    }
}

/// Asks for the end of a mapping. Its answer is [`succeeded`] or of no interest.
pub fn unmap_call(service: &Service, external_port: u16) -> Vec<u8> {
    call(service, "DeletePortMapping", &key(external_port))
}

/// The name of a mapping.
fn key(external_port: u16) -> String {
    format!(
        "<NewRemoteHost></NewRemoteHost><NewExternalPort>{external_port}</NewExternalPort>\
         <NewProtocol>TCP</NewProtocol>"
    )
}

/// Arguments are numbers and addresses: nothing needs to be escaped.
fn call(service: &Service, action: &str, arguments: &str) -> Vec<u8> {
    let urn = service.kind.urn();
    let body = format!(
        "<?xml version=\"1.0\"?>\
         <s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
         <u:{action} xmlns:u=\"{urn}\">{arguments}</u:{action}></s:Body></s:Envelope>"
    );
    http::call(&service.control, urn, action, &body)
}

/// Whether a call succeeded.
///
/// # Errors
/// [`IgdError`].
pub fn succeeded(response: &Response) -> Result<(), IgdError> {
    if response.status == 200 { Ok(()) } else { Err(refusal(response)) }
}

/// The value of one result of a call.
fn result(response: &Response, name: &str) -> Result<String, IgdError> {
    succeeded(response)?;
    find(response, name).ok_or(IgdError::Malformed)
}

/// What a fault says.
fn refusal(response: &Response) -> IgdError {
    let code = find(response, "errorCode").and_then(|code| code.parse().ok());
    code.map_or(IgdError::Malformed, IgdError::Refused)
}

/// The text of the first element of this name, wherever it is: routers don't agree on namespaces.
fn find(response: &Response, name: &str) -> Option<String> {
    let document = parse(text_of(response).ok()?).ok()?;
    let node = document.descendants().find(|node| node.tag_name().name() == name)?;
    Some(node.text().unwrap_or_default().trim().to_owned())
}

fn text_of(response: &Response) -> Result<&str, IgdError> {
    let text = std::str::from_utf8(&response.body).map_err(|_| IgdError::Malformed)?;
    // Some routers end the body with a zero byte, which no XML has.
    Ok(text.trim_end_matches('\0').trim())
}

fn parse(text: &str) -> Result<Document<'_>, IgdError> {
    // Without a DTD there are no entities that could grow.
    let options =
        ParsingOptions { allow_dtd: false, nodes_limit: limits::XML_NODES, ..Default::default() };
    Document::parse_with_options(text, options).map_err(|_| IgdError::Malformed)
}

fn child_text<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    let child = node.children().find(|child| child.tag_name().name() == name)?;
    child.text().map(str::trim).filter(|text| !text.is_empty())
}

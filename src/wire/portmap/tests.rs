//! Examples of the RFCs, and what MiniUPnPd 2.3.1 said on 2026-11-24.

use std::net::{Ipv4Addr, SocketAddr};

use proptest::collection::vec;
use proptest::prelude::*;

use super::http::{HttpError, Response};
use super::igd::{IgdError, Service, ServiceKind};
use super::url::Url;
use super::{ResultCode, http, igd, nat_pmp, pcp, ssdp};
use crate::limits;

fn bytes(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

// ---- PCP -------------------------------------------------------------------------------------------

fn pcp_request() -> pcp::MapRequest {
    pcp::MapRequest {
        client: "10.1.1.2".parse().unwrap(),
        nonce: [1; 12],
        lifetime: 7200,
        internal_port: 4000,
        suggested: socket("0.0.0.0:4000"),
    }
}

#[test]
fn pcp_maps_a_port() {
    let request = bytes(
        "0201000000001c20 00000000000000000000ffff0a010102 010101010101010101010101 06000000
         0fa00fa0 00000000000000000000ffff00000000",
    );
    assert_eq!(pcp_request().encode().as_slice(), request);
    let response = bytes(
        "0281000000001c20 00000018000000000000000000000000 010101010101010101010101 06000000
         0fa00fa0 00000000000000000000ffffc0000211",
    );
    let mapping =
        pcp::Mapping { nonce: [1; 12], internal_port: 4000, external: socket("192.0.2.17:4000") };
    let expected = pcp::Response {
        result: ResultCode::Success,
        lifetime: 7200,
        epoch: 24,
        body: pcp::Body::Map(mapping),
    };
    assert_eq!(pcp::decode(&response), Some(expected));
}

#[test]
fn pcp_opens_a_pinhole() {
    let client = "2001:db8:a1:1::2".parse().unwrap();
    let request = pcp::MapRequest {
        client,
        nonce: [2; 12],
        suggested: SocketAddr::new(pcp::any_address(client), 4000),
        ..pcp_request()
    };
    let expected = bytes(
        "0201000000001c20 20010db800a100010000000000000002 020202020202020202020202 06000000
         0fa00fa0 00000000000000000000000000000000",
    );
    assert_eq!(request.encode().as_slice(), expected);
    let response = bytes(
        "0281000000001c20 00000018000000000000000000000000 020202020202020202020202 06000000
         0fa00fa0 20010db800a100010000000000000002",
    );
    let Some(pcp::Response { body: pcp::Body::Map(mapping), .. }) = pcp::decode(&response) else {
        panic!()
    };
    assert_eq!(mapping.external, SocketAddr::new(client, 4000));
}

#[test]
fn pcp_announces_and_refuses() {
    let announce = pcp::decode(&bytes("028000000000000000000018000000000000000000000000")).unwrap();
    assert_eq!((announce.body, announce.epoch), (pcp::Body::Announce, 24));
    let other = pcp::decode(&bytes("028100010000000000000018000000000000000000000000")).unwrap();
    assert_eq!(other.result, ResultCode::UnsupportedVersion);
    assert_eq!(other.body, pcp::Body::Nothing);
    // A server of version 1 says so in its own version.
    let other = pcp::decode(&bytes("018100010000070800000018000000000000000000000000")).unwrap();
    assert_eq!((other.result, other.lifetime), (ResultCode::UnsupportedVersion, 1800));
}

#[test]
fn pcp_takes_nothing_else() {
    let good = bytes(
        "0281000000001c20 00000018000000000000000000000000 010101010101010101010101 06000000
         0fa00fa0 00000000000000000000ffffc0000211",
    );
    assert!(pcp::decode(&good).is_some());
    let change = |at: usize, to: u8| {
        let mut changed = good.clone();
        changed[at] = to;
        changed
    };
    assert_eq!(pcp::decode(&change(0, 1)), None, "another version");
    assert_eq!(pcp::decode(&change(1, 1)), None, "a request");
    assert_eq!(pcp::decode(&change(36, 17)), None, "a mapping of UDP");
    assert_eq!(pcp::decode(&good[..24]), None, "a success without a mapping");
    assert_eq!(pcp::decode(&good[..59]), None, "a part");
    assert_eq!(pcp::decode(&[&good[..], &[0; 1044]].concat()), None, "1104 bytes");
    assert_eq!(pcp::decode(&pcp_request().encode()), None, "our own request");
    // What follows the mapping is options.
    assert!(pcp::decode(&[&good[..], &[0; 8]].concat()).is_some());
}

// ---- NAT-PMP ---------------------------------------------------------------------------------------

#[test]
fn nat_pmp_tells_the_address_and_maps_a_port() {
    assert_eq!(nat_pmp::ADDRESS_REQUEST, [0, 0]);
    let address = nat_pmp::decode(&bytes("0080000000000018c0000211")).unwrap();
    assert_eq!(address.body, nat_pmp::Body::Address(Ipv4Addr::new(192, 0, 2, 17)));
    assert_eq!(address.epoch, 24);
    let request = nat_pmp::MapRequest { internal_port: 4001, external_port: 4001, lifetime: 3600 };
    assert_eq!(request.encode().as_slice(), bytes("000200000fa10fa100000e10"));
    let mapped = nat_pmp::decode(&bytes("00820000000000180fa10fa200000e10")).unwrap();
    let body = nat_pmp::Body::Mapped { internal_port: 4001, external_port: 4002, lifetime: 3600 };
    assert_eq!(mapped.body, body);
}

#[test]
fn nat_pmp_refuses_and_takes_nothing_else() {
    // Network failure, with and without the rest of the answer.
    for refused in ["008000030000001800000000", "0080000300000018"] {
        let refused = nat_pmp::decode(&bytes(refused)).unwrap();
        assert_eq!(refused.result, ResultCode::NetworkFailure);
        assert_eq!(refused.body, nat_pmp::Body::Nothing);
    }
    // RFC 6886 §3.5: to a version that it doesn't know.
    let refused = nat_pmp::decode(&bytes("0081000100000018")).unwrap();
    assert_eq!(refused.result, ResultCode::UnsupportedVersion);
    for wrong in
        ["", "00", "0000", "0080000000000018", "008200000000001800000000", "0180000100000018"]
    {
        assert_eq!(nat_pmp::decode(&bytes(wrong)), None, "{wrong}");
    }
}

// ---- SSDP ------------------------------------------------------------------------------------------

const ANSWER: &str = "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\n\
    ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\
    USN: uuid:00000000-0000-0000-0000-000000000001::urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\
    EXT:\r\nSERVER: Debian UPnP/1.1 MiniUPnPd/2.3.1\r\nLOCATION: http://10.1.1.1:5000/rootDesc.xml\r\n\
    OPT: \"http://schemas.upnp.org/upnp/1/0/\"; ns=01\r\n01-NLS: 1795564567\r\n\
    BOOTID.UPNP.ORG: 1795564567\r\nCONFIGID.UPNP.ORG: 1337\r\n\r\n";

fn description_url() -> Url {
    Url { at: socket("10.1.1.1:5000"), path: "/rootDesc.xml".into() }
}

#[test]
fn a_router_is_searched_for_and_answers() {
    let searches: Vec<_> = ssdp::searches().map(|s| String::from_utf8(s).unwrap()).collect();
    assert_eq!(
        searches[0],
        "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
         ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n"
    );
    let router = "10.1.1.1".parse().unwrap();
    assert_eq!(ssdp::decode(router, ANSWER.as_bytes()), Some(description_url()));
    let unended = ANSWER.trim_end();
    assert_eq!(
        ssdp::decode(router, &unended.as_bytes()[..unended.len() - 4]),
        Some(description_url())
    );
}

#[test]
fn an_answer_leads_nowhere_but_to_who_sent_it() {
    let router = "10.1.1.1".parse().unwrap();
    assert_eq!(ssdp::decode("10.1.1.9".parse().unwrap(), ANSWER.as_bytes()), None);
    for (from, to) in [
        ("10.1.1.1:5000", "198.51.100.1:80"),
        ("10.1.1.1:5000", "router.example"),
        ("http://", "https://"),
        ("200 OK", "404 Not Found"),
        ("InternetGatewayDevice:1\r", "MediaServer:1\r"),
        ("LOCATION", "DISLOCATION"),
        ("rootDesc.xml", "root desc"),
    ] {
        assert_eq!(ssdp::decode(router, ANSWER.replace(from, to).as_bytes()), None, "{to}");
    }
}

// ---- URLs --------------------------------------------------------------------------------------------

#[test]
fn urls_are_read_and_joined() {
    let base = description_url();
    let at = |text: &str| base.join(text).map(|url| format!("{}{}", url.at, url.path));
    assert_eq!(at("/ctl/IPConn?x=1").unwrap(), "10.1.1.1:5000/ctl/IPConn?x=1");
    assert_eq!(at("ctl/IPConn").unwrap(), "10.1.1.1:5000/ctl/IPConn");
    assert_eq!(at("http://10.1.1.1:80/x").unwrap(), "10.1.1.1:80/x");
    assert_eq!(at("HTTP://10.1.1.1").unwrap(), "10.1.1.1:80/");
    // Elsewhere, or what would break the request.
    for wrong in ["http://10.1.1.2/", "http://10.1.1.1@10.1.1.2/", "/a b", "/a\r\nHost: x", "/ä"] {
        assert_eq!(at(wrong), None, "{wrong}");
    }
    for wrong in
        ["", "/", "http://", "http://10.1.1.1:0/", "http://10.1.1.1:65536/", "http://[::1]/"]
    {
        assert_eq!(Url::parse(wrong), None, "{wrong}");
    }
    let long = format!("/{}", "x".repeat(limits::URL_PATH_BYTES));
    assert_eq!((at(&long), at(&long[..long.len() - 1]).is_some()), (None, true));
}

// ---- HTTP --------------------------------------------------------------------------------------------

fn response(status: u16, body: &str) -> Response {
    Response { status, body: body.into() }
}

#[test]
fn http_answers_end_by_length_by_chunk_or_with_the_connection() {
    let text = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    for end in 0..text.len() {
        assert_eq!(http::decode(&text[..end], false), Ok(None));
        assert_eq!(http::decode(&text[..end], true), Err(HttpError::Truncated));
    }
    assert_eq!(http::decode(text, false), Ok(Some(response(200, "hello"))));

    let text =
        b"HTTP/1.1 500 X\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nhel\r\n2;x\r\nlo\r\n0\r\n\r\n";
    let whole = text.len() - 2;
    for end in 0..whole {
        assert_eq!(http::decode(&text[..end], false), Ok(None), "{end}");
    }
    assert_eq!(http::decode(text, false), Ok(Some(response(500, "hello"))));

    let text = b"HTTP/1.0 200 OK\r\n\r\nhello";
    assert_eq!(http::decode(text, false), Ok(None));
    assert_eq!(http::decode(text, true), Ok(Some(response(200, "hello"))));

    let text = "HTTP/1.1 100 Continue\r\n\r\n".repeat(2000)
        + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(http::decode(text.as_bytes(), false), Ok(Some(response(200, ""))));
}

#[test]
fn http_answers_that_are_none_or_too_long_are_refused() {
    let decode = |text: &str| http::decode(text.as_bytes(), false);
    assert_eq!(decode("SSH-2.0-x\r\n"), Err(HttpError::Malformed));
    assert_eq!(decode("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), Err(HttpError::Malformed));
    let length = limits::ROUTER_ANSWER_BYTES + 1;
    let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    assert_eq!(decode(&text), Err(HttpError::TooLong));
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(decode(&format!("{chunked}ffffffffffffffff\r\n")), Err(HttpError::TooLong));
    assert_eq!(decode(&format!("{chunked}1\r\nabc")), Err(HttpError::Malformed));
    let endless = "HTTP/1.1 200 OK\r\n".to_owned() + &"x".repeat(limits::ROUTER_ANSWER_BYTES);
    assert_eq!(decode(&endless), Err(HttpError::TooLong));
    let many = "HTTP/1.1 200 OK\r\n".to_owned() + &"a: b\r\n".repeat(1000);
    assert_eq!(decode(&many), Err(HttpError::Malformed));
}

// ---- IGD ---------------------------------------------------------------------------------------------

/// What MiniUPnPd says, without what nobody looks at.
const DESCRIPTION: &str = r#"<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0" configId="1337"><specVersion><major>1</major><minor>1</minor></specVersion><device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:2</deviceType><friendlyName>Debian router</friendlyName><UDN>uuid:00000000-0000-0000-0000-000000000001</UDN><serviceList><service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType><serviceId>urn:upnp-org:serviceId:L3Forwarding1</serviceId><SCPDURL>/L3F.xml</SCPDURL><controlURL>/ctl/L3F</controlURL><eventSubURL>/evt/L3F</eventSubURL></service></serviceList><deviceList><device><deviceType>urn:schemas-upnp-org:device:WANDevice:2</deviceType><friendlyName>WANDevice</friendlyName><deviceList><device><deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:2</deviceType><friendlyName>WANConnectionDevice</friendlyName><serviceList><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:2</serviceType><serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId><SCPDURL>/WANIPCn.xml</SCPDURL><controlURL>/ctl/IPConn</controlURL><eventSubURL>/evt/IPConn</eventSubURL></service><service><serviceType>urn:schemas-upnp-org:service:WANIPv6FirewallControl:1</serviceType><serviceId>urn:upnp-org:serviceId:WANIPv6Firewall1</serviceId><SCPDURL>/WANIP6FC.xml</SCPDURL><controlURL>/ctl/IP6FCtl</controlURL><eventSubURL>/evt/IP6FCtl</eventSubURL></service></serviceList></device></deviceList></device></deviceList><presentationURL>http://10.1.1.1/</presentationURL></device></root>
"#;

fn service(kind: ServiceKind) -> Service {
    Service { kind, control: Url { at: socket("10.1.1.1:5000"), path: "/ctl/IPConn".into() } }
}

fn services(text: &str) -> Result<Vec<Service>, IgdError> {
    igd::services(&description_url(), &response(200, text))
}

#[test]
fn a_description_names_the_service_that_maps() {
    assert_eq!(services(DESCRIPTION), Ok(vec![service(ServiceKind::IpConnection2)]));
    let old = DESCRIPTION.replace("WANIPConnection:2", "WANIPConnection:1");
    assert_eq!(services(&old), Ok(vec![service(ServiceKind::IpConnection1)]));
    let old =
        old.replace("<specVersion>", "<URLBase>http://10.1.1.1:49152/</URLBase><specVersion>");
    assert_eq!(services(&old).unwrap()[0].control.at, socket("10.1.1.1:49152"));
}

#[test]
fn a_description_leads_nowhere_else_and_cannot_grow() {
    for (from, to) in [
        ("/ctl/IPConn", "http://198.51.100.1/ctl/IPConn"),
        ("WANIPConnection:2", "WANIPConnection:9"),
        ("<controlURL>/ctl/IPConn</controlURL>", ""),
    ] {
        assert_eq!(services(&DESCRIPTION.replace(from, to)), Ok(vec![]), "{to}");
    }
    let entity = "<!DOCTYPE root [<!ENTITY a \"aaaaaaaaaa\">]><root>&a;</root>";
    assert_eq!(services(entity), Err(IgdError::Malformed));
    let nodes = limits::XML_NODES as usize;
    let wide = format!("<root>{}</root>", "<a/>".repeat(nodes + 1));
    assert_eq!(services(&wide), Err(IgdError::Malformed));
    let deep = "<a>".repeat(nodes - 2) + &"</a>".repeat(nodes - 2);
    assert_eq!(services(&deep), Ok(vec![]));
    let many = DESCRIPTION.find("<service>").unwrap();
    let one = "<service><serviceType>urn:schemas-upnp-org:service:WANPPPConnection:1</serviceType>\
        <controlURL>/a</controlURL></service>";
    let text = [&DESCRIPTION[..many], &one.repeat(10), &DESCRIPTION[many..]].concat();
    let found = services(&text).unwrap();
    assert_eq!((found.len(), found[0].kind), (limits::IGD_SERVICES, ServiceKind::IpConnection2));
}

const MAPPING: igd::Mapping = igd::Mapping {
    client: Ipv4Addr::new(10, 1, 1, 2),
    internal_port: 4003,
    external_port: 4003,
    lease: 1200,
};

#[test]
fn calls_are_what_a_router_understands() {
    let text =
        String::from_utf8(igd::map_call(&service(ServiceKind::IpConnection1), &MAPPING)).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /ctl/IPConn HTTP/1.1\r\nHost: 10.1.1.1:5000\r\n"), "{head}");
    let action = "SOAPAction: \"urn:schemas-upnp-org:service:WANIPConnection:1#AddPortMapping\"";
    assert!(head.contains(action), "{head}");
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    let document = roxmltree::Document::parse(body).unwrap();
    // In the order that the service's description has: some routers go by that.
    let call = document.descendants().find(|n| n.tag_name().name() == "AddPortMapping").unwrap();
    assert_eq!(call.tag_name().namespace(), Some("urn:schemas-upnp-org:service:WANIPConnection:1"));
    let arguments: Vec<_> = call.children().map(|n| (n.tag_name().name(), n.text())).collect();
    assert_eq!(
        arguments,
        [
            ("NewRemoteHost", None),
            ("NewExternalPort", Some("4003")),
            ("NewProtocol", Some("TCP")),
            ("NewInternalPort", Some("4003")),
            ("NewInternalClient", Some("10.1.1.2")),
            ("NewEnabled", Some("1")),
            ("NewPortMappingDescription", Some("Gimlet")),
            ("NewLeaseDuration", Some("1200")),
        ]
    );
    for (call, name) in [
        (igd::map_call(&service(ServiceKind::IpConnection2), &MAPPING), "2#AddAnyPortMapping\""),
        (igd::address_call(&service(ServiceKind::PppConnection1)), "1#GetExternalIPAddress\""),
        (igd::unmap_call(&service(ServiceKind::IpConnection2), 4003), "2#DeletePortMapping\""),
    ] {
        assert!(String::from_utf8(call).unwrap().contains(name), "{name}");
    }
}

fn soap(inner: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>{inner}</s:Body></s:Envelope>\r\n\0"
    )
}

#[test]
fn answers_of_a_router_are_read() {
    let urn = "urn:schemas-upnp-org:service:WANIPConnection:2";
    let address = soap(&format!(
        "<u:GetExternalIPAddressResponse xmlns:u=\"{urn}\"><NewExternalIPAddress>192.0.2.17\
         </NewExternalIPAddress></u:GetExternalIPAddressResponse>"
    ));
    assert_eq!(igd::address(&response(200, &address)), Ok(Ipv4Addr::new(192, 0, 2, 17)));
    let none = address.replace("192.0.2.17", "");
    assert_eq!(igd::address(&response(200, &none)), Err(IgdError::Malformed));

    let reserved = soap(&format!(
        "<u:AddAnyPortMappingResponse xmlns:u=\"{urn}\"><NewReservedPort>4004</NewReservedPort>\
         </u:AddAnyPortMappingResponse>"
    ));
    let second = service(ServiceKind::IpConnection2);
    assert_eq!(igd::mapped(&second, &MAPPING, &response(200, &reserved)), Ok(4004));
    let first = service(ServiceKind::IpConnection1);
    let added = soap("<u:AddPortMappingResponse xmlns:u=\"urn:x\"/>");
    assert_eq!(igd::mapped(&first, &MAPPING, &response(200, &added)), Ok(4003));

    let fault = soap(
        "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>\
         <UPnPError xmlns=\"urn:schemas-upnp-org:control-1-0\"><errorCode>718</errorCode>\
         <errorDescription>ConflictInMappingEntry</errorDescription></UPnPError></detail></s:Fault>",
    );
    let fault = response(500, &fault);
    assert_eq!(igd::mapped(&first, &MAPPING, &fault), Err(IgdError::Refused(igd::CONFLICT)));
    assert_eq!(igd::address(&fault), Err(IgdError::Refused(igd::CONFLICT)));
    assert_eq!(igd::succeeded(&response(500, "<x>")), Err(IgdError::Malformed));
}

// ---- whatever comes ------------------------------------------------------------------------------------

/// All decoders on one input: none may panic.
fn read_all(bytes: &[u8]) {
    let router = "10.1.1.1".parse().unwrap();
    let _ = (pcp::decode(bytes), nat_pmp::decode(bytes), ssdp::decode(router, bytes));
    for ended in [false, true] {
        let _ = http::decode(bytes, ended);
    }
    for status in [200, 500] {
        let response = Response { status, body: bytes.to_vec() };
        let _ = igd::services(&description_url(), &response);
        let _ = igd::address(&response);
        let _ = igd::mapped(&service(ServiceKind::IpConnection2), &MAPPING, &response);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = (Url::parse(text), description_url().join(text));
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..200)) {
        read_all(&bytes);
    }

    #[test]
    fn no_broken_answer_panics(
        which in 0..5usize,
        at in any::<prop::sample::Index>(),
        with in vec(any::<u8>(), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let pcp = pcp_request().encode();
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n0\r\n\r\n";
        let http = format!("HTTP/1.1 200 OK\r\nContent-Length: 3089\r\n\r\n{DESCRIPTION}");
        let samples: [&[u8]; 5] =
            [&pcp, ANSWER.as_bytes(), DESCRIPTION.as_bytes(), chunked.as_bytes(), http.as_bytes()];
        let mut bytes = samples[which].to_vec();
        let start = at.index(bytes.len());
        let end = (start + with.len()).min(bytes.len());
        bytes.splice(start..end, with);
        read_all(&bytes);
        bytes.truncate(cut.index(bytes.len() + 1));
        read_all(&bytes);
    }

    #[test]
    fn pcp_mappings_survive_the_way(
        nonce in any::<[u8; 12]>(),
        lifetime in any::<u32>(),
        epoch in any::<u32>(),
        port in any::<u16>(),
        external in any::<SocketAddr>(),
    ) {
        let external = SocketAddr::new(external.ip().to_canonical(), external.port());
        let request = pcp::MapRequest {
            client: external.ip(), nonce, lifetime, internal_port: port, suggested: external,
        };
        let mut bytes = request.encode();
        bytes[1] |= 0x80;
        bytes[8..12].copy_from_slice(&epoch.to_be_bytes());
        let body = pcp::Body::Map(pcp::Mapping { nonce, internal_port: port, external });
        let expected =
            pcp::Response { result: ResultCode::Success, lifetime, epoch, body };
        prop_assert_eq!(pcp::decode(&bytes), Some(expected));
    }
}

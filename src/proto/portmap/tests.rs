//! The machine by hand, in virtual time.

mod history;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::{Action, Event, Mapping, Network, PortMapper, Protocol, Route, Worthless, check};
use crate::limits;
use crate::wire::portmap::http::Response;

const GATEWAY: &str = "10.1.1.1:5351";
const PORT: u16 = 4000;
const NONCE: [u8; 12] = [7; 12];

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn v4_route() -> Route {
    let (gateway, own) = ("10.1.1.1".parse().unwrap(), "10.1.1.2".parse().unwrap());
    Route { gateway, scope: 0, own }
}

fn v4() -> Network {
    Network { v4: Some(v4_route()), v6: None }
}

struct Bench {
    mapper: PortMapper,
    now: Instant,
    sent: VecDeque<(SocketAddr, Vec<u8>)>,
    /// The call under way.
    call: Option<String>,
    calls: usize,
}

impl Bench {
    fn new() -> Self {
        #[allow(clippy::disallowed_methods, reason = "a test may take any instant as its origin")]
        let now = Instant::now();
        let mapper = PortMapper::new(NONCE, 1);
        Self { mapper, now, sent: VecDeque::new(), call: None, calls: 0 }
    }

    fn started(network: Network) -> Self {
        let mut bench = Self::new();
        bench.mapper.start(PORT, network, bench.now);
        bench.drain();
        bench
    }

    fn drain(&mut self) {
        while let Some(action) = self.mapper.poll_action() {
            match action {
                Action::Send { to, bytes } => self.sent.push_back((to, bytes)),
                Action::Call { request, .. } => {
                    assert!(self.call.is_none(), "a second call at once");
                    self.call = Some(String::from_utf8(request).unwrap());
                    self.calls += 1;
                }
                Action::HangUp => assert!(self.call.take().is_some(), "nobody to hang up"),
            }
        }
    }

    fn hear(&mut self, from: &str, bytes: &[u8]) {
        self.mapper.handle_datagram(socket(from), bytes, self.now);
        self.drain();
    }

    fn answer(&mut self, status: u16, body: &str) {
        assert!(self.call.take().is_some(), "nothing was asked");
        let response = Response { status, body: body.into() };
        self.mapper.handle_answer(Some(&response), self.now);
        self.drain();
    }

    /// Goes on to each deadline up to then.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.mapper.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.mapper.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn pass_until_call(&mut self) {
        while self.call.is_none() {
            let next = self.mapper.poll_timeout().expect("something to wait for");
            self.pass(next - self.now);
        }
    }

    /// Datagrams to the gateway's port 5351 since the last look, by their first two bytes.
    fn asked(&mut self) -> Vec<(u8, u8)> {
        let to_server = self.sent.drain(..).filter(|(to, _)| to.port() == 5351);
        to_server.map(|(_, bytes)| (bytes[0], bytes[1])).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.mapper.poll_event()).collect()
    }

    fn call(&self) -> &str {
        self.call.as_deref().expect("a call")
    }

    /// UPnP as far as the mapping.
    fn find_igd(&mut self, kind: &str) {
        self.hear("10.1.1.1:1900", SSDP.as_bytes());
        assert!(self.call().starts_with("GET /rootDesc.xml "), "{}", self.call());
        self.answer(200, &description(kind));
        assert!(self.call().contains("#GetExternalIPAddress"), "{}", self.call());
        self.answer(200, &result("NewExternalIPAddress", "192.0.2.17"));
    }
}

const PCP_MAP: (u8, u8) = (2, 1);
const NAT_PMP_ADDRESS: (u8, u8) = (0, 0);
const NAT_PMP_MAP: (u8, u8) = (0, 2);

fn pcp_answer(result: u8, lifetime: u32, epoch: u32, external: &str) -> Vec<u8> {
    pcp_answer_of(PORT, NONCE, result, lifetime, epoch, external)
}

fn pcp_answer_of(
    port: u16,
    nonce: [u8; 12],
    result: u8,
    lifetime: u32,
    epoch: u32,
    external: &str,
) -> Vec<u8> {
    let external = socket(external);
    let ip = match external.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut bytes = vec![2, 0x81, 0, result];
    bytes.extend(lifetime.to_be_bytes());
    bytes.extend(epoch.to_be_bytes());
    bytes.extend([0; 12]);
    bytes.extend(nonce);
    bytes.extend([6, 0, 0, 0]);
    bytes.extend(port.to_be_bytes());
    bytes.extend(external.port().to_be_bytes());
    bytes.extend(ip.octets());
    bytes
}

fn nat_pmp_address(epoch: u32) -> Vec<u8> {
    [&[0, 128, 0, 0][..], &epoch.to_be_bytes(), &[192, 0, 2, 17]].concat()
}

fn nat_pmp_mapped(epoch: u32, external: u16, lifetime: u32) -> Vec<u8> {
    let ports = [PORT.to_be_bytes(), external.to_be_bytes()].concat();
    [&[0, 130, 0, 0][..], &epoch.to_be_bytes(), &ports, &lifetime.to_be_bytes()].concat()
}

const SSDP: &str = "HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\
    LOCATION: http://10.1.1.1:5000/rootDesc.xml\r\n\r\n";

fn description(kind: &str) -> String {
    format!(
        "<root><device><serviceList><service><serviceType>urn:schemas-upnp-org:service:{kind}\
         </serviceType><controlURL>/ctl</controlURL></service></serviceList></device></root>"
    )
}

fn result(name: &str, value: &str) -> String {
    format!("<Envelope><Body><r><{name}>{value}</{name}></r></Body></Envelope>")
}

fn mapped(protocol: Protocol, external: &str) -> Event {
    Event::Mapped(Mapping { protocol, external: socket(external) })
}

fn lost(protocol: Protocol, external: &str) -> Event {
    Event::Lost(Mapping { protocol, external: socket(external) })
}

const HOUR: Duration = Duration::from_secs(3600);

// ---- who grants ------------------------------------------------------------------------------------

#[test]
fn all_are_asked_at_once_and_the_first_that_grants_has_it() {
    let mut bench = Bench::started(v4());
    assert!(bench.sent.iter().any(|(to, _)| *to == socket("239.255.255.250:1900")));
    assert!(bench.sent.iter().any(|(to, _)| *to == socket("10.1.1.1:1900")));
    assert_eq!(bench.asked(), [PCP_MAP, NAT_PMP_ADDRESS]);
    bench.hear(GATEWAY, &nat_pmp_address(5));
    bench.hear(GATEWAY, &pcp_answer(0, 7200, 5, "192.0.2.17:4001"));
    assert_eq!(bench.events(), [mapped(Protocol::Pcp, "192.0.2.17:4001")]);
    bench.hear("10.1.1.1:1900", SSDP.as_bytes());
    bench.pass(Duration::from_secs(3000));
    assert_eq!((bench.asked(), bench.call.take()), (vec![], None), "the others rest");
    assert_eq!(bench.mapper.mappings().count(), 1);
}

#[test]
fn nat_pmp_lets_pcp_go_first_for_a_moment() {
    let mut bench = Bench::started(v4());
    bench.asked();
    bench.hear(GATEWAY, &nat_pmp_address(5));
    assert_eq!(bench.asked(), []);
    bench.pass(limits::NAT_PMP_DELAY);
    assert_eq!(bench.asked(), [NAT_PMP_MAP]);
    bench.hear(GATEWAY, &nat_pmp_mapped(5, 4002, 7200));
    assert_eq!(bench.events(), [mapped(Protocol::NatPmp, "192.0.2.17:4002")]);
}

#[test]
fn a_server_of_nat_pmp_alone_is_recognised_at_once() {
    let mut bench = Bench::started(v4());
    bench.asked();
    bench.hear(GATEWAY, &[0, 129, 0, 1, 0, 0, 0, 5]);
    bench.hear(GATEWAY, &nat_pmp_address(5));
    assert_eq!(bench.asked(), [NAT_PMP_MAP]);
    // And so is one of PCP that refuses.
    let mut bench = Bench::started(v4());
    bench.asked();
    bench.hear(GATEWAY, &nat_pmp_address(5));
    bench.hear(GATEWAY, &pcp_answer(2, 1800, 5, "0.0.0.0:0"));
    assert_eq!(bench.asked(), [NAT_PMP_MAP]);
}

#[test]
fn upnp_is_last() {
    let mut bench = Bench::started(v4());
    bench.find_igd("WANIPConnection:1");
    assert_eq!(bench.call, None, "the others may still grant");
    bench.pass(limits::IGD_DELAY);
    assert!(bench.call().contains("#AddPortMapping\""), "{}", bench.call());
    assert!(bench.call().contains("<NewInternalClient>10.1.1.2</NewInternalClient>"));
    bench.answer(200, "<Envelope/>");
    assert_eq!(bench.events(), [mapped(Protocol::Upnp, "192.0.2.17:4000")]);
}

#[test]
fn upnp_takes_another_port_or_a_mapping_for_ever() {
    let mut bench = Bench::started(v4());
    bench.find_igd("WANIPConnection:1");
    bench.pass(limits::IGD_DELAY);
    bench.answer(500, &result("errorCode", "718"));
    assert!(!bench.call().contains("<NewExternalPort>4000<"), "{}", bench.call());
    bench.answer(500, &result("errorCode", "725"));
    assert!(bench.call().contains("<NewLeaseDuration>0<"), "{}", bench.call());
    bench.answer(200, "<Envelope/>");
    let [Event::Mapped(mapping)] = bench.events()[..] else { panic!() };
    assert!(mapping.external.port() != 4000);
    // A router that chooses itself.
    let mut bench = Bench::started(v4());
    bench.find_igd("WANIPConnection:2");
    bench.pass(limits::IGD_DELAY);
    assert!(bench.call().contains("#AddAnyPortMapping\""), "{}", bench.call());
    bench.answer(200, &result("NewReservedPort", "4010"));
    assert_eq!(bench.events(), [mapped(Protocol::Upnp, "192.0.2.17:4010")]);
}

#[test]
fn ipv6_asks_pcp_for_a_pinhole() {
    let gateway: IpAddr = "fe80::1".parse().unwrap();
    let v6 = Some(Route { gateway, scope: 3, own: "2001:db8::2".parse().unwrap() });
    let mut bench = Bench::started(Network { v4: None, v6 });
    let [(SocketAddr::V6(to), bytes)] = &bench.sent.make_contiguous()[..] else { panic!() };
    assert_eq!((IpAddr::from(*to.ip()), to.port(), to.scope_id()), (gateway, 5351, 3));
    assert_eq!(bytes[8..24], "2001:db8::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
    bench.hear("[fe80::1]:5351", &pcp_answer(0, 7200, 5, "[2001:db8::2]:4000"));
    assert_eq!(bench.events(), [mapped(Protocol::Pcp, "[2001:db8::2]:4000")]);
}

#[test]
fn without_a_way_out_nothing_happens() {
    let mut bench = Bench::started(Network::default());
    assert_eq!((bench.asked(), bench.mapper.poll_timeout()), (vec![], None));
    bench.hear(GATEWAY, &pcp_answer(0, 7200, 5, "192.0.2.17:4001"));
    bench.mapper.handle_answer(None, bench.now);
    assert_eq!(bench.events(), []);
}

#[test]
fn strangers_grant_nothing() {
    let mut bench = Bench::started(v4());
    let grant = pcp_answer(0, 7200, 5, "192.0.2.17:4001");
    bench.hear("10.1.1.9:5351", &grant);
    bench.hear("10.1.1.1:5350", &grant);
    bench.hear("[::1]:5351", &grant);
    bench.hear(GATEWAY, &pcp_answer_of(PORT, [8; 12], 0, 7200, 5, "192.0.2.17:4001"));
    bench.hear(GATEWAY, &pcp_answer_of(4001, NONCE, 0, 7200, 5, "192.0.2.17:4001"));
    bench.hear(GATEWAY, &pcp_answer(0, 7200, 5, "0.0.0.0:4001"));
    bench.hear(GATEWAY, &pcp_answer(0, 0, 5, "192.0.2.17:4001"));
    bench.hear(GATEWAY, &nat_pmp_mapped(5, 4001, 7200));
    assert_eq!(bench.events(), []);
    assert_eq!(bench.mapper.mappings().count(), 0);
}

#[test]
fn nobody_keeps_us_reading_descriptions() {
    let mut bench = Bench::started(v4());
    for number in 0..100 {
        let answer = SSDP.replace("rootDesc", &number.to_string());
        bench.hear("10.1.1.1:1900", answer.as_bytes());
    }
    while bench.call.is_some() {
        bench.answer(404, "");
        bench.hear("10.1.1.1:1900", SSDP.as_bytes());
    }
    assert_eq!(bench.calls, limits::IGD_ANSWERS);
}

#[test]
fn a_silent_router_is_asked_less_and_less() {
    let mut bench = Bench::started(v4());
    bench.pass(HOUR);
    let asked = bench.asked();
    let count = |kind| asked.iter().filter(|asked| **asked == kind).count();
    // RFC 6887: after 3, 6, 12, … 1024 s. RFC 6886: nine times, and again after a rest.
    assert!((9..=12).contains(&count(PCP_MAP)), "{asked:?}");
    assert!((27..=45).contains(&count(NAT_PMP_ADDRESS)), "{asked:?}");
    assert_eq!(bench.events(), []);
}

// ---- how long ----------------------------------------------------------------------------------------

#[test]
fn a_mapping_is_renewed_at_half_of_its_time() {
    let mut bench = Bench::started(v4());
    bench.hear(GATEWAY, &pcp_answer(0, 7200, 100, "192.0.2.17:4001"));
    bench.asked();
    for turn in 1..10 {
        bench.pass(HOUR - Duration::from_secs(1));
        assert_eq!(bench.asked(), [], "{turn}");
        bench.pass(Duration::from_secs(901));
        let request = bench.sent.back().unwrap().1.clone();
        assert_eq!(bench.asked(), [PCP_MAP], "{turn}");
        assert_eq!(request[42..44], 4001u16.to_be_bytes(), "the endpoint that it has");
        let epoch = 100 + turn * 4500;
        bench.hear(GATEWAY, &pcp_answer(0, 7200, epoch, "192.0.2.17:4001"));
    }
    assert_eq!(bench.events(), [mapped(Protocol::Pcp, "192.0.2.17:4001")]);
}

#[test]
fn renewals_without_an_answer_end_in_a_new_search() {
    let mut bench = Bench::started(v4());
    bench.hear(GATEWAY, &pcp_answer(0, 7200, 100, "192.0.2.17:4001"));
    bench.events();
    bench.asked();
    bench.pass(Duration::from_secs(7199));
    let renewals = bench.asked();
    assert!((5..=12).contains(&renewals.len()), "{renewals:?}");
    assert_eq!(bench.events(), []);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.events(), [lost(Protocol::Pcp, "192.0.2.17:4001")]);
    assert_eq!(bench.asked(), [PCP_MAP, NAT_PMP_ADDRESS]);
}

#[test]
fn upnp_asks_for_the_address_again_before_it_renews() {
    let mut bench = Bench::started(v4());
    bench.find_igd("WANIPConnection:1");
    bench.pass(limits::IGD_DELAY);
    bench.answer(200, "<Envelope/>");
    bench.events();
    bench.pass_until_call();
    assert!(bench.call().contains("#GetExternalIPAddress"), "{}", bench.call());
    bench.answer(200, &result("NewExternalIPAddress", "192.0.2.18"));
    assert!(bench.call().contains("#AddPortMapping\""), "{}", bench.call());
    bench.answer(200, "<Envelope/>");
    assert_eq!(bench.events(), [mapped(Protocol::Upnp, "192.0.2.18:4000")]);
    // Calls that are never answered: given up one by one, and the mapping with its lease.
    bench.pass(limits::IGD_LEASE);
    assert_eq!(bench.events(), [lost(Protocol::Upnp, "192.0.2.18:4000")]);
}

#[test]
fn a_router_that_has_restarted_is_asked_again_soon() {
    let announce =
        |epoch: u32| [&[2, 128, 0, 0, 0, 0, 0, 0][..], &epoch.to_be_bytes(), &[0; 12]].concat();
    let mut bench = Bench::started(v4());
    bench.hear(GATEWAY, &pcp_answer(0, 7200, 1000, "192.0.2.17:4001"));
    bench.asked();
    bench.pass(Duration::from_secs(100));
    bench.hear(GATEWAY, &announce(1100));
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.asked(), [], "it has all that it had");
    bench.hear(GATEWAY, &announce(1));
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.asked(), [PCP_MAP]);

    let mut bench = Bench::started(v4());
    bench.hear(GATEWAY, &nat_pmp_address(1000));
    bench.pass(limits::NAT_PMP_DELAY);
    bench.hear(GATEWAY, &nat_pmp_mapped(1000, 4002, 7200));
    bench.asked();
    bench.hear(GATEWAY, &nat_pmp_address(1));
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.asked(), [NAT_PMP_ADDRESS, NAT_PMP_MAP]);
}

#[test]
fn a_router_that_comes_up_is_asked_soon() {
    let mut bench = Bench::started(v4());
    bench.hear(GATEWAY, &pcp_answer(7, 30, 1, "0.0.0.0:0"));
    bench.pass(Duration::from_secs(1));
    bench.asked();
    bench.hear(GATEWAY, &[&[2, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &[0; 12]].concat());
    bench.pass(Duration::from_secs(5));
    assert!(bench.asked().contains(&PCP_MAP));
}

#[test]
fn a_new_public_address_is_told() {
    let mut bench = Bench::started(v4());
    bench.hear(GATEWAY, &nat_pmp_address(1000));
    bench.pass(limits::NAT_PMP_DELAY);
    bench.hear(GATEWAY, &nat_pmp_mapped(1000, 4002, 7200));
    let mut other = nat_pmp_address(1000);
    other[11] = 18;
    bench.hear(GATEWAY, &other);
    let expected =
        [mapped(Protocol::NatPmp, "192.0.2.17:4002"), mapped(Protocol::NatPmp, "192.0.2.18:4002")];
    assert_eq!(bench.events(), expected);
}

// ---- the end ---------------------------------------------------------------------------------------

/// The lifetimes of PCP requests since the last look, with their internal ports.
fn pcp_requests(bench: &mut Bench) -> Vec<(u16, u32)> {
    let requests = bench.sent.drain(..).filter(|(_, bytes)| bytes.len() == 60);
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
    requests.map(|(_, bytes)| (number(&bytes[40..42]) as u16, number(&bytes[4..8]))).collect()
}

#[test]
fn the_end_removes_the_mapping_and_knows_when_that_is_done() {
    let mut bench = Bench::started(v4());
    bench.hear(GATEWAY, &pcp_answer(0, 7200, 100, "192.0.2.17:4001"));
    pcp_requests(&mut bench);
    bench.mapper.stop(bench.now);
    bench.drain();
    assert_eq!(pcp_requests(&mut bench), [(PORT, 0)]);
    assert!(!bench.mapper.is_idle());
    bench.hear(GATEWAY, &pcp_answer(0, 0, 100, "192.0.2.17:4001"));
    assert!(bench.mapper.is_idle());
    // What was on its way comes too late.
    bench.hear(GATEWAY, &pcp_answer(0, 7200, 100, "192.0.2.17:4001"));
    assert!(bench.mapper.is_idle() && bench.mapper.poll_timeout().is_none());
}

#[test]
fn the_end_does_not_wait_for_ever() {
    let mut bench = Bench::started(v4());
    bench.hear(GATEWAY, &nat_pmp_address(1000));
    bench.pass(limits::NAT_PMP_DELAY);
    bench.hear(GATEWAY, &nat_pmp_mapped(1000, 4002, 7200));
    bench.asked();
    bench.mapper.stop(bench.now);
    bench.drain();
    bench.pass(limits::PORT_UNMAPPING_TIME);
    assert_eq!(bench.asked(), [NAT_PMP_MAP; limits::PORT_UNMAPPING_TRIES as usize]);
    assert!(bench.mapper.is_idle());
}

#[test]
fn the_end_of_upnp_is_a_call() {
    let mut bench = Bench::started(v4());
    bench.find_igd("WANIPConnection:1");
    bench.pass(limits::IGD_DELAY);
    // Even of a mapping that was not granted yet.
    for _ in 0..2 {
        bench.mapper.stop(bench.now);
        bench.drain();
    }
    assert!(bench.call().contains("#DeletePortMapping\""), "{}", bench.call());
    assert!(!bench.mapper.is_idle());
    bench.answer(200, "<Envelope/>");
    assert!(bench.mapper.is_idle());
    assert_eq!(bench.mapper.poll_timeout(), None);
}

#[test]
fn an_end_before_anything_was_granted_is_one_at_once() {
    let mut bench = Bench::started(v4());
    bench.mapper.stop(bench.now);
    bench.drain();
    assert!(bench.mapper.is_idle());
    assert_eq!(pcp_requests(&mut bench), [(PORT, 7200), (PORT, 0)], "it may yet be granted");
}

#[test]
fn another_port_takes_the_place_of_the_first() {
    let mut bench = Bench::started(v4());
    bench.hear(GATEWAY, &pcp_answer(0, 7200, 100, "192.0.2.17:4001"));
    pcp_requests(&mut bench);
    bench.mapper.start(4444, v4(), bench.now);
    bench.drain();
    assert_eq!(pcp_requests(&mut bench), [(PORT, 0), (4444, 7200)]);
    bench.hear(GATEWAY, &pcp_answer(0, 0, 100, "192.0.2.17:4001"));
    let grant = pcp_answer_of(4444, NONCE, 0, 7200, 100, "192.0.2.17:4444");
    bench.hear(GATEWAY, &grant);
    let expected =
        [mapped(Protocol::Pcp, "192.0.2.17:4001"), mapped(Protocol::Pcp, "192.0.2.17:4444")];
    assert_eq!(bench.events(), expected);
    // The same again changes nothing.
    bench.mapper.start(4444, v4(), bench.now);
    bench.drain();
    assert_eq!(pcp_requests(&mut bench), []);
}

#[test]
fn upnp_removes_what_is_left_of_an_earlier_port_first() {
    let mut bench = Bench::started(v4());
    bench.find_igd("WANIPConnection:1");
    bench.pass(limits::IGD_DELAY);
    bench.answer(200, "<Envelope/>");
    bench.mapper.start(4444, v4(), bench.now);
    bench.drain();
    assert!(bench.call().contains("#DeletePortMapping\""), "{}", bench.call());
    assert!(bench.call().contains("<NewExternalPort>4000<"), "{}", bench.call());
    bench.answer(200, "<Envelope/>");
    bench.find_igd("WANIPConnection:1");
    bench.pass(limits::IGD_DELAY);
    assert!(bench.call().contains("<NewInternalPort>4444<"), "{}", bench.call());
}

#[test]
fn another_network_is_asked_anew() {
    let mut bench = Bench::started(v4());
    bench.hear(GATEWAY, &pcp_answer(0, 7200, 100, "192.0.2.17:4001"));
    bench.events();
    bench.asked();
    bench.mapper.set_network(v4(), bench.now);
    bench.drain();
    assert_eq!(bench.asked(), []);
    let gateway = "10.2.2.1".parse().unwrap();
    let network = Network { v4: Some(Route { gateway, ..v4_route() }), v6: None };
    bench.mapper.set_network(network, bench.now);
    bench.drain();
    assert_eq!(bench.events(), [lost(Protocol::Pcp, "192.0.2.17:4001")]);
    let to_new = bench.sent.iter().filter(|(to, _)| *to == socket("10.2.2.1:5351")).count();
    assert_eq!(to_new, 2, "{:?}", bench.sent);
}

// ---- what it is worth -----------------------------------------------------------------------------

#[test]
fn what_another_nat_hides_is_worth_nothing() {
    let worth = |external: &str, known: &[&str]| {
        let known: Vec<IpAddr> = known.iter().map(|ip| ip.parse().unwrap()).collect();
        check(socket(external), &known)
    };
    let own = "192.168.1.2";
    assert_eq!(worth("203.0.113.7:4000", &[own, "203.0.113.7"]), Ok(()));
    assert_eq!(worth("203.0.113.7:4000", &[own, "203.0.113.8"]), Err(Worthless::Elsewhere));
    assert_eq!(worth("203.0.113.7:4000", &[own, "2001:db8::1"]), Ok(()), "nothing known of IPv4");
    for private in ["192.168.0.2:4000", "100.64.1.1:4000", "10.0.0.1:4000", "[fd00::1]:4000"] {
        assert_eq!(worth(private, &[own, "203.0.113.8"]), Err(Worthless::Private));
        assert_eq!(worth(private, &[own]), Err(Worthless::Private));
    }
    // S is in the same private network beyond the router.
    assert_eq!(worth("192.168.0.2:4000", &[own, "192.168.0.2"]), Ok(()));
    // A pinhole is one to an address of ours.
    assert_eq!(worth("[2001:db8::9]:4000", &[own, "2001:db8::9", "203.0.113.8"]), Ok(()));
    assert_eq!(worth("[2001:db8::9]:4000", &["2001:db8::1"]), Err(Worthless::Elsewhere));
}

//! `gimlet nat` behind real NATs: what it says is what the preset is, the rendezvous and a stock STUN server
//! agree, and the exit code says whether direct connections can be expected.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::namespace::Namespace;
use crate::nat::Nat;
use crate::peers::{Peer, Rendezvous};
use crate::programs::{Program, Stdout};
use crate::sockets::SOON;
use crate::topology::{Lab, S_V4};

/// How long a close look may take: a second or two where a NAT is silent, for each of its steps.
const LOOK: Duration = Duration::from_secs(40);

/// What must be seen.
struct Expected {
    mapping: &'static [&'static str],
    /// Where the mapping depends on the destination.
    ports: Option<&'static str>,
    direct: &'static str,
    /// With the easiest kind of NAT that isn't open, and with the hardest.
    with_eim: &'static str,
    with_random: &'static str,
}

const PREDICTABLE: Expected = Expected {
    mapping: &["endpoint-independent"],
    ports: None,
    direct: "expected",
    with_eim: "at-once",
    with_random: "guessing",
};

const SYMMETRIC: Expected =
    Expected { mapping: &["address-and-port-dependent"], with_random: "relayed", ..PREDICTABLE };

#[test]
fn nat_open_is_no_nat() {
    let expected = Expected { mapping: &["none"], ..PREDICTABLE };
    let (nat, _) = is_seen_as(Nat::OPEN, &expected);
    lets_everybody_in(&nat);
    assert_eq!(nat["advice"], json!([]));
}

#[test]
fn nat_eim_maps_endpoint_independently() {
    let (nat, _) = is_seen_as(Nat::EIM, &PREDICTABLE);
    filters_by_port(&nat);
    assert_eq!(nat["pooling"], "paired");
}

#[test]
fn nat_eim_eif_maps_endpoint_independently() {
    let (nat, _) = is_seen_as(Nat::EIM_EIF, &PREDICTABLE);
    lets_everybody_in(&nat);
    assert_eq!(nat["advice"], json!([]));
}

#[test]
fn nat_adm_maps_by_address() {
    let expected = Expected {
        mapping: &["address-dependent"],
        ports: Some("random"),
        direct: "likely",
        with_eim: "guessing",
        ..SYMMETRIC
    };
    is_seen_as(Nat::ADM, &expected);
}

#[test]
fn nat_sequential_is_predicted() {
    let expected = Expected { ports: Some("sequential"), with_eim: "prediction", ..SYMMETRIC };
    let (nat, _) = is_seen_as(Nat::SEQUENTIAL_2, &expected);
    filters_by_port(&nat);
    assert_eq!(nat["allocation"]["delta"], 2);
}

#[test]
fn nat_random_is_guessed_where_the_other_side_is_known() {
    let expected =
        Expected { ports: Some("random"), direct: "likely", with_eim: "guessing", ..SYMMETRIC };
    let (nat, _) = is_seen_as(Nat::RANDOM, &expected);
    let advice = nat["advice"].as_array().unwrap();
    assert!(advice.contains(&"endpoint-independent-mapping".into()), "{advice:?}");
}

#[test]
fn nat_block_is_a_carriers() {
    let expected =
        Expected { ports: Some("block"), direct: "likely", with_eim: "guessing", ..SYMMETRIC };
    let (nat, _) = is_seen_as(Nat::BLOCK, &expected);
    assert!(nat["allocation"]["first"].as_u64().unwrap() >= 20_480 - 64, "{nat}");
    let advice = nat["advice"].as_array().unwrap();
    assert!(advice.contains(&"carrier-nat".into()), "{advice:?}");
}

#[test]
fn nat_pool_arbitrary_keeps_the_port_and_changes_the_address() {
    // Two destinations, or all, may see the same of four addresses by chance.
    let mapping = &["endpoint-independent", "address-dependent", "address-and-port-dependent"];
    let expected =
        Expected { mapping, ports: Some("preserving"), with_random: "guessing", ..SYMMETRIC };
    let (nat, stock) = is_seen_as(Nat::POOL_ARBITRARY, &expected);
    for seen in [nat, stock] {
        assert_eq!(seen["pooling"], "arbitrary", "{seen}");
        assert!(seen["public_addresses"].as_array().unwrap().len() > 1, "{seen}");
    }
}

#[test]
fn nat_says_so_when_nothing_but_the_login_is_let_out() {
    let lab = Lab::plan().between(Nat::PRESERVING, Nat::OPEN).build();
    let rendezvous = Rendezvous::start(&lab);
    lab.routers[0].nft(
        "table inet guard {
            chain forward {
                type filter hook forward priority 0; policy accept;
                tcp dport { 8000, 8001 } reject with tcp reset
            }
        }",
    );
    let mut program = Peer::new(&lab.a, &rendezvous).nat(&[]);
    let nat = program.event("nat", SOON);
    assert_eq!(program.exit(SOON).code(), Some(11));
    assert_eq!((&nat["direct"], &nat["with"]), (&"unlikely".into(), &Value::Null));
    assert_eq!(nat["advice"][0], "open-outgoing");
    assert_eq!(nat["unreached"][0]["to"], "198.51.100.1:8000");
}

#[test]
fn nat_says_so_when_a_firewall_hides_the_hole_ports() {
    let (nat, code) = seen_where_dropped("8000, 8001");
    assert_eq!(code, Some(11), "{nat}");
    assert_eq!((&nat["mapping"], &nat["direct"]), (&"unknown".into(), &"unlikely".into()));
    let unreached = nat["unreached"].as_array().unwrap();
    assert_eq!(unreached.len(), 4, "two ports at two addresses: {nat}");
    assert_eq!(unreached[0], json!({ "to": "198.51.100.1:8000", "error": "no answer" }));
}

#[test]
fn nat_is_known_from_the_hole_ports_that_answer() {
    let (nat, code) = seen_where_dropped("8000");
    assert_eq!(code, Some(0), "{nat}");
    assert_eq!(nat["mapping"], "endpoint-independent");
    filters_by_port(&nat);
    let unreached = nat["unreached"].as_array().unwrap();
    assert_eq!(unreached.len(), 2, "one port at two addresses: {nat}");
}

/// What is seen from behind a router that lets nothing out to these ports, without a word.
fn seen_where_dropped(ports: &str) -> (Value, Option<i32>) {
    let lab = Lab::plan().between(Nat::PRESERVING, Nat::OPEN).build();
    let rendezvous = Rendezvous::start(&lab);
    lab.routers[0].nft(&format!(
        "table inet guard {{
            chain forward {{
                type filter hook forward priority 0; policy accept;
                tcp dport {{ {ports} }} drop
            }}
        }}"
    ));
    let mut program = Peer::new(&lab.a, &rendezvous).nat(&[]);
    // The kernel would try for two minutes.
    let nat = program.event("nat", LOOK);
    (nat, program.exit(SOON).code())
}

#[test]
fn nat_that_resets_the_unsolicited_is_told_to_be_silent() {
    let (nat, _) = is_seen_as(Nat::PRESERVING_RST, &PREDICTABLE);
    assert_eq!((&nat["refusal"], &nat["filtering"]), (&"rst".into(), &PORT_DEPENDENT.into()));
    let advice = nat["advice"].as_array().unwrap();
    assert!(advice.contains(&"drop-silently".into()), "{advice:?}");
}

#[test]
fn nat_measures_how_long_a_silent_connection_is_kept() {
    let lab = Lab::plan().between(Nat::EIM, Nat::OPEN).build();
    let rendezvous = Rendezvous::start(&lab);
    lab.routers[0].sysctl("netfilter/nf_conntrack_tcp_timeout_established", "4");
    let mut program = Peer::new(&lab.a, &rendezvous).nat(&["--lifetime", "8"]);
    let nat = program.event("nat", LOOK);
    program.succeed(SOON);
    let [lives, gone] = ["lives_ms", "gone_ms"].map(|end| nat["lifetime"][end].as_f64());
    assert!(lives.is_some_and(|lives| lives <= 4000.0), "{nat}");
    assert!(gone.is_some_and(|gone| gone <= 8000.0 && Some(gone) > lives), "{nat}");
    let advice = nat["advice"].as_array().unwrap();
    assert!(advice.contains(&"mapping-lifetime".into()), "{advice:?}");
}

const PORT_DEPENDENT: &str = "address-and-port-dependent";

/// Then nothing need be guessed, whatever the other side.
fn lets_everybody_in(nat: &Value) {
    assert_eq!(nat["filtering"], "endpoint-independent", "{nat}");
    assert_eq!(nat["with"]["random"], "at-once", "{nat}");
}

fn filters_by_port(nat: &Value) {
    assert_eq!((&nat["filtering"], &nat["refusal"]), (&PORT_DEPENDENT.into(), &"silence".into()));
}

/// The rendezvous' view and that of a stock STUN server, which must agree with each other and with what is
/// expected.
fn is_seen_as(preset: Nat, expected: &Expected) -> (Value, Value) {
    let lab = Lab::plan().between(preset, Nat::OPEN).delay_ms(5).build();
    let rendezvous = Rendezvous::start(&lab);
    let _stock = start_turnserver(&lab.s.namespace, &rendezvous);
    let peer = Peer::new(&lab.a, &rendezvous);
    let look = |arguments: &[&str]| {
        let mut program = peer.nat(arguments);
        let nat = program.event("nat", LOOK);
        println!("{}: {nat}", preset.name);
        assert_eq!(program.exit(SOON).code(), Some(0), "{nat}");
        assert_eq!(nat["exit_code"], 0);
        nat
    };
    let ours = look(&[]);
    let hole = look(&["--stun", &format!("{}:8000", S_V4[0])]);
    let stock = look(&["--stun", &S_V4[0].to_string()]);
    for nat in [&ours, &hole, &stock] {
        assert!(expected.mapping.contains(&nat["mapping"].as_str().unwrap()), "{nat}");
        assert_eq!(nat["mapping_certain"], true, "S has two addresses: {nat}");
        assert_eq!(nat["direct"], expected.direct, "{nat}");
        assert_eq!(nat["with"]["endpoint-independent"], expected.with_eim, "{nat}");
        if let Some(ports) = expected.ports {
            assert_eq!(nat["allocation"]["kind"], ports, "{nat}");
            assert_eq!(nat["allocation"]["delta"], ours["allocation"]["delta"], "{nat}");
        }
        let own = lab.a.own().to_string();
        let local = nat["local"].as_str().unwrap();
        assert!(local.starts_with(&own), "{nat}");
        let is_own = nat["public"] == json!([local]);
        assert_eq!(is_own, expected.mapping == ["none"], "{nat}");
    }
    // Only the rendezvous shows whom the NAT lets in, and with that nothing need be guessed.
    for nat in [&hole, &stock] {
        assert_eq!(nat["with"]["random"], expected.with_random, "{nat}");
        assert_eq!(nat["filtering"], "unknown", "{nat}");
    }
    (ours, stock)
}

/// coturn on both addresses of S, with the further endpoints of RFC 5780.
fn start_turnserver(namespace: &Namespace, rendezvous: &Rendezvous) -> Program {
    let found = Command::new("turnserver").arg("--version").output().is_ok();
    assert!(found, "the NAT lab needs the program turnserver: apt-get install coturn");
    let mut command = namespace.command("turnserver");
    command.args(["-n", "-v", "--stun-only", "--no-udp", "--no-dtls", "--no-tls", "--no-cli"]);
    command.args(["--log-file=stdout", "--simple-log"]);
    for (option, name) in [("--pidfile", "turnserver.pid"), ("--db", "turnserver.db")] {
        command.arg(option).arg(rendezvous.scratch(name));
    }
    for address in S_V4 {
        command.arg("-L").arg(address.to_string());
    }
    let program = Program::start("turnserver", command, Stdout::Lines);
    // It listens everywhere on its first address before it begins with the second.
    program.line("line about listening", SOON, |line| {
        line.contains(&format!("TCP listener opened on : {}:3479", S_V4[1]))
    });
    program
}

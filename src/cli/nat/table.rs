//! The findings for a person: a table in the terms of RFC 4787 and RFC 5382 with plain words beside them,
//! what they mean, and what could be changed.

use std::fmt::Display;
use std::net::SocketAddr;

use super::advice::Advice;
use super::findings::{Findings, PortMapped, Source};
use super::lifetime::words as silence;
use super::outlook::{OTHERS, Outlook};
use super::words;
use crate::proto::peer::Lifetime;
use crate::proto::portmap::Protocol;
use crate::wire::message::{Allocation, Filtering, Hairpinning, Mapping, Nat, Pooling, Refusal};

/// Longest line, in characters.
const WIDTH: usize = 100;

/// The width of the names of rows, and of the terms behind them.
const NAME: usize = 15;
const TERM: usize = 27;

/// All of it.
pub(crate) fn text(findings: &Findings, outlook: &Outlook, advice: &[Advice]) -> String {
    let mut text = format!("Your NAT, as {} sees it:\n\n", findings.source.place());
    for row in rows(findings) {
        text += &row.text();
    }
    text += &format!("\nWhat this means: {}.\n\n", outlook.direct.meaning());
    text += &meaning(outlook);
    if !advice.is_empty() {
        text += "\nWhat you could change:\n\n";
    }
    for advice in advice {
        text += &indented("  - ", &advice.text(findings));
    }
    text.truncate(text.trim_end().len());
    text
}

/// A line of the table.
struct Row {
    name: &'static str,
    term: String,
    meaning: String,
}

impl Row {
    fn new(name: &'static str, term: impl Display, meaning: impl Display) -> Self {
        Self { name, term: term.to_string(), meaning: meaning.to_string() }
    }

    fn text(&self) -> String {
        let first = format!("  {:NAME$} {:TERM$} ", self.name, self.term);
        match self.meaning.as_str() {
            "" => format!("{}\n", first.trim_end()),
            meaning => indented(&first, meaning),
        }
    }
}

/// What nobody has looked at is not called unknown: it isn't mysterious.
fn probed(term: &'static str) -> &'static str {
    if term == "unknown" { "not probed" } else { term }
}

fn rows(findings: &Findings) -> Vec<Row> {
    let nat = findings.nat;
    let mut rows = vec![Row::new("local address", findings.local, local(findings))];
    rows.extend(public(findings));
    rows.push(Row::new("mapping", words::mapping(nat.mapping), mapping(findings)));
    rows.push(Row::new("ports", words::allocation(nat.allocation), ports(nat)));
    if let Source::Rendezvous(_) = findings.source {
        rows.push(Row::new("pooling", probed(words::pooling(nat.pooling)), pooling(nat.pooling)));
        rows.push(Row::new("filtering", probed(words::filtering(nat.filtering)), filtering(nat)));
        rows.push(Row::new("uninvited SYN", probed(words::refusal(nat.refusal)), refusal(nat)));
        let hairpinning = probed(words::hairpinning(nat.hairpinning));
        rows.push(Row::new("hairpinning", hairpinning, hairpin(nat.hairpinning)));
    } else {
        let meaning = "how others come in, no STUN server shows over TCP";
        rows.push(Row::new("filtering", "not probed", meaning));
    }
    rows.extend(findings.port_mapped.iter().map(port_mapped));
    rows.push(ipv6(findings));
    rows.extend(findings.lifetime.map(lifetime));
    rows.extend(
        findings
            .unreached
            .iter()
            .map(|unreached| Row::new("not reached", unreached.to, &unreached.error)),
    );
    rows
}

fn local(findings: &Findings) -> &'static str {
    match findings.is_translated() {
        true => "known in your own network alone",
        false => "",
    }
}

fn public(findings: &Findings) -> Vec<Row> {
    let endpoints = findings.endpoints();
    let row = |(index, endpoint): (usize, &SocketAddr)| {
        let name = if index == 0 { "public address" } else { "" };
        let seen = findings.seen.iter().filter(|seen| seen.mapped == *endpoint);
        let by: Vec<String> = seen.map(|seen| seen.destination.to_string()).collect();
        Row::new(name, endpoint, format!("seen by {}", by.join(", ")))
    };
    let pool = findings.addresses().into_iter();
    let pool = pool.filter(|ip| endpoints.iter().all(|seen| seen.ip() != *ip));
    let pool = pool.map(|ip| Row::new("", ip, "another public address of yours"));
    endpoints.iter().enumerate().map(row).chain(pool).collect()
}

fn mapping(findings: &Findings) -> &'static str {
    match findings.nat.mapping {
        Mapping::Unknown if findings.is_way_out_blocked() => {
            "nothing but the port of the login answers"
        }
        Mapping::Unknown => "one destination alone answered: what another one sees is not known",
        Mapping::None => "no NAT: the public address is this machine's own",
        Mapping::EndpointIndependent if findings.may_depend_on_address() => {
            "one public endpoint for all ports of one address; other addresses were not tried"
        }
        Mapping::EndpointIndependent => {
            "one public endpoint for all destinations: others can be told where to reach you"
        }
        Mapping::AddressDependent => "each destination address sees you at another endpoint",
        Mapping::AddressAndPortDependent => "each destination sees you at another endpoint",
    }
}

fn ports(nat: Nat) -> String {
    let meaning = match nat.allocation {
        Allocation::Unknown if nat.mapping.is_shared() => {
            "which one a new connection gets doesn't matter here"
        }
        Allocation::Unknown => "no pattern was seen",
        Allocation::Preserving => "each connection keeps its local port",
        Allocation::Sequential { delta, busy } => {
            let others = match busy {
                0 => "nobody else takes any".to_owned(),
                busy => format!("others take some {busy} a second"),
            };
            return format!("the next is {delta:+} from the last, and {others}");
        }
        Allocation::Random => "a new connection gets any port at all",
        Allocation::Block { first, last } => {
            return format!("a new connection gets any port from {first} to {last}");
        }
    };
    meaning.to_owned()
}

fn pooling(pooling: Pooling) -> &'static str {
    match pooling {
        Pooling::Unknown => "",
        Pooling::Paired => "all connections leave from one public address",
        Pooling::Arbitrary => "connections leave from several public addresses",
    }
}

fn filtering(nat: Nat) -> &'static str {
    match (nat.filtering, nat.mapping) {
        (Filtering::Unknown, _) => "",
        (Filtering::EndpointIndependent, Mapping::None) => "anybody gets in",
        (Filtering::EndpointIndependent, _) => "anybody gets in at a mapped endpoint",
        (Filtering::AddressDependent, _) => "those get in, from any port, whom you have dialled",
        (Filtering::AddressAndPortDependent, _) => {
            "only the very endpoint gets in that you have dialled"
        }
    }
}

fn refusal(nat: Nat) -> &'static str {
    match nat.refusal {
        Refusal::Unknown if nat.filtering == Filtering::EndpointIndependent => "let in",
        Refusal::Unknown => "",
        Refusal::Silence => "dropped, so that the other side's dial goes on: good",
        Refusal::Rst => "refused: the other side has to dial again",
        Refusal::Icmp => "called unreachable: the other side has to dial again",
    }
}

fn hairpin(hairpinning: Hairpinning) -> &'static str {
    match hairpinning {
        Hairpinning::Unknown => "",
        Hairpinning::Supported => "machines behind it reach each other at their public addresses",
        Hairpinning::Unsupported => {
            "machines behind it reach each other at their private addresses alone"
        }
    }
}

fn port_mapped(mapped: &PortMapped) -> Row {
    let protocol = match mapped.mapping.protocol {
        Protocol::Pcp => "PCP",
        Protocol::NatPmp => "NAT-PMP",
        Protocol::Upnp => "UPnP",
    };
    let meaning = match mapped.worth {
        Ok(()) => format!("the router lets others in there, asked by {protocol}"),
        Err(why) => format!("the router maps it, asked by {protocol}, in vain: {why}"),
    };
    Row::new("port mapping", mapped.mapping.external, meaning)
}

fn ipv6(findings: &Findings) -> Row {
    let addresses = findings.ipv6();
    match addresses.first() {
        Some(address) => Row::new("IPv6", address, "nothing is translated there"),
        None => Row::new("IPv6", "none", "this machine has no global IPv6 address"),
    }
}

fn lifetime(lifetime: Lifetime) -> Row {
    let term = match (lifetime.lives.map(silence), lifetime.gone.map(silence)) {
        (Some(lives), Some(gone)) => format!("{lives} to {gone}"),
        (Some(lives), None) => format!("over {lives}"),
        (None, Some(gone)) => format!("below {gone}"),
        (None, None) => return Row::new("lifetime", "not known", "no connection could be tried"),
    };
    Row::new("lifetime", term, "a silent connection is kept for so long")
}

fn meaning(outlook: &Outlook) -> String {
    let Some(ways) = outlook.ways else {
        let text = "From here only the login reaches the rendezvous. Direct connections and the relay \
                    need other ports.";
        return indented("  ", text);
    };
    let mut text = "  If the other side has …\n".to_owned();
    let widest = OTHERS.iter().map(|other| other.meaning.chars().count()).max().unwrap_or(0);
    for (other, way) in OTHERS.iter().zip(ways) {
        text += &format!("  {:widest$}   {}\n", other.meaning, way.meaning());
    }
    text
}

/// Breaks a text into lines, the first of which begins with `first`, and the others below its end.
fn indented(first: &str, text: &str) -> String {
    let indent = first.chars().count();
    let mut lines = first.to_owned();
    let mut column = indent;
    for (index, word) in text.split_whitespace().enumerate() {
        let length = word.chars().count();
        if index > 0 && column + 1 + length > WIDTH {
            lines = lines.trim_end().to_owned() + "\n" + &" ".repeat(indent);
            column = indent;
        } else if index > 0 {
            lines.push(' ');
            column += 1;
        }
        lines += word;
        column += length;
    }
    lines + "\n"
}

#[cfg(test)]
mod tests {
    use super::super::advice::advice;
    use super::super::findings::tests::{behind, eim};
    use super::super::outlook::outlook;
    use super::*;
    use std::time::Duration;

    fn told(findings: &Findings) -> String {
        text(findings, &outlook(findings), &advice(findings))
    }

    #[test]
    fn no_line_is_longer_than_a_screen_is_wide() {
        let sequential = Allocation::Sequential { delta: 2, busy: 12 };
        let mut hard = behind(Mapping::AddressAndPortDependent, sequential);
        hard.nat.pooling = Pooling::Arbitrary;
        hard.nat.filtering = Filtering::AddressAndPortDependent;
        hard.nat.refusal = Refusal::Rst;
        hard.nat.hairpinning = Hairpinning::Unsupported;
        hard.pool = ["192.0.2.18", "192.0.2.17", "192.0.2.18"].map(|ip| ip.parse().unwrap()).into();
        assert_eq!(told(&hard).matches("192.0.2.18").count(), 1);
        for findings in [eim(), hard] {
            let text = told(&findings);
            let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(longest <= WIDTH, "{longest}:\n{text}");
            assert!(text.lines().all(|line| line.trim_end() == line), "{text}");
        }
    }

    #[test]
    fn the_table_says_what_was_seen() {
        let sequential = Allocation::Sequential { delta: 2, busy: 12 };
        let text = told(&behind(Mapping::AddressAndPortDependent, sequential));
        for words in [
            "Your NAT, as s.example:4000 sees it:",
            "\n  local address   10.0.0.2:5000",
            "\n  public address  192.0.2.17:7000             seen by 198.51.100.1:4000, ",
            "\n  mapping         address-and-port-dependent  each destination sees you",
            "\n  ports           sequential                  the next is +2 from the last, and others",
            "\n  IPv6            none",
            "direct connections can be expected.",
            "most home routers         direct, by predicting ports\n",
            "What you could change:\n\n  - Set the router's NAT type",
        ] {
            assert!(text.contains(words), "no {words:?} in:\n{text}");
        }
    }

    #[test]
    fn a_lifetime_is_told_as_a_range() {
        let told = |lives: Option<u64>, gone: Option<u64>| {
            let [lives, gone] = [lives, gone].map(|seconds| seconds.map(Duration::from_secs));
            lifetime(Lifetime { lives, gone }).term
        };
        assert_eq!(told(Some(30), Some(42)), "30 s to 42 s");
        assert_eq!(told(Some(300), None), "over 5 min 0 s");
        assert_eq!(told(None, Some(2)), "below 2 s");
        assert_eq!(told(None, None), "not known");
    }

    #[test]
    fn a_doubt_is_told_as_one() {
        let mut findings = eim();
        findings.seen.truncate(2);
        let text = told(&findings);
        assert!(text.contains("other addresses were not tried"), "{text}");
        findings.nat.mapping = Mapping::Unknown;
        findings.seen.truncate(1);
        findings.source = Source::Stun("stun.example:3478".into());
        let text = told(&findings);
        for words in ["one destination alone answered", "direct connections are likely"] {
            assert!(text.contains(words), "no {words:?} in:\n{text}");
        }
    }

    #[test]
    fn long_texts_go_on_below_their_beginning() {
        let text = indented("  - ", &"word ".repeat(30));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[1].starts_with("    word") && lines[0].len() > WIDTH - 5);
    }
}

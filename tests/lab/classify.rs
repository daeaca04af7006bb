//! A real peer classifies each preset as what it is, with a real rendezvous that has two addresses.
//!
//! Where the truth can't be told from inside, [`Truth`] says what is said instead:
//!
//! | what | is said to be | because |
//! |---|---|---|
//! | allocation and pooling without a NAT | unknown | nothing is handed out |
//! | refusal where everybody is let in | unknown | nobody is refused |
//! | an ICMP error after six seconds | silence | S waits for two |
//! | sequences, one for each address | random | what S sees says nothing of others |
//! | mapping with any of several addresses | any | by chance, all looks may show the same one |
//! | hairpinning where the mapping depends on the destination | unknown | a filter may be in the way |

use serde_json::Value;

use crate::nat::{ALL, Allocation, Family, Filtering, Mapping, Nat, Pool, Refusal};
use crate::peers::{Peer, Rendezvous};
use crate::sockets::{SOON, at};
use crate::topology::Lab;

/// A test for each preset.
macro_rules! is_known_for_what_it_is {
    ($($test:ident: $nat:expr),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                knows_itself($nat);
            }
        )*

        #[test]
        fn every_preset_with_ipv4_classifies_itself() {
            let tested = [$($nat),*];
            let mut of_v4 = ALL.iter().filter(|nat| nat.family == Family::V4);
            assert!(of_v4.all(|nat| tested.contains(nat)));
        }
    };
}

is_known_for_what_it_is! {
    an_open_host_knows_that_it_is: Nat::OPEN,
    firewall_is_known: Nat::FIREWALL,
    preserving_is_known: Nat::PRESERVING,
    preserving_rst_is_known: Nat::PRESERVING_RST,
    preserving_icmp_is_known: Nat::PRESERVING_ICMP,
    preserving_prohibited_is_known: Nat::PRESERVING_PROHIBITED,
    masquerade_is_known: Nat::MASQUERADE,
    patient_is_known: Nat::PATIENT,
    forgetful_is_known: Nat::FORGETFUL,
    eim_is_known: Nat::EIM,
    eim_adf_is_known: Nat::EIM_ADF,
    eim_eif_is_known: Nat::EIM_EIF,
    hairpin_is_known: Nat::HAIRPIN,
    pool_paired_is_known: Nat::POOL_PAIRED,
    double_is_known_for_its_outer_nat: Nat::DOUBLE,
    double_sequential_is_known_for_its_outer_nat: Nat::DOUBLE_SEQUENTIAL,
    crossing_dropped_is_known: Nat::CROSSING_DROPPED,
    crossing_reset_is_known: Nat::CROSSING_RESET,
    pool_arbitrary_is_known: Nat::POOL_ARBITRARY,
    adm_is_known: Nat::ADM,
    sequential_is_known: Nat::SEQUENTIAL,
    sequential_2_is_known: Nat::SEQUENTIAL_2,
    sequential_busy_5_is_known: Nat::SEQUENTIAL_BUSY_5,
    sequential_busy_20_is_known: Nat::SEQUENTIAL_BUSY_20,
    sequential_2_busy_5_is_known: Nat::SEQUENTIAL_2_BUSY_5,
    sequential_2_busy_20_is_known: Nat::SEQUENTIAL_2_BUSY_20,
    sequential_per_address_is_known_to_foretell_nothing: Nat::SEQUENTIAL_PER_ADDRESS,
    block_is_known: Nat::BLOCK,
    random_is_known: Nat::RANDOM,
    random_rst_is_known: Nat::RANDOM_RST,
    blocked_is_known: Nat::BLOCKED,
}

fn knows_itself(nat: Nat) {
    let lab = Lab::plan().between(nat, Nat::OPEN).build();
    let rendezvous = Rendezvous::start(&lab);
    let (peer, friend) = (Peer::new(&lab.a, &rendezvous), Peer::new(&lab.b, &rendezvous));
    // What is seen of two NATs is the outer one, since the inner ones keep ports.
    let truth = Truth::of(nat.chain().last().unwrap(), nat.foreign);
    // In one login of 64 such a pool happens to draw one address for all that is looked at.
    let logins = if matches!(nat.pool, Pool::Arbitrary(_)) { 3 } else { 1 };
    let mut differences = Vec::new();
    for _ in 0..logins {
        let shown = look(&peer, &friend);
        println!("{}: {shown}", nat.name);
        differences = truth.differences(&shown);
        if differences.is_empty() {
            break;
        }
    }
    assert_eq!(differences, Vec::<String>::new(), "{}", nat.name);
}

/// What a new login says of the peer's NAT.
fn look(peer: &Peer, friend: &Peer) -> serde_json::Value {
    let share = peer.share("web", at([127, 0, 0, 1], 8080), friend);
    loop {
        let event = share.event("mapping", SOON);
        if event["complete"] == true {
            return event;
        }
    }
}

/// What should be said of a NAT.
struct Truth {
    mapping: &'static [&'static str],
    allocation: &'static str,
    block: Option<(u16, u16)>,
    /// The step, and the connections of others a second.
    sequence: Option<(u16, u32)>,
    pooling: &'static str,
    filtering: &'static str,
    refusal: &'static str,
    hairpinning: &'static str,
}

impl Truth {
    fn of(nat: &Nat, foreign: u32) -> Self {
        let is_translated = nat.mapping != Mapping::None;
        let lets_everybody_in =
            matches!(nat.filtering, Filtering::None | Filtering::EndpointIndependent);
        let block = match nat.allocation {
            Allocation::Random { first, last } if last - first < 4096 => Some((first, last)),
            _ => None,
        };
        let sequence = match nat.allocation {
            Allocation::Sequential { step } => Some((step, foreign)),
            _ => None,
        };
        Self {
            mapping: match (nat.mapping, nat.pool) {
                (_, Pool::Arbitrary(_)) => {
                    &["address-and-port-dependent", "address-dependent", "endpoint-independent"]
                }
                (Mapping::None, _) => &["none"],
                (Mapping::EndpointIndependent, _) => &["endpoint-independent"],
                (Mapping::AddressDependent, _) => &["address-dependent"],
                (Mapping::AddressAndPortDependent, _) => &["address-and-port-dependent"],
            },
            allocation: match nat.allocation {
                _ if !is_translated => "unknown",
                Allocation::Preserving => "preserving",
                Allocation::Sequential { .. } => "sequential",
                Allocation::Random { .. } if block.is_some() => "block",
                Allocation::Random { .. } | Allocation::SequentialPerAddress => "random",
            },
            block,
            sequence,
            pooling: match nat.pool {
                _ if !is_translated => "unknown",
                Pool::One | Pool::Paired(_) => "paired",
                Pool::Arbitrary(_) => "arbitrary",
            },
            filtering: match nat.filtering {
                Filtering::None | Filtering::EndpointIndependent => "endpoint-independent",
                Filtering::AddressDependent => "address-dependent",
                Filtering::AddressAndPortDependent => "address-and-port-dependent",
            },
            refusal: match nat.refusal {
                _ if lets_everybody_in => "unknown",
                Refusal::Silence | Refusal::LateIcmp => "silence",
                Refusal::Rst | Refusal::OwnRst => "rst",
                Refusal::Icmp(_) => "icmp",
            },
            hairpinning: match nat.mapping {
                Mapping::EndpointIndependent if nat.hairpin => "supported",
                Mapping::EndpointIndependent => "unsupported",
                _ => "unknown",
            },
        }
    }

    fn differences(&self, shown: &Value) -> Vec<String> {
        let mut found = Vec::new();
        let fields = [
            ("allocation", self.allocation),
            ("pooling", self.pooling),
            ("filtering", self.filtering),
            ("refusal", self.refusal),
            ("hairpinning", self.hairpinning),
        ];
        for (field, expected) in fields {
            if shown[field] != expected {
                found.push(format!("{field} is {expected}"));
            }
        }
        if !self.mapping.iter().any(|mapping| shown["mapping"] == *mapping) {
            found.push(format!("mapping is {:?}", self.mapping));
        }
        if let Some((first, last)) = self.block
            && !(shown["first"].as_u64() <= Some(first.into())
                && shown["last"].as_u64() >= Some(last.into()))
        {
            found.push(format!("the block is {first} to {last}"));
        }
        if let Some((step, foreign)) = self.sequence {
            let busy = shown["busy"].as_u64().unwrap();
            // In two seconds ten come, or forty: none at all is out of the question.
            let is_busy = if foreign == 0 { busy <= 1 } else { busy > 0 };
            if shown["delta"] != step || !is_busy || busy > 4 * u64::from(foreign) + 1 {
                found.push(format!("the step is {step}, with {foreign} of others a second"));
            }
        }
        found
    }
}

//! The kernel's NATs, and the userspace one, do what is agreed with the simulator.

use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use crate::agreed_table::{self as agreed, Bench, Knocker, LOCAL, Line, TABLE};
use crate::behaviour::{self, SILENCE, knock, probe};
use crate::nat::Nat;
use crate::sockets::{SOON, at, dial, listen};
use crate::topology::{Lab, S_V4};

struct LabBench {
    /// Given up for another one: a test holds one at a time.
    lab: Option<Lab>,
    nat: Nat,
    /// What was observed stays open.
    alive: Vec<[std::net::TcpStream; 2]>,
}

impl LabBench {
    fn new(nat: Nat) -> Self {
        let lab = Lab::plan().between(nat, Nat::OPEN).build();
        Self { lab: Some(lab), nat, alive: Vec::new() }
    }
}

impl LabBench {
    fn lab(&self) -> &Lab {
        self.lab.as_ref().expect("crossing is looked at last")
    }
}

impl Bench for LabBench {
    fn observe(&mut self, local: u16, address: usize, port: u16) -> SocketAddr {
        let lab = self.lab();
        let (seen, both) = probe(lab, &lab.a, local, at(S_V4[address], port));
        self.alive.push(both);
        seen
    }

    fn refused(&mut self, local: u16, port: u16) {
        let a = &self.lab().a;
        let dialled = dial(&a.namespace, at(a.own(), local), at(S_V4[0], port), SOON);
        let error = dialled.expect_err("nobody listens").kind();
        assert_eq!(error, std::io::ErrorKind::ConnectionRefused);
    }

    fn knock(&mut self, from: Knocker, to: SocketAddr) -> agreed::Answer {
        let lab = self.lab();
        let _listener = listen(&lab.a.namespace, at(lab.a.own(), LOCAL));
        let (host, own) = match from {
            Knocker::OtherPort => (&lab.s, S_V4[0].into()),
            Knocker::Stranger => (&lab.b, lab.b.own()),
        };
        match knock(host, at(own, 9555), to, SILENCE) {
            behaviour::Answer::LetIn => agreed::Answer::LetIn,
            behaviour::Answer::Silence => agreed::Answer::Silence,
            behaviour::Answer::Rst => agreed::Answer::Rst,
            behaviour::Answer::Icmp(code) | behaviour::Answer::LateIcmp(code) => {
                agreed::Answer::Icmp(code)
            }
        }
    }

    fn crosses(&mut self) -> bool {
        self.alive.clear();
        self.lab = None;
        let lab = Lab::plan().between(self.nat, self.nat).delay_ms(20).build();
        let (a, _alive_a) = probe(&lab, &lab.a, LOCAL, at(S_V4[0], 9001));
        let (b, _alive_b) = probe(&lab, &lab.b, LOCAL, at(S_V4[0], 9002));
        let together = Barrier::new(2);
        let dials = thread::scope(|scope| {
            [(&lab.a, b), (&lab.b, a)]
                .map(|(host, to)| {
                    let together = &together;
                    scope.spawn(move || {
                        together.wait();
                        let own = at(host.own(), LOCAL);
                        dial(&host.namespace, own, to, Duration::from_millis(1500)).is_ok()
                    })
                })
                .map(|dial| dial.join().unwrap())
        });
        dials[0] && dials[1]
    }
}

#[test]
fn nats_do_what_is_agreed_with_the_simulator() {
    for line in &TABLE {
        let Line { nat, .. } = line;
        for nat in Nat::named(nat).expect("the table names presets").engines() {
            println!("{} in {:?}", nat.name, nat.engine);
            agreed::check(line, &mut LabBench::new(nat));
        }
    }
}

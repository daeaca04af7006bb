//! Whatever is heard, in whatever order.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    Bench, HOUR, SSDP, description, nat_pmp_address, nat_pmp_mapped, pcp_answer, result, v4,
};

#[derive(Clone, Debug)]
enum Step {
    Hear(usize, usize, Vec<u8>),
    Answer(usize, u16),
    Pass(u64),
    Start(u16),
    Stop,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let garbage = prop::collection::vec(any::<u8>(), 0..64);
    let step = prop_oneof![
        6 => (0..3usize, 0..7usize, garbage).prop_map(|(from, what, bytes)| Step::Hear(from, what, bytes)),
        6 => (0..7usize, prop::sample::select(vec![200u16, 500, 302])).prop_map(|(what, status)| Step::Answer(what, status)),
        4 => (0..20_000_000u64).prop_map(Step::Pass),
        4 => (0..5_000u64).prop_map(Step::Pass),
        1 => (4000..4003u16).prop_map(Step::Start),
        1 => Just(Step::Stop),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    /// Whatever is heard when: no panic, one call at a time, and after the end nothing goes on.
    #[test]
    fn any_history_ends_in_peace(steps in steps()) {
        let mut bench = Bench::started(v4());
        for step in steps {
            match step {
                Step::Hear(from, what, garbage) => {
                    let from = ["10.1.1.1:5351", "10.1.1.1:1900", "10.1.1.9:1900"][from];
                    let bytes = match what {
                        0 => pcp_answer(0, 7200, 100, "192.0.2.17:4001"),
                        1 => pcp_answer(8, 30, 100, "0.0.0.0:0"),
                        2 => nat_pmp_address(100),
                        3 => nat_pmp_mapped(100, 4002, 300),
                        4 => SSDP.into(),
                        5 => vec![0, 129, 0, 1, 0, 0, 0, 5],
                        _ => garbage,
                    };
                    bench.hear(from, &bytes);
                }
                Step::Answer(what, status) if bench.call.is_some() => {
                    let body = match what {
                        0 => description("WANIPConnection:1"),
                        1 => description("WANPPPConnection:1"),
                        2 => result("NewExternalIPAddress", "192.0.2.17"),
                        3 => result("NewReservedPort", "4010"),
                        4 => result("errorCode", "718"),
                        5 => result("errorCode", "725"),
                        _ => "nonsense".to_owned(),
                    };
                    bench.answer(status, &body);
                }
                Step::Answer(..) => {}
                Step::Pass(ms) => bench.pass(Duration::from_millis(ms)),
                Step::Start(port) => {
                    bench.mapper.start(port, v4(), bench.now);
                    bench.drain();
                }
                Step::Stop => {
                    bench.mapper.stop(bench.now);
                    bench.drain();
                }
            }
        }
        bench.mapper.stop(bench.now);
        bench.drain();
        bench.pass(HOUR);
        prop_assert!(bench.mapper.is_idle());
        prop_assert_eq!(bench.mapper.poll_timeout(), None);
        prop_assert_eq!(bench.mapper.mappings().count(), 0);
        prop_assert!(bench.call.is_none());
    }
}

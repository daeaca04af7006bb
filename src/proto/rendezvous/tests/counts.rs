//! What is counted for the operator.

use super::*;
use crate::proto::nat::NatClass;

#[test]
fn an_end_is_counted_by_the_two_nats_whoever_asked_and_its_time_if_it_is_direct() {
    let mut world = World::new();
    let (a, b) = (world.open(1), world.open_behind(2, Mapping::AddressAndPortDependent));
    for (request, from, to) in [(1, a, 2), (2, b, 1)] {
        world.introduce(from, request, to);
        world.pass(Duration::from_millis(70));
        let tag = world.prepared(b, 1);
        world.probe_beside(b, tag, &["203.0.113.2:6003", "203.0.113.2:6002"]);
        assert_eq!(world.probe(b, tag, 1, "203.0.113.2:6001"), ProbeVerdict::Tied);
        let (to_one, _) = world.releases(a, b);
        let result = [RoundResult::Connected, RoundResult::Relayed][usize::from(request == 2)];
        world.outcome(from, to_one.introduction, 1, result);
    }
    world.introduce(a, 3, 2);
    world.close(b);
    let stats = world.s.stats();
    let pairs: Vec<_> = stats.nat_pairs.iter().collect();
    let counts = [1, 1, 0, 0, 0, 1];
    assert_eq!(pairs, [([NatClass::Sequential, NatClass::Unknown], &counts)]);
    assert_eq!(Outcome::ALL.map(|outcome| stats.ended(outcome)), counts);
    let (direct, took) = (stats.time_to_direct.total(), stats.time_to_direct.sum());
    assert_eq!((direct, took), (1, Duration::from_millis(70)));
    let places = Outcome::ALL.map(|outcome| outcome as usize);
    assert_eq!(places, [0, 1, 2, 3, 4, 5], "an outcome is its place in the list");
}

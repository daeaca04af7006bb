//! The simulator comes to the same ends as the lab, pair by pair.

use std::time::Duration;

use gimlet::proto::punch::Preference;

use crate::expect;
use crate::nat::Nat;
use crate::packet::{MILLISECOND, SECOND};
use crate::path::{Conditions, Place};
use crate::play::Ending;
use crate::router::Habits;
use crate::scenarios::{End, ONE_WAY_MS, SCENARIOS};
use crate::site::{Layout, Person};
use crate::story::{Ask, Kind, Story};
use crate::theory::{self, Prospect};

/// Stories of each pair.
const STORIES: u64 = 20;

#[test]
fn pairs_end_as_they_do_in_the_lab() {
    for (a, b, end) in SCENARIOS {
        let told = (0..STORIES).filter(|seed| {
            let played = story(a, b, *seed).play(false);
            assert!(played.faults.is_empty(), "{} → {}: {:#?}", a.name, b.name, played.faults);
            played.endings == [if end == End::Direct { Ending::Direct } else { Ending::Relayed }]
        });
        let (as_expected, certain) = (told.count() as u64, is_certain(&a, &b));
        println!("{} → {}: {end:?} in {as_expected} of {STORIES} stories", a.name, b.name);
        let enough = if certain { STORIES } else { STORIES * 95 / 100 };
        assert!(as_expected >= enough, "{} → {}: {end:?} in {as_expected}", a.name, b.name);
    }
}

#[test]
fn the_theory_says_the_same() {
    for (a, b, end) in SCENARIOS {
        let possible = theory::is_possible(&a, &b);
        assert_eq!(end == End::Direct, possible, "{} and {}", a.name, b.name);
    }
}

fn is_certain(a: &Nat, b: &Nat) -> bool {
    matches!(theory::prospect(a, b), Prospect::Sure | Prospect::Never)
}

/// As a trial of the lab is: B has looked at its NAT when A starts, which asks at once.
fn story(a: Nat, b: Nat, seed: u64) -> Story {
    let place = Place { access: ONE_WAY_MS * MILLISECOND / 2, ..Place::default() };
    let person = Person { place, offset: Duration::ZERO, sockets: 5000, spare_holes: 0 };
    let start = 4 * SECOND;
    let mut story = Story {
        seed,
        kind: Kind::Calm,
        layout: Layout::Apart([a, b]),
        s: place,
        people: [person; 2],
        habits: Habits::LINUX,
        conditions: Conditions::default(),
        relay: true,
        starts: [start, 0],
        asks: vec![Ask { at: start, who: 0, preference: Preference::Any }],
        troubles: Vec::new(),
        expect: expect::Expect::Anything,
    };
    story.expect = expect::of(&story);
    story
}

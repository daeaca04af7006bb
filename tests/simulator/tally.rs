//! Counts what came of many stories, and says what happens too rarely.

use std::collections::BTreeMap;
use std::fmt;

use crate::expect::Expect;
use crate::play::{Ending, Played};
use crate::story::Story;

#[derive(Default)]
struct Count {
    direct: u64,
    all: u64,
    /// Some seeds of stories that were not direct.
    missed: Vec<u64>,
}

#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) stories: u64,
    pub(crate) punches: u64,
    pub(crate) packets: u64,
    pub(crate) endings: BTreeMap<(Expect, Ending), u64>,
    /// Of each pair of NATs for which ports are predicted or guessed: how many were direct, of how many.
    pairs: BTreeMap<[&'static str; 2], Count>,
    pub(crate) faults: Vec<String>,
}

impl Tally {
    pub(crate) fn add(&mut self, story: &Story, played: &Played) {
        self.stories += 1;
        self.packets += played.packets;
        self.punches += played.endings.len() as u64;
        for ending in &played.endings {
            *self.endings.entry((story.expect, *ending)).or_default() += 1;
        }
        // The second punch of a login is no independent try: both rest on what the login has learnt.
        if let (Expect::Mostly, Some(pair), Some(first)) =
            (story.expect, story.pair(), played.endings.first())
        {
            let count = self.pairs.entry(pair).or_default();
            count.all += 1;
            match first {
                Ending::Direct => count.direct += 1,
                Ending::Relayed | Ending::Failed => count.missed.push(story.seed),
            }
        }
        let seed = story.seed;
        let words = |fault: &String| format!("seed {seed} ({:?}): {fault}", story.layout_name());
        self.faults.extend(played.faults.iter().map(words));
    }

    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.stories += other.stories;
        self.punches += other.punches;
        self.packets += other.packets;
        for (key, count) in other.endings {
            *self.endings.entry(key).or_default() += count;
        }
        for (pair, count) in other.pairs {
            let entry = self.pairs.entry(pair).or_default();
            entry.direct += count.direct;
            entry.all += count.all;
            entry.missed.extend(count.missed);
        }
        self.faults.extend(other.faults);
        self
    }

    /// Pairs that are direct so rarely that 95 % can't be their rate.
    pub(crate) fn surprises(&self) -> Vec<String> {
        let rare = self
            .pairs
            .iter()
            .filter(|(_, count)| chance_of_at_most(count.direct, count.all, 0.95) < 1e-4)
            .map(|([a, b], count)| {
                let Count { direct, all, missed } = count;
                format!("{a} and {b}: {direct} of {all} are direct, not seeds {missed:?}")
            });
        let all: u64 = self.pairs.values().map(|count| count.all).sum();
        let direct: u64 = self.pairs.values().map(|count| count.direct).sum();
        let too_few = chance_of_at_most(direct, all, 0.95) < 1e-4;
        let too_few = too_few.then(|| format!("of all pairs, {direct} of {all} are direct"));
        rare.chain(too_few).collect()
    }
}

/// The chance that of `all` tries, each of which succeeds with the probability `p`, at most `found` do: that
/// as many fail as did, or more.
fn chance_of_at_most(found: u64, all: u64, p: f64) -> f64 {
    let (mut term, mut fewer) = (p.powi(all as i32), 0.0);
    for failed in 0..all - found {
        fewer += term;
        term *= (all - failed) as f64 / (failed + 1) as f64 * (1.0 - p) / p;
    }
    1.0 - fewer
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} stories, {} punches, {} packets",
            self.stories, self.punches, self.packets
        )?;
        for ((expect, ending), count) in &self.endings {
            writeln!(f, "  expected {expect:?}, ended {ending:?}: {count}")?;
        }
        for ([a, b], Count { direct, all, missed }) in &self.pairs {
            writeln!(f, "  {a} and {b}: {direct} of {all}, not {missed:?}")?;
        }
        Ok(())
    }
}

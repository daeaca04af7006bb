//! What must hold at the end of each story, whatever happened in it.

use gimlet::proto::punch::{Outcome, Preference};
use gimlet::wire::message::{Filtering, Refusal, Role};

use crate::expect::Expect;
use crate::nat::{self, Nat};
use crate::peer::Ended;
use crate::play::{Ending, LONGEST_PUNCH, Play, ending};
use crate::site::{Layout, key};
use crate::world::App;

pub(crate) fn check(play: &mut Play<'_>) {
    let mut faults = Vec::new();
    for who in 0..2 {
        every_punch_ends(play, who, &mut faults);
        winners_are_the_peer(play, who, &mut faults);
        preferences_are_kept(play, who, &mut faults);
    }
    both_sides_have_one_winner(play, &mut faults);
    if play.is_calm() {
        both_sides_agree(play, &mut faults);
        theory_holds(play, &mut faults);
        for who in 0..2 {
            filters_are_known(play, who, &mut faults);
        }
    }
    play.faults.append(&mut faults);
}

/// One end for each request, but for those whose process is gone; and in time.
fn every_punch_ends(play: &Play<'_>, who: usize, faults: &mut Vec<String>) {
    for (_, ended) in &play.ended[who] {
        if ended.report.elapsed > LONGEST_PUNCH {
            faults.push(format!("a punch has taken {:?}:\n{}", ended.report.elapsed, ended.report));
        }
    }
    for process in 0..=play.processes[who] {
        let asked = play.asked.iter().filter(|asked| (asked.who, asked.process) == (who, process));
        let own =
            |(its, ended): &&(u32, Ended)| *its == process && ended.report.role == Role::Controller;
        let (asked, ended) = (asked.count(), play.ended[who].iter().filter(own).count());
        let lives = process == play.processes[who] && play.is_running(who);
        if ended > asked || (lives && ended < asked) {
            faults.push(format!("{asked} punches were asked for, {ended} have ended"));
        }
    }
}

/// Who is at the other end has proved to be who was asked for.
fn winners_are_the_peer(play: &Play<'_>, who: usize, faults: &mut Vec<String>) {
    let other = key(2 - who);
    for (_, ended) in &play.ended[who] {
        let Some(winner) = &ended.winner else { continue };
        if winner.proved != other || ended.report.peer != other.peer_id() {
            faults.push(format!("the winner is somebody else: {winner:?}"));
        }
        let mut same = play.ended[who].iter().filter_map(|(_, ended)| ended.winner.as_ref());
        if same.by_ref().filter(|its| its.sequences == winner.sequences).count() > 1 {
            faults.push(format!("one connection has won twice: {winner:?}"));
        }
    }
}

/// Who refuses the relay isn't relayed, and who asks for it is.
fn preferences_are_kept(play: &Play<'_>, who: usize, faults: &mut Vec<String>) {
    for (_, ended) in &play.ended[who] {
        let fits = match (ended.report.preference, ending(ended)) {
            (Preference::DirectOnly, ending) => ending != Ending::Relayed,
            (Preference::RelayOnly, ending) => ending != Ending::Direct,
            (Preference::Any, _) => true,
        };
        if !fits {
            faults.push(format!("{:?}, and it is not:\n{}", ended.report.preference, ended.report));
        }
    }
}

/// Where both sides of an introduction have a winner, it is one and the same connection.
fn both_sides_have_one_winner(play: &Play<'_>, faults: &mut Vec<String>) {
    for (_, a) in &play.ended[0] {
        let Some(of_a) = &a.winner else { continue };
        let mut others = counterparts(play, a).peekable();
        let found = others.peek().is_none()
            || others.any(|b| {
                let of_b = b.winner.as_ref().expect("counterparts have winners");
                if ending(a) == Ending::Relayed {
                    return ending(b) == Ending::Relayed;
                }
                of_b.sequences == (of_a.sequences.1, of_a.sequences.0)
            });
        if !found {
            let others: Vec<_> = counterparts(play, a).map(|b| &b.winner).collect();
            faults.push(format!("two winners: {of_a:?} and {others:?}"));
        }
    }
}

/// What B has won in the same introduction.
fn counterparts<'p>(play: &'p Play<'_>, a: &'p Ended) -> impl Iterator<Item = &'p Ended> {
    let token = |ended: &Ended| ended.winner.as_ref().and_then(|winner| winner.token);
    play.ended[1].iter().map(|(_, b)| b).filter(move |b| {
        token(b) == token(a) && b.report.role != a.report.role && b.winner.is_some()
    })
}

/// Where nothing is lost, both sides say the same of each punch.
fn both_sides_agree(play: &Play<'_>, faults: &mut Vec<String>) {
    for (_, a) in &play.ended[0] {
        let b = play.ended[1].iter().map(|(_, b)| b).find(|b| {
            b.report.introduction == a.report.introduction && b.report.role != a.report.role
        });
        let same = b.is_some_and(|b| ending(a) == ending(b));
        if !same {
            let b = b.map(|b| &b.report.outcome);
            faults.push(format!("A says {:?}, B says {b:?}", a.report.outcome));
        }
    }
}

/// What S's dials back have shown is what the NATs do. Of several, the strictest counts; what keeps a SYN out
/// answers it.
fn filters_are_known(play: &Play<'_>, who: usize, faults: &mut Vec<String>) {
    let App::Peer(peer) = &play.world.hosts[who + 1].app else { return };
    let found = peer.machine.nat();
    let nats: Vec<Nat> = match play.story.layout {
        Layout::Apart(nats) => nats[who].chain().copied().collect(),
        Layout::OneLan(nat) => nat.chain().copied().collect(),
        Layout::OneCarrier { homes, carrier } => vec![homes[who], carrier],
    };
    let strictness = |nat: &Nat| match nat.filtering {
        nat::Filtering::None | nat::Filtering::EndpointIndependent => {
            Filtering::EndpointIndependent
        }
        nat::Filtering::AddressDependent => Filtering::AddressDependent,
        nat::Filtering::AddressAndPortDependent => Filtering::AddressAndPortDependent,
    };
    let filtering = nats.iter().map(strictness).max_by_key(|it| *it as u8).unwrap_or_default();
    let answer = |nat: &Nat| match nat.refusal {
        nat::Refusal::Silence | nat::Refusal::LateIcmp => Refusal::Silence,
        nat::Refusal::Rst | nat::Refusal::OwnRst => Refusal::Rst,
        nat::Refusal::Icmp(_) => Refusal::Icmp,
    };
    let refusal = match nats.as_slice() {
        _ if filtering == Filtering::EndpointIndependent => Some(Refusal::Unknown),
        [nat] => Some(answer(nat)),
        // The first whose filter is in the way answers: that is for the lab to say.
        _ => None,
    };
    // A guess may have taken all the ports of a made-up NAT: then there is no hole to look from.
    let starved = found.filtering == Filtering::Unknown && play.story.expect == Expect::Anything;
    let seen = found.filtering == filtering && refusal.is_none_or(|it| it == found.refusal);
    let fits = seen || starved;
    if !fits {
        let found = (found.filtering, found.refusal);
        let name = ["A", "B"][who];
        faults.push(format!("{name} has found {found:?}, and it is {filtering:?}, {refusal:?}"));
    }
}

fn theory_holds(play: &Play<'_>, faults: &mut Vec<String>) {
    let all = play.ended.iter().flatten().map(|(_, ended)| ended);
    for ended in all.filter(|ended| ended.report.role == Role::Controller) {
        let fits = match (ending(ended), play.story.expect) {
            // A guess may have taken all the ports of a made-up NAT.
            (Ending::Failed, Expect::Anything) => true,
            (Ending::Direct, expect) => expect != Expect::Never,
            (Ending::Relayed, expect) => expect != Expect::Direct && play.story.relay,
            (Ending::Failed, expect) => expect != Expect::Direct && !play.story.relay,
        };
        if !fits {
            let reason = match &ended.report.outcome {
                Outcome::Connected(winner) => {
                    format!("{} in round {}", winner.path(), winner.round)
                }
                other => format!("{other:?}"),
            };
            faults.push(format!(
                "{:?} is expected, relay {}, and it is {reason}\n{}",
                play.story.expect, play.story.relay, ended.report
            ));
        }
    }
}

//! Plays a story: starts the peers, has them ask, lets go wrong what must, and looks at what is left.

use std::time::Duration;

use gimlet::proto::peer::PunchId;
use gimlet::proto::punch::Outcome;
use gimlet::wire::message::Role;

use crate::invariants;
use crate::packet::{Nanos, SECOND};
use crate::peer::Ended;
use crate::site::{self, A, B, S};
use crate::story::{Ask, Kind, Story, Trouble};
use crate::stranger::{Manners, Stranger};
use crate::world::{App, World};

/// How a punch ended for who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Ending {
    Direct,
    Relayed,
    Failed,
}

/// What came of a story.
pub(crate) struct Played {
    pub(crate) endings: Vec<Ending>,
    /// Promises that were broken.
    pub(crate) faults: Vec<String>,
    pub(crate) packets: u64,
    pub(crate) digest: u64,
}

#[derive(Clone, Copy, Debug)]
enum Cue {
    Start(usize),
    Ask(usize),
    Trouble(usize),
    StartS,
    Restart(usize),
    /// Nothing goes wrong any more.
    Quiet,
    /// All punches must be over.
    Over,
    /// Streams are closed by now.
    Closed,
    /// The peers have stopped.
    Gone,
}

/// After this nothing is lost any more, or it would never end.
const ROUGH_TIME: Nanos = 35 * SECOND;

/// Until all is quiet: who lost S without a word has noticed it, has come back, and has looked at its NAT; and
/// spare holes, which live for a minute, are gone.
const LONGEST_STORY: Nanos = 180 * SECOND;

/// A punch ends within this time (INTRODUCTION_TIME), and whatever a busy clock adds.
pub(crate) const LONGEST_PUNCH: Duration = Duration::from_millis(30_001);

/// Until the last closed socket is forgotten: FIN_WAIT_2, or the repetitions of a FIN; or keepalive has
/// found out who is gone.
const LONGEST_CLOSE: Nanos = 150 * SECOND;

/// A punch that was asked for, by the process that was asked.
pub(crate) struct Asked {
    pub(crate) who: usize,
    pub(crate) process: u32,
    pub(crate) punch: PunchId,
}

pub(crate) struct Play<'a> {
    pub(crate) story: &'a Story,
    pub(crate) world: World,
    cues: Vec<Cue>,
    /// The process that runs on A, on B: counted.
    pub(crate) processes: [u32; 2],
    pub(crate) asked: Vec<Asked>,
    /// What has ended, with the process in which it did.
    pub(crate) ended: [Vec<(u32, Ended)>; 2],
    restarts: u64,
    s_down: u32,
    pub(crate) faults: Vec<String>,
}

impl Story {
    pub(crate) fn play(&self, trace: bool) -> Played {
        let mut world = World::new(self.seed, trace);
        site::add_rendezvous(&mut world, self.s, self.relay, self.seed);
        site::add_peers(&mut world, self.layout, self.people, self.habits, self.seed);
        world.path.conditions = self.conditions;
        let mut play = Play {
            story: self,
            world,
            cues: Vec::new(),
            processes: [0; 2],
            asked: Vec::new(),
            ended: [Vec::new(), Vec::new()],
            restarts: 0,
            s_down: 0,
            faults: Vec::new(),
        };
        play.run();
        invariants::check(&mut play);
        Played {
            endings: play.endings(),
            packets: play.world.packets,
            digest: play.world.digest,
            faults: play.faults,
        }
    }
}

impl Play<'_> {
    fn cue(&mut self, at: Nanos, cue: Cue) {
        self.cues.push(cue);
        self.world.cue(at, self.cues.len() as u32 - 1);
    }

    fn run(&mut self) {
        let story = self.story;
        for who in 0..2 {
            self.cue(story.starts[who], Cue::Start(who));
        }
        let mut last = 0;
        for (index, Ask { at, .. }) in story.asks.iter().enumerate() {
            self.cue(*at, Cue::Ask(index));
            last = last.max(*at);
        }
        for (index, (at, _)) in story.troubles.iter().enumerate() {
            self.cue(*at, Cue::Trouble(index));
            last = last.max(*at);
        }
        self.cue(last + ROUGH_TIME, Cue::Quiet);
        self.cue(last + LONGEST_STORY, Cue::Over);
        while let Some(cue) = self.world.run() {
            match self.cues[cue as usize] {
                Cue::Start(who) => self.start(who),
                Cue::Ask(index) => self.ask(index),
                Cue::Trouble(index) => self.trouble(self.story.troubles[index].1),
                Cue::StartS => self.start_s(),
                Cue::Restart(who) => self.restart(who),
                Cue::Quiet => self.world.path.conditions.loss = 0.0,
                Cue::Over => self.over(),
                Cue::Closed => self.closed(),
                Cue::Gone => return self.gone(),
            }
        }
        self.faults.push("the world stands still".into());
    }

    pub(crate) fn is_running(&self, who: usize) -> bool {
        matches!(self.world.hosts[who + 1].app, App::Peer(_))
    }

    fn start(&mut self, who: usize) {
        if self.is_running(who) {
            self.world.with(who + 1, |app, tcp, now| app.peer().start(tcp, now));
        }
    }

    fn ask(&mut self, index: usize) {
        let Ask { who, preference, .. } = self.story.asks[index];
        if !self.is_running(who) {
            return;
        }
        let other = site::key(if who == 0 { B } else { A }).peer_id();
        let punch = self
            .world
            .with(who + 1, |app, tcp, now| app.peer().connect(tcp, other, preference, now));
        if let Ok(punch) = punch {
            let process = self.processes[who];
            self.asked.push(Asked { who, process, punch });
        }
    }

    // ---- troubles ----

    fn trouble(&mut self, trouble: Trouble) {
        if self.world.trace {
            println!("{:>12} trouble: {trouble:?}", crate::world::micros(self.world.now));
        }
        let now = self.world.now;
        match trouble {
            Trouble::RestartS { politely, down } => self.stop_s(politely, down),
            Trouble::PowerCutS { down } => {
                self.world.power_off(S);
                self.s_down += 1;
                self.cue(now + down, Cue::StartS);
            }
            Trouble::Exit { who, again } => self.exit(who, again),
            Trouble::Unplug { who, again } => {
                self.collect(who);
                self.world.power_off(who + 1);
                self.come_back(who, again);
            }
            Trouble::ForgetfulRouters => {
                self.world.routers.iter_mut().for_each(|node| node.router.forget_all());
            }
            Trouble::Cancel { who } => {
                let process = self.processes[who];
                let own = |asked: &&Asked| asked.who == who && asked.process == process;
                let punch = self.asked.iter().rfind(own).map(|asked| asked.punch);
                if let (Some(punch), true) = (punch, self.is_running(who)) {
                    self.world.with(who + 1, |app, tcp, now| app.peer().cancel(tcp, punch, now));
                }
            }
            Trouble::Knock { who } => self.knock(who),
            Trouble::Loss(percent) => {
                self.world.path.conditions.loss = f64::from(percent) / 100.0;
            }
        }
    }

    fn stop_s(&mut self, politely: bool, down: Nanos) {
        if let App::Rendezvous(_) = self.world.hosts[S].app {
            self.world.with(S, |app, tcp, now| {
                if politely {
                    app.rendezvous().shut_down(tcp, now);
                }
                app.rendezvous().exit(tcp, now);
                *app = App::None;
            });
        }
        self.s_down += 1;
        self.cue(self.world.now + down, Cue::StartS);
    }

    fn start_s(&mut self) {
        self.s_down -= 1;
        if self.s_down == 0 {
            self.restarts += 1;
            let seed = self.story.seed ^ self.restarts << 40;
            site::start_rendezvous(&mut self.world, self.story.relay, seed);
        }
    }

    fn exit(&mut self, who: usize, again: Option<Nanos>) {
        if !self.is_running(who) {
            return;
        }
        self.collect(who);
        self.world.with(who + 1, |app, tcp, now| {
            app.peer().exit(tcp, now);
            *app = App::None;
        });
        self.come_back(who, again);
    }

    fn come_back(&mut self, who: usize, again: Option<Nanos>) {
        if let Some(after) = again {
            self.cue(self.world.now + after, Cue::Restart(who));
        }
    }

    fn restart(&mut self, who: usize) {
        if self.is_running(who) {
            return;
        }
        self.processes[who] += 1;
        let person = self.story.people[who];
        let seed = self.story.seed ^ u64::from(self.processes[who]) << 48;
        site::restart_peer(&mut self.world, who + 1, person, seed);
        self.start(who);
    }

    fn knock(&mut self, who: usize) {
        let App::Peer(peer) = &self.world.hosts[who + 1].app else { return };
        let Some(at) = peer.machine.observed().and_then(crate::packet::Endpoint::of) else {
            return;
        };
        let seed = self.story.seed ^ self.world.now;
        let manners = [
            Manners::Silent,
            Manners::Talkative,
            Manners::Echo,
            Manners::Closing,
            Manners::Impostor,
        ];
        let manners = manners[(seed % 5) as usize];
        let host = site::add_passer_by(&mut self.world, manners, seed);
        self.world.with(host, |_, tcp, now| Stranger::knock(tcp, at, now));
    }

    // ---- the end ----

    /// Takes the peer's reports, of this process.
    fn collect(&mut self, who: usize) {
        let process = self.processes[who];
        if let App::Peer(peer) = &mut self.world.hosts[who + 1].app {
            let name = ["A", "B"][who];
            self.faults.extend(peer.faults.drain(..).map(|fault| format!("{name}: {fault}")));
            self.ended[who].extend(peer.ended.drain(..).map(|ended| (process, ended)));
        }
    }

    fn over(&mut self) {
        for who in 0..2 {
            self.collect(who);
            let App::Peer(peer) = &self.world.hosts[who + 1].app else { continue };
            if let Some(left) = peer.leftovers() {
                self.faults.push(format!("{} is left with {left}", ["A", "B"][who]));
            }
        }
        for who in 0..2 {
            if self.is_running(who) {
                self.world.with(who + 1, |app, tcp, now| app.peer().close_streams(tcp, now));
            }
        }
        self.cue(self.world.now + LONGEST_CLOSE, Cue::Closed);
    }

    fn closed(&mut self) {
        for who in 0..2 {
            self.collect(who);
            if let App::Peer(peer) = &self.world.hosts[who + 1].app {
                let (name, tcp) = (["A", "B"][who], &self.world.hosts[who + 1].tcp);
                let kept = usize::from(peer.has_main());
                if tcp.sockets() != kept || tcp.listening() > 1 {
                    let (open, listeners) = (tcp.sockets(), tcp.listening());
                    self.faults.push(format!(
                        "{name} has {open} sockets and {listeners} listeners where {kept} is due"
                    ));
                }
            }
            if self.is_running(who) {
                self.world.with(who + 1, |app, tcp, now| app.peer().stop(tcp, now));
            }
        }
        self.cue(self.world.now + LONGEST_CLOSE, Cue::Gone);
    }

    fn gone(&mut self) {
        for host in [S, A, B] {
            let Some(host) = self.world.hosts.get(host).filter(|host| host.powered) else {
                continue;
            };
            if host.tcp.sockets() != 0 {
                let left = host.tcp.sockets();
                self.faults.push(format!("{} is left with {left} sockets", host.name));
            }
        }
        if let App::Rendezvous(s) = &self.world.hosts[S].app
            && let Some(left) = s.leftovers()
        {
            self.faults.push(format!("S is left with {left}"));
        }
    }

    /// How what was asked for has ended.
    fn endings(&self) -> Vec<Ending> {
        let ended = self.ended.iter().flatten();
        let asked = ended.filter(|(_, ended)| ended.report.role == Role::Controller);
        asked.map(|(_, ended)| ending(ended)).collect()
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.story.kind == Kind::Calm
    }
}

pub(crate) fn ending(ended: &Ended) -> Ending {
    match &ended.report.outcome {
        Outcome::Connected(winner) if winner.is_relayed() => Ending::Relayed,
        Outcome::Connected(_) => Ending::Direct,
        _ => Ending::Failed,
    }
}

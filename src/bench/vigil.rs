//! What each loop looks at between two turns: is it time to tell how far we are, are we to end, is
//! anything still happening.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::cli::exit::{self, Failure};
use crate::cli::output::Output;
use crate::net::clock;

/// From one word about the progress to the next.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// A load that gets no further for this long is stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest wait of a turn: signals are looked at between turns.
pub(super) const TURN: Duration = Duration::from_millis(100);

/// Whoever watches over the loops of a run.
#[derive(Debug)]
pub(super) struct Vigil {
    output: Output,
    ended: Arc<AtomicBool>,
    phase: String,
    began: Instant,
    told: Cell<Instant>,
    done: Cell<u64>,
    moved: Cell<Instant>,
}

impl Vigil {
    /// From now on SIGINT and SIGTERM end a loop, and not the program: what it started must end with it.
    pub(super) fn new(output: &Output) -> Result<Self, Failure> {
        let ended = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&ended))?;
        }
        let (output, now) = (*output, clock::now());
        let [told, moved] = [Cell::new(now), Cell::new(now)];
        Ok(Self {
            output,
            ended,
            phase: String::new(),
            began: now,
            told,
            done: Cell::new(0),
            moved,
        })
    }

    /// What a signal sets, for others that may end it, too.
    pub(super) fn ended(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ended)
    }

    /// A phase begins.
    pub(super) fn phase(&mut self, name: impl Into<String>) {
        self.phase = name.into();
        self.output.progress(&self.phase);
        self.began = clock::now();
        self.told.set(self.began);
        self.moved.set(self.began);
        self.done.set(0);
    }

    /// So much of it is done.
    pub(super) fn tick(&self, done: u64, total: u64) -> Result<(), Failure> {
        self.check()?;
        let now = clock::now();
        if done != self.done.replace(done) {
            self.moved.set(now);
        } else if now - self.moved.get() > PATIENCE {
            let seconds = PATIENCE.as_secs();
            let error = format!("{}: stuck at {done} of {total} for {seconds} s", self.phase);
            return Err(Failure::new(exit::OTHER, error));
        }
        if now - self.told.get() >= PROGRESS_INTERVAL {
            self.told.set(now);
            let rate = done as f64 / (now - self.began).as_secs_f64();
            self.output.progress(&format!("{}: {done} of {total}, {rate:.0}/s", self.phase));
        }
        Ok(())
    }

    /// Whether a signal has come.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match self.ended.load(Ordering::Relaxed) {
            true => Err(Failure::quiet(exit::INTERRUPTED)),
            false => Ok(()),
        }
    }
}

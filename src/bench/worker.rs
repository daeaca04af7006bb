//! Load from several processes: each prepares its share, says so, and begins when all are told to.
//!
//! ```text
//! parent ─▶ worker   its assignment, as the only argument; then "go"; then "stop", or the end of its input
//! worker ─▶ parent   "ready"; then what came of it: a line of JSON each
//! ```

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::proc;
use super::tally::{Saved, Tally};
use super::target::Target;
use super::task::{Prepared, Task};
use super::vigil::{TURN, Vigil};
use crate::cli::exit::Failure;
use crate::cli::output::{Output, Stream};

/// Peers of one worker at most: the next one's addresses begin after them.
const PEERS: usize = 100_000;

/// What a worker is told.
#[derive(Debug, Serialize, Deserialize)]
struct Assignment {
    server: String,
    idle: usize,
    first_source: usize,
    task: Task,
}

#[derive(Debug, Serialize, Deserialize)]
enum Said {
    Ready,
    Done { tally: Saved, cpu_seconds: f64 },
}

// ---- the worker ----------------------------------------------------------------------------------

/// The worker's process.
pub(super) fn run(assignment: &str) -> Result<(), Failure> {
    let output = Output::new("gimlet-bench", true, false, Stream::Stdout);
    let assignment: Assignment = serde_json::from_str(assignment)
        .map_err(|error| Failure::usage(format!("an assignment: {error}")))?;
    let mut vigil = Vigil::new(&output)?;
    let go = Arc::new(AtomicBool::new(false));
    listen(Arc::clone(&go), vigil.ended());
    let server = assignment.server.parse();
    let server = server.map_err(|error| Failure::usage(format!("an assignment: {error}")))?;
    let target = Target::elsewhere(&server)?;
    let Assignment { idle, first_source, task, .. } = assignment;
    let mut load = Prepared::new(&target, task, idle, first_source, &mut vigil)?;
    output.object(&Said::Ready)?;
    while !go.load(Ordering::Relaxed) {
        vigil.check()?;
        thread::park_timeout(TURN);
    }
    let pid = std::process::id();
    let before = proc::cpu(pid)?;
    let tally = load.run(&mut vigil)?;
    let cpu_seconds = (proc::cpu(pid)? - before).as_secs_f64();
    output.object(&Said::Done { tally: tally.save(), cpu_seconds })?;
    // The peers stay until all have ended.
    while vigil.check().is_ok() {
        thread::park_timeout(TURN);
    }
    Ok(())
}

/// Hears what the parent says, on a thread of its own: the load must not wait for it. If the parent is
/// gone, so are we.
fn listen(go: Arc<AtomicBool>, ended: Arc<AtomicBool>) {
    let main = thread::current();
    thread::spawn(move || {
        for line in io::stdin().lines() {
            match line.as_deref() {
                Ok("go") => go.store(true, Ordering::Relaxed),
                _ => break,
            }
            main.unpark();
        }
        ended.store(true, Ordering::Relaxed);
        main.unpark();
    });
}

// ---- the parent ----------------------------------------------------------------------------------

struct Worker {
    child: Child,
    input: ChildStdin,
    said: Receiver<Said>,
    endless: bool,
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processes that make load.
pub(super) struct Workers(Vec<Worker>);

/// What came of their load.
pub(super) struct Outcome {
    pub(super) tally: Tally,
    /// CPU time of theirs.
    pub(super) cpu: Duration,
}

impl Workers {
    /// Starts one for each task, and waits until all are prepared. Silent peers are shared among them.
    pub(super) fn start(
        target: &Target,
        tasks: &[Task],
        idle: usize,
        vigil: &mut Vigil,
    ) -> Result<Self, Failure> {
        vigil.phase(format!("{} processes prepare", tasks.len()));
        let mut workers = Vec::new();
        for (at, task) in tasks.iter().enumerate() {
            let assignment = Assignment {
                server: target.address(),
                idle: idle / tasks.len() + usize::from(at < idle % tasks.len()),
                // This process' own peers come first.
                first_source: (at + 1) * PEERS,
                task: task.clone(),
            };
            workers.push(Worker::start(&assignment)?);
        }
        for worker in &workers {
            match worker.hear(vigil)? {
                Said::Ready => {}
                Said::Done { .. } => return Err(confused()),
            }
        }
        Ok(Self(workers))
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.0.iter().map(|worker| worker.child.id()).collect()
    }

    /// All begin.
    pub(super) fn go(&mut self) -> Result<(), Failure> {
        for worker in &mut self.0 {
            worker.tell("go")?;
        }
        Ok(())
    }

    /// Waits until all are done; those without an end are told to stop. Their peers stay logged in, apart
    /// from those.
    pub(super) fn collect(&mut self, vigil: &Vigil) -> Result<Outcome, Failure> {
        let mut outcome = Outcome { tally: Tally::new(), cpu: Duration::ZERO };
        for worker in self.0.iter_mut().filter(|worker| worker.endless) {
            worker.tell("stop")?;
        }
        for worker in &self.0 {
            match worker.hear(vigil)? {
                Said::Done { tally, cpu_seconds } => {
                    outcome.tally.merge(&tally);
                    outcome.cpu += Duration::from_secs_f64(cpu_seconds);
                }
                Said::Ready => return Err(confused()),
            }
        }
        Ok(outcome)
    }
}

impl Worker {
    fn start(assignment: &Assignment) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        let argument = serde_json::to_string(assignment).expect("it has texts for keys");
        command.args(["worker", &argument]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let input = child.stdin.take().expect("it was asked for");
        let output = child.stdout.take().expect("it was asked for");
        let (sender, said) = channel();
        // Whoever waits for what it says looks at signals meanwhile.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let Ok(said) = serde_json::from_str(&line) else { return };
                if sender.send(said).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, input, said, endless: assignment.task.is_endless() })
    }

    fn tell(&mut self, word: &str) -> Result<(), Failure> {
        Ok(writeln!(self.input, "{word}").and_then(|()| self.input.flush())?)
    }

    fn hear(&self, vigil: &Vigil) -> Result<Said, Failure> {
        loop {
            match self.said.recv_timeout(TURN) {
                Ok(said) => return Ok(said),
                Err(RecvTimeoutError::Timeout) => vigil.check()?,
                // It has told a person why.
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::new(
                        crate::cli::exit::OTHER,
                        "a worker process has failed",
                    ));
                }
            }
        }
    }
}

fn confused() -> Failure {
    Failure::new(crate::cli::exit::OTHER, "a worker process says what it should not")
}

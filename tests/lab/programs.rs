//! Programs that run inside namespaces, and what they print.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::sys::{self, Poller};

/// A running program. Killed when dropped, and when the thread that started it ends; what it
/// printed is shown when the test fails.
pub(crate) struct Program {
    name: String,
    child: Child,
    output: Arc<Output>,
}

/// Where lines are read from. Standard error always is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stdout {
    Lines,
    /// Not text: the test takes it with [`Program::take_stdio`].
    Data,
}

/// What the program has printed, shared with the threads that read it.
#[derive(Default)]
struct Output {
    printed: Mutex<Printed>,
    changed: Condvar,
}

#[derive(Default)]
struct Printed {
    /// Everything, for people.
    log: Vec<String>,
    /// What no test has asked for yet.
    lines: VecDeque<String>,
    events: VecDeque<Value>,
    /// Streams that are still open.
    open: usize,
}

impl Program {
    pub(crate) fn start(name: &str, mut command: Command, stdout: Stdout) -> Self {
        let stdin = if stdout == Stdout::Data { Stdio::piped() } else { Stdio::null() };
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("start {name}: {e}"));
        let output = Arc::new(Output::default());
        if stdout == Stdout::Lines {
            output.read_from(child.stdout.take().unwrap());
        }
        output.read_from(child.stderr.take().unwrap());
        Self { name: name.to_owned(), child, output }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next event of this kind, whether it has been printed already or comes in time.
    pub(crate) fn event(&self, kind: &str, within: Duration) -> Value {
        self.wait_for(&format!("event {kind:?}"), within, |printed| {
            let is_it = |event: &Value| event["event"] == kind;
            let index = printed.events.iter().position(is_it)?;
            printed.events.remove(index)
        })
    }

    /// The next event of any of these kinds; what came instead, if none does.
    pub(crate) fn event_of(&self, kinds: &[&str], within: Duration) -> Result<Value, String> {
        self.try_wait_for(&format!("event of {kinds:?}"), within, |printed| {
            let is_it = |event: &Value| kinds.iter().any(|kind| event["event"] == *kind);
            let index = printed.events.iter().position(is_it)?;
            printed.events.remove(index)
        })
    }

    /// The next line that `wanted` takes.
    pub(crate) fn line(&self, what: &str, within: Duration, wanted: fn(&str) -> bool) -> String {
        self.wait_for(what, within, |printed| {
            let index = printed.lines.iter().position(|line| wanted(line))?;
            printed.lines.remove(index)
        })
    }

    pub(crate) fn take_stdio(&mut self) -> (ChildStdin, ChildStdout) {
        (self.child.stdin.take().unwrap(), self.child.stdout.take().unwrap())
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, which it must do, and successfully.
    pub(crate) fn terminate(&mut self, within: Duration) {
        sys::terminate(self.pid()).unwrap();
        self.succeed(within);
    }

    /// Waits for the program's own end.
    pub(crate) fn exit(&mut self, within: Duration) -> ExitStatus {
        let process = sys::open_process(self.pid()).unwrap();
        Poller::new([process.as_raw_fd()].into_iter()).wait(Some(within)).unwrap();
        let status = self.child.try_wait().unwrap();
        status.unwrap_or_else(|| panic!("{} is still running after {within:?}", self.name))
    }

    /// Waits for the program's own end, which must be a success.
    pub(crate) fn succeed(&mut self, within: Duration) {
        let status = self.exit(within);
        assert!(status.success(), "{} ended with {status}", self.name);
    }

    /// How many threads the program has right now.
    pub(crate) fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap().count()
    }

    fn wait_for<T>(
        &self,
        what: &str,
        within: Duration,
        take: impl FnMut(&mut Printed) -> Option<T>,
    ) -> T {
        self.try_wait_for(what, within, take).unwrap_or_else(|problem| panic!("{problem}"))
    }

    fn try_wait_for<T>(
        &self,
        what: &str,
        within: Duration,
        mut take: impl FnMut(&mut Printed) -> Option<T>,
    ) -> Result<T, String> {
        let deadline = Instant::now() + within;
        let mut printed = self.output.printed.lock().unwrap();
        loop {
            if let Some(found) = take(&mut printed) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let problem = match (printed.open, left.is_zero()) {
                (0, _) => "it has ended".to_owned(),
                (_, true) => format!("nothing for {within:?}"),
                (_, false) => {
                    printed = self.output.changed.wait_timeout(printed, left).unwrap().0;
                    continue;
                }
            };
            return Err(format!("{}: no {what}: {problem}", self.name));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            self.output.wait_for_end();
            let printed = self.output.printed.lock().unwrap_or_else(|e| e.into_inner());
            let log = printed.log.join("\n");
            eprintln!("--- {} printed:\n{log}\n---", self.name);
        }
    }
}

impl Output {
    fn read_from(self: &Arc<Self>, stream: impl Read + Send + 'static) {
        self.printed.lock().unwrap().open += 1;
        let output = Arc::clone(self);
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                output.change(|printed| printed.add(line));
            }
            output.change(|printed| printed.open -= 1);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Printed)) {
        change(&mut self.printed.lock().unwrap());
        self.changed.notify_all();
    }

    /// The last words of a killed program may still be in the pipe. A child that it left behind
    /// may keep the pipe open, so this does not wait long.
    fn wait_for_end(&self) {
        let printed = self.printed.lock().unwrap_or_else(|e| e.into_inner());
        let patience = Duration::from_secs(1);
        drop(self.changed.wait_timeout_while(printed, patience, |p| p.open > 0));
    }
}

impl Printed {
    fn add(&mut self, line: String) {
        self.log.push(line.clone());
        match serde_json::from_str::<Value>(&line) {
            Ok(event) if event.is_object() => self.events.push_back(event),
            _ => self.lines.push_back(line),
        }
    }
}

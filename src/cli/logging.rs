//! Log lines on standard error, with the time in UTC.
//!
//! ```text
//! log::info! ─▶ escaped ─▶ formatted ─▶ queue, bounded ─▶ a thread ─▶ standard error
//! ```
//!
//! Who logs never waits: when standard error is a pipe that nobody reads, the queue fills, further lines are
//! counted, and the count is logged once it flows again. What strangers have said can't pose as a line of its
//! own, nor speak to a terminal.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use log::{LevelFilter, Log, Metadata, Record};
use simplelog::{ConfigBuilder, WriteLogger};

use crate::limits;

/// How long the program may wait at its end for its last lines to be written.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// The levels, from silence on.
const LEVELS: [LevelFilter; 6] = [
    LevelFilter::Off,
    LevelFilter::Error,
    LevelFilter::Warn,
    LevelFilter::Info,
    LevelFilter::Debug,
    LevelFilter::Trace,
];

/// What becomes of a line's end within a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lines {
    /// It is escaped: each event is one line, for programs that read the log.
    One,
    /// What follows is indented, and so is no event of its own: for people.
    Indented,
}

static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

/// Starts logging: warnings, and with each `-v` one level more.
pub(crate) fn start(verbose: u8, lines: Lines) {
    let queue = Arc::clone(QUEUE.get_or_init(Arc::default));
    // A descriptor of its own: the lock on the usual one may be held for as long as nobody reads.
    let started = io::stderr().as_fd().try_clone_to_owned().and_then(|stderr| {
        let (queue, mut stderr) = (Arc::clone(&queue), File::from(stderr));
        let write = move || queue.write_to(&mut stderr);
        std::thread::Builder::new().name("gimlet-log".into()).spawn(write)
    });
    // Without standard error there is nobody to tell.
    if started.is_ok() {
        let config = ConfigBuilder::new()
            .set_time_format_rfc3339()
            .set_thread_level(LevelFilter::Off)
            .build();
        let inner = WriteLogger::new(LevelFilter::Trace, config, Sink { queue, line: Vec::new() });
        log::set_boxed_logger(Box::new(Escaping { inner, lines }))
            .expect("nothing else in this program starts a logger");
        set_level(level(verbose));
    }
}

/// The level that so many `-v` ask for.
pub(crate) fn level(verbose: u8) -> LevelFilter {
    LEVELS[(2 + usize::from(verbose)).min(LEVELS.len() - 1)]
}

/// Logs what is of this level or above.
pub(crate) fn set_level(level: LevelFilter) {
    log::set_max_level(level);
}

/// Logs one level more.
pub(crate) fn more() {
    step(1);
}

/// Logs one level less.
pub(crate) fn less() {
    step(-1);
}

fn step(by: isize) {
    let now = LEVELS.iter().position(|level| *level == log::max_level()).unwrap_or(0);
    let next = LEVELS[now.saturating_add_signed(by).min(LEVELS.len() - 1)];
    // Told at the level that shows it, whichever way it goes.
    let told = next.to_level().unwrap_or(log::Level::Error);
    log::set_max_level(next.max(log::max_level()));
    log::log!(told, "log level={}", next.as_str().to_lowercase());
    log::set_max_level(next);
}

/// Waits until all lines are written, for a while. For the end of the program.
pub(crate) fn finish() {
    if let Some(queue) = QUEUE.get() {
        queue.wait_until_written(FLUSH_TIME);
    }
}

// ---- what a line looks like ----------------------------------------------------------------------------

struct Escaping {
    inner: Box<WriteLogger<Sink>>,
    lines: Lines,
}

impl Log for Escaping {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        let message = match record.args().as_str() {
            Some(text) => Cow::Borrowed(text),
            None => Cow::Owned(record.args().to_string()),
        };
        let message = escaped(&message, self.lines);
        self.inner.log(
            &Record::builder()
                .metadata(record.metadata().clone())
                .args(format_args!("{message}"))
                .module_path(record.module_path())
                .file(record.file())
                .line(record.line())
                .build(),
        );
    }

    fn flush(&self) {}
}

/// Without control characters, and of bounded length.
fn escaped(text: &str, lines: Lines) -> Cow<'_, str> {
    let harmless = |c: char| !c.is_control() && !turns_text(c);
    if text.chars().all(harmless) && text.len() <= limits::LOG_LINE_BYTES {
        return Cow::Borrowed(text);
    }
    let mut line = String::new();
    for c in text.chars() {
        match c {
            _ if line.len() >= limits::LOG_LINE_BYTES => {
                line.push('…');
                break;
            }
            '\n' if lines == Lines::Indented => line.push_str("\n    "),
            c if harmless(c) => line.push(c),
            c => write!(line, "{}", c.escape_default()).expect("a String takes everything"),
        }
    }
    Cow::Owned(line)
}

/// Ends a line, or changes the direction of what follows (Unicode 15 §23.2, UAX #9).
fn turns_text(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Takes what the logger writes, piece by piece, and queues it as a whole.
struct Sink {
    queue: Arc<Queue>,
    line: Vec<u8>,
}

impl Write for Sink {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(piece);
        // The logger's own end of a line comes alone.
        if piece.ends_with(b"\n") {
            self.queue.push(std::mem::take(&mut self.line));
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// ---- the queue -----------------------------------------------------------------------------------------

/// Lines that wait to be written.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    /// In all lines, that which is being written included.
    bytes: usize,
    /// Lines that found no place.
    lost: u64,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is done under the lock that could leave it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never waits for more than the lock, under which nobody does.
    fn push(&self, line: Vec<u8>) {
        let mut state = self.lock();
        if state.bytes + line.len() > limits::LOG_BACKLOG_BYTES {
            state.lost += 1;
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line);
        self.changed.notify_all();
    }

    /// The thread that writes. It ends with the program.
    fn write_to(&self, out: &mut impl Write) {
        loop {
            let line = {
                let mut state = self.lock();
                loop {
                    match state.lines.pop_front() {
                        Some(line) => break line,
                        None => {
                            state =
                                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                        }
                    }
                }
            };
            // What can't be written can't be complained about either.
            let _ = out.write_all(&line);
            self.written(line.len());
        }
    }

    fn written(&self, bytes: usize) {
        let mut state = self.lock();
        state.bytes -= bytes;
        let flows_again = state.lines.is_empty();
        let lost = if flows_again { std::mem::take(&mut state.lost) } else { 0 };
        self.changed.notify_all();
        drop(state);
        if lost > 0 {
            log::warn!("log lines lost count={lost}: standard error was not read");
        }
    }

    fn wait_until_written(&self, time: Duration) {
        let waits = |state: &mut State| state.bytes > 0;
        // Whether it timed out or not, the program ends.
        drop(self.changed.wait_timeout_while(self.lock(), time, waits));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn strangers_write_no_lines_and_no_escape_sequences() {
        let evil = "x\n2026-01-01 [INFO] login\r\x1b[2J\u{9b}1m\u{202e}ö\t\u{2028}\0";
        let one = escaped(evil, Lines::One);
        assert_eq!(
            one,
            "x\\n2026-01-01 [INFO] login\\r\\u{1b}[2J\\u{9b}1m\\u{202e}ö\\t\\u{2028}\\u{0}"
        );
        assert!(escaped("a\nb", Lines::Indented).ends_with("\n    b"));
        assert!(matches!(escaped("peer=ä", Lines::One), Cow::Borrowed(_)));
        let long = escaped(&"ä\n".repeat(limits::LOG_LINE_BYTES), Lines::One).len();
        assert!((limits::LOG_LINE_BYTES..limits::LOG_LINE_BYTES + 8).contains(&long), "{long}");
    }

    #[test]
    fn each_v_is_a_level() {
        let levels = [0, 1, 2, 3, 200].map(level);
        assert_eq!(levels[..2], [LevelFilter::Warn, LevelFilter::Info]);
        assert_eq!(levels[2..], [LevelFilter::Debug, LevelFilter::Trace, LevelFilter::Trace]);
    }

    #[test]
    fn a_full_queue_loses_lines_and_counts_them() {
        let queue = Queue::default();
        let line = vec![b'x'; limits::LOG_BACKLOG_BYTES / 4];
        for _ in 0..6 {
            queue.push(line.clone());
        }
        let state = queue.lock();
        assert_eq!((state.lines.len(), state.lost), (4, 2));
        drop(state);
        queue.lock().lines.pop_front();
        queue.written(line.len());
        assert_eq!(queue.lock().lost, 2, "told when the rest is written");
        queue.push(line);
        assert_eq!(queue.lock().lines.len(), 4);
    }

    #[test]
    fn the_end_waits_for_what_is_written_and_not_for_a_full_pipe() {
        let queue = Arc::new(Queue::default());
        let (mut reader, writer) = io::pipe().unwrap();
        let writing = Arc::clone(&queue);
        std::thread::spawn(move || writing.write_to(&mut { writer }));
        queue.push(b"one\n".to_vec());
        queue.wait_until_written(Duration::from_secs(60));
        let mut read = [0; 4];
        reader.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"one\n");
        // Nobody reads this one.
        queue.push(vec![b'x'; limits::LOG_BACKLOG_BYTES]);
        queue.wait_until_written(Duration::from_millis(1));
        assert!(queue.lock().bytes > 0);
    }
}

//! What the kernel says of a process, and of the machine: /proc.

use std::fs;
use std::io;
use std::time::Duration;

/// What all threads of a process have run so far, in user and in kernel mode, in nanoseconds:
/// /proc/PID/stat would count in hundredths of a second.
pub(super) fn cpu(pid: u32) -> io::Result<Duration> {
    if pid == std::process::id() {
        // The kernel counts a thread's time when it passes the processor on, and at each tick: without
        // this, up to some milliseconds of our own would be missing.
        std::thread::yield_now();
    }
    let mut sum = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path().join("schedstat");
        // A thread may end between the two looks.
        let Ok(text) = fs::read_to_string(path) else { continue };
        sum += Duration::from_nanos(first_number(&text).ok_or_else(unreadable)?);
    }
    Ok(sum)
}

/// Resident memory of a process, in bytes.
pub(super) fn resident(pid: u32) -> io::Result<u64> {
    // Counted page by page, where statm may lag behind.
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    field(&text, "Rss:").map(|kilobytes| kilobytes * 1024).ok_or_else(unreadable)
}

/// How often the main thread of a process went to sleep so far: each time, something woke it.
pub(super) fn wake_ups(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    field(&text, "voluntary_ctxt_switches:").ok_or_else(unreadable)
}

/// Memory that programs could still have, in bytes.
pub(super) fn available() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    field(&text, "MemAvailable:").map(|kilobytes| kilobytes * 1024).ok_or_else(unreadable)
}

/// All memory of this machine, in bytes.
pub(super) fn total_memory() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    field(&text, "MemTotal:").map(|kilobytes| kilobytes * 1024).ok_or_else(unreadable)
}

/// The kernel's TCP sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sockets {
    /// Of those that aren't in TIME_WAIT.
    pub(super) in_use: u64,
    /// Pages of their buffers.
    pub(super) pages: u64,
}

/// The kernel's TCP sockets, IPv4.
pub(super) fn sockets() -> io::Result<Sockets> {
    parse_sockstat(&fs::read_to_string("/proc/net/sockstat")?).ok_or_else(unreadable)
}

/// The text of a file, without what surrounds it; `unknown` if it can't be read.
pub(super) fn words(path: &str) -> String {
    let text = fs::read_to_string(path);
    text.map_or_else(
        |_| "unknown".into(),
        |text| text.split_whitespace().collect::<Vec<_>>().join(" "),
    )
}

fn unreadable() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "/proc does not look as it does on Linux")
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// The number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    first_number(text.lines().find_map(|line| line.strip_prefix(name))?)
}

fn parse_sockstat(text: &str) -> Option<Sockets> {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP: "))?;
    let words: Vec<_> = line.split_whitespace().collect();
    let named = |name| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1)?.parse().ok()
    };
    Some(Sockets { in_use: named("inuse")?, pages: named("mem")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_behind_names() {
        let status =
            "Name:\tgimletd\nvoluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t545\n";
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some(150));
        let rollup =
            "5581-7ffe ---p 00000000 00:00 0  [rollup]\nRss:                5120 kB\nPss: 1 kB\n";
        assert_eq!(field(rollup, "Rss:"), Some(5120));
        assert_eq!(field(rollup, "Swap:"), None);
        assert_eq!(first_number("2257106 99 1\n"), Some(2_257_106));
        assert_eq!(first_number(""), None);
    }

    #[test]
    fn sockets_are_read_by_name() {
        let text =
            "sockets: used 19\nTCP: inuse 3 orphan 0 tw 7 alloc 4 mem 266\nUDP: inuse 0 mem 0\n";
        assert_eq!(parse_sockstat(text), Some(Sockets { in_use: 3, pages: 266 }));
        assert_eq!(parse_sockstat("TCP: inuse x mem 1\n"), None);
        assert_eq!(parse_sockstat("UDP: inuse 0 mem 0\n"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let pid = std::process::id();
        assert!(cpu(pid).unwrap() > Duration::ZERO);
        assert!(resident(pid).unwrap() > 100_000);
        assert!(wake_ups(pid).is_ok());
        assert!(available().unwrap() > 0);
        sockets().unwrap();
        assert_eq!(cpu(u32::MAX).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

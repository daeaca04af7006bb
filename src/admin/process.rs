//! What the system says about this process, without a scan of its descriptors. Linux alone has it.

use std::time::Duration;

use serde::Serialize;

use crate::net::sys;

/// This process.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Process {
    /// Memory in use, in bytes; the kernel's for the sockets is not part of it.
    pub resident_memory_bytes: Option<u64>,
    /// CPU time of the loop's thread since the start, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Descriptors that are open.
    pub open_descriptors: Option<u64>,
    /// … and how many may be.
    pub descriptor_limit: Option<u64>,
}

impl Process {
    pub(super) fn look() -> Self {
        Self {
            resident_memory_bytes: resident_memory(),
            cpu_seconds: cpu_time().map(|time| time.as_secs_f64()),
            open_descriptors: open_descriptors(),
            descriptor_limit: sys::descriptor_limit().ok(),
        }
    }
}

/// proc_pid_status(5): `VmRSS:      1234 kB`.
fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// The first number is the time that the thread has run, in nanoseconds.
fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// The size of the directory: Linux has it since 6.2. To list it would take milliseconds with 20,000 entries.
fn open_descriptors() -> Option<u64> {
    let size = std::fs::metadata("/proc/self/fd").ok()?.len();
    (size > 0).then_some(size)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_time_and_descriptors() {
        let process = Process::look();
        assert!(process.resident_memory_bytes.unwrap() > 100_000, "{process:?}");
        assert!(process.cpu_seconds.is_some(), "{process:?}");
        assert!(process.descriptor_limit.unwrap() > 10, "{process:?}");
        // An older kernel doesn't say.
        assert_ne!(process.open_descriptors, Some(0));
    }
}

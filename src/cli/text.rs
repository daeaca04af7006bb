//! Numbers as people read them.

use std::time::Duration;

/// A size: `64 B`, `1.5 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut size = count as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// A time: `0.25 ms`, `12.3 ms`, `1.50 s`, `2 min 5 s`, `3 h 7 min`.
pub(crate) fn time(duration: Duration) -> String {
    let (seconds, whole) = (duration.as_secs_f64(), duration.as_secs());
    match whole {
        0 if seconds < 0.010 => format!("{:.2} ms", seconds * 1e3),
        0 => format!("{:.1} ms", seconds * 1e3),
        1..60 => format!("{seconds:.2} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}

/// How fast `count` bytes went.
pub(crate) fn rate(count: u64, duration: Duration) -> String {
    let seconds = duration.as_secs_f64().max(1e-9);
    format!("{}/s", bytes((count as f64 / seconds) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let cases = [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (4 << 20, "4.0 MiB")];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
        assert_eq!(rate(1 << 20, Duration::from_millis(500)), "2.0 MiB/s");
    }

    #[test]
    fn times() {
        let cases = [
            (250, "0.25 ms"),
            (12_340, "12.3 ms"),
            (1_500_000, "1.50 s"),
            (125_000_000, "2 min 5 s"),
            (11_220_000_000, "3 h 7 min"),
        ];
        for (micros, text) in cases {
            assert_eq!(time(Duration::from_micros(micros)), text);
        }
    }
}

//! Quantities as operators write them: bytes (`500K`, `8M`) and times (`500ms`, `30s`, `2h4m`).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const BYTE_UNITS: [(&str, u64); 3] = [("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)];

/// In milliseconds. Before the shorter one whose end it is.
const TIME_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("d", 24 * 3_600_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];

/// A number of bytes: `500K`, `8M`, `1G`, in powers of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let no_size = || format!("{text:?} is no number of bytes, such as 500K, 8M or 1G");
        let units = BYTE_UNITS.into_iter();
        let (digits, unit) = units
            .filter_map(|(letter, unit)| Some((text.strip_suffix(letter)?, unit)))
            .next()
            .unwrap_or((text, 1));
        let number = number(digits).ok_or_else(no_size)?;
        number.checked_mul(unit).map(Self).ok_or_else(no_size)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, unit): &(&str, u64)| self.0 >= *unit && self.0.is_multiple_of(*unit);
        match BYTE_UNITS.into_iter().find(fits) {
            Some((letter, unit)) => write!(f, "{}{letter}", self.0 / unit),
            None => self.0.fmt(f),
        }
    }
}

/// Bytes each second, of which there must be some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate(pub(crate) u64);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse()? {
            Size(0) => {
                Err("nothing would flow at 0 bytes a second; to relay nothing: --no-relay, or \
                     relay = false"
                    .to_owned())
            }
            Size(bytes) => Ok(Self(bytes)),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Size(self.0).fmt(f)
    }
}

/// A time: `500ms`, `30s`, `2h4m`. No finer than a millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Duration);

impl Time {
    pub(crate) fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    pub(crate) fn millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let no_time = || format!("{text:?} is no time, such as 500ms, 30s or 2h4m");
        let (mut rest, mut millis) = (text, 0_u64);
        if rest == "0" {
            return Ok(Self(Duration::ZERO));
        }
        loop {
            let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(no_time)?;
            let (digits, unit) = rest.split_at(end);
            let (name, factor) = TIME_UNITS
                .into_iter()
                .find(|(name, _)| unit.starts_with(name))
                .ok_or_else(no_time)?;
            let part = number(digits).and_then(|number| number.checked_mul(factor));
            millis = part.and_then(|part| millis.checked_add(part)).ok_or_else(no_time)?;
            rest = &unit[name.len()..];
            if rest.is_empty() {
                return Ok(Self::from_millis(millis));
            }
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for name in ["d", "h", "m", "s", "ms"] {
            let unit = TIME_UNITS.into_iter().find(|(it, _)| *it == name).map_or(1, |it| it.1);
            if rest >= unit {
                write!(f, "{}{name}", rest / unit)?;
            }
            rest %= unit;
        }
        Ok(())
    }
}

fn number(digits: &str) -> Option<u64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_with_and_without_a_unit() {
        let cases = [
            ("0", 0),
            ("1", 1),
            ("500K", 500 << 10),
            ("8M", 8 << 20),
            ("2G", 2 << 30),
            ("1025", 1025),
        ];
        for (text, bytes) in cases {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
            assert_eq!(Size(bytes).to_string(), text);
        }
        for text in [
            "",
            "M",
            "8m",
            "8 M",
            "-1",
            "+1",
            "8.5M",
            "8MB",
            "18446744073709551616",
            "17179869184G",
        ] {
            text.parse::<Size>().unwrap_err();
        }
        assert!("0G".parse::<Rate>().unwrap_err().contains("--no-relay"));
        assert_eq!("8M".parse(), Ok(Rate(8 << 20)));
    }

    #[test]
    fn times_of_one_part_and_of_several() {
        let cases = [("500ms", 500), ("30s", 30_000), ("2h4m", 7_440_000), ("1d", 86_400_000)];
        for (text, millis) in cases {
            assert_eq!(text.parse(), Ok(Time::from_millis(millis)), "{text}");
            assert_eq!(Time::from_millis(millis).to_string(), text);
        }
        assert_eq!("90s".parse::<Time>().unwrap().to_string(), "1m30s");
        assert_eq!("0".parse(), Ok(Time::from_millis(0)));
        assert_eq!("0s".parse(), Ok(Time::from_millis(0)));
        for text in ["", "s", "30", "30 s", "-1s", "1.5s", "1y", "30s5", "18446744073709551615d"] {
            text.parse::<Time>().unwrap_err();
        }
    }
}

//! Bytes a second, as operators write them.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// A number of bytes each second: `500K`, `8M`, `1G`, in powers of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Rate(pub(crate) u64);

/// What is wrong with a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RateError {
    NoNumber,
    Zero,
    TooLarge,
}

impl fmt::Display for RateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoNumber => "bytes each second are a number such as 500K, 8M or 1G",
            Self::Zero => "nothing would flow at 0 bytes a second; to relay nothing: --no-relay",
            Self::TooLarge => "more bytes each second than can be counted",
        })
    }
}

impl std::error::Error for RateError {}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let units = [('K', 1 << 10), ('M', 1 << 20), ('G', 1 << 30)];
        let (digits, unit) = units
            .into_iter()
            .find_map(|(letter, unit)| Some((text.strip_suffix(letter)?, unit)))
            .unwrap_or((text, 1));
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(RateError::NoNumber);
        }
        let number: u64 = digits.parse().map_err(|_| RateError::TooLarge)?;
        match number.checked_mul(unit) {
            None => Err(RateError::TooLarge),
            Some(0) => Err(RateError::Zero),
            Some(bytes) => Ok(Self(bytes)),
        }
    }
}

impl TryFrom<String> for Rate {
    type Error = RateError;

    fn try_from(text: String) -> Result<Self, RateError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_and_without_a_unit() {
        for (text, bytes) in [("1", 1), ("500K", 500 << 10), ("8M", 8 << 20), ("2G", 2 << 30)] {
            assert_eq!(text.parse(), Ok(Rate(bytes)), "{text}");
        }
        for text in ["", "M", "8m", "8 M", "-1", "+1", "8.5M", "8MB"] {
            assert_eq!(text.parse::<Rate>(), Err(RateError::NoNumber), "{text}");
        }
        assert_eq!("0G".parse::<Rate>(), Err(RateError::Zero));
        for text in ["18446744073709551616", "17179869184G"] {
            assert_eq!(text.parse::<Rate>(), Err(RateError::TooLarge), "{text}");
        }
    }
}

//! The one file that reads the clock.

use std::time::Instant;

/// Now.
#[allow(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> Instant {
    Instant::now()
}

//! Bad input against the real thing: strangers, liars and the clumsy, on loopback. Whatever they do,
//! a healthy pair of peers still connects, somebody has counted it, and nothing is left over.
#![allow(clippy::disallowed_methods, reason = "tests have deadlines of their own")]

#[path = "../support/mod.rs"]
mod support;

mod exhaustion;
mod main_port;
mod names;
mod punched_port;
mod raw;
mod vanish;

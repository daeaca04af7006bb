//! The command lines of the programs, which are glue: arguments → settings → run → exit code.
//!
//! ```text
//! gimlet     args ─▶ settings ─▶ session ─▶ share, pipe, forward, ping, watch, nat
//!            book (id, peer, server), demo
//! gimletd    daemon
//!
//! what they print: output, events, report_json, text     how they end: exit, explain
//! what they keep:  home, config, address_book, known_servers, trust
//! ```

pub mod gimlet;
pub mod gimletd;

mod address_book;
mod args;
mod book;
mod bridge;
mod call;
mod config;
mod daemon;
mod demo;
mod events;
pub(crate) mod exit;
mod explain;
mod forward;
mod home;
mod known_servers;
pub(crate) mod logging;
mod nat;
mod nearest;
pub(crate) mod output;
mod ping;
mod pipe;
mod report_json;
mod session;
mod settings;
mod share;
mod signals;
mod stdio;
mod target;
pub(crate) mod text;
mod toml_file;
mod trust;
mod watch;

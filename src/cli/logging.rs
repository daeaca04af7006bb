//! Log lines on standard error, with the time in UTC.

use std::io::IsTerminal;

use simplelog::{ColorChoice, ConfigBuilder, LevelFilter, TermLogger, TerminalMode};

/// Starts logging: warnings, and with each `-v` one level more.
pub(crate) fn start(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    let config =
        ConfigBuilder::new().set_time_format_rfc3339().set_thread_level(LevelFilter::Off).build();
    let colour = match std::io::stderr().is_terminal() {
        true => ColorChoice::Auto,
        false => ColorChoice::Never,
    };
    TermLogger::init(level, config, TerminalMode::Stderr, colour)
        .expect("nothing else in this program starts a logger");
}

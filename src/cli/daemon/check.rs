//! `gimletd check`: whether a start with these settings would be one, without starting.

use super::super::exit::Failure;
use super::super::output::Output;
use super::args::CheckArgs;
use super::file::{commented, effective};
use super::settings::Settings;

/// Checks, and prints what is asked for.
pub(crate) fn run(check: &CheckArgs, output: &Output) -> Result<(), Failure> {
    if check.default {
        return output.print(commented().trim_end());
    }
    let settings = Settings::load(&check.args)?;
    for warning in settings.warnings() {
        output.note(&format!("WARNING: {warning}"));
    }
    if check.print {
        return output.print(effective(&settings).trim_end());
    }
    match &check.args.config {
        Some(path) => output.print(&format!("{}: no mistakes", path.display())),
        None => output.print("no mistakes; a settings file is named by --config FILE"),
    }
}

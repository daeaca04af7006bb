//! Man pages and shell completions, from the one definition of each command line: for packages.
//!
//! ```sh
//! cargo run --example generate -- target/package
//! ```

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

fn main() -> io::Result<()> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "where to? generate DIRECTORY")
    })?;
    let (man, completions) = (directory.join("man"), directory.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    let programs = [
        (gimlet::cli::gimlet::command(), "1"),
        (gimlet::cli::gimletd::command(), "8"),
        (gimlet::bench::command(), "1"),
    ];
    for (program, section) in programs {
        let name = program.get_name().to_owned();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            clap_complete::generate_to(shell, &mut program.clone(), &name, &completions)?;
        }
        let mut program = program.disable_help_subcommand(true);
        program.build();
        pages(&program, section, &man)?;
    }
    Ok(())
}

/// A page for the command, and one for each of its own.
fn pages(command: &Command, section: &str, directory: &Path) -> io::Result<()> {
    for subcommand in command.get_subcommands().filter(|it| !it.is_hide_set()) {
        pages(subcommand, section, directory)?;
    }
    let man = Man::new(command.clone()).section(section).manual("Gimlet");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|it| !it.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(notes) = command.get_after_help() {
        page.extend_from_slice(verbatim(&notes.to_string()).as_bytes());
    }
    fs::write(directory.join(man.get_filename()), page)
}

/// Examples and tables, whose lines must stay as they are.
fn verbatim(text: &str) -> String {
    let mut section = String::from(".SH NOTES\n.nf\n");
    for line in text.lines() {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        // Nothing in it is a request.
        writeln!(section, "\\&{line}").expect("a String takes everything");
    }
    section + ".fi\n"
}

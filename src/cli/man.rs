//! `lcepatch man`.

use super::exit::{Failure, print, print_text};
use super::{Answer, Outcome};
use crate::durable::{Existing, Failed, check_new_file, write_file};
use clap::{Args, Command};
use clap_mangen::Man;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Examples:
  lcepatch man | man -l -                                   the page of lcepatch itself
  lcepatch man apply | man -l -
  lcepatch man -o ~/.local/share/man/man1                   one page for each command")]
pub struct Arguments {
    /// The command that the page is about, such as `apply` or `runtime install` [default: lcepatch itself]
    #[arg(value_name = "COMMAND")]
    of: Vec<String>,
    /// Write the page, and those of all commands below it, into this directory
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Replace existing pages
    #[arg(long)]
    force: bool,
}

/// Prints or writes pages about `command`.
pub fn run(arguments: &Arguments, command: Command) -> Outcome {
    // There is a page for each command, but none for the help about it.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut of = &command;
    for name in &arguments.of {
        of = of.find_subcommand(name).ok_or_else(|| unknown(of, name))?;
    }
    let Some(folder) = &arguments.output else {
        print_text(page(of).1.as_bytes())?;
        return Ok(Answer::Yes);
    };
    let existing = if arguments.force { Existing::Replace } else { Existing::Keep };
    let mut pages = Vec::new();
    collect(of, &mut pages);
    let pages: Vec<(PathBuf, String)> = pages.into_iter().map(|(name, text)| (folder.join(name), text)).collect();
    std::fs::create_dir_all(folder).map_err(|error| Failed::io("create", folder, error))?;
    for (path, _) in &pages {
        check_new_file(path, existing)?;
    }
    for (path, text) in &pages {
        write_file(path, text.as_bytes(), existing)?;
        print(format_args!("wrote {}", path.display()))?;
    }
    Ok(Answer::Yes)
}

fn unknown(of: &Command, name: &str) -> Failure {
    let names: Vec<&str> = of.get_subcommands().filter(|one| !one.is_hide_set()).map(Command::get_name).collect();
    let title = of.get_display_name().unwrap_or_else(|| of.get_name()).replace('-', " ");
    let help = match names.is_empty() {
        true => format!("it has no commands of its own: lcepatch man {}", title.trim_start_matches("lcepatch ")),
        false => format!("it has {}", names.join(", ")),
    };
    Failure::usage(format!("{title} has no command {name:?}"), help)
}

/// The name of the file of a page, and the page.
fn page(command: &Command) -> (String, String) {
    let man = Man::new(command.clone()).manual("lcepatch").source(concat!("lcepatch ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    // Nothing can fail that writes to memory.
    let _ = man.render(&mut text);
    (man.get_filename(), with_examples(&String::from_utf8_lossy(&text)))
}

/// A page whose lines that begin with blanks, which are examples, are not filled up with the next ones.
fn with_examples(page: &str) -> String {
    let mut out = String::new();
    let mut is_example = false;
    for line in page.lines() {
        let example = line.starts_with("  ");
        if example != is_example {
            out.push_str(if example { ".nf\n" } else { ".fi\n" });
        }
        is_example = example;
        out.push_str(if line == ".SH EXTRA" { ".SH NOTES AND EXAMPLES" } else { line });
        out.push('\n');
    }
    out
}

fn collect(command: &Command, pages: &mut Vec<(String, String)>) {
    pages.push(page(command));
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        collect(below, pages);
    }
}

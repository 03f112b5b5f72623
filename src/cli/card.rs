//! `lcepatch card`.

use super::exit::{print, print_json, print_text};
use super::terminal::Terminal;
use super::{Answer, Outcome, arguments, patch_argument};
use crate::durable::{Existing, check_new_file, write_file};
use crate::publish::card::{self, Described};
use crate::source::Parts;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
The card is what a hub shows of a repository, and its front matter what tools read: base model, licence, tags, measured results, ids \
and digests. It says what the patch changes, how it is used, what was measured with which error, and what it is not good for. With -o \
the figure is written beside it, as PATCH.svg. `lcepatch push` writes both by itself.

What stands in an existing README before and after the marks of lcepatch stays as it is.

Examples:
  lcepatch card debias.lcepatch
  lcepatch card debias.lcepatch -o README.md")]
pub struct Arguments {
    /// The patch
    patch: PathBuf,
    /// Write the card here, and the figure beside it; a README that is there keeps the text that others wrote [default: print the card]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print what was written as JSON
    #[arg(long, requires = "output")]
    json: bool,
}

/// What was written.
#[derive(Debug, serde::Serialize)]
struct Answered {
    /// The patch id.
    id: String,
    /// The card.
    card: String,
    /// The figure.
    figure: String,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    if let Some(output) = &arguments.output {
        arguments::refuse_inputs([output.as_path()], [arguments.patch.as_path()])?;
        check_new_file(output, Existing::Replace)?;
    }
    let patch = terminal.sources().patch(&arguments.patch, Parts::Some, &terminal.context())?;
    patch_argument::note_ignored(&patch, terminal);
    let file = card::file_name(&patch);
    let described = Described { file: &file, patch: &patch };
    let Some(output) = &arguments.output else {
        print_text(card::new(&[described]).as_bytes())?;
        return Ok(Answer::Yes);
    };
    let existing = card::existing(output)?;
    let figure = output.with_file_name(described.figure_name());
    check_new_file(&figure, Existing::Replace)?;
    arguments::refuse_inputs([figure.as_path()], [arguments.patch.as_path()])?;
    write_file(&figure, described.figure().as_bytes(), Existing::Replace)?;
    write_file(output, card::renewed(&existing, &card::Card::new(&[described])).as_bytes(), Existing::Replace)?;
    let (card, figure) = (output.display().to_string(), figure.display().to_string());
    match arguments.json {
        true => print_json(terminal, &Answered { id: patch.id().to_string(), card, figure })?,
        false => print(format_args!("wrote {card} and {figure}"))?,
    }
    Ok(Answer::Yes)
}

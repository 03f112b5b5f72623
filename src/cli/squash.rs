//! `lcepatch squash`.

use super::new_patch::{Base, Output, input};
use super::patch_argument;
use super::terminal::Terminal;
use super::{Answer, Outcome};
use crate::algebra::squash;
use crate::edit::AlphaSource;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
base -> v1 -> v2 becomes base -> v2, exactly; that the second patch is for what the first one gives is checked by digests. \
Both are taken at alpha 1.

Examples:
  lcepatch squash v1.lcepatch v2.lcepatch --base base/ -o both.lcepatch
  lcepatch squash portable-1.lcepatch portable-2.lcepatch -o both.lcepatch")]
pub struct Arguments {
    /// The first patch
    first: PathBuf,
    /// The second patch, for the result of the first
    second: PathBuf,
    #[command(flatten)]
    base: Base,
    #[command(flatten)]
    output: Output,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    arguments.output.check([arguments.first.as_path(), &arguments.second])?;
    let base = arguments.base.open(terminal)?;
    let (first, second) = (input(&arguments.first, terminal)?, input(&arguments.second, terminal)?);
    for edit in [&first, &second] {
        patch_argument::note_ignored(&edit.patch, terminal);
        if let (alpha, AlphaSource::Recommended) = edit.patch.default_alpha() {
            let path = edit.patch.name().display();
            terminal.note(&format!("{path} recommends alpha {alpha}; squash takes both patches at alpha 1"));
        }
    }
    let patch = squash(&first, &second, base.as_ref(), &terminal.context())?;
    terminal.done();
    arguments.output.save(terminal, &patch)?;
    Ok(Answer::Yes)
}

//! `lcepatch revert`.

use super::exit::{after, print};
use super::terminal::Terminal;
use super::{Answer, Outcome, patch_argument, status};
use crate::apply::Revert;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Takes the last apply back, in place and exactly, with the undo patch that `apply` kept beside the log. One that was written \
elsewhere with `apply --undo` is looked for by its name in the model directory, beside it and here, unless --undo says where it is.

Examples:
  lcepatch apply model/ debias.lcepatch --in-place
  lcepatch revert model/")]
pub struct Arguments {
    /// The model directory
    model: PathBuf,
    /// The undo patch
    #[arg(long, value_name = "PATCH")]
    undo: Option<PathBuf>,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    let model = patch_argument::own_checkpoint(&arguments.model, terminal)?;
    let step = Revert { model: &model, undo: arguments.undo.as_deref() }.run(&terminal.context())?;
    terminal.done();
    after(print(format_args!("{}: took back {}", arguments.model.display(), status::patches(&step))))?;
    Ok(Answer::Yes)
}

//! `lcepatch export`.

use super::exit::print;
use super::terminal::Terminal;
use super::{Answer, Outcome, patch_argument};
use crate::durable::Existing;
use crate::model::export::{FILE, export};
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
The graph takes input_ids and attention_mask and gives logits and last_hidden_state, in 32 bits whatever the weights are \
stored in. Its weights stay in the safetensors files: an edit of these is an edit of the model.

Examples:
  lcepatch export model/ -o model/              beside the weights
  lcepatch export model/ -o exported/           a new directory, with a copy of them")]
pub struct Arguments {
    /// The model directory
    model: PathBuf,
    /// Write the graph into this directory
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// Replace an existing graph
    #[arg(long)]
    force: bool,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    let checkpoint = patch_argument::model(&arguments.model, terminal)?;
    let existing = if arguments.force { Existing::Replace } else { Existing::Keep };
    export(checkpoint.path(), &checkpoint, &arguments.output, existing)?;
    print(format_args!("wrote {}", arguments.output.join(FILE).display()))?;
    Ok(Answer::Yes)
}

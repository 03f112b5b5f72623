//! `lcepatch log`.

use super::exit::{print, print_json};
use super::terminal::Terminal;
use super::{Answer, Outcome, patch_argument};
use crate::patch::Chosen;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
`apply` records in a model directory what it did, in lcepatch-log.json beside the weights: patch ids, edits, alphas, and the \
weight files' SHA-256 before and after.

Examples:
  lcepatch log edited/
  lcepatch log edited/ --json | jq .steps[-1].after")]
pub struct Arguments {
    /// The model directory
    model: PathBuf,
    /// Print the log as it is
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    let checkpoint = patch_argument::checkpoint(&arguments.model, terminal)?;
    let history = super::status::history(&checkpoint)?;
    if arguments.json {
        print_json(terminal, &history)?;
        return Ok(Answer::Yes);
    }
    if history.steps.is_empty() {
        print("no patch was applied here")?;
    }
    for (number, step) in history.steps.iter().enumerate().rev() {
        print(format_args!("{}  {}  {}", number + 1, step.time, super::status::patches(step)))?;
        for patch in &step.patches {
            print(format_args!("   patch {}", patch.id))?;
            if let Some(Chosen { include, exclude, components, .. }) = &patch.part {
                let chosen = [("include", include), ("exclude", exclude), ("component", components)];
                let flags =
                    chosen.iter().flat_map(|(flag, values)| values.iter().map(move |v| format!("--{flag} '{v}'")));
                print(format_args!("   of it {}", flags.collect::<Vec<_>>().join(" ")))?;
            }
        }
        match &step.undo {
            Some(undo) => print(format_args!("   undo  {} in {}", undo.id, undo.file))?,
            None => print("   undo  none")?,
        }
    }
    Ok(Answer::Yes)
}

//! `lcepatch status`.

use super::exit::{Failure, json_path, print, print_json};
use super::terminal::Terminal;
use super::{Answer, Outcome, patch_argument};
use crate::checkpoint::Checkpoint;
use crate::durable::abandoned;
use crate::history::{AppliedPatch, History, State, Step, digests, folder};
use crate::words::counted;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Compares the weight files' SHA-256 with the log that `apply` keeps in a model directory. Exit code 1 if they changed since.
Weights of which an edit in place was interrupted are refused (exit code 5), until `lcepatch recover` has ended it.
Whether a checkpoint is the base of a patch, or its result, is what `lcepatch check PATCH CHECKPOINT` says.

Examples:
  lcepatch status edited/")]
pub struct Arguments {
    /// The model directory
    model: PathBuf,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    let checkpoint = patch_argument::checkpoint(&arguments.model, terminal)?;
    let history = history(&checkpoint)?;
    let files = digests(&checkpoint, &checkpoint, &terminal.context())?;
    terminal.done();
    let state = history.state(&files);
    let model = arguments.model.display();
    // What killed processes left in the folder; the next write there removes it.
    let abandoned = folder(&checkpoint).map_or(Vec::new(), |folder| abandoned(&folder));
    if arguments.json {
        let steps = history.steps.len();
        print_json(
            terminal,
            &json!({
                "model": json_path(&arguments.model), "state": state, "steps": steps, "files": files,
                "abandoned": abandoned.iter().map(|path| json_path(path)).collect::<Vec<_>>(),
            }),
        )?;
    } else {
        let steps = history.steps.len();
        match state {
            State::NoSteps => print(format_args!("{model}: no patch was applied here"))?,
            State::After(at) if at == steps => print(format_args!("{model}: {}", described(&history, at)))?,
            State::After(at) => {
                print(format_args!(
                    "{model}: {}, as before the last of {}",
                    described(&history, at),
                    counted(steps, "step")
                ))?;
            }
            State::Changed => print(format_args!("{model}: changed since the last of {}", counted(steps, "step")))?,
        }
        for (name, sha256) in &files {
            print(format_args!("  {name}  sha256 {sha256}"))?;
        }
        for path in abandoned {
            let path = path.display();
            print(format_args!("  {path}: left by a process that was killed; the next write there removes it"))?;
        }
    }
    Ok(if state == State::Changed { Answer::No } else { Answer::Yes })
}

/// The log of a model directory.
pub fn history(checkpoint: &Checkpoint) -> Result<History, Failure> {
    let no_folder = || {
        let message = format!("{} is a file, and only model directories have a log", checkpoint.path().display());
        Failure::usage(message, "give the directory that it is in")
    };
    History::of(checkpoint)?.ok_or_else(no_folder)
}

fn described(history: &History, steps: usize) -> String {
    let applied = history.steps.iter().take(steps).map(|step| format!(" + {}", patches(step)));
    format!("the base{}", applied.collect::<String>())
}

/// What a step applied.
pub fn patches(step: &Step) -> String {
    let patch = |patch: &AppliedPatch| {
        let part =
            patch.part.as_ref().map_or(String::new(), |part| format!(" ({} of {} tensors)", part.tensors, part.of));
        match patch.alpha {
            Some(alpha) => format!("{}:{alpha}{part}", patch.file),
            None => format!("{} ({}){part}", patch.file, patch.edit),
        }
    };
    step.patches.iter().map(patch).collect::<Vec<_>>().join(" + ")
}

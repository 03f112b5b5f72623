//! `lcepatch revert`.

use super::exit::{Failure, print};
use super::new_patch::input;
use super::terminal::Terminal;
use super::{Answer, Outcome};
use clap::Args;
use lcepatch::apply::{Applied, Check, DifferentBase, Needed, NotFinite, Plan, PlanOptions, Refusal, in_place};
use lcepatch::checkpoint::Checkpoint;
use lcepatch::error::Error;
use lcepatch::history::{State, Undo, digests, folder};
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Takes the last apply back, in place and exactly, with the undo patch that `apply --undo` wrote. It is looked for by its \
name in the model directory, beside it and here, unless --undo says where it is.

Examples:
  lcepatch apply model/ debias.lcepatch --in-place --undo undo.lcepatch
  lcepatch revert model/")]
pub struct Arguments {
    /// The model directory
    model: PathBuf,
    /// The undo patch
    #[arg(long, value_name = "PATCH")]
    undo: Option<PathBuf>,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    let checkpoint = Checkpoint::open(&arguments.model)?;
    let mut history = super::status::history(&checkpoint)?;
    let refuse = |reason: String, help: &'static str| -> Failure {
        Refusal::NoRevert { path: arguments.model.clone(), reason, help }.into()
    };
    let context = terminal.context();
    let files = digests(&checkpoint, &checkpoint, &context)?;
    let state = history.state(&files);
    let Some(step) = history.steps.pop() else {
        return Err(refuse("no patch was applied here".to_owned(), "`lcepatch log` lists what was"));
    };
    if state != State::After(history.steps.len() + 1) {
        return Err(refuse("the weights changed since".to_owned(), "`lcepatch status` says what they are"));
    }
    let Some(undo) = &step.undo else {
        let reason = "no undo patch was written".to_owned();
        return Err(refuse(reason, "apply with --undo next time; the base itself can be downloaded again"));
    };
    let Some(path) = arguments.undo.clone().or_else(|| find(undo, &checkpoint)) else {
        return Err(refuse(format!("its undo patch {} is not here", undo.file), "say where it is with --undo"));
    };
    let edit = input(&path)?;
    if edit.patch.id.to_string() != undo.id {
        let reason = format!("{} has patch id {}, the log says {}", path.display(), edit.patch.id, undo.id);
        return Err(refuse(reason, "give the patch that was written when the last one was applied"));
    }
    let (check, different_base) = (Check::Full, DifferentBase::Refuse);
    let options = PlanOptions { check, different_base, not_finite: NotFinite::Refuse, prefix: None };
    let edits = [edit];
    let plan = Plan::check(&checkpoint, &edits, &options, &context)?;
    let is_what_it_was = |result: &Checkpoint, _: &Applied| -> Result<(), Error> {
        if digests(result, &checkpoint, &context)? == step.before {
            return Ok(());
        }
        let (path, reason) = (arguments.model.clone(), "it would not be what it was before".to_owned());
        Err(Refusal::NoRevert { path, reason, help: "the undo patch or the log was changed" }.into())
    };
    in_place(&plan, Needed::Result, is_what_it_was, &context)?;
    history.save(&checkpoint)?;
    terminal.done();
    print(format_args!("{}: took back {}", arguments.model.display(), super::status::patches(&step)))?;
    Ok(Answer::Yes)
}

/// Where the undo patch may be.
fn find(undo: &Undo, checkpoint: &Checkpoint) -> Option<PathBuf> {
    // Only a plain name: a log that someone else made must not lead anywhere.
    let name = PathBuf::from(&undo.file);
    name.components().eq(name.file_name().map(std::path::Component::Normal)).then_some(())?;
    let folder = folder(checkpoint)?;
    let places = [folder.join(&name), folder.join("..").join(&name), name];
    places.into_iter().find(|path| path.is_file())
}

//! `lcepatch select`.

use super::new_patch::{Base, Output, input};
use super::terminal::Terminal;
use super::{Answer, Outcome, arguments};
use crate::algebra::{Filter, select};
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Makes a selection smaller without the checkpoints it came from. Whole tensors can be taken from any patch; to take the \
largest differences, a patch must be portable, or its base given.

Examples:
  lcepatch select wide.lcepatch --include '*.layer.11.*' -o last-layer.lcepatch
  lcepatch select wide.lcepatch --component attention.output --top 10% --base model/ -o small.lcepatch")]
pub struct Arguments {
    /// The patch
    patch: PathBuf,
    /// Only the largest differences: a share of what is selected, or a count
    #[arg(long, value_parser = arguments::top, value_name = "SHARE%|COUNT")]
    top: Option<crate::diff::Amount>,
    /// Only tensors whose name matches this glob; may be repeated
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// No tensor whose name matches this glob; may be repeated
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Only this component, such as attention.output; may be repeated
    #[arg(long, value_name = "NAME")]
    component: Vec<String>,
    #[command(flatten)]
    base: Base,
    #[command(flatten)]
    output: Output,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    arguments.output.check([arguments.patch.as_path()])?;
    let base = arguments.base.open(terminal)?;
    let filter = Filter {
        include: arguments.include.clone(),
        exclude: arguments.exclude.clone(),
        components: arguments.component.clone(),
    };
    let patch =
        select(&input(&arguments.patch, terminal)?, &filter, arguments.top, base.as_ref(), &terminal.context())?;
    terminal.done();
    arguments.output.save(terminal, &patch)?;
    Ok(Answer::Yes)
}

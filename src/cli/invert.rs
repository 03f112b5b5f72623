//! `lcepatch invert`.

use super::new_patch::{Base, Output, input};
use super::terminal::Terminal;
use super::{Answer, Outcome};
use crate::algebra::invert;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
The new patch is for the reference and leads to the base. Inverting it gives the first patch again.
A portable patch needs nothing else; a full delta (diff --all) needs its base.

Examples:
  lcepatch invert portable.lcepatch -o inverse.lcepatch
  lcepatch invert update.lcepatch --base v1/ -o downdate.lcepatch")]
pub struct Arguments {
    /// The patch
    patch: PathBuf,
    #[command(flatten)]
    base: Base,
    #[command(flatten)]
    output: Output,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    arguments.output.check([arguments.patch.as_path()])?;
    let base = arguments.base.open(terminal)?;
    let patch = invert(&input(&arguments.patch, terminal)?, base.as_ref(), &terminal.context())?;
    terminal.done();
    arguments.output.save(terminal, &patch)?;
    Ok(Answer::Yes)
}

//! `lcepatch combine`.

use super::exit::Failure;
use super::new_patch::{Base, Output};
use super::terminal::Terminal;
use super::{Answer, Outcome, pair, patch_argument};
use crate::algebra::{Combined, Signs, combine};
use crate::apply::Edit;
use crate::diff::shard;
use crate::edit::{Alpha, AlphaSource, EditKind};
use crate::input::{self, Found};
use crate::words::{count, counted};
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};

#[derive(Args)]
#[command(after_help = "\
At alpha 1 the new patch gives what its parts give together, each at its weight: base + the sum of weight * delta, rounded once. \
Where parts \
move a weight in opposite directions, --signs sum adds them all the same; --signs ties elects the sign of the weighted sum \
and leaves out the parts that are against it (sign election as in TIES merging, without its averaging).

The parts that `lcepatch diff --shard` writes become the patch that one process would write.

Examples:
  lcepatch combine gender.lcepatch:-2 age.lcepatch:-1 --base model/ -o debias.lcepatch
  lcepatch combine a.lcepatch b.lcepatch:0.5 --signs ties --base model/ -o both.lcepatch
  lcepatch combine 1.part 2.part 3.part 4.part -o whole.lcepatch")]
pub struct Arguments {
    /// Patches of one base, each with its weight after a colon [default: the alpha that it recommends, or else 1]; or all parts
    /// of one diff
    #[arg(required = true, value_name = "PATCH[:WEIGHT]|PART", value_hint = clap::ValueHint::FilePath)]
    patches: Vec<String>,
    /// What to do where patches disagree about the direction
    #[arg(long, default_value = "sum")]
    signs: SignRule,
    #[command(flatten)]
    base: Base,
    #[command(flatten)]
    output: Output,
}

// Comments on its values would be in the help.
/// What to do where patches disagree about the direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SignRule {
    Sum,
    Ties,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    let named = arguments.patches.iter().map(|text| patch_argument::with_number(text));
    let named = named.collect::<Result<Vec<_>, Failure>>()?;
    arguments.output.check(named.iter().map(|(path, _)| path.as_path()))?;
    if arguments.patches.iter().any(|path| input::is(Path::new(path), Found::Part)) {
        return join_parts(arguments, terminal);
    }
    let base = arguments.base.open(terminal)?;
    let edit = |(path, weight): (PathBuf, Option<Alpha>)| {
        let patch = patch_argument::open(&path, terminal)?;
        patch_argument::note_ignored(&patch, terminal);
        let (default, source) = patch.default_alpha();
        if weight.is_none() && source == AlphaSource::Recommended {
            terminal.note(&format!("{} gets weight {default}, the alpha that it recommends", path.display()));
        }
        Ok(Edit { patch, kind: EditKind::Interpolate(weight.unwrap_or(default)) })
    };
    let edits = named.into_iter().map(edit).collect::<Result<Vec<_>, Failure>>()?;
    let signs = match arguments.signs {
        SignRule::Sum => Signs::Sum,
        SignRule::Ties => Signs::Elect,
    };
    let Combined { patch, selected, overlapping, conflicting } =
        combine(&edits, signs, base.as_ref(), &terminal.context())?;
    terminal.done();
    terminal.note(&format!(
        "{} in all, in several patches {}, moved in opposite directions {}",
        counted(selected, "weight"),
        count(overlapping),
        count(conflicting)
    ));
    arguments.output.save(terminal, &patch)?;
    Ok(Answer::Yes)
}

fn join_parts(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    if arguments.base.is_given() || arguments.signs != SignRule::Sum {
        return Err(Failure::usage("--base and --signs are for patches, and these are parts", "leave them out"));
    }
    let parts: Vec<PathBuf> = arguments.patches.iter().map(PathBuf::from).collect();
    let diffed = shard::join(&parts, &terminal.context())?;
    terminal.done();
    pair::print_notes(&diffed, terminal);
    arguments.output.save(terminal, &diffed.patch)?;
    Ok(Answer::Yes)
}

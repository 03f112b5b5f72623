//! `lcepatch import`.

use super::new_patch::Output;
use super::terminal::Terminal;
use super::{Answer, Outcome, arguments, patch_argument};
use crate::exchange::{Imported, shira, values};
use crate::pair::{Prefix, PrefixMap};
use crate::words::counted;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
A SHiRA adapter, PEFT's kind of scattered weights, becomes the patch that makes the same bytes of the base as merge_and_unload does. What \
it lists and does not change is left out.

A file of values, which has {name}.indices and {name}.values, becomes the patch that sets these elements.

Other adapters are not lists of weights: merge them with PEFT, save the model, and make the patch with `lcepatch diff`.

Examples:
  lcepatch import adapter/ --from shira --base model/ -o adapter.lcepatch
  lcepatch import adapter/ --from shira --base model/ --map-prefix bert.= -o adapter.lcepatch
  lcepatch import step-7.safetensors --from values --base model/ -o step-7.lcepatch")]
pub struct Arguments {
    /// What another tool wrote: the directory of an adapter, or a file of values
    #[arg(value_name = "ADAPTER|FILE")]
    input: PathBuf,
    /// What it is
    #[arg(long, value_name = "FORMAT")]
    from: Format,
    /// The checkpoint that it is for
    #[arg(long, value_name = "CHECKPOINT")]
    base: PathBuf,
    /// Exchange a prefix of the model's names for one of the base's, as in `bert.=`; may be repeated, and the longest one that fits
    /// counts
    #[arg(long, value_name = "MODEL=BASE", value_parser = arguments::prefix_map)]
    map_prefix: Vec<Prefix>,
    #[command(flatten)]
    output: Output,
}

/// What becomes a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// An adapter of scattered weights of PEFT
    Shira,
    /// New values by flat index
    Values,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    arguments.output.check([arguments.input.as_path(), arguments.base.as_path()])?;
    let base = patch_argument::checkpoint(&arguments.base, terminal)?;
    let prefix = PrefixMap::new(arguments.map_prefix.clone());
    let Imported { patch, unchanged } = match arguments.from {
        Format::Values => {
            let file = patch_argument::checkpoint(&arguments.input, terminal)?;
            values::import(&file, &base, prefix.as_ref(), &terminal.context())?
        }
        Format::Shira => shira::import(&arguments.input, &base, prefix.as_ref(), &terminal.context())?,
    };
    terminal.done();
    if unchanged > 0 {
        terminal.note(&format!("{} are listed and stay what they are in the base", counted(unchanged, "weight")));
    }
    arguments.output.save(terminal, &patch)?;
    Ok(Answer::Yes)
}

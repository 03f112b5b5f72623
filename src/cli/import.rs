//! `lcepatch import`.

use super::exit::{Failure, Written, json_path, print, print_json};
use super::new_patch::Output;
use super::terminal::Terminal;
use super::{Answer, Outcome, advice, arguments, patch_argument};
use crate::checkpoint::Checkpoint;
use crate::exchange::{Imported, shira, torch, values};
use crate::pair::{Prefix, PrefixMap};
use crate::report::table::bytes;
use crate::words::counted;
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};

#[derive(Args)]
#[command(after_help = "\
A SHiRA adapter, PEFT's kind of scattered weights, becomes the patch that makes the same bytes of the base as merge_and_unload does. What \
it lists and does not change is left out.

A file of values, which has {name}.indices and {name}.values, becomes the patch that sets these elements.

A file of torch.save (.bin, .pt, .pth), which is a pickle that could run anything, becomes a safetensors file with the same tensors, for \
every other command; nothing in it is run. That goes for state dicts and for masks. Files of several shards are given together.

Other adapters are not lists of weights: merge them with PEFT, save the model, and make the patch with `lcepatch diff`.

Examples:
  lcepatch import adapter/ --from shira --base model/ -o adapter.lcepatch
  lcepatch import adapter/ --from shira --base model/ --map-prefix bert.= -o adapter.lcepatch
  lcepatch import step-7.safetensors --from values --base model/ -o step-7.lcepatch
  lcepatch import pytorch_model.bin --from torch -o model.safetensors")]
pub struct Arguments {
    /// What another tool wrote: the directory of an adapter, a file of values, or files of torch.save
    #[arg(required = true, value_name = "ADAPTER|FILE")]
    input: Vec<PathBuf>,
    /// What it is
    #[arg(long, value_name = "FORMAT")]
    from: Format,
    /// The checkpoint that an adapter or values are for
    #[arg(long, value_name = "CHECKPOINT")]
    base: Option<PathBuf>,
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
    /// A state dict or masks of torch.save, which become a safetensors file
    Torch,
    /// Refused with the reason
    #[value(hide = true)]
    Gguf,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    let inputs = arguments.input.iter().chain(&arguments.base);
    arguments.output.check(inputs.map(PathBuf::as_path))?;
    match arguments.from {
        Format::Gguf => Err(Failure::usage("GGUF is not read", advice::files::GGUF)),
        Format::Torch => torch(arguments, terminal),
        Format::Shira => patch(arguments, terminal, |input, base, prefix| {
            Ok(shira::import(input, base, prefix, &terminal.context())?)
        }),
        Format::Values => patch(arguments, terminal, |input, base, prefix| {
            let file = patch_argument::checkpoint(input, terminal)?;
            Ok(values::import(&file, base, prefix, &terminal.context())?)
        }),
    }
}

/// Imports a file that is about the numbers of a base.
fn patch(
    arguments: &Arguments,
    terminal: &Terminal,
    import: impl FnOnce(&Path, &Checkpoint, Option<&PrefixMap>) -> Result<Imported, Failure>,
) -> Outcome {
    let [input] = &arguments.input[..] else {
        return Err(Failure::usage("several inputs become one only with --from torch", "give one of them"));
    };
    let Some(base) = &arguments.base else {
        let message = "what is imported is about the numbers of a base, and none is given";
        return Err(Failure::usage(message, "add --base with the checkpoint that it is for"));
    };
    let base = patch_argument::checkpoint(base, terminal)?;
    let prefix = PrefixMap::new(arguments.map_prefix.clone());
    let Imported { patch, unchanged } = import(input, &base, prefix.as_ref())?;
    terminal.done();
    if unchanged > 0 {
        terminal.note(&format!("{} are listed and stay what they are in the base", counted(unchanged, "weight")));
    }
    arguments.output.save(terminal, &patch)?;
    Ok(Answer::Yes)
}

fn torch(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    if arguments.base.is_some() || !arguments.map_prefix.is_empty() {
        let message =
            "--base and --map-prefix are for adapters and values, and a state dict becomes a checkpoint of its own";
        return Err(Failure::usage(message, "leave them out"));
    }
    let checkpoint = torch::open(&arguments.input, &terminal.context())?;
    let output = arguments.output.path();
    let converted = torch::convert(&checkpoint, output, arguments.output.existing(), &terminal.context())?;
    terminal.done();
    if arguments.output.json() {
        print_json(terminal, &Written { path: json_path(output), content: converted })?;
        return Ok(Answer::Yes);
    }
    let torch::Converted { tensors, elements, bytes: size } = converted;
    print(format_args!(
        "wrote {}: {} in {}, {}",
        output.display(),
        counted(elements, "element"),
        counted(tensors, "tensor"),
        bytes(size)
    ))?;
    Ok(Answer::Yes)
}

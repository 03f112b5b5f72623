//! `lcepatch export`.

use super::exit::{Failure, Written, json_path, print, print_json};
use super::terminal::Terminal;
use super::{Answer, Outcome, advice, arguments, patch_argument};
use crate::apply::Edit;
use crate::checkpoint::Checkpoint;
use crate::durable::Existing;
use crate::durable::check_new_file;
use crate::edit::{Alpha, AlphaSource};
use crate::exchange::{shira, values};
use crate::input::{self, Found};
#[cfg(feature = "verify")]
use crate::model::export::{FILE, export};
use crate::pair::{Prefix, PrefixMap};
use crate::report::table::{bytes, percent};
use crate::words::{count, counted};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Of a patch, --to shira makes an adapter of the weights that it changes in linear layers. PEFT loads it, and merges it to the same \
bytes that `lcepatch apply` writes:

  model = PeftModel.from_pretrained(model, \"adapter/\").merge_and_unload()

Load it with PeftModel only: AutoModel.from_pretrained takes the adapter's numbers and leaves its positions out. For the same reason an \
adapter is never written beside patches. What else a patch changes, such as embeddings, norms and biases, is refused by \
name. docs/neighbours.md has the details, and how mergekit uses it.

--to values writes the new value of every element that changes, and its flat index: {name}.values and {name}.indices of one safetensors \
file, as vLLM's CheckpointWeightPatch takes them, and trainers that hand weights to it. NaN is refused, since there it means that a \
weight does not change.

Of a model directory, --to onnx writes its graph. It takes input_ids and attention_mask and gives logits and last_hidden_state, in 32 \
bits whatever the weights are stored in. Its weights stay in the safetensors files: an edit of these is an edit of the model.

Examples:
  lcepatch export debias.lcepatch --to shira --base model/ -o adapter/
  lcepatch export debias.lcepatch --to shira --base model/ --alpha -2 -o adapter/
  lcepatch export debias.lcepatch --to values --base model/ -o debias.safetensors
  lcepatch export model/ -o model/              the graph, beside the weights
  lcepatch export model/ -o exported/           a new directory, with a copy of them")]
pub struct Arguments {
    /// The patch, or the model directory
    #[arg(value_name = "PATCH|MODEL")]
    input: PathBuf,
    /// What to write [default: onnx of a model directory]
    #[arg(long, value_name = "FORMAT")]
    to: Option<Format>,
    /// The checkpoint that the patch is for
    #[arg(long, value_name = "CHECKPOINT")]
    base: Option<PathBuf>,
    /// How strongly the patch is applied [default: what it recommends, or else 1]
    #[arg(long, short, value_parser = arguments::alpha, allow_hyphen_values = true)]
    alpha: Option<Alpha>,
    /// Exchange a prefix of the base's names for one of the model that the adapter is loaded into, as in `=bert.`; may be repeated,
    /// and the longest one that fits counts
    #[arg(long, value_name = "BASE=MODEL", value_parser = arguments::prefix_map)]
    map_prefix: Vec<Prefix>,
    /// Indices of 64 bits, for tensors of 2^31 elements and more
    #[arg(long)]
    wide: bool,
    /// Write here: the directory of an adapter or a graph, or a file of values
    #[arg(long, short, value_name = "DIR|FILE")]
    output: PathBuf,
    /// Replace an existing graph or file; write an adapter that is mostly padding
    #[arg(long)]
    force: bool,
    /// Print what was written as JSON
    #[arg(long)]
    json: bool,
}

/// What a patch or a model becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The graph of a model, as an ONNX file that uses the weights where they are
    #[cfg(feature = "verify")]
    Onnx,
    /// An adapter of scattered weights for PEFT
    Shira,
    /// New values by flat index
    Values,
    /// Refused with the reason
    #[value(hide = true)]
    Gguf,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    match arguments.to {
        Some(Format::Shira) => shira(arguments, terminal),
        Some(Format::Values) => values(arguments, terminal),
        Some(Format::Gguf) => Err(Failure::usage("GGUF is not written", advice::files::GGUF)),
        None if input::is(&arguments.input, Found::Patch) => {
            let message = format!("{} is a patch, and what it shall become is not said", arguments.input.display());
            Err(Failure::usage(message, "add --to shira or --to values, and --base"))
        }
        #[cfg(feature = "verify")]
        Some(Format::Onnx) | None => onnx(arguments, terminal),
        #[cfg(not(feature = "verify"))]
        None => Err(Failure::usage("what to write is not said", "add --to")),
    }
}

#[cfg(feature = "verify")]
fn onnx(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    let Arguments { base, alpha, map_prefix, wide, json, .. } = arguments;
    if base.is_some() || alpha.is_some() || !map_prefix.is_empty() || *wide || *json {
        let message =
            "--base, --alpha, --map-prefix, --wide and --json are for patches, and a graph is made of a model";
        return Err(Failure::usage(message, "leave them out"));
    }
    let checkpoint = patch_argument::model(&arguments.input, terminal)?;
    let notes = export(checkpoint.path(), &checkpoint, &arguments.output, existing(arguments))?;
    notes.iter().for_each(|note| terminal.note(note));
    print(format_args!("wrote {}", arguments.output.join(FILE).display()))?;
    Ok(Answer::Yes)
}

/// The base and the patch, with its alpha.
fn base_and_edit(arguments: &Arguments, terminal: &Terminal) -> Result<(Checkpoint, Edit), Failure> {
    let Some(base) = &arguments.base else {
        let message = "the numbers of an export depend on the base, and none is given";
        return Err(Failure::usage(message, "add --base with the checkpoint that the patch is for"));
    };
    let patch = patch_argument::open(&arguments.input, terminal)?;
    patch_argument::note_ignored(&patch, terminal);
    let (default, source) = patch.default_alpha();
    if arguments.alpha.is_none() && source == AlphaSource::Recommended {
        terminal.note(&format!("exported at alpha {default}, which the patch recommends"));
    }
    let edit = Edit::at(patch, arguments.alpha.unwrap_or(default));
    Ok((patch_argument::checkpoint(base, terminal)?, edit))
}

fn existing(arguments: &Arguments) -> Existing {
    if arguments.force { Existing::Replace } else { Existing::Keep }
}

fn values(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    if !arguments.map_prefix.is_empty() {
        let message = "--map-prefix is for adapters, and a file of values has the names of the base";
        return Err(Failure::usage(message, "leave it out"));
    }
    let inputs = [Some(&arguments.input), arguments.base.as_ref()].into_iter().flatten();
    arguments::refuse_inputs([arguments.output.as_path()], inputs.map(PathBuf::as_path))?;
    check_new_file(&arguments.output, existing(arguments))?;
    let (base, edit) = base_and_edit(arguments, terminal)?;
    let indices = if arguments.wide { values::Indices::Wide } else { values::Indices::Narrow };
    let output = &arguments.output;
    let exported = values::export(&base, &edit, indices, output, existing(arguments), &terminal.context())?;
    terminal.done();
    if arguments.json {
        print_json(terminal, &Written { path: json_path(output), content: exported })?;
        return Ok(Answer::Yes);
    }
    let values::Exported { tensors, changed, bytes: size } = exported;
    print(format_args!(
        "wrote {}: {} in {}, {}",
        output.display(),
        counted(changed, "value"),
        counted(tensors, "tensor"),
        bytes(size)
    ))?;
    Ok(Answer::Yes)
}

fn shira(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    if arguments.wide {
        return Err(Failure::usage("--wide is for files of values", "leave it out"));
    }
    shira::check_output(&arguments.output)?;
    let (base, edit) = base_and_edit(arguments, terminal)?;
    let prefix = PrefixMap::new(arguments.map_prefix.clone());
    let options = shira::Options { any_padding: arguments.force, prefix };
    let exported = shira::export(&base, &edit, &options, &arguments.output, &terminal.context())?;
    terminal.done();
    if exported.inexact > 0 {
        terminal.note(&format!(
            "{} of {} would need more than single precision: there PEFT's result is the nearest that it reaches, not the patch's",
            count(exported.inexact),
            counted(exported.changed, "weight")
        ));
    }
    if arguments.json {
        print_json(terminal, &Written { path: json_path(&arguments.output), content: exported })?;
        return Ok(Answer::Yes);
    }
    let shira::Exported { modules, changed, padding, r, bytes: size, .. } = exported;
    print(format_args!(
        "wrote {}: {} in {}, r = {r}, {}, of which {} is padding",
        arguments.output.display(),
        counted(changed, "weight"),
        counted(modules, "module"),
        bytes(size),
        percent(padding, padding + changed)
    ))?;
    Ok(Answer::Yes)
}

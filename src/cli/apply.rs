//! `lcepatch apply`.

#[cfg(feature = "verify")]
mod onnx;

use super::exit::{Failure, print, print_json};
use super::terminal::Terminal;
use super::{Answer, Outcome, arguments, mask, patch_argument};
use clap::Args;
use lcepatch::apply::{Applied, Check, DifferentBase, Edit, Needed, NotFinite, Plan, PlanOptions, in_place, to_path};
use lcepatch::checkpoint::pair::PrefixMap;
use lcepatch::checkpoint::{Checkpoint, Tensor, WeightFile};
use lcepatch::context::{Cancelled, Context};
use lcepatch::diff::undo;
use lcepatch::digest::Digest;
use lcepatch::durable::{Existing, Failed};
use lcepatch::edit::{Alpha, EditKind};
use lcepatch::error::Error;
use lcepatch::history::{History, Step, Undo, digests};
use lcepatch::localize::candidates::CandidateOptions;
use lcepatch::localize::survey::of_files;
use lcepatch::mask::PruningMask;
use lcepatch::report::table::count;
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Args)]
#[command(after_help = "\
The result is base + alpha * (reference - base) at the selected weights: alpha 1 gives the reference's bits there, \
0 the base's, 0.5 the middle; negative ones move away from the reference, ones above 1 past it. Several patches add up.

Before anything is written the base is checked: by default every tensor that a patch changes is hashed (about a \
quarter of a second a gigabyte and core); --quick compares the values at the selected weights only.

With --in-place the weights are changed in the files themselves, with a journal of what they held beside them: it takes no second \
copy, and a crash leaves nothing half done (`lcepatch recover`). With --undo, where most weights change, and for links and files \
with several names, new files take the place of the old ones.

A directory gives a directory: configuration, tokenizer and index come along; weights in other formats do not. An .onnx file \
gives an .onnx file: its weights, inside it or in files beside it, are recognized by the digests of the patch's base, as they are \
or transposed.

Examples:
  lcepatch apply model/ debias.lcepatch --alpha -2 -o edited/
  lcepatch apply model.safetensors a.lcepatch:0.5 b.lcepatch:-2 -o edited.safetensors
  lcepatch apply model/ debias.lcepatch --in-place --undo undo.lcepatch
  lcepatch apply model.onnx debias.lcepatch --alpha -2 -o edited/model.onnx
  lcepatch apply pruned/ p.lcepatch --edit sw -o switched/ --keep-mask switched-mask.safetensors")]
pub struct Arguments {
    /// The checkpoint to edit: a file, an index of shards, a model directory or an ONNX file
    base: PathBuf,
    /// Patches, each with its own alpha after a colon if it is not --alpha
    #[arg(required = true, value_name = "PATCH[:ALPHA]")]
    patches: Vec<String>,
    /// How strongly to apply the patches [default: 1]
    #[arg(long, short, value_parser = arguments::alpha, allow_negative_numbers = true)]
    alpha: Option<Alpha>,
    /// What to do with the selected weights [default: ip or ep, by alpha]
    #[arg(long, value_parser = ["ip", "ep", "pr", "sw"], long_help = "\
What to do with the selected weights:
  ip  interpolate: base + alpha * (reference - base), alpha from 0 to 1
  ep  extrapolate: the same, with any other alpha
  pr  prune: set them to 0
  sw  switch masks: take the reference's pruning mask, and the base's own values from before it was pruned
[default: ip or ep, by alpha]")]
    edit: Option<String>,
    /// Write the pruning mask of the result to this mask file
    #[arg(long, value_name = "MASK", help_heading = "Pruned models")]
    keep_mask: Option<PathBuf>,
    /// The base's pruning mask, for --keep-mask [default: X_mask beside X_orig, or the base's zeros]
    #[arg(long, value_name = "MASK", requires = "keep_mask", help_heading = "Pruned models")]
    mask: Option<PathBuf>,
    /// Write the result here
    #[arg(long, short, value_name = "RESULT", required_unless_present = "in_place", conflicts_with = "in_place")]
    output: Option<PathBuf>,
    /// Change the base itself: all of it, or after an error or a crash nothing
    #[arg(long)]
    in_place: bool,
    /// Write the patch that takes the result back to the base, exactly
    #[arg(long, value_name = "PATCH")]
    undo: Option<PathBuf>,
    /// Check the base's values at the selected weights only
    #[arg(long)]
    quick: bool,
    /// Add the deltas of a portable patch to a checkpoint that is not its base
    #[arg(long)]
    allow_different_base: bool,
    /// Write infinities and NaN where an edit leaves the range of the dtype
    #[arg(long)]
    allow_non_finite: bool,
    /// Exchange a prefix of the patches' names for one of the base's, as in `bert.=`
    #[arg(long, value_name = "PATCH=BASE", value_parser = arguments::prefix_map)]
    map_prefix: Option<PrefixMap>,
    /// Do not record this apply in the model directory's log
    #[arg(long)]
    no_log: bool,
    /// Replace an existing output file
    #[arg(long)]
    force: bool,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments, terminal: &Terminal) -> Outcome {
    let existing = if arguments.force { Existing::Replace } else { Existing::Keep };
    let outputs = [&arguments.output, &arguments.undo, &arguments.keep_mask];
    if let Some(path) = outputs.into_iter().flatten().find(|path| path.is_file() && !arguments.force) {
        return Err(Failed::Exists { path: path.clone() }.into());
    }
    #[cfg(feature = "verify")]
    if patch_argument::is_onnx(&arguments.base) {
        return onnx::run(&arguments, existing, terminal);
    }
    let base = Checkpoint::open(&arguments.base)?;
    let (edits, options) = (edits(&arguments)?, plan_options(&arguments));
    let context = terminal.context();
    let plan = Plan::check(&base, &edits, &options, &context)?;
    if plan.is_added() {
        terminal.note("THIS IS NOT THE PATCH'S BASE: its deltas are added all the same, and nothing is promised");
    }
    if let Some(path) = &arguments.keep_mask {
        write_mask(&arguments, &plan, path, existing, &context)?;
    }
    let mut history = if arguments.no_log { None } else { History::of(&base)? };
    // Ahead of the edit: in place, there is no base after it.
    let before = history.is_some().then(|| digests(&base, &base, &context)).transpose()?;
    let needed = if arguments.undo.is_some() { Needed::Both } else { Needed::Result };
    let mut is_reference = false;
    let before_commit = |result: &Checkpoint, applied: &Applied| -> Result<(), Error> {
        let undo =
            arguments.undo.as_deref().map(|path| write_undo(&plan, result, path, existing, &context)).transpose()?;
        is_reference = is_reference_of(&plan, result, applied, &context)?;
        if let (Some(history), Some(before)) = (&mut history, before) {
            let after = digests(result, &base, &context)?;
            history.steps.push(Step::new(&edits, before, after, undo));
            if arguments.output.is_some() {
                history.save(result)?;
            }
        }
        Ok(())
    };
    let applied = match &arguments.output {
        Some(output) => to_path(&plan, output, existing, before_commit, &context)?,
        None => in_place(&plan, needed, before_commit, &context)?,
    };
    if let (Some(history), true) = (&history, arguments.in_place) {
        history.save(&base)?;
    }
    terminal.done();
    let result = arguments.output.as_deref().unwrap_or(&arguments.base);
    report(&arguments, result, &applied, is_reference, terminal)?;
    Ok(Answer::Yes)
}

/// Writes the patch that leads from `result` back to the base.
fn write_undo(
    plan: &Plan<'_>,
    result: &Checkpoint,
    path: &Path,
    existing: Existing,
    context: &Context<'_>,
) -> Result<Undo, Error> {
    let changed: Vec<String> = plan.changed().map(str::to_owned).collect();
    let patch = undo(result, plan.base(), &changed, context)?;
    patch.save(path, existing)?;
    Ok(Undo::new(patch.id, path))
}

/// Whether the files of `result` are those of the patch's reference, every byte, as far as that is known.
fn is_reference_of(
    plan: &Plan<'_>,
    result: &Checkpoint,
    applied: &Applied,
    context: &Context<'_>,
) -> Result<bool, Cancelled> {
    let Some(metadata) = plan.whole_difference() else { return Ok(false) };
    let files = &metadata.reference.files;
    if !files.iter().map(|file| file.bytes).eq(result.files.iter().map(WeightFile::bytes)) {
        return Ok(false);
    }
    if files.iter().all(|file| file.content.is_some()) {
        let contents = of_files(result, &applied.digests, context)?;
        return Ok(contents.iter().map(Digest::to_string).eq(files.iter().flat_map(|file| file.content.clone())));
    }
    // As in patches of format 1.0 and 1.1.
    let sha256 = result.files.iter().map(|file| file.sha256(context)).collect::<Result<Vec<Digest>, Cancelled>>()?;
    Ok(sha256.iter().map(|digest| Some(digest.to_string())).eq(files.iter().map(|file| file.sha256.clone())))
}

fn report(
    arguments: &Arguments,
    result: &Path,
    applied: &Applied,
    is_reference: bool,
    terminal: &Terminal,
) -> Result<(), Failure> {
    if !applied.left_behind.is_empty() {
        let names = applied.left_behind.join(", ");
        terminal.note(&format!("not carried along, since they hold the base's weights: {names}"));
    }
    if arguments.json {
        return print_json(&json!({
            "result": result, "edited": applied.edited, "tensors": applied.tensors, "verified": applied.verified,
            "is_reference": is_reference, "left_behind": applied.left_behind, "undo": arguments.undo,
        }));
    }
    let verified = match (is_reference, applied.verified) {
        (true, _) => "; every byte is the reference's, by its digest",
        (false, true) => "; the digest is the one that the patch promises",
        (false, false) => "",
    };
    let (edited, tensors) = (count(applied.edited), applied.tensors);
    print(format_args!("wrote {}: {edited} weights edited in {tensors} tensors{verified}", result.display()))?;
    if let Some(mask) = &arguments.keep_mask {
        print(format_args!("wrote {}: the mask of the result", mask.display()))?;
    }
    if let Some(undo) = &arguments.undo {
        print(format_args!("wrote {}: it takes this back", undo.display()))?;
    }
    Ok(())
}

/// Writes the mask that the result will have.
fn write_mask(
    arguments: &Arguments,
    plan: &Plan<'_>,
    path: &Path,
    existing: Existing,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let base = plan.base();
    let file = arguments.mask.as_deref().map(Checkpoint::open).transpose()?;
    let tensors = mask::candidates(base, &CandidateOptions::default())?;
    let base_mask = match &file {
        Some(file) => PruningMask::stored(file, base)?,
        None => PruningMask::pairs(base).unwrap_or_else(|_| PruningMask::zeros(tensors.iter().copied())),
    };
    let mask = plan.result_mask(&base_mask, context)?;
    let covered: Vec<Tensor<'_>> = mask.names().filter_map(|name| base.tensor(name)).collect();
    Ok(lcepatch::mask::file::write(&mask, &covered, path, existing, context)?)
}

fn plan_options(arguments: &Arguments) -> PlanOptions {
    PlanOptions {
        check: if arguments.quick { Check::Quick } else { Check::Full },
        different_base: if arguments.allow_different_base { DifferentBase::Add } else { DifferentBase::Refuse },
        not_finite: if arguments.allow_non_finite { NotFinite::Write } else { NotFinite::Refuse },
        prefix: arguments.map_prefix.clone(),
    }
}

fn edits(arguments: &Arguments) -> Result<Vec<Edit>, Failure> {
    arguments.patches.iter().map(|patch| edit(patch, arguments)).collect()
}

fn edit(text: &str, arguments: &Arguments) -> Result<Edit, Failure> {
    let (path, alpha) = patch_argument::with_number(text)?;
    let kind = kind(arguments.edit.as_deref(), alpha.or(arguments.alpha))?;
    Ok(Edit { patch: patch_argument::open(&path)?, path, kind })
}

fn kind(edit: Option<&str>, alpha: Option<Alpha>) -> Result<EditKind, Failure> {
    let by_alpha = EditKind::Interpolate(alpha.unwrap_or(Alpha::ONE));
    match (edit, alpha) {
        (None, _) => Ok(by_alpha),
        (Some("pr"), None) => Ok(EditKind::Prune),
        (Some("sw"), None) => Ok(EditKind::Switch),
        (Some(edit @ ("pr" | "sw")), Some(_)) => {
            Err(Failure::usage(format!("--edit {edit} takes no alpha"), "leave --alpha out"))
        }
        (Some("ep"), None) => Err(Failure::usage("extrapolation takes an alpha", "give one with --alpha, such as -2")),
        (Some(edit), _) if edit == by_alpha.label() => Ok(by_alpha),
        (Some(edit), _) => {
            let message = format!("--edit {edit} with alpha {}", alpha.unwrap_or(Alpha::ONE));
            Err(Failure::usage(message, "alpha from 0 to 1 interpolates (ip), any other extrapolates (ep)"))
        }
    }
}

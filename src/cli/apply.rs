//! `lcepatch apply`.

mod onnx;

use super::arguments::EditName;
use super::exit::{Failure, after, json_path, print, print_json};
use super::shard_argument::{self, ShardArgument};
use super::signature_argument::{self, Required};
use super::terminal::Terminal;
use super::{Answer, Outcome, arguments, mask, patch_argument};
use crate::apply::{
    Apply, Check, Destination, DifferentBase, Done, Edit, InShards, KeepMask, NotFinite, PlanOptions, UndoTo, choose,
};
use crate::checkpoint::{Checkpoint, Layout};
use crate::durable::{Existing, check_new_file};
use crate::edit::{Alpha, AlphaSource, EditKind};
use crate::error::Refusal;
use crate::localize::candidates::CandidateOptions;
use crate::mask::PruningMask;
use crate::pair::{Prefix, PrefixMap};
use crate::patch::{Filter, Patch};
use crate::signature::Signer;
use crate::source::Parts;
use crate::words::counted;
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Args)]
#[command(after_help = "\
The result is base + alpha * (reference - base) at the selected weights: alpha 1 gives the reference's bits there, \
0 the base's, 0.5 the middle; negative ones move away from the reference, ones above 1 past it. Several patches add up. \
Without an alpha, a patch is applied at the one that its author recommends (`lcepatch show` prints it), or else at 1.

Before anything is written the base is checked: by default every tensor that a patch changes is hashed (about a \
quarter of a second a gigabyte and core); --quick compares the values at the selected weights only.

With --in-place the weights are changed in the files themselves, with a journal of what they held beside them: it takes no second \
copy, and after a crash one command (`lcepatch recover`) ends it. Where most weights change, and for links, read-only files and files \
with several names, new files take the place of the old ones. Either way what was changed is read back from the files and compared \
before it counts. A hub's cache is never written to.

--include and --exclude edit some of the tensors only. Nothing else of the patches has to fit, and of a patch that is elsewhere \
little more is fetched than what these tensors need. What was written is compared with the digests of these tensors in the \
result if the patch has them, as portable ones do.

In a model directory the apply is logged, and a patch that takes it back exactly is kept beside the log, for `lcepatch revert`.

A directory gives a directory: configuration, tokenizer and index come along; weights in other formats do not. An .onnx file \
gives an .onnx file: its weights, inside it or in files beside it, are recognized by the digests of the patch's base, as they are \
or transposed.

Examples:
  lcepatch apply model/ debias.lcepatch -o edited/
  lcepatch apply model/ debias.lcepatch --alpha -0.5 -o edited-a-little/
  lcepatch apply model.safetensors a.lcepatch:0.5 b.lcepatch:-2 -o edited.safetensors
  lcepatch apply model/ debias.lcepatch --in-place
  lcepatch apply model/ org/patches/debias.lcepatch --include '*.layer.11.*' -o last-layer/
  lcepatch apply model/ debias.lcepatch -o edited/ --require-signature ~/.ssh/allowed_signers
  lcepatch apply model.onnx debias.lcepatch --alpha -2 -o edited/model.onnx
  lcepatch apply pruned/ p.lcepatch --edit sw -o switched/ --keep-mask switched-mask.safetensors
In several processes, on one machine or many, each with the same base, patches and options; no undo patch is made:
  lcepatch apply model/ update.lcepatch -o new/ --shard 1/16            and so for 2/16 to 16/16; then
  lcepatch apply model/ update.lcepatch -o new/ --finish")]
pub struct Arguments {
    /// The checkpoint to edit: a file, an index of shards, a model directory or an ONNX file
    base: PathBuf,
    /// Patches, each with its own alpha after a colon if it is not --alpha
    #[arg(required = true, value_name = "PATCH[:ALPHA]", value_hint = clap::ValueHint::FilePath)]
    patches: Vec<String>,
    /// How strongly to apply the patches [default: what each recommends, or else 1]
    #[arg(long, short, value_parser = arguments::alpha, allow_hyphen_values = true)]
    alpha: Option<Alpha>,
    /// What to do with the selected weights [default: ip or ep, by alpha]
    #[arg(
        long,
        long_help = "\
What to do with the selected weights:
  ip  interpolate: base + alpha * (reference - base), alpha from 0 to 1
  ep  extrapolate: the same, with any other alpha
  pr  prune: set them to 0
  sw  switch masks: take the reference's pruning mask, and the base's own values from before it was pruned
[default: ip or ep, by alpha]"
    )]
    edit: Option<EditName>,
    /// Edit only tensors whose name in the patches matches this glob; may be repeated
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Edit no tensor whose name in the patches matches this glob; may be repeated
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Write the pruning mask of the result to this mask file
    #[arg(long, value_name = "MASK", help_heading = "Pruned models")]
    keep_mask: Option<PathBuf>,
    /// The base's pruning mask, for --keep-mask [default: X_mask beside X_orig, or the base's zeros]
    #[arg(long, value_name = "MASK", requires = "keep_mask", help_heading = "Pruned models")]
    mask: Option<PathBuf>,
    /// Write the result here
    #[arg(long, short, value_name = "RESULT", required_unless_present = "in_place", conflicts_with = "in_place")]
    output: Option<PathBuf>,
    /// Write this share of the files only, into RESULT.shards; of the processes that do so, one more ends the work with --finish
    #[arg(long, value_name = "I/N|auto/N", value_parser = shard_argument::parse, requires = "output",
        conflicts_with_all = ["json", "undo", "keep_mask", "in_place"], help_heading = "Several processes")]
    shard: Option<ShardArgument>,
    /// Compare all files that the shards wrote, and make the result of them
    #[arg(long, requires = "output", conflicts_with_all = ["shard", "undo", "keep_mask", "in_place", "force"],
        help_heading = "Several processes")]
    finish: bool,
    /// Change the base itself: all of it, or after an error or a crash nothing
    #[arg(long)]
    in_place: bool,
    /// Write the patch that takes the result back to the base, exactly [default: beside the log of a model directory]
    #[arg(long, value_name = "PATCH")]
    undo: Option<PathBuf>,
    /// Write no undo patch: `lcepatch revert` will not be possible
    #[arg(long, conflicts_with = "undo")]
    no_undo: bool,
    /// Check the base's values at the selected weights only; with --include or --exclude all of the tensors is checked
    #[arg(long)]
    quick: bool,
    /// Add the deltas of a portable patch to a checkpoint that is not its base
    #[arg(long)]
    allow_different_base: bool,
    /// Write infinities and NaN where an edit leaves the range of the dtype
    #[arg(long)]
    allow_non_finite: bool,
    /// Exchange a prefix of the patches' names for one of the base's, as in `bert.=`; may be repeated,
    /// and the longest one that fits counts
    #[arg(long, value_name = "PATCH=BASE", value_parser = arguments::prefix_map)]
    map_prefix: Vec<Prefix>,
    #[command(flatten)]
    pub signature: Required,
    /// Do not record this apply in the model directory's log
    #[arg(long)]
    no_log: bool,
    /// Replace an existing output file, never a directory
    #[arg(long)]
    force: bool,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments, terminal: &Terminal) -> Outcome {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    super::freed_memory::keep();
    let existing = if arguments.force { Existing::Replace } else { Existing::Keep };
    if let Some(path) = arguments
        .output
        .clone()
        .filter(|output| !patch_argument::is_onnx(&arguments.base) && is_same(output, &arguments.base))
    {
        return Err(Refusal::SameFile { path }.into());
    }
    let files = [&arguments.undo, &arguments.keep_mask];
    files.into_iter().flatten().try_for_each(|path| check_new_file(path, existing))?;
    if patch_argument::is_onnx(&arguments.base) {
        return onnx::run(&arguments, existing, terminal);
    }
    if arguments.shard.is_some() || arguments.finish {
        return run_in_shards(&arguments, existing, terminal);
    }
    let base = match &arguments.output {
        Some(_) => patch_argument::checkpoint(&arguments.base, terminal)?,
        None => patch_argument::own_checkpoint(&arguments.base, terminal)?,
    };
    if let Some(output) = &arguments.output {
        arguments::check_result(output, &base, existing)?;
    }
    let (edits, signers) = edits(&arguments, terminal)?;
    let inputs = edits.iter().map(|edit| edit.patch.name()).chain(arguments.mask.as_deref());
    let outputs = files.into_iter().chain([&arguments.output]);
    arguments::refuse_inputs(outputs.flatten().map(PathBuf::as_path), inputs)?;
    let mask_file = patch_argument::optional_checkpoint(arguments.mask.as_deref(), terminal)?;
    let of_base = arguments.keep_mask.as_ref().map(|_| base_mask(&base, mask_file.as_ref())).transpose()?;
    let mask = of_base.as_ref().zip(arguments.keep_mask.as_deref());
    let undo = match &arguments.undo {
        Some(path) => UndoTo::Path(path),
        None if arguments.no_undo => UndoTo::Nowhere,
        None => UndoTo::Log,
    };
    let apply = Apply::new(&base, &edits)
        .options(plan_options(&arguments))
        .undo(undo)
        .log(!arguments.no_log)
        .keep_mask(mask.map(|(of_base, path)| KeepMask { of_base, path }))
        .existing(existing);
    let destination = arguments.output.as_deref().map_or(Destination::InPlace, Destination::Path);
    let done = apply.run(destination, &terminal.context())?;
    terminal.done();
    if done.added {
        terminal.note("THIS IS NOT THE PATCH'S BASE: its deltas were added all the same, and nothing is promised");
    }
    let result = arguments.output.as_deref().unwrap_or(&arguments.base);
    after(report(&arguments, result, &edits, &done, &[], &signers, terminal))?;
    Ok(Answer::Yes)
}

/// Writes some of the files, or ends what several processes did.
fn run_in_shards(arguments: &Arguments, existing: Existing, terminal: &Terminal) -> Outcome {
    let shard = arguments.shard.map(ShardArgument::without_plan).transpose()?;
    let output = arguments.output.as_deref().unwrap_or(Path::new(""));
    let (base, files) = terminal.sources().checkpoint_in_parts(&arguments.base, &terminal.context())?;
    patch_argument::note_stale(&base, terminal);
    if *base.layout() == Layout::File {
        let message = format!("{} is one file, which one process writes", arguments.base.display());
        return Err(Failure::usage(message, "leave out --shard and --finish"));
    }
    let (edits, signers) = edits(arguments, terminal)?;
    let inputs = edits.iter().map(|edit| edit.patch.name());
    arguments::refuse_inputs([output], inputs)?;
    let options = plan_options(arguments);
    let job = InShards { base: &base, files: &files, edits: &edits, options: &options, log: !arguments.no_log, output };
    let context = terminal.context();
    let other_base = || {
        terminal.note("THIS IS NOT THE PATCH'S BASE: its deltas were added all the same, and nothing is promised");
    };
    let Some(shard) = shard else {
        let beside = terminal.sources().beside(&arguments.base, &context)?;
        let done = job.finish(beside.as_deref(), &context)?;
        terminal.done();
        if done.added {
            other_base();
        }
        after(report(arguments, output, &edits, &done, &[], &signers, terminal))?;
        return Ok(Answer::Yes);
    };
    let done = job.write(shard, existing, &context)?;
    terminal.done();
    if done.added {
        other_base();
    }
    let (folder, files) = (done.folder.display(), counted(done.files, "file"));
    match done.before {
        true => print(format!("{folder}: done already, {files} of {shard}"))?,
        false => {
            print(format!("wrote {files} of {shard} to {folder}: {} edited", counted(done.edited, "weight")))?;
        }
    }
    Ok(Answer::Yes)
}

/// Whether two paths lead to one file or directory.
fn is_same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// The mask of the base: in `file`, or what the base has itself.
fn base_mask<'a>(base: &'a Checkpoint, file: Option<&'a Checkpoint>) -> Result<PruningMask<'a>, Failure> {
    let candidates = mask::candidates(base, &CandidateOptions::default())?;
    match file {
        Some(file) => Ok(PruningMask::stored(file, base)?),
        None => Ok(mask::own_mask(base, &candidates)),
    }
}

/// Prints what was done. `external_weights` are the files beside an ONNX file that its weights are in.
fn report(
    arguments: &Arguments,
    result: &Path,
    edits: &[Edit],
    done: &Done,
    external_weights: &[PathBuf],
    signers: &[Signer],
    terminal: &Terminal,
) -> Result<(), Failure> {
    let Done { applied, is_reference, undo, .. } = done;
    if !applied.left_behind.is_empty() {
        let names = applied.left_behind.join(", ");
        terminal.note(&format!(
            "not carried along, since they hold the base's weights, in another format or again: {names}"
        ));
    }
    if !applied.unreadable.is_empty() {
        let names = applied.unreadable.join(", ");
        terminal.note(&format!("not carried along, since they cannot be read: {names}"));
    }
    if arguments.json {
        return print_json(
            terminal,
            &json!({
                "result": json_path(result), "edited": applied.edited, "tensors": applied.tensors, "verified": applied.verified,
                "is_reference": is_reference, "left_behind": applied.left_behind, "unreadable": applied.unreadable, "undo": undo.as_deref().map(json_path), "added": done.added,
                "external_weights": external_weights.iter().map(|path| json_path(path)).collect::<Vec<_>>(),
                "patches": edits.iter().zip(&arguments.patches).map(|(edit, text)| of_edit(edit, text, arguments)).collect::<Vec<_>>(),
                "signatures": signers.iter().map(signature_argument::json).collect::<Vec<_>>(),
            }),
        );
    }
    for signer in signers {
        print(signature_argument::line(signer))?;
    }
    let verified = match (*is_reference, applied.verified) {
        (true, _) => "; read back: every byte is the reference's, by its digest",
        (false, true) if edits.iter().any(|edit| edit.patch.chosen().is_some()) => {
            "; read back: their digests are those that the patch declares of them"
        }
        (false, true) => "; read back: the digest is the one that the patch declares",
        (false, false) => "",
    };
    let (edited, tensors) = (counted(applied.edited, "weight"), counted(applied.tensors, "tensor"));
    print(format_args!("wrote {}: {edited} edited in {tensors}{verified}", result.display()))?;
    for Edit { patch, .. } in edits {
        if let Some(chosen) = patch.chosen() {
            print(format_args!(
                "  a part of {}: {} of its {}",
                patch.name().display(),
                chosen.tensors,
                counted(chosen.of, "tensor")
            ))?;
        }
    }
    for (edit, text) in edits.iter().zip(&arguments.patches) {
        let said = match alpha_source(edit, text, arguments) {
            AlphaSource::Recommended => ", which the patch recommends",
            AlphaSource::Given => "",
            AlphaSource::Default => continue,
        };
        if let Some(alpha) = edit.kind.alpha() {
            print(format_args!("  {} at alpha {alpha}{said}", edit.patch.name().display()))?;
        }
    }
    for path in external_weights {
        print(format_args!("wrote {}: its weights", path.display()))?;
    }
    if let Some(mask) = &arguments.keep_mask {
        print(format_args!("wrote {}: the mask of the result", mask.display()))?;
    }
    match undo {
        Some(undo) if arguments.undo.is_none() => {
            print(format_args!("`lcepatch revert {}` takes this back, with {}", result.display(), name(undo)))?;
        }
        Some(undo) => print(format_args!("wrote {}: it takes this back", undo.display()))?,
        None => {}
    }
    Ok(())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn plan_options(arguments: &Arguments) -> PlanOptions {
    PlanOptions {
        check: if arguments.quick { Check::Quick } else { Check::Full },
        different_base: if arguments.allow_different_base { DifferentBase::Add } else { DifferentBase::Refuse },
        not_finite: if arguments.allow_non_finite { NotFinite::Write } else { NotFinite::Refuse },
        prefix: PrefixMap::new(arguments.map_prefix.clone()),
    }
}

/// The patches as edits, and who signed them, where that is required.
fn edits(arguments: &Arguments, terminal: &Terminal) -> Result<(Vec<Edit>, Vec<Signer>), Failure> {
    let signature = arguments.signature.for_patches(arguments.patches.len())?;
    let filter = Filter { include: arguments.include.clone(), exclude: arguments.exclude.clone(), ..Filter::default() };
    let in_shards = arguments.shard.is_some() || arguments.finish;
    let parts = if filter.is_empty() && !in_shards { Parts::All } else { Parts::Some };
    let (mut patches, mut kinds, mut signers): (Vec<Patch>, Vec<EditKind>, Vec<Signer>) = Default::default();
    for text in &arguments.patches {
        let (path, alpha) = patch_argument::with_number(text)?;
        // What can be wrong with the arguments alone is said before the file is opened.
        let kind = kind(arguments.edit, alpha.or(arguments.alpha))?;
        let (patch, signer) = signature.open_parts(&path, parts, terminal)?;
        patch_argument::note_ignored(&patch, terminal);
        kinds.push(match kind {
            Some(kind) => kind,
            None => by_default(arguments.edit, patch.default_alpha())?,
        });
        if patches.iter().any(|other| other.id() == patch.id()) {
            terminal.note(&format!("{} is given more than once: what it changes adds up", path.display()));
        }
        patches.push(patch);
        signers.extend(signer);
    }
    if !filter.is_empty() {
        patches = choose(patches, &filter, &terminal.context())?;
    }
    Ok((patches.into_iter().zip(kinds).map(|(patch, kind)| Edit { patch, kind }).collect(), signers))
}

/// The edit that the arguments name; none where the patch decides about its alpha.
fn kind(edit: Option<EditName>, alpha: Option<Alpha>) -> Result<Option<EditKind>, Failure> {
    match (edit, alpha) {
        (Some(EditName::Pr), None) => Ok(Some(EditKind::Prune)),
        (Some(EditName::Sw), None) => Ok(Some(EditKind::Switch)),
        (_, None) => Ok(None),
        (Some(edit @ (EditName::Pr | EditName::Sw)), Some(_)) => {
            Err(Failure::usage(format!("--edit {edit} takes no alpha"), "leave --alpha out"))
        }
        (Some(edit), Some(alpha)) if edit != EditName::at(alpha) => Err(Failure::usage(
            format!("--edit {edit} does not take alpha {alpha}"),
            "an alpha from 0 to 1 interpolates (ip), any other extrapolates (ep)",
        )),
        (_, Some(alpha)) => Ok(Some(EditKind::Interpolate(alpha))),
    }
}

/// The edit at a patch's default alpha.
fn by_default(edit: Option<EditName>, (alpha, source): (Alpha, AlphaSource)) -> Result<EditKind, Failure> {
    match edit {
        Some(edit) if edit != EditName::at(alpha) => {
            let why = match source {
                AlphaSource::Recommended => format!("the patch recommends alpha {alpha}"),
                AlphaSource::Given | AlphaSource::Default => "the patch recommends none".to_owned(),
            };
            let range = if edit == EditName::Ip { "from 0 to 1" } else { "below 0 or above 1" };
            let message = format!("--edit {edit} takes an alpha {range}, and {why}");
            Err(Failure::usage(message, "give one with --alpha"))
        }
        _ => Ok(EditKind::Interpolate(alpha)),
    }
}

/// Who chose the alpha of an edit.
fn alpha_source(edit: &Edit, text: &str, arguments: &Arguments) -> AlphaSource {
    match arguments.alpha.is_some() || patch_argument::has_number(text) {
        true => AlphaSource::Given,
        false => edit.patch.default_alpha().1,
    }
}

fn of_edit(edit: &Edit, text: &str, arguments: &Arguments) -> serde_json::Value {
    let alpha = edit.kind.alpha();
    json!({
        "patch": json_path(edit.patch.name()), "id": edit.patch.id().to_string(), "edit": edit.kind.label(), "alpha": alpha.map(Alpha::value),
        "part": edit.patch.chosen(),
        "alpha_source": alpha.map(|_| alpha_source(edit, text, arguments)),
    })
}

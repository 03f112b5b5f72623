//! `lcepatch mask`.

use super::exit::{Failure, print, print_json};
use super::terminal::Terminal;
use super::{Answer, Outcome, arguments, patch_argument};
use crate::apply::{Pruning, SideFiles, to_path};
use crate::checkpoint::{Checkpoint, Tensor, names};
use crate::context::Context;
use crate::durable::{Existing, check_new_file, real_path};
use crate::format::block::blocks;
use crate::format::metadata::{Masks, Overlap};
use crate::localize::candidates::{CandidateOptions, Candidates, Kinds, Params};
use crate::mask::algebra::overlap;
use crate::mask::{self, MaskFault, PruningMask, Sparsity};
use crate::report::table::{Align, lines, percent};
use crate::words::{count, counted};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
With --sparsity the weights of smallest magnitude are pruned, exactly that share of all candidates; of equal ones the \
first by tensor name and flat index. --from prunes further from an earlier mask: one call for each round of iterative \
magnitude pruning, the sparsity always counted from the unpruned checkpoint.
Without --sparsity the mask is that of --from, or the one that the checkpoint has: X_mask beside X_orig, or its zeros.

A mask file is a safetensors file with a U8 tensor of packed bits for each tensor of weights, lowest bit first, 1 = kept.

Examples:
  lcepatch mask model/ --sparsity 10% -o round1.safetensors
  lcepatch mask retrained/ --sparsity 20% --from round1.safetensors -o round2.safetensors --pruned pruned/
  lcepatch mask pruned-a/ --compare pruned-b/")]
pub struct Arguments {
    /// The checkpoint whose weights are pruned
    checkpoint: PathBuf,
    /// Share of the candidates to prune, as in 30% or 0.3
    #[arg(long, value_parser = arguments::sparsity)]
    sparsity: Option<Sparsity>,
    /// An earlier mask
    #[arg(long, value_name = "MASK")]
    from: Option<PathBuf>,
    /// Write the mask here
    #[arg(long, short, value_name = "MASK")]
    output: Option<PathBuf>,
    /// Write the checkpoint here, with 0 for every pruned weight
    #[arg(long, value_name = "RESULT")]
    pruned: Option<PathBuf>,
    /// Compare with the mask of this mask file or pruned checkpoint
    #[arg(long, value_name = "MASK|CHECKPOINT")]
    compare: Option<PathBuf>,
    /// Rank all candidates together, or each tensor for itself
    #[arg(long, default_value = "global")]
    scope: arguments::Scope,
    /// Tensors to prune [default: encoder-dense, or matrices where the names are no known transformer's]
    #[arg(long)]
    params: Option<arguments::Candidates>,
    /// Only tensors whose name matches this glob; may be repeated
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// No tensor whose name matches this glob; may be repeated
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Replace existing outputs
    #[arg(long)]
    force: bool,
    /// Print the counts as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    let outputs = [&arguments.output, &arguments.pruned];
    let existing = if arguments.force { Existing::Replace } else { Existing::Keep };
    if let Some(path) = &arguments.output {
        check_new_file(path, existing)?;
    }
    let [mask, pruned] = outputs.map(|path| path.as_deref().and_then(real_path));
    if mask.is_some() && mask == pruned {
        return Err(Failure::usage("the mask and the pruned checkpoint would be one file", "give two names"));
    }
    let checkpoint = patch_argument::checkpoint(&arguments.checkpoint, terminal)?;
    if let Some(path) = &arguments.pruned {
        arguments::check_result(path, &checkpoint, existing)?;
    }
    let options = CandidateOptions {
        params: arguments.params.map(Params::from),
        include: arguments.include.clone(),
        exclude: arguments.exclude.clone(),
    };
    let candidates = candidates(&checkpoint, &options)?;
    let from = patch_argument::optional_checkpoint(arguments.from.as_deref(), terminal)?;
    let context = terminal.context();
    context.begin("pruning", 0);
    let before = from.as_ref().map(|file| PruningMask::stored(file, &checkpoint)).transpose()?;
    let mask = match (arguments.sparsity, before) {
        (Some(sparsity), before) => {
            PruningMask::smallest(&candidates, sparsity, arguments.scope.into(), before.as_ref(), &context)?
        }
        (None, Some(before)) => before,
        (None, None) => own_mask(&checkpoint, &candidates),
    };
    let other = patch_argument::optional_checkpoint(arguments.compare.as_deref(), terminal)?;
    let other_mask = match &other {
        Some(other) => Some(compared_mask(other, &checkpoint)?),
        None => None,
    };
    let masks = overlaps(&mask, other_mask.as_ref().unwrap_or(&mask), &candidates, &context)?;
    let read: Vec<&Checkpoint> = [Some(&checkpoint), from.as_ref(), other.as_ref()].into_iter().flatten().collect();
    read.iter().try_for_each(|checkpoint| checkpoint.unchanged())?;
    if let Some(path) = &arguments.output {
        mask::write(&mask, &candidates, &read, path, existing, &context)?;
    }
    if let Some(path) = &arguments.pruned {
        let pruning = Pruning { base: &checkpoint, mask: &mask };
        to_path(&pruning, None, path, existing, |_| Ok(SideFiles::default()), &context)?;
    }
    terminal.done();
    if arguments.json {
        let by_component: serde_json::Map<_, _> = masks
            .by_component
            .iter()
            .map(|(name, overlap)| (name.clone(), json_counts(overlap, other.is_some())))
            .collect();
        let mut all = json_counts(&masks.overlap, other.is_some());
        all["by_component"] = by_component.into();
        print_json(terminal, &all)?;
    } else if other.is_some() {
        print_overlap(&masks)?;
    } else {
        let (pruned, all) = (masks.overlap.base_pruned(), masks.overlap.elements());
        print(format_args!("pruned {} of {}, {}", count(pruned), counted(all, "weight"), percent(pruned, all)))?;
    }
    for path in outputs.into_iter().flatten().filter(|_| !arguments.json) {
        print(format_args!("wrote {}", path.display()))?;
    }
    Ok(Answer::Yes)
}

/// The tensors of one checkpoint that may be pruned.
pub fn candidates<'a>(checkpoint: &'a Checkpoint, options: &CandidateOptions) -> Result<Vec<Tensor<'a>>, Failure> {
    let weights = |tensor: &Tensor<'_>| !checkpoint.is_companion_mask(&tensor.info.name);
    let tensors: Vec<Tensor<'a>> = checkpoint.tensors().filter(weights).collect();
    let found = Candidates::new(&tensors, options, Kinds::Floats)?;
    Ok(found.tensors.iter().map(|at| tensors[*at]).collect())
}

/// The mask that a checkpoint has.
pub fn own_mask<'a>(checkpoint: &'a Checkpoint, candidates: &[Tensor<'a>]) -> PruningMask<'a> {
    PruningMask::pairs(checkpoint).unwrap_or_else(|_| PruningMask::zeros(candidates.iter().copied()))
}

/// The mask in `other`, which is a mask file or a pruned checkpoint with the tensors of `checkpoint`.
fn compared_mask<'a>(other: &'a Checkpoint, checkpoint: &Checkpoint) -> Result<PruningMask<'a>, Failure> {
    let same = |tensor: &Tensor<'_>| {
        let mine = checkpoint.tensor(&tensor.info.name);
        mine.is_some_and(|mine| mine.info.shape == tensor.info.shape && mine.info.dtype == tensor.info.dtype)
    };
    if other.tensors().any(|tensor| same(&tensor)) {
        let weights: Vec<Tensor<'a>> = other.tensors().filter(same).collect();
        return Ok(own_mask(other, &weights));
    }
    Ok(PruningMask::stored(other, checkpoint)?)
}

fn overlaps(
    mask: &PruningMask<'_>,
    other: &PruningMask<'_>,
    tensors: &[Tensor<'_>],
    context: &Context<'_>,
) -> Result<Masks, Failure> {
    let mut masks = Masks::default();
    for tensor in tensors {
        for index in blocks(tensor.info.elements()) {
            let bits = |mask: &PruningMask<'_>| -> Result<_, MaskFault> { mask.block(*tensor, index, context) };
            let overlap = overlap(&bits(mask)?, &bits(other)?);
            masks.overlap = masks.overlap.and(overlap);
            let component = names::place(&tensor.info.name).component.label().to_owned();
            let of_component = masks.by_component.entry(component).or_default();
            *of_component = of_component.and(overlap);
        }
    }
    Ok(masks)
}

fn json_counts(overlap: &Overlap, compared: bool) -> serde_json::Value {
    if compared {
        json!({ "counts": overlap, "jaccard": overlap.jaccard() })
    } else {
        json!({ "pruned": overlap.base_pruned(), "kept": overlap.both, "elements": overlap.elements() })
    }
}

/// What two masks have in common, by component.
pub fn print_overlap(masks: &Masks) -> Result<(), Failure> {
    let header = [
        ("masks", Align::Left),
        ("kept by both", Align::Right),
        ("target only", Align::Right),
        ("reference only", Align::Right),
        ("pruned by both", Align::Right),
        ("Jaccard", Align::Right),
    ];
    let row = |(name, overlap): (&str, &Overlap)| {
        let counts = [overlap.both, overlap.base_only, overlap.reference_only, overlap.neither].map(count);
        [vec![name.to_owned()], counts.to_vec(), vec![format!("{:.4}", overlap.jaccard())]].concat()
    };
    let components = masks.by_component.iter().map(|(name, overlap)| (name.as_str(), overlap));
    let rows: Vec<Vec<String>> = components.chain([("all", &masks.overlap)]).map(row).collect();
    lines(&header, &rows).into_iter().try_for_each(print)
}

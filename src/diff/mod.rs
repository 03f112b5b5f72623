//! Two checkpoints to a patch: pair, localize, gather, write.

mod masks;
mod write;

pub use masks::MaskSource;

use crate::checkpoint::pair::{Pair, PairOptions, PruningPairs, TensorPair};
use crate::checkpoint::{Checkpoint, WeightFile};
use crate::context::{Cancelled, Context};
use crate::digest::Digest;
use crate::edit::Alpha;
use crate::error::Error;
use crate::format::Patch;
use crate::format::metadata::{Localization, Metadata, Source, SourceFile};
use crate::localize::candidates::{CandidateOptions, Candidates, Kinds};
use crate::localize::random::Among;
use crate::localize::survey::{PairDigests, survey};
use crate::localize::value::Amount;
use crate::localize::{Impossible, random, value};
use crate::mask::{Scope, Selection};
use crate::patch::Magnitude;
use crate::patch::gather::{Coding, Portability, Precision};
use masks::Masks;
use rayon::prelude::*;
use write::{Localized, write};

/// How many weights are selected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Size {
    /// As asked.
    Amount(Amount),
    /// As many as exactly one pruning mask keeps.
    FromMask,
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Size::FromMask => f.write_str("from-mask"),
            Size::Amount(Amount::Count(count)) => count.fmt(f),
            Size::Amount(Amount::Density(density)) => {
                // Without the digits that binary fractions leave.
                let percent = (density.share() * 1e8).round() / 1e6;
                write!(f, "{percent}%")
            }
        }
    }
}

/// How the weights are found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Localize {
    /// What exactly one pruning mask keeps (paper eq 1).
    Mask,
    /// The largest differences (paper eq 2), with masks among what both keep.
    Value {
        /// How many.
        amount: Size,
        /// Ranked together or tensor by tensor.
        scope: Scope,
    },
    /// Drawn, as a baseline.
    Random {
        /// How many.
        amount: Size,
        /// What the numbers begin with.
        seed: u64,
        /// What may be drawn.
        among: Among,
    },
    /// Every element that differs.
    Full,
}

/// What a person or a tool wants to stand in the patch.
#[derive(Debug, Clone, Default)]
pub struct Labels {
    /// The base's name on a hub.
    pub base_model: Option<String>,
    /// The reference's name on a hub.
    pub reference_model: Option<String>,
    /// SPDX licence expression.
    pub license: Option<String>,
    /// What the patch is for.
    pub description: Option<String>,
    /// Alpha that the author recommends.
    pub recommended_alpha: Option<Alpha>,
    /// Measured results.
    pub results: serde_json::Map<String, serde_json::Value>,
    /// Free keys.
    pub x: serde_json::Map<String, serde_json::Value>,
}

/// Everything that decides the bytes of a patch, besides the checkpoints.
#[derive(Debug, Clone)]
pub struct DiffOptions<'a> {
    /// How tensors are paired.
    pub pair: PairOptions,
    /// Where weights are looked for.
    pub candidates: CandidateOptions,
    /// How they are found.
    pub localize: Localize,
    /// Where the pruning masks of target and reference are, if they are pruned.
    pub masks: Option<[MaskSource<'a>; 2]>,
    /// The target from before it was pruned, for what mask switch restores.
    pub unpruned: Option<&'a Checkpoint>,
    /// How exactly deltas are kept.
    pub precision: Precision,
    /// Whether the patch must serve without its base.
    pub portability: Portability,
    /// Whether whole files are also named by SHA-256, as hubs list it.
    pub sha256: bool,
    /// What people should read.
    pub labels: Labels,
}

/// A patch, and what was noticed on the way.
#[derive(Debug)]
pub struct Diffed {
    /// The patch.
    pub patch: Patch,
    /// Set when dense layers were looked for and the names are no known transformer's.
    pub unrecognized: bool,
    /// Tensors without a float dtype that differ and were not considered.
    pub other_differences: Vec<String>,
    /// Selected elements whose bits are the same in target and reference: more were asked for than differ.
    pub unchanged: u64,
    /// Tensors that have a pruning mask and are no candidates.
    pub masked_elsewhere: Vec<String>,
}

/// Makes the patch that leads from `target` to `reference`.
///
/// Cost: one pass over both checkpoints, with BLAKE3 of all of it; for a selection that is not all that differs another one over
/// its blocks; with [`DiffOptions::sha256`] SHA-256 of all files, which takes longer than the rest. Memory: 64 MiB and 40 bytes
/// for each selected element, whatever the size of the checkpoints.
///
/// # Errors
/// By stage: pairing, masks, localization, gathering, cancellation.
pub fn diff(
    target: &Checkpoint,
    reference: &Checkpoint,
    options: &DiffOptions<'_>,
    context: &Context<'_>,
) -> Result<Diffed, Error> {
    let pair = Pair::new(target, reference, &options.pair)?;
    let kinds = if options.localize == Localize::Full { Kinds::Every } else { Kinds::Floats };
    let candidates = Candidates::new(&pair.targets(), &options.candidates, kinds)?;
    check_casts(&pair, &candidates.tensors, context)?;
    context.begin("localizing", target.bytes() + reference.bytes());
    let masks = Masks::find(&pair, &candidates, options, context)?;
    let keeps_masks = matches!(options.localize, Localize::Mask | Localize::Random { .. });
    let coding = Coding {
        precision: options.precision,
        portability: options.portability,
        masks: masks.as_ref().filter(|_| keeps_masks).map(|masks| &masks.pair),
        unpruned: options.unpruned,
    };
    let localized = match options.localize {
        Localize::Full => Localized::full(&pair, &candidates.tensors, coding, context)?,
        how => {
            let (selection, digests) = select(&pair, &candidates.tensors, how, masks.as_ref(), context)?;
            if selection.is_empty() && how == Localize::Mask {
                return Err(Impossible::SameMasks.into());
            }
            Localized::gathered(&pair, &selection, digests, coding, context)?
        }
    };
    let is_other = |pair: &TensorPair<'_>| kinds == Kinds::Floats && pair.dtype().float().is_none();
    let others = pair
        .tensors
        .iter()
        .zip(&localized.digests.0)
        .filter(|(pair, digests)| is_other(pair) && digests.target != digests.reference);
    let other_differences = others.map(|(pair, _)| pair.name().to_owned()).collect();
    let labels = options.labels.clone();
    let [base, reference] =
        sources(&pair, &localized.digests, [labels.base_model, labels.reference_model], options.sha256, context)?;
    let metadata = Metadata {
        localization: describe(options.localize, localized.selected()),
        candidates: candidates.description,
        base,
        reference,
        masks: masks.as_ref().map(|masks| masks.description.clone()),
        pairing: pair.pairing.clone(),
        recommended_alpha: labels.recommended_alpha.map(Alpha::value),
        license: labels.license,
        description: labels.description,
        results: labels.results,
        x: labels.x,
        ..Metadata::default()
    };
    let (patch, Magnitude { unchanged, .. }) = write(&pair, localized, metadata, coding, context)?;
    let masked_elsewhere = masks.map_or(Vec::new(), |masks| masks.elsewhere);
    let unrecognized = candidates.unrecognized;
    Ok(Diffed { patch, unrecognized, other_differences, unchanged, masked_elsewhere })
}

/// The elements that `how` selects, and the digests of the pair.
fn select(
    pair: &Pair<'_>,
    candidates: &[usize],
    how: Localize,
    masks: Option<&Masks<'_>>,
    context: &Context<'_>,
) -> Result<(Selection, PairDigests), Impossible> {
    let elements = candidates.iter().map(|at| pair.tensors[*at].target.info.elements()).sum();
    let from_mask = || masks.map(|masks| masks.description.overlap.differing()).ok_or(Impossible::NoMasks);
    let pair_masks = masks.map(|masks| &masks.pair);
    let selection = match how {
        Localize::Value { amount, scope } => {
            let amount = match amount {
                Size::Amount(amount) => amount,
                Size::FromMask => Amount::Count(from_mask()?),
            };
            return value::select(pair, candidates, amount, scope, pair_masks, context);
        }
        Localize::Random { amount, seed, among } => {
            let k = match amount {
                Size::Amount(amount) => amount.of(elements)?,
                Size::FromMask => from_mask()?,
            };
            random::select(pair, candidates, k, seed, pair_masks.map(|masks| (masks, among)), context)?
        }
        Localize::Mask | Localize::Full => masks.map(|masks| masks.differing.clone()).ok_or(Impossible::NoMasks)?,
    };
    let (_, digests) = survey(pair, |block| Ok::<_, Cancelled>(((), block.skim(context)?)))?;
    Ok((selection, digests))
}

fn describe(how: Localize, selected: u64) -> Localization {
    let density = |size: Size| match size {
        Size::Amount(Amount::Density(density)) => Some(density.share()),
        _ => None,
    };
    let k = Some(selected);
    match how {
        Localize::Full => Localization { method: "full".to_owned(), ..Localization::default() },
        Localize::Mask => Localization { method: "mask".to_owned(), k, ..Localization::default() },
        Localize::Value { amount, scope } => Localization {
            method: "value".to_owned(),
            scope: Some(scope.label().to_owned()),
            k,
            density: density(amount),
            ..Localization::default()
        },
        Localize::Random { amount, seed, among } => Localization {
            method: "random".to_owned(),
            k,
            density: density(amount),
            seed: Some(seed),
            among: Some(among.label().to_owned()),
            ..Localization::default()
        },
    }
}

/// Refuses a cast that would turn a number into an infinity.
fn check_casts(pair: &Pair<'_>, candidates: &[usize], context: &Context<'_>) -> Result<(), Error> {
    for tensor in candidates.iter().map(|at| &pair.tensors[*at]) {
        if let Some((index, value)) = tensor.cast_overflow(context)? {
            let (tensor, dtype) = (tensor.name().to_owned(), tensor.dtype());
            return Err(Impossible::Cast { tensor, index, value, dtype }.into());
        }
    }
    Ok(())
}

/// The patch that takes `result` back to `base`, exactly. Only the tensors `changed` are looked at.
///
/// # Errors
/// As [`diff`].
pub fn undo(result: &Checkpoint, base: &Checkpoint, changed: &[String], context: &Context<'_>) -> Result<Patch, Error> {
    use crate::checkpoint::pair::{OtherDtype, Unpaired};
    let (unpaired, other_dtype) = (Unpaired::Refuse, OtherDtype::Refuse);
    let pair_options = PairOptions { unpaired, other_dtype, prefix: None, pruning_pairs: PruningPairs::Tensors };
    let pair = Pair::new(result, base, &pair_options)?;
    let candidates: Vec<usize> =
        (0..pair.tensors.len()).filter(|at| changed.iter().any(|name| name == pair.tensors[*at].name())).collect();
    context.begin("preparing the undo patch", result.bytes() + base.bytes());
    let (precision, portability) = (Precision::Exact, Portability::NeedsBase);
    let coding = Coding { precision, portability, masks: None, unpruned: None };
    let localized = Localized::full(&pair, &candidates, coding, context)?;
    let [_, reference] = sources(&pair, &localized.digests, [None, None], false, context)?;
    let metadata = Metadata {
        localization: Localization { method: "undo".to_owned(), ..Localization::default() },
        base: Source { elements: result.elements(), ..Source::default() },
        reference,
        ..Metadata::default()
    };
    write(&pair, localized, metadata, coding, context).map(|(patch, _)| patch)
}

/// What is said of base and reference in a patch.
fn sources(
    pair: &Pair<'_>,
    digests: &PairDigests,
    model_ids: [Option<String>; 2],
    sha256: bool,
    context: &Context<'_>,
) -> Result<[Source; 2], Cancelled> {
    if sha256 {
        context.begin("hashing the files", pair.target.bytes() + pair.reference.bytes());
    }
    let contents = digests.of_files(pair, context)?;
    let source = |checkpoint: &Checkpoint, model_id, contents: Vec<Digest>| {
        let file = |(file, content): (&WeightFile, Digest)| {
            let sha256 = if sha256 { Some(file.sha256(context)?.to_string()) } else { None };
            Ok(SourceFile { name: file.name(), bytes: file.bytes(), content: Some(content.to_string()), sha256 })
        };
        let files = checkpoint.files.par_iter().zip(contents).map(file).collect::<Result<Vec<_>, Cancelled>>()?;
        Ok(Source { model_id, elements: checkpoint.elements(), files })
    };
    let ([base_id, reference_id], [base, reference]) = (model_ids, contents);
    let (base, reference) =
        rayon::join(|| source(pair.target, base_id, base), || source(pair.reference, reference_id, reference));
    Ok([base?, reference?])
}

//! From two checkpoints to a patch: pair, localize, encode, write.

mod masks;
mod outline;
pub(crate) mod part;
pub(crate) mod plan;
pub(crate) mod shard;
mod write;

pub use crate::codec::Effort;
pub use crate::format::block::encode::{Portability, Precision};
pub use crate::localize::candidates::{CandidateOptions, Params};
pub use crate::localize::random::Among;
pub use crate::localize::value::{Amount, Density};
pub use masks::MaskSource;
pub(crate) use outline::source;
pub(crate) use shard::Shard;

use crate::checkpoint::Checkpoint;
use crate::context::{Cancelled, Context};
use crate::edit::Alpha;
use crate::error::Error;
use crate::format::block::encode::Encoding;
use crate::localize::candidates::{Candidates, Kinds};
use crate::localize::scan::{blocks_of, scan};
use crate::localize::{Impossible, random, value};
use crate::mask::Scope;
use crate::pair::{Pair, PairOptions, PruningPairs};
use crate::patch::Patch;
use crate::patch::encode::EncodeOptions;
use masks::Masks;
use outline::Outline;
use write::{Found, ReducedPrecision, write};

/// How many weights are selected.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Size {
    /// A number or a share.
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
                // Rounded, since a binary fraction such as 0.07 would show more digits than were given.
                let percent = (density.share() * 1e8).round() / 1e6;
                write!(f, "{percent}%")
            }
        }
    }
}

/// How the weights are found.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
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
    /// Drawn at random, as a baseline.
    Random {
        /// How many.
        amount: Size,
        /// The seed of the random numbers.
        seed: u64,
        /// Which weights may be drawn.
        among: Among,
    },
    /// Every element that differs.
    #[default]
    Full,
}

impl Localize {
    /// The largest differences, ranked over all candidates together.
    pub fn largest(amount: Amount) -> Self {
        Self::Value { amount: Size::Amount(amount), scope: Scope::Global }
    }
}

/// Metadata that a person or a tool gives.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
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

/// Together with the checkpoints, these options decide every byte of a patch.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct DiffOptions<'a> {
    /// How tensors are paired.
    pub pair: PairOptions,
    /// Which tensors may be selected from.
    pub candidates: CandidateOptions,
    /// How weights are selected.
    pub localize: Localize,
    /// Where the pruning masks of target and reference are, if they are pruned.
    pub masks: Option<[MaskSource<'a>; 2]>,
    /// The target before it was pruned, whose values a mask switch restores.
    pub unpruned: Option<&'a Checkpoint>,
    /// How exactly deltas are kept.
    pub precision: Precision,
    /// Whether the patch must serve without its base.
    pub portability: Portability,
    /// How much time encoding may take for a smaller patch.
    pub effort: Effort,
    /// Whether the metadata also hold the SHA-256 of each file, as hubs list it.
    pub sha256: bool,
    /// Metadata for people.
    pub labels: Labels,
}

impl DiffOptions<'_> {
    /// What goes with a selection: a lossless diff takes every tensor as it is, and others the weights of pruned modules.
    pub fn of(localize: Localize) -> Self {
        let mut options = Self { localize, ..Self::default() };
        match options.localize {
            Localize::Full => options.candidates.params = Some(Params::All),
            _ => options.pair.pruning_pairs = PruningPairs::Weights,
        }
        options
    }

    fn encoding(&self) -> Encoding {
        let (precision, portability, effort) = (self.precision, self.portability, self.effort);
        Encoding { precision, portability, effort }
    }
}

/// A patch, and what its user may want to know about the pair.
#[derive(Debug)]
#[non_exhaustive]
pub struct Diffed {
    /// The patch.
    pub patch: Patch,
    /// Whether dense layers were to be candidates by default, and the tensor names are those of no known transformer.
    pub unrecognized: bool,
    /// Tensors without a float dtype that differ and were no candidates.
    pub other_differences: Vec<String>,
    /// The number of selected elements whose bits are the same in target and reference. Above 0 if more were asked for than differ.
    pub unchanged: u64,
    /// Tensors that have a pruning mask and are no candidates.
    pub masked_elsewhere: Vec<String>,
}

/// Makes the patch that leads from `target` to `reference`.
///
/// Cost: one pass over both checkpoints, with BLAKE3 of all of it; for a selection that is not all that differs another one over
/// its blocks; with [`DiffOptions::sha256`] SHA-256 of all files, which takes longer than the rest. Memory: 64 MiB, 40 bytes
/// for each selected element, and 4 KiB for each block of 4 Mi elements.
///
/// # Errors
/// By stage: pairing, masks, localization, gathering, cancellation.
pub fn diff(
    target: &Checkpoint,
    reference: &Checkpoint,
    options: &DiffOptions<'_>,
    context: &Context<'_>,
) -> Result<Diffed, Error> {
    target.settled(reference.settled(diff_mapped(target, reference, options, context)))
}

/// [`diff`], before anyone has checked that the mapped files did not change meanwhile.
fn diff_mapped(
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
    let masks_kept = masks.as_ref().filter(|_| keeps_masks).map(|masks| &masks.pair);
    let coding = EncodeOptions { encoding: options.encoding(), masks: masks_kept, unpruned: options.unpruned };
    let tensors = candidates.tensors.clone();
    let mut outline = Outline::new(&pair, candidates, options)?;
    let found = find(&pair, &tensors, options.localize, masks.as_ref(), coding, context)?;
    outline.metadata.masks = masks.as_ref().map(|masks| masks.description.clone());
    if options.sha256 {
        outline.add_sha256(&pair, context)?;
    }
    let reduced = match options.precision {
        Precision::Exact => None,
        Precision::Bf16 => Some(ReducedPrecision { delta_dtype: "bf16", base: target }),
        Precision::Int8 => Some(ReducedPrecision { delta_dtype: "int8", base: target }),
    };
    let unpaired = outline.hash_unpaired(&pair, context)?;
    let diffed = write(outline, found, &unpaired, reduced, context)?;
    Ok(Diffed { masked_elsewhere: masks.map_or(Vec::new(), |masks| masks.elsewhere), ..diffed })
}

/// Finds and encodes the elements that `how` selects of the tensors `candidates`.
fn find(
    pair: &Pair<'_>,
    candidates: &[usize],
    how: Localize,
    masks: Option<&Masks<'_>>,
    coding: EncodeOptions<'_>,
    context: &Context<'_>,
) -> Result<Found, Error> {
    let blocks = blocks_of(pair, 0..pair.tensors.len());
    let from_mask = || masks.map(|masks| masks.description.overlap.differing()).ok_or(Impossible::NoMasks);
    let pair_masks = masks.map(|masks| &masks.pair);
    let selection = match how {
        Localize::Full => return Ok(Found::full(pair, &blocks, candidates, coding, context)?),
        Localize::Value { amount, scope } => {
            let amount = match amount {
                Size::Amount(amount) => amount,
                Size::FromMask => Amount::Count(from_mask()?),
            };
            let groups = value::groups(pair, candidates, amount, scope)?;
            return Found::largest(pair, &blocks, &groups, pair_masks, coding, context);
        }
        Localize::Random { amount, seed, among } => {
            let k = match amount {
                Size::Amount(amount) => amount.of(candidates.iter().map(|at| pair.tensors[*at].compared()).sum())?,
                Size::FromMask => from_mask()?,
            };
            random::select(pair, candidates, k, seed, pair_masks.map(|masks| (masks, among)), context)?
        }
        Localize::Mask => masks.map(|masks| masks.differing.clone()).ok_or(Impossible::NoMasks)?,
    };
    if selection.is_empty() && how == Localize::Mask {
        return Err(Impossible::SameMasks.into());
    }
    let (_, digests) = scan(pair, &blocks, |block| Ok::<_, Cancelled>(((), block.hash(context)?)))?;
    Ok(Found::selected(pair, &selection, digests, coding, context)?)
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

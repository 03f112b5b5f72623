//! Two checkpoints to a patch: pair, localize, gather, write.

use crate::apply::{Edit, Plan};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::pair::{Pair, PairOptions};
use crate::context::{Cancelled, Context};
use crate::digest::Sha256Digest;
use crate::edit::Alpha;
use crate::error::Error;
use crate::format::metadata::{Localization, Metadata, Reduced, Source, SourceFile};
use crate::format::tensor_table::{Roots, Statistics};
use crate::format::write::{EncodedBlock, EncodedTensor, assemble};
use crate::format::{Patch, read::ReadError};
use crate::localize::candidates::{CandidateOptions, Candidates, Kinds};
use crate::localize::value::{Amount, Scope};
use crate::localize::{Impossible, full, value};
use crate::mask::Selection;
use crate::patch::gather::{Gathered, Magnitude, Portability, Precision, gather};
use rayon::prelude::*;
use std::path::Path;

/// How the weights are found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Localize {
    /// The largest differences (paper eq 2).
    Value {
        /// How many.
        amount: Amount,
        /// Ranked together or tensor by tensor.
        scope: Scope,
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
pub struct DiffOptions {
    /// How tensors are paired.
    pub pair: PairOptions,
    /// Where weights are looked for.
    pub candidates: CandidateOptions,
    /// How they are found.
    pub localize: Localize,
    /// How exactly deltas are kept.
    pub precision: Precision,
    /// Whether the patch must serve without its base.
    pub portability: Portability,
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
}

/// Makes the patch that leads from `target` to `reference`.
///
/// Cost: SHA-256 of both checkpoints twice (whole files; tensors that change), and three to eight passes over the
/// candidates. Memory: 64 MiB and 40 bytes for each selected element, whatever the size of the checkpoints.
///
/// # Errors
/// By stage: pairing, localization, gathering, cancellation.
pub fn diff(
    target: &Checkpoint,
    reference: &Checkpoint,
    options: &DiffOptions,
    context: &Context<'_>,
) -> Result<Diffed, Error> {
    let pair = Pair::new(target, reference, &options.pair)?;
    let kinds = if options.localize == Localize::Full { Kinds::Every } else { Kinds::Floats };
    let candidates = Candidates::new(&pair, &options.candidates, kinds)?;
    check_casts(&pair, &candidates.tensors, context)?;
    context.begin("localizing", 0);
    let selection = match options.localize {
        Localize::Value { amount, scope } => value::select(&pair, &candidates.tensors, amount, scope, context)?,
        Localize::Full => full::select(&pair, &candidates.tensors, context)?,
    };
    let other_differences = if kinds == Kinds::Floats { other_differences(&pair, context)? } else { Vec::new() };
    let localization = match options.localize {
        Localize::Full => Localization { method: "full".to_owned(), ..Localization::default() },
        Localize::Value { amount, scope } => Localization {
            method: "value".to_owned(),
            scope: Some(match scope {
                Scope::Global => "global".to_owned(),
                Scope::Tensor => "tensor".to_owned(),
            }),
            k: Some(selection.len()),
            density: match amount {
                Amount::Density(density) => Some(density.share()),
                Amount::Count(_) => None,
            },
        },
    };
    let labels = options.labels.clone();
    context.begin("hashing the files", target.bytes() + reference.bytes());
    let (base, reference) = rayon::join(
        || source(target, labels.base_model, context),
        || source(reference, labels.reference_model, context),
    );
    let metadata = Metadata {
        localization,
        candidates: candidates.description,
        base: base?,
        reference: reference?,
        pairing: pair.pairing.clone(),
        recommended_alpha: labels.recommended_alpha.map(Alpha::value),
        license: labels.license,
        description: labels.description,
        results: labels.results,
        x: labels.x,
        ..Metadata::default()
    };
    let (patch, Magnitude { unchanged, .. }) = write(&pair, &selection, metadata, options, context)?;
    Ok(Diffed { patch, unrecognized: candidates.unrecognized, other_differences, unchanged })
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
    let pair_options = PairOptions { unpaired: Unpaired::Refuse, other_dtype: OtherDtype::Refuse, prefix: None };
    let options = DiffOptions {
        pair: pair_options.clone(),
        candidates: CandidateOptions::default(),
        localize: Localize::Full,
        precision: Precision::Exact,
        portability: Portability::NeedsBase,
        labels: Labels::default(),
    };
    let pair = Pair::new(result, base, &pair_options)?;
    let candidates: Vec<usize> =
        (0..pair.tensors.len()).filter(|at| changed.iter().any(|name| name == pair.tensors[*at].name())).collect();
    context.begin("preparing the undo patch", 0);
    let selection = full::select(&pair, &candidates, context)?;
    let method = "undo".to_owned();
    let metadata = Metadata {
        localization: Localization { method, ..Localization::default() },
        base: Source { elements: result.elements(), ..Source::default() },
        reference: source(base, None, context)?,
        ..Metadata::default()
    };
    write(&pair, &selection, metadata, &options, context).map(|(patch, _)| patch)
}

fn write(
    pair: &Pair<'_>,
    selection: &Selection,
    metadata: Metadata,
    options: &DiffOptions,
    context: &Context<'_>,
) -> Result<(Patch, Magnitude), Error> {
    context.begin("coding", 0);
    let gathered = gather(pair, selection, options.precision, options.portability, context)?;
    let total = gathered.blocks.iter().map(|block| block.magnitude).fold(Magnitude::default(), Magnitude::and);
    let reduced = match options.precision {
        Precision::Exact => None,
        Precision::Bf16 => Some("bf16"),
        Precision::Int8 => Some("int8"),
    };
    let metadata = Metadata {
        tool: concat!("lcepatch ", env!("CARGO_PKG_VERSION")).to_owned(),
        reduced: reduced.map(|delta_dtype| Reduced {
            delta_dtype: delta_dtype.to_owned(),
            max_error: total.error_max,
            relative_error: if total.squares > 0.0 { (total.error_squares / total.squares).sqrt() } else { 0.0 },
        }),
        portable: options.portability == Portability::Portable,
        portability_bytes: Some(gathered.portability_bytes),
        ..metadata
    };
    let selected = Sha256Digest::root(gathered.blocks.iter().map(|block| &block.base_digest));
    context.begin("hashing the tensors", 0);
    let (tensors, reference) = encoded_tensors(pair, gathered, context)?;
    let exact_and_whole = options.localize == Localize::Full && options.precision == Precision::Exact;
    let mut roots = Roots { selected, reference, result: reference };
    let assembled = |roots| {
        let bytes = assemble(&metadata, roots, &tensors).map_err(ReadError::Invalid);
        bytes.and_then(Patch::from_bytes).map_err(|e| Error::of_patch(Path::new("the new patch"), e))
    };
    let patch = assembled(roots)?;
    if exact_and_whole || tensors.is_empty() {
        return Ok((patch, total));
    }
    // What the patch makes of the base is found by applying it, which also proves that it decodes.
    roots.result = result_root(pair, patch, context)?;
    Ok((assembled(roots)?, total))
}

/// The tensors with a selected element, and the root of their references' digests.
fn encoded_tensors(
    pair: &Pair<'_>,
    gathered: Gathered,
    context: &Context<'_>,
) -> Result<(Vec<EncodedTensor>, Sha256Digest), Cancelled> {
    let mut tensors: Vec<EncodedTensor> = Vec::new();
    let mut places: Vec<usize> = Vec::new();
    let mut magnitudes: Vec<Magnitude> = Vec::new();
    for block in gathered.blocks {
        let tensor = &pair.tensors[block.tensor];
        if places.last() != Some(&block.tensor) {
            places.push(block.tensor);
            magnitudes.push(Magnitude::default());
            tensors.push(EncodedTensor {
                name: tensor.name().to_owned(),
                dtype: tensor.dtype(),
                shape: tensor.target.info.shape.clone(),
                base_digest: Sha256Digest([0; 32]),
                statistics: None,
                blocks: Vec::new(),
            });
        }
        if let (Some(encoded), Some(magnitude)) = (tensors.last_mut(), magnitudes.last_mut()) {
            *magnitude = magnitude.and(block.magnitude);
            let bytes = block.streams.write();
            encoded.blocks.push(EncodedBlock { index: block.index, selected: block.selected, bytes });
        }
    }
    for (tensor, magnitude) in tensors.iter_mut().zip(&magnitudes) {
        let selected: u64 = tensor.blocks.iter().map(|block| u64::from(block.selected)).sum();
        let mean = (magnitude.sum / selected as f64) as f32;
        tensor.statistics = tensor.dtype.float().map(|_| Statistics { mean, max: magnitude.max as f32 });
    }
    let digests = places
        .par_iter()
        .map(|place| {
            let tensor = &pair.tensors[*place];
            Ok((tensor.target.digest(context)?, tensor.reference_digest(context)?))
        })
        .collect::<Result<Vec<_>, Cancelled>>()?;
    tensors.iter_mut().zip(&digests).for_each(|(tensor, (base, _))| tensor.base_digest = *base);
    Ok((tensors, Sha256Digest::root(digests.iter().map(|(_, reference)| reference))))
}

/// The root of the digests of the tensors that `patch` makes at alpha 1.
fn result_root(pair: &Pair<'_>, patch: Patch, context: &Context<'_>) -> Result<Sha256Digest, Error> {
    let edits = [Edit { patch, path: "the new patch".into(), alpha: Alpha::ONE }];
    let targets: Vec<_> = edits[0]
        .patch
        .table
        .tensors
        .iter()
        .filter_map(|entry| pair.tensors.iter().find(|tensor| tensor.name() == entry.name))
        .map(|tensor| tensor.target)
        .collect();
    let plan = Plan::of_own_base(pair.target, &edits);
    let digests = targets
        .par_iter()
        .map(|tensor| plan.result_digest(*tensor, context))
        .collect::<Result<Vec<Sha256Digest>, Error>>()?;
    Ok(Sha256Digest::root(&digests))
}

fn source(checkpoint: &Checkpoint, model_id: Option<String>, context: &Context<'_>) -> Result<Source, Cancelled> {
    let file = |file: &crate::checkpoint::WeightFile| {
        let sha256 = file.digest(context)?.to_string();
        Ok(SourceFile { name: file.name(), bytes: file.bytes(), sha256 })
    };
    let files = checkpoint.files.par_iter().map(file).collect::<Result<Vec<_>, Cancelled>>()?;
    Ok(Source { model_id, elements: checkpoint.elements(), files })
}

/// Tensors that have no order and no alpha, and yet differ.
fn other_differences(pair: &Pair<'_>, context: &Context<'_>) -> Result<Vec<String>, Cancelled> {
    let others: Vec<usize> = (0..pair.tensors.len()).filter(|at| pair.tensors[*at].dtype().float().is_none()).collect();
    let selection = full::select(pair, &others, context)?;
    let mut tensors: Vec<usize> = selection.blocks.iter().map(|block| block.tensor).collect();
    tensors.dedup();
    Ok(tensors.into_iter().map(|at| pair.tensors[at].name().to_owned()).collect())
}

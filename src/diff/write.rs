//! A selection to the bytes of a patch.

use crate::apply::{Edit, Plan};
use crate::checkpoint::pair::Pair;
use crate::context::{Cancelled, Context};
use crate::digest::Sha256Digest;
use crate::edit::{Alpha, EditKind};
use crate::error::Error;
use crate::format::metadata::{self, Metadata, Reduced};
use crate::format::tensor_table::{Roots, Statistics};
use crate::format::write::{EncodedBlock, EncodedTensor, assemble};
use crate::format::{Patch, read::ReadError};
use crate::mask::Selection;
use crate::patch::Magnitude;
use crate::patch::gather::{Coding, Gathered, Portability, Precision, gather};
use rayon::prelude::*;
use std::path::Path;

/// The patch of a selection. `whole` says that the selection is all that differs in its tensors.
pub(super) fn write(
    pair: &Pair<'_>,
    selection: &Selection,
    metadata: Metadata,
    coding: Coding<'_>,
    whole: bool,
    context: &Context<'_>,
) -> Result<(Patch, Magnitude), Error> {
    context.begin("coding", 0);
    let gathered = gather(pair, selection, coding, context)?;
    let total = gathered.blocks.iter().map(|block| block.magnitude).fold(Magnitude::default(), Magnitude::and);
    let reduced = match coding.precision {
        Precision::Exact => None,
        Precision::Bf16 => Some("bf16"),
        Precision::Int8 => Some("int8"),
    };
    let masks = metadata.masks.clone().map(|masks| metadata::Masks { before_pruning: gathered.restores, ..masks });
    let metadata = Metadata {
        masks,
        tool: concat!("lcepatch ", env!("CARGO_PKG_VERSION")).to_owned(),
        reduced: reduced.map(|delta_dtype| Reduced {
            delta_dtype: delta_dtype.to_owned(),
            max_error: total.error_max,
            relative_error: if total.squares > 0.0 { (total.error_squares / total.squares).sqrt() } else { 0.0 },
        }),
        portable: coding.portability == Portability::Portable,
        portability_bytes: Some(gathered.portability_bytes),
        ..metadata
    };
    let selected = Sha256Digest::root(gathered.blocks.iter().map(|block| &block.base_digest));
    context.begin("hashing the tensors", 0);
    let (tensors, reference) = encoded_tensors(pair, gathered, context)?;
    let exact_and_whole = whole && coding.precision == Precision::Exact;
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
    let edits = [Edit { patch, path: "the new patch".into(), kind: EditKind::Interpolate(Alpha::ONE) }];
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

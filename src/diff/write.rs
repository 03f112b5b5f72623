//! A selection to the bytes of a patch.

use crate::apply::results;
use crate::checkpoint::pair::Pair;
use crate::context::{Cancelled, Context};
use crate::digest::{Hasher, Sha256Digest};
use crate::error::Error;
use crate::format::metadata::{self, Metadata, Reduced};
use crate::format::tensor_table::{Counterparts, Roots};
use crate::format::write::{EncodedTensor, assemble};
use crate::format::{Patch, read::ReadError};
use crate::mask::{BLOCK_ELEMENTS, Selection};
use crate::patch::Magnitude;
use crate::patch::gather::{Coding, Gathered, Portability, Precision, gather};
use crate::patch::group::by_tensor;
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
    let invertible = gathered.invertible && coding.portability == Portability::Portable && pair.pairing.is_none();
    let (mut tensors, reference) = encoded_tensors(pair, gathered, context)?;
    let mut roots = Roots { selected, reference: Sha256Digest::root(&reference), result: Sha256Digest::UNKNOWN };
    let assembled = |roots, tensors: &[EncodedTensor]| {
        let bytes = assemble(&metadata, roots, tensors).map_err(ReadError::Invalid);
        bytes.and_then(Patch::from_bytes).map_err(|e| Error::of_patch(Path::new("the new patch"), e))
    };
    let exact_and_whole = whole && coding.precision == Precision::Exact;
    let results = if exact_and_whole || tensors.is_empty() {
        reference.clone()
    } else {
        // What the patch makes of the base is found by applying it, which also proves that it decodes.
        results(pair.target, assembled(roots, &tensors)?, context)?
    };
    roots.result = Sha256Digest::root(&results);
    if invertible {
        for ((tensor, reference), result) in tensors.iter_mut().zip(&reference).zip(results) {
            let inverse_result = match exact_and_whole {
                true => tensor.base_digest,
                false => inverse_result(pair, selection, &tensor.name, context)?,
            };
            tensor.counterparts = Some(Counterparts { reference: *reference, result, inverse_result });
        }
    }
    Ok((assembled(roots, &tensors)?, total))
}

/// The tensors with a selected element, and their references' digests.
fn encoded_tensors(
    pair: &Pair<'_>,
    gathered: Gathered,
    context: &Context<'_>,
) -> Result<(Vec<EncodedTensor>, Vec<Sha256Digest>), Cancelled> {
    let describe = |place: usize| {
        let tensor = &pair.tensors[place];
        (tensor.name().to_owned(), tensor.dtype(), tensor.target.info.shape.clone())
    };
    let tensors = by_tensor(gathered.blocks, describe);
    let digests = tensors
        .par_iter()
        .map(|(place, _)| {
            let tensor = &pair.tensors[*place];
            Ok((tensor.target.digest(context)?, tensor.reference_digest(context)?))
        })
        .collect::<Result<Vec<_>, Cancelled>>()?;
    let (bases, references): (Vec<_>, Vec<_>) = digests.into_iter().unzip();
    let with_digest = |((_, tensor), base_digest)| EncodedTensor { base_digest, ..tensor };
    Ok((tensors.into_iter().zip(bases).map(with_digest).collect(), references))
}

/// SHA-256 of a tensor of the reference with the target's bits at the selected positions (spec §12.5).
fn inverse_result(
    pair: &Pair<'_>,
    selection: &Selection,
    name: &str,
    context: &Context<'_>,
) -> Result<Sha256Digest, Cancelled> {
    let mut hasher = Hasher::default();
    let Some(place) = pair.tensors.iter().position(|tensor| tensor.name() == name) else { return Ok(hasher.finish()) };
    let tensor = &pair.tensors[place];
    let width = tensor.dtype().width().bytes();
    let blocks = selection.blocks.iter().filter(|block| block.tensor == place);
    let mut selected = blocks
        .flat_map(|block| block.positions.iter().map(|at| block.index * BLOCK_ELEMENTS + u64::from(*at)))
        .peekable();
    let mut buffer = Vec::new();
    tensor.windows(0..tensor.target.info.elements(), context, |start, target, reference| {
        buffer.clear();
        buffer.extend_from_slice(reference);
        let end = start + (target.len() / width) as u64;
        while let Some(element) = selected.next_if(|element| *element < end) {
            let bytes = (element - start) as usize * width..(element - start + 1) as usize * width;
            buffer[bytes.clone()].copy_from_slice(&target[bytes]);
        }
        hasher.update(&buffer);
        Ok::<(), Cancelled>(())
    })?;
    Ok(hasher.finish())
}

//! What was localized, coded, to the bytes of a patch.

use crate::apply::results;
use crate::checkpoint::pair::Pair;
use crate::context::Context;
use crate::digest::{ContentHash, Digest, PartDigest, join};
use crate::error::Error;
use crate::format::metadata::{self, Metadata, Reduced};
use crate::format::tensor_table::{Counterparts, Roots};
use crate::format::write::{EncodedTensor, assemble};
use crate::format::{Patch, read::ReadError};
use crate::localize::full::differing;
use crate::localize::survey::{PairDigests, TensorDigests, survey};
use crate::mask::Selection;
use crate::patch::Magnitude;
use crate::patch::gather::{Coding, GatherError, Portability, Precision, Sides, Variants, choose, code_block, gather};
use crate::patch::group::by_tensor;
use std::path::Path;

/// Selected elements, coded block by block, and the digests of their pair.
pub(super) struct Localized {
    blocks: Vec<(Variants, Option<Sides>)>,
    pub digests: PairDigests,
    /// Whether it is all that differs in its tensors, so that the result is the reference.
    is_whole: bool,
}

impl Localized {
    /// All that differs in the tensors `candidates`, coded as it is found.
    ///
    /// # Errors
    /// [`GatherError`].
    pub fn full(
        pair: &Pair<'_>,
        candidates: &[usize],
        coding: Coding<'_>,
        context: &Context<'_>,
    ) -> Result<Self, GatherError> {
        let (found, digests) = survey(pair, |block| {
            if candidates.binary_search(&block.tensor).is_err() {
                return Ok((None, block.skim(context)?));
            }
            let (tensor, place) = (block.pair, (block.tensor, block.index));
            let (elements, digests) = differing(block, context)?;
            let selected = (!elements.positions.is_empty()).then(|| code_block(tensor, place, &elements, coding));
            Ok::<_, GatherError>((selected.transpose()?, digests))
        })?;
        let blocks = found.into_iter().flatten().map(|variants| (variants, None)).collect();
        Ok(Self { blocks, digests, is_whole: true })
    }

    /// A selection.
    ///
    /// # Errors
    /// [`GatherError`].
    pub fn gathered(
        pair: &Pair<'_>,
        selection: &Selection,
        digests: PairDigests,
        coding: Coding<'_>,
        context: &Context<'_>,
    ) -> Result<Self, GatherError> {
        context.begin("coding", 0);
        let blocks = gather(pair, selection, coding, coding.precision == Precision::Exact, context)?;
        Ok(Self { blocks, digests, is_whole: false })
    }

    /// Selected elements.
    pub fn selected(&self) -> u64 {
        self.blocks.iter().map(|(block, _)| block.selected()).sum()
    }
}

/// The patch of what was localized.
pub(super) fn write(
    pair: &Pair<'_>,
    localized: Localized,
    metadata: Metadata,
    coding: Coding<'_>,
    context: &Context<'_>,
) -> Result<(Patch, Magnitude), Error> {
    let Localized { blocks, digests, is_whole } = localized;
    let (variants, sides): (Vec<Variants>, Vec<Option<Sides>>) = blocks.into_iter().unzip();
    let gathered = choose(variants, coding.portability);
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
    let hash = ContentHash::default();
    let selected = hash.root(gathered.blocks.iter().map(|block| &block.base_digest));
    let invertible = gathered.invertible && coding.portability == Portability::Portable && pair.pairing.is_none();
    let places: Vec<(usize, u64)> = gathered.blocks.iter().map(|block| (block.tensor, block.index)).collect();
    let describe = |place: usize| {
        let tensor = &pair.tensors[place];
        (tensor.name().to_owned(), tensor.dtype(), tensor.target.info.shape.clone())
    };
    let mut tensors = Vec::new();
    let mut of_pair = Vec::new();
    for (place, tensor) in by_tensor(gathered.blocks, describe) {
        let digests = &digests.0[place];
        tensors.push(EncodedTensor { base_digest: digests.target, ..tensor });
        of_pair.push((place, digests));
    }
    let references: Vec<Digest> = of_pair.iter().map(|(_, digests)| digests.reference).collect();
    let reference = hash.root(&references);
    let mut roots = Roots { hash, selected, reference, result: Digest::UNKNOWN };
    let assembled = |roots, tensors: &[EncodedTensor]| {
        let bytes = assemble(&metadata, roots, tensors).map_err(ReadError::Invalid);
        bytes.and_then(Patch::from_bytes).map_err(|e| Error::of_patch(Path::new("the new patch"), e))
    };
    // The digest of a tensor of which some blocks become something else.
    let with = |own: fn(&TensorDigests) -> &Vec<PartDigest>, side: fn(&Sides) -> PartDigest| {
        let of_tensor = |(place, digests): &(usize, &TensorDigests)| {
            let mut parts = own(digests).clone();
            for ((tensor, index), sides) in places.iter().zip(&sides) {
                if let (true, Some(sides)) = (tensor == place, sides) {
                    parts[*index as usize] = side(sides);
                }
            }
            join(&parts)
        };
        of_pair.iter().map(of_tensor).collect::<Vec<Digest>>()
    };
    let exact_and_whole = is_whole && coding.precision == Precision::Exact;
    let results = match coding.precision {
        Precision::Exact if is_whole => references.clone(),
        Precision::Exact => with(|digests| &digests.target_blocks, |sides| sides.result),
        // What the patch makes of the base is found by applying it.
        _ => results(pair.target, assembled(roots, &tensors)?, context)?,
    };
    roots.result = hash.root(&results);
    if invertible {
        let inverse_results = match exact_and_whole {
            true => of_pair.iter().map(|(_, digests)| digests.target).collect(),
            false => with(|digests| &digests.reference_blocks, |sides| sides.inverse_result),
        };
        let counterparts = references.into_iter().zip(results).zip(inverse_results);
        for (tensor, ((reference, result), inverse_result)) in tensors.iter_mut().zip(counterparts) {
            tensor.counterparts = Some(Counterparts { reference, result, inverse_result });
        }
    }
    Ok((assembled(roots, &tensors)?, total))
}

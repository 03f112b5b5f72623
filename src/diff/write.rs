//! What was found, coded, to the bytes of a patch.

use super::Diffed;
use super::outline::Outline;
use crate::apply::results;
use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::digest::{ContentHash, Digest, PartDigest, join};
use crate::error::Error;
use crate::format::block::encode::{BlockEncodings, Portability, Precision};
use crate::format::block::{BlockId, blocks};
use crate::format::builder::{PatchBuilder, TensorParts};
use crate::format::limits::BLOCK_LOG2;
use crate::format::metadata::{self, Metadata, Reduced};
use crate::format::tensor_table::Counterparts;
use crate::localize::full::differing;
use crate::localize::scan::{BlockDigests, PairDigests, TensorDigests, scan};
use crate::mask::Selection;
use crate::pair::Pair;
use crate::patch::Patch;
use crate::patch::encode::{EncodeError, EncodeOptions, PatchedDigests, encode_block, encode_selection};
use serde::{Deserialize, Serialize};

/// What was found in blocks of a pair of checkpoints.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Found {
    /// Selected elements, coded, in order; those of blocks that have any.
    pub coded: Vec<(BlockEncodings, Option<PatchedDigests>)>,
    /// The digests of all blocks that were looked at, in order.
    pub digests: Vec<BlockDigests>,
}

impl Found {
    /// All that differs in the tensors `candidates` within the `blocks`, coded as it is found.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn full(
        pair: &Pair<'_>,
        blocks: &[BlockId],
        candidates: &[usize],
        options: EncodeOptions<'_>,
        context: &Context<'_>,
    ) -> Result<Self, EncodeError> {
        let (found, digests) = scan(pair, blocks, |block| {
            if candidates.binary_search(&block.id.tensor).is_err() {
                return Ok((None, block.hash(context)?));
            }
            let (tensor, id) = (block.pair, block.id);
            let (elements, digests) = differing(block, context)?;
            let selected = (!elements.positions.is_empty()).then(|| encode_block(tensor, id, &elements, options));
            Ok::<_, EncodeError>((selected.transpose()?, digests))
        })?;
        Ok(Self { coded: found.into_iter().flatten().map(|variants| (variants, None)).collect(), digests })
    }

    /// A selection, in blocks of these `digests`.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn encoded(
        pair: &Pair<'_>,
        selection: &Selection,
        digests: Vec<BlockDigests>,
        options: EncodeOptions<'_>,
        context: &Context<'_>,
    ) -> Result<Self, EncodeError> {
        context.begin("coding", 0);
        let coded =
            encode_selection(pair, selection, options, options.encoding.precision == Precision::Exact, context)?;
        Ok(Self { coded, digests })
    }
}

/// How deltas are stored with less than full precision.
pub(super) struct Rounded<'a> {
    pub delta_dtype: &'static str,
    /// What the patch makes of it is found by applying it.
    pub base: &'a Checkpoint,
}

/// The patch of what was found in all blocks of the pair that `outline` is of. `unpaired` are the digests of the tensors that are
/// in no pair.
pub(super) fn write(
    outline: Outline,
    found: Found,
    unpaired: &[Digest],
    rounded: Option<Rounded<'_>>,
    context: &Context<'_>,
) -> Result<Diffed, Error> {
    let blocks_of = outline.tensors.iter().map(|tensor| blocks(tensor.elements().unwrap_or(0)).end);
    let digests = PairDigests::join(blocks_of, &found.digests);
    let [base_contents, reference_contents] = outline.contents(&digests, unpaired);
    let Outline { mut metadata, tensors: described, portability, is_whole, unrecognized, .. } = outline;
    let (variants, sides): (Vec<BlockEncodings>, Vec<Option<PatchedDigests>>) = found.coded.into_iter().unzip();
    let ids: Vec<BlockId> = variants.iter().map(BlockEncodings::id).collect();
    let hash = ContentHash::default();
    let mut builder = PatchBuilder::new(portability, hash, BLOCK_LOG2);
    for (tensor, digests) in described.iter().zip(&digests.0) {
        let (name, dtype, shape) = (tensor.name.clone(), tensor.dtype, tensor.shape.clone());
        builder.tensor(TensorParts { name, dtype, shape, base_digest: digests.target, counterparts: None });
    }
    builder.encoded(variants);
    let mut new = builder.choose();
    let total = new.total;
    metadata.localization.k.iter_mut().for_each(|k| *k = new.selected());
    let contents = [(&mut metadata.base, base_contents), (&mut metadata.reference, reference_contents)];
    for (source, contents) in contents {
        let files = source.files.iter_mut().zip(contents);
        files.for_each(|(file, content)| file.content = Some(content.to_string()));
    }
    let masks = metadata.masks.map(|masks| metadata::Masks { before_pruning: new.restores, ..masks });
    let metadata = Metadata {
        masks,
        reduced: rounded.as_ref().map(|rounded| Reduced {
            delta_dtype: rounded.delta_dtype.to_owned(),
            max_error: total.error_max,
            relative_error: if total.squares > 0.0 { (total.error_squares / total.squares).sqrt() } else { 0.0 },
        }),
        portability_bytes: new.portability_bytes,
        ..metadata
    };
    let invertible = new.invertible && portability == Portability::Portable && metadata.pairing.is_none();
    let of_pair: Vec<(usize, &TensorDigests)> =
        new.tensors.iter().map(|tensor| (tensor.place, &digests.0[tensor.place])).collect();
    let references: Vec<Digest> = of_pair.iter().map(|(_, digests)| digests.reference).collect();
    let reference = hash.root(&references);
    // The digest of a tensor of which some blocks become something else.
    let with = |own: fn(&TensorDigests) -> &Vec<PartDigest>, side: fn(&PatchedDigests) -> PartDigest| {
        // Both are in the order of the pairs, so that each tensor's blocks are the next ones.
        let mut blocks = ids.iter().zip(&sides).peekable();
        let of_tensor = |(place, digests): &(usize, &TensorDigests)| {
            let mut parts = own(digests).clone();
            while let Some((id, sides)) = blocks.next_if(|(id, _)| id.tensor == *place) {
                if let Some(sides) = sides {
                    parts[id.index as usize] = side(sides);
                }
            }
            join(&parts)
        };
        of_pair.iter().map(of_tensor).collect::<Vec<Digest>>()
    };
    let exact_and_whole = is_whole && rounded.is_none();
    let results = match rounded {
        None if is_whole => references.clone(),
        None => with(|digests| &digests.target_blocks, |sides| sides.result),
        Some(rounded) => {
            results(rounded.base, &Patch::written(&new, &metadata, reference, Digest::UNKNOWN)?, None, context)?
        }
    };
    let result = hash.root(&results);
    if invertible {
        let inverse_results = match exact_and_whole {
            true => of_pair.iter().map(|(_, digests)| digests.target).collect(),
            false => with(|digests| &digests.reference_blocks, |sides| sides.inverse_result),
        };
        let counterparts = references.into_iter().zip(results).zip(inverse_results);
        for (tensor, ((reference, result), inverse_result)) in new.tensors.iter_mut().zip(counterparts) {
            tensor.parts.counterparts = Some(Counterparts { reference, result, inverse_result });
        }
    }
    let patch = Patch::written(&new, &metadata, reference, result)?;
    let others = described
        .iter()
        .zip(&digests.0)
        .filter(|(tensor, digests)| !is_whole && tensor.dtype.float().is_none() && digests.target != digests.reference);
    let other_differences = others.map(|(tensor, _)| tensor.name.clone()).collect();
    Ok(Diffed { patch, unrecognized, other_differences, unchanged: total.unchanged, masked_elsewhere: Vec::new() })
}

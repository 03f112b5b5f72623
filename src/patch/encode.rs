//! Encodes the selected elements of a pair of checkpoints, in parallel by block.

use super::{TensorBlock, patched};
use crate::checkpoint::Checkpoint;
use crate::context::{Cancelled, Context};
use crate::digest::{Digest, PartDigest};
use crate::format::block::dense::DenseElements;
use crate::format::block::encode::{self, BlockEncodings, Encoding, Portability};
use crate::format::block::{BLOCK_ELEMENTS, BaseElements, BlockId, Elements, Kept, block_range};
use crate::mask::{MaskFault, PairBits, PairMasks, SelectedBlock, Selection};
use crate::pair::{Pair, TensorPair};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How a selection is encoded.
#[derive(Debug, Clone, Copy)]
pub struct EncodeOptions<'a> {
    /// How each block is encoded.
    pub encoding: Encoding,
    /// The pruning masks to store with the selection, if any.
    pub masks: Option<&'a PairMasks<'a>>,
    /// The target before it was pruned, with the same tensors. The patch then also stores these values for the weights that
    /// are pruned in the target, so that mask switching can restore them.
    pub unpruned: Option<&'a Checkpoint>,
}

/// Why a selection cannot be encoded.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum EncodeError {
    /// A pruning mask cannot be read.
    #[error(transparent)]
    Mask(MaskFault),
    /// A delta is infinite or NaN, and reduced precision stores finite deltas only.
    #[error("the delta of element {index} of {tensor:?} is not a finite number, which reduced precision cannot carry")]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// Flat index.
        index: u64,
    },
    /// Asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl From<MaskFault> for EncodeError {
    fn from(fault: MaskFault) -> Self {
        match fault {
            MaskFault::Cancelled(cancelled) => Self::Cancelled(cancelled),
            fault => Self::Mask(fault),
        }
    }
}

/// BLAKE3 digests of a block after the patch, and after its inverse.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct PatchedDigests {
    /// The base's block with the reference's bits at the selected positions: the result of the patch.
    pub result: PartDigest,
    /// The reference's block with the base's bits at the selected positions: the result of the inverse patch.
    pub inverse_result: PartDigest,
}

/// Encodes the selected elements of `pair`, in parallel by block and in the order of the selection's blocks. With
/// `with_digests`, also hashes each block as the patch will leave it.
///
/// One to three passes over the blocks with a selected element, one of them for the digests. Memory: about 28 bytes for each
/// selected element of the blocks in work, and the encoded bytes.
///
/// # Errors
/// [`EncodeError`].
pub(crate) fn encode_selection(
    pair: &Pair<'_>,
    selection: &Selection,
    options: EncodeOptions<'_>,
    with_digests: bool,
    context: &Context<'_>,
) -> Result<Vec<(BlockEncodings, Option<PatchedDigests>)>, EncodeError> {
    let encode_selected = |selected: &SelectedBlock| {
        let tensor = &pair.tensors[selected.tensor];
        let elements = read_elements(tensor, selected, options, context)?;
        let encodings = encode_block(tensor, selected.id(), &elements, options)?;
        if !with_digests {
            return Ok((encodings, None));
        }
        let portability = options.encoding.portability;
        let digests = patched_digests(tensor, selected.index, &elements, portability, context)?;
        Ok((encodings, Some(digests)))
    };
    selection.blocks.par_iter().map(encode_selected).collect()
}

/// Encodes the selected `elements` of the block `id`, which is a block of `tensor`.
///
/// # Errors
/// [`EncodeError::NotFinite`].
pub(crate) fn encode_block(
    tensor: &TensorPair<'_>,
    id: BlockId,
    elements: &Elements,
    options: EncodeOptions<'_>,
) -> Result<BlockEncodings, EncodeError> {
    let base = TensorBlock::new(tensor.target, block_range(id.index, tensor.target.info.elements()));
    encode::encode(id, elements, Some(&base), options.encoding).map_err(|failed| {
        let index = id.index * BLOCK_ELEMENTS + u64::from(elements.positions[failed]);
        EncodeError::NotFinite { tensor: tensor.name().to_owned(), index }
    })
}

/// Encodes the block `id` of `tensor`, of which a large share of the `elements` changes.
pub(crate) fn encode_dense_block(
    tensor: &TensorPair<'_>,
    id: BlockId,
    elements: DenseElements,
    options: EncodeOptions<'_>,
) -> BlockEncodings {
    let base = TensorBlock::new(tensor.target, block_range(id.index, tensor.target.info.elements()));
    elements.encode(id, &base, options.encoding)
}

/// Hashes block `index` of `tensor` as the patch and its inverse leave it.
fn patched_digests(
    tensor: &TensorPair<'_>,
    index: u64,
    elements: &Elements,
    portability: Portability,
    context: &Context<'_>,
) -> Result<PatchedDigests, Cancelled> {
    let result = patched::digest(tensor.target, index, elements, &elements.reference, context)?;
    // Only a portable patch can be inverted without its checkpoints, and only if both tensors have one dtype and shape.
    let is_invertible = portability == Portability::Portable && !tensor.is_cast() && !tensor.has_other_rows();
    let inverse_result = match is_invertible {
        true => patched::digest(tensor.reference, index, elements, &elements.base, context)?,
        false => PartDigest::Whole(Digest::UNKNOWN),
    };
    Ok(PatchedDigests { result, inverse_result })
}

/// The elements of `tensor` that are `selected`. Reads the checkpoints only if the selection does not hold the bits.
///
/// # Errors
/// [`EncodeError`]: masks, cancellation.
fn read_elements(
    tensor: &TensorPair<'_>,
    selected: &SelectedBlock,
    options: EncodeOptions<'_>,
    context: &Context<'_>,
) -> Result<Elements, EncodeError> {
    let (dtype, positions) = (tensor.dtype(), selected.positions.clone());
    let (base, reference) = match &selected.bits {
        Some(PairBits { target, reference }) => (dtype.width().load_all(target), dtype.width().load_all(reference)),
        None => read_bits(tensor, selected, context)?,
    };
    let elements = Elements { dtype, positions, base, reference, kept: None, before: None, holds_zeros: true };
    match options.masks {
        None => Ok(elements),
        Some(masks) => add_masks(elements, tensor, selected.index, masks, options.unpruned, context),
    }
}

/// Adds to the `elements` of block `index` what the pruning masks keep, and the base's values from before it was pruned. Where the
/// reference is pruned its bits become zero, whatever its file holds there.
///
/// # Errors
/// [`MaskFault`].
fn add_masks(
    mut elements: Elements,
    tensor: &TensorPair<'_>,
    index: u64,
    masks: &PairMasks<'_>,
    unpruned: Option<&Checkpoint>,
    context: &Context<'_>,
) -> Result<Elements, EncodeError> {
    let (dtype, positions) = (elements.dtype, &elements.positions);
    let (in_base, in_reference) = masks.block(tensor, index, context)?;
    let kept: Vec<Kept> = positions
        .iter()
        .zip(&elements.reference)
        .map(|(position, bits)| {
            let position = *position as usize;
            Kept::new(dtype, in_base[position], in_reference[position], *bits)
        })
        .collect();
    for (kept, bits) in kept.iter().zip(&mut elements.reference).filter(|(kept, _)| !kept.in_reference()) {
        let zero = kept.reference_zero(dtype);
        elements.holds_zeros &= *bits == zero;
        *bits = zero;
    }
    elements.before = unpruned.and_then(|checkpoint| checkpoint.tensor(tensor.name())).map(|unpruned| {
        let pruned_in_base = positions.iter().zip(&kept).filter(|(_, kept)| !kept.in_base());
        let positions: Vec<u32> = pruned_in_base.map(|(position, _)| *position).collect();
        TensorBlock::new(unpruned, block_range(index, tensor.target.info.elements())).bits_at(&positions)
    });
    elements.kept = Some(kept);
    elements.holds_zeros &= !elements.base_is_unpruned();
    Ok(elements)
}

/// The bits of the target and of the reference, in the target's dtype, at the selected positions.
fn read_bits(
    tensor: &TensorPair<'_>,
    selected: &SelectedBlock,
    context: &Context<'_>,
) -> Result<(Vec<u64>, Vec<u64>), Cancelled> {
    let width = tensor.dtype().width();
    let range = block_range(selected.index, tensor.target.info.elements());
    let n = selected.positions.len();
    let (mut base, mut reference) = (Vec::with_capacity(n), Vec::with_capacity(n));
    let mut rest = &selected.positions[..];
    tensor.windows(range.clone(), context, |start, base_bytes, reference_bytes| {
        let first = (start - range.start) as u32;
        let end = first + (base_bytes.len() / width.bytes()) as u32;
        let (in_window, later) = rest.split_at(rest.partition_point(|position| *position < end));
        base.extend(in_window.iter().map(|position| width.load(base_bytes, (position - first) as usize)));
        reference.extend(in_window.iter().map(|position| width.load(reference_bytes, (position - first) as usize)));
        rest = later;
        Ok::<(), Cancelled>(())
    })?;
    Ok((base, reference))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Effort;
    use crate::digest::ContentHash;
    use crate::dtype::Dtype;
    use crate::format::block::encode::Precision;
    use crate::mask::PruningMask;
    use crate::pair::PairOptions;
    use crate::testing::{checkpoint, floats, vector};

    fn f32s(values: &[f32]) -> Checkpoint {
        floats(&[("w", values)])
    }

    fn selected(positions: &[u32]) -> SelectedBlock {
        SelectedBlock { tensor: 0, index: 0, positions: positions.to_vec(), bits: None }
    }

    fn without_masks() -> EncodeOptions<'static> {
        EncodeOptions { encoding: encoding(Precision::Exact), masks: None, unpruned: None }
    }

    fn encoding(precision: Precision) -> Encoding {
        let (portability, effort) = (Portability::Portable, Effort::default());
        Encoding { precision, portability, effort, hash: ContentHash::Blake3 }
    }

    fn bits(values: &[f32]) -> Vec<u64> {
        values.iter().map(|value| u64::from(value.to_bits())).collect()
    }

    #[test]
    fn elements_have_the_bits_of_both_checkpoints_at_their_positions() {
        let (target, reference) = (f32s(&[0.0, 1.0, 2.0, 3.0]), f32s(&[10.0, 11.0, 12.0, 13.0]));
        let pair = Pair::new(&target, &reference, &PairOptions::default()).unwrap();
        let elements =
            read_elements(&pair.tensors[0], &selected(&[1, 3]), without_masks(), &Context::silent()).unwrap();
        assert_eq!((elements.base, elements.reference), (bits(&[1.0, 3.0]), bits(&[11.0, 13.0])));
        assert_eq!((elements.positions, elements.kept), (vec![1, 3], None));
    }

    #[test]
    fn bits_that_the_selection_holds_are_not_read_again() {
        let (target, reference) = (f32s(&[0.0; 4]), f32s(&[0.0; 4]));
        let pair = Pair::new(&target, &reference, &PairOptions::default()).unwrap();
        let held = PairBits { target: 5f32.to_le_bytes().to_vec(), reference: 6f32.to_le_bytes().to_vec() };
        let selected = SelectedBlock { bits: Some(held), ..selected(&[2]) };
        let elements = read_elements(&pair.tensors[0], &selected, without_masks(), &Context::silent()).unwrap();
        assert_eq!((elements.base, elements.reference), (bits(&[5.0]), bits(&[6.0])));
    }

    #[test]
    fn where_the_reference_is_pruned_its_bits_become_zero() {
        let (target, reference) = (f32s(&[1.0, 2.0, 3.0]), f32s(&[4.0, 5.0, 6.0]));
        let pair = Pair::new(&target, &reference, &PairOptions::default()).unwrap();
        let file = checkpoint(&[vector("w", Dtype::U8, &[1, 0, 1])]);
        let in_reference = PruningMask::stored(&file, &reference).unwrap();
        let masks = PairMasks { target: PruningMask::default(), reference: in_reference };
        let options = EncodeOptions { masks: Some(&masks), ..without_masks() };
        let elements = read_elements(&pair.tensors[0], &selected(&[0, 1]), options, &Context::silent()).unwrap();
        assert_eq!(elements.base, bits(&[1.0, 2.0]));
        assert_eq!(elements.reference[0], bits(&[4.0])[0]);
        assert_eq!(elements.reference[1], bits(&[0.0])[0]);
        assert!(!elements.holds_zeros, "the reference's file holds 5 where it is pruned");
    }

    #[test]
    fn values_from_before_pruning_are_read_where_the_base_is_pruned() {
        let (target, reference) = (f32s(&[0.0, 2.0, 0.0]), f32s(&[4.0, 5.0, 6.0]));
        let unpruned = f32s(&[7.0, 8.0, 9.0]);
        let pair = Pair::new(&target, &reference, &PairOptions::default()).unwrap();
        let target_mask = PruningMask::zeros(target.tensors());
        let masks = PairMasks { target: target_mask, reference: PruningMask::default() };
        let options = EncodeOptions { masks: Some(&masks), unpruned: Some(&unpruned), ..without_masks() };
        let elements = read_elements(&pair.tensors[0], &selected(&[0, 1, 2]), options, &Context::silent()).unwrap();
        assert_eq!(elements.before, Some(bits(&[7.0, 9.0])));
        assert_eq!(elements.kept.unwrap().iter().map(|kept| kept.in_base()).collect::<Vec<_>>(), [false, true, false]);
    }

    #[test]
    fn a_cast_reference_is_read_in_the_dtype_of_the_target_and_has_no_inverse_digest() {
        let (target, reference) = (f32s(&[1.0, 2.0]), checkpoint(&[vector("w", Dtype::Bf16, &[0x4000, 0x4040])]));
        let options = PairOptions { other_dtype: crate::pair::OtherDtype::Cast, ..PairOptions::default() };
        let pair = Pair::new(&target, &reference, &options).unwrap();
        let elements =
            read_elements(&pair.tensors[0], &selected(&[0, 1]), without_masks(), &Context::silent()).unwrap();
        assert_eq!(elements.reference, bits(&[2.0, 3.0]));
        let digests =
            patched_digests(&pair.tensors[0], 0, &elements, Portability::Portable, &Context::silent()).unwrap();
        assert!(matches!(digests.inverse_result, PartDigest::Whole(Digest::UNKNOWN)));
        assert!(!matches!(digests.result, PartDigest::Whole(Digest::UNKNOWN)));
    }

    #[test]
    fn an_infinite_delta_is_refused_at_reduced_precision_with_its_flat_index() {
        let (target, reference) = (f32s(&[1.0, 2.0, 3.0]), f32s(&[4.0, f32::INFINITY, 6.0]));
        let pair = Pair::new(&target, &reference, &PairOptions::default()).unwrap();
        let selection = Selection { blocks: vec![selected(&[0, 1])] };
        let options = EncodeOptions { encoding: encoding(Precision::Bf16), ..without_masks() };
        let error = encode_selection(&pair, &selection, options, false, &Context::silent()).unwrap_err();
        assert_eq!(error, EncodeError::NotFinite { tensor: "w".to_owned(), index: 1 });
    }
}

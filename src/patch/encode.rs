//! Encodes the selected elements of a pair of checkpoints, in parallel by block.

use super::TensorBlock;
use super::patched::PatchedHasher;
use crate::checkpoint::Checkpoint;
use crate::context::{Cancelled, Context};
use crate::digest::{Digest, PartDigest};
use crate::dtype::Dtype;
use crate::format::block::choose::BlockEncodings;
use crate::format::block::dense::{DenseElements, is_dense};
use crate::format::block::encode::{self, Encoding, Portability};
use crate::format::block::{BLOCK_ELEMENTS, BaseElements, BlockId, Elements, Kept, block_range};
use crate::mask::flags::Flags;
use crate::mask::pruning::Bits;
use crate::mask::{MaskFault, PairMasks, SelectedBlock, Selection};
use crate::pair::{Pair, TensorPair};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, PoisonError};

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
/// One pass over the blocks with a selected element. Memory: about 28 bytes for each selected element of the blocks in work, and the
/// encoded bytes.
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
    let buffers = Buffers::default();
    let encode = |selected: &SelectedBlock| {
        let tensor = &pair.tensors[selected.tensor];
        buffers.lend(|elements| read(tensor, selected, elements, options, with_digests, context)?.encode())
    };
    selection.blocks.par_iter().with_max_len(1).map(encode).collect()
}

/// Memory for the elements of one block after another. Fresh memory for each would be handed out by the system page by page.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Mutex<Vec<Elements>>);

impl Buffers {
    /// Calls `with` with memory that no other call has at the same time.
    pub fn lend<T>(&self, with: impl FnOnce(&mut Elements) -> T) -> T {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut elements = spare.unwrap_or_else(|| Elements::new(Dtype::U8));
        let result = with(&mut elements);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(elements);
        result
    }
}

/// Reads the elements of `tensor` that are `selected`.
fn read<'a>(
    tensor: &'a TensorPair<'a>,
    selected: &SelectedBlock,
    elements: &'a mut Elements,
    options: EncodeOptions<'a>,
    with_digests: bool,
    context: &Context<'_>,
) -> Result<SelectedElements<'a>, EncodeError> {
    let range = block_range(selected.index, tensor.target.info.elements());
    let n = selected.positions.len();
    let mut block = SelectedElements::new(tensor, selected.id(), n, elements, options, with_digests, context)?;
    let mut rest = &selected.positions[..];
    let mut indices = Vec::new();
    tensor.windows(range.clone(), context, |window, target, reference| {
        let [first, end] = [window.start, window.end].map(|element| (element - range.start) as u32);
        let (in_window, later) = rest.split_at(rest.partition_point(|position| *position < end));
        indices.clear();
        indices.extend(in_window.iter().map(|position| position - first));
        block.add(first, &indices, target, reference);
        rest = later;
        Ok::<(), Cancelled>(())
    })?;
    Ok(block)
}

/// The selected elements of one block, and the hashes of what it becomes, gathered while the block is read.
pub(crate) struct SelectedElements<'a> {
    tensor: &'a TensorPair<'a>,
    id: BlockId,
    options: EncodeOptions<'a>,
    elements: &'a mut Elements,
    /// The masks of base and reference, if they are stored with the selection.
    masks: Option<(Bits, Bits)>,
    result: Option<PatchedHasher>,
    inverse_result: Option<PatchedHasher>,
}

impl<'a> SelectedElements<'a> {
    /// For `selected` elements of the block `id`, which is a block of `tensor`. They are put into the memory of `elements`.
    ///
    /// # Errors
    /// [`EncodeError`]: masks, cancellation.
    pub fn new(
        tensor: &'a TensorPair<'a>,
        id: BlockId,
        selected: usize,
        elements: &'a mut Elements,
        options: EncodeOptions<'a>,
        with_digests: bool,
        context: &Context<'_>,
    ) -> Result<Self, EncodeError> {
        let masks = options.masks.map(|masks| masks.block(tensor, id.index, context)).transpose()?;
        // Only a portable patch can be inverted without its checkpoints, and only if both tensors have one dtype and shape.
        let is_portable = options.encoding.portability == Portability::Portable;
        let is_invertible = is_portable && !tensor.is_cast() && !tensor.has_other_rows();
        let hasher = || PatchedHasher::new(tensor.target, id.index);
        elements.clear(tensor.dtype());
        elements.positions.reserve_exact(selected);
        elements.base.reserve_exact(selected);
        elements.reference.reserve_exact(selected);
        elements.kept = masks.as_ref().map(|_| Vec::new());
        Ok(Self {
            tensor,
            id,
            options,
            elements,
            masks,
            result: with_digests.then(hasher),
            inverse_result: (with_digests && is_invertible).then(hasher),
        })
    }

    /// Adds the next part of the block: the position of its first element, the indices in it of the selected elements, ascending, and
    /// its bytes on both sides, in the target's dtype.
    pub fn add(&mut self, first: u32, indices: &[u32], target: &[u8], reference: &[u8]) {
        let added = self.elements.positions.len();
        self.elements.extend(first, indices, target, reference);
        self.finish_part(added, indices, target);
        if let Some(hasher) = &mut self.inverse_result {
            hasher.update(reference, self.elements.dtype.width(), indices, &self.elements.base[added..]);
        }
    }

    /// As [`SelectedElements::add`], with the reference's bit patterns of the selected elements alone. They do not suffice for the inverse
    /// of a portable patch.
    pub fn add_listed(&mut self, first: u32, indices: &[u32], target: &[u8], reference: &[u64]) {
        debug_assert!(self.inverse_result.is_none(), "the inverse needs all of the reference");
        let added = self.elements.positions.len();
        self.elements.extend_with(first, indices, target, reference);
        self.finish_part(added, indices, target);
    }

    /// For the elements from `added` on, which have just been added.
    fn finish_part(&mut self, added: usize, indices: &[u32], target: &[u8]) {
        self.add_kept(added);
        if let Some(hasher) = &mut self.result {
            hasher.update(target, self.elements.dtype.width(), indices, &self.elements.reference[added..]);
        }
    }

    /// Adds what the pruning masks keep of the elements from `added` on. Where the reference is pruned its bits become zero, whatever
    /// its file holds there.
    fn add_kept(&mut self, added: usize) {
        let Elements { dtype, positions, reference, kept: Some(kept), holds_zeros, .. } = &mut *self.elements else {
            return;
        };
        let Some((in_base, in_reference)) = &self.masks else { return };
        for (position, bits) in positions[added..].iter().zip(&mut reference[added..]) {
            let position = *position as usize;
            let here = Kept::new(*dtype, in_base[position], in_reference[position], *bits);
            if !here.in_reference() {
                let zero = here.reference_zero(*dtype);
                *holds_zeros &= *bits == zero;
                *bits = zero;
            }
            kept.push(here);
        }
    }

    /// Adds the base's values from before it was pruned.
    fn add_before_pruning(&mut self) {
        let (elements, tensor) = (&mut *self.elements, self.tensor);
        elements.before =
            self.options.unpruned.and_then(|checkpoint| checkpoint.tensor(tensor.name())).map(|unpruned| {
                let kept = elements.kept.iter().flatten();
                let pruned_in_base = elements.positions.iter().zip(kept).filter(|(_, kept)| !kept.in_base());
                let positions: Vec<u32> = pruned_in_base.map(|(position, _)| *position).collect();
                TensorBlock::new(unpruned, block_range(self.id.index, tensor.target.info.elements()))
                    .bits_at(&positions)
            });
        elements.holds_zeros &= !elements.base_is_unpruned();
    }

    /// Encodes the elements, once all parts of the block are added.
    ///
    /// # Errors
    /// [`EncodeError::NotFinite`].
    pub fn encode(mut self) -> Result<(BlockEncodings, Option<PatchedDigests>), EncodeError> {
        if self.masks.is_some() {
            self.add_before_pruning();
        }
        let encodings = encode_block(self.tensor, self.id, self.elements, self.options)?;
        let unknown = PartDigest::Whole(Digest::UNKNOWN);
        let digests = self.result.map(|result| PatchedDigests {
            result: result.finish(),
            inverse_result: self.inverse_result.map_or(unknown, PatchedHasher::finish),
        });
        Ok((encodings, digests))
    }
}

/// A block of which so many elements are selected that none are listed, gathered while it is read.
pub(crate) struct DenseBlock<'a> {
    tensor: &'a TensorPair<'a>,
    id: BlockId,
    options: EncodeOptions<'a>,
    elements: DenseElements,
    result: PatchedHasher,
}

impl<'a> DenseBlock<'a> {
    /// For `selected` elements of the block `id`, which is a block of `tensor`; none if they have to be listed.
    pub fn new(tensor: &'a TensorPair<'a>, id: BlockId, selected: u64, options: EncodeOptions<'a>) -> Option<Self> {
        let range = block_range(id.index, tensor.target.info.elements());
        let n = (range.end - range.start) as u32;
        let is_plain = options.masks.is_none() && options.encoding.is_dense_at_once();
        (is_plain && is_dense(selected, n)).then(|| Self {
            tensor,
            id,
            options,
            elements: DenseElements::new(tensor.dtype(), n),
            result: PatchedHasher::new(tensor.target, id.index),
        })
    }

    /// Adds the next part of the block: its bytes on both sides, in the target's dtype, and which of its elements are selected.
    pub fn add(&mut self, selected: &[Flags], target: &[u8], reference: &[u8]) {
        let width = self.tensor.dtype().width();
        let result = self.result.update_from(target, reference, width, selected);
        self.elements.extend(target, result);
    }

    /// Encodes the block, once all parts are added; none if not all of the `selected` elements change.
    pub fn encode(self, selected: u64) -> Option<(BlockEncodings, PatchedDigests)> {
        let Self { tensor, id, options, elements, result } = self;
        if u64::from(elements.selected()) != selected {
            return None;
        }
        let encodings = encode_dense_block(tensor, id, elements, options);
        // Dense blocks cannot be inverted without their base.
        let inverse_result = PartDigest::Whole(Digest::UNKNOWN);
        Some((encodings, PatchedDigests { result: result.finish(), inverse_result }))
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Effort;
    use crate::format::block::encode::Precision;
    use crate::mask::PruningMask;
    use crate::pair::PairOptions;
    use crate::testing::{checkpoint, floats, vector};

    fn f32s(values: &[f32]) -> Checkpoint {
        floats(&[("w", values)])
    }

    fn selected(positions: &[u32]) -> SelectedBlock {
        SelectedBlock { tensor: 0, index: 0, positions: positions.to_vec() }
    }

    fn without_masks() -> EncodeOptions<'static> {
        EncodeOptions { encoding: encoding(Precision::Exact), masks: None, unpruned: None }
    }

    fn encoding(precision: Precision) -> Encoding {
        let (portability, effort) = (Portability::Portable, Effort::default());
        Encoding { precision, portability, effort }
    }

    fn bits(values: &[f32]) -> Vec<u64> {
        values.iter().map(|value| u64::from(value.to_bits())).collect()
    }

    /// The elements of the pair's only tensor at `positions`, with what is added to them when they are encoded.
    fn elements(pair: &Pair<'_>, positions: &[u32], options: EncodeOptions<'_>) -> Elements {
        let mut elements = Elements::new(Dtype::U8);
        let silent = &Context::silent();
        let mut block = read(&pair.tensors[0], &selected(positions), &mut elements, options, false, silent).unwrap();
        if block.masks.is_some() {
            block.add_before_pruning();
        }
        elements
    }

    #[test]
    fn elements_have_the_bits_of_both_checkpoints_at_their_positions() {
        let (target, reference) = (f32s(&[0.0, 1.0, 2.0, 3.0]), f32s(&[10.0, 11.0, 12.0, 13.0]));
        let pair = Pair::new(&target, &reference, &PairOptions::default()).unwrap();
        let elements = elements(&pair, &[1, 3], without_masks());
        assert_eq!((elements.base, elements.reference), (bits(&[1.0, 3.0]), bits(&[11.0, 13.0])));
        assert_eq!((elements.positions, elements.kept), (vec![1, 3], None));
    }

    #[test]
    fn a_block_is_hashed_as_the_patch_and_its_inverse_leave_it() {
        let values = |first: f32| (0..100_000).map(|at| first + at as f32).collect::<Vec<f32>>();
        let (mut target, mut reference) = (values(0.0), values(0.5));
        let pair_of = |target: &[f32], reference: &[f32]| (f32s(target), f32s(reference));
        let (old_target, old_reference) = pair_of(&target, &reference);
        let pair = Pair::new(&old_target, &old_reference, &PairOptions::default()).unwrap();
        let positions: Vec<u32> = (0..100_000).step_by(777).collect();
        let (mut elements, silent) = (Elements::new(Dtype::U8), &Context::silent());
        let block =
            read(&pair.tensors[0], &selected(&positions), &mut elements, without_masks(), true, silent).unwrap();
        let digests = block.encode().unwrap().1.unwrap();
        for position in positions {
            let at = position as usize;
            (target[at], reference[at]) = (reference[at], target[at]);
        }
        let (result, inverse) = pair_of(&target, &reference);
        let expected = [&result, &inverse].map(|file| file.tensor("w").unwrap().digest(&Context::silent()).unwrap());
        assert_eq!([digests.result, digests.inverse_result].map(|part| crate::digest::join(&[part])), expected);
    }

    #[test]
    fn where_the_reference_is_pruned_its_bits_become_zero() {
        let (target, reference) = (f32s(&[1.0, 2.0, 3.0]), f32s(&[4.0, 5.0, 6.0]));
        let pair = Pair::new(&target, &reference, &PairOptions::default()).unwrap();
        let file = checkpoint(&[vector("w", Dtype::U8, &[1, 0, 1])]);
        let in_reference = PruningMask::stored(&file, &reference).unwrap();
        let masks = PairMasks { target: PruningMask::default(), reference: in_reference };
        let options = EncodeOptions { masks: Some(&masks), ..without_masks() };
        let elements = elements(&pair, &[0, 1], options);
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
        let elements = elements(&pair, &[0, 1, 2], options);
        assert_eq!(elements.before, Some(bits(&[7.0, 9.0])));
        assert_eq!(elements.kept.unwrap().iter().map(|kept| kept.in_base()).collect::<Vec<_>>(), [false, true, false]);
    }

    #[test]
    fn a_cast_reference_is_read_in_the_dtype_of_the_target_and_has_no_inverse_digest() {
        let (target, reference) = (f32s(&[1.0, 2.0]), checkpoint(&[vector("w", Dtype::Bf16, &[0x4000, 0x4040])]));
        let options = PairOptions { other_dtype: crate::pair::OtherDtype::Cast, ..PairOptions::default() };
        let pair = Pair::new(&target, &reference, &options).unwrap();
        let elements = elements(&pair, &[0, 1], without_masks());
        assert_eq!(elements.reference, bits(&[2.0, 3.0]));
        let (mut elements, silent) = (Elements::new(Dtype::U8), &Context::silent());
        let block = read(&pair.tensors[0], &selected(&[0, 1]), &mut elements, without_masks(), true, silent).unwrap();
        let digests = block.encode().unwrap().1.unwrap();
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

//! From a pair and a selection to encoded blocks, in parallel.

use super::{TensorBlock, patched};
use crate::checkpoint::Checkpoint;
use crate::context::{Cancelled, Context};
use crate::digest::{Digest, PartDigest};
use crate::format::block::encode::{BlockEncodings, Encoding, Portability, encode};
use crate::format::block::{BLOCK_ELEMENTS, BaseElements, BlockId, Elements, Kept, block_range};
use crate::mask::{MaskFault, PairBits, PairMasks, SelectedBlock, Selection};
use crate::pair::{Pair, TensorPair};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How a selection is encoded.
#[derive(Debug, Clone, Copy)]
pub struct Coding<'a> {
    /// How its blocks are.
    pub encoding: Encoding,
    /// The pruning masks to keep with the selection.
    pub masks: Option<&'a PairMasks<'a>>,
    /// The target from before it was pruned, with the same tensors, for what it held where it is pruned now.
    pub unpruned: Option<&'a Checkpoint>,
}

/// Why a selection cannot be gathered.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GatherError {
    /// A mask has no value.
    #[error(transparent)]
    Mask(MaskFault),
    /// A delta has no reduced form.
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

impl From<MaskFault> for GatherError {
    fn from(fault: MaskFault) -> Self {
        match fault {
            MaskFault::Cancelled(cancelled) => Self::Cancelled(cancelled),
            fault => Self::Mask(fault),
        }
    }
}

/// What the block of a tensor becomes, by BLAKE3.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Sides {
    /// With the reference's bits at the selected positions of the base: the result.
    pub result: PartDigest,
    /// With the base's bits at those of the reference: the result of the inverse.
    pub inverse_result: PartDigest,
}

/// Encodes the selected elements of `pair`, in parallel by block; `with_sides` also tells what each block becomes. In the order of
/// the selection's blocks.
///
/// One to three passes over the blocks with a selected element, one for the sides among them. Memory: about 28 bytes for each
/// selected element of the blocks in work, and the encoded bytes.
///
/// # Errors
/// [`GatherError`].
pub(crate) fn gather(
    pair: &Pair<'_>,
    selection: &Selection,
    coding: Coding<'_>,
    with_sides: bool,
    context: &Context<'_>,
) -> Result<Vec<(BlockEncodings, Option<Sides>)>, GatherError> {
    let one = |block: &SelectedBlock| {
        let tensor = &pair.tensors[block.tensor];
        let elements = read_elements(pair, block, coding, context)?;
        let variants = encode_block(tensor, BlockId { tensor: block.tensor, index: block.index }, &elements, coding)?;
        if !with_sides {
            return Ok((variants, None));
        }
        let result = patched::digest(tensor.target, block.index, &elements, &elements.reference, context)?;
        // Only portable patches are inverted without their checkpoints.
        let same_kind = !tensor.is_cast() && !tensor.has_other_rows();
        let inverse_result = match coding.encoding.portability == Portability::Portable && same_kind {
            true => patched::digest(tensor.reference, block.index, &elements, &elements.base, context)?,
            false => PartDigest::Whole(Digest::UNKNOWN),
        };
        Ok((variants, Some(Sides { result, inverse_result })))
    };
    selection.blocks.par_iter().map(one).collect()
}

/// Encodes the selected `elements` of block `id` of `pair`.
///
/// # Errors
/// [`GatherError::NotFinite`].
pub(crate) fn encode_block(
    pair: &TensorPair<'_>,
    id: BlockId,
    elements: &Elements,
    coding: Coding<'_>,
) -> Result<BlockEncodings, GatherError> {
    let base = TensorBlock::new(pair.target, block_range(id.index, pair.target.info.elements()));
    encode(id, elements, Some(&base), coding.encoding).map_err(|at| {
        let index = id.index * BLOCK_ELEMENTS + u64::from(elements.positions[at]);
        GatherError::NotFinite { tensor: pair.name().to_owned(), index }
    })
}

/// The elements `selected` of `pair`, read from it unless their bits are at hand.
///
/// # Errors
/// [`GatherError`]: masks, cancellation.
fn read_elements(
    pair: &Pair<'_>,
    selected: &SelectedBlock,
    coding: Coding<'_>,
    context: &Context<'_>,
) -> Result<Elements, GatherError> {
    let tensor = &pair.tensors[selected.tensor];
    let (dtype, positions) = (tensor.dtype(), selected.positions.clone());
    let (base, mut reference) = match &selected.bits {
        Some(PairBits { target, reference }) => (dtype.width().load_all(target), dtype.width().load_all(reference)),
        None => bits(pair, selected, context)?,
    };
    let Some(masks) = coding.masks else {
        return Ok(Elements { dtype, positions, base, reference, kept: None, before: None, holds_zeros: true });
    };
    let (in_base, in_reference) = masks.block(tensor, selected.index, context)?;
    let kept: Vec<Kept> = positions
        .iter()
        .zip(&reference)
        .map(|(at, bits)| Kept::new(dtype, in_base[*at as usize], in_reference[*at as usize], *bits))
        .collect();
    let mut holds_zeros = true;
    for (kept, bits) in kept.iter().zip(&mut reference).filter(|(kept, _)| !kept.in_reference()) {
        holds_zeros &= *bits == kept.reference_zero(dtype);
        *bits = kept.reference_zero(dtype);
    }
    let unpruned = coding.unpruned.and_then(|checkpoint| checkpoint.tensor(tensor.name()));
    let before = unpruned.map(|unpruned| {
        let range = block_range(selected.index, tensor.target.info.elements());
        let pruned = positions.iter().zip(&kept).filter(|(_, kept)| !kept.in_base()).map(|(at, _)| *at);
        TensorBlock::new(unpruned, range).bits_at(&pruned.collect::<Vec<u32>>())
    });
    let mut elements = Elements { dtype, positions, base, reference, kept: Some(kept), before, holds_zeros };
    elements.holds_zeros &= !elements.base_is_unpruned();
    Ok(elements)
}

/// Bits of the target and the reference at the selected positions.
fn bits(pair: &Pair<'_>, selected: &SelectedBlock, context: &Context<'_>) -> Result<(Vec<u64>, Vec<u64>), Cancelled> {
    let tensor = &pair.tensors[selected.tensor];
    let width = tensor.dtype().width();
    let range = block_range(selected.index, tensor.target.info.elements());
    let n = selected.positions.len();
    let (mut base, mut reference) = (Vec::with_capacity(n), Vec::with_capacity(n));
    let mut rest = &selected.positions[..];
    tensor.windows(range.clone(), context, |start, base_bytes, reference_bytes| {
        let first = (start - range.start) as u32;
        let end = first + (base_bytes.len() / width.bytes()) as u32;
        let (here, later) = rest.split_at(rest.partition_point(|p| *p < end));
        base.extend(here.iter().map(|p| width.load(base_bytes, (p - first) as usize)));
        reference.extend(here.iter().map(|p| width.load(reference_bytes, (p - first) as usize)));
        rest = later;
        Ok::<(), Cancelled>(())
    })?;
    Ok((base, reference))
}

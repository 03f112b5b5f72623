//! Elements that are kept while the checkpoints are read, so that ranking them needs no second pass.

use super::bound::{Bound, Budget};
use super::keys::{check_finite, each_key, reaching_roughly};
use crate::context::Context;
use crate::format::block::{BlockId, block_range};
use crate::localize::Impossible;
use crate::localize::scan::{Block, BlockDigests};
use crate::mask::ranking::{Keys, Zeros};
use crate::mask::{PairBits, PairMasks, SelectedBlock, Selection};
use crate::pair::Pair;
use rayon::prelude::*;

/// Reads a block and keeps the elements whose difference may reach `bound`, until the budget is spent; with `masks`, only elements
/// that both masks keep.
///
/// # Errors
/// [`Impossible`]: an element that is not finite, a mask that cannot be read, or cancellation.
pub(super) fn keep_reaching(
    bound: Bound,
    block: Block<'_>,
    budget: &Budget,
    masks: Option<&PairMasks<'_>>,
    context: &Context<'_>,
) -> Result<(Option<SelectedBlock>, BlockDigests), Impossible> {
    let (pair, BlockId { tensor, index }) = (block.pair, block.id);
    let width = pair.dtype().width().bytes();
    let both_keep = masks.map(|masks| masks.both_keep(pair, index, context)).transpose()?;
    let start = block_range(index, pair.target.info.elements()).start;
    let (mut positions, mut bits, mut reaching) = (Vec::new(), PairBits::default(), Vec::new());
    let digests = block.read(context, |first, target, reference| {
        check_finite(pair, start + u64::from(first), target, reference)?;
        if budget.is_spent() {
            return Ok(());
        }
        reaching_roughly(pair.dtype(), target, reference, bound, &mut reaching);
        if let Some(both_keep) = &both_keep {
            reaching.retain(|at| both_keep[(first + at) as usize]);
        }
        if pair.has_other_rows() {
            reaching.retain(|at| start + u64::from(first + at) < pair.compared());
        }
        budget.spend(reaching.len());
        for at in &reaching {
            let bytes = *at as usize * width..(*at as usize + 1) * width;
            positions.push(first + at);
            bits.target.extend_from_slice(&target[bytes.clone()]);
            bits.reference.extend_from_slice(&reference[bytes]);
        }
        Ok::<(), Impossible>(())
    })?;
    positions.shrink_to_fit();
    bits.target.shrink_to_fit();
    bits.reference.shrink_to_fit();
    let kept = (!positions.is_empty()).then_some(SelectedBlock { tensor, index, positions, bits: Some(bits) });
    Ok((kept, digests))
}

/// The kept elements of a group, which can be ranked without the checkpoints.
pub(super) struct KeptDifferences<'a> {
    pair: &'a Pair<'a>,
    kept: Vec<SelectedBlock>,
    /// The ids of `kept`, ascending.
    ids: Vec<BlockId>,
}

impl<'a> KeptDifferences<'a> {
    pub fn new(pair: &'a Pair<'a>, kept: Vec<SelectedBlock>) -> Self {
        let ids = kept.iter().map(SelectedBlock::id).collect();
        Self { pair, kept, ids }
    }

    /// The number of elements that reach `bound`. No other element of the group does.
    pub fn count_reaching(&self, bound: Bound) -> u64 {
        let count = |block: &SelectedBlock| {
            let mut count = 0;
            self.each_key(block, |_, key| count += u64::from(f64::from_bits(key) >= bound.key));
            count
        };
        self.kept.par_iter().map(count).sum()
    }

    /// Adds to the blocks of `selection`, whose elements are all kept, their bits.
    pub fn with_bits(&self, selection: Selection) -> Vec<SelectedBlock> {
        selection.blocks.into_par_iter().map(|block| self.add_bits(block)).collect()
    }

    fn add_bits(&self, block: SelectedBlock) -> SelectedBlock {
        let Some(SelectedBlock { positions, bits: Some(kept), .. }) = self.block(block.id()) else { return block };
        let width = self.pair.tensors[block.tensor].dtype().width().bytes();
        let mut bits = PairBits::default();
        let mut at = 0;
        for position in &block.positions {
            while positions[at] < *position {
                at += 1;
            }
            let bytes = at * width..(at + 1) * width;
            bits.target.extend_from_slice(&kept.target[bytes.clone()]);
            bits.reference.extend_from_slice(&kept.reference[bytes]);
        }
        SelectedBlock { bits: Some(bits), ..block }
    }

    fn block(&self, id: BlockId) -> Option<&SelectedBlock> {
        self.ids.binary_search(&id).ok().map(|at| &self.kept[at])
    }

    /// Calls `each` with the position in the block and the key of each kept element.
    fn each_key(&self, block: &SelectedBlock, mut each: impl FnMut(u32, u64)) {
        let Some(bits) = &block.bits else { return };
        let dtype = self.pair.tensors[block.tensor].dtype();
        each_key(dtype, &bits.target, &bits.reference, Zeros::Visit, |at, key| each(block.positions[at as usize], key));
    }
}

impl Keys for KeptDifferences<'_> {
    type Error = Impossible;

    fn blocks(&self) -> &[BlockId] {
        &self.ids
    }

    fn walk(&self, id: BlockId, _: Zeros, each: impl FnMut(u32, u64)) -> Result<u64, Impossible> {
        if let Some(block) = self.block(id) {
            self.each_key(block, each);
        }
        Ok(0)
    }
}

//! Mask-based localization (paper eq 1): the weights that exactly one of two pruning masks keeps.

use super::Impossible;
use super::scan::blocks_of;
use crate::context::Context;
use crate::format::block::BlockId;
use crate::format::metadata::Overlap;
use crate::mask::algebra::overlap;
use crate::mask::{PairMasks, SelectedBlock, Selection};
use crate::pair::Pair;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Selects the elements of the tensors `candidates` that exactly one mask keeps. Also counts for each candidate what the masks keep.
///
/// One pass over the masks, in parallel by block. Memory: 4 bytes for each selected element.
///
/// # Errors
/// [`Impossible::Mask`], cancellation.
pub fn select(
    pair: &Pair<'_>,
    candidates: &[usize],
    masks: &PairMasks<'_>,
    context: &Context<'_>,
) -> Result<(Selection, Vec<Overlap>), Impossible> {
    let blocks = blocks_of(pair, candidates.iter().copied())
        .into_par_iter()
        .map(|BlockId { tensor, index }| {
            let (target, reference) = masks.block(&pair.tensors[tensor], index, context)?;
            let overlap = overlap(&target, &reference);
            let positions = (target ^ reference).iter_ones().map(|position| position as u32).collect();
            Ok((SelectedBlock { tensor, index, positions }, overlap))
        })
        .collect::<Result<Vec<_>, Impossible>>()?;
    let mut by_tensor: BTreeMap<usize, Overlap> = BTreeMap::new();
    for (block, overlap) in &blocks {
        let sum = by_tensor.entry(block.tensor).or_default();
        *sum = sum.and(*overlap);
    }
    let overlaps = candidates.iter().map(|tensor| by_tensor.get(tensor).copied().unwrap_or_default()).collect();
    let blocks = blocks.into_iter().map(|(block, _)| block).filter(|block| !block.positions.is_empty());
    Ok((Selection { blocks: blocks.collect() }, overlaps))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::PruningMask;
    use crate::pair::PairOptions;
    use crate::testing::floats;

    #[test]
    fn selects_what_exactly_one_mask_keeps_and_counts_each_tensor() {
        let target = floats(&[("a", &[1.0, 0.0, 3.0, 0.0]), ("b", &[1.0, 1.0])]);
        let reference = floats(&[("a", &[1.0, 2.0, 0.0, 0.0]), ("b", &[2.0, 2.0])]);
        let pair = Pair::new(&target, &reference, &PairOptions::default()).unwrap();
        let [of_target, of_reference] =
            [&target, &reference].map(|checkpoint| PruningMask::zeros(checkpoint.tensors()));
        let masks = PairMasks { target: of_target, reference: of_reference };
        let (selection, overlaps) = select(&pair, &[0, 1], &masks, &Context::silent()).unwrap();
        assert_eq!(selection.blocks, [SelectedBlock { tensor: 0, index: 0, positions: vec![1, 2] }]);
        let counts = |overlap: &Overlap| [overlap.both, overlap.base_only, overlap.reference_only, overlap.neither];
        assert_eq!(overlaps.iter().map(counts).collect::<Vec<_>>(), [[1, 1, 1, 1], [2, 0, 0, 0]]);
    }
}

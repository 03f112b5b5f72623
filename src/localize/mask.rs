//! Mask-based localization (paper eq 1): the weights that exactly one of two pruning masks keeps.

use super::Impossible;
use super::survey::units;
use crate::context::Context;
use crate::format::metadata::Overlap;
use crate::mask::algebra::overlap;
use crate::mask::{PairMasks, SelectedBlock, Selection};
use crate::pair::Pair;
use rayon::prelude::*;

/// Selects the elements of `candidates` that exactly one mask keeps; also counts, for each candidate, what the masks
/// keep. One pass over the masks, in parallel by block; 4 bytes of memory for each selected element.
///
/// # Errors
/// [`Impossible::Mask`], cancellation.
pub fn select(
    pair: &Pair<'_>,
    candidates: &[usize],
    masks: &PairMasks<'_>,
    context: &Context<'_>,
) -> Result<(Selection, Vec<Overlap>), Impossible> {
    let blocks = units(pair, candidates.iter().copied())
        .into_par_iter()
        .map(|(tensor, index)| {
            let (target, reference) = masks.block(&pair.tensors[tensor], index, context)?;
            let overlap = overlap(&target, &reference);
            let positions = (target ^ reference).iter_ones().map(|position| position as u32).collect();
            Ok((SelectedBlock { tensor, index, positions, bits: None }, overlap))
        })
        .collect::<Result<Vec<_>, Impossible>>()?;
    // Blocks are in the order of the candidates.
    let mut next = blocks.iter().peekable();
    let of_tensor = |tensor: &usize| {
        let own = std::iter::from_fn(|| next.next_if(|(block, _)| block.tensor == *tensor));
        own.fold(Overlap::default(), |sum, (_, overlap)| sum.and(*overlap))
    };
    let overlaps = candidates.iter().map(of_tensor).collect();
    let blocks = blocks.into_iter().map(|(block, _)| block).filter(|block| !block.positions.is_empty());
    Ok((Selection { blocks: blocks.collect() }, overlaps))
}

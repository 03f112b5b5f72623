//! Every element that differs, by bits: the lossless delta of two checkpoints.

use crate::checkpoint::pair::{Pair, TensorPair};
use crate::context::{Cancelled, Context};
use crate::dtype::Width;
use crate::mask::{SelectedBlock, Selection, block_range, blocks};
use rayon::prelude::*;

/// Selects every element of the tensors `candidates` whose bits differ.
///
/// One pass over both checkpoints, in parallel by block; 4 bytes of memory for each selected element.
///
/// # Errors
/// [`Cancelled`].
pub fn select(pair: &Pair<'_>, candidates: &[usize], context: &Context<'_>) -> Result<Selection, Cancelled> {
    let units: Vec<(usize, u64)> = candidates
        .iter()
        .flat_map(|tensor| blocks(pair.tensors[*tensor].target.info.elements()).map(|index| (*tensor, index)))
        .collect();
    let blocks = units
        .into_par_iter()
        .map(|(tensor, index)| {
            let positions = differing(&pair.tensors[tensor], index, context)?;
            Ok(SelectedBlock { tensor, index, positions })
        })
        .collect::<Result<Vec<_>, Cancelled>>()?;
    Ok(Selection { blocks: blocks.into_iter().filter(|block| !block.positions.is_empty()).collect() })
}

fn differing(pair: &TensorPair<'_>, index: u64, context: &Context<'_>) -> Result<Vec<u32>, Cancelled> {
    let range = block_range(index, pair.target.info.elements());
    let mut positions = Vec::new();
    let mut found = Vec::new();
    pair.windows(range.clone(), context, |start, target, reference| {
        let first = (start - range.start) as u32;
        match pair.dtype().width() {
            Width::W1 => compare::<1>(first, target, reference, &mut found),
            Width::W2 => compare::<2>(first, target, reference, &mut found),
            Width::W4 => compare::<4>(first, target, reference, &mut found),
            Width::W8 => compare::<8>(first, target, reference, &mut found),
        }
        positions.extend_from_slice(&found);
        Ok::<(), Cancelled>(())
    })?;
    positions.shrink_to_fit();
    Ok(positions)
}

/// Elements compared before the next look whether there is anything to write down.
const STRIDE: usize = 64;

/// Puts the positions of elements of `N` bytes that differ into `found`.
fn compare<const N: usize>(first: u32, target: &[u8], reference: &[u8], found: &mut Vec<u32>) {
    let (target, reference) = (target.as_chunks::<N>().0, reference.as_chunks::<N>().0);
    found.clear();
    let strides = target.chunks(STRIDE).zip(reference.chunks(STRIDE));
    let mut kept = [0u32; STRIDE];
    for ((target, reference), start) in strides.zip((first..).step_by(STRIDE)) {
        // A loop without an early end, which becomes a few vector instructions; a call of memcmp costs more here.
        let differs = target.iter().zip(reference).fold(false, |differs, (t, r)| differs | (t != r));
        if !differs {
            continue;
        }
        // Writing always and counting only what differs has no branch to mispredict.
        let mut n = 0;
        for ((t, r), position) in target.iter().zip(reference).zip(start..) {
            kept[n % STRIDE] = position;
            n += usize::from(t != r);
        }
        found.extend_from_slice(&kept[..n]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_each_differing_element_whatever_its_place() {
        for n in [1usize, 63, 64, 65, 500] {
            let target: Vec<u8> = (0..4 * n).map(|i| i as u8).collect();
            let mut reference = target.clone();
            let changed: Vec<u32> = (0..n as u32).filter(|i| i % 7 == 0 || *i + 1 == n as u32).collect();
            changed.iter().for_each(|i| reference[*i as usize * 4 + (*i % 4) as usize] ^= 0x80);
            let mut found = Vec::new();
            compare::<4>(10, &target, &reference, &mut found);
            assert_eq!(found, changed.iter().map(|i| i + 10).collect::<Vec<_>>());
        }
    }
}

//! Every element that differs, by bits: the lossless delta of two checkpoints.

use super::survey::{Block, BlockDigests};
use crate::context::{Cancelled, Context};
use crate::dtype::Width;
use crate::patch::Elements;

/// The elements of a block whose bits differ. Takes 20 bytes for each.
///
/// # Errors
/// [`Cancelled`].
pub(crate) fn differing(block: Block<'_>, context: &Context<'_>) -> Result<(Elements, BlockDigests), Cancelled> {
    let dtype = block.pair.dtype();
    let mut elements = Elements::new(dtype);
    let mut found = Vec::new();
    let digests = block.read(context, |first, target, reference| {
        match dtype.width() {
            Width::W1 => compare::<1>(target, reference, &mut found),
            Width::W2 => compare::<2>(target, reference, &mut found),
            Width::W4 => compare::<4>(target, reference, &mut found),
            Width::W8 => compare::<8>(target, reference, &mut found),
        }
        elements.extend(first, &found, target, reference);
        Ok::<(), Cancelled>(())
    })?;
    Ok((elements, digests))
}

/// Elements compared before the next look whether there is anything to write down.
const STRIDE: usize = 64;

/// Puts the indices of elements of `N` bytes that differ into `found`.
fn compare<const N: usize>(target: &[u8], reference: &[u8], found: &mut Vec<u32>) {
    let (target, reference) = (target.as_chunks::<N>().0, reference.as_chunks::<N>().0);
    found.clear();
    let strides = target.chunks(STRIDE).zip(reference.chunks(STRIDE));
    let mut kept = [0u32; STRIDE];
    for ((target, reference), start) in strides.zip((0u32..).step_by(STRIDE)) {
        // A loop without an early end, which becomes a few vector instructions; a call of memcmp costs more here.
        let differs = target.iter().zip(reference).fold(false, |differs, (t, r)| differs | (t != r));
        if !differs {
            continue;
        }
        // Writing always and counting only what differs has no branch to mispredict.
        let mut n = 0;
        for ((t, r), index) in target.iter().zip(reference).zip(start..) {
            kept[n % STRIDE] = index;
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
            compare::<4>(&target, &reference, &mut found);
            assert_eq!(found, changed);
        }
    }
}

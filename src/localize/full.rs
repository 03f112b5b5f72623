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

/// Puts the indices of elements of `N` bytes that differ into `found`.
fn compare<const N: usize>(target: &[u8], reference: &[u8], found: &mut Vec<u32>) {
    let lanes = 8 / N as u32;
    // Writing always and counting only what differs has no branch to mispredict.
    found.resize(target.len() / N + 1, 0);
    let mut n = 0;
    let mut add = |difference: u64, first: u32, lanes: u32| {
        for lane in 0..lanes {
            let bits = difference >> (8 * N as u32 * lane) & (u64::MAX >> (64 - 8 * N));
            found[n] = first + lane;
            n += usize::from(bits != 0);
        }
    };
    let (words, rest) = target.as_chunks::<8>();
    let (other_words, other_rest) = reference.as_chunks::<8>();
    for ((t, r), first) in words.iter().zip(other_words).zip((0u32..).step_by(lanes as usize)) {
        let difference = u64::from_le_bytes(*t) ^ u64::from_le_bytes(*r);
        if difference != 0 {
            add(difference, first, lanes);
        }
    }
    let first = words.len() as u32 * lanes;
    for ((t, r), index) in rest.chunks(N).zip(other_rest.chunks(N)).zip(first..) {
        add(u64::from(t != r), index, 1);
    }
    found.truncate(n);
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

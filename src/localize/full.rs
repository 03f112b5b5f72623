//! Every element that differs, by bits: the lossless delta of two checkpoints.

use super::survey::{Block, BlockDigests};
use crate::context::{Cancelled, Context};
use crate::dtype::Width;
use crate::format::block::Elements;

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
            Width::W1 => compare::<1>(first, target, reference, &mut found, &mut elements),
            Width::W2 => compare::<2>(first, target, reference, &mut found, &mut elements),
            Width::W4 => compare::<4>(first, target, reference, &mut found, &mut elements),
            Width::W8 => compare::<8>(first, target, reference, &mut found, &mut elements),
        }
        Ok::<(), Cancelled>(())
    })?;
    Ok((elements, digests))
}

/// Elements that are compared together: as many as a set of them has bits.
const STRIDE: usize = 64;

/// Adds the elements of `N` bytes that differ, of a part of the block that begins at position `first`.
fn compare<const N: usize>(first: u32, target: &[u8], reference: &[u8], found: &mut Vec<u32>, elements: &mut Elements) {
    found.clear();
    let (targets, references) = (target.as_chunks::<N>().0, reference.as_chunks::<N>().0);
    let strides = targets.chunks(STRIDE).zip(references.chunks(STRIDE));
    for ((targets, references), index) in strides.zip((0u32..).step_by(STRIDE)) {
        // A byte for each, in a loop without branches, which becomes vector instructions; then a bit for each byte.
        let mut differs = [0u8; STRIDE];
        for ((differs, target), reference) in differs.iter_mut().zip(targets).zip(references) {
            *differs = u8::from(target != reference);
        }
        let mut set = 0u64;
        for (byte, eight) in differs.as_chunks::<8>().0.iter().enumerate() {
            set |= (u64::from_le_bytes(*eight).wrapping_mul(GATHER_BITS) >> 56) << (8 * byte);
        }
        while set != 0 {
            found.push(index + set.trailing_zeros());
            set &= set - 1;
        }
    }
    elements.extend::<N>(first, found, target, reference);
}

/// Multiplies eight bytes of 0 or 1 to a number of which the highest byte has them as bits, the first one lowest.
const GATHER_BITS: u64 = 0x0102_0408_1020_4080;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;

    #[test]
    fn finds_each_differing_element_whatever_its_place() {
        for n in [1usize, 63, 64, 65, 500] {
            let target: Vec<u8> = (0..4 * n).map(|i| i as u8).collect();
            let mut reference = target.clone();
            let changed: Vec<u32> = (0..n as u32).filter(|i| i % 7 == 0 || *i + 1 == n as u32).collect();
            changed.iter().for_each(|i| reference[*i as usize * 4 + (*i % 4) as usize] ^= 0x80);
            let mut elements = Elements::new(Dtype::F32);
            compare::<4>(10, &target, &reference, &mut Vec::new(), &mut elements);
            assert_eq!(elements.positions, changed.iter().map(|i| i + 10).collect::<Vec<_>>());
            let bits = |bytes: &[u8]| changed.iter().map(|i| Width::W4.load(bytes, *i as usize)).collect::<Vec<_>>();
            assert_eq!((elements.base, elements.reference), (bits(&target), bits(&reference)));
        }
    }
}

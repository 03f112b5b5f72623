//! Full localization: every element whose bits differ, for a lossless delta of two checkpoints.

use super::scan::{Block, BlockDigests};
use crate::context::{Cancelled, Context};
use crate::dtype::Width;
use crate::format::block::dense::{DenseElements, is_dense};
use crate::format::block::encode::Encoding;
use crate::format::block::{Elements, block_range};
use crate::mask::flags::{self, Flags, STRIDE};
use multiversion::multiversion;

/// The elements of a block that differ.
#[derive(Debug)]
pub(crate) enum Differing {
    /// A list of them.
    Listed(Elements),
    /// So many that a difference is stored for each element of the block.
    Dense(Box<DenseElements>),
}

/// Finds the elements of a block whose bits differ. They are listed unless the block [is dense](is_dense) and will be encoded with
/// [`Encoding::is_dense_at_once`]. Also calls `each` with the parts of the block, as [`Block::read`] does. Memory: 20 bytes for each
/// element, or 3 to 10 bytes for each element of a dense block.
///
/// # Errors
/// [`Cancelled`], or what `each` returns.
pub(crate) fn differing<E: From<Cancelled>>(
    block: Block<'_>,
    encoding: Encoding,
    context: &Context<'_>,
    mut each: impl FnMut(u32, &[u8], &[u8]) -> Result<(), E>,
) -> Result<(Differing, BlockDigests), E> {
    let dtype = block.pair.dtype();
    let range = block_range(block.id.index, block.pair.target.info.elements());
    let n = (range.end - range.start) as u32;
    let mut differing = Differing::Listed(Elements::new(dtype));
    let (mut flags, mut indices) = (Vec::new(), Vec::new());
    let mut list = |elements: &mut Elements, first: u32, target: &[u8], reference: &[u8]| {
        compare(dtype.width(), target, reference, &mut flags);
        indices.clear();
        flags::indices(&flags, |index| indices.push(index));
        elements.extend(first, &indices, target, reference);
    };
    let digests = block.read(context, |first, target, reference| {
        each(first, target, reference)?;
        match &mut differing {
            Differing::Dense(dense) => dense.extend(target, reference),
            Differing::Listed(elements) => {
                list(elements, first, target, reference);
                let end = first + (target.len() / dtype.width().bytes()) as u32;
                // What a block begins with says what most of it will be.
                let expected = elements.positions.len() as u64 * u64::from(n) / u64::from(end);
                if encoding.is_dense_at_once() && is_dense(expected, n) {
                    let mut dense = Box::new(DenseElements::new(dtype, n));
                    block.read_again(end, |_, target, reference| dense.extend(target, reference));
                    differing = Differing::Dense(dense);
                }
            }
        }
        Ok::<(), E>(())
    })?;
    if let Differing::Dense(dense) = &differing
        && !is_dense(dense.selected().into(), n)
    {
        let mut elements = Elements::new(dtype);
        block.read_again(n, |first, target, reference| list(&mut elements, first, target, reference));
        differing = Differing::Listed(elements);
    }
    Ok((differing, digests))
}

/// Replaces `found` by the elements of a part that differ.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+bmi1+bmi2+lzcnt+popcnt",
    "x86_64+avx2+bmi1+bmi2+lzcnt+popcnt"
))]
fn compare(width: Width, target: &[u8], reference: &[u8], found: &mut Vec<Flags>) {
    match width {
        Width::W1 => compare_as::<1>(target, reference, found),
        Width::W2 => compare_as::<2>(target, reference, found),
        Width::W4 => compare_as::<4>(target, reference, found),
        Width::W8 => compare_as::<8>(target, reference, found),
    }
}

#[inline(always)]
fn compare_as<const N: usize>(target: &[u8], reference: &[u8], found: &mut Vec<Flags>) {
    found.clear();
    let (targets, references) = (target.as_chunks::<N>().0, reference.as_chunks::<N>().0);
    // Slices, not arrays, of which compilers would unroll the inner loop instead of vectorizing it.
    for (targets, references) in targets.chunks(STRIDE).zip(references.chunks(STRIDE)) {
        let pairs = targets.iter().zip(references).enumerate();
        found.push(pairs.fold(0, |set, (at, (target, reference))| set | Flags::from(target != reference) << at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_naive_loop_finds_for_all_widths_and_lengths() {
        let lengths = [1, 2, 7, 31, 32, 33, 127, 129, 500];
        let widths = [Width::W1, Width::W2, Width::W4, Width::W8];
        for (width, n) in widths.into_iter().flat_map(|width| lengths.map(|n| (width, n))) {
            let bytes = width.bytes();
            let target: Vec<u8> = (0..bytes * n).map(|at| at as u8).collect();
            let mut reference = target.clone();
            // One byte of every seventh element and of the last one, at all offsets in an element.
            let different: Vec<u32> = (0..n as u32).filter(|at| at % 7 == 0 || *at as usize + 1 == n).collect();
            different.iter().map(|at| *at as usize).for_each(|at| reference[at * bytes + at % bytes] ^= 0x80);
            let (mut found, mut indices) = (vec![!0], Vec::new());
            compare(width, &target, &reference, &mut found);
            flags::indices(&found, |index| indices.push(index));
            assert_eq!((indices, found.len()), (different, n.div_ceil(STRIDE)), "{n} elements of {bytes} bytes");
        }
    }
}

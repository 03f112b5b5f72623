//! Full localization: every element whose bits differ, for a lossless delta of two checkpoints.

use super::scan::{Block, BlockDigests};
use crate::context::{Cancelled, Context};
use crate::dtype::Width;
use crate::format::block::dense::{DenseElements, is_dense};
use crate::format::block::encode::Encoding;
use crate::format::block::{Elements, block_range};

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
    let mut indices = Vec::new();
    let mut list = |elements: &mut Elements, first: u32, target: &[u8], reference: &[u8]| match dtype.width() {
        Width::W1 => compare::<1>(first, target, reference, &mut indices, elements),
        Width::W2 => compare::<2>(first, target, reference, &mut indices, elements),
        Width::W4 => compare::<4>(first, target, reference, &mut indices, elements),
        Width::W8 => compare::<8>(first, target, reference, &mut indices, elements),
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

/// Elements that are compared together: one for each bit of a `u64`.
const STRIDE: usize = 64;

/// Appends to `elements` the elements of `N` bytes that differ in a part of the block. The part begins at position `first`. `indices` is
/// a buffer that calls share.
fn compare<const N: usize>(
    first: u32,
    target: &[u8],
    reference: &[u8],
    indices: &mut Vec<u32>,
    elements: &mut Elements,
) {
    indices.clear();
    let (targets, references) = (target.as_chunks::<N>().0, reference.as_chunks::<N>().0);
    let strides = targets.chunks(STRIDE).zip(references.chunks(STRIDE));
    for ((targets, references), start) in strides.zip((0u32..).step_by(STRIDE)) {
        // First one byte for each element, in a loop without branches that the compiler vectorizes; then one bit for each byte.
        let mut differs = [0u8; STRIDE];
        for ((differs, target), reference) in differs.iter_mut().zip(targets).zip(references) {
            *differs = u8::from(target != reference);
        }
        let mut set = 0u64;
        for (byte, eight) in differs.as_chunks::<8>().0.iter().enumerate() {
            set |= (u64::from_le_bytes(*eight).wrapping_mul(PACK_BITS) >> 56) << (8 * byte);
        }
        while set != 0 {
            indices.push(start + set.trailing_zeros());
            set &= set - 1;
        }
    }
    elements.extend::<N>(first, indices, target, reference);
}

/// Eight bytes of 0 or 1, times this number, are the bits of the product's highest byte, the first byte in the lowest bit.
const PACK_BITS: u64 = 0x0102_0408_1020_4080;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;

    /// The positions and bits that a naive loop finds.
    fn naive(first: u32, width: Width, target: &[u8], reference: &[u8]) -> (Vec<u32>, Vec<u64>, Vec<u64>) {
        let bits = |bytes: &[u8]| width.load_all(bytes);
        let different = bits(target).into_iter().zip(bits(reference)).enumerate().filter(|(_, (t, r))| t != r);
        let (positions, bits): (Vec<u32>, Vec<(u64, u64)>) =
            different.map(|(at, bits)| (first + at as u32, bits)).unzip();
        let (target, reference) = bits.into_iter().unzip();
        (positions, target, reference)
    }

    fn check<const N: usize>(dtype: Dtype, n: usize) {
        let target: Vec<u8> = (0..N * n).map(|at| at as u8).collect();
        let mut reference = target.clone();
        // One byte of every seventh element and of the last one, at all offsets in an element.
        for element in (0..n).filter(|element| element % 7 == 0 || element + 1 == n) {
            reference[element * N + element % N] ^= 0x80;
        }
        let mut elements = Elements::new(dtype);
        compare::<N>(10, &target, &reference, &mut Vec::new(), &mut elements);
        let expected = naive(10, dtype.width(), &target, &reference);
        assert!(!expected.0.is_empty());
        assert_eq!((elements.positions, elements.base, elements.reference), expected, "{n} elements of {dtype}");
    }

    #[test]
    fn finds_what_a_naive_loop_finds_for_all_widths_and_lengths() {
        for n in [1, 2, 7, 63, 64, 65, 127, 129, 500] {
            check::<1>(Dtype::U8, n);
            check::<2>(Dtype::Bf16, n);
            check::<4>(Dtype::F32, n);
            check::<8>(Dtype::F64, n);
        }
    }
}

//! Hashes a block as it will be once its selected elements are replaced.

use crate::checkpoint::Tensor;
use crate::digest::{PartDigest, PartHasher};
use crate::dtype::Width;
use crate::format::block::{BLOCK_ELEMENTS, block_range};
use crate::mask::flags::{Flags, STRIDE};
use multiversion::multiversion;

/// The BLAKE3 hash of a block of which elements are replaced while it is read.
pub(crate) struct PatchedHasher {
    hasher: PartHasher,
    buffer: Vec<u8>,
}

impl PatchedHasher {
    /// For block `index` of `tensor`, or of one with the same dtype and shape.
    pub fn new(tensor: Tensor<'_>, index: u64) -> Self {
        let (elements, width) = (tensor.info.elements(), tensor.info.dtype.width().bytes() as u64);
        let start = block_range(index, elements).start;
        let hasher = PartHasher::new(start * width, elements * width, BLOCK_ELEMENTS * width);
        Self { hasher, buffer: Vec::new() }
    }

    /// Adds the next `bytes` of the block, with `bits` in place of the elements with `indices` in them.
    pub fn update(&mut self, bytes: &[u8], width: Width, indices: &[u32], bits: &[u64]) {
        self.buffer.clear();
        self.buffer.extend_from_slice(bytes);
        for (index, bits) in indices.iter().zip(bits) {
            width.store(&mut self.buffer, *index as usize, *bits);
        }
        self.hasher.update(&self.buffer);
    }

    /// Adds the next bytes of the block: those of `base`, with the elements whose flag is set from `reference`. Returns them.
    pub fn update_from(&mut self, base: &[u8], reference: &[u8], width: Width, flags: &[Flags]) -> &[u8] {
        self.buffer.clear();
        self.buffer.extend_from_slice(base);
        copy_elements(reference, width, flags, &mut self.buffer);
        self.hasher.update(&self.buffer);
        &self.buffer
    }

    /// The digest, once all bytes of the block are added.
    pub fn finish(self) -> PartDigest {
        self.hasher.finish()
    }
}

/// Copies the elements whose flag is set.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+bmi1+bmi2+lzcnt+popcnt",
    "x86_64+avx2+bmi1+bmi2+lzcnt+popcnt"
))]
fn copy_elements(from: &[u8], width: Width, flags: &[Flags], to: &mut [u8]) {
    match width {
        Width::W1 => copy_in::<1>(from, flags, to),
        Width::W2 => copy_in::<2>(from, flags, to),
        Width::W4 => copy_in::<4>(from, flags, to),
        Width::W8 => copy_in::<8>(from, flags, to),
    }
}

/// As [`copy_elements`], for elements of `N` bytes.
#[inline(always)]
fn copy_in<const N: usize>(from: &[u8], flags: &[Flags], to: &mut [u8]) {
    let (from, from_rest) = from.as_chunks::<N>().0.as_chunks::<STRIDE>();
    let (to, to_rest) = to.as_chunks_mut::<N>().0.as_chunks_mut::<STRIDE>();
    for ((from, to), flags) in from.iter().zip(&mut *to).zip(flags) {
        copy_stride(from, *flags, to);
    }
    if let Some(flags) = flags.get(to.len()) {
        copy_stride(from_rest, *flags, to_rest);
    }
}

/// As [`copy_in`], for at most [`STRIDE`] elements: a loop without branches, which compilers vectorize.
#[inline(always)]
fn copy_stride<const N: usize>(from: &[[u8; N]], flags: Flags, to: &mut [[u8; N]]) {
    for (at, (from, to)) in from.iter().zip(to).enumerate() {
        *to = if flags >> at & 1 == 1 { *from } else { *to };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_the_elements_whose_flag_is_set() {
        for width in [Width::W1, Width::W2, Width::W4, Width::W8] {
            for n in [0, 1, 31, 32, 33, 100] {
                let (from, to): (Vec<u64>, Vec<u64>) = (0..n).map(|at| (at + 1, at + 100)).unzip();
                let flags: Vec<Flags> = (0..n.div_ceil(32) as u32).map(|at| 0x9137_4d28 >> at).collect();
                let is_set = |at: usize| flags[at / STRIDE] >> (at % STRIDE) & 1 == 1;
                let expected: Vec<u64> = (0..n as usize).map(|at| if is_set(at) { from[at] } else { to[at] }).collect();
                let bytes = |values: &[u64]| {
                    let mut bytes = Vec::new();
                    width.store_all(values, &mut bytes);
                    bytes
                };
                let mut copied = bytes(&to);
                copy_elements(&bytes(&from), width, &flags, &mut copied);
                assert_eq!(copied, bytes(&expected), "{n} of {width:?}");
            }
        }
    }
}

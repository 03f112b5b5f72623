//! Hashes a block as it will be once its selected elements are replaced.

use crate::checkpoint::Tensor;
use crate::digest::{PartDigest, PartHasher};
use crate::dtype::Width;
use crate::format::block::{BLOCK_ELEMENTS, block_range};

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

    /// Adds the next bytes of the block: those of `base`, with the elements with `indices` from `reference`. Returns them.
    pub fn update_from(&mut self, base: &[u8], reference: &[u8], width: Width, indices: &[u32]) -> &[u8] {
        self.buffer.clear();
        self.buffer.extend_from_slice(base);
        match width {
            Width::W1 => copy_elements::<1>(reference, indices, &mut self.buffer),
            Width::W2 => copy_elements::<2>(reference, indices, &mut self.buffer),
            Width::W4 => copy_elements::<4>(reference, indices, &mut self.buffer),
            Width::W8 => copy_elements::<8>(reference, indices, &mut self.buffer),
        }
        self.hasher.update(&self.buffer);
        &self.buffer
    }

    /// The digest, once all bytes of the block are added.
    pub fn finish(self) -> PartDigest {
        self.hasher.finish()
    }
}

/// Copies the elements of `N` bytes with these indices.
fn copy_elements<const N: usize>(from: &[u8], indices: &[u32], to: &mut [u8]) {
    let (from, to) = (from.as_chunks::<N>().0, to.as_chunks_mut::<N>().0);
    for index in indices {
        to[*index as usize] = from[*index as usize];
    }
}

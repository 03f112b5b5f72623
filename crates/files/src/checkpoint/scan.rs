//! Walking tensors in bounded windows: no more of a checkpoint is resident than a few windows for each thread.

use super::{Tensor, TensorInfo, WeightFile};
use crate::context::{Cancelled, Context};
use lcepatch_format::digest::{ContentHash, Digest, Hasher, PartDigest, PartHasher, join};
use rayon::prelude::*;
use std::ops::Range;

/// Bytes walked before their memory is released. Small enough that two files and a few threads stay far below the
/// memory bound, large enough that releasing costs nothing.
pub const WINDOW_BYTES: u64 = 1 << 20;

/// Bytes of a tensor that are hashed apart from the others.
const PART_BYTES: u64 = 4 << 20;

impl WeightFile {
    /// SHA-256 of the whole file, the digest that hubs list for it.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn sha256(&self, context: &Context<'_>) -> Result<Digest, Cancelled> {
        let mut hasher = Hasher::sha256();
        self.windows(0..self.bytes(), context, |bytes| hasher.update(bytes))?;
        Ok(hasher.finish())
    }

    /// The digest of the whole file that follows from those of its tensors (spec §6, `content`), which are `digest`'s, by BLAKE3.
    ///
    /// # Errors
    /// What `digest` returns.
    pub fn content_digest<E>(&self, digest: impl FnMut(&TensorInfo) -> Result<Digest, E>) -> Result<Digest, E> {
        let tensors = self.tensors.iter().map(digest).collect::<Result<Vec<Digest>, E>>()?;
        Ok(content_digest(self.header(), tensors))
    }

    /// What comes before the first tensor.
    pub fn header(&self) -> &[u8] {
        self.map.bytes(0..self.header_bytes)
    }

    /// Calls `each` with consecutive parts of `range`, releasing each afterwards.
    fn windows(&self, range: Range<u64>, context: &Context<'_>, mut each: impl FnMut(&[u8])) -> Result<(), Cancelled> {
        for part in windows(range, WINDOW_BYTES) {
            each(self.map.bytes(part.clone()));
            self.map.release(part.clone());
            context.advance(part.end - part.start)?;
        }
        Ok(())
    }
}

/// The digest of a file with this `header`, and tensors of these digests.
pub fn content_digest(header: &[u8], tensors: impl IntoIterator<Item = Digest>) -> Digest {
    let mut hasher = ContentHash::Blake3.hasher();
    hasher.update(header);
    tensors.into_iter().for_each(|digest| hasher.update(&digest.0));
    hasher.finish()
}

impl<'a> Tensor<'a> {
    /// The digest of the tensor's bytes. By BLAKE3 in parallel, part by part.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn digest(&self, hash: ContentHash, context: &Context<'_>) -> Result<Digest, Cancelled> {
        let (range, total) = (self.info.range.clone(), self.info.bytes());
        if hash == ContentHash::Sha256 {
            let mut hasher = hash.hasher();
            self.file.windows(range, context, |bytes| hasher.update(bytes))?;
            return Ok(hasher.finish());
        }
        let parts: Vec<Range<u64>> = windows(0..total, PART_BYTES).collect();
        let digest = |part: Range<u64>| {
            let mut hasher = PartHasher::new(part.start, total, PART_BYTES);
            let bytes = range.start + part.start..range.start + part.end;
            self.file.windows(bytes, context, |bytes| hasher.update(bytes))?;
            Ok(hasher.finish())
        };
        Ok(join(&parts.into_par_iter().map(digest).collect::<Result<Vec<PartDigest>, Cancelled>>()?))
    }

    /// The bytes of elements `elements`, until [`Tensor::release`].
    pub fn elements(&self, elements: Range<u64>) -> &'a [u8] {
        self.file.map.bytes(self.byte_range(elements))
    }

    /// Lets go of the memory that holds `elements`.
    pub fn release(&self, elements: Range<u64>) {
        self.file.map.release(self.byte_range(elements));
    }

    /// The parts of `elements` to walk one by one, each of at most [`WINDOW_BYTES`].
    pub fn element_windows(&self, elements: Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
        windows(elements, WINDOW_BYTES / self.info.dtype.width().bytes() as u64)
    }

    fn byte_range(&self, elements: Range<u64>) -> Range<u64> {
        let width = self.info.dtype.width().bytes() as u64;
        let start = self.info.range.start;
        start + elements.start * width..start + elements.end * width
    }
}

/// Consecutive parts of `range`, each of at most `size`.
pub fn windows(range: Range<u64>, size: u64) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    range.step_by(size as usize).map(move |start| start..(start + size).min(end))
}

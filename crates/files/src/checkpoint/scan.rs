//! Reads tensors in bounded windows, so that only a few windows per thread are resident in memory.

use super::{Tensor, TensorInfo, WeightFile};
use crate::context::{Cancelled, Context};
use lcepatch_format::digest::{Digest, Hasher, PartDigest, PartHasher, join};
use rayon::prelude::*;
use sha2::Digest as _;
use std::ops::Range;

/// Number of bytes that are read at a time: few enough that those of two files stay in a core's cache while several loops go over them, and
/// enough that the system calls cost nothing.
pub const WINDOW_BYTES: u64 = 64 << 10;

/// Size of the parts of a tensor that are hashed in parallel, in bytes.
const PART_BYTES: u64 = 4 << 20;

impl WeightFile {
    /// SHA-256 of the whole file, as hubs list it.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn sha256(&self, context: &Context<'_>) -> Result<Digest, Cancelled> {
        let mut hasher = sha2::Sha256::new();
        self.windows(0..self.bytes(), context, |bytes| hasher.update(bytes))?;
        Ok(Digest(hasher.finalize().into()))
    }

    /// The content digest of the file (spec §6, `content`): BLAKE3 over its header and the BLAKE3 digests of its tensors, which `digest`
    /// returns.
    ///
    /// # Errors
    /// Those of `digest`.
    pub fn content_digest<E>(&self, digest: impl FnMut(&TensorInfo) -> Result<Digest, E>) -> Result<Digest, E> {
        let tensors = self.tensors().iter().map(digest).collect::<Result<Vec<Digest>, E>>()?;
        Ok(content_digest(self.header(), tensors))
    }

    /// The bytes before the first tensor.
    pub fn header(&self) -> &[u8] {
        self.map.bytes(0..self.header_bytes())
    }

    /// Calls `each` with consecutive windows of `range`, and releases the memory of each afterwards.
    fn windows(&self, range: Range<u64>, context: &Context<'_>, mut each: impl FnMut(&[u8])) -> Result<(), Cancelled> {
        let mut buffer = Vec::new();
        for part in windows(range, WINDOW_BYTES) {
            each(self.map.read_to(part.clone(), &mut buffer));
            self.map.release(part.clone());
            context.advance(part.end - part.start)?;
        }
        Ok(())
    }
}

/// The content digest of a file, from its `header` and the BLAKE3 digests of its `tensors`.
pub fn content_digest(header: &[u8], tensors: impl IntoIterator<Item = Digest>) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(header);
    tensors.into_iter().for_each(|digest| hasher.update(&digest.0));
    hasher.finish()
}

impl<'a> Tensor<'a> {
    /// The digest of the tensor's bytes, whose parts are hashed in parallel.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn digest(&self, context: &Context<'_>) -> Result<Digest, Cancelled> {
        let (range, total) = (self.info.range(), self.info.bytes());
        let parts: Vec<Range<u64>> = windows(0..total, PART_BYTES).collect();
        let digest = |part: Range<u64>| {
            let mut hasher = PartHasher::new(part.start, total, PART_BYTES);
            let bytes = range.start + part.start..range.start + part.end;
            self.file.windows(bytes, context, |bytes| hasher.update(bytes))?;
            Ok(hasher.finish())
        };
        Ok(join(&parts.into_par_iter().map(digest).collect::<Result<Vec<PartDigest>, Cancelled>>()?))
    }

    /// The bytes of these elements. [`Tensor::release`] releases their memory.
    pub fn elements(&self, elements: Range<u64>) -> &'a [u8] {
        self.file.map.bytes(self.byte_range(elements))
    }

    /// The bytes of these elements, which are read to `buffer` if their file is mapped.
    pub fn read_to<'b>(&self, elements: Range<u64>, buffer: &'b mut Vec<u8>) -> &'b [u8]
    where
        'a: 'b,
    {
        self.file.map.read_to(self.byte_range(elements), buffer)
    }

    /// Replaces the content of `buffer` by the bytes of these elements.
    pub fn copy_to(&self, elements: Range<u64>, buffer: &mut Vec<u8>) {
        self.file.map.copy_to(self.byte_range(elements), buffer);
    }

    /// Releases the memory of these elements.
    pub fn release(&self, elements: Range<u64>) {
        self.file.map.release(self.byte_range(elements));
    }

    /// Divides a range of elements into windows of at most [`WINDOW_BYTES`] bytes.
    pub fn element_windows(&self, elements: Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
        windows(elements, WINDOW_BYTES / self.info.dtype.width().bytes() as u64)
    }

    fn byte_range(&self, elements: Range<u64>) -> Range<u64> {
        let width = self.info.dtype.width().bytes() as u64;
        let start = self.info.range().start;
        start + elements.start * width..start + elements.end * width
    }
}

/// Divides `range` into consecutive windows of at most `size`.
pub fn windows(range: Range<u64>, size: u64) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    range.step_by(size as usize).map(move |start| start..(start + size).min(end))
}

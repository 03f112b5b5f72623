//! Walking tensors in bounded windows: no more of a checkpoint is resident than a few windows for each thread.

use super::{Tensor, WeightFile};
use crate::context::{Cancelled, Context};
use crate::digest::{Hasher, Sha256Digest};
use std::ops::Range;

/// Bytes walked before their memory is released. Small enough that two files and a few threads stay far below the
/// memory bound, large enough that releasing costs nothing.
pub const WINDOW_BYTES: u64 = 1 << 20;

impl WeightFile {
    /// SHA-256 of the whole file, the digest that hubs list for it.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn digest(&self, context: &Context<'_>) -> Result<Sha256Digest, Cancelled> {
        self.digest_range(0..self.bytes(), context)
    }

    pub(crate) fn digest_range(&self, range: Range<u64>, context: &Context<'_>) -> Result<Sha256Digest, Cancelled> {
        let mut hasher = Hasher::default();
        self.windows(range, context, |bytes| hasher.update(bytes))?;
        Ok(hasher.finish())
    }

    /// Calls `each` with consecutive parts of `range`, releasing each afterwards.
    pub(crate) fn windows(
        &self,
        range: Range<u64>,
        context: &Context<'_>,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), Cancelled> {
        for part in windows(range, WINDOW_BYTES) {
            each(self.map.bytes(part.clone()));
            self.map.release(part.clone());
            context.advance(part.end - part.start)?;
        }
        Ok(())
    }
}

impl<'a> Tensor<'a> {
    /// SHA-256 of the tensor's bytes.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn digest(&self, context: &Context<'_>) -> Result<Sha256Digest, Cancelled> {
        self.file.digest_range(self.info.range.clone(), context)
    }

    /// The bytes of elements `elements`, until [`Tensor::release`].
    pub(crate) fn elements(&self, elements: Range<u64>) -> &'a [u8] {
        self.file.map.bytes(self.byte_range(elements))
    }

    /// Lets go of the memory that holds `elements`.
    pub(crate) fn release(&self, elements: Range<u64>) {
        self.file.map.release(self.byte_range(elements));
    }

    /// The parts of `elements` to walk one by one, each of at most [`WINDOW_BYTES`].
    pub(crate) fn element_windows(&self, elements: Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
        windows(elements, WINDOW_BYTES / self.info.dtype.width().bytes() as u64)
    }

    fn byte_range(&self, elements: Range<u64>) -> Range<u64> {
        let width = self.info.dtype.width().bytes() as u64;
        let start = self.info.range.start;
        start + elements.start * width..start + elements.end * width
    }
}

/// Consecutive parts of `range`, each of at most `size`.
fn windows(range: Range<u64>, size: u64) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    range.step_by(size as usize).map(move |start| start..(start + size).min(end))
}

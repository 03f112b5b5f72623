//! Hashes a block as it will be once its selected elements are replaced.

use crate::checkpoint::Tensor;
use crate::context::{Cancelled, Context};
use crate::digest::{PartDigest, PartHasher};
use crate::format::block::{BLOCK_ELEMENTS, Elements, block_range};

/// Bytes that are copied, changed and hashed at a time: few enough to stay in a core's cache.
const STRIDE_BYTES: u64 = 64 << 10;

/// The BLAKE3 digest of block `index` of `tensor` with `bits` at the positions of `elements`.
///
/// # Errors
/// [`Cancelled`].
pub(crate) fn digest(
    tensor: Tensor<'_>,
    index: u64,
    elements: &Elements,
    bits: &[u64],
    context: &Context<'_>,
) -> Result<PartDigest, Cancelled> {
    let (n, width) = (tensor.info.elements(), tensor.info.dtype.width());
    let (range, bytes) = (block_range(index, n), width.bytes() as u64);
    let mut hasher = PartHasher::new(range.start * bytes, n * bytes, BLOCK_ELEMENTS * bytes);
    let mut changes = elements.positions.iter().zip(bits).peekable();
    let mut buffer = Vec::new();
    for window in tensor.element_windows(range.clone()) {
        for start in window.clone().step_by((STRIDE_BYTES / bytes) as usize) {
            let stride = start..(start + STRIDE_BYTES / bytes).min(window.end);
            let [first, end] = [stride.start, stride.end].map(|element| (element - range.start) as u32);
            buffer.clear();
            buffer.extend_from_slice(tensor.elements(stride));
            while let Some((position, bits)) = changes.next_if(|(position, _)| **position < end) {
                width.store(&mut buffer, (position - first) as usize, *bits);
            }
            hasher.update(&buffer);
        }
        context.advance((window.end - window.start) * bytes)?;
        tensor.release(window);
    }
    Ok(hasher.finish())
}

//! The pruning mask of a result (spec §A8).

use super::plan::Plan;
use super::tensor::mask_differs;
use crate::context::Context;
use crate::error::Error;
use crate::format::block::{block_range, blocks};
use crate::mask::PruningMask;

impl Plan<'_> {
    /// The pruning mask of the result, from the mask of the base. Memory: a bit for each weight of the tensors that change.
    ///
    /// # Errors
    /// [`Refusal::Mask`](crate::error::Refusal::Mask) where `base_mask` is not the mask that the patches were made with; what decoding and
    /// masks return.
    pub(crate) fn result_mask<'m>(
        &self,
        base_mask: &PruningMask<'m>,
        context: &Context<'_>,
    ) -> Result<PruningMask<'m>, Error> {
        let mut result = base_mask.clone();
        for weights in self.by_tensor.keys().filter_map(|name| self.base().tensor(name)) {
            if weights.info.dtype.float().is_none() {
                continue;
            }
            let elements = weights.info.elements();
            let mut result_blocks = Vec::new();
            for index in blocks(elements) {
                let range = block_range(index, elements);
                let mut bits = base_mask.block(weights, index, context)?;
                self.kept(weights, range.clone(), |element, in_base, in_result| {
                    let at = (element - range.start) as usize;
                    if bits[at] != in_base {
                        return Err(mask_differs(weights, element, bits[at]));
                    }
                    bits.set(at, in_result);
                    Ok(())
                })?;
                result_blocks.push(bits);
            }
            result.replace(&weights.info.name, result_blocks);
        }
        Ok(result)
    }
}

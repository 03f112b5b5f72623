//! The pruning masks of two paired checkpoints.

use super::pruning::{Bits, MaskFault, PruningMask};
use crate::checkpoint::pair::TensorPair;
use crate::context::Context;

/// The pruning masks of a pair of checkpoints.
#[derive(Debug)]
pub struct PairMasks<'a> {
    /// Of the target (m_t).
    pub target: PruningMask<'a>,
    /// Of the reference (m_r).
    pub reference: PruningMask<'a>,
}

impl PairMasks<'_> {
    /// The masks of target and reference over one block.
    ///
    /// # Errors
    /// [`MaskFault`].
    pub fn block(&self, pair: &TensorPair<'_>, index: u64, context: &Context<'_>) -> Result<(Bits, Bits), MaskFault> {
        let target = self.target.block(pair.target, index, context)?;
        Ok((target, self.reference.block(pair.reference, index, context)?))
    }
}

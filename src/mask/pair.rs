//! The pruning masks of two paired checkpoints.

use super::pruning::{Bits, MaskFault, PruningMask};
use crate::context::Context;
use crate::format::block::blocks;
use crate::pair::TensorPair;

/// The pruning masks of a pair of checkpoints.
#[derive(Debug)]
pub struct PairMasks<'a> {
    /// Of the target (m_t).
    pub target: PruningMask<'a>,
    /// Of the reference (m_r).
    pub reference: PruningMask<'a>,
}

impl PairMasks<'_> {
    /// The masks of target and reference over one block of the target. Where the reference has fewer rows, its mask is the target's there,
    /// as its weights are.
    ///
    /// # Errors
    /// [`MaskFault`].
    pub fn block(&self, pair: &TensorPair<'_>, index: u64, context: &Context<'_>) -> Result<(Bits, Bits), MaskFault> {
        let target = self.target.block(pair.target, index, context)?;
        let mut reference = match blocks(pair.reference.info.elements()).contains(&index) {
            true => self.reference.block(pair.reference, index, context)?,
            false => Bits::new(),
        };
        reference.truncate(target.len());
        reference.extend_from_bitslice(&target[reference.len()..]);
        Ok((target, reference))
    }
}

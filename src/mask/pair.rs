//! The pruning masks of two paired checkpoints.

use super::pruning::{Bits, MaskFault, PruningMask};
use crate::context::Context;
use crate::format::block::blocks;
use crate::pair::TensorPair;

/// The pruning masks of a pair of checkpoints.
#[derive(Debug)]
pub struct PairMasks<'a> {
    /// The target's mask (m_t).
    pub target: PruningMask<'a>,
    /// The reference's mask (m_r).
    pub reference: PruningMask<'a>,
}

impl PairMasks<'_> {
    /// The masks of target and reference over one block of the target. Rows that only the target has take the target's mask on both
    /// sides, just as they take the target's weights.
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

    /// The elements of one block of the target that both masks keep.
    ///
    /// # Errors
    /// [`MaskFault`].
    pub fn both_keep(&self, pair: &TensorPair<'_>, index: u64, context: &Context<'_>) -> Result<Bits, MaskFault> {
        let (target, reference) = self.block(pair, index, context)?;
        Ok(target & reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;
    use crate::pair::{Pair, PairOptions, Unpaired};
    use crate::testing::{checkpoint, floats};

    fn bits(text: &str) -> Bits {
        text.bytes().map(|bit| bit == b'1').collect()
    }

    #[test]
    fn an_element_is_kept_by_both_masks_if_each_of_them_keeps_it() {
        let (target, reference) = (floats(&[("w", &[1.0, 0.0, 3.0])]), floats(&[("w", &[1.0, 2.0, 0.0])]));
        let pair = Pair::new(&target, &reference, &PairOptions::default()).unwrap();
        let [target, reference] = [&target, &reference].map(|checkpoint| PruningMask::zeros(checkpoint.tensors()));
        let masks = PairMasks { target, reference };
        let block = masks.block(&pair.tensors[0], 0, &Context::silent()).unwrap();
        assert_eq!(block, (bits("101"), bits("110")));
        assert_eq!(masks.both_keep(&pair.tensors[0], 0, &Context::silent()), Ok(bits("100")));
    }

    #[test]
    fn rows_that_only_the_target_has_are_kept_as_in_the_target() {
        let name = "bert.embeddings.word_embeddings.weight";
        let embeddings =
            |shape: [u64; 2], bits: &[u64]| checkpoint(&[(name.to_owned(), Dtype::F32, shape.to_vec(), bits.to_vec())]);
        let (target, reference) = (embeddings([3, 2], &[1, 0, 1, 1, 0, 1]), embeddings([1, 2], &[0, 1]));
        let options = PairOptions { unpaired: Unpaired::LeaveOut, ..PairOptions::default() };
        let pair = Pair::new(&target, &reference, &options).unwrap();
        let [target, reference] = [&target, &reference].map(|checkpoint| PruningMask::zeros(checkpoint.tensors()));
        let block = PairMasks { target, reference }.block(&pair.tensors[0], 0, &Context::silent());
        assert_eq!(block, Ok((bits("101101"), bits("011101"))));
    }
}

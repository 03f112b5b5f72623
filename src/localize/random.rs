//! Random localization: an uninformed baseline, to which a selection of the same size is compared (spec §A11).

use super::Impossible;
use super::scan::{blocks_of, elements_in};
use crate::context::Context;
use crate::format::block::{BlockId, block_range};
use crate::mask::pruning::{Bits, MaskFault};
use crate::mask::ranking::{self, Keys};
use crate::mask::top_k::Outside;
use crate::mask::{PairMasks, Selection};
use crate::pair::Pair;
use crate::random;
use std::ops::RangeInclusive;

/// Which weights may be drawn if there are pruning masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Among {
    /// Those that the target's mask or the reference's mask keeps: the baseline for interpolation and extrapolation.
    Either,
    /// Those that the target's mask keeps: the baseline for pruning.
    Target,
}

impl Among {
    /// The name on the command line and in metadata.
    pub fn label(self) -> &'static str {
        match self {
            Among::Either => "either",
            Among::Target => "target",
        }
    }
}

/// Draws `k` elements of the tensors `candidates` without replacement. Reads the masks a few times, in parallel by block, and
/// reads no weights.
///
/// # Errors
/// [`Impossible`]: more elements are asked for than may be drawn, a mask that cannot be read, or cancellation.
pub fn select(
    pair: &Pair<'_>,
    candidates: &[usize],
    k: u64,
    seed: u64,
    masks: Option<(&PairMasks<'_>, Among)>,
    context: &Context<'_>,
) -> Result<Selection, Impossible> {
    // Candidates are numbered from 0 on, across tensors. For each tensor, the number of its first element.
    let mut starts = vec![0; pair.tensors.len()];
    let mut start = 0;
    for tensor in candidates {
        starts[*tensor] = start;
        start += pair.tensors[*tensor].compared();
    }
    ranking::select(
        k,
        &Numbers { pair, blocks: blocks_of(pair, candidates.iter().copied()), starts, seed, masks, context },
    )
}

/// Keys of elements: the random number at the element's number among the candidates.
struct Numbers<'a> {
    pair: &'a Pair<'a>,
    blocks: Vec<BlockId>,
    starts: Vec<u64>,
    seed: u64,
    masks: Option<(&'a PairMasks<'a>, Among)>,
    context: &'a Context<'a>,
}

impl Numbers<'_> {
    /// The positions of a block and their random numbers.
    fn numbers(&self, block: BlockId) -> impl Iterator<Item = (u32, u64)> {
        let (pair, seed) = (&self.pair.tensors[block.tensor], self.seed);
        let range = block_range(block.index, pair.target.info.elements());
        let first = self.starts[block.tensor] + range.start;
        let positions = 0..range.end.min(pair.compared()).saturating_sub(range.start) as u32;
        positions.map(move |position| (position, random::number(seed, first + u64::from(position))))
    }

    /// The elements of a block that may be drawn, or `None` if all may.
    fn drawable(&self, block: BlockId) -> Result<Option<Bits>, MaskFault> {
        let pair = &self.pair.tensors[block.tensor];
        match self.masks {
            None => Ok(None),
            Some((masks, Among::Target)) => masks.target.block(pair.target, block.index, self.context).map(Some),
            Some((masks, Among::Either)) => {
                let (target, reference) = masks.block(pair, block.index, self.context)?;
                Ok(Some(target | reference))
            }
        }
    }
}

impl Keys for Numbers<'_> {
    type Error = Impossible;

    fn blocks(&self) -> &[BlockId] {
        &self.blocks
    }

    fn elements(&self) -> u64 {
        elements_in(self.pair, &self.blocks)
    }

    fn sample(&self, block: BlockId, step: u64) -> Vec<u64> {
        self.numbers(block).step_by(step as usize).map(|(_, number)| number).collect()
    }

    fn walk(
        &self,
        block: BlockId,
        range: RangeInclusive<u64>,
        mut each: impl FnMut(u32, u64),
    ) -> Result<Outside, Impossible> {
        let drawable = self.drawable(block)?;
        let mut outside = Outside::default();
        for (position, number) in self.numbers(block) {
            let is_drawable = drawable.as_ref().is_none_or(|drawable| drawable[position as usize]);
            if is_drawable && outside.admit(number, &range) {
                each(position, number);
            }
        }
        let elements = block_range(block.index, self.pair.tensors[block.tensor].target.info.elements());
        self.context.advance(elements.end - elements.start)?;
        Ok(outside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::PruningMask;
    use crate::pair::PairOptions;
    use crate::testing::floats;

    /// The tensor and position of each drawn element of `a`, of four elements, and `b`, of two.
    fn draw(k: u64, seed: u64, among: Option<Among>) -> Result<Vec<(usize, u32)>, Impossible> {
        let target = floats(&[("a", &[1.0, 1.0, 0.0, 0.0]), ("b", &[0.0, 0.0])]);
        let reference = floats(&[("a", &[1.0, 0.0, 1.0, 0.0]), ("b", &[0.0, 1.0])]);
        let pair = Pair::new(&target, &reference, &PairOptions::default()).unwrap();
        let [of_target, of_reference] =
            [&target, &reference].map(|checkpoint| PruningMask::zeros(checkpoint.tensors()));
        let masks = PairMasks { target: of_target, reference: of_reference };
        let selection = select(&pair, &[0, 1], k, seed, among.map(|among| (&masks, among)), &Context::silent())?;
        let elements = selection.blocks.iter().flat_map(|block| block.positions.iter().map(|at| (block.tensor, *at)));
        Ok(elements.collect())
    }

    #[test]
    fn draws_the_elements_with_the_largest_random_numbers_across_tensors() {
        for seed in 0..20 {
            let mut numbers: Vec<u64> = (0..6).collect();
            numbers.sort_by_key(|number| std::cmp::Reverse(random::number(seed, *number)));
            let mut expected: Vec<u64> = numbers[..3].to_vec();
            expected.sort_unstable();
            let drawn = draw(3, seed, None).unwrap();
            assert_eq!(
                drawn.iter().map(|(tensor, at)| 4 * *tensor as u64 + u64::from(*at)).collect::<Vec<_>>(),
                expected
            );
        }
    }

    #[test]
    fn draws_only_what_the_masks_leave() {
        assert_eq!(draw(2, 7, Some(Among::Target)), Ok(vec![(0, 0), (0, 1)]));
        assert_eq!(draw(4, 7, Some(Among::Either)), Ok(vec![(0, 0), (0, 1), (0, 2), (1, 1)]));
    }

    #[test]
    fn more_than_may_be_drawn_is_an_error() {
        assert_eq!(draw(3, 7, Some(Among::Target)), Err(Impossible::TooMany { k: 3, candidates: 2 }));
        assert_eq!(draw(7, 7, None), Err(Impossible::TooMany { k: 7, candidates: 6 }));
    }
}

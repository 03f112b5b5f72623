//! The uninformed baseline: weights drawn at random, to compare an informed selection of the same size with (spec §20).

use super::Impossible;
use super::survey::units;
use crate::context::Context;
use crate::format::block::block_range;
use crate::mask::ranking::{self, Keys, Zeros};
use crate::mask::{PairMasks, Selection};
use crate::pair::Pair;
use crate::random;

/// What may be drawn, where there are masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Among {
    /// What either keeps: the baseline for interpolation and extrapolation.
    Either,
    /// What the target keeps: the baseline for pruning.
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

/// Draws `k` of the elements of `candidates`. Walks the masks three to five times, in parallel by block; the checkpoints
/// are not read.
///
/// # Errors
/// [`Impossible`]: more asked for than may be drawn, masks, cancellation.
pub fn select(
    pair: &Pair<'_>,
    candidates: &[usize],
    k: u64,
    seed: u64,
    masks: Option<(&PairMasks<'_>, Among)>,
    context: &Context<'_>,
) -> Result<Selection, Impossible> {
    // The number of each tensor's first element.
    let mut starts = vec![0; pair.tensors.len()];
    let mut start = 0;
    for tensor in candidates {
        starts[*tensor] = start;
        start += pair.tensors[*tensor].compared();
    }
    ranking::select(k, &Numbers { pair, units: units(pair, candidates.iter().copied()), starts, seed, masks, context })
}

/// Every element's key is the random number of its place.
struct Numbers<'a> {
    pair: &'a Pair<'a>,
    units: Vec<(usize, u64)>,
    starts: Vec<u64>,
    seed: u64,
    masks: Option<(&'a PairMasks<'a>, Among)>,
    context: &'a Context<'a>,
}

impl Keys for Numbers<'_> {
    type Error = Impossible;

    fn units(&self) -> &[(usize, u64)] {
        &self.units
    }

    fn walk(&self, (tensor, index): (usize, u64), _: Zeros, mut each: impl FnMut(u32, u64)) -> Result<u64, Impossible> {
        let pair = &self.pair.tensors[tensor];
        let may = match self.masks {
            None => None,
            Some((masks, Among::Target)) => Some(masks.target.block(pair.target, index, self.context)?),
            Some((masks, Among::Either)) => {
                let (target, reference) = masks.block(pair, index, self.context)?;
                Some(target | reference)
            }
        };
        let range = block_range(index, pair.target.info.elements());
        let first = self.starts[tensor] + range.start;
        for position in 0..range.end.min(pair.compared()).saturating_sub(range.start) as u32 {
            if may.as_ref().is_none_or(|may| may[position as usize]) {
                each(position, random::number(self.seed, first + u64::from(position)));
            }
        }
        self.context.advance(range.end - range.start)?;
        Ok(0)
    }
}

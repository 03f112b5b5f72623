//! The elements with the k largest keys, exactly and in bounded memory. The caller defines the key: a difference, a magnitude, a
//! random number. Equal keys rank by tensor name, then flat index.

use super::selection::{SelectedBlock, Selection};
use super::top_k::{Counts, Cut, Outside, SAMPLE_KEYS, Search, TooFew};
use crate::context::Cancelled;
use crate::format::block::BlockId;
use crate::random;
use rayon::prelude::*;
use std::ops::{Range, RangeInclusive};

/// Elements with keys, block by block.
pub trait Keys: Sync {
    /// Why a walk may fail.
    type Error: From<Cancelled> + From<TooFew> + Send;

    /// The blocks to rank, in order.
    fn blocks(&self) -> &[BlockId];

    /// The number of elements in all blocks.
    fn elements(&self) -> u64;

    /// The keys of some elements of a block, one of about `step`. Elements may be among them that have no key.
    fn sample(&self, block: BlockId, step: u64) -> Vec<u64>;

    /// Calls `each` with the position and key of each element of a block whose key is in `range`, ascending by position; returns the
    /// numbers of other elements. Must yield the same elements each time.
    ///
    /// # Errors
    /// An element has no key, for example because it is not finite, or cancellation.
    fn walk(
        &self,
        block: BlockId,
        range: RangeInclusive<u64>,
        each: impl FnMut(u32, u64),
    ) -> Result<Outside, Self::Error>;
}

/// Divides a sample of one element in `step` of the `elements` of a block into runs of `run` elements. They begin at a place that
/// differs from block to block, so that the sample of many small blocks is small, too.
pub fn sampled(block: BlockId, elements: Range<u64>, run: u64, step: u64) -> impl Iterator<Item = Range<u64>> {
    let skipped = random::number(block.tensor as u64, block.index) % step;
    let starts = (elements.start + run * skipped..elements.end).step_by((run * step) as usize);
    starts.map(move |start| start..elements.end.min(start + run))
}

/// Begins the search for the `k` largest of `keys`. `blocks` is the number of blocks of which counts are kept at the same time.
pub fn search<K: Keys>(k: u64, keys: &K, blocks: usize) -> Search {
    let step = (keys.elements() / SAMPLE_KEYS).max(1);
    let sample = keys.blocks().par_iter().flat_map_iter(|block| keys.sample(*block, step)).collect();
    Search::new(k, keys.elements(), sample, blocks)
}

/// Counts the keys of all blocks for a step of `search`.
fn count<K: Keys>(keys: &K, search: &Search) -> Result<Vec<Counts>, K::Error> {
    let of_block = |block: &BlockId| {
        let mut counter = search.counter();
        let outside = keys.walk(*block, search.range(), |_, key| counter.add(key))?;
        Ok(counter.finish(outside))
    };
    keys.blocks().par_iter().map(of_block).collect()
}

/// Ends a search of which the first `counts` are known.
///
/// # Errors
/// [`TooFew`], and the errors of [`Keys::walk`].
pub fn finish<K: Keys>(mut search: Search, mut counts: Vec<Counts>, keys: &K) -> Result<Cut, K::Error> {
    loop {
        if let Some(cut) = search.step(&counts)? {
            return Ok(cut);
        }
        counts = count(keys, &search)?;
    }
}

/// Finds the cut after the `k` largest keys.
///
/// Samples the keys, and walks all blocks once or, if the sample misleads or millions of different keys are near the k-th, a few times.
/// Memory: at most 64 MiB, and 4 KiB for each block.
///
/// # Errors
/// [`TooFew`], and the errors of [`Keys::walk`].
pub fn cut<K: Keys>(k: u64, keys: &K) -> Result<Cut, K::Error> {
    let search = search(k, keys, keys.blocks().len());
    let counts = count(keys, &search)?;
    finish(search, counts, keys)
}

/// Calls `each` with the positions, ascending, of the elements above `cut` in the block with index `at` in [`Keys::blocks`].
///
/// # Errors
/// The errors of [`Keys::walk`].
pub fn walk_above<K: Keys>(cut: &Cut, keys: &K, at: usize, mut each: impl FnMut(u32)) -> Result<(), K::Error> {
    let mut cut = cut.in_block(at);
    keys.walk(keys.blocks()[at], cut.range(), |position, key| {
        if cut.takes(key) {
            each(position);
        }
    })?;
    Ok(())
}

/// Selects the `k` elements with the largest keys. Takes 4 bytes for each, besides the counts of the search.
///
/// # Errors
/// [`TooFew`], and the errors of [`Keys::walk`].
pub fn select<K: Keys>(k: u64, keys: &K) -> Result<Selection, K::Error> {
    let cut = cut(k, keys)?;
    let of_block = |(at, block): (usize, &BlockId)| {
        let mut positions = Vec::with_capacity(cut.keys_in(at) as usize);
        walk_above(&cut, keys, at, |position| positions.push(position))?;
        Ok(SelectedBlock { tensor: block.tensor, index: block.index, positions })
    };
    let blocks = keys.blocks().par_iter().enumerate().map(of_block).collect::<Result<Vec<_>, K::Error>>()?;
    Ok(Selection { blocks: blocks.into_iter().filter(|block| !block.positions.is_empty()).collect() })
}

/// The `k` largest keys, descending, each with how many of them are equal to it. Walks all blocks once, or twice if the sample
/// misleads. Takes 48 bytes for each different key.
///
/// # Errors
/// [`TooFew`], and the errors of [`Keys::walk`].
pub fn largest<K: Keys>(k: u64, keys: &K) -> Result<Vec<(u64, u64)>, K::Error> {
    let mut search = search(k, keys, keys.blocks().len()).for_all_larger();
    loop {
        if let Some(largest) = search.largest(&count(keys, &search)?)? {
            return Ok(largest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Keys in memory. The sample is not of them.
    struct Held {
        ids: Vec<BlockId>,
        keys: Vec<Vec<u64>>,
        sample: u64,
    }

    impl Keys for Held {
        type Error = TooFewOrCancelled;

        fn blocks(&self) -> &[BlockId] {
            &self.ids
        }

        fn elements(&self) -> u64 {
            self.keys.iter().map(|keys| keys.len() as u64).sum()
        }

        fn sample(&self, _: BlockId, _: u64) -> Vec<u64> {
            vec![self.sample; 30]
        }

        fn walk(
            &self,
            block: BlockId,
            range: RangeInclusive<u64>,
            mut each: impl FnMut(u32, u64),
        ) -> Result<Outside, TooFewOrCancelled> {
            let mut outside = Outside::default();
            let keys = (0..).zip(&self.keys[block.index as usize]);
            keys.filter(|(_, key)| outside.admit(**key, &range)).for_each(|(position, key)| each(position, *key));
            Ok(outside)
        }
    }

    #[derive(Debug, PartialEq)]
    enum TooFewOrCancelled {
        TooFew(TooFew),
        Cancelled,
    }

    impl From<TooFew> for TooFewOrCancelled {
        fn from(too_few: TooFew) -> Self {
            Self::TooFew(too_few)
        }
    }

    impl From<Cancelled> for TooFewOrCancelled {
        fn from(_: Cancelled) -> Self {
            Self::Cancelled
        }
    }

    fn held(keys: Vec<Vec<u64>>, sample: u64) -> Held {
        let ids = (0..keys.len() as u64).map(|index| BlockId { tensor: 0, index }).collect();
        Held { ids, keys, sample }
    }

    proptest! {
        #[test]
        fn selects_what_sorting_selects(
            keys in prop::collection::vec(prop::collection::vec(prop_oneof![0u64..5, any::<u64>()], 1..50), 1..5),
            k: prop::sample::Index,
            sample: u64,
        ) {
            let places = |(block, keys): (usize, &Vec<u64>)| {
                keys.iter().enumerate().map(move |(at, key)| (std::cmp::Reverse(*key), block, at)).collect::<Vec<_>>()
            };
            let mut sorted: Vec<_> = keys.iter().enumerate().flat_map(places).collect();
            sorted.sort_unstable();
            let k = k.index(sorted.len() + 1);
            sorted.truncate(k);
            let mut expected: Vec<(usize, usize)> = sorted.iter().map(|(_, block, at)| (*block, *at)).collect();
            expected.sort_unstable();
            let runs = sorted.chunk_by(|a, b| a.0 == b.0).map(|run| (run[0].0.0, run.len() as u64)).collect::<Vec<_>>();
            let held = held(keys, sample);
            let selection = select(k as u64, &held).unwrap();
            let places = selection.blocks.iter().flat_map(|block| {
                block.positions.iter().map(|position| (block.index as usize, *position as usize))
            });
            prop_assert_eq!(places.collect::<Vec<_>>(), expected);
            prop_assert_eq!(largest(k as u64, &held), Ok(runs));
        }
    }

    #[test]
    fn more_keys_than_there_are_is_an_error() {
        let held = held(vec![vec![1, 0], vec![5]], 3);
        let error = TooFewOrCancelled::TooFew(TooFew { k: 4, found: 3 });
        assert_eq!(select(4, &held), Err(error));
        assert!(select(3, &held).is_ok());
    }
}

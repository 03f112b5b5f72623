//! The elements with the k largest keys, exactly and in bounded memory. The caller defines the key: a difference, a magnitude, a
//! random number. Equal keys rank by tensor name, then flat index.

use super::selection::{SelectedBlock, Selection};
use super::top_k::{self, Threshold, TooFew, Walk};
use crate::context::Cancelled;
use crate::format::block::BlockId;
use rayon::prelude::*;

/// Whether elements of key 0 must be visited. In most pairs of checkpoints they are the majority, and visiting them one by one would
/// take most of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zeros {
    /// They may be counted instead of visited.
    Count,
    /// They must be visited.
    Visit,
}

/// Elements with keys, block by block.
pub trait Keys: Sync {
    /// Why a walk may fail.
    type Error: From<Cancelled> + From<TooFew> + Send;

    /// The blocks to rank, in order.
    fn blocks(&self) -> &[BlockId];

    /// Calls `each` with the position and key of each element of a block, ascending by position; returns the number of elements of
    /// key 0 that were counted instead. Must yield the same elements each time.
    ///
    /// # Errors
    /// An element has no key, for example because it is not finite, or cancellation.
    fn walk(&self, block: BlockId, zeros: Zeros, each: impl FnMut(u32, u64)) -> Result<u64, Self::Error>;
}

/// Which elements have the k largest keys.
#[derive(Debug, Clone)]
pub struct Cut {
    key: u64,
    /// How many of the elements whose key is `key` each block may take: its first ones.
    quotas: Vec<u64>,
}

impl Cut {
    /// Finds the cut after the `k` largest keys. Walks all blocks two to five times, in parallel; holds the larger of
    /// 8 MiB and 8 bytes for each of `k`.
    ///
    /// # Errors
    /// [`TooFew`], and the errors of [`Keys::walk`].
    pub fn after<K: Keys>(k: u64, keys: &K) -> Result<Self, K::Error> {
        if k == 0 {
            return Ok(Self { key: u64::MAX, quotas: vec![0; keys.blocks().len()] });
        }
        let Threshold { key, ties, equal } = top_k::threshold(k, &Walks(keys))?;
        if ties == equal {
            return Ok(Self { key, quotas: vec![u64::MAX; keys.blocks().len()] });
        }
        Self::at(key, ties, keys)
    }

    /// The cut below all keys above `key` and the first `ties` of those equal to it. Walks all blocks once, in parallel.
    ///
    /// # Errors
    /// The errors of [`Keys::walk`].
    pub fn at<K: Keys>(key: u64, ties: u64, keys: &K) -> Result<Self, K::Error> {
        let counts = keys
            .blocks()
            .par_iter()
            .map(|block| {
                let mut count = 0;
                let zeros = keys.walk(*block, Zeros::Count, |_, other| count += u64::from(other == key))?;
                Ok(count + if key == 0 { zeros } else { 0 })
            })
            .collect::<Result<Vec<u64>, K::Error>>()?;
        let mut left = ties;
        let quotas = counts.into_iter().map(|count| {
            let quota = count.min(left);
            left -= quota;
            quota
        });
        Ok(Self { key, quotas: quotas.collect() })
    }

    /// Calls `each` with the positions, ascending, of the elements above the cut in the block with index `at` in [`Keys::blocks`].
    ///
    /// # Errors
    /// The errors of [`Keys::walk`].
    pub fn walk<K: Keys>(&self, keys: &K, at: usize, mut each: impl FnMut(u32)) -> Result<(), K::Error> {
        let mut ties = self.quotas[at];
        let zeros = if self.key == 0 { Zeros::Visit } else { Zeros::Count };
        keys.walk(keys.blocks()[at], zeros, |position, key| {
            let tied = key == self.key && ties > 0;
            if tied || key > self.key {
                ties -= u64::from(tied);
                each(position);
            }
        })?;
        Ok(())
    }

    /// Selects the elements above the cut. Takes 4 bytes for each.
    ///
    /// # Errors
    /// The errors of [`Keys::walk`].
    pub fn select<K: Keys>(&self, keys: &K) -> Result<Selection, K::Error> {
        let blocks = keys
            .blocks()
            .par_iter()
            .enumerate()
            .map(|(at, block)| {
                let mut positions = Vec::new();
                self.walk(keys, at, |position| positions.push(position))?;
                Ok(SelectedBlock { tensor: block.tensor, index: block.index, positions, bits: None })
            })
            .collect::<Result<Vec<_>, K::Error>>()?;
        Ok(Selection { blocks: blocks.into_iter().filter(|block| !block.positions.is_empty()).collect() })
    }
}

/// Selects the `k` elements with the largest keys. Takes 4 bytes for each, besides what [`Cut::after`] holds.
///
/// # Errors
/// As [`Cut::after`].
pub fn select<K: Keys>(k: u64, keys: &K) -> Result<Selection, K::Error> {
    Cut::after(k, keys)?.select(keys)
}

/// The `k` largest keys, descending, each with how many of them are equal to it. Takes 16 bytes for each, and as much as
/// [`Cut::after`] before.
///
/// # Errors
/// As [`Cut::after`].
pub fn largest<K: Keys>(k: u64, keys: &K) -> Result<Vec<(u64, u64)>, K::Error> {
    if k == 0 {
        return Ok(Vec::new());
    }
    let Threshold { key, ties, .. } = top_k::threshold(k, &Walks(keys))?;
    let above = keys
        .blocks()
        .par_iter()
        .map(|block| {
            let mut above = Vec::new();
            keys.walk(*block, Zeros::Count, |_, other| above.extend((other > key).then_some(other)))?;
            Ok(above)
        })
        .collect::<Result<Vec<Vec<u64>>, K::Error>>()?;
    let mut above = above.concat();
    above.par_sort_unstable_by(|a, b| b.cmp(a));
    let runs = above.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u64));
    Ok(runs.chain([(key, ties)]).collect())
}

struct Walks<'a, K>(&'a K);

impl<K: Keys> Walk<K::Error> for Walks<'_, K> {
    fn histogram(&self, prefix: u64, shift: u32) -> Result<Vec<u64>, K::Error> {
        // Ranges of blocks, not blocks, so that there are few histograms.
        let blocks = self.0.blocks();
        let parts = blocks.len().div_ceil(4 * rayon::current_num_threads()).max(1);
        let add = |mut a: Vec<u64>, b: Vec<u64>| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            a
        };
        blocks
            .par_chunks(parts)
            .map(|blocks| {
                let mut bins = vec![0u64; 1 << 16];
                for block in blocks {
                    let zeros = self.0.walk(*block, Zeros::Count, |_, key| {
                        let leading = key >> shift;
                        if shift == 48 || leading >> 16 == prefix {
                            bins[leading as usize & 0xffff] += 1;
                        }
                    })?;
                    bins[0] += if prefix == 0 { zeros } else { 0 };
                }
                Ok(bins)
            })
            .try_reduce(|| vec![0; 1 << 16], |a, b| Ok(add(a, b)))
    }

    fn collect(&self, prefix: u64, shift: u32) -> Result<Vec<u64>, K::Error> {
        let parts = self
            .0
            .blocks()
            .par_iter()
            .map(|block| {
                let mut keys = Vec::new();
                let zeros = self.0.walk(*block, Zeros::Count, |_, key| {
                    if key >> shift == prefix {
                        keys.push(key);
                    }
                })?;
                if prefix == 0 {
                    keys.extend(std::iter::repeat_n(0, zeros as usize));
                }
                Ok(keys)
            })
            .collect::<Result<Vec<_>, K::Error>>()?;
        Ok(parts.concat())
    }
}

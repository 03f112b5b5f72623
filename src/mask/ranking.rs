//! The elements with the k largest keys, exactly and in bounded memory. What a key is, is up to the caller: a
//! difference, a magnitude, a random number. Equal keys rank by tensor name, then flat index.

use super::selection::{SelectedBlock, Selection};
use super::top_k::{self, Threshold, TooFew, Walk};
use crate::context::Cancelled;
use rayon::prelude::*;

/// What to do with elements of key 0. They are most elements of most pairs of checkpoints, and adding them up one by
/// one would take most of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zeros {
    /// They may be counted instead of visited.
    Count,
    /// They must be visited.
    Visit,
}

/// Elements with keys, block by block.
pub trait Keys: Sync {
    /// What a walk may meet.
    type Error: From<Cancelled> + From<TooFew> + Send;

    /// The blocks to rank, in order: a tensor's place and the block's index.
    fn units(&self) -> &[(usize, u64)];

    /// Calls `each` with position and key of the elements of a block, ascending by position; returns how many of key 0
    /// were only counted. Must yield the same each time.
    ///
    /// # Errors
    /// Whatever keeps an element from having a key.
    fn walk(&self, unit: (usize, u64), zeros: Zeros, each: impl FnMut(u32, u64)) -> Result<u64, Self::Error>;
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
    /// [`TooFew`]; what a walk meets.
    pub fn after<K: Keys>(k: u64, keys: &K) -> Result<Self, K::Error> {
        if k == 0 {
            return Ok(Self { key: u64::MAX, quotas: vec![0; keys.units().len()] });
        }
        let Threshold { key, ties, equal } = top_k::threshold(k, &Walks(keys))?;
        if ties == equal {
            return Ok(Self { key, quotas: vec![u64::MAX; keys.units().len()] });
        }
        Self::at(key, ties, keys)
    }

    /// The cut below all keys above `key` and the first `ties` of those equal to it. Walks all blocks once, in parallel.
    ///
    /// # Errors
    /// What a walk meets.
    pub fn at<K: Keys>(key: u64, ties: u64, keys: &K) -> Result<Self, K::Error> {
        let counts = keys
            .units()
            .par_iter()
            .map(|unit| {
                let mut count = 0;
                let zeros = keys.walk(*unit, Zeros::Count, |_, other| count += u64::from(other == key))?;
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

    /// Calls `each` with the positions of the elements of one block that are above the cut, ascending.
    ///
    /// # Errors
    /// What a walk meets.
    pub fn walk<K: Keys>(&self, keys: &K, unit: usize, mut each: impl FnMut(u32)) -> Result<(), K::Error> {
        let mut ties = self.quotas[unit];
        let zeros = if self.key == 0 { Zeros::Visit } else { Zeros::Count };
        keys.walk(keys.units()[unit], zeros, |position, key| {
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
    /// What a walk meets.
    pub fn select<K: Keys>(&self, keys: &K) -> Result<Selection, K::Error> {
        let blocks = keys
            .units()
            .par_iter()
            .enumerate()
            .map(|(unit, (tensor, index))| {
                let mut positions = Vec::new();
                self.walk(keys, unit, |position| positions.push(position))?;
                Ok(SelectedBlock { tensor: *tensor, index: *index, positions, bits: None })
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
        .units()
        .par_iter()
        .map(|unit| {
            let mut above = Vec::new();
            keys.walk(*unit, Zeros::Count, |_, other| above.extend((other > key).then_some(other)))?;
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
        let units = self.0.units();
        let parts = units.len().div_ceil(4 * rayon::current_num_threads()).max(1);
        let add = |mut a: Vec<u64>, b: Vec<u64>| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            a
        };
        units
            .par_chunks(parts)
            .map(|units| {
                let mut bins = vec![0u64; 1 << 16];
                for unit in units {
                    let zeros = self.0.walk(*unit, Zeros::Count, |_, key| {
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
            .units()
            .par_iter()
            .map(|unit| {
                let mut keys = Vec::new();
                let zeros = self.0.walk(*unit, Zeros::Count, |_, key| {
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

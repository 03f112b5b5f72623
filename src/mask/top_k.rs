//! The k largest of more keys than can be held or sorted, exactly.
//!
//! A sample of the keys tells a range in which the k-th largest most likely lies. A walk over all keys counts, block by block, the keys
//! above the range, those below it, and each different key in it. This gives the k-th key, and how many of its equals each block has.
//! A block that has more different keys in the range than it may hold counts neighbouring keys together; then, or if the sample misled,
//! another walk counts the keys among which the k-th must be. The result is that of a full sort.

use super::flags::{self, Flags};
use rayon::prelude::*;
use std::ops::RangeInclusive;

/// There are fewer keys than were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooFew {
    /// Keys asked for.
    pub k: u64,
    /// Keys there are.
    pub found: u64,
}

/// The numbers of keys of a block outside of a range.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outside {
    /// Keys above the range.
    pub above: u64,
    /// Keys below it.
    pub below: u64,
}

impl Outside {
    /// Whether `key` is in `range`. Counts it if it is not.
    #[inline]
    pub fn admit(&mut self, key: u64, range: &RangeInclusive<u64>) -> bool {
        self.above += u64::from(key > *range.end());
        self.below += u64::from(key < *range.start());
        range.contains(&key)
    }
}

/// A key without some of its lowest bits, and the number of keys that are equal to it without them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bin {
    key: u64,
    count: u64,
}

/// Joins neighbouring bins with equal keys.
fn join_equal(bins: &mut Vec<Bin>) {
    bins.dedup_by(|bin, kept| {
        let is_equal = bin.key == kept.key;
        kept.count += if is_equal { bin.count } else { 0 };
        is_equal
    });
}

/// Counts the keys of one block that are in a range.
#[derive(Debug)]
pub struct Counter {
    bins: Vec<Bin>,
    /// The number of lowest bits that the keys of `bins` are without.
    shift: u32,
    /// The most bins to keep.
    limit: usize,
    /// The number of bins at which those with equal keys are joined.
    full: usize,
}

/// The least number of bins at which those with equal keys are joined: few enough to stay in a core's cache.
const FULL_MIN: usize = 1 << 10;

impl Counter {
    /// Counts a key of the range.
    #[inline]
    pub fn add(&mut self, key: u64) {
        let key = key >> self.shift;
        match self.bins.last_mut() {
            Some(bin) if bin.key == key => bin.count += 1,
            _ => self.push(Bin { key, count: 1 }),
        }
    }

    /// Counts `count` keys of the range that are equal to `key`.
    pub fn add_equal(&mut self, key: u64, count: u64) {
        let key = key >> self.shift;
        match self.bins.last_mut() {
            Some(bin) if bin.key == key => bin.count += count,
            _ if count > 0 => self.push(Bin { key, count }),
            _ => {}
        }
    }

    fn push(&mut self, bin: Bin) {
        self.bins.push(bin);
        if self.bins.len() >= self.full {
            self.join();
        }
    }

    /// Joins bins with equal keys. As long as there are too many, also joins those with neighbouring keys.
    fn join(&mut self) {
        self.bins.sort_unstable_by_key(|bin| bin.key);
        join_equal(&mut self.bins);
        while self.bins.len() > self.limit {
            self.shift += 1;
            self.bins.iter_mut().for_each(|bin| bin.key >>= 1);
            join_equal(&mut self.bins);
        }
        self.full = FULL_MIN.max(2 * self.bins.len());
    }

    /// Ends the count of a block whose other keys are `outside` of the range.
    pub fn finish(mut self, outside: Outside) -> Counts {
        self.join();
        let mut larger = 0;
        for bin in self.bins.iter_mut().rev() {
            larger += bin.count;
            bin.count = larger;
        }
        self.bins.shrink_to_fit();
        Counts { outside, bins: self.bins, shift: self.shift }
    }
}

/// The keys of one block, counted.
#[derive(Debug)]
pub struct Counts {
    outside: Outside,
    /// The keys in the range, ascending, each with the number of keys that are not smaller.
    bins: Vec<Bin>,
    shift: u32,
}

impl Counts {
    /// The number of keys in the range from `key` on. The lowest bits of `key` that the bins are without must be 0.
    fn from(&self, key: u64) -> u64 {
        let at = self.bins.partition_point(|bin| bin.key < key >> self.shift);
        self.bins.get(at).map_or(0, |bin| bin.count)
    }
}

/// The sum of a count over all blocks.
fn sum(blocks: &[Counts], count: impl Fn(&Counts) -> u64) -> u64 {
    blocks.iter().map(count).sum()
}

/// A search for the k-th largest key. Each step needs the counts of all blocks for the search's range.
#[derive(Debug)]
pub struct Search {
    k: u64,
    range: RangeInclusive<u64>,
    /// Whether the k-th key cannot be above the range, nor below it unless it is 0.
    is_certain: bool,
    /// The most bins of a block.
    limit: usize,
}

/// The least number of keys to sample; all keys, if there are fewer.
pub const SAMPLE_KEYS: u64 = 1 << 18;

/// The distance, in standard deviations of a rank in the sample, between the k-th key's rank and the ends of the range: twice what
/// is safe for independent samples, because neighbouring keys, which are sampled together, are alike.
const DEVIATIONS: f64 = 12.0;

/// Bins that all blocks together may keep.
const BINS: usize = 1 << 22;

/// Bins that a block may keep besides its share of [`BINS`].
const BINS_MIN: usize = 1 << 8;

impl Search {
    /// A search for the `k`-th largest of `all` keys, of which `sample` are some. If they mislead it costs time, and changes no result.
    /// `blocks` is the number of blocks of which counts are kept at the same time.
    pub fn new(k: u64, all: u64, mut sample: Vec<u64>, blocks: usize) -> Self {
        let share = (k as f64 / all.max(1) as f64).min(1.0);
        let rank = share * sample.len() as f64;
        let distance = DEVIATIONS * (rank * (1.0 - share)).sqrt() + 16.0;
        let sampled = sample.len() as f64;
        let mut key_at = |rank: f64| (*sample.select_nth_unstable_by(rank as usize, |a, b| b.cmp(a)).1).max(1);
        let low = if rank + distance < sampled { key_at(rank + distance) } else { 1 };
        let high = if rank < distance { u64::MAX } else { key_at(rank - distance) };
        Self { k, range: low..=high, is_certain: false, limit: BINS_MIN + BINS / blocks.max(1) }
    }

    /// A search that only needs one walk: for `key`, which is the k-th largest.
    pub fn at(key: u64) -> Self {
        Self { k: 1, range: key.max(1)..=key.max(1), is_certain: true, limit: BINS_MIN }
    }

    /// The same search, for all keys from the range on, whatever memory they take.
    pub fn for_all_larger(self) -> Self {
        Self { range: *self.range.start()..=u64::MAX, limit: usize::MAX, ..self }
    }

    /// Keys to count, from 1 on: keys of 0 are those below a range that begins at 1.
    pub fn range(&self) -> RangeInclusive<u64> {
        self.range.clone()
    }

    /// Whether most likely all keys but those of 0 are among the k largest.
    pub fn takes_all(&self) -> bool {
        *self.range.start() == 1
    }

    /// Counts the keys of a block.
    pub fn counter(&self) -> Counter {
        Counter { bins: Vec::new(), shift: 0, limit: self.limit, full: FULL_MIN }
    }

    /// Takes the counts of all blocks, in order. Returns the cut, or narrows the range for another walk.
    ///
    /// # Errors
    /// [`TooFew`], also if the counts contradict those of an earlier walk.
    pub fn step(&mut self, blocks: &[Counts]) -> Result<Option<Cut>, TooFew> {
        if self.k == 0 {
            return Ok(Some(Cut::new(u64::MAX, 0, blocks)));
        }
        let (low, high) = (*self.range.start(), *self.range.end());
        let above = sum(blocks, |counts| counts.outside.above);
        let reached = |key: u64| above + sum(blocks, |counts| counts.from(key));
        let found = reached(low) + sum(blocks, |counts| counts.outside.below);
        let too_few = TooFew { k: self.k, found: found.min(self.k - 1) };
        let next = match self.k {
            k if k <= above => high.saturating_add(1)..=u64::MAX,
            k if k <= reached(low) => {
                let shift = blocks.iter().map(|counts| counts.shift).max().unwrap_or(0);
                let bin = last(low >> shift..=high >> shift, |bin| k <= reached(bin << shift));
                if shift == 0 {
                    return Ok(Some(Cut::new(bin, k - bin.checked_add(1).map_or(above, reached), blocks)));
                }
                low.max(bin << shift)..=high.min(bin << shift | ((1 << shift) - 1))
            }
            k if k > found => return Err(too_few),
            k if low == 1 => return Ok(Some(Cut::new(0, k - reached(low), blocks))),
            _ => 1..=low - 1,
        };
        if self.is_certain && (*next.start() < low || *next.end() > high) {
            return Err(too_few);
        }
        (self.range, self.is_certain) = (next, true);
        Ok(None)
    }

    /// Takes the counts of all blocks for a search [for all larger keys](Search::for_all_larger). Returns the k largest keys,
    /// descending, each with how many of them are equal to it, or widens the range for another walk.
    ///
    /// # Errors
    /// [`TooFew`].
    pub fn largest(&mut self, blocks: &[Counts]) -> Result<Option<Vec<(u64, u64)>>, TooFew> {
        let mut bins = Vec::new();
        for counts in blocks {
            let larger = counts.bins.iter().skip(1).map(|bin| bin.count).chain([0]);
            bins.extend(counts.bins.iter().zip(larger).map(|(bin, larger)| Bin { count: bin.count - larger, ..*bin }));
        }
        bins.par_sort_unstable_by(|a, b| b.key.cmp(&a.key));
        join_equal(&mut bins);
        if *self.range.start() == 1 {
            bins.push(Bin { key: 0, count: sum(blocks, |counts| counts.outside.below) });
        }
        let mut left = self.k;
        let of_bin = |bin: Bin| {
            let count = bin.count.min(left);
            left -= count;
            (count > 0).then_some((bin.key, count))
        };
        let largest = bins.into_iter().map_while(of_bin).collect();
        match left {
            0 => Ok(Some(largest)),
            _ if *self.range.start() == 1 => Err(TooFew { k: self.k, found: self.k - left }),
            _ => {
                self.range = 1..=u64::MAX;
                Ok(None)
            }
        }
    }
}

/// The last key of `keys` for which `is_in` is true. It is true for the first key, and false from some key on.
fn last(keys: RangeInclusive<u64>, is_in: impl Fn(u64) -> bool) -> u64 {
    let (mut first, mut last) = keys.into_inner();
    while first < last {
        let middle = last - (last - first) / 2;
        if is_in(middle) {
            first = middle;
        } else {
            last = middle - 1;
        }
    }
    first
}

/// Which keys are the k largest: those above `key`, and the first ones, in order of blocks and positions, of those equal to it.
#[derive(Debug, Clone)]
pub struct Cut {
    key: u64,
    shares: Vec<Share>,
}

/// How many of the k largest keys are in one block.
#[derive(Debug, Clone, Copy)]
struct Share {
    keys: u64,
    /// How many of them equal the cut's key.
    ties: u64,
}

impl Cut {
    /// The cut after the keys above `key` and the first `ties` of those equal to it. In `blocks`, keys from `key` on are counted apart.
    pub fn new(key: u64, ties: u64, blocks: &[Counts]) -> Self {
        let mut left = ties;
        let mut share = |counts: &Counts| {
            let larger = key.checked_add(1).map_or(0, |next| counts.from(next));
            // Keys of 0 are below any range.
            let equal = if key == 0 { counts.outside.below } else { counts.from(key) - larger };
            let ties = equal.min(left);
            left -= ties;
            Share { keys: counts.outside.above + larger + ties, ties }
        };
        Self { key, shares: blocks.iter().map(&mut share).collect() }
    }

    /// The number of keys above the cut in the block with index `at`.
    pub fn keys_in(&self, at: usize) -> u64 {
        self.shares[at].keys
    }

    /// Whether keys of 0 are above the cut in the block with index `at`.
    pub fn takes_zeros_of(&self, at: usize) -> bool {
        self.key == 0 && self.shares[at].ties > 0
    }

    /// As [`Cut::in_block`], for elements that are told in sets.
    pub fn sets_in_block(&self, at: usize) -> CutOfSets {
        match self.shares[at].ties {
            // No key between the cut's and the next one exists.
            0 => CutOfSets { smallest: self.key.saturating_add(1), left: u64::MAX },
            ties => CutOfSets { smallest: self.key, left: ties },
        }
    }

    /// Tells which keys of the block with index `at` are above the cut.
    pub fn in_block(&self, at: usize) -> CutInBlock {
        CutInBlock { key: self.key, ties: self.shares[at].ties }
    }
}

/// A cut in one block, while its keys are walked in order of positions.
#[derive(Debug)]
pub struct CutInBlock {
    key: u64,
    ties: u64,
}

impl CutInBlock {
    /// No other keys can be above the cut.
    pub fn range(&self) -> RangeInclusive<u64> {
        self.key.saturating_add(u64::from(self.ties == 0))..=u64::MAX
    }

    /// Whether the next key of the range is above the cut.
    #[inline]
    pub fn takes(&mut self, key: u64) -> bool {
        let is_tie = key == self.key && self.ties > 0;
        self.ties -= u64::from(is_tie);
        is_tie || key > self.key
    }
}

/// A cut in one block, while its elements are walked in order of positions, in sets of those whose key is equal.
#[derive(Debug)]
pub struct CutOfSets {
    smallest: u64,
    left: u64,
}

impl CutOfSets {
    /// The smallest key that elements above the cut can have. All elements with a larger one are above the cut.
    pub fn smallest(&self) -> u64 {
        self.smallest
    }

    /// Which of the next elements that have the [smallest](Self::smallest) key are above the cut.
    #[inline]
    pub fn takes(&mut self, equal: Flags) -> Flags {
        let taken = flags::first(equal, self.left);
        self.left -= u64::from(taken.count_ones());
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a walk over `blocks` counts for a step of `search`.
    fn count(search: &Search, blocks: &[Vec<u64>]) -> Vec<Counts> {
        let of_block = |keys: &Vec<u64>| {
            let (mut counter, mut outside) = (search.counter(), Outside::default());
            keys.iter().filter(|key| outside.admit(**key, &search.range())).for_each(|key| counter.add(*key));
            counter.finish(outside)
        };
        blocks.iter().map(of_block).collect()
    }

    /// The cut that a search finds, and the number of walks.
    fn find(mut search: Search, blocks: &[Vec<u64>]) -> Result<(Cut, usize), TooFew> {
        let mut walks = 0;
        loop {
            walks += 1;
            if let Some(cut) = search.step(&count(&search, blocks))? {
                return Ok((cut, walks));
            }
        }
    }

    /// The block and position of each key above `cut`.
    fn above(cut: &Cut, blocks: &[Vec<u64>]) -> Vec<(usize, usize)> {
        let in_block = |at: usize| {
            let mut cut = cut.in_block(at);
            let is_above = |key: &u64| cut.range().contains(key) && cut.takes(*key);
            blocks[at]
                .iter()
                .map(is_above)
                .enumerate()
                .filter(|(_, above)| *above)
                .map(|(position, _)| position)
                .collect()
        };
        let positions: Vec<Vec<usize>> = (0..blocks.len()).map(in_block).collect();
        for (at, positions) in positions.iter().enumerate() {
            assert_eq!(positions.len() as u64, cut.keys_in(at));
        }
        positions.into_iter().enumerate().flat_map(|(at, own)| own.into_iter().map(move |own| (at, own))).collect()
    }

    fn by_sorting(blocks: &[Vec<u64>], k: usize) -> Vec<(usize, usize)> {
        let place = |(at, keys): (usize, &Vec<u64>)| {
            keys.iter()
                .enumerate()
                .map(move |(position, key)| (std::cmp::Reverse(*key), at, position))
                .collect::<Vec<_>>()
        };
        let mut all: Vec<_> = blocks.iter().enumerate().flat_map(place).collect();
        all.sort_unstable();
        let mut first: Vec<(usize, usize)> = all[..k].iter().map(|(_, at, position)| (*at, *position)).collect();
        first.sort_unstable();
        first
    }

    /// Blocks of keys: all equal, of few values, of powers, and of any value.
    fn blocks() -> impl Strategy<Value = Vec<Vec<u64>>> {
        let of = |key: BoxedStrategy<u64>| prop::collection::vec(prop::collection::vec(key, 0..80), 1..6);
        let few = (0u64..4).boxed();
        let powers = (0u32..64).prop_map(|power| 1 << power).boxed();
        let near = (0u64..200).prop_map(|low| (0x3f80 << 48) + low).boxed();
        let mixed = prop_oneof![0u64..3, any::<u64>(), Just(u64::MAX), Just(7 << 50)].boxed();
        any::<u64>().prop_flat_map(move |one| {
            prop_oneof![
                of(Just(one).boxed()),
                of(few.clone()),
                of(powers.clone()),
                of(near.clone()),
                of(any::<u64>().boxed()),
                of(mixed.clone()),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn the_cut_is_that_of_a_full_sort_whatever_the_sample_says(
            blocks in blocks(),
            k: prop::sample::Index,
            sample in prop::collection::vec(any::<u64>(), 1..100),
            sample_is_true: bool,
            limit in 2usize..200,
        ) {
            let all = blocks.concat();
            let k = k.index(all.len() + 1);
            let sample = if sample_is_true && !all.is_empty() { all.clone() } else { sample };
            let search = Search { limit, ..Search::new(k as u64, all.len() as u64, sample, blocks.len()) };
            let (cut, walks) = find(search, &blocks).unwrap();
            prop_assert_eq!(above(&cut, &blocks), by_sorting(&blocks, k));
            prop_assert!(walks <= 66, "each walk after the first two narrows the range at least by half: {}", walks);
        }

        #[test]
        fn the_largest_keys_are_counted_down_to_the_kth(blocks in blocks(), k: prop::sample::Index, sample: u64) {
            let mut all = blocks.concat();
            let k = k.index(all.len() + 1);
            let mut search = Search::new(k as u64, all.len() as u64, vec![sample; 40], blocks.len()).for_all_larger();
            let largest = match search.largest(&count(&search, &blocks)).unwrap() {
                Some(largest) => largest,
                None => search.largest(&count(&search, &blocks)).unwrap().unwrap(),
            };
            all.sort_unstable_by(|a, b| b.cmp(a));
            let runs: Vec<(u64, u64)> = all[..k].chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u64)).collect();
            prop_assert_eq!(largest, runs);
        }
    }

    #[test]
    fn keys_that_are_massively_equal_take_one_walk_and_one_bin() {
        // A third of all keys are equal to the one that is searched.
        let keys: Vec<u64> = (0..30_000).map(|at| if at % 3 == 0 { 5 << 52 } else { at << 45 }).collect();
        let larger = keys.iter().filter(|key| **key > 5 << 52).count() as u64;
        let search = Search::new(larger + 5_000, 30_000, keys.clone(), 2);
        assert_eq!(search.range(), 5 << 52..=5 << 52);
        let blocks = [keys[..15_000].to_vec(), keys[15_000..].to_vec()];
        assert!(count(&search, &blocks).iter().all(|counts| counts.bins.len() == 1));
        let (cut, walks) = find(search, &blocks).unwrap();
        assert_eq!(walks, 1);
        assert_eq!(cut.keys_in(0) + cut.keys_in(1), larger + 5_000);
    }

    #[test]
    fn a_counter_holds_no_more_bins_than_it_may() {
        let mut counter = Counter { bins: Vec::new(), shift: 0, limit: 100, full: FULL_MIN };
        (0..100_000u64).for_each(|at| counter.add(crate::random::number(7, at)));
        assert!(counter.bins.len() <= FULL_MIN && counter.bins.capacity() <= 2 * FULL_MIN);
        let counts = counter.finish(Outside::default());
        assert!((50..=100).contains(&counts.bins.len()), "{}", counts.bins.len());
        assert_eq!(counts.from(0), 100_000);
    }

    #[test]
    fn more_than_there_are_and_keys_that_change_between_walks_are_errors() {
        let search = || Search { limit: 1, ..Search::new(2, 3, vec![1, 2, 3], 1) };
        let too_few = Search::new(4, 3, vec![1, 2, 3], 1);
        assert_eq!(find(too_few, &[vec![1, 2, 3]]).unwrap_err(), TooFew { k: 4, found: 3 });
        let too_few = Search::new(4, 3, vec![1, 2, 3], 1).for_all_larger();
        assert_eq!({ too_few }.largest(&[]).unwrap_err(), TooFew { k: 4, found: 0 });
        // As of a file that another program writes meanwhile: the second largest key is known to be 8 to 15.
        for (changed, found) in [([1, 2, 3], 1), ([16, 17, 18], 1), ([0, 0, 0], 1)] {
            let mut search = search();
            assert!(search.step(&count(&search, &[vec![9, 12, 8]])).unwrap().is_none());
            assert_eq!(search.range(), 8..=15);
            assert_eq!(search.step(&count(&search, &[changed.to_vec()])).unwrap_err(), TooFew { k: 2, found });
        }
    }
}

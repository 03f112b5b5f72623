//! Value-based localization (paper eq 2): the k largest |reference - target| over all candidates.
//!
//! The key of an element is |r - t| as a double, rounded once: exact for most pairs of narrow floats, and never out of
//! order. Equal keys rank by tensor name, then flat index.
//!
//! The first pass over the checkpoints finds where the ranking is cut, and the second one reads the selected elements
//! (`mask/top_k.rs`). [`mod@differences`] computes the keys.

mod differences;
mod shortlist;

use super::Impossible;
use super::room::Room;
use super::scan::elements_in;
use crate::context::{Cancelled, Context};
use crate::format::block::{BlockId, block_range};
use crate::mask::flags::Flags;
use crate::mask::top_k::{Counter, Counts, Cut, Search};
use crate::mask::{PairMasks, Scope, ranking};
use crate::pair::Pair;
pub(crate) use differences::Part;
use differences::{Differences, Finder};
use rayon::prelude::*;
pub(crate) use shortlist::Shortlist;

/// How many weights to select.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// This many in all.
    Count(u64),
    /// This share of the candidates (of each tensor, in [`Scope::Tensor`]), rounded to the nearest count, at least 1 if there
    /// are any.
    Density(Density),
}

/// A share of the candidates, above 0 and at most 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Density(f64);

impl Density {
    /// `None` unless `0 < share <= 1`.
    pub fn new(share: f64) -> Option<Self> {
        (share > 0.0 && share <= 1.0).then_some(Self(share))
    }

    /// The share.
    pub fn share(self) -> f64 {
        self.0
    }
}

impl Amount {
    /// The count that this is of `candidates` elements.
    ///
    /// # Errors
    /// [`Impossible::TooMany`].
    pub(crate) fn of(self, candidates: u64) -> Result<u64, Impossible> {
        let k = match self {
            Amount::Count(k) => k,
            Amount::Density(density) => ((density.0 * candidates as f64).round() as u64).max(1).min(candidates),
        };
        if k > candidates { Err(Impossible::TooMany { k, candidates }) } else { Ok(k) }
    }
}

/// Tensors whose elements are ranked together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankingGroup {
    /// Indices of the tensors in their pair, ascending.
    pub tensors: Vec<usize>,
    /// Where the selection ends in the ranking.
    pub cutoff: Cutoff,
}

/// Where the selection ends in a ranking by key, largest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cutoff {
    /// After this many elements.
    Largest(u64),
    /// After the elements whose key is above `key`, and the first `ties` elements whose key equals it.
    Above {
        /// The smallest selected key.
        key: u64,
        /// The number of selected elements whose key equals `key`.
        ties: u64,
        /// The number of selected elements.
        k: u64,
    },
}

impl Cutoff {
    /// The number of selected elements.
    pub fn k(self) -> u64 {
        match self {
            Cutoff::Largest(k) | Cutoff::Above { k, .. } => k,
        }
    }
}

/// Groups the float tensors `candidates` by `scope`; `amount` gives the cutoff of each group.
///
/// # Errors
/// [`Impossible::TooMany`].
pub fn groups(
    pair: &Pair<'_>,
    candidates: &[usize],
    amount: Amount,
    scope: Scope,
) -> Result<Vec<RankingGroup>, Impossible> {
    let tensors: Vec<&[usize]> = match scope {
        Scope::Global => vec![candidates],
        Scope::Tensor => candidates.chunks(1).collect(),
    };
    let group = |tensors: &[usize]| {
        let elements = tensors.iter().map(|tensor| pair.tensors[*tensor].compared()).sum();
        Ok(RankingGroup { tensors: tensors.to_vec(), cutoff: Cutoff::Largest(amount.of(elements)?) })
    };
    tensors.into_iter().map(group).collect()
}

/// The elements of a pair of checkpoints with the largest |reference - target|.
pub(crate) struct Largest<'a> {
    groups: Vec<(Differences<'a>, Cut)>,
    /// The blocks with a selected element, ascending.
    blocks: Vec<LargestInBlock>,
}

/// The selected elements of one block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LargestInBlock {
    /// Which block it is.
    pub id: BlockId,
    /// The number of selected elements, at least 1.
    pub elements: u64,
    /// Whether elements that do not differ are among them, because more are asked for than differ.
    pub has_unchanged: bool,
    group: usize,
    /// The block's index in its group.
    at: usize,
}

impl<'a> Largest<'a> {
    fn new(groups: Vec<(Differences<'a>, Cut)>) -> Self {
        let mut blocks = Vec::new();
        for (group, (differences, cut)) in groups.iter().enumerate() {
            for (at, id) in differences.blocks.iter().enumerate() {
                let (elements, has_unchanged) = (cut.keys_in(at), cut.takes_zeros_of(at));
                blocks.push(LargestInBlock { id: *id, elements, has_unchanged, group, at });
            }
        }
        blocks.retain(|block| block.elements > 0);
        blocks.sort_unstable_by_key(|block| block.id);
        Self { groups, blocks }
    }

    /// The blocks with a selected element, ascending.
    pub fn blocks(&self) -> &[LargestInBlock] {
        &self.blocks
    }

    /// Reads a block with selected elements. Calls `each` with consecutive parts of it, and with the selected elements of the part.
    ///
    /// # Errors
    /// [`Impossible`]: a mask that cannot be read, or cancellation.
    pub fn read(&self, block: LargestInBlock, mut each: impl FnMut(Part<'_>, &[Flags])) -> Result<(), Impossible> {
        let (differences, cut) = &self.groups[block.group];
        let mut cut = cut.sets_in_block(block.at);
        let smallest = cut.smallest();
        let mut selected = Vec::new();
        differences.read(block.id, smallest..=smallest, |part, found| {
            selected.clear();
            let flags = found.above().iter().zip(found.equal());
            selected.extend(flags.map(|(above, equal)| above | cut.takes(*equal)));
            each(part, &selected);
            Ok(())
        })?;
        Ok(())
    }

    /// Whether [`Largest::read_listed`] can be called: whether all selected elements of the block are in its `shortlist`.
    pub fn is_listed(&self, block: LargestInBlock, shortlist: &Shortlist) -> bool {
        let (_, cut) = &self.groups[block.group];
        !block.has_unchanged && shortlist.is_complete_from(*cut.in_block(block.at).range().start())
    }

    /// Reads the target's side of a block alone. Calls `each` with consecutive parts of it: the position of the part's first element, its
    /// bytes, the indices of the selected elements in it, ascending, and the reference's bit patterns of these.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn read_listed(
        &self,
        block: LargestInBlock,
        shortlist: &Shortlist,
        mut each: impl FnMut(u32, &[u8], &[u32], &[u64]),
    ) -> Result<(), Cancelled> {
        let (differences, cut) = &self.groups[block.group];
        let mut cut = cut.in_block(block.at);
        let target = differences.pair.tensors[block.id.tensor].target;
        let elements = block_range(block.id.index, target.info.elements());
        let width = target.info.dtype.width();
        let value = |bits: u64| target.info.dtype.float().map_or(0.0, |float| float.value(bits));
        let mut rest = shortlist.entries().peekable();
        let (mut buffer, mut indices, mut reference) = (Vec::new(), Vec::new(), Vec::new());
        for window in target.element_windows(elements.clone()) {
            let [first, end] = [window.start, window.end].map(|element| (element - elements.start) as u32);
            let bytes = target.read_to(window.clone(), &mut buffer);
            indices.clear();
            reference.clear();
            while let Some((position, bits)) = rest.next_if(|(position, _)| *position < end) {
                let index = position - first;
                let key = (value(bits) - value(width.load(bytes, index as usize))).abs().to_bits();
                if cut.takes(key) {
                    indices.push(index);
                    reference.push(bits);
                }
            }
            each(first, bytes, &indices, &reference);
            differences.context.advance(bytes.len() as u64)?;
            target.release(window);
        }
        Ok(())
    }
}

/// Bytes that shortlists may take together, and how many more for each element that is asked for.
const SHORTLIST_BYTES: (u64, u64) = (16 << 20, 20);

/// A search for the elements with the largest |reference - target|, for which all blocks are read once and their keys counted.
pub(crate) struct LargestSearch<'a> {
    differences: Vec<Differences<'a>>,
    cutoffs: Vec<Cutoff>,
    searches: Vec<Search>,
    group_of: Vec<Option<usize>>,
    /// How many bytes more shortlists may take.
    room: Room,
}

impl<'a> LargestSearch<'a> {
    /// For the elements that each of `groups` selects within `blocks` of the pair; with `masks`, only of those that both masks keep.
    /// `has_shortlists` says whether those that may be selected are listed, where they are few.
    pub fn new(
        pair: &'a Pair<'a>,
        blocks: &[BlockId],
        groups: &[RankingGroup],
        masks: Option<&'a PairMasks<'a>>,
        has_shortlists: bool,
        context: &'a Context<'a>,
    ) -> Self {
        let differences = differences(pair, blocks, groups, masks, context);
        let search = |(group, differences): (&RankingGroup, &Differences<'_>)| match group.cutoff {
            Cutoff::Largest(k) => ranking::search(k, differences, blocks.len()),
            Cutoff::Above { key, .. } => Search::at(key),
        };
        let searches = groups.iter().zip(&differences).map(search).collect();
        let cutoffs = groups.iter().map(|group| group.cutoff).collect();
        let k = groups.iter().fold(0u64, |k, group| k.saturating_add(group.cutoff.k()));
        let (bytes, bytes_each) = SHORTLIST_BYTES;
        let room = if has_shortlists { bytes.saturating_add(bytes_each.saturating_mul(k)) } else { 0 };
        Self { differences, cutoffs, searches, group_of: group_of_tensor(pair, groups), room: Room::new(room) }
    }

    /// Counts the keys of a block while it is read; `None` if no element of its tensor is ranked.
    ///
    /// # Errors
    /// [`Impossible`]: a mask that cannot be read, or cancellation.
    pub fn counter(&self, id: BlockId) -> Result<Option<BlockCounter<'_>>, Impossible> {
        let Some(group) = self.group_of[id.tensor] else { return Ok(None) };
        let (search, differences) = (&self.searches[group], &self.differences[group]);
        let finder = differences.finder(id, search.range())?;
        let takes_all = search.takes_all() && differences.masks.is_none();
        let width = differences.pair.tensors[id.tensor].dtype().width();
        let has_shortlist = !search.takes_all() && self.room.is_left();
        let shortlist = has_shortlist.then(|| Shortlist::new(*search.range().start(), width));
        let (width, keys, room) = (width.bytes(), search.counter(), &self.room);
        Ok(Some(BlockCounter { group, width, takes_all, finder, keys, shortlist, room }))
    }

    /// Ends the search with the counts of all blocks that have any. In most cases they tell where the rankings are cut; otherwise
    /// blocks are read again.
    ///
    /// # Errors
    /// [`Impossible`]: a candidate that is not finite, more elements asked for than there are, or cancellation.
    pub fn finish(self, counts: impl IntoIterator<Item = BlockCounts>) -> Result<Largest<'a>, Impossible> {
        let Self { differences, cutoffs, searches, .. } = self;
        let mut counts_of: Vec<Vec<Counts>> = cutoffs.iter().map(|_| Vec::new()).collect();
        counts.into_iter().for_each(|BlockCounts { group, counts }| counts_of[group].push(counts));
        let cut = |(((cutoff, differences), search), counts): (((Cutoff, _), _), Vec<Counts>)| {
            let cut = match cutoff {
                Cutoff::Largest(_) => ranking::finish(search, counts, &differences)?,
                Cutoff::Above { key, ties, .. } => Cut::new(key, ties, &counts),
            };
            Ok((differences, cut))
        };
        let cuts = cutoffs.into_par_iter().zip(differences).zip(searches).zip(counts_of).map(cut);
        Ok(Largest::new(cuts.collect::<Result<Vec<_>, Impossible>>()?))
    }
}

/// Counts the keys of one block.
pub(crate) struct BlockCounter<'a> {
    group: usize,
    /// Bytes of an element.
    width: usize,
    takes_all: bool,
    finder: Finder<'a>,
    keys: Counter,
    shortlist: Option<Shortlist>,
    room: &'a Room,
}

impl BlockCounter<'_> {
    /// Whether most likely all elements that differ will be selected, because more are asked for.
    pub fn takes_all(&self) -> bool {
        self.takes_all
    }

    /// Checks that the next part of the block is finite, and counts its keys.
    ///
    /// # Errors
    /// [`Impossible::NotFinite`].
    pub fn add(&mut self, part: Part<'_>) -> Result<(), Impossible> {
        self.finder.check_finite(part)?;
        let found = self.finder.count(part, &mut self.keys);
        let Some(shortlist) = &mut self.shortlist else { return Ok(()) };
        let before = shortlist.bytes();
        shortlist.add(part, found.reaching());
        let end = part.first as usize + part.target.len() / self.width;
        if !self.room.take(shortlist.bytes() - before) {
            self.shortlist = None;
        } else if !shortlist.is_short(end) {
            self.room.give_back(shortlist.bytes());
            self.shortlist = None;
        }
        Ok(())
    }

    /// The counts, once all parts are added, and the elements that may be selected, if there are few.
    pub fn finish(self) -> (BlockCounts, Option<Shortlist>) {
        (BlockCounts { group: self.group, counts: self.keys.finish(self.finder.outside()) }, self.shortlist)
    }
}

/// The keys of one block, counted.
pub(crate) struct BlockCounts {
    group: usize,
    counts: Counts,
}

/// The largest keys of each of `groups` within `blocks` of the pair, descending, each with the number of elements that have it: as
/// many elements as the group selects, or all if there are fewer.
///
/// # Errors
/// As [`LargestSearch::finish`].
pub(crate) fn largest(
    pair: &Pair<'_>,
    blocks: &[BlockId],
    groups: &[RankingGroup],
    context: &Context<'_>,
) -> Result<Vec<Vec<(u64, u64)>>, Impossible> {
    let groups = limited_to(blocks, pair, groups);
    let differences = differences(pair, blocks, &groups, None, context);
    groups.iter().zip(&differences).map(|(group, keys)| ranking::largest(group.cutoff.k(), keys)).collect()
}

/// The same groups, none of which selects more elements than it has in `blocks`.
fn limited_to(blocks: &[BlockId], pair: &Pair<'_>, groups: &[RankingGroup]) -> Vec<RankingGroup> {
    let mut elements_of = vec![0; pair.tensors.len()];
    blocks.iter().for_each(|block| elements_of[block.tensor] += elements_in(pair, std::slice::from_ref(block)));
    let limit = |group: &RankingGroup| {
        let available = group.tensors.iter().map(|tensor| elements_of[*tensor]).sum();
        RankingGroup { cutoff: Cutoff::Largest(group.cutoff.k().min(available)), ..group.clone() }
    };
    groups.iter().map(limit).collect()
}

/// The differences in `blocks`, for each of `groups`.
fn differences<'a>(
    pair: &'a Pair<'a>,
    blocks: &[BlockId],
    groups: &[RankingGroup],
    masks: Option<&'a PairMasks<'a>>,
    context: &'a Context<'a>,
) -> Vec<Differences<'a>> {
    let group_of = group_of_tensor(pair, groups);
    let mut differences: Vec<Differences<'a>> =
        groups.iter().map(|_| Differences { pair, blocks: Vec::new(), masks, context }).collect();
    for block in blocks {
        if let Some(group) = group_of[block.tensor] {
            differences[group].blocks.push(*block);
        }
    }
    differences
}

/// For each tensor of the pair, the index of the group that ranks it, if one does.
fn group_of_tensor(pair: &Pair<'_>, groups: &[RankingGroup]) -> Vec<Option<usize>> {
    let mut group_of = vec![None; pair.tensors.len()];
    for (index, group) in groups.iter().enumerate() {
        group.tensors.iter().for_each(|tensor| group_of[*tensor] = Some(index));
    }
    group_of
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;
    use crate::localize::scan::{BlockDigests, PairDigests, scan};
    use crate::mask::flags;
    use crate::pair::PairOptions;
    use crate::testing::{checkpoint, vector};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn of_bits(dtype: Dtype, bits: &[u64]) -> crate::checkpoint::Checkpoint {
        checkpoint(&[vector("w", dtype, bits)])
    }

    /// Finite bits of about the size of weights, some of them equal.
    fn weights(dtype: Dtype, n: usize, seed: u64) -> Vec<u64> {
        let float = dtype.float().unwrap();
        let value = |at: usize| (crate::random::number(seed, at as u64) % 4001) as f64 / 2000.0 - 1.0;
        let bits = |at| match float.round(value(at)) {
            crate::dtype::Rounded::Finite(bits) | crate::dtype::Rounded::NotFinite(bits) => bits,
        };
        (0..n).map(bits).collect()
    }

    fn by_sorting(dtype: Dtype, target: &[u64], reference: &[u64], k: usize) -> Vec<u32> {
        let float = dtype.float().unwrap();
        let difference = |at: u32| (float.value(reference[at as usize]) - float.value(target[at as usize])).abs();
        let mut all: Vec<u32> = (0..target.len() as u32).collect();
        all.sort_by(|a, b| difference(*b).total_cmp(&difference(*a)).then(a.cmp(b)));
        all.truncate(k);
        all.sort_unstable();
        all
    }

    fn select<'a>(
        pair: &'a Pair<'a>,
        groups: &[RankingGroup],
        context: &'a Context<'a>,
    ) -> Result<(Largest<'a>, Vec<BlockDigests>), Impossible> {
        let (largest, _, digests) = select_and_list(pair, groups, context)?;
        Ok((largest, digests))
    }

    /// Also returns the shortlist of each block that has one.
    #[allow(clippy::type_complexity)]
    fn select_and_list<'a>(
        pair: &'a Pair<'a>,
        groups: &[RankingGroup],
        context: &'a Context<'a>,
    ) -> Result<(Largest<'a>, BTreeMap<BlockId, Shortlist>, Vec<BlockDigests>), Impossible> {
        let blocks = blocks(pair);
        let search = LargestSearch::new(pair, &blocks, groups, None, true, context);
        let (found, digests) = scan(pair, &blocks, |block| {
            let mut counter = search.counter(block.id)?;
            let digests = block.read(context, |first, target, reference| {
                counter.as_mut().map_or(Ok(()), |counter| counter.add(Part { first, target, reference }))
            })?;
            Ok::<_, Impossible>((counter.map(|counter| (block.id, counter.finish())), digests))
        })?;
        let (mut counts, mut shortlists) = (Vec::new(), BTreeMap::new());
        for (id, (counted, shortlist)) in found.into_iter().flatten() {
            counts.push(counted);
            shortlists.extend(shortlist.map(|shortlist| (id, shortlist)));
        }
        Ok((search.finish(counts)?, shortlists, digests))
    }

    /// The selected elements as the tensor, block and position of each, if the bytes that are read with them are those of the tensor.
    fn read(largest: &Largest<'_>, pair: &Pair<'_>) -> Vec<(usize, u64, u32)> {
        let mut selected = Vec::new();
        for block in largest.blocks() {
            let BlockId { tensor, index } = block.id;
            let (mut target, mut reference) = (Vec::new(), Vec::new());
            let before = selected.len();
            let read = largest.read(*block, |part, flags| {
                assert_eq!(part.first as usize * pair.tensors[tensor].dtype().width().bytes(), target.len());
                flags::indices(flags, |at| selected.push((tensor, index, part.first + at)));
                target.extend_from_slice(part.target);
                reference.extend_from_slice(part.reference);
            });
            assert_eq!(read, Ok(()));
            assert_eq!((selected.len() - before) as u64, block.elements);
            let elements = crate::format::block::block_range(index, pair.tensors[tensor].target.info.elements());
            assert_eq!(target, pair.tensors[tensor].target.elements(elements.clone()));
            assert_eq!(reference, pair.tensors[tensor].reference_elements(elements, &mut Vec::new()));
        }
        selected
    }

    fn blocks(pair: &Pair<'_>) -> Vec<BlockId> {
        super::super::scan::blocks_of(pair, 0..pair.tensors.len())
    }

    const FLOATS: [Dtype; 6] = [Dtype::F32, Dtype::Bf16, Dtype::F16, Dtype::F64, Dtype::F8E4M3, Dtype::F8E5M2];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn selects_what_sorting_selects_and_hashes_all(
            dtype in prop::sample::select(FLOATS.to_vec()),
            n in 1usize..4000,
            share in 0usize..=100,
            differ in 0u64..5,
            seed: u64,
            distribution in 0..4,
        ) {
            let target = weights(dtype, n, seed);
            let other: Vec<u64> = match distribution {
                // Differences of one, two and about a hundred sizes, and any.
                0 => target.iter().map(|bits| bits ^ 1).collect(),
                1 => target.iter().map(|bits| bits ^ (1 + bits % 2)).collect(),
                2 => target.iter().map(|bits| bits & !0 << (dtype.width().bits() / 4)).collect(),
                _ => weights(dtype, n, seed ^ 1),
            };
            let pick = |at: usize| crate::random::number(!seed, at as u64) % 4 < differ;
            let reference: Vec<u64> = (0..n).map(|at| if pick(at) { other[at] } else { target[at] }).collect();
            let (target_file, reference_file) = (of_bits(dtype, &target), of_bits(dtype, &reference));
            let pair = Pair::new(&target_file, &reference_file, &PairOptions::default()).unwrap();
            let k = n * share / 100;
            let groups = groups(&pair, &[0], Amount::Count(k as u64), Scope::Global).unwrap();
            let silent = Context::silent();
            let (selected, digests) = select(&pair, &groups, &silent).unwrap();
            let positions: Vec<u32> = read(&selected, &pair).into_iter().map(|(.., position)| position).collect();
            prop_assert_eq!(&positions, &by_sorting(dtype, &target, &reference, k));
            let found = PairDigests::join([1], &digests);
            prop_assert_eq!(found.0[0].target, pair.tensors[0].target.digest(&silent).unwrap());
            prop_assert_eq!(found.0[0].reference, pair.tensors[0].reference.digest(&silent).unwrap());

            // A shard that is told the cut selects the same.
            let largest = largest(&pair, &blocks(&pair), &groups, &silent).unwrap();
            if let Some((key, ties)) = largest[0].last().copied() {
                let cutoff = Cutoff::Above { key, ties, k: k as u64 };
                let groups = [RankingGroup { cutoff, ..groups[0].clone() }];
                let (again, _) = select(&pair, &groups, &silent).unwrap();
                prop_assert_eq!(read(&again, &pair), read(&selected, &pair));
            }
        }
    }

    #[test]
    fn a_shortlist_gives_what_reading_both_sides_gives() {
        let (n, silent) = (150_000, Context::silent());
        for (dtype, k) in FLOATS.into_iter().flat_map(|dtype| [1, n / 200, n / 50].map(|k| (dtype, k))) {
            let target = weights(dtype, n, 1);
            let other = weights(dtype, n, 2);
            // One weight in forty changes, all at random, or by one of few amounts.
            let change = |at: usize| if k == n / 50 { target[at] ^ 3 } else { other[at] };
            let reference: Vec<u64> = (0..n).map(|at| if at % 40 == 7 { change(at) } else { target[at] }).collect();
            let (target_file, reference_file) = (of_bits(dtype, &target), of_bits(dtype, &reference));
            let pair = Pair::new(&target_file, &reference_file, &PairOptions::default()).unwrap();
            let groups = groups(&pair, &[0], Amount::Count(k as u64), Scope::Global).unwrap();
            let (largest, shortlists, _) = select_and_list(&pair, &groups, &silent).unwrap();
            let block = largest.blocks()[0];
            let shortlist = &shortlists[&block.id];
            assert!(largest.is_listed(block, shortlist), "{k} of {dtype}");
            let (mut listed, mut bytes) = (Vec::new(), Vec::new());
            let read_listed = largest.read_listed(block, shortlist, |first, part, indices, bits| {
                listed.extend(indices.iter().map(|index| first + index).zip(bits.iter().copied()));
                bytes.extend_from_slice(part);
            });
            assert_eq!(read_listed, Ok(()));
            let selected = read(&largest, &pair).into_iter().map(|(.., position)| position);
            assert_eq!(listed, selected.map(|at| (at, reference[at as usize])).collect::<Vec<_>>(), "{k} of {dtype}");
            assert_eq!(bytes, pair.tensors[0].target.elements(0..n as u64));
        }
    }

    #[test]
    fn equal_differences_rank_by_tensor_and_index_across_the_blocks_of_a_tensor() {
        let n = crate::format::block::BLOCK_ELEMENTS as usize + 3;
        let tensors = |bits: u64| {
            checkpoint(&[vector("a", Dtype::F8E4M3, &vec![bits; n]), vector("b", Dtype::F8E4M3, &[bits; 4])])
        };
        // All weights of 1.0 and 1.25, so that all differences are the same.
        let (target, reference) = (tensors(0x38), tensors(0x3a));
        let pair = Pair::new(&target, &reference, &PairOptions::default()).unwrap();
        let context = Context::silent();
        for (k, in_blocks) in
            [(1, vec![1]), (n - 2, vec![n - 3, 1]), (n + 1, vec![n - 3, 3, 1]), (n + 4, vec![n - 3, 3, 4])]
        {
            let groups = groups(&pair, &[0, 1], Amount::Count(k as u64), Scope::Global).unwrap();
            let (largest, _) = select(&pair, &groups, &context).unwrap();
            let found: Vec<usize> = largest.blocks().iter().map(|block| block.elements as usize).collect();
            assert_eq!(found, in_blocks, "{k} elements");
            let selected = read(&largest, &pair);
            assert_eq!(selected.last().unwrap().2 as usize, in_blocks.last().unwrap() - 1);
        }
    }

    #[test]
    fn tensors_are_ranked_apart_in_one_pass() {
        let target = crate::testing::floats(&[("a", &[0.0; 3]), ("b", &[0.0; 3]), ("c", &[0.0; 3])]);
        let reference = crate::testing::floats(&[("a", &[1.0, 2.0, 3.0]), ("b", &[9.0; 3]), ("c", &[0.0, 0.0, 1e-40])]);
        let pair = Pair::new(&target, &reference, &PairOptions::default()).unwrap();
        let context = Context::silent();
        let groups = groups(&pair, &[0, 2], Amount::Count(2), Scope::Tensor).unwrap();
        let (largest, _) = select(&pair, &groups, &context).unwrap();
        assert_eq!(read(&largest, &pair), [(0, 0, 1), (0, 0, 2), (2, 0, 0), (2, 0, 2)]);
    }

    #[test]
    fn a_density_is_rounded_to_a_count_of_at_least_one() {
        let density = |share| Amount::Density(Density::new(share).unwrap());
        assert_eq!([0.004, 0.015, 0.5, 1.0].map(|share| density(share).of(100)), [Ok(1), Ok(2), Ok(50), Ok(100)]);
        assert_eq!(Amount::Count(101).of(100), Err(Impossible::TooMany { k: 101, candidates: 100 }));
        assert!([0.0, -0.1, 1.1, f64::NAN].into_iter().all(|share| Density::new(share).is_none()));
    }

    #[test]
    fn scope_decides_which_tensors_are_ranked_together() {
        let tensors = [("a", &[0.0; 10][..]), ("b", &[0.0; 4])];
        let (target, reference) = (crate::testing::floats(&tensors), crate::testing::floats(&tensors));
        let pair = Pair::new(&target, &reference, &PairOptions::default()).unwrap();
        let half = Amount::Density(Density::new(0.5).unwrap());
        let k = |scope| groups(&pair, &[0, 1], half, scope).unwrap().iter().map(|g| g.cutoff.k()).collect::<Vec<u64>>();
        assert_eq!((k(Scope::Global), k(Scope::Tensor)), (vec![7], vec![5, 2]));
    }

    #[test]
    fn a_weight_that_is_not_finite_is_named_by_tensor_index_and_side() {
        let (target, reference) = ([0.0f32, 1.0, 2.0], [0.0f32, 1.0, f32::INFINITY]);
        let (target, reference) =
            (crate::testing::floats(&[("w", &target)]), crate::testing::floats(&[("w", &reference)]));
        let pair = Pair::new(&target, &reference, &PairOptions::default()).unwrap();
        let groups = groups(&pair, &[0], Amount::Count(1), Scope::Global).unwrap();
        let error = select(&pair, &groups, &Context::silent()).err();
        let expected =
            Impossible::NotFinite { tensor: "w".to_owned(), index: 2, side: "reference", value: f64::INFINITY };
        assert_eq!(error, Some(expected));
    }
}

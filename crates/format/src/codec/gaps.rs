//! Positions in a block, encoded as gaps (spec §9.3, §9.4).
//!
//! A gap is the number of unselected elements *of the same group* between two selected elements of that group (or before the first
//! one). With a single group, gaps are the distances between neighbouring positions. With groups of exponents they are much cheaper to
//! encode, because the probability that a weight changes depends on its exponent; but reader and writer must then walk the base's
//! elements.
//!
//! A walk processes a stride of elements at a time and counts the members of each group in it. The loops are written so that compilers
//! vectorize them; `multiversion` compiles them a second and third time for wider vectors and picks the version at run time.

use super::groups::{self, Partition, Sequences};
use super::{Corrupt, Effort};
use crate::dtype::Classes;
use multiversion::multiversion;

/// Number of elements in a stride, so that a `u64` holds a set of them.
const STRIDE: usize = 64;
/// 0, 1, 2, ..., the indices of the elements of a stride.
const INDICES: [u8; STRIDE] = {
    let mut indices = [0; STRIDE];
    let mut index = 0;
    while index < STRIDE {
        indices[index] = index as u8;
        index += 1;
    }
    indices
};

/// A word in which each byte is 1.
const ONES: u64 = u64::MAX / 255;
/// A word in which the highest bit of each byte is set.
const HIGHS: u64 = ONES << 7;

/// Encodes ascending `positions` without the base (spec §9.3).
pub fn encode(positions: &[u32], effort: Effort) -> Vec<u8> {
    groups::encode_whole(&gaps(positions), effort)
}

/// The number of elements between each of the ascending `positions` and the one before it.
pub fn gaps(positions: &[u32]) -> Vec<u32> {
    let first = positions.first().copied();
    first.into_iter().chain(positions.windows(2).map(|pair| pair[1] - pair[0] - 1)).collect()
}

/// Decodes `count` ascending positions, each below `elements`.
///
/// # Errors
/// Every [`Corrupt`].
pub fn decode(bytes: &[u8], count: usize, elements: u32) -> Result<Vec<u32>, Corrupt> {
    let mut numbers = groups::decode::<u32>(bytes, 1, count)?.into_numbers();
    let mut next = 0u64;
    for number in &mut numbers {
        let position = next + u64::from(*number);
        *number = position as u32;
        next = position + 1;
    }
    // Positions ascend, so checking the last one checks all.
    if next > u64::from(elements) { Err(Corrupt::PastEnd { elements: elements.into() }) } else { Ok(numbers) }
}

/// The type of a class in [`Classes`], one lane of a vector.
trait Lane: Copy + Ord + Into<u16> {
    fn low(class: u16) -> Self;
}

impl Lane for u8 {
    fn low(class: u16) -> Self {
        class as u8
    }
}

impl Lane for u16 {
    fn low(class: u16) -> Self {
        class
    }
}

/// Number of elements in a stride whose class is at most `last`.
#[inline(always)]
fn up_to<L: Lane>(stride: &[L; STRIDE], last: L) -> u32 {
    stride.iter().fold(0u8, |count, class| count + u8::from(*class <= last)).into()
}

/// The first and the last class of each group.
#[derive(Debug, Clone)]
struct Bounds(Vec<(u16, u16)>);

impl Bounds {
    fn new(partition: &Partition) -> Self {
        let mut first = 0;
        let bounds = (0..partition.groups()).map(|group| {
            let last = partition.last_class(group);
            (std::mem::replace(&mut first, last + 1), last)
        });
        Self(bounds.collect())
    }

    fn first_and_last<L: Lane>(&self, group: usize) -> (L, L) {
        let (first, last) = self.0[group];
        (L::low(first), L::low(last))
    }

    fn lasts<L: Lane>(&self) -> Vec<L> {
        self.0.iter().map(|(_, last)| L::low(*last)).collect()
    }
}

/// Computes the gaps of each group while walking the elements of a block.
#[derive(Debug, Clone)]
pub struct GroupedGaps {
    gaps: Sequences<u32>,
    bounds: Bounds,
    /// For each group, the number of its members that the walk has passed.
    passed: Vec<u32>,
    /// For each group, the value of `passed` just after its latest selected member.
    latest: Vec<u32>,
    /// For each group, the index of its next gap in `gaps`.
    next: Vec<usize>,
}

impl GroupedGaps {
    /// Begins at a block's first element. `selected_per_class` counts the selected elements of the whole block by class.
    pub fn new(partition: Partition, selected_per_class: &[u64]) -> Self {
        let groups = partition.groups();
        let gaps = Sequences::zeros(partition, selected_per_class);
        let (bounds, next) = (Bounds::new(gaps.partition()), gaps.starts());
        Self { gaps, bounds, passed: vec![0; groups], latest: vec![0; groups], next }
    }

    /// Walks the next elements of the block, which begin at position `start` and have these `classes`. `positions` are the selected ones
    /// of them, ascending. Gaps for which [`GroupedGaps::new`] left no room, because the base changed since then, are left out; whoever
    /// mapped the base finds out that it changed.
    pub fn walk(&mut self, start: u32, classes: &Classes, positions: &[u32]) {
        compute_gaps(self, start, classes, positions);
    }

    /// Encodes the gaps (spec §9.4).
    pub fn encode(self, effort: Effort) -> Vec<u8> {
        self.gaps.encode(effort)
    }

    /// Records that a member of `group` is selected, which has `before` members of the group before it.
    #[inline(always)]
    fn select(&mut self, group: usize, before: u32) {
        if let Some(gap) = self.gaps.numbers_mut().get_mut(self.next[group]) {
            *gap = before - self.latest[group];
        }
        self.next[group] += 1;
        self.latest[group] = before + 1;
    }

    #[inline(always)]
    fn walk_lanes<L: Lane>(&mut self, start: u32, classes: &[L], positions: &[u32]) {
        let lasts: Vec<L> = self.bounds.lasts();
        let mut positions = positions.iter().peekable();
        let (strides, rest) = classes.as_chunks::<STRIDE>();
        let mut first = start;
        for stride in strides {
            while let Some(position) = positions.next_if(|position| **position < first + STRIDE as u32) {
                let selected = (position - first) as u8;
                let group = self.gaps.partition().group(stride[usize::from(selected)].into());
                let (low, high) = self.bounds.first_and_last::<L>(group);
                let before = stride.iter().zip(&INDICES).fold(0u8, |count, (class, index)| {
                    count + u8::from((*class >= low) & (*class <= high) & (*index < selected))
                });
                self.select(group, self.passed[group] + u32::from(before));
            }
            let mut below = 0;
            for (passed, last) in self.passed.iter_mut().zip(&lasts) {
                let up_to = up_to(stride, *last);
                *passed += up_to - below;
                below = up_to;
            }
            first += STRIDE as u32;
        }
        for (position, class) in (first..).zip(rest) {
            let group = self.gaps.partition().group((*class).into());
            if positions.next_if_eq(&&position).is_some() {
                self.select(group, self.passed[group]);
            }
            self.passed[group] += 1;
        }
    }
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+bmi1+bmi2+lzcnt+popcnt",
    "x86_64+avx2+bmi1+bmi2+lzcnt+popcnt"
))]
fn compute_gaps(gaps: &mut GroupedGaps, start: u32, classes: &Classes, positions: &[u32]) {
    match classes {
        Classes::Narrow(classes) => gaps.walk_lanes(start, classes, positions),
        Classes::Wide(classes) => gaps.walk_lanes(start, classes, positions),
    }
}

/// The value of [`GroupedPositions::left`] for a group without further selected members.
const NEVER: u64 = u64::MAX;

/// Number of strides that are processed together.
const STRIDES: usize = 64;

/// Positions are written in chunks of this size; excess ones are overwritten. This is faster than a loop of unknown length.
const POSITIONS_CHUNK: usize = 4;

/// Recovers positions from gaps while walking the elements of a block.
///
/// For each group it counts the members in each of the next `STRIDES` strides, and then steps from one selected member to the next.
/// The stride of a selected member follows from its rank and these counts.
#[derive(Debug)]
pub struct GroupedPositions {
    gaps: Sequences<u32>,
    bounds: Bounds,
    /// For each group, the number of unselected members before its next selected one.
    left: Vec<u64>,
    /// For each group, the index in `gaps` of the gap after that selected member.
    next: Vec<usize>,
    /// The positions found so far, followed by room for all others and for one chunk.
    positions: Vec<u32>,
    /// Number of positions found so far.
    found: usize,
}

impl GroupedPositions {
    /// Decodes `count` gaps over `classes` classes.
    ///
    /// # Errors
    /// Every [`Corrupt`].
    pub fn decode(bytes: &[u8], classes: usize, count: usize) -> Result<Self, Corrupt> {
        let gaps = groups::decode(bytes, classes, count)?;
        let mut decoder = Self {
            bounds: Bounds::new(gaps.partition()),
            left: vec![0; gaps.partition().groups()],
            next: gaps.starts(),
            gaps,
            positions: vec![0; count + POSITIONS_CHUNK],
            found: 0,
        };
        (0..decoder.left.len()).for_each(|group| decoder.left[group] = decoder.next_gap(group));
        Ok(decoder)
    }

    /// Walks the next elements of the block, which begin at position `start` and have these `classes`. Returns the selected positions
    /// among them, ascending.
    pub fn walk(&mut self, start: u32, classes: &Classes) -> &[u32] {
        let before = self.found;
        // Nothing is left to find after the last selected element, which can be far from the end of the block.
        if self.found < self.gaps.numbers().len() {
            find_positions(self, start, classes);
        }
        &self.positions[before..self.found]
    }

    /// Returns all positions, ascending, after `elements` elements were walked.
    ///
    /// # Errors
    /// [`Corrupt::PastEnd`] if gaps are left over: they are not those of this base.
    pub fn finish(mut self, elements: u32) -> Result<Vec<u32>, Corrupt> {
        if self.found < self.gaps.numbers().len() {
            return Err(Corrupt::PastEnd { elements: elements.into() });
        }
        self.positions.truncate(self.found);
        Ok(self.positions)
    }

    /// The next gap of `group`, or [`NEVER`] after its last one.
    #[inline(always)]
    fn next_gap(&mut self, group: usize) -> u64 {
        let index = self.next[group];
        if index == self.gaps.ends()[group] {
            return NEVER;
        }
        self.next[group] += 1;
        u64::from(self.gaps.numbers()[index])
    }

    #[inline(always)]
    fn walk_lanes<L: Lane>(&mut self, start: u32, classes: &[L]) {
        let lasts: Vec<L> = self.bounds.lasts();
        for (first, part) in (start..).step_by(STRIDES * STRIDE).zip(classes.chunks(STRIDES * STRIDE)) {
            let (strides, rest) = part.as_chunks::<STRIDE>();
            let mut selected = [0; STRIDES];
            let mut below = [0; STRIDES];
            for (group, last) in lasts.iter().enumerate() {
                let mut ends = [0; STRIDES];
                let mut passed = 0;
                for (end, stride) in ends.iter_mut().zip(strides) {
                    passed += up_to(stride, *last) as u16;
                    *end = passed;
                }
                // Missing strides at the end of the part have no members.
                ends[strides.len()..].fill(passed);
                self.select(group, strides, &below, &ends, &mut selected);
                below = ends;
            }
            for (first, set) in (first..).step_by(STRIDE).zip(&selected[..strides.len()]) {
                self.push_set(first, *set);
            }
            for (position, class) in (first + (part.len() - rest.len()) as u32..).zip(rest) {
                let group = self.gaps.partition().group((*class).into());
                match self.left[group] {
                    0 => {
                        self.push_set(position, 1);
                        self.left[group] = self.next_gap(group);
                    }
                    NEVER => {}
                    left => self.left[group] = left - 1,
                }
            }
        }
    }

    /// Adds the selected members of `group` in at most [`STRIDES`] strides to the sets in `selected`, one per stride. `below[i]` and
    /// `with[i]` are the cumulative numbers of elements through stride `i` in the groups below `group`, and in these and `group`.
    #[inline(always)]
    fn select<L: Lane>(
        &mut self,
        group: usize,
        strides: &[[L; STRIDE]],
        below: &[u16; STRIDES],
        with: &[u16; STRIDES],
        selected: &mut [u64; STRIDES],
    ) {
        let members = u64::from(with[STRIDES - 1] - below[STRIDES - 1]);
        let mut left = self.left[group];
        if left < members {
            let (low, high) = self.bounds.first_and_last::<L>(group);
            let mut ends = [0; STRIDES + 1];
            for (end, (with, below)) in ends[1..].iter_mut().zip(with.iter().zip(below)) {
                *end = with - below;
            }
            let numbers = &self.gaps.numbers()[self.next[group]..self.gaps.ends()[group]];
            let mut gaps = numbers.iter();
            while left < members {
                let rank = left as u16;
                let stride = ends[1..].partition_point(|end| *end <= rank);
                selected[stride] |= 1 << index_of_rank(&strides[stride], low, high, rank - ends[stride]);
                left = gaps.next().map_or(NEVER, |gap| left + 1 + u64::from(*gap));
            }
            self.next[group] += numbers.len() - gaps.len();
        }
        self.left[group] = if left == NEVER { NEVER } else { left - members };
    }

    /// Appends the positions in `set`, where bit i stands for position `first + i`.
    #[inline(always)]
    fn push_set(&mut self, first: u32, mut set: u64) {
        let mut found = self.found;
        self.found += set.count_ones() as usize;
        loop {
            for position in &mut self.positions[found..found + POSITIONS_CHUNK] {
                *position = first + set.trailing_zeros();
                set &= set.wrapping_sub(1);
            }
            if set == 0 {
                break;
            }
            found += POSITIONS_CHUNK;
        }
    }
}

/// The index in `stride` of the element that has `rank` elements with classes from `low` to `high` before it, and such a class itself.
#[inline(always)]
fn index_of_rank<L: Lane>(stride: &[L; STRIDE], low: L, high: L, rank: u16) -> usize {
    let is_member = stride.map(|class| u8::from((class >= low) & (class <= high)));
    let (words, _) = is_member.as_chunks::<8>();
    let words: [u64; STRIDE / 8] = std::array::from_fn(|word| u64::from_le_bytes(words[word]));
    let counts = words.map(|word| word.count_ones() as u8);
    // Multiplication by `ONES` gives the cumulative sums of the bytes.
    let sums = u64::from_le_bytes(counts).wrapping_mul(ONES);
    let word = first_above(sums, rank);
    let before = (sums << 8 >> (8 * word) & 0xff) as u16;
    8 * word + first_above(words[word as usize & 7].wrapping_mul(ONES), rank - before)
}

/// The index of the first byte of `sums` that is greater than `count`; all bytes are below 128.
#[inline(always)]
fn first_above(sums: u64, count: u16) -> usize {
    (((sums | HIGHS).wrapping_sub(u64::from(count + 1).wrapping_mul(ONES)) & HIGHS).trailing_zeros() / 8) as usize
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+bmi1+bmi2+lzcnt+popcnt",
    "x86_64+avx2+bmi1+bmi2+lzcnt+popcnt"
))]
fn find_positions(decoder: &mut GroupedPositions, start: u32, classes: &Classes) {
    match classes {
        Classes::Narrow(classes) => decoder.walk_lanes(start, classes),
        Classes::Wide(classes) => decoder.walk_lanes(start, classes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The gaps by the definition in the spec, element by element.
    fn by_the_spec(classes: &[u16], positions: &[u32], partition: &Partition) -> Vec<u32> {
        let mut groups = vec![(0, Vec::new()); partition.groups()];
        for (position, class) in (0u32..).zip(classes) {
            let (unselected, gaps) = &mut groups[partition.group(*class)];
            if positions.contains(&position) {
                gaps.push(std::mem::take(unselected));
            } else {
                *unselected += 1;
            }
        }
        groups.into_iter().flat_map(|(_, gaps)| gaps).collect()
    }

    fn lanes(classes: &[u16], wide: bool) -> Classes {
        let narrow = || classes.iter().map(|class| *class as u8).collect();
        if wide { Classes::Wide(classes.to_vec()) } else { Classes::Narrow(narrow()) }
    }

    proptest! {
        #[test]
        fn positions_come_back_with_and_without_groups(
            elements in prop::collection::vec((0u16..256, any::<bool>(), 0u8..20), 1..3000),
            spread in prop::sample::select(vec![1u16, 4, 16, 256]),
            sparse: bool,
            wide: bool,
            split in 0usize..3000,
        ) {
            let positions: Vec<u32> = (0u32..).zip(&elements)
                .filter(|(_, (_, selected, rare))| if sparse { *rare == 0 } else { *selected })
                .map(|(i, _)| i).collect();
            let n = elements.len() as u32;
            let bytes = encode(&positions, Effort::Default);
            prop_assert_eq!(decode(&bytes, positions.len(), n), Ok(positions.clone()));

            let classes: Vec<u16> = elements.iter().map(|(class, ..)| class % spread).collect();
            let mut counts = vec![0; 256];
            positions.iter().for_each(|p| counts[usize::from(classes[*p as usize])] += 1);
            let partition = Partition::of_counts(&counts);
            let split = split.min(elements.len());
            let cut = positions.partition_point(|p| (*p as usize) < split);
            let (first, second) = classes.split_at(split);
            let (first, second) = (lanes(first, wide), lanes(second, wide));
            let mut gaps = GroupedGaps::new(partition.clone(), &counts);
            gaps.walk(0, &first, &positions[..cut]);
            gaps.walk(split as u32, &second, &positions[cut..]);
            prop_assert_eq!(gaps.gaps.numbers(), by_the_spec(&classes, &positions, &partition));
            let bytes = gaps.encode(Effort::Default);
            let mut found = GroupedPositions::decode(&bytes, 256, positions.len()).unwrap();
            found.walk(0, &first);
            found.walk(split as u32, &second);
            prop_assert_eq!(found.finish(n), Ok(positions));
        }

        #[test]
        fn all_compiled_versions_agree(
            classes in prop::collection::vec(0u16..16, 1..1000),
            picks in prop::collection::vec(0u8..8, 1000),
            wide: bool,
        ) {
            let positions: Vec<u32> = (0..classes.len() as u32).filter(|p| picks[*p as usize] == 0).collect();
            let mut counts = vec![0; 16];
            positions.iter().for_each(|p| counts[usize::from(classes[*p as usize])] += 1);
            let n = classes.len() as u32;
            let lanes = lanes(&classes, wide);
            let begin = || GroupedGaps::new(Partition::of_counts(&counts), &counts);
            let (mut fastest, mut portable) = (begin(), begin());
            compute_gaps(&mut fastest, 0, &lanes, &positions);
            match &lanes {
                Classes::Narrow(lanes) => portable.walk_lanes(0, lanes, &positions),
                Classes::Wide(lanes) => portable.walk_lanes(0, lanes, &positions),
            }
            prop_assert_eq!(&fastest.gaps, &portable.gaps);
            let bytes = fastest.encode(Effort::Default);
            let begin = || GroupedPositions::decode(&bytes, 16, positions.len()).unwrap();
            let (mut fastest, mut portable) = (begin(), begin());
            find_positions(&mut fastest, 0, &lanes);
            match &lanes {
                Classes::Narrow(lanes) => portable.walk_lanes(0, lanes),
                Classes::Wide(lanes) => portable.walk_lanes(0, lanes),
            }
            prop_assert_eq!(fastest.finish(n), portable.finish(n));
        }

        #[test]
        fn gaps_of_another_base_are_refused_or_give_positions_in_the_block(
            gaps in prop::collection::vec(prop_oneof![0u32..40, any::<u32>()], 0..100),
            classes in prop::collection::vec(0u16..4, 1..300),
            counts in prop::collection::vec(0u64..100, 4),
        ) {
            let mut counts = counts;
            let mut left = gaps.len() as u64;
            for count in &mut counts {
                *count = left.min(*count);
                left -= *count;
            }
            counts[3] += left;
            let mut sequences = Sequences::zeros(Partition::of_counts(&counts), &counts);
            sequences.numbers_mut().copy_from_slice(&gaps);
            let mut found = GroupedPositions::decode(&sequences.encode(Effort::Default), 4, gaps.len()).unwrap();
            found.walk(0, &lanes(&classes, false));
            if let Ok(positions) = found.finish(classes.len() as u32) {
                prop_assert_eq!(positions.len(), gaps.len());
                prop_assert_eq!(by_the_spec(&classes, &positions, sequences.partition()), gaps);
            }
        }
    }

    #[test]
    fn refuses_positions_past_the_end() {
        let bytes = encode(&[0, 5], Effort::Default);
        assert_eq!(decode(&bytes, 2, 5), Err(Corrupt::PastEnd { elements: 5 }));
        let mut found = GroupedPositions::decode(&bytes, 1, 2).unwrap();
        found.walk(0, &Classes::Narrow(vec![0; 5]));
        assert_eq!(found.finish(5), Err(Corrupt::PastEnd { elements: 5 }));
    }
}

//! Positions in a block as gaps (spec §9.3, §9.4).
//!
//! A gap is the number of unselected elements *of the same group* before a selected one, counted from the previous
//! selected one of that group. With a single group that is the distance between neighbours. With groups of exponents
//! it is far cheaper, because how likely a weight is to change hangs on its exponent; but both sides must then walk
//! the base's elements.
//!
//! A walk takes a stride of elements at a time, and counts in it the members of each group. The counting is written so
//! that compilers make vector instructions of it; `multiversion` adds versions for wider vectors than every processor of
//! the architecture has. All versions are the same code.

use super::groups::{self, Partition, Sequences};
use super::{Corrupt, Effort};
use crate::dtype::Classes;
use multiversion::multiversion;

/// Elements of a stride: as many as a set of them has bits.
const STRIDE: usize = 64;
const PLACES: [u8; STRIDE] = {
    let mut places = [0; STRIDE];
    let mut at = 0;
    while at < STRIDE {
        places[at] = at as u8;
        at += 1;
    }
    places
};

/// One in each byte of a word.
const ONES: u64 = u64::MAX / 255;
/// The highest bit of each byte of a word.
const HIGHS: u64 = ONES << 7;

/// Codes ascending `positions` without looking at the base (spec §9.3).
pub fn encode(positions: &[u32], effort: Effort) -> Vec<u8> {
    groups::encode_whole(&gaps(positions), effort)
}

/// The number of elements before each of the ascending `positions`, counted from the one before it.
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
    // They ascend: if the last one is below, all are.
    if next > u64::from(elements) { Err(Corrupt::PastEnd { elements: elements.into() }) } else { Ok(numbers) }
}

/// A class as it lies in [`Classes`].
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

/// The members of a stride up to a class.
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

    fn of<L: Lane>(&self, group: usize) -> (L, L) {
        let (first, last) = self.0[group];
        (L::low(first), L::low(last))
    }

    fn lasts<L: Lane>(&self) -> Vec<L> {
        self.0.iter().map(|(_, last)| L::low(*last)).collect()
    }
}

/// Gathers gaps for each group while walking the elements of a block.
#[derive(Debug, Clone)]
pub struct GroupedGaps {
    gaps: Sequences<u32>,
    bounds: Bounds,
    /// For each group, the members passed.
    passed: Vec<u32>,
    /// For each group, the members passed at its latest selected one, that one included.
    latest: Vec<u32>,
    /// For each group, where its next gap goes.
    next: Vec<usize>,
}

impl GroupedGaps {
    /// Begins at a block's first element. `selected_per_class` are all that will be found.
    pub fn new(partition: Partition, selected_per_class: &[u64]) -> Self {
        let groups = partition.groups();
        let gaps = Sequences::zeros(partition, selected_per_class);
        let (bounds, next) = (Bounds::new(gaps.partition()), gaps.starts());
        Self { gaps, bounds, passed: vec![0; groups], latest: vec![0; groups], next }
    }

    /// Walks the next elements, from position `start` on, of which `positions` (ascending, all within) are selected.
    ///
    /// # Panics
    /// When more elements are selected than [`GroupedGaps::new`] was told.
    pub fn walk(&mut self, start: u32, classes: &Classes, positions: &[u32]) {
        gather(self, start, classes, positions);
    }

    /// The coded form (spec §9.4).
    pub fn encode(self, effort: Effort) -> Vec<u8> {
        self.gaps.encode(effort)
    }

    #[inline(always)]
    fn select(&mut self, group: usize, before: u32) {
        self.gaps.numbers_mut()[self.next[group]] = before - self.latest[group];
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
                let place = (position - first) as u8;
                let group = self.gaps.partition().group(stride[usize::from(place)].into());
                let (low, high) = self.bounds.of::<L>(group);
                let before = stride.iter().zip(&PLACES).fold(0u8, |count, (class, other)| {
                    count + u8::from((*class >= low) & (*class <= high) & (*other < place))
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
fn gather(gaps: &mut GroupedGaps, start: u32, classes: &Classes, positions: &[u32]) {
    match classes {
        Classes::Narrow(classes) => gaps.walk_lanes(start, classes, positions),
        Classes::Wide(classes) => gaps.walk_lanes(start, classes, positions),
    }
}

/// What is left before the next selected member of a group that has none.
const NEVER: u64 = u64::MAX;

/// Strides that are looked at together.
const STRIDES: usize = 64;

/// Positions that are written together, whether so many are found or not.
const TOGETHER: usize = 4;

/// Finds positions again while walking the elements of a block.
///
/// Of each group it counts the members of the next `STRIDES` strides, and then goes from selected one to selected one: which
/// stride it is in is how many of them end before it.
#[derive(Debug)]
pub struct GroupedPositions {
    gaps: Sequences<u32>,
    bounds: Bounds,
    /// For each group, the members before its next selected one.
    left: Vec<u64>,
    /// For each group, where the gap after that is.
    next: Vec<usize>,
    /// Those that are found, and room for the others.
    positions: Vec<u32>,
    found: usize,
}

impl GroupedPositions {
    /// Decodes `count` gaps over `classes` classes.
    ///
    /// # Errors
    /// Every [`Corrupt`].
    pub fn decode(bytes: &[u8], classes: usize, count: usize) -> Result<Self, Corrupt> {
        let gaps = groups::decode(bytes, classes, count)?;
        let mut found = Self {
            bounds: Bounds::new(gaps.partition()),
            left: vec![0; gaps.partition().groups()],
            next: gaps.starts(),
            gaps,
            positions: vec![0; count + TOGETHER],
            found: 0,
        };
        (0..found.left.len()).for_each(|group| found.left[group] = found.pull(group, 0));
        Ok(found)
    }

    /// Walks the next elements, from position `start` on. Returns the positions found in them, ascending.
    pub fn walk(&mut self, start: u32, classes: &Classes) -> &[u32] {
        let before = self.found;
        // Most of a block's end, where few are selected.
        if self.found < self.gaps.numbers().len() {
            find(self, start, classes);
        }
        &self.positions[before..self.found]
    }

    /// The positions found, ascending.
    ///
    /// # Errors
    /// [`Corrupt::PastEnd`] when gaps are left over: they do not belong to these `elements`.
    pub fn finish(mut self, elements: u32) -> Result<Vec<u32>, Corrupt> {
        if self.found < self.gaps.numbers().len() {
            return Err(Corrupt::PastEnd { elements: elements.into() });
        }
        self.positions.truncate(self.found);
        Ok(self.positions)
    }

    /// The members before the next selected one of `group`, when there are `before` without the gap.
    #[inline(always)]
    fn pull(&mut self, group: usize, before: u64) -> u64 {
        let at = self.next[group];
        if at == self.gaps.ends()[group] {
            return NEVER;
        }
        self.next[group] += 1;
        before + u64::from(self.gaps.numbers()[at])
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
                // Strides that are none end after every member.
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
                        self.left[group] = self.pull(group, 0);
                    }
                    NEVER => {}
                    left => self.left[group] = left - 1,
                }
            }
        }
    }

    /// Adds the selected members of `group` in at most [`STRIDES`] strides to the `selected` sets. Up to the end of each stride there
    /// are so many elements of the groups `below`, and with this one.
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
            let (low, high) = self.bounds.of::<L>(group);
            let mut ends = [0; STRIDES + 1];
            for (end, (with, below)) in ends[1..].iter_mut().zip(with.iter().zip(below)) {
                *end = with - below;
            }
            let numbers = &self.gaps.numbers()[self.next[group]..self.gaps.ends()[group]];
            let mut gaps = numbers.iter();
            while left < members {
                let rank = left as u16;
                let stride = ends[1..].partition_point(|end| *end <= rank);
                selected[stride] |= 1 << place(&strides[stride], low, high, rank - ends[stride]);
                left = gaps.next().map_or(NEVER, |gap| left + 1 + u64::from(*gap));
            }
            self.next[group] += numbers.len() - gaps.len();
        }
        self.left[group] = if left == NEVER { NEVER } else { left - members };
    }

    /// Appends the positions from `first` on that are in `set`.
    #[inline(always)]
    fn push_set(&mut self, first: u32, mut set: u64) {
        let mut found = self.found;
        self.found += set.count_ones() as usize;
        loop {
            for position in &mut self.positions[found..found + TOGETHER] {
                *position = first + set.trailing_zeros();
                set &= set.wrapping_sub(1);
            }
            if set == 0 {
                break;
            }
            found += TOGETHER;
        }
    }
}

/// The place in `stride` of its member that has `rank` others before it.
#[inline(always)]
fn place<L: Lane>(stride: &[L; STRIDE], low: L, high: L, rank: u16) -> usize {
    let own = stride.map(|class| u8::from((class >= low) & (class <= high)));
    let words: [u64; 8] = std::array::from_fn(|at| u64::from_le_bytes(*own[at * 8..].first_chunk().unwrap()));
    let counts = words.map(|word| word.count_ones() as u8);
    // Multiplying by ones sums up, byte by byte.
    let sums = u64::from_le_bytes(counts).wrapping_mul(ONES);
    let word = first_above(sums, rank);
    let before = (sums << 8 >> (8 * word) & 0xff) as u16;
    8 * word + first_above(words[word as usize & 7].wrapping_mul(ONES), rank - before)
}

/// The place of the first byte of `sums` above `count`, all of them below 128.
#[inline(always)]
fn first_above(sums: u64, count: u16) -> usize {
    (((sums | HIGHS).wrapping_sub(u64::from(count + 1).wrapping_mul(ONES)) & HIGHS).trailing_zeros() / 8) as usize
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+bmi1+bmi2+lzcnt+popcnt",
    "x86_64+avx2+bmi1+bmi2+lzcnt+popcnt"
))]
fn find(found: &mut GroupedPositions, start: u32, classes: &Classes) {
    match classes {
        Classes::Narrow(classes) => found.walk_lanes(start, classes),
        Classes::Wide(classes) => found.walk_lanes(start, classes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gaps as the spec has them, element by element.
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
        fn the_versions_for_every_processor_agree(
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
            gather(&mut fastest, 0, &lanes, &positions);
            match &lanes {
                Classes::Narrow(lanes) => portable.walk_lanes(0, lanes, &positions),
                Classes::Wide(lanes) => portable.walk_lanes(0, lanes, &positions),
            }
            prop_assert_eq!(&fastest.gaps, &portable.gaps);
            let bytes = fastest.encode(Effort::Default);
            let begin = || GroupedPositions::decode(&bytes, 16, positions.len()).unwrap();
            let (mut fastest, mut portable) = (begin(), begin());
            find(&mut fastest, 0, &lanes);
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

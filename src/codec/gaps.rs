//! Positions in a block as gaps (spec §9.3, §9.4).
//!
//! A gap is the number of unselected elements *of the same group* before a selected one, counted from the previous
//! selected one of that group. With a single group that is the distance between neighbours. With groups of exponents
//! it is far cheaper, because how likely a weight is to change hangs on its exponent; but both sides must then walk
//! the base's elements.

use super::Corrupt;
use super::groups::{self, Partition};

/// Gaps are coded as numbers of this many bits.
pub const GAP_BITS: u32 = 32;

/// Codes ascending `positions` without looking at the base (spec §9.3).
pub fn encode(positions: &[u32]) -> Vec<u8> {
    let mut next = 0;
    let gaps = positions
        .iter()
        .map(|position| {
            let gap = position - next;
            next = position + 1;
            u64::from(gap)
        })
        .collect();
    groups::encode(&Partition::whole(1), &[gaps], GAP_BITS)
}

/// Decodes `count` ascending positions, each below `elements`.
///
/// # Errors
/// Every [`Corrupt`].
pub fn decode(bytes: &[u8], count: usize, elements: u32) -> Result<Vec<u32>, Corrupt> {
    let (_, sequences) = groups::decode(bytes, 1, count, GAP_BITS)?;
    let mut next = 0u64;
    let mut positions = Vec::with_capacity(count);
    for gap in sequences.iter().flatten() {
        let position = next + gap;
        if position >= u64::from(elements) {
            return Err(Corrupt::PastEnd { elements: elements.into() });
        }
        positions.push(position as u32);
        next = position + 1;
    }
    Ok(positions)
}

/// Gathers gaps for each group while walking the elements of a block.
pub struct GroupedGaps<'a> {
    partition: &'a Partition,
    unselected: Vec<u64>,
    gaps: Vec<Vec<u64>>,
}

impl<'a> GroupedGaps<'a> {
    /// Begins at a block's first element.
    pub fn new(partition: &'a Partition) -> Self {
        let groups = partition.groups();
        Self { partition, unselected: vec![0; groups], gaps: vec![Vec::new(); groups] }
    }

    /// Walks the next elements, from position `start` on, of which `positions` (ascending, all within) are selected.
    pub fn walk(&mut self, start: u32, classes: &[u16], positions: &[u32]) {
        let mut at = 0;
        for position in positions {
            let selected = (position - start) as usize;
            self.pass(&classes[at..selected]);
            let group = self.partition.group(classes[selected]);
            self.gaps[group].push(std::mem::take(&mut self.unselected[group]));
            at = selected + 1;
        }
        self.pass(&classes[at..]);
    }

    #[inline]
    fn pass(&mut self, unselected: &[u16]) {
        for class in unselected {
            self.unselected[self.partition.group(*class)] += 1;
        }
    }

    /// The coded form (spec §9.4).
    pub fn encode(self) -> Vec<u8> {
        groups::encode(self.partition, &self.gaps, GAP_BITS)
    }
}

/// Finds positions again while walking the elements of a block.
pub struct GroupedPositions {
    partition: Partition,
    /// For each group, unselected elements before its next selected one; `u64::MAX` when there is none.
    countdown: Vec<u64>,
    gaps: Vec<std::vec::IntoIter<u64>>,
    positions: Vec<u32>,
}

impl GroupedPositions {
    /// Decodes `count` gaps over `classes` classes.
    ///
    /// # Errors
    /// Every [`Corrupt`].
    pub fn decode(bytes: &[u8], classes: usize, count: usize) -> Result<Self, Corrupt> {
        let (partition, sequences) = groups::decode(bytes, classes, count, GAP_BITS)?;
        let mut gaps: Vec<_> = sequences.into_iter().map(Vec::into_iter).collect();
        let countdown = gaps.iter_mut().map(|g| g.next().unwrap_or(u64::MAX)).collect();
        Ok(Self { partition, countdown, gaps, positions: Vec::with_capacity(count) })
    }

    /// Walks the next elements, from position `start` on.
    pub fn walk(&mut self, start: u32, classes: &[u16]) {
        for (element, class) in (start..).zip(classes) {
            let group = self.partition.group(*class);
            let countdown = &mut self.countdown[group];
            if *countdown == 0 {
                *countdown = self.gaps[group].next().unwrap_or(u64::MAX);
                self.positions.push(element);
            } else {
                // `u64::MAX` never reaches zero: a block has fewer elements.
                *countdown -= 1;
            }
        }
    }

    /// The positions found, ascending.
    ///
    /// # Errors
    /// [`Corrupt::PastEnd`] when gaps are left over: they do not belong to these `elements`.
    pub fn finish(self, elements: u32) -> Result<Vec<u32>, Corrupt> {
        if self.countdown.iter().zip(&self.gaps).any(|(next, rest)| *next <= u64::from(u32::MAX) || rest.len() > 0) {
            return Err(Corrupt::PastEnd { elements: elements.into() });
        }
        Ok(self.positions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn positions_come_back_with_and_without_groups(
            elements in prop::collection::vec((0usize..16, any::<bool>(), 0u8..20), 1..3000),
            sparse: bool,
            split in 0u32..3000,
        ) {
            let positions: Vec<u32> = (0u32..).zip(&elements)
                .filter(|(_, (_, selected, rare))| if sparse { *rare == 0 } else { *selected })
                .map(|(i, _)| i).collect();
            let n = elements.len() as u32;
            prop_assert_eq!(decode(&encode(&positions), positions.len(), n), Ok(positions.clone()));

            let classes: Vec<u16> = elements.iter().map(|(class, ..)| *class as u16).collect();
            let mut counts = vec![0; 16];
            positions.iter().for_each(|p| counts[usize::from(classes[*p as usize])] += 1);
            let partition = Partition::of_counts(&counts);
            let split = split.min(n);
            let cut = positions.partition_point(|p| *p < split);
            let (first, second) = classes.split_at(split as usize);
            let mut gaps = GroupedGaps::new(&partition);
            gaps.walk(0, first, &positions[..cut]);
            gaps.walk(split, second, &positions[cut..]);
            let bytes = gaps.encode();
            let mut found = GroupedPositions::decode(&bytes, 16, positions.len()).unwrap();
            found.walk(0, first);
            found.walk(split, second);
            prop_assert_eq!(found.finish(n), Ok(positions));
        }
    }

    #[test]
    fn refuses_positions_past_the_end() {
        let bytes = encode(&[0, 5]);
        assert_eq!(decode(&bytes, 2, 5), Err(Corrupt::PastEnd { elements: 5 }));
        let mut found = GroupedPositions::decode(&bytes, 1, 2).unwrap();
        found.walk(0, &[0; 5]);
        assert_eq!(found.finish(5), Err(Corrupt::PastEnd { elements: 5 }));
    }
}

//! Grouped integers (spec §9.2): one sequence for each group of classes, and the table that says which is which.
//!
//! A class is a small number that both sides know of an element (its exponent, [`crate::dtype::Dtype::class`]).
//! Consecutive classes form a [`Partition`] into groups, so that a class too rare to pay for statistics of its own
//! shares its neighbour's. Base-free streams have one class and one group.

use super::reader::Reader;
use super::{Corrupt, pco, rice, varint};

/// The method byte that stands for pco; lower ones are Rice parameters (spec §9.2).
pub const METHOD_PCO: u8 = 64;

/// Selected elements below which a group is not worth its table entry.
/// Sizes of the real pairs change by less than 0.2 % between 16 and 256.
const GROUP_ELEMENTS_MIN: u64 = 64;

/// Numbers below which pco's own table costs more than it saves.
const PCO_NUMBERS_MIN: usize = 192;

/// Which group each class belongs to: groups are runs of consecutive classes, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    group_of_class: Vec<u16>,
    groups: usize,
}

impl Partition {
    /// One group of `classes` classes.
    pub fn whole(classes: usize) -> Self {
        Self { group_of_class: vec![0; classes], groups: 1 }
    }

    /// Groups of neighbouring classes with enough selected elements each, from how many each class has.
    pub fn of_counts(selected_per_class: &[u64]) -> Self {
        let mut left: u64 = selected_per_class.iter().sum();
        let (mut group, mut in_group) = (0u16, 0);
        let mut group_of_class = Vec::with_capacity(selected_per_class.len());
        for count in selected_per_class {
            group_of_class.push(group);
            in_group += count;
            left -= count;
            if in_group >= GROUP_ELEMENTS_MIN && left >= GROUP_ELEMENTS_MIN {
                group += 1;
                in_group = 0;
            }
        }
        Self { group_of_class, groups: usize::from(group) + 1 }
    }

    /// The number of groups, at least 1.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// The group of `class`.
    ///
    /// # Panics
    /// When there is no such class.
    #[inline(always)]
    pub fn group(&self, class: u16) -> usize {
        usize::from(self.group_of_class[usize::from(class)])
    }

    fn span(&self, group: usize) -> u64 {
        self.group_of_class.iter().filter(|g| usize::from(**g) == group).count() as u64
    }
}

/// The coded form of one sequence for each group of `partition`, of numbers below `2^width`.
pub fn encode(partition: &Partition, sequences: &[Vec<u64>], width: u32) -> Vec<u8> {
    let mut out = Vec::new();
    varint::write(&mut out, partition.groups() as u64 - 1);
    let mut rice_bits = rice::Writer::default();
    let mut long: Vec<(Vec<u8>, usize)> = Vec::new();
    for (group, sequence) in sequences.iter().enumerate() {
        if group + 1 < partition.groups() {
            varint::write(&mut out, partition.span(group) - 1);
        }
        varint::write(&mut out, sequence.len() as u64);
        let (parameter, bits) = rice::best_parameter(sequence, width);
        let chunks = (sequence.len() >= PCO_NUMBERS_MIN).then(|| pco::chunks(sequence, width));
        match chunks.filter(|chunks| (chunks.len() as u64) < bits.div_ceil(8)) {
            Some(chunks) => {
                out.push(METHOD_PCO);
                long.push((chunks, sequence.len()));
            }
            None => {
                out.push(parameter as u8);
                sequence.iter().for_each(|value| rice_bits.push(*value, parameter, width));
            }
        }
    }
    out.extend(rice_bits.finish());
    if !long.is_empty() {
        let numbers = long.iter().map(|(_, numbers)| numbers).sum();
        out.extend(pco::file(long.iter().map(|(chunks, _)| &chunks[..]), numbers));
    }
    out
}

/// Decodes one sequence for each group: `total` numbers of `width` bits over `classes` classes.
///
/// Allocates at most 8 bytes for each of the `total` numbers, which the caller has bounded, and 2 for each class.
///
/// # Errors
/// Every [`Corrupt`].
pub fn decode(bytes: &[u8], classes: usize, total: usize, width: u32) -> Result<(Partition, Vec<Vec<u64>>), Corrupt> {
    let mut reader = Reader::new(bytes);
    let groups = reader.varint("groups - 1", 0, classes as u64 - 1)? as usize + 1;
    let mut group_of_class = Vec::with_capacity(classes);
    let mut table = Vec::with_capacity(groups);
    let mut left = total;
    for group in 0..groups {
        if group + 1 < groups {
            // Every later group needs a class too.
            let most = classes - group_of_class.len() - (groups - group);
            let span = reader.varint("span - 1", 0, most as u64)? as usize + 1;
            group_of_class.resize(group_of_class.len() + span, group as u16);
        }
        let count = reader.varint("numbers in a group", 0, left as u64)? as usize;
        left -= count;
        let method = reader.u8("method")?;
        let most = METHOD_PCO as u64;
        if method != METHOD_PCO && u32::from(method) >= width {
            return Err(Corrupt::Range { field: "method", found: method.into(), least: 0, most });
        }
        table.push((count, method));
    }
    group_of_class.resize(classes, groups as u16 - 1);
    if left != 0 {
        return Err(Corrupt::Count {
            field: "numbers in all groups",
            found: (total - left) as u64,
            expected: total as u64,
        });
    }

    let mut sequences = vec![Vec::new(); groups];
    let mut rice_bits = rice::Reader::new(reader.rest());
    for (sequence, (count, method)) in sequences.iter_mut().zip(&table) {
        if *method != METHOD_PCO {
            // Each number takes a bit at least, so the bytes bound what a count may claim.
            sequence.reserve(*count.min(&(bytes.len() * 8)));
            for _ in 0..*count {
                sequence.push(rice_bits.pull(u32::from(*method), width)?);
            }
        }
    }
    let rest = rice_bits.finish()?;
    let long: usize = table.iter().filter(|(_, method)| *method == METHOD_PCO).map(|(count, _)| count).sum();
    if table.iter().all(|(_, method)| *method != METHOD_PCO) {
        Reader::new(rest).finish("Rice-coded numbers")?;
    } else {
        let mut numbers = Vec::new();
        pco::decode(rest, long, width, &mut numbers)?;
        let mut numbers = &numbers[..];
        for (sequence, (count, _)) in sequences.iter_mut().zip(&table).filter(|(_, (_, m))| *m == METHOD_PCO) {
            let (own, others) = numbers.split_at(*count);
            sequence.extend_from_slice(own);
            numbers = others;
        }
    }
    Ok((Partition { group_of_class, groups }, sequences))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(selected_per_class: &[u64], width: u32, seed: u64) {
        let partition = Partition::of_counts(selected_per_class);
        let mut state = seed | 1;
        let mut sequences = vec![Vec::new(); partition.groups()];
        for (class, count) in (0u16..).zip(selected_per_class) {
            for _ in 0..*count {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                sequences[partition.group(class)].push(state >> (64 - width) >> (state % u64::from(width)));
            }
        }
        let total = sequences.iter().map(Vec::len).sum();
        let bytes = encode(&partition, &sequences, width);
        let decoded = decode(&bytes, selected_per_class.len(), total, width);
        assert_eq!(decoded, Ok((partition, sequences)));
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end], selected_per_class.len(), total, width).is_err(), "prefix of {end}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_encoded_is_decoded_and_no_prefix_is(
            counts in prop::collection::vec(prop_oneof![Just(0u64), 0u64..20, 100u64..400], 1..20),
            width in prop::sample::select(vec![16u32, 32, 64]),
            seed: u64,
        ) {
            round_trip(&counts, width, seed);
        }
    }

    #[test]
    fn rare_classes_share_a_group_with_their_neighbours() {
        let partition = Partition::of_counts(&[0, 3, 70, 0, 63, 1, 64, 2]);
        let groups: Vec<usize> = (0..8).map(|class| partition.group(class)).collect();
        assert_eq!(groups, [0, 0, 0, 1, 1, 1, 2, 2]);
        assert_eq!(Partition::of_counts(&[0, 0]), Partition::whole(2));
    }

    #[test]
    fn refuses_totals_that_do_not_add_up() {
        let bytes = encode(&Partition::whole(1), &[vec![1, 2, 3]], 32);
        let wrong = Corrupt::Count { field: "numbers in all groups", found: 3, expected: 4 };
        assert_eq!(decode(&bytes, 1, 4, 32), Err(wrong));
        assert!(matches!(decode(&bytes, 1, 2, 32), Err(Corrupt::Range { .. })));
    }
}

//! Grouped integers (spec §9.2): one sequence for each group of classes, and the table that says which is which.
//!
//! A class is a small number that both sides know of an element (its exponent, [`crate::dtype::Dtype::class`]).
//! Consecutive classes form a [`Partition`] into groups, so that a class too rare to pay for statistics of its own
//! shares its neighbour's. Base-free streams have one class and one group.

use super::reader::Reader;
use super::{Corrupt, Effort, Number, pco, rice, statistics, varint};

/// The method byte that stands for pco; lower ones are Rice parameters (spec §9.2).
pub const METHOD_PCO: u8 = 64;

/// Selected elements below which a group is not worth its table entry.
/// Sizes of the real pairs change by less than 0.2 % between 16 and 256.
const GROUP_ELEMENTS_MIN: u64 = 64;

/// Numbers below which pco's own table costs more than it saves.
const PCO_NUMBERS_MIN: usize = 192;

/// Numbers from which on the estimate of what pco takes is believed when it is below what Rice takes.
const ESTIMATED_NUMBERS_MIN: usize = 2048;

/// How much more than pco Rice may take of a sequence and still be preferred, as 1 of so many: it is several times faster.
const fn rice_tolerance(effort: Effort) -> u64 {
    match effort {
        Effort::Fast => 4,
        Effort::Default => 64,
        Effort::Best => u64::MAX,
    }
}

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

    /// The last class of `group`.
    ///
    /// # Panics
    /// When there is no such group.
    pub fn last_class(&self, group: usize) -> u16 {
        // A group begins where the one before it ends, and each has a class.
        (self.group_of_class.partition_point(|g| usize::from(*g) <= group) - 1) as u16
    }

    fn span(&self, group: usize) -> u64 {
        self.group_of_class.iter().filter(|g| usize::from(**g) == group).count() as u64
    }
}

/// One sequence of numbers for each group of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequences<N> {
    partition: Partition,
    /// The numbers of the first group, then those of the second, and so on.
    numbers: Vec<N>,
    /// Where the numbers of each group end.
    ends: Vec<usize>,
}

impl<N: Number> Sequences<N> {
    /// Zeros: as many for each group as its classes count.
    pub fn zeros(partition: Partition, count_per_class: &[u64]) -> Self {
        let mut counts = vec![0; partition.groups()];
        for (class, count) in (0u16..).zip(count_per_class) {
            counts[partition.group(class)] += *count as usize;
        }
        Self::of_counts(partition, counts)
    }

    fn of_counts(partition: Partition, mut counts: Vec<usize>) -> Self {
        let mut end = 0;
        for count in &mut counts {
            end += *count;
            *count = end;
        }
        Self { partition, numbers: vec![N::default(); end], ends: counts }
    }

    /// The groups.
    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    /// All numbers, group by group, out of their groups.
    pub fn into_numbers(self) -> Vec<N> {
        self.numbers
    }

    /// Where in [`Sequences::numbers`] each group begins.
    pub fn starts(&self) -> Vec<usize> {
        std::iter::once(0).chain(self.ends.iter().copied()).take(self.ends.len()).collect()
    }

    /// Where in [`Sequences::numbers`] each group ends.
    pub fn ends(&self) -> &[usize] {
        &self.ends
    }

    /// All numbers, group by group.
    pub fn numbers(&self) -> &[N] {
        &self.numbers
    }

    /// All numbers, group by group, to be changed.
    pub fn numbers_mut(&mut self) -> &mut [N] {
        &mut self.numbers
    }

    /// About how many bytes the coded form takes.
    pub fn estimated_bytes(&self) -> u64 {
        let groups = self.starts().into_iter().zip(&self.ends);
        groups.map(|(start, end)| estimated_bits(&self.numbers[start..*end])).sum::<u64>().div_ceil(8)
    }

    /// The coded form.
    pub fn encode(&self, effort: Effort) -> Vec<u8> {
        encode(&self.partition, &self.numbers, &self.ends, effort)
    }
}

/// The coded form of a sequence that is one group.
pub fn encode_whole<N: Number>(numbers: &[N], effort: Effort) -> Vec<u8> {
    encode(&Partition::whole(1), numbers, &[numbers.len()], effort)
}

/// About how many bytes [`encode_whole`] gives.
pub fn estimated_bytes<N: Number>(numbers: &[N]) -> u64 {
    estimated_bits(numbers).div_ceil(8)
}

fn estimated_bits<N: Number>(sequence: &[N]) -> u64 {
    if sequence.len() < PCO_NUMBERS_MIN {
        return rice::best_parameter(sequence).1;
    }
    let cost = statistics::cost(sequence);
    cost.rice_bits.min(cost.pco_bits)
}

fn encode<N: Number>(partition: &Partition, numbers: &[N], ends: &[usize], effort: Effort) -> Vec<u8> {
    let mut out = Vec::new();
    varint::write(&mut out, partition.groups() as u64 - 1);
    let mut rice_numbers = rice::Writer::default();
    let mut long: Vec<(Vec<u8>, usize)> = Vec::new();
    let mut start = 0;
    for (group, end) in ends.iter().enumerate() {
        let sequence = &numbers[start..*end];
        start = *end;
        if group + 1 < partition.groups() {
            varint::write(&mut out, partition.span(group) - 1);
        }
        varint::write(&mut out, sequence.len() as u64);
        match method(sequence, effort) {
            Method::Pco(chunks) => {
                out.push(METHOD_PCO);
                long.push((chunks, sequence.len()));
            }
            Method::Rice(parameter) => {
                out.push(parameter as u8);
                sequence.iter().for_each(|number| rice_numbers.push(*number, parameter));
            }
        }
    }
    out.extend(rice_numbers.finish());
    if !long.is_empty() {
        let numbers = long.iter().map(|(_, numbers)| numbers).sum();
        out.extend(pco::file(long.iter().map(|(chunks, _)| &chunks[..]), numbers));
    }
    out
}

enum Method {
    Pco(Vec<u8>),
    Rice(u32),
}

fn method<N: Number>(sequence: &[N], effort: Effort) -> Method {
    let exact = || {
        let (parameter, bits) = rice::best_parameter(sequence);
        (parameter, bits.div_ceil(8))
    };
    if sequence.len() < PCO_NUMBERS_MIN {
        return Method::Rice(exact().0);
    }
    if effort != Effort::Best {
        let cost = statistics::cost(sequence);
        if cost.rice_bits <= cost.pco_bits + cost.pco_bits / rice_tolerance(effort) {
            return Method::Rice(cost.parameter);
        }
        if sequence.len() >= ESTIMATED_NUMBERS_MIN {
            return Method::Pco(pco::chunks(sequence, effort));
        }
    }
    let (chunks, (parameter, bytes)) = (pco::chunks(sequence, effort), exact());
    if (chunks.len() as u64) < bytes { Method::Pco(chunks) } else { Method::Rice(parameter) }
}

/// Decodes one sequence for each group: `total` numbers over `classes` classes.
///
/// Allocates for the `total` numbers, which the caller has bounded, twice where both methods are used, and 2 bytes for
/// each class.
///
/// # Errors
/// Every [`Corrupt`].
pub fn decode<N: Number>(bytes: &[u8], classes: usize, total: usize) -> Result<Sequences<N>, Corrupt> {
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
        if method != METHOD_PCO && u32::from(method) >= N::BITS {
            let most = METHOD_PCO.into();
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

    let mut by_rice = Vec::new();
    let mut rice_numbers = rice::Reader::new(reader.rest());
    for (count, method) in table.iter().filter(|(_, method)| *method != METHOD_PCO) {
        rice_numbers.pull_all(*count, u32::from(*method), &mut by_rice)?;
    }
    let rest = rice_numbers.finish()?;
    let by_pco = if table.iter().any(|(_, method)| *method == METHOD_PCO) {
        pco::decode(rest, total - by_rice.len())?
    } else {
        Reader::new(rest).finish("Rice-coded numbers")?;
        Vec::new()
    };

    let mut end = 0;
    let ends = table.iter().map(|(count, _)| {
        end += count;
        end
    });
    let ends = ends.collect();
    let numbers = if by_pco.is_empty() {
        by_rice
    } else if by_rice.is_empty() {
        by_pco
    } else {
        let mut numbers = Vec::with_capacity(total);
        let (mut by_rice, mut by_pco) = (&by_rice[..], &by_pco[..]);
        for (count, method) in table {
            let from = if method == METHOD_PCO { &mut by_pco } else { &mut by_rice };
            let (own, others) = from.split_at(count);
            numbers.extend_from_slice(own);
            *from = others;
        }
        numbers
    };
    Ok(Sequences { partition: Partition { group_of_class, groups }, numbers, ends })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip<N: Number>(selected_per_class: &[u64], seed: u64) {
        let mut sequences = Sequences::<N>::zeros(Partition::of_counts(selected_per_class), selected_per_class);
        let mut state = seed | 1;
        for number in sequences.numbers_mut() {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            *number = N::low(state >> (64 - N::BITS) >> (state % u64::from(N::BITS)));
        }
        let total = sequences.numbers().len();
        for effort in [Effort::Fast, Effort::Default, Effort::Best] {
            let bytes = sequences.encode(effort);
            assert_eq!(decode(&bytes, selected_per_class.len(), total), Ok(sequences.clone()));
        }
        let bytes = sequences.encode(Effort::Default);
        for end in 0..bytes.len() {
            assert!(decode::<N>(&bytes[..end], selected_per_class.len(), total).is_err(), "prefix of {end}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_encoded_is_decoded_and_no_prefix_is(
            counts in prop::collection::vec(prop_oneof![Just(0u64), 0u64..20, 100u64..400], 1..20),
            seed: u64,
        ) {
            match seed % 3 {
                0 => round_trip::<u16>(&counts, seed),
                1 => round_trip::<u32>(&counts, seed),
                _ => round_trip::<u64>(&counts, seed),
            }
        }
    }

    #[test]
    fn rare_classes_share_a_group_with_their_neighbours() {
        let partition = Partition::of_counts(&[0, 3, 70, 0, 63, 1, 64, 2]);
        let groups: Vec<usize> = (0..8).map(|class| partition.group(class)).collect();
        assert_eq!(groups, [0, 0, 0, 1, 1, 1, 2, 2]);
        assert_eq!([0, 1, 2].map(|group| partition.last_class(group)), [2, 5, 7]);
        assert_eq!(Partition::of_counts(&[0, 0]), Partition::whole(2));
    }

    #[test]
    fn refuses_totals_that_do_not_add_up() {
        let bytes = encode_whole(&[1u32, 2, 3], Effort::Default);
        let wrong = Corrupt::Count { field: "numbers in all groups", found: 3, expected: 4 };
        assert_eq!(decode::<u32>(&bytes, 1, 4), Err(wrong));
        assert!(matches!(decode::<u32>(&bytes, 1, 2), Err(Corrupt::Range { .. })));
    }
}

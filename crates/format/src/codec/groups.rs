//! Grouped integers (spec §9.2): one sequence for each group of classes, and a table of the groups.
//!
//! The class of an element is a small number that reader and writer both know from the base: its exponent
//! ([`crate::dtype::Dtype::class`]). A [`Partition`] divides the classes into groups of consecutive classes, so that rare classes share
//! the code parameters of their neighbours. Base-free streams have one class and one group.

use super::reader::Reader;
use super::{Corrupt, Effort, Number, pco, rice, statistics, varint};

/// The method byte of pco; lower method bytes are Rice parameters (spec §9.2).
pub const METHOD_PCO: u8 = 64;

/// A group with fewer selected elements is not worth its table entry. Values from 16 to 256 change the sizes of the benchmark patches by
/// less than 0.2 %.
const GROUP_ELEMENTS_MIN: u64 = 64;

/// In a sequence of fewer numbers, pco's table costs more than pco saves.
const PCO_NUMBERS_MIN: usize = 192;

/// For a sequence of at least this many numbers, the estimate that pco is smaller is not checked by encoding.
const ESTIMATED_NUMBERS_MIN: usize = 2048;

/// Rice codes are chosen while they are at most 1/n larger than pco, because they decode several times faster. Returns n.
const fn rice_tolerance(effort: Effort) -> u64 {
    match effort {
        Effort::Fast => 4,
        Effort::Default => 64,
        Effort::Best => u64::MAX,
    }
}

/// A division of the classes into groups. A group is a run of consecutive classes, and groups are in the order of their classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    group_of_class: Vec<u16>,
    groups: usize,
}

impl Partition {
    /// A single group with all of `classes` classes.
    pub fn whole(classes: usize) -> Self {
        Self { group_of_class: vec![0; classes], groups: 1 }
    }

    /// Groups with enough selected elements each, from the number of selected elements in each class.
    pub fn of_counts(selected_per_class: &[u64]) -> Self {
        Self::with_at_least(GROUP_ELEMENTS_MIN, selected_per_class)
    }

    /// Groups with at least `min` elements each, from the number of elements in each class. A single group can have fewer.
    pub fn with_at_least(min: u64, count_per_class: &[u64]) -> Self {
        let mut left: u64 = count_per_class.iter().sum();
        let (mut group, mut in_group) = (0u16, 0u64);
        let mut group_of_class = Vec::with_capacity(count_per_class.len());
        for count in count_per_class {
            group_of_class.push(group);
            in_group += count;
            left -= count;
            if in_group >= min && left >= min {
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

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.group_of_class.len()
    }

    /// The group of `class`.
    ///
    /// # Panics
    /// If `class` does not exist.
    #[inline(always)]
    pub fn group(&self, class: u16) -> usize {
        usize::from(self.group_of_class[usize::from(class)])
    }

    /// The last class of `group`.
    ///
    /// # Panics
    /// If `group` does not exist.
    pub fn last_class(&self, group: usize) -> u16 {
        // Every group has a class, and the groups of classes ascend.
        (self.group_of_class.partition_point(|g| usize::from(*g) <= group) - 1) as u16
    }

    /// Number of classes in `group`.
    pub fn span(&self, group: usize) -> u64 {
        self.group_of_class.iter().filter(|g| usize::from(**g) == group).count() as u64
    }
}

/// One sequence of numbers for each group of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequences<N> {
    partition: Partition,
    /// The concatenated sequences of all groups.
    numbers: Vec<N>,
    /// For each group, the end of its sequence in `numbers`.
    ends: Vec<usize>,
}

impl<N: Number> Sequences<N> {
    /// The `numbers` of all groups, whose sequences end at `ends`.
    pub(super) fn new(group_of_class: Vec<u16>, numbers: Vec<N>, ends: Vec<usize>) -> Self {
        Self { partition: Partition { group_of_class, groups: ends.len() }, numbers, ends }
    }

    /// Sequences of zeros; the length of a group's sequence is the sum of the counts of its classes.
    pub fn zeros(partition: Partition, count_per_class: &[u64]) -> Self {
        let mut counts = vec![0; partition.groups()];
        for (class, count) in (0u16..).zip(count_per_class) {
            counts[partition.group(class)] += *count as usize;
        }
        Self::of_counts(partition, counts)
    }

    fn of_counts(partition: Partition, counts: Vec<usize>) -> Self {
        let ends = ends(counts.into_iter());
        Self { partition, numbers: vec![N::default(); ends.last().copied().unwrap_or_default()], ends }
    }

    /// The partition into groups.
    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    /// All numbers, group by group, without the partition.
    pub fn into_numbers(self) -> Vec<N> {
        self.numbers
    }

    /// For each group, the start of its sequence in [`Sequences::numbers`].
    pub fn starts(&self) -> Vec<usize> {
        std::iter::once(0).chain(self.ends.iter().copied()).take(self.ends.len()).collect()
    }

    /// For each group, the end of its sequence in [`Sequences::numbers`].
    pub fn ends(&self) -> &[usize] {
        &self.ends
    }

    /// All numbers, group by group.
    pub fn numbers(&self) -> &[N] {
        &self.numbers
    }

    /// All numbers, group by group, for writing.
    pub fn numbers_mut(&mut self) -> &mut [N] {
        &mut self.numbers
    }

    /// The sequence of each group.
    pub fn iter(&self) -> impl Iterator<Item = &[N]> {
        self.starts().into_iter().zip(&self.ends).map(|(start, end)| &self.numbers[start..*end])
    }

    /// About how many bytes [`Sequences::encode`] gives.
    pub fn estimated_bytes(&self) -> u64 {
        let groups = self.starts().into_iter().zip(&self.ends);
        groups.map(|(start, end)| estimated_bits(&self.numbers[start..*end])).sum::<u64>().div_ceil(8)
    }

    /// Encodes the partition and the numbers (spec §9.2).
    pub fn encode(&self, effort: Effort) -> Vec<u8> {
        encode(&self.partition, &self.numbers, &self.ends, effort)
    }
}

/// Encodes one sequence as a single group.
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
    let (mut pco_chunks, mut pco_numbers) = (Vec::new(), 0);
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
                pco_chunks.push(chunks);
                pco_numbers += sequence.len();
            }
            Method::Rice(parameter) => {
                out.push(parameter as u8);
                sequence.iter().for_each(|number| rice_numbers.push(*number, parameter));
            }
        }
    }
    out.extend(rice_numbers.finish());
    if !pco_chunks.is_empty() {
        out.extend(pco::file(pco_chunks.iter().map(Vec::as_slice), pco_numbers));
    }
    out
}

/// How a sequence is encoded.
enum Method {
    /// With pco; the compressed chunks.
    Pco(Vec<u8>),
    /// With this Rice parameter.
    Rice(u32),
}

fn method<N: Number>(sequence: &[N], effort: Effort) -> Method {
    if sequence.len() < PCO_NUMBERS_MIN {
        return Method::Rice(rice::best_parameter(sequence).0);
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
    let chunks = pco::chunks(sequence, effort);
    let (parameter, rice_bits) = rice::best_parameter(sequence);
    if (chunks.len() as u64) < rice_bits.div_ceil(8) { Method::Pco(chunks) } else { Method::Rice(parameter) }
}

/// Decodes one sequence for each group: `total` numbers in all groups, over `classes` classes.
///
/// Allocates memory for `total` numbers, which the caller has bounded (twice that if both methods are used), and 2 bytes per class.
///
/// # Errors
/// Every [`Corrupt`].
pub fn decode<N: Number>(bytes: &[u8], classes: usize, total: usize) -> Result<Sequences<N>, Corrupt> {
    let mut reader = Reader::new(bytes);
    let (group_of_class, table) = read_table(&mut reader, classes, total, |reader| {
        let method = reader.u8("method")?;
        let most = METHOD_PCO.into();
        let out_of_range = Corrupt::Range { field: "method", found: method.into(), least: 0, most };
        if method == METHOD_PCO || u32::from(method) < N::BITS { Ok(method) } else { Err(out_of_range) }
    })?;

    let mut rice_numbers = Vec::new();
    let mut rice_reader = rice::Reader::new(reader.rest());
    for (count, method) in table.iter().filter(|(_, method)| *method != METHOD_PCO) {
        rice_reader.pull_all(*count, u32::from(*method), &mut rice_numbers)?;
    }
    let rest = rice_reader.finish()?;
    let pco_numbers = if table.iter().any(|(_, method)| *method == METHOD_PCO) {
        pco::decode(rest, total - rice_numbers.len())?
    } else {
        Reader::new(rest).finish("Rice-coded numbers")?;
        Vec::new()
    };

    let ends = ends(table.iter().map(|(count, _)| *count));
    let numbers = if pco_numbers.is_empty() {
        rice_numbers
    } else if rice_numbers.is_empty() {
        pco_numbers
    } else {
        let mut numbers = Vec::with_capacity(total);
        let (mut rice_rest, mut pco_rest) = (&rice_numbers[..], &pco_numbers[..]);
        for (count, method) in table {
            let source = if method == METHOD_PCO { &mut pco_rest } else { &mut rice_rest };
            let (sequence, rest) = source.split_at(count);
            numbers.extend_from_slice(sequence);
            *source = rest;
        }
        numbers
    };
    Ok(Sequences::new(group_of_class, numbers, ends))
}

/// The group of each class; and for each group the count of its numbers, and what stands behind it in the table.
type Table<E> = (Vec<u16>, Vec<(usize, E)>);

/// Reads the table of the groups of `total` numbers over `classes` classes. `read_entry` reads what stands behind
/// the count of a group.
pub(super) fn read_table<E>(
    reader: &mut Reader<'_>,
    classes: usize,
    total: usize,
    read_entry: impl Fn(&mut Reader<'_>) -> Result<E, Corrupt>,
) -> Result<Table<E>, Corrupt> {
    let groups = reader.varint("groups - 1", 0, classes as u64 - 1)? as usize + 1;
    let mut group_of_class = Vec::with_capacity(classes);
    let mut table = Vec::with_capacity(groups);
    let mut left = total;
    for group in 0..groups {
        // The last group has all classes that are left. Others leave at least one class for each later group.
        let later = groups - group - 1;
        let mut end = classes;
        if later > 0 {
            let most = classes - group_of_class.len() - later - 1;
            end = group_of_class.len() + 1 + reader.varint("span - 1", 0, most as u64)? as usize;
        }
        group_of_class.resize(end, group as u16);
        let count = reader.varint("numbers in a group", 0, left as u64)? as usize;
        left -= count;
        table.push((count, read_entry(reader)?));
    }
    let (found, expected) = ((total - left) as u64, total as u64);
    let differs = Corrupt::Count { field: "numbers in all groups", found, expected };
    if left == 0 { Ok((group_of_class, table)) } else { Err(differs) }
}

/// Where the sequences of groups with these numbers of numbers end, one behind the other.
pub(super) fn ends(counts: impl Iterator<Item = usize>) -> Vec<usize> {
    counts
        .scan(0, |end, count| {
            *end += count;
            Some(*end)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Numbers;
    use proptest::prelude::*;

    fn round_trip<N: Number>(selected_per_class: &[u64], seed: u64) {
        let mut sequences = Sequences::<N>::zeros(Partition::of_counts(selected_per_class), selected_per_class);
        let mut random = Numbers::new(seed);
        for number in sequences.numbers_mut() {
            *number = N::low(random.bits() >> (64 - N::BITS) >> random.below(N::BITS.into()));
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
        fn encoded_sequences_are_decoded_and_prefixes_are_refused(
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

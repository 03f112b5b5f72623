//! Blocks of which a large share of the elements changes: a delta for each element instead of positions (spec §9.11).

use super::BlockId;
use super::base::{BaseElements, CLASS_BYTES};
use super::choose::BlockEncodings;
use super::elements::{Elements, Magnitude};
use super::encode::{Encoding, encode_dense};
use super::loops::{DeltaNumber, Lanes, add_magnitude};
use crate::codec::chunks::{CHUNK, Chunks};
use crate::codec::groups::{Partition, Sequences};
use crate::codec::{Corrupt, Effort, Number, dense};
use crate::digest::{Digest, Hasher};
use crate::dtype::{Classes, Dtype, Width};
use crate::limits::DENSE_LIVE_RATIO_MAX;

/// A block is encoded densely if at least one of this many elements is selected. Both ways take about as long at one in twelve, and as
/// many bytes at one in five hundred.
const DENSE_SHARE: u64 = 12;

/// The tables of a dense block, some 800 bytes, are too large a share of its bytes for fewer selected elements.
const SELECTED_MIN: u64 = 1 << 17;

/// The ULP deltas of all elements of a block, 0 for those that are not selected, as two's complement integers of the width of `N`.
pub fn deltas_of<N: Number>(elements: &Elements, n: u32) -> Vec<N> {
    let (layout, unused) = (elements.dtype.bit_layout(), N::BITS - elements.dtype.width().bits());
    let mut deltas = vec![N::default(); n as usize];
    for ((position, base), reference) in elements.positions.iter().zip(&elements.base).zip(&elements.reference) {
        let delta = layout.ulp_delta(*base, *reference);
        deltas[*position as usize] = N::low(delta << unused).shift_right(unused);
    }
    deltas
}

/// The classes of a block's elements, in parts that begin at multiples of [`CHUNK`] elements.
pub fn classes_of(base: &dyn BaseElements) -> Vec<Classes> {
    let mut parts = Vec::new();
    base.walk_classes(&mut |_, classes| parts.push(classes.clone()));
    parts
}

/// Encodes the `deltas` of all elements of a block of `dtype` as streams of positions and of deltas. The base's elements have these
/// `classes`.
pub fn encode<N: Number>(dtype: Dtype, classes: &[Classes], deltas: &[N], effort: Effort) -> (Vec<u8>, Vec<u8>) {
    let chunks = Chunks::of(deltas);
    let narrow: Vec<&[u8]> = classes.iter().filter_map(Classes::narrow).collect();
    let sequences = if narrow.len() == classes.len() {
        by_class::<_, _, NARROW>(dtype, &chunks, &narrow, deltas)
    } else {
        let wide: Vec<&[u16]> = classes.iter().filter_map(Classes::wide).collect();
        by_class::<_, _, WIDE>(dtype, &chunks, &wide, deltas)
    };
    (chunks.encode(), dense::encode(&sequences, effort))
}

/// Whether a block of `n` elements, `selected` of which change, is encoded densely.
pub fn is_dense(selected: u64, n: u32) -> bool {
    selected >= SELECTED_MIN && selected * DENSE_SHARE >= u64::from(n)
}

/// The codes of the deltas that are not 0 (spec §9.5), and the base's bits there, in a sample of a block's elements.
pub fn sample<N: Number>(base: &dyn BaseElements, deltas: &[N]) -> (Vec<N>, Vec<u64>) {
    let (mut codes, mut bits) = (Vec::new(), Vec::new());
    let width = base.dtype().width();
    base.sample(&mut |start, bytes| {
        let deltas = deltas[start as usize..].iter().take(bytes.len() / width.bytes()).enumerate();
        for (at, delta) in deltas.filter(|(_, delta)| **delta != N::default()) {
            codes.push(delta.zigzag().minus(N::low(1)));
            bits.push(width.load(bytes, at));
        }
    });
    (codes, bits)
}

/// The deltas of the elements in `chunks`, by the class of each. The parts of `classes` begin at multiples of [`CHUNK`] elements.
fn by_class<L: Copy + Into<u16>, N: Number, const ROOM: usize>(
    dtype: Dtype,
    chunks: &Chunks,
    classes: &[&[L]],
    deltas: &[N],
) -> Sequences<N> {
    let live = || {
        let both = classes.iter().flat_map(|part| part.chunks(CHUNK)).zip(deltas.chunks(CHUNK));
        (0..).zip(both).filter_map(|(chunk, both)| chunks.contains(chunk).then_some(both))
    };
    // Both halves are walked at the same time: the next number's place is known only once the last place of its class is stored.
    let half = live().count() / 2;
    let in_front = count_classes::<_, ROOM>(live().take(half).map(|(classes, _)| classes));
    let in_back = count_classes::<_, ROOM>(live().skip(half).map(|(classes, _)| classes));
    let mut counts: Vec<u64> = in_front.iter().zip(&in_back).map(|(front, back)| front + back).collect();
    counts.truncate(dtype.classes());
    let partition = Partition::with_at_least(dense::GROUP_NUMBERS_MIN, &counts);
    let mut sequences = Sequences::zeros(partition, &counts);
    let mut at_front = Places::<ROOM>::new(&sequences);
    let mut at_back = at_front.after(&in_front);
    let numbers = sequences.numbers_mut();
    let mut back = live().skip(half);
    for ((front, front_deltas), (back, back_deltas)) in live().take(half).zip(back.by_ref()) {
        let eights = front.as_chunks::<8>().0.iter().zip(front_deltas.as_chunks::<8>().0);
        let back_eights = back.as_chunks::<8>().0.iter().zip(back_deltas.as_chunks::<8>().0);
        for ((front, front_deltas), (back, back_deltas)) in eights.zip(back_eights) {
            at_front.put(front, front_deltas, numbers);
            at_back.put(back, back_deltas, numbers);
        }
        // The last chunk of the block may be shorter.
        let done = front.len().min(back.len()) / 8 * 8;
        at_front.put(&front[done..], &front_deltas[done..], numbers);
        at_back.put(&back[done..], &back_deltas[done..], numbers);
    }
    back.for_each(|(classes, deltas)| at_back.put(classes, deltas, numbers));
    sequences
}

/// The number of elements of each class.
fn count_classes<'a, L: Copy + Into<u16> + 'a, const ROOM: usize>(
    chunks: impl Iterator<Item = &'a [L]>,
) -> [u64; ROOM] {
    // Four counters for each class: incrementing one for each of a run of equal classes would wait for the previous store.
    let mut four = [[0u32; 4]; ROOM];
    let mut count = |counter: usize, class: L| four[usize::from(class.into()) % ROOM][counter] += 1;
    for classes in chunks {
        let (fours, rest) = classes.as_chunks::<4>();
        for classes in fours {
            (0..4).zip(classes).for_each(|(counter, class)| count(counter, *class));
        }
        rest.iter().for_each(|class| count(0, *class));
    }
    four.map(|four| four.into_iter().map(u64::from).sum())
}

/// Room for the classes of all dtypes with narrow classes, or of all dtypes. Indices below need no check against these bounds.
const NARROW: usize = 1 << 8;
const WIDE: usize = 1 << 11;

/// What is known of the elements of a dense block that change.
pub struct DenseSummary {
    /// Their number.
    pub selected: u32,
    /// Statistics of their deltas.
    pub magnitude: Magnitude,
    /// The digest of the base's bits there.
    pub base_digest: Digest,
}

/// Where the next number of each class is put.
#[derive(Clone)]
struct Places<const ROOM: usize> {
    /// The group of each class; zeros behind the last class.
    groups: [u16; ROOM],
    /// The place of each group's next number, as an index into all numbers; zeros behind the last group.
    next: [usize; ROOM],
}

impl<const ROOM: usize> Places<ROOM> {
    fn new<N: Number>(sequences: &Sequences<N>) -> Self {
        let (mut groups, mut next) = ([0; ROOM], [0; ROOM]);
        let classes = 0..sequences.partition().classes() as u16;
        groups.iter_mut().zip(classes).for_each(|(group, class)| *group = sequences.partition().group(class) as u16);
        next.iter_mut().zip(sequences.starts()).for_each(|(next, start)| *next = start);
        Self { groups, next }
    }

    /// The places once as many numbers are put as `counts` has for each class.
    fn after(&self, counts: &[u64; ROOM]) -> Self {
        let mut after = self.clone();
        for (group, count) in self.groups.iter().zip(counts) {
            after.next[usize::from(*group) % ROOM] += *count as usize;
        }
        after
    }

    /// Puts the `numbers` of elements of these `classes` to their places in `all`.
    #[inline(always)]
    fn put<L: Copy + Into<u16>, N: Copy>(&mut self, classes: &[L], numbers: &[N], all: &mut [N]) {
        for (class, number) in classes.iter().zip(numbers) {
            let class: u16 = (*class).into();
            let next = &mut self.next[usize::from(self.groups[usize::from(class) % ROOM]) % ROOM];
            all[*next] = *number;
            *next += 1;
        }
    }
}

/// Where in the sequences of a block the walk over its elements is.
#[derive(Debug, Clone)]
struct Pointers {
    /// The group of each class; zeros behind the last class.
    groups: Vec<u16>,
    /// The next number of each group, as an index into all numbers; zeros behind the last group.
    next: Vec<usize>,
}

impl Pointers {
    fn new<N: Number>(sequences: &Sequences<N>) -> Self {
        let classes = sequences.partition().classes();
        let room = if classes <= NARROW { NARROW } else { WIDE };
        let mut groups: Vec<u16> = (0..classes as u16).map(|class| sequences.partition().group(class) as u16).collect();
        groups.resize(room, 0);
        let mut next = sequences.starts();
        next.resize(room, 0);
        Self { groups, next }
    }

    /// Calls `each` with consecutive elements of a part that are in one of `chunks`: the index of the first one in the part, and the
    /// indices of their numbers.
    #[inline(always)]
    fn walk(&mut self, chunks: &Chunks, start: usize, classes: &Classes, mut each: impl FnMut(usize, &[usize])) {
        let (groups, next) = (&self.groups[..], &mut self.next[..]);
        match classes {
            Classes::Narrow(classes) => {
                if let (Some(groups), Some(next)) = (groups.first_chunk::<NARROW>(), next.first_chunk_mut::<NARROW>()) {
                    walk_lanes(chunks, start, classes, groups, next, &mut each);
                }
            }
            Classes::Wide(classes) => {
                if let (Some(groups), Some(next)) = (groups.first_chunk::<WIDE>(), next.first_chunk_mut::<WIDE>()) {
                    walk_lanes(chunks, start, classes, groups, next, &mut each);
                }
            }
        }
    }

    /// Fills `numbers` with those of a part; with zeros where a chunk has none, or where the `sequences` are at their end.
    fn gather<N: Number>(
        &mut self,
        chunks: &Chunks,
        start: usize,
        classes: &Classes,
        sequences: &[N],
        numbers: &mut Vec<N>,
    ) {
        numbers.clear();
        numbers.resize(classes.len(), N::default());
        let numbers = &mut numbers[..];
        self.walk(chunks, start, classes, |first, indices| {
            for (index, number) in indices.iter().zip(&mut numbers[first..][..indices.len()]) {
                *number = sequences.get(*index).copied().unwrap_or_default();
            }
        });
    }
}

#[inline(always)]
fn walk_lanes<L: Copy + Into<u16>, const ROOM: usize>(
    chunks: &Chunks,
    start: usize,
    classes: &[L],
    groups: &[u16; ROOM],
    next: &mut [usize; ROOM],
    each: &mut impl FnMut(usize, &[usize]),
) {
    let mut index_of = |class: L| {
        let next = &mut next[usize::from(groups[usize::from(class.into()) % ROOM]) % ROOM];
        *next += 1;
        *next - 1
    };
    let first = start / CHUNK;
    for (chunk, classes) in classes.chunks(CHUNK).enumerate().filter(|(chunk, _)| chunks.contains(first + chunk)) {
        // Arrays of a known length: a loop over them has no bounds to check.
        let (eights, rest) = classes.as_chunks::<8>();
        for (eight, classes) in eights.iter().enumerate() {
            each(chunk * CHUNK + 8 * eight, &classes.map(&mut index_of));
        }
        for (at, class) in (8 * eights.len()..).zip(rest) {
            each(chunk * CHUNK + at, &[index_of(*class)]);
        }
    }
}

/// The deltas of all elements of a dense block, by class. They are put in order while the base's elements are walked.
#[derive(Debug)]
pub struct DenseDeltas<N> {
    dtype: Dtype,
    chunks: Chunks,
    deltas: Sequences<N>,
    pointers: Pointers,
    /// The deltas of a part.
    part: Vec<N>,
}

impl<N: DeltaNumber> DenseDeltas<N> {
    /// Decodes the streams of a block in which `selected` of `elements` elements change.
    ///
    /// # Errors
    /// Every [`Corrupt`].
    pub fn decode(
        positions: &[u8],
        deltas: &[u8],
        dtype: Dtype,
        elements: u32,
        selected: u32,
    ) -> Result<Self, Corrupt> {
        let chunks = Chunks::decode(positions, elements as usize)?;
        let live = chunks.live_elements();
        let most = u64::from(selected) * DENSE_LIVE_RATIO_MAX;
        if live as u64 > most {
            return Err(Corrupt::Range { field: "elements in changed chunks", found: live as u64, least: 0, most });
        }
        let deltas = dense::decode::<N>(deltas, dtype.classes(), live)?;
        let mask = dtype.width().mask();
        let changed = deltas.numbers().iter().filter(|delta| (**delta).into() & mask != 0).count();
        if changed as u64 != u64::from(selected) {
            let (found, expected) = (changed as u64, selected.into());
            return Err(Corrupt::Count { field: "elements that change", found, expected });
        }
        let pointers = Pointers::new(&deltas);
        Ok(Self { dtype, chunks, deltas, pointers, part: Vec::new() })
    }

    /// The deltas of the next elements of the block, which begin at position `start` and have these `classes`.
    pub fn next(&mut self, start: u32, classes: &Classes) -> &[N] {
        self.pointers.gather(&self.chunks, start as usize, classes, self.deltas.numbers(), &mut self.part);
        &self.part
    }
}

/// The deltas of a dense block, which turn the base's elements into the reference's without a list of positions.
pub trait AddDeltas {
    /// Adds the deltas to the next elements of the block, which begin at position `start`, a multiple of [`CHUNK`]. `bytes` are those of
    /// the base and become those of the reference.
    fn add(&mut self, start: u32, bytes: &mut [u8]);

    /// Checks, after all elements were walked, that each class of the base has as many elements as it has deltas.
    ///
    /// # Errors
    /// [`Corrupt::Count`] if not: the deltas are not those of this base.
    fn finish(&self) -> Result<(), Corrupt>;
}

impl<N: DeltaNumber> AddDeltas for DenseDeltas<N> {
    fn add(&mut self, start: u32, bytes: &mut [u8]) {
        let width = self.dtype.width().bytes();
        let mut classes = Classes::Narrow(Vec::new());
        for (start, bytes) in (start..).step_by(CLASS_BYTES / width).zip(bytes.chunks_mut(CLASS_BYTES)) {
            classes = self.dtype.classes_of(bytes, classes);
            self.next(start, &classes);
            N::add(self.dtype, bytes, &self.part);
        }
    }

    fn finish(&self) -> Result<(), Corrupt> {
        let starts = self.deltas.starts();
        let mut groups = starts.iter().zip(self.deltas.ends()).zip(&self.pointers.next);
        match groups.find(|((_, end), next)| end != next) {
            None => Ok(()),
            Some(((start, end), next)) => {
                let (found, expected) = ((next - start) as u64, (end - start) as u64);
                Err(Corrupt::Count { field: "elements of the base's classes", found, expected })
            }
        }
    }
}

/// Bytes that are hashed together: a hash of fewer, or of a part of 1 KiB, takes longer for each.
const HASHED_BYTES: usize = 1 << 14;

/// The elements of a block, of which a large share changes.
#[derive(Debug)]
pub struct DenseElements {
    dtype: Dtype,
    deltas: AllDeltas,
    /// The classes of the base's elements, one item for each part.
    classes: Vec<Classes>,
    selected: u32,
    lanes: Lanes,
    base_values: Hasher,
    /// The base's bytes of elements that differ and are not hashed yet.
    unhashed: Vec<u8>,
}

/// A delta for each element of a block.
#[derive(Debug)]
enum AllDeltas {
    W16(Vec<u16>),
    W32(Vec<u32>),
    W64(Vec<u64>),
}

impl DenseElements {
    /// No elements yet of a block of `n` elements.
    pub fn new(dtype: Dtype, n: u32) -> Self {
        let deltas = match dtype.width() {
            Width::W1 | Width::W2 => AllDeltas::W16(Vec::with_capacity(n as usize)),
            Width::W4 => AllDeltas::W32(Vec::with_capacity(n as usize)),
            Width::W8 => AllDeltas::W64(Vec::with_capacity(n as usize)),
        };
        let (lanes, base_values) = (Lanes::default(), Hasher::default());
        Self { dtype, deltas, classes: Vec::new(), selected: 0, lanes, base_values, unhashed: Vec::new() }
    }

    /// Number of elements that change, of those that were added.
    pub fn selected(&self) -> u32 {
        self.selected
    }

    /// Adds the next part of the block. It has a multiple of [`CHUNK`] elements, unless it is the last one.
    pub fn extend(&mut self, base: &[u8], reference: &[u8]) {
        let Self { dtype, deltas, classes, selected, lanes, base_values, unhashed } = self;
        classes.push(dtype.classes_of(base, Classes::Narrow(Vec::new())));
        let before = unhashed.len();
        match deltas {
            AllDeltas::W16(deltas) => append(*dtype, base, reference, deltas, unhashed),
            AllDeltas::W32(deltas) => append(*dtype, base, reference, deltas, unhashed),
            AllDeltas::W64(deltas) => append(*dtype, base, reference, deltas, unhashed),
        }
        *selected += ((unhashed.len() - before) / dtype.width().bytes()) as u32;
        let hashed = unhashed.len() - unhashed.len() % HASHED_BYTES;
        base_values.update(&unhashed[..hashed]);
        unhashed.drain(..hashed);
        add_magnitude(lanes, *dtype, base, reference);
    }

    /// Encodes the block, whose elements in the base are `base`.
    pub fn encode(self, id: BlockId, base: &dyn BaseElements, encoding: Encoding) -> BlockEncodings {
        let Self { deltas, classes, selected, lanes, mut base_values, unhashed, .. } = self;
        base_values.update(&unhashed);
        let summary = DenseSummary { selected, magnitude: lanes.total(), base_digest: base_values.finish() };
        match deltas {
            AllDeltas::W16(deltas) => encode_dense(id, summary, &classes, &deltas, base, encoding),
            AllDeltas::W32(deltas) => encode_dense(id, summary, &classes, &deltas, base, encoding),
            AllDeltas::W64(deltas) => encode_dense(id, summary, &classes, &deltas, base, encoding),
        }
    }
}

/// Appends the ULP deltas of all elements of a part, and the base's bytes of those that differ to `selected`.
fn append<N: DeltaNumber>(dtype: Dtype, base: &[u8], reference: &[u8], deltas: &mut Vec<N>, selected: &mut Vec<u8>) {
    let before = deltas.len();
    deltas.resize(before + base.len() / dtype.width().bytes(), N::default());
    N::subtract(dtype, base, reference, &mut deltas[before..], selected);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::base::InMemory;
    use crate::block::choose::{EncodedBlock, choose};
    use crate::block::decode::{decode, dense_deltas};
    use crate::block::encode::{Portability, Precision, encode as encode_elements, values_digest};
    use crate::block::{Deltas, PositionCodec};
    use crate::random::Numbers;
    use std::cell::Cell;
    use std::ops::Range;

    const ENCODING: Encoding =
        Encoding { precision: Precision::Exact, portability: Portability::NeedsBase, effort: Effort::Default };
    const ID: BlockId = BlockId { tensor: 0, index: 0 };

    /// The bytes of `n` elements of `dtype`, and of a reference in which a share of `density` differs, most of them by little. Nothing
    /// differs in the third quarter.
    fn pair(dtype: Dtype, n: usize, density: f64, random: &mut Numbers) -> (Vec<u8>, Vec<u8>) {
        let (width, mask) = (dtype.width(), dtype.width().mask());
        let base: Vec<u64> = (0..n).map(|_| random.below(u64::MAX) & mask).collect();
        let change = |random: &mut Numbers, at: usize| {
            let bits = if random.below(50) == 0 { 63 } else { 4 };
            let delta = 1 + random.below(1 << bits);
            let differs = random.unit() < density && !(n / 2..n / 4 * 3).contains(&at);
            if differs { if random.below(2) == 0 { delta } else { delta.wrapping_neg() } } else { 0 }
        };
        let reference: Vec<u64> =
            base.iter().enumerate().map(|(at, bits)| dtype.add_ulp(*bits, change(random, at) & mask)).collect();
        let [mut base_bytes, mut reference_bytes] = [Vec::new(), Vec::new()];
        width.store_all(&base, &mut base_bytes);
        width.store_all(&reference, &mut reference_bytes);
        (base_bytes, reference_bytes)
    }

    fn listed(dtype: Dtype, base: &[u8], reference: &[u8]) -> Elements {
        let (base, reference) = (dtype.width().load_all(base), dtype.width().load_all(reference));
        let mut elements = Elements::new(dtype);
        for (position, (base, reference)) in (0..).zip(base.into_iter().zip(reference)).filter(|(_, (b, r))| b != r) {
            elements.positions.push(position);
            elements.base.push(base);
            elements.reference.push(reference);
        }
        elements
    }

    /// Encodes a block as it is found in a pair of checkpoints: part by part.
    fn found_dense(dtype: Dtype, base: &[u8], reference: &[u8]) -> BlockEncodings {
        let part = 3072 * dtype.width().bytes();
        let block = InMemory { dtype, bytes: base };
        let mut dense = DenseElements::new(dtype, block.elements());
        for (base, reference) in base.chunks(part).zip(reference.chunks(part)) {
            dense.extend(base, reference);
        }
        dense.encode(ID, &block, ENCODING)
    }

    fn chosen(encodings: BlockEncodings) -> EncodedBlock {
        choose(vec![encodings], Portability::NeedsBase).blocks.remove(0)
    }

    #[test]
    fn a_list_of_many_elements_becomes_the_same_dense_block() {
        let (base, reference) = pair(Dtype::Bf16, 400_000, 0.5, &mut Numbers::new(6));
        let elements = listed(Dtype::Bf16, &base, &reference);
        let block = InMemory { dtype: Dtype::Bf16, bytes: &base };
        let encoded = chosen(encode_elements(ID, &elements, Some(&block), ENCODING).unwrap());
        let found = chosen(found_dense(Dtype::Bf16, &base, &reference));
        assert_eq!(encoded.streams.positions.0, PositionCodec::Chunks);
        assert_eq!(found.streams, encoded.streams);
        assert_eq!((found.selected, found.base_digest), (encoded.selected, encoded.base_digest));
    }

    #[test]
    fn dense_blocks_of_all_dtypes_come_back_and_turn_the_base_into_the_reference() {
        let random = &mut Numbers::new(3);
        for code in 0..=u8::MAX {
            let Some(dtype) = Dtype::from_code(code) else { continue };
            for (n, density) in [(30_000, 0.4), (9_001, 1.0)] {
                let (base, reference) = pair(dtype, n, density, random);
                let elements = listed(dtype, &base, &reference);
                let (block, selected) = (InMemory { dtype, bytes: &base }, elements.positions.len() as u32);
                let encoded = chosen(found_dense(dtype, &base, &reference));
                assert_eq!(encoded.streams.positions.0, PositionCodec::Chunks, "{dtype}");
                let base_digest = values_digest(dtype, &elements.base);
                assert_eq!((encoded.selected, encoded.base_digest), (selected, base_digest), "{dtype}");
                let (one, other) = (encoded.magnitude, elements.magnitude());
                assert_eq!((one.max, one.unchanged), (other.max, 0), "{dtype}");
                assert!((one.sum - other.sum).abs() <= 1e-9 * other.sum, "{dtype}: {} {}", one.sum, other.sum);

                let bytes = encoded.streams.write();
                let decoded = decode(&bytes, dtype, n as u32, selected, Some(&block)).unwrap();
                assert_eq!(decoded.positions, elements.positions, "{dtype}");
                let deltas = elements.base.iter().zip(&elements.reference).map(|(b, r)| dtype.ulp_delta(*b, *r));
                assert_eq!(decoded.deltas, Deltas::Ulp(deltas.collect()), "{dtype}");
                assert_eq!(decoded.base_bits, Some(elements.base), "{dtype}");

                let mut deltas = dense_deltas(&bytes, dtype, n as u32, selected).unwrap().unwrap();
                let width = dtype.width().bytes();
                let mut result = base.clone();
                for (at, part) in (0..).step_by(2048).zip(result.chunks_mut(2048 * width)) {
                    deltas.add(at, part);
                }
                assert!(result == reference, "{dtype}");
                deltas.finish().unwrap();
            }
        }
    }

    #[test]
    fn another_base_or_count_is_refused() {
        let random = &mut Numbers::new(4);
        let (base, reference) = pair(Dtype::Bf16, 50_000, 0.5, random);
        let found = chosen(found_dense(Dtype::Bf16, &base, &reference));
        let (bytes, selected) = (found.streams.write(), found.selected);
        let decode = |selected, bytes: &[u8], base: &[u8]| {
            decode(bytes, Dtype::Bf16, 50_000, selected, Some(&InMemory { dtype: Dtype::Bf16, bytes: base }))
                .map(|_| ())
        };
        assert_eq!(decode(selected, &bytes, &base), Ok(()));
        assert!(decode(selected, &bytes, &vec![0; base.len()]).is_err());
        assert!(decode(selected - 1, &bytes, &base).is_err());
        assert!(decode(1000, &bytes, &base).is_err(), "more elements than so few changes justify");
    }

    /// A base that holds something else each time it is walked, as a mapped file does that another program writes.
    struct Changing {
        walks: Cell<u8>,
        bytes: [Vec<u8>; 2],
    }

    impl BaseElements for Changing {
        fn dtype(&self) -> Dtype {
            Dtype::Bf16
        }

        fn elements(&self) -> u32 {
            (self.bytes[0].len() / 2) as u32
        }

        fn part<'a>(&'a self, positions: Range<u32>, _: &'a mut Vec<u8>) -> &'a [u8] {
            &self.bytes[0][positions.start as usize * 2..positions.end as usize * 2]
        }

        fn walk(&self, each: &mut dyn FnMut(u32, &[u8])) {
            let walk = self.walks.replace(self.walks.get() ^ 1);
            each(0, &self.bytes[usize::from(walk)]);
        }
    }

    #[test]
    fn a_base_that_changes_while_it_is_encoded_does_no_harm() {
        let random = &mut Numbers::new(5);
        let (base, reference) = pair(Dtype::Bf16, 400_000, 0.5, random);
        let elements = listed(Dtype::Bf16, &base, &reference);
        for other in [vec![0; base.len()], reference, pair(Dtype::Bf16, 400_000, 0.0, random).0] {
            let bytes = [base.clone(), other];
            for effort in [Effort::Default, Effort::Best] {
                let changing = Changing { walks: Cell::new(0), bytes: bytes.clone() };
                encode_elements(ID, &elements, Some(&changing), Encoding { effort, ..ENCODING }).unwrap();
            }
        }
    }

    #[test]
    fn few_changes_are_listed() {
        let (least, most) = (SELECTED_MIN, SELECTED_MIN as u32 * 12);
        assert!(is_dense(least, most) && !is_dense(least, most + 1) && !is_dense(least - 1, least as u32));
    }
}

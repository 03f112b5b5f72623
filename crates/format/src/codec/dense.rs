//! Signed numbers of which many or all differ from zero, one symbol for each of them (spec §9.11).
//!
//! Where a large share of a block's elements changes, a gap for each change costs more time than a symbol for each element, and no fewer
//! bytes. The symbol 0 is an element that does not change. Other symbols are the high bits of a small delta, whose low bits follow as they
//! are; the last one stands for a delta that is encoded elsewhere, as a grouped integer. Symbols of groups in which few elements change
//! are packed to bytes, and the bytes are Huffman-coded: as a zstd frame without matches, which every zstd decoder reads.

use super::groups::{self, Partition, Sequences};
use super::reader::Reader;
use super::rice::Writer;
use super::statistics::Histogram;
use super::{Corrupt, Effort, Number, varint};
use crate::zstd_frame;
use multiversion::multiversion;

/// The most symbols in a byte, as a power of two: 8 symbols of 1 bit.
const PACKING_MAX: u8 = 3;

/// A group with fewer numbers is not worth its table entry and its frame.
pub const GROUP_NUMBERS_MIN: u64 = 4096;

/// About how many numbers of a group are sampled to choose its parameters, in runs of [`SAMPLED_RUN`].
const SAMPLE: usize = 1 << 12;
/// Neighbours are sampled together, because their symbols share a byte.
const SAMPLED_RUN: usize = 64;

/// Number of numbers that are searched together for those that are escaped: one for each bit of a `u32`.
const ESCAPE_STRIDE: usize = 32;

/// How the numbers of a group become symbols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Parameters {
    /// A byte holds `2^packing` symbols.
    packing: u8,
    /// Number of low bits that are stored as they are.
    low: u8,
    /// Number of trailing zero bits that all but the escaped numbers have, and that are not stored.
    zeros: u8,
}

impl Parameters {
    /// Number of bits of a symbol.
    fn symbol_bits(self) -> u32 {
        8 >> self.packing
    }

    /// The symbol of numbers that are stored elsewhere; the largest one.
    fn escape(self) -> u8 {
        u8::MAX >> (8 - self.symbol_bits())
    }

    fn bytes(self, symbols: usize) -> usize {
        symbols.div_ceil(1 << self.packing)
    }

    /// The symbol of `number`, and the low bits to store beside it if it is neither 0 nor the escape.
    #[inline(always)]
    fn symbol<N: Number>(self, number: N) -> (u8, u64) {
        if number == N::default() {
            return (0, 0);
        }
        let whole = number.shift_right(self.zeros.into());
        let dropped: u64 = (whole.into() << self.zeros) ^ number.into();
        // A number that differs from zero has a zigzag of at least 1; so does one that is shifted without loss.
        let code = whole.zigzag().into().wrapping_sub(1);
        let high = code >> self.low;
        let is_direct = N::low(dropped) == N::default() && high < u64::from(self.escape()) - 1;
        if is_direct { (high as u8 + 1, code & ((1 << self.low) - 1)) } else { (self.escape(), 0) }
    }
}

/// Encodes the numbers of each group, which are read as two's complement integers.
pub fn encode<N: Number>(numbers: &Sequences<N>, effort: Effort) -> Vec<u8> {
    let (mut table, mut data) = (Vec::new(), Vec::new());
    // The escaped numbers of all groups, and how many each group has.
    let (mut escaped, mut escapes) = (Vec::new(), Vec::new());
    varint::write(&mut table, numbers.partition().groups() as u64 - 1);
    for (group, sequence) in numbers.iter().enumerate() {
        let parameters = choose(sequence);
        let before = escaped.len();
        let packed = pack(sequence, parameters, &mut escaped);
        let frame = frame(&packed.symbols);
        escapes.push((escaped.len() - before) as u64);
        if group + 1 < numbers.partition().groups() {
            varint::write(&mut table, numbers.partition().span(group) - 1);
        }
        varint::write(&mut table, sequence.len() as u64);
        table.extend([parameters.packing, parameters.low, parameters.zeros]);
        varint::write(&mut table, frame.len() as u64);
        data.extend(frame);
        data.extend(packed.low_bits);
    }
    let mut by_group = Sequences::zeros(Partition::of_counts(&escapes), &escapes);
    by_group.numbers_mut().copy_from_slice(&escaped);
    let escapes = by_group.encode(effort);
    varint::write(&mut table, escaped.len() as u64);
    varint::write(&mut table, escapes.len() as u64);
    table.extend(escapes);
    table.extend(data);
    table
}

/// The numbers of a group, without those that are escaped.
struct Packed {
    /// The symbols, some of them in each byte.
    symbols: Vec<u8>,
    low_bits: Vec<u8>,
}

/// Packs the symbols of a group to bytes, and appends its escaped numbers to `escaped`.
fn pack<N: Number>(sequence: &[N], parameters: Parameters, escaped: &mut Vec<N>) -> Packed {
    if parameters.low == 0 && parameters.zeros == 0 {
        let symbols = match parameters.packing {
            0 => pack_small::<1, N>(sequence, parameters, escaped),
            1 => pack_small::<2, N>(sequence, parameters, escaped),
            2 => pack_small::<4, N>(sequence, parameters, escaped),
            _ => pack_small::<8, N>(sequence, parameters, escaped),
        };
        return Packed { symbols, low_bits: Vec::new() };
    }
    let mut low_bits = Writer::default();
    let mut symbols = vec![0; parameters.bytes(sequence.len())];
    for (byte, numbers) in symbols.iter_mut().zip(sequence.chunks(1 << parameters.packing)) {
        for (at, number) in (0u32..).zip(numbers) {
            let (symbol, low) = parameters.symbol(*number);
            *byte |= symbol << (at * parameters.symbol_bits());
            if symbol == parameters.escape() {
                escaped.push(number.zigzag().minus(N::low(1)));
            } else if symbol != 0 && parameters.low != 0 {
                low_bits.push_bits(low, parameters.low.into());
            }
        }
    }
    Packed { symbols, low_bits: low_bits.finish() }
}

/// Compresses the symbols of a group.
fn frame(symbols: &[u8]) -> Vec<u8> {
    if symbols.is_empty() { Vec::new() } else { zstd_frame::huffman(symbols) }
}

/// The symbols of [`pack`], for numbers without low bits and zero bits, whose symbol is their zigzag unless they are escaped: loops without
/// branches,
/// which compilers vectorize.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+bmi1+bmi2+lzcnt+popcnt",
    "x86_64+avx2+bmi1+bmi2+lzcnt+popcnt"
))]
fn pack_small<const PER_BYTE: usize, N: Number>(
    sequence: &[N],
    parameters: Parameters,
    escaped: &mut Vec<N>,
) -> Vec<u8> {
    let escape = N::low(parameters.escape().into());
    for numbers in sequence.chunks(ESCAPE_STRIDE) {
        let is_escaped = numbers.iter().map(|number| number.zigzag() >= escape).enumerate();
        let mut set = is_escaped.fold(0u32, |set, (at, is_escaped)| set | u32::from(is_escaped) << at);
        while set != 0 {
            escaped.push(numbers[set.trailing_zeros() as usize].zigzag().minus(N::low(1)));
            set &= set - 1;
        }
    }
    let mut packed = vec![0; parameters.bytes(sequence.len())];
    let (whole, rest) = sequence.as_chunks::<PER_BYTE>();
    let (whole_bytes, last_byte) = packed.split_at_mut(whole.len());
    for (byte, numbers) in whole_bytes.iter_mut().zip(whole) {
        *byte = packed_small::<PER_BYTE, N>(numbers, escape);
    }
    for byte in last_byte {
        *byte = packed_small::<PER_BYTE, N>(rest, escape);
    }
    packed
}

/// The symbols of at most `PER_BYTE` numbers, the first ones in the lowest bits.
// Not a closure: one that is called twice is not compiled for the processors that `pack_small` is compiled for.
#[inline(always)]
fn packed_small<const PER_BYTE: usize, N: Number>(numbers: &[N], escape: N) -> u8 {
    let symbols = numbers.iter().map(|number| number.zigzag().min(escape).into() as u8).enumerate();
    symbols.fold(0, |byte, (at, symbol)| byte | symbol << (at * (8 / PER_BYTE)))
}

/// The parameters for which a sample of the numbers takes the fewest bits.
fn choose<N: Number>(sequence: &[N]) -> Parameters {
    let step = sequence.len().div_ceil(SAMPLE).max(1) * SAMPLED_RUN;
    let runs = (0..sequence.len()).step_by(step).map(|start| &sequence[start..sequence.len().min(start + SAMPLED_RUN)]);
    let sample: Vec<N> = runs.flatten().copied().collect();
    let changes: Vec<N> = sample.iter().copied().filter(|number| *number != N::default()).collect();
    let n = changes.len();
    if n == 0 {
        return Parameters { packing: PACKING_MAX, ..Parameters::default() };
    }
    // Zeros that all but one number of 64 share; this is 0 for nearly all data.
    let mut trailing: Vec<u32> = changes.iter().map(|number| (*number).into().trailing_zeros()).collect();
    let zeros = *trailing.select_nth_unstable(n / 64).1 as u8;
    let code = |number: &N| number.shift_right(zeros.into()).zigzag().into().wrapping_sub(1);
    let mut lengths: Vec<u32> = changes.iter().map(|number| 64 - code(number).leading_zeros()).collect();
    lengths.sort_unstable();
    let low_bits = [lengths[n / 2], lengths[n - 1 - n / 256]].map(|length| length.saturating_sub(8));
    let low_bits = low_bits[0]..=low_bits[1];
    // A number with low bits of its own has no small symbol to pack. Where few numbers change, by much, one bit says which.
    let packed = (0..=PACKING_MAX).filter(|packing| *packing == PACKING_MAX || *low_bits.start() == 0);
    let candidates = packed.map(|packing| (packing, 0)).chain(low_bits.clone().map(|low| (0, low)));
    candidates
        .map(|(packing, low)| Parameters { packing, low: low as u8, zeros })
        .min_by_key(|parameters| (estimated_bits(&sample, n, *parameters), parameters.packing, parameters.low))
        .unwrap_or_default()
}

/// About how many bits a sample takes in which `changes` numbers are not zero.
fn estimated_bits<N: Number>(sample: &[N], changes: usize, parameters: Parameters) -> u64 {
    let mut escaped = Vec::new();
    let Packed { symbols, .. } = pack(sample, parameters, &mut escaped);
    let direct_bits = (changes - escaped.len()) as u64 * u64::from(parameters.low);
    let (mut escapes, mut escape_bits) = (Histogram::default(), 0);
    for code in &escaped {
        // Integer codecs spend bits on what a small number is, or on the length of a large one and all but its highest bit.
        let number = code.plus(N::low(1)).into();
        let length = 64 - number.leading_zeros();
        if number < 16 {
            escapes.add(number as u8);
        } else {
            escapes.add(16 + length as u8);
            escape_bits += u64::from(length) - 1;
        }
    }
    escape_bits += escapes.huffman_bits();
    // Escapes take many times longer to encode and to decode, so they must save something.
    Histogram::of(&symbols).huffman_bits() + direct_bits + escape_bits + escape_bits / 8
}

/// Decodes `total` numbers over `classes` classes.
///
/// Allocates memory for `total` numbers, which the caller has bounded, as much again if all of them are escaped, one byte more for each
/// of those in the largest group, and 2 bytes per class.
///
/// # Errors
/// Every [`Corrupt`].
pub fn decode<N: Number>(bytes: &[u8], classes: usize, total: usize) -> Result<Sequences<N>, Corrupt> {
    let mut reader = Reader::new(bytes);
    let (group_of_class, table) = groups::read_table(&mut reader, classes, total, |reader| {
        let mut below = |field, limit: u32| {
            let (found, most) = (reader.u8(field)?, limit as u8 - 1);
            let out_of_range = Corrupt::Range { field, found: found.into(), least: 0, most: most.into() };
            if found <= most { Ok(found) } else { Err(out_of_range) }
        };
        let parameters = Parameters {
            packing: below("packing", u32::from(PACKING_MAX) + 1)?,
            low: below("low bits", N::BITS)?,
            zeros: below("zero bits", N::BITS)?,
        };
        Ok((parameters, reader.varint("bytes of a frame", 0, u64::MAX)?))
    })?;
    let escapes = reader.varint("escapes", 0, total as u64)? as usize;
    let escape_bytes = reader.varint("bytes of escapes", 0, u64::MAX)?;
    let escaped = groups::decode::<N>(reader.take(escape_bytes, "escapes")?, table.len(), escapes)?.into_numbers();
    let mut escaped = escaped.into_iter();

    // Room for the symbols of padding in the last byte of the last group.
    let mut numbers = Vec::with_capacity(total + 8);
    for (count, (parameters, frame_bytes)) in &table {
        let frame = reader.take(*frame_bytes, "a frame")?;
        decode_group(*count, *parameters, frame, &mut reader, &mut escaped, &mut numbers)?;
    }
    reader.finish("the last group")?;
    if escaped.len() > 0 {
        let (found, expected) = ((escapes - escaped.len()) as u64, escapes as u64);
        return Err(Corrupt::Count { field: "symbols of escapes", found, expected });
    }
    let ends = groups::ends(table.iter().map(|(count, ..)| *count));
    Ok(Sequences::new(group_of_class, numbers, ends))
}

/// Appends the `count` numbers of a group to `numbers`. `reader` is at the group's low bits.
fn decode_group<N: Number>(
    count: usize,
    parameters: Parameters,
    frame: &[u8],
    reader: &mut Reader<'_>,
    escaped: &mut impl Iterator<Item = N>,
    numbers: &mut Vec<N>,
) -> Result<(), Corrupt> {
    let start = numbers.len();
    let bytes = parameters.bytes(count);
    let corrupt = Corrupt::Frame { field: "symbols", bytes: bytes as u64 };
    let packed = match (frame, count) {
        ([], 0) => Vec::new(),
        (_, 0) => return Err(Corrupt::Trailing { field: "a group without numbers", found: frame.len() as u64 }),
        _ => zstd_frame::unpack(frame, bytes).map_err(|_| corrupt)?,
    };
    match parameters.packing {
        0 => unpack::<1, N>(&packed, numbers),
        1 => unpack::<2, N>(&packed, numbers),
        2 => unpack::<4, N>(&packed, numbers),
        _ => unpack::<8, N>(&packed, numbers),
    }
    if numbers.iter().skip(start + count).any(|padding| *padding != N::default()) {
        return Err(Corrupt::Padding { field: "symbols" });
    }
    numbers.truncate(start + count);
    let (_, symbols) = numbers.split_at_mut(start);
    let (zero, escape) = (N::default(), N::low(parameters.escape().into()));
    let mut next_escaped = || {
        let code = escaped.next().ok_or(Corrupt::Truncated { field: "escapes", needed: 1, found: 0 })?;
        Ok(code.plus(N::low(1)).unzigzag())
    };
    if parameters.low == 0 {
        // The code of a direct number is its symbol - 1, so that its zigzag is the symbol.
        let direct = |symbol: N| N::low(symbol.unzigzag().into() << parameters.zeros);
        if symbols.contains(&escape) {
            for symbol in symbols {
                *symbol = if *symbol == escape { next_escaped()? } else { direct(*symbol) };
            }
        } else {
            symbols.iter_mut().for_each(|symbol| *symbol = direct(*symbol));
        }
        return Ok(());
    }
    let low = u32::from(parameters.low);
    let n_direct = symbols.iter().filter(|symbol| **symbol != zero && **symbol != escape).count();
    let bits = n_direct as u64 * u64::from(low);
    let low_bits = reader.take(bits.div_ceil(8), "low bits")?;
    let mut at = 0;
    for symbol in symbols {
        if *symbol == escape {
            *symbol = next_escaped()?;
        } else if *symbol != zero {
            let high: u64 = (*symbol).into() - 1;
            let code = N::low(high << low | bits_at(low_bits, at, low));
            *symbol = N::low(code.plus(N::low(1)).unzigzag().into() << parameters.zeros);
            at += u64::from(low);
        }
    }
    let padding = bits.next_multiple_of(8) - bits;
    if bits_at(low_bits, bits, padding as u32) != 0 {
        return Err(Corrupt::Padding { field: "low bits" });
    }
    Ok(())
}

/// Appends the symbols in `packed`, `PER_BYTE` in a byte, the first ones in the lowest bits.
fn unpack<const PER_BYTE: usize, N: Number>(packed: &[u8], symbols: &mut Vec<N>) {
    let start = symbols.len();
    symbols.resize(start + packed.len() * PER_BYTE, N::default());
    let bits = 8 / PER_BYTE;
    let mask = u8::MAX >> (8 - bits);
    let (_, out) = symbols.split_at_mut(start);
    for (out, byte) in out.as_chunks_mut::<PER_BYTE>().0.iter_mut().zip(packed) {
        for (at, out) in out.iter_mut().enumerate() {
            *out = N::low((byte >> (at * bits) & mask).into());
        }
    }
}

/// The `count` bits of `bytes` from bit `at` on, the first one lowest; at most 63. Bits behind the end are 0.
#[inline(always)]
fn bits_at(bytes: &[u8], at: u64, count: u32) -> u64 {
    let (first, shift) = ((at / 8) as usize, at % 8);
    let mask = (1 << count) - 1;
    let rest = bytes.get(first..).unwrap_or_default();
    match rest.first_chunk() {
        Some(eight) if count <= 57 => u64::from_le_bytes(*eight) >> shift & mask,
        _ => {
            let mut window = [0; 16];
            window.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            (u128::from_le_bytes(window) >> shift) as u64 & mask
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Numbers;
    use proptest::prelude::*;

    /// A group of `n` numbers, of which a share of `density` differs from zero, with magnitudes up to `2^bits`, times `2^zeros`.
    fn numbers<N: Number>(n: usize, density: f64, bits: u32, zeros: u32, random: &mut Numbers) -> Vec<N> {
        let magnitude = |random: &mut Numbers| {
            let bits = random.below(u64::from(bits) + 1);
            random.below(1 << bits)
        };
        (0..n)
            .map(|_| {
                let magnitude = if random.unit() < density { magnitude(random) << zeros } else { 0 };
                let sign = random.below(2);
                N::low(if sign == 0 { magnitude } else { magnitude.wrapping_neg() })
            })
            .collect()
    }

    fn sequences<N: Number>(groups: &[Vec<N>]) -> Sequences<N> {
        let counts: Vec<u64> = groups.iter().map(|group| group.len() as u64).collect();
        let mut sequences = Sequences::zeros(Partition::with_at_least(1, &counts), &counts);
        sequences.numbers_mut().copy_from_slice(&groups.concat());
        sequences
    }

    fn round_trip<N: Number>(seed: u64) {
        let random = &mut Numbers::new(seed);
        let groups: Vec<Vec<N>> = (0..1 + random.below(5))
            .map(|_| {
                let (n, density) = (1 + random.below(3000) as usize, random.unit());
                let zeros = random.below(2) * random.below(u64::from(N::BITS));
                numbers(n, density * density, random.below(u64::from(N::BITS)) as u32, zeros as u32, random)
            })
            .collect();
        let sequences = sequences(&groups);
        let bytes = encode(&sequences, Effort::Default);
        let total = sequences.numbers().len();
        assert_eq!(decode(&bytes, groups.len(), total), Ok(sequences));
        for end in (0..bytes.len()).step_by(1 + bytes.len() / 50) {
            assert!(decode::<N>(&bytes[..end], groups.len(), total).is_err(), "prefix of {end} bytes");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn encoded_numbers_are_decoded_and_prefixes_are_refused(seed: u64) {
            match seed % 3 {
                0 => round_trip::<u16>(seed),
                1 => round_trip::<u32>(seed),
                _ => round_trip::<u64>(seed),
            }
        }
    }

    #[test]
    fn every_packing_low_bits_and_zero_bits_come_back() {
        let random = &mut Numbers::new(1);
        let numbers: Vec<u32> = numbers(1000, 0.5, 14, 3, random);
        for packing in 0..=PACKING_MAX {
            for low in [0, 1, 7, 31] {
                for zeros in [0, 3, 31] {
                    let (parameters, mut escaped) = (Parameters { packing, low, zeros }, Vec::new());
                    let Packed { symbols, low_bits } = pack(&numbers, parameters, &mut escaped);
                    let frame = frame(&symbols);
                    let (mut reader, mut escaped, mut decoded) =
                        (Reader::new(&low_bits), escaped.into_iter(), Vec::new());
                    decode_group(numbers.len(), parameters, &frame, &mut reader, &mut escaped, &mut decoded).unwrap();
                    assert_eq!((decoded, escaped.len()), (numbers.clone(), 0), "{parameters:?}");
                    reader.finish("low bits").unwrap();
                }
            }
        }
    }

    #[test]
    fn parameters_follow_the_numbers() {
        let random = &mut Numbers::new(2);
        let uniform: Vec<u32> = (0..50_000).map(|_| random.below(1 << 20) as u32).collect();
        let Parameters { packing, low, zeros } = choose(&uniform);
        assert!(packing == 0 && (10..16).contains(&low) && zeros == 0, "wide numbers keep low bits");
        let mut chosen = |density, bits, zeros| choose::<u32>(&numbers(50_000, density, bits, zeros, random));
        assert_eq!(chosen(1.0, 1, 16).zeros, 16, "as weights that are upcast from bfloat16");
        assert_eq!(chosen(0.01, 1, 0).packing, PACKING_MAX, "few changes share a byte");
        assert_eq!(chosen(0.0, 1, 0), Parameters { packing: PACKING_MAX, low: 0, zeros: 0 });
    }

    #[test]
    fn refuses_what_no_writer_writes() {
        let bytes = encode(&sequences::<u16>(&[vec![1, 0, 0, 1, 2]]), Effort::Default);
        let [0, 5, packing, 0, 0, ..] = bytes[..] else { panic!("{bytes:?}") };
        let refused = |at: usize, byte: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            decode::<u16>(&bytes, 1, 5).unwrap_err()
        };
        assert!(matches!(refused(2, 4), Corrupt::Range { field: "packing", most: 3, .. }));
        assert!(matches!(refused(3, 16), Corrupt::Range { field: "low bits", most: 15, .. }));
        assert!(matches!(refused(4, 16), Corrupt::Range { field: "zero bits", most: 15, .. }));
        assert!(matches!(refused(2, packing ^ 1), Corrupt::Frame { .. }));
        assert!(matches!(decode::<u16>(&bytes, 1, 4), Err(Corrupt::Range { .. })));
        assert!(matches!(decode::<u16>(&bytes, 1, 6), Err(Corrupt::Count { .. })));
        assert!(matches!(decode::<u16>(&[&bytes[..], &[0]].concat(), 1, 5), Err(Corrupt::Trailing { .. })));
    }
}

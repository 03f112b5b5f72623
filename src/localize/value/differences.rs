//! Keys of elements: |reference - target| as a double, computed block by block, and the check that all elements are finite.

use crate::context::Context;
use crate::dtype::{Dtype, FloatFormat, Width};
use crate::format::block::{BlockId, block_range};
use crate::localize::Impossible;
use crate::localize::scan::{Block, BlockDigests, STRIDE_BYTES, elements_in};
use crate::mask::PairMasks;
use crate::mask::pruning::Bits;
use crate::mask::ranking::{Keys, sampled};
use crate::mask::top_k::{Counts, Outside, Search};
use crate::pair::{Pair, TensorPair};
use multiversion::multiversion;
use std::ops::{RangeInclusive, Sub};

/// The elements of some blocks of a pair, ranked by their differences.
pub(super) struct Differences<'a> {
    pub pair: &'a Pair<'a>,
    pub blocks: Vec<BlockId>,
    /// If there are masks, only elements that both keep have a key.
    pub masks: Option<&'a PairMasks<'a>>,
    pub context: &'a Context<'a>,
}

/// Consecutive elements of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    /// The position of the first element.
    pub first: u32,
    /// The target's bytes.
    pub target: &'a [u8],
    /// The reference's bytes, in the target's dtype.
    pub reference: &'a [u8],
}

impl<'a> Differences<'a> {
    /// Hashes a block, checks that it is finite, and counts its keys for the first step of `search`.
    ///
    /// # Errors
    /// [`Impossible`]: an element that is not finite, a mask that cannot be read, or cancellation.
    pub fn hash_and_count(&self, block: Block<'_>, search: &Search) -> Result<(Counts, BlockDigests), Impossible> {
        let mut counter = search.counter();
        let mut finder = self.finder(block.id, search.range())?;
        let digests = block.read(self.context, |first, target, reference| {
            let part = Part { first, target, reference };
            finder.check_finite(part)?;
            finder.find(part).iter().for_each(|(_, key)| counter.add(*key));
            Ok::<(), Impossible>(())
        })?;
        Ok((counter.finish(finder.outside()), digests))
    }

    /// Reads a block. Calls `each` with consecutive parts of it, and with the index in the part and the key of each element whose key
    /// is in `range`. Returns the numbers of other elements.
    ///
    /// # Errors
    /// The errors of `each`, a mask that cannot be read, or cancellation.
    pub fn read(
        &self,
        id: BlockId,
        range: RangeInclusive<u64>,
        mut each: impl FnMut(Part<'_>, &[(u32, u64)]) -> Result<(), Impossible>,
    ) -> Result<Outside, Impossible> {
        let pair = &self.pair.tensors[id.tensor];
        let elements = block_range(id.index, pair.target.info.elements());
        let (stride, width) = (STRIDE_BYTES as usize, pair.dtype().width().bytes());
        let mut finder = self.finder(id, range)?;
        pair.windows(elements.clone(), self.context, |start, target, reference| {
            let first = (start - elements.start) as u32;
            let strides = target.chunks(stride).zip(reference.chunks(stride));
            for ((target, reference), first) in strides.zip((first..).step_by(stride / width)) {
                let part = Part { first, target, reference };
                each(part, finder.find(part))?;
            }
            Ok::<(), Impossible>(())
        })?;
        Ok(finder.outside())
    }

    fn finder(&self, id: BlockId, range: RangeInclusive<u64>) -> Result<Finder<'a>, Impossible> {
        let pair = &self.pair.tensors[id.tensor];
        let start = block_range(id.index, pair.target.info.elements()).start;
        let both_keep = self.masks.map(|masks| masks.both_keep(pair, id.index, self.context)).transpose()?;
        Ok(Finder { pair, start, both_keep, range, found: Found::default(), ranked: 0, inside: 0, above: 0 })
    }
}

/// Bytes of each side that are sampled together: many, for few page faults, and few, for a sample of many places.
const SAMPLED_BYTES: u64 = 256;

impl Keys for Differences<'_> {
    type Error = Impossible;

    fn blocks(&self) -> &[BlockId] {
        &self.blocks
    }

    fn elements(&self) -> u64 {
        elements_in(self.pair, &self.blocks)
    }

    fn sample(&self, id: BlockId, step: u64) -> Vec<u64> {
        let pair = &self.pair.tensors[id.tensor];
        let elements = block_range(id.index, pair.target.info.elements());
        let run = SAMPLED_BYTES / pair.dtype().width().bytes() as u64;
        let (mut keys, mut found, mut buffer) = (Vec::new(), Found::default(), Vec::new());
        let mut runs = sampled(id, elements.clone(), run, step).peekable();
        for window in pair.target.element_windows(elements) {
            while let Some(run) = runs.next_if(|run| run.start < window.end) {
                let reference = pair.reference_elements(run.clone(), &mut buffer);
                find(pair.dtype(), pair.target.elements(run), reference, &(0..=u64::MAX), &mut found);
                keys.extend(found.entries().iter().map(|(_, key)| key));
            }
            pair.release(window);
        }
        keys
    }

    fn walk(
        &self,
        id: BlockId,
        range: RangeInclusive<u64>,
        mut each: impl FnMut(u32, u64),
    ) -> Result<Outside, Impossible> {
        let start = block_range(id.index, self.pair.tensors[id.tensor].target.info.elements()).start;
        self.read(id, range, |part, found| {
            check_finite(&self.pair.tensors[id.tensor], start, part)?;
            found.iter().for_each(|(index, key)| each(part.first + index, *key));
            Ok(())
        })
    }
}

/// Finds the elements of one block whose key is in a range, part by part, and counts the others.
struct Finder<'a> {
    pair: &'a TensorPair<'a>,
    /// The flat index of the block's first element.
    start: u64,
    both_keep: Option<Bits>,
    range: RangeInclusive<u64>,
    found: Found,
    /// The numbers of elements that have a key, of those in the range, and of those above it.
    ranked: u64,
    inside: u64,
    above: u64,
}

impl Finder<'_> {
    /// The index and key of each element of the next part whose key is in the range, ascending.
    fn find(&mut self, part: Part<'_>) -> &[(u32, u64)] {
        let Self { pair, range, found, .. } = self;
        let width = pair.dtype().width().bytes();
        // Rows that only the target has are not ranked.
        let compared = pair.compared().saturating_sub(self.start + u64::from(part.first));
        let elements = (part.target.len() / width).min(compared as usize);
        let (target, reference) = (&part.target[..elements * width], &part.reference[..elements * width]);
        match &self.both_keep {
            None => {
                self.above += find(pair.dtype(), target, reference, range, found);
                self.ranked += elements as u64;
            }
            Some(both_keep) => {
                let both_keep = &both_keep[part.first as usize..][..elements];
                find(pair.dtype(), target, reference, &(*range.start()..=u64::MAX), found);
                found.retain(|index, key| {
                    let is_ranked = both_keep[index as usize];
                    self.above += u64::from(is_ranked && key > *range.end());
                    is_ranked && key <= *range.end()
                });
                self.ranked += both_keep.count_ones() as u64;
            }
        }
        self.inside += found.entries().len() as u64;
        found.entries()
    }

    fn check_finite(&self, part: Part<'_>) -> Result<(), Impossible> {
        check_finite(self.pair, self.start, part)
    }

    /// The numbers of elements that were not in the range.
    fn outside(&self) -> Outside {
        Outside { above: self.above, below: self.ranked - self.inside - self.above }
    }
}

/// The index in a part and the key of each element whose key is in a range, ascending by index.
#[derive(Debug, Default)]
struct Found {
    /// The elements, followed by room for others. Room is written to and not taken wherever an element turns out not to be one of them,
    /// because a branch that no processor foresees costs more.
    entries: Vec<(u32, u64)>,
    /// The number of elements.
    n: usize,
}

impl Found {
    /// No elements, and room for at least `most`.
    fn clear(&mut self, most: usize) {
        self.n = 0;
        if self.entries.len() < most {
            self.entries.resize(most, (0, 0));
        }
    }

    /// Adds an element if `is_found`.
    #[inline(always)]
    fn push_if(&mut self, is_found: bool, index: u32, key: u64) {
        self.entries[self.n] = (index, key);
        self.n += usize::from(is_found);
    }

    fn retain(&mut self, mut is_kept: impl FnMut(u32, u64) -> bool) {
        self.entries.truncate(self.n);
        self.entries.retain(|(index, key)| is_kept(*index, *key));
        self.n = self.entries.len();
    }

    fn entries(&self) -> &[(u32, u64)] {
        &self.entries[..self.n]
    }
}

/// Replaces `found` by the index and key of each element whose key is in `range`, ascending. Returns the number of elements whose key
/// is above it.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+bmi1+bmi2+lzcnt+popcnt",
    "x86_64+avx2+bmi1+bmi2+lzcnt+popcnt"
))]
fn find(dtype: Dtype, target: &[u8], reference: &[u8], range: &RangeInclusive<u64>, found: &mut Found) -> u64 {
    found.clear(target.len() / dtype.width().bytes() + TOGETHER);
    // A difference of two numbers that an F32 can hold, rounded to an F32, is that of the key, so that it does not change the order.
    let [low, high] = [*range.start(), *range.end()].map(|key| f64::from_bits(key.min(f64::INFINITY.to_bits())));
    let rough = (low as f32).max(if low > 0.0 { f32::from_bits(1) } else { 0.0 })..=high as f32;
    match (dtype, dtype.float(), dtype.width()) {
        (Dtype::F64, ..) => {
            find_in::<8, f64>(target, reference, range, low..=high, f64::from_le_bytes, f64::abs, found)
        }
        (Dtype::F32, ..) => find_in::<4, f32>(target, reference, range, rough, f32::from_le_bytes, f32::abs, found),
        (Dtype::Bf16, ..) => {
            let value = |bytes| f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16);
            find_in::<2, f32>(target, reference, range, rough, value, f32::abs, found)
        }
        (_, Some(float), Width::W2) => {
            let value = |bytes| small(float, u16::from_le_bytes(bytes).into());
            find_in::<2, f32>(target, reference, range, rough, value, f32::abs, found)
        }
        (_, Some(float), _) => {
            find_in::<1, f32>(target, reference, range, rough, |[byte]| small(float, byte.into()), f32::abs, found)
        }
        (_, None, _) => 0,
    }
}

/// The value of the bits of a finite number with fewer bits than an F32.
#[inline(always)]
fn small(float: FloatFormat, bits: u32) -> f32 {
    let sign = 1 << (float.exponent_bits + float.mantissa_bits);
    // The same exponent and mantissa in an F32, which has another bias. The product is exact, also for subnormal numbers.
    let magnitude = f32::from_bits((bits & (sign - 1)) << (23 - float.mantissa_bits));
    let scale = f32::from_bits((127 + 127 - ((1 << (float.exponent_bits - 1)) - 1)) << 23);
    if bits & sign == 0 { magnitude * scale } else { -magnitude * scale }
}

/// Elements that are compared together: one for each bit of a `u32`.
const STRIDE: usize = 32;

/// Elements of a stride whose keys are computed without asking how many there are.
const TOGETHER: usize = 4;

/// As [`find`], for elements of `N` bytes. A difference in `T` is in `rough` if its key is in `range`.
#[inline(always)]
fn find_in<const N: usize, T: Copy + PartialOrd + Sub<Output = T> + Into<f64>>(
    target: &[u8],
    reference: &[u8],
    range: &RangeInclusive<u64>,
    rough: RangeInclusive<T>,
    value: impl Fn([u8; N]) -> T,
    abs: impl Fn(T) -> T,
    found: &mut Found,
) -> u64 {
    let wanted = Wanted { range, rough, value, abs };
    let mut above = 0;
    let (targets, last_targets) = target.as_chunks::<N>().0.as_chunks::<STRIDE>();
    let (references, last_references) = reference.as_chunks::<N>().0.as_chunks::<STRIDE>();
    for ((targets, references), start) in targets.iter().zip(references).zip((0..).step_by(STRIDE)) {
        above += wanted.find(start, targets, references, found);
    }
    above + wanted.find(STRIDE * targets.len(), last_targets, last_references, found)
}

/// Which elements [`find_in`] finds.
struct Wanted<'a, T, Value, Abs> {
    range: &'a RangeInclusive<u64>,
    rough: RangeInclusive<T>,
    value: Value,
    abs: Abs,
}

impl<T: Copy + PartialOrd + Sub<Output = T> + Into<f64>, Value, Abs: Fn(T) -> T> Wanted<'_, T, Value, Abs> {
    /// Appends those of the next at most [`STRIDE`] elements to `found`, and returns how many are above.
    // A method, since a closure that is called twice is not compiled for the processors that `find` is compiled for.
    #[inline(always)]
    fn find<const N: usize>(&self, start: usize, targets: &[[u8; N]], references: &[[u8; N]], found: &mut Found) -> u64
    where
        Value: Fn([u8; N]) -> T,
    {
        let Self { range, rough, value, abs } = self;
        let difference = |(target, reference): (&[u8; N], &[u8; N])| abs(value(*reference) - value(*target));
        // Loops without branches, which the compiler vectorizes.
        let differences = || targets.iter().zip(references).map(difference).enumerate();
        let reaching =
            differences().fold(0u32, |set, (at, difference)| set | u32::from(difference >= *rough.start()) << at);
        if reaching == 0 {
            return 0;
        }
        let over = differences().fold(0u32, |set, (at, difference)| set | u32::from(difference > *rough.end()) << at);
        let mut above = u64::from(over.count_ones());
        let mut near = reaching & !over;
        while near != 0 {
            for _ in 0..TOGETHER {
                // The first element, whatever its key, if none is left.
                let (is_near, index) = (near != 0, near.trailing_zeros() as usize % STRIDE);
                near &= near.wrapping_sub(1);
                let (target, reference): (f64, f64) = (value(targets[index]).into(), value(references[index]).into());
                let key = (reference - target).abs().to_bits();
                above += u64::from(is_near & (key > *range.end()));
                found.push_if(is_near & range.contains(&key), (start + index) as u32, key);
            }
        }
        above
    }
}

/// Checks a part of a block of `pair`; `start` is the flat index of the block's first element.
///
/// # Errors
/// [`Impossible::NotFinite`].
fn check_finite(pair: &TensorPair<'_>, start: u64, part: Part<'_>) -> Result<(), Impossible> {
    let Part { first, target, reference } = part;
    match all_finite(pair.dtype(), target) && all_finite(pair.dtype(), reference) {
        true => Ok(()),
        false => Err(find_not_finite(pair, start + u64::from(first), target, reference)),
    }
}

/// Whether all elements are finite. Integer comparisons without an early exit, which the compiler vectorizes.
fn all_finite(dtype: Dtype, bytes: &[u8]) -> bool {
    let Some(float) = dtype.float() else { return true };
    let exponent = ((1u64 << float.exponent_bits) - 1) << float.mantissa_bits;
    let mask = if float.ieee { exponent } else { exponent | ((1 << float.mantissa_bits) - 1) };
    match dtype.width() {
        Width::W1 => !any(bytes.iter().map(|byte| byte & mask as u8 == mask as u8)),
        Width::W2 => !any(bytes.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b) & mask as u16 == mask as u16)),
        Width::W4 => !any(bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b) & mask as u32 == mask as u32)),
        Width::W8 => !any(bytes.as_chunks().0.iter().map(|b| u64::from_le_bytes(*b) & mask == mask)),
    }
}

fn any(each: impl Iterator<Item = bool>) -> bool {
    each.fold(false, |any, one| any | one)
}

#[cold]
fn find_not_finite(pair: &TensorPair<'_>, start: u64, target: &[u8], reference: &[u8]) -> Impossible {
    let (width, float) = (pair.dtype().width(), pair.dtype().float());
    let found = (0..target.len() / width.bytes()).find_map(|at| {
        let sides = [("target", target), ("reference", reference)];
        sides.into_iter().find_map(|(side, bytes)| {
            let value = float.map_or(0.0, |float| float.value(width.load(bytes, at)));
            (!value.is_finite()).then_some((at as u64, side, value))
        })
    });
    let (at, side, value) = found.unwrap_or((0, "target", f64::NAN));
    Impossible::NotFinite { tensor: pair.name().to_owned(), index: start + at, side, value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn infinities_and_nans_of_every_float_dtype_are_not_finite() {
        for (dtype, finite, not_finite) in [
            (Dtype::F64, vec![f64::MAX.to_bits()], vec![f64::INFINITY.to_bits(), f64::NAN.to_bits()]),
            (Dtype::F32, vec![f32::MIN.to_bits().into()], vec![f32::NEG_INFINITY.to_bits().into()]),
            (Dtype::Bf16, vec![0x7f7f], vec![0x7f80, 0xffc0]),
            (Dtype::F16, vec![0x7bff], vec![0x7c00, 0xfe00]),
            // It has no infinities, and one NaN of either sign.
            (Dtype::F8E4M3, vec![0x7e, 0x78], vec![0x7f, 0xff]),
        ] {
            let bytes = |bits: u64| bits.to_le_bytes()[..dtype.width().bytes()].repeat(3);
            assert!(finite.into_iter().all(|bits| all_finite(dtype, &bytes(bits))), "{dtype}");
            assert!(!not_finite.into_iter().any(|bits| all_finite(dtype, &bytes(bits))), "{dtype}");
        }
    }

    /// Finite bits that are all kinds of numbers: zeros, subnormal, near each other, and as large as can be.
    fn bits(dtype: Dtype) -> impl Strategy<Value = u64> {
        let float = dtype.float().unwrap();
        let near = (0.25f64..4.0).prop_map(move |value| match float.round(value) {
            crate::dtype::Rounded::Finite(bits) | crate::dtype::Rounded::NotFinite(bits) => bits,
        });
        let all = (0u64..=u64::MAX).prop_map(move |bits| bits & dtype.width().mask());
        prop_oneof![0u64..3, near, all].prop_map(move |bits| if float.is_finite(bits) { bits } else { 1 })
    }

    fn pairs() -> impl Strategy<Value = (Dtype, Vec<(u64, u64)>)> {
        let dtypes = vec![Dtype::F32, Dtype::Bf16, Dtype::F16, Dtype::F64, Dtype::F8E4M3, Dtype::F8E5M2];
        prop::sample::select(dtypes)
            .prop_flat_map(|dtype| (Just(dtype), prop::collection::vec((bits(dtype), bits(dtype)), 1..150)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]
        #[test]
        fn finds_the_keys_in_a_range_as_a_naive_loop_does((dtype, bits) in pairs(), ends: [prop::sample::Index; 2]) {
            let float = dtype.float().unwrap();
            let key = |(target, reference): &(u64, u64)| (float.value(*reference) - float.value(*target)).abs().to_bits();
            let keys: Vec<u64> = bits.iter().map(key).collect();
            let mut possible = keys.clone();
            possible.extend(keys.iter().flat_map(|key| [key.saturating_sub(1), key + 1]));
            possible.extend([0, 1, u64::MAX]);
            let mut ends = ends.map(|end| *end.get(&possible));
            ends.sort_unstable();
            let range = ends[0]..=ends[1];
            let bytes = |side: fn(&(u64, u64)) -> u64| {
                bits.iter().flat_map(|pair| side(pair).to_le_bytes()[..dtype.width().bytes()].to_vec()).collect::<Vec<u8>>()
            };
            let mut found = Found { entries: vec![(7, 7)], n: 1 };
            let above = find(dtype, &bytes(|pair| pair.0), &bytes(|pair| pair.1), &range, &mut found);
            let expected: Vec<(u32, u64)> = (0..).zip(keys.iter().copied()).filter(|(_, key)| range.contains(key)).collect();
            prop_assert_eq!(found.entries(), expected);
            prop_assert_eq!(above as usize, keys.iter().filter(|key| *key > range.end()).count());
        }
    }
}

//! Keys of elements: |reference - target| as a double, computed block by block, and the check that all elements are finite.

use crate::context::Context;
use crate::dtype::{Dtype, FloatFormat, Width};
use crate::format::block::{BlockId, block_range};
use crate::localize::Impossible;
use crate::localize::scan::elements_in;
use crate::mask::PairMasks;
use crate::mask::flags::{self, Flags, STRIDE};
use crate::mask::pruning::Bits;
use crate::mask::ranking::{Keys, sampled};
use crate::mask::top_k::{Counter, Outside};
use crate::pair::{Pair, TensorPair};
use bitvec::field::BitField;
use bitvec::order::Lsb0;
use bitvec::slice::BitSlice;
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
    /// Reads a block. Calls `each` with consecutive parts of it, and with their elements whose key is in `range` or above it. Returns the
    /// numbers of elements whose key is not in it.
    ///
    /// # Errors
    /// The errors of `each`, a mask that cannot be read, or cancellation.
    pub fn read(
        &self,
        id: BlockId,
        range: RangeInclusive<u64>,
        mut each: impl FnMut(Part<'_>, &Found) -> Result<(), Impossible>,
    ) -> Result<Outside, Impossible> {
        let pair = &self.pair.tensors[id.tensor];
        let elements = block_range(id.index, pair.target.info.elements());
        let mut finder = self.finder(id, range)?;
        pair.windows(elements.clone(), self.context, |window, target, reference| {
            let part = Part { first: (window.start - elements.start) as u32, target, reference };
            each(part, finder.find(part))
        })?;
        Ok(finder.outside())
    }

    /// Finds the keys of a block that are in `range`.
    ///
    /// # Errors
    /// A mask that cannot be read, or cancellation.
    pub fn finder(&self, id: BlockId, range: RangeInclusive<u64>) -> Result<Finder<'a>, Impossible> {
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
        let (mut keys, mut found) = (Vec::new(), Found::default());
        let (mut target, mut reference) = (Vec::new(), Vec::new());
        let mut runs = sampled(id, elements.clone(), run, step).peekable();
        for window in pair.target.element_windows(elements) {
            while let Some(run) = runs.next_if(|run| run.start < window.end) {
                let reference = pair.reference_elements(run.clone(), &mut reference);
                find(pair.dtype(), pair.target.read_to(run, &mut target), reference, &(0..=u64::MAX), &mut found);
                found.in_range(&(0..=u64::MAX), |_, key| keys.push(key));
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
        self.read(id, range.clone(), |part, found| {
            check_finite(&self.pair.tensors[id.tensor], start, part)?;
            found.in_range(&range, |index, key| each(part.first + index, key));
            Ok(())
        })
    }
}

/// Finds the elements of one block whose key is in a range, part by part, and counts the others.
pub(super) struct Finder<'a> {
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
    /// The elements of the next part whose key is in the range or above it.
    pub fn find(&mut self, part: Part<'_>) -> &Found {
        let Self { pair, range, found, .. } = self;
        let width = pair.dtype().width().bytes();
        // Rows that only the target has are not ranked.
        let compared = pair.compared().saturating_sub(self.start + u64::from(part.first));
        let elements = (part.target.len() / width).min(compared as usize);
        let (target, reference) = (&part.target[..elements * width], &part.reference[..elements * width]);
        find(pair.dtype(), target, reference, range, found);
        match &self.both_keep {
            None => self.ranked += elements as u64,
            Some(both_keep) => {
                let both_keep = &both_keep[part.first as usize..][..elements];
                found.retain(both_keep);
                self.ranked += both_keep.count_ones() as u64;
            }
        }
        self.inside += found.n as u64 + flags::count(&found.equal);
        self.above += flags::count(&found.above);
        found
    }

    /// Counts the keys of the next part that are in the range, and returns the elements as [`Finder::find`] does.
    pub fn count(&mut self, part: Part<'_>, counter: &mut Counter) -> &Found {
        self.find(part);
        let Self { found, range, .. } = self;
        counter.add_equal(*range.start(), flags::count(&found.equal));
        found.entries[..found.n].iter().for_each(|(_, key)| counter.add(*key));
        found
    }

    /// Checks that all elements of a part of the block are finite.
    ///
    /// # Errors
    /// [`Impossible::NotFinite`].
    pub fn check_finite(&self, part: Part<'_>) -> Result<(), Impossible> {
        check_finite(self.pair, self.start, part)
    }

    /// The numbers of elements that were not in the range.
    pub fn outside(&self) -> Outside {
        Outside { above: self.above, below: self.ranked - self.inside - self.above }
    }
}

/// The elements of a part whose key is in a range or above it.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The elements that the others are among: all whose key is in the range or above it, and perhaps some whose key is barely below.
    reaching: Vec<Flags>,
    /// The elements whose key is above the range.
    above: Vec<Flags>,
    /// The elements whose key is in the range, if the range is one key.
    equal: Vec<Flags>,
    /// The index in the part and the key of each element in another range, ascending by index, followed by room for others. Room is
    /// written to and not taken wherever an element turns out not to be one of them, because a branch that no processor foresees costs
    /// more.
    entries: Vec<(u32, u64)>,
    /// The number of elements in another range.
    n: usize,
}

impl Found {
    /// No elements, and room for those of a part of `most`.
    fn clear(&mut self, most: usize) {
        self.reaching.clear();
        self.above.clear();
        self.equal.clear();
        self.n = 0;
        if self.entries.len() < most + TOGETHER {
            self.entries.resize(most + TOGETHER, (0, 0));
        }
    }

    /// Adds an element of the range if `is_found`.
    #[inline(always)]
    fn push_if(&mut self, is_found: bool, index: u32, key: u64) {
        self.entries[self.n] = (index, key);
        self.n += usize::from(is_found);
    }

    /// Removes the elements that are not `kept`.
    fn retain(&mut self, kept: &BitSlice<u8, Lsb0>) {
        self.entries.truncate(self.n);
        self.entries.retain(|(index, _)| kept[*index as usize]);
        self.n = self.entries.len();
        for flags in [&mut self.reaching, &mut self.above, &mut self.equal] {
            flags.iter_mut().zip(kept.chunks(STRIDE)).for_each(|(flags, kept)| *flags &= kept.load_le::<Flags>());
        }
    }

    /// Calls `each` with the index in the part and the key of each element whose key is in the `range`, ascending by index.
    pub fn in_range(&self, range: &RangeInclusive<u64>, mut each: impl FnMut(u32, u64)) {
        flags::indices(&self.equal, |index| each(index, *range.start()));
        self.entries[..self.n].iter().for_each(|(index, key)| each(*index, *key));
    }

    /// All elements of the part whose key is in the range or above it, and perhaps some whose key is barely below.
    pub fn reaching(&self) -> &[Flags] {
        &self.reaching
    }

    /// The elements of the part whose key is above the range.
    pub fn above(&self) -> &[Flags] {
        &self.above
    }

    /// The elements of the part whose key is in the range, if the range is one key.
    pub fn equal(&self) -> &[Flags] {
        &self.equal
    }
}

/// Replaces `found` by the elements whose key is in `range` or above it.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+bmi1+bmi2+lzcnt+popcnt",
    "x86_64+avx2+bmi1+bmi2+lzcnt+popcnt"
))]
fn find(dtype: Dtype, target: &[u8], reference: &[u8], range: &RangeInclusive<u64>, found: &mut Found) {
    found.clear(target.len() / dtype.width().bytes());
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
        (_, None, _) => {}
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
) {
    let wanted = Wanted { range, rough, value, abs };
    let (targets, last_targets) = target.as_chunks::<N>().0.as_chunks::<STRIDE>();
    let (references, last_references) = reference.as_chunks::<N>().0.as_chunks::<STRIDE>();
    for ((targets, references), start) in targets.iter().zip(references).zip((0..).step_by(STRIDE)) {
        wanted.find(start, targets, references, found);
    }
    if !last_targets.is_empty() {
        wanted.find(STRIDE * targets.len(), last_targets, last_references, found);
    }
}

/// Which elements [`find_in`] finds.
struct Wanted<'a, T, Value, Abs> {
    range: &'a RangeInclusive<u64>,
    rough: RangeInclusive<T>,
    value: Value,
    abs: Abs,
}

impl<T: Copy + PartialOrd + Sub<Output = T> + Into<f64>, Value, Abs: Fn(T) -> T> Wanted<'_, T, Value, Abs> {
    /// Adds those of the next at most [`STRIDE`] elements to `found`.
    // A method, since a closure that is called twice is not compiled for the processors that `find` is compiled for.
    #[inline(always)]
    fn find<const N: usize>(&self, start: usize, targets: &[[u8; N]], references: &[[u8; N]], found: &mut Found)
    where
        Value: Fn([u8; N]) -> T,
    {
        let Self { range, rough, value, abs } = self;
        let difference = |(target, reference): (&[u8; N], &[u8; N])| abs(value(*reference) - value(*target));
        // Loops without branches, which the compiler vectorizes.
        let differences = || targets.iter().zip(references).map(difference).enumerate();
        let reaching =
            differences().fold(0, |set, (at, difference)| set | Flags::from(difference >= *rough.start()) << at);
        let (mut above, mut equal) = (0, 0);
        if reaching != 0 {
            above = differences().fold(0, |set, (at, difference)| set | Flags::from(difference > *rough.end()) << at);
            let near = reaching & !above;
            if near != 0 && range.start() == range.end() {
                let key = f64::from_bits(*range.start());
                let exact = |(target, reference): (&[u8; N], &[u8; N])| {
                    let (target, reference): (f64, f64) = (value(*target).into(), value(*reference).into());
                    (reference - target).abs()
                };
                let keys = || targets.iter().zip(references).map(exact).enumerate();
                equal = near & keys().fold(0, |set, (at, exact)| set | Flags::from(exact == key) << at);
                above |= near & keys().fold(0, |set, (at, exact)| set | Flags::from(exact > key) << at);
            } else {
                above |= self.find_near(start, near, targets, references, found);
            }
        }
        found.reaching.push(reaching);
        found.above.push(above);
        found.equal.push(equal);
    }

    /// Computes the keys of the elements that are `near` the range. Adds those in it to `found`, and returns those above.
    #[inline(always)]
    fn find_near<const N: usize>(
        &self,
        start: usize,
        mut near: Flags,
        targets: &[[u8; N]],
        references: &[[u8; N]],
        found: &mut Found,
    ) -> Flags
    where
        Value: Fn([u8; N]) -> T,
    {
        let Self { range, value, .. } = self;
        let mut above = 0;
        while near != 0 {
            for _ in 0..TOGETHER {
                // The first element, whatever its key, if none is left.
                let (is_near, index) = (near != 0, near.trailing_zeros() as usize % STRIDE);
                near &= near.wrapping_sub(1);
                let (target, reference): (f64, f64) = (value(targets[index]).into(), value(references[index]).into());
                let key = (reference - target).abs().to_bits();
                above |= Flags::from(is_near & (key > *range.end())) << index;
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
            let mut found = Found { reaching: vec![7], above: vec![7], equal: vec![7], entries: vec![(7, 7)], n: 1 };
            find(dtype, &bytes(|pair| pair.0), &bytes(|pair| pair.1), &range, &mut found);
            let expected: Vec<(u32, u64)> = (0..).zip(keys.iter().copied()).filter(|(_, key)| range.contains(key)).collect();
            let mut in_range = Vec::new();
            found.in_range(&range, |index, key| in_range.push((index, key)));
            prop_assert_eq!(in_range, expected);
            let is_above = |at: usize| found.above()[at / STRIDE] >> (at % STRIDE) & 1 == 1;
            prop_assert_eq!(found.above().len(), keys.len().div_ceil(STRIDE));
            let above: Vec<bool> = (0..STRIDE * found.above().len()).map(is_above).collect();
            let expected = keys.iter().map(|key| key > range.end()).chain(std::iter::repeat(false));
            prop_assert_eq!(&above, &expected.take(above.len()).collect::<Vec<_>>());
            let is_reaching = |at: usize| found.reaching()[at / STRIDE] >> (at % STRIDE) & 1 == 1;
            prop_assert!((0..keys.len()).all(|at| keys[at] < *range.start() || is_reaching(at)));
        }
    }
}

//! Keys of elements: |reference - target| as a double, computed block by block, and the check that all elements are finite.

use super::bound::Bound;
use crate::context::Context;
use crate::dtype::{Dtype, Width};
use crate::format::block::{BlockId, block_range};
use crate::localize::Impossible;
use crate::localize::scan::{Block, BlockDigests};
use crate::mask::PairMasks;
use crate::mask::ranking::{Keys, Zeros};
use crate::pair::{Pair, TensorPair};
use multiversion::multiversion;

/// The number of elements in `blocks` of a pair.
pub(super) fn elements(pair: &Pair<'_>, blocks: &[BlockId]) -> u64 {
    let range = |block: &BlockId| block_range(block.index, pair.tensors[block.tensor].target.info.elements());
    blocks.iter().map(range).map(|range| range.end - range.start).sum()
}

/// The keys of all elements in some blocks of a pair, computed from the checkpoints on each walk.
pub(super) struct Differences<'a> {
    pub pair: &'a Pair<'a>,
    pub blocks: Vec<BlockId>,
    /// If there are masks, only elements that both keep have a key.
    pub masks: Option<&'a PairMasks<'a>>,
    pub context: &'a Context<'a>,
}

impl Keys for Differences<'_> {
    type Error = Impossible;

    fn blocks(&self) -> &[BlockId] {
        &self.blocks
    }

    fn walk(&self, block: BlockId, zeros: Zeros, mut each: impl FnMut(u32, u64)) -> Result<u64, Impossible> {
        let pair = &self.pair.tensors[block.tensor];
        let range = block_range(block.index, pair.target.info.elements());
        let both_keep = self.masks.map(|masks| masks.both_keep(pair, block.index, self.context)).transpose()?;
        // An element that is only counted has no position to look up in a mask.
        let zeros = if both_keep.is_some() { Zeros::Visit } else { zeros };
        let mut counted = 0;
        let compared = range.start..range.end.min(pair.compared()).max(range.start);
        pair.windows(compared, self.context, |start, target, reference| {
            let first = (start - range.start) as u32;
            check_finite(pair, start, target, reference)?;
            counted += match &both_keep {
                None => each_key(pair.dtype(), target, reference, zeros, |at, key| each(first + at, key)),
                Some(both_keep) => each_key(pair.dtype(), target, reference, zeros, |at, key| {
                    if both_keep[(first + at) as usize] {
                        each(first + at, key);
                    }
                }),
            };
            Ok::<(), Impossible>(())
        })?;
        Ok(counted)
    }
}

/// Calls `each` with the index and key of each element. With [`Zeros::Count`], elements of key 0 may be counted instead; returns
/// their number.
pub(super) fn each_key(dtype: Dtype, target: &[u8], reference: &[u8], zeros: Zeros, each: impl FnMut(u32, u64)) -> u64 {
    match dtype {
        Dtype::F32 => each_key_of::<4>(target, reference, zeros, |b| f64::from(f32::from_le_bytes(b)), each),
        Dtype::Bf16 => {
            let value = |bytes| f64::from(f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16));
            each_key_of::<2>(target, reference, zeros, value, each)
        }
        Dtype::F64 => each_key_of::<8>(target, reference, zeros, f64::from_le_bytes, each),
        _ => match (dtype.float(), dtype.width().bytes()) {
            (Some(float), 2) => {
                let value = |bytes| float.value(u64::from(u16::from_le_bytes(bytes)));
                each_key_of::<2>(target, reference, zeros, value, each)
            }
            (Some(float), _) => each_key_of::<1>(target, reference, zeros, |[byte]| float.value(u64::from(byte)), each),
            (None, _) => 0,
        },
    }
}

#[inline(always)]
fn each_key_of<const N: usize>(
    target: &[u8],
    reference: &[u8],
    zeros: Zeros,
    value: impl Fn([u8; N]) -> f64,
    mut each: impl FnMut(u32, u64),
) -> u64 {
    let pairs = target.as_chunks::<N>().0.iter().zip(reference.as_chunks::<N>().0);
    let mut counted = 0;
    for (at, (t, r)) in (0u32..).zip(pairs) {
        if t == r && zeros == Zeros::Count {
            counted += 1;
        } else {
            each(at, (value(*r) - value(*t)).abs().to_bits());
        }
    }
    counted
}

/// Replaces `out` by the indices of all elements whose difference reaches `bound`, and of some whose difference almost does.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+bmi1+bmi2+lzcnt+popcnt",
    "x86_64+avx2+bmi1+bmi2+lzcnt+popcnt"
))]
pub(super) fn reaching_roughly(dtype: Dtype, target: &[u8], reference: &[u8], bound: Bound, out: &mut Vec<u32>) {
    out.clear();
    match dtype {
        // Rounding a difference to F32 keeps the order, so that no element which reaches the bound is missed.
        Dtype::F32 => {
            reaching::<4>(target, reference, |t, r| f32::from_le_bytes(r) - f32::from_le_bytes(t), bound, out)
        }
        Dtype::Bf16 => {
            let value = |bytes| f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16);
            reaching::<2>(target, reference, |t, r| value(r) - value(t), bound, out)
        }
        _ => {
            each_key(dtype, target, reference, Zeros::Count, |at, key| {
                if f64::from_bits(key) >= bound.key {
                    out.push(at);
                }
            });
        }
    }
}

/// Elements that are compared together before those that reach the bound, if any, are written down.
const STRIDE: usize = 32;

#[inline(always)]
fn reaching<const N: usize>(
    target: &[u8],
    reference: &[u8],
    difference: impl Fn([u8; N], [u8; N]) -> f32,
    bound: Bound,
    out: &mut Vec<u32>,
) {
    let (target, reference) = (target.as_chunks::<N>().0, reference.as_chunks::<N>().0);
    let reaches = |t: &[u8; N], r: &[u8; N]| difference(*t, *r).abs() >= bound.rough;
    let strides = target.chunks(STRIDE).zip(reference.chunks(STRIDE));
    for ((target, reference), start) in strides.zip((0u32..).step_by(STRIDE)) {
        // No early exit, so that the compiler vectorizes the loop.
        if target.iter().zip(reference).fold(false, |any, (t, r)| any | reaches(t, r)) {
            let indices = target.iter().zip(reference).zip(start..);
            out.extend(indices.filter(|((t, r), _)| reaches(t, r)).map(|(_, at)| at));
        }
    }
}

/// Reads a block, hashes it, and checks that its elements are finite.
///
/// # Errors
/// [`Impossible::NotFinite`], cancellation.
pub(super) fn check_block(block: Block<'_>, context: &Context<'_>) -> Result<BlockDigests, Impossible> {
    let pair = block.pair;
    let start = block_range(block.id.index, pair.target.info.elements()).start;
    block.read(context, |first, target, reference| check_finite(pair, start + u64::from(first), target, reference))
}

/// Checks elements of `pair`; `start` is the flat index of the first one.
///
/// # Errors
/// [`Impossible::NotFinite`].
pub(super) fn check_finite(
    pair: &TensorPair<'_>,
    start: u64,
    target: &[u8],
    reference: &[u8],
) -> Result<(), Impossible> {
    match all_finite(pair.dtype(), target) && all_finite(pair.dtype(), reference) {
        true => Ok(()),
        false => Err(find_not_finite(pair, start, target, reference)),
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

    #[test]
    fn elements_of_key_zero_are_counted_or_visited() {
        let bytes = |values: [f32; 3]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let (target, reference) = (bytes([1.0, 2.0, 3.0]), bytes([1.0, 4.5, 3.0]));
        let keys = |zeros| {
            let mut keys = Vec::new();
            let counted =
                each_key(Dtype::F32, &target, &reference, zeros, |at, key| keys.push((at, f64::from_bits(key))));
            (keys, counted)
        };
        assert_eq!(keys(Zeros::Count), (vec![(1, 2.5)], 2));
        assert_eq!(keys(Zeros::Visit), (vec![(0, 0.0), (1, 2.5), (2, 0.0)], 0));
    }
}

//! Value-based localization (paper eq 2): the k largest |reference - target| over all candidates.
//!
//! The key of an element is |r - t| as a double, rounded once: exact for most pairs of narrow floats, and never out of
//! order. Equal keys rank by tensor name, then flat index.

use super::Impossible;
use crate::checkpoint::pair::{Pair, TensorPair};
use crate::context::Context;
use crate::dtype::{Dtype, Width};
use crate::mask::ranking::{self, Keys, Zeros};
use crate::mask::{PairMasks, Scope, Selection, block_range, blocks};

/// How many weights to select.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// This many in all.
    Count(u64),
    /// This share of the candidates (of each tensor, in [`Scope::Tensor`]), rounded to the nearest count, at least 1 where
    /// there are any.
    Density(Density),
}

/// A share of the candidates, above 0 and at most 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Density(f64);

impl Density {
    /// None unless `0 < share <= 1`.
    pub fn new(share: f64) -> Option<Self> {
        (share > 0.0 && share <= 1.0).then_some(Self(share))
    }

    /// The share.
    pub fn share(self) -> f64 {
        self.0
    }
}

impl Amount {
    /// How many of `candidates` elements.
    ///
    /// # Errors
    /// [`Impossible::TooMany`].
    pub fn of(self, candidates: u64) -> Result<u64, Impossible> {
        let k = match self {
            Amount::Count(k) => k,
            Amount::Density(density) => ((density.0 * candidates as f64).round() as u64).max(1).min(candidates),
        };
        if k > candidates { Err(Impossible::TooMany { k, candidates }) } else { Ok(k) }
    }
}

/// Selects the `amount` of elements with the largest |reference - target| of the float tensors `candidates`; with
/// `masks`, of those elements only that both keep.
///
/// Walks the checkpoints three to six times, in parallel by block. Memory: 4 bytes for each selected element, and the
/// larger of 8 MiB and 8 bytes for each selected element.
///
/// # Errors
/// [`Impossible`]: a candidate that is not finite, more asked for than there is, or cancellation.
pub fn select(
    pair: &Pair<'_>,
    candidates: &[usize],
    amount: Amount,
    scope: Scope,
    masks: Option<&PairMasks<'_>>,
    context: &Context<'_>,
) -> Result<Selection, Impossible> {
    let ranked = |candidates: &[usize]| {
        let differences = Differences { pair, units: units(pair, candidates), masks, context };
        ranking::select(amount.of(elements(pair, candidates))?, &differences)
    };
    match scope {
        Scope::Global => ranked(candidates),
        Scope::Tensor => {
            let mut selection = Selection::default();
            for tensor in candidates {
                selection.blocks.extend(ranked(std::slice::from_ref(tensor))?.blocks);
            }
            Ok(selection)
        }
    }
}

/// The blocks of the tensors `candidates` of a pair, in order.
pub(super) fn units(pair: &Pair<'_>, candidates: &[usize]) -> Vec<(usize, u64)> {
    let of = |tensor: &usize| blocks(pair.tensors[*tensor].target.info.elements());
    candidates.iter().flat_map(|tensor| of(tensor).map(|index| (*tensor, index))).collect()
}

/// Elements of the tensors `candidates` of a pair.
pub(super) fn elements(pair: &Pair<'_>, candidates: &[usize]) -> u64 {
    candidates.iter().map(|tensor| pair.tensors[*tensor].target.info.elements()).sum()
}

struct Differences<'a> {
    pair: &'a Pair<'a>,
    units: Vec<(usize, u64)>,
    masks: Option<&'a PairMasks<'a>>,
    context: &'a Context<'a>,
}

impl Keys for Differences<'_> {
    type Error = Impossible;

    fn units(&self) -> &[(usize, u64)] {
        &self.units
    }

    fn walk(
        &self,
        (tensor, index): (usize, u64),
        zeros: Zeros,
        mut each: impl FnMut(u32, u64),
    ) -> Result<u64, Impossible> {
        let pair = &self.pair.tensors[tensor];
        let range = block_range(index, pair.target.info.elements());
        let both = match self.masks {
            Some(masks) => {
                let (target, reference) = masks.block(pair, index, self.context)?;
                Some(target & reference)
            }
            None => None,
        };
        // What is only counted can not be looked up in a mask.
        let zeros = if both.is_some() { Zeros::Visit } else { zeros };
        let mut counted = 0;
        pair.windows(range.clone(), self.context, |start, target, reference| {
            let first = (start - range.start) as u32;
            if !all_finite(pair.dtype(), target) || !all_finite(pair.dtype(), reference) {
                return Err(find_not_finite(pair, start, target, reference));
            }
            counted += match &both {
                None => each_key(pair.dtype(), target, reference, zeros, |at, key| each(first + at, key)),
                Some(both) => each_key(pair.dtype(), target, reference, zeros, |at, key| {
                    if both[(first + at) as usize] {
                        each(first + at, key);
                    }
                }),
            };
            Ok(())
        })?;
        Ok(counted)
    }
}

/// Whether all elements are finite. Integer comparisons without an early end, which become vector instructions.
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

/// Calls `each` with the places and keys of elements; returns how many of key 0 were only counted.
fn each_key(dtype: Dtype, target: &[u8], reference: &[u8], zeros: Zeros, each: impl FnMut(u32, u64)) -> u64 {
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

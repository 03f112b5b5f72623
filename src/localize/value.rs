//! Value-based localization (paper eq 2): the k largest |reference - target| over all candidates.
//!
//! The key of an element is |r - t| as a double, rounded once: exact for most pairs of narrow floats, and never out of
//! order. Equal keys rank by tensor name, then flat index.

use super::Impossible;
use super::top_k::{self, Threshold, Walk};
use crate::checkpoint::pair::{Pair, TensorPair};
use crate::context::Context;
use crate::dtype::{Dtype, Width};
use crate::mask::{SelectedBlock, Selection, block_range, blocks};
use rayon::prelude::*;

/// What is ranked together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All candidates in one ranking, as in the paper.
    Global,
    /// Each tensor for itself.
    Tensor,
}

/// How many weights to select.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// This many in all.
    Count(u64),
    /// This share of the candidates (of each tensor, in [`Scope::Tensor`]), rounded to the nearest count, at least 1.
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
            Amount::Density(density) => ((density.0 * candidates as f64).round() as u64).max(1),
        };
        if k > candidates { Err(Impossible::TooMany { k, candidates }) } else { Ok(k) }
    }
}

/// Selects the `amount` of elements with the largest |reference - target| of the float tensors `candidates`.
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
    context: &Context<'_>,
) -> Result<Selection, Impossible> {
    match scope {
        Scope::Global => Ranking::new(pair, candidates, context).select(amount),
        Scope::Tensor => {
            let mut selection = Selection::default();
            for tensor in candidates {
                let tensor = Ranking::new(pair, std::slice::from_ref(tensor), context).select(amount)?;
                selection.blocks.extend(tensor.blocks);
            }
            Ok(selection)
        }
    }
}

struct Ranking<'a> {
    pair: &'a Pair<'a>,
    units: Vec<(usize, u64)>,
    elements: u64,
    context: &'a Context<'a>,
}

impl<'a> Ranking<'a> {
    fn new(pair: &'a Pair<'a>, candidates: &[usize], context: &'a Context<'a>) -> Self {
        let elements = |tensor: &usize| pair.tensors[*tensor].target.info.elements();
        let units = candidates.iter().flat_map(|t| blocks(elements(t)).map(|index| (*t, index))).collect();
        Self { pair, units, elements: candidates.iter().map(elements).sum(), context }
    }

    fn select(&self, amount: Amount) -> Result<Selection, Impossible> {
        let k = amount.of(self.elements)?;
        if k == 0 {
            return Ok(Selection::default());
        }
        let threshold = top_k::threshold(k, self)?;
        let quotas = self.tie_quotas(threshold)?;
        let blocks = self
            .units
            .par_iter()
            .zip(quotas)
            .map(|((tensor, index), mut ties)| {
                let mut positions = Vec::new();
                let equal = if threshold.key == 0 { Equal::Visit } else { Equal::Skip };
                self.keys(*tensor, *index, equal, |position, key| {
                    let tied = key == threshold.key && ties > 0;
                    if tied || key > threshold.key {
                        ties -= u64::from(tied);
                        positions.push(position);
                    }
                })?;
                Ok(SelectedBlock { tensor: *tensor, index: *index, positions })
            })
            .collect::<Result<Vec<_>, Impossible>>()?;
        Ok(Selection { blocks: blocks.into_iter().filter(|block| !block.positions.is_empty()).collect() })
    }

    /// How many of the elements tied at the threshold each block may keep: the first ones, in order.
    fn tie_quotas(&self, threshold: Threshold) -> Result<Vec<u64>, Impossible> {
        if threshold.ties == threshold.equal {
            return Ok(vec![u64::MAX; self.units.len()]);
        }
        let counts = self
            .units
            .par_iter()
            .map(|(tensor, index)| {
                let mut count = 0;
                let equal =
                    self.keys(*tensor, *index, Equal::Skip, |_, key| count += u64::from(key == threshold.key))?;
                count += if threshold.key == 0 { equal } else { 0 };
                Ok(count)
            })
            .collect::<Result<Vec<u64>, Impossible>>()?;
        let mut left = threshold.ties;
        Ok(counts
            .into_iter()
            .map(|count| {
                let quota = count.min(left);
                left -= quota;
                quota
            })
            .collect())
    }

    /// Calls `each` with the position and key of the elements of a block; returns how many equal ones were skipped.
    fn keys(&self, tensor: usize, index: u64, equal: Equal, mut each: impl FnMut(u32, u64)) -> Result<u64, Impossible> {
        let pair = &self.pair.tensors[tensor];
        let range = block_range(index, pair.target.info.elements());
        let mut skipped = 0;
        pair.windows(range.clone(), self.context, |start, target, reference| {
            let first = (start - range.start) as u32;
            if !all_finite(pair.dtype(), target) || !all_finite(pair.dtype(), reference) {
                return Err(find_not_finite(pair, start, target, reference));
            }
            skipped += each_key(pair.dtype(), target, reference, equal, |at, key| each(first + at, key));
            Ok(())
        })?;
        Ok(skipped)
    }
}

/// What to do with elements whose bits are the same in both, and whose key is therefore 0. They are most elements of most
/// pairs, and adding them up one by one would take most of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Equal {
    Skip,
    Visit,
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

/// Calls `each` with the places and keys of elements; returns how many equal ones were skipped.
fn each_key(dtype: Dtype, target: &[u8], reference: &[u8], equal: Equal, each: impl FnMut(u32, u64)) -> u64 {
    match dtype {
        Dtype::F32 => each_key_of::<4>(target, reference, equal, |b| f64::from(f32::from_le_bytes(b)), each),
        Dtype::Bf16 => {
            let value = |bytes| f64::from(f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16));
            each_key_of::<2>(target, reference, equal, value, each)
        }
        Dtype::F64 => each_key_of::<8>(target, reference, equal, f64::from_le_bytes, each),
        _ => match (dtype.float(), dtype.width().bytes()) {
            (Some(float), 2) => {
                let value = |bytes| float.value(u64::from(u16::from_le_bytes(bytes)));
                each_key_of::<2>(target, reference, equal, value, each)
            }
            (Some(float), _) => each_key_of::<1>(target, reference, equal, |[byte]| float.value(u64::from(byte)), each),
            (None, _) => 0,
        },
    }
}

#[inline(always)]
fn each_key_of<const N: usize>(
    target: &[u8],
    reference: &[u8],
    equal: Equal,
    value: impl Fn([u8; N]) -> f64,
    mut each: impl FnMut(u32, u64),
) -> u64 {
    let pairs = target.as_chunks::<N>().0.iter().zip(reference.as_chunks::<N>().0);
    let mut skipped = 0;
    for (at, (t, r)) in (0u32..).zip(pairs) {
        if t == r && equal == Equal::Skip {
            skipped += 1;
        } else {
            each(at, (value(*r) - value(*t)).abs().to_bits());
        }
    }
    skipped
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

impl Walk<Impossible> for Ranking<'_> {
    fn histogram(&self, prefix: u64, shift: u32) -> Result<Vec<u64>, Impossible> {
        // Ranges of blocks, not blocks, so that there are few histograms.
        let parts = self.units.len().div_ceil(4 * rayon::current_num_threads()).max(1);
        let add = |mut a: Vec<u64>, b: Vec<u64>| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            a
        };
        self.units
            .par_chunks(parts)
            .map(|units| {
                let mut bins = vec![0u64; 1 << 16];
                for (tensor, index) in units {
                    let equal = self.keys(*tensor, *index, Equal::Skip, |_, key| {
                        let leading = key >> shift;
                        if shift == 48 || leading >> 16 == prefix {
                            bins[leading as usize & 0xffff] += 1;
                        }
                    })?;
                    bins[0] += if prefix == 0 { equal } else { 0 };
                }
                Ok(bins)
            })
            .try_reduce(|| vec![0; 1 << 16], |a, b| Ok(add(a, b)))
    }

    fn collect(&self, prefix: u64, shift: u32) -> Result<Vec<u64>, Impossible> {
        let parts = self
            .units
            .par_iter()
            .map(|(tensor, index)| {
                let mut keys = Vec::new();
                let equal = self.keys(*tensor, *index, Equal::Skip, |_, key| {
                    if key >> shift == prefix {
                        keys.push(key);
                    }
                })?;
                if prefix == 0 {
                    keys.extend(std::iter::repeat_n(0, equal as usize));
                }
                Ok(keys)
            })
            .collect::<Result<Vec<_>, Impossible>>()?;
        Ok(parts.concat())
    }
}

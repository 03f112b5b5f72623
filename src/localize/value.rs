//! Value-based localization (paper eq 2): the k largest |reference - target| over all candidates.
//!
//! The key of an element is |r - t| as a double, rounded once: exact for most pairs of narrow floats, and never out of
//! order. Equal keys rank by tensor name, then flat index.

use super::Impossible;
use super::survey::{Block, BlockDigests, survey};
use crate::context::Context;
use crate::dtype::{Dtype, Width};
use crate::format::block::block_range;
use crate::mask::ranking::{self, Cut, Keys, Zeros};
use crate::mask::{PairBits, PairMasks, Scope, SelectedBlock, Selection};
use crate::pair::{Pair, TensorPair};
use multiversion::multiversion;
use rayon::prelude::*;
use std::sync::atomic::{AtomicI64, Ordering};

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

/// Elements that are ranked together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The tensors that they are in, ascending.
    pub tensors: Vec<usize>,
    /// Which of them are selected.
    pub wanted: Wanted,
}

/// Which elements of those that are ranked together are selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// So many, with the largest keys.
    Largest(u64),
    /// All with a larger key than `key`, and the first `ties` of those with this one.
    Above {
        /// The smallest selected key.
        key: u64,
        /// How many are selected of those that are equal to it.
        ties: u64,
        /// Selected elements.
        k: u64,
    },
}

impl Wanted {
    /// How many.
    pub fn k(self) -> u64 {
        match self {
            Wanted::Largest(k) | Wanted::Above { k, .. } => k,
        }
    }

    fn select<K: Keys>(self, keys: &K) -> Result<Selection, K::Error> {
        match self {
            _ if self.k() == 0 => Ok(Selection::default()),
            Wanted::Largest(k) => ranking::select(k, keys),
            Wanted::Above { key, ties, .. } => Cut::at(key, ties, keys)?.select(keys),
        }
    }
}

/// What of the float tensors `candidates` is ranked together, and the `amount` that is selected of it.
///
/// # Errors
/// [`Impossible::TooMany`].
pub fn groups(pair: &Pair<'_>, candidates: &[usize], amount: Amount, scope: Scope) -> Result<Vec<Group>, Impossible> {
    let tensors: Vec<&[usize]> = match scope {
        Scope::Global => vec![candidates],
        Scope::Tensor => candidates.chunks(1).collect(),
    };
    let group = |tensors: &[usize]| {
        let elements = tensors.iter().map(|tensor| pair.tensors[*tensor].compared()).sum();
        Ok(Group { tensors: tensors.to_vec(), wanted: Wanted::Largest(amount.of(elements)?) })
    };
    tensors.into_iter().map(group).collect()
}

/// Selects the elements with the largest |reference - target| that `groups` want, within the blocks `units` of the pair; with
/// `masks`, of those elements only that both keep. Also returns the digests of the blocks.
///
/// Reads the blocks once: a sample gives a bound that few elements reach besides the selected ones, and those are kept with
/// their bits. Where that fails, because too many are equal or fewer differ than are asked for, walks the blocks
/// three to six times more. Memory: at most 40 bytes for each selected element and 24 MiB.
///
/// # Errors
/// [`Impossible`]: a candidate that is not finite, more asked for than there is, or cancellation.
pub fn select(
    pair: &Pair<'_>,
    units: &[(usize, u64)],
    groups: &[Group],
    masks: Option<&PairMasks<'_>>,
    context: &Context<'_>,
) -> Result<(Selection, Vec<BlockDigests>), Impossible> {
    let (near, digests) = near(pair, units, groups, masks, context)?;
    let mut selection = Selection::default();
    for (group, near) in groups.iter().zip(near) {
        selection.blocks.extend(match near {
            Near::Kept(kept) => kept.with_bits(group.wanted.select(&kept)?),
            Near::Unknown(differences) => group.wanted.select(&differences)?.blocks,
        });
    }
    Ok((selection, digests))
}

/// The keys that `groups` want the largest of, within the blocks `units` of the pair: for each group, as many as it wants or as
/// there are, descending, each with how many elements have it. Reads as [`select`] does.
///
/// # Errors
/// As [`select`].
pub fn largest(
    pair: &Pair<'_>,
    units: &[(usize, u64)],
    groups: &[Group],
    context: &Context<'_>,
) -> Result<Vec<Vec<(u64, u64)>>, Impossible> {
    let mut there = vec![0; pair.tensors.len()];
    units.iter().for_each(|unit| there[unit.0] += elements(pair, std::slice::from_ref(unit)));
    let here = |group: &Group| {
        let k = group.wanted.k().min(group.tensors.iter().map(|tensor| there[*tensor]).sum());
        Group { wanted: Wanted::Largest(k), ..group.clone() }
    };
    let groups: Vec<Group> = groups.iter().map(here).collect();
    let (near, _) = near(pair, units, &groups, None, context)?;
    let keys = groups.iter().zip(near).map(|(group, near)| match near {
        Near::Kept(kept) => ranking::largest(group.wanted.k(), &kept),
        Near::Unknown(differences) => ranking::largest(group.wanted.k(), &differences),
    });
    keys.collect()
}

/// The elements of a group that may be selected.
enum Near<'a> {
    /// All of them are at hand.
    Kept(KeptDifferences<'a>),
    /// All there are, to be walked.
    Unknown(Differences<'a>),
}

/// Reads the blocks `units` once, for what of each of `groups` may be selected, and their digests.
fn near<'a>(
    pair: &'a Pair<'a>,
    units: &[(usize, u64)],
    groups: &[Group],
    masks: Option<&'a PairMasks<'a>>,
    context: &'a Context<'a>,
) -> Result<(Vec<Near<'a>>, Vec<BlockDigests>), Impossible> {
    let mut group_of: Vec<Option<usize>> = vec![None; pair.tensors.len()];
    for (at, group) in groups.iter().enumerate() {
        group.tensors.iter().for_each(|tensor| group_of[*tensor] = Some(at));
    }
    let mut units_of: Vec<Vec<(usize, u64)>> = vec![Vec::new(); groups.len()];
    for unit in units {
        if let Some(group) = group_of[unit.0] {
            units_of[group].push(*unit);
        }
    }
    let bound = |(group, units): (&Group, &Vec<(usize, u64)>)| match group.wanted {
        Wanted::Largest(k) => Bound::of(pair, units, k),
        Wanted::Above { key, k, .. } if k > 0 => Bound::at(f64::from_bits(key)),
        Wanted::Above { .. } => None,
    };
    let bounds: Vec<Option<Bound>> = groups.iter().zip(&units_of).map(bound).collect();
    let budget = Budget::new(groups.iter().map(|group| group.wanted.k()).sum());
    let (found, digests) = survey(pair, units, |block| match group_of[block.tensor].map(|group| bounds[group]) {
        Some(Some(bound)) => above(block, bound, &budget, masks, context),
        Some(None) => finite(block, context).map(|digests| (None, digests)),
        None => Ok((None, block.skim(context)?)),
    })?;
    let mut kept: Vec<Vec<SelectedBlock>> = vec![Vec::new(); groups.len()];
    if !budget.is_spent() {
        for block in found.into_iter().flatten() {
            if let Some(group) = group_of[block.tensor] {
                kept[group].push(block);
            }
        }
    }
    let near = groups.iter().zip(bounds).zip(kept).zip(units_of).map(|(((group, bound), kept), units)| {
        let kept = KeptDifferences::new(pair, kept);
        match bound.filter(|bound| !budget.is_spent() && kept.reaching(*bound) >= group.wanted.k()) {
            Some(_) => Near::Kept(kept),
            None => Near::Unknown(Differences { pair, units, masks, context }),
        }
    });
    Ok((near.collect(), digests))
}

/// A difference that at least the selected elements reach, as a sample tells.
#[derive(Debug, Clone, Copy)]
struct Bound {
    key: f64,
    /// Not above it, and exact in an F32.
    rough: f32,
}

/// Elements that are sampled, at least; where there are fewer, all are.
const SAMPLE_ELEMENTS: u64 = 1 << 20;
/// Bytes of each side that are sampled together: a cache line.
const SAMPLE_BYTES: u64 = 64;

impl Bound {
    /// A bound for the `k` largest differences in the blocks `units`; none if it would not keep most elements out. Only costs time if it
    /// is wrong.
    fn of(pair: &Pair<'_>, units: &[(usize, u64)], k: u64) -> Option<Self> {
        let all = elements(pair, units);
        let of_block = |(tensor, index): &(usize, u64)| {
            let pair = &pair.tensors[*tensor];
            let (range, dtype) = (block_range(*index, pair.target.info.elements()), pair.dtype());
            let line = SAMPLE_BYTES / dtype.width().bytes() as u64;
            let step = line * (all / SAMPLE_ELEMENTS).max(1);
            let (mut keys, mut rounded) = (Vec::new(), Vec::new());
            for window in pair.target.element_windows(range) {
                for start in (window.start..window.end).step_by(step as usize) {
                    let part = start..(start + line).min(window.end);
                    let reference = pair.reference_elements(part.clone(), &mut rounded);
                    each_key(dtype, pair.target.elements(part), reference, Zeros::Visit, |_, key| keys.push(key));
                }
                pair.release(window);
            }
            keys
        };
        let mut keys: Vec<u64> = units.par_iter().flat_map_iter(of_block).collect();
        // A share of the sample as the selection is of all, and more: six standard deviations, and a tenth for elements near each
        // other, which are alike.
        let share = k as f64 / all as f64 * keys.len() as f64;
        let rank = (1.1 * share + 6.0 * share.sqrt() + 16.0) as usize;
        if rank >= keys.len() / 2 {
            return None;
        }
        let (_, key, _) = keys.select_nth_unstable_by(rank, |a, b| b.cmp(a));
        Self::at(f64::from_bits(*key))
    }

    /// The difference `key`; none if all elements reach it.
    fn at(key: f64) -> Option<Self> {
        let rounded = key as f32;
        let rough = if f64::from(rounded) > key { rounded.next_down() } else { rounded };
        (key > 0.0 && rough.is_finite()).then_some(Self { key, rough })
    }
}

/// Elements that may be kept in all.
struct Budget {
    left: AtomicI64,
}

impl Budget {
    /// What leaves room for 40 bytes for each of `k` elements: the bits of F64 and its position are 20, ranking takes 8.
    fn new(k: u64) -> Self {
        Self { left: AtomicI64::new((k + k / 4 + (1 << 20)) as i64) }
    }

    fn spend(&self, elements: usize) {
        self.left.fetch_sub(elements as i64, Ordering::Relaxed);
    }

    fn is_spent(&self) -> bool {
        self.left.load(Ordering::Relaxed) < 0
    }
}

type Looked = (Option<SelectedBlock>, BlockDigests);

/// The elements of a block whose difference may reach `bound`, until the budget is spent.
fn above(
    block: Block<'_>,
    bound: Bound,
    budget: &Budget,
    masks: Option<&PairMasks<'_>>,
    context: &Context<'_>,
) -> Result<Looked, Impossible> {
    let (pair, tensor, index) = (block.pair, block.tensor, block.index);
    let (dtype, width) = (pair.dtype(), pair.dtype().width().bytes());
    let both = match masks {
        Some(masks) => {
            let (target, reference) = masks.block(pair, index, context)?;
            Some(target & reference)
        }
        None => None,
    };
    let start = block_range(index, pair.target.info.elements()).start;
    let (mut positions, mut bits, mut reaching) = (Vec::new(), PairBits::default(), Vec::new());
    let digests = block.read(context, |first, target, reference| {
        check_finite(pair, start + u64::from(first), target, reference)?;
        if budget.is_spent() {
            return Ok(());
        }
        rough_differences(dtype, target, reference, bound, &mut reaching);
        if let Some(both) = &both {
            reaching.retain(|at| both[(first + at) as usize]);
        }
        if pair.has_other_rows() {
            reaching.retain(|at| start + u64::from(first + at) < pair.compared());
        }
        budget.spend(reaching.len());
        for at in &reaching {
            let bytes = *at as usize * width..(*at as usize + 1) * width;
            positions.push(first + at);
            bits.target.extend_from_slice(&target[bytes.clone()]);
            bits.reference.extend_from_slice(&reference[bytes]);
        }
        Ok::<(), Impossible>(())
    })?;
    positions.shrink_to_fit();
    bits.target.shrink_to_fit();
    bits.reference.shrink_to_fit();
    let found = (!positions.is_empty()).then_some(SelectedBlock { tensor, index, positions, bits: Some(bits) });
    Ok((found, digests))
}

/// Reads a block only to see that it is finite.
fn finite(block: Block<'_>, context: &Context<'_>) -> Result<BlockDigests, Impossible> {
    let pair = block.pair;
    let start = block_range(block.index, pair.target.info.elements()).start;
    block.read(context, |first, target, reference| check_finite(pair, start + u64::from(first), target, reference))
}

fn check_finite(pair: &TensorPair<'_>, start: u64, target: &[u8], reference: &[u8]) -> Result<(), Impossible> {
    match all_finite(pair.dtype(), target) && all_finite(pair.dtype(), reference) {
        true => Ok(()),
        false => Err(find_not_finite(pair, start, target, reference)),
    }
}

/// Puts the indices of elements into `out` whose difference reaches `bound`, and of some that nearly do.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+bmi1+bmi2+lzcnt+popcnt",
    "x86_64+avx2+bmi1+bmi2+lzcnt+popcnt"
))]
fn rough_differences(dtype: Dtype, target: &[u8], reference: &[u8], bound: Bound, out: &mut Vec<u32>) {
    out.clear();
    match dtype {
        // The difference of two F32, rounded, is in order with the exact one.
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

/// Elements compared before the next look whether there is anything to write down.
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
        // A loop without an early end, which becomes vector instructions.
        if target.iter().zip(reference).fold(false, |any, (t, r)| any | reaches(t, r)) {
            let places = target.iter().zip(reference).zip(start..);
            out.extend(places.filter(|((t, r), _)| reaches(t, r)).map(|(_, at)| at));
        }
    }
}

/// Differences that were kept on the way, to be ranked without the checkpoints.
struct KeptDifferences<'a> {
    pair: &'a Pair<'a>,
    blocks: Vec<SelectedBlock>,
    units: Vec<(usize, u64)>,
}

impl<'a> KeptDifferences<'a> {
    fn new(pair: &'a Pair<'a>, blocks: Vec<SelectedBlock>) -> Self {
        let units = blocks.iter().map(|block| (block.tensor, block.index)).collect();
        Self { pair, blocks, units }
    }

    /// How many reach `bound`. If that is as many as are selected, no other element is.
    fn reaching(&self, bound: Bound) -> u64 {
        let count = |block: &SelectedBlock| {
            let mut count = 0;
            self.each(block, |_, key| count += u64::from(f64::from_bits(key) >= bound.key));
            count
        };
        self.blocks.par_iter().map(count).sum()
    }

    fn each(&self, block: &SelectedBlock, mut each: impl FnMut(u32, u64)) {
        let Some(bits) = &block.bits else { return };
        let dtype = self.pair.tensors[block.tensor].dtype();
        each_key(dtype, &bits.target, &bits.reference, Zeros::Visit, |at, key| each(block.positions[at as usize], key));
    }

    /// What is selected, with its bits.
    fn with_bits(&self, selection: Selection) -> Vec<SelectedBlock> {
        let with_bits = |block: SelectedBlock| {
            let Ok(unit) = self.units.binary_search(&(block.tensor, block.index)) else { return block };
            let SelectedBlock { positions, bits: Some(all), .. } = &self.blocks[unit] else { return block };
            let width = self.pair.tensors[block.tensor].dtype().width().bytes();
            let mut bits = PairBits::default();
            let mut at = 0;
            for position in &block.positions {
                while positions[at] < *position {
                    at += 1;
                }
                let bytes = at * width..(at + 1) * width;
                bits.target.extend_from_slice(&all.target[bytes.clone()]);
                bits.reference.extend_from_slice(&all.reference[bytes]);
            }
            SelectedBlock { bits: Some(bits), ..block }
        };
        selection.blocks.into_par_iter().map(with_bits).collect()
    }
}

impl Keys for KeptDifferences<'_> {
    type Error = Impossible;

    fn units(&self) -> &[(usize, u64)] {
        &self.units
    }

    fn walk(&self, unit: (usize, u64), _: Zeros, each: impl FnMut(u32, u64)) -> Result<u64, Impossible> {
        if let Ok(at) = self.units.binary_search(&unit) {
            self.each(&self.blocks[at], each);
        }
        Ok(0)
    }
}

/// Elements in the blocks `units` of a pair.
fn elements(pair: &Pair<'_>, units: &[(usize, u64)]) -> u64 {
    let range = |(tensor, index): &(usize, u64)| block_range(*index, pair.tensors[*tensor].target.info.elements());
    units.iter().map(range).map(|range| range.end - range.start).sum()
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
        // What is only counted cannot be looked up in a mask.
        let zeros = if both.is_some() { Zeros::Visit } else { zeros };
        let mut counted = 0;
        let compared = range.start..range.end.min(pair.compared()).max(range.start);
        pair.windows(compared, self.context, |start, target, reference| {
            let first = (start - range.start) as u32;
            check_finite(pair, start, target, reference)?;
            counted += match &both {
                None => each_key(pair.dtype(), target, reference, zeros, |at, key| each(first + at, key)),
                Some(both) => each_key(pair.dtype(), target, reference, zeros, |at, key| {
                    if both[(first + at) as usize] {
                        each(first + at, key);
                    }
                }),
            };
            Ok::<(), Impossible>(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::localize::survey::PairDigests;
    use crate::pair::{OtherDtype, PairOptions, PruningPairs, Unpaired};
    use proptest::prelude::*;

    fn checkpoint(dtype: Dtype, bits: &[u64]) -> Checkpoint {
        let width = dtype.width().bytes();
        let header = format!(
            "{{\"w\":{{\"dtype\":\"{dtype}\",\"shape\":[{}],\"data_offsets\":[0,{}]}}}}",
            bits.len(),
            bits.len() * width
        );
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bits.iter().for_each(|bits| bytes.extend(&bits.to_le_bytes()[..width]));
        Checkpoint::from_bytes("w".as_ref(), bytes).unwrap()
    }

    /// Finite bits of about the size of weights, some of them equal.
    fn weights(dtype: Dtype, n: usize, seed: u64) -> Vec<u64> {
        let float = dtype.float().unwrap();
        let value = |at: usize| (crate::random::number(seed, at as u64) % 4001) as f64 / 2000.0 - 1.0;
        let bits = |at| match float.round(value(at)) {
            crate::dtype::Rounded::Finite(bits) | crate::dtype::Rounded::NotFinite(bits) => bits,
        };
        (0..n).map(bits).collect()
    }

    fn by_sorting(dtype: Dtype, target: &[u64], reference: &[u64], k: usize) -> Vec<u32> {
        let float = dtype.float().unwrap();
        let difference = |at: u32| (float.value(reference[at as usize]) - float.value(target[at as usize])).abs();
        let mut all: Vec<u32> = (0..target.len() as u32).collect();
        all.sort_by(|a, b| difference(*b).total_cmp(&difference(*a)).then(a.cmp(b)));
        all.truncate(k);
        all.sort_unstable();
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn selects_what_sorting_selects_with_its_bits(
            dtype in prop::sample::select(vec![Dtype::F32, Dtype::Bf16, Dtype::F16, Dtype::F64, Dtype::F8E4M3]),
            n in 1usize..4000,
            share in 1usize..60,
            differ in 0u64..5,
            seed: u64,
        ) {
            let target = weights(dtype, n, seed);
            // From hardly any differences, for which no bound serves, to differences everywhere.
            let other = weights(dtype, n, seed ^ 1);
            let pick = |at: usize| crate::random::number(!seed, at as u64) % 4 < differ;
            let reference: Vec<u64> = (0..n).map(|at| if pick(at) { other[at] } else { target[at] }).collect();
            let (target_file, reference_file) = (checkpoint(dtype, &target), checkpoint(dtype, &reference));
            let options = PairOptions {
                unpaired: Unpaired::Refuse,
                other_dtype: OtherDtype::Refuse,
                prefix: None,
                pruning_pairs: PruningPairs::Tensors,
            };
            let pair = Pair::new(&target_file, &reference_file, &options).unwrap();
            let k = (n * share / 100).max(1);
            let amount = Amount::Count(k as u64);
            let groups = groups(&pair, &[0], amount, Scope::Global).unwrap();
            let (selection, digests) = select(&pair, &[(0, 0)], &groups, None, &Context::silent()).unwrap();
            let [block] = &selection.blocks[..] else { panic!("one block") };
            let expected = by_sorting(dtype, &target, &reference, k);
            prop_assert_eq!(&block.positions, &expected);
            if let Some(bits) = &block.bits {
                let at = |all: &[u64]| expected.iter().map(|at| all[*at as usize]).collect::<Vec<u64>>();
                prop_assert_eq!(dtype.width().load_all(&bits.target), at(&target));
                prop_assert_eq!(dtype.width().load_all(&bits.reference), at(&reference));
            }
            let hash = crate::digest::ContentHash::Blake3;
            let found = PairDigests::join([1], &digests);
            prop_assert_eq!(found.0[0].target, pair.tensors[0].target.digest(hash, &Context::silent()).unwrap());
            prop_assert_eq!(found.0[0].reference, pair.tensors[0].reference.digest(hash, &Context::silent()).unwrap());
        }
    }
}

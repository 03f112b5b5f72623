//! Value-based localization (paper eq 2): the k largest |reference - target| over all candidates.
//!
//! The key of an element is |r - t| as a double, rounded once: exact for most pairs of narrow floats, and never out of
//! order. Equal keys rank by tensor name, then flat index.
//!
//! [`bound`] estimates from a sample how large a selected difference is at least, [`kept`] holds the elements that reach this bound
//! while the checkpoints are read once, and [`keys`] computes the keys, from kept elements or from the checkpoints.

mod bound;
mod kept;
mod keys;

use super::Impossible;
use super::scan::{BlockDigests, scan};
use crate::context::Context;
use crate::format::block::BlockId;
use crate::mask::ranking::{self, Cut, Keys};
use crate::mask::{PairMasks, Scope, SelectedBlock, Selection};
use crate::pair::Pair;
use bound::{Bound, Budget};
use kept::{KeptDifferences, keep_reaching};
use keys::{Differences, check_block, elements};

/// How many weights to select.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// This many in all.
    Count(u64),
    /// This share of the candidates (of each tensor, in [`Scope::Tensor`]), rounded to the nearest count, at least 1 if there
    /// are any.
    Density(Density),
}

/// A share of the candidates, above 0 and at most 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Density(f64);

impl Density {
    /// `None` unless `0 < share <= 1`.
    pub fn new(share: f64) -> Option<Self> {
        (share > 0.0 && share <= 1.0).then_some(Self(share))
    }

    /// The share.
    pub fn share(self) -> f64 {
        self.0
    }
}

impl Amount {
    /// The count that this is of `candidates` elements.
    ///
    /// # Errors
    /// [`Impossible::TooMany`].
    pub(crate) fn of(self, candidates: u64) -> Result<u64, Impossible> {
        let k = match self {
            Amount::Count(k) => k,
            Amount::Density(density) => ((density.0 * candidates as f64).round() as u64).max(1).min(candidates),
        };
        if k > candidates { Err(Impossible::TooMany { k, candidates }) } else { Ok(k) }
    }
}

/// Tensors whose elements are ranked together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankingGroup {
    /// Indices of the tensors in their pair, ascending.
    pub tensors: Vec<usize>,
    /// Where the selection ends in the ranking.
    pub cutoff: Cutoff,
}

/// Where the selection ends in a ranking by key, largest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cutoff {
    /// After this many elements.
    Largest(u64),
    /// After the elements whose key is above `key`, and the first `ties` elements whose key equals it.
    Above {
        /// The smallest selected key.
        key: u64,
        /// The number of selected elements whose key equals `key`.
        ties: u64,
        /// The number of selected elements.
        k: u64,
    },
}

impl Cutoff {
    /// The number of selected elements.
    pub fn k(self) -> u64 {
        match self {
            Cutoff::Largest(k) | Cutoff::Above { k, .. } => k,
        }
    }

    fn select<K: Keys>(self, keys: &K) -> Result<Selection, K::Error> {
        match self {
            _ if self.k() == 0 => Ok(Selection::default()),
            Cutoff::Largest(k) => ranking::select(k, keys),
            Cutoff::Above { key, ties, .. } => Cut::at(key, ties, keys)?.select(keys),
        }
    }
}

/// Groups the float tensors `candidates` by `scope`; `amount` gives the cutoff of each group.
///
/// # Errors
/// [`Impossible::TooMany`].
pub fn groups(
    pair: &Pair<'_>,
    candidates: &[usize],
    amount: Amount,
    scope: Scope,
) -> Result<Vec<RankingGroup>, Impossible> {
    let tensors: Vec<&[usize]> = match scope {
        Scope::Global => vec![candidates],
        Scope::Tensor => candidates.chunks(1).collect(),
    };
    let group = |tensors: &[usize]| {
        let elements = tensors.iter().map(|tensor| pair.tensors[*tensor].compared()).sum();
        Ok(RankingGroup { tensors: tensors.to_vec(), cutoff: Cutoff::Largest(amount.of(elements)?) })
    };
    tensors.into_iter().map(group).collect()
}

/// Selects in each of `groups` the elements with the largest |reference - target|, within `blocks` of the pair; with `masks`, only
/// elements that both masks keep. Also returns the digests of the blocks.
///
/// Reads the blocks once: a sample gives a bound that few elements reach besides the selected ones, and those elements are kept
/// with their bits. If that fails, because too many keys are equal or fewer elements differ than are selected, reads the blocks
/// three to six times more. Memory: at most 40 bytes for each selected element and 24 MiB.
///
/// # Errors
/// [`Impossible`]: a candidate that is not finite, more elements asked for than there are, or cancellation.
pub fn select(
    pair: &Pair<'_>,
    blocks: &[BlockId],
    groups: &[RankingGroup],
    masks: Option<&PairMasks<'_>>,
    context: &Context<'_>,
) -> Result<(Selection, Vec<BlockDigests>), Impossible> {
    let (sources, digests) = read_once(pair, blocks, groups, masks, context)?;
    let mut selection = Selection::default();
    for (group, source) in groups.iter().zip(sources) {
        selection.blocks.extend(match source {
            KeySource::Kept(kept) => kept.with_bits(group.cutoff.select(&kept)?),
            KeySource::Checkpoints(differences) => group.cutoff.select(&differences)?.blocks,
        });
    }
    Ok((selection, digests))
}

/// The largest keys of each of `groups` within `blocks` of the pair, descending, each with the number of elements that have it: as
/// many elements as the group selects, or all if there are fewer. Reads as [`select`] does.
///
/// # Errors
/// As [`select`].
pub fn largest(
    pair: &Pair<'_>,
    blocks: &[BlockId],
    groups: &[RankingGroup],
    context: &Context<'_>,
) -> Result<Vec<Vec<(u64, u64)>>, Impossible> {
    let groups = limited_to(blocks, pair, groups);
    let (sources, _) = read_once(pair, blocks, &groups, None, context)?;
    let keys = groups.iter().zip(sources).map(|(group, source)| match source {
        KeySource::Kept(kept) => ranking::largest(group.cutoff.k(), &kept),
        KeySource::Checkpoints(differences) => ranking::largest(group.cutoff.k(), &differences),
    });
    keys.collect()
}

/// The same groups, none of which selects more elements than it has in `blocks`.
fn limited_to(blocks: &[BlockId], pair: &Pair<'_>, groups: &[RankingGroup]) -> Vec<RankingGroup> {
    let mut elements_of = vec![0; pair.tensors.len()];
    blocks.iter().for_each(|block| elements_of[block.tensor] += elements(pair, std::slice::from_ref(block)));
    let limit = |group: &RankingGroup| {
        let available = group.tensors.iter().map(|tensor| elements_of[*tensor]).sum();
        RankingGroup { cutoff: Cutoff::Largest(group.cutoff.k().min(available)), ..group.clone() }
    };
    groups.iter().map(limit).collect()
}

/// The keys of a group's elements, or of as many as can be selected.
enum KeySource<'a> {
    /// The elements that reach the bound are kept, and the selected ones are among them.
    Kept(KeptDifferences<'a>),
    /// The checkpoints must be read again.
    Checkpoints(Differences<'a>),
}

/// Reads `blocks` once, in parallel: hashes them, checks that the elements of all `groups` are finite, and keeps the elements that
/// may be selected.
fn read_once<'a>(
    pair: &'a Pair<'a>,
    blocks: &[BlockId],
    groups: &[RankingGroup],
    masks: Option<&'a PairMasks<'a>>,
    context: &'a Context<'a>,
) -> Result<(Vec<KeySource<'a>>, Vec<BlockDigests>), Impossible> {
    let group_of = group_of_tensor(pair, groups);
    let mut blocks_of: Vec<Vec<BlockId>> = vec![Vec::new(); groups.len()];
    for block in blocks {
        if let Some(group) = group_of[block.tensor] {
            blocks_of[group].push(*block);
        }
    }
    let bounds: Vec<Option<Bound>> =
        groups.iter().zip(&blocks_of).map(|(group, blocks)| bound_of(group.cutoff, pair, blocks)).collect();
    let budget = Budget::new(groups.iter().map(|group| group.cutoff.k()).sum());
    let (found, digests) = scan(pair, blocks, |block| match group_of[block.id.tensor].map(|group| bounds[group]) {
        Some(Some(bound)) => keep_reaching(bound, block, &budget, masks, context),
        Some(None) => check_block(block, context).map(|digests| (None, digests)),
        None => Ok((None, block.hash(context)?)),
    })?;
    let mut kept: Vec<Vec<SelectedBlock>> = vec![Vec::new(); groups.len()];
    if !budget.is_spent() {
        for block in found.into_iter().flatten() {
            if let Some(group) = group_of[block.tensor] {
                kept[group].push(block);
            }
        }
    }
    let sources = groups.iter().zip(bounds).zip(kept).zip(blocks_of).map(|(((group, bound), kept), blocks)| {
        let kept = KeptDifferences::new(pair, kept);
        // If fewer elements reach the bound than are selected, the bound was too high.
        match bound.filter(|bound| !budget.is_spent() && kept.count_reaching(*bound) >= group.cutoff.k()) {
            Some(_) => KeySource::Kept(kept),
            None => KeySource::Checkpoints(Differences { pair, blocks, masks, context }),
        }
    });
    Ok((sources.collect(), digests))
}

/// For each tensor of the pair, the index of the group that ranks it, if one does.
fn group_of_tensor(pair: &Pair<'_>, groups: &[RankingGroup]) -> Vec<Option<usize>> {
    let mut group_of = vec![None; pair.tensors.len()];
    for (index, group) in groups.iter().enumerate() {
        group.tensors.iter().for_each(|tensor| group_of[*tensor] = Some(index));
    }
    group_of
}

fn bound_of(cutoff: Cutoff, pair: &Pair<'_>, blocks: &[BlockId]) -> Option<Bound> {
    match cutoff {
        Cutoff::Largest(k) => Bound::sampled(pair, blocks, k),
        Cutoff::Above { key, k, .. } if k > 0 => Bound::at(f64::from_bits(key)),
        Cutoff::Above { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;
    use crate::localize::scan::PairDigests;
    use crate::pair::PairOptions;
    use crate::testing::{checkpoint, vector};
    use proptest::prelude::*;

    fn of_bits(dtype: Dtype, bits: &[u64]) -> crate::checkpoint::Checkpoint {
        checkpoint(&[vector("w", dtype, bits)])
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
            let (target_file, reference_file) = (of_bits(dtype, &target), of_bits(dtype, &reference));
            let pair = Pair::new(&target_file, &reference_file, &PairOptions::default()).unwrap();
            let k = (n * share / 100).max(1);
            let amount = Amount::Count(k as u64);
            let groups = groups(&pair, &[0], amount, Scope::Global).unwrap();
            let (selection, digests) = select(&pair, &[BlockId { tensor: 0, index: 0 }], &groups, None, &Context::silent()).unwrap();
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

    #[test]
    fn a_density_is_rounded_to_a_count_of_at_least_one() {
        let density = |share| Amount::Density(Density::new(share).unwrap());
        assert_eq!([0.004, 0.015, 0.5, 1.0].map(|share| density(share).of(100)), [Ok(1), Ok(2), Ok(50), Ok(100)]);
        assert_eq!(Amount::Count(101).of(100), Err(Impossible::TooMany { k: 101, candidates: 100 }));
        assert!([0.0, -0.1, 1.1, f64::NAN].into_iter().all(|share| Density::new(share).is_none()));
    }

    #[test]
    fn scope_decides_which_tensors_are_ranked_together() {
        let tensors = [("a", &[0.0; 10][..]), ("b", &[0.0; 4])];
        let (target, reference) = (crate::testing::floats(&tensors), crate::testing::floats(&tensors));
        let pair = Pair::new(&target, &reference, &PairOptions::default()).unwrap();
        let half = Amount::Density(Density::new(0.5).unwrap());
        let k = |scope| groups(&pair, &[0, 1], half, scope).unwrap().iter().map(|g| g.cutoff.k()).collect::<Vec<u64>>();
        assert_eq!((k(Scope::Global), k(Scope::Tensor)), (vec![7], vec![5, 2]));
    }

    #[test]
    fn a_weight_that_is_not_finite_is_named_by_tensor_index_and_side() {
        let (target, reference) = ([0.0f32, 1.0, 2.0], [0.0f32, 1.0, f32::INFINITY]);
        let (target, reference) =
            (crate::testing::floats(&[("w", &target)]), crate::testing::floats(&[("w", &reference)]));
        let pair = Pair::new(&target, &reference, &PairOptions::default()).unwrap();
        let groups = groups(&pair, &[0], Amount::Count(1), Scope::Global).unwrap();
        let error = select(&pair, &[BlockId { tensor: 0, index: 0 }], &groups, None, &Context::silent()).unwrap_err();
        let expected =
            Impossible::NotFinite { tensor: "w".to_owned(), index: 2, side: "reference", value: f64::INFINITY };
        assert_eq!(error, expected);
    }
}

//! A lower bound of the selected differences, estimated from a sample, and the number of elements that may be kept.

use super::keys::{each_key, elements};
use crate::format::block::{BlockId, block_range};
use crate::mask::ranking::Zeros;
use crate::pair::Pair;
use rayon::prelude::*;
use std::sync::atomic::{AtomicI64, Ordering};

/// A difference that at least the selected elements reach, if the estimate is right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    /// |reference - target|, rounded as keys are.
    pub key: f64,
    /// At most `key`, and exact in an F32.
    pub rough: f32,
}

/// The least number of elements to sample; all elements, if there are fewer.
const SAMPLE_ELEMENTS: u64 = 1 << 20;
/// Bytes of each side that are sampled together: a cache line.
const SAMPLE_BYTES: u64 = 64;

impl Bound {
    /// A bound for the `k` largest differences in `blocks`, or `None` if most elements would reach it. If it is wrong it costs time,
    /// and changes no result.
    pub fn sampled(pair: &Pair<'_>, blocks: &[BlockId], k: u64) -> Option<Self> {
        let all = elements(pair, blocks);
        let mut keys: Vec<u64> = blocks.par_iter().flat_map_iter(|block| sample_keys(pair, *block, all)).collect();
        // The sample's share of the selection, and more: six standard deviations for chance, and a tenth because neighbouring
        // elements, which are sampled together, are alike.
        let share = k as f64 / all as f64 * keys.len() as f64;
        let rank = (1.1 * share + 6.0 * share.sqrt() + 16.0) as usize;
        if rank >= keys.len() / 2 {
            return None;
        }
        let (_, key, _) = keys.select_nth_unstable_by(rank, |a, b| b.cmp(a));
        Self::at(f64::from_bits(*key))
    }

    /// The difference `key`, or `None` if all elements reach it.
    pub fn at(key: f64) -> Option<Self> {
        let rounded = key as f32;
        let rough = if f64::from(rounded) > key { rounded.next_down() } else { rounded };
        (key > 0.0 && rough.is_finite()).then_some(Self { key, rough })
    }
}

/// The keys of a sample of one block: cache lines at equal distances, for a sample of [`SAMPLE_ELEMENTS`] of `all` elements.
fn sample_keys(pair: &Pair<'_>, block: BlockId, all: u64) -> Vec<u64> {
    let tensor = &pair.tensors[block.tensor];
    let dtype = tensor.dtype();
    let line = SAMPLE_BYTES / dtype.width().bytes() as u64;
    let step = line * (all / SAMPLE_ELEMENTS).max(1);
    let (mut keys, mut rounded) = (Vec::new(), Vec::new());
    for window in tensor.target.element_windows(block_range(block.index, tensor.target.info.elements())) {
        for start in (window.start..window.end).step_by(step as usize) {
            let part = start..(start + line).min(window.end);
            let reference = tensor.reference_elements(part.clone(), &mut rounded);
            each_key(dtype, tensor.target.elements(part), reference, Zeros::Visit, |_, key| keys.push(key));
        }
        tensor.release(window);
    }
    keys
}

/// The number of elements that may still be kept, shared by all threads.
pub(super) struct Budget {
    left: AtomicI64,
}

impl Budget {
    /// For a selection of `k` elements in 40 bytes each: an element of F64 takes 20 bytes for its bits and position, and ranking
    /// takes 8.
    pub fn new(k: u64) -> Self {
        Self { left: AtomicI64::new((k + k / 4 + (1 << 20)) as i64) }
    }

    pub fn spend(&self, elements: usize) {
        self.left.fetch_sub(elements as i64, Ordering::Relaxed);
    }

    pub fn is_spent(&self) -> bool {
        self.left.load(Ordering::Relaxed) < 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rough_bound_is_never_above_the_key() {
        for key in [1e-300, 0.1, 1.0 + f64::EPSILON, 1.0 - f64::EPSILON, 3e38] {
            let bound = Bound::at(key).unwrap();
            assert!(f64::from(bound.rough) <= key && f64::from(bound.rough.next_up()) > key, "{key}");
        }
    }

    #[test]
    fn a_difference_that_all_elements_reach_or_no_f32_can_hold_is_no_bound() {
        assert!([0.0, f64::INFINITY, f64::NAN].into_iter().all(|key| Bound::at(key).is_none()));
    }

    #[test]
    fn a_budget_is_spent_when_more_elements_are_kept_than_it_allows() {
        let budget = Budget::new(8);
        budget.spend(10 + (1 << 20));
        assert!(!budget.is_spent());
        budget.spend(1);
        assert!(budget.is_spent());
    }
}

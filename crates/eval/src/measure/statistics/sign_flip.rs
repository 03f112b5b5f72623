//! The permutation test of pairs.

use super::{Alternative, Name, Test};
use lcepatch_format::random::{Numbers, number};
use rayon::prelude::*;

/// The most patterns of signs that are all looked at; of more, this many are drawn.
const PATTERNS_MAX: u64 = 100_000;
/// Sums that differ by less than this share of the sum of absolute values count as equal, since the order of addition may be the only
/// difference.
const TIE: f64 = 1e-12;
/// Patterns that share a sequence of random numbers, so that the result does not depend on the number of threads.
const BLOCK: u64 = 1000;

/// Whether the sum of paired `differences` is more than chance: without a change each of them could as well have the other sign. p is the
/// share of the `2^n` patterns of signs with a sum at least as extreme, as `scipy.stats.permutation_test` has it with
/// `permutation_type="samples"`.
///
/// Exact up to 16 differences that are not 0; of more, p is over 99,999 random patterns and the observed one. None if no difference is
/// left, or one is not finite.
pub fn sign_flip(differences: &[f64], alternative: Alternative, seed: u64) -> Option<Test> {
    if differences.iter().any(|difference| !difference.is_finite()) {
        return None;
    }
    let sizes: Vec<f64> = differences.iter().map(|difference| difference.abs()).filter(|size| *size != 0.0).collect();
    let n = sizes.len();
    if n == 0 {
        return None;
    }
    let statistic: f64 = differences.iter().sum();
    let tie = TIE * sizes.iter().sum::<f64>();
    let exact =
        u32::try_from(n).ok().and_then(|n| 1u64.checked_shl(n)).is_some_and(|patterns| patterns <= PATTERNS_MAX);
    let [at_least, at_most] = match exact {
        true => {
            let sums = (0..1u64 << n).into_par_iter().map(|pattern| sum(&sizes, |at| pattern >> at & 1 == 1));
            counted(sums, statistic, tie).map(|hits| hits as f64 / (1u64 << n) as f64)
        }
        false => {
            let drawn = (0..PATTERNS_MAX.div_ceil(BLOCK)).into_par_iter().flat_map_iter(|block| {
                let mut numbers = Numbers::new(number(seed, block));
                // The observed pattern takes the place of the last one.
                let patterns = BLOCK.min(PATTERNS_MAX - 1 - block * BLOCK);
                let sizes = &sizes;
                (0..patterns).map(move |_| sum(sizes, |_| numbers.below(2) == 1))
            });
            counted(drawn, statistic, tie).map(|hits| (hits + 1) as f64 / PATTERNS_MAX as f64)
        }
    };
    let p = alternative.p(at_least, at_most);
    Some(Test { name: Name::SignFlip, alternative, statistic, n, p, exact })
}

fn sum(sizes: &[f64], mut is_positive: impl FnMut(usize) -> bool) -> f64 {
    sizes.iter().enumerate().map(|(at, size)| if is_positive(at) { *size } else { -size }).sum()
}

/// How many sums are at least the statistic, and how many are at most it.
fn counted(sums: impl ParallelIterator<Item = f64>, statistic: f64, tie: f64) -> [u64; 2] {
    let hits = |sum: f64| [u64::from(sum >= statistic - tie), u64::from(sum <= statistic + tie)];
    sums.map(hits).reduce(|| [0; 2], |[a, b], [c, d]| [a + c, b + d])
}

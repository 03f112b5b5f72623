//! The arithmetic of WEAT: associations, effect sizes, permutations.

use crate::measure::statistics::{Alternative, Ddof, Interval, Test, resampled, sign_flip};
use lcepatch_format::random::{Numbers, number};
use rayon::prelude::*;

/// The association `s(w) = mean cos(w, A) - mean cos(w, B)` of each target word: first those of X, then those of Y. Vectors are f32, as
/// models give them; dot products and norms are summed in f64. Vectors need not be normalized.
pub(super) fn associations(targets: [&[&[f32]]; 2], attributes: [&[&[f32]]; 2]) -> Vec<f64> {
    let mean = |word: &[f32], set: &[&[f32]]| set.iter().map(|a| cosine(word, a)).sum::<f64>() / set.len() as f64;
    let association = |word: &&[f32]| mean(word, attributes[0]) - mean(word, attributes[1]);
    targets.into_iter().flatten().map(association).collect()
}

fn cosine(x: &[f32], y: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(x, y) / (dot(x, x) * dot(y, y)).sqrt()
}

/// The effect size: the difference of the means of X and Y over the standard deviation of all. The first half of
/// `associations` is X. NaN where all are equal.
pub(super) fn effect_size(associations: &[f64], ddof: Ddof) -> f64 {
    let (x, y) = associations.split_at(associations.len() / 2);
    (mean(x) - mean(y)) / deviation(associations, ddof)
}

/// The mean over layers of their effect sizes.
pub(super) fn mean_effect_size(layers: &[Vec<f64>], ddof: Ddof) -> f64 {
    layers.iter().map(|layer| effect_size(layer, ddof)).sum::<f64>() / layers.len() as f64
}

/// For each word, the mean over layers of its association by the layer's deviation. The mean over X less the mean over Y is the mean of the
/// effect sizes.
pub(super) fn standardized(layers: &[Vec<f64>], ddof: Ddof) -> Vec<f64> {
    let mut out = vec![0.0; layers.first().map_or(0, Vec::len)];
    for layer in layers {
        let deviation = deviation(layer, ddof);
        out.iter_mut().zip(layer).for_each(|(sum, s)| *sum += s / deviation / layers.len() as f64);
    }
    out
}

/// Whether the effect size of a model changed by more than chance: the permutation test of the words' standardized associations before
/// and after. Without a change, each word could as well have been before as after. None if the words differ in number.
pub(in crate::measure) fn change_test(
    before: &[Vec<f64>],
    after: &[Vec<f64>],
    ddof: Ddof,
    alternative: Alternative,
    seed: u64,
) -> Option<Test> {
    let [before, after] = [before, after].map(|layers| standardized(layers, ddof));
    let half = before.len() / 2;
    let change = |(at, (before, after)): (usize, (&f64, &f64))| {
        let change = (after - before) / half as f64;
        if at < half { change } else { -change }
    };
    let changes: Vec<f64> = before.iter().zip(&after).enumerate().map(change).collect();
    if before.len() == after.len() { sign_flip(&changes, alternative, seed) } else { None }
}

/// The 95 % interval of the change of the effect size: words of X and of Y are drawn with replacement, the same ones before and after; the
/// attributes stay as they are.
pub(in crate::measure) fn change_interval(
    before: &[Vec<f64>],
    after: &[Vec<f64>],
    ddof: Ddof,
    seed: u64,
    resamples: u64,
) -> Option<Interval> {
    let words = before.first()?.len();
    if before.iter().chain(after).any(|layer| layer.len() != words) {
        return None;
    }
    let effect = |layers: &[Vec<f64>], drawn: &[usize]| {
        let drawn: Vec<Vec<f64>> = layers.iter().map(|layer| drawn.iter().map(|word| layer[*word]).collect()).collect();
        mean_effect_size(&drawn, ddof)
    };
    resampled(&[words / 2; 2], seed, resamples, |drawn| effect(after, drawn) - effect(before, drawn))
}

fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

pub(super) fn deviation(numbers: &[f64], ddof: Ddof) -> f64 {
    let mean = mean(numbers);
    let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
    (squares / (numbers.len() as f64 - f64::from(ddof.number()))).sqrt()
}

/// The one-sided p of a permutation test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Permutation {
    pub(super) p: f64,
    pub(super) exact: bool,
}

/// Sums that differ by less than this share of the sum of absolute values count as equal, since the order of addition may be the only
/// difference.
const TIE: f64 = 1e-12;

/// The share of the partitions of the targets into halves whose sum over the first half is at least the observed one.
///
/// Exact if there are at most `samples` partitions, the observed one included. Otherwise, as in sent-bias, over `samples - 1` random
/// partitions and the observed one, so that p is at least `1 / samples`. None if an association is not a number.
pub(super) fn permutation(associations: &[f64], samples: u64, seed: u64) -> Option<Permutation> {
    if associations.iter().any(|s| !s.is_finite()) {
        return None;
    }
    let half = associations.len() / 2;
    let observed: f64 = associations.iter().take(half).sum();
    let least = observed - TIE * associations.iter().map(|s| s.abs()).sum::<f64>();
    match binomial(associations.len() as u64, half as u64).filter(|ways| *ways <= samples) {
        Some(ways) => {
            let hits = count(associations, half, 0.0, least);
            Some(Permutation { p: hits as f64 / ways as f64, exact: true })
        }
        None => {
            let samples = samples.max(1);
            let hits = 1 + sampled(associations, half, least, samples - 1, seed);
            Some(Permutation { p: hits as f64 / samples as f64, exact: false })
        }
    }
}

/// The binomial coefficient. None if it overflows.
fn binomial(n: u64, k: u64) -> Option<u64> {
    (0..k).try_fold(1u64, |ways, i| Some(ways.checked_mul(n - i)? / (i + 1)))
}

/// How many choices of `left` of `rest` bring `sum` to `least`.
fn count(rest: &[f64], left: usize, sum: f64, least: f64) -> u64 {
    match rest.split_first() {
        _ if left == 0 => u64::from(sum >= least),
        Some((first, others)) if rest.len() >= left => {
            count(others, left - 1, sum + first, least) + count(others, left, sum, least)
        }
        _ => 0,
    }
}

/// Shuffles that share a sequence of random numbers; so the result does not depend on the number of threads.
const SHUFFLES: u64 = 1000;

fn sampled(associations: &[f64], half: usize, least: f64, shuffles: u64, seed: u64) -> u64 {
    let blocks = shuffles.div_ceil(SHUFFLES);
    let hits = |block: u64| {
        let mut numbers = Numbers::new(number(seed, block));
        let mut order = associations.to_vec();
        let count = SHUFFLES.min(shuffles - block * SHUFFLES);
        let hit = |_: &u64| {
            // A shuffle that stops after the first half.
            for place in 0..half {
                let other = place + numbers.below((order.len() - place) as u64) as usize;
                order.swap(place, other);
            }
            order.iter().take(half).sum::<f64>() >= least
        };
        (0..count).filter(hit).count() as u64
    };
    (0..blocks).into_par_iter().map(hits).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_are_hits_in_whatever_order_they_are_added() {
        // 0.1 + 0.2 + 0.3 differs from 0.3 + 0.2 + 0.1 in its last bit; each value is there twice.
        let associations = [0.1, 0.2, 0.3, 0.3, 0.2, 0.1];
        let found = permutation(&associations, 100, 0).unwrap();
        // The same in integers, where sums are exact.
        let at_least: usize = (0u32..64)
            .filter(|set| set.count_ones() == 3)
            .filter(|set| (0..6).filter(|i| set >> i & 1 == 1).map(|i| [1, 2, 3, 3, 2, 1][i]).sum::<i32>() >= 6)
            .count();
        assert_eq!(found, Permutation { p: at_least as f64 / 20.0, exact: true });
    }

    #[test]
    fn sampling_begins_where_there_are_more_ways_than_samples() {
        assert_eq!((binomial(16, 8), binomial(6, 3), binomial(400, 200)), (Some(12_870), Some(20), None));
        let associations: Vec<f64> = (0..16).map(f64::from).collect();
        assert!(permutation(&associations, 12_870, 0).unwrap().exact);
        let sampled = permutation(&associations, 12_869, 0).unwrap();
        assert!(!sampled.exact && sampled.p > 0.99);
        assert_eq!(permutation(&associations, 12_869, 0), Some(sampled));
        let reversed: Vec<f64> = associations.into_iter().rev().collect();
        assert_eq!(permutation(&reversed, 1000, 0).unwrap().p, 1.0 / 1000.0);
        assert_eq!(permutation(&[f64::NAN, 0.0], 1000, 0), None);
    }
}

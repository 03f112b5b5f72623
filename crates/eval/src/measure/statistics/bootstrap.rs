//! Bootstrap intervals.

use super::ratio;
use lcepatch_format::random::{Numbers, number};
use rayon::prelude::*;

/// The lower and the upper end of an interval.
pub type Interval = (f64, f64);

/// The default number of resamples.
pub const RESAMPLES: u64 = 2000;

/// The 95 % percentile interval (Efron) of `function(sum(values) / sum(weights))`, with items drawn with replacement. It depends on the
/// seed only, not on the number of threads. None for fewer than two items, or if a resample is not a number.
pub fn ratio_interval(
    values: &[f64],
    weights: &[f64],
    seed: u64,
    resamples: u64,
    function: impl Fn(f64) -> f64 + Sync,
) -> Option<Interval> {
    resampled(&[values.len().min(weights.len())], seed, resamples, |drawn| function(ratio_of(values, weights, drawn)))
}

/// The 95 % percentile interval of the shift of `function(sum(values) / sum(weights))` from `before` to `after`, given as pairs of values
/// and weights. Items are drawn in pairs. None as for [`ratio_interval`], or if the numbers of items differ.
pub fn shift_interval(
    before: (&[f64], &[f64]),
    after: (&[f64], &[f64]),
    seed: u64,
    resamples: u64,
    function: impl Fn(f64) -> f64 + Sync,
) -> Option<Interval> {
    let items = before.0.len();
    if [before.1.len(), after.0.len(), after.1.len()] != [items; 3] {
        return None;
    }
    resampled(&[items], seed, resamples, |drawn| {
        function(ratio_of(after.0, after.1, drawn)) - function(ratio_of(before.0, before.1, drawn))
    })
}

fn ratio_of(values: &[f64], weights: &[f64], drawn: &[usize]) -> f64 {
    // Drawn indices are below both lengths.
    let (mut value, mut weight) = (0.0, 0.0);
    for &item in drawn {
        value += values[item];
        weight += weights[item];
    }
    ratio(&[value], &[weight])
}

/// The 95 % percentile interval of a statistic of items that are drawn with replacement: of each of some `groups` of items, which follow
/// each other, as many as it has. None if a group has fewer than two items, or if a resample is not a number.
pub(in crate::measure) fn resampled(
    groups: &[usize],
    seed: u64,
    resamples: u64,
    statistic: impl Fn(&[usize]) -> f64 + Sync,
) -> Option<Interval> {
    if groups.iter().any(|items| *items < 2) || resamples == 0 {
        return None;
    }
    let items = groups.iter().sum();
    let mut found: Vec<f64> = (0..resamples)
        .into_par_iter()
        .map_with(Vec::with_capacity(items), |drawn, resample| {
            // Each resample has random numbers of its own, so the result does not depend on threads.
            let mut numbers = Numbers::new(number(seed, resample));
            drawn.clear();
            for items in groups {
                let first = drawn.len();
                drawn.extend((0..*items).map(|_| first + numbers.below(*items as u64) as usize));
            }
            statistic(drawn)
        })
        .collect();
    if found.iter().any(|value| value.is_nan()) {
        return None;
    }
    found.sort_unstable_by(f64::total_cmp);
    Some((quantile(&found, 0.025), quantile(&found, 0.975)))
}

/// Linear between the two nearest order statistics (type 7, NumPy's default).
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    let (low, high) = (sorted[below], sorted[above.min(sorted.len() - 1)]);
    let part = place - below as f64;
    // Equal neighbours and whole indices first, since interpolation between infinities gives NaN.
    if low == high || part == 0.0 { low } else { low * (1.0 - part) + high * part }
}

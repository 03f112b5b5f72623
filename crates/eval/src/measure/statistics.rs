//! The statistics of measures: pure functions of numbers, each with its source.

mod bootstrap;
mod mcnemar;
mod normal;
mod wilcoxon;

pub use bootstrap::{Interval, RESAMPLES, ratio_interval, shift_interval};
pub use mcnemar::{Flips, mcnemar};
pub use wilcoxon::{Wilcoxon, wilcoxon_greater};

/// The Bonferroni correction of the p of one of `tests` tests: `p * tests`, at most 1.
pub fn bonferroni(p: f64, tests: usize) -> f64 {
    (p * tests.max(1) as f64).min(1.0)
}

/// The weighted mean `sum(values) / sum(weights)`, where a value is already the sum over its weight (the loss of a text
/// of `weight` tokens). Not finite if the weights are 0.
pub fn ratio(values: &[f64], weights: &[f64]) -> f64 {
    values.iter().sum::<f64>() / weights.iter().sum::<f64>()
}

/// The standard error of [`ratio`] with one entry a cluster: the linearized (delta method) estimator of survey
/// sampling, `sqrt(m / (m - 1) * sum((value - ratio * weight)^2)) / sum(weights)` over `m` clusters (Cochran, *Sampling
/// Techniques*, ch. 6). With weights of 1 it is the standard error of the mean. None for fewer than two clusters.
pub fn ratio_error(values: &[f64], weights: &[f64]) -> Option<f64> {
    let clusters = values.len().min(weights.len());
    if clusters < 2 {
        return None;
    }
    let ratio = ratio(values, weights);
    let squares: f64 = values.iter().zip(weights).map(|(value, weight)| (value - ratio * weight).powi(2)).sum();
    let scale = clusters as f64 / (clusters as f64 - 1.0);
    Some((scale * squares).sqrt() / weights.iter().sum::<f64>())
}

/// The standard error of a share in percent: `100 * sqrt(p (1 - p) / (n - 1))`, as the standard error of the mean of
/// noughts and hundreds. None for fewer than two items.
pub fn share_error(yes: u64, of: u64) -> Option<f64> {
    if of < 2 {
        return None;
    }
    let share = yes as f64 / of as f64;
    Some(100.0 * (share * (1.0 - share) / (of as f64 - 1.0)).sqrt())
}

#[cfg(test)]
mod tests;

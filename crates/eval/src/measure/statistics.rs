//! The statistics of measures: pure functions of numbers, each with its source.

mod bootstrap;
mod mcnemar;
mod normal;
mod sign_flip;
mod test;
mod wilcoxon;

pub(super) use bootstrap::resampled;
pub use bootstrap::{Interval, RESAMPLES, ratio_interval, shift_interval};
pub use mcnemar::Flips;
pub use sign_flip::sign_flip;
pub use test::{Alternative, Name, Test};
pub use wilcoxon::wilcoxon;

/// The delta degrees of freedom of the standard deviation that an effect size is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ddof {
    /// 1: the sample's, as sent-bias and bias-bench have it.
    One,
    /// 0: the population's, as wefe and XWEAT have it. Effect sizes are `sqrt(n / (n - 1))` times larger, with n
    /// targets in all.
    Zero,
}

impl Ddof {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::One => Self::Zero,
            Self::Zero => Self::One,
        }
    }

    pub(crate) fn number(self) -> u32 {
        match self {
            Self::One => 1,
            Self::Zero => 0,
        }
    }
}

/// Holm's correction for several tests: for each p, the level at which it is still significant if all are tested together. As
/// `statsmodels.stats.multitest.multipletests(p, method="holm")`.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut corrected = vec![1.0; p.len()];
    let mut largest: f64 = 0.0;
    for (place, at) in order.into_iter().enumerate() {
        largest = largest.max(p[at] * (p.len() - place) as f64).min(1.0);
        corrected[at] = largest;
    }
    corrected
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

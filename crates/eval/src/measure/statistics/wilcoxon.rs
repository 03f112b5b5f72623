//! Wilcoxon's signed-rank test.

use super::normal::upper_tail;
use super::{Alternative, Name, Test};

/// Most differences for which the exact distribution is used.
const EXACT_MOST: usize = 50;

/// Wilcoxon's signed-rank test of whether `differences` lie above or below 0.
///
/// The same as `scipy.stats.wilcoxon(differences, alternative=…)`: differences of 0 are dropped
/// (`zero_method="wilcox"`), equal sizes share their mean rank. Up to 50 differences without zeros and ties p is exact
/// (`method="exact"`), else it is the normal approximation with the correction for ties and none for continuity
/// (`method="asymptotic"`).
///
/// None if no difference is left, or one is not a number.
pub fn wilcoxon(differences: &[f64], alternative: Alternative) -> Option<Test> {
    if differences.iter().any(|d| d.is_nan()) {
        return None;
    }
    let mut sorted: Vec<f64> = differences.iter().copied().filter(|d| *d != 0.0).collect();
    sorted.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let n = sorted.len();
    if n == 0 {
        return None;
    }
    let (mut statistic, mut tie_term, mut first) = (0.0, 0.0, 0);
    let mut ties = false;
    for group in sorted.chunk_by(|a, b| a.abs() == b.abs()) {
        let size = group.len() as f64;
        let rank = first as f64 + (size + 1.0) / 2.0;
        statistic += rank * group.iter().filter(|d| **d > 0.0).count() as f64;
        tie_term += size.powi(3) - size;
        ties |= group.len() > 1;
        first += group.len();
    }
    let exact = n <= EXACT_MOST && !ties && n == differences.len();
    let p = if exact {
        // The ranks of negative differences have the same distribution.
        let negative = (n * (n + 1) / 2) as f64 - statistic;
        alternative.p(exact_upper_tail(statistic as usize, n), exact_upper_tail(negative as usize, n))
    } else {
        let count = n as f64;
        let mean = count * (count + 1.0) / 4.0;
        let variance = count * (count + 1.0) * (2.0 * count + 1.0) / 24.0 - tie_term / 48.0;
        let z = (statistic - mean) / variance.sqrt();
        alternative.p(upper_tail(z), upper_tail(-z))
    };
    Some(Test { name: Name::SignedRank, alternative, statistic, n, p, exact })
}

/// The share of the `2^n` sign patterns whose positive ranks sum to `statistic` or more. Counts stay below 2^50, exact
/// in f64.
fn exact_upper_tail(statistic: usize, n: usize) -> f64 {
    let most = n * (n + 1) / 2;
    let mut patterns = vec![0.0; most + 1];
    patterns[0] = 1.0;
    for rank in 1..=n {
        for sum in (rank..=most).rev() {
            patterns[sum] += patterns[sum - rank];
        }
    }
    patterns.iter().skip(statistic).sum::<f64>() / 2f64.powi(n as i32)
}

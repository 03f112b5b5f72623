//! McNemar's exact test.

use super::{Alternative, Name, Test};
use serde::{Deserialize, Serialize};

/// Decisions that changed between two models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flips {
    /// From no to yes.
    pub to_yes: u64,
    /// From yes to no.
    pub to_no: u64,
}

impl Flips {
    /// The flips between decisions on the same items. None if the numbers of decisions differ.
    pub fn between(before: &[bool], after: &[bool]) -> Option<Self> {
        if before.len() != after.len() {
            return None;
        }
        let count = |from: bool| before.iter().zip(after).filter(|(b, a)| **b == from && **a != from).count() as u64;
        Some(Self { to_yes: count(false), to_no: count(true) })
    }

    /// McNemar's exact test: the binomial p of the flips to yes among all flips at 1/2, as
    /// `scipy.stats.binomtest(to_yes, to_yes + to_no, alternative=…).pvalue`. Without flips p is 1.
    pub fn test(self, alternative: Alternative) -> Test {
        let Self { to_yes, to_no } = self;
        let p = alternative.p(tail(to_no, to_yes + to_no), tail(to_yes, to_yes + to_no));
        let n = usize::try_from(to_yes + to_no).unwrap_or(usize::MAX);
        Test { name: Name::Mcnemar, alternative, statistic: to_yes as f64, n, p, exact: true }
    }
}

/// `P(X <= most)` of `X` heads of `n` coins.
fn tail(most: u64, n: u64) -> f64 {
    if 2 * most >= n {
        // Of the smaller side, since terms are summed from the largest down.
        return if most >= n { 1.0 } else { 1.0 - tail(n - most - 1, n) };
    }
    // C(n, most) / 2^n by its logarithm; the terms below it are found by ratios and shrink, so that the sum may end early.
    let log: f64 = (0..most).map(|i| ((n - i) as f64).ln() - ((i + 1) as f64).ln()).sum::<f64>();
    let mut term = (log - n as f64 * std::f64::consts::LN_2).exp();
    let mut tail = 0.0;
    for k in (0..=most).rev() {
        tail += term;
        if term < tail * 1e-17 {
            break;
        }
        term *= k as f64 / (n - k + 1) as f64;
    }
    tail
}

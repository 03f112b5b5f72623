//! McNemar's exact test.

use serde::{Deserialize, Serialize};

/// Decisions that changed between two models.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Flips {
    /// From no to yes.
    pub to_yes: u64,
    /// From yes to no.
    pub to_no: u64,
    /// McNemar's exact p, two-sided.
    pub p: f64,
}

impl Flips {
    /// The flips between decisions on the same items. None if the numbers of decisions differ.
    pub fn between(before: &[bool], after: &[bool]) -> Option<Self> {
        if before.len() != after.len() {
            return None;
        }
        let count = |from: bool| before.iter().zip(after).filter(|(b, a)| **b == from && **a != from).count() as u64;
        let (to_yes, to_no) = (count(false), count(true));
        Some(Self { to_yes, to_no, p: mcnemar(to_yes, to_no) })
    }
}

/// McNemar's exact test of `b` flips one way and `c` the other: the two-sided binomial p of `b` of `b + c` at 1/2, as
/// `scipy.stats.binomtest(b, b + c).pvalue`. 1 without flips.
pub fn mcnemar(b: u64, c: u64) -> f64 {
    let (few, n) = (b.min(c), b + c);
    if n == 0 || b == c {
        return 1.0;
    }
    // C(n, few) / 2^n by its logarithm; the terms below it are found by ratios and shrink, so that the sum may end
    // early.
    let log: f64 = (0..few).map(|i| ((n - i) as f64).ln() - ((i + 1) as f64).ln()).sum::<f64>();
    let mut term = (log - n as f64 * std::f64::consts::LN_2).exp();
    let mut tail = 0.0;
    for k in (0..=few).rev() {
        tail += term;
        if term < tail * 1e-17 {
            break;
        }
        term *= k as f64 / (n - k + 1) as f64;
    }
    (2.0 * tail).min(1.0)
}

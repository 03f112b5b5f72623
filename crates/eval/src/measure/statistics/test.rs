//! What the tests of a change have in common.

use serde::{Deserialize, Serialize};

/// The result of a test of a change.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Test {
    /// Which test.
    pub name: Name,
    /// What it looks for.
    pub alternative: Alternative,
    /// McNemar: the decisions that turned to yes. Signed ranks: the sum of the ranks of positive differences. Sign flips: the sum of the
    /// differences.
    pub statistic: f64,
    /// The items that differ.
    pub n: usize,
    /// How probable a statistic at least as extreme is without a change.
    pub p: f64,
    /// Whether p is computed from all cases, and neither sampled nor from a normal approximation.
    pub exact: bool,
}

/// The tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Name {
    /// McNemar's, of decisions.
    Mcnemar,
    /// Wilcoxon's signed-rank test, of numbers.
    SignedRank,
    /// The permutation test of pairs, of associations of words.
    SignFlip,
}

/// What a test looks for. A direction has to be stated before anything is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Alternative {
    /// A change either way.
    #[default]
    TwoSided,
    /// A change to greater values.
    Greater,
    /// A change to smaller values.
    Less,
}

impl Alternative {
    /// The p of this alternative, of the probabilities of a statistic at least as large, and at most as large.
    pub(super) fn p(self, at_least: f64, at_most: f64) -> f64 {
        match self {
            Self::TwoSided => (2.0 * at_least.min(at_most)).min(1.0),
            Self::Greater => at_least.min(1.0),
            Self::Less => at_most.min(1.0),
        }
    }
}

impl Test {
    /// The least p that the test can give of this many items: that of all differences to one side. With few items no change is
    /// significant.
    pub fn least_p(&self) -> f64 {
        let one_side = 2f64.powi(-i32::try_from(self.n).unwrap_or(i32::MAX));
        if self.alternative == Alternative::TwoSided { (2.0 * one_side).min(1.0) } else { one_side }
    }
}

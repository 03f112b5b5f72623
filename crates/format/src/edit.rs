//! The arithmetic of edits (spec §A3 to §A7), without files and patches.

use crate::dtype::{FloatFormat, Rounded};
use serde::Serialize;

/// The strength of an edit, a finite number: 1 gives the reference, 0 the base, and a negative one moves away from the reference.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Alpha(f64);

impl Alpha {
    /// Gives the reference.
    pub const ONE: Self = Self(1.0);

    /// Returns `None` unless `value` is finite.
    pub fn new(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self(value))
    }

    /// The number.
    pub fn value(self) -> f64 {
        self.0
    }

    /// Whether the result lies between base and reference: in [0, 1]. Others extrapolate.
    pub fn interpolates(self) -> bool {
        (0.0..=1.0).contains(&self.0)
    }
}

/// Who chose an alpha.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlphaSource {
    /// The user who applies the patch.
    Given,
    /// The author of the patch (metadata `recommended_alpha`).
    Recommended,
    /// Nobody: it is 1.
    Default,
}

/// What an edit does to the selected elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum EditKind {
    /// Adds alpha times the delta (paper eq 3 for alpha in [0, 1], eq 4 otherwise).
    Interpolate(Alpha),
    /// Sets them to zero (paper eq 5).
    Prune,
    /// Replaces the base's pruning mask by the reference's and keeps the base's values (paper eq 6).
    Switch,
}

impl EditKind {
    /// The name on the command line and in logs.
    pub fn label(self) -> &'static str {
        match self {
            EditKind::Interpolate(alpha) if alpha.interpolates() => "ip",
            EditKind::Interpolate(_) => "ep",
            EditKind::Prune => "pr",
            EditKind::Switch => "sw",
        }
    }

    /// The strength; `None` for kinds that have none.
    pub fn alpha(self) -> Option<Alpha> {
        match self {
            EditKind::Interpolate(alpha) => Some(alpha),
            EditKind::Prune | EditKind::Switch => None,
        }
    }
}

impl std::fmt::Display for Alpha {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Computes `base + alpha * delta + ...` and rounds it once to `format` (paper eq 3 and 4; spec §A3, §A5). Terms are added in order; each
/// product and each sum is rounded to `f64`, without fused multiply-add.
#[inline(always)]
pub fn interpolate(format: FloatFormat, base: f64, terms: impl IntoIterator<Item = (Alpha, f64)>) -> Rounded {
    format.round(terms.into_iter().fold(base, |sum, (alpha, delta)| sum + alpha.0 * delta))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alpha_is_finite() {
        assert_eq!(Alpha::new(f64::NAN), None);
        assert_eq!(Alpha::new(f64::INFINITY), None);
        assert_eq!(Alpha::new(-2.0).map(Alpha::value), Some(-2.0));
    }

    #[test]
    fn rounds_once_at_the_end() {
        // 1 + 2^-8 is halfway between two bfloat16 numbers; adding the half step twice gives the next number.
        let half_step = 2f64.powi(-8);
        let terms = [(Alpha::ONE, half_step), (Alpha::ONE, half_step)];
        assert_eq!(interpolate(FloatFormat::BF16, 1.0, terms), Rounded::Finite(0x3f81));
        assert_eq!(interpolate(FloatFormat::BF16, 1.0, [terms[0]]), Rounded::Finite(0x3f80));
    }
}

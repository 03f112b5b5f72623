//! The arithmetic of an edit (spec §11), pure: no files, no patches.

use crate::dtype::{FloatFormat, Rounded};
use serde::Serialize;

/// The strength of an edit: any finite number. 1 gives the reference, 0 the base, negative ones move away.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Alpha(f64);

impl Alpha {
    /// The reference's own values.
    pub const ONE: Self = Self(1.0);

    /// None unless `value` is finite.
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
    /// Who applies the patch.
    Given,
    /// The patch's author (metadata `recommended_alpha`).
    Recommended,
    /// Nobody.
    Default,
}

/// What is done to the selected elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum EditKind {
    /// Move along the difference (paper eq 3 with alpha in [0, 1], eq 4 outside).
    Interpolate(Alpha),
    /// Set to zero (eq 5).
    Prune,
    /// Exchange the base's pruning mask for the reference's, keeping the base's own values (eq 6).
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

    /// The strength, where there is one.
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

/// `base + alpha * delta + ...`, one product and one sum after the other, each rounded to double; then rounded once to
/// the stored format (paper eq 3 and 4; spec §11.2).
#[inline]
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
        // 1 + 2^-8 lies halfway between two bfloat16 numbers; two such halves make a whole step.
        let half_step = 2f64.powi(-8);
        let terms = [(Alpha::ONE, half_step), (Alpha::ONE, half_step)];
        assert_eq!(interpolate(FloatFormat::BF16, 1.0, terms), Rounded::Finite(0x3f81));
        assert_eq!(interpolate(FloatFormat::BF16, 1.0, [terms[0]]), Rounded::Finite(0x3f80));
    }
}

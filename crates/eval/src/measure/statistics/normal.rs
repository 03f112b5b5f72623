//! The upper tail of the normal distribution.

use std::f64::consts::{PI, SQRT_2};

/// `P(Z > z)` of a standard normal `Z`.
pub(super) fn upper_tail(z: f64) -> f64 {
    if z < 0.0 { 1.0 - 0.5 * erfc(-z / SQRT_2) } else { 0.5 * erfc(z / SQRT_2) }
}

/// The complementary error function for `x >= 0`: one minus the series of erf near 0, where it loses nothing, and the
/// continued fraction beyond (Abramowitz, Stegun 7.1.6 and 7.1.14).
fn erfc(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let gauss = (-x * x).exp() / PI.sqrt();
    if x < 2.0 {
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term > sum * 1e-17 {
            n += 1.0;
            term *= 2.0 * x * x / (2.0 * n + 1.0);
            sum += term;
        }
        return 1.0 - 2.0 * gauss * sum;
    }
    let fraction = (1..=100).rev().fold(x, |below, k| x + 0.5 * f64::from(k) / below);
    gauss / fraction
}

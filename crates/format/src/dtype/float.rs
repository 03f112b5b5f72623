//! Floating-point formats narrower than or equal to `f64`: exact values, and rounding to nearest even (spec §10.3).

/// A binary floating-point format: one sign bit, biased exponent, mantissa.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloatFormat {
    /// Width of the biased exponent, in bits.
    pub exponent_bits: u32,
    /// Width of the stored mantissa, in bits.
    pub mantissa_bits: u32,
    /// Whether the all-ones exponent encodes infinities and NaNs (IEEE 754). Otherwise, as in `F8_E4M3`, only the all-ones pattern is a
    /// NaN and there is no infinity.
    pub ieee: bool,
}

/// A value rounded to a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounded {
    /// The bit pattern of the nearest representable number.
    Finite(u64),
    /// The value is NaN, infinite, or rounds to more than the largest finite number. The bit pattern is the canonical NaN for NaN,
    /// otherwise signed infinity (NaN with the sign in formats without infinity).
    NotFinite(u64),
}

impl FloatFormat {
    /// OCP FP8 E4M3 (`torch.float8_e4m3fn`).
    pub const F8E4M3: Self = Self { exponent_bits: 4, mantissa_bits: 3, ieee: false };
    /// OCP FP8 E5M2 (`torch.float8_e5m2`).
    pub const F8E5M2: Self = Self { exponent_bits: 5, mantissa_bits: 2, ieee: true };
    /// IEEE binary16.
    pub const F16: Self = Self { exponent_bits: 5, mantissa_bits: 10, ieee: true };
    /// bfloat16.
    pub const BF16: Self = Self { exponent_bits: 8, mantissa_bits: 7, ieee: true };
    /// IEEE binary32.
    pub const F32: Self = Self { exponent_bits: 8, mantissa_bits: 23, ieee: true };
    /// IEEE binary64.
    pub const F64: Self = Self { exponent_bits: 11, mantissa_bits: 52, ieee: true };

    /// Mask of the sign bit.
    const fn sign(self) -> u64 {
        1 << (self.exponent_bits + self.mantissa_bits)
    }

    const fn bias(self) -> i32 {
        (1 << (self.exponent_bits - 1)) - 1
    }

    /// The smallest magnitude (bit pattern without the sign) that is not a finite number.
    const fn not_finite(self) -> u64 {
        if self.ieee { ((1 << self.exponent_bits) - 1) << self.mantissa_bits } else { self.sign() - 1 }
    }

    /// The canonical NaN, positive and quiet.
    const fn nan(self) -> u64 {
        if self.ieee { self.not_finite() | 1 << (self.mantissa_bits - 1) } else { self.not_finite() }
    }

    /// Whether `bits` is neither infinite nor NaN.
    #[inline]
    pub const fn is_finite(self, bits: u64) -> bool {
        bits & (self.sign() - 1) < self.not_finite()
    }

    /// The exact value of a bit pattern.
    #[inline(always)]
    pub fn value(self, bits: u64) -> f64 {
        match (self.exponent_bits, self.mantissa_bits) {
            (11, 52) => return f64::from_bits(bits),
            (8, 23) => return f64::from(f32::from_bits(bits as u32)),
            (8, 7) => return f64::from(f32::from_bits((bits as u32) << 16)),
            (5, 10) => return half::f16::from_bits(bits as u16).to_f64(),
            _ => {}
        }
        let magnitude = bits & (self.sign() - 1);
        let absolute = if magnitude < self.not_finite() {
            let exponent = (magnitude >> self.mantissa_bits) as i32;
            let mantissa = magnitude & ((1 << self.mantissa_bits) - 1);
            let significand = if exponent == 0 { mantissa } else { mantissa | 1 << self.mantissa_bits };
            significand as f64 * 2f64.powi(exponent.max(1) - self.bias() - self.mantissa_bits as i32)
        } else if self.ieee && magnitude == self.not_finite() {
            f64::INFINITY
        } else {
            f64::NAN
        };
        if bits & self.sign() != 0 { -absolute } else { absolute }
    }

    /// Rounds to the nearest representable number, ties to even, in a single rounding.
    ///
    /// The `half` crate is not used, because on some processors it converts `f64` through `f32`, which rounds twice.
    #[inline(always)]
    pub fn round(self, value: f64) -> Rounded {
        if value.is_nan() {
            return Rounded::NotFinite(self.nan());
        }
        let sign = if value.is_sign_negative() { self.sign() } else { 0 };
        let magnitude = match self.mantissa_bits {
            52 => value.abs().to_bits(),
            // Rust's `as` rounds to the nearest number, ties to even.
            23 => u64::from((value.abs() as f32).to_bits()),
            _ => self.round_magnitude(value.abs()),
        };
        if magnitude < self.not_finite() {
            Rounded::Finite(sign | magnitude)
        } else if self.ieee {
            Rounded::NotFinite(sign | self.not_finite())
        } else {
            Rounded::NotFinite(sign | self.nan())
        }
    }

    /// The magnitude nearest to `absolute`; at least [`FloatFormat::not_finite`] if that is too large.
    #[inline(always)]
    fn round_magnitude(self, absolute: f64) -> u64 {
        let bits = absolute.to_bits();
        let exponent = (bits >> 52) as i32 - 1023;
        // Subnormal doubles and zero are far below half of the smallest subnormal of every narrower format.
        if exponent < -1022 {
            return 0;
        }
        if exponent > self.bias() + 1 {
            return self.not_finite();
        }
        let significand = (bits & ((1 << 52) - 1)) | 1 << 52;
        let lowest = 1 - self.bias();
        let dropped = 52 - self.mantissa_bits as i32 + (lowest - exponent).max(0);
        if dropped > 54 {
            return 0;
        }
        // Without a branch on the bits that are dropped, which no processor can foresee: just below half is added, or half if the number
        // is odd, so that a tie becomes even.
        let (half, odd) = (1u64 << (dropped - 1), significand >> dropped & 1);
        let rounded = (significand + half - 1 + odd) >> dropped;
        if exponent < lowest {
            rounded
        } else {
            // A carry out of the mantissa correctly increments the exponent.
            (((exponent + self.bias()) as u64) << self.mantissa_bits) + rounded - (1 << self.mantissa_bits)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NARROW: [FloatFormat; 4] = [FloatFormat::F8E4M3, FloatFormat::F8E5M2, FloatFormat::F16, FloatFormat::BF16];

    #[test]
    fn every_finite_narrow_pattern_rounds_to_itself() {
        for format in NARROW {
            for bits in (0..2 * format.sign()).filter(|b| format.is_finite(*b)) {
                assert_eq!(format.round(format.value(bits)), Rounded::Finite(bits), "{format:?} {bits:#x}");
            }
        }
    }

    #[test]
    fn midpoints_round_to_even_and_their_neighbours_to_the_nearest() {
        for format in NARROW {
            for low in 0..format.not_finite() - 1 {
                let middle = (format.value(low) + format.value(low + 1)) / 2.0;
                assert_eq!(format.round(middle), Rounded::Finite(low + (low & 1)), "{format:?} {low:#x}");
                assert_eq!(format.round(middle.next_down()), Rounded::Finite(low));
                assert_eq!(format.round(-middle.next_up()), Rounded::Finite(format.sign() | (low + 1)));
            }
        }
    }

    #[test]
    fn half_and_bfloat16_values_are_those_of_the_formula() {
        for format in [FloatFormat::F16, FloatFormat::BF16] {
            for bits in 1..format.not_finite() {
                let exponent = (bits >> format.mantissa_bits) as i32;
                let hidden = if exponent == 0 { 0 } else { 1 << format.mantissa_bits };
                let significand = (bits & ((1 << format.mantissa_bits) - 1)) | hidden;
                let scale = exponent.max(1) - format.bias() - format.mantissa_bits as i32;
                assert_eq!(format.value(bits), significand as f64 * 2f64.powi(scale));
            }
        }
    }

    #[test]
    fn overflow_is_not_finite() {
        assert_eq!(FloatFormat::F16.round(65519.99), Rounded::Finite(0x7bff));
        assert_eq!(FloatFormat::F16.round(65520.0), Rounded::NotFinite(0x7c00));
        assert_eq!(FloatFormat::F8E4M3.round(464.0), Rounded::Finite(0x7e));
        assert_eq!(FloatFormat::F8E4M3.round(-464.1), Rounded::NotFinite(0xff));
        assert_eq!(FloatFormat::F32.round(f64::MAX), Rounded::NotFinite(0x7f80_0000));
        assert_eq!(FloatFormat::F64.round(f64::INFINITY), Rounded::NotFinite(0x7ff << 52));
        assert_eq!(FloatFormat::BF16.round(f64::NAN), Rounded::NotFinite(0x7fc0));
        assert_eq!(FloatFormat::BF16.round(-1e300), Rounded::NotFinite(0xff80));
    }
}

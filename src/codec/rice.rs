//! Rice codes (spec §9.2): the shorter way for short sequences, with one parameter and no table.
//!
//! A number `v` is `v >> p` in unary (that many one bits, then a zero bit) and the low `p` bits of `v`. A quotient of
//! [`ESCAPE`] or more is [`ESCAPE`] one bits, then `v` whole, so that a number costs at most [`ESCAPE`] + width bits.
//! Bits fill bytes from the lowest bit up.

use super::Corrupt;

/// The quotient from which on a number is written whole (spec §9.2).
pub const ESCAPE: u32 = 24;

/// Appends Rice-coded numbers to bytes.
#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
    pending: u64,
    pending_bits: u32,
}

impl Writer {
    /// Appends `value`, below `2^width`, with `parameter`, below `width`.
    pub fn push(&mut self, value: u64, parameter: u32, width: u32) {
        let quotient = value >> parameter;
        if quotient < u64::from(ESCAPE) {
            self.bits((1 << quotient) - 1, quotient as u32 + 1);
            self.bits(value & ((1 << parameter) - 1), parameter);
        } else {
            self.bits((1 << ESCAPE) - 1, ESCAPE);
            self.bits(value, width);
        }
    }

    /// The bytes, the last one padded with zero bits.
    pub fn finish(mut self) -> Vec<u8> {
        if self.pending_bits > 0 {
            self.bytes.push(self.pending as u8);
        }
        self.bytes
    }

    fn bits(&mut self, value: u64, count: u32) {
        // Two halves, so that at most 7 + 32 bits are ever pending.
        if count > 32 {
            self.bits(value & u64::from(u32::MAX), 32);
            return self.bits(value >> 32, count - 32);
        }
        self.pending |= value << self.pending_bits;
        self.pending_bits += count;
        while self.pending_bits >= 8 {
            self.bytes.push(self.pending as u8);
            self.pending >>= 8;
            self.pending_bits -= 8;
        }
    }
}

/// Bits that `values` take with `parameter`.
pub fn cost_bits(values: &[u64], parameter: u32, width: u32) -> u64 {
    values
        .iter()
        .map(|value| {
            let quotient = value >> parameter;
            if quotient < u64::from(ESCAPE) { quotient + 1 + u64::from(parameter) } else { u64::from(ESCAPE + width) }
        })
        .sum()
}

/// The cheapest parameter for `values` and the bits they take with it; the lowest among equals.
pub fn best_parameter(values: &[u64], width: u32) -> (u32, u64) {
    let sum: u128 = values.iter().map(|v| u128::from(*v)).sum();
    let mean = (sum / values.len().max(1) as u128) as u64;
    // The best parameter for a geometric source lies within two of log2 of the mean; for others it is worth
    // looking below, where a few outliers pull the mean up.
    let middle = 64 - mean.leading_zeros();
    let (low, high) = (middle.saturating_sub(8), (middle + 2).min(width - 1));
    (low.min(high)..=high)
        .map(|parameter| (parameter, cost_bits(values, parameter, width)))
        .min_by_key(|(parameter, bits)| (*bits, *parameter))
        .unwrap_or((0, 0))
}

/// Reads Rice-coded numbers off the front of bytes.
pub struct Reader<'a> {
    bytes: &'a [u8],
    bit: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the first bit of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, bit: 0 }
    }

    /// The next number, of `width` bits, with `parameter` below `width`.
    ///
    /// # Errors
    /// [`Corrupt::Truncated`]; [`Corrupt::Range`] for a number of more than `width` bits.
    pub fn pull(&mut self, parameter: u32, width: u32) -> Result<u64, Corrupt> {
        let mut quotient = 0;
        while quotient < ESCAPE && self.bits(1)? == 1 {
            quotient += 1;
        }
        if quotient == ESCAPE {
            return self.bits(width);
        }
        let value = u128::from(quotient) << parameter | u128::from(self.bits(parameter)?);
        let most = u64::MAX >> (64 - width);
        match u64::try_from(value) {
            Ok(value) if value <= most => Ok(value),
            _ => Err(Corrupt::Range { field: "Rice-coded number", found: u64::MAX, least: 0, most }),
        }
    }

    /// The bytes after the last one that a number touched; the padding between must be zero.
    ///
    /// # Errors
    /// [`Corrupt::Padding`].
    pub fn finish(self) -> Result<&'a [u8], Corrupt> {
        let used = self.bit.div_ceil(8);
        let padding = self.bytes[..used].last().map_or(0, |byte| match self.bit % 8 {
            0 => 0,
            bits => byte >> bits,
        });
        if padding == 0 { Ok(&self.bytes[used..]) } else { Err(Corrupt::Padding { field: "Rice-coded numbers" }) }
    }

    fn bits(&mut self, count: u32) -> Result<u64, Corrupt> {
        let (mut value, mut have) = (0u64, 0);
        while have < count {
            let byte = *self.bytes.get(self.bit / 8).ok_or(Corrupt::Truncated {
                field: "Rice-coded numbers",
                needed: 1,
                found: 0,
            })?;
            let (skip, take) = (self.bit as u32 % 8, (8 - self.bit as u32 % 8).min(count - have));
            let bits = u64::from(byte >> skip) & ((1 << take) - 1);
            value |= bits << have;
            have += take;
            self.bit += take as usize;
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            width in prop::sample::select(vec![16u32, 32, 64]),
            seeds in prop::collection::vec((any::<u64>(), 0u32..64), 0..200),
            parameter in 0u32..64,
        ) {
            let parameter = parameter % width;
            let values: Vec<u64> = seeds.iter().map(|(v, s)| v >> (64 - width) >> (s % width)).collect();
            let mut writer = Writer::default();
            for value in &values {
                writer.push(*value, parameter, width);
            }
            let mut bytes = writer.finish();
            prop_assert_eq!(bytes.len() as u64, cost_bits(&values, parameter, width).div_ceil(8));
            bytes.push(0xab);
            let mut reader = Reader::new(&bytes);
            for value in &values {
                prop_assert_eq!(reader.pull(parameter, width), Ok(*value));
            }
            prop_assert_eq!(reader.finish(), Ok(&[0xab][..]));
        }
    }

    #[test]
    fn refuses_padding_that_is_not_zero_and_numbers_too_wide() {
        let mut reader = Reader::new(&[0b1000_0000]);
        assert_eq!(reader.pull(0, 16), Ok(0));
        assert_eq!(reader.finish(), Err(Corrupt::Padding { field: "Rice-coded numbers" }));
        let mut reader = Reader::new(&[0xff, 0x7f, 0xff, 0xff]);
        assert!(matches!(reader.pull(15, 16), Err(Corrupt::Range { .. })));
    }
}

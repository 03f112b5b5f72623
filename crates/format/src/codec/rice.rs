//! Rice codes (spec §9.2): cheapest for short sequences, as they have one parameter and no table.
//!
//! With parameter `p`, a number `v` is stored as the quotient `v >> p` in unary (that many one bits, then a zero bit), followed by the
//! low `p` bits of `v`. If the quotient is [`ESCAPE`] or more, [`ESCAPE`] one bits are followed by all bits of `v`, so that a number
//! takes at most [`ESCAPE`] + width bits. Bytes are filled from their lowest bit up.

use super::{Corrupt, Number};
use std::ops::RangeInclusive;

/// Numbers with this quotient or a larger one are stored without a quotient (spec §9.2).
pub const ESCAPE: u32 = 24;

/// Encodes numbers.
#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
    /// Bits that do not fill eight bytes yet.
    pending: u64,
    /// Number of pending bits, at most 63.
    pending_bits: u32,
}

impl Writer {
    /// Appends `number`. `parameter` is below its width.
    #[inline]
    pub fn push<N: Number>(&mut self, number: N, parameter: u32) {
        let number: u64 = number.into();
        let quotient = number >> parameter;
        if quotient >= u64::from(ESCAPE) {
            self.push_bits((1 << ESCAPE) - 1, ESCAPE);
            self.push_bits(number, N::BITS);
            return;
        }
        let (ones, low) = ((1 << quotient) - 1, number & ((1 << parameter) - 1));
        let unary_bits = quotient as u32 + 1;
        if unary_bits + parameter <= 64 {
            self.push_bits(ones | low << unary_bits, unary_bits + parameter);
        } else {
            self.push_bits(ones, unary_bits);
            self.push_bits(low, parameter);
        }
    }

    /// Returns the bytes; the last one is padded with zero bits.
    pub fn finish(mut self) -> Vec<u8> {
        let left = self.pending_bits.div_ceil(8) as usize;
        self.bytes.extend_from_slice(&self.pending.to_le_bytes()[..left]);
        self.bytes
    }

    /// Appends the `count` bits of `value`, at most 64.
    #[inline]
    pub fn push_bits(&mut self, value: u64, count: u32) {
        self.pending |= value << self.pending_bits;
        let bits = self.pending_bits + count;
        if bits < 64 {
            self.pending_bits = bits;
        } else {
            self.bytes.extend_from_slice(&self.pending.to_le_bytes());
            // The bits that did not fit. Two shifts, because a single one by 64 is not allowed.
            self.pending = value >> 1 >> (63 - self.pending_bits);
            self.pending_bits = bits - 64;
        }
    }
}

/// Encoded size in bits of a number of `width` bits.
#[inline(always)]
pub fn bits_of(number: u64, parameter: u32, width: u32) -> u64 {
    let quotient = number >> parameter;
    if quotient < u64::from(ESCAPE) { quotient + 1 + u64::from(parameter) } else { u64::from(ESCAPE + width) }
}

/// Encoded size of `numbers` in bits.
pub fn cost_bits<N: Number>(numbers: &[N], parameter: u32) -> u64 {
    numbers.iter().map(|number| bits_of((*number).into(), parameter, N::BITS)).sum()
}

/// The parameters worth trying for numbers of `width` bits with this `mean`.
pub fn parameters(mean: u64, width: u32) -> RangeInclusive<u32> {
    // For a geometric distribution the best parameter is within 2 of log2(mean). Outliers pull the mean up, so that smaller
    // parameters are worth trying too.
    let middle = 64 - mean.leading_zeros();
    let (low, high) = (middle.saturating_sub(8), (middle + 2).min(width - 1));
    low.min(high)..=high
}

/// The parameter that encodes `numbers` in the fewest bits, the lowest of equals, and the number of bits.
pub fn best_parameter<N: Number>(numbers: &[N]) -> (u32, u64) {
    let sum: u128 = numbers.iter().map(|v| u128::from((*v).into())).sum();
    let mean = (sum / numbers.len().max(1) as u128) as u64;
    parameters(mean, N::BITS)
        .map(|parameter| (parameter, cost_bits(numbers, parameter)))
        .min_by_key(|(parameter, bits)| (*bits, *parameter))
        .unwrap_or((0, 0))
}

/// Decodes numbers.
pub struct Reader<'a> {
    bytes: &'a [u8],
    /// Index of the next bit.
    bit: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the first bit of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, bit: 0 }
    }

    /// Appends the next `count` numbers to `out`. `parameter` is below their width.
    ///
    /// # Errors
    /// As [`Reader::pull`].
    pub fn pull_all<N: Number>(&mut self, count: usize, parameter: u32, out: &mut Vec<N>) -> Result<(), Corrupt> {
        // Each number takes at least one bit, so the bits that are left limit how much a false count can allocate.
        out.reserve(count.min((self.bytes.len() * 8).saturating_sub(self.bit)));
        // A number without escape cannot exceed its type (quotients have 5 bits), and its code is within the next eight bytes
        // wherever in a byte it begins.
        let fits = parameter + 5 <= N::BITS && ESCAPE + parameter <= 57;
        for _ in 0..count {
            let eight = self.bytes.get(self.bit / 8..).and_then(<[u8]>::first_chunk::<8>);
            let number = match eight {
                Some(eight) if fits => {
                    let bits = u64::from_le_bytes(*eight) >> (self.bit % 8);
                    let quotient = bits.trailing_ones();
                    if quotient < ESCAPE {
                        self.bit += (quotient + 1 + parameter) as usize;
                        let low = bits >> (quotient + 1) & ((1 << parameter) - 1);
                        N::low(u64::from(quotient) << parameter | low)
                    } else {
                        self.pull(parameter)?
                    }
                }
                _ => self.pull(parameter)?,
            };
            out.push(number);
        }
        Ok(())
    }

    /// Reads the next number. `parameter` is below its width.
    ///
    /// # Errors
    /// [`Corrupt::Truncated`]; [`Corrupt::Range`] for a number that is too wide.
    pub fn pull<N: Number>(&mut self, parameter: u32) -> Result<N, Corrupt> {
        let mut quotient = 0;
        while quotient < ESCAPE && self.pull_bits(1)? == 1 {
            quotient += 1;
        }
        if quotient == ESCAPE {
            return Ok(N::low(self.pull_bits(N::BITS)?));
        }
        let value = u128::from(quotient) << parameter | u128::from(self.pull_bits(parameter)?);
        let most = u64::MAX >> (64 - N::BITS);
        if value > u128::from(most) {
            return Err(Corrupt::Range { field: "Rice-coded number", found: u64::MAX, least: 0, most });
        }
        Ok(N::low(value as u64))
    }

    /// Returns the bytes after the last number. Its padding must be zero.
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

    /// Reads the next `count` bits, at most 64.
    fn pull_bits(&mut self, count: u32) -> Result<u64, Corrupt> {
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

    fn round_trip<N: Number>(seeds: &[(u64, u32)], parameter: u32) -> Result<(), TestCaseError> {
        let parameter = parameter % N::BITS;
        let numbers: Vec<N> = seeds.iter().map(|(v, s)| N::low(v >> (64 - N::BITS) >> (s % N::BITS))).collect();
        let mut writer = Writer::default();
        for number in &numbers {
            writer.push(*number, parameter);
        }
        let mut bytes = writer.finish();
        prop_assert_eq!(bytes.len() as u64, cost_bits(&numbers, parameter).div_ceil(8));
        bytes.push(0xab);
        let (mut one, mut all) = (Reader::new(&bytes), Reader::new(&bytes));
        for number in &numbers {
            prop_assert_eq!(one.pull(parameter), Ok(*number));
        }
        prop_assert_eq!(one.finish(), Ok(&[0xab][..]));
        let mut read: Vec<N> = Vec::new();
        prop_assert_eq!(all.pull_all(numbers.len(), parameter, &mut read), Ok(()));
        prop_assert_eq!(read, numbers);
        prop_assert_eq!(all.finish(), Ok(&[0xab][..]));
        Ok(())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            seeds in prop::collection::vec((any::<u64>(), 0u32..64), 0..200),
            parameter in 0u32..64,
        ) {
            round_trip::<u16>(&seeds, parameter)?;
            round_trip::<u32>(&seeds, parameter)?;
            round_trip::<u64>(&seeds, parameter)?;
        }

        #[test]
        fn any_bytes_are_read_alike_one_by_one_and_together(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0xff)], 0..100),
            parameter in 0u32..32,
            count in 0usize..300,
        ) {
            let (mut one, mut all) = (Reader::new(&bytes), Reader::new(&bytes));
            let expected: Result<Vec<u32>, Corrupt> = (0..count).map(|_| one.pull(parameter)).collect();
            let mut read = Vec::new();
            prop_assert_eq!(all.pull_all(count, parameter, &mut read).map(|()| read), expected);
            prop_assert_eq!(one.bit, all.bit);
        }
    }

    #[test]
    fn refuses_padding_that_is_not_zero_and_numbers_too_wide() {
        let mut reader = Reader::new(&[0b1000_0000]);
        assert_eq!(reader.pull(0), Ok(0u16));
        assert_eq!(reader.finish(), Err(Corrupt::Padding { field: "Rice-coded numbers" }));
        let mut reader = Reader::new(&[0xff, 0x7f, 0xff, 0xff]);
        assert!(matches!(reader.pull::<u16>(15), Err(Corrupt::Range { .. })));
    }
}

//! Estimates the encoded size of a sequence with Rice codes and with pco from a histogram, which is much faster than encoding it twice.
//!
//! All arithmetic is in integers, so that every machine makes the same choice.

use super::{Number, rice};
use std::collections::VecDeque;

/// Longer sequences are sampled: about this many numbers, evenly spread.
const SAMPLE: usize = 1 << 15;
/// Each number below this has its own bucket; above it there are four buckets per power of two.
const EXACT: u64 = 16;
const BUCKETS: usize = 256;
/// Overhead of a pco file in bits, fitted to measured sizes.
const PCO_BITS: u64 = 64;
/// Overhead of pco in bits for each bucket that is not empty, fitted to measured sizes.
const PCO_BUCKET_BITS: u64 = 12;

/// Number of fractional bits of [`log2`].
const LOG2_FRACTION: u32 = 16;

/// Estimated sizes of a sequence.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Size in bits with pco.
    pub pco_bits: u64,
    /// The best Rice parameter.
    pub parameter: u32,
    /// Size in bits with that Rice parameter.
    pub rice_bits: u64,
}

/// Estimates the encoded sizes of `numbers`.
pub fn cost<N: Number>(numbers: &[N]) -> Cost {
    let step = numbers.len().div_ceil(SAMPLE).max(1);
    // Four histograms: incrementing the same counter for each of a run of equal numbers would wait for the previous store.
    let mut counts = [[0u32; BUCKETS]; 4];
    if step == 1 {
        let (fours, rest) = numbers.as_chunks::<4>();
        for four in fours {
            for (counts, number) in counts.iter_mut().zip(four) {
                counts[bucket((*number).into())] += 1;
            }
        }
        rest.iter().for_each(|number| counts[0][bucket((*number).into())] += 1);
    } else {
        numbers.iter().step_by(step).for_each(|number| counts[0][bucket((*number).into())] += 1);
    }
    let used: Vec<(usize, u64)> = (0..BUCKETS)
        .map(|bucket| (bucket, counts.iter().map(|counts| u64::from(counts[bucket])).sum()))
        .filter(|(_, count)| *count > 0)
        .collect();
    let sampled: u64 = used.iter().map(|(_, count)| count).sum();
    let scaled = |bits: u128| (bits * numbers.len() as u128 / u128::from(sampled.max(1))) as u64;

    let pco_bits = scaled(entropy_bits(&used, sampled)) + PCO_BITS + PCO_BUCKET_BITS * used.len() as u64;
    let sum: u128 = used.iter().map(|(bucket, count)| u128::from(middle(*bucket)) * u128::from(*count)).sum();
    let mean = (sum / u128::from(sampled.max(1))) as u64;
    let (rice_bits, parameter) = rice::parameters(mean, N::BITS)
        .map(|parameter| (rice_bits::<N>(&used, parameter), parameter))
        .min()
        .unwrap_or_default();
    Cost { pco_bits, parameter, rice_bits: scaled(rice_bits) }
}

/// Entropy of the buckets in bits, plus the bits of numbers within their buckets. `used` has each bucket that is not empty with its
/// count; `sampled` is the sum of the counts.
fn entropy_bits(used: &[(usize, u64)], sampled: u64) -> u128 {
    let bits = |(bucket, count): &(usize, u64)| {
        u128::from(*count) * u128::from(log2(sampled) - log2(*count) + (u64::from(low_bits(*bucket)) << LOG2_FRACTION))
    };
    used.iter().map(bits).sum::<u128>() >> LOG2_FRACTION
}

/// Size in bits with Rice codes, counting each number as the middle of its bucket.
fn rice_bits<N: Number>(used: &[(usize, u64)], parameter: u32) -> u128 {
    let bits = |(bucket, count): &(usize, u64)| {
        u128::from(*count) * u128::from(rice::bits_of(middle(*bucket), parameter, N::BITS))
    };
    used.iter().map(bits).sum()
}

/// How often each byte occurs.
pub struct Histogram([u32; 256]);

impl Default for Histogram {
    fn default() -> Self {
        Self([0; 256])
    }
}

impl Histogram {
    /// Counts all of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut histogram = Self::default();
        bytes.iter().for_each(|byte| histogram.add(*byte));
        histogram
    }

    /// Counts `byte`.
    pub fn add(&mut self, byte: u8) {
        self.0[usize::from(byte)] += 1;
    }

    /// Number of bits that Huffman codes of the bytes take, without their table.
    pub fn huffman_bits(&self) -> u64 {
        let mut leaves: Vec<u64> = self.0.iter().filter(|count| **count > 0).map(|count| u64::from(*count)).collect();
        leaves.sort_unstable();
        // Joins the two rarest nodes until one is left. Joined nodes arise in ascending order, so the rarest of them is the first one.
        let (mut leaves, mut joined) = (leaves.into_iter().peekable(), VecDeque::new());
        let mut rarest = |joined: &mut VecDeque<u64>| match (leaves.peek(), joined.front()) {
            (Some(leaf), Some(node)) if node < leaf => joined.pop_front(),
            (None, _) => joined.pop_front(),
            _ => leaves.next(),
        };
        let mut bits = 0;
        while let (Some(one), Some(other)) = (rarest(&mut joined), rarest(&mut joined)) {
            // Every byte below the new node gets one bit more.
            bits += one + other;
            joined.push_back(one + other);
        }
        bits
    }
}

/// About log2 of n over k: the fewest bits that identify a choice of `k` of `n` things if all choices are equally likely.
pub fn choice_bits(n: u64, k: u64) -> u64 {
    if k == 0 || k == n {
        return 0;
    }
    let weighted = |x: u64| if x == 0 { 0 } else { u128::from(x) * u128::from(log2(x)) };
    (weighted(n).saturating_sub(weighted(k) + weighted(n - k)) >> LOG2_FRACTION) as u64
}

#[inline(always)]
fn bucket(number: u64) -> usize {
    if number < EXACT {
        return number as usize;
    }
    let low_bits = number.ilog2() - 2;
    (low_bits * 4 + (number >> low_bits & 3) as u32 + 8) as usize
}

/// Number of low bits of a number that its `bucket` does not determine.
fn low_bits(bucket: usize) -> u32 {
    if bucket < EXACT as usize { 0 } else { (bucket as u32 - 8) / 4 }
}

/// The middle number of `bucket`.
fn middle(bucket: usize) -> u64 {
    if bucket < EXACT as usize {
        return bucket as u64;
    }
    let low_bits = low_bits(bucket);
    (4 + (bucket as u64 - 8) % 4) << low_bits | 1 << (low_bits - 1)
}

/// The binary logarithm of `x`, in units of `2^-LOG2_FRACTION`, rounded down. `x` is not 0.
fn log2(x: u64) -> u64 {
    let whole = x.ilog2();
    // Fixed point with 63 fractional bits, in [1, 2). Squaring it yields one bit of the logarithm at a time.
    let mut rest = x << (63 - whole);
    let mut out = u64::from(whole);
    for _ in 0..LOG2_FRACTION {
        let square = (u128::from(rest) * u128::from(rest)) >> 63;
        let carry = square >> 64 != 0;
        rest = (if carry { square >> 1 } else { square }) as u64;
        out = out << 1 | u64::from(carry);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Effort, pco};
    use crate::random::Numbers;
    use proptest::prelude::*;

    #[test]
    fn huffman_bits_are_those_of_a_textbook_tree() {
        let of = |counts: &[u32]| {
            let mut histogram = Histogram::default();
            histogram.0[..counts.len()].copy_from_slice(counts);
            histogram.huffman_bits()
        };
        assert_eq!(of(&[45, 13, 12, 16, 9, 5]), 224, "Cormen, Leiserson, Rivest: codes of 1, 3, 3, 3, 4 and 4 bits");
        assert_eq!((of(&[7]), of(&[]), of(&[3, 0, 4]), of(&[1; 256])), (0, 0, 7, 256 * 8));
    }

    #[test]
    fn each_bucket_contains_its_middle() {
        for at in 0..BUCKETS {
            assert_eq!(bucket(middle(at)), at);
        }
        assert_eq!((bucket(15), bucket(16), bucket(u64::MAX)), (15, 16, 255));
    }

    proptest! {
        #[test]
        fn logarithms_are_those_of_floats(x in 1u64..) {
            let expected = (x as f64).log2() * f64::from(1 << LOG2_FRACTION);
            prop_assert!((log2(x) as f64 - expected).abs() <= 2.0, "{} {expected}", log2(x));
        }

        #[test]
        fn estimated_costs_are_close_to_encoded_sizes(seed: u64, mean_bits in 0u32..20, n in 1000usize..50_000) {
            let mut random = Numbers::new(seed);
            let numbers: Vec<u32> = (0..n).map(|_| {
                (-f64::from((random.bits() >> 40) as u32 + 1).log2() + 24.0).mul_add(f64::from(1 << mean_bits), 0.0) as u32
            }).collect();
            let cost = cost(&numbers);
            let by_pco = pco::chunks(&numbers, Effort::Best).len() as f64 * 8.0;
            let by_rice = rice::best_parameter(&numbers).1 as f64;
            let close = |estimate: u64, real: f64| (estimate as f64 - real).abs() <= 0.02 * real + 1500.0;
            prop_assert!(close(cost.pco_bits, by_pco), "pco {} {by_pco}", cost.pco_bits);
            prop_assert!(close(cost.rice_bits, by_rice), "Rice {} {by_rice}", cost.rice_bits);
            let chosen = rice::cost_bits(&numbers, cost.parameter);
            prop_assert!(close(chosen, by_rice), "parameter {} takes {chosen}, best is {by_rice}", cost.parameter);
        }
    }
}

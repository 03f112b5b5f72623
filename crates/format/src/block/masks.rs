//! What is kept at the selected elements of a block, where base and reference are pruned (spec §9.9, §9.10).

use super::decode::numbers;
use super::{BaseCodec, MaskCodec, Streams};
use crate::codec::{Corrupt, groups};
use crate::dtype::Dtype;

/// In which of base and reference an element is kept, and the sign of the reference's zero if not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept(u8);

impl Kept {
    /// In both; what every element is without masks.
    pub const BOTH: Self = Self(3);

    /// The element is kept in at least one of them. `reference` are its bits there, which tell the sign of a zero.
    pub fn new(dtype: Dtype, in_base: bool, in_reference: bool, reference: u64) -> Self {
        let negative = !in_reference && reference == negative_zero(dtype);
        Self(u8::from(in_base) | u8::from(in_reference) << 1 | u8::from(negative) << 2)
    }

    /// Whether the element counts in the base.
    pub fn in_base(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether the element counts in the reference.
    pub fn in_reference(self) -> bool {
        self.0 & 2 != 0
    }

    /// The reference's bits of an element that is pruned there.
    pub fn reference_zero(self, dtype: Dtype) -> u64 {
        if self.0 & 4 != 0 { negative_zero(dtype) } else { 0 }
    }

    /// The number that stands for it (spec §9.9).
    pub fn symbol(self) -> u16 {
        self.0.into()
    }

    fn from_symbol(symbol: u16) -> Result<Self, Corrupt> {
        match symbol {
            1..=3 | 5 => Ok(Self(symbol as u8)),
            _ => Err(Corrupt::Range { field: "a mask symbol", found: symbol.into(), least: 1, most: 5 }),
        }
    }
}

fn negative_zero(dtype: Dtype) -> u64 {
    1 << (dtype.width().bits() - 1)
}

/// The masks of a block, one entry for each selected element.
#[derive(Debug, Clone, PartialEq)]
pub struct Masks {
    /// What is kept.
    pub kept: Vec<Kept>,
    /// What the base holds where it is pruned.
    pub codec: MaskCodec,
    /// The bits from before pruning of the elements that are pruned in the base (0 for the others), if the block has
    /// them.
    pub before: Option<Vec<u64>>,
}

impl Masks {
    /// Decodes the masks of a block of `selected` elements.
    pub(super) fn decode(streams: &Streams<&[u8]>, selected: usize, dtype: Dtype) -> Result<Option<Self>, Corrupt> {
        let Some((codec, bytes)) = streams.masks else { return Ok(None) };
        let symbols = groups::decode::<u16>(bytes, 1, selected)?.into_numbers();
        let kept = symbols.into_iter().map(Kept::from_symbol).collect::<Result<Vec<_>, Corrupt>>()?;
        let before = match streams.values_before {
            Some((BaseCodec::Bits, bytes)) => {
                let values = numbers(bytes, count(&kept, |kept| !kept.in_base()), dtype)?;
                Some(spread(values, &kept, |kept| !kept.in_base()))
            }
            None => None,
        };
        Ok(Some(Self { kept, codec, before }))
    }

    /// The bits that element `entry`, `base` in the base, had there before it was pruned, if anything tells.
    pub fn value_before(&self, entry: usize, base: u64) -> Option<u64> {
        match (&self.before, self.codec) {
            _ if self.kept[entry].in_base() => Some(base),
            (Some(before), _) => Some(before[entry]),
            (None, MaskCodec::UnprunedBase) => Some(base),
            (None, MaskCodec::PrunedBase) => None,
        }
    }
}

/// The number of elements that `has`, and so of the entries of a stream for only those.
pub(super) fn count(kept: &[Kept], has: impl Fn(&Kept) -> bool) -> usize {
    kept.iter().filter(|kept| has(kept)).count()
}

/// Entries for only those elements that `has`, as entries for all, 0 for the others.
pub(super) fn spread<T: Copy + Default>(mut values: Vec<T>, kept: &[Kept], has: impl Fn(&Kept) -> bool) -> Vec<T> {
    let mut left = values.len();
    values.resize(kept.len(), T::default());
    // From the back, where none is overwritten that has not moved yet.
    for (at, kept) in kept.iter().enumerate().rev() {
        values[at] = match left.checked_sub(1).filter(|_| has(kept)) {
            Some(last) => {
                left = last;
                values[last]
            }
            None => T::default(),
        };
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_for_some_are_spread_over_all() {
        let kept = [1, 2, 1, 3, 2, 1].map(Kept);
        assert_eq!(spread(vec![7, 8, 9], &kept, |kept| kept.in_reference()), [0, 7, 0, 8, 9, 0]);
        assert_eq!(spread(Vec::<u64>::new(), &kept, |_| false), [0; 6]);
        assert_eq!(spread(vec![1, 2, 3, 4, 5, 6], &kept, |_| true), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn symbols_are_those_of_the_spec() {
        let dtype = Dtype::Bf16;
        let symbols = [(true, false, 0), (false, true, 7), (true, true, 7), (true, false, 0x8000)];
        let symbols = symbols.map(|(base, reference, bits)| Kept::new(dtype, base, reference, bits).symbol());
        assert_eq!(symbols, [1, 2, 3, 5]);
        let legal: Vec<u16> = (0..20).filter(|symbol| Kept::from_symbol(*symbol).is_ok()).collect();
        assert_eq!(legal, [1, 2, 3, 5]);
        assert_eq!(Kept(5).reference_zero(dtype), 0x8000);
        assert_eq!(Kept(1).reference_zero(dtype), 0);
    }
}

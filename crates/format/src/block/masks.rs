//! Pruning masks of base and reference at the selected elements of a block (spec §9.9, §9.10).

use super::decode::numbers;
use super::{BaseCodec, MaskCodec, Streams};
use crate::codec::{Corrupt, groups};
use crate::dtype::Dtype;

/// Which of base and reference keep an element (do not prune it), and the sign of the zero that replaces it in the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept(u8);

impl Kept {
    /// Kept in both, as all elements are without masks.
    pub const BOTH: Self = Self(3);

    /// An element that is kept in at least one of base and reference. `reference` is its bit pattern there, which gives the sign of a
    /// zero.
    pub fn new(dtype: Dtype, in_base: bool, in_reference: bool, reference: u64) -> Self {
        let negative = !in_reference && reference == negative_zero(dtype);
        Self(u8::from(in_base) | u8::from(in_reference) << 1 | u8::from(negative) << 2)
    }

    /// Whether the base keeps the element.
    pub fn in_base(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether the reference keeps the element.
    pub fn in_reference(self) -> bool {
        self.0 & 2 != 0
    }

    /// The reference's bit pattern of an element that is pruned there: zero with its sign.
    pub fn reference_zero(self, dtype: Dtype) -> u64 {
        if self.0 & 4 != 0 { negative_zero(dtype) } else { 0 }
    }

    /// The symbol in the mask stream (spec §9.9).
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

/// The masks of a block. Vectors have one entry per selected element.
#[derive(Debug, Clone, PartialEq)]
pub struct Masks {
    /// Where each element is kept.
    pub kept: Vec<Kept>,
    /// What the base stores at pruned elements.
    pub codec: MaskCodec,
    /// The bit patterns before pruning of elements that are pruned in the base (0 for the others), if the block stores them.
    pub before: Option<Vec<u64>>,
}

impl Masks {
    /// Decodes the masks of a block with `selected` selected elements; `None` if it has none.
    pub(super) fn decode(streams: &Streams<&[u8]>, selected: usize, dtype: Dtype) -> Result<Option<Self>, Corrupt> {
        let Some((codec, bytes)) = streams.masks else { return Ok(None) };
        let kept = kept(bytes, selected)?;
        let before = values_before(streams, &kept, dtype)?;
        let before = before.map(|values| spread(values, &kept, |kept| !kept.in_base()));
        Ok(Some(Self { kept, codec, before }))
    }

    /// The bit pattern of selected element `entry` in the base before pruning, if it is known. `base` is its bit pattern now.
    pub fn value_before(&self, entry: usize, base: u64) -> Option<u64> {
        match (&self.before, self.codec) {
            _ if self.kept[entry].in_base() => Some(base),
            (Some(before), _) => Some(before[entry]),
            (None, MaskCodec::UnprunedBase) => Some(base),
            (None, MaskCodec::PrunedBase) => None,
        }
    }
}

/// Decodes a stream of masks (spec §9.9).
pub(super) fn kept(bytes: &[u8], selected: usize) -> Result<Vec<Kept>, Corrupt> {
    groups::decode::<u16>(bytes, 1, selected)?.into_numbers().into_iter().map(Kept::from_symbol).collect()
}

/// Decodes the bit patterns before pruning of the elements that are pruned in the base (spec §9.10); `None` if there is no such stream.
pub(super) fn values_before(
    streams: &Streams<&[u8]>,
    kept: &[Kept],
    dtype: Dtype,
) -> Result<Option<Vec<u64>>, Corrupt> {
    let Some((BaseCodec::Bits, bytes)) = streams.values_before else { return Ok(None) };
    numbers(bytes, count(kept, |kept| !kept.in_base()), dtype).map(Some)
}

/// Number of elements that have an entry in a stream.
pub(super) fn count(kept: &[Kept], has_entry: impl Fn(&Kept) -> bool) -> usize {
    kept.iter().filter(|kept| has_entry(kept)).count()
}

/// Expands the entries of a stream that has them for some elements only: the others get 0.
pub(super) fn spread<T: Copy + Default>(
    mut values: Vec<T>,
    kept: &[Kept],
    has_entry: impl Fn(&Kept) -> bool,
) -> Vec<T> {
    let mut left = values.len();
    values.resize(kept.len(), T::default());
    // In place and from the back, so that no entry is overwritten before it has moved.
    for (at, kept) in kept.iter().enumerate().rev() {
        values[at] = match left.checked_sub(1).filter(|_| has_entry(kept)) {
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
    fn elements_without_an_entry_get_zero() {
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

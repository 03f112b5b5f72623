//! The integer types of streams (spec §9.2).

/// An unsigned integer of 16, 32 or 64 bits.
pub trait Number: ::pco::data_types::Number + Default + Eq + Ord + Into<u64> {
    /// Width in bits.
    const BITS: u32;

    /// The low [`Number::BITS`] bits of `bits`.
    fn low(bits: u64) -> Self;

    /// The number, read as a two's complement integer, as an unsigned one that is small if its magnitude is: 0, -1, 1, -2, 2, ... are
    /// 0, 1, 2, 3, 4, ...
    fn zigzag(self) -> Self;

    /// Inverts [`Number::zigzag`].
    fn unzigzag(self) -> Self;

    /// The number, read as a two's complement integer, shifted right by `bits`, which is below [`Number::BITS`].
    fn shift_right(self, bits: u32) -> Self;
}

macro_rules! number {
    ($($kind:ty, $signed:ty);*) => {
        $(impl Number for $kind {
            const BITS: u32 = <$kind>::BITS;

            #[inline(always)]
            fn low(bits: u64) -> Self {
                bits as $kind
            }

            #[inline(always)]
            fn zigzag(self) -> Self {
                (self << 1) ^ ((self as $signed) >> (<$kind>::BITS - 1)) as $kind
            }

            #[inline(always)]
            fn unzigzag(self) -> Self {
                (self >> 1) ^ (self & 1).wrapping_neg()
            }

            #[inline(always)]
            fn shift_right(self, bits: u32) -> Self {
                ((self as $signed) >> bits) as $kind
            }
        })*
    };
}

number!(u16, i16; u32, i32; u64, i64);

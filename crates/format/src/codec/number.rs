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

    /// The number with the bits `magnitude` inverted if its highest bit is set: the ordered image of a float of this width, if
    /// `magnitude` are all bits but the sign (spec §10.1).
    fn image(self, magnitude: Self) -> Self;

    /// The sum modulo `2^`[`Number::BITS`].
    fn plus(self, other: Self) -> Self;

    /// The difference modulo `2^`[`Number::BITS`].
    fn minus(self, other: Self) -> Self;

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
            fn image(self, magnitude: Self) -> Self {
                self ^ (((self as $signed) >> (<$kind>::BITS - 1)) as $kind & magnitude)
            }

            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }

            #[inline(always)]
            fn minus(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }

            #[inline(always)]
            fn shift_right(self, bits: u32) -> Self {
                ((self as $signed) >> bits) as $kind
            }
        })*
    };
}

number!(u16, i16; u32, i32; u64, i64);

//! The integer types of streams (spec §9.2).

/// An unsigned integer of 16, 32 or 64 bits.
pub trait Number: ::pco::data_types::Number + Default + Eq + Into<u64> {
    /// Width in bits.
    const BITS: u32;

    /// The low [`Number::BITS`] bits of `bits`.
    fn low(bits: u64) -> Self;
}

macro_rules! number {
    ($($kind:ty),*) => {
        $(impl Number for $kind {
            const BITS: u32 = <$kind>::BITS;

            #[inline(always)]
            fn low(bits: u64) -> Self {
                bits as $kind
            }
        })*
    };
}

number!(u16, u32, u64);

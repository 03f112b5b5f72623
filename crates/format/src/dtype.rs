//! Element types: bit patterns, ordered-integer images, exact values and rounding (spec §10).

mod float;

pub use float::{FloatFormat, Rounded};
use multiversion::multiversion;
use serde::{Deserialize, Serialize};
use std::iter::repeat_n;

/// The type of one element, as `safetensors` names it. The discriminant is the code of spec §7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Dtype {
    Bool = 1,
    U8 = 2,
    I8 = 3,
    U16 = 4,
    I16 = 5,
    U32 = 6,
    I32 = 7,
    U64 = 8,
    I64 = 9,
    F8E4M3 = 16,
    F8E5M2 = 17,
    F16 = 18,
    Bf16 = 19,
    F32 = 20,
    F64 = 21,
    /// Complex number of two `F32`, handled as bytes.
    C64 = 32,
    F8E8M0 = 33,
    F8E4M3Fnuz = 34,
    F8E5M2Fnuz = 35,
    F4 = 36,
    F6E2M3 = 37,
    F6E3M2 = 38,
}

/// Width of an element: 1, 2, 4 or 8 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Width {
    W1 = 1,
    W2 = 2,
    W4 = 4,
    W8 = 8,
}

impl Width {
    /// Width in bytes.
    pub const fn bytes(self) -> usize {
        self as usize
    }

    /// Width in bits.
    pub const fn bits(self) -> u32 {
        8 * self as u32
    }

    /// A mask of the low [`Width::bits`] bits.
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }

    /// The little-endian bit pattern of element `index` of `bytes`, zero-extended.
    ///
    /// # Panics
    /// If `index` is outside of `bytes`.
    #[inline(always)]
    pub fn load(self, bytes: &[u8], index: usize) -> u64 {
        match self {
            Width::W1 => u64::from(bytes[index]),
            Width::W2 => {
                let b = &bytes[index * 2..index * 2 + 2];
                u64::from(u16::from_le_bytes([b[0], b[1]]))
            }
            Width::W4 => {
                let b = &bytes[index * 4..index * 4 + 4];
                u64::from(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            }
            Width::W8 => {
                let b = &bytes[index * 8..index * 8 + 8];
                u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
            }
        }
    }

    /// The bit patterns of all elements of `bytes`.
    pub fn load_all(self, bytes: &[u8]) -> Vec<u64> {
        (0..bytes.len() / self.bytes()).map(|index| self.load(bytes, index)).collect()
    }

    /// Appends the bit patterns of the elements of `bytes` with these `indices` to `out`.
    ///
    /// # Panics
    /// If an index is outside of `bytes`.
    pub fn load_at(self, bytes: &[u8], indices: impl Iterator<Item = usize>, out: &mut Vec<u64>) {
        match self {
            Width::W1 => out.extend(indices.map(|index| Width::W1.load(bytes, index))),
            Width::W2 => out.extend(indices.map(|index| Width::W2.load(bytes, index))),
            Width::W4 => out.extend(indices.map(|index| Width::W4.load(bytes, index))),
            Width::W8 => out.extend(indices.map(|index| Width::W8.load(bytes, index))),
        }
    }

    /// Stores bit patterns as elements of `bytes`. Each item of `patterns` is the index of an element and its pattern.
    ///
    /// # Panics
    /// If an index is outside of `bytes`.
    pub fn store_at(self, bytes: &mut [u8], patterns: &[(u32, u64)]) {
        match self {
            Width::W1 => patterns.iter().for_each(|(index, bits)| Width::W1.store(bytes, *index as usize, *bits)),
            Width::W2 => patterns.iter().for_each(|(index, bits)| Width::W2.store(bytes, *index as usize, *bits)),
            Width::W4 => patterns.iter().for_each(|(index, bits)| Width::W4.store(bytes, *index as usize, *bits)),
            Width::W8 => patterns.iter().for_each(|(index, bits)| Width::W8.store(bytes, *index as usize, *bits)),
        }
    }

    /// Replaces the content of `out` by the elements with these bit patterns.
    pub fn store_all(self, patterns: &[u64], out: &mut Vec<u8>) {
        fn store<const N: usize>(patterns: &[u64], out: &mut [u8]) {
            for (element, bits) in out.as_chunks_mut::<N>().0.iter_mut().zip(patterns) {
                element.copy_from_slice(&bits.to_le_bytes()[..N]);
            }
        }
        out.resize(patterns.len() * self.bytes(), 0);
        match self {
            Width::W1 => store::<1>(patterns, out),
            Width::W2 => store::<2>(patterns, out),
            Width::W4 => store::<4>(patterns, out),
            Width::W8 => store::<8>(patterns, out),
        }
    }

    /// Stores the low bits of `bits` as element `index` of `bytes`, little-endian.
    ///
    /// # Panics
    /// If `index` is outside of `bytes`.
    #[inline(always)]
    pub fn store(self, bytes: &mut [u8], index: usize, bits: u64) {
        let n = self.bytes();
        bytes[index * n..(index + 1) * n].copy_from_slice(&bits.to_le_bytes()[..n]);
    }
}

/// The classes of consecutive elements ([`Dtype::class`]), as bytes if all classes of the dtype fit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Classes {
    Narrow(Vec<u8>),
    Wide(Vec<u16>),
}

impl Classes {
    /// Number of classes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        match self {
            Self::Narrow(classes) => classes.len(),
            Self::Wide(classes) => classes.len(),
        }
    }

    /// The classes, if they are bytes.
    pub fn narrow(&self) -> Option<&[u8]> {
        if let Self::Narrow(classes) = self { Some(classes) } else { None }
    }

    /// The classes, if they are not bytes.
    pub fn wide(&self) -> Option<&[u16]> {
        if let Self::Wide(classes) = self { Some(classes) } else { None }
    }

    fn into_narrow(self) -> Vec<u8> {
        if let Self::Narrow(classes) = self { classes } else { Vec::new() }
    }

    fn into_wide(self) -> Vec<u16> {
        if let Self::Wide(classes) = self { classes } else { Vec::new() }
    }
}

/// Replaces the content of `old`, reusing its memory.
#[inline(always)]
fn refilled<T: Copy + Default>(mut old: Vec<T>, new: impl ExactSizeIterator<Item = T>) -> Vec<T> {
    old.resize(new.len(), T::default());
    old.iter_mut().zip(new).for_each(|(old, new)| *old = new);
    old
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+bmi1+bmi2+lzcnt+popcnt",
    "x86_64+avx2+bmi1+bmi2+lzcnt+popcnt"
))]
fn classes_of(dtype: Dtype, bytes: &[u8], old: Classes) -> Classes {
    let Some(float) = dtype.float() else {
        return Classes::Narrow(refilled(old.into_narrow(), repeat_n(0, bytes.len() / dtype.width().bytes())));
    };
    let (shift, mask) = (float.mantissa_bits, (1u16 << float.exponent_bits) - 1);
    let narrow = match dtype.width() {
        Width::W1 => refilled(old.into_narrow(), bytes.iter().map(|byte| byte >> shift & mask as u8)),
        Width::W2 => refilled(
            old.into_narrow(),
            bytes.as_chunks().0.iter().map(|b| (u16::from_le_bytes(*b) >> shift) as u8 & mask as u8),
        ),
        Width::W4 => refilled(
            old.into_narrow(),
            bytes.as_chunks().0.iter().map(|b| (u32::from_le_bytes(*b) >> shift) as u8 & mask as u8),
        ),
        Width::W8 => {
            let classes = bytes.as_chunks().0.iter().map(|b| (u64::from_le_bytes(*b) >> shift) as u16 & mask);
            return Classes::Wide(refilled(old.into_wide(), classes));
        }
    };
    Classes::Narrow(narrow)
}

const NAMES: [(Dtype, &str); 22] = [
    (Dtype::Bool, "BOOL"),
    (Dtype::U8, "U8"),
    (Dtype::I8, "I8"),
    (Dtype::U16, "U16"),
    (Dtype::I16, "I16"),
    (Dtype::U32, "U32"),
    (Dtype::I32, "I32"),
    (Dtype::U64, "U64"),
    (Dtype::I64, "I64"),
    (Dtype::F8E4M3, "F8_E4M3"),
    (Dtype::F8E5M2, "F8_E5M2"),
    (Dtype::F16, "F16"),
    (Dtype::Bf16, "BF16"),
    (Dtype::F32, "F32"),
    (Dtype::F64, "F64"),
    (Dtype::C64, "C64"),
    (Dtype::F8E8M0, "F8_E8M0"),
    (Dtype::F8E4M3Fnuz, "F8_E4M3FNUZ"),
    (Dtype::F8E5M2Fnuz, "F8_E5M2FNUZ"),
    (Dtype::F4, "F4"),
    (Dtype::F6E2M3, "F6_E2M3"),
    (Dtype::F6E3M2, "F6_E3M2"),
];

impl Dtype {
    /// The dtype with this name in a `safetensors` header, such as `"BF16"`.
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, n)| *n == name).map(|(d, _)| *d)
    }

    /// The dtype with wire code `code` (spec §7).
    pub fn from_code(code: u8) -> Option<Self> {
        NAMES.iter().map(|(d, _)| *d).find(|d| d.code() == code)
    }

    /// The wire code (spec §7).
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The name in a `safetensors` header.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(d, _)| *d == self).map_or("?", |(_, n)| n)
    }

    /// Width of an element. Tensors whose entries do not have 1, 2, 4 or 8 bytes, or are not single numbers, count each byte as an
    /// element.
    pub const fn width(self) -> Width {
        match self {
            Dtype::U16 | Dtype::I16 | Dtype::F16 | Dtype::Bf16 => Width::W2,
            Dtype::U32 | Dtype::I32 | Dtype::F32 => Width::W4,
            Dtype::U64 | Dtype::I64 | Dtype::F64 => Width::W8,
            _ => Width::W1,
        }
    }

    /// Number of bits that one entry of the tensor's shape takes.
    pub const fn storage_bits(self) -> u64 {
        match self {
            Dtype::F4 => 4,
            Dtype::F6E2M3 | Dtype::F6E3M2 => 6,
            Dtype::C64 => 64,
            _ => self.width().bits() as u64,
        }
    }

    /// The floating-point format, for the six float dtypes that edits support; `None` for all others.
    pub const fn float(self) -> Option<FloatFormat> {
        Some(match self {
            Dtype::F8E4M3 => FloatFormat::F8E4M3,
            Dtype::F8E5M2 => FloatFormat::F8E5M2,
            Dtype::F16 => FloatFormat::F16,
            Dtype::Bf16 => FloatFormat::BF16,
            Dtype::F32 => FloatFormat::F32,
            Dtype::F64 => FloatFormat::F64,
            _ => return None,
        })
    }

    /// Number of classes of [`Dtype::class`].
    pub const fn classes(self) -> usize {
        match self.float() {
            Some(f) => 1 << f.exponent_bits,
            None => 1,
        }
    }

    /// The class of a bit pattern: its biased exponent for floats, 0 for all other dtypes (spec §9.1).
    #[inline(always)]
    pub const fn class(self, bits: u64) -> u16 {
        match self.float() {
            Some(f) => ((bits >> f.mantissa_bits) & ((1 << f.exponent_bits) - 1)) as u16,
            None => 0,
        }
    }

    /// The bit layout, which computes [`Dtype::class`], [`Dtype::ulp_delta`] and [`Dtype::add_ulp`] without matching on the dtype: for
    /// loops over elements.
    pub fn bit_layout(self) -> BitLayout {
        let (mask, sign) = (self.width().mask(), 1 << (self.width().bits() - 1));
        match self.float() {
            Some(float) => BitLayout {
                mask,
                sign,
                magnitude: mask ^ sign,
                exponent_shift: float.mantissa_bits,
                exponent_mask: (1 << float.exponent_bits) - 1,
            },
            None => BitLayout { mask, sign, magnitude: 0, exponent_shift: 0, exponent_mask: 0 },
        }
    }

    /// The classes of all elements of `bytes`. Reuses the memory of `old` if possible.
    pub fn classes_of(self, bytes: &[u8], old: Classes) -> Classes {
        classes_of(self, bytes, old)
    }

    /// Replaces the content of `out` by the values of all elements of `bytes`. For dtypes other than floats, the value is the bit pattern
    /// as an unsigned integer.
    pub fn values_of(self, bytes: &[u8], out: &mut Vec<f64>) {
        out.clear();
        let width = self.width();
        match (self, self.float()) {
            (Dtype::F32, _) => out.extend(bytes.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b)))),
            (Dtype::Bf16, _) => {
                let value = |b: &[u8; 2]| f64::from(f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16));
                out.extend(bytes.as_chunks().0.iter().map(value));
            }
            (Dtype::F64, _) => out.extend(bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b))),
            (_, Some(float)) => {
                out.extend((0..bytes.len() / width.bytes()).map(|index| float.value(width.load(bytes, index))))
            }
            (_, None) => out.extend((0..bytes.len() / width.bytes()).map(|index| width.load(bytes, index) as f64)),
        }
    }

    /// The ULP delta `reference - base`: the difference of the ordered-integer images, in units in the last place, modulo 2^width and
    /// zero-extended (spec §10.2). It is exact for every pair of bit patterns, including NaN and both zeros. Deltas can be added, and
    /// negating one inverts it.
    #[inline]
    pub const fn ulp_delta(self, base: u64, reference: u64) -> u64 {
        self.image(reference).wrapping_sub(self.image(base)) & self.width().mask()
    }

    /// The reference's bits, from the base's bits and the ULP delta.
    #[inline]
    pub const fn add_ulp(self, base: u64, delta: u64) -> u64 {
        self.from_image(self.image(base).wrapping_add(delta) & self.width().mask())
    }

    /// The ordered-integer image of a bit pattern `u`, modulo 2^width: `u` if the sign bit is clear, `-1 - (u without the sign bit)` if it
    /// is set (spec §10.2). Bit patterns of dtypes other than floats are their own images.
    #[inline]
    pub const fn image(self, bits: u64) -> u64 {
        bits ^ self.below_sign(bits)
    }

    /// The bit pattern whose [`Dtype::image`] is `image`.
    #[inline]
    pub const fn from_image(self, image: u64) -> u64 {
        image ^ self.below_sign(image)
    }

    /// For a float with a set sign bit, a mask of all bits below it; otherwise 0.
    #[inline(always)]
    const fn below_sign(self, bits: u64) -> u64 {
        let sign = bits >> (self.width().bits() - 1) & self.float().is_some() as u64;
        sign.wrapping_neg() & self.width().mask() >> 1
    }
}

/// The bit layout of a dtype's elements.
#[derive(Debug, Clone, Copy)]
pub struct BitLayout {
    /// Mask of all bits of an element.
    mask: u64,
    /// Mask of the sign bit.
    sign: u64,
    /// Mask of the bits that the image of a negative float inverts: all but the sign. 0 for other dtypes.
    magnitude: u64,
    exponent_shift: u32,
    /// Mask of the exponent after the shift. 0 for other dtypes, which have one class.
    exponent_mask: u64,
}

impl BitLayout {
    /// As [`Dtype::class`].
    #[inline(always)]
    pub fn class(self, bits: u64) -> u16 {
        (bits >> self.exponent_shift & self.exponent_mask) as u16
    }

    /// As [`Dtype::ulp_delta`].
    #[inline(always)]
    pub fn ulp_delta(self, base: u64, reference: u64) -> u64 {
        self.image(reference).wrapping_sub(self.image(base)) & self.mask
    }

    /// As [`Dtype::add_ulp`].
    #[inline(always)]
    pub fn add_ulp(self, base: u64, delta: u64) -> u64 {
        self.image(self.image(base).wrapping_add(delta) & self.mask)
    }

    /// As [`Dtype::image`] and [`Dtype::from_image`], which are the same function.
    #[inline(always)]
    pub fn image(self, bits: u64) -> u64 {
        bits ^ (u64::from(bits & self.sign != 0).wrapping_neg() & self.magnitude)
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_order_floats_and_distinguish_the_zeros() {
        let signed = |x: f32| Dtype::F32.image(u64::from(x.to_bits())) as u32 as i32;
        let ascending = [f32::NEG_INFINITY, -1.0, -1e-45, -0.0, 0.0, 1e-45, 1.0, f32::INFINITY];
        for pair in ascending.windows(2) {
            assert!(signed(pair[0]) < signed(pair[1]), "{pair:?}");
        }
        assert_eq!(signed(-0.0), -1);
        assert_eq!(signed(0.0), 0);
    }

    #[test]
    fn every_pair_of_one_byte_patterns_survives_a_delta() {
        for (dtype, _) in NAMES.iter().filter(|(d, _)| d.width() == Width::W1) {
            for base in 0..256 {
                for reference in 0..256 {
                    assert_eq!(dtype.add_ulp(base, dtype.ulp_delta(base, reference)), reference);
                }
            }
        }
    }

    #[test]
    fn the_bit_layout_of_a_dtype_gives_its_classes_and_deltas() {
        for (dtype, _) in NAMES {
            let layout = dtype.bit_layout();
            let top = dtype.width().mask() ^ dtype.width().mask() >> 1;
            let patterns = [0, 1, 0x7f80, top, top | 1, top | 0x3f80, dtype.width().mask(), top - 1];
            let patterns = patterns.map(|bits| bits & dtype.width().mask());
            for (base, reference) in patterns.iter().flat_map(|a| patterns.iter().map(move |b| (*a, *b))) {
                assert_eq!(layout.class(base), dtype.class(base), "{dtype} {base:x}");
                let delta = dtype.ulp_delta(base, reference);
                assert_eq!(layout.ulp_delta(base, reference), delta, "{dtype} {base:x}");
                assert_eq!(layout.add_ulp(base, delta), reference, "{dtype} {base:x}");
            }
        }
    }

    #[test]
    fn deltas_add_and_invert_modulo_the_width() {
        for dtype in [Dtype::Bf16, Dtype::F16, Dtype::I16] {
            let mask = dtype.width().mask();
            for (a, b, c) in [(0, 0x8000, 0x7fff), (0xffff, 0x7fff, 0x8000), (0x3f80, 0xbf80, 0x7fc1)] {
                let sum = dtype.ulp_delta(a, b).wrapping_add(dtype.ulp_delta(b, c)) & mask;
                assert_eq!(sum, dtype.ulp_delta(a, c));
                assert_eq!(dtype.ulp_delta(b, a), dtype.ulp_delta(a, b).wrapping_neg() & mask);
            }
        }
    }

    #[test]
    fn names_and_codes_are_one_to_one() {
        for (dtype, name) in NAMES {
            assert_eq!(Dtype::from_name(name), Some(dtype));
            assert_eq!(Dtype::from_code(dtype.code()), Some(dtype));
        }
        assert_eq!(Dtype::from_code(0), None);
    }
}

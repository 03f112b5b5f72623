//! Loops over all elements of a part of a dense block, without branches, so that compilers vectorize them: ULP deltas of two parts, the
//! way back, and the statistics of their values.

use super::elements::Magnitude;
use crate::codec::Number;
use crate::dtype::{Dtype, Width};
use multiversion::multiversion;

/// Sums are kept for this many elements at a time, so that compilers vectorize them.
const LANES: usize = 8;

/// The sums of [`Magnitude`], for the elements of a part with the same index modulo [`LANES`].
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Lanes {
    sum: [f64; LANES],
    squares: [f64; LANES],
    max: [f64; LANES],
}

impl Lanes {
    /// The sums over all lanes.
    pub(super) fn total(self) -> Magnitude {
        let max = self.max.into_iter().fold(0.0, f64::max);
        Magnitude { sum: self.sum.iter().sum(), squares: self.squares.iter().sum(), max, ..Magnitude::default() }
    }

    /// Adds the elements of a part, of `WIDTH` bytes each.
    #[inline(always)]
    fn add_all<const WIDTH: usize>(&mut self, base: &[u8], reference: &[u8], value: impl Fn([u8; WIDTH]) -> f64) {
        let (bases, base_rest) = base.as_chunks::<WIDTH>().0.as_chunks::<LANES>();
        let (references, reference_rest) = reference.as_chunks::<WIDTH>().0.as_chunks::<LANES>();
        let mut lanes = *self;
        for (base, reference) in bases.iter().zip(references) {
            lanes.add(base, reference, &value);
        }
        *self = lanes;
        self.add(base_rest, reference_rest, &value);
    }

    /// Adds at most [`LANES`] elements.
    // A method, since a closure that is called twice is not compiled for the processors that `add_magnitude` is compiled for.
    #[inline(always)]
    fn add<const WIDTH: usize>(
        &mut self,
        base: &[[u8; WIDTH]],
        reference: &[[u8; WIDTH]],
        value: &impl Fn([u8; WIDTH]) -> f64,
    ) {
        for (lane, (base, reference)) in base.iter().zip(reference).enumerate() {
            let delta = (value(*reference) - value(*base)).abs();
            let finite = if delta.is_finite() { delta } else { 0.0 };
            self.sum[lane] += finite;
            self.squares[lane] += finite * finite;
            self.max[lane] = if finite > self.max[lane] { finite } else { self.max[lane] };
        }
    }
}

/// Writes the ULP deltas of all elements of a part, and appends the base's bytes of those that differ to `selected`.
#[inline(always)]
fn subtract<const WIDTH: usize, N: Number>(
    dtype: Dtype,
    base: &[u8],
    reference: &[u8],
    deltas: &mut [N],
    selected: &mut Vec<u8>,
) {
    let (magnitude, unused) = (magnitude_bits::<WIDTH, N>(dtype), N::BITS - 8 * WIDTH as u32);
    let image = |bytes: &[u8; WIDTH]| number::<WIDTH, N>(bytes).image(magnitude);
    let (base, reference) = (base.as_chunks::<WIDTH>().0, reference.as_chunks::<WIDTH>().0);
    for ((delta, base), reference) in deltas.iter_mut().zip(base).zip(reference) {
        *delta = image(reference).minus(image(base)).shift_right(unused);
    }
    // Every element is written; one that does not differ is overwritten by the next one.
    let before = selected.len();
    selected.resize(before + (base.len() + 1) * WIDTH, 0);
    let mut n = 0;
    let room = selected[before..].as_chunks_mut::<WIDTH>().0;
    for (base, delta) in base.iter().zip(deltas) {
        room[n] = *base;
        n += usize::from(*delta != N::default());
    }
    selected.truncate(before + n * WIDTH);
}

/// Adds deltas to all elements of a part.
#[inline(always)]
fn add<const WIDTH: usize, N: Number>(dtype: Dtype, elements: &mut [u8], deltas: &[N]) {
    let (magnitude, unused) = (magnitude_bits::<WIDTH, N>(dtype), N::BITS - 8 * WIDTH as u32);
    for (element, delta) in elements.as_chunks_mut::<WIDTH>().0.iter_mut().zip(deltas) {
        let delta = N::low((*delta).into() << unused);
        let sum = number::<WIDTH, N>(element).image(magnitude).plus(delta).image(magnitude);
        element.copy_from_slice(&sum.into().to_le_bytes()[unused as usize / 8..][..WIDTH]);
    }
}

/// An element as a number. One that is narrower than the number has the highest bits, so that sums and signs are those of its width.
#[inline(always)]
fn number<const WIDTH: usize, N: Number>(element: &[u8; WIDTH]) -> N {
    let mut bytes = [0; 8];
    bytes[..WIDTH].copy_from_slice(element);
    N::low(u64::from_le_bytes(bytes) << (N::BITS - 8 * WIDTH as u32))
}

/// The bits that the image of a negative float inverts: all of the element's but the sign. None for other dtypes.
#[inline(always)]
fn magnitude_bits<const WIDTH: usize, N: Number>(dtype: Dtype) -> N {
    let unused = N::BITS - 8 * WIDTH as u32;
    if dtype.float().is_some() { N::low(dtype.width().mask() >> 1 << unused) } else { N::default() }
}

/// Makes the functions above for one width, each compiled for several generations of processors.
macro_rules! for_width {
    ($subtract:ident, $add:ident, $width:literal, $number:ty) => {
        #[multiversion(targets(
            "x86_64+avx512f+avx512bw+avx512dq+avx512vl+bmi1+bmi2+lzcnt+popcnt",
            "x86_64+avx2+bmi1+bmi2+lzcnt+popcnt"
        ))]
        fn $subtract(dtype: Dtype, base: &[u8], reference: &[u8], deltas: &mut [$number], selected: &mut Vec<u8>) {
            subtract::<$width, $number>(dtype, base, reference, deltas, selected);
        }

        #[multiversion(targets(
            "x86_64+avx512f+avx512bw+avx512dq+avx512vl+bmi1+bmi2+lzcnt+popcnt",
            "x86_64+avx2+bmi1+bmi2+lzcnt+popcnt"
        ))]
        fn $add(dtype: Dtype, elements: &mut [u8], deltas: &[$number]) {
            add::<$width, $number>(dtype, elements, deltas);
        }
    };
}

for_width!(subtract_8, add_8, 1, u16);
for_width!(subtract_16, add_16, 2, u16);
for_width!(subtract_32, add_32, 4, u32);
for_width!(subtract_64, add_64, 8, u64);

/// A number that holds ULP deltas.
pub trait DeltaNumber: Number {
    /// Writes the ULP deltas of all elements of a part, and appends the base's bytes of those that differ to `selected`.
    fn subtract(dtype: Dtype, base: &[u8], reference: &[u8], deltas: &mut [Self], selected: &mut Vec<u8>);

    /// Adds deltas to all elements of a part.
    fn add(dtype: Dtype, elements: &mut [u8], deltas: &[Self]);
}

impl DeltaNumber for u16 {
    fn subtract(dtype: Dtype, base: &[u8], reference: &[u8], deltas: &mut [Self], selected: &mut Vec<u8>) {
        match dtype.width() {
            Width::W1 => subtract_8(dtype, base, reference, deltas, selected),
            _ => subtract_16(dtype, base, reference, deltas, selected),
        }
    }

    fn add(dtype: Dtype, elements: &mut [u8], deltas: &[Self]) {
        match dtype.width() {
            Width::W1 => add_8(dtype, elements, deltas),
            _ => add_16(dtype, elements, deltas),
        }
    }
}

impl DeltaNumber for u32 {
    fn subtract(dtype: Dtype, base: &[u8], reference: &[u8], deltas: &mut [Self], selected: &mut Vec<u8>) {
        subtract_32(dtype, base, reference, deltas, selected);
    }

    fn add(dtype: Dtype, elements: &mut [u8], deltas: &[Self]) {
        add_32(dtype, elements, deltas);
    }
}

impl DeltaNumber for u64 {
    fn subtract(dtype: Dtype, base: &[u8], reference: &[u8], deltas: &mut [Self], selected: &mut Vec<u8>) {
        subtract_64(dtype, base, reference, deltas, selected);
    }

    fn add(dtype: Dtype, elements: &mut [u8], deltas: &[Self]) {
        add_64(dtype, elements, deltas);
    }
}

/// Adds the differences of the values of a part, element by element, to the sums of their lanes. Nothing for dtypes that are not floats.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+bmi1+bmi2+lzcnt+popcnt",
    "x86_64+avx2+bmi1+bmi2+lzcnt+popcnt"
))]
pub(super) fn add_magnitude(sums: &mut Lanes, dtype: Dtype, base: &[u8], reference: &[u8]) {
    match (dtype, dtype.float(), dtype.width()) {
        // Loops of their own for the dtypes of most checkpoints: `FloatFormat::value` would match on the format at each element.
        (Dtype::Bf16, ..) => sums.add_all::<2>(base, reference, |element| {
            f64::from(f32::from_bits(u32::from(u16::from_le_bytes(element)) << 16))
        }),
        (Dtype::F32, ..) => sums.add_all::<4>(base, reference, |element| f64::from(f32::from_le_bytes(element))),
        (_, Some(float), Width::W1) => sums.add_all::<1>(base, reference, |[element]| float.value(element.into())),
        (_, Some(float), Width::W2) => {
            sums.add_all::<2>(base, reference, |element| float.value(u16::from_le_bytes(element).into()))
        }
        (_, Some(_), _) => sums.add_all::<8>(base, reference, f64::from_le_bytes),
        (_, None, _) => {}
    }
}

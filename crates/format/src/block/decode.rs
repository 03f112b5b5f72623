//! From a block's bytes to positions and deltas (spec §8, §9).

use super::base::BaseElements;
use super::masks::{Kept, Masks, count, spread};
use super::{DeltaCodec, PositionCodec, Streams};
use crate::codec::gaps::{self, GroupedPositions};
use crate::codec::reader::Reader;
use crate::codec::{Corrupt, Number, groups};
use crate::dtype::{Dtype, FloatFormat};
use crate::invalid::StreamFault;

/// What a block changes. Each part has one entry for each selected element.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedBlock {
    /// Positions in the block, ascending.
    pub positions: Vec<u32>,
    /// By how much; without meaning for elements that are pruned in the reference.
    pub deltas: Deltas,
    /// The base's bit patterns, where the block carries them or decoding had to look them up.
    pub base_bits: Option<Vec<u64>>,
    /// Whether the block carries them, so that they are only as true as the patch.
    pub carries_base: bool,
    /// What is kept, where base and reference are pruned.
    pub masks: Option<Masks>,
}

impl DecodedBlock {
    /// The base's bits that the block carries, one for each selected element.
    pub fn carried_base(&self) -> Option<&[u64]> {
        self.base_bits.as_deref().filter(|_| self.carries_base)
    }

    /// What is kept of element `entry`.
    pub fn kept(&self, entry: usize) -> Kept {
        self.masks.as_ref().map_or(Kept::BOTH, |masks| masks.kept[entry])
    }

    /// The reference's bits at element `entry`, `base` in the base; none where deltas are not exact.
    pub fn reference_bits(&self, entry: usize, dtype: Dtype, base: u64) -> Option<u64> {
        match &self.deltas {
            Deltas::Value(_) => None,
            Deltas::Ulp(_) if !self.kept(entry).in_reference() => Some(self.kept(entry).reference_zero(dtype)),
            Deltas::Ulp(deltas) => Some(dtype.add_ulp(base, deltas[entry])),
        }
    }

    /// What element `entry`, `base` in the base, counts as there (t of spec §11.1).
    pub fn value(&self, entry: usize, float: FloatFormat, base: u64) -> f64 {
        if self.kept(entry).in_base() { float.value(base) } else { 0.0 }
    }

    /// Reference minus base at element `entry`, in value (d of spec §11.1); none where elements are no floats.
    pub fn delta(&self, entry: usize, dtype: Dtype, base: u64) -> Option<f64> {
        let float = dtype.float()?;
        let value = self.value(entry, float, base);
        Some(match &self.deltas {
            _ if !self.kept(entry).in_reference() => 0.0 - value,
            Deltas::Value(deltas) => deltas[entry],
            Deltas::Ulp(deltas) => float.value(dtype.add_ulp(base, deltas[entry])) - value,
        })
    }
}

/// Reference minus base.
#[derive(Debug, Clone, PartialEq)]
pub enum Deltas {
    /// In ULPs, exact ([`Dtype::ulp_delta`]).
    Ulp(Vec<u64>),
    /// In value, with reduced precision.
    Value(Vec<f64>),
}

/// Why a block cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// R19.
    #[error(transparent)]
    Streams(#[from] StreamFault),
    /// R20, if the base is the right one.
    #[error(transparent)]
    Content(#[from] Corrupt),
    /// It is coded relative to the base, which was not given.
    #[error("the block is coded relative to its base")]
    NeedsBase,
}

/// About the bytes of memory that [`decode`] takes, of which what it returns keeps most.
pub fn memory(streams: &Streams<&[u8]>, dtype: Dtype, selected: u32) -> u64 {
    let coded = with_number!(dtype, N => size_of::<N>() as u64);
    let (position, delta, bits) = (4, 8, 8);
    let base = if streams.base_values.is_some() || streams.deltas.0 == DeltaCodec::ClassUlp { bits } else { 0 };
    let before = if streams.values_before.is_some() { bits } else { 0 };
    u64::from(selected) * (position + delta + base + before + coded + u64::from(streams.masks.is_some()))
}

/// Decodes a block of `selected` of `elements` elements. `base` are those elements, needed by base-conditioned codecs.
///
/// Allocates at most 40 bytes for each of the `selected` elements, which the tensor table bounds by the block.
///
/// # Errors
/// [`BlockError`].
pub fn decode(
    bytes: &[u8],
    dtype: Dtype,
    elements: u32,
    selected: u32,
    base: Option<&dyn BaseElements>,
) -> Result<DecodedBlock, BlockError> {
    let streams = streams(bytes, dtype)?;
    let mut base_bits = None;
    let positions = match streams.positions {
        (PositionCodec::Gaps, bytes) => gaps::decode(bytes, selected as usize, elements)?,
        (PositionCodec::ClassGaps, bytes) => {
            let base = base.ok_or(BlockError::NeedsBase)?;
            let looks_up = streams.deltas.0 == DeltaCodec::ClassUlp && streams.base_values.is_none();
            // While they are at hand.
            let bits = looks_up.then(|| base_bits.insert(Vec::with_capacity(selected as usize)));
            class_positions(bytes, selected as usize, base, bits)?
        }
    };
    if let Some((_, bytes)) = streams.base_values {
        base_bits = Some(numbers(bytes, selected as usize, dtype)?);
    }
    let masks = Masks::decode(&streams, selected as usize, dtype)?;
    let kept = masks.as_ref().map(|masks| &masks.kept[..]);
    let n_deltas = kept.map_or(selected as usize, |kept| count(kept, |kept| kept.in_reference()));
    let deltas = match streams.deltas {
        (DeltaCodec::Ulp, bytes) => {
            let ulps = with_number!(dtype, N => {
                unwrap_ulps(groups::decode::<N>(bytes, 1, n_deltas)?.into_numbers(), dtype)?
            });
            Deltas::Ulp(aligned(ulps, kept))
        }
        (DeltaCodec::ClassUlp, bytes) => {
            if base_bits.is_none() {
                base_bits = Some(base.ok_or(BlockError::NeedsBase)?.bits_at(&positions));
            }
            let base_bits = base_bits.iter().flatten().enumerate();
            let has_delta = |entry: usize| kept.is_none_or(|kept| kept[entry].in_reference());
            let base_bits = base_bits.filter(|(entry, _)| has_delta(*entry)).map(|(_, bits)| *bits);
            let ulps = with_number!(dtype, N => {
                unwrap_ulps(class_deltas::<N>(bytes, n_deltas, dtype, base_bits)?, dtype)?
            });
            Deltas::Ulp(aligned(ulps, kept))
        }
        (DeltaCodec::Bf16, bytes) => Deltas::Value(aligned(bf16_deltas(bytes, n_deltas)?, kept)),
        (DeltaCodec::Int8, bytes) => Deltas::Value(aligned(int8_deltas(bytes, n_deltas)?, kept)),
    };
    let carries_base = streams.base_values.is_some();
    Ok(DecodedBlock { positions, deltas, base_bits, carries_base, masks })
}

/// The streams in a block's bytes, which must serve elements of `dtype`.
///
/// # Errors
/// [`StreamFault`] (R19).
pub fn streams(bytes: &[u8], dtype: Dtype) -> Result<Streams<&[u8]>, StreamFault> {
    let streams = Streams::read(bytes)?;
    let for_floats = streams.masks.is_some() || matches!(streams.deltas.0, DeltaCodec::Bf16 | DeltaCodec::Int8);
    if for_floats && dtype.float().is_none() {
        return Err(StreamFault::Dtype);
    }
    Ok(streams)
}

/// One delta for each selected element, from those of the elements that have one.
fn aligned<T: Copy + Default>(deltas: Vec<T>, kept: Option<&[Kept]>) -> Vec<T> {
    match kept {
        Some(kept) => spread(deltas, kept, |kept| kept.in_reference()),
        None => deltas,
    }
}

/// Positions, and in `bits` what the base holds there.
fn class_positions(
    bytes: &[u8],
    count: usize,
    base: &dyn BaseElements,
    mut bits: Option<&mut Vec<u64>>,
) -> Result<Vec<u32>, BlockError> {
    let mut found = GroupedPositions::decode(bytes, base.dtype().classes(), count)?;
    base.walk_with_classes(&mut |start, bytes, classes| {
        let positions = found.walk(start, classes);
        if let Some(bits) = &mut bits {
            base.dtype().width().load_at(bytes, positions.iter().map(|position| (position - start) as usize), bits);
        }
    });
    Ok(found.finish(base.elements())?)
}

/// Puts deltas that are coded group by group back in the order of positions.
fn class_deltas<N: Number>(
    bytes: &[u8],
    count: usize,
    dtype: Dtype,
    base_bits: impl Iterator<Item = u64>,
) -> Result<Vec<N>, BlockError> {
    let sequences = groups::decode::<N>(bytes, dtype.classes(), count)?;
    let (mut next, ends, numbers) = (sequences.starts(), sequences.ends(), sequences.numbers());
    let mut deltas = Vec::with_capacity(count);
    let anatomy = dtype.anatomy();
    for bits in base_bits {
        let group = sequences.partition().group(anatomy.class(bits));
        let at = &mut next[group];
        if *at == ends[group] {
            break;
        }
        deltas.push(numbers[*at]);
        *at += 1;
    }
    if deltas.len() == count {
        return Ok(deltas);
    }
    let (found, expected) = (deltas.len() as u64, count as u64);
    Err(Corrupt::Count { field: "deltas of the base's classes", found, expected }.into())
}

pub(super) fn numbers(bytes: &[u8], count: usize, dtype: Dtype) -> Result<Vec<u64>, Corrupt> {
    with_number!(dtype, N => numbers_as::<N>(bytes, count, dtype))
}

fn numbers_as<N: Number>(bytes: &[u8], count: usize, dtype: Dtype) -> Result<Vec<u64>, Corrupt> {
    let (most, flip, anatomy) = (dtype.width().mask(), flip(dtype), dtype.anatomy());
    let images: Vec<N> = groups::decode(bytes, 1, count)?.into_numbers();
    if let Some(found) = images.iter().map(|image| (*image).into()).find(|image| *image > most) {
        return Err(Corrupt::Range { field: "a base value", found, least: 0, most });
    }
    Ok(images.into_iter().map(|image| anatomy.image(image.into() ^ flip)).collect())
}

/// The image with its order kept when read as unsigned, as base values are coded (spec §9.8).
pub fn unsigned_image(dtype: Dtype, bits: u64) -> u64 {
    dtype.image(bits) ^ flip(dtype)
}

fn flip(dtype: Dtype) -> u64 {
    if dtype.float().is_some() { 1 << (dtype.width().bits() - 1) } else { 0 }
}

/// The coded form of a ULP delta: zigzag, less one, since zero is rare (spec §9.5).
pub fn wrap_ulp(delta: u64, dtype: Dtype) -> u64 {
    let (bits, mask) = (dtype.width().bits(), dtype.width().mask());
    let zigzag = if delta >> (bits - 1) == 0 { delta << 1 } else { !(delta << 1) };
    zigzag.wrapping_sub(1) & mask
}

fn unwrap_ulps<N: Number>(coded: Vec<N>, dtype: Dtype) -> Result<Vec<u64>, Corrupt> {
    let mask = dtype.width().mask();
    if N::BITS > dtype.width().bits()
        && let Some(found) = coded.iter().map(|number| (*number).into()).find(|number: &u64| *number > mask)
    {
        return Err(Corrupt::Range { field: "a ULP delta", found, least: 0, most: mask });
    }
    // Where numbers are as wide as deltas, they take the same memory.
    let unfolded = coded.into_iter().map(|number| {
        let zigzag = number.into().wrapping_add(1) & mask;
        (zigzag >> 1 ^ (zigzag & 1).wrapping_neg()) & mask
    });
    Ok(unfolded.collect())
}

/// Deltas as bfloat16 (spec §9.6).
fn bf16_deltas(bytes: &[u8], count: usize) -> Result<Vec<f64>, Corrupt> {
    let bits = unwrap_ulps(groups::decode::<u16>(bytes, 1, count)?.into_numbers(), Dtype::Bf16)?;
    let value = |image: u64| FloatFormat::BF16.value(Dtype::Bf16.from_image(image));
    bits.into_iter().map(value).map(finite).collect()
}

/// Deltas as multiples of a scale (spec §9.7).
fn int8_deltas(bytes: &[u8], count: usize) -> Result<Vec<f64>, Corrupt> {
    let mut reader = Reader::new(bytes);
    let scale = finite(f64::from(f32::from_le_bytes(reader.array("scale")?)))?;
    let steps = unwrap_ulps(groups::decode::<u16>(reader.rest(), 1, count)?.into_numbers(), Dtype::I8)?;
    steps.into_iter().map(|step| finite(f64::from(step as u8 as i8) * scale)).collect()
}

fn finite(value: f64) -> Result<f64, Corrupt> {
    let most = f64::MAX.to_bits();
    let out_of_range = Corrupt::Range { field: "bits of a delta", found: value.to_bits(), least: 0, most };
    if value.is_finite() { Ok(value) } else { Err(out_of_range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulp_deltas_survive_wrapping_at_every_width() {
        for dtype in [Dtype::F8E4M3, Dtype::Bf16, Dtype::F32, Dtype::F64, Dtype::U8] {
            let mask = dtype.width().mask();
            for delta in [0, 1, 2, mask, mask - 1, mask >> 1, (mask >> 1) + 1] {
                assert_eq!(unwrap_ulps(vec![wrap_ulp(delta, dtype)], dtype), Ok(vec![delta]));
            }
            assert_eq!(wrap_ulp(mask, dtype), 0, "minus one is the cheapest");
            assert_eq!(wrap_ulp(1, dtype), 1);
        }
    }

    #[test]
    fn unsigned_images_ascend_with_the_value() {
        let image = |x: f32| unsigned_image(Dtype::F32, u64::from(x.to_bits()));
        assert!(image(-2.0) < image(-0.0) && image(-0.0) < image(0.0) && image(0.0) < image(2.0));
        for bits in [0, 0x8000, 0x7fc0, 0xffff] {
            assert_eq!(Dtype::Bf16.from_image(unsigned_image(Dtype::Bf16, bits) ^ flip(Dtype::Bf16)), bits);
        }
    }
}

//! Decodes a block into positions and deltas (spec §8, §9).

use super::base::BaseElements;
use super::dense::{AddDeltas, DenseDeltas};
use super::encode::values_digest;
use super::loops::DeltaNumber;
use super::masks::{self, Kept, Masks, count, spread};
use super::{DeltaCodec, PositionCodec, Streams};
use crate::codec::gaps::{self, GroupedPositions};
use crate::codec::groups::Sequences;
use crate::codec::reader::Reader;
use crate::codec::{Corrupt, Number, groups};
use crate::digest::Digest;
use crate::dtype::{Dtype, FloatFormat};
use crate::invalid::StreamFault;
use crate::limits::DENSE_LIVE_RATIO_MAX;

/// A decoded block. Each vector has one entry per selected element.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedBlock {
    /// Positions in the block, ascending.
    pub positions: Vec<u32>,
    /// Reference minus base; meaningless for elements that are pruned in the reference.
    pub deltas: Deltas,
    /// The base's bit patterns, if the block stores them or decoding had to read them from the base.
    pub base_bits: Option<Vec<u64>>,
    /// Whether `base_bits` come from the block and not from the base. They are then as untrusted as the patch.
    pub carries_base: bool,
    /// The pruning masks of base and reference, if they have any.
    pub masks: Option<Masks>,
}

impl DecodedBlock {
    /// The base's bit patterns that the block stores.
    pub fn carried_base(&self) -> Option<&[u64]> {
        self.base_bits.as_deref().filter(|_| self.carries_base)
    }

    /// Where selected element `entry` is kept.
    pub fn kept(&self, entry: usize) -> Kept {
        self.masks.as_ref().map_or(Kept::BOTH, |masks| masks.kept[entry])
    }

    /// The reference's bits of selected element `entry`, whose bits in the base are `base`; `None` if deltas are not exact.
    pub fn reference_bits(&self, entry: usize, dtype: Dtype, base: u64) -> Option<u64> {
        match &self.deltas {
            Deltas::Value(_) => None,
            Deltas::Ulp(_) if !self.kept(entry).in_reference() => Some(self.kept(entry).reference_zero(dtype)),
            Deltas::Ulp(deltas) => Some(dtype.add_ulp(base, deltas[entry])),
        }
    }

    /// The base's value of selected element `entry`, whose bits in the base are `base`; 0 if it is pruned there (t of spec §A3).
    pub fn value(&self, entry: usize, float: FloatFormat, base: u64) -> f64 {
        if self.kept(entry).in_base() { float.value(base) } else { 0.0 }
    }

    /// Reference minus base of selected element `entry` as a value (d of spec §A3); `None` for dtypes that are not floats.
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
    /// Exact, in ULPs ([`Dtype::ulp_delta`]).
    Ulp(Vec<u64>),
    /// As values of reduced precision.
    Value(Vec<f64>),
}

/// Why a block cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The streams are invalid (R19).
    #[error(transparent)]
    Streams(#[from] StreamFault),
    /// The content of a stream is invalid (R20), or the base is not the one of the patch.
    #[error(transparent)]
    Content(#[from] Corrupt),
    /// The block is base-conditioned, and no base was given.
    #[error("the block is coded relative to its base")]
    NeedsBase,
}

/// About how many bytes of memory [`decode`] takes. The decoded block keeps most of them.
pub fn memory(streams: &Streams<&[u8]>, dtype: Dtype, elements: u32, selected: u32) -> u64 {
    let encoded = with_number!(dtype, N => size_of::<N>() as u64);
    let (position, delta, bits) = (4, 8, 8);
    let reads_base = matches!(streams.deltas.0, DeltaCodec::ClassUlp | DeltaCodec::Dense);
    let base = if streams.base_values.is_some() || reads_base { bits } else { 0 };
    let before = if streams.values_before.is_some() { bits } else { 0 };
    let of_selected =
        u64::from(selected) * (position + delta + base + before + encoded + u64::from(streams.masks.is_some()));
    of_selected + if streams.deltas.0 == DeltaCodec::Dense { dense_memory(dtype, elements, selected) } else { 0 }
}

/// About how many bytes of memory [`verify`] takes: the numbers of one stream as they are encoded and as they are meant, and the masks.
pub fn verify_memory(streams: &Streams<&[u8]>, dtype: Dtype, selected: u32) -> u64 {
    let encoded = with_number!(dtype, N => size_of::<N>() as u64);
    u64::from(selected) * (encoded + 8 + u64::from(streams.masks.is_some()))
}

/// The most bytes that the deltas of all elements of a dense block take, with their symbols and escapes.
pub fn dense_memory(dtype: Dtype, elements: u32, selected: u32) -> u64 {
    let encoded = with_number!(dtype, N => size_of::<N>() as u64);
    (u64::from(selected) * DENSE_LIVE_RATIO_MAX).min(elements.into()) * (2 * encoded + 1)
}

/// Decodes a block in which `selected` of `elements` elements are selected. `base` gives all elements of the block in the base;
/// base-conditioned codecs need it.
///
/// Allocates at most 40 bytes per selected element, and for dense blocks what [`dense_memory`] says. The tensor table limits `selected` to
/// the size of the block.
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
    if streams.deltas.0 == DeltaCodec::Dense {
        let base = base.ok_or(BlockError::NeedsBase)?;
        return with_number!(dtype, N => decode_dense::<N>(&streams, elements, selected, base));
    }
    let mut base_bits = None;
    let positions = match streams.positions {
        (PositionCodec::Gaps, bytes) => gaps::decode(bytes, selected as usize, elements)?,
        // Never without dense deltas.
        (PositionCodec::Chunks, _) => return Err(StreamFault::Dense.into()),
        (PositionCodec::ClassGaps, bytes) => {
            let base = base.ok_or(BlockError::NeedsBase)?;
            let deltas_need_base = streams.deltas.0 == DeltaCodec::ClassUlp && streams.base_values.is_none();
            // Collected in the same walk over the base, so that the deltas below need no second one.
            let bits = deltas_need_base.then(|| base_bits.insert(Vec::with_capacity(selected as usize)));
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
        (DeltaCodec::Ulp, bytes) => Deltas::Ulp(aligned(ulp_deltas(bytes, n_deltas, dtype)?, kept)),
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
        (DeltaCodec::Dense, _) => return Err(StreamFault::Dense.into()),
    };
    let carries_base = streams.base_values.is_some();
    Ok(DecodedBlock { positions, deltas, base_bits, carries_base, masks })
}

/// Checks everything that [`decode`] checks of a block that needs no base. The numbers of each stream are dropped before those of the next
/// are decoded, so that this takes the memory of one ([`verify_memory`]). Returns the digest of the base values that the block stores.
///
/// # Errors
/// [`BlockError`].
pub fn verify(bytes: &[u8], dtype: Dtype, elements: u32, selected: u32) -> Result<Option<Digest>, BlockError> {
    let streams = streams(bytes, dtype)?;
    if streams.needs_base() {
        return Err(BlockError::NeedsBase);
    }
    let selected = selected as usize;
    gaps::decode(streams.positions.1, selected, elements)?;
    let kept = streams.masks.map(|(_, bytes)| masks::kept(bytes, selected)).transpose()?;
    let has_delta = |entry: usize| kept.as_ref().is_none_or(|kept| kept[entry].in_reference());
    let n_deltas = kept.as_ref().map_or(selected, |kept| count(kept, |kept| kept.in_reference()));
    if let Some(kept) = &kept {
        masks::values_before(&streams, kept, dtype)?;
    }
    let (mut digest, mut of_classes) = (None, vec![0; dtype.classes()]);
    if let Some((_, bytes)) = streams.base_values {
        let base_bits = numbers(bytes, selected, dtype)?;
        digest = Some(values_digest(dtype, &base_bits));
        let layout = dtype.bit_layout();
        for (_, bits) in base_bits.into_iter().enumerate().filter(|(entry, _)| has_delta(*entry)) {
            of_classes[usize::from(layout.class(bits))] += 1;
        }
    }
    match streams.deltas {
        (DeltaCodec::Ulp, bytes) => drop(ulp_deltas(bytes, n_deltas, dtype)?),
        (DeltaCodec::ClassUlp, bytes) => with_number!(dtype, N => {
            let deltas = groups::decode::<N>(bytes, dtype.classes(), n_deltas)?;
            check_classes(&deltas, &of_classes)?;
            unwrap_ulps(deltas.into_numbers(), dtype)?;
        }),
        (DeltaCodec::Bf16, bytes) => drop(bf16_deltas(bytes, n_deltas)?),
        (DeltaCodec::Int8, bytes) => drop(int8_deltas(bytes, n_deltas)?),
        (DeltaCodec::Dense, _) => return Err(StreamFault::Dense.into()),
    }
    Ok(digest)
}

/// The deltas of a dense block, to be added to its base; `None` for other blocks. Arguments and errors are those of [`decode`].
///
/// # Errors
/// [`BlockError`].
pub fn dense_deltas(
    bytes: &[u8],
    dtype: Dtype,
    elements: u32,
    selected: u32,
) -> Result<Option<Box<dyn AddDeltas>>, BlockError> {
    let streams = streams(bytes, dtype)?;
    if streams.deltas.0 != DeltaCodec::Dense {
        return Ok(None);
    }
    let (chunks, deltas) = (streams.positions.1, streams.deltas.1);
    Ok(Some(with_number!(dtype, N => Box::new(DenseDeltas::<N>::decode(chunks, deltas, dtype, elements, selected)?))))
}

/// Decodes a dense block into its positions and deltas.
fn decode_dense<N: DeltaNumber>(
    streams: &Streams<&[u8]>,
    elements: u32,
    selected: u32,
    base: &dyn BaseElements,
) -> Result<DecodedBlock, BlockError> {
    let dtype = base.dtype();
    let mut dense = DenseDeltas::<N>::decode(streams.positions.1, streams.deltas.1, dtype, elements, selected)?;
    let (mut positions, mut deltas, mut bits) = (Vec::new(), Vec::new(), Vec::new());
    positions.reserve_exact(selected as usize);
    deltas.reserve_exact(selected as usize);
    bits.reserve_exact(selected as usize);
    let (width, mask) = (dtype.width(), dtype.width().mask());
    base.walk_with_classes(&mut |start, bytes, classes| {
        for (at, delta) in dense.next(start, classes).iter().enumerate() {
            let delta: u64 = (*delta).into() & mask;
            // With another base there can be more of them, before the last check below finds it out.
            if delta != 0 && positions.len() < selected as usize {
                positions.push(start + at as u32);
                deltas.push(delta);
                bits.push(width.load(bytes, at));
            }
        }
    });
    dense.finish()?;
    Ok(DecodedBlock { positions, deltas: Deltas::Ulp(deltas), base_bits: Some(bits), carries_base: false, masks: None })
}

/// Parses a block into its streams, and checks that they suit elements of `dtype`.
///
/// # Errors
/// [`StreamFault`] (R19).
pub fn streams(bytes: &[u8], dtype: Dtype) -> Result<Streams<&[u8]>, StreamFault> {
    let streams = Streams::read(bytes)?;
    let floats_only = streams.masks.is_some() || matches!(streams.deltas.0, DeltaCodec::Bf16 | DeltaCodec::Int8);
    if floats_only && dtype.float().is_none() {
        return Err(StreamFault::Dtype);
    }
    Ok(streams)
}

/// Aligns deltas with the selected elements: elements that are pruned in the reference have no delta in the stream and get 0.
fn aligned<T: Copy + Default>(deltas: Vec<T>, kept: Option<&[Kept]>) -> Vec<T> {
    match kept {
        Some(kept) => spread(deltas, kept, |kept| kept.in_reference()),
        None => deltas,
    }
}

/// Decodes base-conditioned positions, and appends the base's bit patterns at them to `bits`.
fn class_positions(
    bytes: &[u8],
    count: usize,
    base: &dyn BaseElements,
    mut bits: Option<&mut Vec<u64>>,
) -> Result<Vec<u32>, BlockError> {
    let mut decoder = GroupedPositions::decode(bytes, base.dtype().classes(), count)?;
    base.walk_with_classes(&mut |start, bytes, classes| {
        let positions = decoder.walk(start, classes);
        if let Some(bits) = &mut bits {
            base.dtype().width().load_at(bytes, positions.iter().map(|position| (position - start) as usize), bits);
        }
    });
    Ok(decoder.finish(base.elements())?)
}

/// Decodes deltas that are grouped by class, and puts them in the order of positions.
fn class_deltas<N: Number>(
    bytes: &[u8],
    count: usize,
    dtype: Dtype,
    base_bits: impl Iterator<Item = u64>,
) -> Result<Vec<N>, BlockError> {
    let sequences = groups::decode::<N>(bytes, dtype.classes(), count)?;
    let (mut next, ends, numbers) = (sequences.starts(), sequences.ends(), sequences.numbers());
    let mut deltas = Vec::with_capacity(count);
    let layout = dtype.bit_layout();
    for bits in base_bits {
        let group = sequences.partition().group(layout.class(bits));
        let slot = &mut next[group];
        if *slot == ends[group] {
            break;
        }
        deltas.push(numbers[*slot]);
        *slot += 1;
    }
    if deltas.len() == count { Ok(deltas) } else { Err(other_classes(deltas.len(), count).into()) }
}

/// Checks that there are as many `deltas` in each group as base values, of which there are `of_classes` in each class. [`class_deltas`]
/// finds out the same.
fn check_classes<N: Number>(deltas: &Sequences<N>, of_classes: &[usize]) -> Result<(), Corrupt> {
    let partition = deltas.partition();
    let mut left: Vec<usize> = deltas.ends().iter().zip(deltas.starts()).map(|(end, start)| end - start).collect();
    let mut placed = 0;
    for (class, values) in of_classes.iter().enumerate() {
        let group = &mut left[partition.group(class as u16)];
        let here = (*group).min(*values);
        *group -= here;
        placed += here;
    }
    let count = deltas.numbers().len();
    if placed == count { Ok(()) } else { Err(other_classes(placed, count)) }
}

fn other_classes(found: usize, expected: usize) -> Corrupt {
    Corrupt::Count { field: "deltas of the base's classes", found: found as u64, expected: expected as u64 }
}

/// Decodes deltas in the order of positions (spec §9.5).
fn ulp_deltas(bytes: &[u8], count: usize, dtype: Dtype) -> Result<Vec<u64>, Corrupt> {
    with_number!(dtype, N => unwrap_ulps(groups::decode::<N>(bytes, 1, count)?.into_numbers(), dtype))
}

/// Decodes `count` bit patterns of `dtype` (spec §9.8).
pub(super) fn numbers(bytes: &[u8], count: usize, dtype: Dtype) -> Result<Vec<u64>, Corrupt> {
    with_number!(dtype, N => numbers_as::<N>(bytes, count, dtype))
}

fn numbers_as<N: Number>(bytes: &[u8], count: usize, dtype: Dtype) -> Result<Vec<u64>, Corrupt> {
    let (most, flip, layout) = (dtype.width().mask(), flip(dtype), dtype.bit_layout());
    let images: Vec<N> = groups::decode(bytes, 1, count)?.into_numbers();
    if let Some(found) = images.iter().map(|image| (*image).into()).find(|image| *image > most) {
        return Err(Corrupt::Range { field: "a base value", found, least: 0, most });
    }
    Ok(images.into_iter().map(|image| layout.image(image.into() ^ flip)).collect())
}

/// Maps a bit pattern to an unsigned integer that ascends with the value, as base values are encoded (spec §9.8).
pub fn unsigned_image(dtype: Dtype, bits: u64) -> u64 {
    dtype.image(bits) ^ flip(dtype)
}

/// The sign bit of floats, whose flip turns a signed image into an unsigned one.
fn flip(dtype: Dtype) -> u64 {
    if dtype.float().is_some() { 1 << (dtype.width().bits() - 1) } else { 0 }
}

/// Maps a ULP delta to the integer that is encoded: zigzag, minus one modulo 2^width because a delta of zero is rare (spec §9.5).
pub fn wrap_ulp(delta: u64, dtype: Dtype) -> u64 {
    let (bits, mask) = (dtype.width().bits(), dtype.width().mask());
    let zigzag = if delta >> (bits - 1) == 0 { delta << 1 } else { !(delta << 1) };
    zigzag.wrapping_sub(1) & mask
}

/// Inverts [`wrap_ulp`].
fn unwrap_ulps<N: Number>(encoded: Vec<N>, dtype: Dtype) -> Result<Vec<u64>, Corrupt> {
    let mask = dtype.width().mask();
    if N::BITS > dtype.width().bits()
        && let Some(found) = encoded.iter().map(|number| (*number).into()).find(|number: &u64| *number > mask)
    {
        return Err(Corrupt::Range { field: "a ULP delta", found, least: 0, most: mask });
    }
    let deltas = encoded.into_iter().map(|number| {
        let zigzag = number.into().wrapping_add(1) & mask;
        (zigzag >> 1 ^ (zigzag & 1).wrapping_neg()) & mask
    });
    // `collect` reuses the memory of `encoded` where its numbers are as wide as the deltas.
    Ok(deltas.collect())
}

/// Decodes deltas of bfloat16 (spec §9.6).
fn bf16_deltas(bytes: &[u8], count: usize) -> Result<Vec<f64>, Corrupt> {
    let bits = unwrap_ulps(groups::decode::<u16>(bytes, 1, count)?.into_numbers(), Dtype::Bf16)?;
    let value = |image: u64| FloatFormat::BF16.value(Dtype::Bf16.from_image(image));
    bits.into_iter().map(value).map(finite).collect()
}

/// Decodes deltas that are integer multiples of a scale (spec §9.7).
fn int8_deltas(bytes: &[u8], count: usize) -> Result<Vec<f64>, Corrupt> {
    let mut reader = Reader::new(bytes);
    let scale = finite(f64::from(f32::from_le_bytes(reader.array("scale")?)))?;
    let steps = unwrap_ulps(groups::decode::<u16>(reader.rest(), 1, count)?.into_numbers(), Dtype::I8)?;
    steps.into_iter().map(|step| finite(f64::from(step as u8 as i8) * scale)).collect()
}

/// Refuses infinities and NaN.
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
            assert_eq!(wrap_ulp(mask, dtype), 0, "a delta of minus one has the smallest code");
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

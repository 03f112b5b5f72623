//! A block of the payload: a directory of streams, followed by their bytes (spec §8). [`encode()`] makes the streams of selected
//! elements; [`decode()`] returns their positions and deltas, with or without the base.

/// Runs `$body` with `$number` bound to the integer type that encodes ULP deltas and base values of `$dtype`.
macro_rules! with_number {
    ($dtype:expr, $number:ident => $body:expr) => {
        match $dtype.width() {
            $crate::dtype::Width::W1 | $crate::dtype::Width::W2 => {
                type $number = u16;
                $body
            }
            $crate::dtype::Width::W4 => {
                type $number = u32;
                $body
            }
            $crate::dtype::Width::W8 => {
                type $number = u64;
                $body
            }
        }
    };
}

pub mod base;
pub mod choose;
pub mod decode;
pub mod dense;
pub mod elements;
pub mod encode;
mod loops;
pub mod masks;

pub use base::{BaseElements, InMemory};
pub use decode::{DecodedBlock, Deltas, decode};
pub use elements::{Elements, Magnitude};
pub use encode::encode;
pub use masks::{Kept, Masks};

use crate::codec::reader::Reader;
use crate::codec::varint;
use crate::invalid::StreamFault;
use crate::limits::{BLOCK_LOG2, OPTIONAL_STREAM};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Number of elements in a block that this crate writes; the last block of a tensor may have fewer.
pub const BLOCK_ELEMENTS: u64 = 1 << BLOCK_LOG2;

/// Identifies a block of a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId {
    /// The tensor's index in the list that the caller works on.
    pub tensor: usize,
    /// The block's index in the tensor.
    pub index: u64,
}

/// The range of elements in block `index` of a tensor of `elements` elements, with blocks of `2^block_log2` elements.
pub fn block_elements(block_log2: u32, index: u64, elements: u64) -> Range<u64> {
    index << block_log2..((index + 1) << block_log2).min(elements)
}

/// As [`block_elements`], for blocks of the size that this crate writes.
pub fn block_range(index: u64, elements: u64) -> Range<u64> {
    block_elements(BLOCK_LOG2, index, elements)
}

/// The indices of the blocks of a tensor of `elements` elements.
pub fn blocks(elements: u64) -> Range<u64> {
    0..elements.div_ceil(BLOCK_ELEMENTS)
}

/// Codec of positions (stream kind 1, spec §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum PositionCodec {
    /// Gaps between neighbouring positions; base-free (spec §9.3).
    Gaps = 1,
    /// Gaps within groups of exponents of the base's elements; base-conditioned (spec §9.4).
    ClassGaps = 2,
    /// The chunks in which anything changes; with [`DeltaCodec::Dense`] only (spec §9.11).
    Chunks = 3,
}

/// Codec of deltas (stream kind 2, spec §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum DeltaCodec {
    /// ULP deltas in the order of positions (spec §9.5).
    Ulp = 1,
    /// ULP deltas grouped by exponents of the base's elements (spec §9.5).
    ClassUlp = 2,
    /// Deltas rounded to bfloat16 (spec §9.6).
    Bf16 = 3,
    /// Deltas as integer multiples of a scale, -127 to 127 (spec §9.7).
    Int8 = 4,
    /// ULP deltas of all elements of the chunks in which anything changes; base-conditioned (spec §9.11).
    Dense = 5,
}

/// Codec of the base's values at the selected positions (stream kind 3, spec §9.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum BaseCodec {
    /// Bit patterns in the order of positions.
    Bits = 1,
}

/// Codec of masks, which also says what the base stores at pruned elements (stream kind 4, spec §9.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum MaskCodec {
    /// The base stores zeros.
    PrunedBase = 1,
    /// The base stores the values from before pruning.
    UnprunedBase = 2,
}

const POSITIONS: u8 = 1;
const DELTAS: u8 = 2;
const BASE_VALUES: u8 = 3;
const MASKS: u8 = 4;
const VALUES_BEFORE: u8 = 5;

/// The encoded streams of a block. `B` is `&[u8]` for reading, `Vec<u8>` for writing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams<B> {
    /// Positions of the selected elements in the block.
    pub positions: (PositionCodec, B),
    /// Reference minus base at these positions.
    pub deltas: (DeltaCodec, B),
    /// The base's values at these positions; in portable patches only.
    pub base_values: Option<(BaseCodec, B)>,
    /// Which of the elements base and reference keep, if they have pruning masks.
    pub masks: Option<(MaskCodec, B)>,
    /// The base's values before pruning, for elements that are pruned in the base.
    pub values_before: Option<(BaseCodec, B)>,
}

impl<B: AsRef<[u8]>> Streams<B> {
    /// Whether the block cannot be decoded without its base.
    pub fn needs_base(&self) -> bool {
        matches!(self.positions.0, PositionCodec::ClassGaps | PositionCodec::Chunks)
            || (self.deltas.0 == DeltaCodec::ClassUlp && self.base_values.is_none())
    }

    /// Serializes the block: the directory, then the streams in the same order.
    pub fn write(&self) -> Vec<u8> {
        let mut parts = vec![
            (POSITIONS, self.positions.0 as u8, self.positions.1.as_ref()),
            (DELTAS, self.deltas.0 as u8, self.deltas.1.as_ref()),
        ];
        parts.extend(self.base_values.as_ref().map(|(codec, bytes)| (BASE_VALUES, *codec as u8, bytes.as_ref())));
        parts.extend(self.masks.as_ref().map(|(codec, bytes)| (MASKS, *codec as u8, bytes.as_ref())));
        parts.extend(self.values_before.as_ref().map(|(codec, bytes)| (VALUES_BEFORE, *codec as u8, bytes.as_ref())));
        let mut out = Vec::new();
        for (kind, codec, bytes) in &parts {
            out.extend([*kind, *codec]);
            varint::write(&mut out, bytes.len() as u64);
        }
        out.push(0);
        parts.iter().for_each(|(_, _, bytes)| out.extend_from_slice(bytes));
        out
    }
}

/// The first bytes of a dense block: positions come first in every directory, and this codec of theirs is for dense blocks only.
pub const DENSE_FRONT: [u8; 2] = [POSITIONS, PositionCodec::Chunks as u8];

impl<'a> Streams<&'a [u8]> {
    /// Parses a block into its streams, which stay encoded. Unknown optional streams are skipped.
    ///
    /// # Errors
    /// Every [`StreamFault`] but `Dtype` (R19).
    pub fn read(block: &'a [u8]) -> Result<Self, StreamFault> {
        let mut reader = Reader::new(block);
        let mut directory: Vec<(u8, u8, u64)> = Vec::new();
        loop {
            let kind = reader.u8("stream kind").map_err(StreamFault::Directory)?;
            if kind == 0 {
                break;
            }
            if directory.last().is_some_and(|(before, ..)| *before >= kind) {
                return Err(StreamFault::Order);
            }
            let codec = reader.u8("codec").map_err(StreamFault::Directory)?;
            let bytes = reader.varint("stream length", 0, u64::MAX).map_err(StreamFault::Directory)?;
            directory.push((kind, codec, bytes));
        }
        let (mut positions, mut deltas, mut base_values, mut masks, mut values_before) = (None, None, None, None, None);
        for (kind, codec, bytes) in directory {
            let bytes = reader.take(bytes, "stream").map_err(StreamFault::Directory)?;
            let unknown = StreamFault::UnknownCodec { kind, codec };
            match (kind, codec) {
                (POSITIONS, 1) => positions = Some((PositionCodec::Gaps, bytes)),
                (POSITIONS, 2) => positions = Some((PositionCodec::ClassGaps, bytes)),
                (POSITIONS, 3) => positions = Some((PositionCodec::Chunks, bytes)),
                (DELTAS, 1) => deltas = Some((DeltaCodec::Ulp, bytes)),
                (DELTAS, 2) => deltas = Some((DeltaCodec::ClassUlp, bytes)),
                (DELTAS, 3) => deltas = Some((DeltaCodec::Bf16, bytes)),
                (DELTAS, 4) => deltas = Some((DeltaCodec::Int8, bytes)),
                (DELTAS, 5) => deltas = Some((DeltaCodec::Dense, bytes)),
                (BASE_VALUES, 1) => base_values = Some((BaseCodec::Bits, bytes)),
                (MASKS, 1) => masks = Some((MaskCodec::PrunedBase, bytes)),
                (MASKS, 2) => masks = Some((MaskCodec::UnprunedBase, bytes)),
                (VALUES_BEFORE, 1) => values_before = Some((BaseCodec::Bits, bytes)),
                (POSITIONS..=VALUES_BEFORE, _) => return Err(unknown),
                (kind, _) if kind & OPTIONAL_STREAM != 0 => {}
                (kind, _) => return Err(StreamFault::UnknownKind(kind)),
            }
        }
        reader.finish("the last stream").map_err(StreamFault::Directory)?;
        let positions = positions.ok_or(StreamFault::Missing(POSITIONS))?;
        let deltas = deltas.ok_or(StreamFault::Missing(DELTAS))?;
        if values_before.is_some() && masks.is_none() {
            return Err(StreamFault::Missing(MASKS));
        }
        let (chunks, dense) = (positions.0 == PositionCodec::Chunks, deltas.0 == DeltaCodec::Dense);
        if chunks != dense || (dense && (base_values.is_some() || masks.is_some())) {
            return Err(StreamFault::Dense);
        }
        Ok(Self { positions, deltas, base_values, masks, values_before })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_come_back_and_unknown_optional_ones_are_skipped() {
        let streams = Streams {
            positions: (PositionCodec::Gaps, &b"ab"[..]),
            deltas: (DeltaCodec::Ulp, &b"c"[..]),
            base_values: None,
            masks: None,
            values_before: None,
        };
        assert_eq!(Streams::read(&streams.write()), Ok(streams.clone()));
        let masked = Streams {
            masks: Some((MaskCodec::PrunedBase, &b"d"[..])),
            values_before: Some((BaseCodec::Bits, &b"e"[..])),
            ..streams.clone()
        };
        assert_eq!(Streams::read(&masked.write()), Ok(masked.clone()));
        assert_eq!(Streams::read(b"\x01\x01\x02\x02\x01\x01\x90\x07\x02\x00abcxy"), Ok(streams));
    }

    #[test]
    fn refuses_unknown_required_parts_and_disorder() {
        assert_eq!(Streams::read(b"\x01\x01\x00\x02\x01\x00\x10\x01\x00\x00"), Err(StreamFault::UnknownKind(16)));
        let unknown = StreamFault::UnknownCodec { kind: 1, codec: 9 };
        assert_eq!(Streams::read(b"\x01\x09\x00\x02\x01\x00\x00"), Err(unknown));
        assert_eq!(Streams::read(b"\x02\x01\x00\x01\x01\x00\x00"), Err(StreamFault::Order));
        assert_eq!(Streams::read(b"\x01\x01\x00\x00"), Err(StreamFault::Missing(2)));
        assert_eq!(Streams::read(b"\x01\x01\x00\x02\x01\x00\x05\x01\x00\x00"), Err(StreamFault::Missing(4)));
        assert!(matches!(Streams::read(b"\x01\x01\x00\x02\x01\x00\x00!"), Err(StreamFault::Directory(_))));
    }
}

//! Chooses one encoding of each stream for all blocks of a patch.
//!
//! Positions and deltas can be encoded with or without the base ("base-conditioned" and "base-free"). The choice is made once for the
//! whole patch, because a base-conditioned patch cannot be read without its base. [`super::encode()`] therefore keeps both encodings of a
//! block wherever estimates of their sizes do not settle the choice, and [`choose`] picks one when all blocks are known.

use super::elements::Magnitude;
use super::encode::Portability;
use super::{BLOCK_ELEMENTS, BaseCodec, BlockId, DeltaCodec, MaskCodec, PositionCodec, Streams};
use crate::digest::Digest;
use serde::{Deserialize, Serialize};

/// An encoded block.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EncodedBlock {
    /// The tensor's index in [`crate::PatchBuilder`].
    pub tensor: usize,
    /// The block's index in the tensor.
    pub index: u64,
    /// Number of selected elements.
    pub selected: u32,
    /// The encoded streams.
    pub streams: Streams<Vec<u8>>,
    /// Digest of the base's values at the selected positions.
    pub base_digest: Digest,
    /// Statistics of the deltas.
    pub magnitude: Magnitude,
}

/// All blocks of a patch, each in its final encoding.
#[derive(Debug)]
pub struct ChosenBlocks {
    /// The blocks, in the order in which they were given.
    pub blocks: Vec<EncodedBlock>,
    /// How many bytes larger a portable patch is than one that needs its base. Exact for a portable patch, otherwise an estimate.
    pub portability_bytes: u64,
    /// Whether the patch has masks and knows the base's value before pruning at every selected element.
    pub restores: bool,
    /// Whether the bits of base and reference are all the information in the patch, so that it can be inverted.
    pub invertible: bool,
}

/// A stream is base-conditioned only if that alone saves at least this share of the remaining bytes of positions and deltas.
const STREAM_SAVES_MIN: f64 = 0.01;
/// Positions are base-conditioned only if both streams together also save at least this share: their readers walk over all elements of the
/// block, where those of deltas look at the selected ones.
const CONDITIONED_SAVES_MIN: f64 = 0.05;
/// A block in every encoding that may still be chosen.
#[derive(Debug, Serialize, Deserialize)]
pub struct BlockEncodings {
    /// The block; its positions and deltas are empty until [`choose`] fills them in.
    pub(super) block: EncodedBlock,
    pub(super) positions: StreamEncodings<PositionCodec>,
    pub(super) deltas: StreamEncodings<DeltaCodec>,
    pub(super) base_values: EncodedStream,
    /// Whether the base holds a value other than zero at an element that is pruned there.
    pub(super) base_is_unpruned: bool,
    /// Number of elements that are pruned in the base and whose value before pruning the block does not store.
    pub(super) unknown: usize,
    /// Whether the block stores nothing but the bits of base and reference.
    pub(super) invertible: bool,
}

impl BlockEncodings {
    /// Number of selected elements.
    pub fn selected(&self) -> u64 {
        self.block.selected.into()
    }

    /// The same block, of the tensor with index `tensor` in [`crate::PatchBuilder`].
    pub fn of_tensor(mut self, tensor: usize) -> Self {
        self.block.tensor = tensor;
        self
    }

    /// Whether the block has no other encoding than a dense one.
    fn is_dense(&self) -> bool {
        self.deltas.base_conditioned.0 == DeltaCodec::Dense
    }

    /// Bytes of the smaller encodings of positions and deltas.
    pub(super) fn needs_base_bytes(&self) -> u64 {
        let smaller = |free: &EncodedStream, conditioned: &EncodedStream| free.bytes().min(conditioned.bytes());
        let (positions, deltas) = (&self.positions, &self.deltas);
        match self.is_dense() {
            true => positions.base_conditioned.1.bytes() + deltas.base_conditioned.1.bytes(),
            false => {
                smaller(&positions.base_free.1, &positions.base_conditioned.1)
                    + smaller(&deltas.base_free.1, &deltas.base_conditioned.1)
            }
        }
    }

    /// Which block this is.
    pub fn id(&self) -> BlockId {
        BlockId { tensor: self.block.tensor, index: self.block.index }
    }

    /// Whether the sizes and counts are possible for a block, so that sums over all blocks cannot overflow. Blocks that are read from
    /// the parts of a sharded diff need this check.
    pub fn is_plausible(&self) -> bool {
        let (positions, deltas) = (&self.positions, &self.deltas);
        let streams = [
            &positions.base_free.1,
            &positions.base_conditioned.1,
            &deltas.base_free.1,
            &deltas.base_conditioned.1,
            &self.base_values,
        ];
        streams.iter().all(|stream| stream.bytes() <= 1 << 36)
            && (1..=BLOCK_ELEMENTS).contains(&self.selected())
            && self.block.magnitude.unchanged <= self.selected()
    }
}

/// The two encodings of a stream. At most one of them is only an estimate.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StreamEncodings<C> {
    pub(super) base_free: (C, EncodedStream),
    pub(super) base_conditioned: (C, EncodedStream),
}

impl<C> StreamEncodings<C> {
    /// Bytes that the base-conditioned encoding saves.
    fn saved(&self) -> u64 {
        self.base_free.1.bytes().saturating_sub(self.base_conditioned.1.bytes())
    }

    /// The base-conditioned encoding where it is allowed and smaller, otherwise the base-free one; the only one if just one was made.
    fn choose(self, allow_conditioned: bool) -> (C, Vec<u8>) {
        let use_conditioned = allow_conditioned && self.saved() > 0;
        match (self.base_free, self.base_conditioned) {
            ((codec, EncodedStream::Bytes(free)), (_, EncodedStream::Estimate(_))) => (codec, free),
            ((codec, EncodedStream::Bytes(free)), _) if !use_conditioned => (codec, free),
            (_, (codec, conditioned)) => (codec, conditioned.into_bytes()),
        }
    }
}

/// A stream, or an estimate of its size.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum EncodedStream {
    /// The bytes as the patch stores them.
    Bytes(Vec<u8>),
    /// About how many bytes the stream would have.
    Estimate(u64),
}

impl EncodedStream {
    fn bytes(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Estimate(bytes) => *bytes,
        }
    }

    fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Estimate(_) => Vec::new(),
        }
    }
}

/// Chooses one encoding for all blocks of a patch.
pub fn choose(encodings: Vec<BlockEncodings>, portability: Portability) -> ChosenBlocks {
    // A dense block cannot be read without its base, and then no other block need be.
    let needs_base = encodings.iter().any(BlockEncodings::is_dense);
    let mut savings = Savings { free: 0, positions: 0, deltas: 0, needs_base };
    for block in encodings.iter().filter(|block| !block.is_dense()) {
        savings.free += block.positions.base_free.1.bytes() + block.deltas.base_free.1.bytes();
        savings.positions += block.positions.saved();
        savings.deltas += block.deltas.saved();
    }
    let (mut dense, mut dense_free) = (0, 0);
    for block in encodings.iter().filter(|block| block.is_dense()) {
        dense += block.needs_base_bytes();
        dense_free += block.positions.base_free.1.bytes() + block.deltas.base_free.1.bytes();
    }
    let base_values = encodings.iter().map(|block| block.base_values.bytes()).sum::<u64>();
    let (positions_pay, deltas_pay) = (savings.positions_pay(1.0), savings.deltas_pay(1.0));
    let portable = portability == Portability::Portable;
    let condition_positions = positions_pay && !portable;
    // A portable patch stores the base's values, so its readers can always group deltas by class.
    let condition_deltas = deltas_pay || portable;

    let positions_saved = if positions_pay { savings.positions } else { 0 };
    let deltas_saved = if deltas_pay { savings.deltas } else { 0 };
    let needs_base_bytes = savings.free - positions_saved - deltas_saved + dense;
    let portable_bytes = savings.free - savings.deltas + dense_free + base_values;
    let base_is_unpruned = encodings.iter().any(|block| block.base_is_unpruned);
    let invertible = encodings.iter().all(|block| block.invertible);
    let has_masks = encodings.iter().any(|block| block.block.streams.masks.is_some());
    let restores = has_masks && (base_is_unpruned || encodings.iter().all(|block| block.unknown == 0));
    let blocks = encodings.into_iter().map(|encodings| {
        let mut block = encodings.block;
        let streams = &mut block.streams;
        if let Some((codec, _)) = streams.masks.as_mut().filter(|_| base_is_unpruned) {
            *codec = MaskCodec::UnprunedBase;
        }
        streams.positions = encodings.positions.choose(condition_positions);
        streams.deltas = encodings.deltas.choose(condition_deltas);
        if let EncodedStream::Bytes(bytes) = encodings.base_values {
            streams.base_values = Some((BaseCodec::Bits, bytes));
        }
        block
    });
    let portability_bytes = portable_bytes.abs_diff(needs_base_bytes);
    ChosenBlocks { blocks: blocks.collect(), portability_bytes, restores, invertible }
}

/// What conditioning the streams of one block, or of all, saves.
pub(super) struct Savings {
    /// Bytes of positions and deltas, both base-free.
    pub(super) free: u64,
    /// Bytes that base-conditioned positions save.
    pub(super) positions: u64,
    /// Bytes that base-conditioned deltas save.
    pub(super) deltas: u64,
    /// Whether there are blocks that cannot be read without their base, whatever is chosen for these.
    pub(super) needs_base: bool,
}

impl Savings {
    /// Whether positions are worth conditioning, at thresholds times `factor`.
    pub(super) fn positions_pay(&self, factor: f64) -> bool {
        let both =
            self.needs_base || saves_share(self.positions + self.deltas, self.free, CONDITIONED_SAVES_MIN * factor);
        both && saves_share(self.positions, self.free, STREAM_SAVES_MIN * factor)
    }

    /// Whether deltas are worth conditioning, at a threshold times `factor`.
    pub(super) fn deltas_pay(&self, factor: f64) -> bool {
        saves_share(self.deltas, self.free, STREAM_SAVES_MIN * factor)
    }
}

/// Whether saving `saved` of `free` bytes saves at least `share` of what remains.
fn saves_share(saved: u64, free: u64, share: f64) -> bool {
    saved > 0 && saved as f64 >= share * (free - saved) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deltas_are_conditioned_from_1_percent_on_and_positions_from_5_percent_of_both() {
        let pay = |positions, deltas, needs_base| {
            let savings = Savings { free: 10_000, positions, deltas, needs_base };
            (savings.positions_pay(1.0), savings.deltas_pay(1.0))
        };
        assert_eq!(pay(0, 98, false), (false, false));
        assert_eq!(pay(0, 100, false), (false, true));
        assert_eq!(pay(400, 50, false), (false, false));
        assert_eq!(pay(400, 100, false), (true, true));
        assert_eq!(pay(98, 900, false), (false, true));
        assert_eq!(pay(100, 0, true), (true, false));
    }
}

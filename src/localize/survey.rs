//! One pass over a pair of checkpoints: the digests of all that is in them, and what someone looks for on the way, block by
//! block, while the bytes are at hand.

use crate::checkpoint::{Checkpoint, Tensor};
use crate::context::{Cancelled, Context};
use crate::digest::{ContentHash, Digest, PartDigest, PartHasher, join};
use crate::dtype::Dtype;
use crate::format::block::{BLOCK_ELEMENTS, block_range, blocks};
use crate::pair::{Pair, TensorPair};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Bytes of each side that are handled before the next ones: few enough that all of them stay in a core's cache while one after
/// the other looks at them.
const STRIDE_BYTES: u64 = 64 << 10;

/// One block of a pair of tensors, to be read once.
#[derive(Debug)]
pub struct Block<'a> {
    /// The tensors.
    pub pair: &'a TensorPair<'a>,
    /// Their place among all pairs.
    pub tensor: usize,
    /// The block's index in the tensor.
    pub index: u64,
}

/// The blocks of the tensors `tensors` of a pair, in order: a tensor's place and the block's index.
pub fn units(pair: &Pair<'_>, tensors: impl IntoIterator<Item = usize>) -> Vec<(usize, u64)> {
    let of = |tensor: usize| blocks(pair.tensors[tensor].target.info.elements()).map(move |index| (tensor, index));
    tensors.into_iter().flat_map(of).collect()
}

/// The digests of a block that was read. There is no other way to them, so that nothing that is found is without.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct BlockDigests {
    target: PartDigest,
    /// In its own dtype; unless it has other rows than the target.
    reference: PartDigest,
    /// In the target's.
    cast: PartDigest,
}

impl Block<'_> {
    /// Calls `each` with the first position and the bytes of consecutive parts of the block: in the target, and in the reference
    /// in the target's dtype.
    ///
    /// # Errors
    /// [`Cancelled`], or what `each` returns.
    pub fn read<E: From<Cancelled>>(
        self,
        context: &Context<'_>,
        mut each: impl FnMut(u32, &[u8], &[u8]) -> Result<(), E>,
    ) -> Result<BlockDigests, E> {
        let TensorPair { target, reference } = *self.pair;
        let width = |tensor: Tensor<'_>| tensor.info.dtype.width().bytes() as u64;
        let (stride, widths) = (STRIDE_BYTES / width(target), width(target) + width(reference));
        let range = block_range(self.index, target.info.elements());
        let hasher = |dtype: Dtype| {
            let width = dtype.width().bytes() as u64;
            PartHasher::new(range.start * width, target.info.elements() * width, BLOCK_ELEMENTS * width)
        };
        let mut of_target = hasher(target.info.dtype);
        // What is the same in both, as most is of many pairs, is hashed once.
        let mut of_cast: Option<PartHasher> = None;
        // Of other rows what is read here is not the whole tensor, nor only of it.
        let mut of_reference =
            (self.pair.is_cast() && !self.pair.has_other_rows()).then(|| hasher(reference.info.dtype));
        let mut made = Vec::new();
        for window in target.element_windows(range.clone()) {
            for start in window.clone().step_by(stride as usize) {
                let part = start..window.end.min(start + stride);
                let (bytes, cast) =
                    (target.elements(part.clone()), self.pair.reference_elements(part.clone(), &mut made));
                of_reference.iter_mut().for_each(|hasher| hasher.update(reference.elements(part.clone())));
                if of_cast.is_none() && bytes != cast {
                    of_cast = Some(of_target.clone());
                }
                of_target.update(bytes);
                of_cast.iter_mut().for_each(|hasher| hasher.update(cast));
                each((start - range.start) as u32, bytes, cast)?;
            }
            context.advance((window.end - window.start) * widths)?;
            self.pair.release(window);
        }
        let target = of_target.finish();
        let cast = of_cast.map_or(target, PartHasher::finish);
        Ok(BlockDigests { target, reference: of_reference.map_or(cast, PartHasher::finish), cast })
    }

    /// Reads the block for its digests alone.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn skim(self, context: &Context<'_>) -> Result<BlockDigests, Cancelled> {
        self.read(context, |_, _, _| Ok(()))
    }
}

/// The digests of a pair of tensors, by BLAKE3.
#[derive(Debug, Clone)]
pub struct TensorDigests {
    /// Of the target.
    pub target: Digest,
    /// Of the reference in the target's dtype.
    pub reference: Digest,
    /// Of the reference in its own dtype; unless it has other rows than the target.
    pub own_reference: Digest,
    /// Of the target's blocks.
    pub target_blocks: Vec<PartDigest>,
    /// Of the reference's blocks, in the target's dtype.
    pub reference_blocks: Vec<PartDigest>,
}

/// The digests of a pair of checkpoints, pair of tensors by pair of tensors.
#[derive(Debug, Clone)]
pub struct PairDigests(pub Vec<TensorDigests>);

/// Reads the blocks `units` of `pair` once, in parallel; returns what `look` finds and their digests, in order. `look` has to read
/// the block that it gets.
///
/// # Errors
/// [`Cancelled`], or what `look` returns.
pub fn survey<T: Send, E: From<Cancelled> + Send>(
    pair: &Pair<'_>,
    units: &[(usize, u64)],
    look: impl Fn(Block<'_>) -> Result<(T, BlockDigests), E> + Sync,
) -> Result<(Vec<T>, Vec<BlockDigests>), E> {
    let read = units
        .par_iter()
        .map(|(tensor, index)| look(Block { pair: &pair.tensors[*tensor], tensor: *tensor, index: *index }))
        .collect::<Result<Vec<(T, BlockDigests)>, E>>()?;
    Ok(read.into_iter().unzip())
}

impl PairDigests {
    /// Joins the digests of all blocks, in order, of tensors of so many `blocks`.
    pub fn join(blocks: impl IntoIterator<Item = u64>, digests: &[BlockDigests]) -> Self {
        let mut rest = digests;
        let of_tensor = |blocks: u64| {
            let (own, later) = rest.split_at(rest.len().min(blocks as usize));
            rest = later;
            let side = |of: fn(&BlockDigests) -> PartDigest| own.iter().map(of).collect::<Vec<_>>();
            let (target_blocks, reference_blocks) = (side(|block| block.target), side(|block| block.cast));
            TensorDigests {
                target: join(&target_blocks),
                reference: join(&reference_blocks),
                own_reference: join(&side(|block| block.reference)),
                target_blocks,
                reference_blocks,
            }
        };
        Self(blocks.into_iter().map(of_tensor).collect())
    }
}

/// The content digests of the files of `checkpoint`, of which some tensors' digests are `known`, by name.
///
/// # Errors
/// [`Cancelled`].
pub fn of_files(
    checkpoint: &Checkpoint,
    known: &BTreeMap<String, Digest>,
    context: &Context<'_>,
) -> Result<Vec<Digest>, Cancelled> {
    let digest = |name: &String| match (known.get(name), checkpoint.tensor(name)) {
        (Some(digest), _) => Ok(*digest),
        (None, Some(tensor)) => tensor.digest(ContentHash::Blake3, context),
        (None, None) => Ok(Digest::UNKNOWN),
    };
    checkpoint.files.iter().map(|file| file.content_digest(|tensor| digest(&tensor.name))).collect()
}

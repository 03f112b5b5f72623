//! Reads a pair of checkpoints once, block by block, in parallel. Each block is hashed, and handed to the caller while its bytes are in
//! the cache.

use crate::checkpoint::{Checkpoint, Tensor};
use crate::context::{Cancelled, Context};
use crate::digest::{Digest, PartDigest, PartHasher, join};
use crate::dtype::Dtype;
use crate::format::block::{BLOCK_ELEMENTS, BlockId, block_range, blocks};
use crate::pair::{Pair, TensorPair};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;

/// One block of a pair of tensors, to be read once.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    /// The tensors.
    pub pair: &'a TensorPair<'a>,
    /// Which block of the pair it is.
    pub id: BlockId,
}

/// The blocks of the tensors with these indices in a pair, in order.
pub fn blocks_of(pair: &Pair<'_>, tensors: impl IntoIterator<Item = usize>) -> Vec<BlockId> {
    let of_tensor = |tensor: usize| {
        let elements = pair.tensors[tensor].target.info.elements();
        blocks(elements).map(move |index| BlockId { tensor, index })
    };
    tensors.into_iter().flat_map(of_tensor).collect()
}

/// The number of elements in `blocks` of a pair.
pub fn elements_in(pair: &Pair<'_>, blocks: &[BlockId]) -> u64 {
    let range = |block: &BlockId| block_range(block.index, pair.tensors[block.tensor].target.info.elements());
    blocks.iter().map(range).map(|range| range.end - range.start).sum()
}

/// The digests of one block. Only [`Block::read`] constructs them, so a scan cannot omit a block's digests.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct BlockDigests {
    target: PartDigest,
    /// The reference in its own dtype; equal to `cast` if it has other rows than the target.
    reference: PartDigest,
    /// The reference cast to the target's dtype.
    cast: PartDigest,
}

impl BlockDigests {
    /// The target.
    pub fn target(&self) -> PartDigest {
        self.target
    }

    /// The reference cast to the target's dtype.
    pub fn cast(&self) -> PartDigest {
        self.cast
    }
}

impl Block<'_> {
    /// Hashes the block. Also calls `each` with consecutive parts of it: the position of the part's first element in the block, the
    /// target's bytes, and the reference's bytes in the target's dtype.
    ///
    /// # Errors
    /// [`Cancelled`], or what `each` returns.
    pub fn read<E: From<Cancelled>>(
        self,
        context: &Context<'_>,
        mut each: impl FnMut(u32, &[u8], &[u8]) -> Result<(), E>,
    ) -> Result<BlockDigests, E> {
        let TensorPair { target, reference } = *self.pair;
        let range = block_range(self.id.index, target.info.elements());
        let mut hashers = Hashers::new(self.pair, range.clone());
        self.pair.windows(range.clone(), context, |part, bytes, cast| {
            // The caller reads in order, as processors expect it; the hash, which reads many places at once, finds the bytes in the cache.
            each((part.start - range.start) as u32, bytes, cast)?;
            hashers.update(reference, part, bytes, cast);
            Ok::<(), E>(())
        })?;
        Ok(hashers.finish())
    }

    /// Calls `each` with the parts up to the position `end` again, where they must be seen a second time.
    pub fn read_again(self, end: u32, mut each: impl FnMut(u32, &[u8], &[u8])) {
        let start = block_range(self.id.index, self.pair.target.info.elements()).start;
        let again = self.pair.windows(start..start + u64::from(end), &Context::silent(), |part, target, cast| {
            each((part.start - start) as u32, target, cast);
            Ok::<(), Cancelled>(())
        });
        debug_assert!(again.is_ok(), "nobody cancels a silent context");
    }

    /// Reads the block only to hash it.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn hash(self, context: &Context<'_>) -> Result<BlockDigests, Cancelled> {
        self.read(context, |_, _, _| Ok(()))
    }
}

/// The hashes of one block, while it is read.
struct Hashers {
    target: PartHasher,
    /// `None` as long as the reference's bytes equal the target's, which are then hashed once for both.
    cast: Option<PartHasher>,
    /// The reference in its own dtype, if that is another one.
    reference: Option<PartHasher>,
}

impl Hashers {
    /// For the elements `range` of `pair`, which are a block.
    fn new(pair: &TensorPair<'_>, range: Range<u64>) -> Self {
        let elements = pair.target.info.elements();
        let hasher = |dtype: Dtype| {
            PartHasher::new(range.start * width(dtype), elements * width(dtype), BLOCK_ELEMENTS * width(dtype))
        };
        // If the reference has other rows, the blocks of the target are not those of the reference in its own dtype.
        let is_hashed_apart = pair.is_cast() && !pair.has_other_rows();
        Self {
            target: hasher(pair.target.info.dtype),
            cast: None,
            reference: is_hashed_apart.then(|| hasher(pair.reference.info.dtype)),
        }
    }

    /// Adds the elements `part`: the target's bytes, and the reference's bytes in the target's dtype.
    fn update(&mut self, reference: Tensor<'_>, part: Range<u64>, target: &[u8], cast: &[u8]) {
        if let Some(hasher) = &mut self.reference {
            hasher.update(reference.elements(part));
        }
        if self.cast.is_none() && target != cast {
            self.cast = Some(self.target.clone());
        }
        self.target.update(target);
        if let Some(hasher) = &mut self.cast {
            hasher.update(cast);
        }
    }

    fn finish(self) -> BlockDigests {
        let target = self.target.finish();
        let cast = self.cast.map_or(target, PartHasher::finish);
        BlockDigests { target, reference: self.reference.map_or(cast, PartHasher::finish), cast }
    }
}

/// Bytes of an element.
fn width(dtype: Dtype) -> u64 {
    dtype.width().bytes() as u64
}

/// The BLAKE3 digests of a pair of tensors.
#[derive(Debug, Clone)]
pub struct TensorDigests {
    /// The target.
    pub target: Digest,
    /// The reference, in the target's dtype.
    pub reference: Digest,
    /// The reference in its own dtype; equal to `reference` if it has other rows than the target.
    pub own_reference: Digest,
    /// The target's blocks.
    pub target_blocks: Vec<PartDigest>,
    /// The reference's blocks, in the target's dtype.
    pub reference_blocks: Vec<PartDigest>,
}

/// The digests of all pairs of tensors, in the order of the pair.
#[derive(Debug, Clone)]
pub struct PairDigests(pub Vec<TensorDigests>);

/// Reads `blocks` of `pair` once, in parallel. Returns the results of `read_block` and the digests, in the order of the blocks.
///
/// # Errors
/// [`Cancelled`], or the error of `read_block`.
pub fn scan<T: Send, E: From<Cancelled> + Send>(
    pair: &Pair<'_>,
    blocks: &[BlockId],
    read_block: impl Fn(Block<'_>) -> Result<(T, BlockDigests), E> + Sync,
) -> Result<(Vec<T>, Vec<BlockDigests>), E> {
    let results = blocks
        .par_iter()
        .map(|id| read_block(Block { pair: &pair.tensors[id.tensor], id: *id }))
        .collect::<Result<Vec<(T, BlockDigests)>, E>>()?;
    Ok(results.into_iter().unzip())
}

impl PairDigests {
    /// Joins the digests of all blocks, in order; `n_blocks` are the numbers of blocks of the tensors.
    pub fn join(n_blocks: impl IntoIterator<Item = u64>, digests: &[BlockDigests]) -> Self {
        let mut rest = digests;
        let mut tensors = Vec::new();
        for n_blocks in n_blocks {
            let (of_tensor, later) = rest.split_at(rest.len().min(n_blocks as usize));
            tensors.push(TensorDigests::join(of_tensor));
            rest = later;
        }
        Self(tensors)
    }
}

impl TensorDigests {
    fn join(blocks: &[BlockDigests]) -> Self {
        let target_blocks: Vec<PartDigest> = blocks.iter().map(|block| block.target).collect();
        let reference_blocks: Vec<PartDigest> = blocks.iter().map(|block| block.cast).collect();
        let own_reference_blocks: Vec<PartDigest> = blocks.iter().map(|block| block.reference).collect();
        Self {
            target: join(&target_blocks),
            reference: join(&reference_blocks),
            own_reference: join(&own_reference_blocks),
            target_blocks,
            reference_blocks,
        }
    }
}

/// The content digest of each file of `checkpoint`. Hashes the tensors whose digests are not `known`; those are by name.
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
        (None, Some(tensor)) => tensor.digest(context),
        (None, None) => Ok(Digest::UNKNOWN),
    };
    checkpoint.files().iter().map(|file| file.content_digest(|tensor| digest(&tensor.name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::{OtherDtype, PairOptions};
    use crate::testing::{checkpoint, vector};

    #[test]
    fn a_scan_gives_the_digests_of_both_tensors_and_of_the_cast_reference() {
        let context = Context::silent();
        let target = checkpoint(&[vector("w", Dtype::F32, &[0x3f80_0000, 0x4000_0000, 0])]);
        let reference = checkpoint(&[vector("w", Dtype::Bf16, &[0x3f80, 0x4040, 0x4000])]);
        let cast = checkpoint(&[vector("w", Dtype::F32, &[0x3f80_0000, 0x4040_0000, 0x4000_0000])]);
        let options = PairOptions { other_dtype: OtherDtype::Cast, ..PairOptions::default() };
        let pair = Pair::new(&target, &reference, &options).unwrap();
        let (_, digests) =
            scan(&pair, &blocks_of(&pair, [0]), |block| Ok::<_, Cancelled>(((), block.hash(&context)?))).unwrap();
        let [of_tensor] = &PairDigests::join([1], &digests).0[..] else { panic!("one tensor") };
        let digest = |checkpoint: &Checkpoint| checkpoint.tensor("w").unwrap().digest(&context).unwrap();
        let expected = [&target, &cast, &reference].map(digest);
        assert_eq!([of_tensor.target, of_tensor.reference, of_tensor.own_reference], expected);
    }

    #[test]
    fn blocks_are_listed_tensor_by_tensor() {
        let n = BLOCK_ELEMENTS + 1;
        let two = checkpoint(&[vector("a", Dtype::U8, &[0; 3]), vector("b", Dtype::U8, &vec![0; n as usize])]);
        let pair = Pair::new(&two, &two, &PairOptions::default()).unwrap();
        let ids = blocks_of(&pair, [0, 1]).into_iter().map(|id| (id.tensor, id.index)).collect::<Vec<_>>();
        assert_eq!(ids, [(0, 0), (1, 0), (1, 1)]);
    }
}

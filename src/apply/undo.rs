//! The patch that leads from a result back to its base, made while the result is.

use super::plan::Plan;
use crate::codec::Effort;
use crate::digest::{ContentHash, Digest, PartDigest, PartHasher, join};
use crate::dtype::Dtype;
use crate::error::Error;
use crate::format::block::encode::{BlockEncodings, Encoding, Portability, Precision, encode};
use crate::format::block::{BLOCK_ELEMENTS, BlockId, Elements};
use crate::format::builder::{PatchBuilder, TensorParts};
use crate::format::limits::BLOCK_LOG2;
use crate::format::metadata::{Localization, Metadata, Source, SourceFile};
use crate::patch::Patch;
use std::collections::BTreeMap;

/// Deltas back to the base are exact. Its positions are coded without the result, which is not there yet; the patch is for one's own
/// use, so that time counts more than size.
const ENCODING: Encoding = Encoding {
    precision: Precision::Exact,
    portability: Portability::NeedsBase,
    effort: Effort::Fast,
    hash: ContentHash::Blake3,
};

/// What leads back from some consecutive elements of a result, which begin at a multiple of [`BLOCK_ELEMENTS`].
pub(super) struct UndoBlocks {
    dtype: Dtype,
    of_base: PartHasher,
    /// By block index.
    blocks: BTreeMap<u64, Elements>,
}

impl UndoBlocks {
    /// Nothing yet; `of_base` is the hasher of this part of the base.
    pub fn new(dtype: Dtype, of_base: PartHasher) -> Self {
        Self { dtype, of_base, blocks: BTreeMap::new() }
    }

    /// Adds elements from `start` on: their bytes in the base, and what is edited in them.
    pub fn add(&mut self, start: u64, bytes: &[u8], edits: &[(u32, u64)]) {
        self.of_base.update(bytes);
        let width = self.dtype.width();
        for (at, result) in edits {
            let (element, base) = (start + u64::from(*at), width.load(bytes, *at as usize));
            if base != *result {
                let block = self.blocks.entry(element / BLOCK_ELEMENTS).or_insert_with(|| Elements::new(self.dtype));
                block.positions.push((element % BLOCK_ELEMENTS) as u32);
                // The base of the undo patch is the result.
                block.base.push(*result);
                block.reference.push(base);
            }
        }
    }

    /// Encodes the blocks, whose tensor has this place among all.
    fn encode(&self, tensor: usize) -> impl Iterator<Item = BlockEncodings> {
        // Exact deltas always have a form.
        self.blocks.iter().filter_map(move |(index, elements)| {
            encode(BlockId { tensor, index: *index }, elements, None, ENCODING).ok()
        })
    }
}

impl Plan<'_> {
    /// The patch that leads back to the base: `blocks` are those of every tensor that was rewritten, and `results` the digests of the
    /// result's bytes, by BLAKE3 and by name.
    ///
    /// # Errors
    /// R10, for what a patch cannot carry.
    pub(super) fn undo(
        &self,
        blocks: BTreeMap<String, Vec<UndoBlocks>>,
        results: &BTreeMap<String, Digest>,
    ) -> Result<Patch, Error> {
        use rayon::prelude::*;
        let hash = ContentHash::Blake3;
        let base = self.base();
        let (names, parts): (Vec<String>, Vec<Vec<UndoBlocks>>) = blocks.into_iter().unzip();
        let variants: Vec<Vec<BlockEncodings>> = parts
            .par_iter()
            .enumerate()
            .map(|(at, parts)| parts.iter().flat_map(|part| part.encode(at)).collect())
            .collect();
        let of_base = |parts: Vec<UndoBlocks>| {
            let parts: Vec<PartDigest> = parts.into_iter().map(|part| part.of_base.finish()).collect();
            join(&parts)
        };
        let base_digests: Vec<Digest> = parts.into_iter().map(of_base).collect();
        let mut builder = PatchBuilder::new(ENCODING.portability, hash, BLOCK_LOG2);
        for name in names {
            let (dtype, shape) = base
                .tensor(&name)
                .map_or((Dtype::U8, Vec::new()), |tensor| (tensor.info.dtype, tensor.info.shape.clone()));
            let base_digest = results.get(&name).copied().unwrap_or(Digest::UNKNOWN);
            builder.tensor(TensorParts { name, dtype, shape, base_digest, counterparts: None });
        }
        builder.encoded(variants.into_iter().flatten());
        let new = builder.choose();
        let reference = hash.root(new.tensors.iter().map(|tensor| &base_digests[tensor.place]));
        let file = |file: &crate::checkpoint::WeightFile| SourceFile {
            name: file.name(),
            bytes: file.bytes(),
            ..SourceFile::default()
        };
        let metadata = Metadata {
            localization: Localization { method: "undo".to_owned(), ..Localization::default() },
            base: Source { elements: base.elements(), ..Source::default() },
            reference: Source {
                elements: base.elements(),
                files: base.files.iter().map(file).collect(),
                ..Source::default()
            },
            ..Metadata::default()
        };
        Ok(Patch::written(&new, &metadata, reference, reference)?)
    }
}

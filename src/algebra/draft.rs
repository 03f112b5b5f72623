//! A new patch in the making: tensors, encoded one by one, or copied as they are.

use super::content::{Content, Exact};
use crate::apply::{Edit, results};
use crate::checkpoint::{Checkpoint, Tensor};
use crate::codec::Effort;
use crate::context::Context;
use crate::digest::{ContentHash, Digest};
use crate::dtype::Dtype;
use crate::error::Error;
use crate::format::block::encode::{BlockEncodings, Encoding, Portability, Precision, encode, values_digest};
use crate::format::block::{BaseElements, BlockId, Elements, block_elements};
use crate::format::builder::{NewBlock, NewPatch, PatchBuilder, TensorParts};
use crate::format::metadata::Metadata;
use crate::format::tensor_table::{BlockEntry, TensorEntry};
use crate::patch::{Patch, TensorBlock};
use rayon::prelude::*;

/// The tensors so far, ascending by name.
pub(super) struct Draft {
    encoding: Encoding,
    block_log2: u32,
    builder: PatchBuilder,
}

impl Draft {
    /// A patch in blocks of `2^block_log2` elements; copied blocks must have this size. Its digests are made with `hash`, as those of
    /// the patches that it is made of are.
    pub fn new(portability: Portability, hash: ContentHash, block_log2: u32) -> Self {
        let (precision, effort) = (Precision::Exact, Effort::Default);
        let encoding = Encoding { precision, portability, effort, hash };
        Self { encoding, block_log2, builder: PatchBuilder::new(portability, hash, block_log2) }
    }

    /// Adds a tensor with elements whose bits on both sides are known; none if there are none. `base` is the new patch's
    /// base.
    pub fn add(&mut self, parts: TensorParts, content: &Exact, base: Option<Tensor<'_>>) {
        let (n, block_log2) = (parts.shape.iter().product(), self.block_log2);
        let base = |index| base.map(|base| TensorBlock::new(base, block_elements(block_log2, index, n)));
        self.add_blocks(parts, content, base);
    }

    /// As [`Draft::add`], with the base block by block.
    pub fn add_blocks<B: BaseElements>(
        &mut self,
        parts: TensorParts,
        content: &Exact,
        base: impl Fn(u64) -> Option<B> + Sync,
    ) {
        if content.elements.is_empty() {
            return;
        }
        let dtype = parts.dtype;
        let place = self.builder.tensor(parts);
        let blocks = elements(content, dtype, self.block_log2);
        let coded = blocks.par_iter().filter_map(|(index, elements)| {
            let base = base(*index);
            // Only reduced precision can fail.
            let base = base.as_ref().map(|base| base as &dyn BaseElements);
            encode(BlockId { tensor: place, index: *index }, elements, base, self.encoding).ok()
        });
        let coded: Vec<BlockEncodings> = coded.collect();
        self.builder.encoded(coded);
    }

    /// Adds a tensor whose place [`Draft::add_block`] takes.
    pub fn begin(&mut self, parts: TensorParts) -> usize {
        self.builder.tensor(parts)
    }

    /// Completes what is said of the tensor at `place`.
    pub fn set_base_digest(&mut self, place: usize, base_digest: Digest) {
        self.builder.tensor_mut(place).into_iter().for_each(|parts| parts.base_digest = base_digest);
    }

    /// Adds elements of one block of the tensor at `place`.
    pub fn add_block(&mut self, place: usize, content: &Exact, base: &dyn BaseElements) {
        for (index, elements) in elements(content, base.dtype(), self.block_log2) {
            self.builder.encoded(encode(BlockId { tensor: place, index }, &elements, Some(base), self.encoding).ok());
        }
    }

    /// Adds a tensor with its blocks as they are. `content` tells the base's selected values, if it can.
    pub fn copy(&mut self, edit: &Edit, entry: &TensorEntry, content: Option<&Content>) -> Result<(), Error> {
        let mut values = content.and_then(|content| content.base.as_deref());
        let copy = |block: &BlockEntry| {
            let bytes = edit.patch.block(entry, block)?;
            let own = values.as_mut().and_then(|values| values.split_off(..block.selected as usize));
            let base_values = own.map_or(Digest::UNKNOWN, |own| values_digest(self.encoding.hash, entry.dtype, own));
            Ok(NewBlock { index: block.index, selected: block.selected, bytes, base_values })
        };
        let blocks = entry.blocks.iter().map(copy).collect::<Result<Vec<_>, Error>>()?;
        let place = self.builder.tensor(TensorParts::of(entry));
        self.builder.copied(place, entry.statistics, blocks);
        Ok(())
    }

    /// The patch. With its `base`, its result is found by applying it; otherwise `roots` says what is known: the digests over the
    /// tensors of its reference and of its result.
    pub fn finish(
        self,
        metadata: Metadata,
        roots: impl FnOnce(&NewPatch) -> (Digest, Digest),
        base: Option<&Checkpoint>,
        context: &Context<'_>,
    ) -> Result<Patch, Error> {
        let new = self.builder.choose();
        let metadata = Metadata {
            tool: concat!("lcepatch ", env!("CARGO_PKG_VERSION")).to_owned(),
            portable: new.portability == Portability::Portable,
            portability_bytes: new.portability_bytes,
            ..metadata
        };
        let (reference, mut result) = roots(&new);
        let written = |result| Patch::written(&new, &metadata, reference, result);
        if let (Some(base), false) = (base, result.is_known() || new.tensors.is_empty()) {
            let unfinished = written(result)?;
            result = new.hash.root(&results(base, &unfinished, None, context)?);
        }
        base.map_or(Ok(()), Checkpoint::unchanged)?;
        Ok(written(result)?)
    }
}

/// The elements of each block of `2^block_log2`, with its index.
fn elements(content: &Exact, dtype: Dtype, block_log2: u32) -> Vec<(u64, Elements)> {
    let of_block = content.elements.chunk_by(|a, b| a.index >> block_log2 == b.index >> block_log2);
    let blocks = of_block.filter_map(|of_block| {
        let index = of_block.first()?.index >> block_log2;
        let each = || of_block.iter();
        let start = index << block_log2;
        let positions = each().map(|element| (element.index - start) as u32).collect();
        let kept = content.masks.any.then(|| each().map(|element| element.kept).collect());
        let pruned = each().filter(|element| !element.kept.in_base());
        let before = content.masks.before.then(|| pruned.map(|element| element.before).collect());
        let base = each().map(|element| element.base).collect();
        let reference = each().map(|element| element.reference).collect();
        Some((index, Elements { dtype, positions, base, reference, kept, before, holds_zeros: true }))
    });
    blocks.collect()
}

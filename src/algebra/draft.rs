//! A patch under construction: its tensors are encoded one by one, or copied as they are.

use super::content::{Content, Exact};
use crate::apply::{Edit, results};
use crate::checkpoint::{Checkpoint, Tensor};
use crate::codec::Effort;
use crate::context::Context;
use crate::digest::Digest;
use crate::dtype::Dtype;
use crate::error::Error;
use crate::format::block::choose::BlockEncodings;
use crate::format::block::encode::{Encoding, Portability, Precision, encode, values_digest};
use crate::format::block::{BaseElements, BlockId, Elements, block_elements};
use crate::format::builder::{NewBlock, NewPatch, PatchBuilder, TensorParts};
use crate::format::metadata::Metadata;
use crate::format::tensor_table::{BlockEntry, TensorEntry};
use crate::patch::{Patch, TensorBlock};
use rayon::prelude::*;

/// Collects the tensors of a new patch, ascending by name.
pub(crate) struct Draft {
    encoding: Encoding,
    block_log2: u32,
    builder: PatchBuilder,
}

impl Draft {
    /// A patch in blocks of `2^block_log2` elements, the size that copied blocks must have too.
    pub fn new(portability: Portability, block_log2: u32) -> Self {
        let (precision, effort) = (Precision::Exact, Effort::Default);
        let encoding = Encoding { precision, portability, effort };
        Self { encoding, block_log2, builder: PatchBuilder::new(portability, block_log2) }
    }

    /// Encodes and adds a tensor. A tensor without elements is left out. `base` is the tensor in the new patch's base.
    pub fn add(&mut self, parts: TensorParts, content: &Exact, base: Option<Tensor<'_>>) {
        let (n, block_log2) = (parts.elements(), self.block_log2);
        let base = |index| base.map(|base| TensorBlock::new(base, block_elements(block_log2, index, n)));
        self.add_blocks(parts, content, base);
    }

    /// As [`Draft::add`]; `base` returns the base's elements of a block, by its index.
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
            // Encoding fails only in reduced precision.
            let base = base.as_ref().map(|base| base as &dyn BaseElements);
            encode(BlockId { tensor: place, index: *index }, elements, base, self.encoding).ok()
        });
        let coded: Vec<BlockEncodings> = coded.collect();
        self.builder.encoded(coded);
    }

    /// Adds a tensor without blocks, and returns its place for [`Draft::add_block`].
    pub fn begin(&mut self, parts: TensorParts) -> usize {
        self.builder.tensor(parts)
    }

    /// Sets the base digest of the tensor at `place`, which need not be known when the tensor is added.
    pub fn set_base_digest(&mut self, place: usize, base_digest: Digest) {
        self.builder.tensor_mut(place).into_iter().for_each(|parts| parts.base_digest = base_digest);
    }

    /// Encodes and adds one block of the tensor at `place`.
    pub fn add_block(&mut self, place: usize, content: &Exact, base: &dyn BaseElements) {
        for (index, elements) in elements(content, base.dtype(), self.block_log2) {
            self.builder.encoded(encode(BlockId { tensor: place, index }, &elements, Some(base), self.encoding).ok());
        }
    }

    /// Copies a tensor with its blocks as they are. The base's selected values are taken from `content`, if it has them.
    pub(super) fn copy(&mut self, edit: &Edit, entry: &TensorEntry, content: Option<&Content>) -> Result<(), Error> {
        let mut values = content.and_then(|content| content.base.as_deref());
        let copy = |block: &BlockEntry| {
            let bytes = edit.patch.block(entry, block)?;
            // The values of all blocks stand in one list.
            let values = values.as_mut().and_then(|values| values.split_off(..block.selected as usize));
            let digest = |values| values_digest(entry.dtype, values);
            let base_values = values.map_or(Digest::UNKNOWN, digest);
            Ok(NewBlock { index: block.index, selected: block.selected, bytes, base_values })
        };
        let blocks = entry.blocks.iter().map(copy).collect::<Result<Vec<_>, Error>>()?;
        let place = self.builder.tensor(TensorParts::of(entry));
        self.builder.copied(place, entry.statistics, blocks);
        Ok(())
    }

    /// Writes the patch. `roots` returns the digests over the tensors of its reference and of its result, as far as they are known. An
    /// unknown result is computed by applying the patch to its `base`, if it is given.
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
            result = Digest::root(&results(base, &unfinished, None, context)?);
        }
        base.map_or(Ok(()), Checkpoint::unchanged)?;
        Ok(written(result)?)
    }
}

/// Divides the elements into blocks of `2^block_log2`. Returns each block that has any, with its index.
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

#[cfg(test)]
mod tests {
    use super::super::content::{Element, Masks};
    use super::*;
    use crate::format::block::Kept;

    fn element(index: u64, kept: Kept, before: u64) -> Element {
        Element { index, base: index, reference: index + 1, kept, before }
    }

    #[test]
    fn elements_are_divided_into_blocks() {
        let content = Exact {
            elements: [0, 255, 256, 1023].map(|index| element(index, Kept::BOTH, 0)).to_vec(),
            masks: Masks::default(),
        };
        let blocks = elements(&content, Dtype::F32, 8);
        let positions: Vec<_> = blocks.iter().map(|(index, elements)| (*index, elements.positions.clone())).collect();
        assert_eq!(positions, [(0, vec![0, 255]), (1, vec![0]), (3, vec![255])]);
        assert_eq!(blocks[2].1.base, [1023]);
        assert!(blocks.iter().all(|(_, elements)| elements.kept.is_none() && elements.before.is_none()));
    }

    #[test]
    fn values_from_before_pruning_are_those_of_what_the_base_prunes() {
        let pruned = Kept::new(Dtype::F32, false, true, 2);
        let content = Exact {
            elements: vec![element(1, pruned, 7), element(2, Kept::BOTH, 0)],
            masks: Masks { any: true, before: true, base_is_unpruned: false },
        };
        let blocks = elements(&content, Dtype::F32, 8);
        assert_eq!(blocks[0].1.kept, Some(vec![pruned, Kept::BOTH]));
        assert_eq!(blocks[0].1.before, Some(vec![7]));
    }
}

//! A new patch in the making: tensors, coded one by one, or copied as they are.

use super::content::{Content, Exact};
use crate::apply::fit::block_elements;
use crate::apply::{Edit, results};
use crate::checkpoint::{Checkpoint, Tensor};
use crate::codec::Effort;
use crate::context::Context;
use crate::digest::{ContentHash, Digest};
use crate::dtype::Dtype;
use crate::error::Error;
use crate::format::Invalid;
use crate::format::block::encode::{Encoding, Portability, Precision, Variants, choose, encode, values_digest};
use crate::format::block::{BaseElements, Elements};
use crate::format::group::by_tensor;
use crate::format::metadata::Metadata;
use crate::format::patch::ReadError;
use crate::format::tensor_table::{Counterparts, Roots, TensorEntry};
use crate::format::write::{EncodedBlock, EncodedTensor, assemble};
use crate::patch::Patch;
use crate::patch::TensorBlock;
use rayon::prelude::*;
use std::path::Path;

/// What stands for the path of a patch that is in the making.
const NEW: &str = "the new patch";

/// What a new tensor is, besides its blocks.
#[derive(Debug, Clone)]
pub(super) struct Description {
    pub entry: TensorEntry,
    pub base_digest: Digest,
    pub counterparts: Option<Counterparts>,
}

impl Description {
    /// As in the patch that `entry` is of.
    pub fn of(entry: &TensorEntry) -> Self {
        Self { entry: entry.clone(), base_digest: entry.base_digest, counterparts: entry.counterparts }
    }
}

/// The tensors so far, ascending by name.
pub(super) struct Draft {
    /// Its digests are made with what those of the patches that it is made of are.
    encoding: Encoding,
    block_log2: u32,
    tensors: Vec<Description>,
    variants: Vec<Variants>,
    copies: Vec<(usize, Vec<EncodedBlock>)>,
    /// Digests of the base's selected values, by block; none once one is not known.
    selected: Option<Vec<(usize, u64, Digest)>>,
}

impl Draft {
    /// A patch in blocks of `2^block_log2` elements; copied blocks must have this size.
    pub fn new(portability: Portability, hash: ContentHash, block_log2: u32) -> Self {
        let (precision, effort) = (Precision::Exact, Effort::Default);
        let encoding = Encoding { precision, portability, effort, hash };
        let (tensors, variants, copies, selected) = (Vec::new(), Vec::new(), Vec::new(), Some(Vec::new()));
        Self { encoding, block_log2, tensors, variants, copies, selected }
    }

    /// Adds a tensor with elements whose bits on both sides are known; none if there are none. `base` is the new patch's
    /// base.
    pub fn add(&mut self, description: Description, content: &Exact, base: Option<Tensor<'_>>) {
        let (n, block_log2) = (description.entry.elements(), self.block_log2);
        let base = |index| base.map(|base| TensorBlock::new(base, block_elements(block_log2, index, n)));
        self.add_blocks(description, content, base);
    }

    /// As [`Draft::add`], with the base block by block.
    pub fn add_blocks<B: BaseElements>(
        &mut self,
        description: Description,
        content: &Exact,
        base: impl Fn(u64) -> Option<B> + Sync,
    ) {
        if content.elements.is_empty() {
            return;
        }
        let dtype = description.entry.dtype;
        let place = self.begin(description);
        let blocks = elements(content, dtype, self.block_log2);
        let coded = blocks.par_iter().filter_map(|(index, elements)| {
            let base = base(*index);
            // Only reduced precision can fail.
            let base = base.as_ref().map(|base| base as &dyn BaseElements);
            encode((place, *index), elements, base, self.encoding).ok()
        });
        let coded: Vec<Variants> = coded.collect();
        self.variants.extend(coded);
    }

    /// Adds a tensor whose place [`Draft::add_block`] takes.
    pub fn begin(&mut self, description: Description) -> usize {
        self.tensors.push(description);
        self.tensors.len() - 1
    }

    /// Changes what is said of the last tensor.
    pub fn describe(&mut self, base_digest: Digest) {
        self.tensors.last_mut().into_iter().for_each(|tensor| tensor.base_digest = base_digest);
    }

    /// Adds elements of one block of the tensor at `place`.
    pub fn add_block(&mut self, place: usize, content: &Exact, base: &dyn BaseElements) {
        for (index, elements) in elements(content, base.dtype(), self.block_log2) {
            let coded = encode((place, index), &elements, Some(base), self.encoding);
            self.variants.extend(coded.ok());
        }
    }

    /// Adds a tensor with its blocks as they are. `content` tells the base's selected values, if it can.
    pub fn copy(&mut self, edit: &Edit, entry: &TensorEntry, content: Option<&Content>) -> Result<(), Error> {
        let place = self.begin(Description::of(entry));
        let block = |block: &crate::format::tensor_table::BlockEntry| {
            let bytes = edit.patch.block(entry, block).map_err(|e| Error::of_patch(edit.patch.name(), e))?;
            Ok(EncodedBlock { index: block.index, selected: block.selected, bytes })
        };
        let blocks = entry.blocks.iter().map(block).collect::<Result<Vec<_>, Error>>()?;
        match content.and_then(|content| content.base.as_ref()) {
            Some(base) => {
                let mut rest = base.iter().copied();
                for block in &entry.blocks {
                    let own: Vec<u64> = rest.by_ref().take(block.selected as usize).collect();
                    let digest = values_digest(self.encoding.hash, entry.dtype, &own);
                    self.selected.iter_mut().for_each(|selected| selected.push((place, block.index, digest)));
                }
            }
            None => self.selected = None,
        }
        self.copies.push((place, blocks));
        Ok(())
    }

    /// The patch. With its `base`, its result is found by applying it; otherwise `roots` says what is known.
    pub fn finish(
        self,
        metadata: Metadata,
        roots: impl FnOnce(ContentHash, &[EncodedTensor]) -> (Digest, Digest),
        base: Option<&Checkpoint>,
        context: &Context<'_>,
    ) -> Result<Patch, Error> {
        let Draft { encoding, block_log2, tensors: descriptions, variants, copies, selected } = self;
        let Encoding { portability, hash, .. } = encoding;
        let gathered = choose(variants, portability);
        let (portability_bytes, all_coded) = (gathered.portability_bytes, copies.is_empty());
        let mut digests = selected;
        for block in &gathered.blocks {
            let digest = (block.tensor, block.index, block.base_digest);
            digests.iter_mut().for_each(|digests| digests.push(digest));
        }
        let describe = |place: usize| {
            let entry = &descriptions[place].entry;
            (entry.name.clone(), entry.dtype, entry.shape.clone())
        };
        let mut tensors = by_tensor(gathered.blocks, describe);
        for (place, blocks) in copies {
            let TensorEntry { name, dtype, shape, statistics, .. } = descriptions[place].entry.clone();
            let (base_digest, counterparts) = (Digest::UNKNOWN, None);
            tensors.push((place, EncodedTensor { name, dtype, shape, base_digest, statistics, counterparts, blocks }));
        }
        tensors.sort_by_key(|(place, _)| *place);
        let tensors: Vec<EncodedTensor> = tensors
            .into_iter()
            .map(|(place, tensor)| {
                let Description { base_digest, counterparts, .. } = descriptions[place];
                EncodedTensor { base_digest, counterparts, ..tensor }
            })
            .collect();
        let selected = digests.map_or(Digest::UNKNOWN, |mut digests| {
            digests.sort_by_key(|(place, index, _)| (*place, *index));
            hash.root(digests.iter().map(|(_, _, digest)| digest))
        });
        let metadata = Metadata {
            tool: concat!("lcepatch ", env!("CARGO_PKG_VERSION")).to_owned(),
            portable: portability == Portability::Portable,
            portability_bytes: all_coded.then_some(portability_bytes),
            ..metadata
        };
        let (reference, result) = roots(hash, &tensors);
        let mut roots = Roots { hash, selected, reference, result };
        let assembled = |roots| assemble(&metadata, roots, &tensors, block_log2).map_err(new_patch).and_then(open);
        if let (Some(base), false) = (base, result.is_known() || tensors.is_empty()) {
            roots.result = hash.root(&results(base, &assembled(roots)?, None, context)?);
        }
        base.map_or(Ok(()), Checkpoint::unchanged)?;
        assembled(roots)
    }
}

fn open(bytes: Vec<u8>) -> Result<Patch, Error> {
    Patch::from_bytes(NEW, bytes).map_err(|e| Error::of_patch(Path::new(NEW), e))
}

fn new_patch(invalid: Invalid) -> Error {
    Error::of_patch(Path::new(NEW), ReadError::Invalid(invalid))
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

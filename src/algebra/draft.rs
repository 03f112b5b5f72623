//! A new patch in the making: tensors, coded one by one, or copied as they are.

use super::content::Content;
use crate::apply::{Edit, results};
use crate::checkpoint::{Checkpoint, Tensor};
use crate::codec::Effort;
use crate::context::Context;
use crate::digest::{ContentHash, Digest};
use crate::error::Error;
use crate::format::metadata::Metadata;
use crate::format::read::ReadError;
use crate::format::tensor_table::{Counterparts, Roots, TensorEntry};
use crate::format::write::{EncodedBlock, EncodedTensor, assemble};
use crate::format::{Invalid, Patch};
use crate::mask::{BLOCK_ELEMENTS, block_range};
use crate::patch::gather::{Coding, Portability, Precision, Variants, choose, code, values_digest};
use crate::patch::group::by_tensor;
use crate::patch::{BaseBlock, Elements};
use rayon::prelude::*;
use std::path::Path;

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
    coding: Coding<'static>,
    tensors: Vec<Description>,
    variants: Vec<Variants>,
    copies: Vec<(usize, Vec<EncodedBlock>)>,
    /// Digests of the base's selected values, by block; none once one is not known.
    selected: Option<Vec<(usize, u64, Digest)>>,
}

impl Draft {
    pub fn new(portability: Portability, hash: ContentHash) -> Self {
        let (precision, effort) = (Precision::Exact, Effort::Default);
        let coding = Coding { precision, portability, masks: None, unpruned: None, effort, hash };
        let (tensors, variants, copies, selected) = (Vec::new(), Vec::new(), Vec::new(), Some(Vec::new()));
        Self { coding, tensors, variants, copies, selected }
    }

    /// Adds a tensor with elements whose bits on both sides are known; none if there are none. `base` is the new patch's
    /// base.
    pub fn add(&mut self, description: Description, content: &Content, base: Option<Tensor<'_>>) {
        let n = description.entry.elements();
        self.add_blocks(description, content, |index| base.map(|base| BaseBlock::new(base, block_range(index, n))));
    }

    /// As [`Draft::add`], with the base block by block.
    pub fn add_blocks<'b>(
        &mut self,
        description: Description,
        content: &Content,
        base: impl Fn(u64) -> Option<BaseBlock<'b>> + Sync,
    ) {
        if content.indices.is_empty() {
            return;
        }
        let place = self.begin(description);
        let blocks = elements(content, self.tensors[place].entry.dtype);
        let coded = blocks.par_iter().filter_map(|(index, elements)| {
            let base = base(*index);
            // Only reduced precision can fail.
            code((place, *index), elements, base.as_ref(), self.coding).ok()
        });
        let coded: Vec<Variants> = coded.collect();
        self.variants.extend(coded);
    }

    /// Adds a tensor whose place [`Draft::add_block`] takes.
    pub fn begin(&mut self, description: Description) -> usize {
        self.tensors.push(description);
        self.tensors.len() - 1
    }

    /// Changes what is said of a tensor.
    pub fn describe(&mut self, place: usize, base_digest: Digest) {
        self.tensors[place].base_digest = base_digest;
    }

    /// Adds elements of one block of the tensor at `place`.
    pub fn add_block(&mut self, place: usize, content: &Content, base: &BaseBlock<'_>) {
        for (index, elements) in elements(content, self.tensors[place].entry.dtype) {
            let coded = code((place, index), &elements, Some(base), self.coding);
            self.variants.extend(coded.ok());
        }
    }

    /// Adds a tensor with its blocks as they are. `content` tells the base's selected values, if it can.
    pub fn copy(&mut self, edit: &Edit, entry: &TensorEntry, content: Option<&Content>) -> Result<(), Error> {
        let place = self.begin(Description::of(entry));
        let block = |block: &crate::format::tensor_table::BlockEntry| {
            let bytes = edit.patch.block(entry, block).map_err(|e| Error::of_patch(&edit.path, e))?;
            Ok(EncodedBlock { index: block.index, selected: block.selected, bytes })
        };
        let blocks = entry.blocks.iter().map(block).collect::<Result<Vec<_>, Error>>()?;
        match content.filter(|content| !content.base.is_empty()) {
            Some(content) => {
                let mut rest = &content.base[..];
                for block in &entry.blocks {
                    let (own, later) = rest.split_at(block.selected as usize);
                    rest = later;
                    let digest = values_digest(self.coding.hash, entry.dtype, own);
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
        let Draft { coding, tensors: descriptions, variants, copies, selected } = self;
        let Coding { portability, hash, .. } = coding;
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
        let assembled = |roots| assemble(&metadata, roots, &tensors).map_err(new_patch).and_then(open);
        if let (Some(base), false) = (base, result.is_known() || tensors.is_empty()) {
            roots.result = hash.root(&results(base, assembled(roots)?, context)?);
        }
        assembled(roots)
    }
}

fn open(bytes: Vec<u8>) -> Result<Patch, Error> {
    Patch::from_bytes(bytes).map_err(|e| Error::of_patch(Path::new("the new patch"), e))
}

fn new_patch(invalid: Invalid) -> Error {
    Error::of_patch(Path::new("the new patch"), ReadError::Invalid(invalid))
}

/// The elements of each block, with its index.
fn elements(content: &Content, dtype: crate::dtype::Dtype) -> Vec<(u64, Elements)> {
    let mut blocks = Vec::new();
    let mut start = 0;
    while start < content.indices.len() {
        let index = content.indices[start] / BLOCK_ELEMENTS;
        let end = start + content.indices[start..].partition_point(|other| other / BLOCK_ELEMENTS == index);
        let positions = content.indices[start..end].iter().map(|other| (other % BLOCK_ELEMENTS) as u32).collect();
        let kept = content.has_masks.then(|| content.kept[start..end].to_vec());
        let before = content.has_before.then(|| {
            let pruned = (start..end).filter(|at| !content.kept[*at].in_base());
            pruned.map(|at| content.before[at]).collect()
        });
        let (base, reference) = (content.base[start..end].to_vec(), content.reference[start..end].to_vec());
        blocks.push((index, Elements { dtype, positions, base, reference, kept, before, holds_zeros: true }));
        start = end;
    }
    blocks
}

//! What can be put on disk as a result: something that turns tensors of a base into others of the same dtype and shape.

use super::fit::base_tensor;
use super::plan::Plan;
use super::tensor::{SPAN, one};
use crate::checkpoint::scan::windows;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::context::Context;
use crate::digest::{ContentHash, Digest};
use crate::error::{Error, Refusal};
use crate::format::block::{BLOCK_ELEMENTS, block_range};
use crate::mask::PruningMask;
use std::collections::BTreeMap;
use std::ops::Range;

/// Takes the result's bytes of a tensor, part by part: their offset in the tensor, and they.
pub type Sink<'s> = dyn FnMut(u64, &[u8]) -> Result<(), Error> + 's;

/// Takes a part of a tensor's elements, a copy of their bytes, and what is edited in them: the place in the part, and the result's
/// bits.
pub type EachPart<'e> = dyn FnMut(Range<u64>, &mut [u8], &[(u32, u64)]) -> Result<(), Error> + 'e;

/// A base and what becomes of its tensors.
pub trait Rewrite: Sync {
    /// The base.
    fn base(&self) -> &Checkpoint;

    /// Whether a tensor of the base changes; the others are copied.
    fn changes(&self, tensor: &str) -> bool;

    /// The parts of equal size into which a tensor that changes is divided, to be rewritten in parallel; the whole of it,
    /// if it cannot be.
    fn parts(&self, tensor: Tensor<'_>) -> Vec<Range<u64>> {
        windows(0..tensor.info.elements(), SPAN).collect()
    }

    /// Gives one of the [`Rewrite::parts`] of a tensor to `each`, with what is edited in it; returns how many weights were edited.
    ///
    /// # Errors
    /// What keeps a weight from having a result; what `each` returns.
    fn rewrite(
        &self,
        tensor: Tensor<'_>,
        part: Range<u64>,
        each: &mut EachPart<'_>,
        context: &Context<'_>,
    ) -> Result<u64, Error>;

    /// What the changed tensors' digests are made with that are declared beforehand; none if they are not known.
    fn declared(&self) -> Option<ContentHash>;

    /// Compares the digests of the changed tensors, by name, with those that were declared.
    ///
    /// # Errors
    /// [`Refusal::Promise`].
    fn compare_declared(&self, digests: &BTreeMap<String, Digest>) -> Result<(), Error>;
}

impl Rewrite for Plan<'_> {
    fn base(&self) -> &Checkpoint {
        Plan::base(self)
    }

    fn changes(&self, tensor: &str) -> bool {
        self.by_tensor.contains_key(tensor) || self.companions.contains_key(tensor)
    }

    fn rewrite(
        &self,
        tensor: Tensor<'_>,
        part: Range<u64>,
        each: &mut EachPart<'_>,
        context: &Context<'_>,
    ) -> Result<u64, Error> {
        self.edits(tensor, part, each, context)
    }

    fn declared(&self) -> Option<ContentHash> {
        self.declaring().map(|edit| edit.patch.table.roots.hash)
    }

    fn compare_declared(&self, digests: &BTreeMap<String, Digest>) -> Result<(), Error> {
        let Some(edit) = self.declaring() else { return Ok(()) };
        // In the order of the patch's table, which is that of the patch's names.
        let by_entry = edit.patch.table.tensors.iter().map(|entry| {
            base_tensor(self.base(), entry, self.prefix.as_ref()).and_then(|tensor| digests.get(&tensor.info.name))
        });
        if edit.patch.table.roots.hash.root(by_entry.flatten()) != edit.patch.table.roots.result {
            return Err(Refusal::Promise { patch: edit.patch.name().to_owned() }.into());
        }
        Ok(())
    }
}

/// A checkpoint pruned by a mask: the weights that it does not keep become 0.
#[derive(Debug, Clone, Copy)]
pub struct Pruning<'a> {
    /// The checkpoint.
    pub base: &'a Checkpoint,
    /// What is kept.
    pub mask: &'a PruningMask<'a>,
}

impl Pruning<'_> {
    /// The weights that `tensor` is the mask of, as `X_mask` is of `X_orig`.
    fn weights_of_mask(&self, tensor: &str) -> Option<Tensor<'_>> {
        let weights = format!("{}_orig", tensor.strip_suffix("_mask")?);
        let is_mask = self.base.is_companion_mask(tensor) && self.mask.covers(&weights);
        self.base.tensor(&weights).filter(|_| is_mask)
    }
}

impl Rewrite for Pruning<'_> {
    fn base(&self) -> &Checkpoint {
        self.base
    }

    fn changes(&self, tensor: &str) -> bool {
        self.mask.covers(tensor) || self.weights_of_mask(tensor).is_some()
    }

    fn rewrite(
        &self,
        tensor: Tensor<'_>,
        part: Range<u64>,
        each: &mut EachPart<'_>,
        context: &Context<'_>,
    ) -> Result<u64, Error> {
        let (elements, dtype) = (tensor.info.elements(), tensor.info.dtype);
        let weights_of_mask = self.weights_of_mask(&tensor.info.name);
        let mut edited = 0;
        let (mut bytes, mut edits) = (Vec::new(), Vec::new());
        for index in part.start / BLOCK_ELEMENTS..part.end.div_ceil(BLOCK_ELEMENTS) {
            let range = block_range(index, elements);
            let kept = self.mask.block(weights_of_mask.unwrap_or(tensor), index, context)?;
            for part in tensor.element_windows(range.clone()) {
                bytes.clear();
                bytes.extend_from_slice(tensor.elements(part.clone()));
                tensor.release(part.clone());
                edits.clear();
                for (at, element) in (0..).zip(part.clone()) {
                    match (kept[(element - range.start) as usize], weights_of_mask) {
                        (kept, Some(_)) => edits.push((at, if kept { one(dtype) } else { 0 })),
                        (false, None) => {
                            edits.push((at, 0));
                            edited += 1;
                        }
                        (true, None) => {}
                    }
                }
                each(part, &mut bytes, &edits)?;
                context.advance(bytes.len() as u64)?;
            }
        }
        Ok(edited)
    }

    fn declared(&self) -> Option<ContentHash> {
        None
    }

    fn compare_declared(&self, _: &BTreeMap<String, Digest>) -> Result<(), Error> {
        Ok(())
    }
}

//! What can be put on disk as a result: something that turns tensors of a base into others of the same dtype and shape.

use super::plan::Plan;
use super::refusal::Refusal;
use super::tensor::{SPAN, one};
use crate::checkpoint::scan::windows;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::context::Context;
use crate::digest::{ContentHash, Digest};
use crate::error::Error;
use crate::mask::{BLOCK_ELEMENTS, PruningMask, block_range};
use std::ops::Range;

/// Takes the result's bytes of a tensor, part by part: their offset in the tensor, and they.
pub type Sink<'s> = dyn FnMut(u64, &[u8]) -> Result<(), Error> + 's;

/// A base and what becomes of its tensors.
pub trait Rewrite: Sync {
    /// The base.
    fn base(&self) -> &Checkpoint;

    /// Whether a tensor of the base changes; the others are copied.
    fn changes(&self, tensor: &str) -> bool;

    /// The parts of equal size into which a tensor that changes is divided, to be rewritten in parallel; the whole of it,
    /// if it can not be.
    fn parts(&self, tensor: Tensor<'_>) -> Vec<Range<u64>> {
        let elements = 0..tensor.info.elements();
        match self.promise() {
            // Only the other one can be joined from parts.
            Some(ContentHash::Sha256) => vec![elements],
            _ => windows(elements, SPAN).collect(),
        }
    }

    /// Gives the result's bytes of one of the [`Rewrite::parts`] of a tensor to `sink`, with their offset in the tensor; returns how
    /// many weights were edited.
    ///
    /// # Errors
    /// What keeps a weight from having a result; what `sink` returns.
    fn rewrite(
        &self,
        tensor: Tensor<'_>,
        part: Range<u64>,
        sink: &mut Sink<'_>,
        context: &Context<'_>,
    ) -> Result<u64, Error>;

    /// What the changed tensors' digests are made with that are known beforehand, so that they are worth computing; none if they
    /// are not known.
    fn promise(&self) -> Option<ContentHash>;

    /// Compares the digests of the changed tensors, by name, with what was promised.
    ///
    /// # Errors
    /// [`Refusal::Promise`].
    fn keep_promise(&self, digests: &[(String, Digest)]) -> Result<(), Error>;
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
        sink: &mut Sink<'_>,
        context: &Context<'_>,
    ) -> Result<u64, Error> {
        self.edit_elements(tensor, part, sink, context)
    }

    fn promise(&self) -> Option<ContentHash> {
        self.promised().map(|edit| edit.patch.table.roots.hash)
    }

    fn keep_promise(&self, digests: &[(String, Digest)]) -> Result<(), Error> {
        let Some(edit) = self.promised() else { return Ok(()) };
        // In the order of the patch's table, which is that of the patch's names.
        let by_entry = edit.patch.table.tensors.iter().map(|entry| {
            let is_entry =
                |(_, edits): &(&String, &Vec<(usize, &_)>)| edits.iter().any(|(_, e)| std::ptr::eq(*e, entry));
            let name = self.by_tensor.iter().find(is_entry).map(|(name, _)| name);
            digests.iter().find(|(found, _)| Some(found) == name).map(|(_, digest)| digest)
        });
        if edit.patch.table.roots.hash.root(by_entry.flatten()) != edit.patch.table.roots.result {
            return Err(Refusal::Promise { patch: edit.path.clone() }.into());
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
    fn covers(&self, tensor: &str) -> bool {
        self.mask.names().any(|name| name == tensor)
    }

    /// The weights that `tensor` is the mask of, as `X_mask` is of `X_orig`.
    fn weights_of_mask(&self, tensor: &str) -> Option<Tensor<'_>> {
        let weights = format!("{}_orig", tensor.strip_suffix("_mask")?);
        let is_mask = self.base.is_companion_mask(tensor) && self.covers(&weights);
        self.base.tensor(&weights).filter(|_| is_mask)
    }
}

impl Rewrite for Pruning<'_> {
    fn base(&self) -> &Checkpoint {
        self.base
    }

    fn changes(&self, tensor: &str) -> bool {
        self.covers(tensor) || self.weights_of_mask(tensor).is_some()
    }

    fn rewrite(
        &self,
        tensor: Tensor<'_>,
        part: Range<u64>,
        sink: &mut Sink<'_>,
        context: &Context<'_>,
    ) -> Result<u64, Error> {
        let (elements, width) = (tensor.info.elements(), tensor.info.dtype.width());
        let weights_of_mask = self.weights_of_mask(&tensor.info.name);
        let mut edited = 0;
        let mut buffer = Vec::new();
        for index in part.start / BLOCK_ELEMENTS..part.end.div_ceil(BLOCK_ELEMENTS) {
            let range = block_range(index, elements);
            let kept = self.mask.block(weights_of_mask.unwrap_or(tensor), index, context)?;
            for part in tensor.element_windows(range.clone()) {
                buffer.clear();
                buffer.extend_from_slice(tensor.elements(part.clone()));
                tensor.release(part.clone());
                for (at, element) in part.clone().enumerate() {
                    match (kept[(element - range.start) as usize], weights_of_mask) {
                        (kept, Some(_)) => width.store(&mut buffer, at, if kept { one(tensor.info.dtype) } else { 0 }),
                        (false, None) => {
                            width.store(&mut buffer, at, 0);
                            edited += 1;
                        }
                        (true, None) => {}
                    }
                }
                sink(part.start * width.bytes() as u64, &buffer)?;
                context.advance(buffer.len() as u64)?;
            }
        }
        Ok(edited)
    }

    fn promise(&self) -> Option<ContentHash> {
        None
    }

    fn keep_promise(&self, _: &[(String, Digest)]) -> Result<(), Error> {
        Ok(())
    }
}

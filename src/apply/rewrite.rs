//! The trait of whatever rewrites a base's tensors to others of the same dtype and shape, so that `run` and `in_place` can write them.

use super::fit::base_tensor;
use super::plan::Plan;
use super::tensor::{SPAN, one};
use crate::checkpoint::scan::windows;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::context::Context;
use crate::digest::Digest;
use crate::dtype::Width;
use crate::error::{Error, Refusal};
use crate::format::block::{BLOCK_ELEMENTS, block_range};
use crate::mask::PruningMask;
use std::collections::BTreeMap;
use std::ops::Range;

/// Receives the result's bytes of a tensor part by part, each with its byte offset in the tensor.
pub type Sink<'s> = dyn FnMut(u64, &[u8]) -> Result<(), Error> + 's;

/// Receives a part of a tensor: its range of elements, bytes that it may change, and the edits that turn them into the result's.
pub type EachPart<'e> = dyn FnMut(Range<u64>, &mut [u8], Edits<'_>) -> Result<(), Error> + 'e;

/// Bytes that are rewritten at a time: many, because file systems take longer to write few.
const PART_BYTES: u64 = 1 << 20;

/// Divides a range of the elements of `tensor` into parts that are rewritten one after another.
pub(super) fn parts(tensor: Tensor<'_>, elements: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    windows(elements, PART_BYTES / tensor.info.dtype.width().bytes() as u64)
}

/// The edits of a part of a tensor.
#[derive(Debug, Clone, Copy)]
pub enum Edits<'e> {
    /// The part's bytes are the base's. An edit is the element's place in the part, and the result's bits.
    Listed(&'e [(u32, u64)]),
    /// The part's bytes are the result's already. Many of them differ from these ones, which are the base's.
    Made {
        /// The base's bytes of the part.
        base: &'e [u8],
    },
}

impl Edits<'_> {
    /// Makes the edits in the `bytes` of a part with elements of this `width`.
    pub fn make(self, width: Width, bytes: &mut [u8]) {
        if let Self::Listed(edits) = self {
            width.store_at(bytes, edits);
        }
    }

    /// Calls `each` with the base's bytes, and with a list of the edits. Call it before [`Edits::make`].
    pub fn with_list(self, width: Width, bytes: &[u8], each: impl FnOnce(&[u8], &[(u32, u64)])) {
        match self {
            Self::Listed(edits) => each(bytes, edits),
            Self::Made { base } => {
                let bits = |at: u32| (width.load(base, at as usize), width.load(bytes, at as usize));
                let elements = 0..(base.len() / width.bytes()) as u32;
                let differing = elements.map(|at| (at, bits(at))).filter(|(_, (base, result))| base != result);
                let edits: Vec<(u32, u64)> = differing.map(|(at, (_, result))| (at, result)).collect();
                each(base, &edits);
            }
        }
    }
}

/// A base, and edits that rewrite its tensors part by part.
pub trait Rewrite: Sync {
    /// The base.
    fn base(&self) -> &Checkpoint;

    /// Whether a tensor of the base changes. The other tensors are copied.
    fn changes(&self, tensor: &str) -> bool;

    /// Divides a tensor that changes into parts of equal size, to be rewritten in parallel. A tensor that cannot be divided is one part.
    fn parts(&self, tensor: Tensor<'_>) -> Vec<Range<u64>> {
        windows(0..tensor.info.elements(), SPAN).collect()
    }

    /// Calls `each` with one of the [`Rewrite::parts`] of a tensor, in smaller parts, and the edits in it. Returns the number of edited
    /// weights.
    ///
    /// # Errors
    /// [`Refusal`] for a weight that has no result; what `each` returns.
    fn rewrite(
        &self,
        tensor: Tensor<'_>,
        part: Range<u64>,
        each: &mut EachPart<'_>,
        context: &Context<'_>,
    ) -> Result<u64, Error>;

    /// Compares the digests of the changed tensors, by name, with the digest that the patch declares. Returns whether it declares one.
    ///
    /// # Errors
    /// [`Refusal::DeclaredDigest`].
    fn compare_declared(&self, digests: &BTreeMap<String, Digest>) -> Result<bool, Error>;
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

    fn compare_declared(&self, digests: &BTreeMap<String, Digest>) -> Result<bool, Error> {
        let Some(edit) = self.declaring() else { return Ok(false) };
        // In the order of the patch's table, which is that of the patch's names.
        let by_entry = edit.patch.table().tensors.iter().map(|entry| {
            base_tensor(self.base(), entry, self.prefix.as_ref()).and_then(|tensor| digests.get(&tensor.info.name))
        });
        if Digest::root(by_entry.flatten()) != edit.patch.table().roots.result {
            return Err(Refusal::DeclaredDigest { patch: edit.patch.name().to_owned() }.into());
        }
        Ok(true)
    }
}

/// Prunes a checkpoint: the weights that the mask does not keep become 0.
#[derive(Debug, Clone, Copy)]
pub struct Pruning<'a> {
    /// The checkpoint.
    pub base: &'a Checkpoint,
    /// The mask.
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
            for part in parts(tensor, range.clone()) {
                tensor.copy_to(part.clone(), &mut bytes);
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
                each(part, &mut bytes, Edits::Listed(&edits))?;
                context.advance(bytes.len() as u64)?;
            }
        }
        Ok(edited)
    }

    fn compare_declared(&self, _: &BTreeMap<String, Digest>) -> Result<bool, Error> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::PlanOptions;
    use crate::error::ErrorKind;
    use crate::testing::{floats, portable};

    #[test]
    fn a_result_must_have_the_digest_that_its_patch_declares() {
        let (base, reference) = (floats(&[("w", &[1.0, 2.0])]), floats(&[("w", &[1.0, 3.0])]));
        let (context, edits) = (Context::silent(), [portable(&base, &reference, 1.0)]);
        let plan = Plan::check(&base, &edits, &PlanOptions::default(), &context).unwrap();
        let digests = |checkpoint: &Checkpoint| {
            BTreeMap::from([("w".to_owned(), checkpoint.tensor("w").unwrap().digest(&context).unwrap())])
        };
        assert!(plan.compare_declared(&digests(&reference)).unwrap());
        let refused = plan.compare_declared(&digests(&base)).map_err(|error| error.kind());
        assert_eq!(refused, Err(ErrorKind::ResultDiffers));
    }

    #[test]
    fn pruning_by_a_mask_sets_to_0_what_it_does_not_keep() {
        let base = floats(&[("w", &[1.0, 0.5, -3.0])]);
        let pruned = floats(&[("w", &[1.0, 0.0, -3.0])]);
        let mask = PruningMask::zeros(pruned.tensors());
        let (pruning, mut edited) = (Pruning { base: &base, mask: &mask }, Vec::new());
        let mut each = |_: Range<u64>, bytes: &mut [u8], edits: Edits<'_>| {
            edits.with_list(Width::W4, bytes, |_, edits| edited.extend_from_slice(edits));
            Ok(())
        };
        let tensor = base.tensor("w").unwrap();
        let n = pruning.rewrite(tensor, 0..3, &mut each, &Context::silent()).unwrap();
        assert_eq!((n, edited), (1, vec![(1, 0)]));
        assert!(pruning.changes("w") && !pruning.changes("v"));
    }
}

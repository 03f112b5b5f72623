//! The undo patch, which leads from a result back to its base. It is made together with the result.

use super::plan::Plan;
use crate::checkpoint::{Checkpoint, WeightFile};
use crate::codec::Effort;
use crate::digest::{Digest, PartDigest, PartHasher, join};
use crate::dtype::Dtype;
use crate::error::Error;
use crate::format::block::choose::BlockEncodings;
use crate::format::block::encode::{Encoding, Portability, Precision, encode};
use crate::format::block::{BLOCK_ELEMENTS, BlockId, Elements};
use crate::format::builder::{PatchBuilder, TensorParts};
use crate::format::limits::BLOCK_LOG2;
use crate::format::metadata::{Localization, Metadata, Source, SourceFile};
use crate::patch::Patch;
use std::collections::BTreeMap;

/// How undo patches are encoded: exactly, and fast rather than small, because they stay on the machine that made them. Positions are
/// encoded without the result, which is not complete yet.
const ENCODING: Encoding =
    Encoding { precision: Precision::Exact, portability: Portability::NeedsBase, effort: Effort::Fast };

/// Makes the undo patch's blocks of one part of a tensor, which begins at a multiple of [`BLOCK_ELEMENTS`]. A block is encoded as soon as
/// the elements go on to the next one, so that only the elements of one block take memory.
pub(super) struct UndoBlocks {
    base_hasher: PartHasher,
    /// The index of the block in work.
    index: u64,
    /// The elements of the block in work that changed.
    elements: Elements,
    encoded: Vec<BlockEncodings>,
}

/// The undo patch's blocks of one part of a tensor.
#[derive(Debug)]
pub(super) struct UndoPart {
    /// The digest of the part in the base.
    base: PartDigest,
    /// The blocks with elements that changed. They do not name their tensor yet.
    blocks: Vec<BlockEncodings>,
}

impl UndoBlocks {
    /// No blocks yet. `base_hasher` is the hasher of this part of the base.
    pub fn new(dtype: Dtype, base_hasher: PartHasher) -> Self {
        Self { base_hasher, index: 0, elements: Elements::new(dtype), encoded: Vec::new() }
    }

    /// Adds consecutive elements from `start` on: their bytes in the base, and the edits in them.
    pub fn add(&mut self, start: u64, bytes: &[u8], edits: &[(u32, u64)]) {
        self.base_hasher.update(bytes);
        let width = self.elements.dtype.width();
        for (at, result) in edits {
            let (element, base) = (start + u64::from(*at), width.load(bytes, *at as usize));
            if base != *result {
                if element / BLOCK_ELEMENTS != self.index {
                    self.encode();
                    self.index = element / BLOCK_ELEMENTS;
                }
                self.elements.positions.push((element % BLOCK_ELEMENTS) as u32);
                // The base of the undo patch is the result.
                self.elements.base.push(*result);
                self.elements.reference.push(base);
            }
        }
    }

    /// Encodes the block in work.
    fn encode(&mut self) {
        let empty = Elements::new(self.elements.dtype);
        let elements = std::mem::replace(&mut self.elements, empty);
        if !elements.positions.is_empty() {
            let id = BlockId { tensor: 0, index: self.index };
            // Encoding fails only for deltas that reduced precision cannot hold.
            self.encoded.extend(encode(id, &elements, None, ENCODING));
        }
    }

    /// Encodes the last block.
    pub fn finish(mut self) -> UndoPart {
        self.encode();
        UndoPart { base: self.base_hasher.finish(), blocks: self.encoded }
    }
}

impl Plan<'_> {
    /// The undo patch. `parts` are those of every tensor that was rewritten, and `results` the BLAKE3 digests of the result's tensors, both
    /// by name.
    ///
    /// # Errors
    /// Metadata that is larger than readers take.
    pub(super) fn undo(
        &self,
        parts: BTreeMap<String, Vec<UndoPart>>,
        results: &BTreeMap<String, Digest>,
    ) -> Result<Patch, Error> {
        let base = self.base();
        let mut base_digests = Vec::new();
        let mut builder = PatchBuilder::new(ENCODING.portability, BLOCK_LOG2);
        for (name, parts) in parts {
            let (digests, blocks): (Vec<PartDigest>, Vec<Vec<BlockEncodings>>) =
                parts.into_iter().map(|part| (part.base, part.blocks)).unzip();
            let (dtype, shape) = base
                .tensor(&name)
                .map_or((Dtype::U8, Vec::new()), |tensor| (tensor.info.dtype, tensor.info.shape.clone()));
            let base_digest = results.get(&name).copied().unwrap_or(Digest::UNKNOWN);
            let tensor = builder.tensor(TensorParts { name, dtype, shape, base_digest, counterparts: None });
            builder.encoded(blocks.into_iter().flatten().map(|block| block.of_tensor(tensor)));
            base_digests.push(join(&digests));
        }
        let new = builder.choose();
        // The undo patch leads from the result to the base, and all the way.
        let reference = Digest::root(new.tensors.iter().map(|tensor| &base_digests[tensor.place]));
        Ok(Patch::written(&new, &metadata(base), reference, reference)?)
    }
}

/// The metadata of the undo patch of an edit of `base`, which is the undo patch's reference.
fn metadata(base: &Checkpoint) -> Metadata {
    let file = |file: &WeightFile| SourceFile { name: file.name(), bytes: file.bytes(), ..SourceFile::default() };
    let files = base.files().iter().map(file).collect();
    Metadata {
        localization: Localization { method: "undo".to_owned(), ..Localization::default() },
        base: Source { elements: base.elements(), ..Source::default() },
        reference: Source { elements: base.elements(), files, ..Source::default() },
        ..Metadata::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::part::{Output, Rewritten, rewrite_part};
    use crate::apply::{Edit, Plan, PlanOptions};
    use crate::checkpoint::Checkpoint;
    use crate::context::Context;
    use crate::dtype::Dtype;
    use crate::durable::Segments;
    use crate::patch::Patch;
    use crate::testing::{applied, apply, checkpoint, contents, portable, vector};
    use proptest::prelude::*;

    /// The undo patch of edits, made as an edit in place makes it, but for the files.
    fn undo(base: &Checkpoint, edits: &[Edit]) -> Patch {
        let context = Context::silent();
        let plan = Plan::check(base, edits, &PlanOptions::default(), &context).unwrap();
        let mut rewritten = Rewritten::default();
        for tensor in base.tensors().filter(|tensor| plan.changed().any(|name| name == tensor.info.name)) {
            let mut segments = Segments::default();
            let output = Output::Journal { file: 0, segments: &mut segments };
            let part = rewrite_part(&plan, tensor, 0..tensor.info.elements(), output, true, &context).unwrap();
            rewritten.add([(tensor.info.name.as_str(), part)]);
        }
        plan.undo(std::mem::take(&mut rewritten.undo), &rewritten.digests).unwrap()
    }

    /// Two tensors of finite 16-bit floats, and another two.
    fn pairs() -> impl Strategy<Value = (Checkpoint, Checkpoint)> {
        let finite = || prop::collection::vec(prop_oneof![0u64..0x3c00, 0x8000u64..0xbc00], 2 * 40);
        (finite(), finite(), prop::collection::vec(any::<bool>(), 2 * 40)).prop_map(|(base, other, differs)| {
            let mix = base.iter().zip(other).zip(differs);
            let reference: Vec<u64> = mix.map(|((base, other), differs)| if differs { other } else { *base }).collect();
            let two = |bits: &[u64]| {
                checkpoint(&[vector("a", Dtype::F16, &bits[..40]), vector("b", Dtype::F16, &bits[40..])])
            };
            (two(&base), two(&reference))
        })
    }

    proptest! {
        #[test]
        fn the_undo_patch_of_an_edit_leads_back((base, reference) in pairs(), alpha in prop_oneof![Just(1.0), -3.0..3.0]) {
            let edits = [portable(&base, &reference, alpha)];
            let result = apply(&base, &edits, &PlanOptions::default()).unwrap();
            let undo = undo(&base, &edits);
            prop_assert_eq!(applied(&result, &[Edit::to_reference(undo)]), contents(&base));
        }
    }

    #[test]
    fn what_an_edit_leaves_as_it_was_is_not_in_its_undo_patch() {
        let base = checkpoint(&[vector("a", Dtype::F16, &[0x3c00, 0x3c00]), vector("b", Dtype::F16, &[0x3c00])]);
        let reference = checkpoint(&[vector("a", Dtype::F16, &[0x3c00, 0x4000]), vector("b", Dtype::F16, &[0x3c01])]);
        // A quarter of the smallest step of "b" is rounded away.
        let undo = undo(&base, &[portable(&base, &reference, 0.25)]);
        let tensors: Vec<_> = undo.table().tensors.iter().map(|entry| (entry.name.as_str(), entry.selected)).collect();
        assert_eq!(tensors, [("a", 1)]);
        assert_eq!(undo.metadata().localization.method, "undo");
    }
}

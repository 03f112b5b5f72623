//! The decoded selection of one tensor of a patch.

use crate::apply::Edit;
use crate::checkpoint::Checkpoint;
use crate::dtype::Dtype;
use crate::error::{Error, Obstacle};
use crate::format::block::{BLOCK_ELEMENTS, BaseElements, DecodedBlock, Kept, MaskCodec, Streams};
use crate::format::tensor_table::{BlockEntry, TensorEntry};
use crate::patch::{TensorBlock, Undecoded};

/// The selected elements of one tensor. Every list has one entry for each element.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Content {
    /// Flat indices, ascending.
    pub indices: Vec<u64>,
    /// The base's bits; `None` unless they are known of all elements.
    pub base: Option<Vec<u64>>,
    /// Reference minus base in value; `None` unless it is known of all elements, and they are floats.
    pub deltas: Option<Vec<f64>>,
    /// The reference's bits, of the elements of which they are known.
    reference: Vec<Option<u64>>,
    /// Which sides keep the element; both in blocks without masks.
    kept: Vec<Kept>,
    /// The bits from before pruning, 0 where they are not known.
    before: Vec<u64>,
    masks: Masks,
}

/// What the blocks of a tensor say about pruning.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Masks {
    /// Whether any block has masks.
    pub any: bool,
    /// Whether a block says what the base held before it was pruned.
    pub before: bool,
    /// Whether the base holds unpruned weights where it is pruned.
    pub base_is_unpruned: bool,
}

/// The selected elements of one tensor, with known bits on both sides.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Exact {
    /// Ascending.
    pub elements: Vec<Element>,
    pub masks: Masks,
}

/// One selected element.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Element {
    /// Flat index.
    pub index: u64,
    /// The base's bits.
    pub base: u64,
    /// The reference's bits.
    pub reference: u64,
    /// Which sides keep the element.
    pub kept: Kept,
    /// The bits from before pruning, 0 where they are not known.
    pub before: u64,
}

/// How one selected element moves in value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Move {
    /// Flat index.
    pub index: u64,
    /// The base's bits.
    pub base: u64,
    /// Whether the base keeps the element. If not, its value in the base counts as 0.
    pub in_base: bool,
    /// Reference minus base.
    pub delta: f64,
    /// The reference's bits, if they are known. Base plus delta need not give them, because the delta is rounded to double precision.
    pub reference: Option<u64>,
}

impl Default for Content {
    /// No elements.
    fn default() -> Self {
        let (indices, reference, kept, before) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (base, deltas) = (Some(Vec::new()), Some(Vec::new()));
        Self { indices, base, deltas, reference, kept, before, masks: Masks::default() }
    }
}

/// A block could not be decoded.
#[derive(Debug)]
pub(super) struct Unread {
    /// The error, if the base is the right one.
    pub error: Error,
    /// Whether a wrong base could be the reason instead.
    pub of_base: bool,
}

impl From<Undecoded> for Unread {
    fn from(Undecoded { error, of_base }: Undecoded) -> Self {
        Self { error: error.into(), of_base }
    }
}

impl Content {
    /// Decodes the tensor `entry` of a patch. `base` is the patch's base; `verb` names the operation in errors.
    pub fn read(
        input: &Edit,
        entry: &TensorEntry,
        verb: &'static str,
        base: Option<&Checkpoint>,
    ) -> Result<Self, Error> {
        let mut content = Self::default();
        let tensor = base.and_then(|base| base.tensor(&entry.name));
        for block in &entry.blocks {
            let range = input.patch.table().elements_of(entry, block);
            let base = tensor.map(|tensor| TensorBlock::new(tensor, range.clone()));
            let base = base.as_ref().map(|base| base as &dyn BaseElements);
            content.extend(input, entry, block, verb, base).map_err(|e| e.error)?;
        }
        Ok(content)
    }

    /// Decodes one more block.
    pub fn extend(
        &mut self,
        input: &Edit,
        entry: &TensorEntry,
        block: &BlockEntry,
        verb: &'static str,
        base: Option<&dyn BaseElements>,
    ) -> Result<(), Unread> {
        let Edit { patch, .. } = input;
        let failed = |error| Unread { error, of_base: false };
        let decoded = match base {
            Some(base) => patch.decode_on_base(entry, block, base)?,
            None => {
                let bytes = patch.block(entry, block).map_err(|e| failed(e.into()))?;
                if Streams::read(&bytes).is_ok_and(|streams| streams.needs_base()) {
                    return Err(failed(Obstacle::NeedsBase { patch: patch.name().to_owned(), verb }.into()));
                }
                patch.decode(entry, block, None)?
            }
        };
        let start = patch.table().elements_of(entry, block).start;
        let base_bits = decoded.base_bits.clone().or_else(|| base.map(|base| base.bits_at(&decoded.positions)));
        self.add(entry.dtype, start, &decoded, base_bits);
        Ok(())
    }

    /// Adds the elements of a decoded block whose first element has the flat index `start`.
    fn add(&mut self, dtype: Dtype, start: u64, decoded: &DecodedBlock, base_bits: Option<Vec<u64>>) {
        let n = decoded.positions.len();
        self.indices.extend(decoded.positions.iter().map(|position| start + u64::from(*position)));
        self.kept.extend((0..n).map(|entry| decoded.kept(entry)));
        if let Some(masks) = &decoded.masks {
            self.masks.any = true;
            self.masks.before |= masks.before.is_some();
            self.masks.base_is_unpruned |= masks.codec == MaskCodec::UnprunedBase;
        }
        match decoded.masks.as_ref().and_then(|masks| masks.before.as_ref()) {
            Some(before) => self.before.extend(before),
            None => self.before.resize(self.indices.len(), 0),
        }
        let known = base_bits.as_ref().map(|base| base.iter().enumerate());
        if let Some(known) = known.clone() {
            self.reference.extend(known.map(|(entry, base)| decoded.reference_bits(entry, dtype, *base)));
        }
        self.reference.resize(self.indices.len(), None);
        let deltas = known.and_then(|known| {
            known.map(|(entry, base)| decoded.delta(entry, dtype, *base)).collect::<Option<Vec<f64>>>()
        });
        extend(&mut self.deltas, deltas);
        extend(&mut self.base, base_bits);
    }

    /// The elements with their bits on both sides.
    ///
    /// # Errors
    /// [`Obstacle::NeedsBase`], [`Obstacle::Reduced`].
    pub fn exact(&self, edit: &Edit, verb: &'static str) -> Result<Exact, Obstacle> {
        let base = self.base(edit, verb)?;
        let reference = self.reference.iter().copied().collect::<Option<Vec<u64>>>();
        let reference = reference.ok_or_else(|| Obstacle::Reduced { patch: edit.patch.name().to_owned() })?;
        let bits = self.indices.iter().zip(base).zip(reference);
        let elements = bits.zip(&self.kept).zip(&self.before).map(|((((index, base), reference), kept), before)| {
            Element { index: *index, base: *base, reference, kept: *kept, before: *before }
        });
        Ok(Exact { elements: elements.collect(), masks: self.masks })
    }

    /// How the elements move in value.
    ///
    /// # Errors
    /// [`Obstacle::NeedsBase`], [`Obstacle::Unpruned`]; [`Obstacle::Integer`], about `tensor`.
    pub fn moves(&self, edit: &Edit, verb: &'static str, tensor: &str) -> Result<Vec<Move>, Obstacle> {
        if self.masks.base_is_unpruned {
            return Err(Obstacle::Unpruned { patch: edit.patch.name().to_owned(), verb });
        }
        let base = self.base(edit, verb)?;
        let deltas = self.deltas.as_ref().ok_or_else(|| Obstacle::Integer { tensor: tensor.to_owned() })?;
        let moves = self.indices.iter().zip(base).zip(deltas).zip(&self.kept).zip(&self.reference);
        let moves = moves.map(|((((index, base), delta), kept), reference)| Move {
            index: *index,
            base: *base,
            in_base: kept.in_base(),
            delta: *delta,
            reference: *reference,
        });
        Ok(moves.collect())
    }

    /// The base's bits of all elements.
    fn base(&self, edit: &Edit, verb: &'static str) -> Result<&Vec<u64>, Obstacle> {
        self.base.as_ref().ok_or_else(|| Obstacle::NeedsBase { patch: edit.patch.name().to_owned(), verb })
    }
}

/// Appends what is known of a block. What is not known of one block is not known of all.
fn extend<T>(all: &mut Option<Vec<T>>, of_block: Option<Vec<T>>) {
    match (all.as_mut(), of_block) {
        (Some(all), Some(of_block)) => all.extend(of_block),
        _ => *all = None,
    }
}

impl Exact {
    /// The elements in one block of [`BLOCK_ELEMENTS`].
    pub fn block(&self, index: u64) -> Self {
        let of_block = |element: &&Element| element.index / BLOCK_ELEMENTS == index;
        let first = self.elements.partition_point(|element| element.index / BLOCK_ELEMENTS < index);
        let elements = self.elements.iter().skip(first).take_while(of_block).copied().collect();
        Self { elements, ..*self }
    }

    /// Keeps the elements for which `stays` is true.
    pub fn retain(mut self, stays: impl FnMut(&Element) -> bool) -> Self {
        self.elements.retain(stays);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::edit::{Alpha, EditKind};
    use crate::format::block::Deltas;
    use crate::format::block::encode::Portability;
    use crate::format::{Metadata, PatchBuilder};
    use crate::patch::Patch;

    fn edit() -> Edit {
        let new = PatchBuilder::new(Portability::NeedsBase, 22).choose();
        let patch = Patch::written(&new, &Metadata::default(), Digest::UNKNOWN, Digest::UNKNOWN).unwrap();
        Edit { patch, kind: EditKind::Interpolate(Alpha::ONE) }
    }

    fn block(deltas: Deltas) -> DecodedBlock {
        DecodedBlock { positions: vec![1, 2], deltas, base_bits: None, carries_base: false, masks: None }
    }

    #[test]
    fn what_one_block_does_not_tell_is_not_known_of_any() {
        let (edit, exact) = (edit(), || block(Deltas::Ulp(vec![1, 2])));
        let base = || Some(vec![0x3f80, 0x4000]);
        let mut content = Content::default();
        content.add(Dtype::Bf16, 0, &exact(), base());
        assert_eq!(content.exact(&edit, "squash").unwrap().elements.len(), 2);
        let mut reduced = content.clone();
        reduced.add(Dtype::Bf16, 256, &block(Deltas::Value(vec![0.5, 0.25])), base());
        reduced.add(Dtype::Bf16, 512, &exact(), base());
        assert!(matches!(reduced.exact(&edit, "squash"), Err(Obstacle::Reduced { .. })));
        assert_eq!(reduced.moves(&edit, "combine", "w").unwrap().iter().map(|it| it.index).max(), Some(514));
        content.add(Dtype::Bf16, 256, &exact(), None);
        content.add(Dtype::Bf16, 512, &exact(), base());
        assert!(matches!(content.exact(&edit, "squash"), Err(Obstacle::NeedsBase { .. })));
        assert!(matches!(content.moves(&edit, "combine", "w"), Err(Obstacle::NeedsBase { .. })));
        let mut integers = Content::default();
        integers.add(Dtype::I16, 0, &exact(), base());
        assert!(matches!(integers.moves(&edit, "combine", "w"), Err(Obstacle::Integer { .. })));
    }
}

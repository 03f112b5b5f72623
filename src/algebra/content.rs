//! One tensor of a patch, decoded.

use super::Obstacle;
use crate::apply::Edit;
use crate::apply::fit::{block_elements, decode_block, needs_base};
use crate::checkpoint::Checkpoint;
use crate::dtype::Dtype;
use crate::error::Error;
use crate::format::block::{MaskCodec, Streams};
use crate::format::tensor_table::{BlockEntry, TensorEntry};
use crate::mask::BLOCK_ELEMENTS;
use crate::patch::{BaseBlock, DecodedBlock, Kept};

/// The selected elements of one tensor. All lists have one entry for each.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Content {
    /// Flat indices, ascending.
    pub indices: Vec<u64>,
    /// The base's bits; empty if nothing tells them.
    pub base: Vec<u64>,
    /// The reference's bits; empty if deltas are not exact, or the base's bits are not known.
    pub reference: Vec<u64>,
    /// Reference minus base in value; empty if not known, or no floats.
    pub deltas: Vec<f64>,
    /// What is kept, in blocks with masks.
    pub kept: Vec<Kept>,
    /// Whether any block has masks.
    pub has_masks: bool,
    /// The bits from before pruning, 0 where they are not known.
    pub before: Vec<u64>,
    /// Whether a block says what the base held before it was pruned.
    pub has_before: bool,
    /// Whether the base holds unpruned weights where it is pruned.
    pub base_is_unpruned: bool,
}

impl Content {
    /// Decodes the tensor `entry` of a patch; `base` is the patch's base, if it is at hand.
    pub fn read(
        input: &Edit,
        entry: &TensorEntry,
        verb: &'static str,
        base: Option<&Checkpoint>,
    ) -> Result<Self, Error> {
        let mut content = Self::default();
        let tensor = base.and_then(|base| base.tensor(&entry.name));
        for block in &entry.blocks {
            let range = block_elements(input.patch.table.block_log2, block.index, entry.elements());
            let base = tensor.map(|tensor| BaseBlock::new(tensor, range.clone()));
            content.extend(input, entry, block, verb, base.as_ref())?;
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
        base: Option<&BaseBlock<'_>>,
    ) -> Result<(), Error> {
        let path = &input.path;
        if base.is_none() {
            let bytes = input.patch.block(entry, block).map_err(|e| Error::of_patch(path, e))?;
            if Streams::read(&bytes).is_ok_and(|streams| needs_base(&streams)) {
                return Err(Obstacle::NeedsBase { patch: path.clone(), verb }.into());
            }
        }
        let decoded = decode_block(&input.patch, path, entry, block, base).map_err(|e| e.error)?;
        let start = block_elements(input.patch.table.block_log2, block.index, entry.elements()).start;
        let base_bits = decoded.base_bits.clone().or_else(|| base.map(|base| base.bits_at(&decoded.positions)));
        self.add(entry.dtype, start, &decoded, base_bits);
        Ok(())
    }

    fn add(&mut self, dtype: Dtype, start: u64, decoded: &DecodedBlock, base_bits: Option<Vec<u64>>) {
        let n = decoded.positions.len();
        self.indices.extend(decoded.positions.iter().map(|position| start + u64::from(*position)));
        self.kept.extend((0..n).map(|entry| decoded.kept(entry)));
        if let Some(masks) = &decoded.masks {
            self.has_masks = true;
            self.has_before |= masks.before.is_some();
            self.base_is_unpruned |= masks.codec == MaskCodec::UnprunedBase;
        }
        match decoded.masks.as_ref().and_then(|masks| masks.before.as_ref()) {
            Some(before) => self.before.extend(before),
            None => self.before.resize(self.indices.len(), 0),
        }
        if let Some(base) = base_bits {
            let each = || base.iter().enumerate();
            self.reference.extend(each().filter_map(|(entry, base)| decoded.reference_bits(entry, dtype, *base)));
            self.deltas.extend(each().filter_map(|(entry, base)| decoded.delta(entry, dtype, *base)));
            self.base.extend(base);
        }
    }

    /// The entries in one block of [`BLOCK_ELEMENTS`].
    pub fn block(&self, index: u64) -> Self {
        let [start, end] =
            [index, index + 1].map(|index| self.indices.partition_point(|at| *at < index * BLOCK_ELEMENTS));
        self.part(&(start..end).collect::<Vec<usize>>())
    }

    /// The entries `places`, ascending.
    pub fn part(&self, places: &[usize]) -> Self {
        fn of<T: Copy>(all: &[T], places: &[usize]) -> Vec<T> {
            if all.is_empty() { Vec::new() } else { places.iter().map(|at| all[*at]).collect() }
        }
        Self {
            indices: of(&self.indices, places),
            base: of(&self.base, places),
            reference: of(&self.reference, places),
            deltas: of(&self.deltas, places),
            kept: of(&self.kept, places),
            before: of(&self.before, places),
            ..*self
        }
    }
}

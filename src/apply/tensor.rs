//! One tensor through its edits, as a stream of bytes (spec §11).

use super::fit::{DecodeError, block_elements, decode_block};
use super::plan::{NotFinite, Plan};
use super::refusal::Refusal;
use crate::checkpoint::Tensor;
use crate::context::Context;
use crate::digest::{Hasher, Sha256Digest};
use crate::dtype::{Dtype, Rounded};
use crate::edit::{Alpha, interpolate};
use crate::error::Error;
use crate::format::limits::BLOCK_LOG2_MAX;
use crate::format::tensor_table::TensorEntry;
use crate::patch::{BaseBlock, DecodedBlock, Deltas};
use std::ops::Range;

/// The selected elements of one patch in a stretch of a tensor, from the first to the last.
struct Cursor {
    alpha: Alpha,
    added: bool,
    /// Decoded blocks and their first elements.
    blocks: Vec<(u64, DecodedBlock)>,
    block: usize,
    entry: usize,
}

impl Plan<'_> {
    /// Gives the result's bytes of one tensor of the base to `sink`, part by part; returns how many elements were
    /// edited.
    ///
    /// Memory: a window, and at most 20 bytes for each selected element of the blocks in work.
    pub(super) fn edit_tensor(
        &self,
        tensor: Tensor<'_>,
        context: &Context<'_>,
        mut sink: impl FnMut(u64, &[u8]) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        let edits = self.by_tensor.get(&tensor.info.name).map_or(&[][..], Vec::as_slice);
        let elements = tensor.info.elements();
        let width = tensor.info.dtype.width();
        let mut edited = 0;
        let mut buffer = Vec::new();
        // Blocks of different patches may differ in size; the largest size is a multiple of every other.
        let span = 1 << BLOCK_LOG2_MAX;
        for start in (0..elements).step_by(span) {
            let range = start..(start + span as u64).min(elements);
            let mut cursors = self.decode(tensor, edits, &range)?;
            for part in tensor.element_windows(range) {
                let base = tensor.elements(part.clone());
                buffer.clear();
                buffer.extend_from_slice(base);
                edited += self.edit_window(tensor, part.clone(), &mut cursors, &mut buffer)?;
                tensor.release(part.clone());
                sink(part.start * width.bytes() as u64, &buffer)?;
                context.advance(buffer.len() as u64)?;
            }
        }
        Ok(edited)
    }

    /// SHA-256 of the result's bytes of one tensor of the base.
    ///
    /// # Errors
    /// [`Refusal`] for numbers; R18 to R20; cancellation.
    pub fn result_digest(&self, tensor: Tensor<'_>, context: &Context<'_>) -> Result<Sha256Digest, Error> {
        let mut hasher = Hasher::default();
        self.edit_tensor(tensor, context, |_, bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
        Ok(hasher.finish())
    }

    fn decode(
        &self,
        tensor: Tensor<'_>,
        edits: &[(usize, &TensorEntry)],
        range: &Range<u64>,
    ) -> Result<Vec<Cursor>, Error> {
        let mut cursors = Vec::new();
        for (index, entry) in edits {
            let edit = &self.edits[*index];
            let mut blocks = Vec::new();
            for block in &entry.blocks {
                let own = block_elements(edit.patch.table.block_log2, block.index, entry.elements());
                if range.contains(&own.start) {
                    let base = BaseBlock::new(tensor, own.clone());
                    let decoded = decode_block(&edit.patch, &edit.path, entry, block, Some(&base));
                    blocks.push((own.start, decoded.map_err(|DecodeError { error, .. }| error)?));
                }
            }
            cursors.push(Cursor { alpha: edit.alpha, added: self.added[*index], blocks, block: 0, entry: 0 });
        }
        Ok(cursors)
    }

    /// Edits the elements `part`, whose base bytes are in `bytes`.
    fn edit_window(
        &self,
        tensor: Tensor<'_>,
        part: Range<u64>,
        cursors: &mut [Cursor],
        bytes: &mut [u8],
    ) -> Result<u64, Error> {
        let (dtype, width) = (tensor.info.dtype, tensor.info.dtype.width());
        let mut edited = 0;
        while let Some(element) = cursors.iter().filter_map(Cursor::next).min().filter(|next| *next < part.end) {
            let at = (element - part.start) as usize;
            let base = width.load(bytes, at);
            let mut here = cursors.iter_mut().filter(|cursor| cursor.next() == Some(element)).peekable();
            // In the order of the patches, which is the order of the sum (spec §11.3).
            let mut terms = Vec::with_capacity(1);
            let mut exact = None;
            while let Some(cursor) = here.next() {
                if cursor.alpha == Alpha::ONE && !cursor.added && terms.is_empty() && here.peek().is_none() {
                    exact = cursor.exact(dtype, base);
                }
                if exact.is_none() {
                    let delta = cursor
                        .delta(dtype, base)
                        .ok_or_else(|| Refusal::Integer { tensor: tensor.info.name.clone(), alpha: cursor.alpha })?;
                    terms.push((cursor.alpha, delta));
                }
                cursor.advance();
            }
            let result = match (exact, dtype.float()) {
                (Some(bits), _) => bits,
                (None, Some(float)) => match interpolate(float, float.value(base), terms) {
                    Rounded::NotFinite(_) if self.not_finite == NotFinite::Refuse => {
                        let base = float.value(base);
                        return Err(
                            Refusal::NotFinite { tensor: tensor.info.name.clone(), index: element, base }.into()
                        );
                    }
                    Rounded::Finite(bits) | Rounded::NotFinite(bits) => bits,
                },
                (None, None) => base,
            };
            width.store(bytes, at, result);
            edited += 1;
        }
        Ok(edited)
    }
}

impl Cursor {
    /// The next element to edit.
    fn next(&self) -> Option<u64> {
        let (start, decoded) = self.blocks.get(self.block)?;
        Some(start + u64::from(decoded.positions[self.entry]))
    }

    fn advance(&mut self) {
        self.entry += 1;
        if self.blocks.get(self.block).is_some_and(|(_, decoded)| self.entry == decoded.positions.len()) {
            (self.block, self.entry) = (self.block + 1, 0);
        }
    }

    /// The reference's bits at the next element, if the patch has them exactly.
    fn exact(&self, dtype: Dtype, base: u64) -> Option<u64> {
        match &self.blocks[self.block].1.deltas {
            Deltas::Ulp(deltas) => Some(dtype.add_ulp(base, deltas[self.entry])),
            Deltas::Value(_) => None,
        }
    }

    /// Reference minus base at the next element, in value; none where elements are no floats.
    fn delta(&self, dtype: Dtype, base: u64) -> Option<f64> {
        let float = dtype.float()?;
        let decoded = &self.blocks[self.block].1;
        Some(match (&decoded.deltas, &decoded.base_bits) {
            (Deltas::Value(deltas), _) => deltas[self.entry],
            (Deltas::Ulp(deltas), own) => {
                let base = own.as_ref().filter(|_| self.added).map_or(base, |own| own[self.entry]);
                float.value(dtype.add_ulp(base, deltas[self.entry])) - float.value(base)
            }
        })
    }
}

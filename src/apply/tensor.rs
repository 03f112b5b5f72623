//! One tensor through its edits, as a stream of bytes (spec §11).

use super::plan::{Edit, NotFinite, Plan};
use super::rewrite::{EachPart, Sink};
use crate::checkpoint::Tensor;
use crate::checkpoint::scan::windows;
use crate::context::Context;
use crate::digest::{ContentHash, Digest};
use crate::dtype::{Dtype, Rounded};
use crate::edit::{Alpha, EditKind, interpolate};
use crate::error::{Error, Refusal};
use crate::format::block::{BaseElements, Deltas, Kept};
use crate::format::limits::BLOCK_LOG2_MAX;
use crate::format::tensor_table::{BlockEntry, TensorEntry};
use crate::mask::MaskFault;
use crate::patch::{Decoded, TensorBlock};
use std::ops::Range;

/// The selected elements of one patch in a stretch of a tensor, from the first to the last.
struct Cursor<'p> {
    edit: &'p Edit,
    added: bool,
    /// Decoded blocks and their first elements.
    blocks: Vec<(u64, Decoded)>,
    block: usize,
    entry: usize,
}

/// Elements decoded at a time: blocks of different patches may differ in size, and the largest size is a multiple of
/// every other.
pub(super) const SPAN: u64 = 1 << BLOCK_LOG2_MAX;

impl Plan<'_> {
    /// Gives the result's bytes of `elements` of a tensor of the base to `sink`, part by part; returns how many weights were
    /// edited. `elements` begin and, but for the tensor's end, end at a multiple of [`SPAN`].
    ///
    /// Memory: a few windows, and at most 40 bytes for each selected element of the blocks in work.
    pub(crate) fn edit_elements(
        &self,
        tensor: Tensor<'_>,
        elements: Range<u64>,
        sink: &mut Sink<'_>,
        context: &Context<'_>,
    ) -> Result<u64, Error> {
        let width = tensor.info.dtype.width();
        let mut each = |part: Range<u64>, bytes: &mut [u8], edits: &[(u32, u64)]| {
            width.store_at(bytes, edits);
            sink(part.start * width.bytes() as u64, bytes)
        };
        self.edits(tensor, elements, &mut each, context)
    }

    /// As [`Plan::edit_elements`], but calls `each` with what is edited.
    pub(super) fn edits(
        &self,
        tensor: Tensor<'_>,
        elements: Range<u64>,
        each: &mut EachPart<'_>,
        context: &Context<'_>,
    ) -> Result<u64, Error> {
        let (dtype, width) = (tensor.info.dtype, tensor.info.dtype.width());
        let layout = dtype.bit_layout();
        let companion = self.companions.get(&tensor.info.name);
        let weights = companion.copied().unwrap_or(tensor);
        let mut edited = 0;
        let (mut bytes, mut edits, mut bases) = (Vec::new(), Vec::new(), Vec::new());
        for range in windows(elements, SPAN) {
            let mut cursors = self.decode(weights, &range)?;
            for part in tensor.element_windows(range) {
                // Edits skip about in the bytes, which is quick once copying has brought all of them close.
                bytes.clear();
                bytes.extend_from_slice(tensor.elements(part.clone()));
                tensor.release(part.clone());
                edits.clear();
                if let ([cursor], None) = (&mut cursors[..], companion)
                    && let Some(references) = cursor.references(part.clone())
                {
                    // The way of most applies, and the same as what follows.
                    let places = references.clone().map(|(element, _)| (element - part.start) as usize);
                    bases.clear();
                    width.load_at(&bytes, places.clone(), &mut bases);
                    let results = bases.iter().zip(references).map(|(base, (_, delta))| layout.add_ulp(*base, delta));
                    edits.extend(places.map(|at| at as u32).zip(results));
                    edited += edits.len() as u64;
                }
                while let Some(element) = next(&cursors, part.end) {
                    let at = (element - part.start) as usize;
                    let base = width.load(&bytes, at);
                    let result = match companion {
                        Some(weights) => mask_element(dtype, base, here(&cursors, element))
                            .map_err(|found| found.error(*weights, element))?,
                        None => {
                            edited += 1;
                            self.weight(tensor, element, base, here(&cursors, element))?
                        }
                    };
                    edits.push((at as u32, result));
                    advance(&mut cursors, element);
                }
                each(part, &mut bytes, &edits)?;
                context.advance(bytes.len() as u64)?;
            }
        }
        Ok(edited)
    }

    /// As [`Plan::edit_elements`], of a whole tensor.
    pub(crate) fn edit_tensor(
        &self,
        tensor: Tensor<'_>,
        sink: &mut Sink<'_>,
        context: &Context<'_>,
    ) -> Result<u64, Error> {
        self.edit_elements(tensor, 0..tensor.info.elements(), sink, context)
    }

    /// The digest of the result's bytes of one tensor of the base.
    ///
    /// # Errors
    /// [`Refusal`] for numbers; R18 to R20; cancellation.
    pub fn result_digest(&self, tensor: Tensor<'_>, hash: ContentHash, context: &Context<'_>) -> Result<Digest, Error> {
        let mut hasher = hash.hasher();
        let mut sink = |_, bytes: &[u8]| {
            hasher.update(bytes);
            Ok(())
        };
        self.edit_tensor(tensor, &mut sink, context)?;
        Ok(hasher.finish())
    }

    /// Calls `each` with the flat index of every selected element of `weights` in `range`, whether the patches have it
    /// kept in the base, and whether it is kept in the result (spec §11.6).
    pub(super) fn kept(
        &self,
        weights: Tensor<'_>,
        range: Range<u64>,
        mut each: impl FnMut(u64, bool, bool) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut cursors = self.decode(weights, &range)?;
        while let Some(element) = next(&cursors, range.end) {
            let kept_in_base = here(&cursors, element).all(|cursor| cursor.kept().in_base());
            each(element, kept_in_base, kept_in_result(here(&cursors, element)))?;
            advance(&mut cursors, element);
        }
        Ok(())
    }

    fn decode(&self, tensor: Tensor<'_>, range: &Range<u64>) -> Result<Vec<Cursor<'_>>, Error> {
        let mut cursors = Vec::new();
        for (index, entry) in self.by_tensor.get(&tensor.info.name).into_iter().flatten() {
            let edit = &self.edits[*index];
            let mut blocks = Vec::new();
            for block in &entry.blocks {
                let own = edit.patch.table.elements_of(entry, block);
                if range.contains(&own.start) {
                    blocks.push((own.start, self.decode_block(*index, entry, block, tensor)?));
                }
            }
            cursors.push(Cursor { edit, added: self.added[*index], blocks, block: 0, entry: 0 });
        }
        Ok(cursors)
    }

    /// Decodes a block of the edit `index`, which is of `tensor`.
    fn decode_block(
        &self,
        index: usize,
        entry: &TensorEntry,
        block: &BlockEntry,
        tensor: Tensor<'_>,
    ) -> Result<Decoded, Error> {
        let Edit { patch, .. } = &self.edits[index];
        let base = TensorBlock::new(tensor, patch.table.elements_of(entry, block));
        let decoded = match self.added[index] {
            true => patch.decode(entry, block, Some(&base)),
            false => patch.decode_on_base(entry, block, &base),
        };
        decoded.map_err(|undecoded| undecoded.error.into())
    }

    /// Checks that `mask`, which lies beside `weights`, is the one of the edit `index` at the elements that it selects.
    pub(super) fn mask_is_theirs(
        &self,
        index: usize,
        entry: &TensorEntry,
        weights: Tensor<'_>,
        mask: Tensor<'_>,
        context: &Context<'_>,
    ) -> Result<(), Error> {
        for block in &entry.blocks {
            let own = self.edits[index].patch.table.elements_of(entry, block);
            context.advance(0)?;
            let decoded = self.decode_block(index, entry, block, weights)?;
            if decoded.masks.is_none() {
                continue;
            }
            let found = TensorBlock::new(mask, own.clone()).bits_at(&decoded.positions);
            for (at, (position, bits)) in decoded.positions.iter().zip(found).enumerate() {
                let theirs = MaskElement::new(mask.info.dtype, bits);
                if theirs != MaskElement::of(decoded.kept(at).in_base()) {
                    return Err(theirs.error(weights, own.start + u64::from(*position)));
                }
            }
        }
        Ok(())
    }

    /// The result's bits of an element of weights, which is `base` in the base and which `here` select.
    fn weight<'c>(
        &self,
        tensor: Tensor<'_>,
        element: u64,
        base: u64,
        here: impl Iterator<Item = &'c Cursor<'c>> + Clone,
    ) -> Result<u64, Error> {
        let (name, dtype) = (&tensor.info.name, tensor.info.dtype);
        let integer = |kind| Error::from(Refusal::Integer { tensor: name.clone(), kind });
        let kind = here.clone().next().map(|cursor| cursor.edit.kind);
        match (only(here.clone()), kind) {
            (Some(cursor), Some(EditKind::Interpolate(Alpha::ONE))) if !cursor.added => {
                let (_, decoded) = &cursor.blocks[cursor.block];
                if let Some(bits) = decoded.reference_bits(cursor.entry, dtype, base) {
                    return Ok(bits);
                }
            }
            (Some(cursor), Some(EditKind::Switch)) => return cursor.switched(base),
            (_, Some(EditKind::Prune)) => return dtype.float().map(|_| 0).ok_or_else(|| integer(EditKind::Prune)),
            _ => {}
        }
        // In the order of the patches, which is the order of the sum (spec §11.3).
        let term = |cursor: &Cursor<'_>| {
            let alpha = cursor.edit.kind.alpha()?;
            Some(cursor.delta(dtype, base).ok_or_else(|| integer(cursor.edit.kind)).map(|delta| (alpha, delta)))
        };
        let terms = here.clone().filter_map(term).collect::<Result<Vec<_>, Error>>()?;
        let Some(float) = dtype.float() else { return Ok(base) };
        let kept = here.clone().all(|cursor| cursor.kept().in_base());
        match interpolate(float, if kept { float.value(base) } else { 0.0 }, terms) {
            Rounded::NotFinite(_) if self.not_finite == NotFinite::Refuse => {
                Err(Refusal::NotFinite { tensor: name.clone(), index: element, base: float.value(base) }.into())
            }
            Rounded::Finite(bits) | Rounded::NotFinite(bits) => Ok(bits),
        }
    }
}

/// The next element before `end` that any cursor selects.
fn next(cursors: &[Cursor<'_>], end: u64) -> Option<u64> {
    cursors.iter().filter_map(Cursor::next).min().filter(|next| *next < end)
}

/// The cursors that select `element`, which is the next one, in the order of the patches.
fn here<'c>(cursors: &'c [Cursor<'c>], element: u64) -> impl Iterator<Item = &'c Cursor<'c>> + Clone {
    cursors.iter().filter(move |cursor| cursor.next() == Some(element))
}

/// The only item.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    items.next().filter(|_| items.next().is_none())
}

/// Moves the cursors that are at `element` to their next ones.
fn advance(cursors: &mut [Cursor<'_>], element: u64) {
    cursors.iter_mut().filter(|cursor| cursor.next() == Some(element)).for_each(Cursor::advance);
}

/// Whether an element that `here` select is kept in the result (spec §11.6).
fn kept_in_result<'c>(here: impl Iterator<Item = &'c Cursor<'c>> + Clone) -> bool {
    match only(here.clone()) {
        Some(cursor) => match cursor.edit.kind {
            EditKind::Interpolate(Alpha::ONE) | EditKind::Switch => cursor.kept().in_reference(),
            EditKind::Interpolate(_) => true,
            EditKind::Prune => false,
        },
        None => here.into_iter().all(|cursor| cursor.edit.kind != EditKind::Prune),
    }
}

/// The result's bits of an element of a mask, `base` in the base; what the base's mask says, if that is not what the
/// patches say.
fn mask_element<'c>(
    dtype: Dtype,
    base: u64,
    here: impl Iterator<Item = &'c Cursor<'c>> + Clone,
) -> Result<u64, MaskElement> {
    let mut with_masks = here.clone().filter(|cursor| cursor.has_masks()).peekable();
    if with_masks.peek().is_none() {
        return Ok(base);
    }
    let found = MaskElement::new(dtype, base);
    if with_masks.any(|cursor| MaskElement::of(cursor.kept().in_base()) != found) {
        return Err(found);
    }
    Ok(if kept_in_result(here) { one(dtype) } else { 0 })
}

/// The bits of 1, which a mask holds for a weight that is kept.
pub(super) fn one(dtype: Dtype) -> u64 {
    dtype.float().map_or(1, |float| match float.round(1.0) {
        Rounded::Finite(bits) | Rounded::NotFinite(bits) => bits,
    })
}

/// What an element of a mask says.
#[derive(Debug, Clone, Copy, PartialEq)]
enum MaskElement {
    /// 1.
    Kept,
    /// 0.
    Pruned,
    /// Nothing: it is neither.
    Other(f64),
}

impl MaskElement {
    fn new(dtype: Dtype, bits: u64) -> Self {
        match dtype.float().map_or(bits as f64, |float| float.value(bits)) {
            1.0 => Self::Kept,
            0.0 => Self::Pruned,
            other => Self::Other(other),
        }
    }

    fn of(kept: bool) -> Self {
        if kept { Self::Kept } else { Self::Pruned }
    }

    /// Why it is not that of a patch; it is that of element `index` of `weights`.
    fn error(self, weights: Tensor<'_>, index: u64) -> Error {
        match self {
            Self::Other(value) => MaskFault::Value { tensor: weights.info.name.clone(), index, value }.into(),
            _ => mask_differs(weights, index, self == Self::Kept),
        }
    }
}

/// The base's mask says something else of an element than the patch.
pub(super) fn mask_differs(weights: Tensor<'_>, index: u64, kept: bool) -> Error {
    Refusal::Mask { tensor: weights.info.name.clone(), index, kept }.into()
}

impl Cursor<'_> {
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

    /// The selected elements of `part` that lie in one block, which is passed then, with what leads to the reference's bits; none if
    /// the edit does not lead to these.
    fn references(&mut self, part: Range<u64>) -> Option<impl Iterator<Item = (u64, u64)> + Clone> {
        let (start, decoded) = self.blocks.get(self.block)?;
        let at_one = self.edit.kind == EditKind::Interpolate(Alpha::ONE) && !self.added;
        let (Deltas::Ulp(deltas), None, true) = (&decoded.deltas, &decoded.masks, at_one) else { return None };
        let positions = &decoded.positions[self.entry..];
        let n = positions.partition_point(|position| start + u64::from(*position) < part.end);
        let deltas = &deltas[self.entry..self.entry + n];
        self.entry += n;
        if self.entry == decoded.positions.len() {
            (self.block, self.entry) = (self.block + 1, 0);
        }
        let start = *start;
        Some(positions[..n].iter().zip(deltas).map(move |(position, delta)| (start + u64::from(*position), *delta)))
    }

    fn has_masks(&self) -> bool {
        self.blocks[self.block].1.masks.is_some()
    }

    /// What is kept of the next element.
    fn kept(&self) -> Kept {
        self.blocks[self.block].1.kept(self.entry)
    }

    /// Reference minus base at the next element, in value; none where elements are no floats.
    fn delta(&self, dtype: Dtype, base: u64) -> Option<f64> {
        let (_, decoded) = &self.blocks[self.block];
        let own = decoded.carried_base().filter(|_| self.added).map_or(base, |own| own[self.entry]);
        decoded.delta(self.entry, dtype, own)
    }

    /// The bits of the next element after a mask switch (spec §11.5).
    fn switched(&self, base: u64) -> Result<u64, Error> {
        let patch = || self.edit.patch.name().to_owned();
        let (_, decoded) = &self.blocks[self.block];
        let masks = decoded.masks.as_ref().ok_or_else(|| Refusal::NoMasks { patch: patch() })?;
        if !masks.kept[self.entry].in_reference() {
            return Ok(0);
        }
        let before = masks.value_before(self.entry, base);
        Ok(before.ok_or_else(|| Refusal::NoValuesBefore { patch: patch() })?)
    }
}

//! One tensor through its edits, as a stream of bytes (spec §A3 to §A8).

use super::plan::{Edit, NotFinite, Plan};
use super::rewrite::{EachPart, Edits, Sink, parts};
use crate::checkpoint::Tensor;
use crate::checkpoint::scan::windows;
use crate::context::Context;
use crate::digest::{Digest, Hasher};
use crate::dtype::{Dtype, FloatFormat, Rounded};
use crate::edit::{Alpha, EditKind, interpolate};
use crate::error::{Error, Refusal};
use crate::format::block::{BaseElements, Deltas, Kept};
use crate::format::limits::BLOCK_LOG2_MAX;
use crate::format::tensor_table::{BlockEntry, TensorEntry};
use crate::mask::MaskFault;
use crate::patch::{Decoded, DenseBlock, TensorBlock};
use std::ops::Range;

/// Walks over the selected elements of one patch in a range of a tensor.
pub(super) struct Cursor<'p> {
    edit: &'p Edit,
    /// Whether deltas are added to a base that is not the patch's own.
    added: bool,
    /// Each block's first element, and the decoded block.
    pub(super) blocks: Vec<(u64, Decoded)>,
    /// Index of the current block.
    block: usize,
    /// Index of the current element among the selected ones of the block.
    entry: usize,
}

/// Elements decoded at a time. Blocks of different patches may differ in size; the largest size is a multiple of every other, so that no
/// block straddles two spans.
pub(super) const SPAN: u64 = 1 << BLOCK_LOG2_MAX;

impl Plan<'_> {
    /// Calls `sink` with the result's bytes of `elements` of a tensor, part by part. Returns the number of edited weights. `elements` must
    /// begin at a multiple of [`SPAN`], and end at one or at the tensor's end.
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
        let mut each = |part: Range<u64>, bytes: &mut [u8], edits: Edits<'_>| {
            edits.make(width, bytes);
            sink(part.start * width.bytes() as u64, bytes)
        };
        self.edits(tensor, elements, &mut each, context)
    }

    /// Calls `each` with consecutive parts of `elements`: a copy of the base's bytes, and the edits in them. Otherwise as
    /// [`Plan::edit_elements`].
    pub(super) fn edits(
        &self,
        tensor: Tensor<'_>,
        elements: Range<u64>,
        each: &mut EachPart<'_>,
        context: &Context<'_>,
    ) -> Result<u64, Error> {
        // The weights beside which `tensor` is the pruning mask, if it is one.
        let masked = self.companions.get(&tensor.info.name).copied();
        let mut edited = 0;
        let (mut base, mut bytes, mut edits, mut bases) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for range in windows(elements, SPAN) {
            if let Some(mut block) = self.dense_block(tensor, &range)? {
                for part in parts(tensor, range.clone()) {
                    let base = tensor.read_to(part.clone(), &mut base);
                    bytes.clear();
                    bytes.extend_from_slice(base);
                    block.add((part.start - range.start) as u32, &mut bytes);
                    each(part.clone(), &mut bytes, Edits::Made { base })?;
                    tensor.release(part);
                    context.advance(bytes.len() as u64)?;
                }
                block.finish()?;
                edited += block.selected();
                continue;
            }
            let mut cursors = self.decode(masked.unwrap_or(tensor), &range)?;
            for part in parts(tensor, range) {
                // Edits access the bytes at scattered places, which is fast once copying has brought all of them into the cache.
                tensor.copy_to(part.clone(), &mut bytes);
                tensor.release(part.clone());
                edits.clear();
                match masked {
                    Some(weights) => edit_mask(tensor, weights, &part, &bytes, &mut cursors, &mut edits)?,
                    None => {
                        if let [cursor] = &mut cursors[..] {
                            while self.add_own_edits(cursor, tensor, &part, &bytes, &mut bases, &mut edits)? {}
                        }
                        self.edit_weights(tensor, &part, &bytes, &mut cursors, &mut edits)?;
                        edited += edits.len() as u64;
                    }
                }
                each(part, &mut bytes, Edits::Listed(&edits))?;
                context.advance(bytes.len() as u64)?;
            }
        }
        Ok(edited)
    }

    /// Adds the edits of the elements of `part` that lie in one block, and passes these elements. Only of an exact patch without masks,
    /// alone on its own base, and interpolated, as in most applies. Otherwise nothing is added, and [`Plan::edit_weights`] finds the
    /// same results element by element. `bases` is scratch space. Returns whether it passed any.
    fn add_own_edits(
        &self,
        cursor: &mut Cursor<'_>,
        tensor: Tensor<'_>,
        part: &Range<u64>,
        bytes: &[u8],
        bases: &mut Vec<u64>,
        edits: &mut Vec<(u32, u64)>,
    ) -> Result<bool, Error> {
        let Some((start, decoded)) = cursor.blocks.get(cursor.block) else { return Ok(false) };
        let Some((alpha, deltas)) = cursor.own_deltas(tensor.info.dtype, decoded) else { return Ok(false) };
        let positions = &decoded.positions[cursor.entry..];
        let n = positions.partition_point(|position| start + u64::from(*position) < part.end);
        let places = positions[..n].iter().map(|position| (start + u64::from(*position) - part.start) as usize);
        bases.clear();
        tensor.info.dtype.width().load_at(bytes, places.clone(), bases);
        let deltas = &deltas[cursor.entry..cursor.entry + n];
        let elements = positions[..n].iter().map(|position| start + u64::from(*position));
        self.own_results(alpha, tensor, elements, bases, deltas)?;
        edits.extend(places.map(|at| at as u32).zip(bases.iter().copied()));
        cursor.entry += n;
        if cursor.entry == decoded.positions.len() {
            (cursor.block, cursor.entry) = (cursor.block + 1, 0);
        }
        Ok(n > 0)
    }

    /// Replaces the base's bits of `elements` by those of the result of an exact patch, whose deltas they are, alone on its own base.
    pub(super) fn own_results(
        &self,
        alpha: Alpha,
        tensor: Tensor<'_>,
        elements: impl Iterator<Item = u64>,
        bits: &mut [u64],
        deltas: &[u64],
    ) -> Result<(), Error> {
        match tensor.info.dtype.float().filter(|_| alpha != Alpha::ONE) {
            // Loops of their own for the formats of most checkpoints: what rounding does depends on the format.
            Some(FloatFormat::BF16) => self.interpolate_own(FloatFormat::BF16, alpha, tensor, elements, bits, deltas),
            Some(FloatFormat::F16) => self.interpolate_own(FloatFormat::F16, alpha, tensor, elements, bits, deltas),
            Some(FloatFormat::F32) => self.interpolate_own(FloatFormat::F32, alpha, tensor, elements, bits, deltas),
            Some(float) => self.interpolate_own(float, alpha, tensor, elements, bits, deltas),
            None => {
                let layout = tensor.info.dtype.bit_layout();
                bits.iter_mut().zip(deltas).for_each(|(bits, delta)| *bits = layout.add_ulp(*bits, *delta));
                Ok(())
            }
        }
    }

    /// As [`Plan::own_results`], for floats.
    #[inline(always)]
    fn interpolate_own(
        &self,
        float: FloatFormat,
        alpha: Alpha,
        tensor: Tensor<'_>,
        elements: impl Iterator<Item = u64>,
        bits: &mut [u64],
        deltas: &[u64],
    ) -> Result<(), Error> {
        let layout = tensor.info.dtype.bit_layout();
        for ((bits, delta), element) in bits.iter_mut().zip(deltas).zip(elements) {
            let (value, reference) = (float.value(*bits), float.value(layout.add_ulp(*bits, *delta)));
            *bits = match interpolate(float, value, [(alpha, reference - value)]) {
                Rounded::Finite(bits) => bits,
                result => self.finite(result, &tensor.info.name, element, value)?,
            };
        }
        Ok(())
    }

    /// The bits of a result, unless it is not finite and that is refused. `base` is the value that element `index` of a tensor had.
    #[inline]
    fn finite(&self, result: Rounded, tensor: &str, index: u64, base: f64) -> Result<u64, Error> {
        match result {
            Rounded::NotFinite(_) if self.not_finite == NotFinite::Refuse => {
                Err(Refusal::NotFinite { tensor: tensor.to_owned(), index, base }.into())
            }
            Rounded::Finite(bits) | Rounded::NotFinite(bits) => Ok(bits),
        }
    }

    /// Adds the edits of `part` of a tensor of weights to `edits`: the place in the part, and the result's bits.
    pub(super) fn edit_weights(
        &self,
        tensor: Tensor<'_>,
        part: &Range<u64>,
        bytes: &[u8],
        cursors: &mut [Cursor<'_>],
        edits: &mut Vec<(u32, u64)>,
    ) -> Result<(), Error> {
        let width = tensor.info.dtype.width();
        while let Some(element) = next_element(cursors, part.end) {
            let at = (element - part.start) as usize;
            let result = self.weight(tensor, element, width.load(bytes, at), selecting(cursors, element))?;
            edits.push((at as u32, result));
            advance(cursors, element);
        }
        Ok(())
    }

    /// As [`Plan::edit_elements`], for a whole tensor.
    pub(crate) fn edit_tensor(
        &self,
        tensor: Tensor<'_>,
        sink: &mut Sink<'_>,
        context: &Context<'_>,
    ) -> Result<u64, Error> {
        self.edit_elements(tensor, 0..tensor.info.elements(), sink, context)
    }

    /// Calls `each` for every element of a tensor that the edits change, in ascending order: its flat index, and its bits in base and
    /// result.
    ///
    /// # Errors
    /// Those of an edit and of `each`; cancellation.
    pub(crate) fn changed_elements(
        &self,
        tensor: Tensor<'_>,
        each: &mut dyn FnMut(u64, u64, u64) -> Result<(), Error>,
        context: &Context<'_>,
    ) -> Result<(), Error> {
        let width = tensor.info.dtype.width();
        let mut of_part = |part: Range<u64>, bytes: &mut [u8], edits: Edits<'_>| {
            let mut done = Ok(());
            edits.with_list(width, bytes, |base, edits| {
                let mut changed = edits.iter().map(|(at, result)| (*at, width.load(base, *at as usize), *result));
                done = changed.try_for_each(|(at, base, result)| match base == result {
                    true => Ok(()),
                    false => each(part.start + u64::from(at), base, result),
                });
            });
            done
        };
        self.edits(tensor, 0..tensor.info.elements(), &mut of_part, context).map(drop::<u64>)
    }

    /// The digest of the result's bytes of one tensor of the base.
    ///
    /// # Errors
    /// [Kind](crate::ErrorKind) `NotFinite`, those of an edit; R18 to R20; cancellation.
    pub fn result_digest(&self, tensor: Tensor<'_>, context: &Context<'_>) -> Result<Digest, Error> {
        let mut hasher = Hasher::default();
        let mut sink = |_, bytes: &[u8]| {
            hasher.update(bytes);
            Ok(())
        };
        self.edit_tensor(tensor, &mut sink, context)?;
        Ok(hasher.finish())
    }

    /// Calls `each` for every selected element of `weights` in `range` with its flat index, whether the masks of the patches keep it in the
    /// base, and whether the result keeps it (spec §A8).
    pub(super) fn kept(
        &self,
        weights: Tensor<'_>,
        range: Range<u64>,
        mut each: impl FnMut(u64, bool, bool) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut cursors = self.decode(weights, &range)?;
        while let Some(element) = next_element(&cursors, range.end) {
            let kept_in_base = selecting(&cursors, element).all(|cursor| cursor.kept().in_base());
            each(element, kept_in_base, kept_in_result(selecting(&cursors, element)))?;
            advance(&mut cursors, element);
        }
        Ok(())
    }

    /// The block of `range` of a tensor, if its deltas are dense and give the result by themselves: the patch is alone, on its own base, at
    /// alpha 1.
    pub(super) fn dense_block(&self, tensor: Tensor<'_>, range: &Range<u64>) -> Result<Option<DenseBlock<'_>>, Error> {
        let Some([(index, entry)]) = self.by_tensor.get(&tensor.info.name).map(|entries| &entries[..]) else {
            return Ok(None);
        };
        let Edit { patch, kind } = &self.edits[*index];
        let to_reference = *kind == EditKind::Interpolate(Alpha::ONE) && !self.added[*index];
        match patch.table().blocks_in(entry, range) {
            [block] if to_reference && patch.table().elements_of(entry, block) == *range => {
                Ok(patch.dense_block(entry, block)?)
            }
            _ => Ok(None),
        }
    }

    /// Decodes the blocks of all patches in `range` of a tensor. The cursors are in the order of the patches.
    pub(super) fn decode(&self, tensor: Tensor<'_>, range: &Range<u64>) -> Result<Vec<Cursor<'_>>, Error> {
        let mut cursors = Vec::new();
        for (index, entry) in self.by_tensor.get(&tensor.info.name).into_iter().flatten() {
            let edit = &self.edits[*index];
            let mut blocks = Vec::new();
            for block in edit.patch.table().blocks_in(entry, range) {
                let elements = edit.patch.table().elements_of(entry, block);
                blocks.push((elements.start, self.decode_block(*index, entry, block, tensor)?));
            }
            cursors.push(Cursor { edit, added: self.added[*index], blocks, block: 0, entry: 0 });
        }
        Ok(cursors)
    }

    /// Decodes a block of edit number `index` with the base's `tensor`.
    fn decode_block(
        &self,
        index: usize,
        entry: &TensorEntry,
        block: &BlockEntry,
        tensor: Tensor<'_>,
    ) -> Result<Decoded, Error> {
        let Edit { patch, .. } = &self.edits[index];
        let base = TensorBlock::new(tensor, patch.table().elements_of(entry, block));
        let decoded = match self.added[index] {
            true => patch.decode(entry, block, Some(&base)),
            false => patch.decode_on_base(entry, block, &base),
        };
        decoded.map_err(|undecoded| undecoded.error.into())
    }

    /// Checks that the base's `mask` of `weights` agrees with the mask of edit number `index` at the elements that the edit selects.
    pub(super) fn check_companion_mask(
        &self,
        index: usize,
        entry: &TensorEntry,
        weights: Tensor<'_>,
        mask: Tensor<'_>,
        context: &Context<'_>,
    ) -> Result<(), Error> {
        for block in &entry.blocks {
            let elements = self.edits[index].patch.table().elements_of(entry, block);
            context.advance(0)?;
            let decoded = self.decode_block(index, entry, block, weights)?;
            if decoded.masks.is_none() {
                continue;
            }
            let found = TensorBlock::new(mask, elements.clone()).bits_at(&decoded.positions);
            for (at, (position, bits)) in decoded.positions.iter().zip(found).enumerate() {
                let found = MaskElement::new(mask.info.dtype, bits);
                if found != MaskElement::of(decoded.kept(at).in_base()) {
                    return Err(found.error(weights, elements.start + u64::from(*position)));
                }
            }
        }
        Ok(())
    }

    /// The result's bits of a weight that is `base` in the base. `selecting` are the cursors that select it, at least one.
    fn weight<'c>(
        &self,
        tensor: Tensor<'_>,
        element: u64,
        base: u64,
        selecting: impl Iterator<Item = &'c Cursor<'c>> + Clone,
    ) -> Result<u64, Error> {
        let (name, dtype) = (&tensor.info.name, tensor.info.dtype);
        let integer = |kind| Error::from(Refusal::Integer { tensor: name.clone(), kind });
        let of_cursor = |cursor: &Cursor<'_>| match (only(selecting.clone()), cursor.added) {
            (Some(_), false) => integer(cursor.edit.kind),
            (_, other_base) => Refusal::IntegerSum { tensor: name.clone(), other_base }.into(),
        };
        let kind = selecting.clone().next().map(|cursor| cursor.edit.kind);
        match (only(selecting.clone()), kind) {
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
        // In the order of the patches, which is the order of the sum (spec §A5).
        let term = |cursor: &Cursor<'_>| {
            let alpha = cursor.edit.kind.alpha()?;
            Some(cursor.delta(dtype, base).ok_or_else(|| of_cursor(cursor)).map(|delta| (alpha, delta)))
        };
        let terms = selecting.clone().filter_map(term).collect::<Result<Vec<_>, Error>>()?;
        let Some(float) = dtype.float() else { return Ok(base) };
        let kept = selecting.clone().all(|cursor| cursor.kept().in_base());
        let result = interpolate(float, if kept { float.value(base) } else { 0.0 }, terms);
        self.finite(result, name, element, float.value(base))
    }
}

/// Adds the edits of `part` of the pruning mask `mask` to `edits`: the place in the part, and the result's bits. `cursors` are those of the
/// weights that it is the mask of.
pub(super) fn edit_mask(
    mask: Tensor<'_>,
    weights: Tensor<'_>,
    part: &Range<u64>,
    bytes: &[u8],
    cursors: &mut [Cursor<'_>],
    edits: &mut Vec<(u32, u64)>,
) -> Result<(), Error> {
    let dtype = mask.info.dtype;
    while let Some(element) = next_element(cursors, part.end) {
        let at = (element - part.start) as usize;
        let base = dtype.width().load(bytes, at);
        let result = mask_element(dtype, base, selecting(cursors, element));
        edits.push((at as u32, result.map_err(|found| found.error(weights, element))?));
        advance(cursors, element);
    }
    Ok(())
}

/// The next element before `end` that any cursor selects.
fn next_element(cursors: &[Cursor<'_>], end: u64) -> Option<u64> {
    cursors.iter().filter_map(Cursor::element).min().filter(|next| *next < end)
}

/// The cursors that select `element`, which is the next one, in the order of the patches.
fn selecting<'c>(cursors: &'c [Cursor<'c>], element: u64) -> impl Iterator<Item = &'c Cursor<'c>> + Clone {
    cursors.iter().filter(move |cursor| cursor.element() == Some(element))
}

/// The item of an iterator that has only one.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    items.next().filter(|_| items.next().is_none())
}

/// Moves the cursors that are at `element` to their next ones.
fn advance(cursors: &mut [Cursor<'_>], element: u64) {
    cursors.iter_mut().filter(|cursor| cursor.element() == Some(element)).for_each(Cursor::advance);
}

/// Whether the result keeps an element (spec §A8). `selecting` are the cursors that select it.
fn kept_in_result<'c>(selecting: impl Iterator<Item = &'c Cursor<'c>> + Clone) -> bool {
    match only(selecting.clone()) {
        Some(cursor) => match cursor.edit.kind {
            EditKind::Interpolate(Alpha::ONE) | EditKind::Switch => cursor.kept().in_reference(),
            EditKind::Interpolate(_) => true,
            EditKind::Prune => false,
        },
        None => selecting.into_iter().all(|cursor| cursor.edit.kind != EditKind::Prune),
    }
}

/// The result's bits of an element of a mask that is `base` in the base. Fails with the base's mask element if the masks of the patches say
/// something else.
fn mask_element<'c>(
    dtype: Dtype,
    base: u64,
    selecting: impl Iterator<Item = &'c Cursor<'c>> + Clone,
) -> Result<u64, MaskElement> {
    let mut with_masks = selecting.clone().filter(|cursor| cursor.has_masks()).peekable();
    if with_masks.peek().is_none() {
        return Ok(base);
    }
    let found = MaskElement::new(dtype, base);
    if with_masks.any(|cursor| MaskElement::of(cursor.kept().in_base()) != found) {
        return Err(found);
    }
    Ok(if kept_in_result(selecting) { one(dtype) } else { 0 })
}

/// The bits of 1, which a mask holds for a weight that is kept.
pub(super) fn one(dtype: Dtype) -> u64 {
    dtype.float().map_or(1, |float| match float.round(1.0) {
        Rounded::Finite(bits) | Rounded::NotFinite(bits) => bits,
    })
}

/// The meaning of an element of a mask.
#[derive(Debug, Clone, Copy, PartialEq)]
enum MaskElement {
    /// 1.
    Kept,
    /// 0.
    Pruned,
    /// Neither: the mask is malformed.
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

    /// The error that a patch's mask says something else of element `index` of `weights`.
    fn error(self, weights: Tensor<'_>, index: u64) -> Error {
        match self {
            Self::Other(value) => MaskFault::Value { tensor: weights.info.name.clone(), index, value }.into(),
            _ => mask_differs(weights, index, self == Self::Kept),
        }
    }
}

/// The error that the base's mask differs from the patch's. `kept` is what the base's mask says.
pub(super) fn mask_differs(weights: Tensor<'_>, index: u64, kept: bool) -> Error {
    Refusal::Mask { tensor: weights.info.name.clone(), index, kept }.into()
}

impl Cursor<'_> {
    /// Alpha, and the deltas of a block, if they give the result by themselves: those of an exact patch without masks, on its own base,
    /// and interpolated. Of what has no alpha but 1, only at 1.
    pub(super) fn own_deltas<'d>(&self, dtype: Dtype, decoded: &'d Decoded) -> Option<(Alpha, &'d [u64])> {
        match (self.edit.kind, &decoded.deltas, &decoded.masks) {
            (EditKind::Interpolate(alpha), Deltas::Ulp(deltas), None) if !self.added => {
                (alpha == Alpha::ONE || dtype.float().is_some()).then_some((alpha, deltas))
            }
            _ => None,
        }
    }

    /// The next element to edit, by its flat index.
    fn element(&self) -> Option<u64> {
        let (start, decoded) = self.blocks.get(self.block)?;
        Some(start + u64::from(decoded.positions[self.entry]))
    }

    fn advance(&mut self) {
        self.entry += 1;
        if self.blocks.get(self.block).is_some_and(|(_, decoded)| self.entry == decoded.positions.len()) {
            (self.block, self.entry) = (self.block + 1, 0);
        }
    }

    fn has_masks(&self) -> bool {
        self.blocks[self.block].1.masks.is_some()
    }

    /// Which sides keep the next element.
    fn kept(&self) -> Kept {
        self.blocks[self.block].1.kept(self.entry)
    }

    /// Reference minus base at the next element, in value; `None` where elements are no floats.
    fn delta(&self, dtype: Dtype, base: u64) -> Option<f64> {
        let (_, decoded) = &self.blocks[self.block];
        // On another base, the delta is the one between the patch's own base and its reference.
        let patch_base = decoded.carried_base().filter(|_| self.added).map_or(base, |carried| carried[self.entry]);
        decoded.delta(self.entry, dtype, patch_base)
    }

    /// The bits of the next element after a mask switch (spec §A7).
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{applied, contents, floats, portable};
    use proptest::prelude::*;

    /// The base's elements, and those of several references: the same ones, but for some.
    fn base_and_references() -> impl Strategy<Value = (Vec<f32>, Vec<Vec<f32>>)> {
        (1usize..200, 1usize..4).prop_flat_map(|(n, references)| {
            let changed = prop::option::weighted(0.4, -4.0f32..4.0);
            let changes = prop::collection::vec(prop::collection::vec(changed, n), references);
            (prop::collection::vec(-4.0f32..4.0, n), changes).prop_map(|(base, changes)| {
                let reference = |changes: Vec<Option<f32>>| {
                    changes.into_iter().zip(&base).map(|(change, base)| change.unwrap_or(*base)).collect()
                };
                let references = changes.into_iter().map(reference).collect();
                (base, references)
            })
        })
    }

    /// One element after the other, as spec §A3 and §A5 say: base + the sum of alpha * (reference - base) in double precision,
    /// rounded once; the reference's own bits where one patch alone selects the element, at alpha 1.
    fn expected(base: &[f32], references: &[Vec<f32>], alphas: &[f64]) -> Vec<f32> {
        let element = |at: usize| {
            let mut selecting: Vec<(f64, f32)> = Vec::new();
            for (reference, alpha) in references.iter().zip(alphas) {
                if reference[at].to_bits() != base[at].to_bits() && *alpha != 0.0 {
                    selecting.push((*alpha, reference[at]));
                }
            }
            if let [(1.0, reference)] = selecting[..] {
                return reference;
            }
            let mut sum = f64::from(base[at]);
            for (alpha, reference) in selecting {
                sum += alpha * (f64::from(reference) - f64::from(base[at]));
            }
            sum as f32
        };
        (0..base.len()).map(element).collect()
    }

    proptest! {
        #[test]
        fn edits_give_what_a_loop_over_the_elements_gives(
            (base, references) in base_and_references(),
            alphas in prop::collection::vec(prop_oneof![Just(0.0), Just(1.0), -3.0f64..3.0], 3),
        ) {
            let checkpoint = floats(&[("w", &base)]);
            let edits: Vec<Edit> = references
                .iter()
                .zip(&alphas)
                .map(|(reference, alpha)| portable(&checkpoint, &floats(&[("w", reference)]), *alpha))
                .collect();
            let expected = floats(&[("w", &expected(&base, &references, &alphas))]);
            prop_assert_eq!(applied(&checkpoint, &edits), contents(&expected));
        }
    }

    #[test]
    fn alpha_1_gives_the_references_bits_and_alpha_0_the_bases() {
        let signalling_nan = f32::from_bits(0x7fa0_0001);
        let base = floats(&[("w", &[0.0, -0.0, 1.0, f32::NAN, f32::INFINITY, 5.0])]);
        let reference = floats(&[("w", &[-0.0, 0.0, signalling_nan, 2.0, f32::MIN_POSITIVE / 2.0, 5.0])]);
        assert_eq!(applied(&base, &[portable(&base, &reference, 1.0)]), contents(&reference));
        assert_eq!(applied(&base, &[portable(&base, &reference, 0.0)]), contents(&base));
    }

    #[test]
    fn a_weight_of_several_patches_is_their_sum_also_at_alpha_1() {
        let base = floats(&[("w", &[1.0, 1.0])]);
        let (first, second) = (floats(&[("w", &[3.0, 1.0])]), floats(&[("w", &[2.0, 5.0])]));
        let edits = [portable(&base, &first, 1.0), portable(&base, &second, 1.0)];
        assert_eq!(applied(&base, &edits), contents(&floats(&[("w", &[4.0, 5.0])])));
    }

    #[test]
    fn pruning_sets_selected_weights_to_0() {
        let (base, reference) = (floats(&[("w", &[1.0, -2.0, 3.0])]), floats(&[("w", &[1.0, -2.5, 4.0])]));
        let edit = Edit { kind: EditKind::Prune, ..portable(&base, &reference, 1.0) };
        assert_eq!(applied(&base, &[edit]), contents(&floats(&[("w", &[1.0, 0.0, 0.0])])));
    }

    #[test]
    fn a_mask_holds_0_and_1_in_its_own_dtype() {
        assert_eq!([Dtype::Bool, Dtype::U8, Dtype::F16, Dtype::F32].map(one), [1, 1, 0x3c00, 0x3f80_0000]);
        let says = |value: f32| MaskElement::new(Dtype::F32, value.to_bits().into());
        assert_eq!([says(1.0), says(0.0), says(-0.0)], [MaskElement::Kept, MaskElement::Pruned, MaskElement::Pruned]);
        assert_eq!(says(0.5), MaskElement::Other(0.5));
    }
}

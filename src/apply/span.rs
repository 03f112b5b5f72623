//! What edits change in one span of a tensor in memory. Of blocks whose positions are coded without the base, only the selected elements are
//! read.

use super::memory::Part;
use super::plan::Plan;
use super::tensor::edit_mask;
use crate::checkpoint::Tensor;
use crate::digest::{Digest, Hasher};
use crate::dtype::Width;
use crate::edit::Alpha;
use crate::error::Error;
use crate::format::block::encode::values_digest;
use crate::patch::Decoded;
use std::borrow::Cow;
use std::ops::Range;

/// Elements are computed this many at a time, so that what is between two steps stays in the processor's cache.
const COMPUTED: usize = 1 << 12;

/// Elements that change.
#[derive(Default)]
struct Listed {
    places: Vec<u32>,
    bits: Vec<u8>,
}

impl From<Listed> for Part {
    fn from(Listed { places, bits }: Listed) -> Self {
        Self { places: Some(places), bits }
    }
}

impl Plan<'_> {
    /// What becomes of one span of a tensor, as [`Plan::edits`] finds it.
    pub(super) fn span_changes(&self, tensor: Tensor<'_>, span: &Range<u64>) -> Result<Part, Error> {
        Ok(self.changes_and_values(tensor, span, false)?.0)
    }

    /// As [`Plan::span_changes`]. With `values`, of a patch alone on its own base, also returns the digest of the base's values at the
    /// selected elements of each of its blocks in the span (spec §11.2).
    pub(super) fn changes_and_values(
        &self,
        tensor: Tensor<'_>,
        span: &Range<u64>,
        values: bool,
    ) -> Result<(Part, Vec<Digest>), Error> {
        let masked = self.companions.get(&tensor.info.name).copied();
        let (dtype, bytes) = (tensor.info.dtype, tensor.elements(span.clone()));
        let width = dtype.width();
        if let Some(mut block) = self.dense_block(tensor, span)? {
            let mut result = bytes.to_vec();
            block.add(0, &mut result);
            block.finish()?;
            // The selected elements of a dense block are those that differ.
            let digests = if values { vec![differing_digest(width, bytes, &result)] } else { Vec::new() };
            return Ok((Part { places: None, bits: result }, digests));
        }
        let mut cursors = self.decode(masked.unwrap_or(tensor), span)?;
        let mut digests = Vec::new();
        if let ([cursor], None) = (&cursors[..], masked) {
            let mut listed = Listed::default();
            let all_own = cursor.blocks.iter().all(|(_, decoded)| cursor.own_deltas(dtype, decoded).is_some());
            for (start, decoded) in &cursor.blocks {
                let bases = base_bits(width, &bytes[(start - span.start) as usize * width.bytes()..], decoded);
                if values {
                    digests.push(values_digest(dtype, &bases));
                }
                if all_own && let Some((alpha, deltas)) = cursor.own_deltas(dtype, decoded) {
                    let block = OwnBlock { start: *start, positions: &decoded.positions, bases: &bases, deltas };
                    self.list(tensor, span.start, alpha, &block, &mut listed)?;
                }
            }
            if all_own {
                return Ok((listed.into(), digests));
            }
        }
        let mut edits = Vec::new();
        match masked {
            Some(weights) => edit_mask(tensor, weights, span, bytes, &mut cursors, &mut edits)?,
            None => self.edit_weights(tensor, span, bytes, &mut cursors, &mut edits)?,
        }
        let (places, bits): (Vec<u32>, Vec<u64>) = edits.into_iter().unzip();
        let mut listed = Listed { places, bits: Vec::new() };
        width.store_all(&bits, &mut listed.bits);
        Ok((listed.into(), digests))
    }

    /// Lists what becomes of the elements that a block selects.
    fn list(
        &self,
        tensor: Tensor<'_>,
        span: u64,
        alpha: Alpha,
        block: &OwnBlock<'_>,
        listed: &mut Listed,
    ) -> Result<(), Error> {
        let width = tensor.info.dtype.width();
        let OwnBlock { start, positions, bases, deltas } = block;
        listed.places.extend(positions.iter().map(|position| (start - span) as u32 + position));
        listed.bits.reserve(positions.len() * width.bytes());
        let (mut bits, mut bytes) = (Vec::new(), Vec::new());
        let parts = positions.chunks(COMPUTED).zip(bases.chunks(COMPUTED)).zip(deltas.chunks(COMPUTED));
        for ((positions, bases), deltas) in parts {
            bits.clear();
            bits.extend_from_slice(bases);
            let elements = positions.iter().map(|position| start + u64::from(*position));
            self.own_results(alpha, tensor, elements, &mut bits, deltas)?;
            width.store_all(&bits, &mut bytes);
            listed.bits.extend_from_slice(&bytes);
        }
        Ok(())
    }
}

/// A block that is decoded and gives the result by itself, as [`Cursor::own_deltas`](super::tensor::Cursor::own_deltas) says.
struct OwnBlock<'d> {
    /// Its first element.
    start: u64,
    positions: &'d [u32],
    bases: &'d [u64],
    deltas: &'d [u64],
}

/// The base's bits at the elements that a block selects. `bytes` begin with the base's elements of the block.
fn base_bits<'d>(width: Width, bytes: &[u8], decoded: &'d Decoded) -> Cow<'d, [u64]> {
    // Those that a block of another base carries are that one's.
    match &decoded.base_bits {
        Some(bits) if !decoded.carries_base => Cow::Borrowed(bits),
        _ => {
            let mut bits = Vec::with_capacity(decoded.positions.len());
            width.load_at(bytes, decoded.positions.iter().map(|position| *position as usize), &mut bits);
            Cow::Owned(bits)
        }
    }
}

/// The digest of the elements of `base` that differ from those of `result`.
fn differing_digest(width: Width, base: &[u8], result: &[u8]) -> Digest {
    match width {
        Width::W1 => differing::<1>(base, result),
        Width::W2 => differing::<2>(base, result),
        Width::W4 => differing::<4>(base, result),
        Width::W8 => differing::<8>(base, result),
    }
}

fn differing<const N: usize>(base: &[u8], result: &[u8]) -> Digest {
    let mut hasher = Hasher::default();
    let mut room = [[0; N]; COMPUTED + 1];
    let (base, result) = (base.as_chunks::<N>().0, result.as_chunks::<N>().0);
    for (base, result) in base.chunks(COMPUTED).zip(result.chunks(COMPUTED)) {
        // Every element is written; one that does not differ is overwritten by the next one. So there are no branches.
        let mut n = 0;
        for (base, result) in base.iter().zip(result) {
            room[n] = *base;
            n += usize::from(base != result);
        }
        hasher.update(room[..n].as_flattened());
    }
    hasher.finish()
}

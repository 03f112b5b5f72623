//! Whether a checkpoint is the base of a patch (spec §12.4).

use crate::checkpoint::pair::PrefixMap;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::context::{Cancelled, Context};
use crate::digest::Digest;
use crate::dtype::Dtype;
use crate::error::Error;
use crate::format::block::{PositionCodec, Streams};
use crate::format::tensor_table::{BlockEntry, TensorEntry};
use crate::format::{Invalid, Patch};
use crate::patch::decode::{BlockError, decode};
use crate::patch::gather::values_digest;
use crate::patch::{BaseBlock, DecodedBlock};
use rayon::prelude::*;
use std::ops::Range;
use std::path::Path;

/// How a base is checked, besides names, dtypes and shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// The base's values at the selected positions. Decodes the patch; reads only what it must.
    Quick,
    /// The digest of every tensor that the patch changes.
    Full,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fit {
    /// Tensors that are not the base's, by name.
    pub differences: Vec<(String, Difference)>,
    /// What the checkpoint is.
    pub state: BaseState,
}

/// What a checkpoint is to a patch, as far as digests tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseState {
    /// Its base.
    Base,
    /// What it produces at alpha 1.
    Result,
    /// Its reference.
    Reference,
    /// None of these.
    Unknown,
}

/// How a tensor differs from the patch's base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// It is not there.
    Missing,
    /// It has another dtype.
    Dtype {
        /// Here.
        found: Dtype,
        /// In the patch.
        expected: Dtype,
    },
    /// It has another shape.
    Shape {
        /// Here.
        found: Vec<u64>,
        /// In the patch.
        expected: Vec<u64>,
    },
    /// It has other bytes.
    Digest {
        /// Here.
        found: Digest,
        /// In the patch.
        expected: Digest,
    },
    /// It has other values at selected positions.
    Selected,
    /// No weight of an ONNX file is it or its transpose.
    Unbound,
    /// Its elements are equal, and several weights of an ONNX file may be it.
    Constant,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Difference::Missing => f.write_str("not in this checkpoint"),
            Difference::Dtype { found, expected } => write!(f, "dtype is {found}, the patch expects {expected}"),
            Difference::Shape { found, expected } => write!(f, "shape is {found:?}, the patch expects {expected:?}"),
            Difference::Digest { found, expected } => {
                write!(f, "digest is {}…, the patch expects {}…", found.short(), expected.short())
            }
            Difference::Unbound => f.write_str("no initializer of this ONNX file is equal to it or its transpose"),
            Difference::Constant => {
                f.write_str("its elements are all equal, and it can not be told from other weights of this ONNX file")
            }
            Difference::Selected => f.write_str("values at selected positions differ"),
        }
    }
}

/// The elements of a block of a tensor of `elements` elements.
pub(crate) fn block_elements(block_log2: u32, index: u64, elements: u64) -> Range<u64> {
    let start = index << block_log2;
    start..((index + 1) << block_log2).min(elements)
}

/// The base's tensor that a patch's entry is about.
pub(super) fn base_tensor<'a>(
    base: &'a Checkpoint,
    entry: &TensorEntry,
    prefix: Option<&PrefixMap>,
) -> Option<Tensor<'a>> {
    match prefix {
        Some(prefix) => base.tensor(&prefix.apply(&entry.name)),
        None => base.tensor(&entry.name),
    }
}

/// The base's elements that a block is about.
pub(crate) fn base_block<'a>(
    base: &'a Checkpoint,
    patch: &Patch,
    entry: &TensorEntry,
    block: &BlockEntry,
    prefix: Option<&PrefixMap>,
) -> Option<BaseBlock<'a>> {
    let range = block_elements(patch.table.block_log2, block.index, entry.elements());
    base_tensor(base, entry, prefix).map(|tensor| BaseBlock::new(tensor, range))
}

/// Checks whether `base` is the base of `patch`, which is at `path`. `prefix` maps the patch's names to the base's.
///
/// [`Check::Full`] hashes every tensor that the patch changes, once, in parallel. [`Check::Quick`] decodes
/// the patch and hashes the base's values at the selected positions; where positions are coded relative to the base it
/// also walks the base's elements once.
///
/// # Errors
/// I/O on the patch, R18 to R20, cancellation. That the base differs is not an error but an answer.
pub fn fit(
    base: &Checkpoint,
    patch: &Patch,
    path: &Path,
    check: Check,
    prefix: Option<&PrefixMap>,
    context: &Context<'_>,
) -> Result<Fit, Error> {
    let fit = fit_of_mapped(base, patch, path, check, prefix, context);
    base.unchanged()?;
    fit
}

fn fit_of_mapped(
    base: &Checkpoint,
    patch: &Patch,
    path: &Path,
    check: Check,
    prefix: Option<&PrefixMap>,
    context: &Context<'_>,
) -> Result<Fit, Error> {
    let mut differences = Vec::new();
    let mut tensors = Vec::new();
    for entry in &patch.table.tensors {
        let difference = match base_tensor(base, entry, prefix) {
            None => Difference::Missing,
            Some(tensor) if tensor.info.dtype != entry.dtype => {
                Difference::Dtype { found: tensor.info.dtype, expected: entry.dtype }
            }
            Some(tensor) if tensor.info.shape != entry.shape => {
                Difference::Shape { found: tensor.info.shape.clone(), expected: entry.shape.clone() }
            }
            Some(tensor) => {
                tensors.push((entry, tensor));
                continue;
            }
        };
        differences.push((entry.name.clone(), difference));
    }
    if !differences.is_empty() {
        return Ok(Fit { differences, state: BaseState::Unknown });
    }
    context.begin("checking the base", tensors.iter().map(|(_, tensor)| tensor.info.bytes()).sum());
    let hash = patch.table.roots.hash;
    // A patch that does not know its base's selected values can only be checked in full.
    let check = if patch.table.roots.selected.is_known() { check } else { Check::Full };
    if check == Check::Quick && selected_values_fit(patch, path, &tensors, context)? {
        return Ok(Fit { differences, state: BaseState::Base });
    }
    // A quick check that fails is worth a full one: only that can say what the checkpoint is instead.
    let digests = tensors
        .par_iter()
        .map(|(_, tensor)| tensor.digest(hash, context))
        .collect::<Result<Vec<Digest>, Cancelled>>()?;
    for ((entry, _), found) in tensors.iter().zip(&digests) {
        let expected = entry.base_digest;
        if *found != expected {
            differences.push((entry.name.clone(), Difference::Digest { found: *found, expected }));
        }
    }
    let root = hash.root(&digests);
    let state = match root {
        _ if differences.is_empty() => BaseState::Base,
        root if root == patch.table.roots.result => BaseState::Result,
        root if root == patch.table.roots.reference => BaseState::Reference,
        _ => BaseState::Unknown,
    };
    if check == Check::Quick && differences.is_empty() {
        // The tensors are right and yet their values were not: the patch's own digest of them is wrong.
        let tensor = tensors.first().map_or_else(String::new, |(entry, _)| entry.name.clone());
        differences.push((tensor, Difference::Selected));
    }
    Ok(Fit { differences, state })
}

/// Whether the values at the selected positions are the base's.
fn selected_values_fit(
    patch: &Patch,
    path: &Path,
    tensors: &[(&TensorEntry, Tensor<'_>)],
    context: &Context<'_>,
) -> Result<bool, Error> {
    let units: Vec<_> =
        tensors.iter().flat_map(|(entry, tensor)| entry.blocks.iter().map(move |b| (*entry, *tensor, b))).collect();
    let hash = patch.table.roots.hash;
    let digests = units
        .par_iter()
        .map(|(entry, tensor, block)| {
            let range = block_elements(patch.table.block_log2, block.index, entry.elements());
            let base = BaseBlock::new(*tensor, range.clone());
            context.advance((range.end - range.start) * entry.dtype.width().bytes() as u64)?;
            match decode_block(patch, path, entry, block, Some(&base)) {
                Ok(decoded) => Ok(Some(values_digest(hash, entry.dtype, &base.bits_at(&decoded.positions)))),
                // Positions relative to another base need not make sense; that answers the question.
                Err(DecodeError { of_base: true, .. }) => Ok(None),
                Err(DecodeError { error, .. }) => Err(error),
            }
        })
        .collect::<Result<Vec<Option<Digest>>, Error>>()?;
    Ok(digests.iter().all(Option::is_some) && hash.root(digests.iter().flatten()) == patch.table.roots.selected)
}

/// Why a block could not be decoded.
#[derive(Debug)]
pub struct DecodeError {
    /// The error, if the base is the right one.
    pub error: Error,
    /// Whether a wrong base could be the reason.
    pub of_base: bool,
}

/// Reads, verifies and decodes one block.
pub(crate) fn decode_block(
    patch: &Patch,
    path: &Path,
    entry: &TensorEntry,
    block: &BlockEntry,
    base: Option<&BaseBlock<'_>>,
) -> Result<DecodedBlock, DecodeError> {
    let sure = |error| DecodeError { error, of_base: false };
    let bytes = patch.block(entry, block).map_err(|e| sure(Error::of_patch(path, e)))?;
    decode_bytes(patch, path, (entry, block), &bytes, base)
}

/// Decodes the verified `bytes` of one block.
pub(crate) fn decode_bytes(
    patch: &Patch,
    path: &Path,
    (entry, block): (&TensorEntry, &BlockEntry),
    bytes: &[u8],
    base: Option<&BaseBlock<'_>>,
) -> Result<DecodedBlock, DecodeError> {
    let range = block_elements(patch.table.block_log2, block.index, entry.elements());
    let elements = (range.end - range.start) as u32;
    decode(bytes, entry.dtype, elements, block.selected, base).map_err(|reason| {
        let (tensor, block) = (entry.name.clone(), block.index);
        let invalid = match reason {
            BlockError::Streams(reason) => Invalid::Streams { tensor, block, reason },
            BlockError::Content(reason) => Invalid::Content { tensor, block, reason },
            // Callers without a base ask `needs_base` first.
            BlockError::NeedsBase => {
                let reason = crate::format::invalid::StreamFault::Missing(3);
                Invalid::Streams { tensor, block, reason }
            }
        };
        let of_base = matches!(invalid, Invalid::Content { .. }) && uses_base(bytes);
        DecodeError { error: Error::invalid(path, invalid), of_base }
    })
}

fn uses_base(block: &[u8]) -> bool {
    Streams::read(block).is_ok_and(|streams| needs_base(&streams))
}

/// Whether a block can not be decoded without its base.
pub(crate) fn needs_base(streams: &Streams<&[u8]>) -> bool {
    use crate::format::block::DeltaCodec;
    streams.positions.0 == PositionCodec::ClassGaps
        || (streams.deltas.0 == DeltaCodec::ClassUlp && streams.base_values.is_none())
}

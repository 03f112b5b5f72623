//! Whether a checkpoint is the base of a patch (spec §12.4).

use crate::checkpoint::names::is_of_adapter;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::context::{Cancelled, Context};
use crate::digest::Digest;
use crate::error::{BaseState, Difference, Error};
use crate::format::Invalid;
use crate::format::block::encode::values_digest;
use crate::format::block::{BaseElements, DecodedBlock};
use crate::format::tensor_table::{BlockEntry, TensorEntry};
use crate::pair::PrefixMap;
use crate::patch::{Patch, TensorBlock, Undecoded};
use rayon::prelude::*;

/// How a base is checked, besides names, dtypes and shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Check {
    /// The base's values at the selected positions. Decodes the patch; reads only what it must.
    Quick,
    /// The digest of every tensor that the patch changes.
    #[default]
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
) -> Option<TensorBlock<'a>> {
    let range = patch.table.elements_of(entry, block);
    base_tensor(base, entry, prefix).map(|tensor| TensorBlock::new(tensor, range))
}

/// Checks whether `base` is the base of `patch`. `prefix` maps the patch's names to the base's.
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
    check: Check,
    prefix: Option<&PrefixMap>,
    context: &Context<'_>,
) -> Result<Fit, Error> {
    let fit = fit_of_mapped(base, patch, check, prefix, context);
    base.unchanged()?;
    fit
}

fn fit_of_mapped(
    base: &Checkpoint,
    patch: &Patch,
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
        let for_adapter = patch.table.tensors.iter().any(|entry| is_of_adapter(&entry.name));
        let state = if base.is_adapter() && !for_adapter { BaseState::Adapter } else { BaseState::Unknown };
        return Ok(Fit { differences, state });
    }
    context.begin("checking the base", tensors.iter().map(|(_, tensor)| tensor.info.bytes()).sum());
    let hash = patch.table.roots.hash;
    // A patch that does not know its base's selected values can only be checked in full.
    let check = if patch.table.roots.selected.is_known() { check } else { Check::Full };
    let selected = match check {
        Check::Quick => selected_root(patch, &tensors, context)?,
        Check::Full => None,
    };
    if selected == Some(patch.table.roots.selected) {
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
    if let (Some(found), true) = (selected, differences.is_empty()) {
        // The tensors are right and yet their values were not: the patch's own digest of them is wrong.
        return Err(root_differs(patch, "the base's selected values", found, patch.table.roots.selected));
    }
    Ok(Fit { differences, state })
}

fn root_differs(patch: &Patch, what: &'static str, found: Digest, expected: Digest) -> Error {
    patch.invalid(Invalid::Root { what, found, expected }).into()
}

/// The digest over the values at the selected positions; none if positions make no sense in this base.
fn selected_root(
    patch: &Patch,
    tensors: &[(&TensorEntry, Tensor<'_>)],
    context: &Context<'_>,
) -> Result<Option<Digest>, Error> {
    let units: Vec<_> =
        tensors.iter().flat_map(|(entry, tensor)| entry.blocks.iter().map(move |b| (*entry, *tensor, b))).collect();
    let hash = patch.table.roots.hash;
    let digests = units
        .par_iter()
        .map(|(entry, tensor, block)| {
            let range = patch.table.elements_of(entry, block);
            let base = TensorBlock::new(*tensor, range.clone());
            context.advance((range.end - range.start) * entry.dtype.width().bytes() as u64)?;
            match patch.decode(entry, block, Some(&base)) {
                Ok(decoded) => Ok(Some(values_digest(hash, entry.dtype, &base.bits_at(&decoded.positions)))),
                // Positions relative to another base need not make sense; that answers the question.
                Err(Undecoded { of_base: true, .. }) => Ok(None),
                Err(Undecoded { error, .. }) => Err(error.into()),
            }
        })
        .collect::<Result<Vec<Option<Digest>>, Error>>()?;
    Ok(digests.into_iter().collect::<Option<Vec<Digest>>>().map(|digests| hash.root(&digests)))
}

/// Checks that the portable `patch` carries the values of which it has the digest: those of its base (spec §9.8).
///
/// Decodes the patch, in parallel. Without a digest there is nothing to check.
///
/// # Errors
/// I/O, R18 to R21, cancellation.
pub(crate) fn carried_values_fit(patch: &Patch, context: &Context<'_>) -> Result<(), Error> {
    let blocks: Vec<_> =
        patch.table.tensors.iter().flat_map(|entry| entry.blocks.iter().map(move |block| (entry, block))).collect();
    let digests = blocks.par_iter().map(|(entry, block)| {
        context.advance(0)?;
        let decoded = patch.decode(entry, block, None).map_err(|e| e.error)?;
        Ok(carried_digest(patch, entry, &decoded))
    });
    carried_root_fits(patch, &digests.collect::<Result<Vec<_>, Error>>()?)
}

/// The digest of the base's values that a block carries.
pub(crate) fn carried_digest(patch: &Patch, entry: &TensorEntry, decoded: &DecodedBlock) -> Option<Digest> {
    decoded.carried_base().map(|bits| values_digest(patch.table.roots.hash, entry.dtype, bits))
}

/// Compares the digests of what every block carries of its base with the digest over all of them, if every block carries it.
pub(crate) fn carried_root_fits(patch: &Patch, digests: &[Option<Digest>]) -> Result<(), Error> {
    let Some(digests) = digests.iter().copied().collect::<Option<Vec<Digest>>>() else { return Ok(()) };
    root_fits(patch, "the base values that blocks carry", &digests, patch.table.roots.selected)
}

/// Compares the digest over `digests` with a root, if that is known.
pub(crate) fn root_fits(patch: &Patch, what: &'static str, digests: &[Digest], expected: Digest) -> Result<(), Error> {
    let found = patch.table.roots.hash.root(digests);
    if found == expected || !expected.is_known() { Ok(()) } else { Err(root_differs(patch, what, found, expected)) }
}

/// Checks that what `patch` says of its reference and of its result tensor by tensor (spec §12.5) is what it
/// says of them in all.
///
/// # Errors
/// R21.
pub(crate) fn counterparts_fit(patch: &Patch) -> Result<(), Error> {
    let counterparts: Option<Vec<_>> = patch.table.tensors.iter().map(|entry| entry.counterparts).collect();
    let Some(counterparts) = counterparts else { return Ok(()) };
    let [references, results]: [Vec<Digest>; 2] = [
        counterparts.iter().map(|there| there.reference).collect(),
        counterparts.iter().map(|there| there.result).collect(),
    ];
    root_fits(patch, "the reference's tensors", &references, patch.table.roots.reference)?;
    root_fits(patch, "the result's tensors", &results, patch.table.roots.result)
}

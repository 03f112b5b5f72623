//! Whether a checkpoint is the base of a patch (spec §A2).

use crate::checkpoint::names::is_of_adapter;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::context::{Cancelled, Context};
use crate::digest::Digest;
use crate::error::{BaseState, Difference, Error};
use crate::format::Invalid;
use crate::format::block::BaseElements;
use crate::format::block::encode::values_digest;
use crate::format::tensor_table::{BlockEntry, TensorEntry};
use crate::pair::PrefixMap;
use crate::patch::{Patch, TensorBlock, Undecoded};
use rayon::prelude::*;
use serde::Serialize;

/// How a base is checked, besides its tensors' names, dtypes and shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub enum Check {
    /// Compares the base's values at the selected positions. Decodes the patch, and reads only these values where positions are
    /// base-free.
    Quick,
    /// Compares the digest of every tensor that the patch changes.
    #[default]
    Full,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fit {
    /// Tensors that differ from the base's, by their names in the patch.
    pub differences: Vec<(String, Difference)>,
    /// Which state of the model the checkpoint holds.
    pub state: BaseState,
}

/// The base's tensor that an entry of a patch changes.
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

/// The base's elements that a block of a patch changes.
pub(crate) fn base_block<'a>(
    base: &'a Checkpoint,
    patch: &Patch,
    entry: &TensorEntry,
    block: &BlockEntry,
    prefix: Option<&PrefixMap>,
) -> Option<TensorBlock<'a>> {
    let range = patch.table().elements_of(entry, block);
    base_tensor(base, entry, prefix).map(|tensor| TensorBlock::new(tensor, range))
}

/// Checks whether `base` is the base of `patch`. `prefix` maps the patch's names to the base's.
///
/// [`Check::Full`] hashes every tensor that the patch changes, once, in parallel. [`Check::Quick`] decodes
/// the patch and hashes the base's values at the selected positions; where positions are coded relative to the base it
/// also walks the base's elements once.
///
/// # Errors
/// I/O on the patch, R18 to R20, cancellation. A base that differs is no error: it is in the [`Fit`].
pub fn fit(
    base: &Checkpoint,
    patch: &Patch,
    check: Check,
    prefix: Option<&PrefixMap>,
    context: &Context<'_>,
) -> Result<Fit, Error> {
    let fit = compare(base, patch, check, prefix, context);
    // A map of a file that changed meanwhile can hold anything: then this is the answer, whatever was compared.
    base.unchanged()?;
    fit
}

fn compare(
    base: &Checkpoint,
    patch: &Patch,
    check: Check,
    prefix: Option<&PrefixMap>,
    context: &Context<'_>,
) -> Result<Fit, Error> {
    let tensors = match match_tensors(base, patch, prefix) {
        Ok(tensors) => tensors,
        Err(differences) => return Ok(Fit { differences, state: state_of_other_model(base, patch) }),
    };
    context.begin("checking the base", tensors.iter().map(|(_, tensor)| tensor.info.bytes()).sum());
    let expected = patch.table().roots.selected;
    let selected = match check {
        Check::Quick if expected.is_known() => selected_root(patch, &tensors, context)?,
        // A patch that does not know its base's selected values can only be checked in full.
        Check::Quick | Check::Full => None,
    };
    if selected == Some(expected) {
        return Ok(Fit { differences: Vec::new(), state: BaseState::Base });
    }
    // After a quick check that failed, only a full one can say what the checkpoint is instead.
    let fit = compare_digests(patch, &tensors, context)?;
    match selected {
        // The tensors are right and yet their values were not: the patch's own digest of the values is wrong.
        Some(found) if fit.differences.is_empty() => {
            Err(root_differs(patch, "the base's selected values", found, expected))
        }
        _ => Ok(fit),
    }
}

/// An entry of a patch, and the base's tensor that it changes.
pub(super) type EntryTensor<'p, 'a> = (&'p TensorEntry, Tensor<'a>);

/// The tensors of the base that the patch changes, each with its entry; or those that are missing or have another dtype or shape.
pub(super) fn match_tensors<'a, 'p>(
    base: &'a Checkpoint,
    patch: &'p Patch,
    prefix: Option<&PrefixMap>,
) -> Result<Vec<EntryTensor<'p, 'a>>, Vec<(String, Difference)>> {
    let (mut tensors, mut differences) = (Vec::new(), Vec::new());
    for entry in &patch.table().tensors {
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
    if differences.is_empty() { Ok(tensors) } else { Err(differences) }
}

/// The state of a checkpoint that lacks the patch's tensors: an adapter's weights are a frequent mix-up.
fn state_of_other_model(base: &Checkpoint, patch: &Patch) -> BaseState {
    let patch_is_for_adapter = patch.table().tensors.iter().any(|entry| is_of_adapter(&entry.name));
    if base.is_adapter() && !patch_is_for_adapter { BaseState::Adapter } else { BaseState::Unknown }
}

/// Compares the digest of each tensor with the patch's, and the digest over all of them with those of the patch's result and reference.
fn compare_digests(
    patch: &Patch,
    tensors: &[(&TensorEntry, Tensor<'_>)],
    context: &Context<'_>,
) -> Result<Fit, Cancelled> {
    let roots = &patch.table().roots;
    let digests =
        tensors.par_iter().map(|(_, tensor)| tensor.digest(context)).collect::<Result<Vec<Digest>, Cancelled>>()?;
    let mut differences = Vec::new();
    for ((entry, _), found) in tensors.iter().zip(&digests) {
        let (found, expected) = (*found, entry.base_digest);
        if found != expected {
            differences.push((entry.name.clone(), Difference::Digest { found, expected }));
        }
    }
    let state = match Digest::root(&digests) {
        _ if differences.is_empty() => BaseState::Base,
        root if root == roots.result => BaseState::Result,
        root if root == roots.reference => BaseState::Reference,
        _ => BaseState::Unknown,
    };
    Ok(Fit { differences, state })
}

fn root_differs(patch: &Patch, what: &'static str, found: Digest, expected: Digest) -> Error {
    patch.invalid(Invalid::Root { what, found, expected }).into()
}

/// The digest over the values at the selected positions; `None` if the positions make no sense in this base.
fn selected_root(
    patch: &Patch,
    tensors: &[(&TensorEntry, Tensor<'_>)],
    context: &Context<'_>,
) -> Result<Option<Digest>, Error> {
    let blocks: Vec<_> = tensors
        .iter()
        .flat_map(|(entry, tensor)| entry.blocks.iter().map(move |block| (*entry, *tensor, block)))
        .collect();
    let digests = blocks
        .par_iter()
        .map(|(entry, tensor, block)| {
            let range = patch.table().elements_of(entry, block);
            let base = TensorBlock::new(*tensor, range.clone());
            context.advance((range.end - range.start) * entry.dtype.width().bytes() as u64)?;
            match patch.decode(entry, block, Some(&base)) {
                Ok(decoded) => Ok(Some(values_digest(entry.dtype, &base.bits_at(&decoded.positions)))),
                // Positions that are relative to another base need not make sense in this one, which answers the question.
                Err(Undecoded { of_base: true, .. }) => Ok(None),
                Err(Undecoded { error, .. }) => Err(error.into()),
            }
        })
        .collect::<Result<Vec<Option<Digest>>, Error>>()?;
    Ok(digests.into_iter().collect::<Option<Vec<Digest>>>().map(|digests| Digest::root(&digests)))
}

/// Checks the base values that the portable `patch` carries against the digest that it declares of them (spec §11.5).
///
/// Decodes the patch, in parallel. Passes a patch that declares no digest.
///
/// # Errors
/// I/O, R18 to R21, cancellation.
pub(crate) fn carried_values_fit(patch: &Patch, context: &Context<'_>) -> Result<(), Error> {
    let blocks: Vec<_> = patch.table().blocks().collect();
    let digests = blocks.par_iter().map(|(entry, block)| {
        context.advance(0)?;
        Ok(patch.check_bytes(entry, block, &patch.block(entry, block)?)?)
    });
    carried_root_fits(patch, &digests.collect::<Result<Vec<_>, Error>>()?)
}

/// Compares the digests of the base values that blocks carry with the digest over all of them. Passes a patch of which any block carries
/// none.
pub(crate) fn carried_root_fits(patch: &Patch, digests: &[Option<Digest>]) -> Result<(), Error> {
    let Some(digests) = digests.iter().copied().collect::<Option<Vec<Digest>>>() else { return Ok(()) };
    root_fits(patch, "the base values that blocks carry", &digests, patch.table().roots.selected)
}

/// Compares the digest over `digests` with the `expected` root. Passes an unknown root.
pub(crate) fn root_fits(patch: &Patch, what: &'static str, digests: &[Digest], expected: Digest) -> Result<(), Error> {
    let found = Digest::root(digests);
    if found == expected || !expected.is_known() { Ok(()) } else { Err(root_differs(patch, what, found, expected)) }
}

/// Checks that the digests of the reference's and the result's tensors (spec §11.4) are those of which the patch declares the roots.
///
/// # Errors
/// R21.
pub(crate) fn counterparts_fit(patch: &Patch) -> Result<(), Error> {
    let counterparts: Option<Vec<_>> = patch.table().tensors.iter().map(|entry| entry.counterparts).collect();
    let Some(counterparts) = counterparts else { return Ok(()) };
    let references: Vec<Digest> = counterparts.iter().map(|tensor| tensor.reference).collect();
    let results: Vec<Digest> = counterparts.iter().map(|tensor| tensor.result).collect();
    root_fits(patch, "the reference's tensors", &references, patch.table().roots.reference)?;
    root_fits(patch, "the result's tensors", &results, patch.table().roots.result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;
    use crate::testing::{checkpoint, floats, patch, vector};

    /// A patch of two tensors, and its base.
    fn base_and_patch() -> (Checkpoint, Patch) {
        let base = floats(&[("a", &[1.0, 2.0]), ("b", &[3.0, 4.0])]);
        let reference = floats(&[("a", &[1.0, 2.5]), ("b", &[3.5, 4.0])]);
        let patch = patch(&base, &reference, crate::testing::Portability::Portable);
        (base, patch)
    }

    fn check(found: &Checkpoint, patch: &Patch, check: Check) -> Fit {
        fit(found, patch, check, None, &Context::silent()).unwrap()
    }

    #[test]
    fn the_base_its_result_and_others_are_told_apart() {
        let (base, patch) = base_and_patch();
        let result = floats(&[("a", &[1.0, 2.5]), ("b", &[3.5, 4.0])]);
        let other = floats(&[("a", &[1.0, 2.0]), ("b", &[3.0, 5.0])]);
        assert_eq!(check(&base, &patch, Check::Full), Fit { differences: Vec::new(), state: BaseState::Base });
        assert_eq!(check(&result, &patch, Check::Full).state, BaseState::Result);
        let Fit { differences, state } = check(&other, &patch, Check::Full);
        assert_eq!(state, BaseState::Unknown);
        assert!(matches!(&differences[..], [(name, Difference::Digest { .. })] if name == "b"), "{differences:?}");
    }

    #[test]
    fn a_reference_that_the_patch_does_not_reach_is_recognized() {
        let base = floats(&[("a", &[1.0, 2.0])]);
        let reference = floats(&[("a", &[1.5, 4.0])]);
        let localize = crate::testing::Localize::largest(crate::testing::Amount::Count(1));
        let options = crate::testing::DiffOptions { localize, ..crate::testing::all_tensors() };
        let patch = crate::testing::diff(&base, &reference, &options, &Context::silent()).unwrap().patch;
        assert_eq!(check(&reference, &patch, Check::Full).state, BaseState::Reference);
        assert_eq!(check(&floats(&[("a", &[1.0, 4.0])]), &patch, Check::Full).state, BaseState::Result);
    }

    #[test]
    fn tensors_that_are_missing_or_of_another_kind_are_named() {
        let (_, patch) = base_and_patch();
        let halves = vector("b", Dtype::F16, &[0, 0]);
        let square = ("a".to_owned(), Dtype::F32, vec![2, 1], vec![0, 0]);
        let found = check(&checkpoint(&[square, halves]), &patch, Check::Full).differences;
        let (found_shape, expected_shape) = (vec![2, 1], vec![2]);
        let expected = [
            ("a".to_owned(), Difference::Shape { found: found_shape, expected: expected_shape }),
            ("b".to_owned(), Difference::Dtype { found: Dtype::F16, expected: Dtype::F32 }),
        ];
        assert_eq!(found, expected);
        let missing = check(&floats(&[("a", &[1.0, 2.0])]), &patch, Check::Full).differences;
        assert_eq!(missing, [("b".to_owned(), Difference::Missing)]);
    }

    #[test]
    fn an_adapter_is_recognized_where_the_patch_is_for_its_model() {
        let (_, patch) = base_and_patch();
        let adapter = floats(&[("a.lora_A.weight", &[1.0])]);
        assert_eq!(check(&adapter, &patch, Check::Full).state, BaseState::Adapter);
    }

    #[test]
    fn a_quick_check_sees_selected_values_only() {
        let (_, patch) = base_and_patch();
        let elsewhere = floats(&[("a", &[9.0, 2.0]), ("b", &[3.0, 4.0])]);
        let selected = floats(&[("a", &[1.0, 9.0]), ("b", &[3.0, 4.0])]);
        assert_eq!(check(&elsewhere, &patch, Check::Quick).state, BaseState::Base);
        assert_eq!(check(&elsewhere, &patch, Check::Full).differences.len(), 1);
        assert_eq!(check(&selected, &patch, Check::Quick).differences.len(), 1);
    }
}

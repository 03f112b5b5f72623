//! The inverse of a patch: its base is the patch's reference, and its reference the patch's base.

use super::content::{Content, Element, Exact};
use super::draft::Draft;
use super::{check_base, must_be_exact, must_be_justified};
use crate::apply::{Edit, carried_values_fit, counterparts_fit};
use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Obstacle};
use crate::format::block::encode::Portability;
use crate::format::block::{InMemory, Kept};
use crate::format::builder::{NewPatch, TensorParts};
use crate::format::limits::BLOCK_LOG2;
use crate::format::metadata::{Metadata, Source};
use crate::format::tensor_table::{Counterparts, TensorEntry};
use crate::patch::Patch;

/// The inverse of a patch, losslessly: the inverse of the inverse is the patch.
///
/// A portable patch needs no checkpoint. Any other patch needs its base, and must give its reference at alpha 1, as a patch of every
/// difference does: then the reference is computed from the base, block by block.
///
/// # Errors
/// [Kinds](crate::ErrorKind) `AlgebraReduced`, `AlgebraNeedsBase`, `AlgebraNoInverse`; a base that does not fit.
pub fn invert(edit: &Edit, base: Option<&Checkpoint>, context: &Context<'_>) -> Result<Patch, Error> {
    let table = edit.patch.table();
    let carried = must_be_exact(edit, context)?;
    let no_inverse = |reason| Error::from(Obstacle::NoInverse { patch: edit.patch.name().to_owned(), reason });
    let known = table.tensors.iter().all(|entry| entry.counterparts.is_some());
    if carried.is_portable() && known && must_be_justified(edit, "invert").is_ok() {
        counterparts_fit(&edit.patch)?;
        carried_values_fit(&edit.patch, context)?;
        return from_patch(edit, context);
    }
    // Said before a base is asked for, which would not help.
    if table.roots.result != table.roots.reference {
        return Err(no_inverse("it does not lead to its reference, and does not know its reference's digests"));
    }
    check_base(edit, "invert", base, context)?;
    match base {
        Some(base) => from_base(edit, base, context),
        None => Err(no_inverse("it does not know its reference's digests, and there is no base to compute them from")),
    }
}

/// The metadata of the inverse of the patch with these `metadata`.
fn metadata(metadata: &Metadata) -> Metadata {
    // Where the reference has other names, dtypes or tensors, the base of the inverse is the patch's result, whose files are not known.
    let base = if metadata.pairing.is_none() { metadata.reference.clone() } else { Source::default() };
    let reference = metadata.base.clone();
    Metadata { base, reference, pairing: None, recommended_alpha: None, ..metadata.clone() }
}

/// The content with base and reference exchanged.
fn exchanged(entry: &TensorEntry, content: Exact) -> Exact {
    let exchanged = content.elements.into_iter().map(|element| {
        let Element { base, reference, kept, .. } = element;
        let kept = Kept::new(entry.dtype, kept.in_reference(), kept.in_base(), base);
        Element { base: reference, reference: base, kept, ..element }
    });
    Exact { elements: exchanged.collect(), ..content }
}

/// The inverse of a portable patch, from the patch alone.
fn from_patch(edit: &Edit, context: &Context<'_>) -> Result<Patch, Error> {
    let mut draft = Draft::new(Portability::Portable, BLOCK_LOG2);
    for entry in &edit.patch.table().tensors {
        let content = Content::read(edit, entry, "invert", None)?.exact(edit, "invert")?;
        let Some(Counterparts { reference, result, inverse_result }) = entry.counterparts else { continue };
        let counterparts =
            Counterparts { reference: entry.base_digest, result: inverse_result, inverse_result: result };
        let parts = TensorParts { base_digest: reference, counterparts: Some(counterparts), ..TensorParts::of(entry) };
        draft.add(parts, &exchanged(entry, content), None);
    }
    draft.finish(metadata(edit.patch.metadata()), known_roots, None, context)
}

/// The digests over the tensors of the reference and of the result. Each is unknown unless all tensors have counterparts.
pub(super) fn known_roots(new: &NewPatch) -> (Digest, Digest) {
    let root = |of: fn(&Counterparts) -> Digest| {
        let digests: Option<Vec<_>> =
            new.tensors.iter().map(|tensor| tensor.parts.counterparts.as_ref().map(of)).collect();
        digests.map_or(Digest::UNKNOWN, |digests| Digest::root(&digests))
    };
    (root(|tensor| tensor.reference), root(|tensor| tensor.result))
}

/// The inverse of a patch that gives its reference at alpha 1, with the reference computed from the `base`.
fn from_base(edit: &Edit, base: &Checkpoint, context: &Context<'_>) -> Result<Patch, Error> {
    let mut draft = Draft::new(Portability::NeedsBase, BLOCK_LOG2);
    context.begin("inverting", 0);
    for entry in &edit.patch.table().tensors {
        let content = exchanged(entry, Content::read(edit, entry, "invert", Some(base))?.exact(edit, "invert")?);
        let place = draft.begin(TensorParts { counterparts: None, ..TensorParts::of(entry) });
        let mut hasher = Hasher::default();
        super::squash::result_blocks(edit, base, entry, context, |index, bytes| {
            hasher.update(bytes);
            draft.add_block(place, &content.block(index), &InMemory { dtype: entry.dtype, bytes });
            Ok(())
        })?;
        draft.set_base_digest(place, hasher.finish());
    }
    let bases: Vec<Digest> = edit.patch.table().tensors.iter().map(|entry| entry.base_digest).collect();
    let root = Digest::root(&bases);
    base.settled(draft.finish(metadata(edit.patch.metadata()), |_| (root, root), None, context))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::Portability;
    use crate::testing::{applied, contents, floats, patch, portable};

    fn pair() -> (Checkpoint, Checkpoint) {
        (floats(&[("a", &[1.0, -0.0, 3.0]), ("b", &[4.0])]), floats(&[("a", &[1.0, 0.0, f32::NAN]), ("b", &[4.5])]))
    }

    #[test]
    fn the_inverse_leads_back_and_its_inverse_is_the_patch() {
        let (base, reference) = pair();
        let edit = portable(&base, &reference, 1.0);
        let inverse = Edit::to_reference(invert(&edit, None, &Context::silent()).unwrap());
        assert_eq!(applied(&reference, std::slice::from_ref(&inverse)), contents(&base));
        let again = invert(&inverse, None, &Context::silent()).unwrap();
        assert_eq!(again.to_bytes().unwrap(), edit.patch.to_bytes().unwrap());
    }

    #[test]
    fn a_patch_that_is_not_portable_is_inverted_on_its_base() {
        let (base, reference) = pair();
        let edit = Edit::to_reference(patch(&base, &reference, Portability::NeedsBase));
        let inverse = invert(&edit, Some(&base), &Context::silent()).unwrap();
        assert_eq!(applied(&reference, &[Edit::to_reference(inverse)]), contents(&base));
    }
}

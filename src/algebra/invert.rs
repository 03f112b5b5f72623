//! The patch from the other side: its base is the reference, its reference the base.

use super::content::{Content, Element, Exact};
use super::draft::Draft;
use super::{check_base, must_be_exact, must_be_justified};
use crate::apply::{Edit, carried_values_fit, counterparts_fit};
use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::digest::Digest;
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
/// A portable patch needs nothing else. Any other one needs its base, and must lead to its reference at alpha 1, as a full
/// delta does: then the reference is made of the base, block by block.
///
/// # Errors
/// [`Obstacle::Reduced`], [`Obstacle::NeedsBase`], [`Obstacle::NoInverse`]; a base that does not fit.
pub fn invert(edit: &Edit, base: Option<&Checkpoint>, context: &Context<'_>) -> Result<Patch, Error> {
    let table = &edit.patch.table;
    let carried = must_be_exact(edit, context)?;
    let no_inverse = |reason| Error::from(Obstacle::NoInverse { patch: edit.patch.name().to_owned(), reason });
    let known = table.tensors.iter().all(|entry| entry.counterparts.is_some());
    if carried.is_portable() && known && must_be_justified(edit, "invert").is_ok() {
        counterparts_fit(&edit.patch)?;
        carried_values_fit(&edit.patch, context)?;
        return from_patch(edit, context);
    }
    check_base(edit, "invert", base, context)?;
    let Some(base) = base.filter(|_| table.roots.result == table.roots.reference) else {
        return Err(no_inverse("it does not lead to its reference, and does not know its reference's digests"));
    };
    from_base(edit, base, context)
}

fn metadata(metadata: &Metadata) -> Metadata {
    // Where the reference has other names, dtypes or tensors, the inverse is for the result, of which no file is known.
    let base = if metadata.pairing.is_none() { metadata.reference.clone() } else { Source::default() };
    let reference = metadata.base.clone();
    Metadata { base, reference, pairing: None, recommended_alpha: None, ..metadata.clone() }
}

/// Base and reference exchanged.
fn exchanged(entry: &TensorEntry, content: Exact) -> Exact {
    let exchanged = content.elements.into_iter().map(|element| {
        let Element { base, reference, kept, .. } = element;
        let kept = Kept::new(entry.dtype, kept.in_reference(), kept.in_base(), base);
        Element { base: reference, reference: base, kept, ..element }
    });
    Exact { elements: exchanged.collect(), ..content }
}

fn from_patch(edit: &Edit, context: &Context<'_>) -> Result<Patch, Error> {
    let mut draft = Draft::new(Portability::Portable, edit.patch.table.roots.hash, BLOCK_LOG2);
    for entry in &edit.patch.table.tensors {
        let content = Content::read(edit, entry, "invert", None)?.exact(edit, "invert")?;
        let Some(there) = entry.counterparts else { continue };
        let counterparts =
            Counterparts { reference: entry.base_digest, result: there.inverse_result, inverse_result: there.result };
        let parts =
            TensorParts { base_digest: there.reference, counterparts: Some(counterparts), ..TensorParts::of(entry) };
        draft.add(parts, &exchanged(entry, content), None);
    }
    draft.finish(metadata(&edit.patch.metadata), known_roots, None, context)
}

/// The roots of the reference and the result, from what is known of each tensor.
pub(super) fn known_roots(new: &NewPatch) -> (Digest, Digest) {
    let root = |of: fn(&Counterparts) -> Digest| {
        let digests: Option<Vec<_>> =
            new.tensors.iter().map(|tensor| tensor.parts.counterparts.as_ref().map(of)).collect();
        digests.map_or(Digest::UNKNOWN, |digests| new.hash.root(&digests))
    };
    (root(|there| there.reference), root(|there| there.result))
}

fn from_base(edit: &Edit, base: &Checkpoint, context: &Context<'_>) -> Result<Patch, Error> {
    let hash = edit.patch.table.roots.hash;
    let mut draft = Draft::new(Portability::NeedsBase, hash, BLOCK_LOG2);
    context.begin("inverting", 0);
    for entry in &edit.patch.table.tensors {
        let content = exchanged(entry, Content::read(edit, entry, "invert", Some(base))?.exact(edit, "invert")?);
        let place = draft.begin(TensorParts { counterparts: None, ..TensorParts::of(entry) });
        let mut hasher = hash.hasher();
        super::squash::result_blocks(edit, base, entry, context, |index, bytes| {
            hasher.update(bytes);
            let own = content.block(index);
            draft.add_block(place, &own, &InMemory { dtype: entry.dtype, bytes });
            Ok(())
        })?;
        draft.set_base_digest(place, hasher.finish());
    }
    let bases: Vec<Digest> = edit.patch.table.tensors.iter().map(|entry| entry.base_digest).collect();
    let root = hash.root(&bases);
    base.settled(draft.finish(metadata(&edit.patch.metadata), |_| (root, root), None, context))
}

//! From patches to patches: the inverse of one, the chain or the sum of several, a part of one, and a comparison of two.
//!
//! Portable patches need no checkpoint for this; any others need the base that they are for. `content` decodes the tensors of a patch,
//! `draft` encodes those of a new one.

mod combine;
mod compare;
mod content;
mod draft;
mod invert;
mod positions;
mod select;
mod spectrum;
mod squash;

pub use crate::patch::Filter;
pub use combine::{Combined, Signs, combine};
pub use compare::{Comparison, Likeness, compare};
pub(crate) use content::{Element, Exact};
pub(crate) use draft::Draft;
pub use invert::invert;
pub use positions::positions;
pub use select::{restrict, select};
pub(crate) use spectrum::{Spectrum, spectrum};
pub use squash::squash;

use crate::apply::{Carried, Check, Edit, Fit, carried_values_fit, fit};
use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::error::{Error, Obstacle, Refusal};
use crate::format::tensor_table::TensorEntry;
use std::cmp::Ordering;

/// Refuses a patch whose deltas are not exact. Returns what its blocks carry.
fn must_be_exact(edit: &Edit, context: &Context<'_>) -> Result<Carried, Error> {
    let carried = Carried::read(&edit.patch, context)?;
    if carried.is_exact() { Ok(carried) } else { Err(Obstacle::Reduced { patch: edit.patch.name().to_owned() }.into()) }
}

/// The number of elements that a patch of any size may select where no base is given.
const SELECTED_FREE: u64 = 1 << 20;
/// How many more elements it may select for each byte of its file. A portable patch takes about a byte or more for each element.
const SELECTED_A_BYTE: u64 = 2;

/// Refuses a patch that selects more elements than the size of its file justifies. Elements are held in memory one by one, about a hundred
/// bytes each, and a malicious file can encode long runs of them in next to no bytes. Where a base is given, its size is the bound.
fn must_be_justified(edit: &Edit, verb: &'static str) -> Result<(), Obstacle> {
    let Edit { patch, .. } = edit;
    let selected = patch.table().tensors.iter().map(|entry| entry.selected).sum();
    let most = SELECTED_FREE.saturating_add(SELECTED_A_BYTE.saturating_mul(patch.file_bytes()));
    if selected <= most {
        return Ok(());
    }
    Err(Obstacle::Selected { patch: patch.name().to_owned(), verb, selected, bytes: patch.file_bytes(), most })
}

/// Refuses a base that is not the patch's own. Without a base, refuses a patch that needs one, and one whose base values do not have the
/// digest that it declares. `verb` names the operation in errors.
fn check_base(edit: &Edit, verb: &'static str, base: Option<&Checkpoint>, context: &Context<'_>) -> Result<(), Error> {
    let Edit { patch, .. } = edit;
    let Some(base) = base else {
        if !Carried::read(patch, context)?.is_portable() {
            return Err(Obstacle::NeedsBase { patch: patch.name().to_owned(), verb }.into());
        }
        must_be_justified(edit, verb)?;
        return carried_values_fit(patch, context);
    };
    let Fit { differences, state } = fit(base, patch, Check::Quick, None, context)?;
    if differences.is_empty() {
        return Ok(());
    }
    let (name, tensors) = (patch.name().to_owned(), patch.table().tensors.len());
    Err(Refusal::Base { patch: name, differences, tensors, state, portable: false }.into())
}

/// A tensor of one of two lists, or of both.
enum Side<'a> {
    One(&'a TensorEntry),
    Other(&'a TensorEntry),
    Both(&'a TensorEntry, &'a TensorEntry),
}

/// Merges two lists of tensors, both ascending by name.
fn by_name<'a>(one: &'a [TensorEntry], other: &'a [TensorEntry]) -> impl Iterator<Item = Side<'a>> {
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (one.peek(), other.peek()) {
            (Some(a), Some(b)) => a.name.as_bytes().cmp(b.name.as_bytes()),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        match order {
            Ordering::Less => one.next().map(Side::One),
            Ordering::Greater => other.next().map(Side::Other),
            Ordering::Equal => Some(Side::Both(one.next()?, other.next()?)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::Portability;
    use crate::edit::Alpha;
    use crate::error::ErrorKind;
    use crate::testing::{floats, patch, portable};

    #[test]
    fn tensors_of_two_patches_are_walked_by_name() {
        let base = floats(&[("a", &[1.0]), ("b", &[1.0]), ("c", &[1.0])]);
        let first = portable(&base, &floats(&[("a", &[2.0]), ("b", &[2.0]), ("c", &[1.0])]), 1.0);
        let second = portable(&base, &floats(&[("a", &[1.0]), ("b", &[3.0]), ("c", &[2.0])]), 1.0);
        let walked = by_name(&first.patch.table().tensors, &second.patch.table().tensors).map(|side| match side {
            Side::One(entry) => format!("one {}", entry.name),
            Side::Other(entry) => format!("other {}", entry.name),
            Side::Both(entry, _) => format!("both {}", entry.name),
        });
        assert_eq!(walked.collect::<Vec<_>>(), ["one a", "both b", "other c"]);
    }

    #[test]
    fn a_patch_that_is_not_portable_needs_its_own_base() {
        let (base, reference) = (floats(&[("w", &[1.0, 2.0])]), floats(&[("w", &[1.0, 3.0])]));
        let edit = Edit::at(patch(&base, &reference, Portability::NeedsBase), Alpha::ONE);
        let check = |base| check_base(&edit, "squash", base, &Context::silent()).map_err(|error| error.kind());
        assert_eq!(check(None), Err(ErrorKind::AlgebraNeedsBase));
        assert_eq!(check(Some(&base)), Ok(()));
        assert_eq!(check(Some(&floats(&[("w", &[1.0, 9.0])]))), Err(ErrorKind::BaseDiffers));
    }
}

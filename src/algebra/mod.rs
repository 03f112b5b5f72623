//! Patches to patches: the inverse of one, the chain or the sum of several, a part of one, and what two have in common.
//!
//! Where patches carry enough (portable ones), this needs no checkpoint; elsewhere it needs the base they are for.
//! `content` decodes the tensors of a patch, `draft` codes those of a new one.

mod combine;
mod compare;
mod content;
mod draft;
mod invert;
mod select;
mod spectrum;
mod squash;

pub use combine::{Combined, Signs, combine};
pub use compare::{Comparison, Likeness, compare};
pub use invert::invert;
pub use select::{Filter, Top, restrict, select};
pub use spectrum::{Spectrum, spectrum};
pub use squash::squash;

use crate::apply::{Carried, Check, Edit, Fit, carried_values_fit, fit};
use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::digest::ContentHash;
use crate::error::{Error, Obstacle, Refusal};
use crate::format::tensor_table::TensorEntry;
use std::cmp::Ordering;

/// Refuses a patch whose deltas are not exact; what its blocks carry.
fn must_be_exact(edit: &Edit, context: &Context<'_>) -> Result<Carried, Error> {
    let carried = Carried::read(&edit.patch, context)?;
    if carried.is_exact() { Ok(carried) } else { Err(Obstacle::Reduced { patch: edit.patch.name().to_owned() }.into()) }
}

/// What the digests of all patches are made with. Refuses patches whose digests cannot be compared.
fn common_hash(edits: &[&Edit]) -> Result<ContentHash, Obstacle> {
    let hash = |edit: &Edit| edit.patch.table.roots.hash;
    let Some(first) = edits.first() else { return Ok(ContentHash::default()) };
    match edits.iter().find(|other| hash(other) != hash(first)) {
        Some(second) => {
            Err(Obstacle::Hashes { first: first.patch.name().to_owned(), second: second.patch.name().to_owned() })
        }
        None => Ok(hash(first)),
    }
}

/// Elements that a patch may select where there is no base, whatever its size.
const SELECTED_FREE: u64 = 1 << 20;
/// Elements more for each byte of its file. With its base's values a patch takes a byte or more for each.
const SELECTED_A_BYTE: u64 = 2;

/// Refuses a patch that selects more elements than its size justifies. Elements are held one by one, a hundred bytes of memory for each:
/// runs of them that take next to nothing in a file must be in a base at least.
fn must_be_justified(edit: &Edit, verb: &'static str) -> Result<(), Obstacle> {
    let Edit { patch, .. } = edit;
    let selected = patch.table.tensors.iter().map(|entry| entry.selected).sum();
    let most = SELECTED_FREE.saturating_add(SELECTED_A_BYTE.saturating_mul(patch.file_bytes));
    if selected <= most {
        return Ok(());
    }
    Err(Obstacle::Selected { patch: patch.name().to_owned(), verb, selected, bytes: patch.file_bytes, most })
}

/// Refuses a base that is not the patch's, and a patch that needs one and gets none, or carries values of its base that are not
/// those of which it has the digest.
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
    let (name, tensors) = (patch.name().to_owned(), patch.table.tensors.len());
    Err(Refusal::Base { patch: name, differences, tensors, state, portable: false }.into())
}

/// What two lists of tensors have, by name.
enum Side<'a> {
    One(&'a TensorEntry),
    Other(&'a TensorEntry),
    Both(&'a TensorEntry, &'a TensorEntry),
}

/// Walks two lists of tensors, both ascending by name.
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

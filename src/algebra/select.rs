//! A part of a patch: chosen by tensor, by magnitude, or by what another patch selects.

use super::check_base;
use super::content::Content;
use super::draft::Draft;
use super::invert::known_roots;
use crate::apply::{Carried, Edit};
use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::error::{Error, Obstacle};
use crate::format::block::encode::Portability;
use crate::format::builder::TensorParts;
use crate::format::metadata::{Derived, Metadata};
use crate::format::tensor_table::TensorEntry;
use crate::localize::value::Amount;
use crate::patch::{Filter, Patch};

/// The part of a patch in the tensors that pass `filter`, and of this part the `top` elements with the largest |reference - base|. Of
/// elements with equal magnitude, those that are first by tensor name and flat index stay.
///
/// Tensors that stay whole are copied as they are, from any patch. For the top elements, the patch must be portable, or its base given. If
/// nothing is left out, the result is the same patch.
///
/// # Errors
/// [Kinds](crate::ErrorKind) `SelectionImpossible`, `AlgebraNeedsBase`, `AlgebraReduced`, `AlgebraInteger`; globs; a base that does not
/// fit.
pub fn select(
    edit: &Edit,
    filter: &Filter,
    top: Option<Amount>,
    base: Option<&Checkpoint>,
    context: &Context<'_>,
) -> Result<Patch, Error> {
    let accepts = filter.accepts()?;
    let entries: Vec<&TensorEntry> = edit.patch.table().tensors.iter().filter(|entry| accepts(entry)).collect();
    let all: u64 = entries.iter().map(|entry| entry.selected).sum();
    let too_many = |k| Obstacle::TooMany { patch: edit.patch.name().to_owned(), k, selected: all };
    let k = match top {
        None => all,
        Some(Amount::Count(k)) if k > all => return Err(too_many(k).into()),
        Some(top) => top.of(all)?,
    };
    let threshold = if k < all { Some(threshold(edit, &entries, k, base, context)?) } else { None };
    let mut ties = threshold.map_or(0, |(_, ties)| ties);
    let keep = |_: &TensorEntry, content: &Content| {
        let (least, _) = threshold?;
        let stays = |delta: &f64| {
            let tied = delta.abs() == least && ties > 0;
            ties -= u64::from(tied);
            tied || delta.abs() > least
        };
        Some(content.deltas.iter().flatten().map(stays).collect())
    };
    part(edit, &entries, "select", threshold.is_some(), keep, base, context)
}

/// The part of a patch at the elements that `other` selects too.
///
/// # Errors
/// As [`select`].
pub fn restrict(edit: &Edit, other: &Edit, base: Option<&Checkpoint>, context: &Context<'_>) -> Result<Patch, Error> {
    check_base(other, "intersect", base, context)?;
    let tensors = &other.patch.table().tensors;
    let theirs = |name: &str| {
        let at = tensors.binary_search_by(|entry| entry.name.as_str().cmp(name)).ok()?;
        tensors.get(at)
    };
    let entries: Vec<&TensorEntry> = edit.patch.table().tensors.iter().filter(|e| theirs(&e.name).is_some()).collect();
    let mut failed = None;
    let keep = |entry: &TensorEntry, content: &Content| {
        let theirs = theirs(&entry.name).map(|theirs| Content::read(other, theirs, "intersect", base));
        match theirs {
            Some(Ok(theirs)) => {
                Some(content.indices.iter().map(|index| theirs.indices.binary_search(index).is_ok()).collect())
            }
            Some(Err(error)) => {
                failed.get_or_insert(error);
                None
            }
            None => Some(vec![false; content.indices.len()]),
        }
    };
    let patch = part(edit, &entries, "intersect", true, keep, base, context);
    match failed {
        Some(error) => Err(error),
        None => patch,
    }
}

/// The least |reference - base| that stays, and how many of the elements with this magnitude do.
fn threshold(
    edit: &Edit,
    entries: &[&TensorEntry],
    k: u64,
    base: Option<&Checkpoint>,
    context: &Context<'_>,
) -> Result<(f64, u64), Error> {
    check_base(edit, "select", base, context)?;
    let mut deltas = Vec::new();
    for entry in entries {
        entry.dtype.float().ok_or_else(|| Obstacle::Integer { tensor: entry.name.clone() })?;
        let content = Content::read(edit, entry, "select", base)?;
        for moved in content.moves(edit, "select", &entry.name)? {
            if !moved.delta.is_finite() {
                return Err(Obstacle::NotFinite { tensor: entry.name.clone(), index: moved.index }.into());
            }
            deltas.push(moved.delta.abs());
        }
    }
    // Sorting by bits is fast, and right for numbers that are finite and not negative.
    deltas.sort_unstable_by_key(|delta| std::cmp::Reverse(delta.to_bits()));
    let least = k.checked_sub(1).and_then(|last| deltas.get(last as usize)).copied().unwrap_or(f64::INFINITY);
    let above = deltas.partition_point(|delta| *delta > least) as u64;
    Ok((least, k.saturating_sub(above)))
}

/// Makes the new patch. `keep` returns for each element of a tensor whether it stays, or `None` to keep the whole tensor. `decodes` is
/// whether `keep` needs the decoded elements.
fn part(
    edit: &Edit,
    entries: &[&TensorEntry],
    verb: &'static str,
    decodes: bool,
    mut keep: impl FnMut(&TensorEntry, &Content) -> Option<Vec<bool>>,
    base: Option<&Checkpoint>,
    context: &Context<'_>,
) -> Result<Patch, Error> {
    let Edit { patch, .. } = edit;
    let portable = Carried::read(patch, context)?.is_portable();
    // With decoded elements the base's selected values are known, and the new patch can declare their digest.
    let decodes = decodes || portable || base.is_some();
    if decodes {
        check_base(edit, verb, base, context)?;
    }
    let portability = if portable { Portability::Portable } else { Portability::NeedsBase };
    let mut draft = Draft::new(portability, patch.table().block_log2);
    let mut kept = 0;
    for entry in entries {
        let content = decodes.then(|| Content::read(edit, entry, verb, base)).transpose()?;
        let stay = content.as_ref().and_then(|content| keep(entry, content));
        match (stay, &content) {
            (Some(stay), Some(content)) if stay.contains(&false) => {
                let mut stay = stay.into_iter();
                let part = content.exact(edit, verb)?.retain(|_| stay.next() == Some(true));
                kept += part.elements.len() as u64;
                let parts = TensorParts { counterparts: None, ..TensorParts::of(entry) };
                draft.add(parts, &part, base.and_then(|base| base.tensor(&entry.name)));
            }
            _ => {
                kept += entry.selected;
                draft.copy(edit, entry, content.as_ref())?;
            }
        }
    }
    if kept == patch.table().tensors.iter().map(|entry| entry.selected).sum::<u64>() {
        return Ok(patch.clone());
    }
    if kept == 0 {
        let reason = format!("of {} no element is left", patch.name().display());
        return Err(Obstacle::Empty { reason }.into());
    }
    let metadata = Metadata {
        derived: Some(Derived { verb: verb.to_owned(), patches: vec![patch.id().to_string()] }),
        results: serde_json::Map::new(),
        ..patch.metadata().clone()
    };
    // A tensor that lost elements has no counterparts, so that the roots are known only if all tensors stayed whole.
    draft.finish(metadata, known_roots, base, context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::testing::{applied, contents, floats, portable};

    fn base() -> Checkpoint {
        floats(&[("a", &[0.0; 4]), ("b", &[0.0; 4])])
    }

    /// A patch of `base`, whose largest moves are equal.
    fn edit() -> Edit {
        portable(&base(), &floats(&[("a", &[1.0, -4.0, 0.0, 2.0]), ("b", &[4.0, 0.5, 4.0, 0.0])]), 1.0)
    }

    fn selected(filter: &Filter, top: Option<Amount>) -> Result<Patch, ErrorKind> {
        select(&edit(), filter, top, None, &Context::silent()).map_err(|error| error.kind())
    }

    #[test]
    fn the_top_are_the_largest_and_of_equal_ones_the_first() {
        let patch = selected(&Filter::default(), Some(Amount::Count(2))).unwrap();
        let expected = floats(&[("a", &[0.0, -4.0, 0.0, 0.0]), ("b", &[4.0, 0.0, 0.0, 0.0])]);
        assert_eq!(applied(&base(), &[Edit::to_reference(patch)]), contents(&expected));
    }

    #[test]
    fn a_filter_keeps_whole_tensors() {
        let only_b = Filter { include: vec!["b*".to_owned()], ..Filter::default() };
        let patch = selected(&only_b, None).unwrap();
        let expected = floats(&[("a", &[0.0; 4]), ("b", &[4.0, 0.5, 4.0, 0.0])]);
        assert_eq!(applied(&base(), &[Edit::to_reference(patch)]), contents(&expected));
        let none = Filter { exclude: vec!["*".to_owned()], ..Filter::default() };
        assert_eq!(selected(&none, None).err(), Some(ErrorKind::SelectionImpossible));
    }

    #[test]
    fn a_selection_of_everything_is_the_same_patch() {
        let same = selected(&Filter::default(), Some(Amount::Count(6))).unwrap();
        assert_eq!(same.to_bytes().unwrap(), edit().patch.to_bytes().unwrap());
    }

    #[test]
    fn a_restricted_patch_selects_what_both_do() {
        let other = portable(&base(), &floats(&[("a", &[9.0, 0.0, 9.0, 9.0]), ("b", &[0.0; 4])]), 1.0);
        let patch = restrict(&edit(), &other, None, &Context::silent()).unwrap();
        let expected = floats(&[("a", &[1.0, 0.0, 0.0, 2.0]), ("b", &[0.0; 4])]);
        assert_eq!(applied(&base(), &[Edit::to_reference(patch)]), contents(&expected));
    }
}

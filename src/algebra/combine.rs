//! Several patches of one base as one that acts as their weighted sum.

use super::content::Content;
use super::draft::{Description, Draft};
use super::{Obstacle, check_base, common_hash};
use crate::apply::Edit;
use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::digest::Digest;
use crate::dtype::{FloatFormat, Rounded};
use crate::edit::{Alpha, interpolate};
use crate::error::Error;
use crate::format::Patch;
use crate::format::metadata::{Derived, Localization, Metadata};
use crate::format::tensor_table::TensorEntry;
use crate::patch::Kept;
use crate::patch::gather::Portability;
use std::collections::BTreeMap;

/// What to do where patches disagree about the direction of a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signs {
    /// Add them up all the same.
    Sum,
    /// Elect the sign of the weighted sum, and leave out the terms of the other sign (TIES, Yadav et al. 2023). The rest is
    /// added up, not averaged: weights are strengths.
    Elect,
}

impl Signs {
    fn label(self) -> &'static str {
        match self {
            Signs::Sum => "sum",
            Signs::Elect => "ties",
        }
    }
}

/// A combined patch, and what was met on the way.
#[derive(Debug)]
pub struct Combined {
    /// The patch.
    pub patch: Patch,
    /// Elements that any patch selects.
    pub selected: u64,
    /// Elements that several select.
    pub overlapping: u64,
    /// Elements that are moved in both directions.
    pub conflicting: u64,
}

/// The patch whose result at alpha 1 is base + the sum of every patch's alpha times its delta, in the order given, rounded
/// once (spec §11.3).
///
/// Portable patches need nothing else; others need their base. Memory: the contents of one tensor, and what is coded.
///
/// # Errors
/// [`Obstacle::Bases`], [`Obstacle::NeedsBase`], [`Obstacle::Integer`], [`Obstacle::NotFinite`], [`Obstacle::Unpruned`];
/// a base that does not fit.
pub fn combine(
    edits: &[Edit],
    signs: Signs,
    base: Option<&Checkpoint>,
    context: &Context<'_>,
) -> Result<Combined, Error> {
    let hash = common_hash(&edits.iter().collect::<Vec<_>>())?;
    for edit in edits {
        check_base(edit, "combine", base, context)?;
    }
    context.begin("combining", 0);
    let mut by_name: BTreeMap<&str, Vec<(&Edit, &TensorEntry)>> = BTreeMap::new();
    for edit in edits {
        for entry in &edit.patch.table.tensors {
            by_name.entry(&entry.name).or_default().push((edit, entry));
        }
    }
    let portability = if base.is_some() { Portability::NeedsBase } else { Portability::Portable };
    let mut draft = Draft::new(portability, hash);
    let mut met = Met::default();
    for entries in by_name.into_values() {
        let (first, entry) = entries[0];
        let same = |other: &TensorEntry| {
            (other.dtype, &other.shape, other.base_digest) == (entry.dtype, &entry.shape, entry.base_digest)
        };
        if let Some((second, _)) = entries.iter().find(|(_, other)| !same(other)) {
            let (first, second) = (first.path.clone(), second.path.clone());
            return Err(Obstacle::Bases { first, second, tensor: entry.name.clone() }.into());
        }
        let float = entry.dtype.float().ok_or_else(|| Obstacle::Integer { tensor: entry.name.clone() })?;
        let mut terms = Vec::new();
        for (edit, entry) in &entries {
            let content = Content::read(edit, entry, "combine", base)?;
            if content.base_is_unpruned {
                return Err(Obstacle::Unpruned { patch: edit.path.clone(), verb: "combine" }.into());
            }
            terms.push((edit.kind.alpha().unwrap_or(Alpha::ONE), content));
        }
        let sum = sum(&terms, float, signs, &mut met);
        let sum = sum.map_err(|index| Obstacle::NotFinite { tensor: entry.name.clone(), index })?;
        let description = Description { counterparts: None, ..Description::of(entry) };
        draft.add(description, &sum, base.and_then(|base| base.tensor(&entry.name)));
    }
    let used = |edit: &Edit| format!("{}:{}", edit.patch.id, edit.kind.alpha().unwrap_or(Alpha::ONE));
    let metadata = Metadata {
        localization: Localization { method: format!("combine, {}", signs.label()), ..Localization::default() },
        derived: Some(Derived { verb: "combine".to_owned(), patches: edits.iter().map(used).collect() }),
        base: edits.first().map(|edit| edit.patch.metadata.base.clone()).unwrap_or_default(),
        ..Metadata::default()
    };
    let unknown = |_, _: &[_]| (Digest::UNKNOWN, Digest::UNKNOWN);
    let patch = draft.finish(metadata, unknown, base, context)?;
    let Met { selected, overlapping, conflicting } = met;
    Ok(Combined { patch, selected, overlapping, conflicting })
}

#[derive(Default)]
struct Met {
    selected: u64,
    overlapping: u64,
    conflicting: u64,
}

/// The elements that the sum changes. Fails with the index of one that is not finite.
fn sum(terms: &[(Alpha, Content)], float: FloatFormat, signs: Signs, met: &mut Met) -> Result<Content, u64> {
    let mut at = vec![0; terms.len()];
    let mut out = Content::default();
    while let Some(index) =
        terms.iter().zip(&at).filter_map(|((_, content), at)| content.indices.get(*at)).min().copied()
    {
        let mut base = 0;
        let mut here = Vec::new();
        for ((alpha, content), at) in terms.iter().zip(&mut at) {
            if content.indices.get(*at) == Some(&index) {
                base = content.base[*at];
                here.push((*alpha, content.deltas[*at]));
                *at += 1;
            }
        }
        met.selected += 1;
        met.overlapping += u64::from(here.len() > 1);
        let moved = |(alpha, delta): &(Alpha, f64)| alpha.value() * delta;
        if here.iter().any(|term| moved(term) > 0.0) && here.iter().any(|term| moved(term) < 0.0) {
            met.conflicting += 1;
            if signs == Signs::Elect {
                let elected = here.iter().map(moved).sum::<f64>();
                here.retain(|term| moved(term) * elected > 0.0);
            }
        }
        let reference = match interpolate(float, float.value(base), here) {
            Rounded::Finite(bits) => bits,
            Rounded::NotFinite(_) => return Err(index),
        };
        if reference != base {
            out.indices.push(index);
            out.base.push(base);
            out.reference.push(reference);
            out.kept.push(Kept::BOTH);
            out.before.push(0);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;

    fn content(entries: &[(u64, f32, f64)]) -> Content {
        Content {
            indices: entries.iter().map(|(index, ..)| *index).collect(),
            base: entries.iter().map(|(_, base, _)| base.to_bits().into()).collect(),
            deltas: entries.iter().map(|(.., delta)| *delta).collect(),
            ..Content::default()
        }
    }

    #[test]
    fn the_elected_sign_is_that_of_the_weighted_sum() {
        let weights = [1.0, 2.0, -1.0].map(|weight| Alpha::new(weight).unwrap());
        let contents = [&[(3, 1.0, 0.5), (5, 1.0, 1.0)][..], &[(3, 1.0, -1.0)], &[(3, 1.0, 0.25), (9, 2.0, 0.0)]];
        let terms: Vec<_> = weights.into_iter().zip(contents.map(content)).collect();
        let float = Dtype::F32.float().unwrap();
        let mut met = Met::default();
        let values = |content: &Content| content.reference.iter().map(|bits| float.value(*bits)).collect::<Vec<_>>();
        let summed = sum(&terms, float, Signs::Sum, &mut met).unwrap();
        assert_eq!((summed.indices.clone(), values(&summed)), (vec![3, 5], vec![-0.75, 2.0]));
        assert_eq!((met.selected, met.overlapping, met.conflicting), (3, 1, 1));
        let elected = sum(&terms, float, Signs::Elect, &mut met).unwrap();
        assert_eq!(values(&elected), [-1.25, 2.0], "0.5 is against the sum of -1.75");
    }
}

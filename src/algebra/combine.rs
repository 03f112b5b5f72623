//! The weighted sum of several patches of one base, as one patch.

use super::check_base;
use super::content::{Content, Element, Exact, Masks, Move};
use super::draft::Draft;
use crate::apply::Edit;
use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::digest::Digest;
use crate::dtype::{FloatFormat, Rounded};
use crate::edit::{Alpha, interpolate};
use crate::error::{Error, Obstacle};
use crate::format::block::Kept;
use crate::format::block::encode::Portability;
use crate::format::builder::TensorParts;
use crate::format::limits::BLOCK_LOG2;
use crate::format::metadata::{Derived, Localization, Metadata};
use crate::format::tensor_table::TensorEntry;
use crate::patch::Patch;
use std::collections::BTreeMap;

/// What to do where patches disagree about the direction of a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Signs {
    /// Add all terms up, whatever their signs.
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

/// A combined patch, and how far the patches overlap.
#[derive(Debug)]
#[non_exhaustive]
pub struct Combined {
    /// The patch.
    pub patch: Patch,
    /// The number of elements that any patch selects.
    pub selected: u64,
    /// The number of elements that several patches select.
    pub overlapping: u64,
    /// The number of elements that patches move in both directions.
    pub conflicting: u64,
}

/// The patch whose result at alpha 1 is base + the sum of every patch's alpha times its delta, in the order given, rounded
/// once (spec §A5).
///
/// Portable patches need no checkpoint; others need their base. Memory: the contents of one tensor, and the encoded blocks.
///
/// # Errors
/// [Kinds](crate::ErrorKind) `AlgebraBases`, `AlgebraNeedsBase`, `AlgebraInteger`, `NotFinite`, `AlgebraUnpruned`;
/// a base that does not fit.
pub fn combine(
    edits: &[Edit],
    signs: Signs,
    base: Option<&Checkpoint>,
    context: &Context<'_>,
) -> Result<Combined, Error> {
    for edit in edits {
        check_base(edit, "combine", base, context)?;
    }
    context.begin("combining", 0);
    let mut by_name: BTreeMap<&str, Vec<(&Edit, &TensorEntry)>> = BTreeMap::new();
    for edit in edits {
        for entry in &edit.patch.table().tensors {
            by_name.entry(&entry.name).or_default().push((edit, entry));
        }
    }
    let portability = if base.is_some() { Portability::NeedsBase } else { Portability::Portable };
    let mut draft = Draft::new(portability, BLOCK_LOG2);
    let mut overlaps = Overlaps::default();
    for entries in by_name.into_values() {
        let Some((first, entry)) = entries.first().copied() else { continue };
        let same = |other: &TensorEntry| {
            (other.dtype, &other.shape, other.base_digest) == (entry.dtype, &entry.shape, entry.base_digest)
        };
        if let Some((second, _)) = entries.iter().find(|(_, other)| !same(other)) {
            let (first, second) = (first.patch.name().to_owned(), second.patch.name().to_owned());
            return Err(Obstacle::Bases { first, second, tensor: entry.name.clone() }.into());
        }
        let float = entry.dtype.float().ok_or_else(|| Obstacle::Integer { tensor: entry.name.clone() })?;
        let mut terms = Vec::new();
        for (edit, entry) in &entries {
            let content = Content::read(edit, entry, "combine", base)?;
            let alpha = edit.kind.alpha().unwrap_or(Alpha::ONE);
            terms.push(Term { alpha, moves: content.moves(edit, "combine", &entry.name)? });
        }
        let sum = sum(&terms, float, signs, &mut overlaps).map_err(|reason| match reason {
            NoSum::NotFinite(index) => Obstacle::NotFinite { tensor: entry.name.clone(), index },
            NoSum::Bases(numbers) => {
                let path = |number: usize| entries.get(number).map_or(first, |(edit, _)| edit).patch.name().to_owned();
                let [first, second] = numbers.map(path);
                Obstacle::Bases { first, second, tensor: entry.name.clone() }
            }
        })?;
        let parts = TensorParts { counterparts: None, ..TensorParts::of(entry) };
        draft.add(parts, &sum, base.and_then(|base| base.tensor(&entry.name)));
    }
    let used = |edit: &Edit| format!("{}:{}", edit.patch.id(), edit.kind.alpha().unwrap_or(Alpha::ONE));
    let metadata = Metadata {
        localization: Localization { method: format!("combine, {}", signs.label()), ..Localization::default() },
        derived: Some(Derived { verb: "combine".to_owned(), patches: edits.iter().map(used).collect() }),
        base: edits.first().map(|edit| edit.patch.metadata().base.clone()).unwrap_or_default(),
        ..Metadata::default()
    };
    let unknown = (Digest::UNKNOWN, Digest::UNKNOWN);
    let patch = draft.finish(metadata, |_| unknown, base, context)?;
    let Overlaps { selected, overlapping, conflicting } = overlaps;
    Ok(Combined { patch, selected, overlapping, conflicting })
}

/// The counts of a [`Combined`].
#[derive(Default)]
struct Overlaps {
    selected: u64,
    overlapping: u64,
    conflicting: u64,
}

/// One patch's term of the sum.
#[derive(Debug, Clone, PartialEq)]
struct Term {
    alpha: Alpha,
    /// Ascending.
    moves: Vec<Move>,
}

/// Why there is no sum.
#[derive(Debug, Clone, Copy, PartialEq)]
enum NoSum {
    /// The element with this flat index would not be finite.
    NotFinite(u64),
    /// The terms with these two numbers carry different values of the base.
    Bases([usize; 2]),
}

/// Adds the terms up, element by element. Returns the elements that the sum changes.
fn sum(terms: &[Term], float: FloatFormat, signs: Signs, overlaps: &mut Overlaps) -> Result<Exact, NoSum> {
    let mut moves_left: Vec<_> = terms.iter().map(|term| term.moves.iter().peekable()).collect();
    let mut elements = Vec::new();
    while let Some(index) = moves_left.iter_mut().filter_map(|moves| moves.peek().map(|next| next.index)).min() {
        // The number of the last term so far that selects this element, and the base's bits that all of them carry.
        let mut base_in: Option<(usize, u64)> = None;
        // What is added at this element: alphas and deltas.
        let mut addends: Vec<(Alpha, f64)> = Vec::new();
        let (mut in_base, mut reference_at_one) = (true, None);
        for (number, (term, moves)) in terms.iter().zip(&mut moves_left).enumerate() {
            let Some(moved) = moves.next_if(|next| next.index == index) else { continue };
            match base_in {
                Some((other, base)) if base != moved.base => return Err(NoSum::Bases([other, number])),
                _ => base_in = Some((number, moved.base)),
            }
            // An apply leaves out patches at alpha 0, and so does the sum: adding +0 would turn a base of -0 into +0.
            if term.alpha.value() != 0.0 {
                in_base &= moved.in_base;
                addends.push((term.alpha, moved.delta));
                reference_at_one = moved.reference.filter(|_| term.alpha == Alpha::ONE);
            }
        }
        if addends.is_empty() {
            continue;
        }
        let base = base_in.map_or(0, |(_, base)| base);
        overlaps.selected += 1;
        overlaps.overlapping += u64::from(addends.len() > 1);
        // If one patch alone selects a weight, an apply at alpha 1 gives the reference's bits, and so does the sum.
        let exact = reference_at_one.filter(|_| addends.len() == 1);
        let product = |(alpha, delta): &(Alpha, f64)| alpha.value() * delta;
        if addends.iter().any(|addend| product(addend) > 0.0) && addends.iter().any(|addend| product(addend) < 0.0) {
            overlaps.conflicting += 1;
            if signs == Signs::Elect {
                let elected = addends.iter().map(product).sum::<f64>();
                addends.retain(|addend| product(addend) * elected > 0.0);
            }
        }
        let reference = match interpolate(float, if in_base { float.value(base) } else { 0.0 }, addends) {
            Rounded::Finite(bits) => exact.unwrap_or(bits),
            Rounded::NotFinite(_) => return Err(NoSum::NotFinite(index)),
        };
        if reference != base {
            elements.push(Element { index, base, reference, kept: Kept::BOTH, before: 0 });
        }
    }
    Ok(Exact { elements, masks: Masks::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;

    fn term(alpha: f64, moves: &[(u64, f32, f64)]) -> Term {
        let moves = moves.iter().map(|(index, base, delta)| Move {
            index: *index,
            base: base.to_bits().into(),
            in_base: true,
            delta: *delta,
            reference: None,
        });
        Term { alpha: Alpha::new(alpha).unwrap(), moves: moves.collect() }
    }

    #[test]
    fn the_elected_sign_is_that_of_the_weighted_sum() {
        let terms = [
            term(1.0, &[(3, 1.0, 0.5), (5, 1.0, 1.0)]),
            term(2.0, &[(3, 1.0, -1.0)]),
            term(-1.0, &[(3, 1.0, 0.25), (9, 2.0, 0.0)]),
        ];
        let float = Dtype::F32.float().unwrap();
        let mut overlaps = Overlaps::default();
        let values =
            |content: &Exact| content.elements.iter().map(|it| float.value(it.reference)).collect::<Vec<f64>>();
        let summed = sum(&terms, float, Signs::Sum, &mut overlaps).unwrap();
        assert_eq!(summed.elements.iter().map(|it| it.index).collect::<Vec<u64>>(), [3, 5]);
        assert_eq!(values(&summed), [-0.75, 2.0]);
        assert_eq!((overlaps.selected, overlaps.overlapping, overlaps.conflicting), (3, 1, 1));
        let elected = sum(&terms, float, Signs::Elect, &mut overlaps).unwrap();
        assert_eq!(values(&elected), [-1.25, 2.0], "0.5 is against the sum of -1.75");
    }

    #[test]
    fn terms_that_know_other_values_of_the_base_have_no_sum() {
        let terms = [term(1.0, &[(2, 1.0, 0.5)]), term(1.0, &[(3, 1.0, 0.5)]), term(1.0, &[(3, 2.0, 0.5)])];
        let failed = sum(&terms, Dtype::F32.float().unwrap(), Signs::Sum, &mut Overlaps::default());
        assert_eq!(failed, Err(NoSum::Bases([1, 2])));
    }

    #[test]
    fn one_term_at_alpha_1_gives_the_bits_of_its_reference() {
        let tiny = f64::from_bits(0x0000_0001_0000_0000);
        let moves =
            |reference| vec![Move { index: 7, base: 1f64.to_bits(), in_base: true, delta: tiny - 1.0, reference }];
        let term = |alpha, reference| Term { alpha: Alpha::new(alpha).unwrap(), moves: moves(reference) };
        let result = |terms: &[Term]| {
            let summed = sum(terms, Dtype::F64.float().unwrap(), Signs::Sum, &mut Overlaps::default()).unwrap();
            summed.elements.first().map(|element| f64::from_bits(element.reference))
        };
        let known = Some(tiny.to_bits());
        assert_eq!(result(&[term(1.0, known)]), Some(tiny));
        assert_eq!(result(&[term(0.0, known), term(1.0, known)]), Some(tiny));
        assert_eq!(result(&[term(1.0, None)]), Some(0.0), "the delta is rounded");
        assert_eq!(result(&[term(1.0, known), term(1.0, known)]), Some(-1.0));
        assert_eq!(result(&[term(0.5, known)]), Some(0.5));
    }

    #[test]
    fn what_is_pruned_in_the_base_counts_as_zero() {
        let mut pruned = term(1.0, &[(3, 1.0, 0.5)]);
        pruned.moves.iter_mut().for_each(|moved| moved.in_base = false);
        let summed = sum(&[pruned], Dtype::F32.float().unwrap(), Signs::Sum, &mut Overlaps::default()).unwrap();
        assert_eq!(summed.elements.first().map(|it| it.reference), Some(0.5f32.to_bits().into()));
    }
}

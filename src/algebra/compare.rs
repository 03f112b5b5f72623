//! How alike two patches are.

use super::content::Content;
use super::{Side, by_name, check_base, must_be_justified};
use crate::apply::{Carried, Edit};
use crate::checkpoint::{Checkpoint, names};
use crate::context::Context;
use crate::error::Error;
use serde::Serialize;
use std::collections::BTreeMap;

/// How alike two patches are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Likeness {
    /// The number of elements that the first patch selects.
    pub first: u64,
    /// The number of elements that the second patch selects.
    pub second: u64,
    /// The number of elements that both select.
    pub both: u64,
    /// `both` divided by the number of elements that either selects; 1 if neither selects anything.
    pub jaccard: f64,
    /// The cosine of the angle between the two as vectors of deltas in value, 0 where a patch does not select. `None` if a delta is not
    /// known, or all deltas of a patch are 0.
    pub cosine: Option<f64>,
    /// The number of elements that both move in the same direction. `None` if a delta is not known.
    pub same_direction: Option<u64>,
}

/// How alike two patches are, over all tensors and by component.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// Over all tensors.
    pub all: Likeness,
    /// By component's label.
    pub components: BTreeMap<String, Likeness>,
}

/// Counts and sums from which a [`Likeness`] is computed.
#[derive(Default, Clone, Copy)]
struct Sums {
    first: u64,
    second: u64,
    both: u64,
    same_direction: u64,
    product: f64,
    squares: [f64; 2],
    /// Whether a delta is not known.
    unknown: bool,
}

impl Sums {
    fn likeness(&self) -> Likeness {
        let Sums { first, second, both, .. } = *self;
        let either = first + second - both;
        let cosine = self.product / (self.squares[0] * self.squares[1]).sqrt();
        Likeness {
            first,
            second,
            both,
            jaccard: if either == 0 { 1.0 } else { both as f64 / either as f64 },
            cosine: (!self.unknown && cosine.is_finite()).then(|| cosine.clamp(-1.0, 1.0)),
            same_direction: (!self.unknown).then_some(self.same_direction),
        }
    }
}

/// Compares two patches. Patches that are not portable need the base that both are for. Without it their deltas are not known, and their
/// positions must be base-free.
///
/// # Errors
/// [Kind](crate::ErrorKind) `AlgebraNeedsBase`; a base that does not fit.
pub fn compare(
    first: &Edit,
    second: &Edit,
    base: Option<&Checkpoint>,
    context: &Context<'_>,
) -> Result<Comparison, Error> {
    for edit in [first, second] {
        if base.is_some() || Carried::read(&edit.patch, context)?.is_portable() {
            check_base(edit, "compare", base, context)?;
        } else {
            must_be_justified(edit, "compare")?;
        }
    }
    context.begin("comparing", 0);
    let mut components: BTreeMap<String, Sums> = BTreeMap::new();
    let mut all = Sums::default();
    for side in by_name(&first.patch.table().tensors, &second.patch.table().tensors) {
        let (entry, contents) = match side {
            Side::One(entry) => (entry, [Some(Content::read(first, entry, "compare", base)?), None]),
            Side::Other(entry) => (entry, [None, Some(Content::read(second, entry, "compare", base)?)]),
            Side::Both(one, other) => {
                let contents =
                    [Content::read(first, one, "compare", base)?, Content::read(second, other, "compare", base)?];
                (one, contents.map(Some))
            }
        };
        let [one, two] = contents.map(Option::unwrap_or_default);
        let of_component = components.entry(names::place(&entry.name).component.label().to_owned()).or_default();
        for sums in [&mut all, of_component] {
            add(sums, &one, &two);
        }
        context.advance(0)?;
    }
    base.map_or(Ok(()), Checkpoint::unchanged)?;
    let components = components.into_iter().map(|(label, sums)| (label, sums.likeness())).collect();
    Ok(Comparison { all: all.likeness(), components })
}

/// Adds one tensor as both patches change it.
fn add(sums: &mut Sums, one: &Content, two: &Content) {
    sums.first += one.indices.len() as u64;
    sums.second += two.indices.len() as u64;
    for (content, squares) in [one, two].into_iter().zip(&mut sums.squares) {
        sums.unknown |= content.deltas.is_none();
        content.deltas.iter().flatten().for_each(|delta| *squares += delta * delta);
    }
    let delta = |content: &Content, at: usize| content.deltas.as_ref().and_then(|deltas| deltas.get(at).copied());
    let mut others = two.indices.iter().enumerate().peekable();
    for (place, index) in one.indices.iter().enumerate() {
        while others.next_if(|(_, other)| *other < index).is_some() {}
        let Some((at, _)) = others.next_if(|(_, other)| *other == index) else { continue };
        sums.both += 1;
        if let (Some(a), Some(b)) = (delta(one, place), delta(two, at)) {
            sums.product += a * b;
            sums.same_direction += u64::from(a * b > 0.0 || (a == 0.0 && b == 0.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{floats, portable};

    fn compared(one: &[f32; 4], two: &[f32; 4]) -> Likeness {
        let base = floats(&[("w", &[0.0; 4])]);
        let [one, two] = [one, two].map(|values| portable(&base, &floats(&[("w", values)]), 1.0));
        compare(&one, &two, None, &Context::silent()).unwrap().all
    }

    #[test]
    fn likeness_is_that_of_two_vectors_and_two_sets() {
        let likeness = compared(&[3.0, 4.0, 0.0, 0.0], &[0.0, 4.0, -3.0, 0.0]);
        assert_eq!((likeness.first, likeness.second, likeness.both), (2, 2, 1));
        assert_eq!((likeness.jaccard, likeness.cosine), (1.0 / 3.0, Some(16.0 / 25.0)));
        assert_eq!(likeness.same_direction, Some(1));
    }

    #[test]
    fn a_patch_is_like_itself_and_opposite_to_its_negative() {
        let one = [1.0, -2.0, 0.0, 0.5];
        assert_eq!((compared(&one, &one).jaccard, compared(&one, &one).cosine), (1.0, Some(1.0)));
        let opposite = compared(&one, &one.map(|value| 0.0 - value));
        assert_eq!((opposite.jaccard, opposite.cosine, opposite.same_direction), (1.0, Some(-1.0), Some(0)));
    }
}

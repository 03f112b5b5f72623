//! What edits change of tensors in memory, and the plan that says so.

use super::fit::{Check, EntryTensor, match_tensors};
use super::memory::{Exchange, Part, Place};
use super::plan::{Edit, Plan, PlanOptions};
use super::rewrite::Rewrite;
use super::tensor::SPAN;
use crate::checkpoint::scan::windows;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::context::Context;
use crate::digest::{Digest, PartDigest, join};
use crate::error::{Error, ErrorKind};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;

/// What was seen of a span of the base.
enum Seen {
    /// All of it, which is hashed in windows.
    Whole(Vec<PartDigest>),
    /// The values at the selected elements, which are hashed block by block.
    Selected(Vec<Digest>),
}

impl<'a> Plan<'a> {
    /// Checks `base` as [`Plan::check`] does, and computes what changes of every tensor, in parallel from the base's bytes. Nothing is
    /// written.
    ///
    /// # Errors
    /// Those of [`Plan::check`]; [kind](crate::ErrorKind) `NotFinite`, those of an edit; R18 to R20; cancellation.
    pub fn with_exchanges(
        base: &'a Checkpoint,
        edits: &'a [Edit],
        options: &PlanOptions,
        context: &Context<'_>,
    ) -> Result<(Self, Vec<Exchange>), Error> {
        match Self::at_once(base, edits, options, context) {
            Ok(Some(done)) => return Ok(done),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            // Whatever goes wrong may do so since the base is another one. The steps below say which it is.
            Ok(None) | Err(_) => {}
        }
        let plan = Self::check(base, edits, options, context)?;
        let tensors: Vec<Tensor<'_>> = plan.changed().filter_map(|name| base.tensor(name)).collect();
        let (exchanges, _) = exchanges(&tensors, |tensor, span| Ok((plan.span_changes(tensor, &span)?, ())), context)?;
        Ok((plan, exchanges))
    }

    /// As [`Plan::with_exchanges`], for one patch: the base is checked and what changes is computed in one walk, so that the base is read
    /// and the patch decoded once. `None` if this cannot be done, or the base is another one.
    fn at_once(
        base: &'a Checkpoint,
        edits: &'a [Edit],
        options: &PlanOptions,
        context: &Context<'_>,
    ) -> Result<Option<(Self, Vec<Exchange>)>, Error> {
        let [edit] = edits else { return Ok(None) };
        let Ok(entries) = match_tensors(base, &edit.patch, options.prefix.as_ref()) else { return Ok(None) };
        let plan = Self::new(base, edits, options, vec![false]);
        let changes_nothing = edit.kind.alpha().is_some_and(|alpha| alpha.value() == 0.0);
        // Masks beside the weights are checked, too. Two names of the patch that are one of the base, by their prefixes, add up.
        if changes_nothing || !plan.companions.is_empty() || plan.by_tensor.len() != entries.len() {
            return Ok(None);
        }
        let expected = edit.patch.table().roots.selected;
        let is_quick = options.check == Check::Quick && expected.is_known();
        let tensors: Vec<Tensor<'_>> = entries.iter().map(|(_, tensor)| *tensor).collect();
        let see = |tensor: Tensor<'_>, span: Range<u64>| {
            if is_quick {
                let (part, digests) = plan.changes_and_values(tensor, &span, true)?;
                return Ok((part, Seen::Selected(digests)));
            }
            let width = tensor.info.dtype.width().bytes() as u64;
            let place = Place { start: span.start * width, total: tensor.info.bytes() };
            // First, since it brings the span into the cache in one go.
            let windows = place.windows(tensor.elements(span.clone()));
            Ok((plan.span_changes(tensor, &span)?, Seen::Whole(windows)))
        };
        let (exchanges, seen) = exchanges(&tensors, see, context)?;
        base.unchanged()?;
        let is_own = if is_quick { selected(seen) == expected } else { are_own(&entries, seen) };
        Ok(is_own.then_some((plan, exchanges)))
    }

    /// Whether the patch declares the digest of the result: a patch alone, at alpha 1 on its own base, which was checked in full.
    pub fn declares_result(&self) -> bool {
        self.declaring().is_some()
    }

    /// Compares the digests of the tensors that changed, by their names in the base, with the digest that the patch declares of the
    /// result. Does nothing if it declares none.
    ///
    /// # Errors
    /// [Kind](crate::ErrorKind) `ResultDiffers`.
    pub fn check_result(&self, digests: &BTreeMap<String, Digest>) -> Result<(), Error> {
        self.compare_declared(digests).map(drop::<bool>)
    }
}

/// What changes of each of `tensors`, and what else `each` returns of each [`SPAN`] of each, in their order. In parallel.
fn exchanges<'a, T: Send>(
    tensors: &[Tensor<'a>],
    each: impl Fn(Tensor<'a>, Range<u64>) -> Result<(Part, T), Error> + Sync,
    context: &Context<'_>,
) -> Result<(Vec<Exchange>, Vec<Vec<T>>), Error> {
    let of_tensor = |tensor: &Tensor<'a>| {
        let tensor = *tensor;
        windows(0..tensor.info.elements(), SPAN).map(move |span| (tensor, span))
    };
    let spans: Vec<(Tensor<'a>, Range<u64>)> = tensors.iter().flat_map(of_tensor).collect();
    context.begin("editing", tensors.iter().map(|tensor| tensor.info.bytes()).sum());
    let spans = spans.into_par_iter().map(|(tensor, span)| {
        context.advance((span.end - span.start) * tensor.info.dtype.width().bytes() as u64)?;
        each(tensor, span)
    });
    let mut spans = spans.collect::<Result<Vec<(Part, T)>, Error>>()?.into_iter();
    let by_tensor = tensors.iter().map(|tensor| {
        let count = tensor.info.elements().div_ceil(SPAN) as usize;
        let (parts, others) = spans.by_ref().take(count).unzip();
        (Exchange::new(*tensor, parts), others)
    });
    Ok(by_tensor.unzip())
}

/// The digest over the values at all selected elements.
fn selected(seen: Vec<Vec<Seen>>) -> Digest {
    let of_span = |seen| match seen {
        Seen::Selected(digests) => digests,
        Seen::Whole(_) => Vec::new(),
    };
    Digest::root(&seen.into_iter().flatten().flat_map(of_span).collect::<Vec<Digest>>())
}

/// Whether tensors are those of the patch's base.
fn are_own(entries: &[EntryTensor<'_, '_>], seen: Vec<Vec<Seen>>) -> bool {
    let of_span = |seen| match seen {
        Seen::Whole(windows) => windows,
        Seen::Selected(_) => Vec::new(),
    };
    let digests = seen.into_iter().map(|spans| join(&spans.into_iter().flat_map(of_span).collect::<Vec<PartDigest>>()));
    entries.iter().zip(digests).all(|((entry, _), digest)| entry.base_digest == digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{floats, portable};

    fn options(check: Check) -> PlanOptions {
        PlanOptions { check, ..PlanOptions::default() }
    }

    #[test]
    fn what_changes_is_the_same_at_once_and_step_by_step() {
        // Few elements of a large tensor, and all of a small one: dense blocks, too.
        let large: Vec<f32> = (0..300_000).map(|n| n as f32).collect();
        let changed: Vec<f32> = large.iter().map(|n| if n % 7001.0 == 5.0 { n + 2.0 } else { *n }).collect();
        let all: Vec<f32> = large.iter().map(|n| n * 1.001 + 1.0).collect();
        for other in [&changed, &all] {
            let base = floats(&[("large", &large), ("small", &[1.0, 2.0]), ("same", &[3.0])]);
            let reference = floats(&[("large", other), ("small", &[1.5, 3.0]), ("same", &[3.0])]);
            for alpha in [1.0, -0.5] {
                let edits = [portable(&base, &reference, alpha), portable(&base, &reference, 0.0)];
                for check in [Check::Full, Check::Quick] {
                    let context = Context::silent();
                    let at_once = Plan::at_once(&base, &edits[..1], &options(check), &context).unwrap();
                    // A second patch that changes nothing.
                    assert!(Plan::at_once(&base, &edits, &options(check), &context).unwrap().is_none());
                    let (_, steps) = Plan::with_exchanges(&base, &edits, &options(check), &context).unwrap();
                    assert_eq!(at_once.unwrap().1.len(), 2);
                    assert!(steps.iter().map(Exchange::len).sum::<u64>() >= 45);
                    let (_, mut exchanges) =
                        Plan::with_exchanges(&base, &edits[..1], &options(check), &context).unwrap();
                    exchanges.sort_by(|one, other| one.tensor().cmp(other.tensor()));
                    let changes = |exchange: &Exchange| {
                        let tensor = base.tensor(exchange.tensor()).unwrap();
                        let mut bytes = tensor.elements(0..tensor.info.elements()).to_vec();
                        exchange.clone().exchange(&mut bytes);
                        bytes
                    };
                    assert_eq!(
                        exchanges.iter().map(changes).collect::<Vec<_>>(),
                        steps.iter().map(changes).collect::<Vec<_>>()
                    );
                }
            }
        }
    }

    #[test]
    fn another_base_is_refused_in_the_same_words_as_by_a_plan() {
        let (base, reference) = (floats(&[("w", &[1.0, 2.0, 3.0])]), floats(&[("w", &[1.0, 2.5, 3.0])]));
        let edits = [portable(&base, &reference, 1.0)];
        for (other, fits_quickly) in [([1.0, 9.0, 3.0], false), ([1.0, 2.5, 3.0], false), ([1.0, 2.0, 9.0], true)] {
            let other = floats(&[("w", &other)]);
            for check in [Check::Full, Check::Quick] {
                let plan = Plan::check(&other, &edits, &options(check), &Context::silent());
                let at_once = Plan::with_exchanges(&other, &edits, &options(check), &Context::silent());
                let said = plan.map(drop).map_err(|error| (error.kind(), error.to_string()));
                assert_eq!(at_once.map(drop).map_err(|error| (error.kind(), error.to_string())), said);
                assert_eq!(said.is_ok(), check == Check::Quick && fits_quickly);
            }
        }
    }
}

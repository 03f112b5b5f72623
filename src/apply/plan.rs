//! Which edits go to which tensors of a checked base. Every result is made by a plan, so that no base goes unchecked.

use super::carried::Carried;
use super::fit::{Check, Fit, base_tensor, carried_values_fit, fit};
use crate::checkpoint::{Checkpoint, Tensor};
use crate::context::Context;
use crate::digest::Digest;
use crate::edit::{Alpha, EditKind};
use crate::error::{Difference, Error, Refusal};
use crate::format::Metadata;
use crate::format::tensor_table::TensorEntry;
use crate::pair::PrefixMap;
use crate::patch::Patch;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;

/// A patch and what to do with it.
#[derive(Debug)]
pub struct Edit {
    /// The patch.
    pub patch: Patch,
    /// What to do with it.
    pub kind: EditKind,
}

impl Edit {
    /// A patch at the alpha that its author recommends, or else at 1.
    pub fn recommended(patch: Patch) -> Self {
        let (alpha, _) = patch.default_alpha();
        Self::at(patch, alpha)
    }

    /// A patch at an alpha.
    pub fn at(patch: Patch, alpha: Alpha) -> Self {
        Self { patch, kind: EditKind::Interpolate(alpha) }
    }

    /// A patch at alpha 1, which gives its reference.
    pub fn to_reference(patch: Patch) -> Self {
        Self::at(patch, Alpha::ONE)
    }
}

/// What to do when the base is not the patch's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub enum DifferentBase {
    /// Refuse.
    #[default]
    Refuse,
    /// Add the deltas of a portable patch, in value, to whatever the checkpoint holds.
    Add,
}

/// What to do when a result is infinite or NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub enum NotFinite {
    /// Refuse.
    #[default]
    Refuse,
    /// Write it.
    Write,
}

/// How to check and edit.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct PlanOptions {
    /// How the base is checked.
    pub check: Check,
    /// What to do when it differs.
    pub different_base: DifferentBase,
    /// What to do when a result is not finite.
    pub not_finite: NotFinite,
    /// Replaces a prefix of the patches' tensor names by the base's.
    pub prefix: Option<PrefixMap>,
}

/// Edits of a checked base.
#[derive(Debug)]
pub struct Plan<'a> {
    base: &'a Checkpoint,
    pub(super) edits: &'a [Edit],
    pub(super) not_finite: NotFinite,
    /// For each edit, whether its deltas are added to a base that is not its own.
    pub(super) added: Vec<bool>,
    /// By the name of a tensor that changes: the index of each edit that changes it, and the edit's entry, in the order of the edits.
    pub(super) by_tensor: BTreeMap<String, Vec<(usize, &'a TensorEntry)>>,
    /// By the name of a pruning mask in the base: the weights it belongs to, if they change (spec §A8).
    pub(super) companions: BTreeMap<String, Tensor<'a>>,
    check: Check,
    /// Replaces a prefix of the patches' tensor names by the base's.
    pub(super) prefix: Option<PrefixMap>,
}

impl<'a> Plan<'a> {
    /// Checks `base` against every patch, and plans the edits. Edits with alpha 0 are checked and then left out.
    ///
    /// # Errors
    /// [Kinds](crate::ErrorKind) `BaseDiffers`, `EditTogether`; what [`fit`] returns.
    pub fn check(
        base: &'a Checkpoint,
        edits: &'a [Edit],
        options: &PlanOptions,
        context: &Context<'_>,
    ) -> Result<Self, Error> {
        if let [first, .., last] = edits {
            // Interpolations add up, and prunings do not contradict each other. No equation says what a mixture, or two mask switches,
            // should give.
            let interpolates = |edit: &Edit| edit.kind.alpha().is_some();
            let prunes = |edit: &Edit| edit.kind == EditKind::Prune;
            if !edits.iter().all(interpolates) && !edits.iter().all(prunes) {
                return Err(Refusal::Together { first: first.kind, last: last.kind }.into());
            }
        }
        let mut added = Vec::new();
        for edit in edits {
            let prefix = options.prefix.as_ref();
            let Fit { differences, state } = fit(base, &edit.patch, options.check, prefix, context)?;
            if !differences.is_empty() {
                // Deltas can be added only to tensors of the same shape and dtype.
                let only_values_differ = differences.iter().all(|(_, d)| matches!(d, Difference::Digest { .. }));
                let portable = only_values_differ && Carried::read(&edit.patch, context)?.is_portable();
                if !portable || options.different_base == DifferentBase::Refuse {
                    let (patch, tensors) = (edit.patch.name().to_owned(), edit.patch.table().tensors.len());
                    return Err(Refusal::Base { patch, differences, tensors, state, portable }.into());
                }
                carried_values_fit(&edit.patch, context)?;
            }
            added.push(!differences.is_empty());
        }
        let mut plan = Self::new(base, edits, options, added);
        plan.leave_out_alpha_zero(context)?;
        Ok(plan)
    }

    /// A plan for a base that is checked already, or will be before anything is made of it.
    pub(super) fn new(base: &'a Checkpoint, edits: &'a [Edit], options: &PlanOptions, added: Vec<bool>) -> Self {
        let by_tensor = by_tensor(base, edits, options.prefix.as_ref());
        let PlanOptions { not_finite, check, prefix, .. } = options.clone();
        let companions = companions(base, &by_tensor);
        Self { base, edits, not_finite, added, by_tensor, companions, check, prefix }
    }

    /// Leaves out the edits that change nothing, once the base's masks of their weights are checked (spec §A8).
    fn leave_out_alpha_zero(&mut self, context: &Context<'_>) -> Result<(), Error> {
        let is_zero = |index: usize| self.edits[index].kind.alpha().is_some_and(|alpha| alpha.value() == 0.0);
        for (mask, weights) in &self.companions {
            let edits = self.by_tensor.get(&weights.info.name).into_iter().flatten();
            for (index, entry) in edits.filter(|(index, _)| is_zero(*index)) {
                if let Some(mask) = self.base.tensor(mask) {
                    self.check_companion_mask(*index, entry, *weights, mask, context)?;
                }
            }
        }
        let left: BTreeMap<String, Vec<_>> = std::mem::take(&mut self.by_tensor)
            .into_iter()
            .map(|(name, edits)| (name, edits.into_iter().filter(|(index, _)| !is_zero(*index)).collect::<Vec<_>>()))
            .filter(|(_, edits)| !edits.is_empty())
            .collect();
        self.companions.retain(|_, weights| left.contains_key(&weights.info.name));
        self.by_tensor = left;
        Ok(())
    }

    /// A plan for patches that are known to be for `base`, which is not checked again.
    pub(crate) fn of_own_base(base: &'a Checkpoint, edits: &'a [Edit], prefix: Option<&PrefixMap>) -> Self {
        let added = vec![false; edits.len()];
        let (not_finite, check) = (NotFinite::Write, Check::Full);
        let (by_tensor, companions) = (by_tensor(base, edits, prefix), BTreeMap::new());
        Self { base, edits, not_finite, added, by_tensor, companions, check, prefix: prefix.cloned() }
    }

    /// The base.
    pub fn base(&self) -> &'a Checkpoint {
        self.base
    }

    /// Names of the base's tensors that change.
    pub fn changed(&self) -> impl Iterator<Item = &str> + Clone {
        self.by_tensor.keys().chain(self.companions.keys()).map(String::as_str)
    }

    /// Whether any patch is added to a base that is not its own.
    pub fn is_added(&self) -> bool {
        self.added.contains(&true)
    }

    /// The metadata of the only patch, if all of it is applied, and it carries every difference between its base and its reference and is applied at alpha 1: then
    /// the result is the reference.
    pub fn whole_difference(&self) -> Option<&'a Metadata> {
        let patch = &self.declaring()?.patch;
        let metadata = patch.metadata();
        let whole = patch.chosen().is_none() && metadata.pairing.is_none();
        (metadata.localization.method == "full" && whole).then_some(metadata)
    }

    /// The only edit, if its patch declares the digest of the result: one patch at alpha 1 on its own base, fully checked.
    pub(super) fn declaring(&self) -> Option<&'a Edit> {
        match self.edits {
            [edit] => {
                let at_one = edit.kind == EditKind::Interpolate(Alpha::ONE);
                let known = edit.patch.table().roots.result.is_known();
                (at_one && known && !self.is_added() && self.check == Check::Full).then_some(edit)
            }
            _ => None,
        }
    }
}

/// By the name of a tensor of `base` that changes: the index of each edit that changes it, and the edit's entry, in the order of the edits.
fn by_tensor<'a>(
    base: &Checkpoint,
    edits: &'a [Edit],
    prefix: Option<&PrefixMap>,
) -> BTreeMap<String, Vec<(usize, &'a TensorEntry)>> {
    let mut by_tensor: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for (index, edit) in edits.iter().enumerate() {
        for entry in &edit.patch.table().tensors {
            if let Some(tensor) = base_tensor(base, entry, prefix) {
                by_tensor.entry(tensor.info.name.clone()).or_default().push((index, entry));
            }
        }
    }
    by_tensor
}

/// The pruning masks that lie beside weights that change, except masks that a patch edits itself.
fn companions<'a>(
    base: &'a Checkpoint,
    by_tensor: &BTreeMap<String, Vec<(usize, &TensorEntry)>>,
) -> BTreeMap<String, Tensor<'a>> {
    let mut companions = BTreeMap::new();
    for name in by_tensor.keys() {
        if let (Some(mask), Some(weights)) = (base.companion_mask(name), base.tensor(name))
            && !by_tensor.contains_key(&mask.info.name)
        {
            companions.insert(mask.info.name.clone(), weights);
        }
    }
    companions
}

/// The digests that the tensors in the table of `patch` have in its result at alpha 1 on its own `base`, in the order of the table.
/// `prefix` maps the patch's names to the base's.
///
/// # Errors
/// R18 to R20; cancellation.
pub fn results(
    base: &Checkpoint,
    patch: &Patch,
    prefix: Option<&PrefixMap>,
    context: &Context<'_>,
) -> Result<Vec<Digest>, Error> {
    let edits = [Edit::to_reference(patch.clone())];
    let plan = Plan::of_own_base(base, &edits, prefix);
    let tensors: Vec<Tensor<'_>> =
        edits[0].patch.table().tensors.iter().filter_map(|entry| base_tensor(base, entry, prefix)).collect();
    tensors.par_iter().map(|tensor| plan.result_digest(*tensor, context)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::testing::{apply, checkpoint, contents, floats, portable, vector};

    fn plan<'a>(base: &'a Checkpoint, edits: &'a [Edit], options: &PlanOptions) -> Result<Plan<'a>, ErrorKind> {
        Plan::check(base, edits, options, &Context::silent()).map_err(|error| error.kind())
    }

    #[test]
    fn an_edit_at_alpha_0_is_checked_and_then_left_out() {
        let (base, reference) = (floats(&[("w", &[1.0, 2.0])]), floats(&[("w", &[1.0, 3.0])]));
        let edits = [portable(&base, &reference, 0.0)];
        assert_eq!(plan(&base, &edits, &PlanOptions::default()).unwrap().changed().count(), 0);
        let other = floats(&[("w", &[1.0, 2.5])]);
        assert_eq!(plan(&other, &edits, &PlanOptions::default()).err(), Some(ErrorKind::BaseDiffers));
        let edits = [portable(&base, &reference, 0.5)];
        assert_eq!(plan(&base, &edits, &PlanOptions::default()).unwrap().changed().collect::<Vec<_>>(), ["w"]);
    }

    #[test]
    fn only_interpolations_or_only_prunings_go_together() {
        let (base, reference) = (floats(&[("w", &[1.0, 2.0])]), floats(&[("w", &[1.0, 3.0])]));
        let edit = |kind| Edit { kind, ..portable(&base, &reference, 1.0) };
        let (half, prune, switch) =
            (EditKind::Interpolate(Alpha::new(0.5).unwrap()), EditKind::Prune, EditKind::Switch);
        for (kinds, go_together) in [
            ([half, half], true),
            ([prune, prune], true),
            ([half, prune], false),
            ([prune, switch], false),
            ([switch, switch], false),
        ] {
            let edits = kinds.map(edit);
            let refused = plan(&base, &edits, &PlanOptions::default()).err();
            assert_eq!(refused, (!go_together).then_some(ErrorKind::EditTogether), "{kinds:?}");
        }
    }

    #[test]
    fn a_result_that_is_not_finite_is_refused_or_written() {
        let (base, reference) = (floats(&[("w", &[1.0, 2e38])]), floats(&[("w", &[1.0, 3e38])]));
        let edits = [portable(&base, &reference, 2.0)];
        let refused = apply(&base, &edits, &PlanOptions::default()).map_err(|error| error.kind());
        assert_eq!(refused.err(), Some(ErrorKind::NotFinite));
        let options = PlanOptions { not_finite: NotFinite::Write, ..PlanOptions::default() };
        let written = apply(&base, &edits, &options).unwrap();
        assert_eq!(contents(&written), contents(&floats(&[("w", &[1.0, f32::INFINITY])])));
    }

    #[test]
    fn a_portable_patch_is_added_to_another_base_only_if_told_to() {
        let (base, reference) = (floats(&[("w", &[1.0, 2.0])]), floats(&[("w", &[1.0, 3.0])]));
        let edits = [portable(&base, &reference, 1.0)];
        let other = floats(&[("w", &[7.0, 10.0])]);
        assert_eq!(plan(&other, &edits, &PlanOptions::default()).err(), Some(ErrorKind::BaseDiffers));
        let options = PlanOptions { different_base: DifferentBase::Add, ..PlanOptions::default() };
        assert!(plan(&other, &edits, &options).unwrap().is_added());
        assert!(!plan(&base, &edits, &options).unwrap().is_added());
        let added = apply(&other, &edits, &options).unwrap();
        assert_eq!(contents(&added), contents(&floats(&[("w", &[7.0, 11.0])])));
    }

    #[test]
    fn only_one_fully_checked_patch_at_alpha_1_declares_the_result() {
        let (base, reference) = (floats(&[("w", &[1.0, 2.0])]), floats(&[("w", &[1.0, 3.0])]));
        let (one, half) = (|| portable(&base, &reference, 1.0), || portable(&base, &reference, 0.5));
        let quick = PlanOptions { check: Check::Quick, ..PlanOptions::default() };
        for (edits, options, declares) in [
            (vec![one()], PlanOptions::default(), true),
            (vec![half()], PlanOptions::default(), false),
            (vec![one()], quick, false),
            (vec![one(), half()], PlanOptions::default(), false),
        ] {
            assert_eq!(plan(&base, &edits, &options).unwrap().declaring().is_some(), declares, "{options:?}");
        }
    }

    #[test]
    fn integers_are_exchanged_and_never_scaled() {
        let dtype = crate::dtype::Dtype::I32;
        let (base, reference) =
            (checkpoint(&[vector("n", dtype, &[1, 2])]), checkpoint(&[vector("n", dtype, &[1, 9])]));
        let exchanged = apply(&base, &[portable(&base, &reference, 1.0)], &PlanOptions::default()).unwrap();
        assert_eq!(contents(&exchanged), contents(&reference));
        let scaled = apply(&base, &[portable(&base, &reference, 0.5)], &PlanOptions::default());
        assert_eq!(scaled.map_err(|error| error.kind()).err(), Some(ErrorKind::EditInteger));
    }
}

//! What will be done to a base, once it is checked. There is no other way to a result.

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

    /// What leads all the way to the reference of `patch`.
    pub fn to_reference(patch: Patch) -> Self {
        Self::at(patch, Alpha::ONE)
    }
}

/// What to do when the base is another than the patch's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DifferentBase {
    /// Refuse.
    #[default]
    Refuse,
    /// Add the deltas of a portable patch, in value, to whatever the checkpoint holds.
    Add,
}

/// What to do when an edited number is infinite or NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NotFinite {
    /// Refuse.
    #[default]
    Refuse,
    /// Write it.
    Write,
}

/// How to check and edit.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// How the base is checked.
    pub check: Check,
    /// What to do when it differs.
    pub different_base: DifferentBase,
    /// What to do when a number leaves the finite ones.
    pub not_finite: NotFinite,
    /// A prefix of the patches' names, and what stands for it in the base's.
    pub prefix: Option<PrefixMap>,
}

/// Edits whose base is checked.
#[derive(Debug)]
pub struct Plan<'a> {
    base: &'a Checkpoint,
    pub(super) edits: &'a [Edit],
    pub(super) not_finite: NotFinite,
    /// For each edit, whether its deltas are added to a base that is not its own.
    pub(super) added: Vec<bool>,
    /// For each base tensor that changes, the edits and their entries.
    pub(super) by_tensor: BTreeMap<String, Vec<(usize, &'a TensorEntry)>>,
    /// Masks that lie beside weights that change, and those weights (spec §11.6).
    pub(super) companions: BTreeMap<String, Tensor<'a>>,
    check: Check,
    /// A prefix of the patches' names, and what stands for it in the base's.
    pub(super) prefix: Option<PrefixMap>,
}

impl<'a> Plan<'a> {
    /// Checks `base` against every patch, and plans the edits. Edits with alpha 0 are checked and then left out.
    ///
    /// # Errors
    /// [`Refusal::Base`], [`Refusal::Together`]; what [`fit`] returns.
    pub fn check(
        base: &'a Checkpoint,
        edits: &'a [Edit],
        options: &PlanOptions,
        context: &Context<'_>,
    ) -> Result<Self, Error> {
        if let [first, .., last] = edits {
            // Moves add up, and so do prunings; nothing says what a mixture, or two mask switches, should give.
            let moves = |edit: &Edit| edit.kind.alpha().is_some();
            let alike = edits.iter().all(moves) || edits.iter().all(|edit| edit.kind == EditKind::Prune);
            if !alike {
                return Err(Refusal::Together { first: first.kind, last: last.kind }.into());
            }
        }
        let mut added = Vec::new();
        let mut by_tensor: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for (index, edit) in edits.iter().enumerate() {
            let prefix = options.prefix.as_ref();
            let Fit { differences, state } = fit(base, &edit.patch, options.check, prefix, context)?;
            if !differences.is_empty() {
                // Whether it could be added is a question only if nothing but values differs.
                let of_values = differences.iter().all(|(_, d)| matches!(d, Difference::Digest { .. }));
                let portable = of_values && Carried::read(&edit.patch, context)?.is_portable();
                if !portable || options.different_base == DifferentBase::Refuse {
                    let (patch, tensors) = (edit.patch.name().to_owned(), edit.patch.table.tensors.len());
                    return Err(Refusal::Base { patch, differences, tensors, state, portable }.into());
                }
                carried_values_fit(&edit.patch, context)?;
            }
            added.push(!differences.is_empty());
            for entry in &edit.patch.table.tensors {
                if let Some(tensor) = base_tensor(base, entry, prefix) {
                    by_tensor.entry(tensor.info.name.clone()).or_default().push((index, entry));
                }
            }
        }
        let (not_finite, check) = (options.not_finite, options.check);
        let companions = companions(base, &by_tensor);
        let prefix = options.prefix.clone();
        let mut plan = Self { base, edits, not_finite, added, by_tensor, companions, check, prefix };
        plan.leave_out_alpha_zero(context)?;
        Ok(plan)
    }

    /// Leaves out the edits that change nothing, once the masks beside their weights are known to be theirs (spec §11.6).
    fn leave_out_alpha_zero(&mut self, context: &Context<'_>) -> Result<(), Error> {
        let is_zero = |index: usize| self.edits[index].kind.alpha().is_some_and(|alpha| alpha.value() == 0.0);
        for (mask, weights) in &self.companions {
            let edits = self.by_tensor.get(&weights.info.name).into_iter().flatten();
            for (index, entry) in edits.filter(|(index, _)| is_zero(*index)) {
                if let Some(mask) = self.base.tensor(mask) {
                    self.mask_is_theirs(*index, entry, *weights, mask, context)?;
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

    /// A plan for patches that are known to be for `base`, at their own alphas.
    pub(crate) fn of_own_base(base: &'a Checkpoint, edits: &'a [Edit], prefix: Option<&PrefixMap>) -> Self {
        let mut by_tensor: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for (index, edit) in edits.iter().enumerate() {
            for entry in &edit.patch.table.tensors {
                if let Some(tensor) = base_tensor(base, entry, prefix) {
                    by_tensor.entry(tensor.info.name.clone()).or_default().push((index, entry));
                }
            }
        }
        let added = vec![false; edits.len()];
        let (not_finite, check) = (NotFinite::Write, Check::Full);
        Self { base, edits, not_finite, added, by_tensor, companions: BTreeMap::new(), check, prefix: None }
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

    /// What the only patch says of itself, if it carries every difference between its base and its reference, and is applied
    /// at alpha 1.
    pub fn whole_difference(&self) -> Option<&'a Metadata> {
        let metadata = &self.declaring()?.patch.metadata;
        (metadata.localization.method == "full" && metadata.pairing.is_none()).then_some(metadata)
    }

    /// The only edit, if the digest of its result is known beforehand: one patch at alpha 1 on its own base.
    pub(super) fn declaring(&self) -> Option<&'a Edit> {
        match self.edits {
            [edit] => {
                let at_one = edit.kind == EditKind::Interpolate(Alpha::ONE);
                let known = edit.patch.table.roots.result.is_known();
                (at_one && known && !self.is_added() && self.check == Check::Full).then_some(edit)
            }
            _ => None,
        }
    }
}

/// The masks beside the weights that change, but for those that patches name themselves.
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

/// The digest of each tensor of the table of `patch` in its result at alpha 1 on its own `base`. `prefix` maps
/// the patch's names to the base's.
///
/// # Errors
/// R18 to R20; cancellation.
pub fn results(
    base: &Checkpoint,
    patch: &Patch,
    prefix: Option<&PrefixMap>,
    context: &Context<'_>,
) -> Result<Vec<Digest>, Error> {
    let hash = patch.table.roots.hash;
    let edits = [Edit::to_reference(patch.clone())];
    let plan = Plan::of_own_base(base, &edits, prefix);
    let tensors: Vec<Tensor<'_>> =
        edits[0].patch.table.tensors.iter().filter_map(|entry| base_tensor(base, entry, prefix)).collect();
    tensors.par_iter().map(|tensor| plan.result_digest(*tensor, hash, context)).collect()
}

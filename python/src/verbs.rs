//! The verbs on files and patches.

use crate::checkpoint::Checkpoint;
use crate::edits::{Options, Prefixes, alpha, one_of, prefix_map, wish};
use crate::fault::Fault;
use crate::patch::{Patch, patches_of};
use crate::text::Text;
use crate::work::{Tools, finish};
use lcepatch::Existing;
use lcepatch::algebra::{self, Filter, Signs};
use lcepatch::apply::{Apply, BaseState, Check, Done, Edit, UndoTo, fit};
use lcepatch::check::{intact, true_of};
use lcepatch::cli::program;
use lcepatch::diff::{
    Among, Amount, Density, DiffOptions, Effort, Localize, MaskSource, Params, Portability, Precision, Size,
};
use lcepatch::edit::Alpha;
use lcepatch::internal::PruningMask;
use lcepatch::mask::Scope;
use lcepatch::pair::{OtherDtype, Unpaired};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::json;
use std::ffi::OsString;
use std::path::PathBuf;

/// Runs the command in this process, and returns its exit code. `itself` is how the command calls itself.
#[pyfunction]
pub fn main(py: Python<'_>, words: Vec<OsString>, itself: Vec<OsString>) -> u8 {
    py.detach(|| program::main(words, itself))
}

/// Runs a command, and returns whether its answer is yes, and what it prints.
#[pyfunction]
pub fn answer(py: Python<'_>, words: Text<Vec<OsString>>) -> PyResult<(bool, String)> {
    let answered = finish(py, |tools| Ok(tools.program.answer(words.0)?))?;
    Ok((answered.yes, answered.text))
}

/// How many elements are meant, if it is said.
fn amount(density: Option<f64>, count: Option<u64>) -> Result<Option<Amount>, Fault> {
    match (density, count) {
        (Some(_), Some(_)) => Err(Fault::usage("density and count are both given", "give one of them")),
        (Some(share), None) => {
            let help = "give a number above 0 and at most 1";
            let density = Density::new(share);
            let density = density.ok_or_else(|| Fault::usage(format!("density {share} is no share"), help))?;
            Ok(Some(Amount::Density(density)))
        }
        (None, count) => Ok(count.map(Amount::Count)),
    }
}

/// How a diff is made: the arguments of `diff` in Python.
pub struct DiffWishes {
    density: Option<f64>,
    count: Option<u64>,
    scope: String,
    random: bool,
    seed: u64,
    params: Option<String>,
    include: Vec<String>,
    exclude: Vec<String>,
    common: bool,
    cast: bool,
    prefix: Prefixes,
    portable: bool,
    precision: String,
    best: bool,
    base_model: Option<String>,
    reference_model: Option<String>,
    license: Option<String>,
    description: Option<String>,
    recommended_alpha: Option<f64>,
    results: String,
    meta: String,
}

impl DiffWishes {
    fn of(wishes: &Bound<'_, PyDict>) -> PyResult<Self> {
        Ok(Self {
            density: wish(wishes, "density")?,
            count: wish(wishes, "count")?,
            scope: wish(wishes, "scope")?,
            random: wish(wishes, "random")?,
            seed: wish(wishes, "seed")?,
            params: wish(wishes, "params")?,
            include: wish(wishes, "include")?,
            exclude: wish(wishes, "exclude")?,
            common: wish(wishes, "common")?,
            cast: wish(wishes, "cast")?,
            prefix: wish(wishes, "prefix")?,
            portable: wish(wishes, "portable")?,
            precision: wish(wishes, "precision")?,
            best: wish(wishes, "best")?,
            base_model: wish(wishes, "base_model")?,
            reference_model: wish(wishes, "reference_model")?,
            license: wish(wishes, "license")?,
            description: wish(wishes, "description")?,
            recommended_alpha: wish(wishes, "recommended_alpha")?,
            results: wish(wishes, "results")?,
            meta: wish(wishes, "meta")?,
        })
    }

    fn options<'a>(
        &self,
        target: &'a lcepatch::checkpoint::Checkpoint,
        reference: &'a lcepatch::checkpoint::Checkpoint,
    ) -> Result<DiffOptions<'a>, Fault> {
        let scope = one_of("scope", &self.scope, &[("global", Scope::Global), ("tensor", Scope::Tensor)])?;
        let size = amount(self.density, self.count)?.map(Size::Amount);
        let mut options = DiffOptions::of(match (size, self.random) {
            (Some(amount), false) => Localize::Value { amount, scope },
            (Some(amount), true) => Localize::Random { amount, seed: self.seed, among: Among::Either },
            (None, false) => Localize::Full,
            (None, true) => return Err(Fault::usage("random draws a number of weights", "give density or count")),
        });
        let sets = [("encoder-dense", Params::EncoderDense), ("matrices", Params::Matrices), ("all", Params::All)];
        if let Some(name) = &self.params {
            options.candidates.params = Some(one_of("params", name, &sets)?);
        }
        (options.candidates.include, options.candidates.exclude) = (self.include.clone(), self.exclude.clone());
        options.pair.unpaired = if self.common { Unpaired::LeaveOut } else { Unpaired::Refuse };
        options.pair.other_dtype = if self.cast { OtherDtype::Cast } else { OtherDtype::Refuse };
        options.pair.prefix = prefix_map(&self.prefix);
        if options.localize != Localize::Full {
            options.masks = match [target, reference].map(|side| PruningMask::pairs(side).is_ok()) {
                [true, true] => Some([MaskSource::Pairs, MaskSource::Pairs]),
                [false, false] => None,
                _ => {
                    let help = "the command `lcepatch diff` takes masks of either side";
                    return Err(Fault::usage("one side has pruning masks, and the other has none", help));
                }
            };
        }
        let precisions = [("exact", Precision::Exact), ("bf16", Precision::Bf16), ("int8", Precision::Int8)];
        options.precision = one_of("precision", &self.precision, &precisions)?;
        options.portability = if self.portable { Portability::Portable } else { Portability::NeedsBase };
        options.effort = if self.best { Effort::Best } else { Effort::Default };
        options.labels.base_model = self.base_model.clone();
        options.labels.reference_model = self.reference_model.clone();
        options.labels.license = self.license.clone();
        options.labels.description = self.description.clone();
        options.labels.recommended_alpha = self.recommended_alpha.map(finite).transpose()?;
        let object = |text: &str| {
            let read = serde_json::from_str(text);
            read.map_err(|error| Fault::usage(format!("metadata is not JSON: {error}"), "give a dict of plain values"))
        };
        (options.labels.results, options.labels.x) = (object(&self.results)?, object(&self.meta)?);
        Ok(options)
    }
}

fn finite(alpha: f64) -> Result<Alpha, Fault> {
    Alpha::new(alpha).ok_or_else(|| Fault::usage(format!("alpha {alpha} is not finite"), "give a finite number"))
}

/// The patch from `target` to `reference`.
#[pyfunction]
pub fn diff(
    py: Python<'_>,
    target: &Checkpoint,
    reference: &Checkpoint,
    wishes: &Bound<'_, PyDict>,
) -> PyResult<Patch> {
    let wishes = DiffWishes::of(wishes)?;
    let (target, reference) = (&target.checkpoint, &reference.checkpoint);
    finish(py, |tools| {
        let options = wishes.options(target, reference)?;
        Ok(Patch::new(lcepatch::diff::diff(target, reference, &options, &tools.context)?.patch))
    })
}

/// Whether a patch is intact and fits a base, as JSON.
#[pyfunction]
pub fn check(py: Python<'_>, patch: &Patch, base: Option<&Checkpoint>, wishes: &Bound<'_, PyDict>) -> PyResult<String> {
    let (quick, prefix): (bool, Prefixes) = (wish(wishes, "quick")?, wish(wishes, "prefix")?);
    let (patch, base) = (&patch.patch, base.map(|base| &base.checkpoint));
    finish(py, |tools| {
        let intact = intact(patch, &tools.context)?;
        let mut answer = json!({
            "decoded": intact.decoded, "denied": intact.carried.denied(patch.metadata()),
            "fits": null, "state": null, "differences": {},
        });
        if let Some(base) = base {
            let prefix = prefix_map(&prefix);
            let how = if quick { Check::Quick } else { Check::Full };
            let fit = fit(base, patch, how, prefix.as_ref(), &tools.context)?;
            if fit.differences.is_empty() {
                true_of(patch, (base, prefix.as_ref()), how, &tools.context)?;
                answer["decoded"] = json!(intact.blocks);
            }
            answer["fits"] = json!(fit.differences.is_empty());
            answer["state"] = json!(state(fit.state));
            answer["differences"] =
                fit.differences.iter().map(|(name, how)| (name.clone(), json!(how.to_string()))).collect();
        }
        Ok(answer.to_string())
    })
}

fn state(state: BaseState) -> &'static str {
    match state {
        BaseState::Base => "base",
        BaseState::Result => "result",
        BaseState::Reference => "reference",
        BaseState::Adapter => "adapter",
        // What comes later is named when it comes.
        _ => "unknown",
    }
}

/// Applies patches to a checkpoint in files, and writes the result. Returns what was done, as JSON.
#[pyfunction]
pub fn apply(
    py: Python<'_>,
    base: &Checkpoint,
    patches: Vec<(PyRef<'_, Patch>, Option<f64>)>,
    out: Text<PathBuf>,
    wishes: &Bound<'_, PyDict>,
) -> PyResult<String> {
    let (given, options) = (patches_of(patches), Options::of(wishes)?);
    let (undo, log): (Option<PathBuf>, Option<bool>) = (wish(wishes, "undo")?, wish(wishes, "log")?);
    let (log, replace): (bool, bool) = (log.unwrap_or(true), wish(wishes, "replace")?);
    finish(py, |tools| {
        let edits = options.edits(given, &tools.context)?;
        let existing = if replace { Existing::Replace } else { Existing::Keep };
        let undo = undo.as_deref().map_or(UndoTo::Log, UndoTo::Path);
        let apply =
            Apply::new(&base.checkpoint, &edits).options(options.plan()?).undo(undo).log(log).existing(existing);
        let Done { applied, is_reference, added, undo, .. } = apply.to(&out.0, &tools.context)?;
        let digests = applied.digests.iter().map(|(name, digest)| (name, digest.to_string()));
        Ok(json!({
            "edited": applied.edited, "tensors": applied.tensors, "verified": applied.verified,
            "is_reference": is_reference, "different_base": added, "undo": undo,
            "left_behind": applied.left_behind, "unreadable": applied.unreadable,
            "digests": digests.collect::<std::collections::BTreeMap<_, _>>(),
        })
        .to_string())
    })
}

/// Does `work` with edits at the alphas that were given, or at 1.
fn algebra<T: Send>(
    py: Python<'_>,
    patches: Vec<&Patch>,
    work: impl FnOnce(&[Edit], &Tools<'_>) -> Result<T, Fault> + Send,
) -> PyResult<T> {
    let edits: Vec<Edit> = patches.into_iter().map(|patch| Edit::to_reference(patch.patch.clone())).collect();
    finish(py, |tools| work(&edits, tools))
}

/// The weighted sum of patches of one base, and the numbers of elements that any, several, and several in opposite directions select.
#[pyfunction]
pub fn combine(
    py: Python<'_>,
    patches: Vec<(PyRef<'_, Patch>, Option<f64>)>,
    base: Option<&Checkpoint>,
    elect: bool,
) -> PyResult<(Patch, u64, u64, u64)> {
    let (given, base) = (patches_of(patches), base.map(|base| &base.checkpoint));
    finish(py, |tools| {
        let edits = given.into_iter().map(|(patch, given)| Ok(Edit::at(patch.clone(), alpha(&patch, given)?)));
        let edits = edits.collect::<Result<Vec<_>, Fault>>()?;
        let signs = if elect { Signs::Elect } else { Signs::Sum };
        let combined = algebra::combine(&edits, signs, base, &tools.context)?;
        Ok((Patch::new(combined.patch), combined.selected, combined.overlapping, combined.conflicting))
    })
}

/// The patch from the other side.
#[pyfunction]
pub fn invert(py: Python<'_>, patch: &Patch, base: Option<&Checkpoint>) -> PyResult<Patch> {
    let base = base.map(|base| &base.checkpoint);
    algebra(py, vec![patch], |edits, tools| Ok(Patch::new(algebra::invert(&edits[0], base, &tools.context)?)))
}

/// The patch that does what one patch does after another.
#[pyfunction]
pub fn squash(py: Python<'_>, first: &Patch, second: &Patch, base: Option<&Checkpoint>) -> PyResult<Patch> {
    let base = base.map(|base| &base.checkpoint);
    algebra(py, vec![first, second], |edits, tools| {
        Ok(Patch::new(algebra::squash(&edits[0], &edits[1], base, &tools.context)?))
    })
}

/// A part of a patch.
#[pyfunction]
pub fn select(py: Python<'_>, patch: &Patch, wishes: &Bound<'_, PyDict>, base: Option<&Checkpoint>) -> PyResult<Patch> {
    let mut filter = Filter::default();
    (filter.include, filter.exclude) = (wish(wishes, "include")?, wish(wishes, "exclude")?);
    filter.components = wish(wishes, "components")?;
    let (density, count) = (wish(wishes, "density")?, wish(wishes, "count")?);
    let base = base.map(|base| &base.checkpoint);
    algebra(py, vec![patch], |edits, tools| {
        let top = amount(density, count)?;
        Ok(Patch::new(algebra::select(&edits[0], &filter, top, base, &tools.context)?))
    })
}

/// The part of a patch at the elements that another one selects too.
#[pyfunction]
pub fn restrict(py: Python<'_>, patch: &Patch, other: &Patch, base: Option<&Checkpoint>) -> PyResult<Patch> {
    let base = base.map(|base| &base.checkpoint);
    algebra(py, vec![patch, other], |edits, tools| {
        Ok(Patch::new(algebra::restrict(&edits[0], &edits[1], base, &tools.context)?))
    })
}

/// How alike two patches are, as JSON.
#[pyfunction]
pub fn compare(py: Python<'_>, first: &Patch, second: &Patch, base: Option<&Checkpoint>) -> PyResult<String> {
    let base = base.map(|base| &base.checkpoint);
    algebra(py, vec![first, second], |edits, tools| {
        Ok(json!(algebra::compare(&edits[0], &edits[1], base, &tools.context)?).to_string())
    })
}

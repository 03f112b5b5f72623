//! A model measured before and after edits: one work list, many models.
//!
//! ```text
//! measures --plan--> Work --Batches--> for each edit: Plan --edited tensors--> Session --Answers--> Outcomes --compare--> Changes
//! ```
//!
//! No checkpoint is written: an edited tensor is a copy in memory, with the bytes that `apply` would write.

use crate::apply::{Check, DifferentBase, Edit, NotFinite, Plan, PlanOptions};
use crate::checkpoint::pair::PrefixMap;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::context::Context;
use crate::digest::Sha256Digest;
use crate::edit::EditKind;
use crate::error::Error;
use crate::format::Patch;
use crate::measure::compare::{Change, compare};
use crate::measure::{Answers, Facts, Outcome, Planned, Work};
use crate::model::{Batches, Edited, Engine, Model, ModelFault};
use rayon::prelude::*;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Patches that are applied together, and one way to do it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Case {
    /// What is done to the selected weights.
    pub kind: EditKind,
}

/// How edits are made and compared.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// How the base is checked, once.
    pub check: Check,
    /// A prefix of the patches' names, and what stands for it in the model's.
    pub prefix: Option<PrefixMap>,
    /// Of the bootstrap intervals.
    pub seed: u64,
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct Report {
    /// The model.
    pub model: ModelSummary,
    /// What was asked of it.
    pub work: WorkSummary,
    /// The patches, in the order in which they are applied.
    pub patches: Vec<PatchSummary>,
    /// The unedited model first, then the cases in their order.
    pub rows: Vec<Row>,
}

/// A model, for a report.
#[derive(Debug, Clone)]
pub struct ModelSummary {
    /// Its directory.
    pub path: PathBuf,
    /// The export that it was measured through, if not through a graph of our own.
    pub onnx: Option<PathBuf>,
    /// `model_type` of its configuration.
    pub model_type: String,
    /// The dtypes of its weights, such as `F32`.
    pub dtypes: Vec<String>,
    /// The model in numbers.
    pub facts: Facts,
}

/// A work list, for a report.
#[derive(Debug, Clone, Copy)]
pub struct WorkSummary {
    /// Distinct sequences.
    pub sequences: usize,
    /// Distinct questions.
    pub questions: usize,
    /// Tokens in all batches, padding included.
    pub tokens: u64,
}

/// A patch, for a report.
#[derive(Debug, Clone)]
pub struct PatchSummary {
    /// Its file.
    pub path: PathBuf,
    /// Its id.
    pub id: Sha256Digest,
}

/// A model and what was measured of it.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was done to it; none for the unedited one.
    pub edit: Option<EditKind>,
    /// How many weights that meant.
    pub edited: u64,
    /// What was measured.
    pub outcomes: Vec<Outcome>,
    /// For each outcome, how its scores changed; empty for the unedited one.
    pub changes: Vec<Vec<Change>>,
    /// From loading the model to its last answer.
    pub time: Duration,
}

/// Measures of which the questions are in one work list.
#[derive(Default)]
pub struct Planning {
    /// The questions.
    pub work: Work,
    /// The measures.
    pub planned: Vec<Box<dyn Planned>>,
}

/// Measures `model`, whose weights are `checkpoint`, without and with `patches`, once for each case.
///
/// Memory: the weights as the runtime holds them, and a copy of the tensors that are edited.
///
/// # Errors
/// A base that does not fit; numbers that leave the dtype's range; [`ModelFault`]; cancellation.
pub fn verify(
    model: &Model,
    checkpoint: &Checkpoint,
    planning: &Planning,
    patches: &[(PathBuf, Patch)],
    cases: &[Case],
    options: &VerifyOptions,
    engine: &Engine,
    context: &Context<'_>,
) -> Result<Report, Error> {
    let Planning { work, planned } = planning;
    let batches = model.batches(work, engine.limits);
    let asked = Asked { model, checkpoint, work, batches: &batches, planned, engine };
    // A base that does not fit is worth knowing before the first hour of work.
    let mut check = options.check;
    if !patches.is_empty() {
        let edits = edits(patches, EditKind::Prune)?;
        let plan = Plan::check(checkpoint, &edits, &plan_options(check, options), context)?;
        model.used(plan.changed())?;
        check = Check::Quick;
    }
    let start = Instant::now();
    let unedited = asked.answer(Edited::new(), context)?;
    let outcomes = asked.outcomes(&unedited, &unedited);
    let mut rows = vec![Row { edit: None, edited: 0, outcomes, changes: Vec::new(), time: start.elapsed() }];
    for case in cases {
        let edits = edits(patches, case.kind)?;
        let plan = Plan::check(checkpoint, &edits, &plan_options(check, options), context)?;
        let start = Instant::now();
        let (tensors, edited) = edited(&plan, model, context)?;
        let answers = asked.answer(tensors, context)?;
        let outcomes = asked.outcomes(&answers, &unedited);
        let before = &rows[0].outcomes;
        let changes =
            before.iter().zip(&outcomes).map(|(before, after)| compare(before, after, options.seed)).collect();
        rows.push(Row { edit: Some(case.kind), edited, outcomes, changes, time: start.elapsed() });
    }
    let mut dtypes: Vec<String> =
        model.weights().iter().filter_map(|name| checkpoint.tensor(name)).map(dtype).collect();
    dtypes.sort();
    dtypes.dedup();
    let summary = |(path, patch): &(PathBuf, Patch)| PatchSummary { path: path.clone(), id: patch.id };
    Ok(Report {
        model: ModelSummary {
            path: checkpoint.path.clone(),
            onnx: model.foreign().map(|foreign| foreign.file.path.clone()),
            model_type: model.config.model_type.clone(),
            dtypes,
            facts: *model.facts(),
        },
        work: WorkSummary {
            sequences: work.sequences().len(),
            questions: work.log_probabilities().len() + work.embeddings().len() + work.distributions().len(),
            tokens: batches.tokens,
        },
        patches: patches.iter().map(summary).collect(),
        rows,
    })
}

fn dtype(tensor: Tensor<'_>) -> String {
    tensor.info.dtype.to_string()
}

/// What every model is asked.
struct Asked<'a> {
    model: &'a Model,
    checkpoint: &'a Checkpoint,
    work: &'a Work,
    batches: &'a Batches,
    planned: &'a [Box<dyn Planned>],
    engine: &'a Engine,
}

impl Asked<'_> {
    fn answer(&self, edited: Edited, context: &Context<'_>) -> Result<Answers, ModelFault> {
        context.count("measuring", self.batches.tokens);
        let mut session = self.model.session(self.checkpoint, edited, self.engine)?;
        session.answer(self.work, self.batches, context)
    }

    fn outcomes(&self, answers: &Answers, unedited: &Answers) -> Vec<Outcome> {
        self.planned.par_iter().map(|planned| planned.outcome(answers, unedited)).collect()
    }
}

fn edits(patches: &[(PathBuf, Patch)], kind: EditKind) -> Result<Vec<Edit>, Error> {
    let edit = |(path, patch): &(PathBuf, Patch)| {
        let patch = patch.try_clone().map_err(|error| Error::of_patch(path, error))?;
        Ok(Edit { patch, path: path.clone(), kind })
    };
    patches.iter().map(edit).collect()
}

fn plan_options(check: Check, options: &VerifyOptions) -> PlanOptions {
    let (different_base, not_finite) = (DifferentBase::Refuse, NotFinite::Refuse);
    PlanOptions { check, different_base, not_finite, prefix: options.prefix.clone() }
}

/// The bytes of the model's tensors that a plan changes, and how many weights it edits in them.
fn edited(plan: &Plan<'_>, model: &Model, context: &Context<'_>) -> Result<(Edited, u64), Error> {
    let used = model.used(plan.changed())?;
    let used: Vec<Tensor<'_>> = used.into_iter().filter_map(|name| plan.base().tensor(name)).collect();
    context.begin("editing", used.iter().map(|tensor| tensor.info.bytes()).sum());
    let results = used
        .par_iter()
        .map(|tensor| {
            let mut bytes = Vec::with_capacity(tensor.info.bytes() as usize);
            let edited = plan.edit_tensor(*tensor, &mut |_, part: &[u8]| Ok(bytes.extend_from_slice(part)), context)?;
            Ok((tensor.info.name.clone(), bytes, edited))
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let edited = results.iter().map(|(_, _, edited)| edited).sum();
    Ok((results.into_iter().map(|(name, bytes, _)| (name, bytes)).collect(), edited))
}

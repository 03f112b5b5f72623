//! A model measured before and after edits: one work list, many models.
//!
//! ```text
//! measures --plan--> Work --Batches--> for each edit: Plan --edited tensors--> Session --Answers--> Outcomes --compare--> Changes
//! ```
//!
//! No checkpoint is written: an edited tensor is a copy in memory, with the bytes that `apply` would write.

use crate::apply::{Check, DifferentBase, Edit, NotFinite, Plan, PlanOptions};
use crate::checkpoint::{Checkpoint, Tensor};
use crate::context::Context;
use crate::digest::Digest;
use crate::edit::EditKind;
use crate::error::Error;
use crate::measure::compare::{Change, compare};
use crate::measure::{Answers, Facts, Outcome, Planned, Work};
use crate::model::{Batches, Edited, Engine, Model};
use crate::pair::PrefixMap;
use crate::patch::Patch;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
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
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
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
    pub id: Digest,
    /// What its author recommends.
    pub recommended_alpha: Option<f64>,
}

impl PatchSummary {
    /// Of a patch.
    pub fn of(patch: &Patch) -> Self {
        Self { path: patch.name().to_owned(), id: patch.id, recommended_alpha: patch.metadata.recommended_alpha }
    }
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

/// What is measured, of which model, and how.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The model.
    pub model: &'a Model,
    /// Its weights.
    pub checkpoint: &'a Checkpoint,
    /// The measures.
    pub planning: &'a Planning,
    /// How edits are made and compared.
    pub options: &'a VerifyOptions,
    /// What computes.
    pub engine: &'a Engine,
}

/// Measures a model without and with `patches`, once for each case.
///
/// Memory: the weights as the runtime holds them, and a copy of the tensors that are edited.
///
/// # Errors
/// A base that does not fit; numbers that leave the dtype's range; [`crate::model::ModelFault`]; cancellation.
pub fn verify(subject: Subject<'_>, patches: &[Patch], cases: &[Case], context: &Context<'_>) -> Result<Report, Error> {
    check(subject, patches, context)?;
    let bench = Bench::new(subject, context)?;
    let mut rows = vec![bench.unedited.clone()];
    for case in cases {
        rows.push(bench.row(patches, *case, context)?);
    }
    let patches = patches.iter().map(PatchSummary::of).collect();
    Ok(Report { model: bench.model(), work: bench.work(), patches, rows })
}

/// Checks that patches fit the model: a base that does not is worth knowing before the first hour of work.
pub(crate) fn check(subject: Subject<'_>, patches: &[Patch], context: &Context<'_>) -> Result<(), Error> {
    let Subject { model, checkpoint, options, .. } = subject;
    if !patches.is_empty() {
        let edits = edits(patches, EditKind::Prune);
        let plan = Plan::check(checkpoint, &edits, &plan_options(options.check, options), context)?;
        model.used(plan.changed())?;
    }
    Ok(())
}

/// A model that was measured as it is, ready to be measured with edits: each is asked the same questions, and compared with it.
pub struct Bench<'a> {
    /// The unedited model.
    pub unedited: Row,
    /// Its answers.
    pub unedited_answers: Answers,
    batches: Batches,
    subject: Subject<'a>,
}

impl<'a> Bench<'a> {
    /// Measures the model as it is.
    ///
    /// # Errors
    /// [`crate::model::ModelFault`]; cancellation.
    pub fn new(subject: Subject<'a>, context: &Context<'_>) -> Result<Self, Error> {
        let start = Instant::now();
        let unedited = Row { edit: None, edited: 0, outcomes: Vec::new(), changes: Vec::new(), time: Duration::ZERO };
        let Subject { model, planning, engine, .. } = subject;
        let batches = model.batches(&planning.work, engine.limits);
        let mut bench = Self { unedited, unedited_answers: Answers::default(), batches, subject };
        bench.unedited_answers = bench.answer(Edited::new(), context)?;
        bench.unedited.outcomes = bench.outcomes(&bench.unedited_answers);
        bench.unedited.time = start.elapsed();
        Ok(bench)
    }

    /// Whether `patches` can be applied so, as far as that can be known without editing.
    ///
    /// # Errors
    /// As [`verify`].
    pub fn check(&self, patches: &[Patch], case: Case, context: &Context<'_>) -> Result<(), Error> {
        Plan::check(self.subject.checkpoint, &edits(patches, case.kind), &self.quick(), context).map(|_| ())
    }

    /// Measures the model with `patches`, whose base was checked before.
    ///
    /// # Errors
    /// As [`verify`].
    pub fn row(&self, patches: &[Patch], case: Case, context: &Context<'_>) -> Result<Row, Error> {
        let start = Instant::now();
        let (answers, edited) = self.answers(patches, case, context)?;
        let outcomes = self.outcomes(&answers);
        let pairs = self.unedited.outcomes.iter().zip(&outcomes);
        let changes = pairs.map(|(before, after)| compare(before, after, self.subject.options.seed)).collect();
        Ok(Row { edit: Some(case.kind), edited, outcomes, changes, time: start.elapsed() })
    }

    /// The answers of the model with `patches`, whose base was checked before, and how many weights are edited.
    ///
    /// # Errors
    /// As [`verify`].
    pub fn answers(&self, patches: &[Patch], case: Case, context: &Context<'_>) -> Result<(Answers, u64), Error> {
        let edits = edits(patches, case.kind);
        let plan = Plan::check(self.subject.checkpoint, &edits, &self.quick(), context)?;
        let (tensors, edited) = edited(&plan, self.subject.model, context)?;
        Ok((self.answer(tensors, context)?, edited))
    }

    /// The model, for a report.
    pub fn model(&self) -> ModelSummary {
        let weights = self.subject.model.weights().iter().filter_map(|name| self.subject.checkpoint.tensor(name));
        let mut dtypes: Vec<String> = weights.map(|tensor| tensor.info.dtype.to_string()).collect();
        dtypes.sort();
        dtypes.dedup();
        ModelSummary {
            path: self.subject.checkpoint.path.clone(),
            onnx: self.subject.model.foreign().map(|foreign| foreign.file.path.clone()),
            model_type: self.subject.model.config.model_type.clone(),
            dtypes,
            facts: *self.subject.model.facts(),
        }
    }

    /// What every model is asked, for a report.
    pub fn work(&self) -> WorkSummary {
        let work = &self.subject.planning.work;
        WorkSummary {
            sequences: work.sequences().len(),
            questions: work.log_probabilities().len() + work.embeddings().len() + work.distributions().len(),
            tokens: self.batches.tokens,
        }
    }

    fn answer(&self, edited: Edited, context: &Context<'_>) -> Result<Answers, Error> {
        context.count("measuring", self.batches.tokens);
        let Subject { model, checkpoint, planning, engine, .. } = self.subject;
        let answers = model
            .session(checkpoint, edited, engine)
            .and_then(|mut session| session.answer(&planning.work, &self.batches, context));
        checkpoint.settled(answers.map_err(Error::from))
    }

    fn outcomes(&self, answers: &Answers) -> Vec<Outcome> {
        self.subject
            .planning
            .planned
            .par_iter()
            .map(|planned| planned.outcome(answers, &self.unedited_answers))
            .collect()
    }

    fn quick(&self) -> PlanOptions {
        plan_options(Check::Quick, self.subject.options)
    }
}

fn edits(patches: &[Patch], kind: EditKind) -> Vec<Edit> {
    patches.iter().map(|patch| Edit { patch: patch.clone(), kind }).collect()
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
            let mut sink = |_, part: &[u8]| {
                bytes.extend_from_slice(part);
                Ok(())
            };
            let edited = plan.edit_tensor(*tensor, &mut sink, context)?;
            Ok((tensor.info.name.clone(), bytes, edited))
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let edited = results.iter().map(|(_, _, edited)| edited).sum();
    Ok((results.into_iter().map(|(name, bytes, _)| (name, bytes)).collect(), edited))
}

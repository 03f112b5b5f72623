//! Measures a model before and after edits. All models answer the same questions.
//!
//! ```text
//! measures --plan--> WorkList --Batches--> for each edit: Plan --edited tensors--> Session --Answers--> Outcomes --compare--> Changes
//! ```
//!
//! No checkpoint is written: an edited tensor is a copy in memory, with the bytes that `apply` would write.

use crate::apply::{Check, DifferentBase, Edit, NotFinite, Plan, PlanOptions};
use crate::checkpoint::{Checkpoint, Tensor};
use crate::context::Context;
use crate::digest::Digest;
use crate::edit::EditKind;
use crate::error::Error;
use crate::measure::compare::{Change, Comparison};
use crate::measure::generation::Generation;
use crate::measure::{Answers, ModelFacts, Outcome, PlannedMeasure, WorkList};
use crate::model::{Batches, EditedTensors, Engine, Model, ModelFault};
use crate::pair::PrefixMap;
use crate::patch::Patch;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How patches are checked, and edited models are compared with the unedited one.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// How thoroughly the base is checked. It is checked once.
    pub check: Check,
    /// Maps prefixes of tensor names in the patches to those in the model.
    pub prefix: Option<PrefixMap>,
    /// How changes are tested.
    pub comparison: Comparison,
}

/// The measurements of a model and its edits.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// The model.
    pub model: ModelSummary,
    /// How much was asked of each model.
    pub work: WorkSummary,
    /// The patches, in the order in which they are applied.
    pub patches: Vec<PatchSummary>,
    /// The prompts that every model continued.
    pub prompts: Vec<String>,
    /// The unedited model first, then the edits in their order.
    pub rows: Vec<Measurement>,
}

/// A model, as a report describes it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ModelSummary {
    /// Its directory.
    pub path: PathBuf,
    /// The ONNX export that was measured instead of a graph built from the configuration.
    pub onnx: Option<PathBuf>,
    /// `model_type` of its configuration.
    pub model_type: String,
    /// The dtypes of its weights, such as `F32`.
    pub dtypes: Vec<String>,
    /// Its kind and sizes.
    pub facts: ModelFacts,
}

/// The size of a work list.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct WorkSummary {
    /// Distinct sequences.
    pub sequences: usize,
    /// Distinct questions.
    pub questions: usize,
    /// Tokens in all batches, padding included.
    pub tokens: u64,
}

/// A patch, as a report describes it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PatchSummary {
    /// Its file.
    pub path: PathBuf,
    /// Its id.
    pub id: Digest,
    /// The alpha that its author recommends.
    pub recommended_alpha: Option<f64>,
}

impl PatchSummary {
    /// Describes a patch.
    pub fn new(patch: &Patch) -> Self {
        Self { path: patch.name().to_owned(), id: patch.id(), recommended_alpha: patch.metadata().recommended_alpha }
    }
}

/// What was measured of one model, edited or not.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Measurement {
    /// The edit. None for the unedited model.
    pub edit: Option<EditKind>,
    /// The number of edited weights.
    pub edited: u64,
    /// The outcome of each measure.
    pub outcomes: Vec<Outcome>,
    /// For each outcome, the changes of its scores. Empty for the unedited model.
    pub changes: Vec<Vec<Change>>,
    /// What the model writes after each prompt.
    pub continuations: Vec<String>,
    /// The time from loading the model to its last answer.
    pub time: Duration,
}

/// Measures, and their questions in one work list.
#[derive(Default)]
pub struct MeasurePlan {
    /// The questions of all measures.
    pub work: WorkList,
    /// The measures.
    pub measures: Vec<Box<dyn PlannedMeasure>>,
    /// Prompts that every model continues.
    pub generation: Option<Generation>,
}

impl MeasurePlan {
    /// The names of the measures.
    pub fn measured(&self) -> Vec<&str> {
        self.measures.iter().map(|measure| measure.measure()).collect()
    }
}

/// A model, the measures of it, and the runtime.
#[derive(Clone, Copy)]
pub struct Evaluation<'a> {
    /// The model.
    pub model: &'a Model,
    /// Its weights.
    pub checkpoint: &'a Checkpoint,
    /// The measures.
    pub plan: &'a MeasurePlan,
    /// How patches are checked, and edited models are compared with the unedited one.
    pub options: &'a VerifyOptions,
    /// The runtime.
    pub engine: &'a Engine,
}

/// Measures a model without `patches`, and once for each of `edits` with them.
///
/// Memory: the weights as the runtime holds them, and a copy of the edited tensors.
///
/// # Errors
/// A base that does not fit; an edited number out of the dtype's range; [`crate::model::ModelFault`]; cancellation.
pub fn verify(
    evaluation: Evaluation<'_>,
    patches: &[Patch],
    edits: &[EditKind],
    context: &Context<'_>,
) -> Result<Report, Error> {
    check(evaluation, patches, context)?;
    let baseline = Baseline::measure(evaluation, context)?;
    let mut rows = vec![baseline.unedited.clone()];
    for edit in edits {
        rows.push(baseline.measure_edit(patches, *edit, context)?);
    }
    let patches = patches.iter().map(PatchSummary::new).collect();
    Ok(Report { model: baseline.model(), work: baseline.work(), patches, prompts: baseline.prompts(), rows })
}

/// Checks that patches fit the model, which is cheap compared with measuring it.
pub(crate) fn check(evaluation: Evaluation<'_>, patches: &[Patch], context: &Context<'_>) -> Result<(), Error> {
    let Evaluation { model, checkpoint, options, .. } = evaluation;
    if !patches.is_empty() {
        let edits = edits(patches, EditKind::Prune);
        let plan = Plan::check(checkpoint, &edits, &plan_options(options.check, options), context)?;
        model.used(plan.changed())?;
    }
    Ok(())
}

/// Edits the model, and forgets the result: whether masks can be switched shows only where they are.
pub(crate) fn try_edit(
    evaluation: Evaluation<'_>,
    patches: &[Patch],
    edit: EditKind,
    context: &Context<'_>,
) -> Result<(), Error> {
    let options = plan_options(Check::Quick, evaluation.options);
    let edits = edits(patches, edit);
    let plan = Plan::check(evaluation.checkpoint, &edits, &options, context)?;
    edited_tensors(&plan, evaluation.model, context).map(|_| ())
}

/// The unedited model with its measurement, to which edited models are compared.
pub struct Baseline<'a> {
    /// The measurement of the unedited model.
    pub unedited: Measurement,
    /// Its answers.
    pub unedited_answers: Answers,
    batches: Batches,
    evaluation: Evaluation<'a>,
}

impl<'a> Baseline<'a> {
    /// Measures the unedited model.
    ///
    /// # Errors
    /// [`crate::model::ModelFault`]; cancellation.
    pub fn measure(evaluation: Evaluation<'a>, context: &Context<'_>) -> Result<Self, Error> {
        let start = Instant::now();
        let unedited = Measurement {
            edit: None,
            edited: 0,
            outcomes: Vec::new(),
            changes: Vec::new(),
            continuations: Vec::new(),
            time: Duration::ZERO,
        };
        let Evaluation { model, plan, engine, .. } = evaluation;
        let batches = model.batches(&plan.work, engine.limits);
        let mut baseline = Self { unedited, unedited_answers: Answers::default(), batches, evaluation };
        let (answers, continuations) = baseline.run(EditedTensors::new(), context)?;
        (baseline.unedited_answers, baseline.unedited.continuations) = (answers, continuations);
        baseline.unedited.outcomes = baseline.outcomes(&baseline.unedited_answers);
        baseline.unedited.time = start.elapsed();
        Ok(baseline)
    }

    /// Checks, without editing, that `patches` can be applied as `edit`.
    ///
    /// # Errors
    /// As [`verify`].
    pub fn check(&self, patches: &[Patch], edit: EditKind, context: &Context<'_>) -> Result<(), Error> {
        Plan::check(self.evaluation.checkpoint, &edits(patches, edit), &self.quick(), context).map(|_| ())
    }

    /// Measures the model with `patches`, whose base was checked before.
    ///
    /// # Errors
    /// As [`verify`].
    pub fn measure_edit(&self, patches: &[Patch], edit: EditKind, context: &Context<'_>) -> Result<Measurement, Error> {
        let start = Instant::now();
        let (tensors, edited) = self.edited(patches, edit, context)?;
        let (answers, continuations) = self.run(tensors, context)?;
        let outcomes = self.outcomes(&answers);
        let pairs = self.unedited.outcomes.iter().zip(&outcomes);
        let changes = pairs.map(|(before, after)| self.evaluation.options.comparison.changes(before, after)).collect();
        Ok(Measurement { edit: Some(edit), edited, outcomes, changes, continuations, time: start.elapsed() })
    }

    /// The answers of the model with `patches`, whose base was checked before, and the number of edited weights.
    ///
    /// # Errors
    /// As [`verify`].
    pub fn answers(&self, patches: &[Patch], edit: EditKind, context: &Context<'_>) -> Result<(Answers, u64), Error> {
        let (tensors, edited) = self.edited(patches, edit, context)?;
        Ok((self.run(tensors, context)?.0, edited))
    }

    fn edited(&self, patches: &[Patch], edit: EditKind, context: &Context<'_>) -> Result<(EditedTensors, u64), Error> {
        let edits = edits(patches, edit);
        let plan = Plan::check(self.evaluation.checkpoint, &edits, &self.quick(), context)?;
        edited_tensors(&plan, self.evaluation.model, context)
    }

    /// The most tokens that are added to a prompt, if there are any.
    pub fn prompt_tokens(&self) -> Option<u32> {
        self.evaluation.plan.generation.as_ref().map(Generation::tokens_max)
    }

    /// The prompts that every model continues.
    pub fn prompts(&self) -> Vec<String> {
        let generation = self.evaluation.plan.generation.iter();
        generation.flat_map(Generation::prompts).map(str::to_owned).collect()
    }

    /// Describes the model.
    pub fn model(&self) -> ModelSummary {
        let weights = self.evaluation.model.weights().iter().filter_map(|name| self.evaluation.checkpoint.tensor(name));
        let mut dtypes: Vec<String> = weights.map(|tensor| tensor.info.dtype.to_string()).collect();
        dtypes.sort();
        dtypes.dedup();
        ModelSummary {
            path: self.evaluation.checkpoint.path().to_owned(),
            onnx: self.evaluation.model.exported_graph().map(|graph| graph.file().path().to_owned()),
            model_type: self.evaluation.model.config().model_type().to_owned(),
            dtypes,
            facts: *self.evaluation.model.facts(),
        }
    }

    /// The size of the work list, which is the same for all models.
    pub fn work(&self) -> WorkSummary {
        let work = &self.evaluation.plan.work;
        WorkSummary {
            sequences: work.sequences().len(),
            questions: work.log_probabilities().len() + work.embeddings().len() + work.distributions().len(),
            tokens: self.batches.tokens,
        }
    }

    /// The answers of a model, and what it writes after the prompts.
    fn run(&self, edited: EditedTensors, context: &Context<'_>) -> Result<(Answers, Vec<String>), Error> {
        context.count("measuring", self.batches.tokens);
        let Evaluation { model, checkpoint, plan, engine, .. } = self.evaluation;
        let found = model.session(checkpoint, edited, engine).and_then(|mut session| {
            let answers = session.answer(&plan.work, &self.batches, context)?;
            let continuations = plan.generation.as_ref().map_or(Ok(Vec::new()), |generation| {
                context.count("writing", u64::from(generation.tokens_max()));
                generation.run(|work| {
                    let answers = session.answer(work, &model.batches(work, engine.limits), &Context::silent())?;
                    context.advance(1)?;
                    Ok::<_, ModelFault>(answers)
                })
            });
            Ok((answers, continuations?))
        });
        checkpoint.settled(found.map_err(Error::from))
    }

    fn outcomes(&self, answers: &Answers) -> Vec<Outcome> {
        let measures = self.evaluation.plan.measures.par_iter();
        measures.map(|measure| measure.outcome(answers, &self.unedited_answers)).collect()
    }

    fn quick(&self) -> PlanOptions {
        plan_options(Check::Quick, self.evaluation.options)
    }
}

fn edits(patches: &[Patch], kind: EditKind) -> Vec<Edit> {
    patches.iter().map(|patch| Edit { patch: patch.clone(), kind }).collect()
}

fn plan_options(check: Check, options: &VerifyOptions) -> PlanOptions {
    let (different_base, not_finite) = (DifferentBase::Refuse, NotFinite::Refuse);
    PlanOptions { check, different_base, not_finite, prefix: options.prefix.clone() }
}

/// The edited bytes of the model's tensors that a plan changes, and the number of edited weights in them.
fn edited_tensors(plan: &Plan<'_>, model: &Model, context: &Context<'_>) -> Result<(EditedTensors, u64), Error> {
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

//! Predictions of a model for some prompts, before and after edits.

use crate::context::Context;
use crate::edit::EditKind;
use crate::error::Error;
use crate::measure::Tokens;
use crate::measure::predictions::{PromptPredictions, Prompts};
use crate::patch::Patch;
use crate::verify::{Baseline, Evaluation, ModelSummary, PatchSummary, check};

/// The predictions of a model and its edits.
#[derive(Debug, Clone)]
pub struct PredictionReport {
    /// The unedited model.
    pub model: ModelSummary,
    /// The patches, in the order in which they are applied.
    pub patches: Vec<PatchSummary>,
    /// The edit and the number of edited weights of each model: the unedited model first, then the edits in their order.
    pub models: Vec<(Option<EditKind>, u64)>,
    /// The predictions of every model for each prompt.
    pub prompts: Vec<PromptPredictions>,
}

/// Asks a model without `patches`, and once for each of `edits` with them. The questions of `prompts` are in the evaluation's work list.
///
/// Memory: that of [`crate::verify::verify`]; where the most likely tokens are asked for, also one number for each token of the
/// vocabulary, each prompt and each edit.
///
/// # Errors
/// As [`crate::verify::verify`].
pub fn ask(
    evaluation: Evaluation<'_>,
    prompts: &Prompts,
    tokens: &dyn Tokens,
    patches: &[Patch],
    edits: &[EditKind],
    context: &Context<'_>,
) -> Result<PredictionReport, Error> {
    check(evaluation, patches, context)?;
    let baseline = Baseline::measure(evaluation, context)?;
    let mut models = vec![(None, 0)];
    let mut edited_answers = Vec::new();
    for edit in edits {
        let (answers, edited) = baseline.answers(patches, *edit, context)?;
        models.push((Some(*edit), edited));
        edited_answers.push(answers);
    }
    let answers: Vec<_> = std::iter::once(&baseline.unedited_answers).chain(&edited_answers).collect();
    let prompts = prompts.predictions(&answers, tokens);
    Ok(PredictionReport {
        model: baseline.model(),
        patches: patches.iter().map(PatchSummary::new).collect(),
        models,
        prompts,
    })
}

//! A model asked what it expects at a place of a text, before and after edits.

use crate::context::Context;
use crate::edit::EditKind;
use crate::error::Error;
use crate::measure::Tokens;
use crate::measure::predictions::{Expected, Prompts};
use crate::patch::Patch;
use crate::verify::{Bench, Case, ModelSummary, PatchSummary, Subject, check};

/// What models expect.
#[derive(Debug, Clone)]
pub struct Told {
    /// The unedited model.
    pub model: ModelSummary,
    /// The patches, in the order in which they are applied.
    pub patches: Vec<PatchSummary>,
    /// The models: the unedited one first, then the cases in their order. With how many weights are edited.
    pub models: Vec<(Option<EditKind>, u64)>,
    /// For each place that is asked about, what each model expects.
    pub expected: Vec<Expected>,
}

/// Asks a model without and with `patches`, once for each case. The questions of `prompts` are in the subject's work list.
///
/// Memory: that of [`crate::verify::verify`], and where the likeliest tokens are asked for, a number for each token of the vocabulary,
/// each prompt and each case.
///
/// # Errors
/// As [`crate::verify::verify`].
pub fn ask(
    subject: Subject<'_>,
    prompts: &Prompts,
    tokens: &dyn Tokens,
    patches: &[Patch],
    cases: &[Case],
    context: &Context<'_>,
) -> Result<Told, Error> {
    check(subject, patches, context)?;
    let bench = Bench::new(subject, context)?;
    let mut models = vec![(None, 0)];
    let mut edited = Vec::new();
    for case in cases {
        let (answers, weights) = bench.answers(patches, *case, context)?;
        models.push((Some(case.kind), weights));
        edited.push(answers);
    }
    let answers: Vec<_> = std::iter::once(&bench.unedited_answers).chain(&edited).collect();
    let expected = prompts.expected(&answers, tokens);
    Ok(Told { model: bench.model(), patches: patches.iter().map(PatchSummary::of).collect(), models, expected })
}

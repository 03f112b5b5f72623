//! A loaded model, which answers the questions of a work list.

use super::ModelFault;
use super::batches::{Batch, Batches, PaddedBatch, QuestionKind};
use crate::measure::work_list::Question;
use crate::measure::{Answers, Layers, ModelFacts, WorkList};
use half::f16;
use lcepatch_files::context::Context;
use ort::session::{OutputSelector, RunOptions, SessionInputValue};
use ort::value::{DynValue, Tensor};
use std::borrow::Cow;
use std::sync::Arc;

/// The inputs and outputs of a graph: those of built and of exported graphs differ.
pub(super) trait GraphIo: Send + Sync {
    /// The inputs of a batch.
    fn inputs(&self, kind: QuestionKind, batch: &PaddedBatch) -> Result<Vec<Input>, ModelFault>;

    /// The name of the output from which probabilities are read.
    fn predictions(&self, kind: QuestionKind) -> Result<&str, ModelFault>;

    /// The names of the outputs with the hidden states of these layers, the last layer last. Their shape is `[B * S, H]` or `[B, S, H]`.
    fn hidden(&self, layers: Layers) -> Result<Vec<String>, ModelFault>;

    /// Checks an output's shape. The shapes of a built graph need no check.
    fn check(&self, output: &str, shape: &[i64], batch: &PaddedBatch) -> Result<(), ModelFault>;

    /// The log-probability for each question, from the values of the output [`GraphIo::predictions`].
    fn log_probabilities(&self, output: &[f32], batch: &PaddedBatch) -> Vec<f32>;

    /// The log-probabilities of the vocabulary for each question, from the same values.
    fn distributions(&self, output: &[f32], batch: &PaddedBatch) -> Vec<Vec<f32>>;
}

/// An input's name and value.
pub(super) type Input = (Cow<'static, str>, SessionInputValue<'static>);

/// An input of 64-bit integers.
pub(super) fn int64_input<const N: usize>(
    name: impl Into<Cow<'static, str>>,
    shape: [usize; N],
    values: Vec<i64>,
) -> Result<Input, ModelFault> {
    Ok((name.into(), Tensor::from_array((shape.to_vec(), values))?.into()))
}

/// A model with its weights loaded.
pub struct Session {
    pub(super) inner: ort::session::Session,
    pub(super) facts: ModelFacts,
    pub(super) interface: Arc<dyn GraphIo>,
}

impl Session {
    /// Answers the questions of a work list, batch by batch. `batches` are those of the list.
    ///
    /// # Errors
    /// [`ModelFault::TooLong`], [`ModelFault::Vocabulary`], [`ModelFault::NoOutput`] for questions that the model cannot answer;
    /// [`ModelFault::Output`]; [`ModelFault::Runtime`]; [`ModelFault::NotFinite`]; cancellation.
    pub fn answer(&mut self, work: &WorkList, batches: &Batches, context: &Context<'_>) -> Result<Answers, ModelFault> {
        self.check(work)?;
        let mut answers = Answers {
            log_probabilities: vec![0.0; work.log_probabilities().len()],
            embeddings: vec![Vec::new(); work.embeddings().len()],
            distributions: vec![Vec::new(); work.distributions().len()],
        };
        // A missing output is reported before the first batch runs.
        batches.batches.iter().try_for_each(|batch| self.outputs(work, batch).map(|_| ()))?;
        for batch in &batches.batches {
            self.run(work, batch, &mut answers)?;
            context.advance((batch.length * batch.sequences.len()) as u64)?;
        }
        Ok(answers)
    }

    fn check(&self, work: &WorkList) -> Result<(), ModelFault> {
        for ids in work.sequences() {
            if ids.len() > self.facts.positions as usize {
                return Err(ModelFault::TooLong { length: ids.len(), most: self.facts.positions });
            }
            if let Some(id) = ids.iter().find(|id| **id >= self.facts.vocabulary) {
                return Err(ModelFault::Vocabulary { token: None, id: *id, vocabulary: self.facts.vocabulary });
            }
        }
        Ok(())
    }

    fn run(&mut self, work: &WorkList, batch: &Batch, answers: &mut Answers) -> Result<(), ModelFault> {
        let padded = PaddedBatch::new(work, batch);
        let inputs = self.interface.inputs(batch.kind, &padded)?;
        let outputs = self.outputs(work, batch)?;
        let selector = outputs.iter().fold(OutputSelector::no_default(), |selector, name| selector.with(name));
        let options = RunOptions::new()?.with_outputs(selector);
        let found = self.inner.run_with_options(inputs, &options)?;
        let interface = &self.interface;
        let floats = outputs
            .iter()
            .map(|name| {
                interface.check(name, found[name.as_str()].shape(), &padded)?;
                floats(&found[name.as_str()])
            })
            .collect::<Result<Vec<Cow<'_, [f32]>>, ModelFault>>()?;
        let [.., last] = &floats[..] else { return Ok(()) };
        match batch.kind {
            QuestionKind::LogProbabilities => {
                for (asked, found) in padded.questions.iter().zip(interface.log_probabilities(last, &padded)) {
                    answers.log_probabilities[asked.question] = finite(found)?;
                }
            }
            QuestionKind::Distributions => {
                for (asked, found) in padded.questions.iter().zip(interface.distributions(last, &padded)) {
                    found.iter().try_for_each(|found| finite(*found).map(|_| ()))?;
                    answers.distributions[asked.question] = found;
                }
            }
            QuestionKind::Embeddings => {
                for asked in &padded.questions {
                    answers.embeddings[asked.question] =
                        mean_hidden_states(work, asked.question, asked.row, padded.rows(), &floats)?;
                }
            }
        }
        Ok(())
    }

    /// The outputs that a batch needs.
    fn outputs(&self, work: &WorkList, batch: &Batch) -> Result<Vec<String>, ModelFault> {
        if batch.kind != QuestionKind::Embeddings {
            return Ok(vec![self.interface.predictions(batch.kind)?.to_owned()]);
        }
        let mut asked = batch.sequences.iter().flat_map(|(_, questions)| questions);
        let every = asked.any(|question| work.embeddings()[*question].layers == Layers::Every);
        self.interface.hidden(if every { Layers::Every } else { Layers::Last })
    }
}

/// The values of an output, converted to 32 bits.
fn floats(value: &DynValue) -> Result<Cow<'_, [f32]>, ModelFault> {
    if let Ok((_, halves)) = value.try_extract_tensor::<f16>() {
        return Ok(Cow::Owned(halves.iter().map(|half| half.to_f32()).collect()));
    }
    Ok(Cow::Borrowed(value.try_extract_tensor::<f32>()?.1))
}

/// The answer to an embedding question: for each layer, the mean of the hidden states at its positions. `layers` are hidden states
/// `[rows, H]`, the last layer last; row `start` is the first token of the sequence.
fn mean_hidden_states(
    work: &WorkList,
    question: Question,
    start: usize,
    rows: usize,
    layers: &[Cow<'_, [f32]>],
) -> Result<Vec<Vec<f32>>, ModelFault> {
    let asked = &work.embeddings()[question];
    let layers = if asked.layers == Layers::Last { &layers[layers.len() - 1..] } else { layers };
    let mean = |states: &Cow<'_, [f32]>| {
        let width = states.len() / rows;
        let mut sums = vec![0f64; width];
        for position in asked.positions.clone() {
            let row = &states[(start + position as usize) * width..][..width];
            sums.iter_mut().zip(row).for_each(|(sum, number)| *sum += f64::from(*number));
        }
        let count = asked.positions.len() as f64;
        sums.iter().map(|sum| finite((sum / count) as f32)).collect()
    };
    layers.iter().map(mean).collect()
}

fn finite(found: f32) -> Result<f32, ModelFault> {
    if found.is_finite() { Ok(found) } else { Err(ModelFault::NotFinite { found }) }
}

//! A loaded model that answers work lists.

use super::batches::{Ask, Batch, Batches, Limits};
use super::graph::Graph;
use super::runtime::{self, About, Found, Provider, RuntimeFault};
use super::weights::WeightFiles;
use super::{Edited, ModelFault};
use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::dtype::Dtype;
use crate::measure::work::Question;
use crate::measure::{Answers, Facts, Kind, Layers, Work};
use half::{bf16, f16};
use ort::environment::Environment;
use ort::session::builder::SessionBuilder;
use ort::session::{OutputSelector, RunOptions, SessionInputValue};
use ort::value::{DynValue, Tensor};
use prost::Message;
use std::borrow::Cow;

/// ONNX Runtime, and how to use it.
pub struct Engine {
    /// What the library is.
    pub about: About,
    /// What computes.
    pub provider: Provider,
    /// Threads of a CPU; none for one for each core.
    pub threads: Option<usize>,
    /// How large a batch may be.
    pub limits: Limits,
    environment: Environment,
}

impl Engine {
    /// Finds and loads ONNX Runtime, and starts the provider.
    ///
    /// # Errors
    /// [`RuntimeFault`].
    pub fn start(provider: Provider, threads: Option<usize>) -> Result<Self, RuntimeFault> {
        Self::of(&runtime::find(provider)?, threads)
    }

    /// Loads an ONNX Runtime, and starts the provider that it was found for.
    ///
    /// # Errors
    /// [`RuntimeFault`].
    pub fn of(found: &Found, threads: Option<usize>) -> Result<Self, RuntimeFault> {
        let environment = runtime::load(found)?;
        let about = runtime::about(found, &environment)?;
        let limits = match found.provider {
            Provider::Cpu => Limits::CPU,
            Provider::Cuda { .. } => Limits::CUDA,
        };
        Ok(Self { about, provider: found.provider, threads, limits, environment })
    }
}

/// A model with its weights loaded.
pub struct Session {
    inner: ort::session::Session,
    facts: Facts,
}

/// Loads a graph. Edited tensors are given as they are; the runtime maps the others from their files.
pub(super) fn load(
    graph: &Graph,
    files: &WeightFiles,
    checkpoint: &Checkpoint,
    mut edited: Edited,
    engine: &Engine,
) -> Result<Session, ModelFault> {
    let mut builder = ort::session::Session::builder(&engine.environment)?;
    if let Some(threads) = engine.threads {
        builder = builder.with_intra_threads(threads).map_err(refused)?;
    }
    builder = builder.with_execution_providers(runtime::execution_providers(engine.provider)).map_err(refused)?;
    let folder = files.folder.to_string_lossy();
    builder = builder.with_config_entry(FOLDER, folder.as_ref()).map_err(refused)?;
    for name in &graph.weights {
        let Some(tensor) = checkpoint.tensor(name) else { continue };
        let bytes = match edited.remove(name) {
            Some(bytes) => bytes,
            None if files.is_reachable(tensor.file_index) => continue,
            None => tensor.elements(0..tensor.info.elements()).to_vec(),
        };
        let shape: Vec<i64> = tensor.info.shape.iter().map(|dim| *dim as i64).collect();
        let value = value(tensor.info.dtype, shape, &bytes)?;
        builder = with_weight(builder, name, value)?;
    }
    let inner = builder.commit_from_memory(&graph.model.encode_to_vec())?;
    Ok(Session { inner, facts: graph.facts })
}

/// The key under which the runtime is told the folder of a graph's external data.
const FOLDER: &str = "session.model_external_initializers_file_folder_path";

fn with_weight(builder: SessionBuilder, name: &str, value: DynValue) -> Result<SessionBuilder, ModelFault> {
    builder.with_external_initializer(name, value).map_err(refused)
}

fn refused<R>(error: ort::Error<R>) -> ModelFault {
    ModelFault::Runtime { reason: error.to_string() }
}

/// A tensor that the runtime can read, of little-endian bytes.
fn value(dtype: Dtype, shape: Vec<i64>, bytes: &[u8]) -> Result<DynValue, ModelFault> {
    Ok(match dtype {
        Dtype::F16 => {
            let elements: Vec<f16> = bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b)).collect();
            Tensor::from_array((shape, elements))?.into_dyn()
        }
        Dtype::Bf16 => {
            let elements: Vec<bf16> = bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b)).collect();
            Tensor::from_array((shape, elements))?.into_dyn()
        }
        // The graph takes no other dtypes.
        _ => {
            let elements: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            Tensor::from_array((shape, elements))?.into_dyn()
        }
    })
}

impl Session {
    /// Answers a work list, batch by batch. `batches` are those of the list.
    ///
    /// # Errors
    /// [`ModelFault::TooLong`], [`ModelFault::Vocabulary`]: questions that the model can not be asked; [`ModelFault::Runtime`];
    /// [`ModelFault::NotFinite`]; cancellation.
    pub fn answer(&mut self, work: &Work, batches: &Batches, context: &Context<'_>) -> Result<Answers, ModelFault> {
        self.check(work)?;
        let mut answers = Answers {
            log_probabilities: vec![0.0; work.log_probabilities().len()],
            embeddings: vec![Vec::new(); work.embeddings().len()],
            distributions: vec![Vec::new(); work.distributions().len()],
        };
        for batch in &batches.batches {
            self.run(work, batch, &mut answers)?;
            context.advance((batch.length * batch.sequences.len()) as u64)?;
        }
        Ok(answers)
    }

    fn check(&self, work: &Work) -> Result<(), ModelFault> {
        for ids in work.sequences() {
            if ids.len() > self.facts.positions as usize {
                return Err(ModelFault::TooLong { length: ids.len(), most: self.facts.positions });
            }
            if let Some(id) = ids.iter().find(|id| **id >= self.facts.vocabulary) {
                return Err(ModelFault::Vocabulary { tokens: id + 1, vocabulary: self.facts.vocabulary });
            }
        }
        Ok(())
    }

    fn run(&mut self, work: &Work, batch: &Batch, answers: &mut Answers) -> Result<(), ModelFault> {
        let (size, length) = (batch.sequences.len(), batch.length);
        let mut ids = vec![0i64; size * length];
        let mut mask = vec![0i64; size * length];
        for (row, (sequence, _)) in batch.sequences.iter().enumerate() {
            for (at, id) in work.sequences()[sequence.0].iter().enumerate() {
                ids[row * length + at] = i64::from(*id);
                mask[row * length + at] = 1;
            }
        }
        let shape = [size as i64, length as i64];
        let mut inputs = vec![input("input_ids", shape, ids)?, input("attention_mask", shape, mask)?];
        let asked =
            || batch.sequences.iter().enumerate().flat_map(|(row, (_, asked))| asked.iter().map(move |q| (row, *q)));
        if self.facts.kind != Kind::Encoder {
            let (mut rows, mut tokens) = (Vec::new(), Vec::new());
            for (row, question) in asked() {
                let (position, token) = match batch.ask {
                    Ask::LogProbabilities => {
                        let question = work.log_probabilities()[question];
                        (question.place.position, question.token)
                    }
                    Ask::Distributions => (work.distributions()[question].position, 0),
                    Ask::Embeddings => continue,
                };
                rows.push((row * length) as i64 + i64::from(position));
                tokens.push(i64::from(token));
            }
            if rows.is_empty() {
                // Not every kernel takes an empty list; the answer is not looked at.
                (rows, tokens) = (vec![0], vec![0]);
            }
            let shape = [rows.len() as i64];
            inputs.push(input("rows", shape, rows)?);
            inputs.push(input("tokens", shape, tokens)?);
        }
        let outputs = self.outputs(work, batch);
        let selector = outputs.iter().fold(OutputSelector::no_default(), |selector, name| selector.with(name));
        let options = RunOptions::new()?.with_outputs(selector);
        let found = self.inner.run_with_options(inputs, &options)?;
        let floats = |name: &str| Ok::<&[f32], ModelFault>(found[name].try_extract_tensor::<f32>()?.1);
        match batch.ask {
            Ask::LogProbabilities => {
                for ((_, question), found) in asked().zip(floats("log_probabilities")?) {
                    answers.log_probabilities[question] = finite(*found)?;
                }
            }
            Ask::Distributions => {
                let rows = floats("distributions")?.chunks(self.facts.vocabulary as usize);
                for ((_, question), found) in asked().zip(rows) {
                    found.iter().try_for_each(|found| finite(*found).map(|_| ()))?;
                    answers.distributions[question] = found.to_vec();
                }
            }
            Ask::Embeddings => {
                let layers = outputs.iter().map(|name| floats(name)).collect::<Result<Vec<_>, ModelFault>>()?;
                for (row, question) in asked() {
                    answers.embeddings[question] = means(work, question, row * length, size * length, &layers)?;
                }
            }
        }
        Ok(())
    }

    /// The outputs that a batch needs.
    fn outputs(&self, work: &Work, batch: &Batch) -> Vec<String> {
        let hidden = |layer: u32| format!("hidden.{layer}");
        match batch.ask {
            Ask::LogProbabilities => vec!["log_probabilities".to_owned()],
            Ask::Distributions => vec!["distributions".to_owned()],
            Ask::Embeddings => {
                let mut asked = batch.sequences.iter().flat_map(|(_, questions)| questions);
                let every = asked.any(|question| work.embeddings()[*question].layers == Layers::Every);
                let first = if every { 0 } else { self.facts.layers };
                (first..=self.facts.layers).map(hidden).collect()
            }
        }
    }
}

/// The means that an embedding asks for. `layers` are hidden states of `rows` rows, the last layer last; the sequence's first row is
/// `start`.
fn means(
    work: &Work,
    question: Question,
    start: usize,
    rows: usize,
    layers: &[&[f32]],
) -> Result<Vec<Vec<f32>>, ModelFault> {
    let asked = &work.embeddings()[question];
    let layers = if asked.layers == Layers::Last { &layers[layers.len() - 1..] } else { layers };
    let mean = |states: &&[f32]| {
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

type Input = (Cow<'static, str>, SessionInputValue<'static>);

fn input<const N: usize>(name: &'static str, shape: [i64; N], values: Vec<i64>) -> Result<Input, ModelFault> {
    Ok((Cow::Borrowed(name), Tensor::from_array((shape.to_vec(), values))?.into()))
}

//! The inputs and outputs of an exported graph.

use super::ModelFault;
use super::batches::{BatchQuestion, PaddedBatch, QuestionKind};
use super::config::Config;
use super::graph::families::Predicts;
use super::session::{GraphIo, Input, int64_input};
use crate::measure::{Layers, ModelKind};
use lcepatch_onnx::OnnxFile;
use lcepatch_onnx::message::{DataType, Dimension, DimensionValue, TensorType, TypeValue, ValueInfoProto};
use ort::value::Tensor;

/// The supported inputs, by name.
const INPUTS: [(&str, Role); 4] = [
    ("input_ids", Role::Ids),
    ("attention_mask", Role::Mask),
    ("token_type_ids", Role::Types),
    ("position_ids", Role::Positions),
];

/// The supported inputs, for messages.
pub(super) const SUPPORTED_INPUTS: &str = "input_ids, attention_mask, token_type_ids, position_ids";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Ids,
    Mask,
    Types,
    Positions,
}

/// An input of shape `[B, S]`.
#[derive(Debug)]
struct GraphInput {
    name: String,
    role: Role,
    /// Whether its integers have 32 bits, not 64.
    is_32_bit: bool,
}

/// The inputs and outputs of an exported graph.
#[derive(Debug)]
pub(super) struct Signature {
    inputs: Vec<GraphInput>,
    /// The output `[B, S, V]`.
    logits: Option<String>,
    /// The output `[B, S, H]` with the hidden states of the last layer.
    last: Option<String>,
    /// The outputs `[B, S, H]` with the hidden states of every layer, the embeddings first.
    hidden: Vec<String>,
    vocabulary: usize,
    /// The position id of a sequence's first token.
    first_position: i64,
}

impl Signature {
    /// Reads the signature of an export of the model with this configuration.
    ///
    /// # Errors
    /// [`ModelFault::Input`], [`ModelFault::Malformed`].
    pub fn read(file: &OnnxFile, config: &Config) -> Result<Self, ModelFault> {
        let inputs = file.inputs().iter().map(graph_input).collect::<Result<Vec<_>, ModelFault>>()?;
        if !inputs.iter().any(|input| input.role == Role::Ids) {
            return Err(ModelFault::Input { input: "input_ids".to_owned(), reason: "is missing" });
        }
        let vocabulary = config.size_of_any(&["vocab_size"])?;
        let width = config.size_of_any(&["hidden_size", "n_embd", "d_model", "dim"]).unwrap_or(vocabulary);
        let named = |names: &[&str]| file.outputs().iter().find(|output| names.contains(&output.name.as_str()));
        let hidden: Vec<String> = (0..)
            .map_while(|layer| named(&[&format!("hidden_states.{layer}"), &format!("hidden.{layer}")]))
            .map(|output| output.name.clone())
            .collect();
        let others: Vec<&ValueInfoProto> =
            file.outputs().iter().filter(|output| !hidden.contains(&output.name)).collect();
        Ok(Self {
            inputs,
            logits: output(&others, "logits", vocabulary),
            last: output(&others, "last_hidden_state", width)
                .filter(|_| width != vocabulary)
                .or_else(|| hidden.last().cloned()),
            hidden,
            vocabulary: vocabulary as usize,
            first_position: config.first_position()? as i64,
        })
    }

    /// The kind of the model, by its family or class. A model with neither logits nor the class of a language model is an encoder. A
    /// language model without logits keeps its kind, so that the first question about a probability reports the missing output.
    pub fn kind(&self, config: &Config) -> ModelKind {
        const CAUSAL: [&str; 2] = ["ForCausalLM", "LMHeadModel"];
        const MASKED: [&str; 1] = ["ForMaskedLM"];
        let predicts = self.logits.is_some() || config.is_saved_from(&CAUSAL) || config.is_saved_from(&MASKED);
        match config.family().map(|family| family.predicts) {
            _ if !predicts => ModelKind::Encoder,
            Some(Predicts::Next) => ModelKind::Causal,
            Some(Predicts::Masked) => ModelKind::Masked,
            Some(Predicts::Nothing) => ModelKind::Encoder,
            None if config.is_saved_from(&CAUSAL) => ModelKind::Causal,
            None if config.is_saved_from(&MASKED) => ModelKind::Masked,
            None => ModelKind::Encoder,
        }
    }

    /// The number of layers, if each has an output.
    pub fn layers(&self) -> Option<u32> {
        self.hidden.len().checked_sub(1).map(|last| last as u32)
    }

    /// Whether the graph takes an attention mask. Without one it cannot take padding, and every sequence must be a batch of its own.
    pub fn has_mask(&self) -> bool {
        self.inputs.iter().any(|input| input.role == Role::Mask)
    }

    /// The logits of a row, and the logarithm of the sum of their exponentials.
    fn log_sum<'f>(&self, output: &'f [f32], row: usize) -> (&'f [f32], f64) {
        let logits = &output[row * self.vocabulary..][..self.vocabulary];
        let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - most).exp()).sum();
        (logits, most + sum.ln())
    }
}

/// Reads an input, which must be a supported one.
fn graph_input(value: &ValueInfoProto) -> Result<GraphInput, ModelFault> {
    let refused = |reason| ModelFault::Input { input: value.name.clone(), reason };
    let role = INPUTS.iter().find(|(name, _)| *name == value.name).map(|(_, role)| *role);
    let role = role.ok_or_else(|| refused("is not supported"))?;
    let tensor = tensor_type(value).ok_or_else(|| refused("is not a tensor"))?;
    let is_32_bit = match DataType::try_from(tensor.elem_type) {
        Ok(DataType::Int64) => false,
        Ok(DataType::Int32) => true,
        _ => return Err(refused("does not take integers of 32 or 64 bits")),
    };
    let dims = tensor.shape.iter().flat_map(|shape| &shape.dim);
    if dims.clone().any(|dim| size(dim).is_some()) {
        return Err(refused("has a fixed size; export with dynamic axes for batch and sequence"));
    }
    Ok(GraphInput { name: value.name.clone(), role, is_32_bit })
}

/// The output called `name`, or else the only output with three axes whose last one has `width` elements.
fn output(outputs: &[&ValueInfoProto], name: &str, width: u64) -> Option<String> {
    let fits = |output: &&&ValueInfoProto| {
        let dims = tensor_type(output).and_then(|tensor| tensor.shape.as_ref()).map(|shape| &shape.dim[..]);
        matches!(dims, Some([_, _, last]) if size(last) == Some(width as i64))
    };
    let named = outputs.iter().find(|output| output.name == name);
    let mut fitting = outputs.iter().filter(fits);
    let only = || fitting.next().filter(|_| fitting.next().is_none());
    named.or_else(only).map(|output| output.name.clone())
}

fn tensor_type(value: &ValueInfoProto) -> Option<&TensorType> {
    match value.r#type.as_ref()?.value.as_ref()? {
        TypeValue::Tensor(tensor) => Some(tensor),
        _ => None,
    }
}

fn size(dim: &Dimension) -> Option<i64> {
    match dim.value {
        Some(DimensionValue::Size(size)) => Some(size),
        _ => None,
    }
}

impl GraphIo for Signature {
    fn inputs(&self, _: QuestionKind, batch: &PaddedBatch) -> Result<Vec<Input>, ModelFault> {
        let [_, length] = batch.shape;
        let value = |input: &GraphInput| {
            let values: Vec<i64> = match input.role {
                Role::Ids => batch.ids.clone(),
                Role::Mask => batch.mask.clone(),
                Role::Types => vec![0; batch.rows()],
                // Padding has position 0, which every model has.
                Role::Positions => (0..batch.rows())
                    .map(|row| if batch.mask[row] == 1 { self.first_position + (row % length) as i64 } else { 0 })
                    .collect(),
            };
            if input.is_32_bit {
                let values: Vec<i32> = values.into_iter().map(|value| value as i32).collect();
                return Ok((input.name.clone().into(), Tensor::from_array((batch.shape.to_vec(), values))?.into()));
            }
            int64_input(input.name.clone(), batch.shape, values)
        };
        self.inputs.iter().map(value).collect()
    }

    fn predictions(&self, _: QuestionKind) -> Result<&str, ModelFault> {
        let question = "what the model predicts";
        self.logits.as_deref().ok_or(ModelFault::NoOutput { output: "logits", question })
    }

    fn hidden(&self, layers: Layers) -> Result<Vec<String>, ModelFault> {
        match (layers, &self.last) {
            (Layers::Every, _) if self.hidden.is_empty() => {
                let question = "the hidden states of every layer";
                Err(ModelFault::NoOutput { output: "hidden_states.0, hidden_states.1, ...", question })
            }
            (Layers::Every, _) => Ok(self.hidden.clone()),
            (Layers::Last, Some(last)) => Ok(vec![last.clone()]),
            (Layers::Last, None) => {
                let question = "the hidden states of the last layer";
                Err(ModelFault::NoOutput { output: "last_hidden_state", question })
            }
        }
    }

    fn check(&self, output: &str, shape: &[i64], batch: &PaddedBatch) -> Result<(), ModelFault> {
        let [size, length] = batch.shape.map(|axis| axis as i64);
        let is_logits = self.logits.as_deref() == Some(output);
        let fits = match *shape {
            [b, s, last] => b == size && s == length && (!is_logits || last == self.vocabulary as i64),
            _ => false,
        };
        if fits {
            return Ok(());
        }
        let last = if is_logits { self.vocabulary.to_string() } else { "hidden".to_owned() };
        let expected = format!("[{size}, {length}, {last}]");
        Err(ModelFault::Output { output: output.to_owned(), found: format!("{shape:?}"), expected })
    }

    fn log_probabilities(&self, output: &[f32], batch: &PaddedBatch) -> Vec<f32> {
        let answer = |asked: &BatchQuestion| {
            let (logits, sum) = self.log_sum(output, asked.row);
            (f64::from(logits[asked.token as usize]) - sum) as f32
        };
        batch.questions.iter().map(answer).collect()
    }

    fn distributions(&self, output: &[f32], batch: &PaddedBatch) -> Vec<Vec<f32>> {
        let answer = |asked: &BatchQuestion| {
            let (logits, sum) = self.log_sum(output, asked.row);
            logits.iter().map(|logit| (f64::from(*logit) - sum) as f32).collect()
        };
        batch.questions.iter().map(answer).collect()
    }
}

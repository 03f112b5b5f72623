//! What a user's export takes and gives.

use super::ModelFault;
use super::batches::{PaddedBatch, QuestionKind};
use super::config::{Config, Family};
use super::session::{GraphIo, Input, input};
use crate::measure::{Layers, ModelKind};
use lcepatch_onnx::OnnxFile;
use lcepatch_onnx::message::{DataType, Dimension, DimensionValue, TensorType, TypeValue, ValueInfoProto};
use ort::value::Tensor;

/// The inputs that can be given, by name.
const INPUTS: [(&str, Role); 4] = [
    ("input_ids", Role::Ids),
    ("attention_mask", Role::Mask),
    ("token_type_ids", Role::Types),
    ("position_ids", Role::Positions),
];

/// The inputs that can be given, for messages.
pub(super) const UNDERSTOOD: &str = "input_ids, attention_mask, token_type_ids, position_ids";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Ids,
    Mask,
    Types,
    Positions,
}

/// An input, `[B, S]`.
#[derive(Debug)]
struct Wanted {
    name: String,
    role: Role,
    /// Whether it takes integers of 32 bits, and not of 64.
    narrow: bool,
}

/// What an export takes and gives.
#[derive(Debug)]
pub(super) struct Signature {
    inputs: Vec<Wanted>,
    /// `[B, S, V]`.
    logits: Option<String>,
    /// `[B, S, H]`, the output of the last layer.
    last: Option<String>,
    /// `[B, S, H]`, those of all layers, the embeddings first.
    hidden: Vec<String>,
    vocabulary: usize,
    /// The number of a sequence's first position.
    first_position: i64,
}

impl Signature {
    /// Finds out what an export of the model that `config` describes can be asked.
    ///
    /// # Errors
    /// [`ModelFault::Input`], [`ModelFault::Malformed`].
    pub fn of(file: &OnnxFile, config: &Config) -> Result<Self, ModelFault> {
        let inputs = file.inputs.iter().map(wanted).collect::<Result<Vec<_>, ModelFault>>()?;
        if !inputs.iter().any(|input| input.role == Role::Ids) {
            return Err(ModelFault::Input { input: "input_ids".to_owned(), reason: "is missing" });
        }
        let vocabulary = config.size(&["vocab_size"])?;
        let width = config.size_or(&["hidden_size", "n_embd", "d_model", "dim"], vocabulary)?;
        let named = |names: &[&str]| file.outputs.iter().find(|output| names.contains(&output.name.as_str()));
        let hidden: Vec<String> = (0..)
            .map_while(|layer| named(&[&format!("hidden_states.{layer}"), &format!("hidden.{layer}")]))
            .map(|output| output.name.clone())
            .collect();
        let others: Vec<&ValueInfoProto> =
            file.outputs.iter().filter(|output| !hidden.contains(&output.name)).collect();
        Ok(Self {
            inputs,
            logits: output(&others, "logits", vocabulary),
            last: output(&others, "last_hidden_state", width)
                .filter(|_| width != vocabulary)
                .or_else(|| hidden.last().cloned()),
            hidden,
            vocabulary: vocabulary as usize,
            first_position: match config.family {
                Some(Family::Roberta) => config.size_or(&["pad_token_id"], 1)? as i64 + 1,
                _ => 0,
            },
        })
    }

    /// What the model can be asked: what its family or its class says, if there is an output for it or the class is a language
    /// model's, so that the output is missed where it is asked for.
    pub fn kind(&self, config: &Config) -> ModelKind {
        const CAUSAL: [&str; 2] = ["ForCausalLM", "LMHeadModel"];
        const MASKED: [&str; 1] = ["ForMaskedLM"];
        let predicts = self.logits.is_some() || config.is_saved_from(&CAUSAL) || config.is_saved_from(&MASKED);
        match config.family.map(Family::is_causal) {
            _ if !predicts => ModelKind::Encoder,
            Some(true) => ModelKind::Causal,
            Some(false) => ModelKind::Masked,
            None if config.is_saved_from(&CAUSAL) => ModelKind::Causal,
            None if config.is_saved_from(&MASKED) => ModelKind::Masked,
            None => ModelKind::Encoder,
        }
    }

    /// The last layer of which there is an output, if the layers have outputs.
    pub fn layers(&self) -> Option<u32> {
        self.hidden.len().checked_sub(1).map(|last| last as u32)
    }

    /// Whether padding can be told from tokens. Where it cannot, every sequence has to be a batch of its own.
    pub fn has_mask(&self) -> bool {
        self.inputs.iter().any(|input| input.role == Role::Mask)
    }

    fn log_softmax<'f>(&self, found: &'f [f32], row: usize) -> (&'f [f32], f64) {
        let logits = &found[row * self.vocabulary..][..self.vocabulary];
        let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - most).exp()).sum();
        (logits, most + sum.ln())
    }
}

/// An input that can be given.
fn wanted(value: &ValueInfoProto) -> Result<Wanted, ModelFault> {
    let refused = |reason| ModelFault::Input { input: value.name.clone(), reason };
    let role = INPUTS.iter().find(|(name, _)| *name == value.name).map(|(_, role)| *role);
    let role = role.ok_or_else(|| refused("is not understood"))?;
    let tensor = tensor(value).ok_or_else(|| refused("is no tensor"))?;
    let narrow = match DataType::try_from(tensor.elem_type) {
        Ok(DataType::Int64) => false,
        Ok(DataType::Int32) => true,
        _ => return Err(refused("does not take integers of 32 or 64 bits")),
    };
    let dims = tensor.shape.iter().flat_map(|shape| &shape.dim);
    if dims.clone().any(|dim| size(dim).is_some()) {
        return Err(refused("has a fixed size; export with dynamic axes for batch and sequence"));
    }
    Ok(Wanted { name: value.name.clone(), role, narrow })
}

/// The output `name`, or else the only one of three axes of which the last is `width`.
fn output(outputs: &[&ValueInfoProto], name: &str, width: u64) -> Option<String> {
    let fits = |output: &&&ValueInfoProto| {
        let dims = tensor(output).and_then(|tensor| tensor.shape.as_ref()).map(|shape| &shape.dim[..]);
        matches!(dims, Some([_, _, last]) if size(last) == Some(width as i64))
    };
    let named = outputs.iter().find(|output| output.name == name);
    let mut fitting = outputs.iter().filter(fits);
    let only = || fitting.next().filter(|_| fitting.next().is_none());
    named.or_else(only).map(|output| output.name.clone())
}

fn tensor(value: &ValueInfoProto) -> Option<&TensorType> {
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
        let give = |wanted: &Wanted| {
            let values: Vec<i64> = match wanted.role {
                Role::Ids => batch.ids.clone(),
                Role::Mask => batch.mask.clone(),
                Role::Types => vec![0; batch.rows()],
                // Padding gets a number that every model has.
                Role::Positions => (0..batch.rows())
                    .map(|row| if batch.mask[row] == 1 { self.first_position + (row % length) as i64 } else { 0 })
                    .collect(),
            };
            if wanted.narrow {
                let values: Vec<i32> = values.into_iter().map(|value| value as i32).collect();
                return Ok((wanted.name.clone().into(), Tensor::from_array((batch.shape.to_vec(), values))?.into()));
            }
            input(wanted.name.clone(), batch.shape, values)
        };
        self.inputs.iter().map(give).collect()
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

    fn log_probabilities(&self, found: &[f32], batch: &PaddedBatch) -> Vec<f32> {
        let of = |asked: &super::batches::BatchQuestion| {
            let (logits, sum) = self.log_softmax(found, asked.row);
            (f64::from(logits[asked.token as usize]) - sum) as f32
        };
        batch.asked.iter().map(of).collect()
    }

    fn distributions(&self, found: &[f32], batch: &PaddedBatch) -> Vec<Vec<f32>> {
        let of = |asked: &super::batches::BatchQuestion| {
            let (logits, sum) = self.log_softmax(found, asked.row);
            logits.iter().map(|logit| (f64::from(*logit) - sum) as f32).collect()
        };
        batch.asked.iter().map(of).collect()
    }
}

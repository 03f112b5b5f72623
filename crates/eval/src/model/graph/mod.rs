//! Builds the ONNX graph of a model from its configuration, without an export and without Python.
//!
//! `builder` creates nodes and initializers, `parts` has the layers that transformers share, and there is one file for each kind of
//! architecture. Weights are not copied: an initializer refers to bytes of a weight file.

mod builder;
mod decoder;
mod encoder;
mod gpt2;
mod head;
mod llama;
mod neox;
mod opt;
mod parts;

pub use builder::Location;

use super::ModelFault;
use super::config::{Config, Family};
use crate::measure::{ModelFacts, ModelKind};
use builder::Builder;
use lcepatch_files::checkpoint::Checkpoint;
use lcepatch_onnx::message::ModelProto;

/// The inputs and outputs of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// For scoring: log-probabilities of the requested tokens at the requested rows only.
    ///
    /// Inputs: `input_ids` and `attention_mask` `[B, S]`, for models with a head also `rows` and `tokens` `[P]` (a row is `b * S + s`).
    /// Outputs: `log_probabilities` `[P]`, `distributions` `[P, V]`, and `hidden.0` to `hidden.L` `[B * S, H]`.
    Scoring,
    /// As in other exporters. Inputs: `input_ids` and `attention_mask` `[B, S]`. Outputs: `last_hidden_state` `[B, S, H]`, and for models
    /// with a head `logits` `[B, S, V]`.
    Standard,
}

/// A graph, with the kind and the sizes of its model.
#[derive(Debug)]
pub struct Graph {
    /// The graph. Its weights are external data.
    pub model: ModelProto,
    /// The kind and the sizes of the model.
    pub facts: ModelFacts,
    /// Tensors of the checkpoint that are its weights.
    pub weights: Vec<String>,
}

/// The hidden states of every layer, and the output of the head at some rows.
struct Body {
    /// `[B * S, H]` each, the embeddings first.
    hidden: Vec<builder::Value>,
    head: Option<head::Head>,
}

/// Builds the graph of the model with this configuration and checkpoint. `locate` gives the location of a weight file that is written
/// into the graph.
///
/// # Errors
/// [`ModelFault::Architecture`], [`ModelFault::Setting`], [`ModelFault::NoTensor`], [`ModelFault::Tensor`], [`ModelFault::Malformed`].
pub fn build(
    config: &Config,
    checkpoint: &Checkpoint,
    locate: &dyn Fn(usize) -> Location,
    interface: Interface,
) -> Result<Graph, ModelFault> {
    let family = config.known_family()?;
    let mut builder = Builder::new(config, checkpoint, locate);
    let (body, positions) = match family {
        Family::Gpt2 => gpt2::body(&mut builder, config)?,
        Family::GptNeoX => neox::body(&mut builder, config)?,
        Family::Llama => llama::body(&mut builder, config)?,
        Family::Opt => opt::body(&mut builder, config)?,
        Family::Albert | Family::Bert | Family::DistilBert | Family::Electra | Family::Roberta => {
            encoder::body(&mut builder, config)?
        }
    };
    let facts = ModelFacts {
        kind: match (&body.head, family.is_causal()) {
            (None, _) => ModelKind::Encoder,
            (Some(_), true) => ModelKind::Causal,
            (Some(_), false) => ModelKind::Masked,
        },
        positions: u32::try_from(positions).unwrap_or(u32::MAX),
        vocabulary: u32::try_from(config.size(&["vocab_size"])?).unwrap_or(u32::MAX),
        layers: (body.hidden.len() - 1) as u32,
    };
    match interface {
        Interface::Scoring => score(&mut builder, body)?,
        Interface::Standard => standard(&mut builder, body)?,
    }
    let (model, weights) = builder.finish();
    Ok(Graph { model, facts, weights })
}

/// Computes the head at the requested rows only, and outputs the log-probabilities of the requested tokens only.
fn score(builder: &mut Builder<'_>, body: Body) -> Result<(), ModelFault> {
    if let (Some(head), Some(last)) = (&body.head, body.hidden.last()) {
        let rows = builder.input("rows", &["rows"]);
        let tokens = builder.input("tokens", &["rows"]);
        let at = builder.op("Gather", &[last, &rows], &[("axis", 0.into())]);
        let logits = head.logits(builder, &at)?;
        let logarithms = builder.op("LogSoftmax", &[&logits], &[("axis", (-1).into())]);
        let column = builder.unsqueeze(&tokens, &[1]);
        let wanted = builder.op("GatherElements", &[&logarithms, &column], &[("axis", 1.into())]);
        let wanted = builder.squeeze(&wanted, &[1]);
        builder.output("log_probabilities", &wanted, &["rows"]);
        builder.output("distributions", &logarithms, &["rows", "vocabulary"]);
    }
    for (layer, hidden) in body.hidden.iter().enumerate() {
        builder.output(&format!("hidden.{layer}"), hidden, &["batch_times_sequence", "hidden"]);
    }
    Ok(())
}

fn standard(builder: &mut Builder<'_>, body: Body) -> Result<(), ModelFault> {
    let Some(last) = body.hidden.last() else { return Ok(()) };
    let in_batches = |builder: &mut Builder<'_>, value: &builder::Value| {
        let shape = builder.batch_and_sequence_and(&[-1]);
        builder.op("Reshape", &[value, &shape], &[])
    };
    if let Some(head) = &body.head {
        let logits = head.logits(builder, last)?;
        let logits = in_batches(builder, &logits);
        builder.output("logits", &logits, &["batch", "sequence", "vocabulary"]);
    }
    let hidden = in_batches(builder, last);
    builder.output("last_hidden_state", &hidden, &["batch", "sequence", "hidden"]);
    Ok(())
}

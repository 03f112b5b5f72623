//! Builds the ONNX graph of a model from its configuration, without an export and without Python.
//!
//! `builder` creates nodes and initializers, `parts` has the layers that transformers share, `encoder` and `decoder` have what the relatives
//! of BERT and of Llama share. The architectures themselves, each with the table of its configuration's keys, are short files; `families`
//! lists them. Weights are not copied: an initializer refers to bytes of a weight file.

mod albert;
mod bert;
mod builder;
mod deberta;
mod decoder;
mod distilbert;
mod electra;
mod encoder;
mod experts;
pub mod families;
mod gemma;
mod glm4;
mod gpt2;
mod granite;
mod head;
mod llama;
mod mistral;
mod mixtral;
mod modernbert;
mod mpnet;
mod neox;
mod olmo2;
mod opt;
mod parts;
mod phi3;
mod qwen;
mod rotary;
mod smollm3;
mod t5;
mod unused;

pub use builder::Location;

use super::ModelFault;
use super::config::Config;
use crate::measure::{ModelFacts, ModelKind};
use builder::Builder;
use families::Predicts;
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
    /// What a reader of results must know: settings and tensors that are not used.
    pub notes: Vec<String>,
}

/// The hidden states of every layer, and the output of the head at some rows.
struct Body {
    /// `[B * S, H]` each, the embeddings first.
    hidden: Vec<builder::Value>,
    head: Option<head::Head>,
    /// The most tokens of a sequence.
    positions: u64,
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
    let mut notes = config.check(family)?;
    let mut builder = Builder::new(config, checkpoint, locate);
    let body = (family.build)(&mut builder, config)?;
    let facts = ModelFacts {
        kind: match (&body.head, family.predicts) {
            (None, _) | (_, Predicts::Nothing) => ModelKind::Encoder,
            (Some(_), Predicts::Next) => ModelKind::Causal,
            (Some(_), Predicts::Masked) => ModelKind::Masked,
        },
        positions: u32::try_from(body.positions).unwrap_or(u32::MAX),
        vocabulary: u32::try_from(config.size(&["vocab_size"])?).unwrap_or(u32::MAX),
        layers: (body.hidden.len() - 1) as u32,
    };
    match interface {
        Interface::Scoring => score(&mut builder, body)?,
        Interface::Standard => standard(&mut builder, body)?,
    }
    let (model, weights) = builder.finish();
    notes.extend(unused::note(family, checkpoint, &weights)?);
    Ok(Graph { model, facts, weights, notes })
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

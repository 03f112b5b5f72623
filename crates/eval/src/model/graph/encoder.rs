//! BERT and its relatives: post-norm bidirectional encoders, with or without a masked language model head.

use super::Body;
use super::builder::{Builder, Value};
use super::head::{self, Head, Transform};
use super::parts::Heads;
use crate::model::ModelFault;
use crate::model::config::{Config, Family};

/// The names of an architecture's tensors, after its prefix.
struct Names {
    prefixes: &'static [&'static str],
    /// `{}` stands for the number of the layer. ALBERT uses one layer repeatedly.
    layer: &'static str,
    query: &'static str,
    key: &'static str,
    value: &'static str,
    attention_output: &'static str,
    attention_norm: &'static str,
    intermediate: &'static str,
    output: &'static str,
    output_norm: &'static str,
}

const BERT: Names = Names {
    prefixes: &["bert.", "roberta.", "electra.", ""],
    layer: "encoder.layer.{}.",
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    attention_output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    intermediate: "intermediate.dense",
    output: "output.dense",
    output_norm: "output.LayerNorm",
};

const DISTILBERT: Names = Names {
    prefixes: &["distilbert.", ""],
    layer: "transformer.layer.{}.",
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    attention_output: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    intermediate: "ffn.lin1",
    output: "ffn.lin2",
    output_norm: "output_layer_norm",
};

const ALBERT: Names = Names {
    prefixes: &["albert.", ""],
    layer: "encoder.albert_layer_groups.0.albert_layers.0.",
    query: "attention.query",
    key: "attention.key",
    value: "attention.value",
    attention_output: "attention.dense",
    attention_norm: "attention.LayerNorm",
    intermediate: "ffn",
    output: "ffn_output",
    output_norm: "full_layer_layer_norm",
};

const WORDS: &str = "embeddings.word_embeddings.weight";

/// Builds the graph of an encoder. Returns the number of its positions, too.
pub(super) fn body(builder: &mut Builder<'_>, config: &Config) -> Result<(Body, u64), ModelFault> {
    config.require_setting("position_embedding_type", "absolute")?;
    let names = match config.family() {
        Some(Family::DistilBert) => &DISTILBERT,
        Some(Family::Albert) => &ALBERT,
        _ => &BERT,
    };
    if config.family() == Some(Family::Albert) {
        config.require_setting("num_hidden_groups", "1")?;
        config.require_setting("inner_group_num", "1")?;
    }
    let prefix = builder.prefix(names.prefixes, WORDS);
    let hidden = super::parts::hidden_size(config)?;
    let intermediate = config.size(&["intermediate_size", "hidden_dim"])?;
    let heads = Heads::even(hidden, config.size(&["num_attention_heads", "n_heads"])?)?;
    let epsilon = config.number_or(&["layer_norm_eps"], 1e-12)?;
    let activation = config.text_or(&["hidden_act", "activation"], "gelu").to_owned();
    let (embedded, positions) = embeddings(builder, config, prefix, hidden, epsilon)?;
    let bias = builder.padding_bias();
    let mut states = vec![embedded];
    for layer in 0..config.layers(&["num_hidden_layers", "n_layers"])? {
        let at = format!("{prefix}{}", names.layer.replace("{}", &layer.to_string()));
        let x = states[layer as usize].clone();
        let mut by_head = |name: &str| {
            let x = builder.linear(&x, &format!("{at}{name}"), [hidden, hidden], true)?;
            Ok::<Value, ModelFault>(builder.by_head(&x, heads.queries, heads.width))
        };
        let (queries, keys, values) = (by_head(names.query)?, by_head(names.key)?, by_head(names.value)?);
        let mixed = builder.attend([&queries, &keys, &values], heads, &bias);
        let mixed = builder.linear(&mixed, &format!("{at}{}", names.attention_output), [hidden, hidden], true)?;
        let sum = builder.op("Add", &[&mixed, &x], &[]);
        let x = builder.layer_norm(&sum, &format!("{at}{}", names.attention_norm), hidden, epsilon)?;
        let inner = builder.linear(&x, &format!("{at}{}", names.intermediate), [hidden, intermediate], true)?;
        let inner = builder.activation(&inner, &activation)?;
        let outer = builder.linear(&inner, &format!("{at}{}", names.output), [intermediate, hidden], true)?;
        let sum = builder.op("Add", &[&outer, &x], &[]);
        states.push(builder.layer_norm(&sum, &format!("{at}{}", names.output_norm), hidden, epsilon)?);
    }
    let head = masked_head(builder, config, prefix, [hidden, embedding_size(config, hidden)?], epsilon, activation)?;
    Ok((Body { hidden: states, head }, positions))
}

/// ELECTRA and ALBERT may have embeddings with fewer dimensions than hidden states.
fn embedding_size(config: &Config, hidden: u64) -> Result<u64, ModelFault> {
    match config.family() {
        Some(Family::Electra | Family::Albert) => config.size_or(&["embedding_size"], 128),
        _ => Ok(hidden),
    }
}

/// The embeddings, `[B * S, H]`, and the number of positions.
fn embeddings(
    builder: &mut Builder<'_>,
    config: &Config,
    prefix: &str,
    hidden: u64,
    epsilon: f64,
) -> Result<(Value, u64), ModelFault> {
    let width = embedding_size(config, hidden)?;
    let vocabulary = config.size(&["vocab_size"])?;
    let rows = config.size(&["max_position_embeddings"])?;
    // The first position of RoBERTa is the id of its padding token plus one; those before it are unused.
    let first = match config.family() {
        Some(Family::Roberta) => config.size_or(&["pad_token_id"], 1)? + 1,
        _ => 0,
    };
    let words = builder.weight(&format!("{prefix}{WORDS}"), &[vocabulary, width])?;
    let ids = builder.ids();
    let mut x = builder.look_up(&words, &ids);
    let types = format!("{prefix}embeddings.token_type_embeddings.weight");
    if builder.has(&types) {
        let types = builder.weight(&types, &[config.size_or(&["type_vocab_size"], 2)?, width])?;
        let zero = builder.integer(0);
        let first = builder.look_up(&types, &zero);
        x = builder.op("Add", &[&x, &first], &[]);
    }
    let table = builder.weight(&format!("{prefix}embeddings.position_embeddings.weight"), &[rows, width])?;
    let places = builder.positions(&table, first as i64);
    x = builder.op("Add", &[&x, &places], &[]);
    x = builder.flat(&x, width);
    x = builder.layer_norm(&x, &format!("{prefix}embeddings.LayerNorm"), width, epsilon)?;
    let projection = match config.family() {
        Some(Family::Electra) => "embeddings_project",
        _ => "encoder.embedding_hidden_mapping_in",
    };
    // ALBERT always projects, ELECTRA only where the widths differ.
    if config.family() == Some(Family::Albert) || width != hidden {
        x = builder.linear(&x, &format!("{prefix}{projection}"), [width, hidden], true)?;
    }
    Ok((x, rows.saturating_sub(first)))
}

/// The head, if the checkpoint has one.
fn masked_head(
    builder: &Builder<'_>,
    config: &Config,
    prefix: &str,
    [hidden, embedding]: [u64; 2],
    epsilon: f64,
    activation: String,
) -> Result<Option<Head>, ModelFault> {
    // Dense layer, normalization, decoder, bias.
    let [dense, norm, decoder_name, bias] = match config.family() {
        Some(Family::Roberta) => ["lm_head.dense", "lm_head.layer_norm", "lm_head.decoder", "lm_head.bias"],
        Some(Family::DistilBert) => ["vocab_transform", "vocab_layer_norm", "vocab_projector", "vocab_projector.bias"],
        Some(Family::Electra) => [
            "generator_predictions.dense",
            "generator_predictions.LayerNorm",
            "generator_lm_head",
            "generator_lm_head.bias",
        ],
        Some(Family::Albert) => {
            ["predictions.dense", "predictions.LayerNorm", "predictions.decoder", "predictions.bias"]
        }
        _ => [
            "cls.predictions.transform.dense",
            "cls.predictions.transform.LayerNorm",
            "cls.predictions.decoder",
            "cls.predictions.bias",
        ],
    };
    if !builder.has(&format!("{dense}.weight")) {
        return Ok(None);
    }
    let activation = match config.family() {
        Some(Family::Roberta | Family::Electra) => "gelu".to_owned(),
        _ => activation,
    };
    let (decoder_bias, decoder_weight) = (format!("{decoder_name}.bias"), format!("{decoder_name}.weight"));
    let decoder = head::decoder(builder, config, &decoder_weight, &format!("{prefix}{WORDS}"), true);
    // If the decoder is tied, its bias is a copy of that of the head.
    let named = builder.has(bias) && (decoder != decoder_weight || !builder.has(&decoder_bias));
    let bias = if named { bias.to_owned() } else { decoder_bias };
    let transform = Transform { dense: dense.to_owned(), norm: norm.to_owned(), activation, epsilon, from: hidden };
    let shape = [config.size(&["vocab_size"])?, embedding];
    Ok(Some(Head { transform: Some(transform), decoder, bias: Some(bias), shape }))
}

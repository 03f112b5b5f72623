//! BERT and its relatives: bidirectional encoders with a normalization after each part, with or without a masked language model head.
//! A [`Plan`] says in what an architecture differs from BERT.

use super::Body;
use super::builder::{Builder, Value};
use super::head::{self, Head, Transform};
use super::parts::Heads;
use crate::model::ModelFault;
use crate::model::config::Config;

/// The keys that these architectures use.
pub(super) const KEYS: &[&str] = &[
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "layer_norm_eps",
    "hidden_act",
];

/// Keys of training and of other heads.
pub(super) const HARMLESS: &[&str] = &[
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "hidden_dropout_prob",
    "directionality",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
];

/// Keys with which an encoder is a decoder, or has other positions.
pub(super) const FIXED: [(&str, &str); 3] =
    [("is_decoder", "false"), ("add_cross_attention", "false"), ("position_embedding_type", "absolute")];

pub(super) const WORDS: &str = "embeddings.word_embeddings.weight";

/// What is computed.
pub(super) struct Plan {
    pub names: &'static Names,
    pub hidden: u64,
    pub intermediate: u64,
    pub layers: u64,
    pub queries: u64,
    pub positions: u64,
    pub epsilon: f64,
    pub activation: String,
    /// The width of the embeddings, and the linear layer from it to the hidden size.
    pub embedding: (u64, Option<&'static str>),
    /// Rows of the table of token types, of which the first one is used.
    pub types: Option<u64>,
    /// The id of the padding token, from which positions are counted. None if they are counted from 0.
    pub padding: Option<u64>,
    /// A table of biases by distance, and its rows.
    pub relative: Option<(&'static str, u64)>,
    pub head: HeadNames,
    pub head_activation: String,
}

/// The names of an architecture's tensors, after its prefix.
pub(super) struct Names {
    pub prefixes: &'static [&'static str],
    /// `{}` stands for the number of the layer.
    pub layer: &'static str,
    pub query: &'static str,
    pub key: &'static str,
    pub value: &'static str,
    pub attention_output: &'static str,
    pub attention_norm: &'static str,
    pub intermediate: &'static str,
    pub output: &'static str,
    pub output_norm: &'static str,
}

/// The names of a head's dense layer, normalization and decoder, and of its bias.
pub(super) type HeadNames = [&'static str; 4];

impl Plan {
    /// BERT's plan.
    ///
    /// # Errors
    /// [`ModelFault::Malformed`].
    pub fn new(config: &Config, names: &'static Names, head: HeadNames) -> Result<Self, ModelFault> {
        let hidden = config.size(&["hidden_size"])?;
        let activation = config.text_or("hidden_act", "gelu")?.to_owned();
        Ok(Self {
            names,
            hidden,
            intermediate: config.size(&["intermediate_size"])?,
            layers: config.layers(&["num_hidden_layers"])?,
            queries: config.size(&["num_attention_heads"])?,
            positions: config.size(&["max_position_embeddings"])?,
            epsilon: config.number_or("layer_norm_eps", 1e-12)?,
            activation: activation.clone(),
            embedding: (hidden, None),
            types: None,
            padding: None,
            relative: None,
            head,
            head_activation: activation,
        })
    }
}

/// Builds the graph of a plan.
///
/// # Errors
/// [`ModelFault::Setting`], [`ModelFault::Malformed`], [`ModelFault::NoTensor`], [`ModelFault::Tensor`].
pub(super) fn body(builder: &mut Builder<'_>, config: &Config, plan: &Plan) -> Result<Body, ModelFault> {
    let (names, hidden) = (plan.names, plan.hidden);
    let prefix = builder.prefix(names.prefixes, "embeddings.position_embeddings.weight");
    let heads = Heads::even(hidden, plan.queries)?;
    let tables = head::tables(builder, config, &format!("{prefix}{WORDS}"), &format!("{}.weight", plan.head[2]), true)?;
    let embedded = embeddings(builder, config, plan, prefix, &tables.embeddings)?;
    let mut bias = builder.padding_bias();
    if let Some((name, rows)) = plan.relative {
        let table = builder.weight(&format!("{prefix}{name}.weight"), &[rows, plan.queries])?;
        let relative = builder.relative_bias(&table, RELATIVE_BUCKETS, RELATIVE_DISTANCE);
        bias = builder.op("Add", &[&bias, &relative], &[]);
    }
    let mut states = vec![embedded];
    for layer in 0..plan.layers {
        let at = format!("{prefix}{}", names.layer.replace("{}", &layer.to_string()));
        let x = states[layer as usize].clone();
        let mut by_head = |name: &str| {
            let x = builder.linear(&x, &format!("{at}{name}"), [hidden, hidden], true)?;
            Ok::<Value, ModelFault>(builder.by_head(&x, heads.queries, heads.width))
        };
        let (queries, keys, values) = (by_head(names.query)?, by_head(names.key)?, by_head(names.value)?);
        let mixed = builder.attend([&queries, &keys, &values], heads, heads.scores(), &bias);
        let mixed = builder.linear(&mixed, &format!("{at}{}", names.attention_output), [hidden, hidden], true)?;
        let sum = builder.op("Add", &[&mixed, &x], &[]);
        let x = builder.layer_norm(&sum, &format!("{at}{}", names.attention_norm), hidden, plan.epsilon)?;
        let inner = builder.linear(&x, &format!("{at}{}", names.intermediate), [hidden, plan.intermediate], true)?;
        let inner = builder.activation(&inner, &plan.activation)?;
        let outer = builder.linear(&inner, &format!("{at}{}", names.output), [plan.intermediate, hidden], true)?;
        let sum = builder.op("Add", &[&outer, &x], &[]);
        states.push(builder.layer_norm(&sum, &format!("{at}{}", names.output_norm), hidden, plan.epsilon)?);
    }
    let head = masked_head(builder, config, plan, tables.head)?;
    let positions = plan.positions.saturating_sub(plan.padding.map_or(0, |padding| padding + 1));
    Ok(Body { hidden: states, head, positions })
}

/// The buckets of distances, and the distance from which all are in the last one, which MPNet has in its code.
pub(super) const RELATIVE_BUCKETS: u64 = 32;
const RELATIVE_DISTANCE: u64 = 128;

/// The embeddings, `[B * S, H]`.
fn embeddings(
    builder: &mut Builder<'_>,
    config: &Config,
    plan: &Plan,
    prefix: &str,
    words: &str,
) -> Result<Value, ModelFault> {
    let (width, projection) = plan.embedding;
    let words = builder.weight(words, &[config.size(&["vocab_size"])?, width])?;
    let ids = builder.ids();
    let mut x = builder.look_up(&words, &ids);
    if let Some(rows) = plan.types {
        let types = builder.weight(&format!("{prefix}embeddings.token_type_embeddings.weight"), &[rows, width])?;
        let zero = builder.integer(0);
        let first = builder.look_up(&types, &zero);
        x = builder.op("Add", &[&x, &first], &[]);
    }
    let table = format!("{prefix}embeddings.position_embeddings.weight");
    let table = builder.weight(&table, &[plan.positions, width])?;
    let places = match plan.padding {
        None => builder.positions(&table, 0),
        Some(padding) => {
            let places = builder.places_after(padding as i64);
            builder.look_up(&table, &places)
        }
    };
    x = builder.op("Add", &[&x, &places], &[]);
    x = builder.flat(&x, width);
    x = builder.layer_norm(&x, &format!("{prefix}embeddings.LayerNorm"), width, plan.epsilon)?;
    match projection {
        Some(projection) => builder.linear(&x, &format!("{prefix}{projection}"), [width, plan.hidden], true),
        None => Ok(x),
    }
}

/// The head, if the checkpoint has one.
fn masked_head(
    builder: &Builder<'_>,
    config: &Config,
    plan: &Plan,
    decoder: Option<String>,
) -> Result<Option<Head>, ModelFault> {
    let [dense, norm, decoder_name, bias] = plan.head;
    let Some(decoder) = decoder.filter(|_| builder.has(&format!("{dense}.weight"))) else { return Ok(None) };
    let transform = Transform {
        dense: dense.to_owned(),
        dense_bias: true,
        norm: norm.to_owned(),
        norm_bias: true,
        activation: plan.head_activation.clone(),
        epsilon: plan.epsilon,
        from: plan.hidden,
    };
    let bias = head::bias(builder, config, &format!("{decoder_name}.bias"), bias, true)?;
    let shape = [config.size(&["vocab_size"])?, plan.embedding.0];
    Ok(Some(Head { transform: Some(transform), decoder, bias: Some(bias), shape, divisor: 1.0, cap: None }))
}

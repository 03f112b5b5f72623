//! Decoders with root-mean-square normalization, rotary positions, grouped-query attention and gated layers: Llama and those that came
//! after it. A [`Plan`] says in what an architecture differs from Llama.

use super::Body;
use super::builder::{Builder, Value};
use super::experts::Experts;
use super::head::{self, Head};
use super::parts::{Heads, Scores, hidden_size};
use super::rotary::{Rotary, Settings, Turned};
use crate::model::ModelFault;
use crate::model::config::Config;
use serde_json::Value as Json;

/// The keys that all of these architectures use.
pub(super) const KEYS: &[&str] = &[
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "rms_norm_eps",
];

/// Keys of training, and of how attention is computed.
pub(super) const HARMLESS: &[&str] = &["attention_dropout", "pretraining_tp", "use_flash_attn"];

/// What is computed, beside the sizes that all architectures have.
pub(super) struct Plan {
    pub heads: Heads,
    pub scores: Scores,
    pub epsilon: f64,
    pub activation: String,
    pub biases: Biases,
    pub norms: Norms,
    /// Normalization of queries and keys.
    pub query_norm: QueryNorm,
    /// Whether queries, keys and values are one matrix.
    pub joint_queries: bool,
    /// Whether the gate of a gated layer and its other input are one matrix.
    pub joint_gate: bool,
    /// What the embeddings are multiplied by.
    pub embedding_scale: f32,
    /// What each layer's outputs are multiplied by before they are added.
    pub residual_scale: f32,
    /// What the logits are divided by.
    pub logit_divisor: f32,
    /// Logits stay within this number, on both sides of 0.
    pub logit_cap: Option<f32>,
    /// The kinds of rotary embeddings; layers refer to them.
    pub rotary: Vec<Rotary>,
    pub layers: Vec<Layer>,
    /// Whether tokens see those after them.
    pub bidirectional: bool,
    /// Whether the head is the table of embeddings if the configuration does not say so.
    pub tied: bool,
}

/// A layer.
#[derive(Clone)]
pub(super) struct Layer {
    /// How many of the last tokens it sees. None for all of them.
    pub window: Option<u64>,
    /// The index of its rotary embeddings. None for a layer without.
    pub rotary: Option<usize>,
    /// Its experts. None for a layer with one gated layer.
    pub experts: Option<Experts>,
}

/// Which linear layers have biases.
#[derive(Clone, Copy, Default)]
pub(super) struct Biases {
    /// Queries, keys, values.
    pub queries: bool,
    /// The output of attention.
    pub output: bool,
    /// The gated layer.
    pub gated: bool,
}

/// The names of a layer's normalizations.
pub(super) struct Norms {
    pub before_attention: Option<&'static str>,
    pub after_attention: Option<&'static str>,
    pub before_gated: Option<&'static str>,
    pub after_gated: Option<&'static str>,
    /// What is added to their weights.
    pub offset: f32,
}

impl Norms {
    /// Llama's: before attention, and before the gated layer.
    pub const BEFORE: Self = Self {
        before_attention: Some("input_layernorm"),
        after_attention: None,
        before_gated: Some("post_attention_layernorm"),
        after_gated: None,
        offset: 0.0,
    };
}

/// How queries and keys are normalized.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum QueryNorm {
    None,
    /// Each head by itself.
    Heads,
    /// All heads together.
    Whole,
}

impl Plan {
    /// Llama's plan, for an architecture with these defaults.
    ///
    /// # Errors
    /// [`ModelFault::Setting`], [`ModelFault::Malformed`].
    pub fn new(
        builder: &mut Builder<'_>,
        config: &Config,
        heads: Heads,
        turned: Turned,
        epsilon: f64,
    ) -> Result<Self, ModelFault> {
        let settings = Settings::of(config, turned)?;
        let rotary = Rotary::new(builder, &settings, heads.width, false)?;
        Ok(Self { rotary: vec![rotary], ..Self::bare(config, heads, epsilon)? })
    }

    /// As [`Plan::new`], without rotary embeddings, which layers refer to.
    pub fn bare(config: &Config, heads: Heads, epsilon: f64) -> Result<Self, ModelFault> {
        let layer = Layer { window: None, rotary: Some(0), experts: None };
        Ok(Self {
            heads,
            scores: heads.scores(),
            epsilon: config.number_or("rms_norm_eps", epsilon)?,
            activation: "silu".to_owned(),
            biases: Biases::default(),
            norms: Norms::BEFORE,
            query_norm: QueryNorm::None,
            joint_queries: false,
            joint_gate: false,
            embedding_scale: 1.0,
            residual_scale: 1.0,
            logit_divisor: 1.0,
            logit_cap: None,
            rotary: Vec::new(),
            layers: vec![layer; config.layers(&["num_hidden_layers"])? as usize],
            bidirectional: false,
            tied: false,
        })
    }

    /// Limits every layer to the last `window` tokens.
    pub fn limit(&mut self, window: Option<u64>) {
        self.layers.iter_mut().for_each(|layer| layer.window = window);
    }

    /// Limits the layers that `layer_types` says, or those that `is_limited` says if the configuration has no such list.
    ///
    /// # Errors
    /// [`ModelFault::Setting`], [`ModelFault::Malformed`].
    pub fn limit_some(
        &mut self,
        config: &Config,
        window: Option<u64>,
        is_limited: impl Fn(u64) -> bool,
    ) -> Result<Vec<bool>, ModelFault> {
        let limited = limited_layers(config, self.layers.len() as u64, is_limited)?;
        if window.is_none() && limited.contains(&true) {
            return Err(Config::refused(
                "layer_types",
                "sliding_attention",
                "full_attention, without a sliding_window",
            ));
        }
        let layers = self.layers.iter_mut().zip(&limited);
        layers.for_each(|(layer, limited)| layer.window = window.filter(|_| *limited));
        Ok(limited)
    }
}

/// Which layers see a window of the tokens, by `layer_types`, or by `is_limited` if there is no such list.
pub(super) fn limited_layers(
    config: &Config,
    layers: u64,
    is_limited: impl Fn(u64) -> bool,
) -> Result<Vec<bool>, ModelFault> {
    let Some(types) = config.list("layer_types")? else { return Ok((0..layers).map(is_limited).collect()) };
    if types.len() as u64 != layers {
        return Err(Config::refused("layer_types", format!("{} layers", types.len()), "as many as num_hidden_layers"));
    }
    let limited = |kind: &Json| match kind.as_str() {
        Some("full_attention" | "attention") => Ok(false),
        Some("sliding_attention") => Ok(true),
        _ => Err(Config::refused("layer_types", kind, "full_attention or sliding_attention")),
    };
    types.iter().map(limited).collect()
}

/// The heads of attention. Without a `num_key_value_heads` there are `keys` of them, or one for each query head.
pub(super) fn heads(config: &Config, keys: Option<u64>, width: Option<u64>) -> Result<Heads, ModelFault> {
    let queries = config.size(&["num_attention_heads"])?;
    let keys = config.optional_size("num_key_value_heads", keys)?.unwrap_or(queries);
    let width = match config.optional_size("head_dim", width)? {
        Some(width) => width,
        None => Heads::even(hidden_size(config)?, queries)?.width,
    };
    if !queries.is_multiple_of(keys) {
        return Err(Config::refused("num_key_value_heads", keys, "a divisor of num_attention_heads"));
    }
    Ok(Heads { queries, keys, width })
}

/// Builds the graph of a plan.
///
/// # Errors
/// [`ModelFault::Setting`], [`ModelFault::Malformed`], [`ModelFault::NoTensor`], [`ModelFault::Tensor`].
pub(super) fn body(builder: &mut Builder<'_>, config: &Config, plan: &Plan) -> Result<Body, ModelFault> {
    let prefix = builder.prefix(&["model.", ""], "norm.weight");
    let hidden = hidden_size(config)?;
    let [vocabulary, positions] = [config.size(&["vocab_size"])?, config.size(&["max_position_embeddings"])?];
    let tables = head::tables(builder, config, &format!("{prefix}embed_tokens.weight"), "lm_head.weight", plan.tied)?;
    let table = builder.weight(&tables.embeddings, &[vocabulary, hidden])?;
    let ids = builder.ids();
    let embedded = builder.look_up(&table, &ids);
    let x = builder.flat(&embedded, hidden);
    let mut x = builder.times(&x, plan.embedding_scale);
    let mut states = vec![x.clone()];
    for (number, layer) in plan.layers.iter().enumerate() {
        let at = format!("{prefix}layers.{number}.");
        let seen = plan.norm(builder, &x, &at, plan.norms.before_attention, hidden)?;
        let mixed = plan.attention(builder, &seen, &format!("{at}self_attn."), layer, hidden)?;
        x = plan.add(builder, &x, &mixed, &at, plan.norms.after_attention, hidden)?;
        let seen = plan.norm(builder, &x, &at, plan.norms.before_gated, hidden)?;
        let gated = match &layer.experts {
            Some(experts) => experts.build(builder, &seen, &at, hidden, &plan.activation)?,
            None => plan.gated(builder, &seen, &format!("{at}mlp."), [hidden, config.size(&["intermediate_size"])?])?,
        };
        x = plan.add(builder, &x, &gated, &at, plan.norms.after_gated, hidden)?;
        if number + 1 < plan.layers.len() {
            states.push(x.clone());
        }
    }
    states.push(plan.norm(builder, &x, prefix, Some("norm"), hidden)?);
    let head = tables.head.filter(|_| !plan.bidirectional).map(|decoder| Head {
        divisor: plan.logit_divisor,
        cap: plan.logit_cap,
        ..Head::plain(decoder, [vocabulary, hidden])
    });
    Ok(Body { hidden: states, head, positions })
}

impl Plan {
    /// The normalization `name` of `x`, if there is one.
    fn norm(
        &self,
        builder: &mut Builder<'_>,
        x: &Value,
        at: &str,
        name: Option<&str>,
        width: u64,
    ) -> Result<Value, ModelFault> {
        let Some(name) = name else { return Ok(x.clone()) };
        builder.rms_norm(x, &format!("{at}{name}"), width, self.epsilon, self.norms.offset)
    }

    /// What a part of a layer gives, normalized and added to what it was given.
    fn add(
        &self,
        builder: &mut Builder<'_>,
        x: &Value,
        part: &Value,
        at: &str,
        norm: Option<&str>,
        width: u64,
    ) -> Result<Value, ModelFault> {
        let part = self.norm(builder, part, at, norm, width)?;
        let part = builder.times(&part, self.residual_scale);
        Ok(builder.op("Add", &[&part, x], &[]))
    }

    fn attention(
        &self,
        builder: &mut Builder<'_>,
        x: &Value,
        at: &str,
        layer: &Layer,
        hidden: u64,
    ) -> Result<Value, ModelFault> {
        let heads = self.heads;
        let [queries, keys] = [heads.queries * heads.width, heads.keys * heads.width];
        let [q, k, v] = if self.joint_queries {
            let name = format!("{at}qkv_proj");
            let all = builder.linear(x, &name, [hidden, queries + 2 * keys], self.biases.queries)?;
            let parts = builder.split(&all, &[queries, keys, keys].map(|size| size as i64));
            [parts[0].clone(), parts[1].clone(), parts[2].clone()]
        } else {
            let mut project = |part: &str, width: u64| {
                builder.linear(x, &format!("{at}{part}_proj"), [hidden, width], self.biases.queries)
            };
            [project("q", queries)?, project("k", keys)?, project("v", keys)?]
        };
        let [q, k] = [(q, "q_norm", heads.queries), (k, "k_norm", heads.keys)].map(|(x, norm, n)| {
            let name = format!("{at}{norm}");
            let x = match self.query_norm {
                QueryNorm::Whole => builder.rms_norm(&x, &name, n * heads.width, self.epsilon, self.norms.offset)?,
                _ => x,
            };
            let mut x = builder.by_head(&x, n, heads.width);
            if self.query_norm == QueryNorm::Heads {
                x = builder.rms_norm(&x, &name, heads.width, self.epsilon, self.norms.offset)?;
            }
            Ok::<Value, ModelFault>(match layer.rotary.and_then(|kind| self.rotary.get(kind)) {
                Some(rotary) => rotary.turn(builder, &x),
                None => x,
            })
        });
        let v = builder.by_head(&v, heads.keys, heads.width);
        let bias = match (self.bidirectional, layer.window) {
            (true, Some(window)) => builder.window_bias(window - 1),
            (true, None) => builder.padding_bias(),
            (false, window) => builder.causal_bias(window),
        };
        let mixed = builder.attend([&q?, &k?, &v], heads, self.scores, &bias);
        builder.linear(&mixed, &format!("{at}o_proj"), [queries, hidden], self.biases.output)
    }

    fn gated(
        &self,
        builder: &mut Builder<'_>,
        x: &Value,
        at: &str,
        [hidden, inner]: [u64; 2],
    ) -> Result<Value, ModelFault> {
        let bias = self.biases.gated;
        let (gate, up) = if self.joint_gate {
            let both = builder.linear(x, &format!("{at}gate_up_proj"), [hidden, 2 * inner], bias)?;
            let parts = builder.split(&both, &[inner as i64; 2]);
            (parts[0].clone(), parts[1].clone())
        } else {
            let gate = builder.linear(x, &format!("{at}gate_proj"), [hidden, inner], bias)?;
            (gate, builder.linear(x, &format!("{at}up_proj"), [hidden, inner], bias)?)
        };
        let gate = builder.activation(&gate, &self.activation)?;
        let gated = builder.op("Mul", &[&gate, &up], &[]);
        builder.linear(&gated, &format!("{at}down_proj"), [inner, hidden], bias)
    }
}

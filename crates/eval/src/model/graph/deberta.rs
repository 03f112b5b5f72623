//! DeBERTa, DeBERTa-v2 and DeBERTa-v3: BERT whose attention compares contents with distances (He et al. 2021).

use super::Body;
use super::builder::{Attribute, Builder, Value};
use super::encoder::{HARMLESS, KEYS, WORDS};
use super::families::{Family, Keys, Predicts};
use super::head::{self, Head, Transform};
use super::parts::{Heads, hidden_size};
use crate::model::ModelFault;
use crate::model::config::Config;
use serde_json::Value as Json;

const OWN: &[&str] = &[
    "type_vocab_size",
    "relative_attention",
    "max_relative_positions",
    "position_biased_input",
    "pos_att_type",
    "legacy",
    "embedding_size",
];

const OTHER: &[&str] = &["cls_dropout", "pooler_dropout", "pooler_hidden_act", "pooler_hidden_size"];

pub const DEBERTA: Family = Family {
    model_type: "deberta",
    stem: "Deberta",
    predicts: Predicts::Masked,
    keys: Keys {
        used: &[KEYS, OWN],
        fixed: &[
            ("is_decoder", "false"),
            ("add_cross_attention", "false"),
            ("position_embedding_type", "absolute"),
            ("talking_head", "false"),
        ],
        harmless: &[HARMLESS, OTHER],
    },
    build: first,
};

pub const DEBERTA_V2: Family = Family {
    model_type: "deberta-v2",
    stem: "DebertaV2",
    predicts: Predicts::Masked,
    keys: Keys {
        used: &[
            KEYS,
            OWN,
            &["share_att_key", "position_buckets", "norm_rel_ebd", "conv_kernel_size", "conv_groups", "conv_act"],
        ],
        fixed: &[
            ("is_decoder", "false"),
            ("add_cross_attention", "false"),
            ("position_embedding_type", "absolute"),
            ("attention_head_size", "null"),
        ],
        harmless: &[HARMLESS, OTHER],
    },
    build: second,
};

/// The two versions of attention.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    First,
    Second,
}

/// How attention compares contents with distances.
struct Plan {
    version: Version,
    heads: Heads,
    hidden: u64,
    /// Whether queries are compared with the distances of keys, and keys with the distances of queries.
    by_query: bool,
    by_key: bool,
    /// Whether distances go through the same layers as contents.
    shared: bool,
    /// What products are divided by.
    divisor: f32,
    relative: Option<Relative>,
}

/// The distances.
struct Relative {
    /// Vectors of the distances, `[2 * span, H]`.
    vectors: Value,
    /// The row of each key's distance from each query, `[S, S]`.
    rows: Value,
    span: u64,
}

fn first(builder: &mut Builder<'_>, config: &Config) -> Result<Body, ModelFault> {
    body(builder, config, Version::First)
}

fn second(builder: &mut Builder<'_>, config: &Config) -> Result<Body, ModelFault> {
    body(builder, config, Version::Second)
}

fn body(builder: &mut Builder<'_>, config: &Config, version: Version) -> Result<Body, ModelFault> {
    let prefix = builder.prefix(&["deberta.", ""], "embeddings.LayerNorm.weight");
    let hidden = hidden_size(config)?;
    let inner = config.size(&["intermediate_size"])?;
    let epsilon = config.number_or("layer_norm_eps", 1e-7)?;
    let activation = config.text_or("hidden_act", "gelu")?.to_owned();
    let [vocabulary, positions] = [config.size(&["vocab_size"])?, config.size(&["max_position_embeddings"])?];
    let width = config.size_or(&["embedding_size"], hidden)?;
    if width != hidden {
        return Err(Config::refused("embedding_size", width, "the hidden size"));
    }
    let legacy = config.flag_or("legacy", true)?;
    let words = format!("{prefix}{WORDS}");
    let tables = head::tables(builder, config, &words, "cls.predictions.decoder.weight", true)?;
    let table = builder.weight(&tables.embeddings, &[vocabulary, hidden])?;
    let ids = builder.ids();
    let mut x = builder.look_up(&table, &ids);
    if config.flag_or("position_biased_input", true)? {
        let table = builder.weight(&format!("{prefix}embeddings.position_embeddings.weight"), &[positions, hidden])?;
        let places = builder.positions(&table, 0);
        x = builder.op("Add", &[&x, &places], &[]);
    }
    let types = config.index_or("type_vocab_size", 0)?;
    if types > 0 {
        let table = builder.weight(&format!("{prefix}embeddings.token_type_embeddings.weight"), &[types, hidden])?;
        let zero = builder.integer(0);
        let first = builder.look_up(&table, &zero);
        x = builder.op("Add", &[&x, &first], &[]);
    }
    let x = builder.flat(&x, hidden);
    let x = builder.layer_norm(&x, &format!("{prefix}embeddings.LayerNorm"), hidden, epsilon)?;
    let plan = plan(builder, config, version, prefix, [hidden, positions], epsilon)?;
    let mut states = vec![x];
    for layer in 0..config.layers(&["num_hidden_layers"])? {
        let at = format!("{prefix}encoder.layer.{layer}.");
        let x = states[layer as usize].clone();
        let mixed = plan.attention(builder, &x, &format!("{at}attention.self."))?;
        let mixed = builder.linear(&mixed, &format!("{at}attention.output.dense"), [hidden, hidden], true)?;
        let sum = builder.op("Add", &[&mixed, &x], &[]);
        let x = builder.layer_norm(&sum, &format!("{at}attention.output.LayerNorm"), hidden, epsilon)?;
        let wide = builder.linear(&x, &format!("{at}intermediate.dense"), [hidden, inner], true)?;
        let wide = builder.activation(&wide, &activation)?;
        let narrow = builder.linear(&wide, &format!("{at}output.dense"), [inner, hidden], true)?;
        let sum = builder.op("Add", &[&narrow, &x], &[]);
        let mut x = builder.layer_norm(&sum, &format!("{at}output.LayerNorm"), hidden, epsilon)?;
        if layer == 0 && version == Version::Second {
            x = convolved(builder, config, prefix, [&states[0], &x], hidden, epsilon)?;
        }
        states.push(x);
    }
    let names = if legacy {
        let bias = head::bias(builder, config, "cls.predictions.decoder.bias", "cls.predictions.bias", true)?;
        let at = "cls.predictions.transform.";
        tables.head.map(|decoder| (at, decoder, bias))
    } else {
        Some(("lm_predictions.lm_head.", words, "lm_predictions.lm_head.bias".to_owned()))
    };
    let head = names.filter(|(at, ..)| builder.has(&format!("{at}dense.weight"))).map(|(at, decoder, bias)| Head {
        transform: Some(Transform {
            dense: format!("{at}dense"),
            dense_bias: true,
            norm: format!("{at}LayerNorm"),
            norm_bias: true,
            activation,
            epsilon,
            from: hidden,
        }),
        decoder,
        bias: Some(bias),
        shape: [vocabulary, hidden],
        divisor: 1.0,
        cap: None,
    });
    Ok(Body { hidden: states, head, positions })
}

fn plan(
    builder: &mut Builder<'_>,
    config: &Config,
    version: Version,
    prefix: &str,
    [hidden, positions]: [u64; 2],
    epsilon: f64,
) -> Result<Plan, ModelFault> {
    let heads = Heads::even(hidden, config.size(&["num_attention_heads"])?)?;
    let [by_query, by_key] = compared(config)?;
    let with_distances = config.flag_or("relative_attention", false)?;
    let terms = 1 + u64::from(by_query) + u64::from(by_key);
    let mut plan = Plan {
        version,
        heads,
        hidden,
        by_query,
        by_key,
        shared: version == Version::Second && config.flag_or("share_att_key", false)?,
        divisor: ((heads.width * terms) as f32).sqrt(),
        relative: None,
    };
    if !with_distances {
        (plan.by_query, plan.by_key) = (false, false);
        return Ok(plan);
    }
    let most = match config.get("max_relative_positions").and_then(Json::as_i64) {
        Some(most) if most >= 1 => config.size(&["max_relative_positions"])?,
        _ => positions,
    };
    let buckets = match version {
        Version::First => None,
        Version::Second => match config.get("position_buckets").and_then(Json::as_i64) {
            Some(buckets) if buckets >= 1 => Some(config.size(&["position_buckets"])?),
            _ => None,
        },
    };
    const MOST: u64 = 1 << 16;
    if most.max(positions) > MOST {
        return Err(Config::refused("max_position_embeddings", most.max(positions), "at most 65536"));
    }
    let span = buckets.unwrap_or(most);
    let mut vectors = builder.weight(&format!("{prefix}encoder.rel_embeddings.weight"), &[2 * span, hidden])?;
    let norms = match version {
        Version::First => "none",
        Version::Second => config.text_or("norm_rel_ebd", "none")?,
    };
    match norms {
        "none" => {}
        "layer_norm" => {
            vectors = builder.layer_norm(&vectors, &format!("{prefix}encoder.LayerNorm"), hidden, epsilon)?
        }
        other => return Err(Config::refused("norm_rel_ebd", other, "none or layer_norm")),
    }
    let row = |distance: i64| {
        let bucket = buckets.map_or(distance, |buckets| bucket(distance, buckets as i64, most as i64));
        (bucket + span as i64).clamp(0, 2 * span as i64 - 1)
    };
    let rows = builder.by_distance(positions, row);
    plan.relative = Some(Relative { vectors, rows, span });
    Ok(plan)
}

/// What the first layer gives, with a convolution of the embeddings over neighbouring tokens, if the model has one.
fn convolved(
    builder: &mut Builder<'_>,
    config: &Config,
    prefix: &str,
    [embeddings, x]: [&Value; 2],
    hidden: u64,
    epsilon: f64,
) -> Result<Value, ModelFault> {
    let width = config.index_or("conv_kernel_size", 0)?;
    if width == 0 {
        return Ok(x.clone());
    }
    let groups = config.size_or(&["conv_groups"], 1)?;
    if width.is_multiple_of(2) || !hidden.is_multiple_of(groups) {
        return Err(Config::refused(
            "conv_kernel_size",
            width,
            "an odd number, with groups that divide the hidden size",
        ));
    }
    let at = format!("{prefix}encoder.conv.");
    let weight = builder.weight(&format!("{at}conv.weight"), &[hidden, hidden / groups, width])?;
    let bias = builder.weight(&format!("{at}conv.bias"), &[hidden])?;
    // Padding is zero before and after.
    let mask = builder.mask();
    let mask = builder.float(&mask);
    let mask = builder.flat(&mask, 1);
    let seen = builder.op("Mul", &[embeddings, &mask], &[]);
    let shape = builder.batch_and_sequence_and(&[hidden as i64]);
    let seen = builder.op("Reshape", &[&seen, &shape], &[]);
    let seen = builder.transpose(&seen, &[0, 2, 1]);
    let reach = (width / 2) as i64;
    let attributes = [("pads", Attribute::Ints(vec![reach; 2])), ("group", (groups as i64).into())];
    let given = builder.op("Conv", &[&seen, &weight, &bias], &attributes);
    let given = builder.transpose(&given, &[0, 2, 1]);
    let given = builder.flat(&given, hidden);
    let given = builder.op("Mul", &[&given, &mask], &[]);
    let given = builder.activation(&given, config.text_or("conv_act", "tanh")?)?;
    let sum = builder.op("Add", &[x, &given], &[]);
    builder.layer_norm(&sum, &format!("{at}LayerNorm"), hidden, epsilon)
}

/// Whether queries, and whether keys, are compared with distances: `c2p` and `p2c` in the papers.
fn compared(config: &Config) -> Result<[bool; 2], ModelFault> {
    let refused = |found: &Json| Config::refused("pos_att_type", found, "c2p, p2c or both");
    let kinds: Vec<String> = match config.get("pos_att_type") {
        None | Some(Json::Null) => Vec::new(),
        Some(Json::String(text)) => text.to_lowercase().split('|').map(|kind| kind.trim().to_owned()).collect(),
        Some(found @ Json::Array(list)) => {
            let kinds = list.iter().map(|kind| kind.as_str().map(str::to_owned)).collect::<Option<_>>();
            kinds.ok_or_else(|| refused(found))?
        }
        Some(found) => return Err(refused(found)),
    };
    let count = |kind: &str| kinds.iter().filter(|found| *found == kind).count();
    let [by_query, by_key] = [count("c2p"), count("p2c")];
    if by_query > 1 || by_key > 1 || by_query + by_key < kinds.len() {
        return Err(refused(&Json::from(kinds)));
    }
    Ok([by_query == 1, by_key == 1])
}

/// The bucket of a distance: itself up to half of the buckets, and then growing with the logarithm.
fn bucket(distance: i64, buckets: i64, most: i64) -> i64 {
    let middle = buckets / 2;
    let far = if distance.abs() < middle { middle - 1 } else { distance.abs() };
    if far <= middle {
        return distance;
    }
    let [far, half] = [far as f32, middle as f32];
    let share = (far / half).ln() / ((most - 1) as f32 / half).ln();
    let bucket = (share * (middle - 1) as f32).ceil() as i64 + middle;
    bucket * distance.signum()
}

impl Plan {
    /// Attention, `[B * S, H]`.
    fn attention(&self, builder: &mut Builder<'_>, x: &Value, at: &str) -> Result<Value, ModelFault> {
        let (heads, hidden) = (self.heads, self.hidden);
        let [queries, keys, values] = match self.version {
            Version::First => self.joint(builder, x, at)?,
            Version::Second => {
                let mut by_head = |part: &str| {
                    let x = builder.linear(x, &format!("{at}{part}_proj"), [hidden, hidden], true)?;
                    Ok::<Value, ModelFault>(builder.by_head(&x, heads.queries, heads.width))
                };
                [by_head("query")?, by_head("key")?, by_head("value")?]
            }
        };
        let product = |builder: &mut Builder<'_>, a: &Value, b: &Value| {
            let b = builder.transpose(b, &[0, 1, 3, 2]);
            builder.op("MatMul", &[a, &b], &[])
        };
        let mut scores = product(builder, &queries, &keys);
        if let Some(relative) = &self.relative {
            if self.by_query {
                let vectors = self.distances(builder, relative, at, ["key_proj", "pos_key_proj", "pos_proj"])?;
                let products = product(builder, &queries, &vectors);
                let products = gather(builder, &products, relative, heads, false);
                scores = builder.op("Add", &[&scores, &products], &[]);
            }
            if self.by_key {
                let vectors = self.distances(builder, relative, at, ["query_proj", "pos_query_proj", "pos_q_proj"])?;
                let products = product(builder, &keys, &vectors);
                let products = gather(builder, &products, relative, heads, true);
                scores = builder.op("Add", &[&scores, &products], &[]);
            }
        }
        let divisor = builder.number(self.divisor);
        let scores = builder.op("Div", &[&scores, &divisor], &[]);
        let bias = builder.padding_bias();
        let scores = builder.op("Add", &[&scores, &bias], &[]);
        Ok(builder.mix(&scores, &values, heads))
    }

    /// Queries, keys and values of the first version: adjacent rows of one matrix for each head, and biases of two of them.
    fn joint(&self, builder: &mut Builder<'_>, x: &Value, at: &str) -> Result<[Value; 3], ModelFault> {
        let (heads, hidden) = (self.heads, self.hidden);
        let all = builder.linear(x, &format!("{at}in_proj"), [hidden, 3 * hidden], false)?;
        let all = builder.by_head(&all, heads.queries, 3 * heads.width);
        let parts = builder.split(&all, &[heads.width as i64; 3]);
        let mut biased = |part: &Value, name: &str| {
            let bias = builder.weight(&format!("{at}{name}"), &[hidden])?;
            let shape = builder.integers(&[1, heads.queries as i64, 1, heads.width as i64]);
            let bias = builder.op("Reshape", &[&bias, &shape], &[]);
            Ok::<Value, ModelFault>(builder.op("Add", &[part, &bias], &[]))
        };
        Ok([biased(&parts[0], "q_bias")?, parts[1].clone(), biased(&parts[2], "v_bias")?])
    }

    /// The vectors of the distances for each head, `[1, heads, 2 * span, width]`, by the layer of that name: that of contents, that of the
    /// second version, and that of the first.
    fn distances(
        &self,
        builder: &mut Builder<'_>,
        relative: &Relative,
        at: &str,
        [shared, second, first]: [&str; 3],
    ) -> Result<Value, ModelFault> {
        let (name, bias) = match self.version {
            _ if self.shared => (shared, true),
            Version::Second => (second, true),
            Version::First => (first, first == "pos_q_proj"),
        };
        let vectors = builder.linear(&relative.vectors, &format!("{at}{name}"), [self.hidden, self.hidden], bias)?;
        let [rows, heads, width] = [2 * relative.span, self.heads.queries, self.heads.width].map(|size| size as i64);
        let shape = builder.integers(&[1, rows, heads, width]);
        let vectors = builder.op("Reshape", &[&vectors, &shape], &[]);
        Ok(builder.transpose(&vectors, &[0, 2, 1, 3]))
    }
}

/// Of products with all distances, `[B, heads, S, 2 * span]`, those with the distance of each key from each query, `[B, heads, S, S]`. Rows
/// of the products are queries, or keys, which are then turned into columns.
fn gather(builder: &mut Builder<'_>, products: &Value, relative: &Relative, heads: Heads, of_keys: bool) -> Value {
    let rows = if of_keys { builder.transpose(&relative.rows, &[1, 0]) } else { relative.rows.clone() };
    let length = builder.sequence_length();
    let shape = builder.batch_and_sequence_and(&[]);
    let batch = builder.slice(&shape, 0, 0, 1);
    let heads = builder.integers(&[heads.queries as i64]);
    let shape = builder.op("Concat", &[&batch, &heads, &length, &length], &[("axis", 0.into())]);
    let rows = builder.op("Expand", &[&rows, &shape], &[]);
    let found = builder.op("GatherElements", &[products, &rows], &[("axis", (-1).into())]);
    if of_keys { builder.transpose(&found, &[0, 1, 3, 2]) } else { found }
}

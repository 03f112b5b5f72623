//! The encoder of T5: root-mean-square normalizations before each part, biases by distance, scores that are not divided.

use super::Body;
use super::builder::{Builder, Value};
use super::families::{Family, Keys, Predicts};
use super::parts::{Heads, Scores};
use crate::model::ModelFault;
use crate::model::config::Config;

/// Positions are relative, so sequences have no end. This is longer than any text.
const POSITIONS: u64 = 1 << 24;

pub const T5: Family = Family {
    model_type: "t5",
    stem: "T5",
    predicts: Predicts::Nothing,
    keys: Keys {
        used: &[
            &["hidden_size", "d_model", "head_dim", "d_kv", "d_ff", "num_hidden_layers", "num_layers"],
            &["num_attention_heads", "num_heads", "relative_attention_num_buckets", "relative_attention_max_distance"],
            &["layer_norm_epsilon", "feed_forward_proj"],
        ],
        fixed: &[("is_decoder", "false"), ("add_cross_attention", "false")],
        harmless: &[&[
            "classifier_dropout",
            "dense_act_fn",
            "dropout_rate",
            "initializer_factor",
            "is_encoder_decoder",
            "is_gated_act",
            "n_positions",
            "num_decoder_layers",
            "scale_decoder_outputs",
        ]],
    },
    build,
};

fn build(builder: &mut Builder<'_>, config: &Config) -> Result<Body, ModelFault> {
    let hidden = config.size_or(&["hidden_size", "d_model"], 512)?;
    let inner = config.size_or(&["d_ff"], 2048)?;
    let heads = config.size_or(&["num_attention_heads", "num_heads"], 8)?;
    let heads = Heads { queries: heads, keys: heads, width: config.size_or(&["head_dim", "d_kv"], 64)? };
    let epsilon = config.number_or("layer_norm_epsilon", 1e-6)?;
    let layers = config.layers(&["num_hidden_layers", "num_layers"])?;
    let (gated, activation) = match config.text_or("feed_forward_proj", "relu")? {
        "gated-gelu" => (true, "gelu_new"),
        other => other.strip_prefix("gated-").map_or((false, other), |activation| (true, activation)),
    };
    let own = "encoder.embed_tokens.weight";
    let table = if builder.has(own) { own } else { "shared.weight" };
    let table = builder.weight(table, &[config.size(&["vocab_size"])?, hidden])?;
    let ids = builder.ids();
    let x = builder.look_up(&table, &ids);
    let mut x = builder.flat(&x, hidden);
    let bias = distances(builder, config, heads.queries)?;
    let scores = Scores { divisor: 1.0, cap: None };
    let width = heads.queries * heads.width;
    let mut states = vec![x.clone()];
    for layer in 0..layers {
        let at = format!("encoder.block.{layer}.layer.");
        let seen = builder.rms_norm(&x, &format!("{at}0.layer_norm"), hidden, epsilon, 0.0)?;
        let mut by_head = |part: &str| {
            let x = builder.linear(&seen, &format!("{at}0.SelfAttention.{part}"), [hidden, width], false)?;
            Ok::<Value, ModelFault>(builder.by_head(&x, heads.queries, heads.width))
        };
        let (queries, keys, values) = (by_head("q")?, by_head("k")?, by_head("v")?);
        let mixed = builder.attend([&queries, &keys, &values], heads, scores, &bias);
        let mixed = builder.linear(&mixed, &format!("{at}0.SelfAttention.o"), [width, hidden], false)?;
        x = builder.op("Add", &[&mixed, &x], &[]);
        let seen = builder.rms_norm(&x, &format!("{at}1.layer_norm"), hidden, epsilon, 0.0)?;
        let at = format!("{at}1.DenseReluDense.");
        let first =
            builder.linear(&seen, &format!("{at}{}", if gated { "wi_0" } else { "wi" }), [hidden, inner], false)?;
        let mut wide = builder.activation(&first, activation)?;
        if gated {
            let other = builder.linear(&seen, &format!("{at}wi_1"), [hidden, inner], false)?;
            wide = builder.op("Mul", &[&wide, &other], &[]);
        }
        let narrow = builder.linear(&wide, &format!("{at}wo"), [inner, hidden], false)?;
        x = builder.op("Add", &[&narrow, &x], &[]);
        if layer + 1 < layers {
            states.push(x.clone());
        }
    }
    states.push(builder.rms_norm(&x, "encoder.final_layer_norm", hidden, epsilon, 0.0)?);
    Ok(Body { hidden: states, head: None, positions: POSITIONS })
}

/// What is added to the scores of all layers: biases by distance, of which the first layer has the table, without padding.
fn distances(builder: &mut Builder<'_>, config: &Config, heads: u64) -> Result<Value, ModelFault> {
    const MOST: u64 = 1 << 16;
    let buckets = config.size_or(&["relative_attention_num_buckets"], 32)?;
    let most = config.size_or(&["relative_attention_max_distance"], 128)?;
    if buckets < 4 {
        return Err(Config::refused("relative_attention_num_buckets", buckets, "a number of 4 and more"));
    }
    if !(buckets / 4 + 1..=MOST).contains(&most) {
        let supported = "a number between a quarter of the buckets and 65536";
        return Err(Config::refused("relative_attention_max_distance", most, supported));
    }
    let name = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";
    let table = builder.weight(name, &[buckets, heads])?;
    let relative = builder.relative_bias(&table, buckets, most);
    let padding = builder.padding_bias();
    Ok(builder.op("Add", &[&relative, &padding], &[]))
}

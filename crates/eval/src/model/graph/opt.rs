//! OPT.

use super::Body;
use super::builder::{Builder, Value};
use super::families::{Family, Keys, Predicts};
use super::head::{self, Head};
use super::parts::{Heads, hidden_size};
use crate::model::ModelFault;
use crate::model::config::Config;

/// The first rows of the position embeddings are unused: fairseq reserved them for padding.
const FIRST_POSITION: u64 = 2;

pub const OPT: Family = Family {
    model_type: "opt",
    stem: "OPT",
    predicts: Predicts::Next,
    keys: Keys {
        used: &[
            &["hidden_size", "word_embed_proj_dim", "ffn_dim", "num_hidden_layers", "num_attention_heads"],
            &["max_position_embeddings", "activation_function", "do_layer_norm_before", "enable_bias"],
            &["_remove_final_layer_norm"],
        ],
        fixed: &[("layer_norm_elementwise_affine", "true")],
        harmless: &[&["activation_dropout", "attention_dropout", "dropout", "init_std", "is_decoder", "layerdrop"]],
    },
    build,
};

fn build(builder: &mut Builder<'_>, config: &Config) -> Result<Body, ModelFault> {
    const EPSILON: f64 = 1e-5;
    let prefix = builder.prefix(&["model.decoder.", "decoder.", ""], "embed_positions.weight");
    let hidden = hidden_size(config)?;
    let width = config.optional_size("word_embed_proj_dim", None)?.unwrap_or(hidden);
    let inner = config.size(&["ffn_dim"])?;
    let heads = Heads::even(hidden, config.size(&["num_attention_heads"])?)?;
    let activation = config.text_or("activation_function", "relu")?.to_owned();
    let norm_before = config.flag_or("do_layer_norm_before", true)?;
    let with_bias = config.flag_or("enable_bias", true)?;
    let [vocabulary, positions] = [config.size(&["vocab_size"])?, config.size(&["max_position_embeddings"])?];
    let tables = head::tables(builder, config, &format!("{prefix}embed_tokens.weight"), "lm_head.weight", true)?;
    let table = builder.weight(&tables.embeddings, &[vocabulary, width])?;
    let ids = builder.ids();
    let embedded = builder.look_up(&table, &ids);
    let mut x = builder.flat(&embedded, width);
    if width != hidden {
        x = builder.linear(&x, &format!("{prefix}project_in"), [width, hidden], false)?;
    }
    let name = format!("{prefix}embed_positions.weight");
    let table = builder.weight(&name, &[positions + FIRST_POSITION, hidden])?;
    let places = builder.positions(&table, FIRST_POSITION as i64);
    let shape = builder.batch_and_sequence_and(&[hidden as i64]);
    x = builder.op("Reshape", &[&x, &shape], &[]);
    x = builder.op("Add", &[&x, &places], &[]);
    x = builder.flat(&x, hidden);
    let bias = builder.causal_bias(None);
    let mut states = vec![x.clone()];
    let layers = config.layers(&["num_hidden_layers"])?;
    for layer in 0..layers {
        let at = format!("{prefix}layers.{layer}.");
        let attention_norm = format!("{at}self_attn_layer_norm");
        let seen = if norm_before { builder.layer_norm(&x, &attention_norm, hidden, EPSILON)? } else { x.clone() };
        let by_head = |builder: &mut Builder<'_>, part: &str| {
            let name = format!("{at}self_attn.{part}_proj");
            let x = builder.linear(&seen, &name, [hidden, hidden], with_bias)?;
            Ok::<Value, ModelFault>(builder.by_head(&x, heads.queries, heads.width))
        };
        let (queries, keys, values) = (by_head(builder, "q")?, by_head(builder, "k")?, by_head(builder, "v")?);
        let mixed = builder.attend([&queries, &keys, &values], heads, heads.scores(), &bias);
        let mixed = builder.linear(&mixed, &format!("{at}self_attn.out_proj"), [hidden, hidden], with_bias)?;
        x = builder.op("Add", &[&mixed, &x], &[]);
        if !norm_before {
            x = builder.layer_norm(&x, &attention_norm, hidden, EPSILON)?;
        }
        let norm = format!("{at}final_layer_norm");
        let seen = if norm_before { builder.layer_norm(&x, &norm, hidden, EPSILON)? } else { x.clone() };
        let wide = builder.linear(&seen, &format!("{at}fc1"), [hidden, inner], with_bias)?;
        let wide = builder.activation(&wide, &activation)?;
        let narrow = builder.linear(&wide, &format!("{at}fc2"), [inner, hidden], with_bias)?;
        x = builder.op("Add", &[&narrow, &x], &[]);
        if !norm_before {
            x = builder.layer_norm(&x, &norm, hidden, EPSILON)?;
        }
        if layer + 1 < layers {
            states.push(x.clone());
        }
    }
    if norm_before && !config.flag_or("_remove_final_layer_norm", false)? {
        x = builder.layer_norm(&x, &format!("{prefix}final_layer_norm"), hidden, EPSILON)?;
    }
    if width != hidden {
        x = builder.linear(&x, &format!("{prefix}project_out"), [hidden, width], false)?;
    }
    states.push(x);
    let head = tables.head.map(|decoder| Head::plain(decoder, [vocabulary, width]));
    Ok(Body { hidden: states, head, positions })
}

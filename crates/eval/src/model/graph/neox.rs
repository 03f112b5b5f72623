//! GPT-NeoX and Pythia.

use super::Body;
use super::builder::Builder;
use super::decoder::{Rotary, turned_width};
use super::head::{self, Head};
use super::parts::{Heads, hidden_size};
use crate::model::ModelFault;
use crate::model::config::Config;

/// Builds the graph of the model. Returns the number of its positions, too.
pub(super) fn body(builder: &mut Builder<'_>, config: &Config) -> Result<(Body, u64), ModelFault> {
    let prefix = builder.prefix(&["gpt_neox.", ""], "embed_in.weight");
    let hidden = hidden_size(config)?;
    let inner = config.size(&["intermediate_size"])?;
    let heads = Heads::even(hidden, config.size(&["num_attention_heads"])?)?;
    let epsilon = config.number_or(&["layer_norm_eps"], 1e-5)?;
    let activation = config.text_or(&["hidden_act"], "gelu").to_owned();
    let parallel = config.flag_or("use_parallel_residual", true);
    let with_bias = config.flag_or("attention_bias", true);
    let [vocabulary, positions] = [config.size(&["vocab_size"])?, config.size(&["max_position_embeddings"])?];
    let words = format!("{prefix}embed_in.weight");
    let table = builder.weight(&words, &[vocabulary, hidden])?;
    let ids = builder.ids();
    let embedded = builder.look_up(&table, &ids);
    let mut x = builder.flat(&embedded, hidden);
    let bias = builder.causal_bias(None);
    let rotary = Rotary::new(builder, config, turned_width(config, heads.width, 0.25), heads.width)?;
    let mut states = vec![x.clone()];
    let layers = config.layers(&["num_hidden_layers"])?;
    for layer in 0..layers {
        let at = format!("{prefix}layers.{layer}.");
        let normal = builder.layer_norm(&x, &format!("{at}input_layernorm"), hidden, epsilon)?;
        // The query, key and value of a head are adjacent rows.
        let name = format!("{at}attention.query_key_value");
        let joint = builder.linear(&normal, &name, [hidden, 3 * hidden], with_bias)?;
        let joint = builder.by_head(&joint, heads.queries, 3 * heads.width);
        let parts = builder.split(&joint, &[heads.width as i64; 3]);
        let [queries, keys] = [&parts[0], &parts[1]].map(|part| rotary.turn(builder, part));
        let mixed = builder.attend([&queries, &keys, &parts[2]], heads, &bias);
        let mixed = builder.linear(&mixed, &format!("{at}attention.dense"), [hidden, hidden], with_bias)?;
        let after_attention = builder.op("Add", &[&mixed, &x], &[]);
        let seen = if parallel { &x } else { &after_attention };
        let normal = builder.layer_norm(seen, &format!("{at}post_attention_layernorm"), hidden, epsilon)?;
        let wide = builder.linear(&normal, &format!("{at}mlp.dense_h_to_4h"), [hidden, inner], true)?;
        let wide = builder.activation(&wide, &activation)?;
        let narrow = builder.linear(&wide, &format!("{at}mlp.dense_4h_to_h"), [inner, hidden], true)?;
        x = builder.op("Add", &[&narrow, &after_attention], &[]);
        if layer + 1 < layers {
            states.push(x.clone());
        }
    }
    states.push(builder.layer_norm(&x, &format!("{prefix}final_layer_norm"), hidden, epsilon)?);
    let decoder = head::decoder(builder, config, "embed_out.weight", &words, false);
    let head = Head { transform: None, decoder, bias: None, shape: [vocabulary, hidden] };
    Ok((Body { hidden: states, head: Some(head) }, positions))
}

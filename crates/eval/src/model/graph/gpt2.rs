//! GPT-2.

use super::Body;
use super::builder::Builder;
use super::head::{self, Head};
use super::parts::{Heads, Stored, hidden_size};
use crate::model::ModelFault;
use crate::model::config::Config;

/// Builds the graph of the model. Returns the number of its positions, too.
pub(super) fn body(builder: &mut Builder<'_>, config: &Config) -> Result<(Body, u64), ModelFault> {
    config.require_setting("scale_attn_weights", "true")?;
    config.require_setting("scale_attn_by_inverse_layer_idx", "false")?;
    config.require_setting("add_cross_attention", "false")?;
    let prefix = builder.prefix(&["transformer.", ""], "wte.weight");
    let hidden = hidden_size(config)?;
    let inner = config.size_or(&["n_inner"], 4 * hidden)?;
    let heads = Heads::even(hidden, config.size(&["n_head", "num_attention_heads"])?)?;
    let epsilon = config.number_or(&["layer_norm_epsilon"], 1e-5)?;
    let activation = config.text_or(&["activation_function"], "gelu_new").to_owned();
    let [vocabulary, positions] = [config.size(&["vocab_size"])?, config.size(&["n_positions", "n_ctx"])?];
    let words = format!("{prefix}wte.weight");
    let table = builder.weight(&words, &[vocabulary, hidden])?;
    let ids = builder.ids();
    let embedded = builder.look_up(&table, &ids);
    let table = builder.weight(&format!("{prefix}wpe.weight"), &[positions, hidden])?;
    let places = builder.positions(&table, 0);
    let embedded = builder.op("Add", &[&embedded, &places], &[]);
    let mut x = builder.flat(&embedded, hidden);
    let bias = builder.causal_bias(None);
    let mut states = vec![x.clone()];
    let layers = config.layers(&["n_layer", "num_hidden_layers"])?;
    for layer in 0..layers {
        let at = format!("{prefix}h.{layer}.");
        let normal = builder.layer_norm(&x, &format!("{at}ln_1"), hidden, epsilon)?;
        let name = format!("{at}attn.c_attn");
        let joint = builder.linear_stored(&normal, &name, [hidden, 3 * hidden], true, Stored::InOut)?;
        let parts = builder.split(&joint, &[hidden as i64; 3]);
        let parts: Vec<_> = parts.iter().map(|part| builder.by_head(part, heads.queries, heads.width)).collect();
        let mixed = builder.attend([&parts[0], &parts[1], &parts[2]], heads, &bias);
        let name = format!("{at}attn.c_proj");
        let mixed = builder.linear_stored(&mixed, &name, [hidden, hidden], true, Stored::InOut)?;
        x = builder.op("Add", &[&mixed, &x], &[]);
        let normal = builder.layer_norm(&x, &format!("{at}ln_2"), hidden, epsilon)?;
        let name = format!("{at}mlp.c_fc");
        let wide = builder.linear_stored(&normal, &name, [hidden, inner], true, Stored::InOut)?;
        let wide = builder.activation(&wide, &activation)?;
        let name = format!("{at}mlp.c_proj");
        let narrow = builder.linear_stored(&wide, &name, [inner, hidden], true, Stored::InOut)?;
        x = builder.op("Add", &[&narrow, &x], &[]);
        if layer + 1 < layers {
            states.push(x.clone());
        }
    }
    // The last hidden states are the normalized ones.
    states.push(builder.layer_norm(&x, &format!("{prefix}ln_f"), hidden, epsilon)?);
    let decoder = head::decoder(builder, config, "lm_head.weight", &words, true);
    let head = Head { transform: None, decoder, bias: None, shape: [vocabulary, hidden] };
    Ok((Body { hidden: states, head: Some(head) }, positions))
}

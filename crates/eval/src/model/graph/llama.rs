//! Llama, Mistral and Qwen2: root-mean-square normalization, rotary positions, grouped-query attention, gated layers.

use super::Body;
use super::builder::{Builder, Value};
use super::decoder::{Rotary, turned_width};
use super::head::{self, Head};
use super::parts::{Heads, hidden_size};
use crate::model::ModelFault;
use crate::model::config::Config;

/// Builds the graph of the model. Returns the number of its positions, too.
pub(super) fn body(builder: &mut Builder<'_>, config: &Config) -> Result<(Body, u64), ModelFault> {
    let prefix = builder.prefix(&["model.", ""], "embed_tokens.weight");
    let hidden = hidden_size(config)?;
    let inner = config.size(&["intermediate_size"])?;
    let heads = heads(config, hidden)?;
    let epsilon = config.number_or(&["rms_norm_eps"], 1e-6)?;
    let activation = config.text_or(&["hidden_act"], "silu").to_owned();
    let [vocabulary, positions] = [config.size(&["vocab_size"])?, config.size(&["max_position_embeddings"])?];
    let words = format!("{prefix}embed_tokens.weight");
    let table = builder.weight(&words, &[vocabulary, hidden])?;
    let ids = builder.ids();
    let embedded = builder.look_up(&table, &ids);
    let mut x = builder.flat(&embedded, hidden);
    let bias = builder.causal_bias(window(config)?);
    let rotary = Rotary::new(builder, config, turned_width(config, heads.width, 1.0), heads.width)?;
    let widths = [heads.queries * heads.width, heads.keys * heads.width];
    let mut states = vec![x.clone()];
    let layers = config.layers(&["num_hidden_layers"])?;
    for layer in 0..layers {
        let at = format!("{prefix}layers.{layer}.");
        let normal = builder.rms_norm(&x, &format!("{at}input_layernorm"), hidden, epsilon)?;
        let project = |builder: &mut Builder<'_>, part: &str, n: u64, width: u64| {
            let name = format!("{at}self_attn.{part}_proj");
            // Qwen2 has biases; Llama and Mistral have them if the configuration says so.
            let bias = builder.has(&format!("{name}.bias"));
            let x = builder.linear(&normal, &name, [hidden, width], bias)?;
            Ok::<Value, ModelFault>(builder.by_head(&x, n, heads.width))
        };
        let queries = project(builder, "q", heads.queries, widths[0])?;
        let keys = project(builder, "k", heads.keys, widths[1])?;
        let values = project(builder, "v", heads.keys, widths[1])?;
        let [queries, keys] = [&queries, &keys].map(|x| rotary.turn(builder, x));
        let mixed = builder.attend([&queries, &keys, &values], heads, &bias);
        let name = format!("{at}self_attn.o_proj");
        let with_bias = builder.has(&format!("{name}.bias"));
        let mixed = builder.linear(&mixed, &name, [widths[0], hidden], with_bias)?;
        x = builder.op("Add", &[&mixed, &x], &[]);
        let normal = builder.rms_norm(&x, &format!("{at}post_attention_layernorm"), hidden, epsilon)?;
        let mut dense = |x: &Value, part: &str, shape: [u64; 2]| {
            let name = format!("{at}mlp.{part}_proj");
            let bias = builder.has(&format!("{name}.bias"));
            builder.linear(x, &name, shape, bias)
        };
        let (gate, up) = (dense(&normal, "gate", [hidden, inner])?, dense(&normal, "up", [hidden, inner])?);
        let gate = builder.activation(&gate, &activation)?;
        let gated = builder.op("Mul", &[&gate, &up], &[]);
        let name = format!("{at}mlp.down_proj");
        let with_bias = builder.has(&format!("{name}.bias"));
        let down = builder.linear(&gated, &name, [inner, hidden], with_bias)?;
        x = builder.op("Add", &[&down, &x], &[]);
        if layer + 1 < layers {
            states.push(x.clone());
        }
    }
    states.push(builder.rms_norm(&x, &format!("{prefix}norm"), hidden, epsilon)?);
    let decoder = head::decoder(builder, config, "lm_head.weight", &words, false);
    let head = Head { transform: None, decoder, bias: None, shape: [vocabulary, hidden] };
    Ok((Body { hidden: states, head: Some(head) }, positions))
}

fn heads(config: &Config, hidden: u64) -> Result<Heads, ModelFault> {
    let queries = config.size(&["num_attention_heads"])?;
    let keys = config.size_or(&["num_key_value_heads"], queries)?;
    let width = match config.size_or(&["head_dim"], 0) {
        Ok(0) => Heads::even(hidden, queries)?.width,
        width => width?,
    };
    if !queries.is_multiple_of(keys) {
        let (found, supported) = (keys.to_string(), "a divisor of num_attention_heads");
        return Err(ModelFault::Setting { key: "num_key_value_heads", found, supported });
    }
    Ok(Heads { queries, keys, width })
}

/// The size of the attention window, if it is limited. Qwen2 configurations have the number even if it is not used.
fn window(config: &Config) -> Result<Option<u64>, ModelFault> {
    match config.model_type() {
        "qwen2" => {
            config.require_setting("use_sliding_window", "false")?;
            Ok(None)
        }
        _ => Ok(Some(config.size_or(&["sliding_window"], 0)?).filter(|window| *window > 0)),
    }
}

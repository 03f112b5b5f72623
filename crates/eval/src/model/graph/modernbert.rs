//! ModernBERT: normalizations before each part, rotary positions, gated layers, and layers with a window beside those without.

use super::Body;
use super::builder::{Builder, Value};
use super::decoder::limited_layers;
use super::families::{Family, Keys, Predicts};
use super::head::{self, Head, Transform};
use super::parts::{Heads, hidden_size};
use super::rotary::Rotary;
use crate::model::ModelFault;
use crate::model::config::Config;

pub const MODERNBERT: Family = Family {
    model_type: "modernbert",
    stem: "ModernBert",
    predicts: Predicts::Masked,
    keys: Keys {
        used: &[
            &[
                "hidden_size",
                "intermediate_size",
                "num_hidden_layers",
                "num_attention_heads",
                "max_position_embeddings",
            ],
            &["hidden_activation", "norm_eps", "norm_bias", "attention_bias", "mlp_bias", "layer_types"],
            &["local_attention", "sliding_window", "global_attn_every_n_layers"],
            &["rope_parameters", "rope_scaling", "global_rope_theta", "local_rope_theta"],
            &["decoder_bias", "classifier_bias", "classifier_activation"],
        ],
        fixed: &[
            ("is_decoder", "false"),
            ("add_cross_attention", "false"),
            ("position_embedding_type", "absolute"),
            ("partial_rotary_factor", "1.0"),
            ("head_dim", "null"),
        ],
        harmless: &[&[
            "attention_dropout",
            "classifier_dropout",
            "classifier_pooling",
            "deterministic_flash_attn",
            "embedding_dropout",
            "initializer_cutoff_factor",
            "layer_norm_eps",
            "mlp_dropout",
            "reference_compile",
            "repad_logits_with_grad",
            "rope_theta",
            "sparse_pred_ignore_index",
            "sparse_prediction",
        ]],
    },
    build,
};

fn build(builder: &mut Builder<'_>, config: &Config) -> Result<Body, ModelFault> {
    let prefix = builder.prefix(&["model.", ""], "final_norm.weight");
    let hidden = hidden_size(config)?;
    let inner = config.size(&["intermediate_size"])?;
    let heads = Heads::even(hidden, config.size(&["num_attention_heads"])?)?;
    let epsilon = config.number_or("norm_eps", 1e-5)?;
    let activation = config.text_or("hidden_activation", "gelu")?.to_owned();
    let flag = |key| config.flag_or(key, false);
    let (norm_bias, attention_bias, mlp_bias) = (flag("norm_bias")?, flag("attention_bias")?, flag("mlp_bias")?);
    let [vocabulary, positions] = [config.size(&["vocab_size"])?, config.size(&["max_position_embeddings"])?];
    let layers = config.layers(&["num_hidden_layers"])?;
    // The window is half of this number on each side; the other name is of half of it.
    let reach = match config.optional_size("sliding_window", None)? {
        Some(reach) => reach,
        None => config.index_or("local_attention", 128)? / 2,
    };
    let every = config.size_or(&["global_attn_every_n_layers"], 3)?;
    let limited = limited_layers(config, layers, |layer| !layer.is_multiple_of(every))?;
    let mut rotary = |names, theta| Rotary::of_layers(builder, config, heads.width, names, theta, true);
    let rotary = [
        rotary(["full_attention", "global_rope_theta"], 160_000.0)?,
        rotary(["sliding_attention", "local_rope_theta"], 10_000.0)?,
    ];
    let tables =
        head::tables(builder, config, &format!("{prefix}embeddings.tok_embeddings.weight"), "decoder.weight", true)?;
    let table = builder.weight(&tables.embeddings, &[vocabulary, hidden])?;
    let ids = builder.ids();
    let x = builder.look_up(&table, &ids);
    let x = builder.flat(&x, hidden);
    let mut x = builder.normalize(&x, &format!("{prefix}embeddings.norm"), hidden, epsilon, norm_bias)?;
    let mut states = vec![x.clone()];
    for (layer, limited) in limited.into_iter().enumerate() {
        let at = format!("{prefix}layers.{layer}.");
        // The embeddings are normalized already.
        let seen = match layer {
            0 => x.clone(),
            _ => builder.normalize(&x, &format!("{at}attn_norm"), hidden, epsilon, norm_bias)?,
        };
        let all = builder.linear(&seen, &format!("{at}attn.Wqkv"), [hidden, 3 * hidden], attention_bias)?;
        let parts: Vec<Value> = builder.split(&all, &[hidden as i64; 3]);
        let parts: Vec<Value> = parts.iter().map(|part| builder.by_head(part, heads.queries, heads.width)).collect();
        let [queries, keys] = [0, 1].map(|part| rotary[usize::from(limited)].turn(builder, &parts[part]));
        let bias = if limited { builder.window_bias(reach) } else { builder.padding_bias() };
        let mixed = builder.attend([&queries, &keys, &parts[2]], heads, heads.scores(), &bias);
        let mixed = builder.linear(&mixed, &format!("{at}attn.Wo"), [hidden, hidden], attention_bias)?;
        x = builder.op("Add", &[&mixed, &x], &[]);
        let seen = builder.normalize(&x, &format!("{at}mlp_norm"), hidden, epsilon, norm_bias)?;
        let both = builder.linear(&seen, &format!("{at}mlp.Wi"), [hidden, 2 * inner], mlp_bias)?;
        let parts = builder.split(&both, &[inner as i64; 2]);
        let gate = builder.activation(&parts[0], &activation)?;
        let gated = builder.op("Mul", &[&gate, &parts[1]], &[]);
        let given = builder.linear(&gated, &format!("{at}mlp.Wo"), [inner, hidden], mlp_bias)?;
        x = builder.op("Add", &[&given, &x], &[]);
        if layer as u64 + 1 < layers {
            states.push(x.clone());
        }
    }
    states.push(builder.normalize(&x, &format!("{prefix}final_norm"), hidden, epsilon, norm_bias)?);
    let transform = Transform {
        dense: "head.dense".to_owned(),
        dense_bias: flag("classifier_bias")?,
        norm: "head.norm".to_owned(),
        norm_bias,
        activation: config.text_or("classifier_activation", "gelu")?.to_owned(),
        epsilon,
        from: hidden,
    };
    let bias = config.flag_or("decoder_bias", true)?.then(|| "decoder.bias".to_owned());
    // Classifiers have the same transformation without the decoder.
    let is_there = builder.has("head.dense.weight") && bias.as_ref().is_none_or(|bias| builder.has(bias));
    let head = tables.head.filter(|_| is_there).map(|decoder| Head {
        transform: Some(transform),
        decoder,
        bias,
        shape: [vocabulary, hidden],
        divisor: 1.0,
        cap: None,
    });
    Ok(Body { hidden: states, head, positions })
}

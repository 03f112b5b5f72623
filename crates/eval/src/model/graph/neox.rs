//! GPT-NeoX and Pythia.

use super::Body;
use super::builder::Builder;
use super::families::{Family, Keys, Predicts};
use super::head::{self, Head};
use super::parts::{Heads, hidden_size};
use super::rotary::{Rotary, Settings, Turned};
use crate::model::ModelFault;
use crate::model::config::Config;

pub const GPT_NEOX: Family = Family {
    model_type: "gpt_neox",
    stem: "GPTNeoX",
    predicts: Predicts::Next,
    keys: Keys {
        used: &[
            &[
                "hidden_size",
                "intermediate_size",
                "num_hidden_layers",
                "num_attention_heads",
                "max_position_embeddings",
            ],
            &["layer_norm_eps", "hidden_act", "use_parallel_residual", "attention_bias"],
            &["rope_parameters", "rope_scaling", "rotary_emb_base", "rotary_pct", "original_max_position_embeddings"],
        ],
        fixed: &[("head_dim", "null")],
        harmless: &[&[
            "attention_dropout",
            "classifier_dropout",
            "gpt_j_residual",
            "hidden_dropout",
            "is_decoder",
            "output_layer_parallelism",
            // Where its own names of the two are the ones that count.
            "partial_rotary_factor",
            "rope_theta",
        ]],
    },
    build,
};

fn build(builder: &mut Builder<'_>, config: &Config) -> Result<Body, ModelFault> {
    let prefix = builder.prefix(&["gpt_neox.", ""], "final_layer_norm.weight");
    let hidden = hidden_size(config)?;
    let inner = config.size(&["intermediate_size"])?;
    let heads = Heads::even(hidden, config.size(&["num_attention_heads"])?)?;
    let epsilon = config.number_or("layer_norm_eps", 1e-5)?;
    let activation = config.text_or("hidden_act", "gelu")?.to_owned();
    let parallel = config.flag_or("use_parallel_residual", true)?;
    let with_bias = config.flag_or("attention_bias", true)?;
    let [vocabulary, positions] = [config.size(&["vocab_size"])?, config.size(&["max_position_embeddings"])?];
    let tables = head::tables(builder, config, &format!("{prefix}embed_in.weight"), "embed_out.weight", false)?;
    let table = builder.weight(&tables.embeddings, &[vocabulary, hidden])?;
    let ids = builder.ids();
    let embedded = builder.look_up(&table, &ids);
    let mut x = builder.flat(&embedded, hidden);
    let bias = builder.causal_bias(None);
    let settings = Settings::named(config, "rotary_emb_base", "rotary_pct", Turned::share(10_000.0, 0.25))?;
    let rotary = Rotary::new(builder, &settings, heads.width, false)?;
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
        let mixed = builder.attend([&queries, &keys, &parts[2]], heads, heads.scores(), &bias);
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
    let head = tables.head.map(|decoder| Head::plain(decoder, [vocabulary, hidden]));
    Ok(Body { hidden: states, head, positions })
}

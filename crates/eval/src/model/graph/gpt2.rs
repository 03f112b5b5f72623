//! GPT-2.

use super::Body;
use super::builder::Builder;
use super::families::{Family, Keys, Predicts};
use super::head::{self, Head};
use super::parts::{Heads, Stored};
use crate::model::ModelFault;
use crate::model::config::Config;

pub const GPT2: Family = Family {
    model_type: "gpt2",
    stem: "GPT2",
    predicts: Predicts::Next,
    keys: Keys {
        used: &[
            // The names that all architectures have go before its own.
            &["hidden_size", "n_embd", "num_hidden_layers", "n_layer", "num_attention_heads", "n_head", "n_inner"],
            &["max_position_embeddings", "n_positions", "activation_function", "layer_norm_epsilon"],
        ],
        fixed: &[
            ("scale_attn_weights", "true"),
            ("scale_attn_by_inverse_layer_idx", "false"),
            ("add_cross_attention", "false"),
        ],
        harmless: &[&[
            "attn_pdrop",
            "classifier_dropout",
            "embd_pdrop",
            "hidden_dropout",
            "is_decoder",
            "n_ctx",
            "reorder_and_upcast_attn",
            "resid_pdrop",
            "summary_activation",
            "summary_first_dropout",
            "summary_last_dropout",
            "summary_proj_to_labels",
            "summary_type",
            "summary_use_proj",
        ]],
    },
    build,
};

fn build(builder: &mut Builder<'_>, config: &Config) -> Result<Body, ModelFault> {
    let prefix = builder.prefix(&["transformer.", ""], "ln_f.weight");
    let hidden = config.size(&["hidden_size", "n_embd"])?;
    let inner = config.optional_size("n_inner", None)?.unwrap_or(4 * hidden);
    let heads = Heads::even(hidden, config.size(&["num_attention_heads", "n_head"])?)?;
    let epsilon = config.number_or("layer_norm_epsilon", 1e-5)?;
    let activation = config.text_or("activation_function", "gelu_new")?.to_owned();
    let positions = config.size(&["max_position_embeddings", "n_positions"])?;
    let vocabulary = config.size(&["vocab_size"])?;
    let tables = head::tables(builder, config, &format!("{prefix}wte.weight"), "lm_head.weight", true)?;
    let table = builder.weight(&tables.embeddings, &[vocabulary, hidden])?;
    let ids = builder.ids();
    let embedded = builder.look_up(&table, &ids);
    let table = builder.weight(&format!("{prefix}wpe.weight"), &[positions, hidden])?;
    let places = builder.positions(&table, 0);
    let embedded = builder.op("Add", &[&embedded, &places], &[]);
    let mut x = builder.flat(&embedded, hidden);
    let bias = builder.causal_bias(None);
    let mut states = vec![x.clone()];
    let layers = config.layers(&["num_hidden_layers", "n_layer"])?;
    for layer in 0..layers {
        let at = format!("{prefix}h.{layer}.");
        let normal = builder.layer_norm(&x, &format!("{at}ln_1"), hidden, epsilon)?;
        let name = format!("{at}attn.c_attn");
        let joint = builder.linear_stored(&normal, &name, [hidden, 3 * hidden], true, Stored::InOut)?;
        let parts = builder.split(&joint, &[hidden as i64; 3]);
        let parts: Vec<_> = parts.iter().map(|part| builder.by_head(part, heads.queries, heads.width)).collect();
        let mixed = builder.attend([&parts[0], &parts[1], &parts[2]], heads, heads.scores(), &bias);
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
    let head = tables.head.map(|decoder| Head::plain(decoder, [vocabulary, hidden]));
    Ok(Body { hidden: states, head, positions })
}

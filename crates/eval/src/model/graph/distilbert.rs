//! DistilBERT.

use super::Body;
use super::builder::Builder;
use super::encoder::{Names, Plan, body};
use super::families::{Family, Keys, Predicts};
use crate::model::ModelFault;
use crate::model::config::Config;

const NAMES: Names = Names {
    prefixes: &["distilbert.", ""],
    layer: "transformer.layer.{}.",
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    attention_output: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    intermediate: "ffn.lin1",
    output: "ffn.lin2",
    output_norm: "output_layer_norm",
};

pub const DISTILBERT: Family = Family {
    model_type: "distilbert",
    stem: "DistilBert",
    predicts: Predicts::Masked,
    keys: Keys {
        used: &[
            // The names that all architectures have go before its own.
            &["hidden_size", "dim", "num_hidden_layers", "n_layers", "num_attention_heads", "n_heads", "hidden_dim"],
            &["max_position_embeddings", "activation"],
        ],
        fixed: &[("is_decoder", "false"), ("add_cross_attention", "false")],
        harmless: &[&[
            "attention_dropout",
            "dropout",
            "layer_norm_eps",
            "qa_dropout",
            "seq_classif_dropout",
            "sinusoidal_pos_embds",
            "tie_weights_",
            "classifier_dropout",
        ]],
    },
    build,
};

fn build(builder: &mut Builder<'_>, config: &Config) -> Result<Body, ModelFault> {
    let hidden = config.size(&["hidden_size", "dim"])?;
    let activation = config.text_or("activation", "gelu")?.to_owned();
    let plan = Plan {
        names: &NAMES,
        hidden,
        intermediate: config.size(&["hidden_dim"])?,
        layers: config.layers(&["num_hidden_layers", "n_layers"])?,
        queries: config.size(&["num_attention_heads", "n_heads"])?,
        positions: config.size(&["max_position_embeddings"])?,
        epsilon: 1e-12,
        head_activation: activation.clone(),
        activation,
        embedding: (hidden, None),
        types: None,
        padding: None,
        relative: None,
        head: ["vocab_transform", "vocab_layer_norm", "vocab_projector", "vocab_projector.bias"],
    };
    body(builder, config, &plan)
}

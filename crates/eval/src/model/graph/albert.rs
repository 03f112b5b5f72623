//! ALBERT: BERT with narrow embeddings, and with one layer for all.

use super::Body;
use super::builder::Builder;
use super::encoder::{self, Names, Plan, body};
use super::families::{Family, Keys, Predicts};
use crate::model::ModelFault;
use crate::model::config::Config;

const NAMES: Names = Names {
    prefixes: &["albert.", ""],
    layer: "encoder.albert_layer_groups.0.albert_layers.0.",
    query: "attention.query",
    key: "attention.key",
    value: "attention.value",
    attention_output: "attention.dense",
    attention_norm: "attention.LayerNorm",
    intermediate: "ffn",
    output: "ffn_output",
    output_norm: "full_layer_layer_norm",
};

pub const ALBERT: Family = Family {
    model_type: "albert",
    stem: "Albert",
    predicts: Predicts::Masked,
    keys: Keys {
        used: &[encoder::KEYS, &["type_vocab_size", "embedding_size"]],
        fixed: &[
            ("num_hidden_groups", "1"),
            ("inner_group_num", "1"),
            ("is_decoder", "false"),
            ("add_cross_attention", "false"),
            ("position_embedding_type", "absolute"),
        ],
        harmless: &[
            encoder::HARMLESS,
            &["classifier_dropout_prob", "down_scale_factor", "gap_size", "net_structure_type", "num_memory_blocks"],
        ],
    },
    build,
};

fn build(builder: &mut Builder<'_>, config: &Config) -> Result<Body, ModelFault> {
    let head = ["predictions.dense", "predictions.LayerNorm", "predictions.decoder", "predictions.bias"];
    let mut plan = Plan::new(config, &NAMES, head)?;
    plan.activation = config.text_or("hidden_act", "gelu_new")?.to_owned();
    plan.head_activation = plan.activation.clone();
    plan.types = Some(config.size_or(&["type_vocab_size"], 2)?);
    plan.embedding = (config.size_or(&["embedding_size"], 128)?, Some("encoder.embedding_hidden_mapping_in"));
    body(builder, config, &plan)
}

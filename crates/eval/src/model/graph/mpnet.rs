//! MPNet: BERT with biases by distance, and without token types.

use super::Body;
use super::bert::{NAMES, ROBERTA_HEAD};
use super::builder::Builder;
use super::encoder::{self, Names, Plan, RELATIVE_BUCKETS, body};
use super::families::{Family, Keys, Predicts};
use crate::model::ModelFault;
use crate::model::config::Config;

const MPNET_NAMES: Names = Names {
    prefixes: &["mpnet.", ""],
    query: "attention.attn.q",
    key: "attention.attn.k",
    value: "attention.attn.v",
    attention_output: "attention.attn.o",
    attention_norm: "attention.LayerNorm",
    ..NAMES
};

/// The id of its padding token, whatever the configuration says.
const PADDING: u64 = 1;

pub const MPNET: Family = Family {
    model_type: "mpnet",
    stem: "MPNet",
    predicts: Predicts::Masked,
    keys: Keys {
        used: &[encoder::KEYS, &["relative_attention_num_buckets"]],
        fixed: &encoder::FIXED,
        harmless: &[encoder::HARMLESS],
    },
    build,
};

fn build(builder: &mut Builder<'_>, config: &Config) -> Result<Body, ModelFault> {
    let mut plan = Plan::new(config, &MPNET_NAMES, ROBERTA_HEAD)?;
    let rows = config.size_or(&["relative_attention_num_buckets"], RELATIVE_BUCKETS)?;
    if rows < RELATIVE_BUCKETS {
        return Err(Config::refused("relative_attention_num_buckets", rows, "32"));
    }
    plan.relative = Some(("encoder.relative_attention_bias", rows));
    plan.padding = Some(PADDING);
    plan.head_activation = "gelu".to_owned();
    body(builder, config, &plan)
}

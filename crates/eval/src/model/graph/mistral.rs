//! Mistral: Llama with a window.

use super::Body;
use super::builder::Builder;
use super::decoder::{self, Plan, body, heads};
use super::families::{Family, Keys, Predicts};
use super::rotary::{self, Turned};
use crate::model::ModelFault;
use crate::model::config::Config;

pub const MISTRAL: Family = Family {
    model_type: "mistral",
    stem: "Mistral",
    predicts: Predicts::Next,
    keys: Keys {
        used: &[decoder::KEYS, rotary::KEYS, &["hidden_act", "head_dim", "sliding_window"]],
        fixed: &[("layer_types", "null"), ("attention_bias", "false"), ("mlp_bias", "false")],
        harmless: &[decoder::HARMLESS],
    },
    build,
};

fn build(builder: &mut Builder<'_>, config: &Config) -> Result<Body, ModelFault> {
    let mut plan = Plan::new(builder, config, heads(config, Some(8), None)?, Turned::whole(10_000.0), 1e-6)?;
    plan.activation = config.text_or("hidden_act", "silu")?.to_owned();
    plan.limit(config.optional_size("sliding_window", Some(4096))?);
    body(builder, config, &plan)
}

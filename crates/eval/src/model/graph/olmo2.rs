//! OLMo 2: Llama with normalizations after its parts, and of all queries and keys together.

use super::Body;
use super::builder::Builder;
use super::decoder::{self, Biases, Norms, Plan, QueryNorm, body, heads};
use super::families::{Family, Keys, Predicts};
use super::rotary::{self, Turned};
use crate::model::ModelFault;
use crate::model::config::Config;

pub const OLMO2: Family = Family {
    model_type: "olmo2",
    stem: "Olmo2",
    predicts: Predicts::Next,
    keys: Keys {
        used: &[decoder::KEYS, rotary::KEYS, &["hidden_act", "head_dim", "attention_bias"]],
        fixed: &[("mlp_bias", "false")],
        harmless: &[decoder::HARMLESS],
    },
    build,
};

fn build(builder: &mut Builder<'_>, config: &Config) -> Result<Body, ModelFault> {
    let mut plan = Plan::new(builder, config, heads(config, None, None)?, Turned::whole(10_000.0), 1e-5)?;
    plan.activation = config.text_or("hidden_act", "silu")?.to_owned();
    let attention = config.flag_or("attention_bias", false)?;
    plan.biases = Biases { queries: attention, output: attention, gated: false };
    plan.norms = Norms {
        before_attention: None,
        after_attention: Some("post_attention_layernorm"),
        before_gated: None,
        after_gated: Some("post_feedforward_layernorm"),
        offset: 0.0,
    };
    plan.query_norm = QueryNorm::Whole;
    body(builder, config, &plan)
}

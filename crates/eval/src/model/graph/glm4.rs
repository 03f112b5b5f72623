//! GLM-4: four normalizations in a layer, and rotary embeddings of neighbouring dimensions.

use super::Body;
use super::builder::Builder;
use super::decoder::{self, Norms, Plan, body, heads};
use super::families::{Family, Keys, Predicts};
use super::rotary::{self, Rotary, Settings, Turned};
use crate::model::ModelFault;
use crate::model::config::Config;

pub const GLM4: Family = Family {
    model_type: "glm4",
    stem: "Glm4",
    predicts: Predicts::Next,
    keys: Keys {
        used: &[decoder::KEYS, rotary::KEYS, &["hidden_act", "head_dim", "attention_bias"]],
        fixed: &[("mlp_bias", "false")],
        harmless: &[decoder::HARMLESS],
    },
    build,
};

fn build(builder: &mut Builder<'_>, config: &Config) -> Result<Body, ModelFault> {
    let heads = heads(config, Some(2), Some(128))?;
    let settings = Settings::of(config, Turned::share(10_000.0, 0.5))?;
    let mut plan = Plan::bare(config, heads, 1.5625e-7)?;
    plan.rotary = vec![Rotary::new(builder, &settings, heads.width, true)?];
    plan.activation = config.text_or("hidden_act", "silu")?.to_owned();
    plan.biases.queries = config.flag_or("attention_bias", true)?;
    plan.norms = Norms {
        before_attention: Some("input_layernorm"),
        after_attention: Some("post_self_attn_layernorm"),
        before_gated: Some("post_attention_layernorm"),
        after_gated: Some("post_mlp_layernorm"),
        offset: 0.0,
    };
    plan.joint_gate = true;
    body(builder, config, &plan)
}

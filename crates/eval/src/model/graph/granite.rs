//! Granite: Llama with four multipliers.

use super::Body;
use super::builder::Builder;
use super::decoder::{self, Biases, Plan, body, heads};
use super::families::{Family, Keys, Predicts};
use super::rotary::{self, Turned};
use crate::model::ModelFault;
use crate::model::config::Config;

pub const GRANITE: Family = Family {
    model_type: "granite",
    stem: "Granite",
    predicts: Predicts::Next,
    keys: Keys {
        used: &[
            decoder::KEYS,
            rotary::KEYS,
            &["hidden_act", "head_dim", "attention_bias", "mlp_bias"],
            &["embedding_multiplier", "logits_scaling", "residual_multiplier", "attention_multiplier"],
        ],
        fixed: &[],
        harmless: &[decoder::HARMLESS],
    },
    build,
};

fn build(builder: &mut Builder<'_>, config: &Config) -> Result<Body, ModelFault> {
    let mut plan = Plan::new(builder, config, heads(config, None, None)?, Turned::whole(10_000.0), 1e-6)?;
    plan.activation = config.text_or("hidden_act", "silu")?.to_owned();
    let attention = config.flag_or("attention_bias", false)?;
    plan.biases = Biases { queries: attention, output: attention, gated: config.flag_or("mlp_bias", false)? };
    let multiplier = |key| config.number_or(key, 1.0).map(|number| number as f32);
    plan.embedding_scale = multiplier("embedding_multiplier")?;
    plan.residual_scale = multiplier("residual_multiplier")?;
    plan.scores.divisor = 1.0 / multiplier("attention_multiplier")?;
    plan.logit_divisor = multiplier("logits_scaling")?;
    body(builder, config, &plan)
}

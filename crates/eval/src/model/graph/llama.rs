//! Llama.

use super::Body;
use super::builder::Builder;
use super::decoder::{self, Biases, Plan, body, heads};
use super::families::{Family, Keys, Predicts};
use super::rotary::{self, Turned};
use crate::model::ModelFault;
use crate::model::config::Config;

pub const LLAMA: Family = Family {
    model_type: "llama",
    stem: "Llama",
    predicts: Predicts::Next,
    keys: Keys {
        used: &[decoder::KEYS, rotary::KEYS, &["hidden_act", "head_dim", "attention_bias", "mlp_bias"]],
        fixed: &[("rope_interleaved", "false")],
        harmless: &[
            decoder::HARMLESS,
            &["sliding_window", "max_window_layers", "use_sliding_window", "layer_types", "is_llama_config"],
        ],
    },
    build,
};

fn build(builder: &mut Builder<'_>, config: &Config) -> Result<Body, ModelFault> {
    let mut plan = Plan::new(builder, config, heads(config, None, None)?, Turned::whole(10_000.0), 1e-6)?;
    plan.activation = config.text_or("hidden_act", "silu")?.to_owned();
    let attention = config.flag_or("attention_bias", false)?;
    plan.biases = Biases { queries: attention, output: attention, gated: config.flag_or("mlp_bias", false)? };
    body(builder, config, &plan)
}

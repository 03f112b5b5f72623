//! Mixtral: Mistral with experts.

use super::Body;
use super::builder::Builder;
use super::decoder::{self, Plan, body, heads};
use super::experts::Experts;
use super::families::{Family, Keys, Predicts};
use super::rotary::{self, Turned};
use crate::model::ModelFault;
use crate::model::config::Config;

pub const MIXTRAL: Family = Family {
    model_type: "mixtral",
    stem: "Mixtral",
    predicts: Predicts::Next,
    keys: Keys {
        used: &[
            decoder::KEYS,
            rotary::KEYS,
            &["hidden_act", "head_dim", "sliding_window", "num_experts", "num_local_experts", "num_experts_per_tok"],
        ],
        fixed: &[("attention_bias", "false"), ("mlp_bias", "false")],
        harmless: &[decoder::HARMLESS, &["output_router_logits", "router_aux_loss_coef", "router_jitter_noise"]],
    },
    build,
};

fn build(builder: &mut Builder<'_>, config: &Config) -> Result<Body, ModelFault> {
    let mut plan = Plan::new(builder, config, heads(config, Some(8), None)?, Turned::whole(1_000_000.0), 1e-5)?;
    plan.activation = config.text_or("hidden_act", "silu")?.to_owned();
    plan.limit(config.optional_size("sliding_window", None)?);
    let experts = Experts {
        count: config.size_or(&["num_experts", "num_local_experts"], 8)?,
        chosen: config.size_or(&["num_experts_per_tok"], 2)?,
        inner: config.size(&["intermediate_size"])?,
        normalized: true,
        module: "block_sparse_moe",
        names: ["w1", "w3", "w2"],
    };
    experts.check()?;
    plan.layers.iter_mut().for_each(|layer| layer.experts = Some(experts.clone()));
    body(builder, config, &plan)
}

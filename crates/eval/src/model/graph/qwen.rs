//! Qwen2, Qwen3 and Qwen3-MoE: Llama with biases, then with normalized queries and keys, then with experts.

use super::Body;
use super::builder::Builder;
use super::decoder::{self, Biases, Plan, QueryNorm, body, heads};
use super::experts::Experts;
use super::families::{Family, Keys, Predicts};
use super::rotary::{self, Turned};
use crate::model::ModelFault;
use crate::model::config::Config;
use serde_json::Value as Json;

const WINDOW: &[&str] = &["sliding_window", "use_sliding_window"];

pub const QWEN2: Family = Family {
    model_type: "qwen2",
    stem: "Qwen2",
    predicts: Predicts::Next,
    keys: Keys {
        used: &[decoder::KEYS, rotary::KEYS, WINDOW, &["hidden_act", "head_dim", "layer_types", "max_window_layers"]],
        fixed: &[("attention_bias", "true"), ("mlp_bias", "false")],
        harmless: &[decoder::HARMLESS, &["use_mrope"]],
    },
    build: qwen2,
};

pub const QWEN3: Family = Family {
    model_type: "qwen3",
    stem: "Qwen3",
    predicts: Predicts::Next,
    keys: Keys {
        used: &[
            decoder::KEYS,
            rotary::KEYS,
            WINDOW,
            &["hidden_act", "head_dim", "layer_types", "max_window_layers", "attention_bias"],
        ],
        fixed: &[("mlp_bias", "false")],
        harmless: &[decoder::HARMLESS],
    },
    build: qwen3,
};

pub const QWEN3_MOE: Family = Family {
    model_type: "qwen3_moe",
    stem: "Qwen3Moe",
    predicts: Predicts::Next,
    keys: Keys {
        used: &[
            decoder::KEYS,
            rotary::KEYS,
            WINDOW,
            &["hidden_act", "head_dim", "attention_bias", "decoder_sparse_step", "mlp_only_layers", "norm_topk_prob"],
            &["num_experts", "num_local_experts", "num_experts_per_tok", "moe_intermediate_size"],
        ],
        fixed: &[("mlp_bias", "false")],
        harmless: &[decoder::HARMLESS, &["output_router_logits", "router_aux_loss_coef", "max_window_layers"]],
    },
    build: qwen3_moe,
};

fn qwen2(builder: &mut Builder<'_>, config: &Config) -> Result<Body, ModelFault> {
    let mut plan = Plan::new(builder, config, heads(config, Some(32), None)?, Turned::whole(10_000.0), 1e-6)?;
    plan.activation = config.text_or("hidden_act", "silu")?.to_owned();
    plan.biases.queries = true;
    limit_last(config, &mut plan)?;
    body(builder, config, &plan)
}

fn qwen3(builder: &mut Builder<'_>, config: &Config) -> Result<Body, ModelFault> {
    let mut plan = third(builder, config, heads(config, Some(32), Some(128))?)?;
    limit_last(config, &mut plan)?;
    body(builder, config, &plan)
}

fn qwen3_moe(builder: &mut Builder<'_>, config: &Config) -> Result<Body, ModelFault> {
    let mut plan = third(builder, config, heads(config, Some(4), None)?)?;
    plan.limit(window(config)?);
    let experts = Experts {
        count: config.size_or(&["num_local_experts", "num_experts"], 128)?,
        chosen: config.size_or(&["num_experts_per_tok"], 8)?,
        inner: config.size_or(&["moe_intermediate_size"], 768)?,
        normalized: config.flag_or("norm_topk_prob", false)?,
        module: "mlp",
        names: ["gate_proj", "up_proj", "down_proj"],
    };
    experts.check()?;
    let step = config.size_or(&["decoder_sparse_step"], 1)?;
    let without = config.list("mlp_only_layers")?.map_or(&[][..], Vec::as_slice);
    for (number, layer) in plan.layers.iter_mut().enumerate() {
        let with = (number as u64 + 1).is_multiple_of(step) && !without.contains(&Json::from(number));
        layer.experts = with.then(|| experts.clone());
    }
    body(builder, config, &plan)
}

/// What the third generation has in common.
fn third(builder: &mut Builder<'_>, config: &Config, heads: super::parts::Heads) -> Result<Plan, ModelFault> {
    let mut plan = Plan::new(builder, config, heads, Turned::whole(10_000.0), 1e-6)?;
    plan.activation = config.text_or("hidden_act", "silu")?.to_owned();
    let attention = config.flag_or("attention_bias", false)?;
    plan.biases = Biases { queries: attention, output: attention, gated: false };
    plan.query_norm = QueryNorm::Heads;
    Ok(plan)
}

/// The window, if it is switched on.
fn window(config: &Config) -> Result<Option<u64>, ModelFault> {
    match config.flag_or("use_sliding_window", false)? {
        true => config.optional_size("sliding_window", Some(4096)),
        false => Ok(None),
    }
}

/// Limits the layers from `max_window_layers` on, if the configuration does not list the limited ones.
fn limit_last(config: &Config, plan: &mut Plan) -> Result<(), ModelFault> {
    let (window, first) = (window(config)?, config.index_or("max_window_layers", 28)?);
    plan.limit_some(config, window, |layer| window.is_some() && layer >= first).map(|_| ())
}

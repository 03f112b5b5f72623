//! Gemma 2 and the text model of Gemma 3: four normalizations in a layer, and layers with a window beside those without.

use super::Body;
use super::builder::Builder;
use super::decoder::{self, Biases, Norms, Plan, QueryNorm, body, heads};
use super::families::{Family, Keys, Predicts};
use super::parts::hidden_size;
use super::rotary::{self, Rotary, Turned};
use crate::model::ModelFault;
use crate::model::config::Config;

const OWN: &[&str] = &[
    "hidden_activation",
    "head_dim",
    "attention_bias",
    "query_pre_attn_scalar",
    "sliding_window",
    "layer_types",
    "final_logit_softcapping",
];

pub const GEMMA2: Family = Family {
    model_type: "gemma2",
    stem: "Gemma2",
    predicts: Predicts::Next,
    keys: Keys {
        used: &[decoder::KEYS, rotary::KEYS, OWN, &["attn_logit_softcapping"]],
        fixed: &[("use_bidirectional_attention", "false"), ("mlp_bias", "false")],
        harmless: &[decoder::HARMLESS, &["hidden_act", "cache_implementation", "sliding_window_size"]],
    },
    build: gemma2,
};

pub const GEMMA3: Family = Family {
    model_type: "gemma3_text",
    stem: "Gemma3",
    predicts: Predicts::Next,
    keys: Keys {
        used: &[
            decoder::KEYS,
            OWN,
            &["rope_parameters", "rope_scaling", "rope_theta", "rope_local_base_freq"],
            &["sliding_window_pattern", "use_bidirectional_attention"],
        ],
        fixed: &[("partial_rotary_factor", "1.0"), ("mlp_bias", "false")],
        harmless: &[
            decoder::HARMLESS,
            &["hidden_act", "cache_implementation", "attn_logit_softcapping", "original_max_position_embeddings"],
            &["_sliding_window_pattern"],
        ],
    },
    build: gemma3,
};

fn gemma2(builder: &mut Builder<'_>, config: &Config) -> Result<Body, ModelFault> {
    let heads = heads(config, Some(4), Some(256))?;
    let mut plan = Plan::new(builder, config, heads, Turned::whole(10_000.0), 1e-6)?;
    both(config, &mut plan, Some(30.0))?;
    plan.scores.cap = config.optional_number("attn_logit_softcapping", Some(50.0))?.map(|cap| cap as f32);
    let window = config.optional_size("sliding_window", Some(4096))?;
    plan.limit_some(config, window, |layer| layer.is_multiple_of(2))?;
    body(builder, config, &plan)
}

fn gemma3(builder: &mut Builder<'_>, config: &Config) -> Result<Body, ModelFault> {
    let heads = heads(config, Some(4), Some(256))?;
    let mut plan = Plan::bare(config, heads, 1e-6)?;
    both(config, &mut plan, None)?;
    plan.query_norm = QueryNorm::Heads;
    plan.rotary = vec![
        Rotary::of_layers(builder, config, heads.width, ["full_attention", "rope_theta"], 1_000_000.0, true)?,
        Rotary::of_layers(
            builder,
            config,
            heads.width,
            ["sliding_attention", "rope_local_base_freq"],
            10_000.0,
            false,
        )?,
    ];
    let mut window = config.optional_size("sliding_window", Some(4096))?;
    plan.bidirectional = config.flag_or("use_bidirectional_attention", false)?;
    if plan.bidirectional {
        if config.is_saved_from(&["ForCausalLM"]) {
            let supported = "false, in a model that predicts the next token";
            return Err(Config::refused("use_bidirectional_attention", true, supported));
        }
        // Half of it on each side.
        window = window.map(|window| window / 2 + 1);
    }
    let pattern = config.size_or(&["sliding_window_pattern"], 6)?;
    let limited = plan.limit_some(config, window, |layer| !(layer + 1).is_multiple_of(pattern))?;
    plan.layers.iter_mut().zip(limited).for_each(|(layer, limited)| layer.rotary = Some(usize::from(limited)));
    body(builder, config, &plan)
}

/// What the two have in common.
fn both(config: &Config, plan: &mut Plan, logit_cap: Option<f64>) -> Result<(), ModelFault> {
    plan.activation = config.text_or("hidden_activation", "gelu_pytorch_tanh")?.to_owned();
    let attention = config.flag_or("attention_bias", false)?;
    plan.biases = Biases { queries: attention, output: attention, gated: false };
    plan.norms = Norms {
        before_attention: Some("input_layernorm"),
        after_attention: Some("post_attention_layernorm"),
        before_gated: Some("pre_feedforward_layernorm"),
        after_gated: Some("post_feedforward_layernorm"),
        offset: 1.0,
    };
    plan.embedding_scale = (hidden_size(config)? as f64).sqrt() as f32;
    plan.scores.divisor = config.number_or("query_pre_attn_scalar", 256.0)?.sqrt() as f32;
    plan.logit_cap = config.optional_number("final_logit_softcapping", logit_cap)?.map(|cap| cap as f32);
    plan.tied = true;
    Ok(())
}

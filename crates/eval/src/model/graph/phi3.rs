//! Phi-3 and Phi-4: Llama with joint matrices.

use super::Body;
use super::builder::Builder;
use super::decoder::{self, Plan, body, heads};
use super::families::{Family, Keys, Predicts};
use super::rotary::{self, Rotary, Settings, Turned};
use crate::model::ModelFault;
use crate::model::config::Config;

pub const PHI3: Family = Family {
    model_type: "phi3",
    stem: "Phi3",
    predicts: Predicts::Next,
    keys: Keys {
        used: &[decoder::KEYS, rotary::KEYS, &["hidden_act", "head_dim", "sliding_window"]],
        fixed: &[("attention_bias", "false"), ("mlp_bias", "false"), ("lm_head_bias", "false")],
        harmless: &[decoder::HARMLESS, &["resid_pdrop", "embd_pdrop", "full_attn_mod", "interpolate_factor"]],
    },
    build,
};

fn build(builder: &mut Builder<'_>, config: &Config) -> Result<Body, ModelFault> {
    let heads = heads(config, None, None)?;
    let turned = Turned { original_positions: Some(4096.0), ..Turned::share(10_000.0, 1.0) };
    let mut settings = Settings::of(config, turned)?;
    // The two are other names of it in older files.
    match settings.kind()? {
        "default" => {}
        "longrope" | "su" | "yarn" => settings.scale_as("longrope"),
        kind => return Err(Config::refused("rope_type", kind, "default or longrope")),
    }
    let mut plan = Plan::bare(config, heads, 1e-5)?;
    plan.rotary = vec![Rotary::new(builder, &settings, heads.width, false)?];
    plan.activation = config.text_or("hidden_act", "silu")?.to_owned();
    (plan.joint_queries, plan.joint_gate) = (true, true);
    plan.limit(config.optional_size("sliding_window", None)?);
    body(builder, config, &plan)
}

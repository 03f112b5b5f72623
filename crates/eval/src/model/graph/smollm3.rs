//! SmolLM3: Llama in which some layers have no positions.

use super::Body;
use super::builder::Builder;
use super::decoder::{self, Biases, Plan, body, heads};
use super::families::{Family, Keys, Predicts};
use super::rotary::{self, Turned};
use crate::model::ModelFault;
use crate::model::config::Config;
use serde_json::Value as Json;

pub const SMOLLM3: Family = Family {
    model_type: "smollm3",
    stem: "SmolLM3",
    predicts: Predicts::Next,
    keys: Keys {
        used: &[
            decoder::KEYS,
            rotary::KEYS,
            &["hidden_act", "head_dim", "attention_bias", "mlp_bias", "layer_types"],
            &["no_rope_layers", "no_rope_layer_interval", "sliding_window", "use_sliding_window"],
        ],
        fixed: &[],
        harmless: &[decoder::HARMLESS, &["max_window_layers"]],
    },
    build,
};

fn build(builder: &mut Builder<'_>, config: &Config) -> Result<Body, ModelFault> {
    let mut plan = Plan::new(builder, config, heads(config, Some(4), None)?, Turned::whole(2_000_000.0), 1e-6)?;
    plan.activation = config.text_or("hidden_act", "silu")?.to_owned();
    let attention = config.flag_or("attention_bias", false)?;
    plan.biases = Biases { queries: attention, output: attention, gated: config.flag_or("mlp_bias", false)? };
    plan.tied = true;
    let turned = turned_layers(config, plan.layers.len())?;
    plan.layers.iter_mut().zip(&turned).for_each(|(layer, turned)| layer.rotary = turned.then_some(0));
    let window = match config.flag_or("use_sliding_window", false)? {
        true => config.optional_size("sliding_window", None)?,
        false => None,
    };
    plan.limit_some(config, window, |layer| window.is_some() && !turned[layer as usize])?;
    body(builder, config, &plan)
}

/// Which layers have rotary embeddings: those with a 1 in the list of layers "without", or all but each fourth.
fn turned_layers(config: &Config, layers: usize) -> Result<Vec<bool>, ModelFault> {
    let interval = config.size_or(&["no_rope_layer_interval"], 4)?;
    let Some(list) = config.list("no_rope_layers")? else {
        return Ok((1..=layers as u64).map(|layer| !layer.is_multiple_of(interval)).collect());
    };
    let flags: Option<Vec<bool>> = list.iter().map(|flag| flag.as_u64().map(|flag| flag != 0)).collect();
    let found = || Json::from(list.clone());
    let flags = flags.filter(|flags| flags.len() == layers);
    flags.ok_or_else(|| Config::refused("no_rope_layers", found(), "a 0 or a 1 for each layer"))
}

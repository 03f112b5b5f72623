//! BERT, RoBERTa, XLM-R and CamemBERT.

use super::Body;
use super::builder::Builder;
use super::encoder::{self, HeadNames, Names, Plan, body};
use super::families::{Family, Keys, Predicts};
use crate::model::ModelFault;
use crate::model::config::Config;

pub(super) const NAMES: Names = Names {
    prefixes: &["bert.", ""],
    layer: "encoder.layer.{}.",
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    attention_output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    intermediate: "intermediate.dense",
    output: "output.dense",
    output_norm: "output.LayerNorm",
};

const ROBERTA_NAMES: Names = Names { prefixes: &["roberta.", ""], ..NAMES };

const HEAD: HeadNames = [
    "cls.predictions.transform.dense",
    "cls.predictions.transform.LayerNorm",
    "cls.predictions.decoder",
    "cls.predictions.bias",
];

pub(super) const ROBERTA_HEAD: HeadNames = ["lm_head.dense", "lm_head.layer_norm", "lm_head.decoder", "lm_head.bias"];

const KEYS: Keys =
    Keys { used: &[encoder::KEYS, &["type_vocab_size"]], fixed: &encoder::FIXED, harmless: &[encoder::HARMLESS] };

const ROBERTA_KEYS: Keys = Keys {
    used: &[encoder::KEYS, &["type_vocab_size", "pad_token_id"]],
    fixed: &encoder::FIXED,
    harmless: &[encoder::HARMLESS],
};

pub const BERT: Family =
    Family { model_type: "bert", stem: "Bert", predicts: Predicts::Masked, keys: KEYS, build: bert };

pub const ROBERTA: Family =
    Family { model_type: "roberta", stem: "Roberta", predicts: Predicts::Masked, keys: ROBERTA_KEYS, build: roberta };

pub const XLM_ROBERTA: Family = Family { model_type: "xlm-roberta", stem: "XLMRoberta", ..ROBERTA };

pub const CAMEMBERT: Family = Family { model_type: "camembert", stem: "Camembert", ..ROBERTA };

fn bert(builder: &mut Builder<'_>, config: &Config) -> Result<Body, ModelFault> {
    let mut plan = Plan::new(config, &NAMES, HEAD)?;
    plan.types = Some(config.size_or(&["type_vocab_size"], 2)?);
    body(builder, config, &plan)
}

fn roberta(builder: &mut Builder<'_>, config: &Config) -> Result<Body, ModelFault> {
    let mut plan = Plan::new(config, &ROBERTA_NAMES, ROBERTA_HEAD)?;
    plan.types = Some(config.size_or(&["type_vocab_size"], 2)?);
    plan.padding = Some(config.index_or("pad_token_id", 1)?);
    plan.head_activation = "gelu".to_owned();
    body(builder, config, &plan)
}

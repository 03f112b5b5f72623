//! ELECTRA: BERT with embeddings that may be narrower than its layers.

use super::Body;
use super::bert::NAMES;
use super::builder::Builder;
use super::encoder::{self, Names, Plan, body};
use super::families::{Family, Keys, Predicts};
use crate::model::ModelFault;
use crate::model::config::Config;

const ELECTRA_NAMES: Names = Names { prefixes: &["electra.", ""], ..NAMES };

pub const ELECTRA: Family = Family {
    model_type: "electra",
    stem: "Electra",
    predicts: Predicts::Masked,
    keys: Keys {
        used: &[encoder::KEYS, &["type_vocab_size", "embedding_size"]],
        fixed: &encoder::FIXED,
        harmless: &[
            encoder::HARMLESS,
            &[
                "summary_type",
                "summary_use_proj",
                "summary_activation",
                "summary_first_dropout",
                "summary_last_dropout",
            ],
            &["summary_proj_to_labels", "generator_size"],
        ],
    },
    build,
};

fn build(builder: &mut Builder<'_>, config: &Config) -> Result<Body, ModelFault> {
    let head = [
        "generator_predictions.dense",
        "generator_predictions.LayerNorm",
        "generator_lm_head",
        "generator_lm_head.bias",
    ];
    let mut plan = Plan::new(config, &ELECTRA_NAMES, head)?;
    plan.types = Some(config.size_or(&["type_vocab_size"], 2)?);
    let width = config.size_or(&["embedding_size"], 128)?;
    plan.embedding = (width, (width != plan.hidden).then_some("embeddings_project"));
    plan.head_activation = "gelu".to_owned();
    body(builder, config, &plan)
}

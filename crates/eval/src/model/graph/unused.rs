//! The tensors of a checkpoint that a graph does not use. A model that was saved with more tensors than its configuration asks for may be
//! another model: one with normalized queries, with quantized weights, with an adapter.

use super::families::{Family, Predicts};
use crate::model::ModelFault;
use lcepatch_files::checkpoint::Checkpoint;
use lcepatch_files::checkpoint::names::{self, Component};
use std::collections::HashSet;

/// Beginnings of names of heads, in models that predict masked tokens.
const HEADS: [&str; 6] =
    ["cls.seq_relationship.", "cls.predictions.", "predictions.", "sop_classifier.", "mask_predictions.", "lm_head."];

/// Ends of names of tensors that do not change what a model computes: constants of older versions of transformers.
const CONSTANTS: [&str; 8] = [
    "embeddings.position_ids",
    "embeddings.token_type_ids",
    "attn.bias",
    "attn.masked_bias",
    "attention.bias",
    "attention.masked_bias",
    "rotary_emb.inv_freq",
    "attention.rotary_emb.cos_sin_cache",
];

/// Says which tensors are not used, if they are outside of what is computed, such as a classifier. Poolers and the heads of the published
/// training are not mentioned, and neither are tables that other tensors are tied to.
///
/// # Errors
/// [`ModelFault::Unused`] for tensors of layers, or beside tensors that are used: with them the model computes something else.
pub(super) fn note(family: &Family, checkpoint: &Checkpoint, weights: &[String]) -> Result<Option<String>, ModelFault> {
    let used: HashSet<&str> = weights.iter().map(String::as_str).collect();
    let unused = checkpoint.tensors().map(|tensor| tensor.info.name.as_str());
    let unused = unused.filter(|name| !used.contains(name) && !is_known(family, name));
    // Heads stand beside the model, whose tensors begin alike.
    let modules: HashSet<&str> = used.iter().map(|name| first_segment(name)).collect();
    let is_inside = |name: &&str| names::place(name).layer.is_some() || modules.contains(first_segment(name));
    let (inside, outside): (Vec<&str>, Vec<&str>) = unused.partition(is_inside);
    if !inside.is_empty() {
        let tensors = inside.into_iter().map(str::to_owned).collect();
        return Err(ModelFault::Unused { tensors, model_type: family.model_type.to_owned() });
    }
    Ok(match outside[..] {
        [] => None,
        [one] => Some(format!("the weights have the tensor {one:?}, which is not used")),
        [first, .., last] => {
            let count = outside.len();
            Some(format!("the weights have {count} tensors that are not used, from {first:?} to {last:?}"))
        }
    })
}

/// Whether a tensor that is not used means nothing.
fn is_known(family: &Family, name: &str) -> bool {
    let ends = |end: &&str| name.strip_suffix(*end).is_some_and(|front| front.is_empty() || front.ends_with('.'));
    let is_constant = CONSTANTS.iter().any(ends);
    let is_head = family.predicts == Predicts::Masked && HEADS.iter().any(|start| name.starts_with(start));
    let is_of_family = match family.model_type {
        "t5" => name.starts_with("decoder.") || name == "shared.weight",
        "electra" => name.starts_with("discriminator_predictions."),
        // It is saved even if it is not added.
        "deberta" | "deberta-v2" => name.ends_with("embeddings.position_embeddings.weight"),
        _ => false,
    };
    let is_pooler = names::owner(name).component == Component::Pooler;
    is_constant || is_head || is_of_family || is_pooler || names::is_tied_head(name)
}

fn first_segment(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

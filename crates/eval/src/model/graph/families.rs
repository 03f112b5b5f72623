//! The architectures: which keys of `config.json` each of them uses, and which it must not have.
//!
//! Read off the configurations and models of transformers 5.24. `tests/models.rs` walks the tables: every key that transformers reads is
//! used here, has the only supported value, or has no effect on what a model computes.

use super::Body;
use super::builder::Builder;
use crate::model::ModelFault;
use crate::model::config::Config;

/// An architecture.
#[derive(Debug)]
pub struct Family {
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// What the names of its classes in transformers begin with.
    pub stem: &'static str,
    /// What it predicts.
    pub predicts: Predicts,
    /// The keys of its configuration.
    pub keys: Keys,
    /// Builds the graph.
    pub(super) build: fn(&mut Builder<'_>, &Config) -> Result<Body, ModelFault>,
}

/// What an architecture predicts, if its checkpoint has a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Predicts {
    /// The next token.
    Next,
    /// Masked tokens.
    Masked,
    /// Nothing: only the encoder is computed.
    Nothing,
}

/// Keys of a configuration.
#[derive(Debug)]
pub struct Keys {
    /// Keys that the graph is built from, in groups that architectures share.
    pub used: &'static [&'static [&'static str]],
    /// Keys that must be absent, null or this value: others change the computation in a way that is not supported.
    pub fixed: &'static [(&'static str, &'static str)],
    /// Keys that do not change what a model computes: of training, generation, other heads, or of other versions of the library.
    pub harmless: &'static [&'static [&'static str]],
}

/// The architectures, by their name.
pub const ALL: [&Family; 28] = [
    &super::albert::ALBERT,
    &super::bert::BERT,
    &super::bert::CAMEMBERT,
    &super::deberta::DEBERTA,
    &super::deberta::DEBERTA_V2,
    &super::distilbert::DISTILBERT,
    &super::electra::ELECTRA,
    &super::gemma::GEMMA2,
    &super::gemma::GEMMA3,
    &super::glm4::GLM4,
    &super::gpt2::GPT2,
    &super::neox::GPT_NEOX,
    &super::granite::GRANITE,
    &super::llama::LLAMA,
    &super::mistral::MISTRAL,
    &super::mixtral::MIXTRAL,
    &super::modernbert::MODERNBERT,
    &super::mpnet::MPNET,
    &super::olmo2::OLMO2,
    &super::opt::OPT,
    &super::phi3::PHI3,
    &super::qwen::QWEN2,
    &super::qwen::QWEN3,
    &super::qwen::QWEN3_MOE,
    &super::bert::ROBERTA,
    &super::smollm3::SMOLLM3,
    &super::t5::T5,
    &super::bert::XLM_ROBERTA,
];

impl Keys {
    /// The keys that any configuration may have.
    pub const COMMON: Self = Self {
        used: &[&["vocab_size", "tie_word_embeddings"]],
        fixed: &[
            ("quantization_config", "null"),
            ("compression_config", "null"),
            ("is_encoder_decoder", "false"),
            ("per_layer_config", "null"),
            ("pruned_heads", "{}"),
            ("is_causal", "true"),
            ("tie_last_hidden_states", "null"),
        ],
        harmless: &[&[
            "_attn_implementation",
            "_attn_implementation_autoset",
            "_attn_implementation_internal",
            "_commit_hash",
            "_experts_implementation",
            "_name_or_path",
            "_num_labels",
            "adapters",
            "architectures",
            "attn_implementation",
            "auto_map",
            "bad_words_ids",
            "begin_suppress_tokens",
            "bos_token_id",
            "chunk_size_feed_forward",
            "cls_token_id",
            "custom_pipelines",
            "decoder_start_token_id",
            "diversity_penalty",
            "do_sample",
            "dtype",
            "early_stopping",
            "encoder_no_repeat_ngram_size",
            "encoder_repetition_penalty",
            "eos_token_id",
            "epsilon_cutoff",
            "eta_cutoff",
            "exponential_decay_length_penalty",
            "experts_implementation",
            "finetuning_task",
            "forced_bos_token_id",
            "forced_eos_token_id",
            "gradient_checkpointing",
            "id2label",
            "initializer_range",
            "label2id",
            "language",
            "length_penalty",
            "mask_token_id",
            "max_length",
            "min_length",
            "model_type",
            "name_or_path",
            "no_repeat_ngram_size",
            "num_beam_groups",
            "num_beams",
            "num_labels",
            "num_return_sequences",
            "output_attentions",
            "output_hidden_states",
            "output_past",
            "output_scores",
            "pad_token_id",
            "prefix",
            "problem_type",
            "remove_invalid_values",
            "repetition_penalty",
            "return_dict",
            "return_dict_in_generate",
            "sep_token_id",
            "suppress_tokens",
            "task_specific_params",
            "temperature",
            "tf_legacy_loss",
            "tokenizer_class",
            "top_k",
            "top_p",
            "torch_dtype",
            "torchscript",
            "transformers_version",
            "transformers.js_config",
            "typical_p",
            "unsloth_fixed",
            "unsloth_version",
            "use_bfloat16",
            "use_cache",
            "use_return_dict",
        ]],
    };

    /// Whether a key is in the table.
    pub fn knows(&self, key: &str) -> bool {
        let fixed = self.fixed.iter().any(|(fixed, _)| *fixed == key);
        fixed || self.uses(key) || self.harmless.iter().any(|group| group.contains(&key))
    }

    /// Whether the graph is built from a key.
    pub fn uses(&self, key: &str) -> bool {
        self.used.iter().any(|group| group.contains(&key))
    }
}

/// The head of a class of transformers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model) enum ClassHead {
    /// None, or that of a language model.
    Plain,
    /// Another one, such as a classifier.
    Task,
    /// A decoder.
    Decoder,
}

impl ClassHead {
    /// What a reader of results must know about a checkpoint that was saved from `class`.
    pub fn note(self, class: &str) -> Option<String> {
        match self {
            Self::Plain => None,
            Self::Task => Some(format!(
                "the model was saved as {class}; the head of this class is not measured, what is below it is"
            )),
            Self::Decoder => {
                Some(format!("the model was saved as {class}; its encoder is measured, without its decoder"))
            }
        }
    }
}

impl Family {
    /// The head of a class of this architecture; None for a class that transformers does not have.
    pub(in crate::model) fn head_of(&self, class: &str) -> Option<ClassHead> {
        let (stem, rest) = class.split_at_checked(self.stem.len())?;
        if !stem.eq_ignore_ascii_case(self.stem) {
            return None;
        }
        match rest {
            "Model" => Some(ClassHead::Plain),
            "ForCausalLM" | "LMHeadModel" | "TextModel" if self.predicts == Predicts::Next => Some(ClassHead::Plain),
            "ForMaskedLM" | "ForPreTraining" if self.predicts == Predicts::Masked => Some(ClassHead::Plain),
            "EncoderModel" if self.predicts == Predicts::Nothing => Some(ClassHead::Plain),
            "ForConditionalGeneration" if self.predicts == Predicts::Nothing => Some(ClassHead::Decoder),
            "ForSequenceClassification"
            | "ForTokenClassification"
            | "ForQuestionAnswering"
            | "ForMultipleChoice"
            | "ForNextSentencePrediction"
            | "TextForSequenceClassification"
            | "DoubleHeadsModel" => Some(ClassHead::Task),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;

    /// `fixtures/configurations/keys.json`, which `tests/reference/keys.py` reads off the source of transformers.
    #[test]
    fn every_key_that_transformers_reads_is_in_the_table_of_its_architecture() {
        let read: Value =
            serde_json::from_str(include_str!("../../../../../fixtures/configurations/keys.json")).unwrap();
        let keys = read["keys"].as_object().unwrap();
        // Asked for of every architecture; with another value than the default, only some have them.
        let of_all = ["_attn_implementation", "default_theta", "json"];
        let of_some = ["attention_chunk_size", "sliding_window", "head_dim", "rope_parameters"];
        let known = |family: &Family, key: &str| family.keys.knows(key) || Keys::COMMON.knows(key);
        for family in ALL {
            let missing: Vec<&Value> = keys[family.model_type]
                .as_array()
                .unwrap()
                .iter()
                .filter(|key| !known(family, key.as_str().unwrap()) && key.as_str() != Some("default_theta"))
                .collect();
            assert!(missing.is_empty(), "{}: {missing:?}", family.model_type);
        }
        let shared = keys["*"].as_array().unwrap().iter().map(|key| key.as_str().unwrap());
        let unknown: Vec<&str> = shared
            .filter(|key| !of_all.contains(key) && !of_some.contains(key))
            .filter(|key| ALL.iter().all(|family| !known(family, key)))
            .collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        let names: BTreeSet<&str> = ALL.iter().map(|family| family.model_type).collect();
        assert_eq!(names.len() + 1, keys.len());
    }

    #[test]
    fn a_key_is_in_one_list_of_its_table() {
        for family in ALL {
            let keys = &family.keys;
            let fixed = keys.fixed.iter().map(|(key, _)| *key);
            let all: Vec<&str> =
                keys.used.iter().chain(keys.harmless).flat_map(|group| group.iter().copied()).chain(fixed).collect();
            let twice: Vec<_> = all.iter().filter(|key| all.iter().filter(|other| other == key).count() > 1).collect();
            assert!(twice.is_empty(), "{}: {twice:?}", family.model_type);
        }
    }
}

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
            "custom_pipelines",
            "cls_token_id",
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
            "name",
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

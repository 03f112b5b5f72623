//! What measures must know of a model and its tokenizer.

use serde::{Deserialize, Serialize};

/// Turns text into token ids and back. Never truncates and never pads.
pub trait Tokens: Sync {
    /// Encodes one text with the special tokens that the model expects around it.
    fn encode(&self, text: &str) -> Encoding;

    /// Encodes one text without special tokens.
    fn encode_plain(&self, text: &str) -> Encoding;

    /// The text of ids, as `decode` of the published scoring code gives it.
    fn decode(&self, ids: &[u32]) -> String;

    /// The mask token, of a masked language model.
    fn mask(&self) -> Option<Mask>;

    /// The token that stands before a text whose first token a causal model is to predict: begin of text, else end of text.
    fn begin(&self) -> Option<u32>;

    /// Whether a blank belongs to the word that follows it, as in byte-level BPE: then a word inside a sentence is encoded with a
    /// blank before it.
    fn words_begin_with_a_blank(&self) -> bool;
}

/// The mask token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// Its id.
    pub id: u32,
    /// Its text, such as `[MASK]`.
    pub text: String,
}

/// An encoded text. All lists have one entry for each token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoding {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Which of them are special tokens that the tokenizer added.
    pub special: Vec<bool>,
    /// The word of the text that a token is of; none for special tokens.
    pub words: Vec<Option<u32>>,
}

impl Encoding {
    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// What a model can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// Tokens at masked positions, and hidden states.
    Masked,
    /// Next tokens, and hidden states.
    Causal,
    /// Hidden states only.
    Encoder,
}

impl ModelKind {
    /// With its article, for messages.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Masked => "a masked language model",
            Self::Causal => "a causal language model",
            Self::Encoder => "an encoder without a language model head",
        }
    }
}

/// A model in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelFacts {
    /// What it can be asked.
    pub kind: ModelKind,
    /// The longest sequence that it takes, special tokens included.
    pub positions: u32,
    /// Token ids are below this.
    pub vocabulary: u32,
    /// Layers, the embeddings not counted.
    pub layers: u32,
}

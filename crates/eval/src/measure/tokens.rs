//! What measures need to know about a model and its tokenizer.

use serde::{Deserialize, Serialize};

/// Turns text into token ids and back. Never truncates and never pads.
pub trait Tokens: Sync {
    /// Encodes one text with the special tokens that the model expects around it.
    fn encode(&self, text: &str) -> Encoding;

    /// Encodes one text without special tokens.
    fn encode_plain(&self, text: &str) -> Encoding;

    /// The text of ids, as `decode` of the published scoring code gives it.
    fn decode(&self, ids: &[u32]) -> String;

    /// The mask token, if there is one.
    fn mask(&self) -> Option<Mask>;

    /// The token after which a causal model predicts the first token of a text: begin of text, else end of text.
    fn begin(&self) -> Option<u32>;

    /// Whether a blank belongs to the word that follows it, as in byte-level BPE. Words inside a sentence are then encoded with a blank
    /// before them.
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
    /// Whether each token is a special one that the tokenizer added.
    pub special: Vec<bool>,
    /// The index of each token's word in the text. None for special tokens.
    pub words: Vec<Option<u32>>,
}

impl Encoding {
    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// The kind of a model: the questions that it can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// It predicts tokens at masked positions, and has hidden states.
    Masked,
    /// It predicts next tokens, and has hidden states.
    Causal,
    /// It has hidden states only.
    Encoder,
}

impl ModelKind {
    /// Its name with an article, for messages.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Masked => "a masked language model",
            Self::Causal => "a causal language model",
            Self::Encoder => "an encoder without a language model head",
        }
    }
}

/// The kind and the sizes of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelFacts {
    /// Its kind.
    pub kind: ModelKind,
    /// The most tokens in a sequence, special tokens included.
    pub positions: u32,
    /// The number of tokens in its vocabulary.
    pub vocabulary: u32,
    /// The number of layers, without the embeddings.
    pub layers: u32,
}

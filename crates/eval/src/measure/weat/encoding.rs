//! Embeds words and sentences as vectors.

use super::BadData;
use crate::measure::work_list::Question;
use crate::measure::{Layers, ModelFacts, ModelKind, Tokens, WorkList};
use rayon::prelude::*;
use std::ops::Range;

/// The hidden states whose mean is the vector of a text. The special tokens around it are those that the tokenizer adds: GPT-2's adds none, that of
/// Llama a token before the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WordEncoding {
    /// bias-bench (Meade et al. 2022): the mean of the last layer over all positions, `[CLS]` and `[SEP]` included.
    BiasBench,
    /// Local contrastive editing (Lutz et al. 2024): the mean of the word pieces, in each layer; the effect size is the
    /// mean over layers.
    WordPieces(LayerChoice),
    /// The last layer at the first position, `[CLS]`.
    Cls,
    /// sent-bias (May et al. 2019): the text without special tokens, the last layer at its first piece.
    First,
}

/// The measured layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerChoice {
    /// Those of the transformer.
    Hidden,
    /// Those of the transformer, and the embeddings before them as layer 0.
    WithEmbeddings,
}

impl WordEncoding {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::BiasBench => "biasbench",
            Self::WordPieces(_) => "wordpiece",
            Self::Cls => "cls",
            Self::First => "first",
        }
    }

    /// The measured layers, as indices into an answer, and the number of the first one in the model.
    pub(super) fn layers(self, facts: &ModelFacts) -> (Range<usize>, usize) {
        let layers = facts.layers as usize;
        match self {
            Self::WordPieces(LayerChoice::Hidden) => (1..layers + 1, 1),
            Self::WordPieces(LayerChoice::WithEmbeddings) => (0..layers + 1, 0),
            Self::BiasBench | Self::Cls | Self::First => (0..1, layers),
        }
    }

    /// Asks for the vectors of `texts`, in their order. `bad` makes the error for a text that cannot be encoded, with the reason.
    pub(super) fn ask(
        self,
        texts: &[&str],
        tokens: &dyn Tokens,
        facts: &ModelFacts,
        work: &mut WorkList,
        bad: impl Fn(&str, String) -> BadData,
    ) -> Result<Vec<Question>, BadData> {
        if self == Self::Cls && facts.kind == ModelKind::Causal {
            return Err(BadData::Kind {
                measure: "the encoding cls",
                needs: "a model with a token like [CLS] before the text",
                found: "a causal language model",
            });
        }
        let encode = |text: &&str| if self == Self::First { tokens.encode_plain(text) } else { tokens.encode(text) };
        let encodings: Vec<_> = texts.par_iter().map(encode).collect();
        let mut questions = Vec::with_capacity(texts.len());
        for (text, encoding) in texts.iter().zip(encodings) {
            let length = encoding.len() as u32;
            if length > facts.positions {
                let most = facts.positions;
                return Err(bad(text, format!("{length} tokens are more than the {most} that the model takes")));
            }
            let Some(positions) = self.positions(&encoding.special) else {
                return Err(bad(text, "no token is left for the encoding that was asked for".to_owned()));
            };
            let layers = if matches!(self, Self::WordPieces(_)) { Layers::Every } else { Layers::Last };
            let sequence = work.sequence(&encoding.ids);
            questions.push(work.embedding(sequence, positions, layers));
        }
        Ok(questions)
    }

    /// The positions whose mean is the vector. None if there are none.
    fn positions(self, special: &[bool]) -> Option<Range<u32>> {
        let length = special.len() as u32;
        let positions = match self {
            Self::BiasBench => 0..length,
            Self::First => 0..length.min(1),
            Self::Cls => 0..u32::from(special.first() == Some(&true)),
            Self::WordPieces(_) => {
                let first = special.iter().position(|special| !special)?;
                let last = special.iter().rposition(|special| !special)?;
                first as u32..last as u32 + 1
            }
        };
        (!positions.is_empty()).then_some(positions)
    }
}

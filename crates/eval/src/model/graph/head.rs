//! Language model heads: logits over the vocabulary from hidden states.

use super::builder::{Builder, Value};
use super::parts::Stored;
use crate::model::ModelFault;
use crate::model::config::Config;

/// A language model head.
pub(super) struct Head {
    /// A dense layer, an activation and a normalization before the decoder, in masked language models.
    pub transform: Option<Transform>,
    /// The tensor with one row for each token, often the table of embeddings.
    pub decoder: String,
    /// `[V]`, added to the logits.
    pub bias: Option<String>,
    /// Vocabulary, and width of a row of the decoder.
    pub shape: [u64; 2],
}

/// The transformation before the decoder, in masked language models.
pub(super) struct Transform {
    pub dense: String,
    pub norm: String,
    pub activation: String,
    pub epsilon: f64,
    pub from: u64,
}

impl Head {
    /// The logits `[P, V]` of hidden states `[P, H]`.
    pub fn logits(&self, builder: &mut Builder<'_>, hidden: &Value) -> Result<Value, ModelFault> {
        let [vocabulary, width] = self.shape;
        let mut x = hidden.clone();
        if let Some(transform) = &self.transform {
            x = builder.linear(&x, &transform.dense, [transform.from, width], true)?;
            x = builder.activation(&x, &transform.activation)?;
            x = builder.layer_norm(&x, &transform.norm, width, transform.epsilon)?;
        }
        let decoder = builder.weight(&self.decoder, &[vocabulary, width])?;
        let bias = self.bias.as_ref().map(|bias| builder.weight(bias, &[vocabulary])).transpose()?;
        Ok(builder.product(&x, &decoder, bias.as_ref(), Stored::OutIn))
    }
}

/// The name of the decoder's tensor: `embeddings` if the two are tied.
pub(super) fn decoder(builder: &Builder<'_>, config: &Config, untied: &str, embeddings: &str, tied: bool) -> String {
    let tied = config.flag("tie_word_embeddings").unwrap_or(tied || !builder.has(untied));
    if tied { embeddings.to_owned() } else { untied.to_owned() }
}

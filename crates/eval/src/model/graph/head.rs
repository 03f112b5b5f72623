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
    /// What the logits are divided by.
    pub divisor: f32,
    /// Logits stay within this number, on both sides of 0.
    pub cap: Option<f32>,
}

/// The transformation before the decoder, in masked language models.
pub(super) struct Transform {
    pub dense: String,
    pub dense_bias: bool,
    pub norm: String,
    pub norm_bias: bool,
    pub activation: String,
    pub epsilon: f64,
    pub from: u64,
}

impl Head {
    /// The product with a decoder of this shape alone.
    pub fn plain(decoder: String, shape: [u64; 2]) -> Self {
        Self { transform: None, decoder, bias: None, shape, divisor: 1.0, cap: None }
    }

    /// The logits `[P, V]` of hidden states `[P, H]`.
    pub fn logits(&self, builder: &mut Builder<'_>, hidden: &Value) -> Result<Value, ModelFault> {
        let [vocabulary, width] = self.shape;
        let mut x = hidden.clone();
        if let Some(transform) = &self.transform {
            x = builder.linear(&x, &transform.dense, [transform.from, width], transform.dense_bias)?;
            x = builder.activation(&x, &transform.activation)?;
            x = builder.normalize(&x, &transform.norm, width, transform.epsilon, transform.norm_bias)?;
        }
        let decoder = builder.weight(&self.decoder, &[vocabulary, width])?;
        let bias = self.bias.as_ref().map(|bias| builder.weight(bias, &[vocabulary])).transpose()?;
        let mut logits = builder.product(&x, &decoder, bias.as_ref(), Stored::OutIn);
        if self.divisor != 1.0 {
            let divisor = builder.number(self.divisor);
            logits = builder.op("Div", &[&logits, &divisor], &[]);
        }
        Ok(self.cap.map_or_else(|| logits.clone(), |cap| builder.cap(&logits, cap)))
    }
}

/// The tensors with one row for each token.
pub(super) struct Tables {
    /// The name of the table of embeddings.
    pub embeddings: String,
    /// The name of the head's matrix, if there is one.
    pub head: Option<String>,
}

/// The tables of a model that has `embeddings` and perhaps `head`. They are one if the configuration ties them (by default: `tied`), and
/// the checkpoint has only one of them. Where it has both, each is used, which is the same if they are equal, and what transformers does
/// if they are not.
pub(super) fn tables(
    builder: &Builder<'_>,
    config: &Config,
    embeddings: &str,
    head: &str,
    tied: bool,
) -> Result<Tables, ModelFault> {
    let tied = config.flag_or("tie_word_embeddings", tied)?;
    let is_head_alone = builder.has(head) && !builder.has(embeddings);
    let one = tied.then_some(if is_head_alone { head } else { embeddings });
    Ok(Tables {
        embeddings: if builder.has(embeddings) { embeddings } else { one.unwrap_or(embeddings) }.to_owned(),
        head: if builder.has(head) { Some(head) } else { one }.map(str::to_owned),
    })
}

/// The bias of a masked language model's decoder: its own, or, if the configuration ties them, that of the head.
pub(super) fn bias(
    builder: &Builder<'_>,
    config: &Config,
    own: &str,
    of_head: &str,
    tied: bool,
) -> Result<String, ModelFault> {
    let tied = config.flag_or("tie_word_embeddings", tied)?;
    Ok(if builder.has(own) || !tied { own } else { of_head }.to_owned())
}

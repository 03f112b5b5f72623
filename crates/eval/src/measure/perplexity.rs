//! Perplexities: `exp` of the mean negative natural log-likelihood of tokens. There are three, whose numbers cannot be compared.
//!
//! - `ppl.pseudo`, of a masked model: each token masked once (Salazar et al. 2020), and `ppl.pseudo.within-word`, which
//!   also masks the later pieces of the same word (Kauf, Ivanova 2023).
//! - `ppl.mlm`, of a masked model: the loss of its training, 15 % of the tokens at once.
//! - `ppl.causal`: each token after those before it, in windows that slide over the text.
//!
//! Standard errors and intervals take the tokens of a line (of a window, in `ppl.causal`; of a part, where a line is
//! longer than the model takes) as one draw, since they are not independent.

mod causal;
mod losses;
mod masked;
mod pseudo;

pub use causal::{CausalOptions, FirstToken};
pub use masked::MaskedOptions;
pub use pseudo::{Masking, PseudoOptions};

use super::text::Text;
use super::{BadData, ModelFacts, PlannedMeasure, Tokens, WorkList};

/// The kind of perplexity, with its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Perplexity {
    /// `ppl.pseudo`.
    Pseudo(PseudoOptions),
    /// `ppl.mlm`.
    Masked(MaskedOptions),
    /// `ppl.causal`.
    Causal(CausalOptions),
}

impl Perplexity {
    /// Adds the questions about `text` to `work`.
    ///
    /// # Errors
    /// [`BadData`]: the model is of another kind, or nothing is left to measure.
    pub fn plan(
        &self,
        text: &Text,
        tokens: &dyn Tokens,
        facts: &ModelFacts,
        work: &mut WorkList,
    ) -> Result<Box<dyn PlannedMeasure>, BadData> {
        Ok(Box::new(match self {
            Self::Pseudo(options) => pseudo::plan(text, options, tokens, facts, work)?,
            Self::Masked(options) => masked::plan(text, options, tokens, facts, work)?,
            Self::Causal(options) => causal::plan(text, options, tokens, facts, work)?,
        }))
    }
}

#[cfg(test)]
mod tests;

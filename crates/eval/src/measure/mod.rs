//! Measures of a model's social bias and language modelling. They do not depend on a runtime.
//!
//! A measure reads its data, adds its questions to a [`WorkList`], and later computes an [`Outcome`] from the [`Answers`]. Equal questions
//! are asked once, across measures, too. The list is built once for a model, and serves every edit of it.

mod alignment;
mod token_questions;
pub mod choices;
pub mod compare;
pub mod crows_pairs;
mod data;
pub mod divergence;
#[cfg(test)]
mod fake;
pub mod expectation;
pub mod generation;
pub mod outcome;
mod parts;
pub mod perplexity;
pub mod predictions;
mod sampling;
pub mod seat;
pub mod statistics;
pub mod stereoset;
#[cfg(test)]
mod testing;
pub mod text;
pub mod threshold;
pub mod tokens;
pub mod weat;
pub mod work_list;

pub use outcome::{BadData, Better, Group, Item, Items, Outcome, Score};
pub use parts::Parts;
pub use tokens::{Encoding, Mask, ModelFacts, ModelKind, Tokens};
pub use work_list::{Answers, Layers, WorkList};

/// A measure whose questions are in a [`WorkList`].
pub trait PlannedMeasure: Send + Sync {
    /// The name of the measure, which its outcomes have.
    fn measure(&self) -> &str;

    /// Computes the scores from a model's answers. `unedited` are the answers of the unedited model, for which both are the same.
    fn outcome(&self, answers: &Answers, unedited: &Answers) -> Outcome;
}

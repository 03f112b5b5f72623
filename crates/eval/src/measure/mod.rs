//! Scores of a model: what to ask it, and what its answers are worth. No runtime is known here.
//!
//! A measure reads its data, puts its questions into a [`WorkList`] list (where equal ones meet, across measures too), and
//! later turns the [`Answers`] into an [`Outcome`]. The list is built once for a model and serves every edit of it.

mod alignment;
mod token_questions;
pub mod compare;
pub mod crows_pairs;
mod data;
pub mod divergence;
#[cfg(test)]
mod fake;
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
    /// What a model's answers come to. `unedited` are the answers of the model before any edit (the same ones for itself).
    fn outcome(&self, answers: &Answers, unedited: &Answers) -> Outcome;
}

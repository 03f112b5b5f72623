//! What measures ask a model. Equal questions are asked once.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;

/// Everything that measures want to know of a model.
#[derive(Debug, Default)]
pub struct Work {
    sequences: Distinct<Vec<u32>>,
    log_probabilities: Distinct<LogProbability>,
    embeddings: Distinct<Embedding>,
    distributions: Distinct<Place>,
}

/// The place of a sequence in a [`Work`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sequence(pub usize);

/// A position in a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The sequence.
    pub sequence: Sequence,
    /// From 0 on, special tokens included.
    pub position: u32,
}

/// The log-probability of a token at a place. Of a causal model this is the prediction that is made at `place`, so of the
/// token at the next position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogProbability {
    /// Where.
    pub place: Place,
    /// Of which token.
    pub token: u32,
}

/// The mean of the hidden states at some positions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Embedding {
    /// The sequence.
    pub sequence: Sequence,
    /// The positions, at least one.
    pub positions: Range<u32>,
    /// Of which layers.
    pub layers: Layers,
}

/// Which hidden states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layers {
    /// The last ones, which the head of the model gets.
    Last,
    /// Those of every layer, the embeddings first.
    Every,
}

/// The number of a question in a [`Work`] and of its answer in [`Answers`].
pub type Question = usize;

impl Work {
    /// A sequence of token ids, special tokens included; the same one for the same ids.
    pub fn sequence(&mut self, ids: &[u32]) -> Sequence {
        Sequence(self.sequences.add(ids.to_vec()))
    }

    /// Asks for the natural logarithm of a token's probability; the answer is in [`Answers::log_probabilities`].
    pub fn log_probability(&mut self, sequence: Sequence, position: u32, token: u32) -> Question {
        self.log_probabilities.add(LogProbability { place: Place { sequence, position }, token })
    }

    /// Asks for the mean of hidden states; the answer is in [`Answers::embeddings`].
    pub fn embedding(&mut self, sequence: Sequence, positions: Range<u32>, layers: Layers) -> Question {
        self.embeddings.add(Embedding { sequence, positions, layers })
    }

    /// Asks for the log-probabilities of the whole vocabulary; the answer is in [`Answers::distributions`].
    pub fn distribution(&mut self, sequence: Sequence, position: u32) -> Question {
        self.distributions.add(Place { sequence, position })
    }

    /// The distinct sequences.
    pub fn sequences(&self) -> &[Vec<u32>] {
        &self.sequences.items
    }

    /// The distinct log-probabilities that are asked for.
    pub fn log_probabilities(&self) -> &[LogProbability] {
        &self.log_probabilities.items
    }

    /// The distinct embeddings that are asked for.
    pub fn embeddings(&self) -> &[Embedding] {
        &self.embeddings.items
    }

    /// The distinct distributions that are asked for.
    pub fn distributions(&self) -> &[Place] {
        &self.distributions.items
    }
}

/// A model's answers to a [`Work`], each list in the order of its questions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers {
    /// Natural logarithms.
    pub log_probabilities: Vec<f32>,
    /// For each layer that was asked for, a vector.
    pub embeddings: Vec<Vec<Vec<f32>>>,
    /// Natural logarithms, one for each token of the vocabulary.
    pub distributions: Vec<Vec<f32>>,
}

/// A list without repetitions, in the order in which its items came.
#[derive(Debug)]
struct Distinct<T> {
    items: Vec<T>,
    places: HashMap<T, usize>,
}

impl<T> Default for Distinct<T> {
    fn default() -> Self {
        Self { items: Vec::new(), places: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Distinct<T> {
    fn add(&mut self, item: T) -> usize {
        *self.places.entry(item).or_insert_with_key(|item| {
            self.items.push(item.clone());
            self.items.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_questions_are_asked_once() {
        let mut work = Work::default();
        let one = work.sequence(&[1, 2, 3]);
        assert_eq!(work.sequence(&[1, 2, 3]), one);
        let other = work.sequence(&[1, 2]);
        assert_ne!(other, one);
        assert_eq!(work.log_probability(one, 1, 7), work.log_probability(one, 1, 7));
        assert_ne!(work.log_probability(one, 1, 8), work.log_probability(one, 1, 7));
        assert_eq!((work.sequences().len(), work.log_probabilities().len()), (2, 2));
        assert_eq!(work.log_probabilities()[1].token, 8);
    }
}

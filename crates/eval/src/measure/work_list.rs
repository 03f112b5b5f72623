//! The questions that measures ask a model. Equal questions are asked once.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;

/// The questions of all measures to a model.
#[derive(Debug, Default)]
pub struct WorkList {
    sequences: Distinct<Vec<u32>>,
    log_probabilities: Distinct<LogProbability>,
    embeddings: Distinct<Embedding>,
    distributions: Distinct<Distribution>,
}

/// The index of a sequence in [`WorkList::sequences`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sequence(pub usize);

/// Asks for the log-probability of a token. A masked model predicts the token at `position`, a causal model the one after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogProbability {
    /// The sequence.
    pub sequence: Sequence,
    /// The index of a token of the sequence, special tokens included.
    pub position: u32,
    /// The id of the predicted token.
    pub token: u32,
}

/// Asks for the log-probabilities of all tokens of the vocabulary, predicted at `position` as by [`LogProbability`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Distribution {
    /// The sequence.
    pub sequence: Sequence,
    /// The index of a token of the sequence, special tokens included.
    pub position: u32,
}

/// Asks for the mean of the hidden states at some positions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Embedding {
    /// The sequence.
    pub sequence: Sequence,
    /// The positions, at least one.
    pub positions: Range<u32>,
    /// The layers.
    pub layers: Layers,
}

/// The layers whose hidden states are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layers {
    /// The last layer, whose hidden states the model's head reads.
    Last,
    /// Every layer, the embeddings first.
    Every,
}

/// The index of a question in its list of a [`WorkList`], and of its answer in the same list of [`Answers`].
pub type Question = usize;

impl WorkList {
    /// Adds a sequence of token ids, special tokens included. Equal sequences have one index.
    pub fn sequence(&mut self, ids: &[u32]) -> Sequence {
        Sequence(self.sequences.add(ids.to_vec()))
    }

    /// Asks for the natural logarithm of a token's probability; the answer is in [`Answers::log_probabilities`].
    pub fn log_probability(&mut self, sequence: Sequence, position: u32, token: u32) -> Question {
        self.log_probabilities.add(LogProbability { sequence, position, token })
    }

    /// Asks for the mean of hidden states; the answer is in [`Answers::embeddings`].
    pub fn embedding(&mut self, sequence: Sequence, positions: Range<u32>, layers: Layers) -> Question {
        self.embeddings.add(Embedding { sequence, positions, layers })
    }

    /// Asks for the log-probabilities of the whole vocabulary; the answer is in [`Answers::distributions`].
    pub fn distribution(&mut self, sequence: Sequence, position: u32) -> Question {
        self.distributions.add(Distribution { sequence, position })
    }

    /// The distinct sequences.
    pub fn sequences(&self) -> &[Vec<u32>] {
        &self.sequences.items
    }

    /// The distinct questions about log-probabilities.
    pub fn log_probabilities(&self) -> &[LogProbability] {
        &self.log_probabilities.items
    }

    /// The distinct questions about embeddings.
    pub fn embeddings(&self) -> &[Embedding] {
        &self.embeddings.items
    }

    /// The distinct questions about distributions.
    pub fn distributions(&self) -> &[Distribution] {
        &self.distributions.items
    }
}

/// A model's answers to a [`WorkList`]. Each list has the order of its questions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers {
    /// Natural logarithms of probabilities.
    pub log_probabilities: Vec<f32>,
    /// For each question, one vector per layer.
    pub embeddings: Vec<Vec<Vec<f32>>>,
    /// For each question, the natural logarithms of the probabilities of all tokens of the vocabulary.
    pub distributions: Vec<Vec<f32>>,
}

/// A list without repetitions, in the order in which items were added.
#[derive(Debug)]
struct Distinct<T> {
    items: Vec<T>,
    indices: HashMap<T, usize>,
}

impl<T> Default for Distinct<T> {
    fn default() -> Self {
        Self { items: Vec::new(), indices: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Distinct<T> {
    fn add(&mut self, item: T) -> usize {
        *self.indices.entry(item).or_insert_with_key(|item| {
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
        let mut work = WorkList::default();
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

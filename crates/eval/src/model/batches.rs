//! Divides a work list into batches. Sequences are sorted by length, so that there is little padding; tokens and logits are bounded.

use crate::measure::WorkList;
use crate::measure::work_list::{Question, Sequence};

/// The kind of the questions of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuestionKind {
    /// Log-probabilities of tokens.
    LogProbabilities,
    /// Hidden states.
    Embeddings,
    /// Log-probabilities of all tokens of the vocabulary.
    Distributions,
}

/// Sequences that the model reads together, and the questions about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The kind of all questions.
    pub kind: QuestionKind,
    /// Sequences, each with the indices of its questions. A sequence with many questions is in several batches.
    pub sequences: Vec<(Sequence, Vec<Question>)>,
    /// Tokens of the longest sequence.
    pub length: usize,
}

/// The inputs of a batch: `B` sequences, padded to the `S` tokens of the longest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaddedBatch {
    /// `B` and `S`.
    pub shape: [usize; 2],
    /// Token ids, `[B, S]`.
    pub ids: Vec<i64>,
    /// 1 for tokens, 0 for padding, `[B, S]`.
    pub mask: Vec<i64>,
    /// The questions, in the batch's order.
    pub questions: Vec<BatchQuestion>,
}

/// A question about a row of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchQuestion {
    /// Its index in the work list.
    pub question: Question,
    /// `b * S + s` of the position that predicts, or of the first position of the sequence for hidden states.
    pub row: usize,
    /// The token whose log-probability is asked for; 0 for other questions.
    pub token: u32,
}

/// All batches of a work list, in the order in which they run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batches {
    /// The batches.
    pub batches: Vec<Batch>,
    /// The sum of their tokens, padding included.
    pub tokens: u64,
}

/// The limits of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most tokens, padding included. A batch of one sequence may have more.
    pub tokens: usize,
    /// The most logits: predicted positions times tokens of the vocabulary. A batch with one such position may have more.
    pub logits: usize,
}

impl Limits {
    /// CPUs are fastest on few tokens at a time (measured: 256 to 1,024 tokens are alike, 64 and 4,096 half as fast). 128 MiB of logits.
    pub const CPU: Self = Self { tokens: 512, logits: 32 << 20 };
    /// GPUs are fastest on large batches. 512 MiB of logits.
    pub const CUDA: Self = Self { tokens: 16_384, logits: 128 << 20 };
}

impl Batches {
    /// Divides a work list for a model of `vocabulary` tokens.
    pub fn new(work: &WorkList, vocabulary: u32, limits: Limits) -> Self {
        let rows_most = (limits.logits / vocabulary.max(1) as usize).max(1);
        let mut batches = Vec::new();
        for kind in [QuestionKind::LogProbabilities, QuestionKind::Embeddings, QuestionKind::Distributions] {
            let mut units = by_sequence(work, kind, rows_most);
            // The longest sequence first, so that the peak of memory comes early. The sort is stable.
            units.sort_by_key(|(sequence, _)| std::cmp::Reverse(length(work, *sequence)));
            let mut rows = 0;
            for (sequence, questions) in units {
                let length = length(work, sequence);
                let fits = |batch: &Batch| {
                    batch.kind == kind
                        && batch.length * (batch.sequences.len() + 1) <= limits.tokens
                        && (kind == QuestionKind::Embeddings || rows + questions.len() <= rows_most)
                };
                match batches.last_mut().filter(|batch| fits(batch)) {
                    Some(batch) => {
                        rows += questions.len();
                        batch.sequences.push((sequence, questions));
                    }
                    None => {
                        rows = questions.len();
                        batches.push(Batch { kind, sequences: vec![(sequence, questions)], length });
                    }
                }
            }
        }
        let tokens = batches.iter().map(|batch| (batch.length * batch.sequences.len()) as u64).sum();
        Self { batches, tokens }
    }
}

impl PaddedBatch {
    /// Lays out a batch of `work`.
    pub fn new(work: &WorkList, batch: &Batch) -> Self {
        let (size, length) = (batch.sequences.len(), batch.length);
        let (mut ids, mut mask) = (vec![0; size * length], vec![0; size * length]);
        let mut batch_questions = Vec::new();
        for (row, (sequence, questions)) in batch.sequences.iter().enumerate() {
            let first = row * length;
            for (at, id) in work.sequences()[sequence.0].iter().enumerate() {
                ids[first + at] = i64::from(*id);
                mask[first + at] = 1;
            }
            batch_questions.extend(questions.iter().map(|&question| {
                let (position, token) = match batch.kind {
                    QuestionKind::LogProbabilities => {
                        let asked = work.log_probabilities()[question];
                        (asked.position, asked.token)
                    }
                    QuestionKind::Distributions => (work.distributions()[question].position, 0),
                    QuestionKind::Embeddings => (0, 0),
                };
                BatchQuestion { question, row: first + position as usize, token }
            }));
        }
        Self { shape: [size, length], ids, mask, questions: batch_questions }
    }

    /// `B * S`.
    pub fn rows(&self) -> usize {
        self.ids.len()
    }
}

fn length(work: &WorkList, sequence: Sequence) -> usize {
    work.sequences()[sequence.0].len()
}

/// The questions of one kind, grouped by sequence, at most `rows_most` in a group.
fn by_sequence(work: &WorkList, kind: QuestionKind, rows_most: usize) -> Vec<(Sequence, Vec<Question>)> {
    let sequences: Vec<Sequence> = match kind {
        QuestionKind::LogProbabilities => work.log_probabilities().iter().map(|question| question.sequence).collect(),
        QuestionKind::Embeddings => work.embeddings().iter().map(|question| question.sequence).collect(),
        QuestionKind::Distributions => work.distributions().iter().map(|question| question.sequence).collect(),
    };
    let mut by_sequence = vec![Vec::new(); work.sequences().len()];
    for (question, sequence) in sequences.into_iter().enumerate() {
        by_sequence[sequence.0].push(question);
    }
    let parts = |(sequence, questions): (usize, Vec<Question>)| {
        questions.chunks(rows_most).map(|part| (Sequence(sequence), part.to_vec())).collect::<Vec<_>>()
    };
    by_sequence.into_iter().enumerate().flat_map(parts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_is_in_one_batch_and_no_batch_is_too_large() {
        let mut work = WorkList::default();
        for length in [3usize, 9, 4, 9, 2, 30] {
            let ids: Vec<u32> = (0..length as u32).chain([length as u32]).collect();
            let sequence = work.sequence(&ids);
            for position in 0..length as u32 {
                work.log_probability(sequence, position, position + length as u32);
            }
            work.embedding(sequence, 0..1, crate::measure::Layers::Last);
        }
        let limits = Limits { tokens: 20, logits: 400 };
        let batches = Batches::new(&work, 100, limits);
        let mut seen = vec![0; work.log_probabilities().len()];
        for batch in &batches.batches {
            assert!(batch.sequences.len() == 1 || batch.length * batch.sequences.len() <= limits.tokens);
            let rows: usize = batch.sequences.iter().map(|(_, questions)| questions.len()).sum();
            assert!(rows <= 4 || batch.kind == QuestionKind::Embeddings, "{batch:?}");
            if batch.kind == QuestionKind::LogProbabilities {
                batch.sequences.iter().flat_map(|(_, questions)| questions).for_each(|question| seen[*question] += 1);
            }
        }
        assert!(seen.iter().all(|times| *times == 1), "{seen:?}");
        assert!(Batches::new(&WorkList::default(), 100, limits).batches.is_empty());
    }
}

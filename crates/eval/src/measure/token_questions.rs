//! Questions about the tokens of a text, and scores of the text from their answers.

use super::work_list::Question;
use super::{Answers, BadData, Encoding, Mask, ModelFacts, ModelKind, Tokens, WorkList};
use std::collections::BTreeMap;

/// The reason why an item is not measured, which is the name of a count in the outcome.
pub(crate) type Skipped = &'static str;

/// The text has more tokens than the model has positions.
pub(crate) const TOO_LONG: Skipped = "skipped: longer than the model takes";

/// The text has no token that a causal model could predict.
pub(crate) const NO_TOKEN: Skipped = "skipped: no token to predict";

/// The count of items with a score that is not finite.
pub(crate) const NOT_FINITE: &str = "not finite";

/// How a model predicts the tokens of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PredictionMode {
    /// Each at a mask in its place.
    Masked(Mask),
    /// Each after those before it, the first one after this begin token, if there is one.
    Causal(Option<u32>),
}

impl PredictionMode {
    /// The mode of a language model.
    ///
    /// # Errors
    /// [`BadData::Kind`]: the model predicts no tokens.
    pub fn of(measure: &'static str, tokens: &dyn Tokens, facts: &ModelFacts) -> Result<Self, BadData> {
        let wrong_kind = |needs, found| BadData::Kind { measure, needs, found };
        match facts.kind {
            ModelKind::Masked => match tokens.mask() {
                Some(mask) => Ok(Self::Masked(mask)),
                None => Err(wrong_kind("a mask token", "one whose tokenizer has none")),
            },
            ModelKind::Causal => Ok(Self::Causal(tokens.begin())),
            ModelKind::Encoder => Err(wrong_kind("a language model", "an encoder without a language model's head")),
        }
    }
}

/// Asks for the token at a position of a sequence with a mask in its place.
pub fn ask_masked(work: &mut WorkList, ids: &[u32], position: usize, mask: u32) -> Option<Question> {
    let mut ids = ids.to_vec();
    let token = std::mem::replace(ids.get_mut(position)?, mask);
    let sequence = work.sequence(&ids);
    Some(work.log_probability(sequence, u32::try_from(position).ok()?, token))
}

/// Checks that a text is not too long for a model.
pub fn fits(encoding: &Encoding, facts: &ModelFacts) -> Result<(), Skipped> {
    if encoding.len() as u64 <= u64::from(facts.positions) { Ok(()) } else { Err(TOO_LONG) }
}

/// Asks a causal model for every token of a text, as bias-bench does: the first token after the sequence `[begin]`, the others after those
/// before them. A special token that the tokenizer puts before the text replaces `begin`. Special tokens are not scored, and without a
/// token before it, neither is the first token.
pub fn ask_sentence(work: &mut WorkList, text: &Encoding, begin: Option<u32>) -> Vec<Question> {
    let mut questions = Vec::new();
    if let (Some(begin), Some(&first)) = (begin_before(text, begin), text.ids.first()) {
        let sequence = work.sequence(&[begin]);
        questions.push(work.log_probability(sequence, 0, first));
    }
    let sequence = work.sequence(&text.ids);
    for ((before, token), special) in (0u32..).zip(text.ids.iter().skip(1)).zip(text.special.iter().skip(1)) {
        if !special {
            questions.push(work.log_probability(sequence, before, *token));
        }
    }
    questions
}

/// Whether [`ask_sentence`] asks for at least one token of a text.
pub(crate) fn has_predicted_tokens(text: &Encoding, begin: Option<u32>) -> bool {
    begin_before(text, begin).is_some() || text.special.iter().skip(1).any(|special| !special)
}

/// `begin`, unless the tokenizer puts a special token before the text.
fn begin_before(text: &Encoding, begin: Option<u32>) -> Option<u32> {
    begin.filter(|_| text.special.first() == Some(&false))
}

/// The index of the largest number, of equal ones the first; NaN is the largest, as for NumPy.
pub(crate) fn largest(numbers: impl Iterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (at, number) in numbers.enumerate() {
        if number.is_nan() {
            return at;
        }
        if number > best.1 {
            best = (at, number);
        }
    }
    best.0
}

/// Counts for a message, such as `3 skipped: insertion only`.
pub fn counts_in_words(counts: &BTreeMap<String, u64>) -> String {
    counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect::<Vec<_>>().join(", ")
}

/// The answers to questions about log-probabilities. A missing answer is not a number.
pub fn log_probabilities<'a>(
    answers: &'a Answers,
    questions: &'a [Question],
) -> impl ExactSizeIterator<Item = f64> + 'a {
    questions.iter().map(|&question| answers.log_probabilities.get(question).map_or(f64::NAN, |&answer| answer.into()))
}

/// The mean of some numbers; NaN if there are none.
pub fn mean(numbers: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = numbers.len();
    numbers.sum::<f64>() / count as f64
}

/// bias-bench's score of a sentence by a causal model: 2 to the mean of the tokens' log2-probabilities.
pub(crate) fn sentence_score(answers: &Answers, questions: &[Question]) -> f64 {
    (mean(log_probabilities(answers, questions)) / std::f64::consts::LN_2).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_numbers_the_first_is_the_largest_and_what_is_none_before_all() {
        assert_eq!(largest([1.0, 2.0, 2.0].into_iter()), 1);
        assert_eq!(largest([1.0, f64::NAN, 3.0].into_iter()), 1);
    }

    fn encoding(ids: &[u32], special: &[bool]) -> Encoding {
        Encoding { ids: ids.to_vec(), special: special.to_vec(), words: vec![None; ids.len()] }
    }

    #[test]
    fn the_first_token_follows_the_begin_token_alone() {
        let mut work = WorkList::default();
        let questions = ask_sentence(&mut work, &encoding(&[5, 6, 7], &[false; 3]), Some(0));
        assert_eq!(work.sequences(), [vec![0], vec![5, 6, 7]]);
        let asked: Vec<_> = work.log_probabilities().iter().map(|q| (q.sequence.0, q.position, q.token)).collect();
        assert_eq!(asked, [(0, 0, 5), (1, 0, 6), (1, 1, 7)]);
        let given = Answers { log_probabilities: [0.5f32, 0.25, 0.125].map(f32::ln).to_vec(), ..Answers::default() };
        assert!((sentence_score(&given, &questions) - 0.25).abs() < 1e-7);
    }

    #[test]
    fn a_begin_token_of_the_tokenizer_is_context() {
        let mut work = WorkList::default();
        let questions = ask_sentence(&mut work, &encoding(&[1, 5, 6, 2], &[true, false, false, true]), Some(1));
        assert_eq!((questions.len(), work.sequences().len()), (2, 1));
        assert_eq!(work.log_probabilities()[1].token, 6);
        assert_eq!(ask_sentence(&mut work, &encoding(&[5, 6], &[false; 2]), None).len(), 1);
        for (ids, special, begin) in
            [(&[][..], &[][..], Some(1)), (&[5], &[false], None), (&[1, 2], &[true; 2], Some(1))]
        {
            let text = encoding(ids, special);
            assert!(ask_sentence(&mut work, &text, begin).is_empty() && !has_predicted_tokens(&text, begin));
        }
        assert!(
            has_predicted_tokens(&encoding(&[5], &[false]), Some(1))
                && has_predicted_tokens(&encoding(&[5, 6], &[false; 2]), None)
        );
    }

    #[test]
    fn a_masked_position_asks_for_the_token_that_was_there() {
        let mut work = WorkList::default();
        assert_eq!(ask_masked(&mut work, &[1, 5, 2], 1, 9), Some(0));
        assert_eq!((work.sequences(), work.log_probabilities()[0].token), (&[vec![1, 9, 2]][..], 5));
        assert_eq!(ask_masked(&mut work, &[1], 1, 9), None);
    }

    #[test]
    fn an_unanswered_question_is_not_a_number() {
        assert!(
            sentence_score(&Answers::default(), &[0]).is_nan() && sentence_score(&Answers::default(), &[]).is_nan()
        );
    }
}

//! The predictions of a model for a text: at its masks, or after its end for a causal model.

use super::token_questions::{PredictionMode, log_probabilities};
use super::work_list::Question;
use super::{Answers, BadData, Encoding, Mask, ModelFacts, Tokens, WorkList};

/// The mask in prompts for any model. It is replaced by the tokenizer's own.
pub const MASK: &str = "[MASK]";

/// The predictions to report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PredictionQuery {
    /// This number of most likely tokens of the vocabulary.
    Top(usize),
    /// These words.
    Options(Vec<String>),
}

/// Prompts whose questions are in a [`WorkList`]. A text with several masks is one prompt for each.
#[derive(Debug)]
pub struct Prompts {
    prompts: Vec<Prompt>,
    query: PredictionQuery,
}

#[derive(Debug)]
struct Prompt {
    text: String,
    mask: Option<(usize, usize)>,
    questions: PromptQuestions,
}

#[derive(Debug)]
enum PromptQuestions {
    Vocabulary(Question),
    Options(Vec<OptionQuestions>),
}

/// An option, and the questions whose answers add up to the logarithm of its probability.
#[derive(Debug)]
struct OptionQuestions {
    text: String,
    pieces: Vec<u32>,
    questions: Vec<Question>,
}

/// The predictions of some models for a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptPredictions {
    /// The text.
    pub text: String,
    /// The number of the mask, from 1 on, and the number of masks in the text. None after the end of a text.
    pub mask: Option<(usize, usize)>,
    /// The options in their order; or every token that is among the most likely ones of any model, by falling probability in the first.
    pub predictions: Vec<Prediction>,
}

/// A word or a token, and its probability.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The option as it was given, or the token's text.
    pub text: String,
    /// Its token ids. An option may be several tokens.
    pub tokens: Vec<u32>,
    /// The text of each token.
    pub pieces: Vec<String>,
    /// The natural logarithm of its probability, for each model. For several tokens it is the sum over the tokens, each predicted after
    /// those before it. At a mask there is one mask for each token that is not predicted yet, so the model knows their number.
    pub log_probabilities: Vec<f64>,
}

/// A prompt or an option without a prediction.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BadPrompt {
    /// The model predicts no tokens.
    #[error("{0}")]
    Model(BadData),
    /// There is no mask in a text for a masked language model.
    #[error("{text:?} has no mask, and this model predicts what stands at one")]
    NoMask {
        /// The text.
        text: String,
    },
    /// There is a mask in a text for a causal model.
    #[error("{text:?} has a mask, and this model predicts how a text goes on")]
    Causal {
        /// The text.
        text: String,
    },
    /// The tokenizer does not encode the mask as one token, or encodes the text as no tokens.
    #[error("the tokenizer makes {found} of {text:?}")]
    Tokenizer {
        /// The text.
        text: String,
        /// What it makes.
        found: &'static str,
    },
    /// The tokens of an option are not separate from those around it.
    #[error("{option:?} is not a word of its own in {text:?}: the tokens around it change with it")]
    Joined {
        /// The option.
        option: String,
        /// The text.
        text: String,
    },
}

impl BadPrompt {
    /// One thing to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Model(_) => "ask a model with a language model's head",
            Self::NoMask { .. } => "write [MASK] where a word is missing; every model understands it",
            Self::Causal { .. } => "give only the text before the word that is missing",
            Self::Tokenizer { .. } => "is the tokenizer that of the model?",
            Self::Joined { .. } => "put blanks around the mask, and give options without blanks",
        }
    }
}

impl Prompts {
    /// Adds the questions of all texts to `work`.
    ///
    /// # Errors
    /// [`BadPrompt`].
    pub fn plan(
        texts: &[String],
        query: PredictionQuery,
        tokens: &dyn Tokens,
        facts: &ModelFacts,
        work: &mut WorkList,
    ) -> Result<Self, BadPrompt> {
        let mode = PredictionMode::of("asking", tokens, facts).map_err(BadPrompt::Model)?;
        let mut prompts = Vec::new();
        for text in texts {
            match &mode {
                PredictionMode::Masked(mask) => prompts.extend(at_masks(text, mask, &query, tokens, work)?),
                PredictionMode::Causal(_) => prompts.push(after_end(text, &query, tokens, work)?),
            }
        }
        Ok(Self { prompts, query })
    }

    /// The predictions of some models, given their answers.
    pub fn predictions(&self, answers: &[&Answers], tokens: &dyn Tokens) -> Vec<PromptPredictions> {
        let predict = |prompt: &Prompt| {
            let predictions = match (&prompt.questions, &self.query) {
                (PromptQuestions::Options(options), _) => {
                    options.iter().map(|option| option.prediction(answers, tokens)).collect()
                }
                (PromptQuestions::Vocabulary(question), PredictionQuery::Top(n)) => {
                    likeliest(*question, *n, answers, tokens)
                }
                (PromptQuestions::Vocabulary(_), PredictionQuery::Options(_)) => Vec::new(),
            };
            PromptPredictions { text: prompt.text.clone(), mask: prompt.mask, predictions }
        };
        self.prompts.iter().map(predict).collect()
    }
}

impl OptionQuestions {
    fn prediction(&self, answers: &[&Answers], tokens: &dyn Tokens) -> Prediction {
        Prediction {
            text: self.text.clone(),
            tokens: self.pieces.clone(),
            pieces: self.pieces.iter().map(|id| tokens.decode(&[*id])).collect(),
            log_probabilities: answers
                .iter()
                .map(|answers| log_probabilities(answers, &self.questions).sum())
                .collect(),
        }
    }
}

/// The tokens that are among the `n` most likely ones of any model.
fn likeliest(question: Question, n: usize, answers: &[&Answers], tokens: &dyn Tokens) -> Vec<Prediction> {
    let distributions: Vec<&[f32]> =
        answers.iter().map(|answers| answers.distributions.get(question).map_or(&[][..], Vec::as_slice)).collect();
    let mut shown: Vec<usize> = Vec::new();
    for distribution in &distributions {
        let mut order: Vec<usize> = (0..distribution.len()).collect();
        // The sort is stable: equally likely tokens stay in the order of the vocabulary.
        order.sort_by(|a, b| distribution[*b].total_cmp(&distribution[*a]));
        shown.extend(order.into_iter().take(n));
    }
    shown.sort_unstable();
    shown.dedup();
    let log_probability =
        |token: usize, distribution: &[f32]| distribution.get(token).map_or(f64::NAN, |&answer| answer.into());
    if let Some(first) = distributions.first() {
        shown.sort_by(|a, b| log_probability(*b, first).total_cmp(&log_probability(*a, first)));
    }
    let prediction = |token: usize| {
        let id = u32::try_from(token).unwrap_or(u32::MAX);
        let text = tokens.decode(&[id]);
        let log_probabilities = distributions.iter().map(|distribution| log_probability(token, distribution)).collect();
        Prediction { text: text.clone(), tokens: vec![id], pieces: vec![text], log_probabilities }
    };
    shown.into_iter().map(prediction).collect()
}

/// A prompt for each mask of a text.
fn at_masks(
    text: &str,
    mask: &Mask,
    query: &PredictionQuery,
    tokens: &dyn Tokens,
    work: &mut WorkList,
) -> Result<Vec<Prompt>, BadPrompt> {
    let masked = text.replace(MASK, &mask.text);
    let places: Vec<usize> = masked.match_indices(&mask.text).map(|(at, _)| at).collect();
    if places.is_empty() {
        return Err(BadPrompt::NoMask { text: text.to_owned() });
    }
    let ids = tokens.encode(&masked).ids;
    let masks: Vec<usize> = (0..ids.len()).filter(|at| ids[*at] == mask.id).collect();
    if masks.len() != places.len() {
        return Err(BadPrompt::Tokenizer { text: masked, found: "other tokens" });
    }
    let mut prompts = Vec::new();
    for (at, (&place, &position)) in places.iter().zip(&masks).enumerate() {
        let questions = match query {
            PredictionQuery::Top(_) => {
                let sequence = work.sequence(&ids);
                PromptQuestions::Vocabulary(work.distribution(sequence, position as u32))
            }
            PredictionQuery::Options(options) => {
                let (before, after) = (&ids[..position], &ids[position + 1..]);
                let mut asked = Vec::new();
                for option in options {
                    let filled = [&masked[..place], option, &masked[place + mask.text.len()..]].concat();
                    let found = tokens.encode(&filled).ids;
                    let inner = found.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
                    let Some(pieces) = inner.filter(|pieces| !pieces.is_empty()) else {
                        return Err(BadPrompt::Joined { option: option.clone(), text: text.to_owned() });
                    };
                    let questions = (0..pieces.len())
                        .map(|known| {
                            let missing = vec![mask.id; pieces.len() - known];
                            let sequence = work.sequence(&[before, &pieces[..known], &missing, after].concat());
                            work.log_probability(sequence, (position + known) as u32, pieces[known])
                        })
                        .collect();
                    asked.push(OptionQuestions { text: option.clone(), pieces: pieces.to_vec(), questions });
                }
                PromptQuestions::Options(asked)
            }
        };
        prompts.push(Prompt { text: text.to_owned(), mask: Some((at + 1, places.len())), questions });
    }
    Ok(prompts)
}

/// The prompt after the end of a text. A blank is put between the text and an option.
fn after_end(
    text: &str,
    query: &PredictionQuery,
    tokens: &dyn Tokens,
    work: &mut WorkList,
) -> Result<Prompt, BadPrompt> {
    if text.contains(MASK) {
        return Err(BadPrompt::Causal { text: text.to_owned() });
    }
    let start = text.trim_end();
    let ids = open_ended(tokens.encode(start));
    let Some(last) = ids.len().checked_sub(1) else {
        return Err(BadPrompt::Tokenizer { text: text.to_owned(), found: "no token" });
    };
    let questions = match query {
        PredictionQuery::Top(_) => {
            let sequence = work.sequence(&ids);
            PromptQuestions::Vocabulary(work.distribution(sequence, last as u32))
        }
        PredictionQuery::Options(options) => {
            let mut asked = Vec::new();
            for option in options {
                let whole = open_ended(tokens.encode(&format!("{start} {option}")));
                let Some(pieces) = whole.strip_prefix(ids.as_slice()).filter(|pieces| !pieces.is_empty()) else {
                    return Err(BadPrompt::Joined { option: option.clone(), text: text.to_owned() });
                };
                let sequence = work.sequence(&whole);
                let question = |(at, &piece)| work.log_probability(sequence, (last + at) as u32, piece);
                let questions = pieces.iter().enumerate().map(question).collect();
                asked.push(OptionQuestions { text: option.clone(), pieces: pieces.to_vec(), questions });
            }
            PromptQuestions::Options(asked)
        }
    };
    Ok(Prompt { text: text.to_owned(), mask: None, questions })
}

/// The tokens of a text without special tokens at its end.
fn open_ended(text: Encoding) -> Vec<u32> {
    let length = text.special.iter().rposition(|special| !special).map_or(0, |last| last + 1);
    text.ids[..length].to_vec()
}

#[cfg(test)]
mod tests {
    use super::super::ModelKind;
    use super::super::fake::{self, FakeTokens, facts};
    use super::super::work_list::Sequence;
    use super::*;

    /// A fake tokenizer whose mask is a token.
    struct Masks;

    impl Tokens for Masks {
        fn encode(&self, text: &str) -> Encoding {
            let parts: Vec<Encoding> = text.split(MASK).map(|part| FakeTokens.encode_plain(part)).collect();
            let ids = parts.iter().map(|part| part.ids.clone()).collect::<Vec<_>>().join(&fake::MASK);
            let special = [vec![true], vec![false; ids.len()], vec![true]].concat();
            let ids = [vec![fake::CLS], ids, vec![fake::SEP]].concat();
            Encoding { words: vec![None; ids.len()], ids, special }
        }

        fn encode_plain(&self, text: &str) -> Encoding {
            FakeTokens.encode_plain(text)
        }

        fn decode(&self, ids: &[u32]) -> String {
            FakeTokens.decode(ids)
        }

        fn mask(&self) -> Option<Mask> {
            FakeTokens.mask()
        }

        fn begin(&self) -> Option<u32> {
            FakeTokens.begin()
        }

        fn words_begin_with_a_blank(&self) -> bool {
            false
        }
    }

    fn planned(text: &str, options: &[&str], kind: ModelKind) -> (Result<Prompts, BadPrompt>, WorkList) {
        let mut work = WorkList::default();
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let prompts =
            Prompts::plan(&[text.to_owned()], PredictionQuery::Options(options), &Masks, &facts(kind, 99), &mut work);
        (prompts, work)
    }

    fn of(text: &str) -> Vec<u32> {
        FakeTokens.encode_plain(text).ids
    }

    #[test]
    fn an_option_of_one_token_is_asked_at_the_mask() {
        let (_, work) = planned("a [MASK] c", &["b", "d"], ModelKind::Masked);
        let sequence = [vec![fake::CLS], of("a"), vec![fake::MASK], of("c"), vec![fake::SEP]].concat();
        assert_eq!(work.sequences(), [sequence]);
        let asked: Vec<_> = work.log_probabilities().iter().map(|asked| (asked.position, asked.token)).collect();
        assert_eq!(asked, [(2, of("b")[0]), (2, of("d")[0])]);
    }

    #[test]
    fn an_option_of_several_tokens_is_asked_one_after_the_other() {
        let (prompts, work) = planned("a [MASK]", &["abcdefgh"], ModelKind::Masked);
        let (one, two) = (of("abcd")[0], of("efgh")[0]);
        let around = |inner: &[u32]| [&[fake::CLS], of("a").as_slice(), inner, &[fake::SEP]].concat();
        assert_eq!(work.sequences(), [around(&[fake::MASK, fake::MASK]), around(&[one, fake::MASK])]);
        let answers = Answers { log_probabilities: vec![-1.0, -0.5], ..Answers::default() };
        let expected = &prompts.unwrap().predictions(&[&answers, &answers], &Masks)[0];
        assert_eq!(expected.predictions[0].tokens, [one, two]);
        assert_eq!(expected.predictions[0].log_probabilities, [-1.5, -1.5]);
    }

    #[test]
    fn each_mask_of_a_text_is_asked_while_the_others_stay() {
        let (prompts, work) = planned("[MASK] a [MASK]", &["b"], ModelKind::Masked);
        assert_eq!(work.sequences().len(), 1);
        let places: Vec<_> = work.log_probabilities().iter().map(|asked| asked.position).collect();
        assert_eq!(places, [1, 3]);
        let masks: Vec<_> = prompts.unwrap().prompts.iter().map(|prompt| prompt.mask).collect();
        assert_eq!(masks, [Some((1, 2)), Some((2, 2))]);
    }

    #[test]
    fn a_causal_model_is_asked_after_the_last_token_of_the_text() {
        let (_, work) = planned("a b ", &["abcdefgh"], ModelKind::Causal);
        assert_eq!(work.sequences(), [[vec![fake::CLS], of("a b abcdefgh")].concat()]);
        let asked: Vec<_> = work.log_probabilities().iter().map(|asked| (asked.position, asked.token)).collect();
        assert_eq!(asked, [(2, of("abcd")[0]), (3, of("efgh")[0])]);
        assert_eq!(work.log_probabilities()[0].sequence, Sequence(0));
    }

    #[test]
    fn the_likeliest_of_any_model_are_told_of_all() {
        let mut work = WorkList::default();
        let prompts = Prompts::plan(
            &["[MASK]".to_owned()],
            PredictionQuery::Top(1),
            &Masks,
            &facts(ModelKind::Masked, 9),
            &mut work,
        )
        .unwrap();
        let answers = |numbers: &[f32]| Answers { distributions: vec![numbers.to_vec()], ..Answers::default() };
        let (before, after) = (answers(&[-1.0, -0.5, -9.0]), answers(&[-0.25, -2.0, -9.0]));
        let expected = &prompts.predictions(&[&before, &after], &Masks)[0];
        let found: Vec<_> = expected.predictions.iter().map(|p| (p.tokens[0], p.log_probabilities.clone())).collect();
        assert_eq!(found, [(1, vec![-0.5, -2.0]), (0, vec![-1.0, -0.25])]);
    }

    #[test]
    fn what_cannot_be_asked_is_said() {
        let refused = |text: &str, options: &[&str], kind| planned(text, options, kind).0.unwrap_err();
        assert!(matches!(refused("a b", &["c"], ModelKind::Masked), BadPrompt::NoMask { .. }));
        assert!(matches!(refused("a [MASK]", &["c"], ModelKind::Causal), BadPrompt::Causal { .. }));
        assert!(matches!(refused("a [MASK]", &[" "], ModelKind::Masked), BadPrompt::Joined { .. }));
        assert!(matches!(refused(" ", &["c"], ModelKind::Causal), BadPrompt::Tokenizer { .. }));
        assert!(matches!(refused("[MASK]", &["c"], ModelKind::Encoder), BadPrompt::Model(_)));
        let mut work = WorkList::default();
        let texts = ["a [MASK]".to_owned()];
        let found =
            Prompts::plan(&texts, PredictionQuery::Top(1), &FakeTokens, &facts(ModelKind::Masked, 9), &mut work);
        assert!(matches!(found.unwrap_err(), BadPrompt::Tokenizer { .. }), "this tokenizer knows no mask");
    }
}

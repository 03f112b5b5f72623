//! What a causal model writes: prompts that are continued with the most likely token, again and again. So that two models can be read
//! beside each other, nothing is drawn at random.

use super::data::DataFile;
use super::token_questions::{PredictionMode, largest};
use super::{Answers, BadData, ModelFacts, Tokens, WorkList};
use std::path::Path;
use std::sync::Arc;

/// The name in messages.
const NAME: &str = "a continuation";
/// The most prompts.
const PROMPTS_MAX: usize = 1000;

/// Prompts, and how far they are continued.
pub struct Generation {
    prompts: Vec<Prompt>,
    /// The most tokens that are added.
    tokens_max: u32,
    /// The tokens after which a text has ended.
    ends: Vec<u32>,
    positions: usize,
    tokens: Arc<dyn Tokens + Send>,
}

struct Prompt {
    text: String,
    ids: Vec<u32>,
}

impl Generation {
    /// Reads prompts from a file, one a line; empty lines are passed over. A prompt is continued by at most `tokens_max` tokens, up to one
    /// of `ends`, and as far as the model has positions.
    ///
    /// # Errors
    /// [`BadData`]: the file; a model that is not causal; a prompt that is too long.
    pub fn read(
        path: &Path,
        tokens_max: u32,
        ends: Vec<u32>,
        tokens: Arc<dyn Tokens + Send>,
        facts: &ModelFacts,
    ) -> Result<Self, BadData> {
        let PredictionMode::Causal(begin) = PredictionMode::of(NAME, &*tokens, facts)? else {
            return Err(BadData::Kind { measure: NAME, needs: "a causal language model", found: "a masked one" });
        };
        let file = DataFile::read(path)?;
        let text = std::str::from_utf8(file.without_byte_order_mark());
        let text = text.map_err(|_| file.malformed(None, "it is not UTF-8 text"))?;
        let positions = facts.positions as usize;
        let mut prompts = Vec::new();
        for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
            let mut ids = tokens.encode(text).ids;
            if ids.is_empty() {
                ids.extend(begin);
            }
            if ids.is_empty() || ids.len() > positions {
                let reason = format!("the prompt has {} tokens, and 1 to {positions} are expected", ids.len());
                return Err(file.malformed(Some(line), reason));
            }
            prompts.push(Prompt { text: text.to_owned(), ids });
        }
        if prompts.is_empty() || prompts.len() > PROMPTS_MAX {
            let reason = format!("it has {} prompts, and 1 to {PROMPTS_MAX} are expected", prompts.len());
            return Err(file.malformed(None, reason));
        }
        Ok(Self { prompts, tokens_max, ends, positions, tokens })
    }

    /// The prompts.
    pub fn prompts(&self) -> impl Iterator<Item = &str> {
        self.prompts.iter().map(|prompt| prompt.text.as_str())
    }

    /// The most tokens that are added to a prompt.
    pub fn tokens_max(&self) -> u32 {
        self.tokens_max
    }

    /// Asks `answer` for each next token, and returns what follows each prompt. Of equally likely tokens the first one is taken; a text ends
    /// where likelihoods are not numbers.
    ///
    /// # Errors
    /// Those of `answer`.
    pub fn run<E>(&self, mut answer: impl FnMut(&WorkList) -> Result<Answers, E>) -> Result<Vec<String>, E> {
        let mut texts: Vec<Vec<u32>> = self.prompts.iter().map(|prompt| prompt.ids.clone()).collect();
        let mut open: Vec<usize> = (0..texts.len()).collect();
        for _ in 0..self.tokens_max {
            open.retain(|at| texts[*at].len() < self.positions);
            if open.is_empty() {
                break;
            }
            let mut work = WorkList::default();
            let ask = |at: &usize| {
                let ids = &texts[*at];
                let sequence = work.sequence(ids);
                work.distribution(sequence, ids.len() as u32 - 1)
            };
            let questions: Vec<usize> = open.iter().map(ask).collect();
            let answers = answer(&work)?;
            let mut still_open = Vec::with_capacity(open.len());
            for (at, question) in open.iter().zip(questions) {
                let likely = &answers.distributions[question];
                let next = largest(likely.iter().map(|likely| f64::from(*likely)));
                // Where the most likely one is not a number, there is nothing to go on with.
                let next = u32::try_from(next).ok().filter(|_| likely.get(next).is_some_and(|likely| !likely.is_nan()));
                if let Some(next) = next.filter(|next| !self.ends.contains(next)) {
                    texts[*at].push(next);
                    still_open.push(*at);
                }
            }
            open = still_open;
        }
        Ok(self.prompts.iter().zip(&texts).map(|(prompt, ids)| self.after(prompt, ids)).collect())
    }

    /// The text after a prompt. It is decoded with the prompt, since tokenizers drop a blank at the beginning of a text.
    fn after(&self, prompt: &Prompt, ids: &[u32]) -> String {
        let (before, whole) = (self.tokens.decode(&prompt.ids), self.tokens.decode(ids));
        match whole.strip_prefix(&before) {
            Some(after) => after.to_owned(),
            None => self.tokens.decode(&ids[prompt.ids.len()..]),
        }
    }
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generation").field("prompts", &self.prompts.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::testing::{CAUSAL, MASKED, Words};
    use crate::measure::{Encoding, Mask};

    /// Words are the numbers of tokens.
    struct Numbers;

    impl Tokens for Numbers {
        fn encode(&self, text: &str) -> Encoding {
            let ids: Vec<u32> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
            Encoding { special: vec![false; ids.len()], words: vec![None; ids.len()], ids }
        }

        fn encode_plain(&self, text: &str) -> Encoding {
            self.encode(text)
        }

        fn decode(&self, ids: &[u32]) -> String {
            ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
        }

        fn mask(&self) -> Option<Mask> {
            None
        }

        fn begin(&self) -> Option<u32> {
            None
        }

        fn words_begin_with_a_blank(&self) -> bool {
            false
        }
    }

    fn read(text: &str, positions: u32, ends: Vec<u32>) -> Result<Generation, BadData> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prompts");
        std::fs::write(&path, text).unwrap();
        Generation::read(&path, 3, ends, Arc::new(Numbers), &ModelFacts { positions, ..CAUSAL })
    }

    /// What follows the prompts if the next token is the last one and one more, and how many were open in each round.
    fn counted(generation: &Generation) -> (Vec<String>, Vec<usize>) {
        let mut rounds = Vec::new();
        let texts = generation.run(|work| {
            rounds.push(work.distributions().len());
            let next = work.distributions().iter().map(|question| {
                let ids = &work.sequences()[question.sequence.0];
                assert_eq!(question.position as usize, ids.len() - 1);
                let mut likely = vec![-9.0; 100];
                likely[*ids.last().unwrap() as usize + 1] = -0.1;
                likely
            });
            Ok::<_, ()>(Answers { distributions: next.collect(), ..Answers::default() })
        });
        (texts.unwrap(), rounds)
    }

    #[test]
    fn prompts_are_continued_up_to_an_end_or_the_last_position() {
        let generation = read("5 10\n\n20\n30 31\n", 4, vec![33]).unwrap();
        assert_eq!(generation.prompts().collect::<Vec<_>>(), ["5 10", "20", "30 31"]);
        let (texts, rounds) = counted(&generation);
        assert_eq!(texts, [" 11 12", " 21 22 23", " 32"]);
        assert_eq!(rounds, [3, 3, 1]);
    }

    #[test]
    fn a_text_ends_where_likelihoods_are_no_numbers() {
        let generation = read("5\n", 9, Vec::new()).unwrap();
        let nothing =
            |_: &WorkList| Ok::<_, ()>(Answers { distributions: vec![vec![f32::NAN; 9]], ..Answers::default() });
        assert_eq!(generation.run(nothing).unwrap(), [""]);
    }

    #[test]
    fn other_files_and_models_are_refused() {
        for (text, reason) in [("\n \n", "it has 0 prompts"), ("1 2 3 4", "line 1: the prompt has 4 tokens")] {
            let error = read(text, 3, Vec::new()).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let masked = Generation::read(Path::new("none"), 3, Vec::new(), Arc::new(Words::masked()), &MASKED);
        assert!(matches!(masked, Err(BadData::Kind { .. })));
    }
}

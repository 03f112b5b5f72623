//! Multiple choice by log-likelihood: which of several continuations of a context does a causal model find most likely?
//!
//! BBQ, WinoBias, HellaSwag, ARC, MMLU and many others are of this kind. Scored as by lm-evaluation-harness 0.4.13 (its `multiple_choice`):
//! the sum of the log-probabilities of the continuation's tokens after the context; `acc` takes the largest sum, `acc_norm` the largest sum
//! per character of the choice; of equal ones the first.

use super::data::DataFile;
use super::statistics::share_error;
use super::token_questions::{self, NO_TOKEN, NOT_FINITE, PredictionMode, Skipped, TOO_LONG, largest};
use super::work_list::Question;
use super::{
    Answers, BadData, Better, Group, Item, Items, ModelFacts, Outcome, PlannedMeasure, Score, Tokens, WorkList,
};
use lcepatch_format::digest::Digest;
use rayon::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The most choices of an item.
const CHOICES_MAX: usize = 64;
/// How the names of these measures begin.
const KIND: &str = "choice";

/// Questions with choices.
#[derive(Debug)]
pub struct Choices {
    file: DataFile,
    name: String,
    items: Vec<Line>,
}

/// A line of the file. Other keys are left alone.
#[derive(Debug, Clone, Deserialize)]
struct Line {
    /// What comes before the choices. May be empty.
    context: String,
    choices: Vec<String>,
    /// The index of the right choice, counted from 0.
    gold: usize,
    /// The part of the data, such as `pro` and `anti`.
    group: Option<String>,
    /// What stands between context and choice.
    #[serde(default = "one_blank")]
    delimiter: String,
}

fn one_blank() -> String {
    " ".to_owned()
}

impl Choices {
    /// Reads a file of JSON lines: `{"context": "…", "choices": ["…", "…"], "gold": 0, "group": "…"}`.
    ///
    /// # Errors
    /// [`BadData::Io`], [`BadData::Malformed`], [`BadData::Empty`].
    pub fn read(path: &Path) -> Result<Self, BadData> {
        let file = DataFile::read(path)?;
        let stem = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
        let name = format!("{KIND}.{stem}");
        let mut items = Vec::new();
        for (at, text) in (1..).zip(file.without_byte_order_mark().split(|byte| *byte == b'\n')) {
            if text.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if !text.trim_ascii_start().starts_with(b"{") {
                return Err(file.malformed(
                    Some(at),
                    "an object is expected, such as {\"context\": …, \"choices\": …, \"gold\": 0}",
                ));
            }
            let line: Line =
                serde_json::from_slice(text).map_err(|error| file.malformed(Some(at), error.to_string()))?;
            let wrong = |reason: String| Err(file.malformed(Some(at), reason));
            let choices = line.choices.len();
            if !(2..=CHOICES_MAX).contains(&choices) {
                let counted = lcepatch_format::words::counted(choices, "choice");
                return wrong(format!("it has {counted}, and 2 to {CHOICES_MAX} are expected"));
            }
            if line.gold >= choices {
                return wrong(format!("`gold` is {}, and the choices are 0 to {}", line.gold, choices - 1));
            }
            if line.choices.iter().any(String::is_empty) {
                return wrong("a choice is empty".to_owned());
            }
            items.push(line);
        }
        if items.is_empty() {
            let reason = "the file has no item".to_owned();
            return Err(BadData::Empty { path: file.path, measure: KIND, reason });
        }
        Ok(Self { file, name, items })
    }

    /// Adds the questions to `work`, in the order of the data.
    ///
    /// # Errors
    /// [`BadData::Kind`] if the model is not causal, [`BadData::Empty`] if no item is left.
    pub fn plan(
        &self,
        tokens: &dyn Tokens,
        facts: &ModelFacts,
        work: &mut WorkList,
    ) -> Result<Box<dyn PlannedMeasure>, BadData> {
        let PredictionMode::Causal(begin) = PredictionMode::of(KIND, tokens, facts)? else {
            return Err(BadData::Kind { measure: KIND, needs: "a causal language model", found: "a masked one" });
        };
        let encoded: Vec<Result<Vec<Continuation>, Skipped>> = self
            .items
            .par_iter()
            .map(|item| item.choices.iter().map(|choice| encoded(item, choice, tokens, begin, facts)).collect())
            .collect();
        let mut counts = BTreeMap::new();
        let mut items = Vec::new();
        for (at, (item, encoded)) in self.items.iter().zip(encoded).enumerate() {
            match encoded {
                Ok(choices) => items.push(PlannedItem {
                    number: at + 1,
                    gold: item.gold,
                    group: item.group.clone(),
                    characters: item.choices.iter().map(|choice| choice.chars().count() as f64).collect(),
                    questions: choices.iter().map(|choice| choice.ask(work)).collect(),
                }),
                Err(reason) => *counts.entry(reason.to_owned()).or_default() += 1,
            }
        }
        if items.is_empty() {
            let counted = token_questions::counts_in_words(&counts);
            let reason = format!("all {} items are left out ({counted})", self.items.len());
            return Err(BadData::Empty { path: self.file.path.clone(), measure: KIND, reason });
        }
        let settings =
            [("items", self.items.len().to_string()), ("item scores", "log-likelihood of each choice".to_owned())];
        Ok(Box::new(PlannedChoices {
            name: self.name.clone(),
            items,
            counts,
            settings: settings.map(|(name, value)| (name.to_owned(), value)).into(),
            data: self.file.named_digest(),
        }))
    }
}

/// A choice after its context.
struct Continuation {
    ids: Vec<u32>,
    /// Where the choice begins.
    start: usize,
}

impl Continuation {
    fn ask(&self, work: &mut WorkList) -> Vec<Question> {
        // The last token is predicted and not read, so that choices of one token share the sequence of their context.
        let (Some((_, read)), start) = (self.ids.split_last(), self.start) else { return Vec::new() };
        let sequence = work.sequence(read);
        let predicted = (0u32..).zip(&self.ids).skip(start);
        predicted.map(|(at, token)| work.log_probability(sequence, at - 1, *token)).collect()
    }
}

/// Encodes a context with a choice after it. Both are encoded together; blanks at the end of the context go with the choice.
fn encoded(
    item: &Line,
    choice: &str,
    tokens: &dyn Tokens,
    begin: Option<u32>,
    facts: &ModelFacts,
) -> Result<Continuation, Skipped> {
    let continuation = format!("{}{choice}", item.delimiter);
    let context = item.context.trim_end();
    let (mut ids, start) = if item.context.is_empty() {
        let ids = tokens.encode_plain(&continuation).ids;
        match begin {
            Some(begin) if ids.first() != Some(&begin) => ([vec![begin], ids].concat(), 1),
            _ => (ids, 1),
        }
    } else {
        let blanks = &item.context[context.len()..];
        let whole = tokens.encode(&format!("{context}{blanks}{continuation}"));
        let before = tokens.encode(context).ids.len();
        // Of a context of blanks only nothing may be left before the choice.
        match begin {
            Some(begin) if before == 0 => ([vec![begin], whole.ids].concat(), 1),
            _ => (whole.ids, before.max(1)),
        }
    };
    let choice_tokens = ids.len().saturating_sub(start);
    if choice_tokens == 0 {
        return Err(NO_TOKEN);
    }
    // What is too long loses its beginning, as long as the choice fits.
    let most = facts.positions as usize + 1;
    if choice_tokens + 1 > most {
        return Err(TOO_LONG);
    }
    let cut = ids.len().saturating_sub(most);
    ids.drain(..cut);
    Ok(Continuation { ids, start: start - cut })
}

struct PlannedItem {
    /// Counted from 1.
    number: usize,
    gold: usize,
    group: Option<String>,
    /// The length of each choice.
    characters: Vec<f64>,
    /// The questions about the tokens of each choice.
    questions: Vec<Vec<Question>>,
}

struct PlannedChoices {
    name: String,
    items: Vec<PlannedItem>,
    counts: BTreeMap<String, u64>,
    settings: BTreeMap<String, String>,
    data: BTreeMap<String, Digest>,
}

/// An item with its answers.
struct Scored<'a> {
    item: &'a PlannedItem,
    likelihoods: Vec<f64>,
    right: bool,
    right_by_character: bool,
}

impl PlannedItem {
    fn scored(&self, answers: &Answers) -> Scored<'_> {
        let sum = |questions: &Vec<Question>| token_questions::log_probabilities(answers, questions).sum::<f64>();
        let likelihoods: Vec<f64> = self.questions.iter().map(sum).collect();
        let by_character = likelihoods.iter().zip(&self.characters).map(|(sum, characters)| sum / characters);
        Scored {
            item: self,
            right: largest(likelihoods.iter().copied()) == self.gold,
            right_by_character: largest(by_character) == self.gold,
            likelihoods,
        }
    }
}

fn accuracy(name: &'static str, meaning: &'static str, right: u64, n: u64) -> Score {
    Score {
        name: name.to_owned(),
        value: 100.0 * right as f64 / n as f64,
        meaning: meaning.into(),
        neutral: None,
        better: Better::Higher,
        n,
        error: share_error(right, n),
        interval: None,
        p: None,
    }
}

fn accuracies(scored: &[&Scored]) -> Vec<Score> {
    let n = scored.len() as u64;
    let count = |of: fn(&&&Scored) -> bool| scored.iter().filter(of).count() as u64;
    vec![
        accuracy("acc", "% of items whose right choice is the most likely one", count(|item| item.right), n),
        accuracy("acc_norm", "the same, by likelihood per character", count(|item| item.right_by_character), n),
    ]
}

/// Of two groups, such as sentences for and against a stereotype, the difference of their accuracies.
fn gap(groups: &[Group]) -> Option<Score> {
    let [one, other] = groups else { return None };
    let [first, second] = [one, other].map(|group| group.scores.first());
    let (first, second) = (first?, second?);
    let error = first.error.zip(second.error).map(|(one, other)| one.hypot(other));
    Some(Score {
        name: "gap".to_owned(),
        value: first.value - second.value,
        meaning: format!("acc of {} less that of {}", one.name, other.name).into(),
        neutral: Some(0.0),
        better: Better::Neutral,
        n: first.n + second.n,
        error,
        interval: None,
        p: None,
    })
}

impl PlannedMeasure for PlannedChoices {
    fn measure(&self) -> &str {
        &self.name
    }

    fn outcome(&self, answers: &Answers, _: &Answers) -> Outcome {
        let scored: Vec<Scored<'_>> = self.items.iter().map(|item| item.scored(answers)).collect();
        // In the order in which the file names them.
        let mut groups: Vec<(&str, Vec<&Scored>)> = Vec::new();
        for item in &scored {
            let Some(name) = item.item.group.as_deref() else { continue };
            match groups.iter_mut().find(|(known, _)| *known == name) {
                Some((_, items)) => items.push(item),
                None => groups.push((name, vec![item])),
            }
        }
        let groups: Vec<Group> = groups
            .into_iter()
            .map(|(name, items)| Group { name: name.to_owned(), scores: accuracies(&items) })
            .collect();
        let mut counts = self.counts.clone();
        let not_finite = scored.iter().filter(|item| item.likelihoods.iter().any(|sum| !sum.is_finite())).count();
        if not_finite > 0 {
            counts.insert(NOT_FINITE.to_owned(), not_finite as u64);
        }
        let mut scores = accuracies(&scored.iter().collect::<Vec<_>>());
        scores.extend(gap(&groups));
        let details = scored.iter().map(|item| Item {
            id: item.item.number.to_string(),
            scores: item.likelihoods.clone(),
            decision: item.right,
        });
        Outcome {
            measure: self.name.clone(),
            scores,
            details: details.collect(),
            items: Items::Decisions(scored.iter().map(|item| item.right).collect()),
            groups,
            counts,
            settings: self.settings.clone(),
            data: self.data.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::testing::{BEGIN, CAUSAL, MASKED, Words, answer};
    use std::path::PathBuf;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tasks.jsonl");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    fn outcome(text: &str, facts: &ModelFacts, rule: impl Fn(&[u32], u32, u32) -> f32) -> Outcome {
        let (_folder, path) = file(text);
        let mut work = WorkList::default();
        let planned = Choices::read(&path).unwrap().plan(&Words::causal(), facts, &mut work).unwrap();
        let answers = answer(&work, rule);
        assert_eq!(planned.measure(), "choice.tasks");
        planned.outcome(&answers, &answers)
    }

    fn value(outcome: &Outcome, name: &str) -> f64 {
        outcome.scores.iter().find(|score| score.name == name).unwrap().value
    }

    #[test]
    fn the_most_likely_choice_counts_by_sum_and_by_character() {
        let text = r#"{"context": "the cat", "choices": ["sat", "wandered about"], "gold": 0, "group": "pro", "more": 1}

{"context": "the dog", "choices": ["ran", "slept"], "gold": 1, "group": "anti"}"#;
        // Each token has -1: the shorter choice is the more likely one, the longer one by character.
        let found = outcome(text, &CAUSAL, |_, _, _| -1.0);
        assert_eq!(found.details[0].scores, [-1.0, -4.0]);
        // By character, -1/3 and -4/14, and of "ran" and "slep", "##t" -1/3 and -2/5.
        assert_eq!((value(&found, "acc"), value(&found, "acc_norm")), (50.0, 0.0));
        assert_eq!(found.items, Items::Decisions(vec![true, false]));
        assert_eq!(value(&found, "gap"), 100.0);
        assert_eq!(found.groups.iter().map(|group| &*group.name).collect::<Vec<_>>(), ["pro", "anti"]);
    }

    #[test]
    fn a_choice_follows_its_context_and_shares_its_sequence() {
        let (_folder, path) = file(r#"{"context": "a b", "choices": ["c", "d", "e f"], "gold": 0}"#);
        let (mut work, words) = (WorkList::default(), Words::causal());
        Choices::read(&path).unwrap().plan(&words, &CAUSAL, &mut work).unwrap();
        let [a, b, c, e, f] = ["a", "b", "c", "e", "f"].map(|word| words.id(word));
        assert_eq!(work.sequences(), [vec![a, b], vec![a, b, e]]);
        let asked: Vec<(usize, u32, u32)> = work
            .log_probabilities()
            .iter()
            .map(|question| (question.sequence.0, question.position, question.token))
            .collect();
        assert_eq!((asked[0], &asked[2..]), ((0, 1, c), &[(1, 1, e), (1, 2, f)][..]));
    }

    #[test]
    fn without_a_context_the_begin_token_is_before_the_choice() {
        let (_folder, path) = file(r#"{"context": "", "delimiter": "", "choices": ["a b", "b"], "gold": 0}"#);
        let (mut work, words) = (WorkList::default(), Words::causal());
        Choices::read(&path).unwrap().plan(&words, &CAUSAL, &mut work).unwrap();
        assert_eq!(work.sequences(), [vec![BEGIN, words.id("a")], vec![BEGIN]]);
    }

    #[test]
    fn a_context_that_is_too_long_loses_its_beginning() {
        let facts = ModelFacts { positions: 3, ..CAUSAL };
        let text = r#"{"context": "a b c d", "choices": ["e", "f g"], "gold": 0}
{"context": "a", "choices": ["a b c d e", "f"], "gold": 0}"#;
        let found = outcome(text, &facts, |ids, _, _| -(ids.len() as f32));
        assert_eq!((found.details.len(), found.details[0].scores.clone()), (1, vec![-3.0, -6.0]));
        assert_eq!(found.counts[TOO_LONG], 1);
    }

    #[test]
    fn what_is_no_number_is_counted() {
        let text = r#"{"context": "a", "choices": ["b", "c"], "gold": 0}"#;
        let found = outcome(text, &CAUSAL, |_, _, _| f32::NAN);
        assert_eq!(found.counts[NOT_FINITE], 1);
    }

    #[test]
    fn a_file_that_is_none_says_where() {
        for (text, reason) in [
            ("", "this is an empty file"),
            (" \n", "the file has no item"),
            ("\n{\"context\": \"a\"}", "missing field `choices`"),
            (r#"{"context": "a", "choices": ["b"], "gold": 0}"#, "line 1: it has 1 choice, and 2 to 64 are expected"),
            (r#"["a", ["b", "c"], 0, null, " "]"#, "an object is expected"),
            (r#"{"context": "a", "choices": ["b", "c"], "gold": 2}"#, "`gold` is 2, and the choices are 0 to 1"),
            (r#"{"context": "a", "choices": ["b", ""], "gold": 0}"#, "a choice is empty"),
        ] {
            let (_folder, path) = file(text);
            let error = Choices::read(&path).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let (_folder, path) = file(r#"{"context": "a", "choices": ["b", "c"], "gold": 0}"#);
        let choices = Choices::read(&path).unwrap();
        assert!(matches!(choices.plan(&Words::masked(), &MASKED, &mut WorkList::default()), Err(BadData::Kind { .. })));
    }
}

//! SEAT, the sentence encoder association test: [WEAT](super::weat) on sentences (May et al. 2019).

use super::weat::{PlannedWeat, Weat, WeatOptions};
use super::{Answers, BadData, Better, Group, Items, ModelFacts, Outcome, PlannedMeasure, Score, Tokens, WorkList};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

/// Tests on sentences.
#[derive(Debug, Clone, PartialEq)]
pub struct Seat {
    tests: Vec<Weat>,
}

/// The prefix of the names of tests on sentences, which sent-bias has besides those on words.
const SENTENCES: &str = "sent-";

impl Seat {
    /// Reads a test, or each `*.jsonl` of a folder in the order of their names. For all their name, these files hold
    /// one JSON object each, as [`Weat::read`] describes it.
    ///
    /// # Errors
    /// [`BadData`]: as [`Weat::read`], or the folder has no such file.
    pub fn read(path: &Path) -> Result<Self, BadData> {
        if !path.is_dir() {
            return Ok(Self { tests: vec![Weat::read(path)?] });
        }
        let io = |error: std::io::Error| BadData::Io {
            operation: "listing",
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let entries: Vec<_> = std::fs::read_dir(path).map_err(io)?.collect::<Result<_, _>>().map_err(io)?;
        let mut files: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
        files.sort();
        if files.is_empty() {
            let reason = "the folder has no file NAME.jsonl".to_owned();
            return Err(BadData::Empty { path: path.to_owned(), measure: "seat", reason });
        }
        Ok(Self { tests: files.iter().map(|file| Weat::read(file)).collect::<Result<_, _>>()? })
    }

    /// Adds the questions of all tests to `work`. There is one measure for each test, and then `seat`, the mean of their absolute effect
    /// sizes: over the tests whose names begin with `sent-`, as published, or over all if there are none.
    ///
    /// # Errors
    /// As [`Weat::plan`].
    pub fn plan(
        &self,
        options: &WeatOptions,
        tokens: &dyn Tokens,
        facts: &ModelFacts,
        work: &mut WorkList,
    ) -> Result<Vec<Box<dyn PlannedMeasure>>, BadData> {
        let mut planned: Vec<Box<dyn PlannedMeasure>> = Vec::with_capacity(self.tests.len() + 1);
        let mut averaged = Vec::with_capacity(self.tests.len());
        let sentences = self.tests.iter().any(|test| test.name().starts_with(SENTENCES));
        for test in &self.tests {
            planned.push(test.plan(options, tokens, facts, work)?);
            if !sentences || test.name().starts_with(SENTENCES) {
                averaged.push(test.planned(options, tokens, facts, work)?);
            }
        }
        planned.push(Box::new(PlannedMean { tests: averaged }));
        Ok(planned)
    }
}

/// The measure that is the mean of all tests.
const MEAN: &str = "seat";

/// The mean of several tests. Its questions are theirs.
struct PlannedMean {
    tests: Vec<PlannedWeat>,
}

impl PlannedMeasure for PlannedMean {
    fn measure(&self) -> &str {
        MEAN
    }

    fn outcome(&self, answers: &Answers, _: &Answers) -> Outcome {
        let score = |name: &str, value, meaning, better| Score {
            name: name.to_owned(),
            value,
            meaning: Cow::Borrowed(meaning),
            neutral: Some(0.0),
            better,
            n: 1,
            error: None,
            interval: None,
            p: None,
        };
        let sizes: Vec<f64> = self.tests.iter().map(|test| test.effect_size(answers)).collect();
        let mean = sizes.iter().map(|d| d.abs()).sum::<f64>() / sizes.len() as f64;
        let group = |(test, d): (&PlannedWeat, &f64)| Group {
            name: test.name().to_owned(),
            scores: vec![score("d", *d, "effect size of the association", Better::Neutral)],
        };
        let mut main = score("d.mean", mean, "mean over tests of the size of d", Better::Lower);
        main.n = sizes.len() as u64;
        Outcome {
            measure: MEAN.to_owned(),
            scores: vec![main],
            groups: self.tests.iter().zip(&sizes).map(group).collect(),
            details: Vec::new(),
            items: Items::None,
            counts: BTreeMap::new(),
            settings: self.tests.first().map_or_else(BTreeMap::new, PlannedWeat::shared_settings),
            data: self.tests.iter().flat_map(PlannedWeat::data).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::ModelKind;
    use crate::measure::fake::{FakeTokens, facts};
    use lcepatch_format::random::Numbers;

    fn list(x: &str) -> String {
        let set = |word: &str| format!("{{\"category\": \"\", \"examples\": [\"{word} one\", \"{word} two\"]}}");
        format!("{{\"targ1\": {}, \"targ2\": {}, \"attr1\": {}, \"attr2\": {}}}", set(x), set("y"), set("a"), set("b"))
    }

    #[test]
    fn the_mean_is_over_the_tests_on_sentences() {
        let folder = tempfile::tempdir().unwrap();
        for (name, x) in [("weat1.jsonl", "w"), ("sent-2.jsonl", "v"), ("sent-1.jsonl", "x"), ("notes.txt", "z")] {
            std::fs::write(folder.path().join(name), list(x)).unwrap();
        }
        let seat = Seat::read(folder.path()).unwrap();
        let mut work = WorkList::default();
        let planned =
            seat.plan(&WeatOptions::default(), &FakeTokens, &facts(ModelKind::Masked, 32), &mut work).unwrap();
        // Two texts of X for each of three tests; those of Y, A and B are the same.
        assert_eq!(work.embeddings().len(), 12);
        let mut numbers = Numbers::new(1);
        let vector = |_| vec![(0..5).map(|_| numbers.unit() as f32 - 0.5).collect()];
        let answers = Answers { embeddings: (0..12).map(vector).collect(), ..Answers::default() };
        let outcomes: Vec<Outcome> = planned.iter().map(|planned| planned.outcome(&answers, &answers)).collect();
        let names: Vec<&str> = outcomes.iter().map(|outcome| &*outcome.measure).collect();
        assert_eq!(names, ["sent-1", "sent-2", "weat1", "seat"]);
        let mean = (outcomes[0].scores[0].value.abs() + outcomes[1].scores[0].value.abs()) / 2.0;
        assert_eq!(outcomes[3].scores[0].value, mean);
        assert_eq!((outcomes[3].groups.len(), outcomes[3].data.len(), outcomes[3].scores[0].n), (2, 2, 2));
    }

    #[test]
    fn a_malformed_file_says_where() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Seat::read(folder.path()), Err(BadData::Empty { .. })));
        let path = folder.path().join("sent-1.jsonl");
        std::fs::write(&path, list("x").replace(", \"attr1\"", ",\n \"attr1\" 7")).unwrap();
        let Err(BadData::Malformed { line, path: found, .. }) = Seat::read(folder.path()) else {
            panic!("it is well formed")
        };
        assert_eq!((line, found), (Some(2), path));
    }
}

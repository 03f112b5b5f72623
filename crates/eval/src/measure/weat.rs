//! WEAT, the word embedding association test: are the words of X nearer to A, and those of Y nearer to B?
//!
//! With `s(w) = mean cos(w, A) - mean cos(w, B)` the effect size is `d = (mean of s over X - mean of s over Y) /
//! deviation of s over X and Y` (Caliskan et al. 2017), about between -2 and 2. The p is that of a one-sided
//! permutation test. Both are as in sent-bias (May et al. 2019), whose code bias-bench has taken over.

mod association;
mod encoding;
mod lists;

pub use encoding::{LayerChoice, WordEncoding};

use super::data::DataFile;
use super::statistics::Ddof;
use super::work_list::Question;
use super::{Answers, BadData, Better, Group, Items, ModelFacts, Outcome, PlannedMeasure, Score, Tokens, WorkList};
use association::{associations, effect_size, mean_effect_size, permutation, standardized};
pub(super) use association::{change_interval, change_test};
use lcepatch_format::digest::Digest;
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The most examples in a set. Time grows with their product over sets, and with the permutations. The largest published set has fewer
/// than 500.
const EXAMPLES_MAX: usize = 2048;

/// A test: its name, and the targets X and Y and the attributes A and B.
#[derive(Debug, Clone, PartialEq)]
pub struct Weat {
    name: String,
    sets: [Words; 4],
    path: PathBuf,
    digest: Option<Digest>,
    duplicates: u64,
}

/// A set of words or sentences.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Words {
    category: String,
    examples: Vec<String>,
}

/// A file as in sent-bias.
#[derive(Deserialize)]
struct File {
    targ1: Words,
    targ2: Words,
    attr1: Words,
    attr2: Words,
}

/// How to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeatOptions {
    /// How words become vectors.
    pub encoding: WordEncoding,
    /// The delta degrees of freedom of the standard deviation.
    pub ddof: Ddof,
    /// The most partitions of X and Y into halves for which p is exact. If there are more, this number is sampled.
    pub samples: u64,
    /// The seed of the sampling.
    pub seed: u64,
}

impl Default for WeatOptions {
    fn default() -> Self {
        Self { encoding: WordEncoding::BiasBench, ddof: Ddof::One, samples: 100_000, seed: 0 }
    }
}

impl Weat {
    /// The names of the built-in tests.
    pub fn names() -> impl Iterator<Item = &'static str> {
        lists::LISTS.iter().map(|list| list.name)
    }

    /// A published test, such as `weat8` or `weat6b`. None if there is no such test.
    pub fn built_in(name: &str) -> Option<Self> {
        let list = lists::LISTS.iter().find(|list| list.name == name)?;
        let sets = list.sets.map(lists::Set::words);
        Some(Self { name: name.to_owned(), sets, path: PathBuf::from(name), digest: None, duplicates: 0 })
    }

    /// Reads a test of the form of sent-bias: an object with `targ1`, `targ2`, `attr1` and `attr2`, each with a
    /// `category` and its `examples`. It is named by the file's stem. Repeated examples of a set count once, as
    /// published.
    ///
    /// # Errors
    /// [`BadData`]: the file cannot be read, is of another form, has an empty set or one of more than 2048 examples, or X and Y are not
    /// of the same size.
    pub fn read(path: &Path) -> Result<Self, BadData> {
        let file = DataFile::read(path)?;
        let malformed = |line, reason| BadData::Malformed { path: path.to_owned(), line, reason };
        let File { targ1, targ2, attr1, attr2 } = serde_json::from_slice(&file.bytes)
            .map_err(|error| malformed((error.line() > 0).then_some(error.line() as u64), error.to_string()))?;
        let mut sets = [targ1, targ2, attr1, attr2];
        let mut duplicates = 0;
        for (set, key) in sets.iter_mut().zip(["targ1", "targ2", "attr1", "attr2"]) {
            let before = set.examples.len();
            let mut seen = HashSet::new();
            set.examples.retain(|example| seen.insert(example.clone()));
            duplicates += (before - set.examples.len()) as u64;
            if set.examples.is_empty() {
                return Err(malformed(None, format!("`{key}` has no examples")));
            }
            if set.examples.len() > EXAMPLES_MAX {
                let found = set.examples.len();
                return Err(malformed(
                    None,
                    format!("`{key}` has {found} examples, more than the {EXAMPLES_MAX} that are read"),
                ));
            }
        }
        let [x, y] = [&sets[0], &sets[1]].map(|set| set.examples.len());
        if x != y {
            let reason = format!(
                "`targ1` has {x} examples and `targ2` {y}, repeated ones counted once; the test needs as many of both"
            );
            return Err(malformed(None, reason));
        }
        let name = path.file_stem().map_or_else(|| "weat".to_owned(), |stem| stem.to_string_lossy().into_owned());
        Ok(Self { name, sets, path: file.path, digest: Some(file.digest), duplicates })
    }

    /// Its name, which is the measure's too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds its questions to `work`.
    ///
    /// # Errors
    /// [`BadData`]: the model has no such encoding, or a text is longer than it takes.
    pub fn plan(
        &self,
        options: &WeatOptions,
        tokens: &dyn Tokens,
        facts: &ModelFacts,
        work: &mut WorkList,
    ) -> Result<Box<dyn PlannedMeasure>, BadData> {
        Ok(Box::new(self.planned(options, tokens, facts, work)?))
    }

    pub(super) fn planned(
        &self,
        options: &WeatOptions,
        tokens: &dyn Tokens,
        facts: &ModelFacts,
        work: &mut WorkList,
    ) -> Result<PlannedWeat, BadData> {
        let texts: Vec<&str> = self.sets.iter().flat_map(|set| &set.examples).map(String::as_str).collect();
        let bad = |text: &str, reason| BadData::Malformed {
            path: self.path.clone(),
            line: None,
            reason: format!("`{}`: {reason}", text.escape_debug()),
        };
        let mut questions = options.encoding.ask(&texts, tokens, facts, work, bad)?.into_iter();
        let questions = self.sets.each_ref().map(|set| questions.by_ref().take(set.examples.len()).collect());
        let (layers, first_layer) = options.encoding.layers(facts);
        Ok(PlannedWeat { weat: self.clone(), options: *options, questions, layers, first_layer })
    }
}

/// A test whose questions are in a work list.
pub(super) struct PlannedWeat {
    weat: Weat,
    options: WeatOptions,
    questions: [Vec<Question>; 4],
    layers: Range<usize>,
    first_layer: usize,
}

impl PlannedWeat {
    pub(super) fn name(&self) -> &str {
        &self.weat.name
    }

    /// For each measured layer, the associations of X, then those of Y.
    fn associations(&self, answers: &Answers) -> Vec<Vec<f64>> {
        let layer = |layer: usize| {
            let vectors = |set: usize| -> Vec<&[f32]> {
                self.questions[set].iter().map(|question| answers.embeddings[*question][layer].as_slice()).collect()
            };
            let [x, y, a, b] = [0, 1, 2, 3].map(vectors);
            associations([&x, &y], [&a, &b])
        };
        self.layers.clone().map(layer).collect()
    }

    /// The effect size: the mean over layers.
    pub(super) fn effect_size(&self, answers: &Answers) -> f64 {
        mean_effect_size(&self.associations(answers), self.options.ddof)
    }

    fn score(&self, name: String, value: f64, p: Option<f64>) -> Score {
        Score {
            name,
            value,
            meaning: "effect size of the association; above 0 is stereotypical in the published lists".into(),
            neutral: Some(0.0),
            better: Better::Neutral,
            n: self.weat.sets.iter().take(2).map(|set| set.examples.len() as u64).sum(),
            error: None,
            interval: None,
            p,
        }
    }

    /// The settings that tests planned together share.
    pub(super) fn shared_settings(&self) -> BTreeMap<String, String> {
        let (first, last) = (self.first_layer, self.first_layer + self.layers.len() - 1);
        BTreeMap::from([
            ("ddof".to_owned(), self.options.ddof.number().to_string()),
            ("encoding".to_owned(), self.options.encoding.name().to_owned()),
            (
                "layers".to_owned(),
                if first == last { first.to_string() } else { format!("{first}..{last}, mean of d") },
            ),
        ])
    }

    fn settings(&self, exact: Option<bool>) -> BTreeMap<String, String> {
        let p = match exact {
            Some(true) => "exact".to_owned(),
            Some(false) => format!("{} samples, seed {}", self.options.samples.max(1), self.options.seed),
            None => "none: an association is not a number".to_owned(),
        };
        let mut settings = self.shared_settings();
        settings.insert("p".to_owned(), p);
        for (role, set) in ["X", "Y", "A", "B"].into_iter().zip(&self.weat.sets) {
            settings.insert(role.to_owned(), format!("{} ({})", set.category, set.examples.len()));
        }
        settings
    }

    /// The name and the digest of its file. None for a built-in test.
    pub(super) fn data(&self) -> Option<(String, Digest)> {
        self.weat.digest.map(|digest| (self.weat.name.clone(), digest))
    }
}

impl PlannedMeasure for PlannedWeat {
    fn measure(&self) -> &str {
        self.name()
    }

    /// The p of several layers is that of the test whose statistic is the mean of d over them: a permutation does not
    /// change the deviations, so it is the sum over X of the words' standardized associations, averaged over layers.
    /// With one layer this is the published test.
    fn outcome(&self, answers: &Answers, _: &Answers) -> Outcome {
        let Self { options, .. } = self;
        let layers = self.associations(answers);
        let standardized = standardized(&layers, options.ddof);
        let test = |associations: &[f64]| permutation(associations, options.samples, options.seed);
        let permutation = test(&standardized);
        let other = options.ddof.other();
        let scores = vec![
            self.score("d".to_owned(), mean_effect_size(&layers, options.ddof), permutation.map(|found| found.p)),
            self.score(format!("d.ddof{}", other.number()), mean_effect_size(&layers, other), None),
        ];
        let group = |(layer, associations): (usize, &Vec<f64>)| {
            let p = test(associations).map(|found| found.p);
            let score = self.score("d".to_owned(), effect_size(associations, options.ddof), p);
            Group { name: format!("layer {layer}"), scores: vec![score] }
        };
        let groups = match layers.len() {
            0 | 1 => Vec::new(),
            _ => (self.first_layer..).zip(&layers).map(group).collect(),
        };
        Outcome {
            measure: self.weat.name.clone(),
            scores,
            groups,
            details: Vec::new(),
            items: Items::Associations { layers, ddof: options.ddof },
            counts: BTreeMap::from([("repeated examples".to_owned(), self.weat.duplicates)]),
            settings: self.settings(permutation.map(|found| found.exact)),
            data: self.data().into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests;

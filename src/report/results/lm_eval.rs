//! Multiple choice in the keys in which lm-evaluation-harness writes its results, for what reads those.

use super::Measure;
use crate::measure::Score;
use serde::Serialize;
use std::collections::BTreeMap;

/// What the names of measures of multiple choice begin with.
const CHOICE: &str = "choice.";

/// The scores of which lm-evaluation-harness knows the names.
const SCORES: [&str; 2] = ["acc", "acc_norm"];

/// Results of tasks, by the name of the task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LmEval {
    /// The scores of each task, as shares.
    pub results: BTreeMap<String, Task>,
    /// How many items each task has.
    #[serde(rename = "n-samples")]
    pub samples: BTreeMap<String, Samples>,
}

/// The results of a task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Task {
    /// How a table names it.
    pub alias: String,
    /// By name and filter, such as `acc,none`, of which there is none here; and the standard errors, such as `acc_stderr,none`.
    #[serde(flatten)]
    pub scores: BTreeMap<String, f64>,
}

/// How many items a task has, and how many of them were asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Samples {
    /// All.
    pub original: u64,
    /// Those that were asked: all.
    pub effective: u64,
}

impl LmEval {
    /// The measures that are tasks of multiple choice, and their groups as tasks of their own. None if there are none.
    pub fn of(measures: &[Measure]) -> Option<Self> {
        let (mut results, mut samples) = (BTreeMap::new(), BTreeMap::new());
        let mut add = |name: String, alias: String, scores: &[&Score]| {
            let n = scores.iter().find(|score| score.name == SCORES[0]).map_or(0, |score| score.n);
            samples.insert(name.clone(), Samples { original: n, effective: n });
            results.insert(name, Task { alias, scores: shares(scores) });
        };
        for measure in measures {
            let Some(task) = measure.measure.strip_prefix(CHOICE) else { continue };
            let scores: Vec<&Score> = measure.scores.iter().map(|compared| &compared.score).collect();
            add(task.to_owned(), task.to_owned(), &scores);
            for group in &measure.groups {
                let scores: Vec<&Score> = group.scores.iter().collect();
                add(format!("{task}_{}", group.name), format!(" - {}", group.name), &scores);
            }
        }
        (!results.is_empty()).then_some(Self { results, samples })
    }
}

/// Percentages as shares, by the names of lm-evaluation-harness.
fn shares(scores: &[&Score]) -> BTreeMap<String, f64> {
    let known = scores.iter().filter(|score| SCORES.contains(&&*score.name));
    let named = known.flat_map(|score| {
        let error = score.error.map(|error| (format!("{}_stderr,none", score.name), error / 100.0));
        [Some((format!("{},none", score.name), score.value / 100.0)), error]
    });
    named.flatten().collect()
}
